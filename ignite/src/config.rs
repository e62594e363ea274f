//! The one configuration file of both roles, `ignite serve` and `ignite launcher`.
//!
//! Everything that can be judged from the text alone is judged while it is read, so that a mistake is named with
//! its line. What needs the file system (keys, certificates) is opened by the parts that use it; [`Config::check`]
//! does the same without starting anything. Variables and the reading itself are `service::config`'s.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use service::config::{ConfigError, Source, Spanned};
use service::proxy::Trusted;
use url::Url;

/// `ignite.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This gateway's own URI: the audience that tokens must be for (RFC 8707), compared exactly.
    #[serde(deserialize_with = "web_uri")]
    pub resource: String,
    /// Where clients connect.
    #[serde(default)]
    pub listen: Listen,
    /// Threads that serve connections; one for each processor if missing.
    pub threads: Option<NonZeroUsize>,
    /// The certificate of the TLS listeners; required as soon as one of them is configured.
    pub tls: Option<TlsFiles>,
    /// File with 32 random bytes, raw or as 43 base64url characters, from which names, handles and client ids are derived.
    pub master_key_file: PathBuf,
    /// The DIdPs whose tokens are accepted; the tag before a token's first dot picks one.
    #[serde(default)]
    pub didp: Vec<DidpConfig>,
    /// The launcher: how this role reaches it, and how that role works.
    pub launcher: LauncherConfig,
    /// Bounds on what clients may use.
    #[serde(default)]
    pub limits: Limits,
    /// Origins that browsers may call the HTTP API from; empty means any (no cookie is ever read or set).
    #[serde(default)]
    pub cors_origins: Vec<String>,
}

/// Addresses to listen on; a missing one is off. Port 0 takes any free port.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// MQTT over TCP (default port 1883).
    pub mqtt: Option<Spanned<SocketAddr>>,
    /// MQTT over TLS (8883).
    pub mqtts: Option<Spanned<SocketAddr>>,
    /// HTTP API and MQTT over WebSocket at `/mqtt` (8083).
    pub http: Option<Spanned<SocketAddr>>,
    /// The same over TLS (8443).
    pub https: Option<Spanned<SocketAddr>>,
    /// Load balancers: connections from these addresses and networks begin with a PROXY header of version 2, on every listener.
    /// From all others none is taken.
    #[serde(default)]
    pub proxies: Trusted,
    /// Metrics for Prometheus, `GET /metrics`, without TLS; off if missing.
    pub metrics: Option<Spanned<SocketAddr>>,
    /// Listeners without TLS may be reached from elsewhere: behind a proxy that ends TLS, on a network of containers.
    #[serde(default)]
    pub allow_plain: bool,
}

/// PEM files of the TLS listeners; read again when they change.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Certificate chain, the server's own first.
    pub cert: PathBuf,
    /// Private key (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
}

/// One DIdP that this gateway trusts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DidpConfig {
    /// What its tokens begin with, up to the dot.
    #[serde(deserialize_with = "issuer_tag")]
    pub tag: String,
    /// Its issuer identifier (RFC 8414), as introspection must say it.
    #[serde(deserialize_with = "web_uri")]
    pub issuer: String,
    /// Base URL for `/introspect`, `/introspect/grants`, `/introspect/events`; the issuer if missing.
    pub introspection_url: Option<Url>,
    /// This gateway's client id there.
    pub client_id: Spanned<String>,
    /// File with its secret; white space around it is ignored.
    pub client_secret_file: PathBuf,
    /// PEM file with the CA to trust for this DIdP beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// PEM file with this gateway's certificate and its key, for a DIdP that asks for one (mutual TLS).
    pub client_cert_file: Option<PathBuf>,
}

