//! Views at work: what each grant with a view is shown of a publication or a report, and the summaries that are due.
//!
//! A publication is shown once to each grant that has a view of its topic, however many sessions, filters or shared groups
//! the grant has; what comes of it goes to all of them. A summary goes to the sessions of its grant only, on the topic of its
//! values, with QoS and retain of the last one. What a view makes anew carries no properties of the publication: they
//! could hold what the view hides.
//!
//! What views do is the `views` crate's; who has which is the policy's.

use crate::broker::Broker;
use crate::grants::{Policy, Sight};
use crate::limits::Limits;
use crate::message::{Content, Routed};
use crate::publish::{Publication, To};
use crate::retained::{Kept, Stored};
use crate::tally::Tally;
use mqtt_wire::QoS;
use std::collections::BTreeMap;
use std::rc::Rc;
use views::{Lens, Seen, View};

/// Which way values come in. What goes to a shadow is looked at apart: a device that reports what it also publishes has
/// not measured twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Topic,
    Shadow,
}

/// How a value came.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The grant it was published under.
    pub(crate) publisher: Option<Rc<str>>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// How long it is good for, in milliseconds.
    pub(crate) lasts_ms: Option<u64>,
}

struct Held {
    sid: Rc<str>,
    door: Door,
    lens: Lens,
    /// The last one that the open window has.
    last: Option<Sample>,
}

/// All lenses that remember something, by the topic of the values.
#[derive(Default)]
pub(crate) struct Lenses {
    by_topic: BTreeMap<Box<str>, Vec<Held>>,
    count: Tally,
    next_due: Option<u64>,
}

/// A summary that may be shown.
struct Due {
    topic: Box<str>,
    sid: Rc<str>,
    door: Door,
    payload: Vec<u8>,
    last: Sample,
}

impl Lenses {
    /// Shows a grant's lens a value of a topic. `None` if there is no room for another lens: then nothing is shown.
    pub(crate) fn see(
        &mut self,
        of: (&Rc<str>, Door, &Rc<View>),
        topic: &str,
        payload: &[u8],
        sample: &Sample,
        limits: &Limits,
        now: u64,
    ) -> Option<Seen> {
        let (sid, door, view) = of;
        let is_known = |held: &Held| held.sid == *sid && held.door == door;
        let known = self.by_topic.get(topic).and_then(|list| list.iter().position(is_known));
        if known.is_none() {
            if !self.count.has_room(Some(sid), 1, (None, 0), limits.lenses, limits) {
                return None;
            }
            self.count.add(Some(sid), 1);
            let list = self.by_topic.entry(topic.into()).or_default();
            list.push(Held { sid: Rc::clone(sid), door, lens: Lens::new(Rc::clone(view)), last: None });
        }
        let list = self.by_topic.get_mut(topic)?;
        let held = match known {
            Some(at) => list.get_mut(at)?,
            None => list.last_mut()?,
        };
        let seen = held.lens.see(payload, None, now);
        if seen == Seen::Counted {
            held.last = Some(sample.clone());
            let due = held.lens.next_due();
            self.next_due = self.next_due.into_iter().chain(due).min();
        }
        Some(seen)
    }

    /// When a window ends next.
    pub(crate) const fn next_due(&self) -> Option<u64> {
        self.next_due
    }

    /// What was retained of a topic was deleted: what is windowed now does not bring it back.
    fn forget_retained(&mut self, topic: &str) {
        for held in self.by_topic.get_mut(topic).into_iter().flatten() {
            if let Some(last) = &mut held.last {
                last.retain = false;
            }
        }
    }

    fn due(&mut self, now: u64) -> Vec<Due> {
        let mut all = Vec::new();
        if self.next_due.is_none_or(|at| at > now) {
            return all;
        }
        self.next_due = None;
        for (topic, list) in &mut self.by_topic {
            for held in list {
                if held.lens.next_due().is_some_and(|at| at <= now) {
                    let payload = held.lens.due(now);
                    if let Some((payload, last)) = payload.zip(held.last.take()) {
                        let sid = Rc::clone(&held.sid);
                        all.push(Due { topic: topic.clone(), sid, door: held.door, payload, last });
                    }
                }
                self.next_due = self.next_due.into_iter().chain(held.lens.next_due()).min();
            }
        }
        all
    }

