//! What a device asks for over MQTT: the JSON payloads of `$oauth/claim`, `…/token`, `…/claim/done`, `…/revoke`, `…/reset`, with
//! the names of RFC 6749. A payload of the wrong shape is an error that can be answered; nothing in one can end a service.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::OAuthErrorCode;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestTopic {
    /// `$oauth/claim`.
    Claim,
    /// `$oauth/token`.
    Token,
    /// `$oauth/claim/done`.
    ClaimDone,
    /// `$oauth/revoke`.
    Revoke,
    /// `$oauth/reset`.
    Reset,
}

const TOPICS: [(RequestTopic, &str, &str); 5] = [
    (RequestTopic::Claim, "$oauth/claim", "$oauth/claim/response"),
    (RequestTopic::Token, "$oauth/token", "$oauth/token/response"),
    (RequestTopic::ClaimDone, "$oauth/claim/done", "$oauth/claim/done/response"),
    (RequestTopic::Revoke, "$oauth/revoke", "$oauth/revoke/response"),
    (RequestTopic::Reset, "$oauth/reset", "$oauth/reset/response"),
];

impl RequestTopic {
    /// Every topic.
    pub const ALL: [RequestTopic; 5] = [Self::Claim, Self::Token, Self::ClaimDone, Self::Revoke, Self::Reset];

    /// The request topic of this name.
    pub fn of(name: &str) -> Option<Self> {
        TOPICS.iter().find(|(_, request, _)| *request == name).map(|(topic, ..)| *topic)
    }

    /// The request topic whose response topic this is.
    pub fn of_response(name: &str) -> Option<Self> {
        TOPICS.iter().find(|(_, _, response)| *response == name).map(|(topic, ..)| *topic)
    }

    /// Where answers go unless the request says otherwise.
    pub fn response(self) -> &'static str {
        TOPICS.iter().find(|(topic, ..)| *topic == self).map_or("", |(_, _, response)| response)
    }
}

/// A request that has the shape of its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceRequest {
    /// The button was pressed.
    Claim {
        /// RFC 7636 §4.2, always S256.
        code_challenge: String,
    },
    /// RFC 6749 §4.1.3 with RFC 7636 §4.5.
    Redeem {
        /// The authorization code.
        code: String,
        /// The secret behind the challenge.
        code_verifier: String,
        /// RFC 8707 §2.
        resource: Option<String>,
    },
    /// RFC 6749 §6.
    Refresh {
        /// The refresh token.
        refresh_token: String,
        /// Must lie within what was granted.
        scope: Option<String>,
        /// RFC 8707 §2.
        resource: Option<String>,
    },
    /// The record of the claim is stored.
    ClaimDone,
    /// RFC 7009 §2.1.
    Revoke {
        /// An access or refresh token.
        token: String,
    },
    /// The ownership is given up.
    Reset,
}

#[derive(Deserialize)]
struct ClaimBody {
    code_challenge: String,
    code_challenge_method: String,
}

#[derive(Deserialize)]
struct TokenBody {
    grant_type: String,
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    code_verifier: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    resource: Option<String>,
}

#[derive(Deserialize)]
struct RevokeBody {
    token: String,
}

#[derive(Deserialize)]
struct Empty {}

impl DeviceRequest {
    /// Reads the payload of a request.
    ///
    /// # Errors
    /// `invalid_request` or `unsupported_grant_type` (RFC 6749 §5.2), with a sentence for the developer.
    pub fn parse(topic: RequestTopic, payload: &[u8]) -> Result<Self, (OAuthErrorCode, &'static str)> {
        match topic {
            RequestTopic::Claim => {
                let body: ClaimBody = json(payload)?;
                if body.code_challenge_method != "S256" {
                    return Err((OAuthErrorCode::InvalidRequest, "code_challenge_method must be S256"));
                }
                Ok(Self::Claim { code_challenge: body.code_challenge })
            }
            RequestTopic::Token => Self::token(json(payload)?),
            RequestTopic::ClaimDone => json(payload).map(|Empty {}| Self::ClaimDone),
            RequestTopic::Revoke => json(payload).map(|RevokeBody { token }| Self::Revoke { token }),
            RequestTopic::Reset => json(payload).map(|Empty {}| Self::Reset),
        }
    }

