//! Configurations of the DIdP and the gateway for one machine: what listens where, which secret lies where.
//!
//! The same text that an operator would write, so that reading it is tried as well.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::setup::Secrets;

/// What tokens of these DIdPs begin with.
pub const TAG: &str = "demo";

/// The id of the one upstream provider, as its login pages have it.
pub const UPSTREAM: &str = "demo";

/// The DIdP's client id at that provider.
pub const UPSTREAM_CLIENT: &str = "didp-oidc";

/// The ports of the services that every deployment has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is what it is called")]
pub struct Ports {
    pub didp_http: u16,
    pub didp_mqtt: u16,
    pub didp_mqtts: u16,
    pub ignite_mqtt: u16,
    pub ignite_mqtts: u16,
    pub ignite_http: u16,
    pub ignite_https: u16,
    pub idp: u16,
}

/// One machine's deployment.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Name or address in URLs.
    pub host: String,
    /// Address that listeners are bound to.
    pub bind: IpAddr,
    /// Their ports.
    pub ports: Ports,
    /// Where the secrets lie.
    pub secrets: Secrets,
    /// Where the DIdP's database goes, and what PCMs keep.
    pub data: PathBuf,
    /// Where the launcher puts its socket and those of the PCMs; short, since a socket's path may have 107 bytes only.
    pub run: PathBuf,
    /// The PCM's program and its first arguments.
    pub pcm: Vec<PathBuf>,
}

impl Deployment {
    /// The DIdP's issuer identifier.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://{}:{}", self.host, self.ports.didp_http)
    }

    /// The gateway's URI as an audience, and the base of its HTTP API.
    #[must_use]
    pub fn resource(&self) -> String {
        format!("http://{}:{}", self.host, self.ports.ignite_http)
    }

    /// The upstream provider's issuer identifier.
    #[must_use]
    pub fn upstream(&self) -> String {
        format!("http://{}:{}", self.host, self.ports.idp)
    }

    /// Where PCMs keep their state, a directory each.
    #[must_use]
    pub fn pcm_state(&self) -> PathBuf {
        self.data.join("pcm-state")
    }

    /// `didp.toml`.
    #[must_use]
    pub fn didp_toml(&self) -> String {
        let Self { host, ports, .. } = self;
        let mut toml = Toml::default();
        toml.text("issuer", &self.issuer())
            .text("tag", TAG)
            .path("keys_dir", &self.secrets.path("didp/keys"))
            .path("database", &self.data.join("didp.sqlite"))
            .text("app_registration", "open");
        if !self.bind.is_loopback() {
            // The sample app is reached as everything else is here: without TLS, by an address of the local network.
            toml.line("allow_http_redirect = true");
        }
        toml.table("[listen]")
            .line(&self.allow_plain())
            .text("http", &self.listen(ports.didp_http))
            .text("mqtt", &self.listen(ports.didp_mqtt))
            .text("mqtts", &self.listen(ports.didp_mqtts))
            .table("[tls]")
            .path("cert", &self.secrets.path("didp/tls.crt"))
            .path("key", &self.secrets.path("didp/tls.key"))
            .table("[mqtt]")
            .text("host", host)
            .number("port", ports.didp_mqtts)
            .path("spki_file", &self.secrets.path("didp/pins"))
            .table("[[gateway]]")
            .text("client_id", "ignite")
            .path("secret_file", &self.secrets.path("didp/gateway-ignite.secret"))
            .text("resource", &self.resource())
            .text("host", host)
            .number("port", ports.ignite_mqtts)
            .path("spki_file", &self.secrets.path("didp/pins"))
            .text("http", &self.resource())
            .text("websocket", &format!("ws://{host}:{}/mqtt", ports.ignite_http))
            .table("[[manufacturer]]")
            .text("id", "factory")
            .text("name", "Sample factory")
            .path("initial_access_token_file", &self.secrets.path("didp/initial-access-token-factory"))
            .table("[[developer]]")
            .text("id", "tpa")
            .text("name", "Sample apps")
            .path("initial_access_token_file", &self.secrets.path("didp/initial-access-token-tpa"))
            .table("[[upstream]]")
            .text("id", UPSTREAM)
            .text("name", "Demo login")
            .text("kind", "openid-connect")
            .text("issuer", &self.upstream())
            .text("client_id", UPSTREAM_CLIENT)
            .path("client_secret_file", &self.secrets.path("didp/upstream-oidc.secret"));
        if !self.bind.is_loopback() {
            toml.line("insecure_http = true");
        }
        toml.into_text()
    }

    /// `ignite.toml`, for the gateway and its launcher.
    #[must_use]
    pub fn ignite_toml(&self) -> String {
        let ports = &self.ports;
        let mut toml = Toml::default();
        toml.text("resource", &self.resource())
            .path("master_key_file", &self.secrets.path("ignite/master.key"))
            .table("[listen]")
            .line(&self.allow_plain())
            .text("mqtt", &self.listen(ports.ignite_mqtt))
            .text("mqtts", &self.listen(ports.ignite_mqtts))
            .text("http", &self.listen(ports.ignite_http))
            .text("https", &self.listen(ports.ignite_https))
            .table("[tls]")
            .path("cert", &self.secrets.path("ignite/tls.crt"))
            .path("key", &self.secrets.path("ignite/tls.key"))
            .table("[[didp]]")
            .text("tag", TAG)
            .text("issuer", &self.issuer())
            .text("client_id", "ignite")
            .path("client_secret_file", &self.secrets.path("ignite/gateway.secret"))
            .table("[launcher]")
            .text("runtime", "process")
            .path("socket", &self.run.join("launcher.sock"))
            .path("dir", &self.run.join("pcm"))
            .path("state_dir", &self.pcm_state())
            .line("pool = 1");
        let command: Vec<String> = self.pcm.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        toml.texts("pcm_command", &command);
        toml.into_text()
    }

    fn allow_plain(&self) -> String {
        format!("allow_plain = {}", !self.bind.is_loopback())
    }

    fn listen(&self, port: u16) -> String {
        std::net::SocketAddr::new(self.bind, port).to_string()
    }
}

/// A TOML file line by line.
#[derive(Debug, Default)]
pub struct Toml(String);

impl Toml {
    /// A line as it is.
    pub fn line(&mut self, line: &str) -> &mut Self {
        self.0.push_str(line);
        self.0.push('\n');
        self
    }

    /// The head of a table, brackets included, after an empty line.
    pub fn table(&mut self, head: &str) -> &mut Self {
        self.line("").line(head)
    }

    /// A string.
    pub fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.line(&format!("{key} = {}", quoted(value)))
    }

    /// An array of strings.
    pub fn texts(&mut self, key: &str, values: &[String]) -> &mut Self {
        let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        self.line(&format!("{key} = [{}]", values.join(", ")))
    }

    /// A path as a string.
    pub fn path(&mut self, key: &str, value: &Path) -> &mut Self {
        self.text(key, &value.to_string_lossy())
    }

    /// A number.
    pub fn number(&mut self, key: &str, value: u16) -> &mut Self {
        self.line(&format!("{key} = {value}"))
    }

    /// The file's text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
