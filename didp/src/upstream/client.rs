//! The HTTP client towards providers: time limits, size limits, no redirects. What is asked and what the answers mean is
//! left to the provider modules.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse, reqwest};

use super::UpstreamError;

/// No provider needs longer for an answer that a person waits for.
const TIMEOUT: Duration = Duration::from_secs(6);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Larger than any discovery document, key set, token or user answer in use.
const MAX_BODY: usize = 256 * 1024;

/// A client for one provider.
#[derive(Clone)]
pub(super) struct Client(reqwest::Client);

/// Why a request got no usable answer. Carries no part of the request or the answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Not reachable, or not in time.
    #[error("request failed")]
    Request(#[from] reqwest::Error),
    /// The answer is larger than [`MAX_BODY`].
    #[error("answer too large")]
    TooLarge,
    /// The answer's head cannot be represented.
    #[error("malformed answer")]
    Malformed(#[from] http::Error),
}

impl Client {
    /// A client that speaks `http` only if it was allowed.
    pub(super) fn new(allow_http: bool) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirect could lead the request, and the client secret in it, to another party.
            .redirect(reqwest::redirect::Policy::none())
            .https_only(!allow_http)
            .no_proxy()
            .user_agent("oauthing-didp")
            .build()?;
        Ok(Client(client))
    }

    /// A GET with a bearer token, answered by JSON.
    pub(super) async fn get_json(
        &self,
        url: url::Url,
        token: &str,
    ) -> Result<serde_json::Value, UpstreamError> {
        let request = self
            .0
            .get(url)
            .bearer_auth(token)
            .header(http::header::ACCEPT, "application/json")
            .build()
            .map_err(|_| UpstreamError::Away("user endpoint"))?;
        let response = self.send(request).await.map_err(|_| UpstreamError::Away("user endpoint"))?;
        if response.status() != http::StatusCode::OK {
            return Err(UpstreamError::Away("user endpoint"));
        }
        serde_json::from_slice(response.body()).map_err(|_| UpstreamError::Away("user endpoint"))
    }

    async fn send(&self, request: reqwest::Request) -> Result<HttpResponse, ClientError> {
        let mut response = self.0.execute(request).await?;
        let mut head = http::Response::builder().status(response.status());
        for (name, value) in response.headers() {
            head = head.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(ClientError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(head.body(body)?)
    }
}

impl<'c> AsyncHttpClient<'c> for Client {
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, ClientError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move { self.send(request.try_into()?).await })
    }
}
