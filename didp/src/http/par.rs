//! `POST /par` (RFC 9126 §2).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};

use super::body::Form;
use super::problem::Problem;
use super::{Peer, caller};
use crate::flows::{Refusal, pushed};
use crate::state::App;

/// Keeps an authorization request. It is kept until its owner decides, so that each client has a bound; anybody
/// can be a public client, so that its requests count for its address.
pub(super) async fn post(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let client = caller::client(&app, peer.ip(), &headers, &form).await?;
    let now = app.clock.now_millis();
    match client.is_public() {
        true => app.throttle.charge_address(peer.ip(), now),
        false => app.throttle.charge_client(&client.client_id, now),
    }
    .map_err(Refusal::TooMany)?;
    let pushed = pushed::push(&app, &client, form.pairs()).await?;
    Ok((StatusCode::CREATED, Json(pushed)).into_response())
}
