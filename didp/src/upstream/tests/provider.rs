//! The providers of the tests: an OpenID provider whose answers can be bent, and a plain OAuth2 one. Both check PKCE.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::upstream::{Settings, Upstreams};

/// How the ID token gets its signature.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signing {
    Proper,
    None,
    SharedSecret,
    PublicKeyAsSecret,
    ForeignKey,
    Broken,
}

/// What the token endpoint does instead of answering.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Misbehaviour {
    Endless,
    Redirect,
}

/// Settings of one upstream `test`, with the given fields beside the usual ones.
pub(crate) fn settings(fields: Value) -> Settings {
    let mut table = json!({ "id": "test", "name": "Test", "kind": "openid-connect", "client_id": "didp" });
    table.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(table).unwrap()
}

fn upstreams(fields: Value) -> Upstreams {
    Upstreams::new(&[settings(fields)], &"https://didp.example".parse().unwrap()).unwrap()
}

/// Reads an authorization request as a provider does; keeps nonce and challenge for the new code.
fn grant(codes: &Mutex<HashMap<String, (String, String)>>, url: &Url) -> (String, String) {
    let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
    let mut codes = codes.lock().unwrap();
    let code = format!("code-{}", codes.len());
    let nonce = query.get("nonce").cloned().unwrap_or_default();
    codes.insert(code.clone(), (nonce, query["code_challenge"].clone()));
    (code, query["state"].clone())
}

/// Takes a code whose PKCE verifier is right; answers its nonce.
fn redeem(
    codes: &Mutex<HashMap<String, (String, String)>>,
    form: &HashMap<String, String>,
) -> Option<String> {
    let (nonce, challenge) = codes.lock().unwrap().remove(form.get("code")?)?;
    let verifier = form.get("code_verifier")?;
    (URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)) == challenge).then_some(nonce)
}

async fn serve(listener: tokio::net::TcpListener, router: Router) {
    tokio::spawn(async move { axum::serve(listener, router).await });
}

struct Shape {
    key: EcdsaKeyPair,
    kid: u32,
    lies: Vec<(String, Value)>,
    signing: Signing,
    misbehaviour: Option<Misbehaviour>,
    away: bool,
    key_requests: u32,
    token_requests: u32,
    strays: u32,
}

struct Inner {
    origin: String,
    codes: Mutex<HashMap<String, (String, String)>>,
    shape: Mutex<Shape>,
}

/// An OpenID provider on a free port.
pub(crate) struct Provider(Arc<Inner>);

fn new_key() -> EcdsaKeyPair {
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap()
}

impl Provider {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let inner = Arc::new(Inner {
            origin: format!("http://{}", listener.local_addr().unwrap()),
            codes: Mutex::default(),
            shape: Mutex::new(Shape {
                key: new_key(),
                kid: 1,
                lies: Vec::new(),
                signing: Signing::Proper,
                misbehaviour: None,
                away: false,
                key_requests: 0,
                token_requests: 0,
                strays: 0,
            }),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .route("/stray", get(stray).post(stray))
            .with_state(inner.clone());
        serve(listener, router).await;
        Provider(inner)
    }

    pub(crate) fn issuer(&self) -> String {
        self.0.origin.clone()
    }

    pub(crate) fn upstreams(&self) -> Upstreams {
        upstreams(json!({ "issuer": self.0.origin }))
    }

    pub(crate) fn grant(&self, url: &Url) -> (String, String) {
        grant(&self.0.codes, url)
    }

    pub(crate) fn lie(&self, claim: &str, value: Value) {
        self.0.shape.lock().unwrap().lies.push((claim.to_owned(), value));
    }

    pub(crate) fn sign(&self, signing: Signing) {
        self.0.shape.lock().unwrap().signing = signing;
    }

    pub(crate) fn misbehave(&self, misbehaviour: Misbehaviour) {
        self.0.shape.lock().unwrap().misbehaviour = Some(misbehaviour);
    }

    pub(crate) fn rotate(&self) {
        let mut shape = self.0.shape.lock().unwrap();
        shape.key = new_key();
        shape.kid += 1;
    }

    pub(crate) fn away(&self, away: bool) {
        self.0.shape.lock().unwrap().away = away;
    }

    pub(crate) fn key_requests(&self) -> u32 {
        self.0.shape.lock().unwrap().key_requests
    }

    pub(crate) fn token_requests(&self) -> u32 {
        self.0.shape.lock().unwrap().token_requests
    }

    pub(crate) fn strays(&self) -> u32 {
        self.0.shape.lock().unwrap().strays
    }
}

async fn discovery(State(provider): State<Arc<Inner>>) -> Response {
    if provider.shape.lock().unwrap().away {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let origin = &provider.origin;
    Json(json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
        "jwks_uri": format!("{origin}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
        "authorization_response_iss_parameter_supported": true,
    }))
    .into_response()
}

async fn keys(State(provider): State<Arc<Inner>>) -> Json<Value> {
    let mut shape = provider.shape.lock().unwrap();
    shape.key_requests += 1;
    let point = shape.key.public_key().as_ref();
    Json(json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": shape.kid.to_string(),
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
    }] }))
}

