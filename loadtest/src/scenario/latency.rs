//! Figures 10 and 11: owners with a device and an app each, one message a second in both directions; what the gateway and the
//! private brokers add to Mosquitto's latency, and how it spreads.

use std::time::Duration;

use mqtt_wire::QoS;

use super::Settings;
use super::pairs::{COMMANDS, Exchange, READINGS, Sides};
use crate::brokers::System;
use crate::engine::Pace;
use crate::results::Results;

/// From one message of a client to its next.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs the scenario.
///
/// # Errors
/// Something does not start, or the results cannot be written.
pub fn run(settings: &Settings) -> anyhow::Result<(Results, bool)> {
    let levels: Vec<usize> = settings
        .levels(&[50, 100, 150, 200, 250, 300, 350, 400], &[50])
        .into_iter()
        .filter(|owners| settings.wants(&label(*owners)))
        .collect();
    let most = levels.iter().copied().max().unwrap_or(0);
    anyhow::ensure!(most > 0, "no case has such a label");
    let steps = levels.len() * settings.systems.len() * settings.rounds;
    let mut bench = settings.bench("latency", steps)?;
    let sides = Sides::start(settings, most, &mut bench)?;
    let pace = Pace::Open { interval: INTERVAL, offset: Duration::ZERO };
    let exchange = Exchange { readings: Some(pace), commands: Some(pace), qos: QoS::AtMostOnce };
    for owners in levels {
        let one = |system: System, (): &(), round: usize| {
            let place = sides.place(system)?;
            let plan = sides.plan(system, owners, &exchange)?;
            let mut row = sides.row(system, round, settings)?;
            let measured = settings.drive(&place, plan, &mut row, &mut || sides.meter(system))?;
            row.params.insert("owners".to_owned(), owners.into());
            measured.describe(&mut row);
            for (prefix, group) in [("readings_", READINGS), ("commands_", COMMANDS)] {
                if let Some(latency) = measured.outcome.groups.get(group) {
                    row.latency(prefix, latency);
                }
            }
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
    format!("owners{owners}")
}
