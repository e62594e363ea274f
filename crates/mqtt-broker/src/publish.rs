//! PUBLISH (§3.3): what comes in, whom it goes to, and how it gets there.

use crate::broker::{Broker, covers};
use crate::flights::{Flying, Stage};
use crate::grants::{Policy, Sight};
use crate::message::{Content, Envelope, Routed, after, passed_on};
use crate::retained::{Kept, Stored};
use crate::session::{Session, Waiting};
use crate::shadow::explanation;
use crate::tree::{Entry, Matches};
use mqtt_wire::{Ack, Packet, Properties, Property, Publish, QoS, ReasonCode, Version};
use std::mem;
use std::rc::Rc;
use views::Seen;

/// What became of a message at its receivers.
#[derive(Default)]
pub(crate) struct Delivery {
    receivers: usize,
    taken: usize,
    /// A subscription matched and was passed over: its client published this and wants no local messages.
    has_local: bool,
}

/// One delivery, before it is known whether it goes at once or waits.
#[derive(Clone, Copy)]
pub(crate) struct Parcel<'a> {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) ids: &'a [u32],
}

/// Whom a publication is for.
#[derive(Clone, Copy)]
pub(crate) enum To<'a> {
    /// Whoever may read it: as it is, or, for grants with a view, as is said here (`None`: as it is). A grant with a view
    /// that is not here is shown nothing.
    Readers(&'a [(Rc<str>, Option<Routed<'a>>)]),
    /// This grant alone.
    Grant(&'a Rc<str>),
}

/// A message on its way to subscribers.
#[derive(Clone, Copy)]
pub(crate) struct Publication<'a> {
    pub(crate) routed: &'a Routed<'a>,
    pub(crate) to: To<'a>,
    /// The session that published it.
    pub(crate) from: Option<usize>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
}

impl<'a> Publication<'a> {
    /// What a session under this grant gets.
    fn seen_by(&self, policy: &Policy, sid: Option<&Rc<str>>) -> Option<&'a Routed<'a>> {
        match self.to {
            To::Grant(only) => (sid == Some(only)).then_some(self.routed),
            To::Readers(versions) => match policy.sight(sid, self.routed.content.topic) {
                Sight::Blind => None,
                Sight::Raw => Some(self.routed),
                Sight::Through(_) => {
                    let (_, version) = versions.iter().find(|(of, _)| Some(of) == sid)?;
                    Some(version.as_ref().unwrap_or(self.routed))
                }
            },
        }
    }
}

