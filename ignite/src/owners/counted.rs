//! What the launcher and the PCMs count, as the gateway's metrics: they have no network that a scraper could reach.
//!
//! PCMs are asked one after the other over the control connections that there are, and only their sum is kept: a number that is
//! one owner's is nobody's business.

use std::sync::Arc;
use std::time::Duration;

use pcm_wire::Stats;
use service::metrics::{level, level_of};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::{Owner, Owners, PCM_LIMIT};
use crate::gateway::Gateway;
use crate::launcher::wire::Counts;

/// What was counted is good for so long: whoever scrapes may do so at any rate.
const GOOD: Duration = Duration::from_secs(1);
/// Time for the launcher to answer.
const LAUNCHER: Duration = Duration::from_secs(1);
/// Time for all PCMs together; those that were not asked by then are missing in the sum, and that is counted too.
const ROUND: Duration = Duration::from_secs(4);

/// Sums over PCMs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    asked: u64,
    missing: u64,
    connections: u64,
    sessions: u64,
    retained: u64,
    queued: u64,
    dropped: u64,
    refused: u64,
    journal_bytes: u64,
}

impl Sum {
    fn add(&mut self, stats: &Stats) {
        self.asked += 1;
        self.connections += stats.connections;
        self.sessions += stats.sessions;
        self.retained += stats.retained;
        self.queued += stats.queued;
        self.dropped += stats.dropped;
        self.refused += stats.refused;
        self.journal_bytes += stats.journal_bytes;
    }

    fn tell(&self) {
        level("ignite_pcms_counted", self.asked);
        level("ignite_pcms_not_counted", self.missing);
        level("ignite_pcm_connections", self.connections);
        level("ignite_pcm_sessions", self.sessions);
        level("ignite_pcm_retained_messages", self.retained);
        level("ignite_pcm_queued_messages", self.queued);
        level("ignite_pcm_dropped_messages", self.dropped);
        level("ignite_pcm_refusals", self.refused);
        level("ignite_pcm_journal_bytes", self.journal_bytes);
    }
}

/// When was counted last.
#[derive(Debug, Default)]
pub(crate) struct Last(Mutex<Option<Instant>>);

/// Counts, unless that was done just now.
pub(crate) async fn count(gateway: Arc<Gateway>, last: Arc<Last>) {
    let mut last = last.0.lock().await;
    if last.is_some_and(|last| last.elapsed() < GOOD) {
        return;
    }
    tell(gateway.owners.launcher_counts().await);
    gateway.owners.sum(Instant::now() + ROUND).await.tell();
    *last = Some(Instant::now());
}

fn tell(counts: Option<Counts>) {
    level("ignite_launcher_up", counts.is_some().into());
    // What is not known is not told as zero: the last numbers stay, and the one above says that they are old.
    let Some(counts) = counts else { return };
    for (state, count) in [("owned", counts.owned), ("pool", counts.pool), ("starting", counts.starting)] {
        level_of("ignite_pcms", ("state", state), count);
    }
    level("ignite_pcms_capacity", counts.capacity);
}

impl Owners {
    async fn launcher_counts(&self) -> Option<Counts> {
        timeout(LAUNCHER, self.launcher.counts()).await.ok()?.ok()
    }

    async fn sum(&self, deadline: Instant) -> Sum {
        let owners: Vec<Arc<Owner>> = self.lock().values().cloned().collect();
        let mut sum = Sum::default();
        for owner in owners {
            // Somebody is bringing it up, or the round has taken too long.
            let Some(mut link) = owner.link.try_lock().ok().filter(|_| Instant::now() < deadline) else {
                sum.missing += 1;
                continue;
            };
            let Some(link) = link.as_mut().filter(|link| link.control.is_alive()) else { continue };
            match link.control.stats(PCM_LIMIT).await {
                Ok(stats) => sum.add(&stats),
                Err(_) => sum.missing += 1,
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_over_all_that_answered() {
        let one = Stats { connections: 2, sessions: 3, journal_bytes: 10, ..Stats::default() };
        let other =
            Stats { connections: 1, queued: 7, refused: 1, dropped: 2, retained: 4, ..Stats::default() };
        let mut sum = Sum { missing: 1, ..Sum::default() };
        sum.add(&one);
        sum.add(&other);
        let expected = Sum {
            asked: 2,
            missing: 1,
            connections: 3,
            sessions: 3,
            retained: 4,
            queued: 7,
            dropped: 2,
            refused: 1,
            journal_bytes: 10,
        };
        assert_eq!(sum, expected);
    }
}
