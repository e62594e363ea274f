//! What a journal needs: a record of every change that must outlive the process, the whole state as such records, and
//! the way back.
//!
//! [`Log`] collects records while the broker works; [`Broker::take_log`] hands them out. Sessions log their changes one
//! by one, a retained topic or a shadow is written as a whole when something about it changed. A message's body is
//! written once, whoever it goes to. Where the records go, and how they are kept from others' eyes, is the caller's.
//!
//! Logged are sessions that outlive their connection, and of the others those with a will, which is all that is logged
//! of them. What no grant covers never comes as far as here, except a will that nobody may read, which is not logged.

pub(crate) mod replay;
#[cfg(test)]
mod round_trip;
mod snapshot;
pub(crate) mod wire;

pub use replay::{Malformed, Restore};

use crate::broker::Broker;
use crate::grants::Policy;
use crate::message::Message;
use crate::session::{Session, Subscribed, Waiting, Will};
use mqtt_wire::QoS;
use std::collections::BTreeSet;
use wire::{put_bytes, put_maybe, put_maybe_text, put_number};

/// First byte of each record. What follows is read in `replay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Message = 1,
    Session,
    Resumed,
    Left,
    Ended,
    Subscribed,
    Unsubscribed,
    Enqueued,
    Sent,
    Skipped,
    Flown,
    Completing,
    Landed,
    Received,
    Released,
    Will,
    NoWill,
    Retained,
    Shadow,
}

impl Kind {
    const ALL: [Kind; 19] = [
        Kind::Message,
        Kind::Session,
        Kind::Resumed,
        Kind::Left,
        Kind::Ended,
        Kind::Subscribed,
        Kind::Unsubscribed,
        Kind::Enqueued,
        Kind::Sent,
        Kind::Skipped,
        Kind::Flown,
        Kind::Completing,
        Kind::Landed,
        Kind::Received,
        Kind::Released,
        Kind::Will,
        Kind::NoWill,
        Kind::Retained,
        Kind::Shadow,
    ];

