//! How many failed logins an address may have, in all and for one client, counted before any hashing.
//!
//! A client is counted for each address apart: whoever knows a client_id, which is public for an app, must not be able to lock
//! that client out from elsewhere.
//!
//! In memory only and of fixed size: a table of buckets that are picked by a randomly keyed hash. Two that fall into one
//! bucket share it, which at worst makes one of them wait; nobody can fill the table.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Mutex;

use crate::config::Limits;

const BUCKETS: usize = 1 << 14;
const ADDRESS_MS: i64 = 1_000;
const CLIENT_MS: i64 = 6_000;

/// Counts failures.
pub struct Throttle {
    hash: RandomState,
    addresses: Mutex<Vec<i64>>,
    clients: Mutex<Vec<i64>>,
    address_burst: i64,
    client_burst: i64,
}

/// One attempt that was let through. It counts as a failure unless [`Attempt::succeeded`] is called.
#[must_use]
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    address: usize,
    client: usize,
}

impl Throttle {
    /// A throttle with the configured bursts.
    pub fn new(limits: &Limits) -> Self {
        Self {
            hash: RandomState::new(),
            addresses: Mutex::new(vec![0; BUCKETS]),
            clients: Mutex::new(vec![0; BUCKETS]),
            address_burst: i64::from(limits.failures_per_address.max(1)),
            client_burst: i64::from(limits.failures_per_client.max(1)),
        }
    }

    /// Lets an attempt through, or says after how many seconds to come again.
    ///
    /// # Errors
    /// Seconds to wait.
    pub fn attempt(&self, address: IpAddr, client: &str, now_millis: i64) -> Result<Attempt<'_>, u32> {
        let network = network(address);
        let client = self.bucket((network, client));
        let address = self.bucket(network);
        charge(&self.addresses, address, now_millis, ADDRESS_MS, self.address_burst)?;
        if let Err(wait) = charge(&self.clients, client, now_millis, CLIENT_MS, self.client_burst) {
            refund(&self.addresses, address, ADDRESS_MS);
            return Err(wait);
        }
        Ok(Attempt { throttle: self, address, client })
    }

    /// Counts something that an address does without proving who it is; or says after how many seconds to come again.
    ///
    /// # Errors
    /// Seconds to wait.
    pub fn charge_address(&self, address: IpAddr, now_millis: i64) -> Result<(), u32> {
        let bucket = self.bucket(network(address));
        charge(&self.addresses, bucket, now_millis, ADDRESS_MS, self.address_burst)
    }

    fn bucket(&self, value: impl std::hash::Hash) -> usize {
        (self.hash.hash_one(value) as usize) % BUCKETS
    }
}

impl Attempt<'_> {
    /// The credentials were right: the attempt costs nothing.
    pub fn succeeded(self) {
        refund(&self.throttle.addresses, self.address, ADDRESS_MS);
        refund(&self.throttle.clients, self.client, CLIENT_MS);
    }
}

/// One IPv6 customer has at least a /64, so that is what is counted.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

/// A bucket holds the time at which it is empty again (generic cell rate algorithm).
fn charge(table: &Mutex<Vec<i64>>, bucket: usize, now: i64, each: i64, burst: i64) -> Result<(), u32> {
    let mut table = table.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let empty_at = table[bucket].max(now) + each;
    let over = empty_at - now - burst * each;
    if over > 0 {
        return Err(u32::try_from(over.div_euclid(1_000) + 1).unwrap_or(u32::MAX));
    }
    table[bucket] = empty_at;
    Ok(())
}

fn refund(table: &Mutex<Vec<i64>>, bucket: usize, each: i64) {
    let mut table = table.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    table[bucket] -= each;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle() -> Throttle {
        Throttle::new(&Limits { failures_per_address: 5, failures_per_client: 2, ..Limits::default() })
    }

    #[test]
    fn failures_of_a_client_are_bounded_and_come_back_with_time() {
        let throttle = throttle();
        let address = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..2 {
            let _ = throttle.attempt(address, "client", 0).map(drop);
        }
        let wait = throttle.attempt(address, "client", 0).err().unwrap();
        assert_eq!(wait, 7);
        assert!(throttle.attempt(address, "client", 6_000).is_ok());
    }

    #[test]
    fn nobody_locks_a_client_out_from_elsewhere() {
        let throttle = throttle();
        for _ in 0..9 {
            let _ = throttle.attempt(IpAddr::from([192, 0, 2, 1]), "client", 0).map(drop);
        }
        assert!(throttle.attempt(IpAddr::from([192, 0, 2, 1]), "client", 0).is_err());
        assert!(throttle.attempt(IpAddr::from([198, 51, 100, 1]), "client", 0).is_ok());
    }

    #[test]
    fn successes_cost_nothing() {
        let throttle = throttle();
        for _ in 0..100 {
            throttle.attempt(IpAddr::from([192, 0, 2, 1]), "client", 0).ok().unwrap().succeeded();
        }
    }

    #[test]
    fn one_address_cannot_try_many_clients() {
        let throttle = throttle();
        let address = IpAddr::from([192, 0, 2, 1]);
        let passed = (0..50).filter(|n| throttle.attempt(address, &format!("client {n}"), 0).is_ok()).count();
        assert_eq!(passed, 5);
    }

    #[test]
    fn what_is_done_without_credentials_counts_for_the_address() {
        let throttle = throttle();
        let address = IpAddr::from([192, 0, 2, 1]);
        assert_eq!((0..9).filter(|_| throttle.charge_address(address, 0).is_ok()).count(), 5);
        assert!(throttle.attempt(address, "client", 0).is_err());
        assert!(throttle.charge_address(IpAddr::from([192, 0, 2, 2]), 0).is_ok());
    }

    #[test]
    fn a_v6_customer_is_one_address() {
        let near = network("2001:db8::1".parse().unwrap());
        assert_eq!(near, network("2001:db8::ffff:1".parse().unwrap()));
        assert_ne!(near, network("2001:db8:0:1::1".parse().unwrap()));
    }
}
