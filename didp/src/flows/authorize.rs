//! The authorization endpoint (RFC 6749 §4.1, PKCE with S256 only, RFC 9207 `iss`, RFC 9396 details): judging an app's
//! request, and turning the owner's choice into a grant and a code.

mod wish;

use std::collections::BTreeMap;

use oauth_wire::{Channel, Direction, OAuthErrorCode, Scope, ScopeToken, View};
use service::secret;
use url::Url;

use crate::flows::change::Change;
use crate::flows::claim::{home_gateway, is_challenge};
use crate::flows::details::Asked;
use crate::flows::exactness::Exactness;
use crate::flows::login::Session;
use crate::flows::{Refusal, account, details, pushed, registration};
use crate::keys::Purpose;
use crate::state::App;
use crate::store::clients::{self, Client};
use crate::store::grants::{self, Chosen, Grant};
use crate::store::{ownerships, requests, tokens};

pub(crate) use wish::Wish;

/// A request that may be put before the owner.
#[derive(Debug, Clone)]
pub struct ConsentRequest {
    /// The app.
    pub client_id: String,
    /// Its name, as it was registered.
    pub app_name: String,
    /// Host of the redirect URI.
    pub app_host: String,
    /// It was registered with a token.
    pub verified: bool,
    /// How the app hears of the decision.
    pub back: Back,
    /// It asks for readings.
    pub wants_read: bool,
    /// It asks to send commands.
    pub wants_command: bool,
    /// The channels that it asks for; none means all.
    pub wanted_channels: Option<Vec<String>>,
    /// How exactly it asks to see them.
    pub wanted_exactness: Exactness,
    resource: Option<String>,
}

/// How the app hears of the owner's decision.
#[derive(Debug, Clone)]
pub enum Back {
    /// By a redirect of the owner's browser (RFC 6749 §4.1.2).
    Redirect {
        /// Where to.
        redirect_uri: Url,
        /// The same as it was sent, which the code is bound to.
        sent: String,
        /// The app's own value.
        state: Option<String>,
        /// RFC 7636 §4.2.
        challenge: String,
        /// The hash under which the request was pushed, if it was.
        pushed: Option<Vec<u8>>,
    },
    /// By its own polls (RFC 8628 §3.4).
    Device {
        /// Number of the device authorization.
        id: i64,
        /// Keyed hash of the device_code.
        code: Vec<u8>,
        /// What the app shows, without the dash.
        user_code: String,
    },
}

impl ConsentRequest {
    pub(crate) fn new(client: Client, wish: Wish, back: Back) -> Self {
        Self {
            app_host: match &back {
                Back::Redirect { redirect_uri, .. } => account::host_of(redirect_uri).unwrap_or_default(),
                Back::Device { .. } => account::app_host(&client).unwrap_or_default(),
            },
            app_name: client.name,
            verified: client.registrar.is_some(),
            wants_read: wish.wants_read,
            wants_command: wish.wants_command,
            wanted_channels: wish.channels,
            wanted_exactness: wish.exactness,
            resource: wish.resource,
            client_id: client.client_id,
            back,
        }
    }
}

/// The parameters of a request.
#[derive(Clone, Copy)]
struct Parameters<'a>(&'a [(String, String)]);

impl<'a> Parameters<'a> {
    /// The one value of this name; an empty one counts as absent.
    fn only(self, name: &str) -> Result<Option<&'a str>, ()> {
        let mut values = self.0.iter().filter(|(key, value)| key == name && !value.is_empty());
        match (values.next(), values.next()) {
            (first, None) => Ok(first.map(|(_, value)| value.as_str())),
            _ => Err(()),
        }
    }
}

