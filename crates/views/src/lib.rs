//! How coarse an app sees a channel: what an owner chose ([`View`]), and what comes of it ([`Lens`]).
//!
//! Pure: payloads and time in, payloads out. A view never lets more through than it says: what it cannot read it does not
//! show. Each kind states its rule for payloads that are not numbers or not JSON where it is built (`filter.rs`, `summary.rs`,
//! `coarsening.rs`; `number.rs` says what a number is).
//!
//! Left to others: who has which view (the broker's policy), where results go, and what the words of a consent page are.

mod coarsening;
mod filter;
mod hash;
mod lens;
mod number;
mod senml;
mod summary;
mod view;

pub use coarsening::MAX_DEPTH;
pub use hash::HashKey;
pub use lens::{Lens, Seen};
pub use number::MAX_JSON;
pub use view::{BadView, Coarsening, Filter, Statistic, Summary, View, WINDOWS_S};
