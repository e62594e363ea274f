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
use service::spans;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use crate::cause::Cause;
use crate::changes;
use crate::didp::Didp;
use crate::gateway::{Gateway, Token};
use crate::handshake;
use crate::live::{Live, OwnerId, Registered};
use crate::policy::Grant;
use crate::policy::grant::Role;
use crate::relay::{self, Exchange, Order, PcmSocket, Reauthentication, Surroundings};

/// Any transport.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Longest CONNECT: before the token is checked, little memory is lent.
pub(crate) const LONGEST_CONNECT: usize = 80 * 1024;
/// Up to here everybody is lent it; what a longer CONNECT needs is lent to few at a time.
pub(crate) const SHORT_CONNECT: usize = 8 * 1024;
/// Time for a PCM to answer CONNECT.
const PCM_CONNACK: Duration = Duration::from_secs(5);
/// Time for a refusal to be taken.
const REFUSAL: Duration = Duration::from_secs(1);

/// Serves one connection until it ends. The peer's address is for counting only.
pub(crate) async fn run(gateway: Arc<Gateway>, peer: IpAddr, client: Box<dyn Wire>) {
    let connection: String = random_bytes::<4>().iter().map(|byte| format!("{byte:02x}")).collect();
    // Boxed: it takes much room, and a session that has begun has no use for it.
    let beginning = spans::root("connect", begin(&gateway, peer, &connection, client));
    let Some(begun) = Box::pin(beginning).await else { return };
    let Begun { client, pcm, exchange, early, live, keep_alive } = begun;
    let limits = &gateway.limits;
    let around = Surroundings {
        orders: live.orders(),
        reauthenticate: reauthentication(&gateway, peer, &live),
        clock: &gateway.clock,
        keep_alive,
        longest_packet: limits.packet_bytes,
        packets_per_second: limits.packets_per_second,
        blocked: Duration::from_secs(limits.write_seconds),
        packet: Duration::from_secs(limits.packet_seconds),
    };
    relay::run(client, pcm, exchange, early, around).await.log("session_ended", &connection);
}

/// A session about to be relayed.
struct Begun {
    client: Box<dyn Wire>,
    pcm: PcmSocket,
    exchange: Exchange,
    /// What was read behind CONNECT and CONNACK.
    early: (BytesMut, BytesMut),
    live: Registered,
    keep_alive: Duration,
}

/// All that comes before the relay; `None` if the connection was refused.
async fn begin(
    gateway: &Arc<Gateway>,
    peer: IpAddr,
    connection: &str,
    mut client: Box<dyn Wire>,
) -> Option<Begun> {
    let (cause, answer) = match handshake(gateway, &mut client).await {
        Err(refused) => refused,
        // Its room is its own until it is known who it is.
        Ok((frame, rest, _room)) => match Packet::decode(&frame, Version::V5) {
            Ok(Packet::Connect(connect)) => {
                let opened = open(gateway, peer, &connect).await;
                match opened.and_then(|opened| greet(gateway, &connect, opened)) {
                    Ok((live, pcm, exchange, pcm_bytes)) => {
                        let (version, role) = (connect.version, role(exchange.grant()));
                        tracing::info!(event = "session_begins", connection, ?version, role);
                        let keep_alive = Duration::from_secs(connect.keep_alive.into());
                        let early = (rest, pcm_bytes);
                        return Some(Begun { client, pcm, exchange, early, live, keep_alive });
                    }
                    Err(cause) => {
                        let longest = connect.properties.maximum_packet_size();
                        (cause, handshake::refusal(connect.version, cause, longest))
                    }
                }
            }
            Ok(_) => (Cause::OutOfOrder, Vec::new()),
            Err(error) => (Cause::Malformed(error), handshake::refusal_of_malformed(&frame, error)),
        },
    };
    cause.log("connection_refused", connection);
    say_last(&mut client, &answer).await;
    None
}

/// Turns the PCM's answer into the client's, which is the first thing that waits for it.
fn greet(
    gateway: &Gateway,
    connect: &Connect<'_>,
    opened: Opened,
) -> Result<(Registered, PcmSocket, Exchange, BytesMut), Cause> {
    let Opened { grant, live, pcm, connack, pcm_bytes, assigned } = opened;
    let connack = match Packet::decode(&connack, connect.version) {
        Ok(Packet::ConnAck(connack)) if connack.reason.is_success() => connack,
        Ok(Packet::ConnAck(connack)) => return Err(Cause::PcmRefused(connack.reason)),
        Ok(_) | Err(_) => return Err(Cause::PcmUnavailable),
    };
    let limits = &gateway.limits;
    let (packet, topic) = (limits.packet_bytes, limits.topic_bytes);
    let (hello, terms) = handshake::connack_down(&connack, connect, assigned.as_deref(), packet, topic);
    let mut exchange = Exchange::new(terms, Arc::clone(&gateway.keys), grant);
    exchange.to_client.push_raw(&hello);
    let pcm = PcmSocket::new(pcm).map_err(|_| Cause::PcmUnavailable)?;
    Ok((live, pcm, exchange, pcm_bytes))
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

/// Reads the CONNECT; also what came behind it, and the room that a long one takes.
async fn handshake<'g>(
    gateway: &'g Gateway,
    client: &mut Box<dyn Wire>,
) -> Result<(BytesMut, BytesMut, Option<SemaphorePermit<'g>>), (Cause, Vec<u8>)> {
    let limit = Duration::from_secs(gateway.limits.connect_seconds);
    let mut bytes = BytesMut::new();
    let mut room = None;
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
                    return Ok((std::mem::take(&mut bytes), rest, room.take()));
                }
                Ok(_) => {}
                Err(error) => {
                    return Err((Cause::Malformed(error), handshake::refusal_of_malformed(&bytes, error)));
                }
            }
            if bytes.len() >= SHORT_CONNECT && room.is_none() {
                room = gateway.long_connects.acquire().await.ok();
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
    if gateway.shutdown.has_begun() {
        // It may have begun after the sessions were told.
        return Err(Cause::Shutdown);
    }
    if didp.seen() != seen {
        // Something happened between the answer and the registration; nobody else would tell this session.
        changes::introspect_again(gateway, &live).await?;
    }
    // What is ordered from here on, the relay hears.
    let grant = match live.orders().last() {
        Order::Under(grant) => grant,
        Order::End(_) => return Err(Cause::InactiveToken),
    };
    let (mut pcm, mut connack, mut pcm_bytes) = connect_pcm(gateway, &didp, &grant, &client, &hello).await?;
    if refused_as_unknown(&connack, connect.version) {
        // The DIdP knows this grant, so that the PCM's list is older than it should be.
        gateway.owners.refresh(gateway, &didp, &live.owner).await?;
        (pcm, connack, pcm_bytes) = connect_pcm(gateway, &didp, &grant, &client, &hello).await?;
    }
    let assigned = is_assigned.then_some(client_id);
    Ok(Opened { grant, live, pcm, connack, pcm_bytes, assigned })
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
        let mut pcm =
            spans::step("open_pcm", gateway.owners.open(gateway, didp, grant, client, hello)).await?;
        match spans::step("pcm_connect", timeout(PCM_CONNACK, connack(&mut pcm))).await {
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

/// The PCM's answer to CONNECT.
async fn connack(pcm: &mut UnixStream) -> Result<(BytesMut, BytesMut), Cause> {
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
