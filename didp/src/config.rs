//! `didp.toml`: what an operator decides. Reading it (variables, line numbers) is `service::config`'s work; what needs
//! other files (keys, secrets, certificates) is opened by [`crate::state`] and named there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use crate::upstream;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Issuer identifier (RFC 8414 §2) and the base of every URL that is given out, as browsers and devices see it.
    #[serde(deserialize_with = "issuer")]
    pub issuer: Url,
    /// What access tokens begin with, up to the dot; gateways pick the DIdP by it.
    #[serde(deserialize_with = "issuer_tag")]
    pub tag: String,
    /// Where to listen.
    #[serde(default)]
    pub listen: Listen,
    /// Certificate and key of the TLS listener; required as soon as `listen.mqtts` is set.
    pub tls: Option<TlsFiles>,
    /// Directory with one key file for each purpose and key id; `didp keys init` makes it.
    pub keys_dir: PathBuf,
    /// SQLite file; made if it is missing.
    pub database: PathBuf,
    /// What registration tells devices about this DIdP's MQTT over TLS.
    pub mqtt: MqttAddress,
    /// Gateways that may introspect.
    #[serde(default)]
    pub gateway: Vec<GatewayConfig>,
    /// Manufacturers that may register devices.
    #[serde(default)]
    pub manufacturer: Vec<Registrar>,
    /// App developers that have an initial access token.
    #[serde(default)]
    pub developer: Vec<Registrar>,
    /// Whether an app may register without a token.
    #[serde(default)]
    pub app_registration: AppRegistration,
    /// Accept `http` redirect URIs for any host, not only loopback; for a demo on a local network.
    #[serde(default)]
    pub allow_http_redirect: bool,
    /// Identity providers that owners may log in with.
    #[serde(default)]
    pub upstream: Vec<upstream::Settings>,
    /// How long things live.
    #[serde(default)]
    pub lifetimes: Lifetimes,
    /// Bounds on what clients may use.
    #[serde(default)]
    pub limits: Limits,
}

/// Addresses to listen on; a missing one is off. Port 0 takes any free port.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Pages and API (default port 8080). TLS in front of it is a proxy's work.
    pub http: Option<SocketAddr>,
    /// MQTT over TCP (1884).
    pub mqtt: Option<SocketAddr>,
    /// MQTT over TLS (8884).
    pub mqtts: Option<SocketAddr>,
}

/// PEM files of the TLS listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate chain, the server's own first.
    pub cert: PathBuf,
    /// Private key (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
}

/// An address of MQTT over TLS, with what its certificate is known by.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttAddress {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Pins: base64 or base64url SHA-256 of a SubjectPublicKeyInfo.
    #[serde(default)]
    pub spki_sha256: Vec<String>,
    /// File with more pins, one a line.
    pub spki_file: Option<PathBuf>,
    /// PEM file whose certificates' keys are pinned too.
    pub ca_file: Option<PathBuf>,
}

/// One gateway (an IGNITE, or a cluster that shares keys).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Name it authenticates with.
    pub client_id: String,
    /// File with its secret; white space around it is ignored.
    pub secret_file: PathBuf,
    /// Its URI as an audience (RFC 8707), compared exactly.
    pub resource: String,
    /// Host of MQTT over TLS.
    pub host: String,
    /// Port of MQTT over TLS.
    pub port: u16,
    /// Pins: base64 or base64url SHA-256 of a SubjectPublicKeyInfo.
    #[serde(default)]
    pub spki_sha256: Vec<String>,
    /// File with more pins, one a line.
    pub spki_file: Option<PathBuf>,
    /// PEM file whose certificates' keys are pinned too.
    pub ca_file: Option<PathBuf>,
    /// Base URL of its HTTP API, for apps.
    pub http: Option<String>,
    /// URL of MQTT over WebSocket, for apps.
    pub websocket: Option<String>,
}

/// Who may register clients with an initial access token (RFC 7591 §3).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registrar {
    /// Stable short name; stored with each client that it registers.
    pub id: String,
    /// What a person calls it; stands on consent pages.
    pub name: String,
    /// File with the token; white space around it is ignored.
    pub initial_access_token_file: PathBuf,
    /// Clients that it may have at most.
    #[serde(default = "default_quota")]
    pub quota: i64,
    /// Unix seconds after which the token is dead; never if missing.
    pub expires: Option<i64>,
}

/// Whether an app may register without a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppRegistration {
    /// Anybody may; such an app is shown as "unverified" at consent.
    Open,
    /// Only with the token of a `[[developer]]`.
    #[default]
    Token,
}

/// How long things live, in seconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lifetimes {
    /// A claim window after a press on the device.
    pub claim_window: i64,
    /// From the right answer to the owner's decision.
    pub claim_decision: i64,
    /// From the owner's consent to the device's report that it stored its record.
    pub claim_completion: i64,
    /// An authorization code; 60 at most.
    pub authorization_code: i64,
    /// An app's access token.
    pub app_access_token: i64,
    /// A device's access token.
    pub device_access_token: i64,
    /// An app's refresh token, from its issue.
    pub app_refresh_idle: i64,
    /// All refresh tokens of an app's grant, from the consent.
    pub app_refresh_absolute: i64,
    /// A device's refresh token, from its issue.
    pub device_refresh_idle: i64,
    /// All refresh tokens of a device's grant, from the claim.
    pub device_refresh_absolute: i64,
    /// How long a public client may present a refresh token again.
    pub public_retry: i64,
    /// A browser session without activity.
    pub browser_session: i64,
    /// Events that a gateway can resume at.
    pub events: i64,
    /// What an owner sees of the past.
    pub notices: i64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: i64 = 86_400;
        Self {
            claim_window: 120,
            claim_decision: 300,
            claim_completion: 120,
            authorization_code: 60,
            app_access_token: 3_600,
            device_access_token: DAY,
            app_refresh_idle: 30 * DAY,
            app_refresh_absolute: 365 * DAY,
            device_refresh_idle: 400 * DAY,
            device_refresh_absolute: 3_650 * DAY,
            public_retry: 60,
            browser_session: DAY / 2,
            events: 7 * DAY,
            notices: 90 * DAY,
        }
    }
}

