//! What every request handler and connection shares.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use oauth_wire::GatewayAddress;
use openidconnect::core::CoreJsonWebKey;
use service::secret::Key;
use service::{Clock, Shutdown};
use tokio::sync::watch;
use url::Url;
use zeroize::Zeroizing;

use crate::config::{Config, Mistake, Registrar};
use crate::flows::clients::assertion;
use crate::hashing::Hasher;
use crate::hub::Hub;
use crate::keys::{Keyring, Purpose};
use crate::peers::Peers;
use crate::pins;
use crate::registry::{Live, Registry};
use crate::store::Store;
use crate::store::registry::{GatewayRow, RegistrarRow, TokenRow};
use crate::throttle::Throttle;
use crate::upstream::Upstreams;

/// The state of a running DIdP; clones share it.
#[derive(Clone)]
pub struct App(Arc<Running>);

impl Deref for App {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.0
    }
}

/// What a running DIdP consists of.
pub struct Running {
    /// The operator's decisions.
    pub config: Arc<Config>,
    /// Time.
    pub clock: Clock,
    /// Keyed hashes.
    pub keys: Arc<Keyring>,
    /// The database.
    pub store: Store,
    /// Identity providers for owners.
    pub upstreams: Arc<Upstreams>,
    /// Gateways, and who may register clients with a token.
    pub registry: Live,
    /// What registration tells devices about MQTT here.
    pub mqtt: Arc<MqttEndpoint>,
    /// Slow hashing of clients' secrets.
    pub hasher: Hasher,
    /// Counts failed logins, before any hashing.
    pub throttle: Arc<Throttle>,
    /// Devices that are connected to this process now.
    pub hub: Arc<Hub>,
    /// Other DIdPs on the same database.
    pub peers: Arc<Peers>,
    /// Rises when an event for gateways was committed.
    pub events: Arc<watch::Sender<i64>>,
    /// Changes when a claim changed its state.
    pub claims: Arc<watch::Sender<u64>>,
    /// Begins when the process has to stop.
    pub shutdown: Shutdown,
}

/// A gateway with its secret.
pub struct Gateway {
    /// Name it authenticates with; also its name in the database.
    pub client_id: String,
    /// Audience of tokens for it.
    pub resource: String,
    /// What token responses say of it.
    pub address: GatewayAddress,
    /// Public keys by which it may prove itself.
    pub keys: Vec<CoreJsonWebKey>,
    /// It is refused, and gets no new owners.
    pub disabled: bool,
    secrets: Option<Secrets>,
}

/// What a secret is compared with; always keyed hashes, in constant time.
enum Secrets {
    /// A secret of a file, under a key of this process, with its [`Secrets::mark`].
    File(Key, [u8; 32], [u8; 32]),
    /// Hashes of the database, each with its end in Unix seconds.
    Stored(Arc<Keyring>, Vec<(Vec<u8>, Option<i64>)>),
}

impl Secrets {
    fn of_file(secret: &str) -> Self {
        let key = Key::random();
        let expected = key.hmac(&[secret.as_bytes()]);
        Self::File(key, expected, service::secret::sha256(secret.as_bytes()))
    }

    /// Another value when the secret is replaced; tells nothing of it to whoever has not the whole.
    fn mark(&self) -> [u8; 32] {
        match self {
            Self::File(_, _, mark) => *mark,
            Self::Stored(_, hashes) => {
                let all: Vec<u8> = hashes.iter().flat_map(|(hash, _)| hash).copied().collect();
                service::secret::sha256(&all)
            }
        }
    }

    fn accept(&self, stored_as: &[u8], secret: &str, now: i64) -> bool {
        match self {
            Self::File(key, expected, _) => service::secret::equal(&key.hmac(&[secret.as_bytes()]), expected),
            Self::Stored(keys, hashes) => {
                let candidates = keys.candidates(Purpose::Token, &[stored_as, secret.as_bytes()]);
                // Every hash is compared, so that the time does not tell which one is near.
                hashes.iter().fold(false, |found, (hash, end)| {
                    let fits = candidates.iter().any(|one| service::secret::equal(one.as_bytes(), hash));
                    found | (fits && end.is_none_or(|end| now < end))
                })
            }
        }
    }
}

impl Gateway {
    /// A gateway with its secret. Only a keyed hash stays in memory.
    pub fn new(
        client_id: String,
        resource: String,
        address: GatewayAddress,
        secret: Option<&str>,
        keys: Vec<CoreJsonWebKey>,
    ) -> Self {
        Self { client_id, resource, address, keys, disabled: false, secrets: secret.map(Secrets::of_file) }
    }

