//! The transport below TLS: a board's socket with a time limit, and a look at each record's head.
//!
//! TLS reads a record as a whole. Whether it may wait for the next one is said here: during the handshake it may, later only
//! for the rest of a record that has begun.

use core::cell::{Cell, RefCell};
use core::fmt;

use device_client::Millis;
use embedded_io::{ErrorKind, ErrorType, Read, Write};

use crate::board::Board;

const HEAD: usize = 5;

/// Shortest ciphertext that holds anything (RFC 8446 §5.2): one byte of content type, and the tag.
const SHORTEST: usize = 17;

const APPLICATION_DATA: u8 = 23;

/// What both ends of the transport share.
pub(crate) struct Line<'a, B> {
    pub(crate) board: RefCell<&'a mut B>,
    /// When reading and writing give up.
    pub(crate) by: Cell<Millis>,
    /// Whether to wait for a record that has not begun.
    pub(crate) patient: Cell<bool>,
}

/// The transport that TLS owns.
pub(crate) struct Wire<'l, 'a, B> {
    line: &'l Line<'a, B>,
    head: [u8; HEAD],
    head_len: usize,
    body: usize,
}

impl<'l, 'a, B: Board> Wire<'l, 'a, B> {
    pub(crate) fn new(line: &'l Line<'a, B>) -> Self {
        Self { line, head: [0; HEAD], head_len: 0, body: 0 }
    }

    /// Follows the records; false if one is too short to be one.
    fn follow(&mut self, mut bytes: &[u8]) -> bool {
        while let [first, rest @ ..] = bytes {
            if self.body > 0 {
                let skipped = self.body.min(bytes.len());
                self.body -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head[self.head_len] = *first;
            self.head_len += 1;
            bytes = rest;
            if self.head_len == HEAD {
                self.head_len = 0;
                self.body = usize::from(u16::from_be_bytes([self.head[3], self.head[4]]));
                let shortest = if self.head[0] == APPLICATION_DATA { SHORTEST } else { 1 };
                if self.body < shortest {
                    return false;
                }
            }
        }
        true
    }
}

/// How the transport failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed(ErrorKind);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is of no use")
    }
}

impl core::error::Error for Failed {}

impl embedded_io::Error for Failed {
    fn kind(&self) -> ErrorKind {
        self.0
    }
}

impl<B> ErrorType for Wire<'_, '_, B> {
    type Error = Failed;
}

impl<B: Board> Read for Wire<'_, '_, B> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, Failed> {
        let between_records = self.head_len == 0 && self.body == 0;
        let mut board = self.line.board.borrow_mut();
        if between_records && !self.line.patient.get() && !board.is_readable() {
            return Err(Failed(ErrorKind::TimedOut));
        }
        let read = board.read(out, self.line.by.get()).map_err(|_| Failed(ErrorKind::ConnectionReset))?;
        drop(board);
        if self.follow(&out[..read]) { Ok(read) } else { Err(Failed(ErrorKind::InvalidData)) }
    }
}

impl<B: Board> Write for Wire<'_, '_, B> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Failed> {
        let mut board = self.line.board.borrow_mut();
        board.write(bytes, self.line.by.get()).map_err(|_| Failed(ErrorKind::ConnectionReset))
    }

    fn flush(&mut self) -> Result<(), Failed> {
        Ok(())
    }
}
