//! What the steps of one CONNECT take, over the services, told to an OpenTelemetry collector (OTLP over HTTP, as JSON).
//!
//! Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector (`http://host:4318`; plain, so one on this machine or beside it). A trace
//! begins where [`root`] is called and goes on in other services by the `traceparent` header (W3C Trace Context). A span has its service, its
//! name, its times and nothing else: no attribute, so that none can name anybody. What the collector does not take in time is dropped.

use std::env;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CONTENT_TYPE, HOST, HeaderMap};
use http::{HeaderValue, Request, Uri};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

/// Header of W3C Trace Context.
pub const HEADER: &str = "traceparent";

/// Spans that wait for the collector; more are dropped.
const WAITING: usize = 1024;

/// Spans in one message.
const TOGETHER: usize = 256;

/// Time that the collector has for a message.
const PATIENCE: Duration = Duration::from_secs(5);

static COLLECTOR: OnceLock<Sender<Ended>> = OnceLock::new();

tokio::task_local! {
    static CURRENT: Place;
}

/// Which span of which trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    trace: u128,
    span: u64,
}

/// Which side of a call, in OTLP's numbers.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// A span that is over.
#[derive(Debug)]
struct Ended {
    name: &'static str,
    kind: Kind,
    place: Place,
    parent: Option<u64>,
    begun: SystemTime,
    ended: SystemTime,
}

/// Begins to tell, if the environment names a collector. Says what is wrong with it, if anything is.
pub(crate) fn init(service: &'static str) {
    let Ok(endpoint) = env::var("OTEL_EXPORTER_OTLP_ENDPOINT") else { return };
    if endpoint.is_empty() {
        return;
    }
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/')).parse::<Uri>();
    let Some(url) = url.ok().filter(|url| url.scheme_str() == Some("http") && url.authority().is_some())
    else {
        tracing::error!(event = "spans_not_told", error = "OTEL_EXPORTER_OTLP_ENDPOINT is no http URL");
        return;
    };
    let (sender, receiver) = channel(WAITING);
    if COLLECTOR.set(sender).is_ok() {
        // A thread of its own: whatever the collector does, nobody waits for it.
        let telling = std::thread::Builder::new().name("spans".to_owned()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(tell(service, &url, receiver)),
                Err(error) => tracing::error!(event = "spans_not_told", %error),
            }
        });
        if let Err(error) = telling {
            tracing::error!(event = "spans_not_told", %error);
        }
    }
}

/// The first span of a trace.
pub async fn root<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    if COLLECTOR.get().is_none() {
        return work.await;
    }
    within(name, Kind::Server, Place { trace: rand::random(), span: 0 }, work).await
}

/// A step of the trace that this task is in; without one it is only done.
pub async fn step<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    match CURRENT.try_with(|place| *place) {
        Ok(parent) => within(name, Kind::Internal, parent, work).await,
        Err(_) => work.await,
    }
}

/// A call of another service, which gets [`traceparent`] with it.
pub async fn call<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    match CURRENT.try_with(|place| *place) {
        Ok(parent) => within(name, Kind::Client, parent, work).await,
        Err(_) => work.await,
    }
}

/// The part of another service's trace that happens here, if the request says that it is in one.
pub async fn answer<T>(name: &'static str, headers: &HeaderMap, work: impl Future<Output = T>) -> T {
    let parent = headers.get(HEADER).and_then(|value| read(value.to_str().ok()?));
    match parent.filter(|_| COLLECTOR.get().is_some()) {
        Some(parent) => within(name, Kind::Server, parent, work).await,
        None => work.await,
    }
}

/// The header that tells another service where it is.
pub fn traceparent() -> Option<HeaderValue> {
    let place = CURRENT.try_with(|place| *place).ok()?;
    HeaderValue::from_str(&format!("00-{:032x}-{:016x}-01", place.trace, place.span)).ok()
}

/// `00-<trace>-<span>-<flags>` of a trace that is recorded.
fn read(header: &str) -> Option<Place> {
    let mut parts = header.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
    if version != "00" || parts.next().is_some() || !hex(trace, 32) || !hex(span, 16) || !hex(flags, 2) {
        return None;
    }
    let place =
        Place { trace: u128::from_str_radix(trace, 16).ok()?, span: u64::from_str_radix(span, 16).ok()? };
    let recorded = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    (recorded && place.trace != 0 && place.span != 0).then_some(place)
}

