//! `GET /.well-known/oauth-authorization-server` (RFC 8414).

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::config::AppRegistration;
use crate::state::App;

/// What this authorization server can do.
pub(super) async fn get(State(app): State<App>) -> Json<Value> {
    let methods = ["client_secret_basic", "client_secret_post", "none"];
    Json(json!({
        "issuer": app.issuer_text(),
        "authorization_endpoint": app.url("/authorize"),
        "token_endpoint": app.url("/token"),
        "registration_endpoint": app.url("/register"),
        "revocation_endpoint": app.url("/revoke"),
        "introspection_endpoint": app.url("/introspect"),
        "scopes_supported": ["data:publish", "command:subscribe", "data:subscribe", "command:publish"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic"],
        "authorization_response_iss_parameter_supported": true,
        "authorization_details_types_supported": ["mqtt"],
        "app_registration_open": app.config.app_registration == AppRegistration::Open,
    }))
}