    /// Drops what grants see no more, or see through another view than `earlier`, or what has lost its source.
    pub(crate) fn refilter(&mut self, policy: &Policy, earlier: &Policy) {
        let Lenses { by_topic, count, .. } = self;
        by_topic.retain(|topic, list| {
            let has_source = policy.has_publisher(topic);
            list.retain(|held| {
                let stays = has_source && policy.sees_as_in(earlier, Some(&held.sid), topic);
                if !stays {
                    count.remove(Some(&held.sid), 1);
                }
                stays
            });
            !list.is_empty()
        });
    }

    /// The grants and topics that something is remembered for.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Rc<str>, &str)> {
        self.by_topic.iter().flat_map(|(topic, list)| list.iter().map(|held| (&held.sid, &**topic)))
    }

    /// Whether what is counted is what is kept.
    #[cfg(test)]
    pub(crate) fn is_consistent(&self, limits: &Limits) -> bool {
        let mut count = Tally::default();
        self.iter().for_each(|(sid, _)| count.add(Some(sid), 1));
        let has_room = |(sid, _)| count.has_room(Some(sid), 0, (None, 0), limits.lenses, limits);
        count == self.count && self.iter().all(has_room)
    }
}

impl Broker {
    /// Shows a publication to every grant that has a view of its topic: what each of them sees of it, if anything.
    pub(crate) fn show(
        &mut self,
        routed: &Routed<'_>,
        qos: QoS,
        retain: bool,
        now: u64,
    ) -> Vec<(Rc<str>, Seen)> {
        if !self.policy.has_views() {
            return Vec::new();
        }
        self.send_summaries(now);
        let Content { topic, payload, expires_at, .. } = routed.content;
        let lasts_ms = expires_at.map(|at| at.saturating_sub(now));
        let sample = Sample { publisher: routed.sid.cloned(), qos, retain, lasts_ms };
        if payload.is_empty() && retain {
            self.lenses.forget_retained(topic);
        }
        let mut shown = Vec::new();
        let mut refused = 0;
        for (sid, view) in self.policy.viewers(topic) {
            let seen = if view.remembers() {
                let of = (sid, Door::Topic, view);
                self.lenses.see(of, topic, payload, &sample, &self.limits, now)
            } else {
                Some(view.see(payload, self.policy.hash_key(Some(sid))))
            };
            match seen {
                Some(seen @ (Seen::AsIs | Seen::Instead(_))) => shown.push((Rc::clone(sid), seen)),
                Some(Seen::Counted | Seen::Nothing) => {}
                None => refused += 1,
            }
        }
        self.wake_for_summaries();
        self.dropped += refused;
        shown
    }

    pub(crate) fn wake_for_summaries(&mut self) {
        if let Some(at) = self.lenses.next_due() {
            self.wake_at(at);
        }
    }

    /// Sends the summaries of windows that have ended.
    pub(crate) fn send_summaries(&mut self, now: u64) {
        for due in self.lenses.due(now) {
            match due.door {
                Door::Topic => self.send_summary(&due, now),
                Door::Shadow => self.summary_for_shadow(&due.sid, &due.topic, &due.payload, now),
            }
        }
        self.wake_for_summaries();
    }

    fn send_summary(&mut self, due: &Due, now: u64) {
        let Due { topic, sid, payload, last, .. } = due;
        let sees = matches!(self.policy.sight(Some(sid), topic), Sight::Through(_));
        if !sees || !self.policy.may_publish(last.publisher.as_ref(), topic) {
            return;
        }
        let expires_at = last.lasts_ms.map(|lasts| now.saturating_add(lasts));
        let content = Content { topic, payload, properties: &[], expires_at };
        let routed = Routed::new(content, last.publisher.as_ref());
        if last.retain {
            self.retain_shown(&routed, sid, last.qos, now);
        }
        let publication = Publication {
            routed: &routed,
            to: To::Grant(sid),
            from: None,
            qos: last.qos,
            retain: last.retain,
        };
        self.route(&publication, now);
    }

    fn retain_shown(&mut self, routed: &Routed<'_>, sid: &Rc<str>, qos: QoS, now: u64) {
        let topic = routed.content.topic;
        if self.log.refuses() {
            self.dropped += 1;
            return;
        }
        self.log.retained(topic);
        let stored = Stored { message: routed.keep(), qos };
        let change = |kept: &mut Kept| kept.set_shown(sid, stored);
        if !self.retained.update(topic, routed.sid, &self.limits, now, change) {
            self.dropped += 1;
        } else if let Some(at) = routed.content.expires_at {
            self.wake_at(at);
        }
    }
}
