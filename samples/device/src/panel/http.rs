//! The panel's two doors: pages for a browser, one wish for the factory.

use std::convert::Infallible;

use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use tokio_stream::wrappers::WatchStream;

use super::shelf::Shelf;
use crate::thermostat::Touch;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(super) fn page(shelf: Shelf) -> Router {
    Router::new()
        .route(
            "/",
            get(|| async { file("text/html; charset=utf-8", include_str!("../../assets/panel.html")) }),
        )
        .route("/panel.css", get(|| async { file("text/css", include_str!("../../assets/panel.css")) }))
        .route("/panel.js", get(|| async { file("text/javascript", include_str!("../../assets/panel.js")) }))
        .route("/healthz", get(|| async { "ok" }))
        .route("/thermostats.json", get(all))
        .route("/events", get(events))
        .route("/thermostats/{n}/press", post(press))
        .route("/thermostats/{n}/hold", post(hold))
        .layer(middleware::from_fn(guard))
        .with_state(shelf)
}

pub(super) fn floor(shelf: Shelf) -> Router {
    Router::new().route("/make", post(make)).route("/healthz", get(|| async { "ok" })).with_state(shelf)
}

/// Foreign pages press no button; every answer says what a browser may do with it.
async fn guard(request: Request, next: Next) -> Response {
    let mut response =
        if request.method() == http::Method::POST && !service::http::is_same_origin(request.headers()) {
            (StatusCode::FORBIDDEN, "only the panel's own page may press a button\n").into_response()
        } else {
            next.run(request).await
        };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind)], text).into_response()
}

async fn all(State(shelf): State<Shelf>) -> Response {
    Json(&*shelf.shown().borrow()).into_response()
}

async fn events(
    State(shelf): State<Shelf>,
) -> Sse<impl futures_util::Stream<Item = Result<Event, Infallible>>> {
    let stop = shelf.shutdown().clone();
    let changes = WatchStream::new(shelf.shown())
        .map(|shown| Ok(Event::default().json_data(shown).unwrap_or_default()))
        .take_until(async move { stop.begun().await });
    Sse::new(changes).keep_alive(KeepAlive::default())
}

async fn press(State(shelf): State<Shelf>, Path(n): Path<u32>) -> Response {
    touched(&shelf, n, Touch::Press)
}

async fn hold(State(shelf): State<Shelf>, Path(n): Path<u32>) -> Response {
    touched(&shelf, n, Touch::LongPress)
}

fn touched(shelf: &Shelf, n: u32, touch: Touch) -> Response {
    if shelf.touch(n, touch) {
        Redirect::to("/").into_response()
    } else {
        (StatusCode::NOT_FOUND, "there is no thermostat with this number\n").into_response()
    }
}

async fn make(State(shelf): State<Shelf>) -> Response {
    match shelf.make() {
        Ok(n) => (StatusCode::CREATED, Json(json!({ "n": n }))).into_response(),
        Err(error) => {
            (StatusCode::INSUFFICIENT_STORAGE, Json(json!({ "error": format!("{error:#}") }))).into_response()
        }
    }
}
