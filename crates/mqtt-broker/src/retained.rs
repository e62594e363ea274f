//! Retained messages by topic (§3.3.1.3), each with the grants that may see it.

use crate::Policy;
use crate::message::Message;
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
    bytes: usize,
}

impl Retained {
    pub(crate) fn len(&self) -> usize {
        self.by_topic.len()
    }

    pub(crate) fn remove(&mut self, topic: &str) {
        if let Some(kept) = self.by_topic.remove(topic) {
            self.bytes -= kept.message.cost();
        }
    }

    /// Whether a message of that cost on that topic fits beside the others.
    pub(crate) fn has_room(&self, topic: &str, cost: usize, messages: usize, bytes: usize) -> bool {
        let old = self.by_topic.get(topic).map_or(0, |kept| kept.message.cost());
        let count = self.by_topic.len() + usize::from(old == 0);
        count <= messages && self.bytes - old + cost <= bytes
    }

    pub(crate) fn insert(&mut self, message: Rc<Message>, qos: QoS, readers: Vec<Rc<str>>) {
        let topic = message.content().topic.into();
        self.bytes += message.cost();
        if let Some(old) = self.by_topic.insert(topic, Kept { message, qos, readers }) {
            self.bytes -= old.message.cost();
        }
    }

    /// Whether the bytes counted are the bytes kept.
    #[cfg(test)]
    pub(crate) fn is_consistent(&self) -> bool {
        self.bytes == self.by_topic.values().map(|kept| kept.message.cost()).sum::<usize>()
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
        let mut freed = 0;
        self.by_topic.retain(|_, kept| {
            let keeps = keep(kept);
            freed += if keeps { 0 } else { kept.message.cost() };
            keeps
        });
        self.bytes -= freed;
    }
}
