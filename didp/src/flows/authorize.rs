//! The authorization endpoint (RFC 6749 §4.1, PKCE with S256 only, RFC 9207 `iss`, RFC 9396 details): judging an app's
//! request, and turning the owner's choice into a grant and a code.

use std::collections::BTreeMap;

use oauth_wire::{
    Action, AuthorizationDetail, AuthorizationRequest, Channel, Direction, OAuthErrorCode, Scope, ScopeToken,
    View,
};
use service::secret;
use url::{Host, Url};

use crate::flows::change::Change;
use crate::flows::claim::{home_gateway, is_challenge};
use crate::flows::details::Asked;
use crate::flows::exactness::Exactness;
use crate::flows::login::Session;
use crate::flows::{Refusal, account, details, registration};
use crate::keys::Purpose;
use crate::state::App;
use crate::store::clients::{self, Client};
use crate::store::grants::{self, Chosen, Grant};
use crate::store::{ownerships, tokens};

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
    /// Where the answer goes.
    pub redirect_uri: Url,
    /// It asks for readings.
    pub wants_read: bool,
    /// It asks to send commands.
    pub wants_command: bool,
    /// The channels that it asks for; none means all.
    pub wanted_channels: Option<Vec<String>>,
    /// How exactly it asks to see them.
    pub wanted_exactness: Exactness,
    sent_redirect_uri: String,
    state: Option<String>,
    challenge: String,
    resource: Option<String>,
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
    /// `client_id`, `redirect_uri` or `state` twice.
    Duplicate,
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

