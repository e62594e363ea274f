//! Moves one session's bytes between its client and its owner's PCM.
//!
//! One task a session. It reads a side only while both outgoing buffers are short, so that each side's slowness is felt by
//! the other and nothing grows: a buffer holds [`HIGH_WATER`] bytes and one packet at most. What packets mean is
//! `exchange`'s; when a session may not go on is told by its [`Order`]s, the clock, and the tokens' ends.

mod exchange;
mod queue;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use mqtt_wire::frame_len;
use service::{Clock, Shutdown};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use zeroize::Zeroizing;

use crate::cause::Cause;
use crate::policy::Grant;
use exchange::Step;
pub(crate) use exchange::{Exchange, METHOD, TOPIC_ALIASES, Terms};
use queue::Queue;

/// Bytes in an outgoing buffer beyond which nothing is read that could add to it.
const HIGH_WATER: usize = 64 * 1024;
/// Bytes asked of a socket at a time.
const READ: usize = 4 * 1024;
/// Time for the last bytes of a session.
const GOODBYE: Duration = Duration::from_secs(1);
/// Time for the PCM to read that the client left.
const PCM_ENDS: Duration = Duration::from_secs(2);
/// Time and bytes that a client gets to see our last words before its connection is closed.
const LINGER: (Duration, u64) = (Duration::from_millis(500), 16 * 1024 * 1024);
/// How often time is looked at; a token's end is noticed this much too late at most.
const TICK: Duration = Duration::from_secs(1);

/// What the gateway tells a running session.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// Goes on under this grant.
    Under(Arc<Grant>),
    /// Ends.
    End(Cause),
}

/// A check of a new token under way.
pub(crate) type Reauthentication = Pin<Box<dyn Future<Output = Result<(), Cause>> + Send>>;

/// What a relay needs beside its two connections.
pub(crate) struct Surroundings<'a, F> {
    /// Orders for this session.
    pub(crate) orders: watch::Receiver<Order>,
    /// Checks a token for this session; success shows as an order, too.
    pub(crate) reauthenticate: F,
    /// Time.
    pub(crate) clock: &'a Clock,
    /// Stop of the gateway.
    pub(crate) shutdown: &'a Shutdown,
    /// The client's keep alive; zero is none (MQTT 5 §3.1.2.10).
    pub(crate) keep_alive: Duration,
    /// Longest packet that is read from the client.
    pub(crate) longest_packet: usize,
    /// Packets that are taken from the client in a second; the others wait in its own buffers.
    pub(crate) packets_per_second: u32,
    /// Time without progress after which a side counts as gone.
    pub(crate) blocked: Duration,
}