async fn within<T>(name: &'static str, kind: Kind, parent: Place, work: impl Future<Output = T>) -> T {
    let place = Place { span: rand::random::<u64>().max(1), ..parent };
    let begun = SystemTime::now();
    let done = CURRENT.scope(place, work).await;
    let parent = (parent.span != 0).then_some(parent.span);
    let ended = Ended { name, kind, place, parent, begun, ended: SystemTime::now() };
    if let Some(collector) = COLLECTOR.get()
        && collector.try_send(ended).is_err()
    {
        metrics::counter!("oauthing_spans_dropped_total").increment(1);
    }
    done
}

async fn tell(service: &'static str, url: &Uri, mut spans: Receiver<Ended>) {
    let mut together = Vec::new();
    let mut is_heard = true;
    while spans.recv_many(&mut together, TOGETHER).await > 0 {
        let count = together.len() as u64;
        let message = message(service, &together).to_string();
        together.clear();
        let told = timeout(PATIENCE, post(url, message)).await;
        let error = match told {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("time limit".to_owned()),
        };
        if let Some(error) = &error {
            metrics::counter!("oauthing_spans_dropped_total").increment(count);
            if is_heard {
                tracing::warn!(event = "spans_not_told", error);
            }
        }
        is_heard = error.is_none();
    }
}

async fn post(url: &Uri, message: String) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let authority = url.authority().ok_or("no authority")?;
    let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(url.path())
        .header(HOST, authority.as_str())
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(message)))?;
    let answered = async {
        let status = sender.send_request(request).await?.status();
        drop(sender);
        Ok::<_, hyper::Error>(status)
    };
    let (status, _) = tokio::join!(answered, connection);
    match status? {
        status if status.is_success() => Ok(()),
        status => Err(status.to_string().into()),
    }
}

/// `ExportTraceServiceRequest` as OTLP writes it in JSON: ids in hex, 64-bit numbers as text.
fn message(service: &'static str, spans: &[Ended]) -> Value {
    let nanos =
        |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()).to_string();
    let spans: Vec<Value> = spans
        .iter()
        .map(|span| {
            json!({
                "traceId": format!("{:032x}", span.place.trace),
                "spanId": format!("{:016x}", span.place.span),
                "parentSpanId": span.parent.map_or_else(String::new, |parent| format!("{parent:016x}")),
                "name": span.name,
                "kind": span.kind as u8,
                "startTimeUnixNano": nanos(span.begun),
                "endTimeUnixNano": nanos(span.ended),
            })
        })
        .collect();
    let name = json!({"key": "service.name", "value": {"stringValue": service}});
    json!({"resourceSpans": [{
        "resource": {"attributes": [name]},
        "scopeSpans": [{"scope": {"name": "oauthing"}, "spans": spans}],
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_w3c_writes_it() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let place = read(good).unwrap();
        assert_eq!(
            (place.trace, place.span),
            (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7)
        );
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e473+-00f067aa0ba902b7-01",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn without_a_collector_nothing_is_begun() {
        let seen = root("connect", async { step("inner", async { traceparent() }).await }).await;
        assert_eq!(seen, None);
    }

    #[tokio::test]
    async fn steps_know_their_parent_and_the_header_says_where_it_is() {
        let outer = Place { trace: 7, span: 9 };
        let header = CURRENT.scope(outer, call("introspect", async { traceparent() })).await.unwrap();
        let place = read(header.to_str().unwrap()).unwrap();
        assert_eq!(place.trace, 7);
        assert_ne!(place.span, 9);
    }

    #[test]
    fn a_message_has_times_names_and_ids_and_no_more() {
        let span = Ended {
            name: "connect",
            kind: Kind::Server,
            place: Place { trace: 1, span: 2 },
            parent: None,
            begun: UNIX_EPOCH + Duration::from_nanos(5),
            ended: UNIX_EPOCH + Duration::from_nanos(6),
        };
        let message = message("ignite", &[span]);
        let told = &message["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(told["traceId"], "00000000000000000000000000000001");
        assert_eq!((&told["startTimeUnixNano"], &told["endTimeUnixNano"]), (&json!("5"), &json!("6")));
        assert_eq!(told["attributes"], Value::Null);
    }
}
