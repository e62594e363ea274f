//! `POST /introspect` (RFC 7662) and `POST /introspect/grants`; for gateways only.

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use oauth_wire::{GrantList, Introspection};

use super::body::Form;
use super::problem::Problem;
use super::{Peer, caller};
use crate::flows::introspection;
use crate::state::App;

/// Judges a token.
pub(super) async fn post(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Form,
) -> Result<Json<Introspection>, Problem> {
    let gateway = caller::gateway(&app, peer.ip(), &headers, Some(&form)).await?;
    Ok(Json(introspection::introspect(&app, gateway, form.required("token", "token is missing")?).await?))
}

/// Lists an owner's grants.
pub(super) async fn grants(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Form,
) -> Result<Json<GrantList>, Problem> {
    let gateway = caller::gateway(&app, peer.ip(), &headers, Some(&form)).await?;
    Ok(Json(introspection::grants_of(&app, gateway, form.required("sub", "sub is missing")?).await?))
}
