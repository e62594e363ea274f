//! Graceful stop: one token that all tasks watch, one tracker that waits for them, one deadline.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by everything that has to stop. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Shutdown {
    /// Nothing stops yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to stop at SIGTERM or SIGINT. A second signal ends the process at once with code 130.
    pub fn on_signals(&self) {
        let token = self.token.clone();
        tokio::spawn(async move {
            signal().await;
            tracing::info!(event = "stop_begins", "stopping");
            token.cancel();
            signal().await;
            std::process::exit(130);
        });
    }

    /// Begins to stop.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// True once it began.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// The token that is cancelled when it begins.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Spawns a task that the drain waits for.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// As [`Self::spawn`], on another runtime.
    pub fn spawn_on<F>(&self, task: F, runtime: &Handle) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn_on(task, runtime)
    }

    /// Waits until every spawned task has ended, `deadline` at most; true if all did.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be watched");
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be watched");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drain_waits_for_tasks_and_gives_up_at_the_deadline() {
        let shutdown = Shutdown::new();
        let watcher = shutdown.clone();
        shutdown.spawn(async move { watcher.begun().await });
        assert!(!shutdown.drain(Duration::from_millis(20)).await);
        shutdown.begin();
        assert!(shutdown.drain(Duration::from_secs(5)).await);
    }
}
