//! Retained messages by topic (§3.3.1.3): as published, for the grants that may see them so, and for each grant with a view
//! what that view has shown last.

use crate::Policy;
use crate::grants::Sight;
use crate::journal::wire::{Reader, put_bytes, put_number};
use crate::journal::{put_message, replay};
use crate::limits::Limits;
use crate::message::Message;
use crate::tally::Tally;
use mqtt_wire::{QoS, topic};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

/// A retained message.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) message: Rc<Message>,
    /// What it was published with.
    pub(crate) qos: QoS,
}

/// What is retained of one topic.
#[derive(Default)]
pub(crate) struct Kept {
    /// As it was published; there only if somebody may see it.
    raw: Option<Stored>,
    /// Grants that saw the topic raw when it was published: a later grant sees only later values. Empty and not looked at
    /// in an open broker.
    readers: Vec<Rc<str>>,
    /// By grant with a view.
    shown: Vec<(Rc<str>, Stored)>,
}

impl Kept {
    /// What a session under this grant may get of it now.
    pub(crate) fn seen_by(&self, policy: &Policy, sid: Option<&Rc<str>>, topic: &str) -> Option<&Stored> {
        if !policy.is_granted() {
            return self.raw.as_ref();
        }
        match policy.sight(sid, topic) {
            Sight::Blind => None,
            Sight::Raw => self.raw.as_ref().filter(|_| sid.is_some_and(|sid| self.readers.contains(sid))),
            Sight::Through(_) => self.shown.iter().find(|(of, _)| Some(of) == sid).map(|(_, stored)| stored),
        }
    }

    /// The message as it was published, and who sees that; without readers it is not kept, unless the broker is open.
    pub(crate) fn set_raw(&mut self, stored: Option<Stored>, readers: Vec<Rc<str>>) {
        self.raw = stored;
        self.readers = readers;
    }

    /// What a grant with a view is shown from now on.
    pub(crate) fn set_shown(&mut self, sid: &Rc<str>, stored: Stored) {
        match self.shown.iter_mut().find(|(of, _)| of == sid) {
            Some((_, known)) => *known = stored,
            None => self.shown.push((Rc::clone(sid), stored)),
        }
    }

    /// As it was published, if that is kept.
    #[cfg(test)]
    pub(crate) const fn raw(&self) -> Option<&Stored> {
        self.raw.as_ref()
    }

    pub(crate) fn stored(&self) -> impl Iterator<Item = &Stored> {
        self.raw.iter().chain(self.shown.iter().map(|(_, stored)| stored))
    }

    /// What all of it costs, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.stored().map(|stored| stored.message.cost()).sum()
    }

    /// The grant on whose part it counts.
    pub(crate) fn publisher(&self) -> Option<&Rc<str>> {
        self.stored().next().and_then(|stored| stored.message.sid.as_ref())
    }

    fn is_empty(&self) -> bool {
        self.raw.is_none() && self.shown.is_empty()
    }

    /// Keeps only messages that `keep` chooses, by grant for those that a view has shown.
    fn retain(&mut self, mut keep: impl FnMut(Option<&Rc<str>>, &Message) -> bool) {
        if self.raw.as_ref().is_some_and(|raw| !keep(None, &raw.message)) {
            self.raw = None;
            self.readers = Vec::new();
        }
        self.shown.retain(|(sid, stored)| keep(Some(sid), &stored.message));
    }
}

/// The retained messages.
#[derive(Default)]
pub(crate) struct Retained {
    by_topic: BTreeMap<Box<str>, Kept>,
    /// Topics, by the grant that published.
    topics: Tally,
    bytes: Tally,
}

