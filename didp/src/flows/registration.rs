//! Dynamic registration of devices and apps (RFC 7591) and its management (RFC 7592).
//!
//! Client ids, secrets and printed codes are the server's choice alone. Metadata that is unknown here is refused rather
//! than ignored, so that nobody believes in a setting that does nothing.

use oauth_wire::{Channel, OAuthErrorCode};
use serde::{Deserialize, Serialize};
use service::secret;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::config::AppRegistration;
use crate::flows::authorize::is_local;
use crate::flows::{Refusal, refuse};
use crate::keys::{Mac, Purpose};
use crate::state::{App, MqttEndpoint, RegistrarToken};
use crate::store::clients::{self, Client, NewClient};
use crate::store::{Conn, ownerships};

/// Most clients in one batch.
pub const BATCH: usize = 1_000;

/// What a client says of itself (RFC 7591 §2), with `device` added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// What a person calls it: the app, or the model of the device.
    pub client_name: String,
    /// Where an app's authorization responses go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_uris: Vec<String>,
    /// `client_secret_basic` (default), `client_secret_post` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_method: Option<String>,
    /// `authorization_code`, `refresh_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_types: Option<Vec<String>>,
    /// `code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_types: Option<Vec<String>>,
    /// Scopes that it may ask for; a request can still ask for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Its home page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<String>,
    /// Its privacy policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_uri: Option<String>,
    /// Its terms of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tos_uri: Option<String>,
    /// Name of the software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_id: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_version: Option<String>,
    /// Present for a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceMetadata>,
}

/// What a device can show, tell and do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceMetadata {
    /// How its owner proves to stand before it.
    pub confirm: Confirm,
    /// What consent pages speak of.
    pub channels: Vec<Channel>,
}

/// How an owner proves to stand before the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    /// By typing the four digits that it shows.
    Code,
    /// By pressing its button.
    Press,
}

impl Confirm {
    fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Press => "press",
        }
    }
}

/// Answer of a registration (RFC 7591 §3.2.1).
#[derive(Serialize)]
pub struct Registered {
    /// 22 characters.
    pub client_id: String,
    /// When, Unix seconds.
    pub client_id_issued_at: i64,
    /// 43 characters; absent for a public client and when the registration is only read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
    /// 0: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret_expires_at: Option<i64>,
    /// For [`read`], [`update`] and [`delete`]; absent when the registration is only read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration_access_token: Option<String>,
    /// Where those are.
    pub registration_client_uri: String,
    /// What the printed code leads to; for a device that was registered just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_registration_uri: Option<String>,
    /// This DIdP.
    pub issuer: String,
    /// Where a device finds its MQTT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<MqttEndpoint>,
    /// What was registered, defaults filled in.
    #[serde(flatten)]
    pub metadata: Metadata,
}

/// Registers clients, all or none, in the order of the answers.
///
/// `token` is the initial access token, if one was sent. With an idempotency key, a repeated request is answered with the
/// same clients and secrets, without anything of them being kept in the clear: they are derived.
///
/// # Errors
/// `invalid_token`, `invalid_client_metadata`, `invalid_redirect_uri`; `access_denied` beyond the quota.
pub async fn register(
    app: &App,
    token: Option<&str>,
    idempotency_key: Option<&str>,
    requests: Vec<Metadata>,
) -> Result<Vec<Registered>, Refusal> {
    let now = app.clock.now();
    let registrar = registrar(app, token, now)?;
    if requests.is_empty() || requests.len() > BATCH {
        return refuse(OAuthErrorCode::InvalidClientMetadata, "1 to 1000 clients");
    }
    if idempotency_key.is_some_and(|key| key.is_empty() || key.len() > 255) {
        return refuse(OAuthErrorCode::InvalidRequest, "Idempotency-Key must have 1 to 255 characters");
    }
    if idempotency_key.is_some() && registrar.is_none() {
        return refuse(OAuthErrorCode::InvalidRequest, "Idempotency-Key needs an initial access token");
    }
    let mut drafts = Vec::with_capacity(requests.len());
    for (index, metadata) in requests.into_iter().enumerate() {
        drafts.push(Draft::new(app, registrar, idempotency_key, index, checked(app, registrar, metadata)?)?);
    }
    let secrets = drafts.iter().filter_map(|draft| draft.secret.clone()).collect();
    let mut hashes = app.hasher.hash_all(secrets).await?.into_iter();
    let mut tx = app.store.write().await?;
    let mut fresh = 0;
    let mut answers = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let hash = if draft.secret.is_some() { hashes.next() } else { None };
        if let Some(key) = &draft.idempotency
            && let Some(known) = clients::by_idempotency(&mut tx, key.as_bytes()).await?
        {
            if known.metadata != draft.metadata_json {
                return refuse(
                    OAuthErrorCode::InvalidClientMetadata,
                    "the Idempotency-Key was used for something else",
                );
            }
            // A secret that a claim renewed is the owner's; repeating the registration must not tell one that is dead.
            let token = draft.registration_mac(app);
            if !clients::has_registration_token(&mut tx, &known.client_id, token.as_bytes()).await? {
                return refuse(OAuthErrorCode::AccessDenied, "the device was claimed");
            }
            answers.push(draft.answer(app, &known.client_id, known.created_at));
            continue;
        }
        fresh += 1;
        let client_id = draft.client_id.clone();
        draft.insert(app, &mut tx, registrar, hash.as_deref(), now).await?;
        answers.push(draft.answer(app, &client_id, now));
    }
    if let Some(registrar) = registrar
        && clients::count(&mut tx, &registrar.id).await? > registrar.quota
    {
        return refuse(OAuthErrorCode::AccessDenied, "the initial access token's quota is used up");
    }
    tx.commit().await?;
    tracing::info!(event = "clients_registered", count = fresh);
    Ok(answers)
}

