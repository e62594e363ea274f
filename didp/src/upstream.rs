//! Upstream identity providers (UIdPs): where owners log in.
//!
//! One file per kind: [`openid`] for any OpenID provider by its issuer URL, [`oauth2`] for plain OAuth2 ones such as GitHub.
//! Both answer a finished login with a [`Person`], the pair of issuer and subject, and with nothing else: whatever a
//! provider tells about a person beside that is dropped here, before anything could store or log it.
//!
//! A login that is under way lives in a signed cookie of the browser that began it ([`pending`]), so that it cannot be
//! finished in another browser and needs no memory here. Turning a [`Person`] into a user, sessions and cookies are
//! left to the flows and the pages.

mod client;
mod oauth2;
mod openid;
pub mod pending;
pub mod settings;

use serde::Deserialize;
use url::Url;

pub use pending::Pending;
pub use settings::Settings;

/// Who logged in, as the provider names them. The identity key is this pair, never an e-mail address.
#[derive(Clone, PartialEq, Eq)]
pub struct Person {
    /// The provider's issuer: for OpenID Connect its issuer URL, for plain OAuth2 the configured stand-in.
    pub issuer: String,
    /// The provider's name for the person, unique within the issuer.
    pub subject: String,
}

impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Person").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// What a provider sends back to `/login/{upstream}/callback` (RFC 6749 §4.1.2, RFC 9207). Duplicated parameters do
/// not deserialize.
#[derive(Deserialize)]
pub struct Callback {
    /// The authorization code.
    pub code: Option<String>,
    /// The state that the login began with.
    pub state: Option<String>,
    /// The issuer, if the provider names itself (RFC 9207).
    pub iss: Option<String>,
    /// The error code of RFC 6749 §4.1.2.1.
    pub error: Option<String>,
}

/// Why a login did not finish.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UpstreamError {
    /// The provider could not be reached, or answered with an error of its own. Trying again later may help.
    #[error("provider is away: {0}")]
    Away(&'static str),
    /// The person said no at the provider.
    #[error("denied at the provider")]
    Denied,
    /// An answer that must not be accepted: a wrong state, issuer, nonce, signature and so on.
    #[error("refused: {0}")]
    Refused(&'static str),
}

/// One configured provider.
pub struct Upstream {
    id: String,
    name: String,
    kind: Kind,
}

enum Kind {
    OpenId(Box<openid::Provider>),
    OAuth2(Box<oauth2::Provider>),
}

impl Upstream {
    /// The path segment of this provider: `/login/{id}`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The name people know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Begins a login. Answers the URL to send the browser to, and what the browser must bring back with it.
    /// `next` is where the person wants to go afterwards; `now` is unix
    /// time in seconds.
    pub async fn begin(&self, next: &str, now: i64) -> Result<(Url, Pending), UpstreamError> {
        match &self.kind {
            Kind::OpenId(provider) => provider.begin(&self.id, next, now).await,
            Kind::OAuth2(provider) => Ok(provider.begin(&self.id, next, now)),
        }
    }

    /// Finishes a login with the provider's answer and the [`Pending`] that this browser kept. The state, the upstream
    /// and the issuer are compared before anything is sent anywhere.
    pub async fn finish(
        &self,
        callback: &Callback,
        pending: &Pending,
        now: i64,
    ) -> Result<Person, UpstreamError> {
        let state = callback.state.as_deref().ok_or(UpstreamError::Refused("no state"))?;
        if !pending.is_for(&self.id, state, now) {
            return Err(UpstreamError::Refused("state of another login"));
        }
        if let Kind::OpenId(provider) = &self.kind {
            provider.check_issuer(callback.iss.as_deref(), now).await?;
        } else if let Kind::OAuth2(provider) = &self.kind {
            provider.check_issuer(callback.iss.as_deref())?;
        }
        match callback.error.as_deref() {
            Some("access_denied") => return Err(UpstreamError::Denied),
            Some(_) => return Err(UpstreamError::Away("the provider reported an error")),
            None => {}
        }
        let code = callback.code.as_deref().ok_or(UpstreamError::Refused("no code"))?;
        let person = match &self.kind {
            Kind::OpenId(provider) => provider.finish(code, pending, now).await?,
            Kind::OAuth2(provider) => provider.finish(code, pending).await?,
        };
        if person.subject.is_empty() || person.subject.len() > 255 {
            return Err(UpstreamError::Refused("subject empty or too long"));
        }
        Ok(person)
    }
}

/// All configured providers, in the order of the configuration.
pub struct Upstreams(Vec<Upstream>);

impl Upstreams {
    /// Builds the providers, reading their client secrets. Nothing is sent yet: discovery happens at the first login.
    /// `public` is the DIdP's own issuer URL, from which the redirect URIs derive.
    pub fn new(settings: &[Settings], public: &Url) -> anyhow::Result<Self> {
        let mut list: Vec<Upstream> = Vec::with_capacity(settings.len());
        for one in settings {
            one.check().map_err(|what| anyhow::anyhow!("upstream {:?}: {what}", one.id))?;
            anyhow::ensure!(
                list.iter().all(|other| other.id != one.id),
                "upstream {:?} is configured twice",
                one.id
            );
            let redirect = public.join(&format!("/login/{}/callback", one.id))?;
            let kind = match one.kind {
                settings::Kind::OpenidConnect => {
                    Kind::OpenId(Box::new(openid::Provider::new(one, redirect)?))
                }
                settings::Kind::Oauth2 => Kind::OAuth2(Box::new(oauth2::Provider::new(one, redirect)?)),
            };
            list.push(Upstream { id: one.id.clone(), name: one.name.clone(), kind });
        }
        Ok(Upstreams(list))
    }

    /// The provider with this path segment.
    pub fn get(&self, id: &str) -> Option<&Upstream> {
        self.0.iter().find(|upstream| upstream.id == id)
    }

    /// The providers, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Upstream> {
        self.0.iter()
    }
}

#[cfg(test)]
pub(crate) mod tests;
