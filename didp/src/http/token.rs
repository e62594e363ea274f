//! `POST /token` (RFC 6749 §3.2).

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use oauth_wire::{DEVICE_CODE, OAuthErrorCode, TokenResponse};

use super::body::Form;
use super::problem::Problem;
use super::{Peer, caller, cors};
use crate::flows::Refusal;
use crate::flows::token::{self, TokenRequest};
use crate::state::App;
use crate::store::clients::Client;

/// Redeems a code or refreshes.
pub(super) async fn post(State(app): State<App>, peer: Peer, headers: HeaderMap, form: Form) -> Response {
    let client = match caller::client(&app, peer.ip(), &headers, &form).await {
        Ok(client) => client,
        Err(problem) => return problem.into_response(),
    };
    let response = match answer(&app, peer.ip(), &client, &form).await {
        Ok(tokens) => Json(tokens).into_response(),
        Err(problem) => problem.into_response(),
    };
    cors::readable_by_pages_of(&client, &headers, response)
}

async fn answer(app: &App, address: IpAddr, client: &Client, form: &Form) -> Result<TokenResponse, Problem> {
    let resource = form.optional("resource")?;
    let request = match form.required("grant_type", "grant_type is missing")? {
        "authorization_code" => TokenRequest::AuthorizationCode {
            code: form.required("code", "code is missing")?,
            code_verifier: form.required("code_verifier", "code_verifier is missing")?,
            redirect_uri: form.optional("redirect_uri")?,
            resource,
        },
        // There was no challenge; whoever sends a verifier believes in a protection that is none.
        "refresh_token" if form.optional("code_verifier")?.is_some() => {
            let why = "a refresh token has no code_verifier";
            return Err(Problem::of(OAuthErrorCode::InvalidRequest, why));
        }
        "refresh_token" => TokenRequest::RefreshToken {
            refresh_token: form.required("refresh_token", "refresh_token is missing")?,
            scope: form.optional("scope")?,
            resource,
        },
        DEVICE_CODE => {
            TokenRequest::DeviceCode { device_code: form.required("device_code", "device_code is missing")? }
        }
        _ => {
            let why = "authorization_code, refresh_token and device_code are supported";
            return Err(Problem::of(OAuthErrorCode::UnsupportedGrantType, why));
        }
    };
    if form.optional("authorization_details")?.is_some() {
        let code = OAuthErrorCode::InvalidAuthorizationDetails;
        return Err(Problem::of(code, "what was granted is the owner's to change"));
    }
    let answer = token::answer(app, client, request).await;
    // Anybody can be a public client, so guessing as one costs what a wrong secret costs.
    if client.is_public() && matches!(&answer, Err(Refusal::OAuth(OAuthErrorCode::InvalidGrant, _))) {
        app.throttle.charge_address(address, app.clock.now_millis()).map_err(Refusal::TooMany)?;
    }
    answer.map_err(Problem::of_token)
}
