//! A sample manufacturing server: registers devices at the DIdP, hands credentials over, prints QR labels.
//!
//! It alone holds the initial access token. A device asks for its credentials on the factory's floor, a network that only
//! factory and devices share ([`floor`]); the factory registers it ([`registrar`]) and forgets the answer as soon as the device
//! has stored it ([`ledger`]). What stays is what a manufacturer may know: hardware id, client_id and the address on the label
//! ([`label`]). Who claims a device, and what it says, the factory never learns.
//!
//! Its page ([`page`]) leads through the whole story in order.

mod cli;
pub mod config;
pub mod floor;
pub mod label;
pub mod ledger;
pub mod page;
mod readiness;
pub mod registrar;

use std::sync::Arc;
use std::time::Duration;

pub use cli::main_with_args;
pub use config::Config;
use service::Shutdown;
use service::net::{Admission, Listener};

use crate::ledger::Ledger;
use crate::registrar::Registrar;

/// What the factory listens on.
pub struct Listeners {
    /// The page, for browsers.
    pub page: Listener,
    /// The floor, for devices.
    pub floor: Listener,
}

/// What all handlers share.
struct Factory {
    config: Config,
    ledger: Ledger,
    registrar: Registrar,
    shutdown: Shutdown,
}

/// Runs the factory until `shutdown` begins.
///
/// # Errors
/// The ledger or the initial access token cannot be read.
pub async fn run(config: Config, listeners: Listeners, shutdown: Shutdown) -> anyhow::Result<()> {
    let ledger = Ledger::open(&config.directory)?;
    let registrar = Registrar::new(&config)?;
    shutdown.spawn(readiness::announce(config.clone(), shutdown.clone()));
    let factory = Arc::new(Factory { config, ledger, registrar, shutdown: shutdown.clone() });
    tokio::join!(
        service::http::serve(
            listeners.page,
            page::router(Arc::clone(&factory)),
            Admission::new(256, 64),
            shutdown.clone()
        ),
        service::http::serve(
            listeners.floor,
            floor::router(factory),
            Admission::new(64, 64),
            shutdown.clone()
        ),
    );
    if !shutdown.drain(Duration::from_secs(8)).await {
        tracing::warn!(event = "stopped_late");
    }
    Ok(())
}
