//! What an operator does while a DIdP runs: manufacturers, app developers, gateways, clients, counts. The command line and the
//! admin API both come here. Secrets are made here, told once, and kept as keyed hashes.
//!
//! What the configuration file says is shown too, but changed only there. Manufacturers' devices are in [`devices`].

pub mod devices;

use oauth_wire::GatewayAddress;
use serde::{Deserialize, Serialize};
use service::secret;
use zeroize::Zeroizing;

use crate::audit::By;
use crate::flows::account::apps::end_app;
use crate::flows::change::Change;
use crate::flows::{Refusal, ownership};
use crate::registry::{gateway_secret, initial_access_token};
use crate::state::App;
use crate::store::registry::{self, ClientRow, GatewayRow, RegistrarRow, TokenRow};
use crate::store::{clients, grants};

/// Clients on one page.
pub const PAGE: i64 = 1_000;

/// Why an operator's wish was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// A value cannot be used; the sentence says which and why.
    #[error("{0}")]
    Invalid(&'static str),
    /// There is no such thing.
    #[error("there is no {0} of that id in the database")]
    Unknown(&'static str),
    /// The id, or the resource, is taken.
    #[error("another {0} has that id or resource")]
    Taken(&'static str),
    /// The configuration file says it, and it is changed there.
    #[error("that {0} is in the configuration file; change it there")]
    InFile(&'static str),
    /// Too much is under way.
    #[error("too much is under way; come again")]
    Busy,
    /// The store cannot answer.
    #[error("the store cannot answer: {0}")]
    Store(#[from] sqlx::Error),
}

impl From<Refusal> for OperatorError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Store(error) => Self::Store(error),
            Refusal::Busy | Refusal::TooMany(_) => Self::Busy,
            Refusal::OAuth(..) => Self::Invalid("it was refused"),
        }
    }
}

/// The two kinds of registrars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Registers devices.
    Manufacturer,
    /// Registers apps.
    Developer,
}

impl Kind {
    /// The name in the database and in sentences.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manufacturer => "manufacturer",
            Self::Developer => "developer",
        }
    }
}

/// Where something was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The configuration file.
    File,
    /// The database.
    Database,
}

/// A registrar.
#[derive(Debug, Serialize)]
pub struct RegistrarView {
    /// Stable short name.
    pub id: String,
    /// What a person calls it.
    pub name: String,
    /// Clients at most.
    pub quota: i64,
    /// Clients that it has.
    pub registered: i64,
    /// Its tokens are refused.
    pub disabled: bool,
    /// Who says so.
    pub source: Source,
    /// The file has one of the same id, which wins.
    pub shadowed: bool,
    /// Unix seconds: when each of its tokens ends; null for one that does not.
    pub tokens_expire: Vec<Option<i64>>,
}

/// A registrar to be added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRegistrar {
    /// Stable short name: letters, digits, `-` and `_`; 64 at most.
    pub id: String,
    /// What a person calls it.
    pub name: String,
    /// Clients at most; 100,000 if missing.
    #[serde(default = "default_quota")]
    pub quota: i64,
    /// Unix seconds after which its token is dead; never if missing.
    pub expires: Option<i64>,
}

fn default_quota() -> i64 {
    100_000
}

/// How a secret is replaced.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// Seconds for which what was valid stays so.
    pub keep: i64,
    /// Unix seconds after which the new token is dead; never if missing. Gateways' secrets do not expire.
    pub expires: Option<i64>,
}

/// A gateway.
#[derive(Debug, Serialize)]
pub struct GatewayView {
    /// Name it authenticates with.
    pub client_id: String,
    /// Its URI as an audience.
    pub resource: String,
    /// What token responses say of it.
    pub address: GatewayAddress,
    /// It is refused, and gets no new owners.
    pub disabled: bool,
    /// Who says so.
    pub source: Source,
    /// The file has one of the same id or resource, which wins.
    pub shadowed: bool,
    /// New owners are sent to it.
    pub home: bool,
}