/// Why a request is refused, before it is decided how that is told.
pub(crate) enum Fault {
    /// Nobody may be redirected.
    Page(PageError),
    /// The app may know.
    Told { redirect_uri: Box<Url>, state: Option<String>, code: OAuthErrorCode, why: &'static str },
}

/// Why there is nothing to put before the owner.
#[derive(Debug)]
pub enum AuthorizeError {
    /// Nobody may be redirected: a page says why.
    Page(PageError),
    /// The app is told, by a redirect with `error`, `state` and `iss`.
    Redirect(Url),
    /// The DIdP cannot answer now.
    Refused(Refusal),
}

impl From<Refusal> for AuthorizeError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<sqlx::Error> for AuthorizeError {
    fn from(error: sqlx::Error) -> Self {
        Self::Refused(error.into())
    }
}

/// Faults after which nobody may be redirected (RFC 6749 §4.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageError {
    /// No app of this `client_id`.
    UnknownClient,
    /// The redirect URI is missing or not one that was registered.
    RedirectUri,
    /// `client_id`, `redirect_uri`, `request_uri` or `state` twice.
    Duplicate,
    /// The pushed request is unknown, decided or expired.
    RequestUri,
}

impl ConsentRequest {
    /// What the app asks for.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            read: self.wants_read,
            command: self.wants_command,
            channels: self.wanted_channels.clone(),
            exactness: self.wanted_exactness.clone(),
        }
    }
}

/// What the owner decided.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Which devices.
    pub devices: Vec<ChosenDevice>,
    /// Readings may be received.
    pub read: bool,
    /// Commands may be sent.
    pub command: bool,
    /// Devices that are claimed later join.
    pub future: bool,
    /// How exactly these are seen then.
    pub future_exactness: Exactness,
    /// The app is told the names of devices.
    pub share_names: bool,
    /// Until when, Unix seconds; none means until withdrawn.
    pub until: Option<i64>,
}

/// One device that the owner chose.
#[derive(Debug, Clone, Default)]
pub struct ChosenDevice {
    /// Id, as in [`OwnedDevice`].
    pub id: String,
    /// Names of the channels that may be read; none means all that the app asked for.
    pub read: Option<Vec<String>>,
    /// Names of the channels that may be commanded; likewise.
    pub command: Option<Vec<String>>,
    /// How exactly channels are seen; as the app asked, where it is not said.
    pub views: BTreeMap<String, View>,
}

/// A device that the owner can choose.
#[derive(Debug, Clone)]
pub struct OwnedDevice {
    /// For the form.
    pub id: String,
    /// What the owner calls it.
    pub name: Option<String>,
    /// What people call the model.
    pub model: String,
    /// What it can tell and do.
    pub channels: Vec<Channel>,
}

/// Judges the parameters of an authorization request, pushed before (RFC 9126 §4) or not. Works before anybody is logged in.
///
/// # Errors
/// See [`AuthorizeError`].
pub async fn check(app: &App, parameters: &[(String, String)]) -> Result<ConsentRequest, AuthorizeError> {
    let vital =
        |name| Parameters(parameters).only(name).map_err(|()| AuthorizeError::Page(PageError::Duplicate));
    let client_id = vital("client_id")?.ok_or(AuthorizeError::Page(PageError::UnknownClient))?;
    let client = clients::get(&mut *app.store.read().await?, client_id)
        .await?
        .ok_or(AuthorizeError::Page(PageError::UnknownClient))?;
    let told = |fault| match fault {
        Fault::Page(error) => AuthorizeError::Page(error),
        Fault::Told { redirect_uri, state, code, why } => {
            let answer = [("error", code.as_str()), ("error_description", why)];
            AuthorizeError::Redirect(answer_url(app, &redirect_uri, state.as_deref(), &answer))
        }
    };
    if let Some(uri) = vital("request_uri")?.filter(|uri| pushed::is_handle(uri)) {
        let found = pushed::find(app, client_id, uri).await?;
        let (handle, parameters) = found.ok_or(AuthorizeError::Page(PageError::RequestUri))?;
        let mut request = judge(app, client, &parameters).map_err(told)?;
        if let Back::Redirect { pushed, .. } = &mut request.back {
            *pushed = Some(handle);
        }
        return Ok(request);
    }
    let metadata = registration::metadata_of(&client);
    let only_pushed = metadata.and_then(|metadata| metadata.require_pushed_authorization_requests);
    let request = judge(app, client, parameters).map_err(told)?;
    match &request.back {
        Back::Redirect { redirect_uri, state, .. } if only_pushed == Some(true) => Err(told(Fault::Told {
            redirect_uri: Box::new(redirect_uri.clone()),
            state: state.clone(),
            code: OAuthErrorCode::InvalidRequest,
            why: "this app pushes its requests (RFC 9126)",
        })),
        _ => Ok(request),
    }
}

