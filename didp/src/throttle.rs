//! How many failed logins an address may have, in all and as one client, judged before any hashing.
//!
//! As one client an address has a number of free tries; after them each failure locks it out for twice as long as the one
//! before. A client is counted for each address apart: whoever knows a client_id, which is public for an app, must not be able
//! to lock that client out from elsewhere.
//!
//! Tries that are under way may all turn out wrong, so that after a failure only as many run at once as the address may still fail.
//! Others wait for them, for a right one must not be refused for having come with others; how many may wait is bounded too.
//!
//! In memory only and of fixed size: tables of buckets that are picked by a randomly keyed hash. Two that fall into one
//! bucket share it, which at worst makes one of them wait; nobody can fill the table. No address is kept, logged or stored.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use service::Clock;
use tokio::sync::{Notify, Semaphore};

use crate::config::Limits;

const BUCKETS: usize = 1 << 14;
/// An address earns one failure back in that time.
const ADDRESS_MS: i64 = 1_000;
/// The first lockout; the next ones double, up to [`LONGEST_MS`].
const LOCKOUT_MS: i64 = 6_000;
const LONGEST_MS: i64 = 3_600_000;
/// One failure as a client is forgotten in that time after the last one.
const FORGET_MS: i64 = 600_000;
/// A client that proved itself may leave that many requests for later at once, and one more in that time.
const LEFT_BURST: i64 = 1_000;
const LEFT_MS: i64 = 50;
/// Tries of one client from one address at once, while none of them failed.
const AT_ONCE: u32 = 256;
/// Tries that may wait for others of their client and address, in all.
const WAITING: usize = 256;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts failures.
pub struct Throttle {
    hash: RandomState,
    addresses: Mutex<Vec<i64>>,
    clients: Mutex<Vec<Tries>>,
    polls: Mutex<Vec<i64>>,
    left: Mutex<Vec<i64>>,
    /// Places for those who wait, and what they wait for: that any try ended.
    waiting: Semaphore,
    ended: Notify,
    address_burst: i64,
    free_tries: u32,
}

/// What one address did as one client.
#[derive(Clone, Copy, Default)]
struct Tries {
    failures: u32,
    under_way: u32,
    /// When the last failure was, or a later time up to which failures were forgotten.
    since: i64,
    locked_until: i64,
}

/// One attempt that was let through. It counts as a failure unless [`Attempt::succeeded`] or [`Attempt::undecided`] is called.
#[must_use]
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    address: usize,
    client: usize,
    now: i64,
    outcome: Outcome,
}

/// Why an attempt is not let through now.
enum Denied {
    /// For so many seconds.
    For(u32),
    /// As long as others are under way.
    Crowded,
}

enum Outcome {
    Failed,
    Succeeded,
    Undecided,
}

impl Throttle {
    /// A throttle with the configured bounds.
    pub fn new(limits: &Limits) -> Self {
        Self {
            hash: RandomState::new(),
            addresses: Mutex::new(vec![0; BUCKETS]),
            clients: Mutex::new(vec![Tries::default(); BUCKETS]),
            polls: Mutex::new(vec![0; BUCKETS]),
            left: Mutex::new(vec![0; BUCKETS]),
            waiting: Semaphore::new(WAITING),
            ended: Notify::new(),
            address_burst: i64::from(limits.failures_per_address.max(1)),
            free_tries: limits.failures_per_client.max(1),
        }
    }

