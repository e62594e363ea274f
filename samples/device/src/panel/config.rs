//! The panel's configuration.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use service::config::{ConfigError, Spanned};
use url::Url;

/// `device.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PanelConfig {
    /// Address of the page, for example `0.0.0.0:8096`.
    pub listen: String,
    /// Address on the factory's floor; without it nobody can ask for one more thermostat.
    pub floor_listen: Option<String>,
    /// One folder a thermostat; relative to the configuration's own folder.
    pub directory: PathBuf,
    /// The factory's floor listener.
    #[serde(default, deserialize_with = "web")]
    pub factory: Option<Url>,
    /// How many thermostats there are at first.
    #[serde(default = "two")]
    pub thermostats: Spanned<u32>,
    /// Their model.
    #[serde(default = "model")]
    pub model: String,
    /// Words between the executable's path and `run`, for an executable that is more than a device.
    #[serde(default)]
    pub child: Vec<String>,
    /// Connect to this address whatever a server's name says.
    pub resolve: Option<IpAddr>,
}

/// Most thermostats on one panel.
pub(super) const MOST: u32 = 24;

/// `host:port` alone would be read as a scheme and a path.
fn web<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    match Url::deserialize(deserializer)? {
        url if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(Some(url)),
        _ => Err(serde::de::Error::custom("must begin with http:// or https://")),
    }
}

fn two() -> Spanned<u32> {
    Spanned::new(0..0, 2)
}

fn model() -> String {
    "T1".to_owned()
}

impl PanelConfig {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let (mut config, source) = service::config::load::<Self>(file)?;
        if *config.thermostats.get_ref() > MOST {
            return Err(source.error(config.thermostats.span(), format!("at most {MOST} thermostats")));
        }
        config.directory = source.folder().join(&config.directory);
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("device.toml");
        std::fs::write(&file, "listen = \"127.0.0.1:0\"\ndirectory = \"things\"\n").unwrap();
        let config = PanelConfig::load(&file).unwrap();
        assert_eq!((*config.thermostats.get_ref(), config.model.as_str()), (2, "T1"));
        assert_eq!(config.directory, dir.path().join("things"));
        std::fs::write(&file, "listen = \"127.0.0.1:0\"\ndirectory = \"things\"\nthermostats = 25\n")
            .unwrap();
        assert_eq!(PanelConfig::load(&file).unwrap_err().line, Some(3));
    }
}
