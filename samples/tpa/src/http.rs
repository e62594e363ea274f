//! The route table, what all routes share, and the headers of every answer. One file below for each group of routes.

mod access;
mod assets;
mod browser;
mod flow;
mod pages;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

use crate::Config;
use crate::grants::Grants;
use crate::provider::{Gateway, Provider};

/// Longest request body, in bytes. The app takes one short JSON object and one empty form.
const LONGEST_BODY: usize = 4 * 1024;

/// Limit for one request; a renewal at the DIdP fits twice.
const TIMEOUT: Duration = Duration::from_secs(25);

/// What handlers share. Clones are the same.
#[derive(Clone)]
pub struct App {
    config: Arc<Config>,
    provider: Arc<Provider>,
    grants: Arc<Grants>,
}

impl App {
    /// Puts the parts together.
    pub fn new(config: Config, provider: Arc<Provider>, grants: Arc<Grants>) -> Self {
        Self { config: Arc::new(config), provider, grants }
    }
}

/// Every route of the app.
pub fn router(app: App) -> Router {
    let fixed = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    Router::new()
        .route("/", get(pages::landing))
        .route("/diary", get(pages::diary))
        .route("/connect", get(flow::connect))
        .route("/callback", get(flow::callback))
        .route("/disconnect", post(flow::disconnect))
        .route("/api/token", post(access::token))
        .route("/assets/{name}", get(assets::asset))
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(pages::not_found)
        .layer(fixed(header::CACHE_CONTROL, "no-store"))
        .layer(fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(fixed(header::REFERRER_POLICY, "same-origin"))
        .layer(fixed(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"))
        .layer(fixed(HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
        .layer(RequestBodyLimitLayer::new(LONGEST_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
        .layer(CatchPanicLayer::new())
        .with_state(app)
}

/// The policy of a page: everything from here, connections to the owner's gateway only.
fn content_security_policy(gateway: Option<&Gateway>) -> String {
    let origin = |url: &url::Url| {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
    };
    let gateway = gateway
        .map(|gateway| format!(" {} {}", origin(&gateway.websocket), origin(&gateway.http)))
        .unwrap_or_default();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'{gateway}; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_names_the_gateway_and_nobody_else() {
        let gateway = Gateway {
            http: "http://ignite.localhost:8083".parse().unwrap(),
            websocket: "ws://ignite.localhost:8083/mqtt".parse().unwrap(),
        };
        let policy = content_security_policy(Some(&gateway));
        assert!(
            policy.contains("connect-src 'self' ws://ignite.localhost:8083 http://ignite.localhost:8083; "),
            "{policy}"
        );
        assert!(content_security_policy(None).contains("connect-src 'self'; "));
    }
}
