//! The DIdP as this app sees it: discovery (RFC 8414), dynamic registration (RFC 7591, 7592), code flow with PKCE
//! (RFC 6749, 7636), refresh and revocation (RFC 7009). Who is granted what is kept in [`crate::grants`].

use std::sync::Arc;
use std::time::Duration;

use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse,
    BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, ExtraTokenFields, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, Scope, StandardRevocableToken, StandardTokenResponse, TokenUrl,
};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use service::Shutdown;
use tokio::sync::{Notify, watch};
use url::Url;

use crate::Config;
use crate::store::{Store, StoreError};

const FILE: &str = "client.json";

/// Limit for one request to the DIdP.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often the registration is looked at: a DIdP forgets an app that nobody allowed anything for a day.
const LOOK: Duration = Duration::from_secs(3600);
/// First and longest pause between two tries to register.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// What a token response holds besides RFC 6749.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Granted {
    /// Where the owner's data is.
    pub gateway: Gateway,
    /// One object for each device (RFC 9396 §7); may be empty.
    #[serde(default)]
    pub authorization_details: Vec<Detail>,
}

impl ExtraTokenFields for Granted {}

/// The owner's gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// Base of the HTTP API.
    pub http: Url,
    /// MQTT over WebSocket.
    pub websocket: Url,
}

/// A granted device, as much of it as this app uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// The model.
    #[serde(default)]
    pub title: Option<String>,
    /// The owner's name for it, if it is shared.
    #[serde(default)]
    pub name: Option<String>,
    /// `read`, `command`.
    #[serde(default)]
    pub actions: Vec<String>,
    /// Joins it with the gateway's list of devices.
    #[serde(rename = "ref")]
    pub reference: String,
}

/// A successful token response.
pub type Tokens = StandardTokenResponse<Granted, BasicTokenType>;

type OauthClient = Client<
    BasicErrorResponse,
    Tokens,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// The client as the DIdP knows it.
struct Registered {
    oauth: OauthClient,
    secret: ClientSecret,
    revocation_endpoint: Url,
}

/// Why a request to the DIdP gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Not registered yet, no answer, or one that makes no sense: try again later.
    #[error("the identity service does not answer")]
    Away,
    /// `invalid_grant`: the code or refresh token is worth nothing any more.
    #[error("the grant is gone")]
    Gone,
    /// Another OAuth error: the request was wrong and will be again.
    #[error("the request was refused")]
    Refused,
}

/// What is needed to begin a code flow and to finish it.
pub struct Authorization {
    /// Where to send the browser.
    pub url: Url,
    /// Comes back with the browser.
    pub state: String,
    /// Redeems the code (RFC 7636).
    pub verifier: PkceCodeVerifier,
}

/// The DIdP, and this app's registration there.
pub struct Provider {
    issuer: String,
    app_url: String,
    redirect_uri: RedirectUrl,
    authorization_details: serde_json::Value,
    http: reqwest::Client,
    store: Arc<Store>,
    registered: watch::Sender<Option<Arc<Registered>>>,
    lost: Notify,
}

/// `client.json`. The secret is this app's own; the file is 0600.
#[derive(Clone, Serialize, Deserialize)]
struct Registration {
    issuer: String,
    redirect_uri: String,
    client_id: String,
    client_secret: String,
    #[serde(default)]
    registration_access_token: Option<String>,
    #[serde(default)]
    registration_client_uri: Option<Url>,
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: AuthUrl,
    token_endpoint: TokenUrl,
    revocation_endpoint: Url,
    registration_endpoint: Url,
}

#[derive(Deserialize)]
struct RegistrationAnswer {
    client_id: String,
    client_secret: String,
    registration_access_token: Option<String>,
    registration_client_uri: Option<Url>,
}

#[derive(Debug, thiserror::Error)]
enum RegistrationError {
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the metadata is of issuer {0}")]
    Issuer(String),
    #[error("registration answered {0}")]
    Refused(http::StatusCode),
}

