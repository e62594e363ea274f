//! Metrics in Prometheus' text format, on a listener of their own.
//!
//! Names follow Prometheus' conventions: `oauthing_` and the service's own prefix, base units, `_total` for counters. No label names a
//! person, a device, an app or an owner: labels are routes, results, kinds. Without a listener nothing is recorded, and counting
//! costs a load of a static.

use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::get;
use http::Method;
use http::header::CONTENT_TYPE;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::Shutdown;
use crate::net::{Admission, Listener};

/// Upper bounds of everything that ends in `_seconds`.
const SECONDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How often samples are folded into their buckets when nobody asks.
const UPKEEP: Duration = Duration::from_secs(5);

/// Scrapers at once.
const SCRAPERS: usize = 16;

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Makes this process record. A second call finds the recorder of the first one.
///
/// # Errors
/// Another recorder is installed already.
pub fn install() -> io::Result<()> {
    if RECORDER.get().is_some() {
        return Ok(());
    }
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .map_err(io::Error::other)?;
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| io::Error::other("metrics are recorded already"))?;
    let _ = RECORDER.set(handle);
    Ok(())
}

/// What a scraper gets now; empty before [`install`].
#[must_use]
pub fn render() -> String {
    match RECORDER.get() {
        Some(recorder) => {
            process();
            recorder.render()
        }
        None => String::new(),
    }
}

/// Counts itself in a gauge as long as it lives.
#[derive(Debug)]
pub struct Held(&'static str);

impl Held {
    /// One more of `gauge`.
    #[must_use]
    pub fn new(gauge: &'static str) -> Self {
        metrics::gauge!(gauge).increment(1.0);
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        metrics::gauge!(self.0).decrement(1.0);
    }
}

/// Says of what `label` names whether it `is` so, as 1 or 0.
pub fn flag(gauge: &'static str, label: &'static str, of: &str, is: bool) {
    metrics::gauge!(gauge, label => of.to_owned()).set(f64::from(u8::from(is)));
}

/// Times what ends in a histogram of this name, if anybody records.
pub fn timed(histogram: &'static str, begun: Instant) {
    metrics::histogram!(histogram).record(begun.elapsed());
}

/// Sets a gauge.
pub fn level(gauge: &'static str, to: u64) {
    metrics::gauge!(gauge).set(to as f64);
}

/// Sets the gauge of what `label` says.
pub fn level_of(gauge: &'static str, (label, of): (&'static str, &'static str), to: u64) {
    metrics::gauge!(gauge, label => of).set(to as f64);
}

/// Answers `GET /metrics` until `shutdown` begins, each time after `look`, which sets what is only known by looking.
///
/// # Errors
/// As [`install`].
pub async fn serve<L, F>(listener: Listener, shutdown: Shutdown, look: L) -> io::Result<()>
where
    L: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    install()?;
    shutdown.spawn(upkeep(shutdown.clone()));
    let answer = || async move {
        look().await;
        ([(CONTENT_TYPE, "text/plain; version=0.0.4")], render())
    };
    let router = Router::new().route("/metrics", get(answer));
    crate::http::serve(listener, router, Admission::new(SCRAPERS, SCRAPERS), shutdown).await;
    Ok(())
}

async fn upkeep(shutdown: Shutdown) {
    let mut every = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            () = shutdown.begun() => return,
            _ = every.tick() => {
                if let Some(recorder) = RECORDER.get() {
                    recorder.run_upkeep();
                }
            }
        }
    }
}

/// Counts each request by route, method and status, and its time by route.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = method(request.method());
    let begun = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_str().to_owned();
    metrics::histogram!("oauthing_http_request_duration_seconds", "route" => route.clone())
        .record(begun.elapsed());
    metrics::counter!("oauthing_http_requests_total", "route" => route, "method" => method, "status" => status)
        .increment(1);
    response
}

/// A method as a label: whoever asks must not choose how many there are.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The process's own figures, as Prometheus' client libraries name them; those that the system does not tell are left out.
fn process() {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).ok();
    if let Some(bytes) = read("status").as_deref().and_then(resident_bytes) {
        metrics::gauge!("process_resident_memory_bytes").set(bytes);
    }
    if let Some(seconds) = read("stat").as_deref().and_then(cpu_seconds) {
        metrics::gauge!("process_cpu_seconds_total").set(seconds);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        // The directory itself is open while it is counted.
        let open = u32::try_from(files.count().saturating_sub(1)).unwrap_or(u32::MAX);
        metrics::gauge!("process_open_fds").set(f64::from(open));
    }
}

/// `VmRSS` of `/proc/PID/status`.
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

/// User and system time of `/proc/PID/stat`, which Linux gives in hundredths of a second (proc(5), fields 14 and 15).
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is the program's name in brackets, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(address: std::net::SocketAddr, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn requests_are_counted_by_route_and_never_by_what_stands_in_the_path() {
        let (shutdown, admission) = (Shutdown::new(), Admission::new(8, 8));
        let scraped = Listener::bind("127.0.0.1:0").await.unwrap();
        let metrics_at = scraped.local_addr().unwrap();
        install().unwrap();
        tokio::spawn(serve(scraped, shutdown.clone(), || async { level("looked", 7) }));
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/r/{code}", get(|| async { "" }));
        tokio::spawn(crate::http::serve(listener, router, admission, shutdown.clone()));
        assert_eq!(ask(address, "/r/a-code-of-somebody").await.0, 200);
        assert_eq!(ask(address, "/not-there-at-all").await.0, 404);

        let (status, text) = ask(metrics_at, "/metrics").await;
        assert_eq!(status, 200);
        let line = "oauthing_http_requests_total{route=\"/r/{code}\",method=\"GET\",status=\"200\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("oauthing_http_request_duration_seconds_bucket{route=\"/r/{code}\",le=\"0.001\"}")
        );
        assert!(text.contains("process_resident_memory_bytes"), "{text}");
        assert!(text.contains("\nlooked 7\n"), "{text}");
        assert!(!text.contains("somebody") && !text.contains("not-there"), "{text}");
        shutdown.begin();
    }
}
