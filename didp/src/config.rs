//! `didp.toml`: what an operator decides. Reading it (variables, line numbers) is `service::config`'s work; what needs
//! other files (keys, secrets, certificates) is opened by [`crate::state`] and named there.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

use crate::upstream;

pub use database::Database;

mod database;

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
    /// Certificate and key of the TLS listeners; required as soon as one of them is set.
    pub tls: Option<TlsFiles>,
    /// Directory with one key file for each purpose and key id; `didp keys init` makes it.
    pub keys_dir: PathBuf,
    /// Where everything is kept: a SQLite file of this process alone (made if it is missing), or `postgres://…`, which several
    /// DIdPs share.
    pub database: Database,
    /// File with the password of a PostgreSQL database; white space around it is ignored. `PGPASSWORD` does as well.
    pub database_password_file: Option<PathBuf>,
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
    /// Proxies in front of this DIdP, as addresses or networks (`10.0.0.0/8`). They are believed when they tell whose request they
    /// pass on, and have no limit on their connections.
    #[serde(default, deserialize_with = "networks")]
    pub trusted_proxies: Vec<IpNet>,
    /// The header that those proxies set. Only this one is looked at: a client could send the other one through them.
    #[serde(default)]
    pub forwarded_header: ForwardedHeader,
    /// Identity providers that owners may log in with.
    #[serde(default)]
    pub upstream: Vec<upstream::Settings>,
    /// The admin API; off if missing.
    pub admin: Option<Admin>,
    /// How long things live.
    #[serde(default)]
    pub lifetimes: Lifetimes,
    /// Bounds on what clients may use.
    #[serde(default)]
    pub limits: Limits,
}

/// How a proxy tells whose request it passes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy, …`.
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// Addresses to listen on; a missing one is off. Port 0 takes any free port.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Pages and API (default port 8080).
    pub http: Option<SocketAddr>,
    /// Pages and API over TLS.
    pub https: Option<SocketAddr>,
    /// MQTT over TCP (1884).
    pub mqtt: Option<SocketAddr>,
    /// MQTT over TLS (8884).
    pub mqtts: Option<SocketAddr>,
    /// Metrics for Prometheus, `GET /metrics`, without TLS; off if missing.
    pub metrics: Option<SocketAddr>,
    /// Listeners without TLS may be reached from elsewhere: behind a proxy that ends TLS, on a network of containers.
    #[serde(default)]
    pub allow_plain: bool,
}

/// The admin API, on a listener of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// File with the bearer token, 32 characters at least; white space around it is ignored.
    pub token_file: PathBuf,
    /// Address to listen on; 127.0.0.1:8089 if neither this nor `socket` is given.
    pub listen: Option<SocketAddr>,
    /// Unix socket to listen on instead; made with mode 0600.
    pub socket: Option<PathBuf>,
    /// Accept an address that is not of this machine. The connection is not encrypted: put a proxy before it.
    #[serde(default)]
    pub beyond_loopback: bool,
}

impl Admin {
    /// The address to listen on; none if it is a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match (self.listen, &self.socket) {
            (None, Some(_)) => None,
            (listen, _) => Some(listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8089)))),
        }
    }
}

/// PEM files of the TLS listeners; read again when they change.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate chain, the server's own first.
    pub cert: PathBuf,
    /// Private key (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
    /// Authorities of the gateways' certificates. With it, gateways are answered over `listen.https` with such a certificate only,
    /// beside their secret.
    pub client_ca: Option<PathBuf>,
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
    /// File with its secret; white space around it is ignored. It may have a `jwks_file` in its place, or both.
    pub secret_file: Option<PathBuf>,
    /// File with the public keys (a JWK set) by which it proves itself with `private_key_jwt`.
    pub jwks_file: Option<PathBuf>,
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
    /// How long nobody else may have asked for a device without a display before it is given; 0 to 60, less than `claim_decision`.
    pub press_settle_seconds: i64,
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
    /// A browser session in all, however much it is used.
    pub browser_session_absolute: i64,
    /// Events that a gateway can resume at.
    pub events: i64,
    /// What an owner sees of the past.
    pub notices: i64,
    /// How long only the code of a handover claims a device that was handed over.
    pub transfer: i64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: i64 = 86_400;
        Self {
            claim_window: 120,
            claim_decision: 300,
            press_settle_seconds: 15,
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
            browser_session_absolute: 30 * DAY,
            events: 7 * DAY,
            notices: 90 * DAY,
            transfer: 14 * DAY,
        }
    }
}

/// Bounds on what clients may use. Times are in seconds, sizes in bytes.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// PBKDF2 iterations for clients' secrets.
    pub hash_iterations: u32,
    /// Requests that may wait for hashing; one more is answered 429, or over MQTT 0x97.
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
    /// Apps that may be registered without a token, in all.
    pub unverified_apps: i64,
    /// Time for connections to end at shutdown.
    pub drain: u64,
    /// Failed logins that one address may have at once; it earns one back each second.
    pub failures_per_address: u32,
    /// Failed logins as one client that one address may have before it has to wait: six seconds after the last of these, twice as
    /// long after each further one, an hour at most. One is forgotten every ten minutes, all by a right login.
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
            unverified_apps: 10_000,
            drain: 10,
            failures_per_address: 60,
            failures_per_client: 10,
        }
    }
}

