//! A sample third-party app, the "Heating Diary": OAuth2 code flow with PKCE, then MQTT over WebSocket in the browser.
//!
//! It is written as any app developer would write it, with the stock `oauth2` crate and mqtt.js, and knows of OAuthing only
//! what `docs/protocol.md` says. Start reading at [`http`], the route table. [`provider`] registers the app and speaks OAuth;
//! [`grants`] holds what was granted and renews it; [`store`] keeps that over a restart. The readings never come here: the
//! page gets them from the gateway (`web/`). There is no login: who this browser belongs to is nobody's business here.

mod cli;
pub mod config;
pub mod grants;
pub mod http;
pub mod provider;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use service::net::{Admission, Listener};
use service::{Clock, Shutdown};

pub use cli::main_with_args;
pub use config::Config;

use grants::Grants;
use http::App;
use provider::Provider;
use store::Store;

/// Connections at once, in all and from one address.
const CONNECTIONS: (usize, usize) = (1024, 256);

/// How long requests may take to end after the stop began.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves the app on `listener` until `shutdown` begins. Registers it at the DIdP in the background.
///
/// # Errors
/// The data directory cannot be read or made.
pub async fn run(
    config: Config,
    listener: Listener,
    clock: Clock,
    shutdown: Shutdown,
) -> Result<(), store::StoreError> {
    let store = Arc::new(Store::open(&config.directory)?);
    let provider = Arc::new(Provider::new(&config, Arc::clone(&store))?);
    let grants = Arc::new(Grants::load(store, Arc::clone(&provider), clock)?);
    let registering = Arc::clone(&provider);
    let stop = shutdown.clone();
    shutdown.spawn(async move { registering.keep_registered(&stop).await });
    let router = http::router(App::new(config, provider, grants));
    let admission = Admission::new(CONNECTIONS.0, CONNECTIONS.1);
    service::http::serve(listener, router, admission, shutdown.clone()).await;
    if !shutdown.drain(DRAIN).await {
        tracing::warn!(event = "drain_incomplete");
    }
    Ok(())
}
