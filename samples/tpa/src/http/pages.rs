//! The HTML pages. The diary itself is filled in by `web/app.js`.

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Redirect, Response};

use super::{App, browser, content_security_policy};
use crate::provider::Gateway;

#[derive(Template)]
#[template(path = "landing.html")]
struct Landing {
    connected: bool,
    registered: bool,
    bye: bool,
}

#[derive(Template)]
#[template(path = "diary.html")]
struct Diary;

#[derive(Template)]
#[template(path = "notice.html")]
struct Notice<'a> {
    title: &'a str,
    text: &'a str,
    command: Option<&'a str>,
    retry: Option<(&'a str, &'a str)>,
}

/// `GET /`.
pub(super) async fn landing(
    State(app): State<App>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if let Some(missing) = library_missing(&app).await {
        return missing;
    }
    let connected = browser::session(&headers).is_some_and(|session| app.grants.gateway(&session).is_some());
    let registered = app.provider.is_registered();
    page(StatusCode::OK, None, &Landing { connected, registered, bye: query.as_deref() == Some("bye") })
}

/// `GET /diary`.
pub(super) async fn diary(State(app): State<App>, headers: HeaderMap) -> Response {
    if let Some(missing) = library_missing(&app).await {
        return missing;
    }
    match browser::session(&headers).and_then(|session| app.grants.gateway(&session)) {
        Some(gateway) => page(StatusCode::OK, Some(&gateway), &Diary),
        None => Redirect::to("/").into_response(),
    }
}

pub(super) async fn not_found() -> Response {
    notice(
        StatusCode::NOT_FOUND,
        "There is no such page",
        "The address may be mistyped.",
        Some(("/", "To the start")),
    )
}

pub(super) fn declined() -> Response {
    notice(
        StatusCode::OK,
        "You declined",
        "Nothing was connected and nothing is kept. You can come back whenever you like.",
        Some(("/", "To the start")),
    )
}

pub(super) fn attempt_ended() -> Response {
    notice(
        StatusCode::BAD_REQUEST,
        "This attempt has ended",
        "It was begun in another browser, used already, or too long ago. Nothing was connected.",
        Some(("/connect", "Connect again")),
    )
}

pub(super) fn provider_away() -> Response {
    notice(
        StatusCode::SERVICE_UNAVAILABLE,
        "The identity service is away",
        "The service that asks you for your consent does not answer at the moment. Please try again in a little while.",
        Some(("/connect", "Try again")),
    )
}

pub(super) fn refused() -> Response {
    notice(
        StatusCode::BAD_GATEWAY,
        "The connection was refused",
        "The identity service refused this app's request. Nothing was connected.",
        Some(("/", "To the start")),
    )
}

/// The page cannot work without mqtt.js; it says what is to be done instead of pretending.
async fn library_missing(app: &App) -> Option<Response> {
    if tokio::fs::try_exists(app.config.mqtt_module()).await.unwrap_or(false) {
        return None;
    }
    let text = "The browser's MQTT library is not installed. In the folder samples/tpa/web, run this command and load the page again:";
    let notice = Notice {
        title: "One step is missing",
        text,
        command: Some("npm ci --ignore-scripts"),
        retry: Some(("/", "Load again")),
    };
    Some(page(StatusCode::SERVICE_UNAVAILABLE, None, &notice))
}

fn notice(status: StatusCode, title: &str, text: &str, retry: Option<(&str, &str)>) -> Response {
    page(status, None, &Notice { title, text, command: None, retry })
}

fn page(status: StatusCode, gateway: Option<&Gateway>, template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => {
            (status, [(header::CONTENT_SECURITY_POLICY, content_security_policy(gateway))], Html(html))
                .into_response()
        }
        Err(error) => {
            tracing::error!(event = "page_failed", %error);
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
