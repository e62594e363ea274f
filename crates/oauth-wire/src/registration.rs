//! What a client may say of itself at registration (RFC 7591 §2), with `device` added, and what of it is refused. Unknown
//! metadata is refused rather than ignored, so that nobody believes in a setting that does nothing.

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::{Channel, OAuthErrorCode};

/// RFC 8628 §3.4.
pub const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What a client says of itself (RFC 7591 §2), with `device` added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// What a person calls it: the app, or the model of the device.
    pub client_name: String,
    /// Where an app's authorization responses go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_uris: Vec<String>,
    /// `client_secret_basic` (default), `client_secret_post`, `private_key_jwt` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_method: Option<String>,
    /// `authorization_code`, `refresh_token`, and for apps [`DEVICE_CODE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_types: Option<Vec<String>>,
    /// `code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_types: Option<Vec<String>>,
    /// Scopes that it may ask for; a request can still ask for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Its home page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<String>,
    /// Its privacy policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_uri: Option<String>,
    /// Its terms of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tos_uri: Option<String>,
    /// Name of the software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_id: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software_version: Option<String>,
    /// Public keys (RFC 7517 §5) of a client that proves itself by `private_key_jwt`. Keys are never fetched from a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<serde_json::Value>,
    /// RFC 9126 §6: authorization requests of this client are accepted only if they were pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_pushed_authorization_requests: Option<bool>,
    /// RFC 9396 §10: `mqtt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_details_types: Option<Vec<String>>,
    /// Present for a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceMetadata>,
}

/// What a device can show, tell and do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceMetadata {
    /// How its owner proves to stand before it.
    pub confirm: Confirm,
    /// What consent pages speak of.
    pub channels: Vec<Channel>,
    /// The production batch, for the manufacturer's own counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
}

/// How an owner proves to stand before the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    /// By typing the four digits that it shows.
    Code,
    /// By pressing its button.
    Press,
}

impl Confirm {
    /// The name on the wire and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Press => "press",
        }
    }
}

