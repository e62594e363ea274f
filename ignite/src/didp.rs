//! One DIdP as this gateway asks it: introspection (RFC 7662), an owner's grants. Its events are `events`'.
//!
//! Every request has a time limit and a bounded answer, follows no redirect and takes no proxy from the environment: it
//! carries tokens. Nothing is cached: what an answer means for whom is the callers' business.

pub(crate) mod events;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use oauth_wire::{ActiveToken, GrantList, Introspection};
use reqwest::header::HeaderName;
use reqwest::{Certificate, Client, ClientBuilder, Identity, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;
use service::spans;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use url::Url;
use zeroize::Zeroizing;

use crate::config::{DidpConfig, Limits};

const TRACEPARENT: HeaderName = HeaderName::from_static(spans::HEADER);

/// Longest answer: an owner with thousands of grants.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// One DIdP.
pub(crate) struct Didp {
    pub(crate) issuer: String,
    resource: String,
    /// One for the main thread and one for each that serves connections: an answer wakes the thread that asked, and no other.
    clients: Vec<Client>,
    introspect: Url,
    grants: Url,
    events: Url,
    client_id: String,
    secret: Zeroizing<String>,
    request_limit: Duration,
    /// Newcomers' questions at once: a flood of CONNECTs does not become one at the DIdP.
    places: Semaphore,
    /// `seq` of the last event that was dealt with.
    seen: AtomicI64,
    /// The event stream is up: revocations come by themselves.
    listening: AtomicBool,
}

/// A DIdP that cannot be reached, or answers what it may not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unavailable {
    #[error("request failed: {0}")]
    Request(#[from] reqwest::Error),
    #[error("too many questions at once")]
    Busy,
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("answer is too long")]
    TooLong,
    #[error("answer cannot be read")]
    Malformed,
    #[error("answer is for issuer or audience of somebody else")]
    Foreign,
}

impl Didp {
    /// Reads secrets and certificates; connects nowhere.
    ///
    /// # Errors
    /// A file that cannot be used, a URL that is none.
    pub(crate) fn new(
        config: &DidpConfig,
        resource: &str,
        limits: &Limits,
        threads: usize,
    ) -> anyhow::Result<Self> {
        let request_limit = Duration::from_secs(limits.didp_seconds);
        let authorities = match &config.ca_file {
            Some(file) => {
                let pem = std::fs::read(file).with_context(|| format!("ca_file {}", file.display()))?;
                Certificate::from_pem_bundle(&pem)?
            }
            None => Vec::new(),
        };
        let identity = match &config.client_cert_file {
            Some(file) => {
                let named = || format!("client_cert_file {}", file.display());
                let pem = Zeroizing::new(std::fs::read(file).with_context(named)?);
                Some(Identity::from_pem(&pem).with_context(named)?)
            }
            None => None,
        };
        let client = || {
            let client = Client::builder()
                .redirect(redirect::Policy::none())
                .no_proxy()
                .connect_timeout(request_limit)
                .user_agent("oauthing-ignite");
            let client = authorities.iter().cloned().fold(client, ClientBuilder::add_root_certificate);
            identity.iter().cloned().fold(client, ClientBuilder::identity).build()
        };
        let secret = &config.client_secret_file;
        Ok(Self {
            issuer: config.issuer.clone(),
            resource: resource.to_owned(),
            clients: (0..=threads).map(|_| client()).collect::<Result<_, _>>()?,
            introspect: config.endpoint("introspect").context("introspection URL")?,
            grants: config.endpoint("introspect/grants").context("introspection URL")?,
            events: config.endpoint("introspect/events").context("introspection URL")?,
            client_id: form_encoded(config.client_id.get_ref()),
            secret: Zeroizing::new(form_encoded(
                &service::secret::read_secret(secret)
                    .with_context(|| format!("client secret file {}", secret.display()))?,
            )),
            request_limit,
            places: Semaphore::new(limits.didp_requests),
            seen: AtomicI64::new(0),
            listening: AtomicBool::new(false),
        })
    }

    /// A place among those who ask on behalf of newcomers. Checks of running sessions need none: a flood of CONNECTs must
    /// not keep a revocation waiting.
    ///
    /// # Errors
    /// [`Unavailable::Busy`] if none becomes free in time.
    pub(crate) async fn place(&self) -> Result<SemaphorePermit<'_>, Unavailable> {
        let waiting = timeout(self.request_limit, self.places.acquire()).await;
        waiting.ok().and_then(Result::ok).ok_or(Unavailable::Busy)
    }

    /// Asks about a token; `None` if it may not be used here.
    ///
    /// # Errors
    /// [`Unavailable`]: nothing is known about the token.
    pub(crate) async fn introspect(&self, token: &str) -> Result<Option<ActiveToken>, Unavailable> {
        let begun = Instant::now();
        let form = [("token", token)];
        let answer: Introspection = spans::call("introspect", self.post(&self.introspect, &form)).await?;
        service::metrics::timed("ignite_introspection_duration_seconds", begun);
        match answer.active() {
            None => Ok(None),
            Some(active) if active.iss == self.issuer && active.aud == self.resource => Ok(Some(active)),
            // An issuer speaks for itself alone, and a token for another gateway is `active: false`.
            Some(_) => Err(Unavailable::Foreign),
        }
    }

    /// Every current grant of one owner.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub(crate) async fn grants(&self, sub: &str) -> Result<GrantList, Unavailable> {
        let list: GrantList = spans::call("grants", self.post(&self.grants, &[("sub", sub)])).await?;
        if list.sub == sub { Ok(list) } else { Err(Unavailable::Foreign) }
    }

    fn client(&self) -> &Client {
        let number = service::workers::number().map_or(0, |number| number + 1);
        &self.clients[number % self.clients.len()]
    }

    /// `seq` of the last event that was dealt with.
    pub(crate) fn seen(&self) -> i64 {
        self.seen.load(Ordering::Acquire)
    }

    /// True while events come in.
    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    async fn post<T: DeserializeOwned>(&self, url: &Url, form: &[(&str, &str)]) -> Result<T, Unavailable> {
        let request = || {
            self.client()
                .post(url.clone())
                .basic_auth(&self.client_id, Some(self.secret.as_str()))
                .header(reqwest::header::ACCEPT, "application/json")
                .headers(spans::traceparent().map(|place| (TRACEPARENT, place)).into_iter().collect())
                .form(form)
                .timeout(self.request_limit)
                .send()
        };
        let response = match request().await {
            // A kept connection that the DIdP closed meanwhile; asking twice does no harm.
            Err(error) if !error.is_timeout() => request().await,
            answered => answered,
        };
        // The error's URL has no secret in it, but says nothing that the log does not have either.
        let response = response.map_err(reqwest::Error::without_url)?;
        if response.status() != StatusCode::OK {
            return Err(Unavailable::Status(response.status()));
        }
        serde_json::from_slice(&bounded(response).await?).map_err(|_| Unavailable::Malformed)
    }
}

async fn bounded(mut response: Response) -> Result<Zeroizing<Vec<u8>>, Unavailable> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err(Unavailable::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Client id and secret are form-encoded before they go into a Basic header (RFC 6749 §2.3.1).
fn form_encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
