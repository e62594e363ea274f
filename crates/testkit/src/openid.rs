//! A small OpenID provider whose people anybody may be: discovery, code flow with PKCE, ES256 ID tokens.
//!
//! It stands in for a Google or a Keycloak in tests and in the demo. The one thing that a real provider does and this one
//! does not is to find out who is asking: its page offers the people it knows as buttons.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::extract::{Form, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};
use service::Clock;
use sha2::{Digest as _, Sha256};
use url::Url;

/// How long a code may wait to be redeemed, and an ID token is good for, in seconds.
const CODE_SECONDS: i64 = 60;
const ID_TOKEN_SECONDS: i64 = 300;

/// Somebody with an account at the provider.
#[derive(Debug, Clone)]
pub struct Person {
    /// The provider's subject, and the value of the login page's `person` field.
    pub id: String,
    /// Full name, given out with the scope `profile`.
    pub name: String,
    /// E-mail address, given out with the scope `email`.
    pub email: String,
}

impl Person {
    /// A person whose address is made up from the id.
    #[must_use]
    pub fn new(id: &str, name: &str) -> Self {
        Self { id: id.to_owned(), name: name.to_owned(), email: format!("{id}@people.example") }
    }
}

/// What a provider is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Issuer identifier, without a slash at the end; the endpoints lie below it.
    pub issuer: String,
    /// The one client's id.
    pub client_id: String,
    /// The one client's secret.
    pub client_secret: String,
    /// What every redirect URI has to begin with.
    pub redirect_base: String,
    /// PKCS#8 PEM of a P-256 key.
    pub signing_key_pem: String,
    /// Who may be chosen.
    pub people: Vec<Person>,
}

struct Provider {
    settings: Settings,
    key: EcdsaKeyPair,
    clock: Clock,
    codes: Mutex<HashMap<String, Pending>>,
}

/// What a code stands for until it is redeemed.
struct Pending {
    redirect_uri: String,
    code_challenge: String,
    nonce: Option<String>,
    scope: String,
    person: Person,
    expires_at: i64,
}

/// Routes of a provider, to be served at the issuer's address.
///
/// # Errors
/// If the signing key is not a P-256 key in PKCS#8.
pub fn router(settings: Settings, clock: Clock) -> anyhow::Result<Router> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(settings.signing_key_pem.as_bytes())
        .context("the provider's signing key is not PEM")?;
    let key = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        der.secret_pkcs8_der(),
        &SystemRandom::new(),
    )
    .map_err(|error| anyhow::anyhow!("the provider's signing key: {error}"))?;
    let provider = Arc::new(Provider { settings, key, clock, codes: Mutex::default() });
    Ok(Router::new()
        .route("/.well-known/openid-configuration", get(configuration))
        .route("/jwks", get(jwks))
        .route("/authorize", get(ask).post(decide))
        .route("/token", post(token))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(provider))
}

async fn configuration(State(provider): State<Arc<Provider>>) -> Json<Value> {
    let issuer = &provider.settings.issuer;
    Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "authorization_response_iss_parameter_supported": true,
        "scopes_supported": ["openid", "profile", "email"],
    }))
}

async fn jwks(State(provider): State<Arc<Provider>>) -> Json<Value> {
    // An uncompressed point: 0x04, x, y (SEC 1 §2.3.3).
    let point = provider.key.public_key().as_ref();
    let (x, y) = point[1..].split_at(32);
    Json(json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "k1",
        "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
    }]}))
}

/// An authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3, OpenID Connect Core §3.1.2.1).
#[derive(Debug, Deserialize)]
struct AuthorizationRequest {
    client_id: String,
    redirect_uri: String,
    response_type: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    state: String,
    nonce: Option<String>,
    #[serde(default)]
    code_challenge: String,
    #[serde(default)]
    code_challenge_method: String,
    /// Who to be; only in the form that this provider's own page sends.
    person: Option<String>,
}

impl Provider {
    fn check(&self, request: &AuthorizationRequest) -> Result<(), (StatusCode, &'static str)> {
        let complaint = if request.client_id != self.settings.client_id {
            "unknown client"
        } else if !request.redirect_uri.starts_with(&self.settings.redirect_base) {
            "redirect URI not registered"
        } else if request.response_type != "code" {
            "response_type must be code"
        } else if request.code_challenge_method != "S256" || request.code_challenge.len() != 43 {
            "PKCE with S256 is required"
        } else {
            return Ok(());
        };
        Err((StatusCode::BAD_REQUEST, complaint))
    }

