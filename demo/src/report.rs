//! What the automatic run prints: one line a step, or one JSON document at the end.

use std::future::Future;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Steps as they are made, and what was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether everything held.
    pub(crate) ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<String>,
    /// All of it.
    pub(crate) total_ms: f64,
    /// What was measured on the way.
    pub(crate) measured: Measured,
    steps: Vec<Step>,
    #[serde(skip)]
    quiet: bool,
    #[serde(skip)]
    started: Instant,
}

/// Milliseconds, unless said otherwise.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Measured {
    /// From TCP connect to CONNACK, the first connection of an owner: the PCM is launched.
    pub(crate) connect_cold_ms: Option<f64>,
    /// The same while the owner's PCM runs; median of several.
    pub(crate) connect_running_ms: Option<f64>,
    /// From opening the consent page to the first reading at the app: login page, consent, redirect, token, connect, subscribe,
    /// and one message of a device that has something to say at once.
    pub(crate) consent_to_first_reading_ms: Option<f64>,
    /// The same with a thermostat, which measures once a second.
    pub(crate) consent_to_first_thermostat_reading_ms: Option<f64>,
    /// From the press on "withdraw" to the end of the app's session.
    pub(crate) revocation_ms: Option<f64>,
    /// Device (MQTT over TLS) to app (WebSocket), from the start of publishing to receipt.
    pub(crate) latency_device_to_app: Option<Latency>,
    /// App (WebSocket) to device (MQTT over TLS).
    pub(crate) latency_app_to_device: Option<Latency>,
}

/// Latency of single messages.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Latency {
    /// How many were sent, one after the other.
    pub(crate) messages: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latency {
    /// From microseconds.
    pub(crate) fn of(microseconds: &Histogram<u64>) -> Self {
        let ms = |microseconds: u64| microseconds as f64 / 1_000.0;
        Self {
            messages: microseconds.len(),
            p50_ms: ms(microseconds.value_at_quantile(0.5)),
            p99_ms: ms(microseconds.value_at_quantile(0.99)),
            max_ms: ms(microseconds.max()),
        }
    }
}

#[derive(Debug, Serialize)]
struct Step {
    name: String,
    ms: f64,
    ok: bool,
}

impl Report {
    /// Nothing happened yet; a quiet one prints nothing.
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            ok: false,
            failure: None,
            total_ms: 0.0,
            measured: Measured::default(),
            steps: Vec::new(),
            quiet,
            started: Instant::now(),
        }
    }

    /// Makes a step and prints how long it took, also if it fails.
    pub(crate) async fn step<T>(
        &mut self,
        name: &str,
        step: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let started = Instant::now();
        let done = Box::pin(step).await;
        let ms = milliseconds(started.elapsed());
        if !self.quiet {
            let mark = if done.is_ok() { "✓" } else { "✗" };
            println!("  {mark} {ms:>7.0} ms  {name}");
        }
        self.steps.push(Step { name: name.to_owned(), ms, ok: done.is_ok() });
        done
    }

    /// Prints a heading.
    pub(crate) fn chapter(&self, title: &str) {
        if !self.quiet {
            println!("\n{title}");
        }
    }

    /// Ends the run with this result and prints the summary.
    pub(crate) fn finish(&mut self, result: &anyhow::Result<()>) {
        self.total_ms = milliseconds(self.started.elapsed());
        self.ok = result.is_ok();
        self.failure = result.as_ref().err().map(|error| format!("{error:#}"));
        if self.quiet {
            match serde_json::to_string_pretty(self) {
                Ok(json) => println!("{json}"),
                Err(error) => eprintln!("{error}"),
            }
            return;
        }
        self.print_measured();
        match &self.failure {
            None => println!("\nAll of it held, in {:.1} s.", self.total_ms / 1_000.0),
            Some(failure) => println!("\nFailed after {:.1} s: {failure}", self.total_ms / 1_000.0),
        }
    }

    fn print_measured(&self) {
        let measured = &self.measured;
        println!("\nMeasured");
        let line = |name: &str, value: Option<f64>| {
            if let Some(ms) = value {
                println!("    {ms:>7.1} ms  {name}");
            }
        };
        line("connect, the owner's broker not launched yet", measured.connect_cold_ms);
        line("connect, the owner's broker running", measured.connect_running_ms);
        line("from consent to the first reading", measured.consent_to_first_reading_ms);
        let thermostat = measured.consent_to_first_thermostat_reading_ms;
        line("the same with a thermostat, which measures once a second", thermostat);
        line("from withdrawal to the end of the session", measured.revocation_ms);
        let latencies = [
            ("device to app", measured.latency_device_to_app),
            ("app to device", measured.latency_app_to_device),
        ];
        for (name, latency) in latencies {
            if let Some(Latency { messages, p50_ms, p99_ms, max_ms }) = latency {
                println!(
                    "    {p50_ms:>7.2} ms  {name}: half of {messages} messages; 99 %: {p99_ms:.2} ms, longest: {max_ms:.2} ms"
                );
            }
        }
    }
}

/// With fractions.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}
