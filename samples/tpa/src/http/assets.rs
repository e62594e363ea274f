//! Style and scripts: our own are part of the program, mqtt.js is read from where `npm ci` put it.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::App;

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// `GET /assets/{name}`.
pub(super) async fn asset(State(app): State<App>, Path(name): Path<String>) -> Response {
    let own = |kind: &'static str, text: &'static str| {
        ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
    };
    match name.as_str() {
        "style.css" => own(STYLE, include_str!("../../web/style.css")),
        "icon.svg" => own(PICTURE, include_str!("../../web/icon.svg")),
        "app.js" => own(SCRIPT, include_str!("../../web/app.js")),
        "card.js" => own(SCRIPT, include_str!("../../web/card.js")),
        "chart.js" => own(SCRIPT, include_str!("../../web/chart.js")),
        "gateway.js" => own(SCRIPT, include_str!("../../web/gateway.js")),
        "readings.js" => own(SCRIPT, include_str!("../../web/readings.js")),
        "mqtt.js" => match tokio::fs::read(app.config.mqtt_module()).await {
            Ok(bytes) => ([(header::CONTENT_TYPE, SCRIPT), (header::CACHE_CONTROL, "max-age=3600")], bytes)
                .into_response(),
            Err(_) => StatusCode::NOT_FOUND.into_response(),
        },
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
