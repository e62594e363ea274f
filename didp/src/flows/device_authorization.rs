//! The device authorization grant (RFC 8628): an app that has no browser shows its owner a short code, and the owner allows it in
//! a browser elsewhere. Not for devices, which are claimed.
//!
//! A short code can be guessed and can be passed on by a cheat. So guesses are limited for each owner and address before
//! anything is looked up (§5.1), nothing happens without the owner's press on a page that names the app, shows the code once
//! more and says what that means (§5.4), and the app's answers go to whoever holds the long code only.

use std::net::IpAddr;

use oauth_wire::{DEVICE_CODE, OAuthErrorCode, TokenResponse};
use serde::Serialize;
use service::secret;
use url::form_urlencoded;

use crate::audit::Audit;
use crate::flows::authorize::{self, Back, Choice, ConsentRequest};
use crate::flows::change::Change;
use crate::flows::login::Session;
use crate::flows::token::{self, Handle};
use crate::flows::{Refusal, refuse, registration};
use crate::keys::{Mac, Purpose};
use crate::state::App;
use crate::store::clients::{self, Client};
use crate::store::requests::{self, DeviceAuthorization};
use crate::store::tokens;

/// How long an owner has, in seconds.
pub const LIFETIME: i64 = 600;

/// Seconds between two polls of the app.
pub const INTERVAL: i64 = 5;

/// Letters of a user code: no vowels, so that no words come about, and none that look alike (RFC 8628 §6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LENGTH: usize = 8;

/// What the app asks for; the rest of its request is not kept.
const KEPT: [&str; 3] = ["scope", "authorization_details", "resource"];

/// Answer of a device authorization request (RFC 8628 §3.2).
#[derive(Serialize)]
pub struct Begun {
    /// What the app polls with.
    pub device_code: String,
    /// What it shows: `XXXX-XXXX`.
    pub user_code: String,
    /// Where the owner types that.
    pub verification_uri: String,
    /// The same with the code in it, for a QR code.
    pub verification_uri_complete: String,
    /// Seconds.
    pub expires_in: i64,
    /// Seconds between two polls.
    pub interval: i64,
}

/// Begins a device authorization.
///
/// # Errors
/// `unauthorized_client` unless the client registered for this grant; those of an authorization request.
pub async fn begin(app: &App, client: &Client, parameters: &[(String, String)]) -> Result<Begun, Refusal> {
    let allowed = registration::metadata_of(client).is_some_and(|metadata| metadata.allows(DEVICE_CODE));
    if client.is_device() || !allowed {
        return refuse(OAuthErrorCode::UnauthorizedClient, "the client is not registered for this grant");
    }
    let kept: Vec<(String, String)> =
        parameters.iter().filter(|(name, _)| KEPT.contains(&name.as_str())).cloned().collect();
    authorize::wish(app, &kept).map_err(|(code, why)| Refusal::OAuth(code, why))?;
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(&kept).finish();
    let device_code = secret::random_token::<32>();
    let code = app.keys.mac(Purpose::Token, &Handle::DeviceCode(&device_code).parts());
    let expires_at = app.clock.now() + LIFETIME;
    // Two codes meet once in billions; then there is another one.
    for _ in 0..4 {
        let user_code = random_user_code();
        let hash = user_code_mac(app, &user_code);
        let mut tx = app.store.write_beside().await?;
        let begun =
            requests::begin(&mut tx, code.as_bytes(), hash.as_bytes(), &client.client_id, &form, expires_at);
        if begun.await? {
            tx.commit().await?;
            let shown = shown(&user_code);
            let verification_uri = app.url("/device");
            return Ok(Begun {
                verification_uri_complete: format!("{verification_uri}?user_code={shown}"),
                device_code,
                user_code: shown,
                verification_uri,
                expires_in: LIFETIME,
                interval: INTERVAL,
            });
        }
    }
    refuse(OAuthErrorCode::ServerError, "no code is free")
}

/// The app asks whether its owner decided (RFC 8628 §3.4).
///
/// # Errors
/// `authorization_pending`, `slow_down`, `access_denied`, `expired_token` (§3.5); `invalid_grant`.
pub async fn poll(app: &App, client: &Client, device_code: &str) -> Result<TokenResponse, Refusal> {
    let handle = Handle::DeviceCode(device_code);
    let mut found = None;
    for candidate in app.keys.candidates(Purpose::Token, &handle.parts()) {
        found = requests::by_code(&mut *app.store.read().await?, candidate.as_bytes()).await?;
        if found.is_some() {
            break;
        }
    }
    let Some(asked) = found.filter(|asked| asked.client_id == client.client_id) else {
        return refuse(OAuthErrorCode::InvalidGrant, "the device_code is unknown or another client's");
    };
    match asked.state.as_str() {
        "allowed" => token::present(app, client, handle, None, None).await,
        "declined" => refuse(OAuthErrorCode::AccessDenied, "the owner declined"),
        _ if asked.expires_at <= app.clock.now() => {
            refuse(OAuthErrorCode::ExpiredToken, "the owner did not decide in time")
        }
        _ if !app.throttle.poll(&asked.code, INTERVAL * 1_000, app.clock.now_millis()) => {
            refuse(OAuthErrorCode::SlowDown, "polled before the interval was over")
        }
        _ => refuse(OAuthErrorCode::AuthorizationPending, "the owner has not decided yet"),
    }
}