    fn id_token(&self, pending: &Pending) -> Option<String> {
        let now = self.clock.now();
        let mut claims = json!({
            "iss": self.settings.issuer,
            "sub": pending.person.id,
            "aud": self.settings.client_id,
            "iat": now,
            "exp": now + ID_TOKEN_SECONDS,
        });
        let fields = claims.as_object_mut()?;
        if let Some(nonce) = &pending.nonce {
            fields.insert("nonce".into(), nonce.as_str().into());
        }
        for scope in pending.scope.split(' ') {
            match scope {
                "profile" => fields.insert("name".into(), pending.person.name.as_str().into()),
                "email" => fields.insert("email".into(), pending.person.email.as_str().into()),
                _ => None,
            };
        }
        let head = URL_SAFE_NO_PAD.encode(json!({ "alg": "ES256", "kid": "k1", "typ": "JWT" }).to_string());
        let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

async fn ask(State(provider): State<Arc<Provider>>, Query(request): Query<AuthorizationRequest>) -> Response {
    if let Err(refusal) = provider.check(&request) {
        return refusal.into_response();
    }
    let kept = [
        ("client_id", Some(request.client_id.as_str())),
        ("redirect_uri", Some(&request.redirect_uri)),
        ("response_type", Some(&request.response_type)),
        ("scope", Some(&request.scope)),
        ("state", Some(&request.state)),
        ("nonce", request.nonce.as_deref()),
        ("code_challenge", Some(&request.code_challenge)),
        ("code_challenge_method", Some(&request.code_challenge_method)),
    ];
    let mut fields = String::new();
    for (name, value) in kept.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        fields.push_str(&format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">\n", escaped(value)));
    }
    for person in &provider.settings.people {
        let (id, name, email) = (escaped(&person.id), escaped(&person.name), escaped(&person.email));
        fields.push_str(&format!(
            "<button name=\"person\" value=\"{id}\"><b>{name}</b><span>{email}</span></button>\n"
        ));
    }
    let page = include_str!("openid.html").replace("{{fields}}", &fields);
    ([(header::CACHE_CONTROL, "no-store")], Html(page)).into_response()
}

async fn decide(
    State(provider): State<Arc<Provider>>,
    Form(request): Form<AuthorizationRequest>,
) -> Result<Response, (StatusCode, &'static str)> {
    provider.check(&request)?;
    let mut back = Url::parse(&request.redirect_uri)
        .map_err(|_| (StatusCode::BAD_REQUEST, "redirect URI is not a URI"))?;
    let chosen =
        request.person.as_deref().and_then(|id| provider.settings.people.iter().find(|who| who.id == id));
    if let Some(person) = chosen {
        let code = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        back.query_pairs_mut().append_pair("code", &code);
        let pending = Pending {
            redirect_uri: request.redirect_uri,
            code_challenge: request.code_challenge,
            nonce: request.nonce,
            scope: request.scope,
            person: person.clone(),
            expires_at: provider.clock.now() + CODE_SECONDS,
        };
        provider.codes.lock().unwrap_or_else(PoisonError::into_inner).insert(code, pending);
    } else {
        back.query_pairs_mut().append_pair("error", "access_denied");
    }
    back.query_pairs_mut().append_pair("state", &request.state).append_pair("iss", &provider.settings.issuer);
    Ok(Redirect::to(back.as_str()).into_response())
}

#[derive(Debug, Deserialize)]
struct TokenRequest {
    grant_type: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    redirect_uri: String,
    #[serde(default)]
    code_verifier: String,
    client_id: Option<String>,
    client_secret: Option<String>,
}

async fn token(
    State(provider): State<Arc<Provider>>,
    headers: HeaderMap,
    Form(request): Form<TokenRequest>,
) -> Response {
    let refuse = |status: StatusCode, error: &str| (status, Json(json!({ "error": error }))).into_response();
    let (id, secret) = match basic(&headers) {
        Some(pair) => pair,
        None => {
            (request.client_id.clone().unwrap_or_default(), request.client_secret.clone().unwrap_or_default())
        }
    };
    if id != provider.settings.client_id || secret != provider.settings.client_secret {
        return refuse(StatusCode::UNAUTHORIZED, "invalid_client");
    }
    if request.grant_type != "authorization_code" {
        return refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    let pending = provider.codes.lock().unwrap_or_else(PoisonError::into_inner).remove(&request.code);
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(request.code_verifier.as_bytes()));
    let good = pending.filter(|pending| {
        pending.expires_at > provider.clock.now()
            && pending.redirect_uri == request.redirect_uri
            && pending.code_challenge == challenge
    });
    let Some(id_token) = good.as_ref().and_then(|pending| provider.id_token(pending)) else {
        return refuse(StatusCode::BAD_REQUEST, "invalid_grant");
    };
    let answer = json!({
        "access_token": URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()),
        "token_type": "Bearer",
        "expires_in": ID_TOKEN_SECONDS,
        "id_token": id_token,
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

/// User and password of a Basic header, form-decoded as RFC 6749 §2.3.1 has it.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decoded = |text: &str| {
        url::form_urlencoded::parse(format!("v={text}").as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
    };
    Some((decoded(id)?, decoded(secret)?))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