/// Relays until the session ends; both connections are closed then. The
/// bytes are what was read behind CONNECT and CONNACK.
pub(crate) async fn run<C, P, F>(
    client: C,
    pcm: P,
    mut exchange: Exchange,
    (client_bytes, pcm_bytes): (BytesMut, BytesMut),
    mut around: Surroundings<'_, F>,
) -> Cause
where
    C: AsyncRead + AsyncWrite + Send,
    P: AsyncRead + AsyncWrite + Send,
    F: Fn(Zeroizing<String>) -> Reauthentication + Send,
{
    let (mut client_read, mut client_write) = tokio::io::split(client);
    let (mut pcm_read, mut pcm_write) = tokio::io::split(pcm);
    let mut client_in = Incoming { bytes: client_bytes, longest: around.longest_packet, ended: false };
    // The PCM may add what the client's limit does not count: labels for handles.
    let mut pcm_in = Incoming { bytes: pcm_bytes, longest: 2 * around.longest_packet, ended: false };
    let (mut client_out, mut pcm_out) = (Outgoing::new(), Outgoing::new());
    let mut reauthentication: Option<Reauthentication> = None;
    let mut heard = Instant::now();
    let mut allowance = around.packets_per_second;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let cause = loop {
        // Before any packet: what came by the last order is judged by it.
        if around.orders.has_changed().unwrap_or(false)
            && let Some(cause) = obey(&around.orders.borrow_and_update(), &mut exchange)
        {
            break cause;
        }
        match work_off(&mut exchange, &mut client_in, &mut pcm_in, around.clock, &mut allowance) {
            Step::Continue => {}
            Step::Reauthenticate(_) if reauthentication.is_some() => break Cause::OutOfOrder,
            Step::Reauthenticate(token) => {
                reauthentication = Some((around.reauthenticate)(token));
                continue;
            }
            Step::End(cause) => break cause,
        }
        if client_in.ended && exchange.to_pcm.is_empty() && allowance > 0 {
            break Cause::ClientGone;
        }
        if pcm_in.ended {
            break Cause::PcmGone;
        }
        let room = exchange.to_pcm.len() < HIGH_WATER && exchange.to_client.len() < HIGH_WATER;
        tokio::select! {
            read = client_in.read(&mut client_read), if room && allowance > 0 && !client_in.ended => {
                if read { heard = Instant::now(); }
            }
            _ = pcm_in.read(&mut pcm_read), if room => {}
            ok = client_out.write(&mut client_write, &mut exchange.to_client), if client_out.has_work(&exchange.to_client) => {
                if !ok { break Cause::ClientGone; }
            }
            ok = pcm_out.write(&mut pcm_write, &mut exchange.to_pcm), if pcm_out.has_work(&exchange.to_pcm) => {
                if !ok { break Cause::PcmGone; }
            }
            Ok(()) = around.orders.changed() => {
                if let Some(cause) = obey(&around.orders.borrow_and_update(), &mut exchange) {
                    break cause;
                }
            }
            outcome = finished(&mut reauthentication) => {
                reauthentication = None;
                match outcome {
                    Ok(()) => {
                        if let Order::Under(grant) = &*around.orders.borrow() {
                            exchange.replace_grant(Arc::clone(grant));
                        }
                        exchange.reauthenticated();
                    }
                    Err(cause) => break cause,
                }
            }
            _ = tick.tick() => {
                client_in.give_back();
                pcm_in.give_back();
                exchange.to_client.give_back();
                exchange.to_pcm.give_back();
                allowance = around.packets_per_second;
                if exchange.grant().has_ended(around.clock.now()) {
                    break Cause::TokenEnded;
                }
                if !around.keep_alive.is_zero() && heard.elapsed() > around.keep_alive.mul_f32(1.5) {
                    break Cause::KeepAlive;
                }
                if client_out.is_stuck(&exchange.to_client, around.blocked) {
                    break Cause::ClientBlocked;
                }
                if pcm_out.is_stuck(&exchange.to_pcm, around.blocked) {
                    break Cause::PcmGone;
                }
            }
            () = around.shutdown.begun() => break Cause::Shutdown,
        }
    };
    let (client, pcm) = ((client_read, client_write), (pcm_read, pcm_write));
    let client = (client, client_out, client_in.ended);
    say_goodbye(cause, exchange, client, (pcm, pcm_out)).await;
    cause
}

/// Takes what the other side still sends, for a short time. A socket that is closed with something unread in it is reset,
/// and the last words to the client with it.
pub(crate) async fn linger<R: AsyncRead + Unpin>(from: &mut R) {
    let mut rest = from.take(LINGER.1);
    let _ = timeout(LINGER.0, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
}

/// Judges the complete packets that have come, until one needs the caller, a buffer is full or the client's `allowance` is
/// used up.
fn work_off(
    exchange: &mut Exchange,
    client: &mut Incoming,
    pcm: &mut Incoming,
    clock: &Clock,
    allowance: &mut u32,
) -> Step {
    loop {
        let mut idle = true;
        for from_client in [true, false] {
            if exchange.to_pcm.len() >= HIGH_WATER || exchange.to_client.len() >= HIGH_WATER {
                return Step::Continue;
            }
            if from_client && *allowance == 0 {
                continue;
            }
            let incoming = if from_client { &mut *client } else { &mut *pcm };
            let frame = match incoming.frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => continue,
                Err(error) if from_client => return Step::End(Cause::Malformed(error)),
                Err(_) => return Step::End(Cause::PcmGone),
            };
            idle = false;
            *allowance -= u32::from(from_client);
            if exchange.grant().has_ended(clock.now()) {
                return Step::End(Cause::TokenEnded);
            }
            let packet = &incoming.bytes[..frame];
            let step =
                if from_client { exchange.take_from_client(packet) } else { exchange.take_from_pcm(packet) };
            incoming.bytes.advance(frame);
            if step != Step::Continue {
                return step;
            }
        }
        if idle {
            return Step::Continue;
        }
    }
}

/// The cause, if the order is to end.
fn obey(order: &Order, exchange: &mut Exchange) -> Option<Cause> {
    match order {
        Order::Under(grant) => {
            exchange.replace_grant(Arc::clone(grant));
            None
        }
        Order::End(cause) => Some(*cause),
    }
}

