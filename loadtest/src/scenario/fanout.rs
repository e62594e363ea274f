//! One device, many sessions of an app that its owner allowed: what each copy costs.

use mqtt_wire::QoS;

use super::Settings;
use super::pairs::Sides;
use crate::brokers::System;
use crate::engine::{Pace, Plan, StreamPlan};
use crate::results::{Results, float};

/// Messages of the device on their way to everybody.
const WINDOW: u64 = 4;

/// Runs the scenario.
///
/// # Errors
/// Something does not start, or the results cannot be written.
pub fn run(settings: &Settings) -> anyhow::Result<(Results, bool)> {
    // A grant may have 32 sessions at the owner's broker (docs/protocol.md 7.1).
    let levels: Vec<u64> = if settings.quick { vec![16] } else { vec![1, 4, 16, 30] };
    let cases: Vec<(u64, QoS)> = levels
        .into_iter()
        .flat_map(|receivers| [QoS::AtMostOnce, QoS::AtLeastOnce].map(|qos| (receivers, qos)))
        .filter(|(receivers, qos)| settings.wants(&label(*receivers, *qos)))
        .collect();
    anyhow::ensure!(!cases.is_empty(), "no case has such a label");
    let steps = cases.len() * settings.systems.len() * settings.rounds;
    let mut bench = settings.bench("fanout", steps)?;
    let sides = Sides::start(settings, 1, &mut bench)?;
    for (receivers, qos) in cases {
        let one = |system: System, (): &(), round: usize| {
            let mut plan = Plan::default();
            let device = plan.client(sides.device(system, 0)?);
            for number in 0..receivers {
                let mut app = sides.app(system, 0, qos)?;
                app.id = format!("app{number}");
                plan.client(app);
            }
            let (topic, _) = sides.topics(system, 0)?;
            let stream = StreamPlan::new(device, topic, qos, Pace::Closed { window: WINDOW });
            plan.stream(StreamPlan { receivers, ..stream });
            let place = sides.place(system)?;
            let mut row = sides.row(system, round, settings)?;
            let measured = settings.drive(&place, plan, &mut row, &mut || sides.meter(system))?;
            row.params.insert("receivers".to_owned(), receivers.into());
            row.params.insert("qos".to_owned(), qos.bits().into());
            row.params.insert("window".to_owned(), WINDOW.into());
            measured.describe(&mut row);
            row.metric("messages_per_second", float(measured.outcome.counts.sent) / measured.outcome.seconds);
            Ok(vec![row])
        };
        if !bench.interleave(&settings.systems, settings.rounds, &(), &label(receivers, qos), one)? {
            break;
        }
    }
    let complete = bench.finish();
    Ok((bench.results, complete))
}

fn label(receivers: u64, qos: QoS) -> String {
    format!("receivers{receivers}-q{}", qos.bits())
}
