//! Records back into a broker.

use super::Kind;
use super::wire::Reader;
use crate::broker::{Broker, group_name};
use crate::flights::{Flying, Stage};
use crate::grants::Policy;
use crate::message::{Content, Message, after};
use crate::session::{Session, Subscribed, Waiting, Will};
use crate::tree::{Entry, shared};
use mqtt_wire::QoS;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// The bytes are no records of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the records of a broker")
    }
}

impl std::error::Error for Malformed {}

/// A broker whose state is being put back.
pub struct Restore<'a> {
    broker: &'a mut Broker,
    /// Sessions and messages by the numbers that they have in the records.
    sessions: BTreeMap<u64, usize>,
    messages: BTreeMap<u64, Rc<Message>>,
    /// Grants by name, so that each name is there once.
    sids: BTreeMap<Box<str>, Rc<str>>,
}

impl Broker {
    /// Begins to put a state back, into a broker that has none and whose grants are those that the records were made
    /// under. It must not log yet.
    pub fn restore(&mut self) -> Restore<'_> {
        Restore { broker: self, sessions: BTreeMap::new(), messages: BTreeMap::new(), sids: BTreeMap::new() }
    }
}

impl Restore<'_> {
    /// Applies whole records.
    ///
    /// # Errors
    /// [`Malformed`]; the records before the bad one are applied.
    pub fn records(&mut self, records: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader(records);
        while !reader.is_empty() {
            self.record(&mut reader).ok_or(Malformed)?;
        }
        Ok(())
    }

    /// Everything is applied. Sessions that had a connection have lost it now: they expire, and their wills are due, as
    /// after any lost connection.
    pub fn finish(self, now: u64) {
        let lost: Vec<usize> = self
            .sessions
            .values()
            .copied()
            .filter(|id| self.broker.sessions.get(*id).is_some_and(|session| session.expires_at.is_none()))
            .collect();
        for id in lost {
            let Some(session) = self.broker.sessions.get_mut(id) else { continue };
            session.left_at = now;
            session.expires_at = Some(after(now, session.expiry));
            session.will_at = session.will.as_ref().map(|will| after(now, will.delay.min(session.expiry)));
        }
        self.broker.retained.expire(now);
        self.broker.wake_at(now);
    }

    fn record(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let kind = Kind::of(reader.byte()?)?;
        match kind {
            Kind::Message => {
                let number = reader.number()?;
                let message = Rc::new(self.message(reader)?);
                self.messages.insert(number, message);
                return Some(());
            }
            Kind::Retained => {
                let topic = reader.text()?;
                let mut entry = Reader(reader.bytes()?);
                if entry.is_empty() {
                    self.broker.retained.remove(topic);
                    return Some(());
                }
                let Broker { retained, policy, .. } = &mut *self.broker;
                return retained.read(topic, &mut entry, policy).filter(|()| entry.is_empty());
            }
            Kind::Shadow => {
                let label = reader.text()?;
                let entry = reader.bytes()?;
                return self.broker.shadows.read(label, entry).then_some(());
            }
            Kind::Session => {
                let number = reader.number()?;
                return self.session(number, reader);
            }
            _ => {}
        }
        let number = reader.number()?;
        let id = *self.sessions.get(&number)?;
        match kind {
            Kind::Ended => {
                self.sessions.remove(&number);
                self.broker.forget(id);
            }
            Kind::Subscribed => self.subscribed(id, reader)?,
            Kind::Unsubscribed => {
                let filter = reader.text()?;
                self.broker.unsubscribe(id, filter);
            }
            Kind::Will => {
                let will = self.will(reader)?;
                self.broker.sessions.get_mut(id)?.will = Some(will);
            }
            Kind::Enqueued => {
                let waiting = self.waiting(reader)?;
                let Broker { sessions, held, limits, .. } = &mut *self.broker;
                // It was within the limits when it was logged; where they are lower now the newest goes.
                let _within = sessions.get_mut(id)?.enqueue(waiting, held, limits);
            }
            Kind::Flown => {
                let packet_id = reader.small()?;
                let waiting = self.waiting(reader)?;
                self.fly(id, packet_id, waiting)?;
            }
            Kind::Sent => {
                let packet_id = reader.small()?;
                let Broker { sessions, held, .. } = &mut *self.broker;
                if let Some(waiting) = sessions.get_mut(id)?.next_waiting(usize::MAX, held) {
                    self.fly(id, packet_id, waiting)?;
                }
            }
            Kind::Skipped => {
                let Broker { sessions, held, .. } = &mut *self.broker;
                let _gone = sessions.get_mut(id)?.next_waiting(usize::MAX, held);
            }
            Kind::Completing => {
                let packet_id = reader.small()?;
                self.complete(id, packet_id)?;
            }
            Kind::Landed => {
                let packet_id = reader.small()?;
                self.fall(id, packet_id)?;
            }
            Kind::Resumed | Kind::Left | Kind::Received | Kind::Released | Kind::NoWill => {
                change(self.broker.sessions.get_mut(id)?, kind, reader)?;
            }
            Kind::Message | Kind::Session | Kind::Retained | Kind::Shadow => return None,
        }
        Some(())
    }

    fn session(&mut self, number: u64, reader: &mut Reader<'_>) -> Option<()> {
        let key = reader.text()?;
        let sid = reader.maybe_text()?.map(|sid| self.sid(sid));
        let mut session = Session::new(key.into(), sid);
        session.expiry = reader.small()?;
        session.flying.go_on_after(reader.small()?);
        if let Some(known) = self.broker.by_key.get(key).copied() {
            self.broker.forget(known);
        }
        let id = self.broker.sessions.insert(session);
        self.broker.by_key.insert(key.into(), id);
        if let Some(old) = self.sessions.insert(number, id).filter(|old| *old != id) {
            self.broker.forget(old);
        }
        Some(())
    }

    fn sid(&mut self, sid: &str) -> Rc<str> {
        if let Some(known) = self.sids.get(sid) {
            return Rc::clone(known);
        }
        let own = self.broker.policy.grants().and_then(|grants| grants.sid(sid));
        let own = own.unwrap_or_else(|| Rc::from(sid));
        self.sids.insert(sid.into(), Rc::clone(&own));
        own
    }

    fn message(&mut self, reader: &mut Reader<'_>) -> Option<Message> {
        let expires_at = reader.maybe()?;
        let sid = reader.maybe_text()?.map(|sid| self.sid(sid));
        read_message(reader, expires_at, sid)
    }

    fn will(&mut self, reader: &mut Reader<'_>) -> Option<Will> {
        let flags = reader.byte()?;
        let delay = reader.small()?;
        let expiry = match reader.maybe()? {
            Some(expiry) => Some(u32::try_from(expiry).ok()?),
            None => None,
        };
        let message = self.message(reader)?;
        Some(Will { message, qos: QoS::from_bits(flags & 3)?, retain: flags & 4 != 0, delay, expiry })
    }

    fn waiting(&mut self, reader: &mut Reader<'_>) -> Option<Waiting> {
        let message = Rc::clone(self.messages.get(&reader.number()?)?);
        let flags = reader.byte()?;
        let count: usize = reader.small()?;
        let ids: Option<Vec<u32>> = (0..count).map(|_| reader.small()).collect();
        Some(Waiting { message, qos: QoS::from_bits(flags & 3)?, retain: flags & 4 != 0, ids: ids?.into() })
    }

    fn subscribed(&mut self, id: usize, reader: &mut Reader<'_>) -> Option<()> {
        let flags = reader.byte()?;
        let entry = Entry {
            session: id,
            qos: QoS::from_bits(flags & 3)?,
            no_local: flags & 4 != 0,
            retain_as_published: flags & 8 != 0,
            id: reader.small()?,
        };
        let written = reader.text()?;
        let session = self.broker.sessions.get_mut(id)?;
        let subscribed = Subscribed { filter: written.into(), entry };
        match session.subscriptions.iter_mut().find(|known| *known.filter == *written) {
            Some(known) => *known = subscribed,
            None => session.subscriptions.push(subscribed),
        }
        let (group, filter) = shared(written);
        let group = group.map(|group| group_name(session.sid.as_ref(), group));
        self.broker.tree.insert(filter, group.as_deref(), entry);
        Some(())
    }

    fn fly(&mut self, id: usize, packet_id: u16, waiting: Waiting) -> Option<()> {
        self.fall(id, packet_id)?;
        let Broker { sessions, held, .. } = &mut *self.broker;
        let session = sessions.get_mut(id)?;
        held.add(session.sid.as_ref(), waiting.cost());
        let stage = if waiting.qos == QoS::ExactlyOnce { Stage::Rec } else { Stage::Ack };
        session.flying.push(Flying { packet_id, stage, message: Some(waiting) });
        Some(())
    }

    fn fall(&mut self, id: usize, packet_id: u16) -> Option<()> {
        let Broker { sessions, held, .. } = &mut *self.broker;
        let session = sessions.get_mut(id)?;
        if let Some(waiting) = session.flying.remove(packet_id).and_then(|flying| flying.message) {
            held.remove(session.sid.as_ref(), waiting.cost());
        }
        Some(())
    }

    fn complete(&mut self, id: usize, packet_id: u16) -> Option<()> {
        let Broker { sessions, held, .. } = &mut *self.broker;
        let session = sessions.get_mut(id)?;
        match session.flying.get_mut(packet_id) {
            Some(flying) => {
                flying.stage = Stage::Comp;
                if let Some(waiting) = flying.message.take() {
                    held.remove(session.sid.as_ref(), waiting.cost());
                }
            }
            None => session.flying.push(Flying { packet_id, stage: Stage::Comp, message: None }),
        }
        Some(())
    }
}

