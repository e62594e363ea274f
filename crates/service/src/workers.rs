//! Threads that serve connections, each alone: one single-threaded runtime each, over which connections are spread in turn.
//!
//! A connection stays on the thread that it came to. So nothing that a connection does wakes another thread, and whatever is
//! the thread's own can be shared by its connections without locks.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::task::TaskTracker;

use crate::Shutdown;

/// The threads. Clones are the same.
#[derive(Clone)]
pub struct Workers {
    all: Arc<[Worker]>,
    turn: Arc<AtomicUsize>,
}

struct Worker {
    runtime: Handle,
    tasks: TaskTracker,
}

impl Workers {
    /// Starts threads, `count` or one for each processor; they end when `shutdown` has begun and their connections are gone.
    ///
    /// # Errors
    /// The operating system gives no thread or no epoll instance.
    pub fn start(count: Option<NonZeroUsize>, shutdown: &Shutdown) -> io::Result<Self> {
        let count = count.map_or_else(thread::available_parallelism, Ok)?.get();
        let all: io::Result<Vec<Worker>> = (0..count).map(|number| start(number, shutdown.clone())).collect();
        Ok(Self { all: all?.into(), turn: Arc::default() })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Runs a task on the thread whose turn it is; the drain of `shutdown` waits for it.
    pub fn spawn<F>(&self, shutdown: &Shutdown, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let Some(worker) = self.all.get(turn % self.all.len().max(1)) else { return };
        shutdown.spawn_on(worker.tasks.track_future(task), &worker.runtime);
    }
}

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Which of the threads this is, from zero; none if it is another one.
pub fn number() -> Option<usize> {
    NUMBER.get()
}

fn start(number: usize, shutdown: Shutdown) -> io::Result<Worker> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let tasks = TaskTracker::new();
    let worker = Worker { runtime: runtime.handle().clone(), tasks: tasks.clone() };
    thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        NUMBER.set(Some(number));
        runtime.block_on(async {
            shutdown.begun().await;
            tasks.close();
            tasks.wait().await;
        });
    })?;
    Ok(worker)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn tasks_take_turns_stay_where_they_are_and_are_waited_for() {
        let shutdown = Shutdown::new();
        let workers = Workers::start(NonZeroUsize::new(2), &shutdown).unwrap();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        for _ in 0..4 {
            let (sender, shutdown) = (sender.clone(), shutdown.clone());
            workers.spawn(&shutdown.clone(), async move {
                let before = number().unwrap();
                sender.send(before).unwrap();
                shutdown.begun().await;
                assert_eq!(number(), Some(before));
                sender.send(before).unwrap();
            });
        }
        let mut first = Vec::new();
        for _ in 0..4 {
            first.push(receiver.recv().await.unwrap());
        }
        first.sort_unstable();
        assert_eq!((first, number()), (vec![0, 0, 1, 1], None), "two on each");
        shutdown.begin();
        assert!(shutdown.drain(Duration::from_secs(5)).await);
        drop(sender);
        let mut after = 0;
        while receiver.recv().await.is_some() {
            after += 1;
        }
        assert_eq!(after, 4);
    }
}
