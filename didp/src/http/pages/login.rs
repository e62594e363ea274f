//! Logging in at an upstream provider, and out. The protocol with the provider is [`crate::upstream`]'s; here are the pages,
//! and the cookies that tie a login to the browser that began it.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};

use super::failure::Failure;
use super::form::Fields;
use super::language::Reader;
use super::logins;
use super::segment::Segment;
use super::session::{self, Visitor};
use super::views::{Frame, Login, Provider, render};
use crate::audit::Audit;
use crate::flows;
use crate::keys::Purpose;
use crate::state::App;
use crate::upstream::{Callback, Pending, Upstream, UpstreamError, pending};

/// Logins under way in one browser; the oldest ones are forgotten beyond that.
const MAX_PENDING: usize = 4;

/// `GET /login?next=…`: choose a provider.
pub(super) async fn choose(
    State(app): State<App>,
    reader: Reader,
    Visitor(visitor): Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let next = session::next_page(&app, query.one("next")?);
    if visitor.is_some() {
        return Ok(Redirect::to(&next).into_response());
    }
    choice(&app, &reader, &next, StatusCode::OK, None)
}

/// The page with the providers, in the words of where the person is going.
pub(super) fn choice(
    app: &App,
    reader: &Reader,
    next: &str,
    status: StatusCode,
    problem: Option<String>,
) -> Result<Response, Failure> {
    let w = reader.w;
    let (heading, lead) = if next.starts_with("/r/") {
        (w.login_for_claim_heading, w.login_for_claim_lead)
    } else if next.starts_with("/authorize") {
        (w.login_for_app_heading, w.login_for_app_lead)
    } else {
        (w.login_heading, w.login_lead)
    };
    let query: String =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
    let providers: Vec<Provider<'_>> = app
        .upstreams
        .iter()
        .map(|upstream| Provider { name: upstream.name(), href: format!("/login/{}?{query}", upstream.id()) })
        .collect();
    if providers.is_empty() {
        return Err(Failure::NoProviders);
    }
    render(status, &Login { w, frame: Frame::anonymous(reader), heading, lead, problem, providers })
}

/// `GET /login/{upstream}?next=…`: on to the provider.
pub(super) async fn begin(
    State(app): State<App>,
    Segment(id): Segment,
    reader: Reader,
    Visitor(visitor): Visitor,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let query = Fields::parse(query.unwrap_or_default().as_bytes());
    let upstream = app.upstreams.get(&id).ok_or(Failure::NotFound)?;
    let purpose = logins::purpose(&app, visitor.as_ref(), upstream, &query)?;
    let next = match purpose {
        None => session::next_page(&app, query.one("next")?),
        Some(_) => logins::PAGE.to_owned(),
    };
    let (url, mut pending) = match upstream.begin(&next, app.clock.now()).await {
        Ok(begun) => begun,
        Err(error) => return explain(&app, &reader, upstream, &next, error),
    };
    if let Some(purpose) = purpose {
        pending = pending.with_purpose(purpose);
    }
    let mut response = Redirect::to(url.as_str()).into_response();
    let stem = session::cookie_name(&app, "didp_login_");
    let older: Vec<&str> =
        session::cookies(&headers).map(|(name, _)| name).filter(|name| name.starts_with(&stem)).collect();
    if older.len() >= MAX_PENDING {
        for name in older {
            response.headers_mut().append(SET_COOKIE, session::set_cookie(&app, name, "", Some(0)));
        }
    }
    let name = format!("{stem}{}", pending.own_tag());
    let sealed = pending.seal(app.keys.key(Purpose::Pages));
    response
        .headers_mut()
        .append(SET_COOKIE, session::set_cookie(&app, &name, &sealed, Some(pending::LIFETIME)));
    Ok(response)
}

/// `GET /login/{upstream}/callback`: back from the provider.
pub(super) async fn callback(
    State(app): State<App>,
    Segment(id): Segment,
    reader: Reader,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let upstream = app.upstreams.get(&id).ok_or(Failure::NotFound)?;
    let callback: Callback =
        serde_urlencoded::from_str(&query.unwrap_or_default()).map_err(|_| Failure::Malformed)?;
    let state = callback.state.as_deref().unwrap_or_default();
    let name = format!("{}{}", session::cookie_name(&app, "didp_login_"), Pending::tag(state));
    let kept = session::cookie(&headers, &name)
        .and_then(|sealed| app.keys.keys(Purpose::Pages).find_map(|key| Pending::open(sealed, key)));
    let Some(pending) = kept else {
        return explain(
            &app,
            &reader,
            upstream,
            "/account",
            UpstreamError::Refused("state unknown to this browser"),
        );
    };
    let next = session::next_page(&app, Some(pending.next()));
    let finished = upstream.finish(&callback, &pending, app.clock.now()).await;
    let mut response = match (finished, pending.purpose()) {
        (Ok(person), Some(purpose)) => logins::changed(&app, &headers, upstream, purpose, &person).await?,
        (Ok(person), None) => {
            if let Some(former) = session::session_token(&app, &headers) {
                flows::login::sign_out(&app, former).await?;
            }
            let token = flows::login::sign_in(&app, &person.issuer, &person.subject).await?;
            if let Some(session) = flows::login::session(&app, &token).await? {
                flows::account::past::note_login(&app, &session, upstream.name()).await?;
            }
            Audit::OwnerSignedIn { upstream: upstream.id().to_owned() }.record();
            let mut response = Redirect::to(&next).into_response();
            response.headers_mut().append(SET_COOKIE, session::session_cookie(&app, &token));
            response
        }
        (Err(error), _) => explain(&app, &reader, upstream, &next, error)?,
    };
    response.headers_mut().append(SET_COOKIE, session::set_cookie(&app, &name, "", Some(0)));
    Ok(response)
}

/// The choice once more, saying what went wrong.
fn explain(
    app: &App,
    reader: &Reader,
    upstream: &Upstream,
    next: &str,
    error: UpstreamError,
) -> Result<Response, Failure> {
    let w = reader.w;
    let (status, words) = match error {
        UpstreamError::Away(what) => {
            tracing::warn!(event = "login_failed", upstream = upstream.id(), why = what);
            (StatusCode::SERVICE_UNAVAILABLE, w.login_away.with(upstream.name()))
        }
        UpstreamError::Denied => {
            tracing::info!(event = "login_declined", upstream = upstream.id());
            (StatusCode::OK, w.login_denied.to_owned())
        }
        UpstreamError::Refused(what) => {
            Audit::OwnerRefused { upstream: upstream.id().to_owned(), why: what }.record();
            (StatusCode::BAD_REQUEST, w.login_failed.to_owned())
        }
    };
    // Under this address the login would be tried again.
    let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
    choice(app, &reader.at(format!("/login?{query}")), next, status, Some(words))
}

/// `POST /logout`.
pub(super) async fn end(
    State(app): State<App>,
    Visitor(visitor): Visitor,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    if let Some(owner) = &visitor {
        session::check_post(&app, &headers, owner, &fields)?;
        if let Some(token) = session::session_token(&app, &headers) {
            flows::login::sign_out(&app, token).await?;
            Audit::OwnerSignedOut.record();
        }
    }
    let mut response = Redirect::to("/login").into_response();
    response.headers_mut().append(SET_COOKIE, session::no_session_cookie(&app));
    Ok(response)
}
