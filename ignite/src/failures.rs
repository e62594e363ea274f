//! How many of its tokens may fail before an address is not asked about any more for a while.
//!
//! Each newcomer's token costs the DIdP a question, and there are few places to ask. Only failures count, so that any number
//! of good clients may share an address. In memory and bounded; what counts as one address is `service::net`'s.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use service::net::network;

/// Time after which one failure is forgiven, in milliseconds.
const FORGIVEN: i64 = 1_000;
/// Most addresses that are remembered.
const MOST: usize = 1 << 16;

/// Failures of all addresses.
pub(crate) struct Failures {
    /// Failures in a row that an address may have.
    burst: i64,
    all: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    /// When all failures of an address are forgiven, Unix milliseconds.
    until: HashMap<IpAddr, i64>,
    /// When the next look for addresses to forget is due: it takes a while, and a flood must not choose how often.
    sweep: i64,
}

impl Failures {
    /// `burst` failures are free, then one for each second.
    pub(crate) fn new(burst: u32) -> Self {
        Self { burst: i64::from(burst.max(1)), all: Mutex::default() }
    }

    /// True if this address has used up its failures at `now` (Unix milliseconds).
    pub(crate) fn are_used_up(&self, address: IpAddr, now: i64) -> bool {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.until.get(&network(address)).is_some_and(|until| until - now > (self.burst - 1) * FORGIVEN)
    }

    /// Counts a failure.
    pub(crate) fn count(&self, address: IpAddr, now: i64) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let Counted { until: all, sweep } = &mut *all;
        let address = network(address);
        if all.len() >= MOST && !all.contains_key(&address) {
            if *sweep <= now {
                *sweep = now + FORGIVEN;
                all.retain(|_, until| *until > now);
            }
            if all.len() >= MOST {
                // Whoever has that many addresses is not stopped by counting them; the places to ask are few still.
                return;
            }
        }
        let until = all.entry(address).or_insert(now);
        *until = (*until).max(now) + FORGIVEN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_used_up_and_forgiven_one_by_one() {
        let failures = Failures::new(3);
        let (address, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        for _ in 0..3 {
            assert!(!failures.are_used_up(address, 5_000));
            failures.count(address, 5_000);
        }
        assert!(failures.are_used_up(address, 5_000) && failures.are_used_up(address, 5_999));
        assert!(!failures.are_used_up(other, 5_000));
        assert!(!failures.are_used_up(address, 6_000));
        failures.count(address, 6_000);
        assert!(failures.are_used_up(address, 6_000));
        assert!(!failures.are_used_up(address, 60_000));
    }

    #[test]
    fn no_number_of_addresses_fills_the_memory() {
        let failures = Failures::new(1);
        for address in 0..70_000_u32 {
            failures.count(IpAddr::from(address.to_be_bytes()), 0);
        }
        assert_eq!(failures.all.lock().unwrap().until.len(), MOST);
        assert!(failures.are_used_up(IpAddr::from([0, 0, 0, 1]), 0));
        failures.count(IpAddr::from([9, 9, 9, 9]), 2_000);
        assert_eq!(failures.all.lock().unwrap().until.len(), 1);
    }
}
