//! `POST /api/token`: the page asks for a token for the gateway.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

use super::{App, browser};
use crate::grants::NoAccess;

/// The request: empty, or which token the gateway refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    #[serde(default)]
    refused: Option<u64>,
}

pub(super) async fn token(
    State(app): State<App>,
    headers: HeaderMap,
    Json(request): Json<Request>,
) -> Response {
    if !browser::is_own_page(&app.config, &headers) {
        return (StatusCode::FORBIDDEN, Json(json!({"state": "forbidden"}))).into_response();
    }
    let access = match browser::session(&headers) {
        Some(session) => app.grants.access(session, request.refused).await,
        None => Err(NoAccess::NotConnected),
    };
    match access {
        Ok(access) => Json(access).into_response(),
        Err(NoAccess::NotConnected) => {
            (StatusCode::NOT_FOUND, Json(json!({"state": "not_connected"}))).into_response()
        }
        Err(NoAccess::Withdrawn) => (StatusCode::GONE, Json(json!({"state": "withdrawn"}))).into_response(),
        Err(NoAccess::ProviderAway) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"state": "provider_away"}))).into_response()
        }
    }
}
