//! The admin API: what an operator's programs ask, on a listener of its own that is not the public one. Its description is
//! `GET /admin/v1/openapi.json`; what it does is [`crate::flows::operator`]'s. Every other request carries the admin token.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::Context as _;
use axum::extract::{
    DefaultBodyLimit, Path, Query, Request, State, rejection::JsonRejection, rejection::QueryRejection,
};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use service::Shutdown;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use crate::config::Admin;
use crate::flows::manufacturer::ModelCounts;
use crate::flows::operator::devices::{self, BatchName};
use crate::flows::operator::{self, Filter, Kind, NewGateway, NewRegistrar, OperatorError, Rotation};
use crate::state::{AdminToken, App};

/// No request of an operator is larger.
const MAX_BODY: usize = 64 * 1024;

/// The description of this API.
const OPENAPI: &str = include_str!("admin/openapi.json");

/// Everything that the admin listener answers.
pub fn routes(app: App, token: AdminToken) -> Router {
    let mut router = Router::new();
    for (path, methods) in table() {
        router = router.route(path, methods);
    }
    router
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "not_found", "there is no such path") })
        .method_not_allowed_fallback(|| async {
            problem(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path does not know that method",
            )
        })
        .layer(middleware::from_fn_with_state(token, authorize))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app)
}

/// The route table.
fn table() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/admin/v1/openapi.json", get(describe)),
        ("/admin/v1/stats", get(stats)),
        ("/admin/v1/{kind}", get(registrars).post(add_registrar)),
        ("/admin/v1/{kind}/{id}/rotate", post(rotate_registrar)),
        ("/admin/v1/{kind}/{id}/disable", post(disable_registrar)),
        ("/admin/v1/{kind}/{id}/enable", post(enable_registrar)),
        ("/admin/v1/{kind}/{id}/batches", get(batches)),
        ("/admin/v1/{kind}/{id}/batches/withdraw", post(withdraw_batch)),
        ("/admin/v1/{kind}/{id}/batches/restore", post(restore_batch)),
        ("/admin/v1/gateways", get(gateways).post(add_gateway)),
        ("/admin/v1/gateways/{client_id}/rotate", post(rotate_gateway)),
        ("/admin/v1/gateways/{client_id}/disable", post(disable_gateway)),
        ("/admin/v1/gateways/{client_id}/enable", post(enable_gateway)),
        ("/admin/v1/clients", get(clients)),
        ("/admin/v1/clients/{client_id}", get(client)),
        ("/admin/v1/clients/{client_id}/disable", post(disable_client)),
        ("/admin/v1/clients/{client_id}/enable", post(enable_client)),
        ("/admin/v1/clients/{client_id}/withdraw", post(withdraw_device)),
        ("/admin/v1/clients/{client_id}/restore", post(restore_device)),
        ("/admin/v1/clients/{client_id}/replace", post(replace_device)),
    ]
}

/// Lets a request through that carries the admin token; compared in constant time.
async fn authorize(State(token): State<AdminToken>, request: Request, next: Next) -> Response {
    let sent = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let sent = sent.and_then(|value| value.split_once(' '));
    let right = sent
        .is_some_and(|(scheme, sent)| scheme.eq_ignore_ascii_case("bearer") && token.accepts(sent.trim()));
    if !right && request.uri().path() != "/admin/v1/openapi.json" {
        tracing::warn!(event = "admin_refused");
        let mut response = problem(StatusCode::UNAUTHORIZED, "invalid_token", "the admin token is needed");
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"admin\""));
        return response;
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Where operators' programs connect.
pub enum Listener {
    /// On an address.
    Tcp(TcpListener),
    /// On a socket of the file system, which only its owner can open.
    Unix(UnixListener),
}

impl Listener {
    /// Binds what the configuration says. A socket that a process left behind is replaced; one that is served is not.
    ///
    /// # Errors
    /// It cannot be bound.
    pub async fn bind(settings: &Admin) -> anyhow::Result<Self> {
        if let Some(address) = settings.address() {
            let listener = TcpListener::bind(address).await;
            return Ok(Self::Tcp(listener.with_context(|| format!("admin listener {address}"))?));
        }
        let path = settings.socket.as_deref().unwrap_or(std::path::Path::new("admin.sock"));
        let named = || format!("admin socket {}", path.display());
        if path.exists() {
            anyhow::ensure!(
                UnixStream::connect(path).await.is_err(),
                "{} is served by another process",
                named()
            );
            std::fs::remove_file(path).with_context(named)?;
        }
        let listener = UnixListener::bind(path).with_context(named)?;
        // Whoever connects before this still needs the token.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).with_context(named)?;
        Ok(Self::Unix(listener))
    }

    /// Serves until the process has to stop.
    pub async fn serve(self, routes: Router, shutdown: Shutdown) {
        let end = async move { shutdown.begun().await };
        let served = match self {
            Self::Tcp(listener) => axum::serve(listener, routes).with_graceful_shutdown(end).await,
            Self::Unix(listener) => axum::serve(listener, routes).with_graceful_shutdown(end).await,
        };
        if let Err(error) = served {
            tracing::error!(event = "admin_listener_failed", %error);
        }
    }
}

/// Why a request was not done, as JSON.
struct Refused(OperatorError);

impl<E: Into<OperatorError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code) = match &self.0 {
            OperatorError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            OperatorError::Unknown(_) => (StatusCode::NOT_FOUND, "not_found"),
            OperatorError::Taken(_) => (StatusCode::CONFLICT, "taken"),
            OperatorError::InFile(_) => (StatusCode::CONFLICT, "in_configuration_file"),
            OperatorError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"),
            OperatorError::Store(error) => {
                tracing::error!(event = "admin_failed", %error);
                return problem(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "temporarily_unavailable",
                    "the store cannot answer",
                );
            }
        };
        problem(status, code, &self.0.to_string())
    }
}

