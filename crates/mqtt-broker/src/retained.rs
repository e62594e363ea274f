//! Retained messages by topic (§3.3.1.3): as published, for the grants that may see them so, and for each grant with a view
//! what that view has shown last.

use crate::Policy;
use crate::grants::Sight;
use crate::journal::wire::{Reader, put_bytes, put_number};
use crate::journal::{put_message, replay};
use crate::levels::{Levels, tidy};
use crate::limits::Limits;
use crate::message::Message;
use crate::tally::Tally;
use mqtt_wire::QoS;
use std::mem;
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

    /// Takes out the message as it was published last.
    pub(crate) fn take_raw(&mut self) -> Option<Rc<Message>> {
        self.raw.take().map(|stored| stored.message)
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

    /// What all of it costs, in bytes, and the levels that lead to it: a topic may be alone in all of them.
    pub(crate) fn cost(&self, topic: &str) -> usize {
        let levels = topic.bytes().filter(|byte| *byte == b'/').count();
        let messages: usize = self.stored().map(|stored| stored.message.cost()).sum();
        if self.is_empty() { 0 } else { messages + levels * LEVEL }
    }

    /// Whose it is; `None` if nothing is kept.
    fn topic(&self) -> Option<&str> {
        self.stored().next().map(|stored| stored.message.content().topic)
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

/// What a level of a topic costs beside the message, in bytes.
const LEVEL: usize = 256;

/// A level of topics.
#[derive(Default)]
struct Node {
    kept: Kept,
    below: Levels<Node>,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.below.is_empty()
    }

    fn at(&self, topic: &str) -> Option<&Node> {
        topic.split('/').try_fold(self, |node, level| node.below.get(level).map(|node| &**node))
    }

    fn at_mut(&mut self, topic: &str) -> Option<&mut Node> {
        topic.split('/').try_fold(self, |node, level| node.below.get_mut(level).map(|node| &mut **node))
    }

    fn make(&mut self, topic: &str) -> &mut Node {
        topic.split('/').fold(self, |node, level| node.below.entry(level.into()).or_default())
    }

    /// Takes out what is kept behind these levels, and nodes that lead nowhere then.
    fn take<'t>(&mut self, mut levels: impl Iterator<Item = &'t str>) -> Kept {
        let Some(level) = levels.next() else { return mem::take(&mut self.kept) };
        let Some(child) = self.below.get_mut(level) else { return Kept::default() };
        let kept = child.take(levels);
        if child.is_empty() {
            self.below.remove(level);
            tidy(&mut self.below);
        }
        kept
    }

    /// Calls `each` with what is kept here and below.
    fn walk<'a>(&'a self, each: &mut impl FnMut(&'a Kept)) {
        each(&self.kept);
        self.below.values().for_each(|node| node.walk(each));
    }

    fn matching<'a>(&'a self, filter: Option<&str>, is_first: bool, each: &mut impl FnMut(&'a Kept)) {
        let Some(filter) = filter else { return each(&self.kept) };
        let (level, rest) = match filter.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (filter, None),
        };
        // Wildcards in the first level do not reach what is not for everybody (§4.7.2).
        let reached = self.below.iter().filter(|(name, _)| !(is_first && name.starts_with('$')));
        match level {
            "#" => {
                each(&self.kept);
                reached.for_each(|(_, node)| node.walk(each));
            }
            "+" => reached.for_each(|(_, node)| node.matching(rest, false, each)),
            _ => {
                if let Some(node) = self.below.get(level) {
                    node.matching(rest, false, each);
                }
            }
        }
    }

    /// Whether nothing is kept here, or somewhere below.
    #[cfg(test)]
    fn leads_nowhere(&self) -> bool {
        self.is_empty() || self.below.values().any(|node| node.leads_nowhere())
    }

    /// Lets `thin` take something away from all that is kept here and below.
    fn thin(&mut self, thin: &mut impl FnMut(&mut Kept)) {
        thin(&mut self.kept);
        self.below.retain(|_, node| {
            node.thin(thin);
            !node.is_empty()
        });
        tidy(&mut self.below);
    }
}

/// The retained messages.
#[derive(Default)]
pub(crate) struct Retained {
    root: Node,
    /// Topics, by the grant that published.
    topics: Tally,
    bytes: Tally,
}

impl Retained {
    pub(crate) const fn len(&self) -> usize {
        self.topics.total()
    }

