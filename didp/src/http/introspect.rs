//! `POST /introspect` (RFC 7662) and `POST /introspect/grants`; for gateways only.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::{Extension, Json};
use http::HeaderMap;
use oauth_wire::{GrantList, Introspection, OAuthErrorCode};
use service::http::Proven;
use service::spans;

use super::body::Form;
use super::problem::Problem;
use super::{Peer, caller};
use crate::flows::introspection;
use crate::state::App;

/// Where the operator named authorities of gateways' certificates, a gateway is asked for its secret only after it proved one.
pub(super) async fn with_certificate(
    State(app): State<App>,
    Extension(Proven(proven)): Extension<Proven>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let needed = app.config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    if needed && !proven {
        let what = "a gateway comes over TLS with its certificate";
        return Err(Problem::of(OAuthErrorCode::InvalidClient, what));
    }
    Ok(next.run(request).await)
}

/// Judges a token.
pub(super) async fn post(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Form,
) -> Result<Json<Introspection>, Problem> {
    let judged = async {
        let gateway = caller::gateway(&app, peer.ip(), &headers, Some(&form)).await?;
        let token = form.required("token", "token is missing")?;
        Ok(Json(introspection::introspect(&app, &gateway, token).await?))
    };
    spans::answer("introspect", &headers, judged).await
}

/// Lists an owner's grants.
pub(super) async fn grants(
    State(app): State<App>,
    peer: Peer,
    headers: HeaderMap,
    form: Form,
) -> Result<Json<GrantList>, Problem> {
    let listed = async {
        let gateway = caller::gateway(&app, peer.ip(), &headers, Some(&form)).await?;
        Ok(Json(introspection::grants_of(&app, &gateway, form.required("sub", "sub is missing")?).await?))
    };
    spans::answer("grants", &headers, listed).await
}