impl Provider {
    /// Not registered yet; see [`Provider::keep_registered`].
    ///
    /// # Errors
    /// Never for a checked configuration; a store error if a stored registration cannot be read.
    pub fn new(config: &Config, store: Arc<Store>) -> Result<Self, StoreError> {
        store.read::<Registration>(FILE)?;
        let mut wanted =
            serde_json::json!({"type": "mqtt", "actions": ["read", "command"], "channels": config.channels});
        if let Some(view) = &config.view {
            wanted["view"] = view.clone();
        }
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("heating-diary/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("a client without files or proxies of its own can be built");
        Ok(Self {
            issuer: config.issuer.clone(),
            app_url: config.public_url.to_string(),
            redirect_uri: RedirectUrl::new(config.redirect_uri()).expect("the public URL was checked"),
            authorization_details: serde_json::json!([wanted]),
            http,
            store,
            registered: watch::Sender::new(None),
            lost: Notify::new(),
        })
    }

    /// The issuer identifier.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// True once the app is registered.
    pub fn is_registered(&self) -> bool {
        self.registered.borrow().is_some()
    }

    /// Waits until the app is registered.
    pub async fn registered(&self) {
        // The sender lives in self, so that waiting cannot fail.
        let _ = self.registered.subscribe().wait_for(Option::is_some).await;
    }

    /// Registers, and again whenever the DIdP does not know this client any more, until `shutdown` begins.
    pub async fn keep_registered(&self, shutdown: &Shutdown) {
        loop {
            let mut pause = BACK_OFF.0;
            let client = loop {
                match self.register().await {
                    Ok(client) => break client,
                    Err(error) => tracing::warn!(event = "registration_failed", %error, "trying again"),
                }
                let jitter = rand::rng().random_range(0.5..1.0);
                tokio::select! {
                    () = shutdown.begun() => return,
                    () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
                }
                pause = (pause * 2).min(BACK_OFF.1);
            };
            tracing::info!(event = "registered", issuer = %self.issuer);
            self.registered.send_replace(Some(Arc::new(client)));
            tokio::select! {
                () = shutdown.begun() => return,
                () = tokio::time::sleep(LOOK) => continue,
                () = self.lost.notified() => {}
            }
            tracing::warn!(event = "registration_lost", "the DIdP does not know this client");
            self.registered.send_replace(None);
        }
    }

    async fn register(&self) -> Result<Registered, RegistrationError> {
        let address = format!("{}/.well-known/oauth-authorization-server", self.issuer);
        let metadata: Metadata = self.http.get(address).send().await?.error_for_status()?.json().await?;
        // RFC 8414 §3.3: otherwise one issuer could speak for another.
        if metadata.issuer != self.issuer {
            return Err(RegistrationError::Issuer(metadata.issuer));
        }
        let stored: Option<Registration> = self.store.read(FILE)?;
        let usable =
            stored.filter(|one| one.issuer == self.issuer && one.redirect_uri == **self.redirect_uri);
        let registration = match usable {
            Some(registration) if self.is_known(&registration).await? => registration,
            _ => {
                let registration = self.register_anew(metadata.registration_endpoint).await?;
                self.store.write(FILE, registration.clone()).await?;
                registration
            }
        };
        let secret = ClientSecret::new(registration.client_secret);
        let oauth = Client::new(ClientId::new(registration.client_id))
            .set_client_secret(secret.clone())
            .set_auth_type(AuthType::BasicAuth)
            .set_auth_uri(metadata.authorization_endpoint)
            .set_token_uri(metadata.token_endpoint)
            .set_redirect_uri(self.redirect_uri.clone());
        Ok(Registered { oauth, secret, revocation_endpoint: metadata.revocation_endpoint })
    }

    /// Asks the DIdP whether it still has this registration (RFC 7592 §2.1).
    async fn is_known(&self, registration: &Registration) -> Result<bool, RegistrationError> {
        let (Some(url), Some(token)) =
            (&registration.registration_client_uri, &registration.registration_access_token)
        else {
            return Ok(true);
        };
        let answer = self.http.get(url.clone()).bearer_auth(token).send().await?;
        match answer.status().as_u16() {
            401 | 403 | 404 => Ok(false),
            _ => Ok(answer.error_for_status().map(|_| true)?),
        }
    }

    async fn register_anew(&self, endpoint: Url) -> Result<Registration, RegistrationError> {
        let request = serde_json::json!({
            "client_name": "Heating Diary",
            "client_uri": self.app_url,
            "redirect_uris": [**self.redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_basic",
            "scope": "data:subscribe command:publish",
        });
        let answer = self.http.post(endpoint).json(&request).send().await?;
        if answer.status() != http::StatusCode::CREATED {
            return Err(RegistrationError::Refused(answer.status()));
        }
        let answer: RegistrationAnswer = answer.json().await?;
        Ok(Registration {
            issuer: self.issuer.clone(),
            redirect_uri: self.redirect_uri.to_string(),
            client_id: answer.client_id,
            client_secret: answer.client_secret,
            registration_access_token: answer.registration_access_token,
            registration_client_uri: answer.registration_client_uri,
        })
    }

    fn client(&self) -> Result<Arc<Registered>, ProviderError> {
        self.registered.borrow().clone().ok_or(ProviderError::Away)
    }

    /// Begins a code flow.
    ///
    /// # Errors
    /// [`ProviderError::Away`] if the app is not registered yet.
    pub fn authorization(&self) -> Result<Authorization, ProviderError> {
        let client = self.client()?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, state) = client
            .oauth
            .authorize_url(CsrfToken::new_random)
            .add_scope(Scope::new("data:subscribe".to_owned()))
            .add_scope(Scope::new("command:publish".to_owned()))
            .add_extra_param("authorization_details", self.authorization_details.to_string())
            .set_pkce_challenge(challenge)
            .url();
        Ok(Authorization { url, state: state.into_secret(), verifier })
    }

    /// Redeems a code.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn redeem(&self, code: String, verifier: PkceCodeVerifier) -> Result<Tokens, ProviderError> {
        let client = self.client()?;
        let request = client.oauth.exchange_code(AuthorizationCode::new(code)).set_pkce_verifier(verifier);
        let answer = request.request_async(&self.http).await;
        answer.map_err(|error| self.failure("redeem", &error))
    }

