//! Figure 12: how long a device's connect takes, from opening the socket to CONNACK, one after the other. Mosquitto; the owner's
//! PCM running; one from the pool; the PCM to be started. Every connect asks the DIdP about its token, and TLS sessions are never resumed.
//!
//! "From the pool" and "to be started" are never played: each of these is the first connection that its owner ever makes.

use std::ops::Range;

use mqtt_wire::QoS;

use super::Settings;
use super::pairs::Sides;
use crate::bench::Bench;
use crate::brokers::System;
use crate::engine::{Engine, Plan, histogram};
use crate::process;
use crate::results::{Results, Row, float};
use crate::stack::{Options, Runtime};
use crate::stats::Spread;

/// How the owner's PCM is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// The owner's app is connected already. On Mosquitto: another client is.
    Running,
    /// Nobody of the owner has ever been connected; started PCMs wait for whoever comes.
    Pool,
    /// Nobody of the owner has ever been connected, and no PCM waits for anybody.
    Cold,
}

/// PCMs that wait in the case of that name; more than one round takes, so that none has to be started within one.
const POOL: u32 = 32;

impl Case {
    const fn label(self) -> &'static str {
        match self {
            Case::Running => "running",
            Case::Pool => "pool",
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
    let each = if settings.quick { 5 } else { 20 };
    let ours = settings.systems.contains(&System::Oauthing);
    let cases: Vec<Case> = [Case::Running, Case::Pool, Case::Cold]
        .into_iter()
        .filter(|case| settings.wants(case.label()) && (ours || *case == Case::Running))
        .collect();
    anyhow::ensure!(!cases.is_empty(), "no case has such a label");
    let systems = |case: Case| if case == Case::Running { settings.systems.len() } else { 1 };
    let steps = cases.iter().map(|case| systems(*case)).sum::<usize>() * settings.rounds;
    let mut bench = settings.bench("connect", steps)?;
    for case in cases {
        let goes_on = match case {
            Case::Running => {
                let sides = Sides::start(settings, running, &mut bench)?;
                let one = |system: System, (): &(), round: usize| {
                    let holder = hold(settings, &sides, system, running)?;
                    let mut row = connect(settings, &sides, system, 0..running)?;
                    drop(holder);
                    finish(&mut row, &sides, system, round, case, settings)?;
                    Ok(vec![row])
                };
                bench.interleave(&settings.systems, settings.rounds, &(), case.label(), one)?
            }
            Case::Pool => first(settings, case, POOL, each, &mut bench)?,
            Case::Cold => first(settings, case, 0, each, &mut bench)?,
        };
        if !goes_on {
            break;
        }
    }
    let complete = bench.finish();
    Ok((bench.results, complete))
}

/// First connections, on a system of their own; each round takes owners that no round before had.
fn first(settings: &Settings, case: Case, pool: u32, each: usize, bench: &mut Bench) -> anyhow::Result<bool> {
    let settings = Settings { systems: vec![System::Oauthing], ..settings.clone() };
    let options = Options { pool: Some(pool), ..settings.stack(each * settings.rounds) };
    let sides = Sides::start_with(&settings, options, bench)?;
    let one = |system: System, (): &(), round: usize| {
        sides.stack()?.wait_for_pcms(usize::try_from(pool)?, &settings.stop)?;
        let start = (round - 1) * each;
        let owners = start..start + each;
        let mut row = match settings.runtime {
            Runtime::Docker if case == Case::Cold => beside_engine(&settings, &sides, owners)?,
            Runtime::Docker | Runtime::Process => connect(&settings, &sides, system, owners)?,
        };
        finish(&mut row, &sides, system, round, case, &settings)?;
        Ok(vec![row])
    };
    bench.interleave(&settings.systems, settings.rounds, &(), case.label(), one)
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

/// Connects these owners' devices one after the other, and has the engine create and start a container of its own accord after each:
/// what the launch adds to that is the median of the pairs' differences.
fn beside_engine(settings: &Settings, sides: &Sides, owners: Range<usize>) -> anyhow::Result<Row> {
    let stack = sides.stack()?;
    let target = sides.place(System::Oauthing)?.target()?;
    let (mut ours, mut bare, mut over) = (histogram(), histogram(), Vec::new());
    let mut connected = Vec::new();
    for number in owners {
        let mut plan = Plan { connecting: 1, ..Plan::default() };
        plan.client(sides.device(System::Oauthing, number)?);
        let mut engine = Engine::new(target.clone(), plan)?;
        let took = engine.connect(&settings.stop)?.max();
        connected.push(engine);
        let alone = u64::try_from(stack.bare_container(number)?.as_nanos())?;
        ours.saturating_record(took);
        bare.saturating_record(alone);
        over.push((float(took) - float(alone)) / 1e6);
    }
    let count = connected.len();
    let mut row = Row::new(System::Oauthing, crate::results::Table::new());
    row.latency("", &ours).latency("engine_", &bare);
    if let Some(over) = Spread::of(&over) {
        row.metric("over_engine_ms", over.median);
    }
    row.params.insert("connects".to_owned(), count.into());
    Ok(row)
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
