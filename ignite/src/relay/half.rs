//! One side's connection: what was read from it and not dealt with, and how it takes what is written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mqtt_wire::frame_len;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::desk::{READ, Spare};
use super::outbox::Batch;
use super::queue::Queue;

/// Least room for a part of a packet whose length is not known yet.
const PART: usize = 1024;

/// One side.
pub(super) struct Half<S> {
    pub(super) stream: S,
    /// The begin of a packet, or packets that were not looked at yet.
    kept: Vec<u8>,
    /// Whole packets may be among what is kept.
    is_unread: bool,
    /// Since when it is waited for the rest of the packet that is kept.
    part_since: Option<Instant>,
    /// Nothing comes any more.
    pub(super) has_ended: bool,
    /// What is written goes nowhere.
    pub(super) is_deaf: bool,
    /// Something that was written may still lie in the stream.
    unflushed: bool,
    /// Since when something waits without any of it being taken.
    waits_since: Option<Instant>,
}

/// What there is to be judged.
pub(super) enum Came {
    /// So many bytes in the thread's buffer.
    ToDesk(usize),
    /// What was kept, with more behind it.
    ToKept(Vec<u8>),
}

impl Came {
    pub(super) fn bytes<'a>(&'a self, desk: &'a [u8]) -> &'a [u8] {
        match self {
            Self::ToDesk(count) => &desk[..*count],
            Self::ToKept(kept) => kept,
        }
    }
}

impl<S> Half<S> {
    /// A side of which `early` was read already.
    pub(super) fn new(stream: S, early: &[u8]) -> Self {
        Self {
            stream,
            kept: early.to_vec(),
            is_unread: !early.is_empty(),
            part_since: None,
            has_ended: false,
            is_deaf: false,
            unflushed: false,
            waits_since: None,
        }
    }

    /// Nothing comes any more, and all that came was dealt with but for a packet that never ended.
    pub(super) fn is_over(&self) -> bool {
        self.has_ended && !self.is_unread
    }

    /// When this side counts as blocked if it goes on like this.
    pub(super) fn blocked_at(&self, limit: Duration) -> Option<Instant> {
        self.waits_since.map(|since| since + limit)
    }

    /// When the packet that is kept in part counts as one that never ends.
    pub(super) fn part_ends_at(&self, limit: Duration) -> Option<Instant> {
        self.part_since.map(|since| since + limit)
    }

    /// Keeps what of `came` was not `used`; `is_unread` if whole packets may be in it.
    pub(super) fn keep(
        &mut self,
        came: Came,
        desk: &[u8],
        (used, is_unread): (usize, bool),
        spare: &mut Spare,
        now: Instant,
    ) {
        let before = self.part_since.take().filter(|_| used == 0);
        let mut kept = match came {
            Came::ToDesk(count) if count == used => return,
            Came::ToDesk(count) => {
                let mut kept = spare.take();
                kept.extend_from_slice(&desk[used..count]);
                kept
            }
            Came::ToKept(mut kept) => {
                kept.drain(..used);
                kept
            }
        };
        self.is_unread = is_unread && !kept.is_empty();
        if kept.is_empty() {
            spare.give(std::mem::take(&mut kept));
        } else if !is_unread {
            self.part_since = before.or(Some(now));
        }
        self.kept = kept;
    }
}

impl<S: AsyncRead + Unpin> Half<S> {
    /// What there is to be judged; ready once with nothing when the end has come.
    pub(super) fn read(&mut self, cx: &mut Context<'_>, desk: &mut [u8]) -> Poll<Came> {
        if self.is_unread {
            self.is_unread = false;
            return Poll::Ready(Came::ToKept(std::mem::take(&mut self.kept)));
        }
        if self.has_ended {
            return Poll::Pending;
        }
        if self.kept.is_empty() {
            let count = ready!(self.read_into(cx, desk));
            return Poll::Ready(Came::ToDesk(count));
        }
        let begun = self.kept.len();
        let length = frame_len(&self.kept, usize::MAX).ok().flatten().unwrap_or_default();
        let mut kept = std::mem::take(&mut self.kept);
        kept.resize(begun + length.saturating_sub(begun).clamp(PART, READ), 0);
        let read = self.read_into(cx, &mut kept[begun..]);
        match read {
            Poll::Ready(count) => {
                kept.truncate(begun + count);
                Poll::Ready(Came::ToKept(kept))
            }
            Poll::Pending => {
                kept.truncate(begun);
                self.kept = kept;
                Poll::Pending
            }
        }
    }

    fn read_into(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<usize> {
        let mut buffer = ReadBuf::new(room);
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
        let count = buffer.filled().len();
        self.has_ended = read.is_err() || count == 0;
        Poll::Ready(if read.is_err() { 0 } else { count })
    }
}

impl<S: AsyncWrite + Unpin> Half<S> {
    /// Writes `batch`, whose payloads are in `input`; what is not taken at once is queued. The batch is empty afterwards.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn send(
        &mut self,
        cx: &mut Context<'_>,
        (queue, batch): (&mut Queue, &mut Batch),
        input: &[u8],
        spare: &mut Spare,
        now: Instant,
    ) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut written = 0;
        let mut broken = None;
        while queue.is_empty() && written < batch.len() && !self.is_deaf {
            let (slices, count) = batch.slices(input, written);
            match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count]).map(at_least_one) {
                Poll::Ready(Ok(count)) => {
                    written += count;
                    self.moved(now);
                }
                Poll::Ready(Err(error)) => {
                    broken = Some(error);
                    break;
                }
                Poll::Pending => break,
            }
        }
        if written < batch.len() && !self.is_deaf && broken.is_none() {
            queue.borrow(|| spare.take());
            batch.spill(input, written, queue);
        }
        batch.clear();
        match broken {
            Some(error) => Err(error),
            None => self.flush(cx, queue, spare, now),
        }
    }

    /// Writes what is queued, as far as it is taken.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) fn flush(
        &mut self,
        cx: &mut Context<'_>,
        queue: &mut Queue,
        spare: &mut Spare,
        now: Instant,
    ) -> io::Result<()> {
        if self.is_deaf {
            queue.clear();
            (self.unflushed, self.waits_since) = (false, None);
            return Ok(());
        }
        while !queue.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, queue.pending()).map(at_least_one) {
                Poll::Ready(Ok(count)) => {
                    queue.take(count);
                    self.moved(now);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        if self.unflushed
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            flushed?;
            self.unflushed = false;
        }
        if let Some(buffer) = queue.give_back() {
            spare.give(buffer);
        }
        let waits = self.unflushed || !queue.is_empty();
        self.waits_since = waits.then(|| self.waits_since.unwrap_or(now));
        Ok(())
    }

    fn moved(&mut self, now: Instant) {
        self.unflushed = true;
        self.waits_since = self.waits_since.map(|_| now);
    }
}

/// A stream that takes nothing and says that this is well is broken.
fn at_least_one(written: io::Result<usize>) -> io::Result<usize> {
    written.and_then(|count| if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) })
}