    /// Lets an attempt through once those under way leave room for it, or says after how many seconds to come again.
    ///
    /// # Errors
    /// Seconds to wait.
    pub async fn attempt(&self, address: IpAddr, client: &str, clock: &Clock) -> Result<Attempt<'_>, u32> {
        self.in_turn(|| self.begin(address, client, clock.now_millis())).await
    }

    /// As [`Throttle::attempt`], whatever else the address did: for secrets that cost nothing to compare.
    ///
    /// # Errors
    /// Seconds to wait.
    pub async fn attempt_as(&self, address: IpAddr, client: &str, clock: &Clock) -> Result<Attempt<'_>, u32> {
        self.in_turn(|| self.begin_as(address, client, clock.now_millis())).await
    }

    async fn in_turn<'a>(&self, begin: impl Fn() -> Result<Attempt<'a>, Denied>) -> Result<Attempt<'a>, u32> {
        match begin() {
            Ok(attempt) => return Ok(attempt),
            Err(Denied::For(seconds)) => return Err(seconds),
            Err(Denied::Crowded) => {}
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Err(1) };
        let waiting = async {
            loop {
                let mut ended = pin!(self.ended.notified());
                // From here on no end is missed.
                ended.as_mut().enable();
                match begin() {
                    Err(Denied::Crowded) => ended.await,
                    Err(Denied::For(seconds)) => return Err(seconds),
                    Ok(attempt) => return Ok(attempt),
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or(Err(1))
    }

    fn begin(&self, address: IpAddr, client: &str, now_millis: i64) -> Result<Attempt<'_>, Denied> {
        let bucket = self.bucket(network(address));
        let over = over(locked(&self.addresses)[bucket], now_millis, ADDRESS_MS, self.address_burst);
        if over > 0 {
            return Err(Denied::For(seconds(over)));
        }
        self.begin_as(address, client, now_millis)
    }

    fn begin_as(&self, address: IpAddr, client: &str, now_millis: i64) -> Result<Attempt<'_>, Denied> {
        let network = network(address);
        let (client, address) = (self.bucket((network, client)), self.bucket(network));
        let tries = &mut locked(&self.clients)[client];
        tries.forget(now_millis);
        if now_millis < tries.locked_until {
            return Err(Denied::For(seconds(tries.locked_until - now_millis)));
        }
        // Whoever failed before may not guess in parallel what the lockout makes slow one by one.
        let at_once =
            if tries.failures == 0 { AT_ONCE } else { self.free_tries.saturating_sub(tries.failures).max(1) };
        if tries.under_way >= at_once {
            return Err(Denied::Crowded);
        }
        tries.under_way += 1;
        Ok(Attempt { throttle: self, address, client, now: now_millis, outcome: Outcome::Failed })
    }

    /// Counts something that an address does without proving who it is; or says after how many seconds to come again.
    ///
    /// # Errors
    /// Seconds to wait.
    pub fn charge_address(&self, address: IpAddr, now_millis: i64) -> Result<(), u32> {
        let bucket = self.bucket(network(address));
        charge(&self.addresses, bucket, now_millis, ADDRESS_MS, self.address_burst)
    }

    /// Counts what a client that proved itself leaves here for its owners to decide: it is kept for minutes.
    ///
    /// # Errors
    /// Seconds to wait.
    pub fn charge_client(&self, client: &str, now_millis: i64) -> Result<(), u32> {
        charge(&self.left, self.bucket(client), now_millis, LEFT_MS, LEFT_BURST)
    }

    /// Counts a poll for `what`, which may come every `interval_ms`; false if it came too early (RFC 8628 §3.5). Early polls do
    /// not make the wait longer.
    pub fn poll(&self, what: &[u8], interval_ms: i64, now_millis: i64) -> bool {
        let bucket = self.bucket(what);
        charge(&self.polls, bucket, now_millis, interval_ms, 1).is_ok()
    }

    fn bucket(&self, value: impl std::hash::Hash) -> usize {
        (self.hash.hash_one(value) as usize) % BUCKETS
    }
}

impl Attempt<'_> {
    /// The credentials were right: the attempt costs nothing, and earlier failures are forgotten.
    pub fn succeeded(mut self) {
        self.outcome = Outcome::Succeeded;
    }

    /// Whether they were right was not found out: the attempt costs nothing.
    pub fn undecided(mut self) {
        self.outcome = Outcome::Undecided;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut clients = locked(&self.throttle.clients);
        let tries = &mut clients[self.client];
        tries.under_way = tries.under_way.saturating_sub(1);
        match self.outcome {
            Outcome::Undecided => {}
            Outcome::Succeeded => *tries = Tries { under_way: tries.under_way, ..Tries::default() },
            Outcome::Failed => {
                tries.fail(self.now, self.throttle.free_tries);
                let empty_at = &mut locked(&self.throttle.addresses)[self.address];
                *empty_at = (*empty_at).max(self.now) + ADDRESS_MS;
            }
        }
        drop(clients);
        self.throttle.ended.notify_waiters();
    }
}

impl Tries {
    fn forget(&mut self, now: i64) {
        let forgotten = (now - self.since.max(self.locked_until)).div_euclid(FORGET_MS).max(0);
        self.failures = self.failures.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX));
        self.since = self.since.max(self.locked_until) + forgotten * FORGET_MS;
    }

    fn fail(&mut self, now: i64, free: u32) {
        self.failures = self.failures.saturating_add(1);
        self.since = self.since.max(now);
        if let Some(beyond) = self.failures.checked_sub(free) {
            let lockout = LOCKOUT_MS.checked_shl(beyond.min(20)).unwrap_or(LONGEST_MS).min(LONGEST_MS);
            self.locked_until = self.locked_until.max(now + lockout);
        }
    }
}

/// One IPv6 customer has at least a /64, so that is what is counted.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

/// A bucket holds the time at which it is empty again (generic cell rate algorithm). Answers how much one more would be too much.
fn over(empty_at: i64, now: i64, each: i64, burst: i64) -> i64 {
    empty_at.max(now) + each - now - burst * each
}

