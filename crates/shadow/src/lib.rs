//! A device's shadow: what it reported, what apps desire of it, and what is left to do.
//!
//! Pure: JSON in, JSON out. State changes by JSON merge patches (RFC 7396, [`merge`]); a [`Shadow`] keeps what somebody
//! may see and nothing else, gives each viewer a document with a version of its own, and knows the difference that the
//! device still has to make good ([`difference`]).
//!
//! Left to others: who may see and command what (the caller says so at each step), how coarse a reading is shown (the
//! caller's lens), topics, and when documents are sent.

mod patch;
mod shadow;
mod stored;
#[cfg(test)]
mod tests;

pub use patch::{Desire, MAX_BYTES, MAX_DEPTH, Refused, difference, merge, parse_report};
pub use shadow::{Audience, Shadow, Sight, Viewer};
