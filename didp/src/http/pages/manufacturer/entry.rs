//! Logging in as a manufacturer: with its id and its initial access token, into a cookie of its own that owners' pages do not look
//! at. The cookie holds no secret but a seal; it ends after a working day, and when the token is replaced.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use service::secret::{self, Key};

use crate::flows::{Refusal, manufacturer};
use crate::http::Peer;
use crate::http::pages::failure::Failure;
use crate::http::pages::form::Fields;
use crate::http::pages::language::Reader;
use crate::http::pages::session::{self, Posted, Poster};
use crate::http::pages::views::{Frame, MakerLogin, render};
use crate::keys::Purpose;
use crate::state::{App, RegistrarToken};

/// How long a login lasts, in seconds.
const LOGIN: i64 = 8 * 3_600;

const COOKIE: &str = "didp_maker";

/// Ties the login form to the browser that was shown it.
const FORM_COOKIE: &str = "didp_maker_form";

/// A manufacturer that is logged in.
pub(super) struct Maker {
    /// Whose pages these are.
    pub(super) registrar: Arc<RegistrarToken>,
    /// The value that this login's forms carry.
    pub(super) csrf: String,
}

impl Maker {
    fn find(app: &App, headers: &HeaderMap) -> Option<Self> {
        let cookie = session::cookie(headers, &session::cookie_name(app, COOKIE))?;
        let (id, rest) = cookie.split_once('.')?;
        let (until, seal) = rest.split_once('.')?;
        let until: i64 = until.parse().ok()?;
        let live = app.registry.now();
        let registrar = live.registrars.iter().find(|known| known.id == id && known.devices)?;
        // A login from before the key changed is as good.
        let right = app.keys.keys(Purpose::Pages).fold(false, |found, key| {
            found | secret::equal(seal_of(key, registrar, until).as_bytes(), seal.as_bytes())
        });
        let alive = app.clock.now() < until && registrar.is_usable(app.clock.now());
        (right && alive).then(|| Maker { registrar: registrar.clone(), csrf: csrf(app, cookie) })
    }
}

impl Poster for Maker {
    fn csrf(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.csrf.as_str())
    }
}

impl FromRequestParts<App> for Maker {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        Maker::find(app, &parts.headers).ok_or(Failure::MakerLogIn)
    }
}

fn seal_of(key: &Key, registrar: &RegistrarToken, until: i64) -> String {
    let (until, mark) = (until.to_be_bytes(), registrar.mark());
    secret::encode(key.hmac(&[b"maker\0", registrar.id.as_bytes(), b"\0", &until, &mark]))
}

fn csrf(app: &App, cookie: &str) -> String {
    secret::encode(app.keys.key(Purpose::Pages).hmac(&[b"maker csrf\0", cookie.as_bytes()]))
}

/// `GET /manufacturer/login`.
pub(super) async fn ask(
    State(app): State<App>,
    reader: Reader,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    if Maker::find(&app, &headers).is_some() {
        return Ok(Redirect::to("/manufacturer").into_response());
    }
    form(&app, &reader, StatusCode::OK, None)
}

fn form(app: &App, reader: &Reader, status: StatusCode, problem: Option<&str>) -> Result<Response, Failure> {
    let value = secret::random_token::<16>();
    let frame = Frame { home: "/manufacturer", ..Frame::anonymous(&reader.at("/manufacturer/login")) };
    let page = MakerLogin { w: reader.w, frame, csrf: csrf(app, &value), problem };
    let mut response = render(status, &page)?;
    let name = session::cookie_name(app, FORM_COOKIE);
    response.headers_mut().append(SET_COOKIE, session::set_cookie(app, &name, &value, Some(3_600)));
    Ok(response)
}

/// `POST /manufacturer/login`. Wrong credentials are counted for their address.
pub(super) async fn enter(
    State(app): State<App>,
    reader: Reader,
    peer: Peer,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Failure> {
    session::check_origin(&app, &headers)?;
    let shown = session::cookie(&headers, &session::cookie_name(&app, FORM_COOKIE)).unwrap_or_default();
    let sent = fields.one("csrf")?.unwrap_or_default();
    if shown.is_empty() || !secret::equal(sent.as_bytes(), csrf(&app, shown).as_bytes()) {
        return Err(Failure::Forged);
    }
    let (id, token) = (fields.required("id")?.trim(), fields.required("token")?.trim());
    let Some(registrar) = manufacturer::prove(&app, id, token) else {
        tracing::warn!(event = "maker_login_refused");
        app.throttle.charge_address(peer.ip(), app.clock.now_millis()).map_err(Refusal::TooMany)?;
        return form(&app, &reader, StatusCode::UNAUTHORIZED, Some(reader.w.maker_login_failed));
    };
    tracing::info!(event = "maker_logged_in", maker = registrar.id);
    let until = app.clock.now() + LOGIN;
    let value =
        format!("{}.{until}.{}", registrar.id, seal_of(app.keys.key(Purpose::Pages), &registrar, until));
    let mut response = Redirect::to("/manufacturer").into_response();
    let cookies = response.headers_mut();
    let name = session::cookie_name(&app, COOKIE);
    cookies.append(SET_COOKIE, session::set_cookie(&app, &name, &value, None));
    let name = session::cookie_name(&app, FORM_COOKIE);
    cookies.append(SET_COOKIE, session::set_cookie(&app, &name, "", Some(0)));
    Ok(response)
}

/// `POST /manufacturer/logout`.
pub(super) async fn leave(State(app): State<App>, Posted { .. }: Posted<Maker>) -> Result<Response, Failure> {
    let mut response = Redirect::to("/manufacturer/login").into_response();
    let name = session::cookie_name(&app, COOKIE);
    response.headers_mut().append(SET_COOKIE, session::set_cookie(&app, &name, "", Some(0)));
    Ok(response)
}
