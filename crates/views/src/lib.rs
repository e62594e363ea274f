//! How coarse an app sees a channel: what an owner chose ([`View`]), and what comes of it.
//!
//! Pure: payloads and time in, payloads out. Left to others: who has which view (the broker's policy), where results go, and
//! what the words of a consent page are.

mod hash;
mod view;

pub use hash::HashKey;
pub use view::{BadView, Coarsening, Filter, Statistic, Summary, View, WINDOWS_S};
