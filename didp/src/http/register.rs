//! `POST /register`, `POST /register/batch` (RFC 7591) and `GET`, `PUT`, `DELETE /register/{client_id}` (RFC 7592).

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use oauth_wire::OAuthErrorCode;
use serde_json::Value;

use super::Peer;
use super::body::JsonBytes;
use super::caller::bearer;
use super::problem::Problem;
use crate::audit::Audit;
use crate::flows::Refusal;
use crate::flows::registration::{self, Metadata, Registered};
use crate::state::App;

/// Registers one client. Where that needs no token, each address has a limit, and it comes before any hashing.
pub(super) async fn post(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    body: JsonBytes,
) -> Result<Response, Problem> {
    let requests = vec![body.parse::<Metadata>()?];
    let token = bearer(&headers)?;
    if token.is_none() {
        app.throttle.charge_address(peer.ip(), app.clock.now_millis()).map_err(Refusal::TooMany)?;
    }
    let key = key(&headers)?;
    let mut answers = guarded(&app, peer, token, registration::register(&app, token, key, requests)).await?;
    let answer = answers.pop().ok_or(Problem::of(OAuthErrorCode::ServerError, "no answer"))?;
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// Registers many clients, all or none; answers in the order of the request.
pub(super) async fn batch(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    body: JsonBytes,
) -> Result<Response, Problem> {
    let token = bearer(&headers)?
        .ok_or(Problem::of(OAuthErrorCode::InvalidToken, "an initial access token is needed"))?;
    let requests = body.parse::<Vec<Metadata>>()?;
    let registering = registration::register(&app, Some(token), key(&headers)?, requests);
    let answers = guarded(&app, peer, Some(token), registering).await?;
    Ok((StatusCode::CREATED, Json(answers)).into_response())
}

/// What is registered.
pub(super) async fn get(
    State(app): State<App>,
    peer: Peer,
    client_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Json<Registered>, Problem> {
    let client_id = named(client_id)?;
    let token = token(&headers)?;
    Ok(Json(guarded(&app, peer, Some(token), registration::read(&app, &client_id, token)).await?))
}

/// Replaces the metadata. As RFC 7592 §2.2 asks, the body names the client, and may repeat its secret.
pub(super) async fn put(
    State(app): State<App>,
    peer: Peer,
    client_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: JsonBytes,
) -> Result<Json<Registered>, Problem> {
    let client_id = named(client_id)?;
    let mut object = body.parse::<serde_json::Map<String, Value>>()?;
    if object.remove("client_id").is_some_and(|named| named != client_id.as_str()) {
        return Err(Problem::of(OAuthErrorCode::InvalidClientMetadata, "client_id is another client's"));
    }
    let secret = match object.remove("client_secret") {
        None => None,
        Some(Value::String(secret)) => Some(secret),
        Some(_) => {
            let why = "client_secret is no text";
            return Err(Problem::of(OAuthErrorCode::InvalidClientMetadata, why));
        }
    };
    let metadata = serde_json::from_value(Value::Object(object))
        .map_err(|_| Problem::of(OAuthErrorCode::InvalidClientMetadata, "unknown members are refused"))?;
    let token = token(&headers)?;
    let updating = registration::update(&app, &client_id, token, metadata, secret.as_deref());
    Ok(Json(guarded(&app, peer, Some(token), updating).await?))
}

/// Deletes the client.
pub(super) async fn delete(
    State(app): State<App>,
    peer: Peer,
    client_id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let client_id = named(client_id)?;
    let token = token(&headers)?;
    guarded(&app, peer, Some(token), registration::delete(&app, &client_id, token)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Does what needs a token, unless this address sent too many wrong ones; they cost what wrong secrets cost.
async fn guarded<T>(
    app: &App,
    peer: Peer,
    token: Option<&str>,
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Problem> {
    if token.is_none() {
        return Ok(work.await?);
    }
    let attempt = app.throttle.attempt_as(peer.ip(), "registration", &app.clock).await;
    let attempt = attempt.map_err(Refusal::TooMany)?;
    let done = work.await;
    match &done {
        Ok(_) => attempt.succeeded(),
        Err(Refusal::OAuth(OAuthErrorCode::InvalidToken, why)) => {
            Audit::RegistrationRefused { registrar: None, why }.record();
            drop(attempt);
        }
        Err(_) => attempt.undecided(),
    }
    Ok(done?)
}

/// The client that the path names; bytes that are no text name none.
fn named(client_id: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    match client_id {
        Ok(Path(client_id)) => Ok(client_id),
        Err(_) => Err(Problem::malformed(StatusCode::NOT_FOUND, "the path names no client")),
    }
}

fn token(headers: &HeaderMap) -> Result<&str, Problem> {
    bearer(headers)?.ok_or(Problem::of(OAuthErrorCode::InvalidToken, "a registration access token is needed"))
}

fn key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value
            .to_str()
            .map(Some)
            .map_err(|_| Problem::of(OAuthErrorCode::InvalidRequest, "Idempotency-Key must be ASCII")),
        _ => Err(Problem::of(OAuthErrorCode::InvalidRequest, "Idempotency-Key stands twice")),
    }
}
