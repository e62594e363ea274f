//! `POST /token` (RFC 6749 §3.2).

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, ORIGIN, VARY};
use http::{HeaderMap, HeaderValue};
use oauth_wire::{OAuthErrorCode, TokenResponse};
use url::Url;

use super::body::Form;
use super::problem::Problem;
use super::{Peer, caller};
use crate::flows::Refusal;
use crate::flows::registration::redirect_uris;
use crate::flows::token::{self, TokenRequest};
use crate::state::App;
use crate::store::clients::Client;

/// Redeems a code or refreshes.
pub(super) async fn post(State(app): State<App>, peer: Peer, headers: HeaderMap, form: Form) -> Response {
    let client = match caller::client(&app, peer.ip(), &headers, &form).await {
        Ok(client) => client,
        Err(problem) => return problem.into_response(),
    };
    let mut response = match answer(&app, peer.ip(), &client, &form).await {
        Ok(tokens) => Json(tokens).into_response(),
        Err(problem) => problem.into_response(),
    };
    response.headers_mut().insert(VARY, HeaderValue::from_name(ORIGIN));
    if let Some(origin) = headers.get(ORIGIN).filter(|origin| is_registered(&client, origin)) {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    response
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
        _ => {
            let code = OAuthErrorCode::UnsupportedGrantType;
            return Err(Problem::of(code, "authorization_code and refresh_token are supported"));
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
    Ok(answer?)
}

/// Pages of an app may read its answers: their origins are those of its redirect URIs.
fn is_registered(client: &Client, origin: &HeaderValue) -> bool {
    redirect_uris(client)
        .iter()
        .filter_map(|uri| Url::parse(uri).ok())
        .any(|uri| uri.origin().ascii_serialization().as_bytes() == origin.as_bytes())
}
