//! What all sessions of a thread work with, one after the other: a buffer to read into, packets on their way, spare buffers.
//!
//! A session holds buffers only while it has half of a packet, or while a side does not take what is written to it; everything
//! else lies here, so that a silent session costs little. Nothing of a session stays here after its turn.

use std::cell::RefCell;

use super::outbox::Outbox;

/// Bytes asked of a socket at a time.
pub(super) const READ: usize = 16 * 1024;
/// Spare buffers that are kept, and the longest.
const SPARE: (usize, usize) = (32, 64 * 1024);

/// One thread's.
pub(super) struct Desk {
    pub(super) input: Box<[u8]>,
    pub(super) out: Outbox,
    pub(super) spare: Spare,
}

/// Buffers that somebody used.
#[derive(Default)]
pub(super) struct Spare(Vec<Vec<u8>>);

impl Spare {
    /// An empty buffer.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    /// Takes a buffer that is not needed any more.
    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && buffer.capacity() <= SPARE.1 && self.0.len() < SPARE.0 {
            buffer.clear();
            self.0.push(buffer);
        }
    }
}

impl Desk {
    fn new() -> Self {
        Self { input: vec![0; READ].into_boxed_slice(), out: Outbox::roomy(), spare: Spare::default() }
    }
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::new(Desk::new());
}

/// Works at this thread's desk. Nothing in `work` may wait, or come back here.
pub(super) fn at_desk<T>(work: impl FnOnce(&mut Desk) -> T) -> T {
    DESK.with_borrow_mut(|desk| {
        if desk.input.len() != READ {
            // Somebody panicked at it.
            *desk = Desk::new();
        }
        // No session ever sees what was for another one.
        desk.out.clear();
        work(desk)
    })
}