/// Bounds on what clients may use. Times are in seconds, sizes in bytes.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at once, all listeners together.
    pub connections: usize,
    /// Connections at once from one IP address.
    pub connections_per_address: usize,
    /// Sessions at once under one grant.
    pub sessions_per_grant: usize,
    /// Packets, and filters in them, that are read from one client in a second; more have to wait.
    pub packets_per_second: u32,
    /// Newcomers' questions to one DIdP at once; more have to wait.
    pub didp_requests: usize,
    /// Tokens from one IP address that may fail in a row; then one a second.
    pub failed_tokens_per_address: u32,
    /// While a DIdP's events do not come in: how often it is asked about each live session's token.
    pub unwatched_token_seconds: u64,
    /// Time from the connection being ready to the whole CONNECT being read.
    pub connect_seconds: u64,
    /// Newcomers at once whose CONNECT is longer than 8 KiB; more have to wait, those over WebSocket are cut off.
    pub long_connects: usize,
    /// Time in which a blocked client must take a write before it is cut off.
    pub write_seconds: u64,
    /// Time from a packet's first byte to its last, after CONNECT.
    pub packet_seconds: u64,
    /// Longest MQTT packet, both ways, also after translation.
    pub packet_bytes: usize,
    /// Longest topic or filter after translation.
    pub topic_bytes: usize,
    /// Time for one request to a DIdP.
    pub didp_seconds: u64,
    /// Time for the launcher to bring up a PCM.
    pub launch_seconds: u64,
    /// Time for sessions to end at shutdown.
    pub drain_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 1_000,
            sessions_per_grant: 100,
            packets_per_second: 10_000,
            didp_requests: 64,
            failed_tokens_per_address: 60,
            unwatched_token_seconds: 10,
            connect_seconds: 10,
            long_connects: 256,
            write_seconds: 20,
            packet_seconds: 60,
            packet_bytes: 256 * 1024,
            topic_bytes: 512,
            didp_seconds: 5,
            launch_seconds: 30,
            drain_seconds: 10,
        }
    }
}

impl Config {
    /// Judges what one value alone cannot tell.
    ///
    /// # Errors
    /// TLS listeners without a certificate, others that are not told to be open, two DIdPs with one tag.
    pub fn validate(&self, source: &Source) -> Result<(), ConfigError> {
        for address in [&self.listen.mqtts, &self.listen.https].into_iter().flatten() {
            if self.tls.is_none() {
                return Err(source.error(address.span(), "a TLS listener needs [tls] with cert and key"));
            }
        }
        for address in [&self.listen.mqtt, &self.listen.http, &self.listen.metrics].into_iter().flatten() {
            if !address.get_ref().ip().is_loopback() && !self.listen.allow_plain {
                return Err(source.error(address.span(), service::net::PLAIN));
            }
        }
        for (index, didp) in self.didp.iter().enumerate() {
            if self.didp[..index].iter().any(|earlier| earlier.tag == didp.tag) {
                return Err(
                    source.error(didp.client_id.span(), format!("another [[didp]] has the tag {}", didp.tag))
                );
            }
        }
        Ok(())
    }

    /// The same configuration with its relative paths taken from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        let mut paths = vec![&mut self.master_key_file, &mut self.launcher.socket, &mut self.launcher.dir];
        paths.extend(self.launcher.state_dir.as_mut());
        if let Some(tls) = &mut self.tls {
            paths.extend([&mut tls.cert, &mut tls.key]);
        }
        for didp in &mut self.didp {
            paths.push(&mut didp.client_secret_file);
            paths.extend(didp.ca_file.iter_mut().chain(&mut didp.client_cert_file));
        }
        for path in paths {
            *path = folder.join(&*path);
        }
        self
    }
}

impl DidpConfig {
    /// The URL of an introspection resource, `path` beginning without a slash.
    pub fn endpoint(&self, path: &str) -> Result<Url, url::ParseError> {
        let base = match &self.introspection_url {
            Some(url) => url.as_str(),
            None => self.issuer.as_str(),
        };
        Url::parse(&format!("{}/{path}", base.trim_end_matches('/')))
    }
}