impl Retained {
    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// The topics that have a message.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &str> {
        self.by_topic.keys().map(|topic| &**topic)
    }

    /// Appends what is kept of a topic, for the journal; nothing if nothing is. Messages follow a number: how many grants
    /// they are for, and those; first comes the one as it was published, if it is kept.
    pub(crate) fn write(&self, topic: &str, out: &mut Vec<u8>) {
        let Some(kept) = self.by_topic.get(topic) else { return };
        out.push(u8::from(kept.raw.is_some()));
        if let Some(Stored { message, qos }) = &kept.raw {
            put_message(out, message);
            out.push(qos.bits());
            put_number(out, kept.readers.len() as u64);
            for sid in &kept.readers {
                put_bytes(out, sid.as_bytes());
            }
        }
        put_number(out, kept.shown.len() as u64);
        for (sid, Stored { message, qos }) in &kept.shown {
            put_bytes(out, sid.as_bytes());
            put_message(out, message);
            out.push(qos.bits());
        }
    }

    /// Reads what [`Self::write`] wrote and keeps it in place of what was; the policy is the one that it was written under.
    pub(crate) fn read(&mut self, topic: &str, entry: &mut Reader<'_>, policy: &Policy) -> Option<()> {
        let stored = |entry: &mut Reader<'_>| {
            let message = Rc::new(replay::message(entry, policy)?);
            Some(Stored { message, qos: QoS::from_bits(entry.byte()?)? })
        };
        let mut kept = Kept::default();
        if entry.byte()? == 1 {
            kept.raw = Some(stored(entry)?);
            for _ in 0..entry.number()? {
                kept.readers.push(replay::own_sid(policy, entry.text()?));
            }
        }
        for _ in 0..entry.number()? {
            let sid = replay::own_sid(policy, entry.text()?);
            kept.shown.push((sid, stored(entry)?));
        }
        self.remove(topic);
        if !kept.is_empty() {
            count(&kept, &mut self.topics, &mut self.bytes);
            self.by_topic.insert(topic.into(), kept);
        }
        Some(())
    }

    pub(crate) fn remove(&mut self, topic: &str) {
        if let Some(kept) = self.by_topic.remove(topic) {
            uncount(&kept, &mut self.topics, &mut self.bytes);
        }
    }

    /// Changes what is kept of a topic. If a limit, in all or of the publisher's part, leaves no room for it, the topic keeps
    /// nothing: what was retained before is older and must not be taken for the last one. Answers whether there was room.
    pub(crate) fn update(
        &mut self,
        topic: &str,
        publisher: Option<&Rc<str>>,
        limits: &Limits,
        now: u64,
        change: impl FnOnce(&mut Kept),
    ) -> bool {
        if let Some(kept) = self.by_topic.get_mut(topic) {
            uncount(kept, &mut self.topics, &mut self.bytes);
            change(kept);
            if kept.is_empty() {
                self.by_topic.remove(topic);
                return true;
            }
            count(kept, &mut self.topics, &mut self.bytes);
        } else {
            let mut kept = Kept::default();
            change(&mut kept);
            if kept.is_empty() {
                return true;
            }
            count(&kept, &mut self.topics, &mut self.bytes);
            self.by_topic.insert(topic.into(), kept);
        }
        if self.fits(publisher, limits) {
            return true;
        }
        self.expire(now);
        let fits = self.fits(publisher, limits);
        if !fits {
            self.remove(topic);
        }
        fits
    }

    fn fits(&self, publisher: Option<&Rc<str>>, limits: &Limits) -> bool {
        self.topics.has_room(publisher, 0, (None, 0), limits.retained_messages, limits)
            && self.bytes.has_room(publisher, 0, (None, 0), limits.retained_bytes, limits)
    }

    /// Whether what is counted is what is kept.
    #[cfg(test)]
    pub(crate) fn is_consistent(&self) -> bool {
        let (mut topics, mut bytes) = (Tally::default(), Tally::default());
        for kept in self.by_topic.values() {
            count(kept, &mut topics, &mut bytes);
        }
        self.topics == topics && self.bytes == bytes && self.by_topic.values().all(|kept| !kept.is_empty())
    }

    /// What matches a filter (without a `$share` prefix), in the order of topics.
    pub(crate) fn matching<'a>(&'a self, filter: &'a str) -> impl Iterator<Item = (&'a str, &'a Kept)> {
        let wildcard = filter.find(['+', '#']);
        let fixed = wildcard.map_or(filter, |at| filter.get(..at).unwrap_or(""));
        // `a/#` also matches `a`, so the literal part is taken without its last slash.
        let prefix = fixed.strip_suffix('/').filter(|_| wildcard.is_some()).unwrap_or(fixed);
        self.by_topic
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(topic, _)| topic.starts_with(prefix))
            .filter(move |(topic, _)| topic::matches(filter, topic))
            .map(|(topic, kept)| (&**topic, kept))
    }

    /// Drops what the grants do not cover any more, and what a grant was shown through a view that was `earlier` another.
    pub(crate) fn refilter(&mut self, policy: &Policy, earlier: &Policy) {
        self.retain(|topic, kept| {
            kept.readers.retain(|sid| policy.sees_as_in(earlier, Some(sid), topic));
            let has_readers = !kept.readers.is_empty();
            kept.retain(|sid, message| {
                sid.map_or(has_readers, |sid| policy.sees_as_in(earlier, Some(sid), topic))
                    && policy.may_publish(message.sid.as_ref(), topic)
            });
        });
    }

    /// Drops what has expired; answers when the next one will.
    pub(crate) fn expire(&mut self, now: u64) -> Option<u64> {
        let mut next: Option<u64> = None;
        self.retain(|_, kept| {
            kept.retain(|_, message| {
                if let Some(at) = message.expires_at.filter(|at| *at > now) {
                    next = Some(next.map_or(at, |known| known.min(at)));
                }
                !message.is_expired(now)
            });
        });
        next
    }

    fn retain(&mut self, mut thin: impl FnMut(&str, &mut Kept)) {
        let Retained { by_topic, topics, bytes } = self;
        by_topic.retain(|topic, kept| {
            uncount(kept, topics, bytes);
            thin(topic, kept);
            let stays = !kept.is_empty();
            if stays {
                count(kept, topics, bytes);
            }
            stays
        });
    }
}

fn count(kept: &Kept, topics: &mut Tally, bytes: &mut Tally) {
    topics.add(kept.publisher(), 1);
    bytes.add(kept.publisher(), kept.cost());
}

fn uncount(kept: &Kept, topics: &mut Tally, bytes: &mut Tally) {
    topics.remove(kept.publisher(), 1);
    bytes.remove(kept.publisher(), kept.cost());
}