/// A gateway to be added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGateway {
    /// Name it authenticates with: letters, digits, `-` and `_`; 64 at most.
    pub client_id: String,
    /// Its URI as an audience (RFC 8707).
    pub resource: String,
    /// What token responses say of it.
    pub address: GatewayAddress,
}

/// A client, without anything of whose it is.
#[derive(Debug, Serialize)]
pub struct ClientView {
    /// Chosen by the server.
    pub client_id: String,
    /// `device` or `app`.
    pub kind: String,
    /// What a person calls it.
    pub name: String,
    /// Who registered it; null if that was done without a token.
    pub registrar: Option<String>,
    /// It may neither log in nor be claimed.
    pub disabled: bool,
    /// Unix seconds.
    pub created_at: i64,
}

/// Which clients.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// `device` or `app`.
    pub kind: Option<String>,
    /// The registrar's id.
    pub registrar: Option<String>,
    /// Those whose client_id comes after this one.
    pub after: Option<String>,
    /// So many at most; [`PAGE`] if missing.
    pub limit: Option<i64>,
}

/// Registrars of a kind, the file's first.
///
/// # Errors
/// The store cannot answer.
pub async fn registrars(app: &App, kind: Kind) -> Result<Vec<RegistrarView>, OperatorError> {
    let mut conn = app.store.read().await?;
    let config = &app.config;
    let listed = match kind {
        Kind::Manufacturer => &config.manufacturer,
        Kind::Developer => &config.developer,
    };
    let mut all = Vec::new();
    for known in listed {
        all.push(RegistrarView {
            id: known.id.clone(),
            name: known.name.clone(),
            quota: known.quota,
            registered: clients::counted(&mut conn, &known.id).await?,
            disabled: false,
            source: Source::File,
            shadowed: false,
            tokens_expire: vec![known.expires],
        });
    }
    let tokens = registry::tokens(&mut conn).await?;
    for row in registry::registrars(&mut conn).await?.into_iter().filter(|row| row.kind == kind.name()) {
        let own = tokens.iter().filter(|token| token.registrar == row.id).map(|token| token.expires_at);
        all.push(RegistrarView {
            registered: clients::counted(&mut conn, &row.id).await?,
            shadowed: registrar_in_file(app, &row.id),
            tokens_expire: own.collect(),
            id: row.id,
            name: row.name,
            quota: row.quota,
            disabled: row.disabled,
            source: Source::Database,
        });
    }
    Ok(all)
}

/// Adds a registrar; its initial access token.
///
/// # Errors
/// See [`OperatorError`].
pub async fn add_registrar(
    app: &App,
    kind: Kind,
    new: &NewRegistrar,
) -> Result<Zeroizing<String>, OperatorError> {
    let now = app.clock.now();
    if !is_id(&new.id) {
        return Err(OperatorError::Invalid("the id must be 1 to 64 letters, digits, '-' or '_'"));
    }
    if new.name.trim().is_empty() || new.name.chars().count() > 80 || new.name.chars().any(char::is_control) {
        return Err(OperatorError::Invalid("the name must have 1 to 80 printable characters"));
    }
    if new.quota < 1 {
        return Err(OperatorError::Invalid("the quota must be at least 1"));
    }
    check_expiry(new.expires, now)?;
    if registrar_in_file(app, &new.id) {
        return Err(OperatorError::InFile(kind.name()));
    }
    let token = Zeroizing::new(secret::random_token::<32>());
    let row = RegistrarRow {
        id: new.id.clone(),
        kind: kind.name().to_owned(),
        name: new.name.trim().to_owned(),
        quota: new.quota,
        disabled: false,
        created_at: now,
    };
    let mut tx = app.store.write().await?;
    if !registry::add_registrar(&mut tx, &row).await? {
        return Err(OperatorError::Taken("registrar"));
    }
    registry::add_token(&mut tx, &token_row(app, &new.id, &token, new.expires, now)).await?;
    registry::touch(&mut tx).await?;
    tx.commit().await?;
    reload(app).await?;
    tracing::info!(event = "registrar_added", kind = kind.name(), id = new.id);
    Ok(token)
}

