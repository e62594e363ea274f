//! HTTP/1.1 over a [`Listener`](crate::net::Listener), with a time limit on headers and a graceful stop.
//!
//! Handlers find the peer's address as `ConnectInfo<SocketAddr>`, and [`Proven`]. Body limits belong to the routes.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use tower::ServiceExt as _;

use crate::Shutdown;
use crate::net::{Admission, Listener, Stream, accept};

/// Time in which a request's headers must have come.
pub const HEADERS: Duration = Duration::from_secs(10);

/// Whether the peer proved a certificate that the listener asked for (see [`Stream::is_proven`]); an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven(pub bool);

/// Serves `router` until `shutdown` begins; requests under way are finished.
pub async fn serve(listener: Listener, router: Router, admission: Admission, shutdown: Shutdown) {
    serve_within(HEADERS, listener, router, admission, shutdown).await;
}

/// As [`serve`], with another time for a request's headers than [`HEADERS`].
pub async fn serve_within(
    headers: Duration,
    listener: Listener,
    router: Router,
    admission: Admission,
    shutdown: Shutdown,
) {
    let router = router.layer(axum::middleware::from_fn(crate::metrics::observe));
    let stop = shutdown.clone();
    accept(listener, admission, shutdown, move |stream, peer| {
        connection_within(headers, stream, peer, router.clone(), stop.clone())
    })
    .await;
}

/// Serves one connection; upgrades (WebSocket) are possible.
pub async fn connection(stream: Stream, peer: SocketAddr, router: Router, shutdown: Shutdown) {
    connection_within(HEADERS, stream, peer, router, shutdown).await;
}

async fn connection_within(
    headers: Duration,
    stream: Stream,
    peer: SocketAddr,
    router: Router,
    shutdown: Shutdown,
) {
    let proven = Proven(stream.is_proven());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(proven);
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(headers)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.begun() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(event = "http_connection_ended", %error);
    }
}

/// True if a browser says that a request came from a page of the server's own: `Sec-Fetch-Site` is
/// `same-origin`, or, from an older browser, host and port of `Origin` are those of `Host`. Without either header: false.
pub fn is_same_origin(headers: &http::HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), _, _) => site == "same-origin",
        (None, Some(origin), Some(host)) => origin.split_once("://").is_some_and(|(_, from)| from == host),
        (None, _, _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;

    #[test]
    fn whose_page_a_request_came_from() {
        let same = |pairs: &[(&'static str, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
            });
            is_same_origin(&headers.collect())
        };
        assert!(same(&[("sec-fetch-site", "same-origin")]));
        assert!(same(&[("origin", "http://a.localhost:8096"), ("host", "a.localhost:8096")]));
        assert!(!same(&[("sec-fetch-site", "same-site"), ("origin", "http://a:1"), ("host", "a:1")]));
        assert!(!same(&[("origin", "http://a.localhost:8095"), ("host", "a.localhost:8096")]));
        assert!(!same(&[("origin", "null"), ("host", "a")]) && !same(&[("host", "a")]));
    }

    #[tokio::test]
    async fn serves_and_stops() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let router = Router::new().route(
            "/",
            get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }),
        );
        let server = tokio::spawn(serve(listener, router, Admission::new(8, 8), shutdown.clone()));
        let body = reqwest::get(format!("http://{address}/")).await.unwrap().text().await.unwrap();
        assert_eq!(body, "127.0.0.1");
        shutdown.begin();
        server.await.unwrap();
        assert!(shutdown.drain(Duration::from_secs(5)).await);
        assert!(reqwest::get(format!("http://{address}/")).await.is_err());
    }
}
