//! `GET /.well-known/oauth-authorization-server` (RFC 8414). Public, so pages of any origin may read it.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use http::header::ACCESS_CONTROL_ALLOW_ORIGIN;
use serde_json::json;

use crate::config::AppRegistration;
use crate::flows::clients::assertion;
use crate::state::App;

/// What this authorization server can do.
pub(super) async fn get(State(app): State<App>) -> Response {
    let methods = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"];
    let gateways = ["client_secret_basic", "private_key_jwt"];
    let metadata = json!({
        "issuer": app.issuer_text(),
        "authorization_endpoint": app.url("/authorize"),
        "pushed_authorization_request_endpoint": app.url("/par"),
        "require_pushed_authorization_requests": false,
        "device_authorization_endpoint": app.url("/device_authorization"),
        "token_endpoint": app.url("/token"),
        "registration_endpoint": app.url("/register"),
        "revocation_endpoint": app.url("/revoke"),
        "introspection_endpoint": app.url("/introspect"),
        "scopes_supported": ["data:publish", "command:subscribe", "data:subscribe", "command:publish"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", oauth_wire::DEVICE_CODE],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": assertion::ALGORITHMS,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": assertion::ALGORITHMS,
        "introspection_endpoint_auth_methods_supported": gateways,
        "introspection_endpoint_auth_signing_alg_values_supported": assertion::ALGORITHMS,
        "authorization_response_iss_parameter_supported": true,
        "authorization_details_types_supported": ["mqtt"],
        "app_registration_open": app.config.app_registration == AppRegistration::Open,
    });
    ([(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))], Json(metadata)).into_response()
}
