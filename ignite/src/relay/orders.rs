//! What the gateway tells a running session: only the last word counts, and an end is the last one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;

use crate::cause::Cause;
use crate::policy::Grant;

/// What the gateway tells a running session.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// Goes on under this grant.
    Under(Arc<Grant>),
    /// Ends.
    End(Cause),
}

/// One session's orders.
pub(crate) struct Orders {
    last: Mutex<Order>,
    is_new: AtomicBool,
    listener: AtomicWaker,
}

impl Orders {
    /// The session begins under `grant`.
    pub(crate) fn new(grant: Arc<Grant>) -> Self {
        let last = Mutex::new(Order::Under(grant));
        Self { last, is_new: AtomicBool::new(false), listener: AtomicWaker::new() }
    }

    /// The session goes on under `grant`, unless it was told to end.
    pub(crate) fn go_on(&self, grant: Arc<Grant>) {
        let mut last = self.lock();
        match &mut *last {
            Order::Under(current) if *current == grant => return,
            Order::Under(current) => *current = grant,
            Order::End(_) => return,
        }
        drop(last);
        self.tell();
    }

    /// The session ends; the first cause stays.
    pub(crate) fn end(&self, cause: Cause) {
        let mut last = self.lock();
        if matches!(*last, Order::End(_)) {
            return;
        }
        *last = Order::End(cause);
        drop(last);
        self.tell();
    }

    /// The last order, whether it was heard or not.
    pub(crate) fn last(&self) -> Order {
        self.lock().clone()
    }

    /// True if the session is to go on with a token that has ended by `now`, Unix seconds.
    pub(crate) fn are_past(&self, now: i64) -> bool {
        matches!(&*self.lock(), Order::Under(grant) if grant.has_ended(now))
    }

    /// The last order, if there is one since this was asked before; `waker` is woken by the next one.
    pub(crate) fn news(&self, waker: &Waker) -> Option<Order> {
        self.listener.register(waker);
        self.is_new.swap(false, Ordering::AcqRel).then(|| self.last())
    }

    fn tell(&self) {
        self.is_new.store(true, Ordering::Release);
        self.listener.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