fn problem(status: StatusCode, code: &str, why: &str) -> Response {
    (status, Json(json!({ "error": code, "error_description": why }))).into_response()
}

type Answer<T> = Result<T, Refused>;

fn kind(name: &str) -> Answer<Kind> {
    match name {
        "manufacturers" => Ok(Kind::Manufacturer),
        "developers" => Ok(Kind::Developer),
        _ => Err(Refused(OperatorError::Unknown("path"))),
    }
}

fn body<T>(body: Result<Json<T>, JsonRejection>) -> Answer<T> {
    match body {
        Ok(Json(value)) => Ok(value),
        Err(_) => Err(Refused(OperatorError::Invalid("the body must be JSON of the described members"))),
    }
}

async fn describe() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn stats(State(app): State<App>) -> Answer<Json<serde_json::Value>> {
    Ok(Json(operator::stats(&app).await?))
}

async fn registrars(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Answer<Json<Vec<operator::RegistrarView>>> {
    Ok(Json(operator::registrars(&app, kind(&name)?).await?))
}

async fn add_registrar(
    State(app): State<App>,
    Path(name): Path<String>,
    new: Result<Json<NewRegistrar>, JsonRejection>,
) -> Answer<Response> {
    let (kind, new) = (kind(&name)?, body(new)?);
    let token = operator::add_registrar(&app, kind, &new).await?;
    Ok((StatusCode::CREATED, Json(json!({ "id": new.id, "initial_access_token": *token }))).into_response())
}

async fn rotate_registrar(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
    rotation: Result<Json<Rotation>, JsonRejection>,
) -> Answer<Json<serde_json::Value>> {
    let token = operator::rotate_registrar(&app, kind(&name)?, &id, &body(rotation)?).await?;
    Ok(Json(json!({ "id": id, "initial_access_token": *token })))
}

async fn disable_registrar(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    operator::disable_registrar(&app, kind(&name)?, &id, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn enable_registrar(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    operator::disable_registrar(&app, kind(&name)?, &id, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn gateways(State(app): State<App>) -> Answer<Json<Vec<operator::GatewayView>>> {
    Ok(Json(operator::gateways(&app).await?))
}

async fn add_gateway(
    State(app): State<App>,
    new: Result<Json<NewGateway>, JsonRejection>,
) -> Answer<Response> {
    let new = body(new)?;
    let secret = operator::add_gateway(&app, &new).await?;
    let answer = json!({ "client_id": new.client_id, "client_secret": *secret });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

async fn rotate_gateway(
    State(app): State<App>,
    Path(client_id): Path<String>,
    rotation: Result<Json<Rotation>, JsonRejection>,
) -> Answer<Json<serde_json::Value>> {
    let secret = operator::rotate_gateway(&app, &client_id, &body(rotation)?).await?;
    Ok(Json(json!({ "client_id": client_id, "client_secret": *secret })))
}

async fn disable_gateway(State(app): State<App>, Path(client_id): Path<String>) -> Answer<StatusCode> {
    operator::disable_gateway(&app, &client_id, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn enable_gateway(State(app): State<App>, Path(client_id): Path<String>) -> Answer<StatusCode> {
    operator::disable_gateway(&app, &client_id, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn clients(
    State(app): State<App>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Answer<Json<Vec<operator::ClientView>>> {
    let Ok(Query(filter)) = filter else {
        return Err(Refused(OperatorError::Invalid(
            "the query has kind, registrar, after and limit at most",
        )));
    };
    Ok(Json(operator::clients(&app, &filter).await?))
}

async fn client(State(app): State<App>, Path(client_id): Path<String>) -> Answer<Json<operator::ClientView>> {
    Ok(Json(operator::client(&app, &client_id).await?))
}

async fn disable_client(State(app): State<App>, Path(client_id): Path<String>) -> Answer<StatusCode> {
    operator::disable_client(&app, &client_id, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn enable_client(State(app): State<App>, Path(client_id): Path<String>) -> Answer<StatusCode> {
    operator::disable_client(&app, &client_id, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn batches(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
) -> Answer<Json<Vec<ModelCounts>>> {
    maker(&name)?;
    Ok(Json(devices::batches(&app, &id).await?))
}

async fn withdraw_batch(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
    of: Result<Json<BatchName>, JsonRejection>,
) -> Answer<Json<serde_json::Value>> {
    maker(&name)?;
    Ok(Json(json!({ "devices": devices::withdraw_batch(&app, &id, &body(of)?, true).await? })))
}

async fn restore_batch(
    State(app): State<App>,
    Path((name, id)): Path<(String, String)>,
    of: Result<Json<BatchName>, JsonRejection>,
) -> Answer<Json<serde_json::Value>> {
    maker(&name)?;
    Ok(Json(json!({ "devices": devices::withdraw_batch(&app, &id, &body(of)?, false).await? })))
}

/// Only manufacturers have devices.
fn maker(name: &str) -> Answer<()> {
    match kind(name)? {
        Kind::Manufacturer => Ok(()),
        Kind::Developer => Err(Refused(OperatorError::Unknown("manufacturer"))),
    }
}

async fn withdraw_device(State(app): State<App>, Path(client_id): Path<String>) -> Answer<StatusCode> {
    devices::withdraw(&app, &client_id, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn restore_device(State(app): State<App>, Path(client_id): Path<String>) -> Answer<StatusCode> {
    devices::withdraw(&app, &client_id, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn replace_device(State(app): State<App>, Path(client_id): Path<String>) -> Answer<Response> {
    let new = devices::replace(&app, &client_id).await?;
    Ok((StatusCode::CREATED, Json(new)).into_response())
}

#[cfg(test)]
mod tests;