/// Records about nothing but the session itself.
fn change(session: &mut Session, kind: Kind, reader: &mut Reader<'_>) -> Option<()> {
    match kind {
        Kind::Resumed => {
            session.expiry = reader.small()?;
            session.expires_at = None;
            session.will_at = None;
        }
        Kind::Left => {
            session.left_at = reader.number()?;
            session.expiry = reader.small()?;
            session.expires_at = reader.maybe()?;
            session.will_at = reader.maybe()?;
        }
        Kind::Received => session.received.push(reader.small()?),
        Kind::Released => {
            let packet_id: u16 = reader.small()?;
            session.received.retain(|known| *known != packet_id);
        }
        Kind::NoWill => {
            session.will = None;
            session.will_at = None;
        }
        _ => return None,
    }
    Some(())
}

fn read_message(reader: &mut Reader<'_>, expires_at: Option<u64>, sid: Option<Rc<str>>) -> Option<Message> {
    let topic = reader.text()?;
    let properties = reader.bytes()?;
    let payload = reader.bytes()?;
    Some(Message::new(Content { topic, payload, properties, expires_at }, sid.as_ref()))
}

/// Reads what `put_message` wrote, for a store that is read as a whole.
pub(crate) fn message(reader: &mut Reader<'_>, policy: &Policy) -> Option<Message> {
    let expires_at = reader.maybe()?;
    let sid = reader.maybe_text()?.map(|sid| own_sid(policy, sid));
    read_message(reader, expires_at, sid)
}

/// The grants' own copy of a grant id, or a new one for a grant that is gone.
pub(crate) fn own_sid(policy: &Policy, sid: &str) -> Rc<str> {
    policy.grants().and_then(|grants| grants.sid(sid)).unwrap_or_else(|| Rc::from(sid))
}