/// Judges what `client` asks for by these parameters, however they came here.
pub(crate) fn judge(
    app: &App,
    client: Client,
    parameters: &[(String, String)],
) -> Result<ConsentRequest, Fault> {
    let parameters = Parameters(parameters);
    if client.is_device() || client.disabled {
        return Err(Fault::Page(PageError::UnknownClient));
    }
    let vital = |name| parameters.only(name).map_err(|()| Fault::Page(PageError::Duplicate));
    let sent = vital("redirect_uri")?.ok_or(Fault::Page(PageError::RedirectUri))?;
    let redirect_uri = registered_redirect(&client, sent).ok_or(Fault::Page(PageError::RedirectUri))?;
    let state = vital("state")?.map(str::to_owned);
    let error = |code: OAuthErrorCode, why: &'static str| Fault::Told {
        redirect_uri: Box::new(redirect_uri.clone()),
        state: state.clone(),
        code,
        why,
    };
    let one = |name| {
        parameters.only(name).map_err(|()| error(OAuthErrorCode::InvalidRequest, "a parameter stands twice"))
    };
    match one("response_type")? {
        Some("code") => {}
        Some(_) => return Err(error(OAuthErrorCode::UnsupportedResponseType, "only code is supported")),
        None => return Err(error(OAuthErrorCode::InvalidRequest, "response_type is missing")),
    }
    if registration::metadata_of(&client).is_none_or(|metadata| !metadata.allows("authorization_code")) {
        return Err(error(OAuthErrorCode::UnauthorizedClient, "the client is not registered for this grant"));
    }
    if !matches!(one("response_mode")?, None | Some("query")) {
        return Err(error(OAuthErrorCode::InvalidRequest, "the only response_mode is query"));
    }
    let challenge = one("code_challenge")?.ok_or_else(|| {
        error(OAuthErrorCode::InvalidRequest, "PKCE is required: code_challenge is missing")
    })?;
    if one("code_challenge_method")? != Some("S256") || !is_challenge(challenge) {
        return Err(error(OAuthErrorCode::InvalidRequest, "code_challenge_method must be S256"));
    }
    if one("request")?.is_some() || one("request_uri")?.is_some() {
        return Err(error(OAuthErrorCode::InvalidRequest, "request objects are not supported"));
    }
    let wish = wish(app, parameters.0).map_err(|(code, why)| error(code, why))?;
    let (sent, challenge) = (sent.to_owned(), challenge.to_owned());
    let back = Back::Redirect {
        redirect_uri: redirect_uri.clone(),
        sent,
        state: state.clone(),
        challenge,
        pushed: None,
    };
    Ok(ConsentRequest::new(client, wish, back))
}

/// Judges scope, resource and authorization details.
pub(crate) fn wish(
    app: &App,
    parameters: &[(String, String)],
) -> Result<Wish, (OAuthErrorCode, &'static str)> {
    let is_resource =
        |asked: &str| app.registry.now().gateways.iter().any(|gateway| gateway.resource == asked);
    wish::wish(Parameters(parameters), is_resource)
}

/// The devices that this owner can choose from.
///
/// # Errors
/// The store cannot answer.
pub async fn devices(app: &App, session: &Session) -> Result<Vec<OwnedDevice>, Refusal> {
    let owned = ownerships::of_user(&mut *app.store.read().await?, session.user).await?;
    Ok(owned
        .into_iter()
        .map(|row| OwnedDevice {
            id: row.ownership.id,
            name: row.ownership.name,
            model: row.model,
            channels: details::channels(&row.channels),
        })
        .collect())
}

