//! The device's shadow over HTTP: its document, and a merge patch (RFC 7396) of what is desired.
//!
//! Both go through an MQTT session as the rest of the API does. The entity tag is the version of the desired part, the only one
//! that a client writes: `If-Match` makes a patch a compare-and-set, which the PCM decides.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use mqtt_wire::{Packet, ReasonCode};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::api::{ANSWER, Problem, bearer, fetch, publish};
use super::client::{Client, decode};
use crate::gateway::Gateway;
use crate::policy::grant::is_identifier;

/// What a patch may be declared as.
const PATCH_TYPES: [&str; 2] = ["application/merge-patch+json", "application/json"];

/// `GET /v1/s/{handle}`: what the app may see of the device's shadow.
pub(super) async fn document(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    query: RawQuery,
) -> Result<Response, Problem> {
    let token = bearer(&headers, &query)?;
    let topic = topic(path)?;
    let mut client = Client::connect(&gateway, peer.ip(), &token).await.map_err(Problem::of_reason)?;
    newest(&mut client, &topic).await.map(answer)
}

/// `PATCH /v1/s/{handle}`: changes what is desired, all of it or nothing. Answers with the document then, or with 204 if the app may
/// not read it.
pub(super) async fn desire(
    State(gateway): State<Arc<Gateway>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    query: RawQuery,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let token = bearer(&headers, &query)?;
    let topic = topic(path)?;
    let body = body.map_err(|_| TOO_LONG)?;
    let mut client = Client::connect(&gateway, peer.ip(), &token).await.map_err(Problem::of_reason)?;
    let payload = patch(&headers, &body)?;
    let desired = format!("{topic}/desired");
    let reason = timeout(ANSWER, publish(&mut client, &desired, &payload));
    match reason.await.map_err(|_| Problem::UNAVAILABLE)?? {
        reason if reason.is_success() => {}
        ReasonCode::NOT_AUTHORIZED => return Err(Problem::INSUFFICIENT_SCOPE),
        ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR => return Err(CHANGED),
        ReasonCode::QUOTA_EXCEEDED => return Err(TOO_LONG),
        ReasonCode::PAYLOAD_FORMAT_INVALID => return Err(NO_PATCH),
        _ => return Err(Problem::UNAVAILABLE),
    }
    match newest(&mut client, &topic).await {
        Ok(document) => Ok(answer(document)),
        Err(Problem::INSUFFICIENT_SCOPE) => Ok(StatusCode::NO_CONTENT.into_response()),
        Err(problem) => Err(problem),
    }
}

const CHANGED: Problem = Problem::new(
    StatusCode::PRECONDITION_FAILED,
    "precondition_failed",
    "the shadow has another version; nothing was changed",
);
const TOO_LONG: Problem =
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "the shadow would get too large");
const NO_PATCH: Problem =
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", "the body is no merge patch");
const WRONG_TYPE: Problem = Problem::new(
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "invalid_request",
    "a patch is application/merge-patch+json or application/json",
);

fn topic(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    match path {
        Ok(Path(handle)) if is_identifier(&handle) => Ok(format!("s/{handle}")),
        _ => Err(Problem::NOT_FOUND),
    }
}

/// The document as it is now.
async fn newest(client: &mut Client, topic: &str) -> Result<Value, Problem> {
    let frames = timeout(ANSWER, fetch(client, topic)).await.map_err(|_| Problem::UNAVAILABLE)??;
    match frames.last().and_then(|frame| decode(frame)) {
        Some(Packet::Publish(publish)) => {
            serde_json::from_slice(publish.payload).map_err(|_| Problem::UNAVAILABLE)
        }
        _ => Err(Problem::NO_VALUE),
    }
}

