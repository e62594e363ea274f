//! Moves one session's bytes between its client and its owner's PCM.
//!
//! One task a session. What comes is read into a buffer of the thread, judged and translated there, and written to the other side
//! in one call, from where it lies. Nothing is read from a side while what came from it before still waits for the other one, nor
//! while [`HIGH_WATER`] bytes of answers wait for it itself: so each side's slowness is felt by the other, and a session holds
//! one reading's worth each way at most. What packets mean is `exchange`'s; when a session may not go on is told by its
//! [`Orders`], the clock, and the tokens' ends.

mod aliases;
mod desk;
mod exchange;
mod goodbye;
mod half;
mod ids;
mod orders;
mod outbox;
mod queue;
mod socket;
mod subscriptions;

#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use mqtt_wire::frame_len;
use service::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};
use zeroize::Zeroizing;

use crate::cause::Cause;
pub(crate) use aliases::TOPIC_ALIASES;
use desk::{Desk, at_desk};
use exchange::Step;
pub(crate) use exchange::{Exchange, METHOD, Terms};
pub(crate) use goodbye::linger;
use half::Half;
pub(crate) use orders::{Order, Orders};
use outbox::Outbox;
pub(crate) use socket::PcmSocket;

/// Bytes for one side beyond which nothing is read that could add to them.
const HIGH_WATER: usize = 64 * 1024;
/// How often a client's allowance of packets is renewed.
const ALLOWANCE: Duration = Duration::from_secs(1);

/// A check of a new token under way.
pub(crate) type Reauthentication = Pin<Box<dyn Future<Output = Result<(), Cause>> + Send>>;

/// What a relay needs beside its two connections.
pub(crate) struct Surroundings<'a, F> {
    /// Orders for this session.
    pub(crate) orders: &'a Orders,
    /// Checks a token for this session; success shows as an order, too.
    pub(crate) reauthenticate: F,
    /// Time.
    pub(crate) clock: &'a Clock,
    /// The client's keep alive; zero is none (MQTT 5 §3.1.2.10).
    pub(crate) keep_alive: Duration,
    /// Longest packet that is read from the client.
    pub(crate) longest_packet: usize,
    /// Packets, and filters in them, that are taken from the client in a second; the others wait in its own buffers.
    pub(crate) packets_per_second: u32,
    /// Time without progress after which a side counts as gone.
    pub(crate) blocked: Duration,
    /// Time that the client may take for a packet, from its first byte to its last. What was read of it is kept meanwhile.
    pub(crate) packet: Duration,
}

/// Relays until the session ends; both connections are closed then. The
/// bytes are what was read behind CONNECT and CONNACK.
pub(crate) fn run<'a, C, P, F>(
    client: C,
    pcm: P,
    exchange: Exchange,
    (client_bytes, pcm_bytes): (BytesMut, BytesMut),
    around: Surroundings<'a, F>,
) -> impl Future<Output = Cause> + Send + use<'a, C, P, F>
where
    C: AsyncRead + AsyncWrite + Send + Unpin,
    P: AsyncRead + AsyncWrite + Send + Unpin,
    F: Fn(Zeroizing<String>) -> Reauthentication + Send,
{
    let now = Instant::now();
    // Boxed and not in the future itself, which would have room for it several times: as argument, as variable, in its caller.
    let mut relay = Box::new(Relay {
        client: Half::new(client, &client_bytes),
        pcm: Half::new(pcm, &pcm_bytes),
        exchange,
        reauthentication: None,
        heard: now,
        allowance: around.packets_per_second,
        renewed: now,
        alarm: None,
        around,
    });
    async move {
        let cause = poll_fn(|cx| relay.poll(cx)).await;
        let Relay { client, pcm, exchange, .. } = *relay;
        Box::pin(goodbye::say(cause, exchange, client, pcm)).await;
        cause
    }
}

struct Relay<'a, C, P, F> {
    client: Half<C>,
    pcm: Half<P>,
    exchange: Exchange,
    reauthentication: Option<Reauthentication>,
    /// When something came from the client.
    heard: Instant,
    /// Packets that may still be taken from the client since `renewed`.
    allowance: u32,
    renewed: Instant,
    /// Rings at the time when something may be due, or before.
    alarm: Option<Pin<Box<Sleep>>>,
    around: Surroundings<'a, F>,
}

