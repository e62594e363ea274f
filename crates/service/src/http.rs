//! HTTP/1.1 over a [`Listener`](crate::net::Listener), with a time limit on headers and a graceful stop.
//!
//! Handlers find the peer's address as `ConnectInfo<SocketAddr>`. Body limits belong to the routes.

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

/// Serves `router` until `shutdown` begins; requests under way are finished.
pub async fn serve(listener: Listener, router: Router, admission: Admission, shutdown: Shutdown) {
    let stop = shutdown.clone();
    accept(listener, admission, shutdown, move |stream, peer| {
        connection(stream, peer, router.clone(), stop.clone())
    })
    .await;
}

/// Serves one connection; upgrades (WebSocket) are possible.
pub async fn connection(stream: Stream, peer: SocketAddr, router: Router, shutdown: Shutdown) {
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request.map(axum::body::Body::new))
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;

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
