//! Plain OAuth2 providers, GitHub-style: code flow with PKCE, then one question to a user endpoint. Of its answer only the
//! configured subject field is looked at.

use oauth2::basic::{BasicClient, BasicRequestTokenError, BasicTokenResponse};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope, TokenResponse as _, TokenUrl,
};
use url::Url;

use super::client::{Client, ClientError};
use super::settings::{ClientAuth, Settings};
use super::{Pending, Person, UpstreamError};

type OAuth2Client = BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// A plain OAuth2 provider.
pub(super) struct Provider {
    http: Client,
    client: OAuth2Client,
    scopes: Vec<Scope>,
    user_endpoint: Url,
    subject_field: String,
    issuer: String,
    /// Whether the operator named the issuer; if so, an `iss` in the callback must be it.
    named: bool,
}

impl Provider {
    /// A provider by its (checked) settings.
    pub(super) fn new(settings: &Settings, redirect: Url) -> anyhow::Result<Self> {
        let endpoint = |url: &Option<Url>| {
            url.clone().ok_or_else(|| anyhow::anyhow!("upstream {:?}: an endpoint is missing", settings.id))
        };
        let authorization = endpoint(&settings.authorization_endpoint)?;
        let issuer = settings.namespace().unwrap_or_default();
        let mut client = BasicClient::new(ClientId::new(settings.client_id.clone()))
            .set_auth_uri(AuthUrl::from_url(authorization))
            .set_token_uri(TokenUrl::from_url(endpoint(&settings.token_endpoint)?))
            .set_redirect_uri(RedirectUrl::from_url(redirect))
            .set_auth_type(match settings.client_auth {
                ClientAuth::Basic => AuthType::BasicAuth,
                ClientAuth::Post => AuthType::RequestBody,
            });
        if let Some(secret) = settings.client_secret()? {
            client = client.set_client_secret(ClientSecret::new(secret));
        }
        Ok(Provider {
            http: Client::new(settings.allows_http())?,
            client,
            scopes: settings.scopes.iter().cloned().map(Scope::new).collect(),
            user_endpoint: endpoint(&settings.user_endpoint)?,
            subject_field: settings.subject_field.clone(),
            issuer,
            named: settings.issuer.is_some(),
        })
    }

    pub(super) fn begin(&self, id: &str, next: &str, now: i64) -> (Url, Pending) {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, state) = self
            .client
            .authorize_url(CsrfToken::new_random)
            .add_scopes(self.scopes.iter().cloned())
            .set_pkce_challenge(challenge)
            .url();
        (url, Pending::new(id, state.secret(), "", verifier.secret(), next, now))
    }

    /// Compares the callback's `iss`, where both the provider and the operator name one (RFC 9207 §2.4). Plain OAuth2 providers
    /// announce nothing, so an absent one is fine: the redirect URI is this provider's own.
    pub(super) fn check_issuer(&self, iss: Option<&str>) -> Result<(), UpstreamError> {
        match iss {
            Some(iss) if self.named && iss != self.issuer => {
                Err(UpstreamError::Refused("iss of another provider"))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn finish(&self, code: &str, pending: &Pending) -> Result<Person, UpstreamError> {
        let answer: Result<BasicTokenResponse, BasicRequestTokenError<ClientError>> = self
            .client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(pending.verifier().to_owned()))
            .request_async(&self.http)
            .await;
        let token = answer.map_err(|error| match error {
            // GitHub answers errors with status 200, which then does not parse as a token.
            BasicRequestTokenError::<ClientError>::ServerResponse(_)
            | BasicRequestTokenError::<ClientError>::Parse(..) => {
                UpstreamError::Refused("the provider refused the code")
            }
            _ => UpstreamError::Away("token endpoint"),
        })?;
        let user =
            self.http.get_json(self.user_endpoint.clone(), token.access_token().secret().as_str()).await?;
        let subject = match user.get(&self.subject_field) {
            Some(serde_json::Value::String(subject)) => subject.clone(),
            // A float could name two people alike; providers count in integers.
            Some(serde_json::Value::Number(number)) if number.is_u64() || number.is_i64() => {
                number.to_string()
            }
            _ => return Err(UpstreamError::Refused("no subject in the user endpoint's answer")),
        };
        Ok(Person { issuer: self.issuer.clone(), subject })
    }
}
