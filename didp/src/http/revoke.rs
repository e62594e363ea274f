//! `POST /revoke` (RFC 7009).

use axum::extract::State;
use http::{HeaderMap, StatusCode};

use super::body::Form;
use super::problem::Problem;
use super::{Peer, caller};
use crate::flows::{Refusal, token};
use crate::state::App;

/// Revokes a token. An unknown one is no error (§2.2); the type hint is not needed.
pub(super) async fn post(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Form,
) -> Result<StatusCode, Problem> {
    let client = caller::client(&app, peer.ip(), &headers, &form).await?;
    let known = token::revoke(&app, &client, form.required("token", "token is missing")?).await?;
    if !known && client.is_public() {
        app.throttle.charge_address(peer.ip(), app.clock.now_millis()).map_err(Refusal::TooMany)?;
    }
    Ok(StatusCode::OK)
}
