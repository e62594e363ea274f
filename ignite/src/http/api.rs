//! The HTTP API: `Authorization: Bearer` only (RFC 6750 §2.1), answers and errors in JSON.
//!
//! Everything but the list of devices goes through an MQTT session of its own ([`super::client`]), and so through the same
//! policy as any client.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use futures_util::stream;
use mqtt_wire::{
    Ack, Filters, Packet, Properties, Publish, QoS, ReasonCode, RetainHandling, Subscribe, Subscription,
};
use oauth_wire::Channel;
use serde_json::{Value, json};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::client::{Client, decode};
use crate::cause::Cause;
use crate::gateway::{Gateway, Token};
use crate::policy::grant::{AppRole, Role};

/// Time for a value or an acknowledgement.
pub(super) const ANSWER: Duration = Duration::from_secs(10);
/// How often an event stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Seconds for which an event stream that was lost can be gone on with.
const RESUMABLE: u32 = 60;
/// What the client ids of event streams begin with: nobody else's session goes on as a stream.
const STREAMS: &str = "events-";

/// An error answer: RFC 6750 §3 for what concerns the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    error: &'static str,
    description: &'static str,
}

impl Problem {
    pub(super) const NOT_FOUND: Self = Self::new(StatusCode::NOT_FOUND, "not_found", "no such resource");
    pub(super) const TOO_MANY: Self =
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_connections", "too many connections");
    const TOO_MANY_FAILURES: Self = Self::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_failures",
        "too many tokens from this address failed; try again later",
    );
    pub(super) const TIME_IS_UP: Self =
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request", "the request did not come in time");
    const NO_TOKEN: Self = Self::new(StatusCode::UNAUTHORIZED, "", "a bearer token is needed");
    const INVALID_TOKEN: Self =
        Self::new(StatusCode::UNAUTHORIZED, "invalid_token", "the token may not be used here");
    pub(super) const INSUFFICIENT_SCOPE: Self =
        Self::new(StatusCode::FORBIDDEN, "insufficient_scope", "the grant does not cover this");
    pub(super) const NO_VALUE: Self = Self::new(StatusCode::NOT_FOUND, "not_found", "there is no value");
    pub(super) const UNAVAILABLE: Self =
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", "try again later");

    pub(super) const fn new(status: StatusCode, error: &'static str, description: &'static str) -> Self {
        Self { status, error, description }
    }

    pub(super) const fn bad_request(description: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    /// What a CONNACK or PUBACK code means here.
    pub(super) fn of_reason(reason: ReasonCode) -> Self {
        match reason {
            ReasonCode::NOT_AUTHORIZED | ReasonCode::BAD_USER_NAME_OR_PASSWORD => Self::INVALID_TOKEN,
            ReasonCode::QUOTA_EXCEEDED => Self::TOO_MANY,
            ReasonCode::CONNECTION_RATE_EXCEEDED => Self::TOO_MANY_FAILURES,
            _ => Self::UNAVAILABLE,
        }
    }

    fn of_cause(cause: Cause) -> Self {
        match cause.row().http {
            401 => Self::INVALID_TOKEN,
            429 => Self::TOO_MANY_FAILURES,
            _ => Self::UNAVAILABLE,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let error = if self.error.is_empty() { "invalid_request" } else { self.error };
        let body = Json(json!({"error": error, "error_description": self.description}));
        let mut response = (self.status, body).into_response();
        let challenge = match (self.status, self.error) {
            // Without any token nothing is said but what is wanted (RFC 6750 §3.1).
            (StatusCode::UNAUTHORIZED, "") => Some(HeaderValue::from_static("Bearer")),
            (StatusCode::UNAUTHORIZED, _) => Some(HeaderValue::from_static("Bearer error=\"invalid_token\"")),
            (StatusCode::FORBIDDEN, _) => {
                Some(HeaderValue::from_static("Bearer error=\"insufficient_scope\""))
            }
            _ => None,
        };
        if let Some(challenge) = challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// `GET /v1/devices`: `[{"handle", "ref", "title", "channels", "view", "views"}]`, the channels that may be read or commanded, and how
/// exact what is read of them is.
pub(super) async fn devices(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    query: RawQuery,
) -> Result<Json<Value>, Problem> {
    let token = bearer(&headers, &query)?;
    let grant = gateway.introspect_new(&token, peer.ip()).await.map_err(Problem::of_cause)?;
    match &grant.role {
        Role::App(app) => Ok(Json(list(app))),
        Role::Device(_) => Err(Problem::INSUFFICIENT_SCOPE),
    }
}

fn list(app: &AppRole) -> Value {
    let devices = app.devices.iter().map(|device| {
        let channels: Vec<&Channel> = device
            .channels
            .iter()
            .filter(|channel| device.may_read(&channel.name) || device.may_command(&channel.name))
            .collect();
        let mut entry = json!({"handle": device.handle, "channels": channels, "view": device.view});
        let views: BTreeMap<_, _> =
            device.views.iter().filter(|(channel, _)| device.may_read(channel)).collect();
        if !views.is_empty() {
            entry["views"] = json!(views);
        }
        for (name, value) in [("ref", &device.reference), ("title", &device.title)] {
            if let Some(value) = value {
                entry[name] = Value::from(value.as_str());
            }
        }
        entry
    });
    Value::Array(devices.collect())
}

/// `GET /v1/d/{handle}/{channel}`: the last value as the device sent it, from the PCM's retained one.
pub(super) async fn last_value(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    query: RawQuery,
) -> Result<Response, Problem> {
    let token = bearer(&headers, &query)?;
    let topic = topic("d", path)?;
    let mut client = Client::connect(&gateway, peer.ip(), &token).await.map_err(Problem::of_reason)?;
    let payload =
        timeout(ANSWER, retained(&mut client, &topic)).await.map_err(|_| Problem::UNAVAILABLE)??;
    Ok(raw(payload))
}

/// What is retained on `topic`.
async fn retained(client: &mut Client, topic: &str) -> Result<Vec<u8>, Problem> {
    let frames = fetch(client, topic).await?;
    match frames.first().and_then(|frame| decode(frame)) {
        Some(Packet::Publish(publish)) => Ok(publish.payload.to_vec()),
        _ => Err(Problem::NO_VALUE),
    }
}

/// What a new subscriber to `topic` gets. A second subscription that sends nothing retained is the mark behind what the first one
/// sent, since the PCM answers in order.
pub(super) async fn fetch(client: &mut Client, topic: &str) -> Result<Vec<BytesMut>, Problem> {
    let qos = QoS::AtMostOnce;
    let mut frames = subscribe(client, topic, RetainHandling::Send, qos).await?;
    frames.extend(subscribe(client, topic, RetainHandling::DontSend, qos).await?);
    Ok(frames)
}

/// The payload in the one type that it surely has; never one that a browser would run.
fn raw(payload: Vec<u8>) -> Response {
    let content_type = match std::str::from_utf8(&payload) {
        Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => "application/json",
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    };
    ([(header::CONTENT_TYPE, content_type)], payload).into_response()
}

/// `GET /v1/events?filter=d/#`: server-sent events `{"topic", "payload", "retained"}`. A payload that is JSON stands as such,
/// other text as a string, other bytes as `payload_base64`. The `id` of every event is the stream's name: with it as
/// `Last-Event-ID` the stream goes on where it was lost, for a minute, and what came meanwhile is not.
pub(super) async fn events(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    query: RawQuery,
) -> Result<Response, Problem> {
    let token = bearer(&headers, &query)?;
    let pairs = url::form_urlencoded::parse(query.0.as_deref().unwrap_or_default().as_bytes());
    let filters: Vec<String> =
        pairs.filter(|(name, _)| name == "filter").map(|(_, filter)| filter.into_owned()).collect();
    let filter = match filters.as_slice() {
        [] => "d/#",
        [one] if mqtt_wire::topic::is_valid_filter(one) => one,
        _ => return Err(Problem::bad_request("filter must be one topic filter")),
    };
    let name = stream_name(&headers)?;
    let session = format!("{STREAMS}{name}");
    let client = Client::connect_as(&gateway, peer.ip(), &token, &session, RESUMABLE).await;
    let mut client = client.map_err(Problem::of_reason)?;
    let subscribing = subscribe(&mut client, filter, RetainHandling::SendIfNew, QoS::AtLeastOnce);
    let early = VecDeque::from(timeout(ANSWER, subscribing).await.map_err(|_| Problem::UNAVAILABLE)??);
    let events = Events { client, early, name, unacknowledged: None };
    let chunks = stream::unfold(events, |mut events| async move {
        let chunk = events.next().await?;
        Some((Ok::<_, Infallible>(chunk), events))
    });
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(chunks)).into_response())
}

/// What `Last-Event-ID` names, or a new name.
fn stream_name(headers: &HeaderMap) -> Result<String, Problem> {
    match headers.get("last-event-id").map(|id| id.to_str()) {
        None => Ok(service::secret::random_token::<16>()),
        Some(Ok("")) => Ok(service::secret::random_token::<16>()),
        Some(Ok(id)) if crate::policy::grant::is_identifier(id) => Ok(id.to_owned()),
        Some(_) => Err(Problem::bad_request("Last-Event-ID must be the id of an event")),
    }
}

/// One event stream.
struct Events {
    client: Client,
    /// What came before the subscription was acknowledged.
    early: VecDeque<BytesMut>,
    name: String,
    /// The message that was handed on last. It is acknowledged when the next one is wanted: then it was written.
    unacknowledged: Option<u16>,
}

impl Events {
    /// The next bytes of the stream, none at its end.
    async fn next(&mut self) -> Option<String> {
        if let Some(id) = self.unacknowledged.take() {
            self.client.send(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS))).await;
        }
        loop {
            let frame = match self.early.pop_front() {
                Some(frame) => frame,
                None => match timeout(KEEP_ALIVE, self.client.next()).await {
                    Err(_) => return Some(":\n\n".to_owned()),
                    Ok(frame) => frame?,
                },
            };
            match decode(&frame)? {
                Packet::Publish(publish) => {
                    self.unacknowledged = publish.packet_id;
                    return Some(format!("id: {}\ndata: {}\n\n", self.name, message(&publish)));
                }
                Packet::Disconnect(_) => return None,
                _ => {}
            }
        }
    }
}

