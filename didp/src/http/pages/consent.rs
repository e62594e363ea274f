//! Allowing an app: the page of `/authorize` (RFC 6749 §3.1). Which request is in order, and what a consent makes, is decided
//! by the authorization flow; here an owner reads it in plain words, narrows it, and says yes or no.

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderMap, HeaderValue, StatusCode};
use service::secret;
use url::Url;

use super::POLICY;
use super::failure::Failure;
use super::form::Fields;
use super::language::Reader;
use super::session::{self, MAX_NEXT, Owner, Visitor};
use super::terms::{self, Ground, Picked};
use super::views::{AskingApp, Consent, Frame, render};
use crate::flows::authorize::{self, AuthorizeError, ConsentRequest, OwnedDevice, PageError};
use crate::flows::details::Asked;
use crate::state::App;

/// `GET /authorize`.
pub(super) async fn ask(
    State(app): State<App>,
    reader: Reader,
    Visitor(visitor): Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = query.unwrap_or_default();
    // The request has to survive a login, which carries it in a cookie.
    if query.len() + "/authorize?".len() > MAX_NEXT {
        return Err(Failure::MalformedRequest);
    }
    let request = match authorize::check(&app, Fields::parse(query.as_bytes()).pairs()).await {
        Ok(request) => request,
        Err(error) => return refused(error),
    };
    let Some(owner) = visitor else { return Err(Failure::LogIn { next: format!("/authorize?{query}") }) };
    let (asked, devices) = (request.asked(), authorize::devices(&app, &owner.session).await?);
    let asking = Asking { request: &request, asked: &asked, query: &query, devices: &devices };
    page(&app, &reader, &owner, &asking, &Picked::proposal(&asking.ground()), None)
}

/// `POST /authorize`: yes or no.
pub(super) async fn decide(
    State(app): State<App>,
    reader: Reader,
    owner: Owner,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    session::check_post(&app, &headers, &owner, &fields)?;
    let query = fields.required("request")?;
    let seal = session::seal(&app, &owner, query);
    if !secret::equal(seal.as_bytes(), fields.required("seal")?.as_bytes()) {
        return Err(Failure::Forged);
    }
    let request = match authorize::check(&app, Fields::parse(query.as_bytes()).pairs()).await {
        Ok(request) => request,
        Err(error) => return refused(error),
    };
    match fields.required("decision")? {
        "decline" => {
            let back = authorize::decline(&app, &request);
            Ok(send_back(&back))
        }
        "allow" => {
            let (asked, devices) = (request.asked(), authorize::devices(&app, &owner.session).await?);
            let asking = Asking { request: &request, asked: &asked, query, devices: &devices };
            let picked = Picked::read(&asking.ground(), &fields)?;
            let choice = picked.choice(&asking.ground(), app.clock.now())?;
            if let Some(problem) = terms::problem(&choice, reader.w) {
                return page(&app, &reader, &owner, &asking, &picked, Some(problem));
            }
            match authorize::allow(&app, &owner.session, &request, choice).await {
                Ok(back) => Ok(send_back(&back)),
                Err(error) => refused(error),
            }
        }
        _ => Err(Failure::Malformed),
    }
}

/// Back to the app, by 303.
fn send_back(url: &Url) -> Response {
    Redirect::to(url.as_str()).into_response()
}

/// A request that is not in order: told to the app if its redirect URI is known to be right, otherwise only to the person.
fn refused(error: AuthorizeError) -> Result<Response, Failure> {
    match error {
        AuthorizeError::Page(PageError::UnknownClient) => Err(Failure::UnknownApp),
        AuthorizeError::Page(PageError::RedirectUri) => Err(Failure::WrongRedirect),
        AuthorizeError::Page(PageError::Duplicate) => Err(Failure::MalformedRequest),
        AuthorizeError::Redirect(url) => Ok(send_back(&url)),
        AuthorizeError::Refused(refusal) => Err(refusal.into()),
    }
}

/// What the page is about.
struct Asking<'a> {
    request: &'a ConsentRequest,
    asked: &'a Asked,
    query: &'a str,
    devices: &'a [OwnedDevice],
}

impl Asking<'_> {
    fn ground(&self) -> Ground<'_> {
        Ground { asked: self.asked, devices: self.devices, now: None }
    }
}

fn page(
    app: &App,
    reader: &Reader,
    owner: &Owner,
    asking: &Asking<'_>,
    picked: &Picked,
    problem: Option<&'static str>,
) -> Result<Response, Failure> {
    let (w, request) = (reader.w, asking.request);
    let reader = reader.at(format!("/authorize?{}", asking.query));
    let view = Consent {
        w,
        frame: Frame::of(&reader, owner),
        csrf: &owner.csrf,
        request: asking.query,
        seal: session::seal(app, owner, asking.query),
        app: AskingApp {
            name: &request.app_name,
            initial: initial(&request.app_name),
            host: if request.app_host.is_empty() { request.redirect_uri.scheme() } else { &request.app_host },
            verified: request.verified,
        },
        problem,
        terms: picked.shown(w, &asking.ground())?,
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let mut response = render(status, &view)?;
    // Chromium holds the redirect that answers this form against `form-action` too.
    if let Ok(policy) = HeaderValue::try_from(format!("{POLICY} {}", form_target(&request.redirect_uri))) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// The first letter of a name.
pub(super) fn initial(name: &str) -> String {
    name.chars().next().map(|c| c.to_uppercase().to_string()).unwrap_or_default()
}

/// The source expression (CSP 3 §2.3.1) of a redirect URI: its origin, or its scheme if that has no origin.
fn form_target(url: &Url) -> String {
    match url.origin() {
        url::Origin::Tuple(..) => url.origin().ascii_serialization(),
        url::Origin::Opaque(_) => format!("{}:", url.scheme()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_uri_becomes_a_source_expression_that_cannot_carry_more() {
        for (uri, source) in [
            ("https://app.example/callback?x=1;script-src%20*", "https://app.example"),
            ("http://127.0.0.1:3000/cb", "http://127.0.0.1:3000"),
            ("com.example.app:/callback", "com.example.app:"),
        ] {
            assert_eq!(form_target(&uri.parse().unwrap()), source);
        }
    }
}
