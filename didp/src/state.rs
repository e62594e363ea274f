//! What every request handler and connection shares.

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
use crate::keys::Keyring;
use crate::peers::Peers;
use crate::pins;
use crate::store::Store;
use crate::throttle::Throttle;
use crate::upstream::Upstreams;

/// The state of a running DIdP; clones share it.
#[derive(Clone)]
pub struct App {
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
    /// Gateways, in the order of the configuration; the first is the home of new owners.
    pub gateways: Arc<[Gateway]>,
    /// Who may register clients with a token.
    pub registrars: Arc<[RegistrarToken]>,
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

/// A gateway as configured, with its secret.
pub struct Gateway {
    /// Name it authenticates with; also its name in the database.
    pub client_id: String,
    /// Audience of tokens for it.
    pub resource: String,
    /// What token responses say of it.
    pub address: GatewayAddress,
    /// Public keys by which it may prove itself.
    pub keys: Vec<CoreJsonWebKey>,
    secret: Option<(Key, [u8; 32])>,
}

impl Gateway {
    /// A gateway with its secret. Only a keyed hash stays in memory, and comparing hashes takes constant time.
    pub fn new(
        client_id: String,
        resource: String,
        address: GatewayAddress,
        secret: Option<&str>,
        keys: Vec<CoreJsonWebKey>,
    ) -> Self {
        let secret = secret.map(|secret| {
            let key = Key::random();
            let expected = key.hmac(&[secret.as_bytes()]);
            (key, expected)
        });
        Self { client_id, resource, address, keys, secret }
    }

    /// True for the right secret.
    pub fn accepts(&self, secret: &str) -> bool {
        self.secret
            .as_ref()
            .is_some_and(|(key, expected)| service::secret::equal(&key.hmac(&[secret.as_bytes()]), expected))
    }
}

/// An initial access token and what it allows.
pub struct RegistrarToken {
    /// Stable short name.
    pub id: String,
    /// What a person calls it.
    pub name: String,
    /// True for manufacturers (devices), false for app developers.
    pub devices: bool,
    /// Clients at most.
    pub quota: i64,
    /// Unix seconds after which the token is dead.
    pub expires: Option<i64>,
    key: Key,
    expected: [u8; 32],
}

impl RegistrarToken {
    fn new(registrar: &Registrar, devices: bool, token: &str) -> Self {
        let key = Key::random();
        Self {
            id: registrar.id.clone(),
            name: registrar.name.clone(),
            devices,
            quota: registrar.quota,
            expires: registrar.expires,
            expected: key.hmac(&[token.as_bytes()]),
            key,
        }
    }

    /// True for the right token.
    pub fn accepts(&self, token: &str) -> bool {
        service::secret::equal(&self.key.hmac(&[token.as_bytes()]), &self.expected)
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
        Ok(Self {
            hasher: Hasher::new(config.limits.hash_iterations, config.limits.hash_queue),
            throttle: Arc::new(Throttle::new(&config.limits)),
            hub: Arc::new(Hub::new(peers.first_connection(), store.is_shared())),
            peers: Arc::new(peers),
            events: Arc::new(watch::Sender::new(head)),
            claims: Arc::new(watch::Sender::new(0)),
            keys: Arc::new(parts.keys),
            upstreams: Arc::new(parts.upstreams),
            gateways: parts.gateways.into(),
            registrars: parts.registrars.into(),
            mqtt: Arc::new(parts.mqtt),
            config: Arc::new(config),
            store,
            clock,
            shutdown,
        })
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
    pub fn gateway(&self, client_id: &str) -> Option<&Gateway> {
        self.gateways.iter().find(|gateway| gateway.client_id == client_id)
    }

    /// The gateway of owners that have none yet.
    pub fn home_gateway(&self) -> &Gateway {
        &self.gateways[0]
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
