//! The machine: what to do next, given the record, the link, the clock and the button.
//!
//! The record alone decides the goal ([`Goal`]), the goal decides which server is needed; the rest is getting there and
//! staying there. What answers of the DIdP change in the record is in [`life`]; I/O, the clock, randomness and flash are
//! left to the caller.

mod life;
#[cfg(test)]
mod tests;

use core::ops::Range;

use mqtt_wire::{Packet, Properties, Publish, QoS, Version};

use crate::Millis;
use crate::oauth::{MAX_REQUEST, MAX_USER_CODE, Request};
use crate::record::{Ownership, Record, Server};
use crate::session::{Event, Session};
use crate::text::Text;

/// Longest channel name, in bytes.
pub const MAX_CHANNEL: usize = 64;
/// Longest payload of [`Device::publish_at_least_once`], in bytes.
pub const MAX_KEPT_PAYLOAD: usize = 192;

const KEPT: usize = MAX_KEPT_PAYLOAD + MAX_CHANNEL + 16;

/// The MQTT client identifier at the gateway. It must not be the client_id, which the gateway is not to learn; the gateway
/// keeps sessions apart by grant.
const GATEWAY_CLIENT: &str = "device";

/// How long a link must last before the failures before it are forgotten.
const SETTLED: Millis = 30_000;

/// A press that no DIdP could be told of is forgotten after this time.
const PRESS_KEPT: Millis = 60_000;

/// After so many failures in a row the DIdP is asked whether the gateway has moved.
const ASK_AFTER: u8 = 4;

/// After this time another try is made to use the renewed secret, if the first one failed.
const PROVE_AGAIN: Millis = 600_000;

/// Refused credentials are tried again no sooner than after this many doublings of the first back-off.
const REFUSED_DOUBLINGS: u8 = 6;

/// Settings; [`Options::default`] suits a device that runs all day.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// MQTT keep-alive in seconds.
    pub keep_alive: u16,
    /// Time for TCP, TLS and CONNACK together, and for each answer.
    pub answer: Millis,
    /// First back-off; each failure in a row doubles it.
    pub backoff: Millis,
    /// Longest back-off.
    pub backoff_max: Millis,
}

impl Default for Options {
    fn default() -> Self {
        Self { keep_alive: 60, answer: 20_000, backoff: 1_000, backoff_max: 300_000 }
    }
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Action<'a> {
    /// Open TLS to this server, check its pins before anything is sent, then call [`Device::connected`] or [`Device::closed`].
    Connect(&'a Server),
    /// Write some of these bytes, then call [`Device::sent`] with how many.
    Send(&'a [u8]),
    /// Close the transport, or give up opening it; nothing has to be reported.
    Close,
    /// Store the record as one atomic step, then call [`Device::stored`]. Until then nothing else happens.
    Store(&'a Record),
    /// A command came for `c/<channel>`.
    Command {
        /// The channel, without `c/`.
        channel: &'a str,
        /// Any bytes.
        payload: &'a [u8],
    },
    /// Nothing to do until the given time or the next input.
    Wait(Option<Millis>),
}

/// How a transport ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// It never came about, or it broke.
    Lost,
    /// The server's certificate has none of the pinned keys.
    Untrusted,
}

/// Where the device stands, for a lamp or a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody's, and not connected.
    Searching,
    /// Nobody's, connected to the DIdP: a press opens a claim window.
    Ready,
    /// A claim window is open.
    Claimable,
    /// An owner said yes; tokens are being fetched and stored.
    Settling,
    /// Owned; on the way to the gateway.
    Joining,
    /// Owned; at the DIdP for new tokens.
    Renewing,
    /// Owned and connected to the gateway.
    Running,
    /// Given up by its button; the DIdP has not acknowledged it yet.
    Resetting,
}

/// What a lamp shows of a [`Phase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lamp {
    /// Off, but for a short flash now and then: waiting for a press.
    Flash,
    /// Slow blinking: no connection.
    Slow,
    /// Fast blinking: claim window, or a reset under way.
    Fast,
    /// On.
    On,
}

impl Phase {
    /// What the lamp shows.
    pub fn lamp(self) -> Lamp {
        match self {
            Self::Ready => Lamp::Flash,
            Self::Searching | Self::Joining | Self::Renewing => Lamp::Slow,
            Self::Claimable | Self::Settling | Self::Resetting => Lamp::Fast,
            Self::Running => Lamp::On,
        }
    }
}

