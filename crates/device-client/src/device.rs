//! The machine: what to do next, given the record, the link, the clock and the button.
//!
//! The record alone decides the goal (`Goal`), the goal decides which server is needed; the rest is getting there and
//! staying there (`link`). What answers of the DIdP change in the record is in `life`; I/O, the clock, randomness and flash
//! are left to the caller.

mod face;
mod life;
mod link;
mod publish;
#[cfg(test)]
mod tests;

use core::ops::Range;

pub use self::face::{Action, Closed, Lamp, Notice, Options, Phase, PublishError, Status};
use self::publish::{Kept, Topic, is_channel};
pub use self::publish::{MAX_CHANNEL, MAX_KEPT_PAYLOAD};
use crate::Millis;
use crate::oauth::{MAX_REQUEST, MAX_USER_CODE, Request};
use crate::record::{Ownership, Record};
use crate::session::{Event, Session};
use crate::text::Text;

/// A press that no DIdP could be told of is forgotten after this time.
const PRESS_KEPT: Millis = 60_000;

/// After so many failures in a row the DIdP is asked whether the gateway has moved.
const ASK_AFTER: u8 = 4;

/// After this time another try is made to use the renewed secret, if the first one failed.
const PROVE_AGAIN: Millis = 600_000;

/// A clock that goes back by less than this stands still for so long.
const JITTERY: Millis = 1_000;

/// No clock gets there; what is added to it still fits.
const LATEST: Millis = Millis::MAX / 2;

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

/// Where the owner's broker says what is wanted and not reported yet.
const DELTA: &str = "s/delta";

enum Step {
    Again,
    Connect,
    Send,
    Close,
    Store,
    Command {
        topic: Range<usize>,
        payload: Range<usize>,
    },
    Delta {
        payload: Range<usize>,
    },
    /// Until then; [`Millis::MAX`]: for an input.
    Wait(Millis),
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
    /// Of the last message that was published.
    topic: Topic,
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
            topic: Topic::EMPTY,
            last_id: 0,
            notice: None,
        }
    }

    /// What to do now. Call it again after each action and after each input, and when the time of a [`Action::Wait`] has come.
    pub fn poll(&mut self, now: Millis, random: &mut Random<'_>) -> Action<'_> {
        let now = now.min(LATEST);
        if now >= self.now {
            self.now = now;
        } else if self.now - now > JITTERY {
            self.clock_lied(now);
        }
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
                Step::Delta { payload } => return Action::Delta { patch: self.session.bytes(payload) },
                Step::Wait(until) => return Action::Wait((until < Millis::MAX).then_some(until)),
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
            Store::Due(at) => return Step::Wait(at),
            Store::Handed => return Step::Wait(Millis::MAX),
        }
        match self.link {
            Link::Down if self.now >= self.retry_at => {
                self.peer = self.goal().peer();
                self.link = Link::Opening { by: self.now + self.options.answer };
                Step::Connect
            }
            Link::Down => Step::Wait(self.retry_at),
            Link::Opening { by } if self.now >= by => self.give_up(Notice::Unreachable, random),
            Link::Opening { by } => Step::Wait(by),
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
                None => Step::Wait(by),
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

    fn heard(&mut self, event: Event, random: &mut Random<'_>) -> Step {
        match (event, self.peer) {
            (Event::Message { topic, payload }, Peer::Didp) => self.answered(topic, payload, random),
            (Event::Message { topic, payload }, Peer::Gateway) => {
                let name = self.session.str(topic.clone());
                if name == DELTA {
                    Step::Delta { payload }
                } else if name.strip_prefix("c/").is_some_and(is_channel) {
                    Step::Command { topic, payload }
                } else {
                    Step::Again
                }
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
                self.wait(awaiting.by)
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
            None => self.wait(self.window.as_ref().map_or(Millis::MAX, |window| window.until)),
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
        self.wait(self.token.renew_at.min(prove_at))
    }

    /// Waits for `until`, the keep-alive, or the time when the link counts as settled.
    fn wait(&self, until: Millis) -> Step {
        if !self.session.outgoing().is_empty() {
            return Step::Again;
        }
        let until = until.min(self.session.deadline());
        match self.link {
            Link::Up { settled } if self.failures > 0 => Step::Wait(until.min(settled)),
            Link::Up { .. } | Link::Down | Link::Opening { .. } | Link::Greeting { .. } | Link::Closing => {
                Step::Wait(until)
            }
        }
    }

    /// Says goodbye and goes where the goal is.
    fn leave(&mut self) -> Step {
        // Without room for it the connection just ends; the server will notice.
        let _ = self.session.disconnect();
        self.link = Link::Closing;
        Step::Again
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

    /// True while there is a session with the gateway.
    pub fn is_running(&self) -> bool {
        self.peer == Peer::Gateway && matches!(self.link, Link::Up { .. }) && self.goal() == Goal::Serve
    }

    /// What a panel shows.
    pub fn status(&self) -> Status {
        let window = self.open_window();
        Status {
            phase: self.phase(),
            notice: self.notice,
            user_code: window.and_then(|window| window.user_code.clone()),
            window_until: window.map(|window| window.until),
        }
    }

    /// Whether [`Device::status`] is this one still, which is asked much more often than something changes.
    pub fn is_still(&self, status: &Status) -> bool {
        status.phase == self.phase()
            && status.notice == self.notice
            // A window that was opened anew has another code, and ends at another time.
            && (status.phase != Phase::Claimable
                || self.open_window().is_some_and(|window| {
                    Some(window.until) == status.window_until && window.user_code == status.user_code
                }))
    }

    fn open_window(&self) -> Option<&Window> {
        self.window.as_ref().filter(|window| window.open)
    }

    fn phase(&self) -> Phase {
        let at = |peer| self.peer == peer && matches!(self.link, Link::Up { .. });
        match self.goal() {
            Goal::Wait if self.open_window().is_some() => Phase::Claimable,
            Goal::Wait if at(Peer::Didp) => Phase::Ready,
            Goal::Wait => Phase::Searching,
            Goal::Redeem | Goal::Done | Goal::Prove => Phase::Settling,
            Goal::Refresh => Phase::Renewing,
            Goal::Serve if at(Peer::Gateway) => Phase::Running,
            Goal::Serve => Phase::Joining,
            Goal::Reset => Phase::Resetting,
        }
    }

    /// The record as it is now; what the last [`Action::Store`] did not cover yet is in it too.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

/// Between half of `span` and all of it, so that many devices that failed together do not come back together.
fn jitter(span: Millis, random: &mut Random<'_>) -> Millis {
    let mut bytes = [0; 4];
    random(&mut bytes);
    span / 2 + Millis::from(u32::from_le_bytes(bytes)) % (span / 2 + 1)
}