fn answer(document: Value) -> Response {
    let tag =
        document["version"].as_u64().and_then(|version| HeaderValue::try_from(format!("\"{version}\"")).ok());
    let mut response = Json(document).into_response();
    if let Some(tag) = tag {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// What the PCM gets for a request's patch: `{"desired": …}`, with the version that it is meant for, if it is for one.
fn patch(headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, Problem> {
    let declared =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let declared = declared.split(';').next().unwrap_or_default().trim();
    if !PATCH_TYPES.iter().any(|allowed| allowed.eq_ignore_ascii_case(declared)) {
        return Err(WRONG_TYPE);
    }
    let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else { return Err(NO_PATCH) };
    let mut version = members.remove("$version");
    if wraps(&members) {
        version = version.or(members.remove("version"));
        if let Some(Value::Object(desired)) = members.remove("desired") {
            members = desired;
        }
    }
    let version = match version {
        None => None,
        Some(version) => Some(version.as_u64().ok_or(NO_PATCH)?),
    };
    let version = match (if_match(headers)?, version) {
        (Some(one), Some(other)) if one != other => return Err(CHANGED),
        (one, other) => one.or(other),
    };
    let mut wish = json!({"desired": members});
    if let Some(version) = version {
        wish["$version"] = Value::from(version);
    }
    Ok(wish.to_string().into_bytes())
}

/// Whether this is `{"desired": {…}}` with or without a `version`, rather than the patch of what is desired itself.
fn wraps(members: &Map<String, Value>) -> bool {
    members.get("desired").is_some_and(Value::is_object)
        && members.keys().all(|name| name == "desired" || name == "version")
}

/// The one version that the request is for (RFC 9110 §13.1.1).
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut given = headers.get_all(header::IF_MATCH).into_iter();
    let (Some(tag), None) = (given.next(), given.next()) else {
        return match headers.contains_key(header::IF_MATCH) {
            true => Err(Problem::bad_request("If-Match takes one entity tag")),
            false => Ok(None),
        };
    };
    let tag = tag.to_str().unwrap_or_default().trim();
    if tag == "*" {
        return Ok(None);
    }
    if tag.contains(',') {
        return Err(Problem::bad_request("If-Match takes one entity tag"));
    }
    // A weak tag, or one that no version has, matches nothing.
    let version =
        tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
    version.map(Some).ok_or(CHANGED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(if_match: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/merge-patch+json; charset=utf-8"),
        );
        if let Some(tag) = if_match {
            headers.insert(header::IF_MATCH, HeaderValue::from_static(tag));
        }
        headers
    }

    fn sent(if_match: Option<&'static str>, body: &str) -> Result<Value, StatusCode> {
        let payload =
            patch(&with(if_match), body.as_bytes()).map_err(|problem| problem.into_response().status())?;
        Ok(serde_json::from_slice(&payload).unwrap())
    }

    #[test]
    fn a_patch_may_come_wrapped_or_not() {
        let heater = json!({"desired": {"heater": true}});
        assert_eq!(sent(None, r#"{"heater":true}"#), Ok(heater.clone()));
        assert_eq!(sent(None, r#"{"desired":{"heater":true}}"#), Ok(heater.clone()));
        assert_eq!(sent(Some("*"), r#"{"heater":true}"#), Ok(heater));
        // Channels may be called so.
        assert_eq!(sent(None, r#"{"desired":1}"#), Ok(json!({"desired": {"desired": 1}})));
        let named = json!({"desired": {"version": 3, "heater": null}});
        assert_eq!(sent(None, r#"{"version":3,"heater":null}"#), Ok(named));
        for nonsense in [
            "",
            "[]",
            "1",
            "{",
            r#"{"$version":"1"}"#,
            r#"{"$version":-1}"#,
            r#"{"desired":{},"version":1.5}"#,
        ] {
            assert_eq!(sent(None, nonsense), Err(StatusCode::UNPROCESSABLE_ENTITY), "{nonsense}");
        }
    }

    #[test]
    fn a_version_makes_it_compare_and_set() {
        let expected = json!({"desired": {"heater": true}, "$version": 7});
        for (tag, body) in [
            (Some("\"7\""), r#"{"heater":true}"#),
            (None, r#"{"heater":true,"$version":7}"#),
            (None, r#"{"desired":{"heater":true},"version":7}"#),
            (Some("\"7\""), r#"{"desired":{"heater":true},"$version":7}"#),
        ] {
            assert_eq!(sent(tag, body), Ok(expected.clone()), "{tag:?} {body}");
        }
        for tag in ["\"8\"", "7", "W/\"7\"", "\"x\"", "\"\""] {
            let body = r#"{"heater":true,"$version":7}"#;
            assert_eq!(sent(Some(tag), body), Err(StatusCode::PRECONDITION_FAILED), "{tag}");
        }
        assert_eq!(sent(Some("\"7\", \"8\""), "{}"), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn a_patch_says_what_it_is() {
        for declared in ["text/plain", "application/x-www-form-urlencoded", ""] {
            let mut headers = with(None);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(declared));
            let problem = patch(&headers, b"{}").unwrap_err();
            assert_eq!(problem.into_response().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{declared}");
        }
    }
}