/// Why metadata is refused (RFC 7591 §3.2.2), with a sentence for the developer.
pub type Fault = (OAuthErrorCode, &'static str);

impl Metadata {
    /// The method by which the client proves itself.
    pub fn method(&self) -> &str {
        self.token_endpoint_auth_method.as_deref().unwrap_or("client_secret_basic")
    }

    /// True if the client may use this grant type; where it registered none, it has those of the code flow.
    pub fn allows(&self, grant_type: &str) -> bool {
        match &self.grant_types {
            None => grant_type != DEVICE_CODE,
            Some(list) => list.iter().any(|one| one == grant_type),
        }
    }

    /// Fills the defaults in and judges the rest. `any_http` accepts `http` redirect URIs for any host.
    ///
    /// # Errors
    /// `invalid_client_metadata`, `invalid_redirect_uri`.
    pub fn check(&mut self, any_http: bool) -> Result<(), Fault> {
        const BAD: OAuthErrorCode = OAuthErrorCode::InvalidClientMetadata;
        let device = self.device.is_some();
        if !is_text(&self.client_name, 80) || self.client_name.trim().is_empty() {
            return refuse(BAD, "client_name must have 1 to 80 printable characters");
        }
        self.token_endpoint_auth_method.get_or_insert_with(|| "client_secret_basic".into());
        let methods: &[&str] = if device {
            &["client_secret_basic", "client_secret_post"]
        } else {
            &["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]
        };
        if !methods.contains(&self.method()) {
            return refuse(BAD, "token_endpoint_auth_method is not supported");
        }
        if self.jwks.is_some() != (self.method() == "private_key_jwt") {
            return refuse(BAD, "jwks belongs to private_key_jwt, and private_key_jwt needs it");
        }
        let listed = |list: &Option<Vec<String>>, known: &[&str]| {
            list.as_ref()
                .is_none_or(|list| list.len() <= 4 && list.iter().all(|item| known.contains(&item.as_str())))
        };
        let grants: &[&str] = if device {
            &["authorization_code", "refresh_token"]
        } else {
            &["authorization_code", "refresh_token", DEVICE_CODE]
        };
        if !listed(&self.grant_types, grants) || !listed(&self.response_types, &["code"]) {
            return refuse(
                BAD,
                "the code flow, the device authorization grant and refresh tokens are supported",
            );
        }
        if !listed(&self.authorization_details_types, &["mqtt"]) {
            return refuse(BAD, "the only type of authorization details is mqtt");
        }
        let links = [&self.client_uri, &self.policy_uri, &self.tos_uri];
        if links.into_iter().flatten().any(|link| link.len() > 2048 || !is_web_link(link)) {
            return refuse(BAD, "client_uri, policy_uri and tos_uri must be http or https");
        }
        let short = [&self.software_id, &self.software_version, &self.scope];
        if short.into_iter().flatten().any(|text| !is_text(text, 128)) {
            return refuse(
                BAD,
                "software_id, software_version and scope have 128 printable characters at most",
            );
        }
        match &self.device {
            Some(description) => {
                if !self.redirect_uris.is_empty() {
                    return refuse(BAD, "a device has no redirect URIs");
                }
                if description.batch.as_deref().is_some_and(|batch| !is_batch(batch)) {
                    return refuse(BAD, "batch has 1 to 64 letters, digits, dots, - and _");
                }
                check_channels(&description.channels)
            }
            None if self.redirect_uris.is_empty() && self.needs_redirect() => {
                refuse(OAuthErrorCode::InvalidRedirectUri, "an app that uses codes has a redirect URI")
            }
            None => check_redirects(&self.redirect_uris, any_http),
        }
    }

    /// An app without a browser has nowhere to be sent back to.
    fn needs_redirect(&self) -> bool {
        self.allows("authorization_code") || !self.allows(DEVICE_CODE)
    }
}

fn is_batch(batch: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..=64).contains(&batch.len()) && batch.bytes().all(plain)
}

fn check_channels(channels: &[Channel]) -> Result<(), Fault> {
    const BAD: OAuthErrorCode = OAuthErrorCode::InvalidClientMetadata;
    if channels.is_empty() || channels.len() > 64 {
        return refuse(BAD, "a device has 1 to 64 channels");
    }
    for (index, channel) in channels.iter().enumerate() {
        if !Channel::is_valid_name(&channel.name) {
            return refuse(BAD, "a channel's name has one to four levels of letters, digits, - and _");
        }
        if channels[..index]
            .iter()
            .any(|other| other.name == channel.name && other.direction == channel.direction)
        {
            return refuse(BAD, "two channels share name and direction");
        }
        if [&channel.title, &channel.unit].into_iter().flatten().any(|text| !is_text(text, 60)) {
            return refuse(BAD, "titles and units have 60 printable characters at most");
        }
        let types = ["number", "boolean", "string", "object"];
        if channel.value_type.as_deref().is_some_and(|value_type| !types.contains(&value_type)) {
            return refuse(BAD, "a channel's type is number, boolean, string or object");
        }
    }
    Ok(())
}

fn check_redirects(uris: &[String], any_http: bool) -> Result<(), Fault> {
    if uris.len() > 10 {
        return refuse(OAuthErrorCode::InvalidRedirectUri, "an app has 10 redirect URIs at most");
    }
    for uri in uris {
        let acceptable = uri.len() <= 2048
            && uri.bytes().all(|b| b.is_ascii_graphic())
            && Url::parse(uri).is_ok_and(|url| is_redirect(&url, any_http));
        if !acceptable {
            return refuse(
                OAuthErrorCode::InvalidRedirectUri,
                "redirect URIs are https, or http on loopback, without fragment and user name",
            );
        }
    }
    Ok(())
}

fn is_redirect(url: &Url, any_http: bool) -> bool {
    let plain = url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    let local = |host: Host<&str>| is_local(&host);
    plain
        && match url.scheme() {
            "https" => url.host().is_some(),
            "http" => url.host().is_some_and(|host| any_http || local(host)),
            _ => false,
        }
}

fn is_web_link(link: &str) -> bool {
    Url::parse(link).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// Printable text of at most `most` characters. Marks that turn the direction of writing could make one name look like
/// another on a consent page.
fn is_text(text: &str, most: usize) -> bool {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().count() <= most && !text.chars().any(|c| c.is_control() || turns(c))
}

/// True for hosts that only this machine answers for.
pub fn is_local(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn refuse<T>(code: OAuthErrorCode, why: &'static str) -> Result<T, Fault> {
    Err((code, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checklist_2_http_redirects_are_for_loopback_only() {
        let judge = |uri: &str, any_http| is_redirect(&Url::parse(uri).unwrap(), any_http);
        for good in [
            "https://app.example/cb",
            "http://127.0.0.1/cb",
            "http://[::1]:9/cb",
            "http://tpa.localhost:8090/cb",
        ] {
            assert!(judge(good, false), "{good}");
        }
        for bad in [
            "http://app.example/cb",
            "http://192.168.1.4/cb",
            "http://localhost.example/cb",
            "https://app.example/cb#x",
            "https://user@app.example/cb",
            "javascript:alert(1)",
            "data:text/html,x",
        ] {
            assert!(!judge(bad, false), "{bad}");
        }
        assert!(judge("http://192.168.1.4/cb", true));
        assert!(!judge("ftp://192.168.1.4/cb", true));
    }

    #[test]
    fn checklist_22_unknown_metadata_is_refused() {
        let unknown = r#"{"client_name":"x","client_id":"chosen","device":{"confirm":"code","channels":[]}}"#;
        assert!(serde_json::from_str::<Metadata>(unknown).is_err());
        let known = r#"{"client_name":"x","device":{"confirm":"press","channels":[{"name":"a","direction":"data"}]}}"#;
        assert_eq!(serde_json::from_str::<Metadata>(known).unwrap().device.unwrap().confirm, Confirm::Press);
    }

    #[test]
    fn names_cannot_turn_the_writing() {
        assert!(is_text("Thermostat T1 °C", 80));
        assert!(!is_text("gpj.\u{202e}exe", 80));
        assert!(!is_text("a\nb", 80));
        assert!(!is_text(&"x".repeat(81), 80));
    }

    #[test]
    fn an_app_without_a_browser_needs_no_redirect_uri_and_others_do() {
        let check = |text: &str| {
            serde_json::from_str::<Metadata>(text).unwrap().check(false).map_err(|(code, _)| code)
        };
        let grant = format!(r#"["{DEVICE_CODE}","refresh_token"]"#);
        assert_eq!(check(&format!(r#"{{"client_name":"TV","grant_types":{grant}}}"#)), Ok(()));
        let missing = Err(OAuthErrorCode::InvalidRedirectUri);
        assert_eq!(check(r#"{"client_name":"TV"}"#), missing);
        assert_eq!(check(r#"{"client_name":"TV","grant_types":[]}"#), missing);
        let both = format!(r#"{{"client_name":"TV","grant_types":["authorization_code","{DEVICE_CODE}"]}}"#);
        assert_eq!(check(&both), missing);
        let keyless = r#"{"client_name":"A","redirect_uris":["https://a.example/"],"token_endpoint_auth_method":"private_key_jwt"}"#;
        assert_eq!(check(keyless), Err(OAuthErrorCode::InvalidClientMetadata));
    }
}
