//! MQTT for devices: a connection-scoped responder, not a router.
//!
//! A CONNECT proves a device's identity; each PUBLISH to a `$oauth/…` topic is a request by that identity, and is answered on
//! the connection that asked. There is no path from one client to another, so there is no access list to get wrong. The
//! handshake is in [`login`], the packets after it in [`session`], what the requests mean in [`requests`].

mod link;
mod login;
mod requests;
mod session;

use std::net::SocketAddr;

use service::net::Stream;

use crate::state::App;
use link::Link;

/// Serves one connection to its end. Nothing that a peer sends can reach further than this connection.
pub(crate) async fn serve(app: App, stream: Stream, peer: SocketAddr) {
    let mut link = Link::new(stream, &app.config.limits);
    // What is done seldom has its place while it is done: a connection that waits keeps none for it.
    let ended = match Box::pin(login::accept(&app, &mut link, peer)).await {
        Ok(accepted) => {
            let _counted = service::metrics::Held::new("didp_mqtt_sessions");
            session::run(&app, &mut link, &accepted).await
        }
        Err(end) => Err(end),
    };
    if let Err(end) = ended {
        tracing::debug!(event = "mqtt_connection_ended", reason = %end);
        link.finish().await;
    }
}

#[cfg(test)]
mod tests {
    use service::{Clock, Shutdown};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A connected device waits nearly all of its time; its task has no room for what it might do.
    #[tokio::test]
    async fn a_connection_that_waits_is_small() {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::sample::config(dir.path(), "http://didp.test", serde_json::json!({}));
        let app = App::open(config, Clock::system(), Shutdown::new()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        let stream = TcpStream::connect(peer).await.unwrap();
        let task = serve(app, Stream::Plain(stream), peer);
        let size = size_of_val(&task);
        assert!(size < 2_048, "{size} bytes");
    }
}
