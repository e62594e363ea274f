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
use super::views::{AskingApp, Consent, Frame, Link, Message, render};
use crate::flows::authorize::{self, AuthorizeError, Back, ConsentRequest, OwnedDevice, PageError};
use crate::flows::details::Asked;
use crate::flows::device_authorization;
use crate::state::App;

/// What the sealed value of an app on another device begins with; its user code follows. No query begins so.
const DEVICE: &str = "device ";

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
    let query = sealed(&app, &owner, &headers, &fields)?;
    let request = match authorize::check(&app, Fields::parse(query.as_bytes()).pairs()).await {
        Ok(request) => request,
        Err(error) => return refused(error),
    };
    decided(&app, &reader, &owner, &fields, &request, query).await
}

/// `POST /device/decide`: yes or no to an app on another device.
pub(super) async fn decide_device(
    State(app): State<App>,
    reader: Reader,
    owner: Owner,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    let query = sealed(&app, &owner, &headers, &fields)?;
    let user_code = query.strip_prefix(DEVICE).ok_or(Failure::Forged)?;
    match device_authorization::find(&app, user_code).await? {
        Some(request) => decided(&app, &reader, &owner, &fields, &request, query).await,
        None => over(&reader, &owner, Over::TooLate),
    }
}

/// What an app on another device asks for.
pub(super) async fn show(
    app: &App,
    reader: &Reader,
    owner: &Owner,
    request: &ConsentRequest,
) -> Result<Response, Failure> {
    let Back::Device { user_code, .. } = &request.back else { return Err(Failure::NotFound) };
    let (asked, devices) = (request.asked(), authorize::devices(app, &owner.session).await?);
    let query = format!("{DEVICE}{user_code}");
    let asking = Asking { request, asked: &asked, query: &query, devices: &devices };
    page(app, reader, owner, &asking, &Picked::proposal(&asking.ground()), None)
}

/// What the page was about, if the form comes from a page of ours that asked this person.
fn sealed<'f>(app: &App, owner: &Owner, headers: &HeaderMap, fields: &'f Fields) -> Result<&'f str, Failure> {
    session::check_post(app, headers, owner, fields)?;
    let query = fields.required("request")?;
    let seal = session::seal(app, owner, query);
    if secret::equal(seal.as_bytes(), fields.required("seal")?.as_bytes()) {
        Ok(query)
    } else {
        Err(Failure::Forged)
    }
}

async fn decided(
    app: &App,
    reader: &Reader,
    owner: &Owner,
    fields: &Fields,
    request: &ConsentRequest,
    query: &str,
) -> Result<Response, Failure> {
    let device = matches!(request.back, Back::Device { .. });
    match fields.required("decision")? {
        "decline" if device => {
            let declined = device_authorization::decline(app, request).await?;
            over(reader, owner, if declined { Over::Declined } else { Over::TooLate })
        }
        "decline" => match authorize::decline(app, request).await {
            Ok(back) => Ok(send_back(&back)),
            Err(error) => refused(error),
        },
        "allow" => {
            let (asked, devices) = (request.asked(), authorize::devices(app, &owner.session).await?);
            let asking = Asking { request, asked: &asked, query, devices: &devices };
            let picked = Picked::read(&asking.ground(), fields)?;
            let choice = picked.choice(&asking.ground(), app.clock.now())?;
            if let Some(problem) = terms::problem(&choice, reader.w) {
                return page(app, reader, owner, &asking, &picked, Some(problem));
            }
            if device {
                let allowed = device_authorization::allow(app, &owner.session, request, choice).await?;
                return over(reader, owner, if allowed { Over::Allowed } else { Over::TooLate });
            }
            match authorize::allow(app, &owner.session, request, choice).await {
                Ok(back) => Ok(send_back(&back)),
                Err(error) => refused(error),
            }
        }
        _ => Err(Failure::Malformed),
    }
}

/// How it ended for an app on another device; there is nowhere to be sent back to.
enum Over {
    Allowed,
    Declined,
    TooLate,
}

fn over(reader: &Reader, owner: &Owner, how: Over) -> Result<Response, Failure> {
    let w = reader.w;
    let (status, heading, text) = match how {
        Over::Allowed => (StatusCode::OK, w.device_allowed_heading, w.device_allowed_text),
        Over::Declined => (StatusCode::OK, w.device_declined_heading, w.device_declined_text),
        Over::TooLate => (StatusCode::NOT_FOUND, w.device_over_heading, w.device_over_text),
    };
    let link = Link { href: "/account", title: w.to_my_devices };
    let reader = reader.at("/device");
    render(status, &Message { w, frame: Frame::of(&reader, owner), heading, text, link: Some(link) })
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
        AuthorizeError::Page(PageError::Duplicate | PageError::RequestUri) => Err(Failure::MalformedRequest),
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
    let (here, action, elsewhere) = match &request.back {
        Back::Redirect { .. } => (format!("/authorize?{}", asking.query), "/authorize", None),
        Back::Device { user_code, .. } => {
            let warning = w.device_warning.with(device_authorization::shown(user_code));
            ("/device".to_owned(), "/device/decide", Some(warning))
        }
    };
    let reader = reader.at(here);
    let view = Consent {
        w,
        frame: Frame::of(&reader, owner),
        csrf: &owner.csrf,
        action,
        elsewhere,
        request: asking.query,
        seal: session::seal(app, owner, asking.query),
        app: AskingApp {
            name: &request.app_name,
            initial: initial(&request.app_name),
            host: host(request),
            verified: request.verified,
        },
        problem,
        terms: picked.shown(w, &asking.ground())?,
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let mut response = render(status, &view)?;
    // Chromium holds the redirect that answers this form against `form-action` too.
    if let Back::Redirect { redirect_uri, .. } = &request.back
        && let Ok(policy) = HeaderValue::try_from(format!("{POLICY} {}", form_target(redirect_uri)))
    {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// The first letter of a name.
pub(super) fn initial(name: &str) -> String {
    name.chars().next().map(|c| c.to_uppercase().to_string()).unwrap_or_default()
}

/// Where the app is at home, as a person reads it.
fn host(request: &ConsentRequest) -> &str {
    match &request.back {
        Back::Redirect { redirect_uri, .. } if request.app_host.is_empty() => redirect_uri.scheme(),
        _ => &request.app_host,
    }
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
