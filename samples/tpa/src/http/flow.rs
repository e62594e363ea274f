//! The code flow: to the DIdP, back from it, and giving a grant back.

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};

use super::{App, browser, pages};
use crate::grants::{Callback, NoGrant};
use crate::provider::ProviderError;

/// `GET /connect`: remembers the attempt for this browser and sends it to the DIdP.
pub(super) async fn connect(State(app): State<App>, headers: HeaderMap) -> Response {
    let (session, cookie) = match browser::session(&headers) {
        Some(session) => (session, None),
        None => {
            let (session, cookie) = browser::new_session(&app.config);
            (session, Some(cookie))
        }
    };
    let mut response = match app.grants.begin(session) {
        Ok(url) => Redirect::to(url.as_str()).into_response(),
        Err(_) => return pages::provider_away(),
    };
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// `GET /callback`: redeems the code. The grant gets a session value that was never sent before.
pub(super) async fn callback(
    State(app): State<App>,
    headers: HeaderMap,
    query: Result<Query<Callback>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let (Some(session), Ok(Query(callback))) = (browser::session(&headers), query) else {
        return pages::attempt_ended();
    };
    let (next, cookie) = browser::new_session(&app.config);
    match app.grants.finish(&session, callback, next).await {
        Ok(()) => {
            let mut response = Redirect::to("/diary").into_response();
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(NoGrant::Declined) => pages::declined(),
        Err(NoGrant::NotOurs | NoGrant::Failed(ProviderError::Gone)) => pages::attempt_ended(),
        Err(NoGrant::Failed(ProviderError::Away)) => pages::provider_away(),
        Err(NoGrant::Failed(ProviderError::Refused)) => pages::refused(),
    }
}

/// `POST /disconnect`: forgets the grant and gives it back.
pub(super) async fn disconnect(State(app): State<App>, headers: HeaderMap) -> Response {
    if !browser::is_own_page(&app.config, &headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    if let Some(session) = browser::session(&headers) {
        app.grants.give_back(&session).await;
    }
    Redirect::to("/?bye").into_response()
}