/// The `[launcher]` section, read by both roles.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LauncherConfig {
    /// What a PCM runs as. There is no falling back from one to the other.
    pub runtime: Runtime,
    /// The launcher's Unix socket.
    pub socket: PathBuf,
    /// Directory that holds one directory a PCM, as the launcher sees it and as the gateway sees it.
    pub dir: PathBuf,
    /// Directory that holds one directory a PCM with what it keeps over its own end, encrypted; only the launcher needs to see it,
    /// but the gateway must know that there is one. Missing: PCMs keep nothing.
    pub state_dir: Option<PathBuf>,
    /// Image of the PCM (`docker` only).
    #[serde(default = "pcm_image")]
    pub image: String,
    /// The engine's socket (`docker` only); what `DOCKER_HOST` says if missing, and else /var/run/docker.sock.
    pub engine: Option<PathBuf>,
    /// The PCM's program and its first arguments (`process` only).
    #[serde(default)]
    pub pcm_command: Vec<PathBuf>,
    /// User id of the gateway: the only peer that launcher and PCMs accept. The launcher's own if missing.
    pub peer_uid: Option<u32>,
    /// Group id of the gateway, which may open the PCMs' sockets.
    pub peer_gid: Option<u32>,
    /// PCMs at once, those of the pool among them.
    #[serde(default = "pcm_capacity")]
    pub capacity: usize,
    /// PCMs that are kept started before they are anybody's; 0 starts each when it is needed.
    #[serde(default = "pcm_pool")]
    pub pool: usize,
    /// Seconds without a connection and a pending will after which a PCM is stopped; 0 never.
    #[serde(default = "pcm_idle")]
    pub idle_seconds: u64,
    /// Memory that one PCM may use, in MiB.
    #[serde(default = "pcm_memory")]
    pub owner_memory_mib: u64,
    /// Disk that one PCM's state may use, in MiB; half of it a file.
    #[serde(default = "pcm_disk")]
    pub owner_disk_mib: u64,
    /// Memory that the host must have left, in MiB: with less, no PCM is started and newcomers are refused.
    #[serde(default = "pcm_reserve")]
    pub reserve_memory_mib: u64,
    /// Containers that share a shim at most, where the engine can do that; 0 gives each its own (`docker` only).
    #[serde(default = "pcm_group")]
    pub group: usize,
    /// Whether what PCMs acknowledge must be on the medium, for loss of power; much slower.
    #[serde(default)]
    pub state_sync: bool,
}

impl LauncherConfig {
    /// Longest file of a PCM's state, in bytes.
    pub(crate) fn longest_file(&self) -> u64 {
        self.owner_disk_mib << 19
    }
}

/// What a PCM runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// A container without a network.
    Docker,
    /// A process that locks itself in.
    Process,
}

fn pcm_image() -> String {
    "oauthing/pcm".to_owned()
}

fn pcm_capacity() -> usize {
    1_000
}

fn pcm_pool() -> usize {
    4
}

fn pcm_idle() -> u64 {
    900
}

fn pcm_memory() -> u64 {
    64
}

fn pcm_disk() -> u64 {
    32
}

fn pcm_reserve() -> u64 {
    128
}

fn pcm_group() -> usize {
    50
}

/// An `http` or `https` URI without query and fragment, kept character by character.
fn web_uri<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    let fault = match Url::parse(&text) {
        Err(error) => error.to_string(),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => "must be http or https".to_owned(),
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            "must not have a query or fragment".to_owned()
        }
        Ok(_) => return Ok(text),
    };
    Err(serde::de::Error::custom(format!("not a usable URI: {fault}")))
}

fn issuer_tag<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let tag = String::deserialize(from)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if tag.is_empty() || tag.len() > 32 || !tag.bytes().all(plain) {
        return Err(serde::de::Error::custom("tag must be 1 to 32 letters, digits, '-' or '_'"));
    }
    Ok(tag)
}
