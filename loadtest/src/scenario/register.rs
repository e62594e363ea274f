//! Figure 14: how many devices a second the DIdP registers, one by one and in batches, by the iterations of the hash of their
//! secrets. Each registration is durable when it is answered. There is no baseline: Mosquitto registers nobody.

use serde_json::{Value, json};
use testkit::device;

use super::Settings;
use crate::brokers::System;
use crate::http_load::{self, Requests, post};
use crate::process;
use crate::results::{Results, Row, params};
use crate::stack::{Options, Stack};

/// Connections of the manufacturer, each with one request under way.
const CONNECTIONS: usize = 16;

/// Devices in a batch.
const BATCH: usize = 100;

/// A factory's connection.
struct Factory {
    body: Vec<u8>,
    path: &'static str,
    authorization: String,
    devices: u64,
}

impl Requests for Factory {
    fn next(&mut self, out: &mut Vec<u8>) {
        post(out, self.path, &self.authorization, "application/json", &self.body);
    }

    fn answered(&mut self, status: u16, body: &[u8]) -> anyhow::Result<u64> {
        anyhow::ensure!(
            status == 201,
            "registration is answered with {status}: {}",
            String::from_utf8_lossy(body)
        );
        Ok(self.devices)
    }
}

/// Runs the scenario.
///
/// # Errors
/// Something does not start, or the results cannot be written.
pub fn run(settings: &Settings) -> anyhow::Result<(Results, bool)> {
    let all: &[u32] = if settings.quick { &[1_000] } else { &[1, 1_000, 25_000, 600_000] };
    let iterations: Vec<u32> =
        all.iter().copied().filter(|number| settings.wants(&format!("iterations{number}-"))).collect();
    anyhow::ensure!(!iterations.is_empty(), "no case has such a label");
    let steps = iterations.len() * 2 * settings.rounds;
    let mut bench = settings.bench("register", steps)?;
    for iterations in iterations {
        let options = Options { iterations: Some(iterations), ..settings.stack(1) };
        bench.show("starting the system");
        let stack = Stack::start(&settings.programs, options)?;
        for batch in [1, BATCH] {
            let label = format!("iterations{iterations}-batch{batch}");
            let one = |_: System, (): &(), round: usize| {
                let mut row = register(settings, &stack, batch)?;
                row.params.extend(params([
                    ("iterations", iterations.into()),
                    ("batch", batch.into()),
                    ("connections", CONNECTIONS.into()),
                    ("round", round.into()),
                ]));
                Ok(vec![row])
            };
            if !bench.interleave(&[System::Oauthing], settings.rounds, &(), &label, one)? {
                break;
            }
        }
        if settings.stop.is_set() {
            break;
        }
    }
    let complete = bench.finish();
    Ok((bench.results, complete))
}

fn register(settings: &Settings, stack: &Stack, batch: usize) -> anyhow::Result<Row> {
    let token = stack.deployment.secrets.read("factory/initial-access-token")?;
    let metadata = device::thermostat();
    let (path, body) = match batch {
        1 => ("/register", metadata),
        _ => ("/register/batch", Value::Array(vec![metadata; batch])),
    };
    let body = serde_json::to_vec(&body)?;
    let loops = (0..CONNECTIONS)
        .map(|_| {
            let factory = Factory {
                body: body.clone(),
                path,
                authorization: format!("Bearer {token}"),
                devices: batch as u64,
            };
            Box::new(factory) as Box<dyn Requests>
        })
        .collect();
    didp_row(settings, stack, loops)
}

/// One closed loop at the DIdP as a row: rate, latency, CPU time of the DIdP and of the load.
///
/// # Errors
/// The load fails.
pub(super) fn didp_row(
    settings: &Settings,
    stack: &Stack,
    loops: Vec<Box<dyn Requests>>,
) -> anyhow::Result<Row> {
    let address = std::net::SocketAddr::new(stack.options.bind, stack.deployment.ports.didp_http);
    let meter = stack.didp_meter();
    let own = std::process::id();
    let mut readings = Vec::new();
    let answers = http_load::run(address, loops, settings.phases(), &settings.stop, |_| {
        readings.push((meter.read()?, process::cpu_seconds(own)?));
        Ok(())
    })?;
    let mut row =
        Row::new(System::Oauthing, params([("warm_up_ms", json!(settings.warm_up.as_millis() as u64))]));
    row.latency("", &answers.latency)
        .metric("per_second", crate::results::float(answers.done) / answers.seconds)
        .metric("seconds", answers.seconds)
        .count("rss_didp_bytes", process::rss_bytes(stack.didp_id())?);
    if let [(before, load_before), (after, load_after)] = readings.as_slice() {
        after.since(before).describe(&mut row);
        row.metric("load_cpu_seconds", load_after - load_before);
    }
    Ok(row)
}
