//! Retained messages by topic (§3.3.1.3), each with the grants that may see it.

use crate::Policy;
use crate::limits::Limits;
use crate::message::{Message, Routed};
use crate::tally::Tally;
use mqtt_wire::{QoS, topic};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

/// One topic's retained message.
pub(crate) struct Kept {
    pub(crate) message: Rc<Message>,
    /// What it was published with.
    pub(crate) qos: QoS,
    /// Grants that covered the topic when it was published: a later grant sees only later values. Empty and not looked
    /// at in an open broker.
    readers: Vec<Rc<str>>,
}

impl Kept {
    /// Whether a session under this grant may get it, apart from what its grant says now.
    pub(crate) fn is_for(&self, policy: &Policy, sid: Option<&Rc<str>>) -> bool {
        !policy.is_granted() || sid.is_some_and(|sid| self.readers.contains(sid))
    }
}

/// The retained messages.
#[derive(Default)]
pub(crate) struct Retained {
    by_topic: BTreeMap<Box<str>, Kept>,
    /// By the grant that published.
    messages: Tally,
    bytes: Tally,
}

impl Retained {
    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }

    pub(crate) fn remove(&mut self, topic: &str) {
        if let Some(kept) = self.by_topic.remove(topic) {
            self.uncount(&kept.message);
        }
    }

    fn uncount(&mut self, message: &Message) {
        self.messages.remove(message.sid.as_ref(), 1);
        self.bytes.remove(message.sid.as_ref(), message.cost());
    }

    /// Whether a message fits beside those of other topics, in all and in its publisher's part.
    pub(crate) fn has_room(&self, routed: &Routed<'_>, limits: &Limits) -> bool {
        let old = self.by_topic.get(routed.content.topic).map(|kept| &kept.message);
        let publisher = old.and_then(|old| old.sid.as_ref());
        let count = (publisher, usize::from(old.is_some()));
        let bytes = (publisher, old.map_or(0, |old| old.cost()));
        self.messages.has_room(routed.sid, 1, count, limits.retained_messages, limits)
            && self.bytes.has_room(routed.sid, routed.content.cost(), bytes, limits.retained_bytes, limits)
    }

    pub(crate) fn insert(&mut self, message: Rc<Message>, qos: QoS, readers: Vec<Rc<str>>) {
        let topic = message.content().topic.into();
        self.messages.add(message.sid.as_ref(), 1);
        self.bytes.add(message.sid.as_ref(), message.cost());
        if let Some(old) = self.by_topic.insert(topic, Kept { message, qos, readers }) {
            self.uncount(&old.message);
        }
    }

    /// Whether what is counted is what is kept.
    #[cfg(test)]
    pub(crate) fn is_consistent(&self) -> bool {
        let (mut messages, mut bytes) = (Tally::default(), Tally::default());
        for kept in self.by_topic.values() {
            messages.add(kept.message.sid.as_ref(), 1);
            bytes.add(kept.message.sid.as_ref(), kept.message.cost());
        }
        self.messages == messages && self.bytes == bytes
    }

    /// What matches a filter (without a `$share` prefix), in the order of topics.
    pub(crate) fn matching<'a>(&'a self, filter: &'a str) -> impl Iterator<Item = &'a Kept> {
        let wildcard = filter.find(['+', '#']);
        let fixed = wildcard.map_or(filter, |at| filter.get(..at).unwrap_or(""));
        // `a/#` also matches `a`, so the literal part is taken without its last slash.
        let prefix = fixed.strip_suffix('/').filter(|_| wildcard.is_some()).unwrap_or(fixed);
        self.by_topic
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(topic, _)| topic.starts_with(prefix))
            .filter(move |(topic, _)| topic::matches(filter, topic))
            .map(|(_, kept)| kept)
    }

    /// Drops what the grants do not cover any more.
    pub(crate) fn refilter(&mut self, policy: &Policy) {
        self.retain(|kept| {
            let topic = kept.message.content().topic;
            kept.readers.retain(|sid| policy.may_read(Some(sid), topic));
            !kept.readers.is_empty() && policy.may_publish(kept.message.sid.as_ref(), topic)
        });
    }

    /// Drops what has expired; answers when the next one will.
    pub(crate) fn expire(&mut self, now: u64) -> Option<u64> {
        let mut next: Option<u64> = None;
        self.retain(|kept| {
            if let Some(at) = kept.message.expires_at.filter(|at| *at > now) {
                next = Some(next.map_or(at, |known| known.min(at)));
            }
            !kept.message.is_expired(now)
        });
        next
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut Kept) -> bool) {
        let Retained { by_topic, messages, bytes } = self;
        by_topic.retain(|_, kept| {
            let keeps = keep(kept);
            if !keeps {
                messages.remove(kept.message.sid.as_ref(), 1);
                bytes.remove(kept.message.sid.as_ref(), kept.message.cost());
            }
            keeps
        });
    }
}