/// Judges the parameters of an authorization request. Works before anybody is logged in.
///
/// # Errors
/// See [`AuthorizeError`].
pub async fn check(app: &App, parameters: &[(String, String)]) -> Result<ConsentRequest, AuthorizeError> {
    let only = |name: &str| -> Result<Option<&str>, ()> {
        let mut values = parameters.iter().filter(|(key, value)| key == name && !value.is_empty());
        match (values.next(), values.next()) {
            (first, None) => Ok(first.map(|(_, value)| value.as_str())),
            _ => Err(()),
        }
    };
    let vital = |name: &str| only(name).map_err(|()| AuthorizeError::Page(PageError::Duplicate));
    let client_id = vital("client_id")?.ok_or(AuthorizeError::Page(PageError::UnknownClient))?;
    let client = clients::get(&mut *app.store.read().await?, client_id)
        .await?
        .filter(|client| !client.is_device() && !client.disabled)
        .ok_or(AuthorizeError::Page(PageError::UnknownClient))?;
    let sent_redirect_uri = vital("redirect_uri")?.ok_or(AuthorizeError::Page(PageError::RedirectUri))?;
    let redirect_uri = registered_redirect(&client, sent_redirect_uri)
        .ok_or(AuthorizeError::Page(PageError::RedirectUri))?;
    let state = vital("state")?;

    let error = |code: OAuthErrorCode, why: &str| {
        let answer = [("error", code.as_str()), ("error_description", why)];
        AuthorizeError::Redirect(answer_url(app, &redirect_uri, state, &answer))
    };
    let one = |name: &str| {
        only(name).map_err(|()| error(OAuthErrorCode::InvalidRequest, "a parameter stands twice"))
    };

    match one("response_type")? {
        Some("code") => {}
        Some(_) => return Err(error(OAuthErrorCode::UnsupportedResponseType, "only code is supported")),
        None => return Err(error(OAuthErrorCode::InvalidRequest, "response_type is missing")),
    }
    let challenge = one("code_challenge")?.ok_or_else(|| {
        error(OAuthErrorCode::InvalidRequest, "PKCE is required: code_challenge is missing")
    })?;
    if one("code_challenge_method")? != Some("S256") || !is_challenge(challenge) {
        return Err(error(OAuthErrorCode::InvalidRequest, "code_challenge_method must be S256"));
    }
    let resource = one("resource")?;
    if let Some(resource) = resource
        && !app.gateways.iter().any(|gateway| gateway.resource == resource)
    {
        return Err(error(OAuthErrorCode::InvalidTarget, "no such resource"));
    }
    if one("request")?.is_some() || one("request_uri")?.is_some() {
        return Err(error(OAuthErrorCode::InvalidRequest, "request objects are not supported"));
    }
    let scope = match one("scope")? {
        None => Scope::APP,
        Some(text) => text
            .parse::<Scope>()
            .ok()
            .filter(|scope| Scope::APP.includes(*scope) && !scope.is_empty())
            .ok_or_else(|| {
                error(OAuthErrorCode::InvalidScope, "data:subscribe and command:publish are for apps")
            })?,
    };
    let wanted = match one("authorization_details")? {
        None => Wanted { actions: None, channels: None, exactness: Exactness::default() },
        Some(text) => wanted(text).map_err(|why| error(OAuthErrorCode::InvalidAuthorizationDetails, why))?,
    };
    let asks = |action: Action| wanted.actions.as_ref().is_none_or(|actions| actions.contains(&action));
    let wants_read = scope.contains(ScopeToken::DataSubscribe) && asks(Action::Read);
    let wants_command = scope.contains(ScopeToken::CommandPublish) && asks(Action::Command);
    if !wants_read && !wants_command {
        return Err(error(
            OAuthErrorCode::InvalidScope,
            "scope and authorization_details have nothing in common",
        ));
    }
    Ok(ConsentRequest {
        app_name: client.name.clone(),
        app_host: account::host_of(&redirect_uri).unwrap_or_default(),
        verified: client.registrar.is_some(),
        wants_read,
        wants_command,
        wanted_channels: wanted.channels,
        wanted_exactness: wanted.exactness,
        sent_redirect_uri: sent_redirect_uri.to_owned(),
        state: state.map(str::to_owned),
        challenge: challenge.to_owned(),
        resource: resource.map(str::to_owned),
        client_id: client.client_id,
        redirect_uri,
    })
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
        return Err(AuthorizeError::Redirect(decline(app, request)));
    }
    let mut change = Change::begin(app).await?;
    let gateway = home_gateway(app, &mut change, session.user).await?;
    let wanted = request.resource.as_deref();
    if wanted.is_some_and(|wanted| app.gateway(&gateway).is_none_or(|home| home.resource != wanted)) {
        // The owner's devices are at another gateway (RFC 8707 §2).
        let answer = [("error", OAuthErrorCode::InvalidTarget.as_str())];
        let url = answer_url(app, &request.redirect_uri, request.state.as_deref(), &answer);
        return Err(AuthorizeError::Redirect(url));
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
        let Some(owned) = owned else { return Err(AuthorizeError::Redirect(decline(app, request))) };
        let channels = clients::channels(change.conn(), &owned.device).await?.unwrap_or_default();
        let chosen = stored(&request.asked(), chosen, &details::channels(&channels));
        let reference = secret::random_token::<16>();
        grants::add_device(change.conn(), grant, &owned.device, &reference, &chosen).await?;
    }
    let code = secret::random_token::<32>();
    let handle = app.keys.mac(Purpose::Token, &[code.as_bytes()]);
    let node = tokens::NewNode {
        grant_id: grant,
        parent: None,
        state: "current",
        handle: handle.as_bytes(),
        access: None,
        challenge: Some(&request.challenge),
        redirect_uri: Some(&request.sent_redirect_uri),
        expires_at: now + app.config.lifetimes.authorization_code,
    };
    tokens::insert(change.conn(), &node).await?;
    change.commit(app).await?;
    Ok(answer_url(app, &request.redirect_uri, request.state.as_deref(), &[("code", &code)]))
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

