//! The whole route table. Each API route has a file below; the owner's pages have [`pages`].

pub mod admin;
mod body;
mod caller;
mod cors;
mod device_authorization;
mod events;
mod forwarded;
mod health;
mod introspect;
mod metadata;
pub mod pages;
mod par;
mod problem;
mod register;
mod revoke;
mod to_the_end;
mod token;

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, PRAGMA, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use oauth_wire::OAuthErrorCode;

use self::problem::Problem;
use crate::state::App;

/// Time for a request, its body included; more than a page waits for a claim to change.
const REQUEST: Duration = Duration::from_secs(30);

/// Where a request comes from: the connection's peer, or whom a trusted proxy names ([`forwarded`]).
type Peer = axum::extract::ConnectInfo<SocketAddr>;

/// Everything that this DIdP answers over HTTP.
pub fn routes(app: App) -> Router {
    let body = app.config.limits.body;
    let api = Router::new()
        .route("/.well-known/oauth-authorization-server", get(metadata::get))
        .route("/register", post(register::post))
        .route("/register/{client_id}", get(register::get).put(register::put).delete(register::delete))
        .route("/par", post(par::post))
        .route("/device_authorization", post(device_authorization::post))
        .route("/token", post(token::post))
        .route("/revoke", post(revoke::post))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(DefaultBodyLimit::max(body))
        .merge(
            Router::new()
                .route("/introspect", post(introspect::post))
                .route("/introspect/grants", post(introspect::grants))
                .route("/introspect/events", get(events::get).post(events::post))
                .route_layer(middleware::from_fn_with_state(app.clone(), introspect::with_certificate))
                .method_not_allowed_fallback(problem::method_not_allowed)
                .layer(DefaultBodyLimit::max(body)),
        )
        .merge(
            Router::new()
                .route("/register/batch", post(register::batch))
                .method_not_allowed_fallback(problem::method_not_allowed)
                .layer(DefaultBodyLimit::max(body.saturating_mul(16))),
        )
        .layer(middleware::from_fn(api_headers));
    api.merge(pages::routes())
        .fallback(pages::not_found)
        .layer(middleware::from_fn_with_state(app.clone(), bound))
        .layer(middleware::from_fn_with_state(app.clone(), forwarded::resolve))
        .with_state(app)
}

/// Bounds the time of a request. A client that does not get its body across in time is not waited for.
async fn bound(State(app): State<App>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST, to_the_end::run(&app, next.run(request))).await {
        Ok(Some(response)) => response,
        Ok(None) => {
            Problem::of(OAuthErrorCode::ServerError, "the request could not be finished").into_response()
        }
        Err(_) => {
            Problem::malformed(StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response()
        }
    }
}

/// Answers with tokens must not be kept by anybody on the way (RFC 6749 §5.1).
async fn api_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
