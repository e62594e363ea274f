//! The whole route table of the HTTP listeners: health, MQTT over WebSocket, the API.

mod api;
mod client;
mod shadow;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use crate::didp::Didp;
use crate::gateway::Gateway;

/// Time for a request until its answer begins.
const REQUEST: Duration = Duration::from_secs(60);
/// Longest body of a command or a patch.
const LONGEST_BODY: usize = 64 * 1024;

/// Everything that the HTTP listeners answer.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    let api = Router::new()
        .route("/v1/devices", get(api::devices))
        .route("/v1/d/{handle}/{*channel}", get(api::last_value))
        .route("/v1/events", get(api::events))
        .route("/v1/c/{handle}/{*channel}", post(api::command))
        .route("/v1/s/{handle}", get(shadow::document).patch(shadow::desire))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway), cors));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/mqtt", get(websocket::upgrade))
        .merge(api)
        .fallback(|| async { api::Problem::NOT_FOUND })
        .with_state(gateway)
}

/// Ready as long as revocations come in from every DIdP. While they do not, it is said how often tokens are asked about instead.
async fn ready(State(gateway): State<Arc<Gateway>>) -> Response {
    let of = |didp: &Arc<Didp>| match didp.is_listening() {
        true => json!({"issuer": didp.issuer, "events": "up"}),
        false => json!({"issuer": didp.issuer, "events": "down",
            "token_check_seconds": gateway.limits.unwatched_token_seconds}),
    };
    let events: Vec<_> = gateway.didps.values().map(of).collect();
    let ready = gateway.is_listening() && !gateway.shutdown.has_begun();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ready": ready, "sessions": gateway.sessions.count(), "didp": events})))
        .into_response()
}

/// CORS without cookies: the token is in a header that a page must set itself, so that any configured origin may ask.
async fn cors(
    State(gateway): State<Arc<Gateway>>,
    request: Request<axum::body::Body>,
    next: Next,
) -> Response {
    let allowed = allowed_origin(&gateway.cors_origins, request.headers());
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response =
        if preflight { StatusCode::NO_CONTENT.into_response() } else { answer(next.run(request)).await };
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("ETag, WWW-Authenticate, Retry-After"),
        );
        if preflight {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("Authorization, Content-Type, If-Match, Last-Event-ID"),
            );
            headers
                .insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PATCH"));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
    }
    response
}

/// A body that does not come is not waited for. An event stream's answer has begun by then.
async fn answer(answering: impl Future<Output = Response>) -> Response {
    tokio::time::timeout(REQUEST, answering)
        .await
        .unwrap_or_else(|_| api::Problem::TIME_IS_UP.into_response())
}

fn allowed_origin(configured: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(header::ORIGIN)?;
    match configured {
        [] => Some(HeaderValue::from_static("*")),
        some => some.iter().any(|one| one.as_bytes() == origin.as_bytes()).then(|| origin.clone()),
    }
}