/// Gives a registrar another initial access token; those before die, at once or after a while.
///
/// # Errors
/// See [`OperatorError`].
pub async fn rotate_registrar(
    app: &App,
    kind: Kind,
    id: &str,
    rotation: &Rotation,
) -> Result<Zeroizing<String>, OperatorError> {
    let now = app.clock.now();
    check_expiry(rotation.expires, now)?;
    check_keep(rotation.keep)?;
    let token = Zeroizing::new(secret::random_token::<32>());
    let mut tx = app.store.write().await?;
    if !registry::registrars(&mut tx).await?.iter().any(|row| row.id == id && row.kind == kind.name()) {
        return Err(missing(registrar_in_file(app, id), kind.name()));
    }
    registry::end_tokens(&mut tx, id, now + rotation.keep, now).await?;
    registry::add_token(&mut tx, &token_row(app, id, &token, rotation.expires, now)).await?;
    registry::touch(&mut tx).await?;
    tx.commit().await?;
    reload(app).await?;
    tracing::info!(event = "registrar_rotated", kind = kind.name(), id);
    Ok(token)
}

/// Disables a registrar, or enables it again. What it registered is not touched.
///
/// # Errors
/// See [`OperatorError`].
pub async fn disable_registrar(app: &App, kind: Kind, id: &str, disabled: bool) -> Result<(), OperatorError> {
    let mut tx = app.store.write().await?;
    let known =
        registry::registrars(&mut tx).await?.iter().any(|row| row.id == id && row.kind == kind.name());
    if !known || !registry::disable_registrar(&mut tx, id, disabled).await? {
        return Err(missing(registrar_in_file(app, id), kind.name()));
    }
    registry::touch(&mut tx).await?;
    tx.commit().await?;
    reload(app).await?;
    tracing::info!(event = "registrar_disabled", kind = kind.name(), id, disabled);
    Ok(())
}

/// Gateways, the file's first.
///
/// # Errors
/// The store cannot answer.
pub async fn gateways(app: &App) -> Result<Vec<GatewayView>, OperatorError> {
    let home = app.home_gateway().map(|gateway| gateway.client_id.clone());
    let is_home = |client_id: &str| home.as_deref() == Some(client_id);
    let live = app.registry.now();
    let in_file = &app.config.gateway;
    let mut all: Vec<GatewayView> = live
        .gateways
        .iter()
        .filter(|gateway| in_file.iter().any(|known| known.client_id == gateway.client_id))
        .map(|gateway| GatewayView {
            client_id: gateway.client_id.clone(),
            resource: gateway.resource.clone(),
            address: gateway.address.clone(),
            disabled: false,
            source: Source::File,
            shadowed: false,
            home: is_home(&gateway.client_id),
        })
        .collect();
    for row in registry::gateways(&mut *app.store.read().await?).await? {
        let shadowed =
            in_file.iter().any(|known| known.client_id == row.client_id || known.resource == row.resource);
        let Ok(address) = serde_json::from_str(&row.address) else {
            return Err(OperatorError::Invalid("the address of a gateway in the database cannot be read"));
        };
        all.push(GatewayView {
            home: !shadowed && is_home(&row.client_id),
            client_id: row.client_id,
            resource: row.resource,
            address,
            disabled: row.disabled,
            source: Source::Database,
            shadowed,
        });
    }
    Ok(all)
}

