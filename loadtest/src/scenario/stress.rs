//! Figure 13: every device publishes its next reading as soon as its app has the one before; how many messages a second all of
//! them get through, and whether each gets its share.

use mqtt_wire::QoS;

use super::Settings;
use super::pairs::{Exchange, Sides};
use crate::brokers::System;
use crate::engine::Pace;
use crate::results::Results;

/// Runs the scenario.
///
/// # Errors
/// Something does not start, or the results cannot be written.
pub fn run(settings: &Settings) -> anyhow::Result<(Results, bool)> {
    let levels: Vec<usize> = settings
        .levels(&[1, 4, 16, 50, 100, 200, 300, 400], &[1, 16])
        .into_iter()
        .filter(|owners| settings.wants(&label(*owners)))
        .collect();
    let most = levels.iter().copied().max().unwrap_or(0);
    anyhow::ensure!(most > 0, "no case has such a label");
    let steps = levels.len() * settings.systems.len() * settings.rounds;
    let mut bench = settings.bench("stress", steps)?;
    let sides = Sides::start(settings, most, &mut bench)?;
    let readings = Some(Pace::Closed { window: 1 });
    let exchange = Exchange { readings, commands: None, qos: QoS::AtMostOnce };
    for owners in levels {
        let one = |system: System, (): &(), round: usize| {
            let place = sides.place(system)?;
            let plan = sides.plan(system, owners, &exchange)?;
            let mut row = sides.row(system, round, settings)?;
            let measured = settings.drive(&place, plan, &mut row, &mut || sides.meter(system))?;
            row.params.insert("owners".to_owned(), owners.into());
            measured.describe(&mut row);
            if let Some(fairness) = measured.outcome.fairness() {
                row.metric("slowest_to_median", fairness);
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
    format!("clients{owners}")
}
