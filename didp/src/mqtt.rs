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
    let ended = match login::accept(&app, &mut link, peer).await {
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
