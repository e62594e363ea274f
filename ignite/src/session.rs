//! One client's story: handshake → introspect → ensure PCM → relay.
//!
//! The same for MQTT over TCP, TLS and WebSocket, and for the HTTP API, which is a client like any other. Bytes of the
//! handshake are `handshake`'s, verdicts `policy`'s, codes `cause`'s.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use mqtt_wire::{Connect, Packet, PacketType, ReasonCode, Version, frame_len};
use service::secret::random_bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::cause::Cause;
use crate::changes;
use crate::didp::Didp;
use crate::gateway::{Gateway, Token};
use crate::handshake;
use crate::live::{Live, OwnerId, Registered};
use crate::policy::Grant;
use crate::policy::grant::Role;
use crate::relay::{self, Exchange, Order, Reauthentication, Surroundings};

/// Any transport.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Longest CONNECT: before the token is checked, little memory is lent.
pub(crate) const LONGEST_CONNECT: usize = 80 * 1024;
/// Time for a PCM to answer CONNECT.
const PCM_CONNACK: Duration = Duration::from_secs(5);
/// Time for a refusal to be taken.
const REFUSAL: Duration = Duration::from_secs(1);

/// Serves one connection until it ends. The peer's address is for counting only.
pub(crate) async fn run(gateway: Arc<Gateway>, peer: IpAddr, mut client: Box<dyn Wire>) {
    let connection: String = random_bytes::<4>().iter().map(|byte| format!("{byte:02x}")).collect();
    let (cause, answer) = match handshake(&gateway, &mut client).await {
        Err(refused) => refused,
        Ok((frame, rest)) => match Packet::decode(&frame, Version::V5) {
            Ok(Packet::Connect(connect)) => match open(&gateway, peer, &connect).await {
                Ok(opened) => {
                    let cause = relay(&gateway, peer, &connection, client, &connect, opened, rest).await;
                    return cause.log("session_ended", &connection);
                }
                Err(cause) => (cause, handshake::refusal(connect.version, cause)),
            },
            Ok(_) => (Cause::OutOfOrder, Vec::new()),
            Err(error) => (Cause::Malformed(error), handshake::refusal_of_malformed(&frame, error)),
        },
    };
    cause.log("connection_refused", &connection);
    say_last(&mut client, &answer).await;
}

async fn say_last(client: &mut Box<dyn Wire>, answer: &[u8]) {
    let said = timeout(REFUSAL, async {
        client.write_all(answer).await?;
        client.shutdown().await
    });
    if matches!(said.await, Ok(Ok(()))) {
        relay::linger(client).await;
    }
}

/// Reads the CONNECT; also what came behind it.
async fn handshake(
    gateway: &Gateway,
    client: &mut Box<dyn Wire>,
) -> Result<(BytesMut, BytesMut), (Cause, Vec<u8>)> {
    let limit = Duration::from_secs(gateway.limits.connect_seconds);
    let mut bytes = BytesMut::new();
    let reading = async {
        loop {
            // Whoever speaks something else is not waited for; a first packet that is no CONNECT gets no answer
            // (MQTT 5 §3.1).
            if bytes.first().is_some_and(|first| first >> 4 != PacketType::Connect as u8) {
                return Err((Cause::OutOfOrder, Vec::new()));
            }
            match frame_len(&bytes, LONGEST_CONNECT) {
                Ok(Some(length)) if bytes.len() >= length => {
                    let rest = bytes.split_off(length);
                    return Ok((std::mem::take(&mut bytes), rest));
                }
                Ok(_) => {}
                Err(error) => {
                    return Err((Cause::Malformed(error), handshake::refusal_of_malformed(&bytes, error)));
                }
            }
            bytes.reserve(1024);
            match client.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return Err((Cause::ClientGone, Vec::new())),
                Ok(_) => {}
            }
        }
    };
    tokio::select! {
        read = timeout(limit, reading) => read.unwrap_or(Err((Cause::ConnectTimeout, Vec::new()))),
        () = gateway.shutdown.begun() => Err((Cause::Shutdown, Vec::new())),
    }
}