fn charge(table: &Mutex<Vec<i64>>, bucket: usize, now: i64, each: i64, burst: i64) -> Result<(), u32> {
    let empty_at = &mut locked(table)[bucket];
    let over = over(*empty_at, now, each, burst);
    if over > 0 {
        return Err(seconds(over));
    }
    *empty_at = (*empty_at).max(now) + each;
    Ok(())
}

/// Milliseconds as whole seconds after which it is over.
fn seconds(millis: i64) -> u32 {
    u32::try_from(millis.div_euclid(1_000) + 1).unwrap_or(u32::MAX)
}

fn locked<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// An attempt that does not wait.
    fn at<'a>(throttle: &'a Throttle, address: IpAddr, client: &str, now: i64) -> Result<Attempt<'a>, u32> {
        throttle.begin(address, client, now).map_err(|denied| match denied {
            Denied::For(seconds) => seconds,
            Denied::Crowded => 0,
        })
    }

    fn throttle() -> Throttle {
        Throttle::new(&Limits { failures_per_address: 5, failures_per_client: 2, ..Limits::default() })
    }

    fn wide(free: u32) -> Throttle {
        Throttle::new(&Limits {
            failures_per_address: 10_000,
            failures_per_client: free,
            ..Limits::default()
        })
    }

    #[test]
    fn failures_of_a_client_are_bounded() {
        let throttle = throttle();
        for _ in 0..2 {
            drop(at(&throttle, HERE, "client", 0).ok().unwrap());
        }
        assert_eq!(at(&throttle, HERE, "client", 0).err(), Some(7));
        assert!(at(&throttle, HERE, "client", 6_000).is_ok());
    }

    #[test]
    fn each_failure_after_the_free_ones_locks_out_for_twice_as_long_up_to_an_hour() {
        let throttle = wide(3);
        let mut now = 0;
        let mut lockouts = Vec::new();
        for _ in 0..14 {
            let begun = now;
            while at(&throttle, HERE, "client", now).is_err() {
                now += 1_000;
            }
            lockouts.push((now - begun) / 1_000);
        }
        assert_eq!(lockouts, [0, 0, 0, 6, 12, 24, 48, 96, 192, 384, 768, 1_536, 3_072, 3_600]);
        assert!(
            at(&throttle, IpAddr::from([198, 51, 100, 1]), "client", now).is_ok(),
            "elsewhere it is free"
        );
    }

    #[test]
    fn failures_are_forgotten_one_in_ten_minutes_or_all_by_a_success() {
        let throttle = wide(3);
        for _ in 0..3 {
            drop(at(&throttle, HERE, "client", 0).ok().unwrap());
        }
        let later = LOCKOUT_MS + FORGET_MS;
        drop(at(&throttle, HERE, "client", later).ok().unwrap());
        assert_eq!(at(&throttle, HERE, "client", later).err(), Some(7), "one was forgotten, not more");
        at(&throttle, HERE, "client", later + LOCKOUT_MS).ok().unwrap().succeeded();
        for _ in 0..3 {
            drop(at(&throttle, HERE, "client", later + LOCKOUT_MS).ok().unwrap());
        }
    }

    #[test]
    fn guesses_at_once_are_few_after_a_failure_and_right_ones_are_many() {
        let throttle = wide(3);
        let right: Vec<_> = (0..100).map(|_| at(&throttle, HERE, "client", 0).ok().unwrap()).collect();
        right.into_iter().for_each(Attempt::succeeded);
        drop(at(&throttle, HERE, "client", 0).ok().unwrap());
        let guesses: Vec<_> = (0..100).filter_map(|_| at(&throttle, HERE, "client", 0).ok()).collect();
        assert_eq!(guesses.len(), 2);
        guesses.into_iter().for_each(Attempt::undecided);
        assert!(at(&throttle, HERE, "client", 0).is_ok(), "what was not found out counts for nothing");
    }

    proptest! {
        /// However guesses overlap, after the first failure no more of them come through than are free, and what was not found out
        /// takes nobody's place.
        #[test]
        fn no_schedule_lets_more_guesses_through_than_are_free(
            free in 1_u32..12,
            steps in proptest::collection::vec((0_u8..4, any::<prop::sample::Index>()), 1..200),
        ) {
            let throttle = wide(free);
            drop(at(&throttle, HERE, "client", 0).ok().unwrap());
            let (mut under_way, mut failed) = (Vec::new(), 1);
            for (step, which) in steps {
                match step {
                    0 | 1 => under_way.extend(at(&throttle, HERE, "client", 0).ok()),
                    _ if under_way.is_empty() => {}
                    2 => {
                        drop(under_way.swap_remove(which.index(under_way.len())));
                        failed += 1;
                    }
                    _ => under_way.swap_remove(which.index(under_way.len())).undecided(),
                }
                prop_assert!(failed + u32::try_from(under_way.len()).unwrap() <= free);
            }
            under_way.into_iter().for_each(Attempt::undecided);
            prop_assert_eq!(at(&throttle, HERE, "client", 0).is_ok(), failed < free);
        }
    }

    #[tokio::test]
    async fn right_ones_wait_for_each_other_and_none_is_refused() {
        let (throttle, clock) = (wide(3), Clock::system());
        drop(throttle.attempt(HERE, "client", &clock).await.ok().unwrap());
        let held: Vec<_> =
            (0..2).map(|_| at(&throttle, HERE, "client", clock.now_millis()).ok().unwrap()).collect();
        let right = futures_util::future::join_all(
            (0..100)
                .map(|_| async { throttle.attempt(HERE, "client", &clock).await.map(Attempt::succeeded) }),
        );
        let (right, ()) = tokio::join!(right, async { held.into_iter().for_each(Attempt::succeeded) });
        assert!(right.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn guesses_that_wait_meet_the_lockout_of_those_before_them() {
        let (throttle, clock) = (wide(3), Clock::system());
        drop(throttle.attempt(HERE, "client", &clock).await.ok().unwrap());
        let guesses = futures_util::future::join_all((0..100).map(|_| async {
            let attempt = throttle.attempt(HERE, "client", &clock).await?;
            tokio::task::yield_now().await;
            drop(attempt);
            Ok::<(), u32>(())
        }));
        assert_eq!(guesses.await.iter().filter(|guess| guess.is_ok()).count(), 2);
    }

    #[tokio::test]
    async fn those_who_wait_are_bounded() {
        let (throttle, clock) = (wide(2), Clock::system());
        drop(throttle.attempt(HERE, "client", &clock).await.ok().unwrap());
        let held = at(&throttle, HERE, "client", clock.now_millis()).ok().unwrap();
        let all = futures_util::future::join_all(
            (0..WAITING + 9)
                .map(|_| async { throttle.attempt(HERE, "client", &clock).await.map(Attempt::succeeded) }),
        );
        let ends = async {
            while throttle.waiting.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
            held.succeeded();
        };
        let (all, ()) = tokio::join!(all, ends);
        assert_eq!(all.iter().filter(|one| **one == Err(1)).count(), 9);
        assert_eq!(all.iter().filter(|one| one.is_ok()).count(), WAITING);
        assert_eq!(throttle.waiting.available_permits(), WAITING);
    }

    #[test]
    fn nobody_locks_a_client_out_from_elsewhere() {
        let throttle = throttle();
        for _ in 0..9 {
            let _ = at(&throttle, HERE, "client", 0).map(drop);
        }
        assert!(at(&throttle, HERE, "client", 0).is_err());
        assert!(at(&throttle, IpAddr::from([198, 51, 100, 1]), "client", 0).is_ok());
    }

    #[test]
    fn successes_cost_nothing() {
        let throttle = throttle();
        for _ in 0..100 {
            at(&throttle, HERE, "client", 0).ok().unwrap().succeeded();
        }
    }

    #[test]
    fn one_address_cannot_try_many_clients() {
        let throttle = throttle();
        let passed = (0..50).filter(|n| at(&throttle, HERE, &format!("client {n}"), 0).is_ok()).count();
        assert_eq!(passed, 5);
    }

    #[test]
    fn what_is_done_without_credentials_counts_for_the_address() {
        let throttle = throttle();
        assert_eq!((0..9).filter(|_| throttle.charge_address(HERE, 0).is_ok()).count(), 5);
        assert!(at(&throttle, HERE, "client", 0).is_err());
        assert!(throttle.charge_address(IpAddr::from([192, 0, 2, 2]), 0).is_ok());
    }

    #[test]
    fn what_a_client_leaves_is_bounded() {
        let throttle = throttle();
        let left = |now| (0..3_000).filter(|_| throttle.charge_client("app", now).is_ok()).count();
        assert_eq!([left(0), left(1_000), left(600_000)], [1_000, 20, 1_000]);
        assert!(throttle.charge_client("another", 0).is_ok());
    }

    #[test]
    fn polls_have_an_interval() {
        let throttle = throttle();
        let polls = [0, 1_000, 4_999, 5_000, 9_000, 10_000];
        assert_eq!(
            polls.map(|at| throttle.poll(b"code", 5_000, at)),
            [true, false, false, true, false, true]
        );
        assert!(throttle.poll(b"other", 5_000, 10_001));
    }

    #[test]
    fn a_v6_customer_is_one_address() {
        let near = network("2001:db8::1".parse().unwrap());
        assert_eq!(near, network("2001:db8::ffff:1".parse().unwrap()));
        assert_ne!(near, network("2001:db8:0:1::1".parse().unwrap()));
    }
}