impl Config {
    /// Makes relative paths relative to the configuration's own folder.
    pub fn resolve(&mut self, folder: &Path) {
        let mut paths = vec![&mut self.keys_dir];
        paths.extend(self.database_password_file.iter_mut());
        if let Database::File(file) = &mut self.database {
            paths.push(file);
        }
        if let Some(tls) = &mut self.tls {
            paths.extend([&mut tls.cert, &mut tls.key]);
            paths.extend(tls.client_ca.as_mut());
        }
        paths.extend(self.mqtt.spki_file.iter_mut().chain(&mut self.mqtt.ca_file));
        for gateway in &mut self.gateway {
            paths.extend(gateway.secret_file.iter_mut().chain(&mut gateway.jwks_file));
            paths.extend(gateway.spki_file.iter_mut().chain(&mut gateway.ca_file));
        }
        if let Some(admin) = &mut self.admin {
            paths.push(&mut admin.token_file);
            paths.extend(admin.socket.iter_mut());
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

    /// True for the address of a proxy that is believed.
    pub fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }

    /// What is wrong with the values taken together, if anything; single values were judged while reading.
    ///
    /// # Errors
    /// The first mistake, with where it stands.
    pub fn check(&self) -> Result<(), Mistake> {
        let wrong = |table, index, key, what: String| Err(Mistake { table, index, key, what });
        for (key, address) in [("mqtts", self.listen.mqtts), ("https", self.listen.https)] {
            if address.is_some() && self.tls.is_none() {
                return wrong("listen", 0, key, "needs [tls] with cert and key".into());
            }
        }
        for (key, address) in
            [("http", self.listen.http), ("mqtt", self.listen.mqtt), ("metrics", self.listen.metrics)]
        {
            if address.is_some_and(|address| !address.ip().is_loopback()) && !self.listen.allow_plain {
                return wrong("listen", 0, key, service::net::PLAIN.into());
            }
        }
        if self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) && self.listen.https.is_none() {
            return wrong("tls", 0, "client_ca", "needs listen.https, where gateways then come".into());
        }
        if !(1..=60).contains(&self.lifetimes.authorization_code) {
            return wrong("lifetimes", 0, "authorization_code", "must be 1 to 60 seconds".into());
        }
        let settle = self.lifetimes.press_settle_seconds;
        if !(0..=60).contains(&settle) || settle >= self.lifetimes.claim_decision {
            let what = "must be 0 to 60 seconds and less than claim_decision";
            return wrong("lifetimes", 0, "press_settle_seconds", what.into());
        }
        if let Some(admin) = &self.admin {
            if admin.listen.is_some() && admin.socket.is_some() {
                return wrong("admin", 0, "socket", "either listen or socket".into());
            }
            if !admin.beyond_loopback && admin.address().is_some_and(|address| !address.ip().is_loopback()) {
                let what = "is not an address of this machine; beyond_loopback = true accepts it";
                return wrong("admin", 0, "listen", what.into());
            }
        }
        for (index, gateway) in self.gateway.iter().enumerate() {
            let before = &self.gateway[..index];
            if gateway.secret_file.is_none() && gateway.jwks_file.is_none() {
                return wrong("gateway", index, "client_id", "needs a secret_file or a jwks_file".into());
            }
            if before.iter().any(|other| other.client_id == gateway.client_id) {
                return wrong("gateway", index, "client_id", "another [[gateway]] has it".into());
            }
            if before.iter().any(|other| other.resource == gateway.resource) {
                return wrong("gateway", index, "resource", "another [[gateway]] has it".into());
            }
        }
        for (index, registrar) in self.manufacturer.iter().enumerate() {
            if self.manufacturer[..index].iter().any(|other| other.id == registrar.id) {
                return wrong("manufacturer", index, "id", "another [[manufacturer]] has it".into());
            }
        }
        for (index, registrar) in self.developer.iter().enumerate() {
            let others = self.manufacturer.iter().chain(&self.developer[..index]);
            if others.into_iter().any(|other| other.id == registrar.id) {
                return wrong("developer", index, "id", "another registrar has it".into());
            }
        }
        for (index, upstream) in self.upstream.iter().enumerate() {
            if let Err(what) = upstream.check() {
                return wrong("upstream", index, "id", what);
            }
            if self.upstream[..index].iter().any(|other| other.id == upstream.id) {
                return wrong("upstream", index, "id", "another [[upstream]] has it".into());
            }
            let before = &self.upstream[..index];
            if before.iter().any(|other| other.namespace() == upstream.namespace()) {
                let what =
                    "another [[upstream]] has the same issuer: the same subject would be the same owner";
                return wrong("upstream", index, "issuer", what.into());
            }
        }
        Ok(())
    }
}

/// A mistake that shows only when values are taken together, or when a named file is opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct Mistake {
    /// The table that it stands in; empty for the top level.
    pub table: &'static str,
    /// Which one of the tables of that name.
    pub index: usize,
    /// The key.
    pub key: &'static str,
    /// What is wrong.
    pub what: String,
}

impl Mistake {
    /// The line of `text`, counted from 1, where the key stands; the table's if the key is missing.
    pub fn line(&self, text: &str) -> Option<usize> {
        let mut tables = 0;
        let mut inside = self.table.is_empty();
        let mut header = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.starts_with('[') {
                let name = line.trim_matches(['[', ']', ' ']);
                inside = name == self.table && tables == self.index;
                if name == self.table {
                    tables += 1;
                }
                if inside {
                    header = Some(index + 1);
                }
            } else if let Some((key, rest)) = line.split_once('=') {
                let inline = self.table == key.trim() && rest.contains(self.key);
                if (inside && key.trim() == self.key) || inline {
                    return Some(index + 1);
                }
            }
        }
        header
    }
}

fn default_quota() -> i64 {
    100_000
}

fn networks<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: String| {
        let one = text.parse::<IpAddr>().map(IpNet::from);
        one.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
            serde::de::Error::custom("trusted_proxies holds addresses and networks like 10.0.0.0/8")
        })
    };
    Vec::<String>::deserialize(from)?.into_iter().map(network).collect()
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

#[cfg(test)]
mod tests;