/// A session that the PCM has accepted.
struct Opened {
    grant: Arc<Grant>,
    live: Registered,
    /// Heard from the registration on, so that what was ordered while the PCM was being connected is not lost.
    orders: watch::Receiver<Order>,
    pcm: UnixStream,
    connack: BytesMut,
    /// What the PCM sent behind its CONNACK.
    pcm_bytes: BytesMut,
    /// The client id that the gateway chose, if it did.
    assigned: Option<String>,
}

async fn open(gateway: &Arc<Gateway>, peer: IpAddr, connect: &Connect<'_>) -> Result<Opened, Cause> {
    tokio::select! {
        opened = introspect_and_ensure(gateway, peer, connect) => opened,
        () = gateway.shutdown.begun() => Err(Cause::Shutdown),
    }
}

async fn introspect_and_ensure(
    gateway: &Arc<Gateway>,
    peer: IpAddr,
    connect: &Connect<'_>,
) -> Result<Opened, Cause> {
    let token = handshake::token(connect)?;
    let (client_id, is_assigned) = handshake::client_id(connect)?;
    let didp = Arc::clone(gateway.issuer_of(&token)?);
    let seen = didp.seen();
    let grant = gateway.introspect_new(&token, peer).await?;
    let client = handshake::derived_id(&gateway.keys, &grant, &client_id);
    let limits = &gateway.limits;
    let hello = handshake::connect_up(connect, &grant, &client, 2 * limits.packet_bytes, limits.topic_bytes)?;

    let registered = gateway.sessions.register(Arc::clone(&grant), token, limits.sessions_per_grant);
    let live = registered.ok_or(Cause::Quota)?;
    let mut orders = live.orders();
    if didp.seen() != seen {
        // Something happened between the answer and the registration; nobody else would tell this session.
        changes::introspect_again(gateway, &live).await?;
    }
    let grant = match &*orders.borrow_and_update() {
        Order::Under(grant) => Arc::clone(grant),
        Order::End(_) => return Err(Cause::InactiveToken),
    };
    let (mut pcm, mut connack, mut pcm_bytes) = connect_pcm(gateway, &didp, &grant, &client, &hello).await?;
    if refused_as_unknown(&connack, connect.version) {
        // The DIdP knows this grant, so that the PCM's list is older than it should be.
        gateway.owners.refresh(gateway, &didp, &live.owner).await?;
        (pcm, connack, pcm_bytes) = connect_pcm(gateway, &didp, &grant, &client, &hello).await?;
    }
    let assigned = is_assigned.then_some(client_id);
    Ok(Opened { grant, live, orders, pcm, connack, pcm_bytes, assigned })
}

/// A connection to the PCM, its answer to CONNECT, and what came behind it.
async fn connect_pcm(
    gateway: &Gateway,
    didp: &Didp,
    grant: &Grant,
    client: &str,
    hello: &[u8],
) -> Result<(UnixStream, BytesMut, BytesMut), Cause> {
    let mut is_again = false;
    loop {
        let mut pcm = gateway.owners.open(gateway, didp, grant, client).await?;
        match timeout(PCM_CONNACK, connack(&mut pcm, hello)).await {
            Ok(Ok((connack, rest))) => return Ok((pcm, connack, rest)),
            // One that died at this moment took the connection with it; it answered nothing, so that the next one may be asked.
            Ok(Err(_)) if !is_again => is_again = true,
            Ok(Err(cause)) => return Err(cause),
            Err(_) => return Err(Cause::PcmUnavailable),
        }
    }
}

fn refused_as_unknown(connack: &[u8], version: Version) -> bool {
    matches!(Packet::decode(connack, version), Ok(Packet::ConnAck(ack)) if ack.reason == ReasonCode::NOT_AUTHORIZED)
}

