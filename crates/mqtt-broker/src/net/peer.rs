//! One socket: reading and writing without blocking.

use super::deadlines::Debts;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What one system call achieved.
pub(super) enum Progress {
    Moved(usize),
    Blocked,
    Ended,
}

impl Socket {
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Socket::Tcp(stream) => stream,
            Socket::Unix(stream) => stream,
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Progress {
        progress(|| match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(stream) => stream.read(buffer),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Progress {
        progress(|| match self {
            Socket::Tcp(stream) => stream.write(bytes),
            Socket::Unix(stream) => stream.write(bytes),
        })
    }

    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

fn progress(mut call: impl FnMut() -> io::Result<usize>) -> Progress {
    loop {
        return match call() {
            Ok(0) => Progress::Ended,
            Ok(count) => Progress::Moved(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Progress::Blocked,
            Err(_) => Progress::Ended,
        };
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Has not said what it is.
    Unknown,
    Client,
    Control,
    Onlooker,
    /// Everything is said; waiting for the peer to close.
    Lingering,
}

pub(super) struct Peer {
    pub(super) socket: Socket,
    pub(super) stage: Stage,
    /// Distinguishes it from others that had the same slot.
    pub(super) serial: u64,
    /// The start of something whose end has not come.
    pub(super) input: Vec<u8>,
    /// A control connection's answers; a client's output is with the broker.
    pub(super) output: Vec<u8>,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The kernel was asked to tell when it takes more.
    pub(super) awaits_room: bool,
    /// There is something to read, but its own output comes first.
    pub(super) paused: bool,
    /// The peer has closed or broken it: reading goes on until that is seen.
    pub(super) ended: bool,
    /// On the list of connections to read from.
    pub(super) queued: bool,
    /// On the list of connections to write to.
    pub(super) outgoing: bool,
    /// To be closed once its output is written; about a client the broker says so.
    pub(super) closing: bool,
    /// Will be closed at a set time.
    pub(super) doomed: bool,
    pub(super) debts: Debts,
}

/// An empty input keeps at most this much memory.
const KEPT_CAPACITY: usize = 1 << 10;

impl Peer {
    pub(super) fn new(socket: Socket, serial: u64) -> Peer {
        Peer {
            socket,
            stage: Stage::Unknown,
            serial,
            input: Vec::new(),
            output: Vec::new(),
            readable: true,
            writable: true,
            awaits_room: false,
            paused: false,
            ended: false,
            queued: false,
            outgoing: false,
            closing: false,
            doomed: false,
            debts: Debts::default(),
        }
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.stage == Stage::Unknown
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Progress {
        let progress = self.socket.read(buffer);
        // A buffer that was not filled has emptied the socket, and the next bytes will be told of (epoll(7)).
        match progress {
            Progress::Moved(count) => self.readable = count == buffer.len() || self.ended,
            Progress::Blocked => self.readable = false,
            Progress::Ended => {}
        }
        progress
    }

    /// So many bytes of the input are dealt with.
    pub(super) fn used(&mut self, count: usize) {
        self.input.drain(..count.min(self.input.len()));
        self.input.shrink_to(KEPT_CAPACITY.max(self.input.len()));
    }
}
