//! `factory.toml`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use service::config::{ConfigError, Spanned};
use url::Url;

/// The factory's configuration. Relative paths are relative to its own folder.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the page, for example `0.0.0.0:8095`.
    pub listen: String,
    /// Address on the factory's floor.
    pub floor_listen: String,
    /// Where the ledger is kept.
    pub directory: PathBuf,
    /// The page as a browser reaches it.
    #[serde(deserialize_with = "web")]
    pub public_url: Url,
    /// The panel of the devices, for the browser.
    #[serde(deserialize_with = "web")]
    pub panel_url: Url,
    /// The sample app, for the browser.
    #[serde(deserialize_with = "web")]
    pub tpa_url: Url,
    /// The owner's pages at the DIdP, for the browser.
    #[serde(deserialize_with = "web")]
    pub account_url: Url,
    /// The DIdP, as the factory reaches it.
    #[serde(deserialize_with = "web")]
    pub didp: Url,
    /// File with the initial access token of RFC 7591 §3.
    pub initial_access_token_file: Spanned<PathBuf>,
    /// The devices' own listener on the floor.
    #[serde(deserialize_with = "web")]
    pub device_floor: Url,
    /// What must answer 2xx before the story can begin.
    #[serde(default, deserialize_with = "webs")]
    pub health: Vec<Url>,
}

/// `host:port` alone would be read as a scheme and a path.
fn checked<E: serde::de::Error>(url: Url) -> Result<Url, E> {
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(E::custom("must begin with http:// or https://"))
    }
}

fn web<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    checked(Url::deserialize(deserializer)?)
}

fn webs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Url>, D::Error> {
    Vec::<Url>::deserialize(deserializer)?.into_iter().map(checked).collect()
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let (mut config, source) = service::config::load::<Self>(file)?;
        config.directory = source.folder().join(&config.directory);
        let token = source.folder().join(config.initial_access_token_file.get_ref());
        if let Err(error) = service::secret::read_secret(&token) {
            let span = config.initial_access_token_file.span();
            return Err(source.error(span, format!("cannot read the initial access token: {error}")));
        }
        *config.initial_access_token_file.get_mut() = token;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
listen = "127.0.0.1:0"
floor_listen = "127.0.0.1:0"
directory = "ledger"
public_url = "http://factory.localhost:8095"
panel_url = "http://device.localhost:8096"
tpa_url = "http://tpa.localhost:8090"
account_url = "http://didp.localhost:8080/account"
didp = "http://didp.localhost:8080"
initial_access_token_file = "token"
device_floor = "http://device.localhost:8097"
"#;

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("factory.toml");
        std::fs::write(&file, GOOD).unwrap();
        assert_eq!(Config::load(&file).unwrap_err().line, Some(10), "no token yet");
        std::fs::write(dir.path().join("token"), "t\n").unwrap();
        let config = Config::load(&file).unwrap();
        assert_eq!(config.directory, dir.path().join("ledger"));
        std::fs::write(&file, GOOD.replace("http://tpa", "tpa")).unwrap();
        let error = Config::load(&file).unwrap_err();
        assert_eq!((error.line, error.message.contains("http://")), (Some(7), true), "{error}");
    }
}
