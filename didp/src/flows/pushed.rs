//! Pushed authorization requests (RFC 9126): an app sends its request over its own authenticated channel first, and the browser
//! carries a handle only. A handle is good for one decision of an owner.

use oauth_wire::OAuthErrorCode;
use serde::Serialize;
use service::secret;
use url::form_urlencoded;

use crate::flows::authorize::{self, Fault, PageError};
use crate::flows::{Refusal, refuse};
use crate::keys::{Mac, Purpose};
use crate::state::App;
use crate::store::clients::Client;
use crate::store::requests;

/// How long a request waits for its owner, in seconds: they may have to log in first.
pub const LIFETIME: i64 = 600;

/// What a handle begins with (RFC 9126 §2.2).
const URN: &str = "urn:ietf:params:oauth:request_uri:";

/// Longest request, as a form.
const LONGEST: usize = 32 * 1024;

/// Parameters by which the client proved itself; they are no part of its request.
const CREDENTIALS: [&str; 4] = ["client_id", "client_secret", "client_assertion", "client_assertion_type"];

/// What is kept of a request. Others mean nothing here, and some could name a person (`login_hint`).
const KEPT: [&str; 10] = [
    "client_id",
    "response_type",
    "response_mode",
    "redirect_uri",
    "state",
    "scope",
    "code_challenge",
    "code_challenge_method",
    "resource",
    "authorization_details",
];

/// Answer of a push (RFC 9126 §2.2).
#[derive(Debug, Clone, Serialize)]
pub struct Pushed {
    /// What the browser carries in the request's place.
    pub request_uri: String,
    /// Seconds.
    pub expires_in: i64,
}

/// Judges a request as the authorization endpoint would, and keeps it.
///
/// # Errors
/// Those of the authorization request, as JSON (RFC 9126 §2.3).
pub async fn push(app: &App, client: &Client, parameters: &[(String, String)]) -> Result<Pushed, Refusal> {
    if parameters.iter().any(|(name, _)| name == "request_uri") {
        return refuse(OAuthErrorCode::InvalidRequest, "request_uri cannot be pushed");
    }
    let own = [("client_id".to_owned(), client.client_id.clone())];
    let rest = parameters.iter().filter(|(name, _)| !CREDENTIALS.contains(&name.as_str())).cloned();
    let parameters: Vec<(String, String)> = own.into_iter().chain(rest).collect();
    authorize::judge(app, client.clone(), &parameters).map_err(|fault| match fault {
        Fault::Page(PageError::UnknownClient | PageError::RequestUri) => {
            Refusal::OAuth(OAuthErrorCode::UnauthorizedClient, "the client cannot ask owners")
        }
        Fault::Page(PageError::RedirectUri) => {
            Refusal::OAuth(OAuthErrorCode::InvalidRequest, "redirect_uri is missing or not registered")
        }
        Fault::Page(PageError::Duplicate) => {
            Refusal::OAuth(OAuthErrorCode::InvalidRequest, "a parameter stands twice")
        }
        Fault::Told { code, why, .. } => Refusal::OAuth(code, why),
    })?;
    let kept = parameters.iter().filter(|(name, _)| KEPT.contains(&name.as_str()));
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish();
    if form.len() > LONGEST {
        return refuse(OAuthErrorCode::InvalidRequest, "the request is too long");
    }
    let token = secret::random_token::<32>();
    let expires_at = app.clock.now() + LIFETIME;
    let mut tx = app.store.write_beside().await?;
    requests::push(&mut tx, mac(app, &token).as_bytes(), &client.client_id, &form, expires_at).await?;
    tx.commit().await?;
    Ok(Pushed { request_uri: format!("{URN}{token}"), expires_in: LIFETIME })
}

/// What a client pushed: the hash that it is kept under, and its parameters. None if there is no such request any more.
pub(crate) async fn find(
    app: &App,
    client_id: &str,
    request_uri: &str,
) -> Result<Option<(Vec<u8>, Vec<(String, String)>)>, Refusal> {
    let Some(token) = request_uri.strip_prefix(URN) else { return Ok(None) };
    let now = app.clock.now();
    for candidate in app.keys.candidates(Purpose::Token, &[b"pushed ", token.as_bytes()]) {
        let handle = candidate.as_bytes();
        if let Some(form) = requests::pushed(&mut *app.store.read().await?, handle, client_id, now).await? {
            let parameters = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
            return Ok(Some((handle.to_vec(), parameters)));
        }
    }
    Ok(None)
}

/// True for what could be a handle that [`push`] gave.
pub(crate) fn is_handle(request_uri: &str) -> bool {
    request_uri.starts_with(URN)
}

fn mac(app: &App, token: &str) -> Mac {
    app.keys.mac(Purpose::Token, &[b"pushed ", token.as_bytes()])
}
