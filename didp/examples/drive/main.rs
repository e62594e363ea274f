//! Drives one API of a running DIdP and says how many answers a second came, and how late; or what its memory is with so many
//! devices connected:
//!
//! ```text
//! cargo run --release -p didp --example drive -- introspect --credentials credentials.jsonl --secret ignite=…
//! cargo run --release -p didp --example drive -- register --token … [--batch 500]
//! cargo run --release -p didp --example drive -- refresh --credentials credentials.jsonl
//! cargo run --release -p didp --example drive -- refresh --mqtt 127.0.0.1:1884 --connections 2000 --credentials credentials.jsonl
//! cargo run --release -p didp --example drive -- hold --mqtt 127.0.0.1:8884 --tls tls.crt --pid … --connections 4000 --credentials …
//! ```
//!
//! One thread, plain sockets, each connection waits for its answer: what the client costs is little. `loadtest run` measures the
//! same with the paper's methods; this is for a quick look.

mod http;
mod mqtt;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use serde_json::Value;

#[derive(Parser)]
struct Arguments {
    what: What,
    /// What `seed` wrote.
    #[arg(long)]
    credentials: Option<PathBuf>,
    /// `name=secret` of a gateway; several are taken in turn.
    #[arg(long)]
    secret: Vec<String>,
    /// An initial access token.
    #[arg(long, default_value = "")]
    token: String,
    /// Devices in one registration.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Where HTTP is.
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: String,
    /// Where MQTT is; refreshes go there.
    #[arg(long)]
    mqtt: Option<String>,
    /// MQTT is over TLS, with a certificate of the authority in this PEM file.
    #[arg(long)]
    tls: Option<PathBuf>,
    /// The server's name in that certificate.
    #[arg(long, default_value = "localhost")]
    name: String,
    /// The DIdP's process, to look at its memory.
    #[arg(long)]
    pid: Option<u32>,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests under way at once over MQTT, where many connections are held.
    #[arg(long, default_value_t = 64)]
    at_once: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    Introspect,
    Register,
    Refresh,
    Hold,
}

impl Arguments {
    /// Lines of the credentials; with `devices`, only those of devices.
    fn lines(&self, devices: bool) -> anyhow::Result<Vec<Value>> {
        let Some(file) = &self.credentials else { return Ok(Vec::new()) };
        let lines: Vec<Value> =
            std::fs::read_to_string(file)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        Ok(lines.into_iter().filter(|line| !devices || line["kind"] == "device").collect())
    }
}

/// Microseconds that each answer took.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<Vec<u32>>>);

impl Times {
    fn add(&self, mut some: Vec<u32>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).append(&mut some);
    }

    /// Tells them; each stands for so many.
    fn tell(&self, took: Duration, each: usize) -> anyhow::Result<()> {
        let mut times = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        ensure!(!times.is_empty(), "nothing was answered");
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
        let took = took.as_secs_f64();
        println!(
            "{:.0}/s over {took:.1} s ({} requests); ms: p50 {:.2}, p99 {:.2}, p99.9 {:.2}, most {:.2}",
            (times.len() * each) as f64 / took,
            times.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0)
        );
        Ok(())
    }
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

fn text<'a>(line: &'a Value, name: &str) -> &'a str {
    line[name].as_str().unwrap_or_default()
}

/// kB of a process that are in memory.
fn resident(pid: u32) -> anyhow::Result<i64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no such process")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match (arguments.what, &arguments.mqtt) {
        (What::Hold, _) => mqtt::hold(&arguments).await?,
        (What::Refresh, Some(_)) => mqtt::refresh(&arguments).await?,
        (What::Refresh, None) => http::run(&arguments, http::Api::Refresh).await?,
        (What::Introspect, _) => http::run(&arguments, http::Api::Introspect).await?,
        (What::Register, _) => http::run(&arguments, http::Api::Register).await?,
    }
    if let Some(pid) = arguments.pid {
        println!("{} kB in memory", resident(pid)?);
    }
    Ok(())
}
