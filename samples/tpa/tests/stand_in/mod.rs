//! A stand-in for the DIdP: enough of RFC 7591, 6749, 7636, 7009 and 9207 for the app to meet the real one's answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Form, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use service::Shutdown;
use service::net::{Admission, Listener};
use service::secret;
use tokio::sync::watch;
use url::Url;

/// Life of an access token, in seconds.
pub(crate) const LIFE: i64 = 3600;

#[derive(Default)]
struct Seen {
    away: bool,
    withdrawn: bool,
    registrations: Vec<Value>,
    known: Vec<String>,
    /// Codes with the challenge that they are bound to.
    codes: HashMap<String, String>,
    redeemed: Vec<String>,
    refreshed: Vec<String>,
    revoked: Vec<String>,
    tokens: usize,
}

type Shared = Arc<Mutex<Seen>>;

#[derive(Clone)]
struct Server {
    issuer: String,
    seen: Shared,
    registered: Arc<watch::Sender<bool>>,
}

/// A started stand-in.
pub(crate) struct Didp {
    pub(crate) issuer: String,
    server: Server,
}

impl Didp {
    pub(crate) async fn start() -> Self {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let server = Server {
            issuer: issuer.clone(),
            seen: Shared::default(),
            registered: Arc::new(watch::Sender::new(false)),
        };
        let router = Router::new()
            .route("/.well-known/oauth-authorization-server", get(metadata))
            .route("/register", post(register))
            .route("/register/{client}", get(registration))
            .route("/token", post(token))
            .route("/revoke", post(revoke))
            .with_state(server.clone());
        tokio::spawn(service::http::serve(listener, router, Admission::new(100, 100), Shutdown::new()));
        Self { issuer, server }
    }

    /// Started, but answers 503 until [`Didp::come_back`].
    pub(crate) async fn start_away() -> Self {
        let didp = Self::start().await;
        didp.go_away();
        didp
    }

    pub(crate) fn go_away(&self) {
        self.server.seen.lock().unwrap().away = true;
    }

    pub(crate) fn come_back(&self) {
        self.server.seen.lock().unwrap().away = false;
    }

    pub(crate) fn withdraw(&self) {
        self.server.seen.lock().unwrap().withdrawn = true;
    }

    pub(crate) fn forget_clients(&self) {
        self.server.seen.lock().unwrap().known.clear();
        self.server.registered.send_replace(false);
    }

    /// Waits until a client asked with a registration that is known.
    pub(crate) async fn registered(&self) {
        self.server.registered.subscribe().wait_for(|registered| *registered).await.unwrap();
    }

    pub(crate) fn registrations(&self) -> Vec<Value> {
        self.server.seen.lock().unwrap().registrations.clone()
    }

    pub(crate) fn redeemed(&self) -> Vec<String> {
        self.server.seen.lock().unwrap().redeemed.clone()
    }

    pub(crate) fn refreshed(&self) -> Vec<String> {
        self.server.seen.lock().unwrap().refreshed.clone()
    }

    pub(crate) fn revoked(&self) -> Vec<String> {
        self.server.seen.lock().unwrap().revoked.clone()
    }

    /// Where an owner's browser goes after it consented to this authorization request.
    pub(crate) fn consent(&self, request: &Url) -> Url {
        let query: HashMap<_, _> = request.query_pairs().into_owned().collect();
        let code = secret::random_token::<32>();
        self.server.seen.lock().unwrap().codes.insert(code.clone(), query["code_challenge"].clone());
        self.back(&query, "code", &code)
    }

    /// Where it goes after an error.
    pub(crate) fn refusal(&self, request: &Url, error: &str) -> Url {
        self.back(&request.query_pairs().into_owned().collect(), "error", error)
    }

    fn back(&self, query: &HashMap<String, String>, name: &str, value: &str) -> Url {
        let mut url = Url::parse(&query["redirect_uri"]).unwrap();
        url.query_pairs_mut()
            .append_pair(name, value)
            .append_pair("state", &query["state"])
            .append_pair("iss", &self.issuer);
        url
    }
}

async fn metadata(State(server): State<Server>) -> Response {
    if server.seen.lock().unwrap().away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let issuer = &server.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "registration_endpoint": format!("{issuer}/register"),
    }))
    .into_response()
}

async fn register(State(server): State<Server>, Json(request): Json<Value>) -> Response {
    let mut seen = server.seen.lock().unwrap();
    seen.registrations.push(request);
    let client = format!("client-{}", seen.registrations.len());
    seen.known.push(client.clone());
    server.registered.send_replace(true);
    let answer = json!({
        "client_id": client,
        "client_secret": format!("secret-of-{client}"),
        "client_secret_expires_at": 0,
        "registration_access_token": "registration-token",
        "registration_client_uri": format!("{}/register/{client}", server.issuer),
    });
    (StatusCode::CREATED, Json(answer)).into_response()
}

async fn registration(
    State(server): State<Server>,
    Path(client): Path<String>,
    headers: HeaderMap,
) -> StatusCode {
    let bearer = headers.get(header::AUTHORIZATION).is_some_and(|value| value == "Bearer registration-token");
    if !bearer || !server.seen.lock().unwrap().known.contains(&client) {
        return StatusCode::UNAUTHORIZED;
    }
    server.registered.send_replace(true);
    StatusCode::OK
}

fn is_client(seen: &Seen, headers: &HeaderMap) -> bool {
    use base64::Engine as _;
    let sent = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    seen.known.iter().any(|client| {
        let pair = format!("{client}:secret-of-{client}");
        sent == format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    })
}

async fn token(
    State(server): State<Server>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let mut seen = server.seen.lock().unwrap();
    let error = |status: StatusCode, code: &str| (status, Json(json!({"error": code}))).into_response();
    if seen.away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if !is_client(&seen, &headers) {
        return error(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    let accepted = match form["grant_type"].as_str() {
        "authorization_code" => {
            let challenge = seen.codes.remove(&form["code"]);
            seen.redeemed.push(form["code"].clone());
            challenge == Some(secret::encode(secret::sha256(form["code_verifier"].as_bytes())))
        }
        "refresh_token" => {
            let current = format!("refresh-{}", seen.tokens);
            seen.refreshed.push(form["refresh_token"].clone());
            !seen.withdrawn && form["refresh_token"] == current
        }
        _ => false,
    };
    if !accepted {
        return error(StatusCode::BAD_REQUEST, "invalid_grant");
    }
    seen.tokens += 1;
    let number = seen.tokens;
    Json(json!({
        "access_token": format!("access-{number}"),
        "token_type": "Bearer",
        "expires_in": LIFE,
        "refresh_token": format!("refresh-{number}"),
        "scope": "data:subscribe command:publish",
        "authorization_details": [{"type": "mqtt", "title": "Thermostat", "actions": ["read"], "channels": [],
            "view": {"kind": "raw"}, "ref": "r1"}],
        "gateway": {"host": "gateway.example", "port": 8883, "spki_sha256": [],
            "http": "http://gateway.example:8083", "websocket": "ws://gateway.example:8083/mqtt"},
    }))
    .into_response()
}

async fn revoke(
    State(server): State<Server>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> StatusCode {
    let mut seen = server.seen.lock().unwrap();
    if !is_client(&seen, &headers) {
        return StatusCode::UNAUTHORIZED;
    }
    seen.revoked.push(form["token"].clone());
    StatusCode::OK
}
