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

/// Begins a device authorization. Anybody can be a public client, so its requests cost its address something.
pub(super) async fn post(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Form,
) -> Result<Json<Begun>, Problem> {
    let client = caller::client(&app, peer.ip(), &headers, &form).await?;
    if client.is_public() {
        app.throttle.charge_address(peer.ip(), app.clock.now_millis()).map_err(Refusal::TooMany)?;
    }
    Ok(Json(device_authorization::begin(&app, &client, form.pairs()).await?))
}
