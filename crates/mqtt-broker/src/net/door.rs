//! Who may come in, what a connection is, and what must be safe before it is acknowledged.

use crate::broker::Broker;
use crate::connection::Identity;
use mio::net::UnixStream;
use std::io;

/// What a connection turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// An MQTT client.
    Client(Option<Identity>),
    /// A control connection: lines one way, answers the other.
    Control,
    /// The same for somebody who only looks on: grants are as unattended as without it.
    Onlooker,
}

/// What a control line leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Bytes to send back.
    pub bytes: Vec<u8>,
    /// Whether to end every connection and stop.
    pub drain: bool,
    /// Whether to close the control connection after the answer.
    pub close: bool,
}

/// The bytes are not what a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwelcome;

/// Decides what connections are.
pub trait Door {
    /// Whether a Unix peer may connect at all.
    fn lets_in(&self, peer: &UnixStream) -> bool;

    /// Looks at the first bytes of a connection (none right after accepting): what it is and how many bytes said so,
    /// or `Ok(None)` if more are needed.
    ///
    /// # Errors
    /// [`Unwelcome`] closes the connection.
    fn admit(&mut self, first: &[u8]) -> Result<Option<(Admission, usize)>, Unwelcome>;

    /// Longest first bytes and longest control line, in bytes.
    fn longest(&self) -> (usize, usize);

    /// Handles a control line (without its line feed). `guests` are the connections that are clients or may become one,
    /// and everybody who has come to a listener by now is among them.
    fn control(&mut self, broker: &mut Broker, line: &[u8], guests: usize, now: u64) -> Answer;

    /// Everything that came in by this turn is handled, nothing of what it led to is written yet: what must not be lost
    /// once it is acknowledged is made safe here. Until it is, nobody is served.
    ///
    /// # Errors
    /// It cannot be made safe: the server stops without writing.
    fn commit(&mut self, _broker: &mut Broker, _now: u64) -> io::Result<()> {
        Ok(())
    }
}

/// The door of a plain broker: everybody is a client from the first byte on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Door for Plain {
    fn lets_in(&self, _peer: &UnixStream) -> bool {
        true
    }

    fn admit(&mut self, _first: &[u8]) -> Result<Option<(Admission, usize)>, Unwelcome> {
        Ok(Some((Admission::Client(None), 0)))
    }

    fn longest(&self) -> (usize, usize) {
        (0, 0)
    }

    fn control(&mut self, _broker: &mut Broker, _line: &[u8], _guests: usize, _now: u64) -> Answer {
        Answer { close: true, ..Answer::default() }
    }
}