async fn stray(State(provider): State<Arc<Inner>>) -> &'static str {
    provider.shape.lock().unwrap().strays += 1;
    "nobody should be here"
}

async fn token(State(provider): State<Arc<Inner>>, Form(form): Form<HashMap<String, String>>) -> Response {
    let mut shape = provider.shape.lock().unwrap();
    shape.token_requests += 1;
    match shape.misbehaviour {
        Some(Misbehaviour::Endless) => {
            let chunks = futures_util::stream::repeat_with(|| {
                Ok::<_, std::convert::Infallible>(bytes::Bytes::from_static(&[b' '; 8192]))
            });
            return axum::body::Body::from_stream(chunks).into_response();
        }
        Some(Misbehaviour::Redirect) => {
            let target = format!("{}/stray", provider.origin);
            return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, target)]).into_response();
        }
        None => {}
    }
    let Some(nonce) = redeem(&provider.codes, &form) else {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response();
    };
    Json(json!({ "access_token": "unused", "token_type": "Bearer", "id_token": id_token(&provider, &shape, &nonce) }))
        .into_response()
}

fn id_token(provider: &Inner, shape: &Shape, nonce: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({
        "iss": provider.origin, "sub": "alice", "aud": "didp", "nonce": nonce, "iat": now, "exp": now + 300,
        "name": "Alice Example", "email": "alice@example.org",
    });
    for (claim, value) in &shape.lies {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        } else {
            claims[claim] = value.clone();
        }
    }
    let alg = match shape.signing {
        Signing::Proper | Signing::ForeignKey | Signing::Broken => "ES256",
        Signing::None => "none",
        Signing::SharedSecret | Signing::PublicKeyAsSecret => "HS256",
    };
    let header = json!({ "alg": alg, "kid": shape.kid.to_string() });
    let input = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let ecdsa = |key: &EcdsaKeyPair| {
        key.sign(&ring::rand::SystemRandom::new(), input.as_bytes()).unwrap().as_ref().to_vec()
    };
    let hmac = |secret: &[u8]| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        ring::hmac::sign(&key, input.as_bytes()).as_ref().to_vec()
    };
    let signature = match shape.signing {
        Signing::Proper => ecdsa(&shape.key),
        Signing::ForeignKey => ecdsa(&new_key()),
        Signing::Broken => {
            let mut signature = ecdsa(&shape.key);
            signature[0] ^= 1;
            signature
        }
        Signing::None => Vec::new(),
        Signing::SharedSecret => hmac(b"the client secret"),
        Signing::PublicKeyAsSecret => hmac(shape.key.public_key().as_ref()),
    };
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

struct PlainInner {
    origin: String,
    codes: Mutex<HashMap<String, (String, String)>>,
    user: Value,
}

/// A plain OAuth2 provider on a free port, with one person.
pub(crate) struct Plain(Arc<PlainInner>);

impl Plain {
    pub(crate) async fn start(user: Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(PlainInner { origin, codes: Mutex::default(), user });
        let router = Router::new()
            .route("/token", post(plain_token))
            .route("/user", get(plain_user))
            .with_state(inner.clone());
        serve(listener, router).await;
        Plain(inner)
    }

    pub(crate) fn origin(&self) -> String {
        self.0.origin.clone()
    }

    pub(crate) fn upstreams(&self, field: &str) -> Upstreams {
        let origin = &self.0.origin;
        upstreams(json!({
            "id": "plain", "kind": "oauth2", "subject_field": field,
            "authorization_endpoint": format!("{origin}/authorize"),
            "token_endpoint": format!("{origin}/token"),
            "user_endpoint": format!("{origin}/user"),
        }))
    }

    pub(crate) fn grant(&self, url: &Url) -> (String, String) {
        grant(&self.0.codes, url)
    }
}

async fn plain_token(
    State(provider): State<Arc<PlainInner>>,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    match redeem(&provider.codes, &form) {
        Some(_) => Json(json!({ "access_token": "a-token", "token_type": "bearer" })).into_response(),
        // As GitHub does it: an error with status 200.
        None => Json(json!({ "error": "bad_verification_code" })).into_response(),
    }
}

async fn plain_user(State(provider): State<Arc<PlainInner>>, headers: HeaderMap) -> Response {
    if headers.get(header::AUTHORIZATION).is_none_or(|value| value != "Bearer a-token") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    Json(provider.user.clone()).into_response()
}
