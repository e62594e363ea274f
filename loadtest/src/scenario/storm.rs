//! Everybody comes back at once: all connections end without a goodbye, as after a power cut or a restarted router, and every
//! client connects again at the same moment. How long until the last one is back, and how long each had to wait.

use std::time::Instant;

use mqtt_wire::QoS;

use super::Settings;
use super::pairs::Sides;
use crate::brokers::System;
use crate::engine::{Engine, Plan};
use crate::process;
use crate::results::{Results, float};

/// Runs the scenario.
///
/// # Errors
/// Something does not start, or the results cannot be written.
pub fn run(settings: &Settings) -> anyhow::Result<(Results, bool)> {
    let levels: Vec<usize> = settings
        .levels(&[50, 500], &[50])
        .into_iter()
        .filter(|owners| settings.wants(&label(*owners)))
        .collect();
    let most = levels.iter().copied().max().unwrap_or(0);
    anyhow::ensure!(most > 0, "no case has such a label");
    let steps = levels.len() * settings.systems.len() * settings.rounds;
    let mut bench = settings.bench("storm", steps)?;
    let sides = Sides::start(settings, most, &mut bench)?;
    for owners in levels {
        let one = |system: System, (): &(), round: usize| {
            let mut plan = Plan { connecting: 16, ..Plan::default() };
            for number in 0..owners {
                plan.client(sides.device(system, number)?);
                plan.client(sides.app(system, number, QoS::AtMostOnce)?);
            }
            let target = sides.place(system)?.target()?;
            let mut before = Engine::new(target.clone(), plan.clone())?;
            before.connect(&settings.stop)?;
            let clients = plan.clients.len();
            let mut again = Engine::new(target, Plan { connecting: clients, ..plan })?;
            let meter = sides.meter(system)?;
            let own = std::process::id();
            let (cpu, load) = (meter.read()?, process::cpu_seconds(own)?);
            let started = Instant::now();
            // Dropped without DISCONNECT.
            drop(before);
            let times = again.connect(&settings.stop)?;
            let seconds = started.elapsed().as_secs_f64();
            let (cpu_after, load_after) = (meter.read()?, process::cpu_seconds(own)?);
            again.disconnect();
            let mut row = sides.row(system, round, settings)?;
            row.params.remove("warm_up_ms");
            row.params.insert("clients".to_owned(), clients.into());
            row.latency("", &times)
                .metric("per_second", float(times.len()) / seconds)
                .metric("seconds", seconds)
                .metric("load_cpu_seconds", load_after - load);
            cpu_after.since(&cpu).describe(&mut row);
            Ok(vec![row])
        };
        if !bench.interleave(&settings.systems, settings.rounds, &(), &label(owners), one)? {
            break;
        }
    }
    let complete = bench.finish();
    Ok((bench.results, complete))
}

fn label(owners: usize) -> String {
    format!("clients{}", owners * 2)
}