/// What the app with this user code asks for, if there is one.
///
/// # Errors
/// [`Refusal::TooMany`] after a number of wrong codes, before anything is looked up.
pub async fn enter(
    app: &App,
    session: &Session,
    address: IpAddr,
    typed: &str,
) -> Result<Option<ConsentRequest>, Refusal> {
    let who = format!("user codes of {}", session.user);
    let attempt = app.throttle.attempt(address, &who, &app.clock).await.map_err(|wait| {
        Audit::UserCodeLimited.record();
        Refusal::TooMany(wait)
    })?;
    let found = match normal(typed) {
        Some(user_code) => find(app, &user_code).await,
        None => Ok(None),
    };
    match &found {
        Ok(Some(_)) => attempt.succeeded(),
        Ok(None) => drop(attempt),
        Err(_) => attempt.undecided(),
    }
    found
}

/// What the app with this user code asks for; for codes that [`enter`] has let through.
///
/// # Errors
/// The store cannot answer.
pub async fn find(app: &App, user_code: &str) -> Result<Option<ConsentRequest>, Refusal> {
    let now = app.clock.now();
    let mut conn = app.store.read().await?;
    for candidate in app.keys.candidates(Purpose::Session, &[b"device user code ", user_code.as_bytes()]) {
        let Some(asked) = requests::by_user_code(&mut conn, candidate.as_bytes(), now).await? else {
            continue;
        };
        let Some(client) = clients::get(&mut conn, &asked.client_id).await? else { return Ok(None) };
        return Ok(request(app, client, asked, user_code));
    }
    Ok(None)
}

fn request(app: &App, client: Client, asked: DeviceAuthorization, user_code: &str) -> Option<ConsentRequest> {
    let parameters: Vec<(String, String)> =
        form_urlencoded::parse(asked.parameters.as_bytes()).into_owned().collect();
    let wish = authorize::wish(app, &parameters).ok().filter(|_| !client.disabled)?;
    let back = Back::Device { id: asked.id, code: asked.code, user_code: user_code.to_owned() };
    Some(ConsentRequest::new(client, wish, back))
}

/// The owner allows: makes the grant; the app finds it at its next poll. False if the choice grants nothing, or if somebody
/// decided meanwhile.
///
/// # Errors
/// The store cannot answer.
pub async fn allow(
    app: &App,
    session: &Session,
    request: &ConsentRequest,
    choice: Choice,
) -> Result<bool, Refusal> {
    let Back::Device { id, code, .. } = &request.back else { return Ok(false) };
    let mut change = Change::begin(app).await?;
    if !requests::decide(change.conn(), *id, "allowed").await? {
        return Ok(false);
    }
    let Ok(grant) = authorize::grant(app, &mut change, session, request, choice).await? else {
        return Ok(false);
    };
    let node = tokens::NewNode {
        grant_id: grant,
        parent: None,
        state: "current",
        handle: code,
        access: None,
        challenge: None,
        redirect_uri: None,
        expires_at: app.clock.now() + LIFETIME,
    };
    tokens::insert(change.conn(), &node).await?;
    change.commit(app).await?;
    Ok(true)
}

/// The owner declines. False if somebody decided meanwhile.
///
/// # Errors
/// The store cannot answer.
pub async fn decline(app: &App, request: &ConsentRequest) -> Result<bool, Refusal> {
    let Back::Device { id, .. } = &request.back else { return Ok(false) };
    let mut tx = app.store.write_beside().await?;
    let declined = requests::decide(&mut tx, *id, "declined").await?;
    tx.commit().await?;
    Ok(declined)
}

/// A user code as people type it, without what stands between its letters; none if it cannot be one.
fn normal(typed: &str) -> Option<String> {
    let letters: String = typed
        .chars()
        .filter(|c| !matches!(c, '-' | ' ' | '\u{a0}' | '.' | '_'))
        .take(LENGTH + 1)
        .map(|c| c.to_ascii_uppercase())
        .collect();
    let plain = letters.len() == LENGTH && letters.bytes().all(|byte| LETTERS.contains(&byte));
    plain.then_some(letters)
}

/// A user code as it is shown.
pub fn shown(user_code: &str) -> String {
    match user_code.split_at_checked(LENGTH / 2) {
        Some((one, other)) => format!("{one}-{other}"),
        None => user_code.to_owned(),
    }
}

fn random_user_code() -> String {
    // 64 bits for each letter make the remainder's bias immeasurable.
    let letter = |_| char::from(LETTERS[(u64::from_be_bytes(secret::random_bytes()) % 20) as usize]);
    (0..LENGTH).map(letter).collect()
}

fn user_code_mac(app: &App, user_code: &str) -> Mac {
    app.keys.mac(Purpose::Session, &[b"device user code ", user_code.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_codes_are_read_however_people_type_them() {
        for typed in ["WDJB-MJHT", "wdjbmjht", " wdjb mjht ", "WDJB.MJHT"] {
            assert_eq!(normal(typed).as_deref(), Some("WDJBMJHT"), "{typed}");
        }
        for typed in ["", "WDJB-MJH", "WDJB-MJHTX", "AEIO-UAEI", "WDJB-MJH1", "ЖDJB-MJHT"] {
            assert_eq!(normal(typed), None, "{typed}");
        }
        assert_eq!(shown("WDJBMJHT"), "WDJB-MJHT");
        let drawn = random_user_code();
        assert_eq!(normal(&drawn), Some(drawn.clone()));
    }
}
