//! The `[[upstream]]` tables of the configuration. Reading the file itself is left to the configuration module.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Deserialize;
use url::{Host, Url};

/// One provider that owners can log in with.
///
/// ```toml
/// [[upstream]]
/// id = "google"
/// name = "Google"
/// kind = "openid-connect"
/// issuer = "https://accounts.google.com"
/// client_id = "…"
/// client_secret_file = "/run/secrets/google"
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Path segment: the redirect URI is `{DIdP}/login/{id}/callback`. Letters, digits and `-`.
    pub id: String,
    /// What the button says.
    pub name: String,
    /// Which protocol it speaks.
    pub kind: Kind,
    /// The DIdP's client id at the provider.
    pub client_id: String,
    /// File with the client secret; none for a public client.
    pub client_secret_file: Option<PathBuf>,
    /// How the client secret is sent.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// Scopes to ask for. OpenID Connect adds `openid` by itself, and needs no other.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// OpenID Connect: the issuer URL, found by discovery. Plain OAuth2: a name under which the subjects are unique; if given,
    /// an `iss` in the callback must equal it. Default: the origin of the authorization endpoint.
    pub issuer: Option<String>,
    /// Plain OAuth2: the authorization endpoint.
    pub authorization_endpoint: Option<Url>,
    /// Plain OAuth2: the token endpoint.
    pub token_endpoint: Option<Url>,
    /// Plain OAuth2: the endpoint that tells who the access token speaks for.
    pub user_endpoint: Option<Url>,
    /// Plain OAuth2: the field of the user endpoint's answer that names the person for good: a number or a string.
    #[serde(default = "id_field")]
    pub subject_field: String,
    /// Allows `http` endpoints elsewhere than on this machine. For closed test networks only.
    #[serde(default)]
    pub insecure_http: bool,
}

/// Which protocol a provider speaks.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// OpenID Connect Core 1.0 with discovery.
    OpenidConnect,
    /// OAuth 2.0 with a user endpoint, as GitHub has it.
    Oauth2,
}

/// How the client secret is sent (RFC 6749 §2.3.1).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// `client_secret_basic`.
    #[default]
    Basic,
    /// `client_secret_post`.
    Post,
}

fn id_field() -> String {
    "id".to_owned()
}

impl Settings {
    /// Says what is wrong with this table, as a sentence for the operator.
    pub fn check(&self) -> Result<(), String> {
        if self.id.is_empty() || !self.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err("`id` must be letters, digits and `-`".into());
        }
        if self.name.trim().is_empty() {
            return Err("`name` is empty".into());
        }
        if self.client_id.is_empty() {
            return Err("`client_id` is empty".into());
        }
        match self.kind {
            Kind::OpenidConnect => {
                let issuer = self.issuer.as_deref().ok_or("`issuer` is missing")?;
                let url = Url::parse(issuer).map_err(|error| format!("`issuer` is not a URL: {error}"))?;
                self.check_url("issuer", &url)?;
                if self.authorization_endpoint.is_some()
                    || self.token_endpoint.is_some()
                    || self.user_endpoint.is_some()
                {
                    return Err(
                        "an openid-connect provider has no endpoints here: they come from discovery".into()
                    );
                }
            }
            Kind::Oauth2 => {
                for (name, url) in [
                    ("authorization_endpoint", &self.authorization_endpoint),
                    ("token_endpoint", &self.token_endpoint),
                    ("user_endpoint", &self.user_endpoint),
                ] {
                    let url = url.as_ref().ok_or_else(|| format!("`{name}` is missing"))?;
                    self.check_url(name, url)?;
                }
                if self.subject_field.is_empty() {
                    return Err("`subject_field` is empty".into());
                }
            }
        }
        Ok(())
    }

    /// The name under which this provider's subjects are unique. Two providers that share it would share their people.
    pub fn namespace(&self) -> Option<String> {
        let endpoint = self.authorization_endpoint.as_ref();
        self.issuer.clone().or_else(|| endpoint.map(|url| url.origin().ascii_serialization()))
    }

    /// Whether plain `http` may be used on the way to this provider.
    pub(super) fn allows_http(&self) -> bool {
        self.insecure_http
            || [
                self.issuer.as_deref().and_then(|issuer| Url::parse(issuer).ok()),
                self.token_endpoint.clone(),
            ]
            .iter()
            .flatten()
            .all(|url| url.scheme() == "http" && is_this_machine(url))
    }

    /// The client secret, if one is configured.
    pub(super) fn client_secret(&self) -> anyhow::Result<Option<String>> {
        let Some(path) = &self.client_secret_file else { return Ok(None) };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("client_secret_file {} of upstream {:?}", path.display(), self.id))?;
        let secret = text.trim();
        anyhow::ensure!(!secret.is_empty(), "client_secret_file {} is empty", path.display());
        Ok(Some(secret.to_owned()))
    }

    fn check_url(&self, name: &str, url: &Url) -> Result<(), String> {
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.insecure_http || is_this_machine(url) => Ok(()),
            "http" => Err(format!(
                "`{name}` must be https (or set `insecure_http = true` on a closed test network)"
            )),
            _ => Err(format!("`{name}` must be an https URL")),
        }
    }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings from `name=value` pairs, through the same serde derive that the configuration uses.
    fn parse(text: &str) -> Settings {
        let map: serde_json::Map<String, serde_json::Value> = text
            .split_whitespace()
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| {
                let value = if value == "true" { true.into() } else { value.into() };
                (name.to_owned(), value)
            })
            .collect();
        serde_json::from_value(map.into()).unwrap()
    }

    #[test]
    fn an_openid_provider_needs_an_https_issuer_unless_it_is_this_machine() {
        let base = "id=x name=X kind=openid-connect client_id=c";
        assert!(parse(&format!("{base} issuer=https://login.example")).check().is_ok());
        assert!(parse(&format!("{base} issuer=http://idp.localhost:8070")).check().is_ok());
        assert!(parse(&format!("{base} issuer=http://login.example")).check().unwrap_err().contains("https"));
        assert!(parse(&format!("{base} issuer=http://10.0.0.7:8070 insecure_http=true")).check().is_ok());
        assert!(parse(base).check().unwrap_err().contains("issuer"));
        assert!(parse(&format!("{base} issuer=ftp://login.example")).check().is_err());
    }

    #[test]
    fn http_is_never_used_for_a_provider_that_has_https() {
        let base = "id=x name=X kind=openid-connect client_id=c";
        assert!(!parse(&format!("{base} issuer=https://login.example")).allows_http());
        assert!(parse(&format!("{base} issuer=http://idp.localhost:8070")).allows_http());
    }

    #[test]
    fn a_plain_provider_needs_its_three_endpoints() {
        let base = "id=gh name=GitHub kind=oauth2 client_id=c authorization_endpoint=https://g.example/a";
        assert!(parse(base).check().unwrap_err().contains("token_endpoint"));
        let whole =
            format!("{base} token_endpoint=https://g.example/t user_endpoint=https://api.g.example/user");
        assert!(parse(&whole).check().is_ok());
        assert_eq!(parse(&whole).subject_field, "id");
    }

    #[test]
    fn an_id_that_would_break_the_path_is_refused() {
        for id in ["", "a/b", "a.b", "ä"] {
            let mut settings = parse("id=x name=X kind=openid-connect client_id=c issuer=https://i.example");
            settings.id = id.into();
            assert!(settings.check().is_err(), "{id:?}");
        }
    }
}