/// The owner declines: the redirect that tells the app.
pub fn decline(app: &App, request: &ConsentRequest) -> Url {
    let answer = [("error", OAuthErrorCode::AccessDenied.as_str())];
    answer_url(app, &request.redirect_uri, request.state.as_deref(), &answer)
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

/// True for hosts that only this machine answers for.
pub(crate) fn is_local(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

struct Wanted {
    actions: Option<Vec<Action>>,
    channels: Option<Vec<String>>,
    exactness: Exactness,
}

/// What `authorization_details` asks for, all objects together.
fn wanted(text: &str) -> Result<Wanted, &'static str> {
    if text.len() > 16 * 1024 {
        return Err("too long");
    }
    let objects: Vec<AuthorizationRequest> = serde_json::from_str(text)
        .map_err(|_| "not an array of mqtt objects with actions, channels, view")?;
    let mut wanted = Wanted {
        actions: Some(Vec::new()),
        channels: Some(Vec::new()),
        exactness: wanted_exactness(&objects),
    };
    if objects.is_empty() {
        return Err("an empty array asks for nothing");
    }
    for object in objects {
        if object.kind != AuthorizationDetail::TYPE {
            return Err("the only type is mqtt");
        }
        let known = |action: &Action| matches!(action, Action::Read | Action::Command);
        if object.actions.as_ref().is_some_and(|actions| !actions.iter().all(known)) {
            return Err("actions are read and command");
        }
        let valid = |channels: &Vec<String>| channels.iter().all(|name| Channel::is_valid_name(name));
        if object.channels.as_ref().is_some_and(|channels| channels.len() > 64 || !valid(channels)) {
            return Err("not channel names");
        }
        wanted.actions = both(wanted.actions, object.actions);
        wanted.channels = both(wanted.channels, object.channels);
    }
    Ok(wanted)
}

/// How exactly all objects together ask to see channels: the first that names a channel speaks for it, the first that names
/// none for the others.
fn wanted_exactness(objects: &[AuthorizationRequest]) -> Exactness {
    let reading = |object: &&AuthorizationRequest| {
        object.actions.as_ref().is_none_or(|actions| actions.contains(&Action::Read))
    };
    let mut exactness = Exactness::default();
    let mut spoken_for_others = false;
    for object in objects.iter().filter(reading) {
        let view = object.view.clone().unwrap_or_default();
        match &object.channels {
            Some(names) => {
                for name in names {
                    exactness.views.entry(name.clone()).or_insert_with(|| view.clone());
                }
            }
            None if !spoken_for_others => {
                exactness.view = view;
                spoken_for_others = true;
            }
            None => {}
        }
    }
    // All alike: then it is said of all.
    let mut views = exactness.views.values();
    if let Some(first) = views.next()
        && views.all(|view| view == first)
        && (!spoken_for_others || exactness.view == *first)
    {
        return Exactness::all(first.clone());
    }
    exactness
}

/// Lists that are asked for together; one without a bound makes the whole unbounded.
fn both<T: PartialEq>(known: Option<Vec<T>>, more: Option<Vec<T>>) -> Option<Vec<T>> {
    let (mut known, more) = (known?, more?);
    for item in more {
        if !known.contains(&item) {
            known.push(item);
        }
    }
    Some(known)
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

    #[test]
    fn details_are_taken_together_and_strictly() {
        let some = wanted(r#"[{"type":"mqtt","actions":["read"],"channels":["a"]},{"type":"mqtt","actions":["command"],"channels":["b"]}]"#)
            .unwrap();
        assert_eq!(some.actions, Some(vec![Action::Read, Action::Command]));
        assert_eq!(some.channels, Some(vec!["a".into(), "b".into()]));
        assert_eq!(wanted(r#"[{"type":"mqtt"}]"#).unwrap().channels, None);
        assert_eq!(wanted(r#"[{"type":"mqtt"}]"#).unwrap().exactness, Exactness::default());
        for bad in [
            "",
            "[]",
            "{}",
            r#"[{"type":"other"}]"#,
            r#"[{"type":"mqtt","actions":["publish"]}]"#,
            r##"[{"type":"mqtt","channels":["#"]}]"##,
            r#"[{"type":"mqtt","identifier":"somebody-else"}]"#,
            r#"[{"type":"mqtt","view":{"kind":"blurred"}}]"#,
            r#"[{"type":"mqtt","view":{"kind":"summary","window_s":61}}]"#,
            r#"[{"type":"mqtt","view":{"kind":"filter"}}]"#,
            r#"[{"type":"mqtt","view":"raw"}]"#,
        ] {
            assert!(wanted(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_object_that_names_a_channel_says_how_exactly_it_is_seen() {
        let exactness = |text: &str| wanted(text).unwrap().exactness;
        let rare = r#"{"kind":"filter","interval_s":60}"#;
        let view: View = serde_json::from_str(rare).unwrap();
        let alike = exactness(&format!(r#"[{{"type":"mqtt","channels":["a","b"],"view":{rare}}}]"#));
        assert_eq!(alike, Exactness::all(view.clone()));
        let apart = exactness(&format!(
            r#"[{{"type":"mqtt","channels":["a"],"view":{rare}}},{{"type":"mqtt","channels":["a","b"]}},
                {{"type":"mqtt","actions":["command"],"view":{rare}}}]"#
        ));
        assert_eq!(apart.views["a"], view);
        assert!(apart.views["b"].is_raw() && apart.view.is_raw());
        let others =
            exactness(&format!(r#"[{{"type":"mqtt","view":{rare}}},{{"type":"mqtt","channels":["a"]}}]"#));
        assert!(others.views["a"].is_raw());
        assert_eq!(others.view, view);
    }
}
