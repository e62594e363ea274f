//! A third-party app without a screen: registration (RFC 7591), code flow with PKCE (RFC 6749, RFC 7636), refresh.
//!
//! What it does with its token is left to [`crate::mqtt`]; what the owner decides, to [`crate::owner`].

use anyhow::{Context as _, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use oauth_wire::TokenResponse;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::browser::Page;

/// Where every app of this kit is sent back to; nobody is there (see [`crate::browser`]).
pub const REDIRECT_URI: &str = "https://app.example/back";

/// Both scopes of an app.
pub const SCOPE: &str = "data:subscribe command:publish";

/// A registered app.
#[derive(Debug, Clone)]
pub struct App {
    /// Its id at the DIdP.
    pub client_id: String,
    /// Its secret, unless it is a public client.
    pub client_secret: Option<String>,
    issuer: String,
    http: Client,
}

/// An authorization request that is under way.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Where the owner's browser has to go.
    pub url: String,
    state: String,
    verifier: String,
}

/// A refusal of the token endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The `error` (RFC 6749 §5.2).
    pub error: String,
}

impl App {
    /// Registers a confidential app at the DIdP `issuer`, with an initial access token or without.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub async fn register(
        issuer: &str,
        name: &str,
        initial_access_token: Option<&str>,
    ) -> anyhow::Result<Self> {
        let http = crate::browser::http();
        let metadata = json!({
            "client_name": name,
            "redirect_uris": [REDIRECT_URI],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "client_secret_basic",
            "scope": SCOPE,
        });
        let mut request = http.post(format!("{issuer}/register")).json(&metadata);
        if let Some(token) = initial_access_token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.context("register an app")?;
        let status = answer.status();
        let body: Value = answer.json().await.context("register an app")?;
        ensure!(status == StatusCode::CREATED, "registration of an app: {status} {body}");
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        Ok(Self {
            client_id: text("client_id").context("a registration without client_id")?,
            client_secret: text("client_secret"),
            issuer: issuer.to_owned(),
            http,
        })
    }

    /// Asks for everything.
    #[must_use]
    pub fn ask(&self) -> Asked {
        self.ask_for(SCOPE, None)
    }

    /// Asks for these scopes and, if given, no more than these `authorization_details`.
    #[must_use]
    pub fn ask_for(&self, scope: &str, authorization_details: Option<&Value>) -> Asked {
        let state = random::<16>();
        let verifier = random::<32>();
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", REDIRECT_URI)
            .append_pair("scope", scope)
            .append_pair("state", &state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        if let Some(details) = authorization_details {
            query.append_pair("authorization_details", &details.to_string());
        }
        Asked { url: format!("{}/authorize?{}", self.issuer, query.finish()), state, verifier }
    }

    /// Checks where the owner was sent back to, and redeems the code.
    ///
    /// # Errors
    /// The owner is elsewhere or brings an error; state or issuer are wrong; the code is refused.
    pub async fn redeem(&self, asked: &Asked, back: &Page) -> anyhow::Result<TokenResponse> {
        let code = self.code(asked, back)?;
        let answer = self.present(&code, &asked.verifier).await?;
        answer.map_err(|refusal| anyhow!("the code is refused: {refusal:?}"))
    }

    /// Checks where the owner was sent back to: the code.
    ///
    /// # Errors
    /// The owner is elsewhere or brings an error; state or issuer are wrong.
    pub fn code(&self, asked: &Asked, back: &Page) -> anyhow::Result<String> {
        ensure!(
            back.url().as_str().starts_with(REDIRECT_URI),
            "the owner was not sent back but is at {back:?}"
        );
        if let Some(error) = back.parameter("error") {
            return Err(anyhow!("the owner was sent back with {error}"));
        }
        ensure!(back.parameter("state").as_deref() == Some(&asked.state), "sent back with another state");
        let issuer = back.parameter("iss").context("sent back without iss")?;
        ensure!(same(&issuer, &self.issuer), "sent back by {issuer}");
        back.parameter("code").context("sent back without a code")
    }

    /// Presents a code with a verifier.
    ///
    /// # Errors
    /// No answer; a refusal is an answer.
    pub async fn present(
        &self,
        code: &str,
        verifier: &str,
    ) -> anyhow::Result<Result<TokenResponse, Refusal>> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT_URI),
            ("code_verifier", verifier),
        ];
        self.token(&form).await
    }

    /// Refreshes.
    ///
    /// # Errors
    /// No answer; a refusal is an answer.
    pub async fn refresh(&self, refresh_token: &str) -> anyhow::Result<Result<TokenResponse, Refusal>> {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
    }

    async fn token(&self, form: &[(&str, &str)]) -> anyhow::Result<Result<TokenResponse, Refusal>> {
        let secret = self.client_secret.as_deref();
        let request = self.http.post(format!("{}/token", self.issuer)).basic_auth(&self.client_id, secret);
        let answer = request.form(form).send().await.context("token endpoint")?;
        let status = answer.status();
        if status.is_success() {
            return Ok(Ok(answer.json().await.context("token response")?));
        }
        let body: Value = answer.json().await.context("error response")?;
        let error = body["error"].as_str().unwrap_or_default().to_owned();
        Ok(Err(Refusal { status: status.as_u16(), error }))
    }
}

/// Whether two issuers are the same but for a slash at the end.
fn same(one: &str, other: &str) -> bool {
    match (Url::parse(one), Url::parse(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn random<const N: usize>() -> String {
    service::secret::random_token::<N>()
}