/// What is registered (RFC 7592 §2.1), without secrets.
///
/// # Errors
/// `invalid_token`.
pub async fn read(app: &App, client_id: &str, token: &str) -> Result<Registered, Refusal> {
    let mut conn = app.store.read().await?;
    let client = managed(app, &mut conn, client_id, token).await?;
    registered(app, &client)
}

/// Replaces the metadata (RFC 7592 §2.2). What kind of client it is, and how it authenticates, cannot change.
///
/// # Errors
/// `invalid_token`, `invalid_client_metadata`, `invalid_redirect_uri`.
pub async fn update(
    app: &App,
    client_id: &str,
    token: &str,
    metadata: Metadata,
) -> Result<Registered, Refusal> {
    let mut tx = app.store.write().await?;
    let client = managed(app, &mut tx, client_id, token).await?;
    let registrar = app.registrars.iter().find(|registrar| Some(&registrar.id) == client.registrar.as_ref());
    let metadata = checked(app, registrar, metadata)?;
    if metadata.device.is_some() != client.is_device()
        || metadata.token_endpoint_auth_method.as_deref() != Some(&client.auth_method)
    {
        return refuse(
            OAuthErrorCode::InvalidClientMetadata,
            "the kind of client and its method cannot change",
        );
    }
    if let Some(device) = &metadata.device {
        let channels = serde_json::json!(device.channels).to_string();
        clients::update_device(&mut tx, client_id, device.confirm.name(), &channels).await?;
    }
    let json = serde_json::json!(metadata).to_string();
    clients::update(&mut tx, client_id, &metadata.client_name, &json).await?;
    tx.commit().await?;
    registered(app, &Client { metadata: json, ..client })
}

/// Deletes a client (RFC 7592 §2.3) with all that it was granted.
///
/// # Errors
/// `invalid_token`; `access_denied` for a device that has an owner.
pub async fn delete(app: &App, client_id: &str, token: &str) -> Result<(), Refusal> {
    use crate::flows::change::Change;
    use crate::store::grants;
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    managed(app, change.conn(), client_id, token).await?;
    if ownerships::of_device(change.conn(), client_id).await?.is_some() {
        return refuse(OAuthErrorCode::AccessDenied, "the device has an owner");
    }
    for grant in grants::of_client(change.conn(), client_id).await? {
        change.end_grant(&grant, now).await?;
    }
    clients::delete(change.conn(), client_id).await?;
    change.commit(app).await?;
    tracing::info!(event = "client_deleted");
    Ok(())
}

/// The redirect URIs that an app registered.
pub(crate) fn redirect_uris(client: &Client) -> Vec<String> {
    serde_json::from_str::<Metadata>(&client.metadata)
        .map(|metadata| metadata.redirect_uris)
        .unwrap_or_default()
}

