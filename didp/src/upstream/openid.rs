//! OpenID providers, found by their issuer URL: discovery at the first login (kept for an hour), code flow with PKCE, state
//! and nonce, and an ID token whose signature, issuer, audience, times and nonce all hold (OpenID Connect Core §3.1.3.7).
//! The provider's keys are fetched anew once when a token names one that is not known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthenticationFlow, CoreClaimName, CoreClaimType, CoreClient, CoreClientAuthMethod,
    CoreGrantType, CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKey, CoreJsonWebKeySet,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm,
    CoreRequestTokenError, CoreResponseMode, CoreResponseType, CoreSubjectIdentifierType,
};
use openidconnect::{
    AdditionalProviderMetadata, AuthType, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret,
    CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl, Nonce, PkceCodeChallenge,
    PkceCodeVerifier, ProviderMetadata, RedirectUrl, Scope, SignatureVerificationError, TokenResponse as _,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use url::Url;

use super::client::{Client, ClientError};
use super::settings::{ClientAuth, Settings};
use super::{Pending, Person, UpstreamError};

/// How long a discovery document is used.
const FRESH: Duration = Duration::from_secs(3600);
/// Attempts at discovery while a person waits, and the pause before the second; it doubles.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(150);
/// A whole discovery with its attempts.
const DISCOVERY_LIMIT: Duration = Duration::from_secs(10);
/// How long a failed discovery is not tried again, in seconds: those who come meanwhile are answered at once.
const AGAIN: i64 = 5;
/// How far the provider's clock may be from ours, in seconds.
const SKEW: i64 = 60;

/// Signed by the provider's private key, never by a secret that we share with it, and never unsigned.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// What RFC 9207 §3 adds to a provider's metadata.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct NamesItself {
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for NamesItself {}

type Metadata = ProviderMetadata<
    NamesItself,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

type DiscoveredClient = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// What discovery found, with the newest keys.
#[derive(Clone)]
struct Discovered {
    metadata: Arc<Metadata>,
    keys: CoreJsonWebKeySet,
    at: Instant,
    keys_at: Instant,
}

/// An OpenID provider.
pub(super) struct Provider {
    http: Client,
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: Option<ClientSecret>,
    auth_type: AuthType,
    redirect: RedirectUrl,
    scopes: Vec<Scope>,
    /// Held over a discovery, so that many logins at once make one.
    discovered: Mutex<Known>,
}

/// What was found, and when it was last not found, Unix seconds.
#[derive(Default)]
struct Known {
    found: Option<Discovered>,
    failed_at: Option<i64>,
}

impl Provider {
    /// A provider by its (checked) settings.
    pub(super) fn new(settings: &Settings, redirect: Url) -> anyhow::Result<Self> {
        let issuer = settings.issuer.clone().unwrap_or_default();
        Ok(Provider {
            http: Client::new(settings.allows_http())?,
            issuer: IssuerUrl::new(issuer)?,
            client_id: ClientId::new(settings.client_id.clone()),
            client_secret: settings.client_secret()?.map(ClientSecret::new),
            auth_type: match settings.client_auth {
                ClientAuth::Basic => AuthType::BasicAuth,
                ClientAuth::Post => AuthType::RequestBody,
            },
            redirect: RedirectUrl::from_url(redirect),
            scopes: settings
                .scopes
                .iter()
                .filter(|scope| *scope != "openid")
                .cloned()
                .map(Scope::new)
                .collect(),
            discovered: Mutex::default(),
        })
    }

    pub(super) async fn begin(
        &self,
        id: &str,
        next: &str,
        now: i64,
    ) -> Result<(Url, Pending), UpstreamError> {
        let discovered = self.discovered(now).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, state, nonce) = self
            .client(&discovered)
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .add_scopes(self.scopes.iter().cloned())
            .set_pkce_challenge(challenge)
            .url();
        Ok((url, Pending::new(id, state.secret(), nonce.secret(), verifier.secret(), next, now)))
    }

    /// Compares the callback's `iss` (RFC 9207 §2.4): it must be there if the provider announced it, and right if it is there.
    pub(super) async fn check_issuer(&self, iss: Option<&str>, now: i64) -> Result<(), UpstreamError> {
        match iss {
            Some(iss) if iss == self.issuer.as_str() => Ok(()),
            Some(_) => Err(UpstreamError::Refused("iss of another provider")),
            None => {
                let announced = self.discovered(now).await?.metadata.additional_metadata().clone();
                if announced.authorization_response_iss_parameter_supported {
                    return Err(UpstreamError::Refused("no iss, though the provider announced it"));
                }
                Ok(())
            }
        }
    }

    pub(super) async fn finish(
        &self,
        code: &str,
        pending: &Pending,
        now: i64,
    ) -> Result<Person, UpstreamError> {
        let discovered = self.discovered(now).await?;
        let answer = self
            .client(&discovered)
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|_| UpstreamError::Away("no token endpoint in discovery"))?
            .set_pkce_verifier(PkceCodeVerifier::new(pending.verifier().to_owned()))
            .request_async(&self.http)
            .await
            .map_err(|error: CoreRequestTokenError<ClientError>| match error {
                CoreRequestTokenError::<ClientError>::ServerResponse(_) => {
                    UpstreamError::Refused("the provider refused the code")
                }
                CoreRequestTokenError::<ClientError>::Parse(..) => {
                    UpstreamError::Refused("no readable token answer")
                }
                _ => UpstreamError::Away("token endpoint"),
            })?;
        let token = answer.id_token().ok_or(UpstreamError::Refused("no ID token"))?;
        let nonce = Nonce::new(pending.nonce().to_owned());
        let subject = match self.subject(token, &discovered.keys, &nonce, now) {
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                let keys = self.newer_keys(&discovered).await?;
                self.subject(token, &keys, &nonce, now)
            }
            other => other,
        };
        let subject = subject.map_err(|error| UpstreamError::Refused(reason(&error)))?;
        Ok(Person { issuer: self.issuer.to_string(), subject })
    }

    /// The subject of an ID token in which everything holds.
    fn subject(
        &self,
        token: &CoreIdToken,
        keys: &CoreJsonWebKeySet,
        nonce: &Nonce,
        now: i64,
    ) -> Result<String, ClaimsVerificationError> {
        // A public client's verifier has no shared secret to try, whatever the token's header claims.
        let verifier =
            CoreIdTokenVerifier::new_public_client(self.client_id.clone(), self.issuer.clone(), keys.clone())
                .set_allowed_algs(ALGORITHMS)
                .set_time_fn(move || utc(now - SKEW))
                .set_issue_time_verifier_fn(move |issued| {
                    if issued <= utc(now + SKEW) { Ok(()) } else { Err("issued in the future".to_owned()) }
                });
        let claims = token.claims(&verifier, nonce)?;
        if claims.authorized_party().is_some_and(|party| *party != self.client_id) {
            return Err(ClaimsVerificationError::InvalidAudience("issued to another party".to_owned()));
        }
        Ok(claims.subject().to_string())
    }

    fn client(&self, discovered: &Discovered) -> DiscoveredClient {
        CoreClient::from_provider_metadata(
            (*discovered.metadata).clone(),
            self.client_id.clone(),
            self.client_secret.clone(),
        )
        .set_auth_type(self.auth_type.clone())
        .set_redirect_uri(self.redirect.clone())
    }

    /// What is known of the provider, asking it if that is nothing or old. An old answer is better than none.
    /// Nobody waits longer than one discovery may take, and after a failed one nobody waits at all for a while: so a provider
    /// that is away holds up neither those who come later nor the connections of those who gave up.
    async fn discovered(&self, now: i64) -> Result<Discovered, UpstreamError> {
        let mut slot = tokio::time::timeout(DISCOVERY_LIMIT, self.discovered.lock())
            .await
            .map_err(|_| UpstreamError::Away("discovery"))?;
        if let Some(known) = &slot.found
            && known.at.elapsed() < FRESH
        {
            return Ok(known.clone());
        }
        // Those who waited for the failed attempts began before it.
        let failed_just_now = slot.failed_at.is_some_and(|at| (at - 60..at + AGAIN).contains(&now));
        if !failed_just_now {
            let begun = Instant::now();
            match tokio::time::timeout(DISCOVERY_LIMIT, self.discover()).await.ok().flatten() {
                Some(found) => *slot = Known { found: Some(found), failed_at: None },
                None => {
                    let took = i64::try_from(begun.elapsed().as_secs()).unwrap_or_default();
                    slot.failed_at = Some(now + took);
                }
            }
        }
        slot.found.clone().ok_or(UpstreamError::Away("discovery"))
    }

    async fn discover(&self) -> Option<Discovered> {
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            match Metadata::discover_async(self.issuer.clone(), &self.http).await {
                Ok(metadata) => {
                    let keys = metadata.jwks().clone();
                    let now = Instant::now();
                    return Some(Discovered { metadata: Arc::new(metadata), keys, at: now, keys_at: now });
                }
                Err(error) => {
                    tracing::warn!(event = "discovery_failed", issuer = self.issuer.as_str(), attempt, %error);
                }
            }
            if attempt < ATTEMPTS {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
        None
    }

    /// The provider's keys as they are now, fetched by us unless another login just did. Only the provider itself can cause
    /// this, through a token that it answered with; so once a login is limit enough.
    async fn newer_keys(&self, seen: &Discovered) -> Result<CoreJsonWebKeySet, UpstreamError> {
        let mut slot = self.discovered.lock().await;
        let known = slot.found.as_mut().ok_or(UpstreamError::Away("keys"))?;
        if known.keys_at == seen.keys_at {
            let uri = known.metadata.jwks_uri().clone();
            let keys = CoreJsonWebKeySet::fetch_async(&uri, &self.http)
                .await
                .map_err(|_| UpstreamError::Away("keys"))?;
            known.keys = keys;
            known.keys_at = Instant::now();
        }
        Ok(known.keys.clone())
    }
}

/// The kind of a failed verification, without any of the token's content.
fn reason(error: &ClaimsVerificationError) -> &'static str {
    match error {
        ClaimsVerificationError::Expired(_) => "ID token expired or from the future",
        ClaimsVerificationError::InvalidAudience(_) => "ID token for another audience",
        ClaimsVerificationError::InvalidIssuer(_) => "ID token of another issuer",
        ClaimsVerificationError::InvalidNonce(_) => "ID token with a wrong nonce",
        ClaimsVerificationError::SignatureVerification(_) => "ID token not signed by the provider",
        _ => "ID token not acceptable",
    }
}

fn utc(unix: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(unix, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
