//! The load of `latency` for a long time: whether latency stays, and whether the memory of any part grows.

use std::time::Duration;

use mqtt_wire::QoS;

use super::Settings;
use super::pairs::{Exchange, Sides};
use crate::brokers::System;
use crate::engine::{Engine, Pace};
use crate::load;
use crate::process;
use crate::results::{Results, Row, float};

/// Parts that the time is cut into; each gives a row.
const SLICES: u32 = 20;

/// From one message of a client to its next.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs the scenario, on this system only: what a baseline's memory does is no claim of anybody's.
///
/// # Errors
/// Something does not start, a connection ends, or the results cannot be written.
pub fn run(settings: &Settings) -> anyhow::Result<(Results, bool)> {
    let mut settings = settings.clone();
    settings.systems = vec![System::Oauthing];
    let owners = settings.levels(&[50], &[50]).first().copied().unwrap_or(50);
    let mut bench = settings.bench("soak", usize::try_from(SLICES)?)?;
    let sides = Sides::start(&settings, owners, &mut bench)?;
    let interval = if settings.quick { INTERVAL / 10 } else { INTERVAL };
    let pace = Pace::Open { interval, offset: Duration::ZERO };
    let exchange = Exchange { readings: Some(pace), commands: Some(pace), qos: QoS::AtLeastOnce };
    let plan = sides.plan(System::Oauthing, owners, &exchange)?;
    let mut engine = Engine::new(sides.place(System::Oauthing)?.target()?, plan)?;
    engine.connect(&settings.stop)?;
    engine.drive(settings.warm_up.min(Duration::from_secs(60)), &settings.stop)?;
    let meter = sides.meter(System::Oauthing)?;
    let slice = settings.time / SLICES;
    let mut cpu = meter.read()?;
    for number in 1..=SLICES {
        bench.show(&format!("slice {number} of {SLICES}"));
        engine.mark();
        engine.drive(slice, &settings.stop)?;
        if settings.stop.is_set() {
            break;
        }
        let outcome = engine.outcome();
        let checked = load::check(&outcome);
        let now = meter.read()?;
        let mut row = sides.row(System::Oauthing, 1, &settings)?;
        row.params.insert("owners".to_owned(), owners.into());
        row.params.insert("slice".to_owned(), number.into());
        row.params.insert("interval_ms".to_owned(), u64::try_from(interval.as_millis())?.into());
        row.latency("", &outcome.latency)
            .metric("per_second", float(outcome.counts.received) / outcome.seconds)
            .metric("seconds", outcome.seconds)
            .count("disordered", outcome.counts.disordered);
        now.since(&cpu).describe(&mut row);
        cpu = now;
        memory(&sides, &mut row)?;
        bench.step(System::Oauthing, "slice", checked.map(|()| vec![row]))?;
    }
    engine.drain(Duration::from_secs(5))?;
    let lost = engine.outcome().counts.lost;
    if let Some(row) = bench.results.rows.last_mut() {
        row.count("lost", lost);
    }
    engine.disconnect();
    let complete = bench.finish() && lost == 0;
    Ok((bench.results, complete))
}

/// Resident memory of each part, in bytes; of the PCMs the mean.
fn memory(sides: &Sides, row: &mut Row) -> anyhow::Result<()> {
    let stack = sides.stack()?;
    for (part, pid) in stack.services() {
        row.count(&format!("rss_{part}_bytes"), process::rss_bytes(pid)?);
    }
    let pcms = stack.pcms()?;
    let mut sum = 0;
    for pid in &pcms {
        sum += process::rss_bytes(*pid)?;
    }
    row.metric("rss_pcm_bytes", float(sum) / float(pcms.len() as u64));
    Ok(())
}
