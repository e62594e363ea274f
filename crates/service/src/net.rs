//! TCP listeners, plain or TLS: permit, accept, spawn, handshake inside the task with a time limit.
//!
//! An accept loop never waits for a peer. Beyond the bounds a connection is closed at once. What a load balancer says about
//! whom it passes on is `proxy`'s.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::proxy::{self, Trusted};
use crate::{Shutdown, Workers};

/// Time that a TLS handshake may take.
pub const TLS_HANDSHAKE: Duration = Duration::from_secs(10);

/// What is said of a listener without TLS that others than this machine could reach.
pub const PLAIN: &str =
    "without TLS only loopback is listened on, unless listen.allow_plain = true says that others may";

/// A bound listener, with the TLS settings of what it accepts.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    proxies: Trusted,
    workers: Option<Workers>,
}

impl Listener {
    /// Binds `address`, without TLS.
    ///
    /// # Errors
    /// The address cannot be bound; the error names it.
    pub async fn bind(address: &str) -> io::Result<Self> {
        match TcpListener::bind(address).await {
            Ok(tcp) => Ok(Self { tcp, tls: None, proxies: Trusted::default(), workers: None }),
            Err(error) => Err(io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))),
        }
    }

    /// The same listener, speaking TLS.
    #[must_use]
    pub fn with_tls(mut self, config: Arc<rustls::ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// The same listener, where connections from these addresses begin with a PROXY header, before TLS.
    #[must_use]
    pub fn with_proxies(mut self, trusted: Trusted) -> Self {
        self.proxies = trusted;
        self
    }

    /// The same listener, whose connections are served by these threads.
    #[must_use]
    pub fn with_workers(mut self, workers: Workers) -> Self {
        self.workers = Some(workers);
        self
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// True if it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// Bounds on connections, shared by the listeners of a service.
#[derive(Clone)]
pub struct Admission {
    all: Arc<Semaphore>,
    per_address: usize,
    unlimited: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Admission {
    /// At most `connections` in all and `per_address` from one address (see [`network`]).
    pub fn new(connections: usize, per_address: usize) -> Self {
        let all = Arc::new(Semaphore::new(connections));
        Self { all, per_address, unlimited: Arc::new(|_| false), addresses: Arc::default() }
    }

    /// The same bounds, but only the one on all connections for addresses that are `exempt`: proxies, which connect for many.
    #[must_use]
    pub fn without_limit_for(mut self, exempt: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        self.unlimited = Arc::new(exempt);
        self
    }

    /// A place for a connection from `address`; `None` if there is none left.
    pub fn admit(&self, address: IpAddr) -> Option<Permit> {
        self.assign(self.reserve()?, address)
    }

    /// A place among all, for a connection whose address is not known yet.
    fn reserve(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.all).try_acquire_owned().ok()
    }

    fn assign(&self, all: OwnedSemaphorePermit, address: IpAddr) -> Option<Permit> {
        let unlimited = (self.unlimited)(address);
        let address = network(address);
        let mut addresses = self.addresses.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let count = addresses.entry(address).or_default();
        if *count >= self.per_address && !unlimited {
            return None;
        }
        *count += 1;
        metrics::gauge!("oauthing_connections_open").increment(1.0);
        Some(Permit { address, addresses: Arc::clone(&self.addresses), _all: all })
    }
}

/// What counts as one address: an IPv4 address, or the /64 that an IPv6 host may draw its addresses from (RFC 4291 §2.5.1).
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

/// Held as long as a connection lives.
pub struct Permit {
    address: IpAddr,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _all: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        metrics::gauge!("oauthing_connections_open").decrement(1.0);
        let mut addresses = self.addresses.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(count) = addresses.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// Accepts until `shutdown` begins and runs `session` in a task of its own for each connection, with the address that it comes
/// from: its peer's, or what a trusted load balancer says.
pub async fn accept<S, F>(listener: Listener, admission: Admission, shutdown: Shutdown, session: S)
where
    S: Fn(Stream, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let Listener { tcp, tls, proxies, workers } = listener;
    let tls = tls.map(TlsAcceptor::from);
    let mut refusals = Refusals::default();
    loop {
        let accepted = tokio::select! {
            () = shutdown.begun() => return,
            accepted = tcp.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors or a peer that is gone already; a short pause keeps the loop from spinning.
                tracing::warn!(event = "accept_failed", %error);
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let place = if proxies.contains(peer.ip()) {
            admission.reserve().map(|place| Place::Reserved(admission.clone(), place))
        } else {
            admission.admit(peer.ip()).map(Place::Assigned)
        };
        let Some(place) = place else {
            metrics::counter!("oauthing_connections_refused_total").increment(1);
            refusals.tell(Instant::now());
            continue;
        };
        metrics::counter!("oauthing_connections_accepted_total").increment(1);
        let (tls, session) = (tls.clone(), session.clone());
        match &workers {
            None => {
                shutdown.spawn(serve(stream, peer, place, tls, session));
            }
            Some(workers) => match stream.into_std() {
                Ok(stream) => workers.spawn(&shutdown, async move {
                    match TcpStream::from_std(stream) {
                        Ok(stream) => serve(stream, peer, place, tls, session).await,
                        Err(error) => tracing::warn!(event = "accept_failed", %error),
                    }
                }),
                Err(error) => tracing::warn!(event = "accept_failed", %error),
            },
        }
    }
}

/// One connection's life. What is needed at its beginning only is boxed: it would be lent for as long as the connection lives.
async fn serve<S, F>(stream: TcpStream, peer: SocketAddr, place: Place, tls: Option<TlsAcceptor>, session: S)
where
    S: Fn(Stream, SocketAddr) -> F,
    F: Future<Output = ()>,
{
    let begun = Box::pin(begin(stream, peer, place, tls)).await;
    if let Some((_permit, stream, peer)) = begun {
        session(stream, peer).await;
    }
}

/// PROXY header and TLS handshake, each where there must be one.
async fn begin(
    stream: TcpStream,
    peer: SocketAddr,
    place: Place,
    tls: Option<TlsAcceptor>,
) -> Option<(Permit, Stream, SocketAddr)> {
    let _ = stream.set_nodelay(true);
    let (permit, stream, peer) = introduce(stream, peer, place).await?;
    let Some(tls) = tls else { return Some((permit, Stream::Plain(stream), peer)) };
    match tokio::time::timeout(TLS_HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => return Some((permit, Stream::Tls(Box::new(stream)), peer)),
        Ok(Err(error)) => failed(&error),
        Err(_) => failed(&"time limit"),
    }
    None
}

/// A connection's place before it is known whom it is from.
enum Place {
    Assigned(Permit),
    /// Its PROXY header is still to be read.
    Reserved(Admission, OwnedSemaphorePermit),
}

/// Reads the PROXY header where one must come; `None` if it does not, or if there is no place for whom it names.
async fn introduce(
    mut stream: TcpStream,
    peer: SocketAddr,
    place: Place,
) -> Option<(Permit, TcpStream, SocketAddr)> {
    let (admission, reserved) = match place {
        Place::Assigned(permit) => return Some((permit, stream, peer)),
        Place::Reserved(admission, reserved) => (admission, reserved),
    };
    let source = match proxy::read_header(&mut stream).await {
        Ok(source) => source.unwrap_or(peer),
        Err(error) => {
            tracing::debug!(event = "proxy_header_failed", %error);
            return None;
        }
    };
    match admission.assign(reserved, source.ip()) {
        Some(permit) => Some((permit, stream, source)),
        None => {
            tracing::debug!(event = "connections_refused", reason = "too many connections of one address");
            None
        }
    }
}

fn failed(error: &dyn std::fmt::Display) {
    metrics::counter!("oauthing_tls_handshakes_failed_total").increment(1);
    tracing::debug!(event = "tls_handshake_failed", %error);
}

/// Says at most once a second that connections were refused, and how many: a flood must not choose the log's volume.
#[derive(Default)]
struct Refusals {
    count: u64,
    told: Option<Instant>,
}

impl Refusals {
    fn tell(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.told.is_some_and(|told| now.duration_since(told) < Duration::from_secs(1)) {
            return None;
        }
        self.told = Some(now);
        let count = std::mem::take(&mut self.count);
        tracing::warn!(event = "connections_refused", reason = "too many connections", count);
        Some(count)
    }
}

/// A connection, plain or TLS.
pub enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS, after the handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// True if the peer proved a certificate that the listener's authorities of clients issued
    /// ([`mutual_server_config`](crate::tls::mutual_server_config)).
    pub fn is_proven(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.peer_certificates().is_some(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn a_host_with_many_ipv6_addresses_is_one() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn a_flood_of_refusals_is_one_line_a_second() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.tell(start), Some(1));
        assert_eq!((0..99).find_map(|_| refusals.tell(start)), None);
        assert_eq!(refusals.tell(start + Duration::from_secs(1)), Some(100));
    }

    #[tokio::test]
    async fn beyond_the_bound_a_connection_is_closed_and_a_free_place_is_used_again() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        tokio::spawn(accept(listener, Admission::new(10, 1), shutdown.clone(), |mut stream, _| async move {
            let _ = stream.write_all(b"hello").await;
            let _ = stream.read(&mut [0]).await;
        }));
        let mut first = TcpStream::connect(address).await.unwrap();
        first.read_exact(&mut [0; 5]).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(second.read(&mut [0; 5]).await.unwrap_or(0), 0);
        drop(first);
        // The place is free once the first session has seen its peer go.
        let mut tries = 0;
        loop {
            let mut third = TcpStream::connect(address).await.unwrap();
            if third.read(&mut [0; 5]).await.unwrap_or(0) > 0 {
                break;
            }
            tries += 1;
            assert!(tries < 10_000, "the place never became free");
            tokio::task::yield_now().await;
        }
        shutdown.begin();
    }
}
