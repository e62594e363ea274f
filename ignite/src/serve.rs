//! Puts the gateway's parts together and runs them on listeners that are already bound.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use service::net::{Admission, Listener, accept};
use service::proxy::Trusted;
use service::{Clock, Shutdown, Workers};
use tokio::sync::Semaphore;

use crate::cause::Cause;
use crate::changes;
use crate::config::Config;
use crate::didp::{Didp, events};
use crate::failures::Failures;
use crate::gateway::Gateway;
use crate::http;
use crate::keys::Keys;
use crate::launcher::client::LauncherClient;
use crate::owners::Owners;
use crate::owners::counted::{self, Last};
use crate::session;

/// The bound listeners; a missing one is off.
#[derive(Default)]
pub struct Listeners {
    /// MQTT, plain or TLS as each listener says.
    pub mqtt: Vec<Listener>,
    /// HTTP API and MQTT over WebSocket, plain or TLS as each listener says.
    pub http: Vec<Listener>,
    /// Metrics.
    pub metrics: Option<Listener>,
}

impl Listeners {
    /// Binds what the configuration names, with its certificate where TLS is wanted.
    ///
    /// # Errors
    /// An address that cannot be bound, a certificate that cannot be used.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let listen = &config.listen;
        let tls = server_tls(config)?;
        let bind = async |address, tls| bind(address, tls, &listen.proxies).await;
        let mut bound = Self::default();
        if let Some(address) = &listen.mqtt {
            bound.mqtt.push(bind(*address.get_ref(), None).await?);
        }
        if let Some(address) = &listen.mqtts {
            bound.mqtt.push(bind(*address.get_ref(), tls.as_ref()).await?);
        }
        if let Some(address) = &listen.http {
            bound.http.push(bind(*address.get_ref(), None).await?);
        }
        if let Some(address) = &listen.https {
            bound.http.push(bind(*address.get_ref(), tls.as_ref()).await?);
        }
        if let Some(address) = &listen.metrics {
            bound.metrics = Some(bind(*address.get_ref(), None).await?);
        }
        Ok(bound)
    }
}

async fn bind(
    address: SocketAddr,
    tls: Option<&Arc<rustls::ServerConfig>>,
    proxies: &Trusted,
) -> io::Result<Listener> {
    let listener = Listener::bind(&address.to_string()).await?.with_proxies(proxies.clone());
    Ok(match tls {
        Some(tls) => listener.with_tls(Arc::clone(tls)),
        None => listener,
    })
}

fn server_tls(config: &Config) -> anyhow::Result<Option<Arc<rustls::ServerConfig>>> {
    match &config.tls {
        Some(files) => Ok(Some(service::tls::server_config(&files.cert, &files.key)?)),
        None => Ok(None),
    }
}

/// Opens everything that the configuration names, without starting anything.
///
/// # Errors
/// A file that is missing or is not what it should be.
pub(crate) fn check(config: &Config) -> anyhow::Result<()> {
    server_tls(config)?;
    load_keys(config)?;
    for didp in &config.didp {
        Didp::new(didp, &config.resource, &config.limits, 0)
            .with_context(|| format!("[[didp]] {}", didp.tag))?;
    }
    Ok(())
}

/// Runs the gateway until `shutdown` begins; what it spawned is awaited by the caller's [`Shutdown::drain`].
///
/// # Errors
/// A key, secret or certificate that cannot be used.
pub async fn run(
    config: Config,
    listeners: Listeners,
    clock: Clock,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let limits = config.limits.clone();
    let workers = Workers::start(config.threads, &shutdown).context("threads for connections")?;
    let mut didps = HashMap::new();
    for didp in &config.didp {
        let known = Didp::new(didp, &config.resource, &limits, workers.count())
            .with_context(|| format!("[[didp]] {}", didp.tag))?;
        didps.insert(didp.tag.clone(), Arc::new(known));
    }
    let launcher = LauncherClient::new(&config.launcher.socket);
    let gateway = Arc::new(Gateway {
        keys: Arc::new(load_keys(&config)?),
        didps,
        owners: Owners::new(
            launcher,
            Duration::from_secs(limits.launch_seconds),
            config.launcher.state_dir.is_some(),
        ),
        sessions: Arc::default(),
        admission: Admission::new(limits.connections, limits.connections_per_address),
        failures: Failures::new(limits.failed_tokens_per_address),
        long_connects: Semaphore::new(limits.long_connects),
        long_messages: Arc::new(Semaphore::new(limits.long_connects)),
        cors_origins: config.cors_origins,
        limits,
        clock,
        shutdown: shutdown.clone(),
    });
    for didp in gateway.didps.values() {
        shutdown.spawn(events::listen(Arc::clone(&gateway), Arc::clone(didp)));
    }
    shutdown.spawn(changes::end_in_time(Arc::clone(&gateway)));
    let admission = &gateway.admission;
    for listener in listeners.mqtt {
        let gateway = Arc::clone(&gateway);
        let listener = listener.with_workers(workers.clone());
        let serving = accept(listener, admission.clone(), shutdown.clone(), move |stream, peer| {
            session::run(Arc::clone(&gateway), peer.ip(), Box::new(stream))
        });
        shutdown.spawn(serving);
    }
    let router = http::router(Arc::clone(&gateway));
    for listener in listeners.http {
        let listener = listener.with_workers(workers.clone());
        shutdown.spawn(service::http::serve(listener, router.clone(), admission.clone(), shutdown.clone()));
    }
    if let Some(listener) = listeners.metrics {
        let (stop, gateway, last) = (shutdown.clone(), Arc::clone(&gateway), Arc::new(Last::default()));
        let look = move || counted::count(Arc::clone(&gateway), Arc::clone(&last));
        shutdown.spawn(async move {
            if let Err(error) = service::metrics::serve(listener, stop, look).await {
                tracing::error!(event = "metrics_failed", %error);
            }
        });
    }
    tracing::info!(event = "serving", "the gateway serves");
    shutdown.begun().await;
    gateway.sessions.end_all(Cause::Shutdown);
    Ok(())
}

fn load_keys(config: &Config) -> anyhow::Result<Keys> {
    let file = &config.master_key_file;
    Keys::load(file).with_context(|| format!("master key file {}", file.display()))
}
