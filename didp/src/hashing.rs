//! PBKDF2 of clients' secrets, away from the async threads and behind a bounded queue.
//!
//! The secrets are 256 random bits, so the iterations buy little; what counts is that a flood of wrong secrets can
//! neither pile up work nor take more than the processors that are there.
//!
//! A secret that was right is known again without the iterations: by a hash of it and of the stored one, under a key that only this
//! process has and only until it ends. Whoever replaces the stored hash makes that worthless. A wrong secret always costs all.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use pbkdf2::password_hash::rand_core::OsRng;
use pbkdf2::password_hash::{Ident, PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use pbkdf2::{Params, Pbkdf2};
use service::secret::Key;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::flows::Refusal;

/// Right secrets that are known again, at least; at most twice as many.
const KNOWN: usize = 1 << 15;

/// Secrets that a client can have at once: its own, and the one that a claim gave it.
const SECRETS: usize = 2;

/// Hashes and verifies; clones share the queue.
#[derive(Clone)]
pub struct Hasher {
    iterations: u32,
    /// A hash that no secret fits, as costly as any other.
    nobody: Arc<str>,
    /// Places in the queue, the ones being worked on among them.
    places: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    known: Arc<Known>,
}

/// Right secrets of late, in two generations: when the younger one is full, the older one is forgotten.
struct Known {
    key: Key,
    generations: Mutex<[HashSet<[u8; 16]>; 2]>,
}

impl Known {
    fn new() -> Self {
        Self { key: Key::random(), generations: Mutex::default() }
    }

    fn tag(&self, secret: &str, phc: &str) -> [u8; 16] {
        let hash = self.key.hmac(&[phc.as_bytes(), b"\0", secret.as_bytes()]);
        std::array::from_fn(|index| hash[index])
    }

    fn has(&self, secret: &str, phc: &str) -> bool {
        let tag = self.tag(secret, phc);
        let mut generations = self.generations();
        if generations[0].contains(&tag) {
            return true;
        }
        let older = generations[1].remove(&tag);
        if older {
            Self::insert(&mut generations, tag);
        }
        older
    }

    fn add(&self, secret: &str, phc: &str) {
        let tag = self.tag(secret, phc);
        Self::insert(&mut self.generations(), tag);
    }

    fn insert(generations: &mut [HashSet<[u8; 16]>; 2], tag: [u8; 16]) {
        if generations[0].len() >= KNOWN {
            generations.swap(0, 1);
            generations[0].clear();
        }
        generations[0].insert(tag);
    }

    fn generations(&self) -> MutexGuard<'_, [HashSet<[u8; 16]>; 2]> {
        self.generations.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What a verification found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Which of the hashes fits.
    pub index: usize,
    /// It was made with fewer iterations than are configured now.
    pub outdated: bool,
}

impl Hasher {
    /// A hasher that lets `queue` requests wait at most.
    pub fn new(iterations: u32, queue: usize) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let iterations = iterations.max(1);
        Self {
            iterations,
            nobody: hash(&service::secret::random_token::<32>(), iterations).into(),
            places: Arc::new(Semaphore::new(queue.max(1))),
            workers: Arc::new(Semaphore::new(workers)),
            known: Arc::new(Known::new()),
        }
    }

    /// PHC string of a secret with a salt of its own.
    ///
    /// # Errors
    /// [`Refusal::Busy`] if the queue is full.
    pub async fn hash(&self, secret: &str) -> Result<String, Refusal> {
        let iterations = self.iterations;
        let secret = Zeroizing::new(secret.to_owned());
        self.run(move || hash(&secret, iterations)).await
    }

    /// PHC strings of many secrets, taking one place in the queue.
    ///
    /// # Errors
    /// [`Refusal::Busy`] if the queue is full.
    pub async fn hash_all(&self, secrets: Vec<Zeroizing<String>>) -> Result<Vec<String>, Refusal> {
        let iterations = self.iterations;
        self.run(move || secrets.iter().map(|secret| hash(secret, iterations)).collect()).await
    }

    /// Which of `hashes` the secret fits, if any. Always as many hashes are tried as a client can have, so that the time tells
    /// neither how many there are nor whether there are any.
    ///
    /// # Errors
    /// [`Refusal::Busy`] if the queue is full.
    pub async fn verify(&self, secret: &str, mut hashes: Vec<String>) -> Result<Option<Verified>, Refusal> {
        if let Some(index) = hashes.iter().position(|phc| self.known.has(secret, phc)) {
            return Ok(Some(Verified { index, outdated: false }));
        }
        while hashes.len() < SECRETS {
            hashes.push(self.nobody.to_string());
        }
        let iterations = self.iterations;
        let known = Arc::clone(&self.known);
        let secret = Zeroizing::new(secret.to_owned());
        self.run(move || {
            let mut found = None;
            for (index, phc) in hashes.iter().enumerate() {
                let Ok(parsed) = PasswordHash::new(phc) else { continue };
                if Pbkdf2.verify_password(secret.as_bytes(), &parsed).is_ok() {
                    let used = parsed.params.get_decimal("i").unwrap_or(0);
                    found = Some(Verified { index, outdated: used < iterations });
                }
            }
            // One that is outdated is hashed anew, and known from then on.
            if let Some(Verified { index, outdated: false }) = found {
                known.add(&secret, &hashes[index]);
            }
            found
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refusal::Busy)?;
        let worker = Arc::clone(&self.workers).acquire_owned().await.map_err(|_| Refusal::Busy)?;
        // The permits go into the closure: a caller that gives up must not free its place while the work goes on.
        tokio::task::spawn_blocking(move || {
            let _held = (place, worker);
            work()
        })
        .await
        .map_err(|_| Refusal::Busy)
    }
}

fn hash(secret: &str, iterations: u32) -> String {
    let salt = SaltString::generate(&mut OsRng);
    let params = Params { rounds: iterations, output_length: 32 };
    Pbkdf2
        .hash_password_customized(
            secret.as_bytes(),
            Some(Ident::new_unwrap("pbkdf2-sha256")),
            None,
            params,
            &salt,
        )
        .expect("the salt and the parameters are valid for PBKDF2")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn finds_the_hash_that_fits_and_tells_when_it_is_weak() {
        let weak = Hasher::new(10, 4).hash("secret").await.unwrap();
        assert!(weak.starts_with("$pbkdf2-sha256$i=10,l=32$"));
        let hasher = Hasher::new(1_000, 4);
        let other = hasher.hash("another").await.unwrap();
        let found = hasher.verify("secret", vec![other.clone(), weak]).await.unwrap();
        assert_eq!(found, Some(Verified { index: 1, outdated: true }));
        assert_eq!(hasher.verify("secret", vec![other, "nonsense".into()]).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_right_secret_is_known_again_and_nothing_else_is() {
        let hasher = Hasher::new(1, 1);
        let phc = hasher.hash("secret").await.unwrap();
        let found = Some(Verified { index: 0, outdated: false });
        assert_eq!(hasher.verify("secret", vec![phc.clone()]).await.unwrap(), found);
        let _held = Arc::clone(&hasher.places).try_acquire_owned().unwrap();
        assert_eq!(hasher.verify("secret", vec![phc.clone()]).await.unwrap(), found, "no place is needed");
        assert!(hasher.verify("wrong", vec![phc.clone()]).await.is_err(), "a wrong one is hashed");
        let other = phc.replace('A', "B");
        assert!(other == phc || hasher.verify("secret", vec![other]).await.is_err());
    }

    #[test]
    fn what_is_known_is_bounded() {
        let known = Known::new();
        for number in 0..5 * KNOWN {
            known.add("secret", &number.to_string());
        }
        let kept: usize = known.generations().iter().map(HashSet::len).sum();
        assert!(kept <= 2 * KNOWN && known.has("secret", &(5 * KNOWN - 1).to_string()));
        assert!(!known.has("secret", "0"));
    }

    #[tokio::test]
    async fn a_full_queue_is_refused_at_once() {
        let hasher = Hasher::new(1, 1);
        let held = Arc::clone(&hasher.places).try_acquire_owned().unwrap();
        assert!(matches!(hasher.hash("x").await, Err(Refusal::Busy)));
        drop(held);
        assert!(hasher.hash("x").await.is_ok());
    }
}