fn registrar<'a>(app: &'a App, token: Option<&str>, now: i64) -> Result<Option<&'a RegistrarToken>, Refusal> {
    let Some(token) = token else { return Ok(None) };
    // Every token is compared, so that the time does not tell which one is near.
    let fitting = app
        .registrars
        .iter()
        .fold(None, |found, known| if known.accepts(token) { Some(known) } else { found });
    match fitting {
        Some(registrar) if registrar.expires.is_none_or(|end| now < end) => Ok(Some(registrar)),
        _ => refuse(OAuthErrorCode::InvalidToken, "not a valid initial access token"),
    }
}

async fn managed(app: &App, conn: &mut Conn, client_id: &str, token: &str) -> Result<Client, Refusal> {
    for candidate in app.keys.candidates(Purpose::Token, &[b"registration ", token.as_bytes()]) {
        if clients::has_registration_token(conn, client_id, candidate.as_bytes()).await?
            && let Some(client) = clients::get(conn, client_id).await?
        {
            return Ok(client);
        }
    }
    refuse(OAuthErrorCode::InvalidToken, "not a valid registration access token")
}

fn registered(app: &App, client: &Client) -> Result<Registered, Refusal> {
    let metadata: Metadata = serde_json::from_str(&client.metadata)
        .map_err(|_| Refusal::OAuth(OAuthErrorCode::ServerError, "the stored metadata cannot be read"))?;
    Ok(Registered {
        client_id: client.client_id.clone(),
        client_id_issued_at: client.created_at,
        client_secret: None,
        client_secret_expires_at: None,
        registration_access_token: None,
        registration_client_uri: app.url(&format!("/register/{}", client.client_id)),
        user_registration_uri: None,
        issuer: app.issuer_text().to_owned(),
        mqtt: client.is_device().then(|| (*app.mqtt).clone()),
        metadata,
    })
}

/// A client that is about to be inserted, with its secrets in the clear for the answer.
struct Draft {
    client_id: String,
    secret: Option<Zeroizing<String>>,
    registration_token: Zeroizing<String>,
    code: Option<Zeroizing<String>>,
    idempotency: Option<Mac>,
    metadata: Metadata,
    metadata_json: String,
}

impl Draft {
    fn new(
        app: &App,
        registrar: Option<&RegistrarToken>,
        idempotency_key: Option<&str>,
        index: usize,
        metadata: Metadata,
    ) -> Result<Self, Refusal> {
        let public = metadata.token_endpoint_auth_method.as_deref() == Some("none");
        let repeated =
            registrar.zip(idempotency_key).map(|(registrar, key)| Repeatable { app, registrar, key, index });
        let secret = |what: &str| {
            Zeroizing::new(match &repeated {
                Some(repeatable) => secret::encode(repeatable.derive(what)),
                None => secret::random_token::<32>(),
            })
        };
        let code = metadata.device.is_some().then(|| {
            Zeroizing::new(match &repeated {
                Some(repeatable) => secret::encode(&repeatable.derive("code")[..16]),
                None => secret::random_token::<16>(),
            })
        });
        Ok(Self {
            client_id: secret::random_token::<16>(),
            secret: (!public).then(|| secret("secret")),
            registration_token: secret("registration token"),
            code,
            idempotency: repeated.as_ref().map(Repeatable::mac),
            metadata_json: serde_json::json!(metadata).to_string(),
            metadata,
        })
    }

    async fn insert(
        &self,
        app: &App,
        conn: &mut Conn,
        registrar: Option<&RegistrarToken>,
        hash: Option<&str>,
        now: i64,
    ) -> Result<(), Refusal> {
        let registration_token = self.registration_mac(app);
        let client = NewClient {
            client_id: &self.client_id,
            kind: if self.metadata.device.is_some() { "device" } else { "app" },
            auth_method: self.metadata.token_endpoint_auth_method.as_deref().unwrap_or("client_secret_basic"),
            secret: hash,
            name: &self.metadata.client_name,
            metadata: &self.metadata_json,
            registrar: registrar.map(|registrar| registrar.id.as_str()),
            registration_token: registration_token.as_bytes(),
            idempotency: self.idempotency.as_ref().map(Mac::as_bytes),
            created_at: now,
        };
        clients::insert(conn, &client).await?;
        if let (Some(device), Some(code)) = (&self.metadata.device, &self.code) {
            let code = app.keys.mac(Purpose::RegistrationCode, &[code.as_bytes()]);
            let channels = serde_json::json!(device.channels).to_string();
            let confirm = device.confirm.name();
            clients::insert_device(conn, &self.client_id, code.as_bytes(), confirm, &channels).await?;
        }
        Ok(())
    }