/// Adds a gateway; its secret.
///
/// # Errors
/// See [`OperatorError`].
pub async fn add_gateway(app: &App, new: &NewGateway) -> Result<Zeroizing<String>, OperatorError> {
    if !is_id(&new.client_id) {
        return Err(OperatorError::Invalid("the client_id must be 1 to 64 letters, digits, '-' or '_'"));
    }
    if url::Url::parse(&new.resource).is_err() || new.resource.contains('#') {
        return Err(OperatorError::Invalid("the resource must be an absolute URI without a fragment"));
    }
    if new.address.host.is_empty() || new.address.port == 0 {
        return Err(OperatorError::Invalid("the address needs a host and a port"));
    }
    let in_file = &app.config.gateway;
    if in_file.iter().any(|known| known.client_id == new.client_id || known.resource == new.resource) {
        return Err(OperatorError::InFile("gateway"));
    }
    let Ok(address) = serde_json::to_string(&new.address) else {
        return Err(OperatorError::Invalid("the address cannot be written"));
    };
    let secret = Zeroizing::new(secret::random_token::<32>());
    let row = GatewayRow {
        client_id: new.client_id.clone(),
        secret: gateway_secret(&app.keys, &secret).as_bytes().to_vec(),
        former: None,
        former_until: None,
        resource: new.resource.clone(),
        address,
        disabled: false,
        created_at: app.clock.now(),
    };
    let mut tx = app.store.write().await?;
    if !registry::add_gateway(&mut tx, &row).await? {
        return Err(OperatorError::Taken("gateway"));
    }
    registry::touch(&mut tx).await?;
    tx.commit().await?;
    reload(app).await?;
    tracing::info!(event = "gateway_added", gateway = new.client_id);
    Ok(secret)
}

/// Gives a gateway another secret; the one before dies, at once or after a while.
///
/// # Errors
/// See [`OperatorError`].
pub async fn rotate_gateway(
    app: &App,
    client_id: &str,
    rotation: &Rotation,
) -> Result<Zeroizing<String>, OperatorError> {
    check_keep(rotation.keep)?;
    if rotation.expires.is_some() {
        return Err(OperatorError::Invalid("a gateway's secret does not expire"));
    }
    let secret = Zeroizing::new(secret::random_token::<32>());
    let hash = gateway_secret(&app.keys, &secret);
    let until = app.clock.now() + rotation.keep;
    let mut tx = app.store.write().await?;
    if !registry::rotate_gateway(&mut tx, client_id, hash.as_bytes(), until).await? {
        return Err(missing(gateway_in_file(app, client_id), "gateway"));
    }
    registry::touch(&mut tx).await?;
    tx.commit().await?;
    reload(app).await?;
    tracing::info!(event = "gateway_rotated", gateway = client_id);
    Ok(secret)
}

/// Disables a gateway, or enables it again. Owners whose home it is stay there, and cannot be served meanwhile.
///
/// # Errors
/// See [`OperatorError`].
pub async fn disable_gateway(app: &App, client_id: &str, disabled: bool) -> Result<(), OperatorError> {
    let mut tx = app.store.write().await?;
    if !registry::disable_gateway(&mut tx, client_id, disabled).await? {
        return Err(missing(gateway_in_file(app, client_id), "gateway"));
    }
    registry::touch(&mut tx).await?;
    tx.commit().await?;
    reload(app).await?;
    tracing::info!(event = "gateway_disabled", gateway = client_id, disabled);
    Ok(())
}

/// Clients, by client_id.
///
/// # Errors
/// See [`OperatorError`].
pub async fn clients(app: &App, filter: &Filter) -> Result<Vec<ClientView>, OperatorError> {
    if filter.kind.as_deref().is_some_and(|kind| kind != "device" && kind != "app") {
        return Err(OperatorError::Invalid("kind is device or app"));
    }
    let limit = filter.limit.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(OperatorError::Invalid("limit is 1 to 1000"));
    }
    let after = filter.after.as_deref().unwrap_or("");
    let mut conn = app.store.read().await?;
    let rows =
        registry::clients(&mut conn, filter.kind.as_deref(), filter.registrar.as_deref(), after, limit)
            .await?;
    Ok(rows.into_iter().map(client_view).collect())
}