/// The owner allows: makes the grant and answers the redirect with its code. What was not asked for is never granted,
/// whatever the choice says.
///
/// # Errors
/// A device that is not this owner's, a choice that grants nothing, an end in the past: `access_denied` to the app.
pub async fn allow(
    app: &App,
    session: &Session,
    request: &ConsentRequest,
    choice: Choice,
) -> Result<Url, AuthorizeError> {
    let Back::Redirect { redirect_uri, sent, state, challenge, pushed } = &request.back else {
        return Err(AuthorizeError::Page(PageError::RedirectUri));
    };
    let mut change = Change::begin(app).await?;
    if let Some(handle) = pushed
        && !requests::spend(change.conn(), handle).await?
    {
        return Err(AuthorizeError::Page(PageError::RequestUri));
    }
    let grant = match grant(app, &mut change, session, request, choice).await? {
        Ok(grant) => grant,
        Err(code) => {
            let answer = [("error", code.as_str())];
            return Err(AuthorizeError::Redirect(answer_url(app, redirect_uri, state.as_deref(), &answer)));
        }
    };
    let code = secret::random_token::<32>();
    let handle = app.keys.mac(Purpose::Token, &[code.as_bytes()]);
    let node = tokens::NewNode {
        grant_id: grant,
        parent: None,
        state: "current",
        handle: handle.as_bytes(),
        access: None,
        challenge: Some(challenge),
        redirect_uri: Some(sent),
        expires_at: app.clock.now() + app.config.lifetimes.authorization_code,
    };
    tokens::insert(change.conn(), &node).await?;
    change.commit(app).await?;
    Ok(answer_url(app, redirect_uri, state.as_deref(), &[("code", &code)]))
}

/// Makes the grant that a choice comes to, pending until the app has its first tokens; or says why it makes none.
pub(crate) async fn grant(
    app: &App,
    change: &mut Change,
    session: &Session,
    request: &ConsentRequest,
    choice: Choice,
) -> Result<Result<i64, OAuthErrorCode>, Refusal> {
    let now = app.clock.now();
    let mut scope = Scope::EMPTY;
    if choice.read && request.wants_read {
        scope = scope.with(ScopeToken::DataSubscribe);
    }
    if choice.command && request.wants_command {
        scope = scope.with(ScopeToken::CommandPublish);
    }
    let nothing = scope.is_empty() || (choice.devices.is_empty() && !choice.future);
    if nothing || choice.until.is_some_and(|until| until <= now) {
        return Ok(Err(OAuthErrorCode::AccessDenied));
    }
    let gateway = home_gateway(app, change, session.user).await?;
    let wanted = request.resource.as_deref();
    if wanted.is_some_and(|wanted| app.gateway(&gateway).is_none_or(|home| home.resource != wanted)) {
        // The owner's devices are at another gateway (RFC 8707 §2).
        return Ok(Err(OAuthErrorCode::InvalidTarget));
    }
    let grant = Grant {
        id: 0,
        public_id: secret::random_token::<8>(),
        sid: secret::random_token::<16>(),
        user_id: session.user,
        client_id: request.client_id.clone(),
        gateway,
        kind: "app".into(),
        state: "pending".into(),
        scope: scope.to_string(),
        future: choice.future,
        share_names: choice.share_names,
        channels: request.wanted_channels.as_deref().map(details::names_json),
        created_at: now,
        expires_at: choice.until,
        future_view: choice.future.then(|| details::exactness_json(&choice.future_exactness)),
        asked: Some(details::asked_json(&request.asked(), scope)),
    };
    let grant = grants::insert(change.conn(), &grant).await?;
    for chosen in &choice.devices {
        let owned = ownerships::of_user_by_id(change.conn(), session.user, &chosen.id).await?;
        let Some(owned) = owned else { return Ok(Err(OAuthErrorCode::AccessDenied)) };
        let channels = clients::channels(change.conn(), &owned.device).await?.unwrap_or_default();
        let chosen = stored(&request.asked(), chosen, &details::channels(&channels));
        let reference = secret::random_token::<16>();
        grants::add_device(change.conn(), grant, &owned.device, &reference, &chosen).await?;
    }
    Ok(Ok(grant))
}

