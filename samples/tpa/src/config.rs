//! `tpa.toml`: where the app is, which DIdP it asks, where it keeps its data.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use service::config::{ConfigError, Spanned};
use url::{Position, Url};

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address to bind, `ADDRESS:PORT`.
    pub listen: String,
    /// The app's own origin as the browser sees it, without a path.
    pub public_url: Url,
    /// The DIdP's issuer identifier (RFC 8414 §2), compared as a string; also its base URL for this process.
    pub issuer: String,
    /// Directory for credentials and grants; made with mode 0700 if missing.
    pub directory: PathBuf,
    /// Folder whose `node_modules` holds mqtt.js, from `npm ci`.
    pub web: PathBuf,
    /// Names of the channels that the app asks for.
    pub channels: Vec<String>,
    /// How exactly it asks to see them; every value if missing.
    pub view: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Spanned<String>,
    public_url: Spanned<String>,
    issuer: Spanned<String>,
    directory: PathBuf,
    web: PathBuf,
    #[serde(default = "default_channels")]
    channels: Spanned<Vec<String>>,
    #[serde(default)]
    view: Option<serde_json::Value>,
}

fn default_channels() -> Spanned<Vec<String>> {
    Spanned::new(0..0, vec!["temperature".to_owned(), "heater".to_owned()])
}

impl Config {
    /// Reads and checks `file`. Relative paths are relative to the file's folder.
    ///
    /// # Errors
    /// What is wrong, with file and line.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let (raw, source) = service::config::load::<File>(file)?;
        let port = raw.listen.get_ref().rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        if !matches!(port, Some(Ok(_))) {
            return Err(source.error(raw.listen.span(), "`listen` is not ADDRESS:PORT"));
        }
        let public_url = origin(raw.public_url.get_ref()).ok_or_else(|| {
            source.error(raw.public_url.span(), "`public_url` is not an http or https origin")
        })?;
        if origin(raw.issuer.get_ref()).is_none() {
            return Err(source.error(raw.issuer.span(), "`issuer` is not an http or https origin"));
        }
        if raw.channels.get_ref().is_empty() {
            return Err(
                source.error(raw.channels.span(), "`channels` is empty: the app would ask for nothing")
            );
        }
        Ok(Self {
            listen: raw.listen.into_inner(),
            public_url,
            issuer: raw.issuer.into_inner().trim_end_matches('/').to_owned(),
            directory: source.folder().join(raw.directory),
            web: source.folder().join(raw.web),
            channels: raw.channels.into_inner(),
            view: raw.view,
        })
    }

    /// The one redirect URI.
    pub fn redirect_uri(&self) -> String {
        format!("{}callback", self.public_url)
    }

    /// The app's origin as browsers write it in `Origin`.
    pub fn origin(&self) -> String {
        self.public_url.origin().ascii_serialization()
    }

    /// mqtt.js as one module for the browser.
    pub fn mqtt_module(&self) -> PathBuf {
        self.web.join("node_modules/mqtt/dist/mqtt.esm.js")
    }
}

fn origin(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && &url[Position::AfterPort..] == "/"
        && url.username().is_empty();
    plain.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tpa.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(&file).map_err(|error| {
            let text = error.to_string();
            text.rsplit_once("tpa.toml:").map_or(text.clone(), |(_, rest)| rest.to_owned())
        })
    }

    const GOOD: &str = "listen = \"127.0.0.1:0\"\npublic_url = \"http://tpa.localhost:8090\"\n\
        issuer = \"http://didp.localhost:8080\"\ndirectory = \"data\"\nweb = \"web\"\n";

    #[test]
    fn a_good_file() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.redirect_uri(), "http://tpa.localhost:8090/callback");
        assert_eq!(config.origin(), "http://tpa.localhost:8090");
        assert!(config.directory.is_absolute() && config.directory.ends_with("data"));
        assert_eq!(config.channels, ["temperature", "heater"]);
        assert_eq!(config.view, None);
        let coarse = load(&format!("{GOOD}view = {{ kind = \"summary\", window_s = 60 }}\n")).unwrap();
        assert_eq!(coarse.view, Some(serde_json::json!({"kind": "summary", "window_s": 60})));
    }

    #[test]
    fn errors_name_the_line() {
        let wrong = |from: &str, to: &str| load(&GOOD.replace(from, to)).unwrap_err();
        assert_eq!(wrong("127.0.0.1:0", "nowhere"), "1: `listen` is not ADDRESS:PORT");
        assert!(wrong("http://tpa.localhost:8090", "http://tpa.localhost/x").starts_with("2: `public_url`"));
        assert!(wrong("http://didp.localhost:8080", "ftp://x").starts_with("3: `issuer`"));
        assert!(wrong("web =", "wob =").starts_with("5: "));
    }

    #[test]
    fn the_sample_file_is_good() {
        let config = Config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tpa.toml")).unwrap();
        assert!(config.web.ends_with("web"));
    }
}