    fn token(body: TokenBody) -> Result<Self, (OAuthErrorCode, &'static str)> {
        let TokenBody { grant_type, code, code_verifier, refresh_token, scope, resource } = body;
        match (grant_type.as_str(), code, code_verifier, refresh_token) {
            ("authorization_code", Some(code), Some(code_verifier), _) => {
                Ok(Self::Redeem { code, code_verifier, resource })
            }
            ("refresh_token", _, None, Some(refresh_token)) => {
                Ok(Self::Refresh { refresh_token, scope, resource })
            }
            ("authorization_code" | "refresh_token", ..) => {
                Err((OAuthErrorCode::InvalidRequest, "a parameter is missing, or does not belong here"))
            }
            _ => Err((
                OAuthErrorCode::UnsupportedGrantType,
                "authorization_code and refresh_token are supported",
            )),
        }
    }
}

fn json<T: DeserializeOwned>(payload: &[u8]) -> Result<T, (OAuthErrorCode, &'static str)> {
    // A JSON array in the fields' order would do for serde; RFC 6749's names are asked for.
    if payload.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err((OAuthErrorCode::InvalidRequest, "not the JSON object of this request"));
    }
    serde_json::from_slice(payload)
        .map_err(|_| (OAuthErrorCode::InvalidRequest, "not the JSON object of this request"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_their_responses() {
        for (topic, request, response) in TOPICS {
            assert_eq!(RequestTopic::of(request), Some(topic));
            assert_eq!(RequestTopic::of(response), None);
            assert_eq!(RequestTopic::of_response(response), Some(topic));
            assert_eq!(format!("{request}/response"), topic.response());
        }
        for stranger in ["$oauth", "$oauth/claim/", "$oauth/#", "oauth/claim", "$OAUTH/claim"] {
            assert_eq!(RequestTopic::of(stranger), None);
        }
    }

    #[test]
    fn checklist_44_a_payload_of_another_shape_is_an_error() {
        let parse = |topic, payload: &str| DeviceRequest::parse(topic, payload.as_bytes());
        for topic in RequestTopic::ALL {
            for payload in ["", "null", "7", "\"x\"", "[]", "[\"a\",\"S256\"]", "{", "{}x", "\u{feff}{}"] {
                assert!(parse(topic, payload).is_err(), "{topic:?} {payload}");
            }
        }
        let refresh = r#"{"grant_type":"refresh_token","refresh_token":"r"}"#;
        let wanted = DeviceRequest::Refresh { refresh_token: "r".into(), scope: None, resource: None };
        assert_eq!(parse(RequestTopic::Token, refresh), Ok(wanted));
        for (payload, code) in [
            (r#"{"grant_type":"password"}"#, OAuthErrorCode::UnsupportedGrantType),
            (r#"{"grant_type":"refresh_token"}"#, OAuthErrorCode::InvalidRequest),
            (
                r#"{"grant_type":"refresh_token","refresh_token":"r","code_verifier":"v"}"#,
                OAuthErrorCode::InvalidRequest,
            ),
            (r#"{"grant_type":"authorization_code","code":"c"}"#, OAuthErrorCode::InvalidRequest),
            (
                r#"{"grant_type":"refresh_token","refresh_token":"r","refresh_token":"s"}"#,
                OAuthErrorCode::InvalidRequest,
            ),
        ] {
            assert_eq!(parse(RequestTopic::Token, payload).unwrap_err().0, code, "{payload}");
        }
        let plain = r#"{"code_challenge":"c","code_challenge_method":"plain"}"#;
        assert!(parse(RequestTopic::Claim, plain).is_err(), "checklist 3");
    }
}
