//! Refreshing: how many token pairs a second the DIdP gives out, to apps over HTTP and to devices over MQTT. Every answer's refresh
//! token is the next request's, as a client in the field has it, and each is durable when it is answered.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::Settings;
use super::pairs::provision;
use super::register::didp_row;
use crate::brokers::System;
use crate::engine::{Stop, histogram};
use crate::http_load::{Requests, post};
use crate::load::Phases;
use crate::process;
use crate::results::{Results, Row, float, params};
use crate::stack::Stack;
use crate::stack::provision::Household;

/// Clients of each kind, each with one request under way.
const CLIENTS: usize = 32;

/// Requests that a device makes on one connection: the DIdP takes 30 at once and two a second after that, and a device in the field
/// leaves after one. Its next connection, handshake and login are part of the rate, not of a request's latency.
const EACH_CONNECTION: u32 = 25;

/// An app that refreshes its grant over and over.
struct Refreshing {
    authorization: String,
    refresh_token: String,
}

#[derive(Deserialize)]
struct Pair {
    refresh_token: String,
}

impl Requests for Refreshing {
    fn next(&mut self, out: &mut Vec<u8>) {
        let form = format!("grant_type=refresh_token&refresh_token={}", self.refresh_token);
        post(out, "/token", &self.authorization, "application/x-www-form-urlencoded", form.as_bytes());
    }

    fn answered(&mut self, status: u16, body: &[u8]) -> anyhow::Result<u64> {
        anyhow::ensure!(
            status == 200,
            "a refresh is answered with {status}: {}",
            String::from_utf8_lossy(body)
        );
        self.refresh_token = serde_json::from_slice::<Pair>(body).context("a token response")?.refresh_token;
        Ok(1)
    }
}

/// Runs the scenario.
///
/// # Errors
/// Something does not start, or the results cannot be written.
pub fn run(settings: &Settings) -> anyhow::Result<(Results, bool)> {
    let doors: Vec<&str> = ["http", "mqtt"].into_iter().filter(|door| settings.wants(door)).collect();
    anyhow::ensure!(!doors.is_empty(), "no case has such a label");
    let clients = settings.levels(&[CLIENTS], &[CLIENTS]).first().copied().unwrap_or(CLIENTS);
    let mut bench = settings.bench("token", doors.len() * settings.rounds)?;
    bench.show("starting the system");
    let stack = Stack::start(&settings.programs, settings.stack(clients))?;
    let mut households = provision(&stack, clients, &mut bench)?;
    // Rounds of both doors alternate, as rounds of systems do elsewhere.
    'rounds: for round in 1..=settings.rounds {
        for door in &doors {
            if settings.stop.is_set() {
                break 'rounds;
            }
            bench.show(&format!("{door}, round {round}"));
            let outcome = match *door {
                "http" => over_http(settings, &stack, &mut households),
                _ => over_mqtt(settings, &stack, &mut households),
            };
            let rows = outcome.map(|mut row| {
                row.params.extend(params([
                    ("door", (*door).into()),
                    ("clients", clients.into()),
                    ("round", round.into()),
                ]));
                vec![row]
            });
            bench.step(System::Oauthing, door, rows)?;
        }
    }
    let complete = bench.finish();
    Ok((bench.results, complete))
}

fn over_http(settings: &Settings, stack: &Stack, households: &mut [Household]) -> anyhow::Result<Row> {
    // The line of each grant goes on from round to round, so the last token of a round has to come back.
    let (sender, last) = std::sync::mpsc::channel();
    let loops = households
        .iter()
        .enumerate()
        .map(|(number, household)| {
            let pair = format!("{}:{}", household.app_id, household.app_secret);
            let inner = Refreshing {
                authorization: format!("Basic {}", STANDARD.encode(pair)),
                refresh_token: household.app_tokens.refresh_token.clone(),
            };
            Box::new(Told { number, inner, sender: sender.clone() }) as Box<dyn Requests>
        })
        .collect();
    drop(sender);
    let row = didp_row(settings, stack, loops);
    for (number, token) in last {
        if let Some(household) = households.get_mut(number) {
            household.app_tokens.refresh_token = token;
        }
    }
    row
}

/// Tells its last refresh token when it ends.
struct Told {
    number: usize,
    inner: Refreshing,
    sender: std::sync::mpsc::Sender<(usize, String)>,
}

impl Requests for Told {
    fn next(&mut self, out: &mut Vec<u8>) {
        self.inner.next(out);
    }

    fn answered(&mut self, status: u16, body: &[u8]) -> anyhow::Result<u64> {
        self.inner.answered(status, body)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        // Whoever started the loops is gone if nobody listens.
        let _ = self.sender.send((self.number, std::mem::take(&mut self.inner.refresh_token)));
    }
}

fn over_mqtt(settings: &Settings, stack: &Stack, households: &mut [Household]) -> anyhow::Result<Row> {
    let meter = stack.didp_meter();
    let own = std::process::id();
    let phases = settings.phases();
    let mut cpu = Vec::new();
    let times = stack.wait(async {
        let start = Instant::now();
        let loops = households.iter_mut().map(|household| refresh_loop(household, phases, &settings.stop));
        let all = futures_util::future::try_join_all(loops);
        let readings = async {
            for moment in [phases.warm_up, phases.warm_up + phases.time] {
                tokio::time::sleep_until((start + moment).into()).await;
                cpu.push((meter.read()?, process::cpu_seconds(own)?));
            }
            anyhow::Ok(())
        };
        let (times, ()) = tokio::try_join!(all, readings)?;
        anyhow::Ok(times)
    })?;
    let mut latency = histogram();
    for time in times.into_iter().flatten() {
        latency.saturating_record(time);
    }
    anyhow::ensure!(!latency.is_empty(), "nothing was answered in time");
    let warm_up = u64::try_from(phases.warm_up.as_millis())?;
    let mut row = Row::new(System::Oauthing, params([("warm_up_ms", warm_up.into())]));
    row.latency("", &latency)
        .metric("per_second", float(latency.len()) / phases.time.as_secs_f64())
        .metric("seconds", phases.time.as_secs_f64())
        .count("rss_didp_bytes", process::rss_bytes(stack.didp_id())?);
    if let [(before, load_before), (after, load_after)] = cpu.as_slice() {
        after.since(before).describe(&mut row);
        row.metric("load_cpu_seconds", load_after - load_before);
    }
    Ok(row)
}

/// One device's loop; how long each refresh took that was answered in time, in nanoseconds.
async fn refresh_loop(household: &mut Household, phases: Phases, stop: &Stop) -> anyhow::Result<Vec<u64>> {
    let start = Instant::now();
    let mut waiting = household.device.wait().await.context("a device at the DIdP")?;
    let (from, until): (Duration, Duration) = (phases.warm_up, phases.warm_up + phases.time);
    let mut times = Vec::new();
    let mut requests = 0;
    while start.elapsed() < until && !stop.is_set() {
        if requests == EACH_CONNECTION {
            waiting = household.device.wait().await.context("a device at the DIdP")?;
            requests = 0;
        }
        requests += 1;
        let asked = Instant::now();
        let tokens = waiting
            .refresh(&household.device_tokens.refresh_token)
            .await?
            .map_err(|error| anyhow::anyhow!("a device's refresh is answered with {error}"))?;
        household.device_tokens = tokens;
        let now = start.elapsed();
        if now >= from && now < until {
            times.push(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1));
        }
    }
    Ok(times)
}
