//! HTTP/1.1 over a [`Listener`](crate::net::Listener), with time limits on headers and on answers that nobody takes, and a graceful
//! stop.
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
use crate::taking::Taking;

/// Time in which a request's headers must have come.
pub const HEADERS: Duration = Duration::from_secs(10);
/// Time in which a peer must take something of what waits for it, also after an upgrade.
const TAKES: Duration = Duration::from_secs(60);

/// How long a peer is waited for.
#[derive(Clone, Copy)]
struct Patience {
    headers: Duration,
    takes: Duration,
}

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
    let patience = Patience { headers, takes: TAKES };
    let stop = shutdown.clone();
    accept(listener, admission, shutdown, move |stream, peer| {
        connection_within(patience, stream, peer, router.clone(), stop.clone())
    })
    .await;
}

/// Serves one connection; upgrades (WebSocket) are possible.
pub async fn connection(stream: Stream, peer: SocketAddr, router: Router, shutdown: Shutdown) {
    let patience = Patience { headers: HEADERS, takes: TAKES };
    connection_within(patience, stream, peer, router, shutdown).await;
}

async fn connection_within(
    patience: Patience,
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
        .header_read_timeout(patience.headers)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(Taking::within(patience.takes, stream)), service)
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
    /// Whoever asks and does not read is not waited for longer than that, and the place is free again.
    #[tokio::test]
    async fn an_answer_that_nobody_takes_is_given_up() {
        const MUCH: usize = 64 << 20;
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let router = Router::new().route("/", get(|| async { vec![b'x'; MUCH] }));
        let patience = Patience { headers: HEADERS, takes: Duration::from_millis(300) };
        let (stop, admission) = (shutdown.clone(), Admission::new(1, 1));
        let serving = accept(listener, admission.clone(), shutdown.clone(), move |stream, peer| {
            connection_within(patience, stream, peer, router.clone(), stop.clone())
        });
        tokio::spawn(serving);
        let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        silent.readable().await.unwrap();
        assert!(admission.admit(address.ip()).is_none());
        let free = async {
            while admission.admit(address.ip()).is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), free).await.expect("the place is free again");
        let mut taken = Vec::new();
        let _broken = silent.read_to_end(&mut taken).await;
        assert!(taken.len() < MUCH, "{}", taken.len());
        // Whoever reads gets all of it, however long that takes as a whole.
        assert_eq!(
            reqwest::get(format!("http://{address}/")).await.unwrap().bytes().await.unwrap().len(),
            MUCH
        );
    }
}
