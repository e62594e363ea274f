//! What a board has to offer to [`crate::run`].

use device_client::{Millis, Record, Status};

/// The socket is of no use any more, or a time limit has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

/// Why [`Board::wait`] returned.
#[derive(Debug)]
pub enum Event<'a> {
    /// The time has come, or nothing in particular.
    Time,
    /// Bytes have come from the server, or it has closed the connection.
    Readable,
    /// Somebody or something on the board wants something.
    Input(Input<'a>),
}

/// What a board's button, sensors and programs want.
#[derive(Debug)]
pub enum Input<'a> {
    /// A short press on the button.
    Press,
    /// A long press on the button: give up ownership.
    LongPress,
    /// A reading.
    Publish {
        /// Without `d/`.
        channel: &'a str,
        /// Any bytes.
        payload: &'a [u8],
        /// The owner's broker keeps it as the channel's last value.
        retain: bool,
        /// Kept until the gateway has acknowledged it.
        at_least_once: bool,
    },
    /// What the device's shadow is to say: a JSON merge patch.
    Report(&'a [u8]),
    /// Hang up and return from [`crate::run`].
    Stop,
}

/// A board with one TCP socket.
pub trait Board {
    /// Milliseconds on a clock that never goes back.
    fn now(&mut self) -> Millis;

    /// Fills `out` with bytes that nobody can foresee: on the ESP8266 from its hardware generator.
    fn random(&mut self, out: &mut [u8]);

    /// Opens a TCP connection, in place of one that may still be there.
    ///
    /// # Errors
    /// No connection before `by`.
    fn dial(&mut self, host: &str, port: u16, by: Millis) -> Result<(), Lost>;

    /// Whether [`Board::read`] would return at once.
    fn is_readable(&mut self) -> bool;

    /// Reads at least one byte, waiting for it if need be.
    ///
    /// # Errors
    /// The connection has ended, or nothing came before `by`.
    fn read(&mut self, out: &mut [u8], by: Millis) -> Result<usize, Lost>;

    /// Writes at least one byte, waiting for room if need be.
    ///
    /// # Errors
    /// The connection has ended, or there was no room before `by`.
    fn write(&mut self, bytes: &[u8], by: Millis) -> Result<usize, Lost>;

    /// Closes the connection, if there is one, after what was written.
    fn hang_up(&mut self);

    /// Sleeps until the given time, bytes from the server (if `listen`), or an input.
    fn wait(&mut self, until: Option<Millis>, listen: bool) -> Event<'_>;

    /// Stores the record as one atomic step; true if it is safe.
    fn store(&mut self, record: &Record) -> bool;

    /// A command came on `c/<channel>`.
    fn command(&mut self, channel: &str, payload: &[u8]);

    /// The owner's broker wants a state that was not reported yet: a JSON merge patch.
    fn delta(&mut self, patch: &[u8]);

    /// The status is another one than before: for a lamp, a display, or blinking the code.
    fn show(&mut self, status: &Status);

    /// A message of [`Input::Publish`] with `at_least_once` has been acknowledged.
    fn delivered(&mut self) {}

    /// An input could not be served: no connection, a name that is no channel, a message that is still waiting.
    fn refused(&mut self, _why: device_client::PublishError) {}
}
