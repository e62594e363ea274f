//! Why a page is not the one that was asked for, and what is shown instead. One match gives the status, the words and the
//! log line of each.

use std::sync::Arc;

use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderValue, StatusCode, header};

use super::language::Reader;
use super::views::{Frame, Link, Message, render};
use crate::audit::Audit;
use crate::flows::Refusal;

/// A page that could not be shown, or a change that was not made.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody is logged in; `next` is where they wanted to go.
    LogIn { next: String },
    /// No manufacturer is logged in.
    MakerLogIn,
    /// A form or a query without what has to be in it.
    Malformed,
    /// A name that is too long for the device's owner to have meant it.
    NameTooLong,
    /// A POST that did not come from a page of this session.
    Forged,
    /// No such page, or nothing of this person's behind it.
    NotFound,
    /// An authorization request of an app that is not registered.
    UnknownApp,
    /// An authorization request whose redirect URI is not registered.
    WrongRedirect,
    /// An authorization request that cannot be read, so that nobody may be answered by redirect.
    MalformedRequest,
    /// No upstream provider is configured.
    NoProviders,
    /// The template did not render.
    Render,
    /// A flow refused.
    Refused(Refusal),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

/// A failure that is still to be said in the reader's language; [`super::language::speak`] does it.
#[derive(Clone)]
pub(super) struct Untold(pub(super) Arc<Failure>);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if let Failure::LogIn { next } = &self {
            let query =
                url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
            return Redirect::to(&format!("/login?{query}")).into_response();
        }
        if let Failure::MakerLogIn = &self {
            return Redirect::to("/manufacturer/login").into_response();
        }
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(Untold(Arc::new(self)));
        response
    }
}

impl Failure {
    /// The page that says it.
    pub(super) fn page(&self, reader: &Reader) -> Response {
        let w = reader.w;
        let mut retry_after = None;
        let (status, heading, text) = match self {
            Failure::LogIn { .. } | Failure::MakerLogIn => {
                (StatusCode::UNAUTHORIZED, w.login_heading, w.login_lead)
            }
            Failure::Malformed => (StatusCode::BAD_REQUEST, w.bad_request_heading, w.bad_input_text),
            Failure::NameTooLong => {
                (StatusCode::UNPROCESSABLE_ENTITY, w.bad_request_heading, w.name_too_long)
            }
            Failure::Forged => {
                Audit::FormForged.record();
                (StatusCode::FORBIDDEN, w.forged_heading, w.forged_text)
            }
            Failure::NotFound => (StatusCode::NOT_FOUND, w.not_found_heading, w.not_found_text),
            Failure::UnknownApp => (StatusCode::BAD_REQUEST, w.wrong_app_heading, w.unknown_app_text),
            Failure::WrongRedirect => (StatusCode::BAD_REQUEST, w.wrong_app_heading, w.wrong_redirect_text),
            Failure::MalformedRequest => (StatusCode::BAD_REQUEST, w.wrong_app_heading, w.malformed_app_text),
            Failure::NoProviders => {
                tracing::error!(event = "no_login_possible", why = "no upstream configured");
                (StatusCode::SERVICE_UNAVAILABLE, w.unavailable_heading, w.no_providers)
            }
            Failure::Render => {
                tracing::error!(event = "page_not_rendered");
                (StatusCode::INTERNAL_SERVER_ERROR, w.unavailable_heading, w.unavailable_text)
            }
            Failure::Refused(refusal) => {
                refusal.log("page_refused");
                match refusal {
                    Refusal::OAuth(..) => (StatusCode::BAD_REQUEST, w.bad_request_heading, w.bad_input_text),
                    Refusal::TooMany(seconds) => {
                        retry_after = Some(*seconds);
                        (StatusCode::TOO_MANY_REQUESTS, w.too_many_heading, w.too_many_text)
                    }
                    Refusal::Busy => {
                        retry_after = Some(1);
                        (StatusCode::TOO_MANY_REQUESTS, w.too_many_heading, w.too_many_text)
                    }
                    Refusal::Store(_) => {
                        retry_after = Some(1);
                        (StatusCode::SERVICE_UNAVAILABLE, w.unavailable_heading, w.unavailable_text)
                    }
                }
            }
        };
        let link = Link { href: "/account", title: w.to_my_devices };
        let page = Message { w, frame: Frame::anonymous(reader), heading, text, link: Some(link) };
        let mut response = render(status, &page).unwrap_or_else(|_| status.into_response());
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