/// The last thing worth telling a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A server cannot be reached.
    Unreachable,
    /// A server's certificate is not the pinned one.
    Untrusted,
    /// The DIdP does not accept the device's credentials.
    CredentialsRefused,
    /// The owner said no.
    Declined,
    /// The claim window ended.
    WindowOver,
    /// The claim did not come about; press again.
    ClaimFailed,
    /// The device is nobody's any more.
    Released,
    /// The record cannot be stored.
    StorageFailed,
}

/// What a panel shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where the device stands.
    pub phase: Phase,
    /// The last thing worth telling.
    pub notice: Option<Notice>,
    /// The code that the owner has to type, while a claim window is open.
    pub user_code: Option<Text<MAX_USER_CODE>>,
    /// When the claim window ends.
    pub window_until: Option<Millis>,
}

/// Why nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// There is no session with the gateway.
    NotConnected,
    /// An earlier message has to be acknowledged, or bytes have to be sent, first.
    Busy,
    /// The channel is not one to four levels of letters, digits, `-` and `_`.
    Channel,
    /// The payload is too long.
    TooLong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Didp,
    Gateway,
}

/// What the record asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Wait,
    Redeem,
    Done,
    /// Log in once with the renewed secret, so that the one that the manufacturer knows dies.
    Prove,
    Refresh,
    Serve,
    Reset,
}

