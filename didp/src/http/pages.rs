//! The pages that people see: log in, claim a device, allow an app, the owner's overview.
//!
//! Rendered on the server from `templates/`, in the words of [`words`], usable without scripts. Every answer carries the
//! headers of [`harden`]; every change comes by a POST that [`session::check_post`] has seen. What is decided, and what
//! is stored, is left to the flows.

mod account;
mod apps;
mod assets;
mod claim;
mod consent;
mod device;
mod devices;
mod exactness;
mod failure;
mod form;
mod language;
mod login;
mod logins;
mod manufacturer;
mod qr;
mod segment;
mod session;
mod terms;
mod views;
mod words;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{self, map_response};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::HeaderValue;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};

use crate::state::App;

/// No form of ours is larger.
const MAX_FORM: usize = 64 * 1024;

/// What a page may load and be loaded by. It ends with the targets of forms, so that the consent page can add one.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

/// All pages; merged into the route table.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/", get(account::home))
        .route("/login", get(login::choose))
        .route("/login/{upstream}", get(login::begin))
        .route("/login/{upstream}/callback", get(login::callback))
        .route("/logout", post(login::end))
        .route("/language/{lang}", get(language::choose))
        .route("/r/{code}", get(claim::open).post(claim::confirm))
        .route("/claim/{ticket}", get(claim::show).post(claim::decide))
        .route("/claim/{ticket}/state", get(claim::state))
        .route("/authorize", get(consent::ask).post(consent::decide))
        .route("/device", get(device::ask).post(device::enter))
        .route("/device/decide", post(consent::decide_device))
        .route("/account", get(account::overview))
        .route("/account/activity", get(account::activity))
        .route("/account/export", post(account::export))
        .route("/account/logins", get(logins::show))
        .route("/account/delete", get(account::ask_delete).post(account::delete))
        .route("/account/sessions/end", post(account::log_out_elsewhere))
        .route("/account/devices/{id}/name", post(devices::rename))
        .route("/account/devices/{id}/release", get(devices::ask_release).post(devices::release))
        .route("/account/devices/{id}/transfer", get(devices::ask_transfer).post(devices::transfer))
        .route("/account/devices/{id}/undo", post(devices::undo))
        .route("/account/apps/{id}", get(apps::show))
        .route("/account/apps/{id}/change", post(apps::change))
        .route("/account/apps/{id}/withdraw", post(apps::withdraw))
        .route("/assets/{file}", get(assets::file))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .merge(manufacturer::routes())
        .layer(middleware::from_fn(language::speak))
        .layer(map_response(harden))
}

/// Answers an address that leads nowhere; for the route table's fallback.
pub async fn not_found(request: Request) -> Response {
    let reader = language::Reader::of(request.headers(), request.method(), request.uri());
    let failure = failure::Failure::NotFound.into_response();
    harden(language::tell(failure, &reader)).await
}

/// Sets the headers that every page carries, except where a handler set its own.
async fn harden(mut response: Response) -> Response {
    let headers: [(HeaderName, &'static str); 6] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ];
    for (name, value) in headers {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