    fn registration_mac(&self, app: &App) -> Mac {
        app.keys.mac(Purpose::Token, &[b"registration ", self.registration_token.as_bytes()])
    }

    fn answer(self, app: &App, client_id: &str, issued_at: i64) -> Registered {
        Registered {
            client_id: client_id.to_owned(),
            client_id_issued_at: issued_at,
            client_secret_expires_at: self.secret.is_some().then_some(0),
            client_secret: self.secret.map(|secret| secret.to_string()),
            registration_access_token: Some(self.registration_token.to_string()),
            registration_client_uri: app.url(&format!("/register/{client_id}")),
            user_registration_uri: self.code.map(|code| app.url(&format!("/r/{}", *code))),
            issuer: app.issuer_text().to_owned(),
            mqtt: self.metadata.device.is_some().then(|| (*app.mqtt).clone()),
            metadata: self.metadata,
        }
    }
}

/// One client of a request that carries an idempotency key: what must be told again is derived from the key.
struct Repeatable<'a> {
    app: &'a App,
    registrar: &'a RegistrarToken,
    key: &'a str,
    index: usize,
}

impl Repeatable<'_> {
    fn parts(&self) -> [Vec<u8>; 3] {
        let index = u64::try_from(self.index).unwrap_or(u64::MAX).to_be_bytes().to_vec();
        [self.registrar.id.as_bytes().to_vec(), index, self.key.as_bytes().to_vec()]
    }

    fn derive(&self, what: &str) -> Zeroizing<[u8; 32]> {
        let [registrar, index, key] = self.parts();
        let parts: [&[u8]; 6] = [what.as_bytes(), &[0], &registrar, &[0], &index, &key];
        Zeroizing::new(self.app.keys.key(Purpose::ClientSecret).hmac(&parts))
    }

    fn mac(&self) -> Mac {
        let [registrar, index, key] = self.parts();
        self.app.keys.mac(Purpose::Token, &[b"idempotency ", &registrar, &[0], &index, &key])
    }
}

/// The metadata with its defaults, if it may be registered.
fn checked(
    app: &App,
    registrar: Option<&RegistrarToken>,
    mut metadata: Metadata,
) -> Result<Metadata, Refusal> {
    const BAD: OAuthErrorCode = OAuthErrorCode::InvalidClientMetadata;
    let device = metadata.device.is_some();
    match registrar {
        Some(registrar) if registrar.devices != device => {
            return refuse(
                OAuthErrorCode::AccessDenied,
                "this initial access token is for another kind of client",
            );
        }
        None if device || app.config.app_registration == AppRegistration::Token => {
            return refuse(OAuthErrorCode::InvalidToken, "an initial access token is needed");
        }
        _ => {}
    }
    if !is_text(&metadata.client_name, 80) || metadata.client_name.trim().is_empty() {
        return refuse(BAD, "client_name must have 1 to 80 printable characters");
    }
    let method = metadata.token_endpoint_auth_method.get_or_insert_with(|| "client_secret_basic".into());
    let methods: &[&str] = if device {
        &["client_secret_basic", "client_secret_post"]
    } else {
        &["client_secret_basic", "client_secret_post", "none"]
    };
    if !methods.contains(&method.as_str()) {
        return refuse(BAD, "token_endpoint_auth_method is not supported");
    }
    let listed = |list: &Option<Vec<String>>, known: &[&str]| {
        list.as_ref()
            .is_none_or(|list| list.len() <= 4 && list.iter().all(|item| known.contains(&item.as_str())))
    };
    if !listed(&metadata.grant_types, &["authorization_code", "refresh_token"])
        || !listed(&metadata.response_types, &["code"])
    {
        return refuse(BAD, "only the code flow and refresh tokens are supported");
    }
    let links = [&metadata.client_uri, &metadata.policy_uri, &metadata.tos_uri];
    if links.into_iter().flatten().any(|link| link.len() > 2048 || !is_web_link(link)) {
        return refuse(BAD, "client_uri, policy_uri and tos_uri must be http or https");
    }
    let short = [&metadata.software_id, &metadata.software_version, &metadata.scope];
    if short.into_iter().flatten().any(|text| !is_text(text, 128)) {
        return refuse(BAD, "software_id, software_version and scope have 128 printable characters at most");
    }
    match &metadata.device {
        Some(description) => {
            if !metadata.redirect_uris.is_empty() {
                return refuse(BAD, "a device has no redirect URIs");
            }
            check_channels(&description.channels)?;
        }
        None => check_redirects(app, &metadata.redirect_uris)?,
    }
    Ok(metadata)
}