    /// The topics that have a message, in their order.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &str> {
        let mut topics = Vec::with_capacity(self.len());
        self.root.walk(&mut |kept| topics.extend(kept.topic()));
        topics.sort_unstable();
        topics.into_iter()
    }

    /// Appends what is kept of a topic, for the journal; nothing if nothing is. Messages follow a number: how many grants
    /// they are for, and those; first comes the one as it was published, if it is kept.
    pub(crate) fn write(&self, topic: &str, out: &mut Vec<u8>) {
        let Some(kept) = self.root.at(topic).map(|node| &node.kept).filter(|kept| !kept.is_empty()) else {
            return;
        };
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
            count(&kept, topic, &mut self.topics, &mut self.bytes);
            self.root.make(topic).kept = kept;
        }
        Some(())
    }

    pub(crate) fn remove(&mut self, topic: &str) {
        let kept = self.root.take(topic.split('/'));
        uncount(&kept, topic, &mut self.topics, &mut self.bytes);
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
        let Retained { root, topics, bytes } = self;
        let node = match root.at_mut(topic) {
            Some(node) => node,
            None => root.make(topic),
        };
        uncount(&node.kept, topic, topics, bytes);
        change(&mut node.kept);
        count(&node.kept, topic, topics, bytes);
        if node.kept.is_empty() {
            self.remove(topic);
            return true;
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
        let mut counted =
            |kept: &Kept| count(kept, kept.topic().unwrap_or_default(), &mut topics, &mut bytes);
        self.root.walk(&mut counted);
        self.topics == topics
            && self.bytes == bytes
            && !self.root.below.values().any(|node| node.leads_nowhere())
    }

    /// What matches a filter (without a `$share` prefix), in the order of topics.
    pub(crate) fn matching(&self, filter: &str) -> impl Iterator<Item = (&str, &Kept)> {
        let mut found = Vec::new();
        self.root
            .matching(Some(filter), true, &mut |kept| found.extend(kept.topic().map(|topic| (topic, kept))));
        found.sort_unstable_by_key(|(topic, _)| *topic);
        found.into_iter()
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
        let Retained { root, topics, bytes } = self;
        root.thin(&mut |kept| {
            let Some(topic) = kept.topic().map(str::to_owned) else { return };
            uncount(kept, &topic, topics, bytes);
            thin(&topic, kept);
            count(kept, &topic, topics, bytes);
        });
    }
}

fn count(kept: &Kept, topic: &str, topics: &mut Tally, bytes: &mut Tally) {
    topics.add(kept.publisher(), usize::from(!kept.is_empty()));
    bytes.add(kept.publisher(), kept.cost(topic));
}

fn uncount(kept: &Kept, topic: &str, topics: &mut Tally, bytes: &mut Tally) {
    topics.remove(kept.publisher(), usize::from(!kept.is_empty()));
    bytes.remove(kept.publisher(), kept.cost(topic));
}

#[cfg(test)]
mod tests {
    use super::{Kept, Retained, Stored};
    use crate::limits::Limits;
    use crate::message::{Content, Message};
    use mqtt_wire::{QoS, topic};
    use proptest::prelude::*;
    use std::rc::Rc;

    fn retain(retained: &mut Retained, topic: &str) {
        let content = Content { topic, payload: b"x", properties: &[], expires_at: None };
        let stored = Stored { message: Rc::new(Message::new(content, None)), qos: QoS::AtMostOnce };
        let kept = |kept: &mut Kept| kept.set_raw(Some(stored), Vec::new());
        assert!(retained.update(topic, None, &Limits::PLAIN, 0, kept));
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_matching_one_by_one(
            topics in prop::collection::btree_set("[ab$](/[ab]?){0,4}", 1..20),
            removed in prop::collection::vec(any::<bool>(), 20),
            filter in "([ab$+]|[ab])(/([ab]|[+]|)){0,3}(/#)?|#",
        ) {
            let mut retained = Retained::default();
            topics.iter().for_each(|topic| retain(&mut retained, topic));
            topics.iter().zip(&removed).filter(|(_, gone)| **gone).for_each(|(topic, _)| retained.remove(topic));
            let left = || topics.iter().zip(&removed).filter(|(_, gone)| !**gone).map(|(topic, _)| topic.as_str());
            let expected: Vec<&str> = left().filter(|topic| topic::matches(&filter, topic)).collect();
            prop_assert_eq!(retained.matching(&filter).map(|(topic, _)| topic).collect::<Vec<_>>(), expected);
            prop_assert_eq!(retained.topics().collect::<Vec<_>>(), left().collect::<Vec<_>>());
            prop_assert!(retained.is_consistent() && retained.len() == left().count());
            topics.iter().for_each(|topic| retained.remove(topic));
            prop_assert!(retained.root.is_empty() && retained.is_consistent());
        }
    }
}