/// A choice as it is stored, for a device with these channels.
pub(crate) fn stored(asked: &Asked, chosen: &ChosenDevice, channels: &[Channel]) -> Chosen {
    let view = |channel: &Channel| match chosen.views.get(&channel.name) {
        Some(view) => view.clone(),
        None => asked.exactness.of(channel),
    };
    let views = channels
        .iter()
        .filter(|channel| channel.direction == Direction::Data)
        .filter(|channel| chosen.read.as_ref().is_none_or(|names| names.contains(&channel.name)))
        .map(|channel| (channel.name.clone(), view(channel)))
        .collect();
    Chosen {
        channels: chosen.read.as_deref().map(details::names_json),
        commands: chosen.command.as_deref().map(details::names_json),
        views: Some(details::views_json(&views)),
    }
}

/// The owner declines: the redirect that tells the app. A pushed request is spent by it.
///
/// # Errors
/// See [`AuthorizeError`].
pub async fn decline(app: &App, request: &ConsentRequest) -> Result<Url, AuthorizeError> {
    let Back::Redirect { redirect_uri, state, pushed, .. } = &request.back else {
        return Err(AuthorizeError::Page(PageError::RedirectUri));
    };
    if let Some(handle) = pushed {
        let mut tx = app.store.write_beside().await?;
        requests::spend(&mut tx, handle).await?;
        tx.commit().await?;
    }
    let answer = [("error", OAuthErrorCode::AccessDenied.as_str())];
    Ok(answer_url(app, redirect_uri, state.as_deref(), &answer))
}

fn answer_url(app: &App, redirect_uri: &Url, state: Option<&str>, answer: &[(&str, &str)]) -> Url {
    let mut url = redirect_uri.clone();
    {
        let mut pairs = url.query_pairs_mut();
        pairs.extend_pairs(answer);
        if let Some(state) = state {
            pairs.append_pair("state", state);
        }
        pairs.append_pair("iss", app.issuer_text());
    }
    url
}

/// The redirect URI as sent, if it is registered character by character; only a loopback port may differ (RFC 8252 §7.3).
fn registered_redirect(client: &Client, sent: &str) -> Option<Url> {
    let url = Url::parse(sent).ok()?;
    let fits =
        registration::redirect_uris(client).iter().any(|known| known == sent || same_but_port(known, sent));
    fits.then_some(url)
}

fn same_but_port(known: &str, sent: &str) -> bool {
    let (Some(known), Some(sent)) = (loopback_parts(known), loopback_parts(sent)) else { return false };
    known == sent
}

/// A loopback address's URI without its port: host, and everything from the path on, exactly as written.
fn loopback_parts(uri: &str) -> Option<(&str, &str)> {
    let rest = uri.strip_prefix("http://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    matches!(host, "127.0.0.1" | "[::1]").then_some((host, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loopback_port_may_differ() {
        assert!(same_but_port("http://127.0.0.1/cb", "http://127.0.0.1:51000/cb"));
        assert!(same_but_port("http://[::1]:1/cb", "http://[::1]:2/cb"));
        for (known, sent) in [
            ("http://127.0.0.1/cb", "http://127.0.0.1:51000/cb/"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:51000/cb?x=1"),
            ("http://127.0.0.1/cb", "http://127.0.0.1:51000@evil.example/cb"),
            ("http://localhost/cb", "http://localhost:51000/cb"),
            ("https://app.example/cb", "https://app.example:444/cb"),
            ("http://127.0.0.1/cb", "http://127.0.0.2:51000/cb"),
        ] {
            assert!(!same_but_port(known, sent), "{known} {sent}");
        }
    }
}
