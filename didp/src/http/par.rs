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

/// Keeps an authorization request. Anybody can be a public client, so its requests cost its address something.
pub(super) async fn post(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let client = caller::client(&app, peer.ip(), &headers, &form).await?;
    if client.is_public() {
        app.throttle.charge_address(peer.ip(), app.clock.now_millis()).map_err(Refusal::TooMany)?;
    }
    let pushed = pushed::push(&app, &client, form.pairs()).await?;
    Ok((StatusCode::CREATED, Json(pushed)).into_response())
}
