//! Who is asking: the session cookie, the values that prove that a form came from a page of ours, and where a person may be
//! sent afterwards. Sessions themselves are the login flow's.

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, header};
use service::secret;
use url::Url;

use super::failure::Failure;
use super::form::Fields;
use crate::flows::login::{self, Session};
use crate::keys::Purpose;
use crate::state::App;

/// Longest path (with its query) that a login comes back to; it travels in a cookie.
pub(super) const MAX_NEXT: usize = 2400;

/// A logged-in person.
pub(super) struct Owner {
    /// The login flow's session.
    pub(super) session: Session,
    /// The value that this session's forms carry.
    pub(super) csrf: String,
    csrf_of_any_key: Vec<String>,
}

impl Owner {
    /// The session that the request's cookie names, if it is alive.
    pub(super) async fn find(app: &App, headers: &HeaderMap) -> Result<Option<Owner>, Failure> {
        let Some(token) = cookie(headers, &session_cookie_name(app)) else { return Ok(None) };
        let session = login::session(app, token).await?;
        Ok(session.map(|session| Owner {
            session,
            csrf: csrf(app.keys.key(Purpose::Pages), token),
            csrf_of_any_key: app.keys.keys(Purpose::Pages).map(|key| csrf(key, token)).collect(),
        }))
    }
}

impl FromRequestParts<App> for Owner {
    type Rejection = Failure;

    /// The logged-in person; anybody else is sent to the login, and from there back to the page that was asked for.
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        if let Some(owner) = Owner::find(app, &parts.headers).await? {
            return Ok(owner);
        }
        let asked = parts.uri.path_and_query().map_or("/account", |path| path.as_str());
        // A form can only be sent again from its page; those of a claim stand at the same address.
        let same = ["/r/", "/claim/"].iter().any(|start| asked.starts_with(start));
        let next = if parts.method == Method::GET || same { asked } else { "/account" };
        Err(Failure::LogIn { next: next.to_owned() })
    }
}

/// The logged-in person, if there is one.
pub(super) struct Visitor(pub(super) Option<Owner>);

impl FromRequestParts<App> for Visitor {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        Owner::find(app, &parts.headers).await.map(Visitor)
    }
}

fn csrf(key: &secret::Key, token: &str) -> String {
    secret::encode(key.hmac(&[b"csrf\0", token.as_bytes()]))
}

/// Seals a value into a form of this session, so that it comes back unchanged or not at all.
pub(super) fn seal(app: &App, owner: &Owner, value: &str) -> String {
    let key = app.keys.key(Purpose::Pages);
    secret::encode(key.hmac(&[b"form value\0", owner.csrf.as_bytes(), b"\0", value.as_bytes()]))
}

/// Somebody whose forms carry a value that only their pages showed.
pub(super) trait Poster: FromRequestParts<App, Rejection = Failure> {
    /// That value; under several keys if a page shown before the newest one is as good.
    fn csrf(&self) -> impl Iterator<Item = &str>;
}

impl Poster for Owner {
    fn csrf(&self) -> impl Iterator<Item = &str> {
        self.csrf_of_any_key.iter().map(String::as_str)
    }
}

/// A form that somebody sent from a page that they were shown; no other form gets to a handler that asks for this.
pub(super) struct Posted<P> {
    /// Who sent it.
    pub(super) who: P,
    /// What they sent.
    pub(super) fields: Fields,
}

impl<P: Poster + Send> FromRequest<App> for Posted<P> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let (mut parts, body) = request.into_parts();
        let who = P::from_request_parts(&mut parts, app).await?;
        let headers = parts.headers.clone();
        let fields = Fields::from_request(Request::from_parts(parts, body), app).await?;
        check_post(app, &headers, &who, &fields)?;
        Ok(Self { who, fields })
    }
}

/// Lets a POST through if it came from a page that this person was shown. The token is what decides; where a browser tells
/// where the request comes from, that must be right too. (Under `Referrer-Policy: no-referrer` the origin is `null`.)
pub(super) fn check_post(
    app: &App,
    headers: &HeaderMap,
    who: &impl Poster,
    fields: &Fields,
) -> Result<(), Failure> {
    check_origin(app, headers)?;
    let sent = fields.one("csrf")?.unwrap_or_default();
    let fits = who.csrf().fold(false, |found, csrf| found | secret::equal(sent.as_bytes(), csrf.as_bytes()));
    if fits { Ok(()) } else { Err(Failure::Forged) }
}

/// Lets a POST through unless its browser says that it came from elsewhere.
pub(super) fn check_origin(app: &App, headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name| headers.get(name).map(HeaderValue::as_bytes);
    if text("sec-fetch-site").is_some_and(|site| site != b"same-origin") {
        return Err(Failure::Forged);
    }
    let own = app.issuer().origin().ascii_serialization();
    if text("origin").is_some_and(|origin| origin != b"null" && origin != own.as_bytes()) {
        return Err(Failure::Forged);
    }
    Ok(())
}

