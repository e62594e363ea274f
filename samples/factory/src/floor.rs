//! The factory's floor: plain HTTP on a network that only factory and devices share.
//!
//! `POST /flash {"hardware_id", "model"}` answers with the credentials and no more of the registration, `POST /flash/done {"hardware_id"}` makes the factory forget
//! them. Whoever stands on the floor can flash devices; that is what a factory's floor is.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use serde::Deserialize;
use serde_json::json;

use crate::Factory;
use crate::ledger::Asked;
use crate::registrar::{MODELS, RegisterError};

/// Longest hardware id, in bytes.
const MAX_HARDWARE_ID: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flash {
    hardware_id: String,
    model: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {
    hardware_id: String,
}

pub(crate) fn router(factory: Arc<Factory>) -> Router {
    Router::new()
        .route("/flash", post(flash))
        .route("/flash/done", post(done))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::max(4096))
        .with_state(factory)
}

fn refusal(status: StatusCode, why: impl Into<String>) -> Response {
    (status, Json(json!({ "error": why.into() }))).into_response()
}

async fn flash(State(factory): State<Arc<Factory>>, body: Result<Json<Flash>, JsonRejection>) -> Response {
    let Json(asked) = match body {
        Ok(body) => body,
        Err(rejection) => return refusal(rejection.status(), "send hardware_id and model as JSON"),
    };
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':'));
    if asked.hardware_id.is_empty() || asked.hardware_id.len() > MAX_HARDWARE_ID || !plain(&asked.hardware_id)
    {
        return refusal(StatusCode::BAD_REQUEST, "a hardware_id has 1 to 64 letters, digits, - and :");
    }
    if !MODELS.contains(&asked.model.as_str()) {
        return refusal(StatusCode::BAD_REQUEST, "this factory does not make that model");
    }
    let _turn = factory.registrar.turn().await;
    let idempotency_key = match factory.ledger.ask(&asked.hardware_id, &asked.model) {
        Ok(Asked::Answer(answer)) => return handed_over(answer),
        Ok(Asked::Register { idempotency_key }) => idempotency_key,
        Ok(Asked::Forgotten) => {
            return refusal(StatusCode::CONFLICT, "this device has its credentials already");
        }
        Ok(Asked::Full) => return refusal(StatusCode::INSUFFICIENT_STORAGE, "the ledger is full"),
        Err(error) => return unwritten(&error),
    };
    match factory.registrar.register(&asked.model, &idempotency_key).await {
        Ok((registered, answer)) => {
            match factory.ledger.registered(&asked.hardware_id, registered, answer.clone()) {
                Ok(()) => {
                    tracing::info!(event = "device_registered", model = asked.model);
                    handed_over(answer)
                }
                Err(error) => unwritten(&error),
            }
        }
        Err(error @ RegisterError::NotYet(_)) => {
            tracing::debug!(event = "registration_postponed", %error);
            ([(RETRY_AFTER, "2")], refusal(StatusCode::SERVICE_UNAVAILABLE, "the DIdP is not there yet"))
                .into_response()
        }
        Err(error @ RegisterError::Refused(_)) => {
            tracing::error!(event = "registration_refused", %error);
            refusal(StatusCode::BAD_GATEWAY, error.to_string())
        }
    }
}

/// Who it is, and where it finds its DIdP. The printed code and the keys to the registration are no business of a device.
const FOR_A_DEVICE: [&str; 4] = ["client_id", "client_secret", "issuer", "mqtt"];

fn handed_over(mut answer: serde_json::Value) -> Response {
    if let Some(members) = answer.as_object_mut() {
        members.retain(|name, _| FOR_A_DEVICE.contains(&name.as_str()));
    }
    ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

fn unwritten(error: &std::io::Error) -> Response {
    tracing::error!(event = "ledger_not_written", %error);
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "the ledger cannot be written")
}

async fn done(State(factory): State<Arc<Factory>>, body: Result<Json<Done>, JsonRejection>) -> Response {
    let Json(done) = match body {
        Ok(body) => body,
        Err(rejection) => return refusal(rejection.status(), "send hardware_id as JSON"),
    };
    match factory.ledger.flashed(&done.hardware_id) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => unwritten(&error),
    }
}
