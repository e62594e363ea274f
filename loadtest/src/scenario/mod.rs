//! What is measured, one file for each scenario.

pub mod broker;
pub mod connect;
pub mod density;
pub mod fanout;
pub mod harness;
pub mod introspect;
pub mod latency;
pub mod pairs;
pub mod register;
pub mod soak;
pub mod storm;
pub mod stress;
pub mod token;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::bench::Bench;
use crate::brokers::{Broker, Programs, System};
use crate::cli::Scenario;
use crate::engine::{Plan, Stop};
use crate::harness::manager::Manager;
use crate::load::{self, Measured, Phases, Place};
use crate::meter::Meter;
use crate::results::Row;
use crate::stack::{Options, Runtime};

/// How a scenario is to be run.
#[derive(Clone)]
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
    /// What PCMs run as.
    pub runtime: Runtime,
    /// The PCM's image, for containers.
    pub image: String,
    /// TLS on both sides instead of neither.
    pub tls: bool,
    /// Name under which drivers reach the systems, and the address that these listen on.
    pub host: String,
    /// See `host`.
    pub bind: IpAddr,
    /// The drivers that carry the clients; without any, this process does.
    pub crew: Option<Arc<Manager>>,
    /// Numbers of owners, where a scenario has a choice.
    pub owners: Vec<usize>,
    /// Where results go while they are made.
    pub json: Option<PathBuf>,
    /// Results that are in the file already stay.
    pub append: bool,
    /// Set by Ctrl-C.
    pub stop: Stop,
}

/// Runs a scenario; true if everything was measured.
///
/// # Errors
/// A program is missing, the system does not start, or the results cannot be written.
pub fn run(scenario: Scenario, settings: &Settings) -> anyhow::Result<bool> {
    settings.phases().check()?;
    anyhow::ensure!(
        settings.crew.is_none() || scenario.is_distributed(),
        "this scenario runs on one host only; latency, stress and fanout take drivers"
    );
    let (_, complete) = match scenario {
        Scenario::Broker => broker::run(settings)?,
        Scenario::Latency => latency::run(settings)?,
        Scenario::Connect => connect::run(settings)?,
        Scenario::Stress => stress::run(settings)?,
        Scenario::Density => density::run(settings)?,
        Scenario::Register => register::run(settings)?,
        Scenario::Introspect => introspect::run(settings)?,
        Scenario::Token => token::run(settings)?,
        Scenario::Storm => storm::run(settings)?,
        Scenario::Fanout => fanout::run(settings)?,
        Scenario::Soak => soak::run(settings)?,
        Scenario::Harness => harness::run(settings)?,
    };
    Ok(complete)
}

impl Settings {
    /// Whether a case is to be run.
    #[must_use]
    pub fn wants(&self, label: &str) -> bool {
        self.only.as_ref().is_none_or(|part| label.contains(part.as_str()))
    }

    /// How long each run takes.
    #[must_use]
    pub const fn phases(&self) -> Phases {
        Phases { warm_up: self.warm_up, time: self.time }
    }

    /// The numbers of owners to measure with: what the command line says, or these.
    #[must_use]
    pub fn levels(&self, full: &[usize], quick: &[usize]) -> Vec<usize> {
        match (self.owners.is_empty(), self.quick) {
            (false, _) => self.owners.clone(),
            (true, true) => quick.to_vec(),
            (true, false) => full.to_vec(),
        }
    }

    /// A system for so many owners.
    #[must_use]
    pub fn stack(&self, owners: usize) -> Options {
        Options {
            image: self.image.clone(),
            host: self.host.clone(),
            bind: self.bind,
            ..Options::new(self.runtime, owners)
        }
    }

    /// One load, by the drivers if there are any, else by this process. `row` is told what the drivers have to say.
    ///
    /// # Errors
    /// As [`load::drive`].
    pub fn drive(
        &self,
        place: &Place,
        plan: Plan,
        row: &mut Row,
        meter: &mut dyn FnMut() -> anyhow::Result<Meter>,
    ) -> anyhow::Result<Measured> {
        let Some(crew) = &self.crew else {
            return load::drive(place, plan, self.phases(), &self.stop, meter);
        };
        let (measured, drivers) = crew.drive(place, &plan, self.phases(), &self.stop, meter)?;
        row.params.insert("drivers".to_owned(), drivers.whole.into());
        row.params.insert("lost_drivers".to_owned(), drivers.lost.into());
        Ok(measured)
    }

    /// A bench for so many steps.
    ///
    /// # Errors
    /// Results to append to cannot be read.
    pub fn bench(&self, scenario: &str, steps: usize) -> anyhow::Result<Bench> {
        let mut bench = Bench::new(scenario, steps, self.json.clone(), self.stop.clone());
        if self.append {
            bench.keep_earlier()?;
        }
        for system in &self.systems {
            if let Some(version) = self.programs.version(*system) {
                bench.results.machine.versions.insert(system.to_string(), version);
            }
        }
        Ok(bench)
    }
}

/// Connects, warms up, measures, drains.
pub(crate) fn measure(broker: &Broker, plan: Plan, settings: &Settings) -> anyhow::Result<Measured> {
    let place = Place::plain(broker.address);
    load::drive(&place, plan, settings.phases(), &settings.stop, &mut || Ok(broker.meter()))
}

/// A broker that was started for one run only, so that no run leaves anything to the next.
pub(crate) fn fresh(system: System, settings: &Settings) -> anyhow::Result<Broker> {
    Broker::start(system, &settings.programs).with_context(|| format!("start {system}"))
}
