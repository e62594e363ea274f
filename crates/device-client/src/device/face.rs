//! What a caller sees of a device: settings, actions, and what a lamp or a panel shows.

use crate::Millis;
use crate::oauth::MAX_USER_CODE;
use crate::record::{Record, Server};
use crate::text::Text;

/// Settings; [`Options::default`] suits a device that runs all day.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// MQTT keep-alive in seconds.
    pub keep_alive: u16,
    /// Time for TCP, TLS and CONNACK together, and for each answer.
    pub answer: Millis,
    /// First back-off; each failure in a row doubles it.
    pub backoff: Millis,
    /// Longest back-off.
    pub backoff_max: Millis,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep_alive: 60, answer: 20_000, backoff: 1_000, backoff_max: 300_000 }
    }
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Action<'a> {
    /// Open TLS to this server, check its pins before anything is sent, then call [`Device::connected`](crate::Device::connected) or [`Device::closed`](crate::Device::closed).
    Connect(&'a Server),
    /// Write some of these bytes, then call [`Device::sent`](crate::Device::sent) with how many.
    Send(&'a [u8]),
    /// Close the transport, or give up opening it; nothing has to be reported.
    Close,
    /// Store the record as one atomic step, then call [`Device::stored`](crate::Device::stored). Until then nothing else happens.
    Store(&'a Record),
    /// A command came for `c/<channel>`.
    Command {
        /// The channel, without `c/`.
        channel: &'a str,
        /// Any bytes.
        payload: &'a [u8],
    },
    /// The owner's broker says what of the wanted state the device has not reported yet.
    Delta {
        /// A JSON merge patch (RFC 7396): channels by name, with the values that they are wanted to have.
        patch: &'a [u8],
    },
    /// Nothing to do until the given time or the next input.
    Wait(Option<Millis>),
}

/// How a transport ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It never came about, or it broke.
    Lost,
    /// The server's certificate has none of the pinned keys.
    Untrusted,
}

/// Where the device stands, for a lamp or a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody's, and not connected.
    Searching,
    /// Nobody's, connected to the DIdP: a press opens a claim window.
    Ready,
    /// A claim window is open.
    Claimable,
    /// An owner said yes; tokens are being fetched and stored.
    Settling,
    /// Owned; on the way to the gateway.
    Joining,
    /// Owned; at the DIdP for new tokens.
    Renewing,
    /// Owned and connected to the gateway.
    Running,
    /// Given up by its button; the DIdP has not acknowledged it yet.
    Resetting,
}

/// What a lamp shows of a [`Phase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lamp {
    /// Off, but for a short flash now and then: waiting for a press.
    Flash,
    /// Slow blinking: no connection.
    Slow,
    /// Fast blinking: claim window, or a reset under way.
    Fast,
    /// On.
    On,
}

impl Phase {
    /// What the lamp shows.
    pub fn lamp(self) -> Lamp {
        match self {
            Self::Ready => Lamp::Flash,
            Self::Searching | Self::Joining | Self::Renewing => Lamp::Slow,
            Self::Claimable | Self::Settling | Self::Resetting => Lamp::Fast,
            Self::Running => Lamp::On,
        }
    }
}

/// The last thing worth telling a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A server cannot be reached.
    Unreachable,
    /// A server's certificate is not the pinned one.
    Untrusted,
    /// The DIdP does not accept the device's credentials.
    CredentialsRefused,
    /// The owner said no.
    Declined,
    /// The claim window ended.
    WindowOver,
    /// The claim did not come about; press again.
    ClaimFailed,
    /// The device is nobody's any more.
    Released,
    /// The record cannot be stored.
    StorageFailed,
}

/// What a panel shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where the device stands.
    pub phase: Phase,
    /// The last thing worth telling.
    pub notice: Option<Notice>,
    /// The code that the owner has to type, while a claim window is open.
    pub user_code: Option<Text<MAX_USER_CODE>>,
    /// When the claim window ends.
    pub window_until: Option<Millis>,
}

/// Why nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// There is no session with the gateway.
    NotConnected,
    /// An earlier message has to be acknowledged, or bytes have to be sent, first.
    Busy,
    /// The channel is not one to four levels of letters, digits, `-` and `_`.
    Channel,
    /// The payload is too long.
    TooLong,
}
