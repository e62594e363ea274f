//! The factory's page: what it made, with labels, and the story in order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::{Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Method, StatusCode};
use tokio_stream::wrappers::WatchStream;

use crate::ledger::Made;
use crate::{Config, Factory, label};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(crate) fn router(factory: Arc<Factory>) -> Router {
    Router::new()
        .route("/", get(story))
        .route("/line", get(line))
        .route("/make", post(make))
        .route("/events", get(events))
        .route("/devices.json", get(devices))
        .route("/label/{file}", get(printed))
        .route("/qr/{file}", get(bare))
        .route("/factory.css", get(|| async { file("text/css", include_str!("../assets/factory.css")) }))
        .route("/factory.js", get(|| async { file("text/javascript", include_str!("../assets/factory.js")) }))
        .route("/icon.svg", get(|| async { file("image/svg+xml", include_str!("../assets/icon.svg")) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(|| async { refused(StatusCode::NOT_FOUND, "There is no such page here.") })
        .layer(middleware::from_fn(guard))
        .with_state(factory)
}

#[derive(Template)]
#[template(path = "story.html")]
struct Story<'a> {
    config: &'a Config,
    made: &'a [Made],
}

/// The part of the page that changes.
#[derive(Template)]
#[template(path = "line.html")]
struct Line<'a> {
    made: &'a [Made],
}

#[derive(Template)]
#[template(path = "refused.html")]
struct Refused<'a> {
    why: &'a str,
}

/// Foreign pages order nothing; every answer says what a browser may do with it.
async fn guard(request: Request, next: Next) -> Response {
    let mut response =
        if request.method() == Method::POST && !service::http::is_same_origin(request.headers()) {
            refused(StatusCode::FORBIDDEN, "Only this factory's own page may order a device.")
        } else {
            next.run(request).await
        };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // With `no-referrer` a form of this page would be sent with `Origin: null`, and without Sec-Fetch-Site over plain http on a LAN.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(CONTENT_TYPE, kind)], text).into_response()
}

fn rendered(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(event = "page_not_rendered", %error);
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn refused(status: StatusCode, why: &str) -> Response {
    (status, rendered(&Refused { why })).into_response()
}

async fn story(State(factory): State<Arc<Factory>>) -> Response {
    let made = factory.ledger.made().borrow().clone();
    rendered(&Story { config: &factory.config, made: &made })
}

async fn line(State(factory): State<Arc<Factory>>) -> Response {
    let made = factory.ledger.made().borrow().clone();
    rendered(&Line { made: &made })
}

async fn devices(State(factory): State<Arc<Factory>>) -> Response {
    Json(&*factory.ledger.made().borrow()).into_response()
}

/// Says that something was made or flashed; the page then fetches [`line`].
async fn events(
    State(factory): State<Arc<Factory>>,
) -> Sse<impl futures_util::Stream<Item = Result<Event, Infallible>>> {
    let stop = factory.shutdown.clone();
    let changes = WatchStream::from_changes(factory.ledger.made())
        .map(|made| Ok(Event::default().data(made.len().to_string())))
        .take_until(async move { stop.begun().await });
    Sse::new(changes).keep_alive(KeepAlive::default())
}

/// Asks the floor for one more device; it will come and ask for its credentials.
async fn make(State(factory): State<Arc<Factory>>) -> Response {
    let asked = async {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
        let url = factory.config.device_floor.join("/make")?;
        anyhow::Ok(client.post(url).send().await?.status())
    };
    match asked.await {
        Ok(status) if status.is_success() => Redirect::to("/#line").into_response(),
        Ok(StatusCode::INSUFFICIENT_STORAGE) => {
            refused(StatusCode::INSUFFICIENT_STORAGE, "The panel has no room for another thermostat.")
        }
        Ok(status) => refused(StatusCode::BAD_GATEWAY, &format!("The devices' floor answered {status}.")),
        Err(error) => {
            tracing::warn!(event = "floor_not_reached", error = %format!("{error:#}"));
            refused(StatusCode::BAD_GATEWAY, "The devices' floor does not answer. Try again in a moment.")
        }
    }
}

async fn printed(State(factory): State<Arc<Factory>>, Path(file): Path<String>) -> Response {
    picture(&factory, &file, label::label_svg)
}

async fn bare(State(factory): State<Arc<Factory>>, Path(file): Path<String>) -> Response {
    picture(&factory, &file, label::qr_svg)
}

/// `<n>.svg` or `<n>.png`; a PNG shows the bare code in both cases.
fn picture(factory: &Factory, file: &str, svg: fn(&str) -> anyhow::Result<String>) -> Response {
    let found = file.split_once('.').and_then(|(n, kind)| {
        let n: u32 = n.parse().ok()?;
        let made = factory.ledger.made().borrow().iter().find(|made| made.n == n)?.clone();
        Some((made, kind))
    });
    let drawn = match &found {
        Some((made, "svg")) => svg(&made.uru).map(|text| ("image/svg+xml", text.into_bytes())),
        Some((made, "png")) => label::qr_png(&made.uru).map(|png| ("image/png", png)),
        Some(_) | None => return refused(StatusCode::NOT_FOUND, "There is no such label."),
    };
    match drawn {
        Ok((kind, bytes)) => ([(CONTENT_TYPE, kind)], bytes).into_response(),
        Err(error) => {
            tracing::error!(event = "label_not_drawn", error = %format!("{error:#}"));
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