/// Bounds on what clients may use. Times are in seconds, sizes in bytes.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// PBKDF2 iterations for clients' secrets.
    pub hash_iterations: u32,
    /// Requests that may wait for hashing; one more is answered "busy".
    pub hash_queue: usize,
    /// Connections at once, each listener.
    pub connections: usize,
    /// Connections at once from one address, each listener.
    pub connections_per_address: usize,
    /// Time for a TLS handshake.
    pub tls_handshake: u64,
    /// Time for an HTTP request's head.
    pub http_head: u64,
    /// Time for an MQTT CONNECT after the connection is ready.
    pub connect: u64,
    /// Time in which a peer must take what is written to it.
    pub write: u64,
    /// Longest MQTT packet.
    pub packet: usize,
    /// Longest HTTP body; a batch may be sixteen times longer.
    pub body: usize,
    /// Time for connections to end at shutdown.
    pub drain: u64,
    /// Failed logins that one address may have at once; it earns one back each second.
    pub failures_per_address: u32,
    /// Failed logins that one client may have at once; it earns one back every six seconds.
    pub failures_per_client: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hash_iterations: 1_000,
            hash_queue: 256,
            connections: 20_000,
            connections_per_address: 2_000,
            tls_handshake: 10,
            http_head: 10,
            connect: 10,
            write: 20,
            packet: 8 * 1024,
            body: 64 * 1024,
            drain: 10,
            failures_per_address: 60,
            failures_per_client: 10,
        }
    }
}

impl Config {
    /// Makes relative paths relative to the configuration's own folder.
    pub fn resolve(&mut self, folder: &Path) {
        let mut paths = vec![&mut self.keys_dir, &mut self.database];
        if let Some(tls) = &mut self.tls {
            paths.extend([&mut tls.cert, &mut tls.key]);
        }
        paths.extend(self.mqtt.spki_file.iter_mut().chain(&mut self.mqtt.ca_file));
        for gateway in &mut self.gateway {
            paths.push(&mut gateway.secret_file);
            paths.extend(gateway.spki_file.iter_mut().chain(&mut gateway.ca_file));
        }
        let registrars = self.manufacturer.iter_mut().chain(&mut self.developer);
        paths.extend(registrars.map(|registrar| &mut registrar.initial_access_token_file));
        paths.extend(self.upstream.iter_mut().filter_map(|upstream| upstream.client_secret_file.as_mut()));
        for path in paths {
            if path.is_relative() {
                *path = folder.join(&*path);
            }
        }
    }

    /// What is wrong with the values taken together, if anything; single values were judged while reading.
    pub fn check(&self) -> Result<(), String> {
        if self.listen.mqtts.is_some() && self.tls.is_none() {
            return Err("listen.mqtts needs [tls] with cert and key".into());
        }
        if self.lifetimes.authorization_code > 60 {
            return Err("lifetimes.authorization_code must be 60 at most".into());
        }
        if self.gateway.is_empty() {
            return Err("at least one [[gateway]] is needed: every token names its audience".into());
        }
        let mut names: Vec<&str> =
            self.manufacturer.iter().chain(&self.developer).map(|r| r.id.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("two registrars ([[manufacturer]], [[developer]]) share an id".into());
        }
        for (index, gateway) in self.gateway.iter().enumerate() {
            if self.gateway[..index]
                .iter()
                .any(|g| g.client_id == gateway.client_id || g.resource == gateway.resource)
            {
                return Err(format!(
                    "two [[gateway]] tables share the client_id or resource of {}",
                    gateway.client_id
                ));
            }
        }
        for (index, upstream) in self.upstream.iter().enumerate() {
            upstream.check()?;
            if self.upstream[..index].iter().any(|other| other.id == upstream.id) {
                return Err(format!("two [[upstream]] tables have the id {}", upstream.id));
            }
        }
        Ok(())
    }
}

fn default_quota() -> i64 {
    100_000
}

fn issuer<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Url, D::Error> {
    use serde::de::Error as _;
    let text = String::deserialize(from)?;
    let url = Url::parse(&text).map_err(|e| D::Error::custom(format!("issuer: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(D::Error::custom("issuer must be an http or https URL"));
    }
    if url.query().is_some() || url.fragment().is_some() || url.path() != "/" {
        return Err(D::Error::custom("issuer must have no path, query or fragment"));
    }
    Ok(url)
}

fn issuer_tag<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let tag = String::deserialize(from)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if tag.is_empty() || tag.len() > 32 || !tag.bytes().all(plain) {
        return Err(serde::de::Error::custom("tag must be 1 to 32 letters, digits, '-' or '_'"));
    }
    Ok(tag)
}