impl Goal {
    fn peer(self) -> Peer {
        match self {
            Self::Serve => Peer::Gateway,
            Self::Wait | Self::Redeem | Self::Done | Self::Prove | Self::Refresh | Self::Reset => Peer::Didp,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    Opening { by: Millis },
    Greeting { by: Millis },
    Up { settled: Millis },
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    Clean,
    Due(Millis),
    Handed,
}

/// The access token, as far as it is not in the record.
struct Token {
    usable: bool,
    /// No gateway has accepted it yet.
    fresh: bool,
    valid_until: Millis,
    renew_at: Millis,
}

/// A claim window.
struct Window {
    verifier: Text<43>,
    until: Millis,
    open: bool,
    user_code: Option<Text<MAX_USER_CODE>>,
}

/// A request that has not been answered.
#[derive(Clone, Copy)]
struct Awaiting {
    request: Request,
    since: Millis,
    by: Millis,
}

/// A message that is kept until the gateway has acknowledged it.
struct Kept {
    bytes: [u8; KEPT],
    len: usize,
    packet_id: u16,
    sent: bool,
}

enum Step {
    Again,
    Connect,
    Send,
    Close,
    Store,
    Command { topic: Range<usize>, payload: Range<usize> },
    Wait(Option<Millis>),
}

/// Bytes that nobody can foresee: fills the slice.
pub type Random<'a> = dyn FnMut(&mut [u8]) + 'a;

/// A device. `RX` and `TX` are the sizes of its buffers; an answer of the DIdP must fit into `RX`.
pub struct Device<const RX: usize = 2048, const TX: usize = 1024> {
    options: Options,
    record: Record,
    session: Session<RX, TX>,
    request: Text<MAX_REQUEST>,
    now: Millis,
    started: bool,
    link: Link,
    peer: Peer,
    retry_at: Millis,
    failures: u8,
    store: Store,
    token: Token,
    awaiting: Option<Awaiting>,
    window: Option<Window>,
    pressed_until: Option<Millis>,
    /// Log in with the former secret: the DIdP did not know the current one.
    try_former: bool,
    prove_at: Millis,
    kept: Option<Kept>,
    last_id: u16,
    notice: Option<Notice>,
}

impl<const RX: usize, const TX: usize> Device<RX, TX> {
    /// A device that has just been switched on with this record.
    pub fn new(record: Record, options: Options) -> Self {
        let usable = record.grant().is_some_and(|grant| !grant.access_token.is_empty());
        Self {
            options,
            record,
            session: Session::new(),
            request: Text::EMPTY,
            now: 0,
            started: false,
            link: Link::Down,
            peer: Peer::Didp,
            retry_at: 0,
            failures: 0,
            store: Store::Clean,
            token: Token { usable, fresh: false, valid_until: 0, renew_at: 0 },
            awaiting: None,
            window: None,
            pressed_until: None,
            try_former: false,
            prove_at: 0,
            kept: None,
            last_id: 0,
            notice: None,
        }
    }

    /// What to do now. Call it again after each action and after each input, and when the time of a [`Action::Wait`] has come.
    pub fn poll(&mut self, now: Millis, random: &mut Random<'_>) -> Action<'_> {
        // A clock that goes back must not make a deadline unreachable.
        self.now = self.now.max(now);
        if !self.started {
            self.started = true;
            self.schedule_after_restart(random);
        }
        loop {
            match self.step(random) {
                Step::Again => {}
                Step::Connect => {
                    return Action::Connect(match (self.peer, self.record.grant()) {
                        (Peer::Gateway, Some(grant)) => &grant.gateway,
                        (Peer::Gateway, None) | (Peer::Didp, _) => &self.record.didp,
                    });
                }
                Step::Send => return Action::Send(self.session.outgoing()),
                Step::Close => return Action::Close,
                Step::Store => return Action::Store(&self.record),
                Step::Command { topic, payload } => {
                    let channel = self.session.str(topic).strip_prefix("c/").unwrap_or_default();
                    return Action::Command { channel, payload: self.session.bytes(payload) };
                }
                Step::Wait(until) => return Action::Wait(until),
            }
        }
    }

    fn step(&mut self, random: &mut Random<'_>) -> Step {
        match self.store {
            Store::Clean => {}
            Store::Due(at) if self.now >= at => {
                self.store = Store::Handed;
                return Step::Store;
            }
            Store::Due(at) => return Step::Wait(Some(at)),
            Store::Handed => return Step::Wait(None),
        }
        match self.link {
            Link::Down if self.now >= self.retry_at => {
                self.peer = self.goal().peer();
                self.link = Link::Opening { by: self.now + self.options.answer };
                Step::Connect
            }
            Link::Down => Step::Wait(Some(self.retry_at)),
            Link::Opening { by } if self.now >= by => self.give_up(Notice::Unreachable, random),
            Link::Opening { by } => Step::Wait(Some(by)),
            Link::Greeting { .. } | Link::Up { .. } | Link::Closing
                if !self.session.outgoing().is_empty() =>
            {
                Step::Send
            }
            Link::Closing => {
                self.drop_link();
                self.retry_at = self.now;
                Step::Close
            }
            Link::Greeting { by } => match self.session.event() {
                Some(event) => self.greeted(event, random),
                None if self.now >= by => self.give_up(Notice::Unreachable, random),
                None => Step::Wait(Some(by)),
            },
            Link::Up { settled } => {
                if self.now >= settled {
                    self.failures = 0;
                }
                match self.session.event() {
                    Some(event) => self.heard(event, random),
                    None if self.session.keep_alive(self.now) => self.work(random),
                    None => self.give_up(Notice::Unreachable, random),
                }
            }
        }
    }

    fn goal(&self) -> Goal {
        match &self.record.ownership {
            Ownership::Waiting => Goal::Wait,
            Ownership::Granted(_) => Goal::Redeem,
            Ownership::ResetPending => Goal::Reset,
            Ownership::Owned(grant) if grant.done_pending => Goal::Done,
            Ownership::Owned(_) if !self.record.former_secret.is_empty() && self.now >= self.prove_at => {
                Goal::Prove
            }
            Ownership::Owned(_) if self.token.usable && self.now < self.token.renew_at => Goal::Serve,
            Ownership::Owned(_) => Goal::Refresh,
        }
    }

    /// True if the old access token still serves while a new one is being fetched.
    fn renews_early(&self) -> bool {
        self.goal() == Goal::Refresh && self.token.usable && self.now < self.token.valid_until
    }

    /// The answer to CONNECT.
    fn greeted(&mut self, event: Event, random: &mut Random<'_>) -> Step {
        match (event, self.peer) {
            (Event::Accepted, peer) => {
                self.link = Link::Up { settled: self.now + SETTLED };
                if matches!(
                    self.notice,
                    Some(
                        Notice::Unreachable
                            | Notice::Untrusted
                            | Notice::CredentialsRefused
                            | Notice::StorageFailed
                    )
                ) {
                    self.notice = None;
                }
                match peer {
                    Peer::Didp => self.secret_accepted(),
                    Peer::Gateway => {
                        self.token.fresh = false;
                        let id = self.packet_id();
                        if self.session.subscribe("c/#", id).is_err() {
                            return self.give_up(Notice::Unreachable, random);
                        }
                    }
                }
                Step::Again
            }
            (Event::Refused(4 | 5), Peer::Didp) => {
                if self.record.former_secret.is_empty() {
                    self.failures = self.failures.max(REFUSED_DOUBLINGS);
                } else {
                    self.try_former = !self.try_former;
                }
                self.give_up(Notice::CredentialsRefused, random)
            }
            (Event::Refused(4 | 5), Peer::Gateway) => {
                self.token.usable = false;
                if self.token.fresh {
                    return self.give_up(Notice::Unreachable, random);
                }
                // Ended or revoked: the DIdP knows.
                self.drop_link();
                self.retry_at = self.now;
                Step::Close
            }
            (Event::Refused(_) | Event::Message { .. } | Event::Acknowledged(_) | Event::Broken, _) => {
                self.give_up(Notice::Unreachable, random)
            }
        }
    }

    fn heard(&mut self, event: Event, random: &mut Random<'_>) -> Step {
        match (event, self.peer) {
            (Event::Message { topic, payload }, Peer::Didp) => self.answered(topic, payload, random),
            (Event::Message { topic, payload }, Peer::Gateway) => {
                let channel = self.session.str(topic.clone()).strip_prefix("c/");
                if channel.is_some_and(is_channel) { Step::Command { topic, payload } } else { Step::Again }
            }
            (Event::Acknowledged(id), _) => {
                if self.kept.as_ref().is_some_and(|kept| kept.packet_id == id) {
                    self.kept = None;
                }
                Step::Again
            }
            (Event::Accepted | Event::Refused(_) | Event::Broken, _) => {
                self.give_up(Notice::Unreachable, random)
            }
        }
    }

    /// What the goal asks for while the link is up and quiet.
    fn work(&mut self, random: &mut Random<'_>) -> Step {
        let goal = self.goal();
        if goal.peer() != self.peer {
            return self.leave();
        }
        match goal {
            Goal::Serve => return self.serve(),
            // Had this link been opened with the renewed secret, there would be no former one any more.
            Goal::Prove => return self.leave(),
            Goal::Wait | Goal::Redeem | Goal::Done | Goal::Refresh | Goal::Reset => {}
        }
        if let Some(awaiting) = self.awaiting {
            // An answer that comes later than this finds no connection: whoever gives up a request gives up its link.
            return if self.now >= awaiting.by {
                self.give_up(Notice::Unreachable, random)
            } else {
                self.wait(Some(awaiting.by))
            };
        }
        if self.window.as_ref().is_some_and(|window| self.now >= window.until) {
            self.window = None;
            self.notice = Some(Notice::WindowOver);
        }
        match self.ask(goal, random) {
            Some(request)
                if self.session.publish(request.topic(), self.request.as_str().as_bytes(), false).is_ok() =>
            {
                self.request.clear();
                let by = self.now + self.options.answer;
                self.awaiting = Some(Awaiting { request, since: self.now, by });
                Step::Again
            }
            Some(_) => self.give_up(Notice::Unreachable, random),
            None => self.wait(self.window.as_ref().map(|window| window.until)),
        }
    }

    fn serve(&mut self) -> Step {
        if let Some(kept) = self.kept.as_mut().filter(|kept| !kept.sent)
            && self.session.push(&kept.bytes[..kept.len]).is_ok()
        {
            kept.sent = true;
            return Step::Again;
        }
        if !self.session.outgoing().is_empty() {
            return Step::Again;
        }
        let prove_at = if self.record.former_secret.is_empty() { Millis::MAX } else { self.prove_at };
        self.wait(Some(self.token.renew_at.min(prove_at)))
    }

    /// Waits for `until`, the keep-alive, or the time when the link counts as settled.
    fn wait(&self, until: Option<Millis>) -> Step {
        if !self.session.outgoing().is_empty() {
            return Step::Again;
        }
        let settled = match self.link {
            Link::Up { settled } if self.failures > 0 => Some(settled),
            Link::Up { .. } | Link::Down | Link::Opening { .. } | Link::Greeting { .. } | Link::Closing => {
                None
            }
        };
        Step::Wait([until, self.session.deadline(), settled].into_iter().flatten().min())
    }

    /// Says goodbye and goes where the goal is.
    fn leave(&mut self) -> Step {
        // Without room for it the connection just ends; the server will notice.
        let _ = self.session.disconnect();
        self.link = Link::Closing;
        Step::Again
    }

    /// The link is of no use: back off, or, if an early renewal failed, go on with the token that still serves.
    fn give_up(&mut self, notice: Notice, random: &mut Random<'_>) -> Step {
        self.notice = Some(notice);
        self.failures = self.failures.saturating_add(1);
        let early = self.renews_early() && self.peer == Peer::Didp;
        let proving = self.goal() == Goal::Prove && self.token.usable;
        if self.peer == Peer::Gateway && self.failures.is_multiple_of(ASK_AFTER) {
            self.token.renew_at = self.now;
        }
        let had_link = self.link != Link::Down;
        self.drop_link();
        if early {
            let left = self.token.valid_until - self.now;
            let later = (left / 4).clamp(5_000, 600_000);
            self.token.renew_at = (self.now + jitter(later, random)).min(self.token.valid_until);
            self.retry_at = self.now;
        } else if proving {
            self.prove_at = self.now + jitter(PROVE_AGAIN, random);
            self.retry_at = self.now;
        } else {
            let doubled = self.options.backoff.saturating_mul(1 << (self.failures - 1).min(20));
            self.retry_at = self.now + jitter(doubled.min(self.options.backoff_max), random);
        }
        if had_link { Step::Close } else { Step::Again }
    }

    fn drop_link(&mut self) {
        self.session.forget();
        self.link = Link::Down;
        self.awaiting = None;
        self.window = None;
        if let Some(kept) = &mut self.kept {
            // The second attempt is marked as one (DUP, MQTT 3.1.1 §3.3.1.1).
            kept.bytes[0] |= if kept.sent { 0x08 } else { 0 };
            kept.sent = false;
        }
    }

    /// The transport is open and the server's certificate has been checked.
    pub fn connected(&mut self) {
        let Link::Opening { by } = self.link else { return };
        let keep_alive = self.options.keep_alive;
        let opened = match (self.peer, self.record.grant()) {
            (Peer::Gateway, Some(grant)) => {
                // The session outlives the link, so that a command sent during a renewal is not lost.
                self.session.open(
                    GATEWAY_CLIENT,
                    "Bearer",
                    grant.access_token.as_str(),
                    false,
                    keep_alive,
                    self.now,
                )
            }
            (Peer::Gateway, None) | (Peer::Didp, _) => {
                let id = self.record.client_id.as_str();
                let secret =
                    if self.try_former { &self.record.former_secret } else { &self.record.client_secret };
                self.session.open(id, id, secret.as_str(), true, keep_alive, self.now)
            }
        };
        // CONNECT fits into any sensible buffer; without it the greeting times out.
        self.link = if opened.is_ok() { Link::Greeting { by } } else { Link::Opening { by: self.now } };
    }

    /// The transport ended, or never opened.
    pub fn closed(&mut self, how: Closed, random: &mut Random<'_>) {
        match self.link {
            Link::Down => {}
            Link::Closing => {
                self.drop_link();
                self.retry_at = self.now;
            }
            Link::Opening { .. } | Link::Greeting { .. } | Link::Up { .. } => {
                let notice = match how {
                    Closed::Lost => Notice::Unreachable,
                    Closed::Untrusted => Notice::Untrusted,
                };
                // The step says that the transport is to be closed, which it is.
                let _ = self.give_up(notice, random);
            }
        }
    }

    /// Takes what came from the server and returns how much of it; the rest has to be offered again after [`Device::poll`].
    pub fn received(&mut self, bytes: &[u8]) -> usize {
        match self.link {
            Link::Greeting { .. } | Link::Up { .. } => self.session.receive(bytes, self.now),
            // Nobody listens any more.
            Link::Down | Link::Opening { .. } | Link::Closing => bytes.len(),
        }
    }

    /// The first `n` bytes of the last [`Action::Send`] were written.
    pub fn sent(&mut self, n: usize) {
        self.session.sent(n);
    }

    /// Whether the record of the last [`Action::Store`] is safe now. If not, it will be asked for again.
    pub fn stored(&mut self, safe: bool) {
        if self.store == Store::Handed {
            self.store = if safe { Store::Clean } else { Store::Due(self.now + 5_000) };
            if !safe {
                self.notice = Some(Notice::StorageFailed);
            } else if self.notice == Some(Notice::StorageFailed) {
                self.notice = None;
            }
        }
    }

    /// Publishes to `d/<channel>`, at most once: nothing is kept for later. `retain`: the owner's broker keeps it as the
    /// channel's last value, as far as a consent allows.
    pub fn publish(&mut self, channel: &str, payload: &[u8], retain: bool) -> Result<(), PublishError> {
        let topic = topic(channel)?;
        if !self.is_running() {
            return Err(PublishError::NotConnected);
        }
        if payload.len() + channel.len() + 9 > TX {
            return Err(PublishError::TooLong);
        }
        self.session.publish(topic.as_str(), payload, retain).map_err(|_| PublishError::Busy)
    }

    /// Publishes to `d/<channel>`, at least once: kept, one at a time and not over a restart, until the gateway has
    /// acknowledged it.
    pub fn publish_at_least_once(
        &mut self,
        channel: &str,
        payload: &[u8],
        retain: bool,
    ) -> Result<(), PublishError> {
        let topic = topic(channel)?;
        if self.record.grant().is_none() {
            return Err(PublishError::NotConnected);
        }
        if payload.len() > MAX_KEPT_PAYLOAD {
            return Err(PublishError::TooLong);
        }
        if self.kept.is_some() {
            return Err(PublishError::Busy);
        }
        let packet_id = self.packet_id();
        let packet = Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain,
            topic: topic.as_str(),
            packet_id: Some(packet_id),
            properties: Properties::EMPTY,
            payload,
        });
        let mut bytes = [0; KEPT];
        let len = packet.encode(Version::V311, &mut bytes).map_err(|_| PublishError::TooLong)?;
        self.kept = Some(Kept { bytes, len, packet_id, sent: false });
        Ok(())
    }

    fn packet_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// True while there is a session with the gateway.
    pub fn is_running(&self) -> bool {
        self.peer == Peer::Gateway && matches!(self.link, Link::Up { .. }) && self.goal() == Goal::Serve
    }

    /// What a panel shows.
    pub fn status(&self) -> Status {
        let at = |peer| self.peer == peer && matches!(self.link, Link::Up { .. });
        let window = self.window.as_ref().filter(|window| window.open);
        let phase = match self.goal() {
            Goal::Wait if window.is_some() => Phase::Claimable,
            Goal::Wait if at(Peer::Didp) => Phase::Ready,
            Goal::Wait => Phase::Searching,
            Goal::Redeem | Goal::Done | Goal::Prove => Phase::Settling,
            Goal::Refresh => Phase::Renewing,
            Goal::Serve if at(Peer::Gateway) => Phase::Running,
            Goal::Serve => Phase::Joining,
            Goal::Reset => Phase::Resetting,
        };
        Status {
            phase,
            notice: self.notice,
            user_code: window.and_then(|window| window.user_code.clone()),
            window_until: window.map(|window| window.until),
        }
    }

    /// The record as it is now; what the last [`Action::Store`] did not cover yet is in it too.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

fn topic(channel: &str) -> Result<Text<{ MAX_CHANNEL + 2 }>, PublishError> {
    let mut topic = Text::EMPTY;
    if is_channel(channel) && topic.push("d/") && topic.push(channel) {
        Ok(topic)
    } else {
        Err(PublishError::Channel)
    }
}

/// One to four levels of ASCII letters, digits, `-` and `_`, [`MAX_CHANNEL`] bytes at most.
fn is_channel(name: &str) -> bool {
    let plain = |level: &str| {
        !level.is_empty() && level.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= MAX_CHANNEL && name.split('/').count() <= 4 && name.split('/').all(plain)
}

/// Between half of `span` and all of it, so that many devices that failed together do not come back together.
fn jitter(span: Millis, random: &mut Random<'_>) -> Millis {
    let mut bytes = [0; 4];
    random(&mut bytes);
    span / 2 + Millis::from(u32::from_le_bytes(bytes)) % (span / 2 + 1)
}
