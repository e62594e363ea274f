//! `POST /revoke` (RFC 7009).

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};

use super::body::Form;
use super::problem::Problem;
use super::{Peer, caller, cors};
use crate::flows::{Refusal, token};
use crate::state::App;
use crate::store::clients::Client;

/// Revokes a token. An unknown one is no error (§2.2); the type hint is not needed.
pub(super) async fn post(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let client = caller::client(&app, peer.ip(), &headers, &form).await?;
    let response = match revoke(&app, peer, &client, &form).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(problem) => problem.into_response(),
    };
    Ok(cors::readable_by_pages_of(&client, &headers, response))
}

async fn revoke(app: &App, peer: Peer, client: &Client, form: &Form) -> Result<(), Problem> {
    let known = token::revoke(app, client, form.required("token", "token is missing")?).await?;
    if !known && client.is_public() {
        app.throttle.charge_address(peer.ip(), app.clock.now_millis()).map_err(Refusal::TooMany)?;
    }
    Ok(())
}