    /// Renews the tokens. A lost answer does no harm: the same refresh token may be presented again.
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn refresh(&self, refresh_token: &str) -> Result<Tokens, ProviderError> {
        let client = self.client()?;
        let token = RefreshToken::new(refresh_token.to_owned());
        let answer = client.oauth.exchange_refresh_token(&token).request_async(&self.http).await;
        answer.map_err(|error| self.failure("refresh", &error))
    }

    /// Gives the grant back (RFC 7009).
    ///
    /// # Errors
    /// See [`ProviderError`].
    pub async fn revoke(&self, refresh_token: &str) -> Result<(), ProviderError> {
        let client = self.client()?;
        // The oauth2 crate insists on https for this endpoint, which a demo on one machine does not have.
        let answer = self
            .http
            .post(client.revocation_endpoint.clone())
            .basic_auth(client.oauth.client_id().as_str(), Some(client.secret.secret()))
            .form(&[("token", refresh_token), ("token_type_hint", "refresh_token")])
            .send()
            .await;
        match answer.and_then(reqwest::Response::error_for_status) {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::warn!(event = "revocation_failed", status = ?error.status());
                Err(ProviderError::Away)
            }
        }
    }

    fn failure<E: std::error::Error + 'static>(
        &self,
        what: &'static str,
        error: &RequestTokenError<E, BasicErrorResponse>,
    ) -> ProviderError {
        let verdict = match error {
            RequestTokenError::ServerResponse(answer) => match answer.error() {
                BasicErrorResponseType::InvalidGrant => ProviderError::Gone,
                BasicErrorResponseType::InvalidClient => {
                    self.lost.notify_one();
                    ProviderError::Away
                }
                BasicErrorResponseType::Extension(code)
                    if code == "temporarily_unavailable" || code == "slow_down" || code == "server_error" =>
                {
                    ProviderError::Away
                }
                _ => ProviderError::Refused,
            },
            RequestTokenError::Request(_) | RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
                ProviderError::Away
            }
        };
        tracing::warn!(event = "token_request_failed", what, reason = kind(error), ?verdict);
        verdict
    }
}

/// The error without anything that the server wrote into it.
fn kind<E>(error: &RequestTokenError<E, BasicErrorResponse>) -> &str
where
    E: std::error::Error + 'static,
{
    match error {
        RequestTokenError::ServerResponse(answer) => answer.error().as_ref(),
        RequestTokenError::Request(_) => "no answer",
        RequestTokenError::Parse(..) => "an answer that is none",
        RequestTokenError::Other(_) => "an unexpected answer",
    }
}
