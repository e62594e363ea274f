//! Structured logs on standard error.
//!
//! `OAUTHING_LOG` filters (default `info`), `OAUTHING_LOG_FORMAT` is `text` (default) or `json`. What is logged never holds a
//! secret, a token, an address of a device or anything that names a person: that is the duty of whoever logs.

use tracing_subscriber::EnvFilter;

/// Installs the subscriber; a second call in one process changes nothing.
pub fn init(service: &'static str) {
    let filter = EnvFilter::try_from_env("OAUTHING_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let json = std::env::var("OAUTHING_LOG_FORMAT").is_ok_and(|format| format == "json");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // Whoever read the log may be gone; saying so on the same closed stream would panic in the task that logged.
        .log_internal_errors(false);
    let installed = if json {
        builder.json().with_current_span(false).flatten_event(true).try_init()
    } else {
        builder.with_target(false).try_init()
    };
    if installed.is_ok() {
        tracing::debug!(event = "telemetry_ready", service);
    }
}
