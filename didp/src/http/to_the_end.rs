//! Runs what a request began to its end, even if its client goes away: what was committed must also be told to those who wait
//! for it.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use crate::state::App;

/// The answer of `work`; nothing if it panicked. If nobody waits for the answer any more, `work` goes on in a task of its own.
pub(super) fn run<T>(
    app: &App,
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = Option<T>>
where
    T: Send + 'static,
{
    let work = AssertUnwindSafe(work).catch_unwind().map(|done| match done {
        Ok(answer) => Some(answer),
        Err(_) => {
            // The panic hook has said what and where.
            tracing::error!(event = "request_failed");
            None
        }
    });
    ToTheEnd { work: Some(work.boxed()), app: app.clone() }
}

struct ToTheEnd<T: Send + 'static> {
    /// Nothing when it has ended.
    work: Option<BoxFuture<'static, T>>,
    app: App,
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let answer = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        Poll::Ready(answer)
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        // Without a runtime the process is at its end.
        if let Some(work) = self.work.take()
            && Handle::try_current().is_ok()
        {
            self.app.shutdown.spawn(work);
        }
    }
}
