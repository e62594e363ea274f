//! The token response (RFC 6749 §5.1) and the gateway address that it names.

use serde::{Deserialize, Serialize};

use crate::{AuthorizationDetail, Scope};

/// Where the owner's home gateway is, and by what its certificate is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayAddress {
    /// Host of MQTT over TLS.
    pub host: String,
    /// Port of MQTT over TLS.
    pub port: u16,
    /// Pins: base64 SHA-256 of SubjectPublicKeyInfo (RFC 7469 §2.4) of an operator's CA and a backup.
    pub spki_sha256: Vec<String>,
    /// Base URL of the HTTP API, for apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// URL of MQTT over WebSocket, for apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket: Option<String>,
}

/// A successful token response.
#[derive(Clone, Serialize, Deserialize)]
pub struct TokenResponse {
    /// `<issuer tag>.<random>`.
    pub access_token: String,
    /// Always `Bearer`.
    pub token_type: String,
    /// Seconds.
    pub expires_in: i64,
    /// The next refresh token.
    pub refresh_token: String,
    /// Granted scopes.
    pub scope: Scope,
    /// The owner's home gateway.
    pub gateway: GatewayAddress,
    /// What was granted (RFC 9396 §7), without labels; for an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization_details: Option<Vec<AuthorizationDetail>>,
    /// The renewed secret, for a device after its claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
}
