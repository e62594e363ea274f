//! A pure MQTT broker core: sessions, topic tree, retained messages, router.
//!
//! [`Broker`] takes packets and the time, and leaves bytes to write and connections to close; it does no I/O, knows no
//! clock and draws no random numbers. [`net`] is the crate's only I/O: one thread, one loop. Consent is a [`Policy`]
//! that the core asks at every step; an open broker has none.
//!
//! No grant crowds out another ([`Limits`] has the parts), and none outlives the voice that could end it: without
//! control for [`Limits::unattended_ms`] the broker forgets all of them with what it keeps ([`Broker::unattended`]).
//!
//! What must outlive the process is logged as records ([`Broker::take_log`], [`Broker::snapshot`], [`Broker::restore`]).
//!
//! Left to others: who a connection is ([`Identity`] is handed in), TLS, where the records are kept.

mod acks;
mod aliases;
mod broker;
mod connect;
mod connection;
mod endings;
mod flights;
mod grants;
#[cfg(test)]
mod invariants;
mod journal;
mod lens;
mod levels;
mod limits;
mod message;
pub mod net;
mod publish;
mod retained;
mod session;
mod shadow;
mod subscribe;
mod tally;
mod tree;

pub use broker::{Broker, Counts};
pub use connection::Identity;
pub use grants::{Access, Channels, Grants, Policy, Readable};
pub use journal::{Malformed, Restore};
pub use limits::Limits;
