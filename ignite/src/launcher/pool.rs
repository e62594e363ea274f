//! The pool: PCMs that are started before anybody needs them, so that a first connection need not wait for a start.
//!
//! They are filled up in the background, one after the other, and not while an owner waits for a start of its own. One that was
//! claimed is never nobody's again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::slots::Slot;
use super::{Failure, Launcher, Work};

/// Longest time for one to start.
const START_LIMIT: Duration = Duration::from_secs(25);
/// First and longest pause after one could not be started.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often is looked whether there is room again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Keeps the pool filled until `stop`.
pub(super) async fn keep_filled(launcher: Arc<Launcher>, stop: CancellationToken) {
    let mut pause = PAUSES.0;
    while !stop.is_cancelled() {
        let wait = if !launcher.wants_more() {
            LOOK_AGAIN
        } else if let Err(failure) = launcher.add_to_pool().await {
            tracing::warn!(event = "pool_not_filled", %failure, "a PCM for the pool could not be started");
            let wait = pause;
            pause = (pause * 2).min(PAUSES.1);
            wait
        } else {
            pause = PAUSES.0;
            continue;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = launcher.taken.notified(), if wait == LOOK_AGAIN => {}
            () = sleep(wait) => {}
        }
    }
}

impl Launcher {
    /// How many more the pool may have.
    pub(super) fn room_in_pool(&self) -> usize {
        let known = self.known().len();
        let target = self.config.pool.min(self.config.capacity.saturating_sub(known));
        target.saturating_sub(self.pool().len())
    }

    fn wants_more(&self) -> bool {
        // The host's last memory is for owners.
        self.room_in_pool() > 0 && self.cold_starts.load(Ordering::Acquire) == 0 && !self.lacks_memory(2)
    }

    async fn add_to_pool(&self) -> Result<(), Failure> {
        let _permit = self.starts.acquire().await.map_err(|_| Failure::engine("the launcher stops"))?;
        let slot = Slot::random();
        let _work = Work::on(self, slot);
        let deadline = Instant::now() + START_LIMIT;
        let Some(body) = self.start_in(slot, &slot.container(), deadline).await? else {
            return Err(Failure::engine("the name of a container for the pool is taken"));
        };
        self.pool().push_back(body);
        Ok(())
    }
}
