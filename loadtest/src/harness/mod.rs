//! Loads from several hosts: a [`manager`] that runs the scenario and any number of [`driver`]s that carry its clients.
//!
//! A driver registers, asks for orders, connects its share of the owners, starts when it is told to, and streams what it
//! measured. Publishers and receivers of an owner live in one driver, so no two clocks are ever compared; what travels are
//! durations. All of it is JSON over HTTP, asked for by the drivers, so that only the manager has to be reached.

pub mod driver;
pub mod manager;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::engine::{Plan, Sent};
use crate::load::{Phases, Place};

/// How long the manager holds back the answer to a driver that asks for an order, in seconds.
const HOLD: u64 = 5;

/// How often a driver shows that it lives, and how often it sends what it has measured so far, in seconds.
const BEAT: u64 = 1;

/// Silence after which a driver is lost, in seconds.
const LOST: u64 = if cfg!(test) { 3 } else { 8 };

/// A driver presents itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Its host's name.
    pub name: String,
    /// Processors that it may use.
    pub cores: usize,
    /// Files that it may have open, which bounds its connections.
    pub open_files: u64,
}

/// The manager's answer.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// The driver's number.
    pub id: u64,
}

/// What a driver is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case")]
pub enum Order {
    /// Connect these clients and say [`Ready`].
    Prepare {
        /// Which run.
        run: u64,
        /// Where to.
        place: Place,
        /// Its share.
        plan: Box<Plan>,
        /// How long.
        phases: Phases,
    },
    /// Start now.
    Go {
        /// Which run.
        run: u64,
    },
    /// Drop that run's connections.
    Forget {
        /// Which run.
        run: u64,
    },
    /// Nothing more will come.
    End,
    /// Nothing yet; ask again.
    Wait,
}

/// A driver's clients are connected, or why not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ready {
    /// Which run.
    pub run: u64,
    /// How long each connect took: a histogram of nanoseconds.
    pub connects: String,
    /// What went wrong.
    pub error: Option<String>,
}

/// What a driver has measured so far, or in all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Which run.
    pub run: u64,
    /// Since its mark.
    pub outcome: Option<Sent>,
    /// CPU time that the driver needed for it.
    pub load_cpu: f64,
    /// Nothing more will come of this run.
    pub last: bool,
    /// What went wrong.
    pub error: Option<String>,
}