fn message(publish: &Publish<'_>) -> Value {
    let mut message = json!({"topic": publish.topic, "retained": publish.retain});
    let text = std::str::from_utf8(publish.payload);
    match (text, text.ok().and_then(|text| serde_json::from_str::<Value>(text).ok())) {
        (_, Some(value)) => message["payload"] = value,
        (Ok(text), None) => message["payload"] = Value::from(text),
        (Err(_), None) => message["payload_base64"] = Value::from(STANDARD.encode(publish.payload)),
    }
    message
}

/// `POST /v1/c/{handle}/{channel}`: the body is the command; 202 once the PCM has it.
pub(super) async fn command(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    query: RawQuery,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let token = bearer(&headers, &query)?;
    let topic = topic("c", path)?;
    let payload = body.map_err(|_| {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "the command is too long")
    })?;
    let mut client = Client::connect(&gateway, peer.ip(), &token).await.map_err(Problem::of_reason)?;
    let reason = timeout(ANSWER, publish(&mut client, &topic, &payload));
    match reason.await.map_err(|_| Problem::UNAVAILABLE)?? {
        reason if reason.is_success() => Ok(StatusCode::ACCEPTED),
        ReasonCode::NOT_AUTHORIZED => Err(Problem::INSUFFICIENT_SCOPE),
        _ => Err(Problem::UNAVAILABLE),
    }
}