/// Sends CONNECT to the PCM and reads its answer.
async fn connack(pcm: &mut UnixStream, hello: &[u8]) -> Result<(BytesMut, BytesMut), Cause> {
    pcm.write_all(hello).await.map_err(|_| Cause::PcmUnavailable)?;
    let mut bytes = BytesMut::new();
    loop {
        match frame_len(&bytes, LONGEST_CONNECT) {
            Ok(Some(length)) if bytes.len() >= length => {
                let rest = bytes.split_off(length);
                return Ok((bytes, rest));
            }
            Ok(_) => {}
            Err(_) => return Err(Cause::PcmUnavailable),
        }
        match pcm.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return Err(Cause::PcmUnavailable),
            Ok(_) => {}
        }
    }
}

async fn relay(
    gateway: &Arc<Gateway>,
    peer: IpAddr,
    connection: &str,
    mut client: Box<dyn Wire>,
    connect: &Connect<'_>,
    opened: Opened,
    client_bytes: BytesMut,
) -> Cause {
    let Opened { grant, live, orders, pcm, connack, pcm_bytes, assigned } = opened;
    let limits = &gateway.limits;
    let connack = match Packet::decode(&connack, connect.version) {
        Ok(Packet::ConnAck(connack)) if connack.reason.is_success() => connack,
        Ok(Packet::ConnAck(connack)) => {
            return refuse(&mut client, connect.version, Cause::PcmRefused(connack.reason)).await;
        }
        Ok(_) | Err(_) => return refuse(&mut client, connect.version, Cause::PcmUnavailable).await,
    };
    let (hello, terms) = handshake::connack_down(
        &connack,
        connect,
        assigned.as_deref(),
        limits.packet_bytes,
        limits.topic_bytes,
    );
    tracing::info!(event = "session_begins", connection, version = ?connect.version, role = role(&grant));
    let mut exchange = Exchange::new(terms, Arc::clone(&gateway.keys), grant);
    exchange.to_client.push_raw(&hello);
    let around = Surroundings {
        orders,
        reauthenticate: reauthentication(gateway, peer, &live),
        clock: &gateway.clock,
        shutdown: &gateway.shutdown,
        keep_alive: Duration::from_secs(connect.keep_alive.into()),
        longest_packet: limits.packet_bytes,
        packets_per_second: limits.packets_per_second,
        blocked: Duration::from_secs(limits.write_seconds),
    };
    relay::run(client, pcm, exchange, (client_bytes, pcm_bytes), around).await
}

async fn refuse(client: &mut Box<dyn Wire>, version: Version, cause: Cause) -> Cause {
    say_last(client, &handshake::refusal(version, cause)).await;
    cause
}

/// How this session checks a new token: it must be of the same issuer, owner and grant.
fn reauthentication(
    gateway: &Arc<Gateway>,
    peer: IpAddr,
    live: &Arc<Live>,
) -> impl Fn(Token) -> Reauthentication + use<> {
    let (gateway, live) = (Arc::clone(gateway), Arc::clone(live));
    move |token| {
        let (gateway, live) = (Arc::clone(&gateway), Arc::clone(&live));
        Box::pin(async move {
            let mut current = live.token.lock().await;
            let grant = gateway.introspect_new(&token, peer).await.map_err(|cause| match cause {
                Cause::DidpUnavailable => Cause::Unchecked,
                _ => Cause::ReauthenticationRefused,
            })?;
            if OwnerId::of(&grant) != live.owner || grant.sid != live.sid {
                return Err(Cause::ReauthenticationRefused);
            }
            *current = token;
            live.go_on(grant);
            Ok(())
        })
    }
}

fn role(grant: &Grant) -> &'static str {
    match grant.role {
        Role::Device(_) => "device",
        Role::App(_) => "app",
    }
}