/// The value of a cookie; the first one, if there are several.
pub(super) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    cookies(headers).find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// All cookies of a request.
pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
}

/// Whether browsers reach this DIdP by https only, so that cookies can be bound to that.
fn https(app: &App) -> bool {
    app.issuer().scheme() == "https"
}

/// A cookie's name, bound to this host where the browser can do that.
pub(super) fn cookie_name(app: &App, name: &str) -> String {
    if https(app) { format!("__Host-{name}") } else { name.to_owned() }
}

fn session_cookie_name(app: &App) -> String {
    cookie_name(app, "didp_session")
}

/// The token of this browser's session, alive or not.
pub(super) fn session_token<'h>(app: &App, headers: &'h HeaderMap) -> Option<&'h str> {
    cookie(headers, &session_cookie_name(app))
}

/// A `Set-Cookie` value. Lives as long as the browser unless `max_age` (seconds) is given; 0 deletes the cookie.
pub(super) fn set_cookie(app: &App, name: &str, value: &str, max_age: Option<i64>) -> HeaderValue {
    let mut text = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax");
    if https(app) {
        text.push_str("; Secure");
    }
    if let Some(seconds) = max_age {
        text.push_str(&format!("; Max-Age={seconds}"));
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// The `Set-Cookie` value that begins a session.
pub(super) fn session_cookie(app: &App, token: &str) -> HeaderValue {
    set_cookie(app, &session_cookie_name(app), token, None)
}

/// The `Set-Cookie` value that ends a session in the browser.
pub(super) fn no_session_cookie(app: &App) -> HeaderValue {
    set_cookie(app, &session_cookie_name(app), "", Some(0))
}

/// Where to go after a login: a page of this site, or the overview.
pub(super) fn next_page(app: &App, asked: Option<&str>) -> String {
    asked.and_then(|asked| own_path(app.issuer(), asked)).unwrap_or_else(|| "/account".to_owned())
}

/// Where to go after choosing a language: any page of this site that is looked at.
pub(super) fn any_page(app: &App, asked: Option<&str>) -> String {
    let looked_at =
        |path: &str| path == "/login" || path == "/manufacturer" || path.starts_with("/manufacturer/");
    asked
        .and_then(|asked| own_address(app.issuer(), asked, looked_at))
        .unwrap_or_else(|| next_page(app, asked))
}

/// `asked` as browsers understand it, if that is one of the pages here that a login may lead to.
fn own_path(issuer: &Url, asked: &str) -> Option<String> {
    own_address(issuer, asked, |path| {
        path == "/account"
            || path == "/authorize"
            || path == "/device"
            || ["/account/", "/r/", "/claim/"].iter().any(|start| path.starts_with(start))
    })
}

fn own_address(issuer: &Url, asked: &str, known: impl Fn(&str) -> bool) -> Option<String> {
    if !asked.starts_with('/') || asked.len() > MAX_NEXT {
        return None;
    }
    let url = issuer.join(asked).ok()?;
    if url.origin() != issuer.origin() || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let path = url.path();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    known(path).then(|| format!("{path}{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_back_to_pages_of_this_site_only() {
        let issuer: Url = "https://didp.example/".parse().unwrap();
        for good in [
            "/account",
            "/r/abc_-",
            "/claim/x?y=1",
            "/device?user_code=WDJB-MJHT",
            "/authorize?client_id=a&state=%2F",
            "/account/apps/1",
        ] {
            assert_eq!(own_path(&issuer, good).as_deref(), Some(good));
        }
        for bad in [
            "",
            "account",
            "//evil.example/account",
            "/\\evil.example/r/x",
            "/\t/evil.example/r/x",
            "https://evil.example/r/x",
            "/\n/evil.example/account",
            "/login/x/callback",
            "/logout",
            "/register",
            "/r/../logout",
            "/accounts",
        ] {
            assert_eq!(own_path(&issuer, bad), None, "{bad:?}");
        }
        assert_eq!(own_path(&issuer, &format!("/r/{}", "x".repeat(MAX_NEXT))), None);
    }

    #[test]
    fn cookies_are_found_among_others_and_over_several_lines() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("tpa_session=1; didp_session=abc ;x"));
        headers.append(header::COOKIE, HeaderValue::from_static("other=2"));
        assert_eq!(cookie(&headers, "didp_session"), Some("abc"));
        assert_eq!(cookie(&headers, "other"), Some("2"));
        assert_eq!(cookie(&headers, "session"), None);
    }
}
