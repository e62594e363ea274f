//! Dynamic registration of devices and apps (RFC 7591) and its management (RFC 7592).
//!
//! Client ids, secrets and printed codes are the server's choice alone. Metadata that is unknown here is refused rather
//! than ignored, so that nobody believes in a setting that does nothing.

mod metadata;

use std::sync::Arc;

use oauth_wire::OAuthErrorCode;
use serde::Serialize;
use service::secret::{self, Key};
use zeroize::Zeroizing;

use crate::audit::Audit;
use crate::flows::{Refusal, refuse};
use crate::keys::{Mac, Purpose};
use crate::state::{App, MqttEndpoint, RegistrarToken};
use crate::store::clients::{self, Client, NewClient};
use crate::store::{Conn, batches, claims, ownerships};

pub use metadata::{Confirm, DeviceMetadata, Metadata};

/// Most clients in one batch.
pub const BATCH: usize = 1_000;

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
    /// For [`read`], [`update`] and [`delete`].
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
    let registrar = registrar.as_deref();
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
        drafts.push(Draft::new(
            app,
            registrar,
            idempotency_key,
            index,
            metadata::checked(app, registrar, metadata)?,
        )?);
    }
    let secrets = drafts.iter().filter_map(|draft| draft.secret.clone()).collect();
    let mut hashes = app.hasher.hash_all(secrets).await?.into_iter();
    // A repeated request must see what the first one wrote, wherever that ran.
    let mut tx = match idempotency_key {
        Some(_) => app.store.write().await?,
        None => app.store.write_beside().await?,
    };
    let mut fresh = 0;
    let mut answers = Vec::with_capacity(drafts.len());
    for mut draft in drafts {
        let hash = if draft.secret.is_some() { hashes.next() } else { None };
        if let Some(known) = draft.registered_before(&mut tx).await? {
            if known.metadata != draft.metadata_json {
                return refuse(
                    OAuthErrorCode::InvalidClientMetadata,
                    "the Idempotency-Key was used for something else",
                );
            }
            // A secret that a claim renewed is the owner's; repeating the registration must not tell one that is dead.
            if !draft.derive_again(app, &mut tx, &known).await? {
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
    let (quota, why) = match registrar {
        Some(registrar) => (registrar.quota, "the initial access token's quota is used up"),
        None => {
            (app.config.limits.unverified_apps, "no place for another app without an initial access token")
        }
    };
    let id = registrar.map(|registrar| registrar.id.as_str());
    if fresh > 0 && clients::count(&mut tx, id, fresh).await? > quota {
        Audit::RegistrationRefused { registrar: id.map(str::to_owned), why }.record();
        return refuse(OAuthErrorCode::AccessDenied, why);
    }
    tx.commit().await?;
    if fresh > 0 {
        let registrar = registrar.map(|registrar| registrar.id.clone());
        Audit::ClientsRegistered { registrar, count: fresh }.record();
    }
    Ok(answers)
}

/// Registers a device with what a broken one of this registrar was registered with, and withdraws that one by the same commit;
/// none if there is no such device. It takes the other's place, so that the quota is not asked.
///
/// # Errors
/// The store or the hashing cannot answer.
pub(crate) async fn replace(
    app: &App,
    registrar: &RegistrarToken,
    client_id: &str,
) -> Result<Option<Registered>, Refusal> {
    let now = app.clock.now();
    let broken = clients::get(&mut *app.store.read().await?, client_id).await?;
    let Some(broken) = broken
        .filter(|broken| broken.is_device() && broken.registrar.as_deref() == Some(registrar.id.as_str()))
    else {
        return Ok(None);
    };
    let metadata: Metadata = serde_json::from_str(&broken.metadata)
        .map_err(|_| Refusal::OAuth(OAuthErrorCode::ServerError, "the stored metadata cannot be read"))?;
    let draft = Draft::new(app, Some(registrar), None, 0, metadata)?;
    let hash = match &draft.secret {
        Some(secret) => Some(app.hasher.hash(secret).await?),
        None => None,
    };
    let mut tx = app.store.write().await?;
    draft.insert(app, &mut tx, Some(registrar), hash.as_deref(), now).await?;
    batches::withdraw(&mut tx, &registrar.id, client_id, true).await?;
    clients::count(&mut tx, Some(&registrar.id), 1).await?;
    tx.commit().await?;
    let new = draft.client_id.clone();
    Ok(Some(draft.answer(app, &new, now)))
}

/// What is registered (RFC 7592 §2.1), without secrets.
///
/// # Errors
/// `invalid_token`.
pub async fn read(app: &App, client_id: &str, token: &str) -> Result<Registered, Refusal> {
    let client = managed(app, &mut *app.store.read().await?, client_id, token).await?;
    if app.keys.has_older(Purpose::Token) {
        let newest = app.keys.mac(Purpose::Token, &[b"registration ", token.as_bytes()]);
        let mut tx = app.store.write_beside().await?;
        clients::rewrap_registration_token(&mut tx, client_id, newest.as_bytes()).await?;
        tx.commit().await?;
    }
    registered(app, &client, token)
}

/// Replaces the metadata (RFC 7592 §2.2). What kind of client it is, and how it authenticates, cannot change.
///
/// # Errors
/// `invalid_token`, `invalid_client_metadata`, `invalid_redirect_uri`; `access_denied` for a device that has an owner or is being
/// claimed.
pub async fn update(
    app: &App,
    client_id: &str,
    token: &str,
    metadata: Metadata,
    client_secret: Option<&str>,
) -> Result<Registered, Refusal> {
    if let Some(secret) = client_secret {
        // RFC 7592 §2.2: it may be repeated, but not chosen.
        let client = managed(app, &mut *app.store.read().await?, client_id, token).await?;
        let hashes = client.secret.into_iter().chain(client.renewed_secret).collect();
        if app.hasher.verify(secret, hashes).await?.is_none() {
            return refuse(OAuthErrorCode::InvalidClientMetadata, "client_secret is the server's to choose");
        }
    }
    let mut tx = app.store.write().await?;
    let client = managed(app, &mut tx, client_id, token).await?;
    let registry = app.registry.now();
    let registrar =
        registry.registrars.iter().find(|registrar| Some(&registrar.id) == client.registrar.as_ref());
    let metadata = metadata::checked(app, registrar.map(|registrar| &**registrar), metadata)?;
    if metadata.device.is_some() != client.is_device()
        || metadata.token_endpoint_auth_method.as_deref() != Some(&client.auth_method)
    {
        return refuse(
            OAuthErrorCode::InvalidClientMetadata,
            "the kind of client and its method cannot change",
        );
    }
    if let Some(device) = &metadata.device {
        // What an owner saw, or sees just now, must be what they get.
        if ownerships::of_device(&mut tx, client_id).await?.is_some()
            || claims::alive(&mut tx, client_id).await?.is_some()
        {
            return refuse(OAuthErrorCode::AccessDenied, "the device has an owner or is being claimed");
        }
        let channels = serde_json::json!(device.channels).to_string();
        let batch = device.batch.as_deref();
        clients::update_device(&mut tx, client_id, device.confirm.name(), &channels, batch).await?;
    }
    let json = serde_json::json!(metadata).to_string();
    clients::update(&mut tx, client_id, &metadata.client_name, &json).await?;
    tx.commit().await?;
    Audit::ClientChanged { client: client_id.to_owned() }.record();
    registered(app, &Client { metadata: json, ..client }, token)
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
    let client = managed(app, change.conn(), client_id, token).await?;
    if ownerships::of_device(change.conn(), client_id).await?.is_some() {
        return refuse(OAuthErrorCode::AccessDenied, "the device has an owner");
    }
    for grant in grants::of_client(change.conn(), client_id).await? {
        change.end_grant(&grant, now).await?;
    }
    clients::delete(change.conn(), &client).await?;
    change.note(Audit::ClientDeleted { client: client_id.to_owned() });
    change.commit(app).await?;
    Ok(())
}

/// What a client registered; none if it cannot be read.
pub(crate) fn metadata_of(client: &Client) -> Option<Metadata> {
    serde_json::from_str(&client.metadata).ok()
}

/// The redirect URIs that an app registered.
pub(crate) fn redirect_uris(client: &Client) -> Vec<String> {
    metadata_of(client).map(|metadata| metadata.redirect_uris).unwrap_or_default()
}

/// The registrar whose initial access token this is.
pub(crate) fn registrar(
    app: &App,
    token: Option<&str>,
    now: i64,
) -> Result<Option<Arc<RegistrarToken>>, Refusal> {
    let Some(token) = token else { return Ok(None) };
    // Every token is compared, so that the time does not tell which one is near.
    let fitting = app
        .registry
        .now()
        .registrars
        .iter()
        .fold(None, |found, known| if known.accepts(token, now) { Some(known.clone()) } else { found });
    match fitting {
        Some(registrar) => Ok(Some(registrar)),
        None => refuse(OAuthErrorCode::InvalidToken, "not a valid initial access token"),
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

fn registered(app: &App, client: &Client, token: &str) -> Result<Registered, Refusal> {
    let metadata: Metadata = serde_json::from_str(&client.metadata)
        .map_err(|_| Refusal::OAuth(OAuthErrorCode::ServerError, "the stored metadata cannot be read"))?;
    Ok(Registered {
        client_id: client.client_id.clone(),
        client_id_issued_at: client.created_at,
        client_secret: None,
        client_secret_expires_at: None,
        registration_access_token: Some(token.to_owned()),
        registration_client_uri: app.url(&format!("/register/{}", client.client_id)),
        user_registration_uri: None,
        issuer: app.issuer_text().to_owned(),
        mqtt: client.is_device().then(|| (*app.mqtt).clone()),
        metadata,
    })
}

/// A client that is about to be inserted, with its secrets in the clear for the answer.
struct Draft<'a> {
    repeated: Option<Repeatable<'a>>,
    client_id: String,
    secret: Option<Zeroizing<String>>,
    registration_token: Zeroizing<String>,
    code: Option<Zeroizing<String>>,
    metadata: Metadata,
    metadata_json: String,
}

impl<'a> Draft<'a> {
    fn new(
        app: &'a App,
        registrar: Option<&'a RegistrarToken>,
        idempotency_key: Option<&'a str>,
        index: usize,
        metadata: Metadata,
    ) -> Result<Self, Refusal> {
        let secretless = matches!(metadata.method(), "none" | "private_key_jwt");
        let repeated =
            registrar.zip(idempotency_key).map(|(registrar, key)| Repeatable { app, registrar, key, index });
        let mut draft = Self {
            repeated,
            client_id: secret::random_token::<16>(),
            secret: (!secretless).then(|| Zeroizing::new(secret::random_token::<32>())),
            registration_token: Zeroizing::new(secret::random_token::<32>()),
            code: metadata.device.is_some().then(|| Zeroizing::new(secret::random_token::<16>())),
            metadata_json: serde_json::json!(metadata).to_string(),
            metadata,
        };
        draft.derive(app.keys.key(Purpose::ClientSecret));
        Ok(draft)
    }

    /// Derives what can be told again, with this key, if a request like this one may come again.
    fn derive(&mut self, key: &Key) {
        let Some(repeated) = &self.repeated else { return };
        let derived = |what| Zeroizing::new(secret::encode(repeated.derive(key, what)));
        self.registration_token = derived("registration token");
        if self.secret.is_some() {
            self.secret = Some(derived("secret"));
        }
        if self.code.is_some() {
            self.code = Some(Zeroizing::new(secret::encode(&repeated.derive(key, "code")[..16])));
        }
    }

    /// What the same request registered before, whichever key its hash was written with.
    async fn registered_before(&self, conn: &mut Conn) -> sqlx::Result<Option<Client>> {
        for mac in self.repeated.iter().flat_map(Repeatable::macs) {
            let known = clients::by_idempotency(conn, mac.as_bytes()).await?;
            if known.is_some() {
                return Ok(known);
            }
        }
        Ok(None)
    }

    /// Derives what the known client was told, whichever key that was derived with; false if it is the client's no more.
    async fn derive_again(&mut self, app: &App, conn: &mut Conn, known: &Client) -> sqlx::Result<bool> {
        for key in app.keys.keys(Purpose::ClientSecret) {
            self.derive(key);
            let parts: [&[u8]; 2] = [b"registration ", self.registration_token.as_bytes()];
            for token in app.keys.candidates(Purpose::Token, &parts) {
                if clients::has_registration_token(conn, &known.client_id, token.as_bytes()).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn insert(
        &self,
        app: &App,
        conn: &mut Conn,
        registrar: Option<&RegistrarToken>,
        hash: Option<&str>,
        now: i64,
    ) -> Result<(), Refusal> {
        let parts: [&[u8]; 2] = [b"registration ", self.registration_token.as_bytes()];
        let registration_token = app.keys.mac(Purpose::Token, &parts);
        let idempotency = self.repeated.as_ref().and_then(|repeated| repeated.macs().into_iter().next());
        let client = NewClient {
            client_id: &self.client_id,
            kind: if self.metadata.device.is_some() { "device" } else { "app" },
            auth_method: self.metadata.token_endpoint_auth_method.as_deref().unwrap_or("client_secret_basic"),
            secret: hash,
            name: &self.metadata.client_name,
            metadata: &self.metadata_json,
            registrar: registrar.map(|registrar| registrar.id.as_str()),
            registration_token: registration_token.as_bytes(),
            idempotency: idempotency.as_ref().map(Mac::as_bytes),
            created_at: now,
        };
        clients::insert(conn, &client).await?;
        if let (Some(device), Some(code)) = (&self.metadata.device, &self.code) {
            let code = app.keys.mac(Purpose::RegistrationCode, &[code.as_bytes()]);
            let channels = serde_json::json!(device.channels).to_string();
            let confirm = device.confirm.name();
            let batch = device.batch.as_deref();
            clients::insert_device(conn, &self.client_id, code.as_bytes(), confirm, &channels, batch).await?;
        }
        Ok(())
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

    fn derive(&self, secret: &Key, what: &str) -> Zeroizing<[u8; 32]> {
        let [registrar, index, key] = self.parts();
        let parts: [&[u8]; 6] = [what.as_bytes(), &[0], &registrar, &[0], &index, &key];
        Zeroizing::new(secret.hmac(&parts))
    }

    /// The hashes under which the request may be known, the newest key's first.
    fn macs(&self) -> Vec<Mac> {
        let [registrar, index, key] = self.parts();
        self.app.keys.candidates(Purpose::Token, &[b"idempotency ", &registrar, &[0], &index, &key])
    }
}
