//! What is measured, one file for each scenario.

pub mod broker;

use std::time::Duration;

use anyhow::Context as _;

use crate::brokers::{Broker, Programs, System};
use crate::engine::{Engine, Outcome, Plan, Stop, Target};
use crate::process;
use crate::results::Row;
use crate::results::float;

/// How a scenario is to be run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Fewer cases, shorter runs.
    pub quick: bool,
    /// Rounds of each case; fewer than three make no ratio.
    pub rounds: usize,
    /// How long one run is measured.
    pub time: Duration,
    /// How long it runs before.
    pub warm_up: Duration,
    /// What is measured.
    pub systems: Vec<System>,
    /// Only cases whose label contains this.
    pub only: Option<String>,
    /// The programs.
    pub programs: Programs,
    /// Set by Ctrl-C.
    pub stop: Stop,
}

impl Settings {
    /// Whether a case is to be run.
    #[must_use]
    pub fn wants(&self, label: &str) -> bool {
        self.only.as_ref().is_none_or(|part| label.contains(part.as_str()))
    }
}

/// One measured load on one broker.
pub(crate) struct Measured {
    pub(crate) outcome: Outcome,
    /// CPU time of the broker, in seconds.
    pub(crate) cpu: f64,
    /// CPU time of this process.
    pub(crate) load_cpu: f64,
}

impl Measured {
    /// Rates, CPU times and losses, as every row has them.
    pub(crate) fn describe(&self, row: &mut Row) {
        let received = float(self.outcome.counts.received);
        row.latency("", &self.outcome.latency)
            .metric("per_second", received / self.outcome.seconds)
            .metric("per_core_second", received / self.cpu)
            .metric("cpu_seconds", self.cpu)
            .metric("load_cpu_seconds", self.load_cpu)
            .metric("seconds", self.outcome.seconds)
            .count("lost", self.outcome.counts.lost)
            .count("disordered", self.outcome.counts.disordered);
    }
}

/// Connects, warms up, measures, drains.
pub(crate) fn measure(broker: &Broker, plan: Plan, settings: &Settings) -> anyhow::Result<Measured> {
    let mut engine = Engine::new(Target::plain(broker.address), plan)?;
    engine.connect(&settings.stop)?;
    engine.drive(settings.warm_up, &settings.stop)?;
    engine.mark();
    let own = std::process::id();
    let before = (broker.cpu_seconds()?, process::cpu_seconds(own)?);
    engine.drive(settings.time, &settings.stop)?;
    let outcome = engine.outcome();
    let after = (broker.cpu_seconds()?, process::cpu_seconds(own)?);
    engine.drain(Duration::from_secs(5))?;
    let lost = engine.outcome().counts.lost;
    engine.disconnect();
    if let (1.., reason) = &outcome.ended {
        let reason = reason.as_deref().unwrap_or("no reason");
        anyhow::bail!("{} connections ended; the first: {reason}", outcome.ended.0);
    }
    anyhow::ensure!(outcome.counts.received > 0, "nothing arrived");
    let mut outcome = outcome;
    outcome.counts.lost = lost;
    Ok(Measured { outcome, cpu: after.0 - before.0, load_cpu: after.1 - before.1 })
}

/// A broker that was started for one run only, so that no run leaves anything to the next.
pub(crate) fn fresh(system: System, settings: &Settings) -> anyhow::Result<Broker> {
    Broker::start(system, &settings.programs).with_context(|| format!("start {system}"))
}