    /// A gateway of the database.
    pub(crate) fn stored(row: GatewayRow, address: GatewayAddress, keys: &Arc<Keyring>) -> Self {
        let former = row.former.map(|hash| (hash, row.former_until));
        let secrets = std::iter::once((row.secret, None)).chain(former).collect();
        Self {
            client_id: row.client_id,
            resource: row.resource,
            address,
            keys: Vec::new(),
            disabled: row.disabled,
            secrets: Some(Secrets::Stored(keys.clone(), secrets)),
        }
    }

    /// True for the right secret of a gateway that is not disabled.
    pub fn accepts(&self, secret: &str, now: i64) -> bool {
        let right = self.secrets.as_ref().is_some_and(|secrets| secrets.accept(b"gateway ", secret, now));
        right && !self.disabled
    }

    /// Another value when its secret is replaced.
    pub(crate) fn mark(&self) -> Option<[u8; 32]> {
        self.secrets.as_ref().map(Secrets::mark)
    }
}

/// Who may register clients with an initial access token, and what it allows.
pub struct RegistrarToken {
    /// Stable short name.
    pub id: String,
    /// What a person calls it.
    pub name: String,
    /// True for manufacturers (devices), false for app developers.
    pub devices: bool,
    /// Clients at most.
    pub quota: i64,
    /// Unix seconds after which all its tokens are dead.
    pub expires: Option<i64>,
    /// Its tokens are refused.
    pub disabled: bool,
    secrets: Secrets,
}

impl RegistrarToken {
    fn new(registrar: &Registrar, devices: bool, token: &str) -> Self {
        Self {
            id: registrar.id.clone(),
            name: registrar.name.clone(),
            devices,
            quota: registrar.quota,
            expires: registrar.expires,
            disabled: false,
            secrets: Secrets::of_file(token),
        }
    }

    /// A registrar of the database with its tokens.
    pub(crate) fn stored(row: RegistrarRow, tokens: Vec<TokenRow>, keys: &Arc<Keyring>) -> Self {
        let hashes = tokens.into_iter().map(|token| (token.token, token.expires_at)).collect();
        Self {
            id: row.id,
            name: row.name,
            devices: row.kind == "manufacturer",
            quota: row.quota,
            expires: None,
            disabled: row.disabled,
            secrets: Secrets::Stored(keys.clone(), hashes),
        }
    }

    /// True for a token that is right, and alive now.
    pub fn accepts(&self, token: &str, now: i64) -> bool {
        self.secrets.accept(b"initial access ", token, now) && self.is_usable(now)
    }

    /// False if it is disabled or over.
    pub fn is_usable(&self, now: i64) -> bool {
        !self.disabled && self.expires.is_none_or(|end| now < end)
    }

    /// Another value when its tokens are replaced, for what a login of it is sealed with.
    pub(crate) fn mark(&self) -> [u8; 32] {
        self.secrets.mark()
    }
}

/// The token of the admin API.
#[derive(Clone)]
pub struct AdminToken(Arc<Secrets>);

impl AdminToken {
    /// Only a keyed hash stays in memory.
    pub fn new(token: &str) -> Self {
        Self(Arc::new(Secrets::of_file(token)))
    }

    /// Reads it from its file.
    ///
    /// # Errors
    /// The file cannot be read, or holds fewer than 32 characters.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let token = secret(file)?;
        anyhow::ensure!(
            token.len() >= 32,
            "{}: the admin token has fewer than 32 characters",
            file.display()
        );
        Ok(Self::new(&token))
    }

    /// True for the right token.
    pub fn accepts(&self, token: &str) -> bool {
        self.0.accept(b"", token, 0)
    }
}

/// An address of MQTT over TLS and its pins, as registration answers give it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct MqttEndpoint {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// base64 SHA-256 of SubjectPublicKeyInfo (RFC 7469 §2.4).
    pub spki_sha256: Vec<String>,
}

impl App {
    /// Opens everything that the configuration names: keys, secrets, certificates, the database.
    ///
    /// # Errors
    /// What cannot be opened is named.
    pub async fn open(config: Config, clock: Clock, shutdown: Shutdown) -> anyhow::Result<Self> {
        let parts = Parts::read(&config)?;
        let password = parts.database_password.as_ref().map(|password| password.as_str());
        let store = Store::open(&config.database, password).await?;
        let head = store.events_head().await?;
        let peers = Peers::new(store.join().await?);
        let keys = Arc::new(parts.keys);
        let registry = Live::new(Registry {
            gateways: parts.gateways.into_iter().map(Arc::new).collect(),
            registrars: parts.registrars.into_iter().map(Arc::new).collect(),
            rev: 0,
        });
        registry.load(&mut *store.read().await?, &keys).await?;
        Ok(Self(Arc::new(Running {
            hasher: Hasher::new(config.limits.hash_iterations, config.limits.hash_queue),
            throttle: Arc::new(Throttle::new(&config.limits)),
            hub: Arc::new(Hub::new(peers.first_connection(), store.is_shared())),
            peers: Arc::new(peers),
            events: Arc::new(watch::Sender::new(head)),
            claims: Arc::new(watch::Sender::new(0)),
            keys,
            upstreams: Arc::new(parts.upstreams),
            registry,
            mqtt: Arc::new(parts.mqtt),
            config: Arc::new(config),
            store,
            clock,
            shutdown,
        })))
    }