fn check_channels(channels: &[Channel]) -> Result<(), Refusal> {
    const BAD: OAuthErrorCode = OAuthErrorCode::InvalidClientMetadata;
    if channels.is_empty() || channels.len() > 64 {
        return refuse(BAD, "a device has 1 to 64 channels");
    }
    for (index, channel) in channels.iter().enumerate() {
        if !Channel::is_valid_name(&channel.name) {
            return refuse(BAD, "a channel's name has one to four levels of letters, digits, - and _");
        }
        if channels[..index]
            .iter()
            .any(|other| other.name == channel.name && other.direction == channel.direction)
        {
            return refuse(BAD, "two channels share name and direction");
        }
        if [&channel.title, &channel.unit].into_iter().flatten().any(|text| !is_text(text, 60)) {
            return refuse(BAD, "titles and units have 60 printable characters at most");
        }
        let types = ["number", "boolean", "string", "object"];
        if channel.value_type.as_deref().is_some_and(|value_type| !types.contains(&value_type)) {
            return refuse(BAD, "a channel's type is number, boolean, string or object");
        }
    }
    Ok(())
}

fn check_redirects(app: &App, uris: &[String]) -> Result<(), Refusal> {
    if uris.is_empty() || uris.len() > 10 {
        return refuse(OAuthErrorCode::InvalidRedirectUri, "an app has 1 to 10 redirect URIs");
    }
    for uri in uris {
        let acceptable = uri.len() <= 2048
            && uri.bytes().all(|b| b.is_ascii_graphic())
            && Url::parse(uri).is_ok_and(|url| is_redirect(&url, app.config.allow_http_redirect));
        if !acceptable {
            return refuse(
                OAuthErrorCode::InvalidRedirectUri,
                "redirect URIs are https, or http on loopback, without fragment and user name",
            );
        }
    }
    Ok(())
}

fn is_redirect(url: &Url, any_http: bool) -> bool {
    let plain = url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    let local = |host: Host<&str>| is_local(&host);
    plain
        && match url.scheme() {
            "https" => url.host().is_some(),
            "http" => url.host().is_some_and(|host| any_http || local(host)),
            _ => false,
        }
}

fn is_web_link(link: &str) -> bool {
    Url::parse(link).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// Printable text of at most `most` characters. Marks that turn the direction of writing could make one name look like
/// another on a consent page.
fn is_text(text: &str, most: usize) -> bool {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().count() <= most && !text.chars().any(|c| c.is_control() || turns(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checklist_2_http_redirects_are_for_loopback_only() {
        let judge = |uri: &str, any_http| is_redirect(&Url::parse(uri).unwrap(), any_http);
        for good in [
            "https://app.example/cb",
            "http://127.0.0.1/cb",
            "http://[::1]:9/cb",
            "http://tpa.localhost:8090/cb",
        ] {
            assert!(judge(good, false), "{good}");
        }
        for bad in [
            "http://app.example/cb",
            "http://192.168.1.4/cb",
            "http://localhost.example/cb",
            "https://app.example/cb#x",
            "https://user@app.example/cb",
            "javascript:alert(1)",
            "data:text/html,x",
        ] {
            assert!(!judge(bad, false), "{bad}");
        }
        assert!(judge("http://192.168.1.4/cb", true));
        assert!(!judge("ftp://192.168.1.4/cb", true));
    }

    #[test]
    fn checklist_22_unknown_metadata_is_refused() {
        let unknown = r#"{"client_name":"x","client_id":"chosen","device":{"confirm":"code","channels":[]}}"#;
        assert!(serde_json::from_str::<Metadata>(unknown).is_err());
        let known = r#"{"client_name":"x","device":{"confirm":"press","channels":[{"name":"a","direction":"data"}]}}"#;
        assert_eq!(serde_json::from_str::<Metadata>(known).unwrap().device.unwrap().confirm, Confirm::Press);
    }

    #[test]
    fn names_cannot_turn_the_writing() {
        assert!(is_text("Thermostat T1 °C", 80));
        assert!(!is_text("gpj.\u{202e}exe", 80));
        assert!(!is_text("a\nb", 80));
        assert!(!is_text(&"x".repeat(81), 80));
    }
}
