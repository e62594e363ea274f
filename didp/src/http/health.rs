//! `GET /healthz` (the process answers) and `GET /readyz` (the database can be written).

use axum::extract::State;
use http::StatusCode;

use crate::state::App;

/// The process answers.
pub(super) async fn healthz() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// The database can be written, and the process is not stopping.
pub(super) async fn readyz(State(app): State<App>) -> StatusCode {
    if !app.shutdown.has_begun() && app.store.is_ready().await {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}