/// One client.
///
/// # Errors
/// See [`OperatorError`].
pub async fn client(app: &App, client_id: &str) -> Result<ClientView, OperatorError> {
    let found = clients::get(&mut *app.store.read().await?, client_id).await?;
    let found = found.ok_or(OperatorError::Unknown("client"))?;
    Ok(ClientView {
        client_id: found.client_id,
        kind: found.kind,
        name: found.name,
        registrar: found.registrar,
        disabled: found.disabled,
        created_at: found.created_at,
    })
}

/// Disables a client, or enables it again. An app that is disabled loses what it was allowed; a device's tokens end, and its owner
/// sees that it is suspended.
///
/// # Errors
/// See [`OperatorError`].
pub async fn disable_client(app: &App, client_id: &str, disabled: bool) -> Result<(), OperatorError> {
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    if !registry::disable_client(change.conn(), client_id, disabled).await? {
        return Err(OperatorError::Unknown("client"));
    }
    if disabled {
        for grant in grants::of_client(change.conn(), client_id).await? {
            if grant.is_device() {
                ownership::suspend(app, &mut change, &grant, By::Operator).await?;
            } else {
                end_app(&mut change, &grant, By::Operator, now).await?;
            }
        }
    }
    change.commit(app).await?;
    tracing::info!(event = "client_disabled", disabled);
    Ok(())
}

/// How much of everything there is.
///
/// # Errors
/// The store cannot answer.
pub async fn stats(app: &App) -> Result<serde_json::Value, OperatorError> {
    let mut conn = app.store.read().await?;
    let counts = registry::counts(&mut conn).await?;
    let mut object: serde_json::Map<String, serde_json::Value> =
        counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
    let live = app.registry.now();
    object.insert("gateways".into(), live.gateways.len().into());
    object.insert("registrars".into(), live.registrars.len().into());
    object.insert("issuer".into(), app.issuer_text().into());
    object.insert("version".into(), env!("CARGO_PKG_VERSION").into());
    Ok(object.into())
}

async fn reload(app: &App) -> sqlx::Result<()> {
    app.registry.load(&mut *app.store.read().await?, &app.keys).await
}

fn client_view(row: ClientRow) -> ClientView {
    let ClientRow { client_id, kind, name, registrar, disabled, created_at } = row;
    ClientView { client_id, kind, name, registrar, disabled, created_at }
}

fn token_row(app: &App, registrar: &str, token: &str, expires_at: Option<i64>, now: i64) -> TokenRow {
    TokenRow {
        token: initial_access_token(&app.keys, token).as_bytes().to_vec(),
        registrar: registrar.to_owned(),
        expires_at,
        created_at: now,
    }
}

fn registrar_in_file(app: &App, id: &str) -> bool {
    app.config.manufacturer.iter().chain(&app.config.developer).any(|known| known.id == id)
}

fn gateway_in_file(app: &App, client_id: &str) -> bool {
    app.config.gateway.iter().any(|known| known.client_id == client_id)
}

fn missing(in_file: bool, what: &'static str) -> OperatorError {
    if in_file { OperatorError::InFile(what) } else { OperatorError::Unknown(what) }
}

fn check_expiry(expires: Option<i64>, now: i64) -> Result<(), OperatorError> {
    match expires {
        Some(end) if end <= now => Err(OperatorError::Invalid("the expiry is in the past")),
        _ => Ok(()),
    }
}

fn check_keep(keep: i64) -> Result<(), OperatorError> {
    const LONGEST: i64 = 90 * 86_400;
    if (0..=LONGEST).contains(&keep) {
        Ok(())
    } else {
        Err(OperatorError::Invalid("what was valid stays so for 0 to 7776000 seconds"))
    }
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}