async fn finished(reauthentication: &mut Option<Reauthentication>) -> Result<(), Cause> {
    match reauthentication {
        Some(check) => check.await,
        None => std::future::pending().await,
    }
}

/// The last bytes each side still gets, for a bounded time.
async fn say_goodbye<C, P>(
    cause: Cause,
    mut exchange: Exchange,
    ((mut client_read, mut client), mut client_out, client_ended): (Halves<C>, Outgoing, bool),
    ((mut pcm_read, mut pcm), mut pcm_out): (Halves<P>, Outgoing),
) where
    C: AsyncRead + AsyncWrite,
    P: AsyncRead + AsyncWrite,
{
    let left = matches!(cause, Cause::ClientDisconnected | Cause::ClientGone);
    if !left {
        exchange.say_goodbye(cause);
    }
    let Exchange { to_client, to_pcm, .. } = &mut exchange;
    let with_client = async {
        if cause != Cause::ClientBlocked && cause != Cause::ClientGone {
            let _ = timeout(GOODBYE, client_out.write_all(&mut client, to_client)).await;
        }
        let _ = timeout(GOODBYE, client.shutdown()).await;
        if !client_ended {
            linger(&mut client_read).await;
        }
    };
    let with_pcm = async {
        // What the client sent before it left still counts; after a revocation nothing does but that it is gone.
        if left || cause.ends_the_right() {
            let _ = timeout(GOODBYE, pcm_out.write_all(&mut pcm, to_pcm)).await;
        }
        let _ = timeout(GOODBYE, pcm.shutdown()).await;
    };
    // A PCM that fails to write sees a connection that broke, and may not read on until our DISCONNECT.
    let from_pcm = async {
        if cause.ends_the_right() {
            let _ = timeout(PCM_ENDS, tokio::io::copy(&mut pcm_read, &mut tokio::io::sink())).await;
        }
    };
    tokio::join!(with_client, with_pcm, from_pcm);
}

/// The two halves of one connection.
type Halves<S> = (ReadHalf<S>, WriteHalf<S>);

/// One direction's incoming bytes.
struct Incoming {
    bytes: BytesMut,
    longest: usize,
    ended: bool,
}

impl Incoming {
    /// Length of the first packet, if it has come as a whole.
    fn frame(&self) -> Result<Option<usize>, mqtt_wire::Error> {
        Ok(frame_len(&self.bytes, self.longest)?.filter(|&length| self.bytes.len() >= length))
    }

    /// Gives memory back while there is nothing to keep in it: most sessions are silent most of the time.
    fn give_back(&mut self) {
        if self.bytes.is_empty() && self.bytes.capacity() > READ {
            self.bytes = BytesMut::new();
        }
    }

    /// Reads what there is; false at the end of the stream.
    async fn read<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> bool {
        self.bytes.reserve(READ);
        match from.read_buf(&mut self.bytes).await {
            Ok(count) if count > 0 => true,
            Ok(_) | Err(_) => {
                self.ended = true;
                false
            }
        }
    }
}

/// One direction's writing.
struct Outgoing {
    unflushed: bool,
    progress: Instant,
}

impl Outgoing {
    fn new() -> Self {
        Self { unflushed: false, progress: Instant::now() }
    }

    fn has_work(&self, queue: &Queue) -> bool {
        self.unflushed || !queue.is_empty()
    }

    /// Writes some bytes, or flushes when there are none; false if the connection is broken.
    async fn write<W: AsyncWrite + Unpin>(&mut self, to: &mut W, queue: &mut Queue) -> bool {
        let done = if queue.is_empty() {
            to.flush().await.map(|()| self.unflushed = false)
        } else {
            match to.write(queue.pending()).await {
                Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    queue.take(count);
                    self.unflushed = true;
                    Ok(())
                }
                Err(error) => Err(error),
            }
        };
        self.progress = Instant::now();
        done.is_ok()
    }

    async fn write_all<W: AsyncWrite + Unpin>(&mut self, to: &mut W, queue: &mut Queue) {
        while self.has_work(queue) && self.write(to, queue).await {}
    }

    /// True if something has waited for `limit` without any of it being taken.
    fn is_stuck(&mut self, queue: &Queue, limit: Duration) -> bool {
        if !self.has_work(queue) {
            self.progress = Instant::now();
        }
        self.progress.elapsed() > limit
    }
}