    /// The issuer identifier (RFC 8414 §2).
    pub fn issuer(&self) -> &Url {
        &self.config.issuer
    }

    /// The issuer identifier as it stands in answers: without a slash at the end.
    pub fn issuer_text(&self) -> &str {
        self.config.issuer.as_str().trim_end_matches('/')
    }

    /// An absolute URL below the issuer; `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer_text())
    }

    /// Wakes the streams of events, if there are some that they have not seen.
    pub(crate) fn raise_events(&self, seq: i64) {
        self.events.send_if_modified(|head| {
            let rises = seq > *head;
            *head = seq.max(*head);
            rises
        });
    }

    /// The gateway with this name.
    pub fn gateway(&self, client_id: &str) -> Option<Arc<Gateway>> {
        self.registry.now().gateways.iter().find(|gateway| gateway.client_id == client_id).cloned()
    }

    /// The gateway of owners that have none yet; none if there is no gateway that is not disabled.
    pub fn home_gateway(&self) -> Option<Arc<Gateway>> {
        self.registry.now().gateways.iter().find(|gateway| !gateway.disabled).cloned()
    }
}

/// What the configuration's file names lead to; reading it is what `check-config` does beyond the file itself.
pub struct Parts {
    keys: Keyring,
    upstreams: Upstreams,
    gateways: Vec<Gateway>,
    registrars: Vec<RegistrarToken>,
    mqtt: MqttEndpoint,
    database_password: Option<Zeroizing<String>>,
}

impl Parts {
    /// Reads keys, secrets and certificates.
    ///
    /// # Errors
    /// The file that cannot be used is named.
    pub fn read(config: &Config) -> Result<Self, Mistake> {
        config.check()?;
        let at = |table, index, key| {
            move |error: anyhow::Error| Mistake { table, index, key, what: format!("{error:#}") }
        };
        let keys = Keyring::load(&config.keys_dir).map_err(|error| at("", 0, "keys_dir")(error.into()))?;
        let upstreams = Upstreams::new(&config.upstream, &config.issuer).map_err(at(
            "upstream",
            0,
            "client_secret_file",
        ))?;
        let mut gateways = Vec::new();
        for (index, gateway) in config.gateway.iter().enumerate() {
            let secret = match &gateway.secret_file {
                Some(file) => Some(secret(file).map_err(at("gateway", index, "secret_file"))?),
                None => None,
            };
            let keys = match &gateway.jwks_file {
                Some(file) => jwks(file).map_err(at("gateway", index, "jwks_file"))?,
                None => Vec::new(),
            };
            let pins = pins::collect(&gateway.spki_sha256, &gateway.spki_file, &gateway.ca_file)
                .map_err(at("gateway", index, "spki_file"))?;
            let address = GatewayAddress {
                host: gateway.host.clone(),
                port: gateway.port,
                spki_sha256: pins,
                http: gateway.http.clone(),
                websocket: gateway.websocket.clone(),
            };
            gateways.push(Gateway::new(
                gateway.client_id.clone(),
                gateway.resource.clone(),
                address,
                secret.as_ref().map(|secret| secret.as_str()),
                keys,
            ));
        }
        let mut registrars = Vec::new();
        for (table, list, devices) in
            [("manufacturer", &config.manufacturer, true), ("developer", &config.developer, false)]
        {
            for (index, registrar) in list.iter().enumerate() {
                let token = secret(&registrar.initial_access_token_file).map_err(at(
                    table,
                    index,
                    "initial_access_token_file",
                ))?;
                registrars.push(RegistrarToken::new(registrar, devices, &token));
            }
        }
        let mqtt = MqttEndpoint {
            host: config.mqtt.host.clone(),
            port: config.mqtt.port,
            spki_sha256: pins::collect(
                &config.mqtt.spki_sha256,
                &config.mqtt.spki_file,
                &config.mqtt.ca_file,
            )
            .map_err(at("mqtt", 0, "spki_file"))?,
        };
        let database_password = match &config.database_password_file {
            Some(file) => Some(secret(file).map_err(at("", 0, "database_password_file"))?),
            None => None,
        };
        Ok(Self { keys, upstreams, gateways, registrars, mqtt, database_password })
    }
}

fn jwks(file: &Path) -> anyhow::Result<Vec<CoreJsonWebKey>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let set = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    assertion::keys(&set).map_err(|why| anyhow::anyhow!("{}: {why}", file.display()))
}

fn secret(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    service::secret::read_secret(file).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))
}
