//! Figure 12: how long a device's connect takes, from opening the socket to CONNACK, one after the other. Mosquitto; the owner's
//! PCM running; the PCM to be started. Every connect asks the DIdP about its token, and TLS sessions are never resumed.
//!
//! "To be started" is never played: each of these is the first connection that its owner ever makes.

use std::ops::Range;

use mqtt_wire::QoS;

use super::Settings;
use super::pairs::Sides;
use crate::bench::Bench;
use crate::brokers::System;
use crate::engine::{Engine, Plan};
use crate::process;
use crate::results::{Results, Row, float};

/// How the owner's PCM is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// The owner's app is connected already. On Mosquitto: another client is.
    Running,
    /// Nobody of the owner has ever been connected, and no PCM waits for anybody.
    Cold,
}

impl Case {
    const fn label(self) -> &'static str {
        match self {
            Case::Running => "running",
            Case::Cold => "cold",
        }
    }
}

/// Runs the scenario.
///
/// # Errors
/// Something does not start, or the results cannot be written.
pub fn run(settings: &Settings) -> anyhow::Result<(Results, bool)> {
    let running = settings.owners.first().copied().unwrap_or(if settings.quick { 10 } else { 50 });
    let first = if settings.quick { 5 } else { 20 };
    let cases: Vec<Case> =
        [Case::Running, Case::Cold].into_iter().filter(|case| settings.wants(case.label())).collect();
    anyhow::ensure!(!cases.is_empty(), "no case has such a label");
    let ours = settings.systems.contains(&System::Oauthing);
    let steps = cases
        .iter()
        .map(|case| match case {
            Case::Running => settings.systems.len(),
            Case::Cold => usize::from(ours),
        })
        .sum::<usize>()
        * settings.rounds;
    let mut bench = settings.bench("connect", steps)?;
    let people = if cases.contains(&Case::Cold) { running + first * settings.rounds } else { running };
    let sides = Sides::start(settings, people, &mut bench)?;
    if cases.contains(&Case::Cold) && ours {
        cold(settings, &sides, running, first, &mut bench)?;
    }
    if cases.contains(&Case::Running) && !settings.stop.is_set() {
        let one = |system: System, (): &(), round: usize| {
            let holder = hold(settings, &sides, system, running)?;
            let mut row = connect(settings, &sides, system, 0..running)?;
            drop(holder);
            finish(&mut row, &sides, system, round, Case::Running, settings)?;
            Ok(vec![row])
        };
        bench.interleave(&settings.systems, settings.rounds, &(), Case::Running.label(), one)?;
    }
    let complete = bench.finish();
    Ok((bench.results, complete))
}

/// First connections; each round takes owners that no round before had.
fn cold(
    settings: &Settings,
    sides: &Sides,
    from: usize,
    each: usize,
    bench: &mut Bench,
) -> anyhow::Result<bool> {
    let one = |system: System, (): &(), round: usize| {
        let start = from + (round - 1) * each;
        let mut row = connect(settings, sides, system, start..start + each)?;
        finish(&mut row, sides, system, round, Case::Cold, settings)?;
        Ok(vec![row])
    };
    bench.interleave(&[System::Oauthing], settings.rounds, &(), Case::Cold.label(), one)
}

/// Connects the apps of the first owners, so that their PCMs run.
fn hold(settings: &Settings, sides: &Sides, system: System, owners: usize) -> anyhow::Result<Engine> {
    let mut plan = Plan { connecting: 8, ..Plan::default() };
    for number in 0..owners {
        plan.client(sides.app(system, number, QoS::AtMostOnce)?);
    }
    let mut engine = Engine::new(sides.place(system)?.target()?, plan)?;
    engine.connect(&settings.stop)?;
    Ok(engine)
}

/// Connects these owners' devices one after the other.
fn connect(settings: &Settings, sides: &Sides, system: System, owners: Range<usize>) -> anyhow::Result<Row> {
    let mut plan = Plan { connecting: 1, ..Plan::default() };
    let count = owners.len();
    for number in owners {
        plan.client(sides.device(system, number)?);
    }
    let mut engine = Engine::new(sides.place(system)?.target()?, plan)?;
    let meter = sides.meter(system)?;
    let own = std::process::id();
    let (before, load_before) = (meter.read()?, process::cpu_seconds(own)?);
    let times = engine.connect(&settings.stop)?;
    let load_after = process::cpu_seconds(own)?;
    // PCMs that were started meanwhile count from their beginning.
    let after = sides.meter(system)?.read()?;
    engine.disconnect();
    let mut row = Row::new(system, crate::results::Table::new());
    row.latency("", &times)
        .metric("per_second", float(times.len()) / (times.mean() * float(times.len()) / 1e9))
        .metric("load_cpu_seconds", load_after - load_before);
    after.since(&before).describe(&mut row);
    row.params.insert("connects".to_owned(), count.into());
    Ok(row)
}

fn finish(
    row: &mut Row,
    sides: &Sides,
    system: System,
    round: usize,
    case: Case,
    settings: &Settings,
) -> anyhow::Result<()> {
    let common = sides.row(system, round, settings)?;
    row.params.extend(common.params);
    row.params.remove("warm_up_ms");
    row.params.insert("pcm".to_owned(), case.label().into());
    Ok(())
}