impl<C, P, F> Relay<'_, C, P, F>
where
    C: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
    F: Fn(Zeroizing<String>) -> Reauthentication,
{
    /// Goes on until there is nothing to do; why the session ends, if it does.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        loop {
            // Before any packet: what came by the last order is judged by it.
            if let Some(order) = self.around.orders.news(cx.waker())
                && let Some(cause) = self.obey(order)
            {
                return Poll::Ready(cause);
            }
            if let Some(cause) = self.reauthenticated(cx) {
                return Poll::Ready(cause);
            }
            let now = Instant::now();
            if let Some(cause) = self.overdue(now) {
                return Poll::Ready(cause);
            }
            match at_desk(|desk| self.turn(cx, desk, now)) {
                Step::End(cause) => return Poll::Ready(cause),
                Step::Reauthenticate(_) if self.reauthentication.is_some() => {
                    return Poll::Ready(Cause::OutOfOrder);
                }
                Step::Reauthenticate(token) => {
                    self.reauthentication = Some((self.around.reauthenticate)(token));
                }
                Step::Continue => ready!(self.ring(cx)),
            }
        }
    }

    /// The cause, if the order is to end.
    fn obey(&mut self, order: Order) -> Option<Cause> {
        match order {
            Order::Under(grant) => {
                self.exchange.aside(|exchange, out| exchange.replace_grant(grant, out));
                None
            }
            Order::End(cause) => Some(cause),
        }
    }

    /// Looks after the check of a new token; the cause, if it failed.
    fn reauthenticated(&mut self, cx: &mut Context<'_>) -> Option<Cause> {
        let Poll::Ready(outcome) = self.reauthentication.as_mut()?.as_mut().poll(cx) else { return None };
        self.reauthentication = None;
        if let Err(cause) = outcome {
            return Some(cause);
        }
        let ended = self.obey(self.around.orders.last());
        if ended.is_none() {
            self.exchange.aside(|exchange, out| exchange.reauthenticated(out));
        }
        ended
    }

    /// Writes what waits and reads what may be read, until neither is possible or the session ends.
    fn turn(&mut self, cx: &mut Context<'_>, desk: &mut Desk, now: Instant) -> Step {
        loop {
            if let Err(cause) = self.send(cx, &[], desk, now) {
                return Step::End(cause);
            }
            let mut has_moved = false;
            for from_client in [true, false] {
                match self.take_in(from_client, cx, desk, now) {
                    Poll::Ready(Step::Continue) => has_moved = true,
                    Poll::Ready(step) => return step,
                    Poll::Pending => {}
                }
            }
            if self.client.is_over() && self.exchange.to_pcm.is_empty() {
                return Step::End(Cause::ClientGone);
            }
            if self.pcm.is_over() {
                return Step::End(Cause::PcmGone);
            }
            if !has_moved {
                return Step::Continue;
            }
        }
    }

    /// Judges what there is of one side and sends what comes of it; pending if there is nothing, or may not be anything.
    fn take_in(
        &mut self,
        from_client: bool,
        cx: &mut Context<'_>,
        desk: &mut Desk,
        now: Instant,
    ) -> Poll<Step> {
        let Exchange { to_client, to_pcm, .. } = &self.exchange;
        let (answers, onward) = if from_client { (to_client, to_pcm) } else { (to_pcm, to_client) };
        if !onward.is_empty() || answers.len() >= HIGH_WATER || from_client && self.allowance == 0 {
            return Poll::Pending;
        }
        let came = match from_client {
            true => ready!(self.client.read(cx, &mut desk.input)),
            false => ready!(self.pcm.read(cx, &mut desk.input)),
        };
        // Out of the desk for as long as it is read from, so that the rest of the desk can be worked at.
        let input = mem::take(&mut desk.input);
        let judged = self.judge(from_client, came.bytes(&input), &mut desk.out);
        let sent = self.send(cx, came.bytes(&input), desk, now);
        desk.input = input;
        let (used, is_unread) = (judged.used, judged.is_unread);
        if from_client {
            self.heard = now;
            self.client.keep(came, &desk.input, (used, is_unread), &mut desk.spare, now);
        } else {
            self.pcm.keep(came, &desk.input, (used, is_unread), &mut desk.spare, now);
        }
        Poll::Ready(sent.map_or_else(Step::End, |()| judged.step))
    }

    /// Judges the packets that are in `bytes` as a whole, until one needs the caller, much came of them or the client's
    /// allowance is used up.
    fn judge(&mut self, from_client: bool, bytes: &[u8], out: &mut Outbox) -> Judged {
        let mut used = 0;
        let longest = self.around.longest_packet;
        // The PCM may add what the client's limit does not count: labels for handles.
        let longest = if from_client { longest } else { 2 * longest };
        loop {
            let rest = &bytes[used..];
            let judged = |step, is_unread| Judged { used, step, is_unread };
            let much = out.to_client.len().max(out.to_pcm.len()) >= HIGH_WATER;
            if much || from_client && self.allowance == 0 {
                return judged(Step::Continue, true);
            }
            let length = match frame_len(rest, longest) {
                Ok(Some(length)) if length <= rest.len() => length,
                Ok(_) => return judged(Step::Continue, false),
                Err(error) if from_client => return judged(Step::End(Cause::Malformed(error)), false),
                Err(_) => return judged(Step::End(Cause::PcmGone), false),
            };
            let (frame, at) = (&rest[..length], used);
            used += length;
            let step = if from_client {
                self.allowance = self.allowance.saturating_sub(cost(frame));
                self.exchange.take_from_client(frame, at, out)
            } else {
                self.exchange.take_from_pcm(frame, at, out)
            };
            if step != Step::Continue {
                return Judged { used, step, is_unread: true };
            }
        }
    }

    /// Writes what waits for both sides, then what lies in `desk.out`, with its payloads in `input`.
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        input: &[u8],
        desk: &mut Desk,
        now: Instant,
    ) -> Result<(), Cause> {
        let Desk { out, spare, .. } = desk;
        let Exchange { to_client, to_pcm, .. } = &mut self.exchange;
        // Whoever does not hear any more may have said something before: reading goes on until that is seen.
        if self.client.flush(cx, to_client, spare, now).is_err()
            || self.client.send(cx, (to_client, &mut out.to_client), input, spare, now).is_err()
        {
            self.client.is_deaf = true;
        }
        let broken = self.pcm.flush(cx, to_pcm, spare, now).is_err()
            || self.pcm.send(cx, (to_pcm, &mut out.to_pcm), input, spare, now).is_err();
        // Also what was not written because the connection broke: the next session works at the same desk.
        out.clear();
        if broken { Err(Cause::PcmGone) } else { Ok(()) }
    }

    /// Why the session is over by now, if it is; renews the client's allowance.
    fn overdue(&mut self, now: Instant) -> Option<Cause> {
        if now >= self.renewed + ALLOWANCE {
            self.renewed = now;
            self.allowance = self.around.packets_per_second;
        }
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let blocked = self.around.blocked;
        if self.exchange.grant().has_ended(self.around.clock.now()) {
            Some(Cause::TokenEnded)
        } else if is_past(self.silent_at()) {
            Some(Cause::KeepAlive)
        } else if is_past(self.client.part_ends_at(self.around.packet)) {
            Some(Cause::PacketTimeout)
        } else if is_past(self.client.blocked_at(blocked)) {
            Some(Cause::ClientBlocked)
        } else if is_past(self.pcm.blocked_at(blocked)) {
            Some(Cause::PcmGone)
        } else {
            None
        }
    }

    /// When the client will have been silent for too long.
    fn silent_at(&self) -> Option<Instant> {
        let keep_alive = self.around.keep_alive;
        (!keep_alive.is_zero()).then(|| self.heard + keep_alive.mul_f32(1.5))
    }

    /// Ready when something may be due.
    fn ring(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let blocked = self.around.blocked;
        let renewal = (self.allowance == 0).then(|| self.renewed + ALLOWANCE);
        let part = self.client.part_ends_at(self.around.packet);
        let times =
            [self.silent_at(), part, self.client.blocked_at(blocked), self.pcm.blocked_at(blocked), renewal];
        let Some(due) = times.into_iter().flatten().min() else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
        // One that rings too early costs less than setting it anew for each packet.
        if alarm.deadline() > due || alarm.is_elapsed() {
            alarm.as_mut().reset(due);
        }
        alarm.as_mut().poll(cx)
    }
}

/// What a packet takes of its client's allowance. Each filter is looked at on its own, and the shortest takes four bytes of a
/// SUBSCRIBE: that many are counted, without reading them, so that a long filter counts as several.
fn cost(frame: &[u8]) -> u32 {
    let filters = match frame.first().map(|first| first >> 4) {
        Some(8 | 10) => frame.len() / 4,
        _ => 0,
    };
    u32::try_from(1 + filters).unwrap_or(u32::MAX)
}

/// What became of the bytes that were judged.
struct Judged {
    /// So many of them are dealt with.
    used: usize,
    step: Step,
    /// Whole packets may be among the rest.
    is_unread: bool,
}
