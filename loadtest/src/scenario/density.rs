//! How many owners a host of 2 GB holds: what a PCM costs with two clients connected that have exchanged a message, everything
//! counted that grows with it, and what is left of 2 GB when nobody is there (issue C's formula).
//!
//! `(2 GB − what the services and the engine take at rest) ÷ (PSS of the PCM + kernel memory + its share of the shims' PSS + what the
//! services and the engine grew by)`. For containers the kernel memory is their cgroups'; for processes it is what the kernel's own
//! counters grew by, sockets of the load included.
//!
//! `devices_per_owner` is the paper's reading of its stress test: how many devices, each with one message a minute, an owner can have
//! when the host is full and everybody's messages get through.

use std::time::Duration;

use mqtt_wire::QoS;

use super::Settings;
use super::pairs::{Exchange, Sides};
use crate::brokers::System;
use crate::engine::{Engine, Pace};
use crate::load;
use crate::memory::{Kernel, Memory};
use crate::results::{Results, float};
use crate::stack::Runtime;

/// The paper's host.
const HOST: f64 = 2.0 * 1024.0 * 1024.0 * 1024.0;

/// Its price, US$ a month.
const PRICE: f64 = 20.0;

/// Runs the scenario.
///
/// # Errors
/// Something does not start, or the results cannot be written.
pub fn run(settings: &Settings) -> anyhow::Result<(Results, bool)> {
    let mut settings = settings.clone();
    settings.systems = vec![System::Oauthing];
    let owners = settings.levels(&[400], &[10]).first().copied().unwrap_or(400);
    let mut bench = settings.bench("density", settings.rounds)?;
    for round in 1..=settings.rounds {
        if settings.stop.is_set() {
            break;
        }
        let outcome = one(&settings, owners, round, &mut bench);
        bench.step(System::Oauthing, &format!("owners{owners}"), outcome.map(|row| vec![row]))?;
    }
    let complete = bench.finish();
    Ok((bench.results, complete))
}

fn one(
    settings: &Settings,
    owners: usize,
    round: usize,
    bench: &mut crate::bench::Bench,
) -> anyhow::Result<crate::results::Row> {
    // A system of its own, because every PCM must be new.
    let sides = Sides::start(settings, owners, bench)?;
    let stack = sides.stack()?;
    let pace = Pace::Once { messages: 1 };
    let exchange = Exchange { readings: Some(pace), commands: Some(pace), qos: QoS::AtMostOnce };
    let plan = sides.plan(System::Oauthing, owners, &exchange)?;
    let rest = Memory::of(stack)?;
    let kernel_rest = Kernel::now()?;
    let mut engine = Engine::new(sides.place(System::Oauthing)?.target()?, plan)?;
    engine.connect(&settings.stop)?;
    for _ in 0..200 {
        engine.drive(Duration::from_millis(50), &settings.stop)?;
        if engine.is_done() {
            break;
        }
    }
    anyhow::ensure!(engine.is_done(), "not every message arrived");
    // What was only needed for starting is given back by then.
    engine.drive(Duration::from_secs(2), &settings.stop)?;
    let full = Memory::of(stack)?;
    let kernel = match settings.runtime {
        Runtime::Docker => full.pcm_kernel,
        Runtime::Process => Kernel::now()?.since(&kernel_rest),
    };
    engine.disconnect();
    let rate = rate(settings, &sides, owners)?;
    let count = float(full.pcms);
    anyhow::ensure!(full.pcms >= owners as u64, "{} PCMs run for {owners} owners", full.pcms);
    let pcm = full.pcm_pss / count;
    let kernel = kernel / count;
    let shims = (full.shims - rest.shims).max(0.0) / count;
    let growth = (full.services() - rest.services()).max(0.0) / count;
    let each = pcm + kernel + shims + growth;
    let fit = (HOST - rest.services()) / each;
    let mut row = sides.row(System::Oauthing, round, settings)?;
    row.params.remove("warm_up_ms");
    row.params.insert("owners".to_owned(), owners.into());
    row.params.insert("swap".to_owned(), Kernel::has_swap().into());
    row.metric("bytes_each", each)
        .metric("pss_bytes_each", pcm)
        .metric("kernel_bytes_each", kernel)
        .metric("shim_bytes_each", shims)
        .metric("services_growth_bytes_each", growth)
        .metric("services_rest_bytes", rest.services())
        .metric("swap_bytes_each", full.pcm_swap / count)
        .metric("owners_per_2gb", fit)
        .metric("usd_per_owner_month", PRICE / fit)
        .metric("per_second", rate)
        .metric("devices_per_owner", rate * 60.0 / fit);
    Ok(row)
}

/// What all owners together get through, one message in flight each, in messages a second.
fn rate(settings: &Settings, sides: &Sides, owners: usize) -> anyhow::Result<f64> {
    let readings = Some(Pace::Closed { window: 1 });
    let exchange = Exchange { readings, commands: None, qos: QoS::AtMostOnce };
    let plan = sides.plan(System::Oauthing, owners, &exchange)?;
    let place = sides.place(System::Oauthing)?;
    let meter = &mut || sides.meter(System::Oauthing);
    let measured = load::drive(&place, plan, settings.phases(), &settings.stop, meter)?;
    Ok(float(measured.outcome.counts.received) / measured.outcome.seconds)
}
