//! Structured logs on standard error, and a count of what they say.
//!
//! `OAUTHING_LOG` filters (default `info`), `OAUTHING_LOG_FORMAT` is `text` (default) or `json`. What is logged never holds a
//! secret, a token, an address of a device or anything that names a person: that is the duty of whoever logs. Each `event` is a
//! stable name (`docs/logging.md`); `oauthing_events_total` counts them, so that whatever is worth a line is worth an alarm.

use std::fmt::Debug;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

/// Libraries that write what they carry into their lines below `info`: tokens and values of others. Nothing turns that on.
const CARRIERS: [&str; 6] = ["tungstenite", "tokio_tungstenite", "hyper", "hyper_util", "h2", "rustls"];

/// Longest name of an event.
const LONGEST: usize = 64;

/// Installs the subscriber; a second call in one process changes nothing.
pub fn init(service: &'static str) {
    let filter = EnvFilter::try_from_env("OAUTHING_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let json = std::env::var("OAUTHING_LOG_FORMAT").is_ok_and(|format| format == "json");
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // Whoever read the log may be gone; saying so on the same closed stream would panic in the task that logged.
        .log_internal_errors(false);
    let lines = if json {
        lines.json().with_current_span(false).flatten_event(true).boxed()
    } else {
        lines.with_target(false).boxed()
    };
    let installed =
        tracing_subscriber::registry().with(filter).with(Discreet).with(lines).with(Count).try_init();
    if installed.is_ok() {
        tracing::debug!(event = "telemetry_ready", service);
        crate::spans::init(service);
    }
}

/// Leaves out what [`CARRIERS`] would say, whatever the filter asks for.
struct Discreet;

impl<S: Subscriber> Layer<S> for Discreet {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let library = metadata.target().split("::").next().unwrap_or_default();
        *metadata.level() <= Level::INFO || !CARRIERS.contains(&library)
    }
}

/// Counts events that have a name.
struct Count;

impl<S: Subscriber> Layer<S> for Count {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut name = Name(None);
        event.record(&mut name);
        if let Some(name) = name.0 {
            let level = level(*event.metadata().level());
            metrics::counter!("oauthing_events_total", "event" => name, "level" => level).increment(1);
        }
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The field `event`, if it is a text.
struct Name(Option<String>);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "event" && value.len() <= LONGEST {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_writes_what_it_carries_is_not_heard_below_info() {
        let said = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let into = std::sync::Arc::clone(&said);
        let writer = move || Into(std::sync::Arc::clone(&into));
        let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
        let filter = EnvFilter::new("trace,tungstenite::protocol=trace");
        let subscriber = tracing_subscriber::registry().with(filter).with(Discreet).with(lines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "tungstenite::protocol", "Received message a-token");
            tracing::debug!(target: "hyper::proto::h1", "a-header");
            tracing::warn!(target: "rustls::conn", "a-warning");
            tracing::trace!(target: "ignite::session", "our-own");
        });
        let said = String::from_utf8(said.lock().unwrap().clone()).unwrap();
        assert!(said.contains("a-warning") && said.contains("our-own"), "{said}");
        assert!(!said.contains("a-token") && !said.contains("a-header"), "{said}");
    }

    struct Into(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Into {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn events_are_counted_by_their_name_alone() {
        crate::metrics::install().unwrap();
        let subscriber = tracing_subscriber::registry().with(Count);
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..2 {
                tracing::warn!(event = "token_replayed_in_a_test", client = "of somebody");
            }
            tracing::info!("a line without a name");
        });
        let text = crate::metrics::render();
        let line = "oauthing_events_total{event=\"token_replayed_in_a_test\",level=\"warn\"} 2";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("somebody"), "{text}");
    }
}
