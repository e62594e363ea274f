//! TCP and TLS to a server whose certificate is pinned. Nothing of the device is sent before the check (checklist 43).

use std::io;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use device_client::{Closed, Server};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where to connect to, in a form that a task can own.
#[derive(Clone, Debug)]
pub struct Target {
    host: String,
    port: u16,
    pins: Vec<String>,
    resolve: Option<IpAddr>,
}

impl Target {
    /// `server`; with `resolve` its name is not looked up, but still checked against the certificate.
    pub fn new(server: &Server, resolve: Option<IpAddr>) -> Self {
        Self {
            host: server.host.as_str().to_owned(),
            port: server.port,
            pins: server.pins().iter().map(|pin| STANDARD.encode(pin)).collect(),
            resolve,
        }
    }

    /// Connects and checks the pins.
    ///
    /// # Errors
    /// [`Closed::Untrusted`] if the certificate is not a pinned one; [`Closed::Lost`] for everything else.
    pub async fn connect(&self) -> Result<TlsStream<TcpStream>, Closed> {
        self.open().await.map_err(|error| {
            let untrusted = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                .is_some_and(|inner| matches!(inner, rustls::Error::InvalidCertificate(_)));
            tracing::debug!(event = "connect_failed", host = self.host, port = self.port, %error);
            if untrusted { Closed::Untrusted } else { Closed::Lost }
        })
    }

    async fn open(&self) -> io::Result<TlsStream<TcpStream>> {
        let config = service::tls::pinned_client_config(&self.pins)?;
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let tcp = match self.resolve {
            Some(address) => TcpStream::connect((address, self.port)).await?,
            None => match TcpStream::connect((self.host.as_str(), self.port)).await {
                Ok(tcp) => tcp,
                // RFC 6761 §6.3: such names are this machine, but not every resolver knows.
                Err(_) if self.host.ends_with(".localhost") => {
                    TcpStream::connect(("127.0.0.1", self.port)).await?
                }
                Err(error) => return Err(error),
            },
        };
        tcp.set_nodelay(true)?;
        TlsConnector::from(config).connect(name, tcp).await
    }
}
