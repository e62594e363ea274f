//! What a client may say of itself, and what of it is refused.

use oauth_wire::{Channel, OAuthErrorCode};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::config::AppRegistration;
use crate::flows::authorize::is_local;
use crate::flows::{Refusal, refuse};
use crate::state::{App, RegistrarToken};

/// What a client says of itself (RFC 7591 §2), with `device` added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// What a person calls it: the app, or the model of the device.
    pub client_name: String,
    /// Where an app's authorization responses go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_uris: Vec<String>,
    /// `client_secret_basic` (default), `client_secret_post` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_method: Option<String>,
    /// `authorization_code`, `refresh_token`.
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
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Press => "press",
        }
    }
}

/// Most bytes of metadata for an app that registers without a token.
const UNVERIFIED: usize = 4_096;

/// The metadata with its defaults, if it may be registered.
pub(super) fn checked(
    app: &App,
    registrar: Option<&RegistrarToken>,
    mut metadata: Metadata,
) -> Result<Metadata, Refusal> {
    const BAD: OAuthErrorCode = OAuthErrorCode::InvalidClientMetadata;
    let device = metadata.device.is_some();
    match registrar {
        Some(registrar) if registrar.devices != device => {
            return refuse(
                OAuthErrorCode::AccessDenied,
                "this initial access token is for another kind of client",
            );
        }
        None if device || app.config.app_registration == AppRegistration::Token => {
            return refuse(OAuthErrorCode::InvalidToken, "an initial access token is needed");
        }
        _ => {}
    }
    if !is_text(&metadata.client_name, 80) || metadata.client_name.trim().is_empty() {
        return refuse(BAD, "client_name must have 1 to 80 printable characters");
    }
    let method = metadata.token_endpoint_auth_method.get_or_insert_with(|| "client_secret_basic".into());
    let methods: &[&str] = if device {
        &["client_secret_basic", "client_secret_post"]
    } else {
        &["client_secret_basic", "client_secret_post", "none"]
    };
    if !methods.contains(&method.as_str()) {
        return refuse(BAD, "token_endpoint_auth_method is not supported");
    }
    let listed = |list: &Option<Vec<String>>, known: &[&str]| {
        list.as_ref()
            .is_none_or(|list| list.len() <= 4 && list.iter().all(|item| known.contains(&item.as_str())))
    };
    if !listed(&metadata.grant_types, &["authorization_code", "refresh_token"])
        || !listed(&metadata.response_types, &["code"])
    {
        return refuse(BAD, "only the code flow and refresh tokens are supported");
    }
    let links = [&metadata.client_uri, &metadata.policy_uri, &metadata.tos_uri];
    if links.into_iter().flatten().any(|link| link.len() > 2048 || !is_web_link(link)) {
        return refuse(BAD, "client_uri, policy_uri and tos_uri must be http or https");
    }
    let short = [&metadata.software_id, &metadata.software_version, &metadata.scope];
    if short.into_iter().flatten().any(|text| !is_text(text, 128)) {
        return refuse(BAD, "software_id, software_version and scope have 128 printable characters at most");
    }
    match &metadata.device {
        Some(description) => {
            if !metadata.redirect_uris.is_empty() {
                return refuse(BAD, "a device has no redirect URIs");
            }
            check_channels(&description.channels)?;
        }
        None => check_redirects(app, &metadata.redirect_uris)?,
    }
    if registrar.is_none() && serde_json::json!(metadata).to_string().len() > UNVERIFIED {
        return refuse(BAD, "without an initial access token, metadata has 4096 bytes at most");
    }
    Ok(metadata)
}

fn check_channels(channels: &[Channel]) -> Result<(), Refusal> {
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

fn check_redirects(app: &App, uris: &[String]) -> Result<(), Refusal> {
    if uris.is_empty() || uris.len() > 10 {
        return refuse(OAuthErrorCode::InvalidRedirectUri, "an app has 1 to 10 redirect URIs");
    }
    for uri in uris {
        let acceptable = uri.len() <= 2048
            && uri.bytes().all(|b| b.is_ascii_graphic())
            && Url::parse(uri).is_ok_and(|url| is_redirect(&url, app.config.allow_http_redirect));
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
}
