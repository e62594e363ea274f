//! The device identity provider (DIdP): an OAuth2 authorization server and identity broker for devices.
//!
//! Two doorways, [`http`] and MQTT, lead to the same [`flows`]; the flows decide, the [`store`] keeps. What happens by the
//! passing of time alone is the [`sweeper`]'s. The DIdP never sees device data and keeps nothing that identifies a person.

mod audit;
mod cli;
pub mod config;
pub mod flows;
pub mod hashing;
pub mod http;
pub mod hub;
pub mod keys;
mod mqtt;
pub mod peers;
mod pins;
pub mod registry;
#[cfg(test)]
mod sample;
pub mod state;
pub mod store;
pub mod sweeper;
pub mod throttle;
pub mod upstream;

use std::time::Duration;

use service::net::{Admission, Listener, accept};
use service::{Clock, Shutdown};

pub use cli::main_with_args;
pub use config::Config;
use state::App;

/// Bound listeners; a missing one is off.
#[derive(Default)]
pub struct Listeners {
    /// Pages and API.
    pub http: Option<Listener>,
    /// Pages and API over TLS.
    pub https: Option<Listener>,
    /// MQTT over TCP.
    pub mqtt: Option<Listener>,
    /// MQTT over TLS.
    pub mqtts: Option<Listener>,
    /// Metrics.
    pub metrics: Option<Listener>,
}

/// Serves until `shutdown` begins, then drains and answers.
///
/// # Errors
/// What the configuration names cannot be opened.
pub async fn run(
    config: Config,
    listeners: Listeners,
    clock: Clock,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let app = App::open(config, clock, shutdown).await?;
    anyhow::ensure!(
        app.home_gateway().is_some(),
        "a gateway is needed, because every token names its audience: [[gateway]], or `didp gateway add`"
    );
    if let Some(settings) = &app.config.admin {
        let listener = http::admin::Listener::bind(settings).await?;
        let routes = http::admin::routes(app.clone(), state::AdminToken::read(&settings.token_file)?);
        app.shutdown.spawn(listener.serve(routes, app.shutdown.clone()));
    }
    serve(app, listeners).await;
    Ok(())
}

/// [`run`] with a state that is open already.
pub async fn serve(app: App, listeners: Listeners) {
    let shutdown = app.shutdown.clone();
    let limits = app.config.limits.clone();
    let admission = || Admission::new(limits.connections, limits.connections_per_address);
    // Before anybody can connect: what is open afterwards has a connection that serves it.
    if let Err(refusal) = flows::claim::end_unserved(&app, app.peers.replica).await {
        refusal.log("claims_not_ended");
    }
    let proxies = app.config.clone();
    let behind_proxies = admission().without_limit_for(move |address| proxies.is_trusted_proxy(address));
    let sweeping = tokio::spawn(sweeper::run(app.clone()));
    let meeting = tokio::spawn(peers::run(app.clone()));
    app.shutdown.spawn(registry::watch(app.clone()));
    let mut accepting = tokio::task::JoinSet::new();
    for listener in [listeners.http, listeners.https].into_iter().flatten() {
        accepting.spawn(service::http::serve_within(
            Duration::from_secs(limits.http_head),
            listener,
            http::routes(app.clone()),
            behind_proxies.clone(),
            shutdown.clone(),
        ));
    }
    if let Some(listener) = listeners.metrics {
        let shutdown = shutdown.clone();
        accepting.spawn(async move {
            if let Err(error) = service::metrics::serve(listener, shutdown, || async {}).await {
                tracing::error!(event = "metrics_failed", %error);
            }
        });
    }
    for listener in [listeners.mqtt, listeners.mqtts].into_iter().flatten() {
        let app = app.clone();
        accepting.spawn(accept(listener, admission(), shutdown.clone(), move |stream, peer| {
            mqtt::serve(app.clone(), stream, peer)
        }));
    }
    tracing::info!(event = "serving", issuer = app.issuer_text());
    shutdown.begun().await;
    accepting.join_all().await;
    if !shutdown.drain(Duration::from_secs(limits.drain)).await {
        tracing::warn!(event = "drain_deadline", "connections were cut");
    }
    for (task, name) in [(sweeping, "sweeper"), (meeting, "peers")] {
        if let Err(error) = task.await {
            tracing::error!(event = "task_failed", name, %error);
        }
    }
    peers::leave(&app).await;
    app.store.close().await;
    tracing::info!(event = "stopped");
}
