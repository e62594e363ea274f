//! The gateway that checks tokens and relays to each owner's private broker; and its launcher.
//!
//! Start reading at `session`: handshake → introspect → ensure PCM → relay. `policy` decides, purely, what a grant lets
//! through; `relay` moves the bytes; `didp` asks and listens to the DIdPs; `owners` knows the PCMs. `launcher` is the
//! other role of this program, the only one that may hold the container engine's socket.

pub mod cause;
mod changes;
pub mod cli;
pub mod config;
mod didp;
mod failures;
mod gateway;
mod handshake;
mod http;
pub mod keys;
pub mod launcher;
mod live;
mod owners;
pub mod policy;
mod relay;
mod serve;
mod session;

pub use cli::main_with_args;
pub use config::Config;
pub use serve::{Listeners, run};
