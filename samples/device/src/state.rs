//! What a thermostat tells the outside: its state and its messages, as JSON for panel and tests.

use serde::{Deserialize, Serialize};

/// Where a thermostat stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It has no credentials yet: the factory has not flashed it.
    Blank,
    /// Nobody's, looking for the DIdP.
    Searching,
    /// Nobody's, connected: a press opens a claim window.
    Ready,
    /// A claim window is open.
    Claimable,
    /// An owner said yes; it fetches and stores its tokens.
    Settling,
    /// On the way to the gateway.
    Joining,
    /// At the DIdP for new tokens.
    Renewing,
    /// Connected to the gateway.
    Running,
    /// Given up by its button; not acknowledged yet.
    Resetting,
}

impl From<device_client::Phase> for Phase {
    fn from(phase: device_client::Phase) -> Self {
        use device_client::Phase as P;
        match phase {
            P::Searching => Self::Searching,
            P::Ready => Self::Ready,
            P::Claimable => Self::Claimable,
            P::Settling => Self::Settling,
            P::Joining => Self::Joining,
            P::Renewing => Self::Renewing,
            P::Running => Self::Running,
            P::Resetting => Self::Resetting,
        }
    }
}

/// What the lamp does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lamp {
    /// No light at all.
    Off,
    /// A short flash now and then: ready for a press.
    Flash,
    /// Slow blinking: no connection.
    Slow,
    /// Fast blinking: claim window, or a reset under way.
    Fast,
    /// Steady light: running.
    On,
}

impl From<device_client::Lamp> for Lamp {
    fn from(lamp: device_client::Lamp) -> Self {
        match lamp {
            device_client::Lamp::Flash => Self::Flash,
            device_client::Lamp::Slow => Self::Slow,
            device_client::Lamp::Fast => Self::Fast,
            device_client::Lamp::On => Self::On,
        }
    }
}

/// What a panel shows of a thermostat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// What its lamp does.
    pub lamp: Lamp,
    /// The code on its display, while a claim window is open.
    pub code: Option<String>,
    /// The last thing worth telling, in plain words.
    pub notice: Option<String>,
    /// °C.
    pub temperature: f64,
    /// Relative, in percent.
    pub humidity: f64,
    /// Whether the heater is on.
    pub heater: bool,
    /// What is engraved on its back.
    pub hardware_id: String,
    /// The model.
    pub model: String,
}

/// One message of a thermostat's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// It published to `d/<channel>`.
    Published {
        /// Without `d/`.
        channel: String,
        /// What was sent.
        payload: String,
    },
    /// A command came on `c/<channel>`.
    Received {
        /// Without `c/`.
        channel: String,
        /// What came; bytes that are not UTF-8 are replaced.
        payload: String,
    },
}

/// A notice in plain words.
pub(crate) fn words(notice: device_client::Notice) -> &'static str {
    use device_client::Notice as N;
    match notice {
        N::Unreachable => "The server cannot be reached. Trying again.",
        N::Untrusted => "The server's certificate is not the one that this device knows. Nothing was sent.",
        N::CredentialsRefused => "The server does not accept this device's credentials.",
        N::Declined => "The claim was declined.",
        N::WindowOver => "The time to claim is over. Press the button to begin again.",
        N::ClaimFailed => "The claim did not come about. Press the button to begin again.",
        N::Released => "This device has no owner any more.",
        N::StorageFailed => "The memory cannot be written.",
    }
}