impl Broker {
    /// A PUBLISH from a client.
    pub(crate) fn published(&mut self, connection: usize, session: usize, publish: &Publish<'_>, now: u64) {
        if publish.properties.iter().filter(|one| matches!(one, Property::SubscriptionIdentifier(_))).count()
            > 1
        {
            return self.violated(connection, "two subscription identifiers", now);
        }
        let topic = match self.resolve_alias(connection, publish) {
            Ok(topic) => topic,
            Err(ReasonCode::PROTOCOL_ERROR) => {
                return self.violated(connection, "the topic alias stands for nothing yet", now);
            }
            Err(reason) => return self.fail(connection, reason, now),
        };
        let topic = topic.as_deref().unwrap_or(publish.topic);
        if topic.split('/').count() > self.limits.topic_levels {
            return self.fail(connection, ReasonCode::TOPIC_NAME_INVALID, now);
        }
        if let (QoS::ExactlyOnce, Some(id)) = (publish.qos, publish.packet_id) {
            let Some(known) = self.sessions.get_mut(session) else { return };
            if known.received.contains(&id) {
                // Sent again: it was routed the first time (§4.3.3).
                return self.send(connection, &Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)));
            }
            if self.log.refuses() && known.expiry > 0 {
                return self.refuse_storage(connection, publish, now);
            }
            if known.received.len() >= usize::from(self.limits.receive_maximum) {
                return self.fail(connection, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, now);
            }
        }
        let sid = self.sessions.get(session).and_then(|session| session.sid.clone());
        let properties = passed_on(&publish.properties);
        let expiry = publish.properties.message_expiry_interval();
        let content = Content {
            topic,
            payload: publish.payload,
            properties: &properties,
            expires_at: expiry.map(|seconds| after(now, seconds)),
        };
        let routed = Routed::new(content, sid.as_ref());
        let reason = self.publish(&routed, Some(session), publish.qos, publish.retain, now);
        if reason == ReasonCode::QUOTA_EXCEEDED && self.log.refuses() {
            return self.refuse_storage(connection, publish, now);
        }
        match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => self.answer(connection, publish.qos, id, topic, reason),
            (QoS::ExactlyOnce, Some(id)) => {
                // "No matching subscribers" is allowed here too, but changes nothing for the sender.
                let reason = if reason.is_success() { ReasonCode::SUCCESS } else { reason };
                if reason.is_success()
                    && let Some(known) = self.sessions.get_mut(session)
                {
                    known.received.push(id);
                    self.log.received(session, known, id);
                }
                self.answer(connection, publish.qos, id, topic, reason);
            }
            _ => {}
        }
    }

    /// PUBACK or PUBREC, with words where there are some and the client takes them (§3.1.2.11.7).
    fn answer(&mut self, connection: usize, qos: QoS, packet_id: u16, topic: &str, reason: ReasonCode) {
        let Some(link) = self.connections.get_mut(&connection) else { return };
        let words = explanation(topic, reason).filter(|_| link.wants_reasons && self.policy.is_granted());
        let words = words.map(Property::ReasonString);
        let packet = |words| {
            let ack = Ack { packet_id, reason, properties: Properties::list(words) };
            if qos == QoS::ExactlyOnce { Packet::PubRec(ack) } else { Packet::PubAck(ack) }
        };
        if link.send(&packet(words.as_slice())) || link.send(&packet(&[])) {
            self.attend(connection);
        }
    }

    /// The journal takes nothing at present: the client is told, or, where its version has no words for it, cut off rather
    /// than made to believe that its message is safe.
    fn refuse_storage(&mut self, connection: usize, publish: &Publish<'_>, now: u64) {
        let version = self.connections.get(&connection).map(|link| link.version);
        let (Some(Version::V5), Some(id)) = (version, publish.packet_id) else {
            if publish.qos != QoS::AtMostOnce {
                self.hang_up(connection, now);
            }
            return;
        };
        let ack = Ack::new(id, ReasonCode::QUOTA_EXCEEDED);
        let answer = if publish.qos == QoS::ExactlyOnce { Packet::PubRec(ack) } else { Packet::PubAck(ack) };
        self.send(connection, &answer);
    }

    /// The topic that an alias stands for, if the packet has no topic of its own; remembers a new alias (§3.3.2.3.4).
    fn resolve_alias(
        &mut self,
        connection: usize,
        publish: &Publish<'_>,
    ) -> Result<Option<Box<str>>, ReasonCode> {
        let Some(alias) = publish.properties.topic_alias() else { return Ok(None) };
        if alias == 0 || alias > self.limits.topic_aliases {
            return Err(ReasonCode::TOPIC_ALIAS_INVALID);
        }
        let link = self.connections.get_mut(&connection).ok_or(ReasonCode::PROTOCOL_ERROR)?;
        let at = usize::from(alias) - 1;
        if publish.topic.is_empty() {
            let known = link.aliases.get(at).cloned().flatten();
            return known.map(Some).ok_or(ReasonCode::PROTOCOL_ERROR);
        }
        if link.aliases.len() <= at {
            link.aliases.resize(at + 1, None);
        }
        if let Some(slot) = link.aliases.get_mut(at) {
            *slot = Some(publish.topic.into());
        }
        Ok(None)
    }

    /// Retains and routes a message, as far as the policy allows. `from` is the session that published it.
    ///
    /// Consent comes before storage: what nobody may read is accepted and gone.
    pub(crate) fn publish(
        &mut self,
        routed: &Routed<'_>,
        from: Option<usize>,
        qos: QoS,
        retain: bool,
        now: u64,
    ) -> ReasonCode {
        let topic = routed.content.topic;
        if !self.policy.may_publish(routed.sid, topic) {
            return ReasonCode::NOT_AUTHORIZED;
        }
        if let Some(reason) = self.publish_to_shadow(routed, from, now) {
            return reason;
        }
        if !self.policy.has_reader(topic) {
            return ReasonCode::SUCCESS;
        }
        let seen = self.show(routed, qos, retain, now);
        let versions: Vec<(Rc<str>, Option<Routed<'_>>)> = seen
            .iter()
            .map(|(sid, seen)| match seen {
                Seen::Instead(payload) => {
                    let content = Content { payload, properties: &[], ..routed.content };
                    (Rc::clone(sid), Some(Routed::new(content, routed.sid)))
                }
                Seen::AsIs | Seen::Counted | Seen::Nothing => (Rc::clone(sid), None),
            })
            .collect();
        let kept = !retain || self.retain(routed, &versions, qos, now);
        let publication = Publication { routed, to: To::Readers(&versions), from, qos, retain };
        let delivery = self.route(&publication, now);
        if !kept || (delivery.receivers > 0 && delivery.taken == 0) {
            ReasonCode::QUOTA_EXCEEDED
        } else if delivery.receivers == 0 && !delivery.has_local && !self.policy.is_granted() {
            ReasonCode::NO_MATCHING_SUBSCRIBERS
        } else {
            // Under grants a publisher does not learn whether anybody listens.
            ReasonCode::SUCCESS
        }
    }

    /// Answers whether a limit let the message be retained; an empty one removes what was (§3.3.1.3).
    fn retain(
        &mut self,
        routed: &Routed<'_>,
        versions: &[(Rc<str>, Option<Routed<'_>>)],
        qos: QoS,
        now: u64,
    ) -> bool {
        let topic = routed.content.topic;
        if self.log.refuses() {
            self.dropped += 1;
            return false;
        }
        self.log.retained(topic);
        if routed.content.payload.is_empty() {
            self.retained.remove(topic);
            return true;
        }
        let readers = self.policy.raw_readers(topic);
        let is_raw = !self.policy.is_granted() || !readers.is_empty();
        let change = |kept: &mut Kept| {
            let earlier = kept.take_raw();
            kept.set_raw(is_raw.then(|| Stored { message: routed.keep_in(earlier), qos }), readers);
            for (sid, version) in versions {
                let message = version.as_ref().unwrap_or(routed).keep();
                kept.set_shown(sid, Stored { message, qos });
            }
        };
        let kept = self.retained.update(topic, routed.sid, &self.limits, now, change);
        if !kept {
            self.dropped += 1;
        } else if let Some(at) = routed.content.expires_at {
            self.wake_at(at);
        }
        kept
    }

    pub(crate) fn route(&mut self, publication: &Publication<'_>, now: u64) -> Delivery {
        let mut matches = mem::take(&mut self.matches);
        self.tree.find(publication.routed.content.topic, &mut matches);
        let found = matches.direct.len();
        matches.direct.retain(|entry| !(entry.no_local && publication.from == Some(entry.session)));
        let mut delivery = Delivery { has_local: matches.direct.len() < found, ..Delivery::default() };
        matches.direct.sort_unstable_by_key(|entry| entry.session);
        // Overlapping subscriptions of one session make one delivery, with the highest QoS and all identifiers (§3.3.4).
        for entries in matches.direct.chunk_by(|one, next| one.session == next.session) {
            self.deliver_to(entries, publication, now, &mut delivery);
        }
        self.route_to_groups(&matches, publication, now, &mut delivery);
        self.matches = matches;
        delivery
    }

    fn route_to_groups(
        &mut self,
        matches: &Matches,
        publication: &Publication<'_>,
        now: u64,
        delivery: &mut Delivery,
    ) {
        let mut start = 0;
        for (end, turn) in &matches.groups {
            let members = matches.members.get(start..*end).unwrap_or_default();
            start = *end;
            let rank = |entry: &&Entry| {
                let session = self.sessions.get(entry.session);
                let sees =
                    |session: &Session| publication.seen_by(&self.policy, session.sid.as_ref()).is_some();
                let connected = session.is_some_and(|session| session.connection.is_some());
                (session.is_some_and(sees), connected)
            };
            let chosen = members.iter().find(|entry| rank(entry) == (true, true));
            let chosen = chosen.or_else(|| members.iter().find(|entry| rank(entry).0));
            if let Some(entry) = chosen.copied() {
                turn.set(turn.get().wrapping_add(1));
                self.deliver_to(&[entry], publication, now, delivery);
            }
        }
    }

    fn deliver_to(
        &mut self,
        entries: &[Entry],
        publication: &Publication<'_>,
        now: u64,
        delivery: &mut Delivery,
    ) {
        let Some(first) = entries.first() else { return };
        let Some(session) = self.sessions.get(first.session) else { return };
        let Some(routed) = publication.seen_by(&self.policy, session.sid.as_ref()) else { return };
        let granted = entries.iter().map(|entry| entry.qos).max().unwrap_or_default();
        let as_published = entries.iter().any(|entry| entry.retain_as_published);
        let mut ids = [0u32; 8];
        let mut many = Vec::new();
        let count = entries.iter().filter(|entry| entry.id != 0).count();
        let mut used = 0;
        for entry in entries.iter().filter(|entry| entry.id != 0) {
            match ids.get_mut(used).filter(|_| count <= 8) {
                Some(slot) => *slot = entry.id,
                None => many.push(entry.id),
            }
            used += 1;
        }
        let ids = if many.is_empty() { ids.get(..used).unwrap_or_default() } else { &many };
        let qos = publication.qos.min(granted);
        let parcel = Parcel { qos, retain: publication.retain && as_published, ids };
        delivery.receivers += 1;
        if self.deliver(first.session, routed, parcel, now) {
            delivery.taken += 1;
        } else {
            self.dropped += 1;
        }
    }

    /// Sends a message to a session now, or lets it wait. Answers false if a limit left no place for it.
    pub(crate) fn deliver(&mut self, id: usize, routed: &Routed<'_>, parcel: Parcel<'_>, now: u64) -> bool {
        let Some(session) = self.sessions.get_mut(id) else { return true };
        if parcel.qos != QoS::AtMostOnce && session.expiry > 0 && self.log.refuses() {
            return false;
        }
        let connection = session.connection;
        let Some(link) = connection.and_then(|connection| self.connections.get_mut(&connection)) else {
            // Nobody is there: QoS 0 is not kept for later.
            if parcel.qos == QoS::AtMostOnce {
                return true;
            }
            return self.enqueue(id, wait(routed, parcel));
        };
        let has_room = link.output.pending().len() < self.limits.output;
        let mut envelope =
            Envelope { qos: parcel.qos, dup: false, retain: parcel.retain, packet_id: None, ids: parcel.ids };
        if parcel.qos == QoS::AtMostOnce {
            if has_room {
                link.publish(routed.content, envelope, now);
            }
        } else if has_room && session.waiting.is_empty() && session.flying.len() < link.window {
            if !session.may_hold(routed.content.cost(), &self.held, &self.limits) {
                return false;
            }
            let packet_id = session.flying.next_id();
            envelope.packet_id = Some(packet_id);
            // A packet longer than the client takes is not sent, as if it were delivered (§3.1.2.11.4).
            if link.publish(routed.content, envelope, now) {
                let waiting = wait(routed, parcel);
                self.held.add(session.sid.as_ref(), waiting.cost());
                self.log.flown(id, session, &waiting, packet_id);
                session.flying.push(Flying {
                    packet_id,
                    stage: first_stage(parcel.qos),
                    message: Some(waiting),
                });
            }
        } else {
            return self.enqueue(id, wait(routed, parcel));
        }
        if has_room {
            if let Some(connection) = connection {
                self.attend(connection);
            }
            return true;
        }
        self.enqueue(id, wait(routed, parcel))
    }

    fn enqueue(&mut self, id: usize, waiting: Waiting) -> bool {
        let Some(session) = self.sessions.get_mut(id) else { return true };
        let before = session.waiting.len();
        let taken = session.enqueue(waiting, &mut self.held, &self.limits);
        let gave_way = before + usize::from(taken) - session.waiting.len();
        self.dropped += gave_way as u64;
        if taken && let Some(waiting) = session.waiting.back() {
            self.log.enqueued(id, session, waiting);
        }
        taken
    }

    /// Sends what waits for a session, as far as window and output allow. The grants as they are now decide.
    pub(crate) fn pump(&mut self, id: usize, now: u64) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(connection) = session.connection else { return };
        let Some(link) = self.connections.get_mut(&connection) else { return };
        let mut sent = false;
        while link.output.pending().len() < self.limits.output {
            let Some(waiting) = session.next_waiting(link.window, &mut self.held) else { break };
            let stays = !waiting.message.is_expired(now)
                && covers(&self.policy, &waiting.message, session.sid.as_ref());
            if !stays {
                self.log.skipped(id, session, &waiting);
                continue;
            }
            let mut envelope = Envelope {
                qos: waiting.qos,
                dup: false,
                retain: waiting.retain,
                packet_id: None,
                ids: &waiting.ids,
            };
            if waiting.qos != QoS::AtMostOnce {
                envelope.packet_id = Some(session.flying.next_id());
            }
            let content = waiting.message.content();
            if !link.publish(content, envelope, now) {
                self.log.skipped(id, session, &waiting);
                continue;
            }
            sent = true;
            if let Some(packet_id) = envelope.packet_id {
                self.held.add(session.sid.as_ref(), waiting.cost());
                let stage = first_stage(waiting.qos);
                self.log.sent(id, session, &waiting, packet_id);
                session.flying.push(Flying { packet_id, stage, message: Some(waiting) });
            }
        }
        let is_overdue = !session.overdue.is_empty();
        if sent {
            self.attend(connection);
        }
        if is_overdue {
            self.tell_overdue(id, now);
        }
    }

    /// [`Self::pump`] for every connected session.
    pub(crate) fn pump_all(&mut self, now: u64) {
        let connected: Vec<usize> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.connection.is_some())
            .filter(|(_, session)| !(session.waiting.is_empty() && session.overdue.is_empty()))
            .map(|(id, _)| id)
            .collect();
        for id in connected {
            self.pump(id, now);
        }
    }
}

fn wait(routed: &Routed<'_>, parcel: Parcel<'_>) -> Waiting {
    Waiting { message: routed.keep(), qos: parcel.qos, retain: parcel.retain, ids: parcel.ids.into() }
}

const fn first_stage(qos: QoS) -> Stage {
    match qos {
        QoS::AtMostOnce | QoS::AtLeastOnce => Stage::Ack,
        QoS::ExactlyOnce => Stage::Rec,
    }
}