/// Publishes and waits for the acknowledgement: what it says.
pub(super) async fn publish(client: &mut Client, topic: &str, payload: &[u8]) -> Result<ReasonCode, Problem> {
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
        packet_id: Some(1),
        properties: Properties::EMPTY,
        payload,
    };
    client.send(&Packet::Publish(publish)).await;
    loop {
        let frame = client.next().await.ok_or(Problem::UNAVAILABLE)?;
        match decode(&frame) {
            Some(Packet::PubAck(ack)) => return Ok(ack.reason),
            Some(Packet::Disconnect(_)) => return Err(Problem::UNAVAILABLE),
            _ => {}
        }
    }
}

/// Subscribes and waits for the answer; messages that come before it are the result.
async fn subscribe(
    client: &mut Client,
    filter: &str,
    retain_handling: RetainHandling,
    qos: QoS,
) -> Result<Vec<BytesMut>, Problem> {
    let wish = Subscription { retain_handling, retain_as_published: true, ..Subscription::new(filter, qos) };
    let filters = Filters::list(std::slice::from_ref(&wish));
    client.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::EMPTY, filters })).await;
    let mut early = Vec::new();
    loop {
        let frame = client.next().await.ok_or(Problem::UNAVAILABLE)?;
        match decode(&frame) {
            Some(Packet::Publish(_)) => early.push(frame),
            Some(Packet::SubAck(ack)) => {
                return match ack.reasons().next() {
                    Some(reason) if reason.is_success() => Ok(early),
                    Some(ReasonCode::NOT_AUTHORIZED) => Err(Problem::INSUFFICIENT_SCOPE),
                    _ => Err(Problem::UNAVAILABLE),
                };
            }
            Some(Packet::Disconnect(_)) => return Err(Problem::UNAVAILABLE),
            _ => {}
        }
    }
}

/// The topic that a path means.
fn topic(tree: &str, path: Result<Path<(String, String)>, PathRejection>) -> Result<String, Problem> {
    let Path((handle, channel)) = path.map_err(|_| Problem::NOT_FOUND)?;
    if crate::policy::grant::is_identifier(&handle) && Channel::is_valid_name(&channel) {
        Ok(format!("{tree}/{handle}/{channel}"))
    } else {
        Err(Problem::NOT_FOUND)
    }
}

/// The token of `Authorization: Bearer …`. A token in the query string is refused, whatever else is there (RFC 9700 §4.3.2).
pub(super) fn bearer(headers: &HeaderMap, query: &RawQuery) -> Result<Token, Problem> {
    let pairs = url::form_urlencoded::parse(query.0.as_deref().unwrap_or_default().as_bytes());
    if pairs.into_iter().any(|(name, _)| name == "access_token") {
        return Err(Problem::bad_request("a token does not belong into a URL"));
    }
    let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(Problem::NO_TOKEN) };
    let value = value.to_str().map_err(|_| Problem::NO_TOKEN)?;
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            Ok(Zeroizing::new(token.trim().to_owned()))
        }
        _ => Err(Problem::NO_TOKEN),
    }
}
