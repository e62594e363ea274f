//! The targets: each takes any bytes, and panics if a parser does not do what it promises.

use std::collections::BTreeMap;

use mqtt_fuzz::random::Random;
use oauth_wire::{
    AuthorizationRequest, DEVICE_CODE, DeviceRequest, Form, FormError, Metadata, OAuthErrorCode,
    RequestTopic, basic,
};
use serde::de::IgnoredAny;

use crate::device::device;
use crate::generate;

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Writes an input that is nearly right.
    pub write: fn(&mut Random, &mut Vec<u8>),
    /// Takes any input, and panics if something is not as promised.
    pub hold: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 4] = [
    Target { name: "form", write: generate::input, hold: form },
    Target { name: "json", write: generate::input, hold: json },
    Target { name: "mqtt_request", write: generate::input, hold: mqtt_request },
    Target { name: "device", write: generate::script, hold: device },
];

/// Forms (RFC 6749 appendix B) and HTTP Basic (§2.3.1).
///
/// # Panics
/// A form that does not come back from its own serialization, or a parameter that is told though it stands twice.
pub fn form(bytes: &[u8]) {
    match Form::parse(bytes) {
        Err(FormError::NotText) => {}
        Err(FormError::Twice) => panic!("reading a whole form never minds repetition"),
        Ok(form) => {
            let mut written = url::form_urlencoded::Serializer::new(String::new());
            let again = Form::parse(written.extend_pairs(form.pairs()).finish().as_bytes());
            assert_eq!(again.as_ref(), Ok(&form), "a form is what it says");
            for (name, _) in form.pairs() {
                let count =
                    form.pairs().iter().filter(|(other, value)| other == name && !value.is_empty()).count();
                match form.optional(name) {
                    Ok(None) => assert_eq!(count, 0),
                    Ok(Some(value)) => assert!(count == 1 && !value.is_empty()),
                    Err(FormError::Twice) => assert!(count > 1),
                    Err(FormError::NotText) => panic!("it was text before"),
                }
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let value = format!("Basic {text}");
        if let Some((user, password)) = basic(&value) {
            assert!(user.len() + password.len() < text.len(), "decoding makes nothing longer");
        }
        assert!(
            basic(text).is_none()
                || text.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic "))
        );
    }
}

/// Registration metadata (RFC 7591 §2) and authorization details (RFC 9396 §2).
///
/// # Panics
/// Metadata that is accepted and does not keep the rules, or that changes when it is stored and read again.
pub fn json(bytes: &[u8]) {
    if let Ok(mut metadata) = serde_json::from_slice::<Metadata>(bytes)
        && metadata.check(false).is_ok()
    {
        let stored = serde_json::to_string(&metadata).expect("metadata can always be written");
        let mut again: Metadata = serde_json::from_str(&stored).expect("what is stored can be read");
        assert_eq!(again.check(false), Ok(()), "what is accepted stays acceptable");
        // Keys are any JSON, and a number of many digits is not what it was after it was written and read.
        (again.jwks, metadata.jwks) = (None, None);
        assert_eq!(again, metadata);
        assert!(
            ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]
                .contains(&metadata.method())
        );
        assert!(!metadata.client_name.trim().is_empty() && metadata.client_name.chars().count() <= 80);
        match &metadata.device {
            Some(device) => {
                assert!(metadata.redirect_uris.is_empty() && !metadata.allows(DEVICE_CODE));
                assert!(metadata.method() != "none" && (1..=64).contains(&device.channels.len()));
            }
            None => assert!(!metadata.redirect_uris.is_empty() || metadata.allows(DEVICE_CODE)),
        }
        for uri in &metadata.redirect_uris {
            let url = url::Url::parse(uri).expect("a redirect URI is a URL");
            assert!(url.fragment().is_none() && url.username().is_empty() && url.password().is_none());
            assert!(
                url.scheme() == "https" || url.host().is_some_and(|host| oauth_wire::is_local(&host)),
                "checklist 2"
            );
        }
    }
    if let Ok(details) = serde_json::from_slice::<Vec<AuthorizationRequest>>(bytes) {
        let stored = serde_json::to_string(&details).expect("details can always be written");
        let again = serde_json::from_str::<Vec<AuthorizationRequest>>(&stored);
        assert!(again.is_ok_and(|again| again.len() == details.len()), "what is stored can be read");
    }
}

/// What devices ask for over MQTT.
///
/// # Panics
/// A payload that is accepted though it is no JSON object, or an error that is not the request's.
pub fn mqtt_request(bytes: &[u8]) {
    for topic in RequestTopic::ALL {
        match DeviceRequest::parse(topic, bytes) {
            Ok(request) => {
                // Values that nobody asked for may be numbers that fit nowhere.
                let object = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(bytes);
                assert!(object.is_ok(), "only objects are requests");
                let fits = match request {
                    DeviceRequest::Claim { .. } => topic == RequestTopic::Claim,
                    DeviceRequest::Redeem { .. } | DeviceRequest::Refresh { .. } => {
                        topic == RequestTopic::Token
                    }
                    DeviceRequest::ClaimDone => topic == RequestTopic::ClaimDone,
                    DeviceRequest::Revoke { .. } => topic == RequestTopic::Revoke,
                    DeviceRequest::Reset => topic == RequestTopic::Reset,
                };
                assert!(fits, "{topic:?}");
            }
            Err((code, why)) => {
                assert!(matches!(
                    code,
                    OAuthErrorCode::InvalidRequest | OAuthErrorCode::UnsupportedGrantType
                ));
                assert!(!why.is_empty());
            }
        }
    }
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Some(topic) = RequestTopic::of(name)
    {
        assert_eq!(RequestTopic::of_response(topic.response()), Some(topic));
    }
}
