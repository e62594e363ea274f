//! `POST /device_authorization` (RFC 8628 §3.1).

use axum::Json;
use axum::extract::State;
use http::HeaderMap;

use super::body::Form;
use super::problem::Problem;
use super::{Peer, caller};
use crate::flows::Refusal;
use crate::flows::device_authorization::{self, Begun};
use crate::state::App;

/// Begins a device authorization. It is kept until its owner decides, so that each client has a bound; anybody
/// can be a public client, so that its requests count for its address.
pub(super) async fn post(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Form,
) -> Result<Json<Begun>, Problem> {
    let client = caller::client(&app, peer.ip(), &headers, &form).await?;
    let now = app.clock.now_millis();
    match client.is_public() {
        true => app.throttle.charge_address(peer.ip(), now),
        false => app.throttle.charge_client(&client.client_id, now),
    }
    .map_err(Refusal::TooMany)?;
    Ok(Json(device_authorization::begin(&app, &client, form.pairs()).await?))
}
