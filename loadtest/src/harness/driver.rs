//! The driver: takes orders, drives an engine, streams what it measured.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use reqwest::{Client, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use super::{BEAT, HOLD, Hello, LOST, Order, Ready, Report, Welcome};
use crate::engine::{Engine, Plan, Stop, encode, histogram};
use crate::load::{self, Phases, Place};
use crate::process;

/// How long a driver looks for its manager, which may start after it.
const PATIENCE: Duration = Duration::from_secs(120);

/// How it talks to the manager.
struct Manager {
    http: Client,
    url: String,
    key: Option<String>,
    runtime: Runtime,
}

impl Manager {
    fn post<T: Serialize>(&self, path: &str, body: &T) -> reqwest::RequestBuilder {
        let request = self.http.post(format!("{}{path}", self.url)).json(body);
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    fn ask<T: Serialize, A: DeserializeOwned>(&self, path: &str, body: &T) -> anyhow::Result<A> {
        self.runtime.block_on(async {
            let answer = self.post(path, body).send().await.context("the manager")?;
            let answer = answer.error_for_status().context("the manager")?;
            answer.json().await.context("the manager's answer")
        })
    }

    /// Registers, as soon as the manager is there.
    fn register(&self, stop: &Stop) -> anyhow::Result<u64> {
        let hello = Hello {
            name: std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            open_files: process::raise_open_files()?,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.runtime.block_on(async { self.post("/v1/drivers", &hello).send().await });
            match answer {
                Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
                    anyhow::bail!("the manager wants another LOADTEST_KEY");
                }
                Ok(answer) if answer.status().is_success() => {
                    return Ok(self.runtime.block_on(answer.json::<Welcome>())?.id);
                }
                Ok(answer) => anyhow::bail!("the manager answers {}", answer.status()),
                Err(error) => {
                    ensure!(!stop.is_set(), "stopped");
                    ensure!(Instant::now() < deadline, "no manager at {}: {error}", self.url);
                    std::thread::sleep(Duration::from_millis(200));
                }
            }
        }
    }
}

/// Serves the manager at `url` until it says that all is done.
///
/// # Errors
/// No manager, or it goes away.
pub fn run(url: &str, key: Option<String>, stop: &Stop) -> anyhow::Result<()> {
    service::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let http = Client::builder().no_proxy().timeout(Duration::from_secs(HOLD + LOST)).build()?;
    let manager = Manager { http, url: url.trim_end_matches('/').to_owned(), key, runtime };
    let id = manager.register(stop)?;
    eprintln!("driver {id} of {url}");
    let beat = manager.post(&format!("/v1/drivers/{id}/alive"), &());
    let beats = manager.runtime.spawn(async move {
        let mut every = tokio::time::interval(Duration::from_secs(BEAT));
        loop {
            every.tick().await;
            // A beat that is lost is one of several; the order that is asked for next tells whether the manager is there.
            if let Some(beat) = beat.try_clone() {
                let _ = beat.send().await;
            }
        }
    });
    let ended = orders(&manager, id, stop);
    beats.abort();
    ended
}

/// A run whose clients are connected.
struct Prepared {
    run: u64,
    engine: Engine,
    phases: Phases,
}

fn orders(manager: &Manager, id: u64, stop: &Stop) -> anyhow::Result<()> {
    let mut prepared: Option<Prepared> = None;
    loop {
        ensure!(!stop.is_set(), "stopped");
        match manager.ask::<_, Order>(&format!("/v1/drivers/{id}/order"), &())? {
            Order::Wait => {}
            Order::End => return Ok(()),
            Order::Forget { run } => {
                if prepared.as_ref().is_some_and(|prepared| prepared.run == run) {
                    prepared = None;
                }
            }
            Order::Prepare { run, place, plan, phases } => {
                let outcome = connect(&place, *plan, phases, stop);
                let (connects, error) = match outcome {
                    Ok((engine, connects)) => {
                        prepared = Some(Prepared { run, engine, phases });
                        (connects, None)
                    }
                    Err(error) => (histogram(), Some(format!("{error:#}"))),
                };
                let ready = Ready { run, connects: encode(&connects)?, error };
                manager.ask::<_, ()>(&format!("/v1/drivers/{id}/ready"), &ready)?;
            }
            Order::Go { run } => {
                if let Some(prepared) = prepared.take_if(|prepared| prepared.run == run) {
                    let report = drive(manager, id, prepared, stop).unwrap_or_else(|error| Report {
                        run,
                        outcome: None,
                        load_cpu: 0.0,
                        last: true,
                        error: Some(format!("{error:#}")),
                    });
                    manager.ask::<_, ()>(&format!("/v1/drivers/{id}/report"), &report)?;
                }
            }
        }
    }
}

fn connect(
    place: &Place,
    plan: Plan,
    phases: Phases,
    stop: &Stop,
) -> anyhow::Result<(Engine, Histogram<u64>)> {
    phases.check()?;
    let mut engine = Engine::new(place.target()?, plan)?;
    let connects = engine.connect(stop)?;
    Ok((engine, connects))
}

/// Warm-up and measurement; what was measured so far is sent while it goes on.
fn drive(manager: &Manager, id: u64, prepared: Prepared, stop: &Stop) -> anyhow::Result<Report> {
    let Prepared { run, mut engine, phases } = prepared;
    engine.drive(phases.warm_up, stop)?;
    let own = std::process::id();
    let before = process::cpu_seconds(own)?;
    engine.mark();
    let beat = Duration::from_secs(BEAT);
    let mut left = phases.time;
    while left > beat && !stop.is_set() {
        engine.drive(beat, stop)?;
        left -= beat;
        let load_cpu = process::cpu_seconds(own)? - before;
        let report =
            Report { run, outcome: Some(engine.outcome().send()?), load_cpu, last: false, error: None };
        let report = manager.post(&format!("/v1/drivers/{id}/report"), &report);
        // One that is lost is made up for by the next, which says the same and more.
        drop(manager.runtime.spawn(async move { report.send().await }));
    }
    engine.drive(left, stop)?;
    let mut outcome = engine.outcome();
    let load_cpu = process::cpu_seconds(own)? - before;
    engine.drain(load::DRAIN)?;
    outcome.counts.lost = engine.outcome().counts.lost;
    engine.disconnect();
    Ok(Report { run, outcome: Some(outcome.send()?), load_cpu, last: true, error: None })
}