    fn of(byte: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Changes since the last [`Broker::take_log`]. Off until [`Broker::start_log`], and then it costs a comparison.
#[derive(Default)]
pub(crate) struct Log {
    on: bool,
    /// Records could not be kept: none are made until the whole state has been.
    behind: bool,
    /// What is kept has more than there is now: grants have changed.
    stale: bool,
    /// A snapshot has been handed out, and it is not said yet whether it is kept.
    is_whole: bool,
    records: Vec<u8>,
    /// Numbers of messages from here on stand for bodies that are written.
    written_from: u64,
    next_message: u64,
    /// Topics and labels whose entries have changed.
    retained: BTreeSet<Box<str>>,
    shadows: BTreeSet<Box<str>>,
    /// The connection whose packet is being handled.
    actor: Option<usize>,
    /// Connections whose next output must not leave without what is logged.
    owing: Vec<usize>,
}

impl Log {
    /// The connection that the next records are due to.
    pub(crate) const fn acts(&mut self, connection: Option<usize>) {
        self.actor = connection;
    }

    /// A retained entry has changed, come or gone.
    pub(crate) fn retained(&mut self, topic: &str) {
        if self.on {
            self.owes(None);
            if !self.behind && !self.retained.contains(topic) {
                self.retained.insert(topic.into());
            }
        }
    }

    /// A device's shadow has changed, come or gone.
    pub(crate) fn shadow(&mut self, label: &str) {
        if self.on {
            self.owes(None);
            if !self.behind && !self.shadows.contains(label) {
                self.shadows.insert(label.into());
            }
        }
    }

    /// More may be gone than records can tell: the whole state is to be kept anew.
    pub(crate) const fn outdated(&mut self) {
        self.stale = self.on;
    }

    /// Whether nothing more can be stored at present.
    pub(crate) const fn refuses(&self) -> bool {
        self.on && self.behind
    }

    fn owes(&mut self, also: Option<usize>) {
        for connection in self.actor.into_iter().chain(also) {
            if !self.owing.iter().rev().take(2).any(|known| *known == connection) {
                self.owing.push(connection);
            }
        }
    }

    /// Begins a record about a session, if it is logged. That one is there, or has a connection, or a will, is written as
    /// soon as may be, but nobody is cut off for want of it: who comes and goes must not depend on what can be stored.
    fn about(&mut self, kind: Kind, id: usize, session: &Session) -> Option<&mut Vec<u8>> {
        if !self.on || self.behind || !session.logged {
            return None;
        }
        self.records.push(kind as u8);
        put_number(&mut self.records, id as u64);
        Some(&mut self.records)
    }

    /// The same for what is only logged of sessions that outlive their connection, and what is not answered before.
    fn about_lasting(&mut self, kind: Kind, id: usize, session: &Session) -> Option<&mut Vec<u8>> {
        if !self.on || !session.logged || session.expiry == 0 {
            return None;
        }
        self.owes(session.connection);
        self.about(kind, id, session)
    }

    /// The number that stands for a message's body; writes the body if it has none yet.
    fn message(&mut self, message: &Message) -> u64 {
        let known = message.number.get();
        if known >= self.written_from && known != 0 {
            return known;
        }
        self.next_message += 1;
        message.number.set(self.next_message);
        self.records.push(Kind::Message as u8);
        put_number(&mut self.records, self.next_message);
        put_message(&mut self.records, message);
        self.next_message
    }

    /// A connection has taken the session, new or not.
    pub(crate) fn attached(&mut self, id: usize, session: &mut Session, policy: &Policy) {
        if !self.on {
            return;
        }
        let will = session.will.as_ref().filter(|will| may_keep(policy, will)).is_some();
        let worth = session.expiry > 0 || will;
        if session.logged && !worth {
            self.ended(id, session);
            session.logged = false;
        } else if session.logged && session.expiry > 0 {
            if let Some(out) = self.about(Kind::Resumed, id, session) {
                put_number(out, u64::from(session.expiry));
            }
            self.will(id, session, policy);
        } else if worth {
            session.logged = true;
            if !self.behind {
                let _never_fails = self.whole(id, session, policy, &mut |_| Ok(()));
            }
        }
    }

    /// Writes the session's will, or that there is none.
    fn will(&mut self, id: usize, session: &Session, policy: &Policy) {
        match session.will.as_ref().filter(|will| may_keep(policy, will)) {
            None => self.no_will(id, session),
            Some(will) => {
                if let Some(out) = self.about(Kind::Will, id, session) {
                    put_will(out, will);
                }
            }
        }
    }

    pub(crate) fn no_will(&mut self, id: usize, session: &Session) {
        let _begun = self.about(Kind::NoWill, id, session);
    }

    /// The session's connection is gone: it and its will are due at the times that it has now.
    pub(crate) fn left(&mut self, id: usize, session: &Session) {
        if let Some(out) = self.about(Kind::Left, id, session) {
            put_left(out, session);
        }
    }

    pub(crate) fn ended(&mut self, id: usize, session: &Session) {
        let _begun = self.about(Kind::Ended, id, session);
    }

    pub(crate) fn subscribed(&mut self, id: usize, session: &Session, subscribed: &Subscribed) {
        if let Some(out) = self.about_lasting(Kind::Subscribed, id, session) {
            put_subscribed(out, subscribed);
        }
    }

    pub(crate) fn unsubscribed(&mut self, id: usize, session: &Session, filter: &str) {
        if let Some(out) = self.about_lasting(Kind::Unsubscribed, id, session) {
            put_bytes(out, filter.as_bytes());
        }
    }

    /// Whether a message for this session makes records.
    fn keeps(&mut self, session: &Session, waiting: &Waiting) -> bool {
        let keeps = self.on && session.logged && session.expiry > 0 && waiting.qos != QoS::AtMostOnce;
        if keeps {
            self.owes(session.connection);
        }
        keeps && !self.behind
    }

    /// A message was put at the end of the queue.
    pub(crate) fn enqueued(&mut self, id: usize, session: &Session, waiting: &Waiting) {
        if self.keeps(session, waiting) {
            let number = self.message(&waiting.message);
            if let Some(out) = self.about(Kind::Enqueued, id, session) {
                put_waiting(out, number, waiting);
            }
        }
    }

    /// The first message of the queue went out with this packet identifier.
    pub(crate) fn sent(&mut self, id: usize, session: &Session, waiting: &Waiting, packet_id: u16) {
        if self.keeps(session, waiting)
            && let Some(out) = self.about(Kind::Sent, id, session)
        {
            put_number(out, u64::from(packet_id));
        }
    }

    /// The first message of the queue was dropped.
    pub(crate) fn skipped(&mut self, id: usize, session: &Session, waiting: &Waiting) {
        if self.keeps(session, waiting) {
            let _begun = self.about(Kind::Skipped, id, session);
        }
    }

    /// A message went out without having waited.
    pub(crate) fn flown(&mut self, id: usize, session: &Session, waiting: &Waiting, packet_id: u16) {
        if self.keeps(session, waiting) {
            let number = self.message(&waiting.message);
            if let Some(out) = self.about(Kind::Flown, id, session) {
                put_number(out, u64::from(packet_id));
                put_waiting(out, number, waiting);
            }
        }
    }

    /// The client has a message of QoS 2: only its identifier is kept until PUBCOMP.
    pub(crate) fn completing(&mut self, id: usize, session: &Session, packet_id: u16) {
        self.identifier(Kind::Completing, id, session, packet_id);
    }

    /// Nothing is owed for this packet identifier any more.
    pub(crate) fn landed(&mut self, id: usize, session: &Session, packet_id: u16) {
        self.identifier(Kind::Landed, id, session, packet_id);
    }

    /// A message of QoS 2 came in.
    pub(crate) fn received(&mut self, id: usize, session: &Session, packet_id: u16) {
        self.identifier(Kind::Received, id, session, packet_id);
    }

    /// The client has given its identifier free.
    pub(crate) fn released(&mut self, id: usize, session: &Session, packet_id: u16) {
        self.identifier(Kind::Released, id, session, packet_id);
    }

    fn identifier(&mut self, kind: Kind, id: usize, session: &Session, packet_id: u16) {
        if let Some(out) = self.about_lasting(kind, id, session) {
            put_number(out, u64::from(packet_id));
        }
    }
}

/// Consent comes before storage, also of a will: one that nobody may read would be dropped anyway.
fn may_keep(policy: &Policy, will: &Will) -> bool {
    policy.has_reader(will.message.content().topic)
}

/// Appends topic, payload, properties, expiry and grant of a message.
pub(crate) fn put_message(out: &mut Vec<u8>, message: &Message) {
    let content = message.content();
    put_maybe(out, content.expires_at);
    put_maybe_text(out, message.sid.as_deref());
    put_bytes(out, content.topic.as_bytes());
    put_bytes(out, content.properties);
    put_bytes(out, content.payload);
}

fn put_will(out: &mut Vec<u8>, will: &Will) {
    out.push(will.qos.bits() | u8::from(will.retain) << 2);
    put_number(out, u64::from(will.delay));
    put_maybe(out, will.expiry.map(u64::from));
    put_message(out, &will.message);
}

fn put_left(out: &mut Vec<u8>, session: &Session) {
    put_number(out, session.left_at);
    put_number(out, u64::from(session.expiry));
    put_maybe(out, session.expires_at);
    put_maybe(out, session.will_at);
}

fn put_subscribed(out: &mut Vec<u8>, subscribed: &Subscribed) {
    let entry = &subscribed.entry;
    out.push(entry.qos.bits() | u8::from(entry.no_local) << 2 | u8::from(entry.retain_as_published) << 3);
    put_number(out, u64::from(entry.id));
    put_bytes(out, subscribed.filter.as_bytes());
}

fn put_waiting(out: &mut Vec<u8>, number: u64, waiting: &Waiting) {
    put_number(out, number);
    out.push(waiting.qos.bits() | u8::from(waiting.retain) << 2);
    put_number(out, waiting.ids.len() as u64);
    for id in &waiting.ids {
        put_number(out, u64::from(*id));
    }
}

impl Broker {
    /// From now on changes are logged; the first thing to keep is a [`Broker::snapshot`].
    pub fn start_log(&mut self) {
        self.log.on = true;
    }

    /// Nothing is logged any more.
    pub fn stop_log(&mut self) {
        self.log = Log::default();
        for (_, session) in &mut self.sessions {
            session.logged = false;
        }
    }

    /// Appends the records of all changes since the last call to `out`.
    pub fn take_log(&mut self, out: &mut Vec<u8>) {
        for topic in std::mem::take(&mut self.log.retained) {
            snapshot::put_retained(&mut self.log.records, &self.retained, &topic);
        }
        for label in std::mem::take(&mut self.log.shadows) {
            snapshot::put_shadow(&mut self.log.records, &self.shadows, &label);
        }
        out.extend_from_slice(&self.log.records);
        self.log.records.clear();
        self.log.records.shrink_to(KEPT_CAPACITY);
    }

    /// What was taken from the log, or the snapshot, is safe.
    pub fn kept(&mut self) {
        if std::mem::take(&mut self.log.is_whole) {
            self.log.behind = false;
            self.log.stale = false;
        }
        self.log.owing.clear();
    }

    /// Whether there is something for [`Broker::take_log`].
    pub fn has_log(&self) -> bool {
        !self.log.records.is_empty() || !self.log.retained.is_empty() || !self.log.shadows.is_empty()
    }

    /// Whether a [`Broker::snapshot`] is due instead of the log: grants have changed, and what they do not cover must go,
    /// or [`Broker::not_kept`] was said before and
    /// something was to be logged since.
    pub fn wants_snapshot(&self) -> bool {
        self.log.on && (self.log.stale || (self.log.behind && !self.log.owing.is_empty()))
    }

    /// Whether [`Broker::not_kept`] was said, and no snapshot has been kept since.
    pub const fn is_behind(&self) -> bool {
        self.log.behind
    }

    /// Whether changes are logged.
    pub const fn is_logging(&self) -> bool {
        self.log.on
    }

    /// The records could not be kept; within a second [`Self::tick`] is due, so that it can be tried again. Connections whose packets they are about end without an answer, so that their
    /// clients try again; until a [`Broker::snapshot`] is [`Broker::kept`] nothing new is stored: whoever wants something
    /// stored gets 0x97, or in MQTT 3.1.1, which cannot say no, the end of the connection.
    pub fn not_kept(&mut self, now: u64) {
        self.log.behind = true;
        self.log.is_whole = false;
        self.log.records = Vec::new();
        self.log.retained.clear();
        self.log.shadows.clear();
        self.log.actor = None;
        let mut owing = std::mem::take(&mut self.log.owing);
        owing.sort_unstable();
        owing.dedup();
        for connection in owing {
            if let Some(link) = self.connections.get_mut(&connection) {
                link.output.drop_unwritten();
                self.hang_up(connection, now);
            }
        }
        // What ending them led to is in the next snapshot as well.
        self.log.owing.clear();
        self.wake_at(now + RETRY_MS);
    }
}

/// From a failure to the next try, in milliseconds.
const RETRY_MS: u64 = 1_000;
/// A log without records keeps at most this much memory.
const KEPT_CAPACITY: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn every_kind_has_its_byte() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at + 1);
            assert_eq!(Kind::of(kind as u8), Some(kind));
        }
        assert_eq!(Kind::of(0), None);
        assert_eq!(Kind::of(20), None);
    }
}
