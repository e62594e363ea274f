//! How a broker is reached: TCP, TLS, WebSocket, or both of the latter.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{self, Message as Frame};

/// A stream of bytes.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

/// Where a broker is reached, and how.
#[derive(Clone)]
pub struct Door {
    host: String,
    port: u16,
    tls: Option<Arc<rustls::ClientConfig>>,
    websocket: bool,
    at: Option<IpAddr>,
    from: Option<IpAddr>,
}

impl Door {
    /// Plain TCP.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, tls: None, websocket: false, at: None, from: None }
    }

    /// Connects to this address whatever the name says.
    #[must_use]
    pub fn at(mut self, address: IpAddr) -> Self {
        self.at = Some(address);
        self
    }

    /// Connects from this address of this machine, to an address that [`Door::at`] gave.
    #[must_use]
    pub fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    /// The same with TLS.
    #[must_use]
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// The same as WebSocket at the path `/mqtt`.
    #[must_use]
    pub fn websocket(mut self) -> Self {
        self.websocket = true;
        self
    }

    pub(super) async fn open(&self) -> anyhow::Result<Wire> {
        let tcp = self.connect().await.with_context(|| format!("connect to {}:{}", self.host, self.port))?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Bytes> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from(self.host.clone())?;
                Box::new(
                    TlsConnector::from(Arc::clone(config))
                        .connect(name, tcp)
                        .await
                        .context("TLS handshake")?,
                )
            }
        };
        if !self.websocket {
            return Ok(Wire::Stream(stream));
        }
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        let mut request = format!("{scheme}://{}:{}/mqtt", self.host, self.port).into_client_request()?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse()?);
        let (socket, _) =
            tokio_tungstenite::client_async(request, stream).await.context("WebSocket handshake")?;
        Ok(Wire::Socket(Box::new(socket)))
    }
}

impl Door {
    async fn connect(&self) -> io::Result<TcpStream> {
        let Some(at) = self.at else { return TcpStream::connect((self.host.as_str(), self.port)).await };
        let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        socket.connect(SocketAddr::new(at, self.port)).await
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls.is_some() { " with TLS" } else { "" };
        let websocket = if self.websocket { " as WebSocket" } else { "" };
        write!(f, "{}:{}{tls}{websocket}", self.host, self.port)
    }
}

/// An open connection: bytes, whatever carries them.
pub(super) enum Wire {
    Stream(Box<dyn Bytes>),
    Socket(Box<WebSocketStream<Box<dyn Bytes>>>),
}

impl Wire {
    /// Appends what comes next; false at the end. Nothing is lost if the future is dropped.
    pub(super) async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        match self.read_some(buffer).await {
            Err(error) if is_end(&error) => Ok(false),
            read => read,
        }
    }

    async fn read_some(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        match self {
            Self::Stream(stream) => Ok(stream.read_buf(buffer).await? > 0),
            Self::Socket(socket) => match socket.next().await {
                Some(Ok(frame)) => {
                    if let Frame::Binary(bytes) = frame {
                        buffer.extend_from_slice(&bytes);
                    }
                    Ok(true)
                }
                Some(Err(tungstenite::Error::ConnectionClosed)) | None => Ok(false),
                Some(Err(tungstenite::Error::Io(error))) => Err(error),
                Some(Err(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                    Ok(false)
                }
                Some(Err(error)) => Err(io::Error::other(error)),
            },
        }
    }

    pub(super) async fn write(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Stream(stream) => {
                stream.write_all(&bytes).await?;
                stream.flush().await
            }
            Self::Socket(socket) => socket.send(Frame::Binary(bytes.into())).await.map_err(io::Error::other),
        }
    }
}

/// How connections end when the other side is done with them.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}
