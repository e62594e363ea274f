//! Documents and deltas on their way out: what a session is told, when, and what becomes of it where there is no room.

use super::{Eyes, has_device};
use crate::broker::Broker;
use crate::flights::{Flying, Stage};
use crate::grants::{Access, Part, shadow_topic};
use crate::message::{Content, Envelope};
use crate::publish::Parcel;
use crate::session::Session;
use crate::tree::{Entry, Matches, shared};
use ::shadow::Shadow;
use mqtt_wire::{Properties, Property, QoS, Subscription, Version, topic};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;
use std::rc::Rc;

/// A document or delta as it is now.
pub(super) struct State {
    payload: Vec<u8>,
    /// Encoded.
    properties: Vec<u8>,
    /// There is nothing in it, and was not since it is counted.
    is_blank: bool,
}

impl State {
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.payload.hash(&mut hasher);
        hasher.finish()
    }

    fn of(shadow: &Shadow, eyes: &Eyes<'_>) -> State {
        if !eyes.is_device() {
            let payload = shadow.document(eyes);
            let is_blank = payload == Shadow::default().document(eyes);
            return State { payload, properties: Vec::new(), is_blank };
        }
        let version = shadow.version(eyes.sid).to_string();
        let list = [Property::UserProperty("version", &version)];
        let mut properties = Vec::new();
        if Properties::list(&list).encode_where(|_| true, &mut properties).is_err() {
            properties.clear();
        }
        State { payload: shadow.delta(), properties, is_blank: shadow.version(eyes.sid) == 0 }
    }
}

impl Broker {
    /// A shadow's document or delta as a grant sees it now; `None` if it sees none.
    fn state(&self, sid: &Rc<str>, topic: &str) -> Option<State> {
        let (label, _) = shadow_topic(topic)?;
        let grants = self.policy.grants().filter(|grants| has_device(grants, label))?;
        if !self.policy.may_read(Some(sid), topic) {
            return None;
        }
        let eyes = Eyes { sid, access: grants.access(Some(sid))?, label };
        let nothing = Shadow::default();
        let shadow = self.shadows.by_label.get(label).map_or(&nothing, |kept| &kept.shadow);
        Some(State::of(shadow, &eyes))
    }

    /// Whether the grant's sessions know this already. Where nothing is noted they know that there is nothing.
    fn is_known(&self, sid: &Rc<str>, topic: &str, state: &State) -> bool {
        let Some((label, _)) = shadow_topic(topic) else { return true };
        let known = self.shadows.by_label.get(label).and_then(|kept| kept.known.get(sid).copied());
        let nothing = || {
            let access = self.policy.grants()?.access(Some(sid))?;
            Some(State::of(&Shadow::default(), &Eyes { sid, access, label }).hash())
        };
        known.or_else(nothing) == Some(state.hash())
    }

    /// A shadow has changed: whoever sees that, and is there, is told.
    pub(super) fn tell_all(&mut self, label: &str, now: u64) {
        for topic in [format!("s/{label}"), format!("s/{label}/delta")] {
            let mut matches = mem::take(&mut self.matches);
            self.tree.find(&topic, &mut matches);
            matches.direct.sort_unstable_by_key(|entry| entry.session);
            let mut told = Told::default();
            for entries in matches.direct.chunk_by(|one, next| one.session == next.session) {
                self.tell_entries(entries, &topic, &mut told, now);
            }
            self.tell_groups(&matches, &topic, &mut told, now);
            self.matches = matches;
            for (sid, state) in told.0 {
                if let Some(state) = state {
                    self.shadows.set_known(label, &sid, &state);
                }
            }
        }
    }

    /// One member of each shared group is told.
    fn tell_groups(&mut self, matches: &Matches, topic: &str, told: &mut Told, now: u64) {
        let mut start = 0;
        for (end, turn) in &matches.groups {
            let members = matches.members.get(start..*end).unwrap_or_default();
            start = *end;
            let is_there = |entry: &&Entry| {
                self.sessions.get(entry.session).is_some_and(|session| session.connection.is_some())
            };
            if let Some(entry) = members.iter().find(is_there).copied() {
                turn.set(turn.get().wrapping_add(1));
                self.tell_entries(&[entry], topic, told, now);
            }
        }
    }

    /// Tells a session that has these subscriptions, if it is connected and its grant sees a change.
    fn tell_entries(&mut self, entries: &[Entry], topic: &str, told: &mut Told, now: u64) {
        let Some(id) = entries.first().map(|entry| entry.session) else { return };
        let Some(session) = self.sessions.get(id).filter(|session| session.connection.is_some()) else {
            return;
        };
        let Some(sid) = session.sid.clone() else { return };
        let at = match told.0.iter().position(|(known, _)| *known == sid) {
            Some(at) => at,
            None => {
                let state = self.state(&sid, topic).filter(|state| !self.is_known(&sid, topic, state));
                told.0.push((sid, state));
                told.0.len() - 1
            }
        };
        if let Some((_, Some(state))) = told.0.get(at) {
            let (qos, ids) = envelope(entries.iter());
            self.tell(id, topic, state, Parcel { qos, retain: false, ids: &ids }, now);
        }
    }

    /// Sends a state to a session now, or notes that it is overdue.
    fn tell(&mut self, id: usize, topic: &str, state: &State, parcel: Parcel<'_>, now: u64) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(connection) = session.connection else { return };
        let Some(link) = self.connections.get_mut(&connection) else { return };
        let qos = parcel.qos.min(QoS::AtLeastOnce);
        let retain = session.overdue.remove(topic).unwrap_or(false) || parcel.retain;
        let has_room = link.output.pending().len() < self.limits.output
            && (qos == QoS::AtMostOnce || session.flying.len() < link.window);
        if !has_room {
            session.overdue.insert(topic.into(), retain);
            return;
        }
        let packet_id = (qos != QoS::AtMostOnce).then(|| session.flying.next_id());
        let content =
            Content { topic, payload: &state.payload, properties: &state.properties, expires_at: None };
        let envelope = Envelope { qos, dup: false, retain, packet_id, ids: parcel.ids };
        let is_sent = link.publish(content, envelope, now);
        if let Some(packet_id) = packet_id.filter(|_| is_sent) {
            // Without the message: it is not sent again, for what is so then is sent when the session goes on.
            session.flying.push(Flying { packet_id, stage: Stage::Ack, message: None });
        }
        self.attend(connection);
    }

    /// Sends a session what is overdue, as it is now and as far as there is room.
    pub(crate) fn tell_overdue(&mut self, id: usize, now: u64) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(sid) = session.sid.clone() else { return };
        for (topic, retain) in mem::take(&mut session.overdue) {
            let Some(session) = self.sessions.get(id) else { return };
            let found = subscriptions(session, &topic, true);
            let (qos, ids) = envelope(found.iter());
            if let Some(state) = self.state(&sid, &topic).filter(|_| !found.is_empty()) {
                self.tell(id, &topic, &state, Parcel { qos, retain, ids: &ids }, now);
            }
        }
    }

    /// A session has subscribed. `is_due` is whether it gets what is there already; if not, it counts as known.
    pub(crate) fn tell_subscriber(
        &mut self,
        id: usize,
        wanted: &Subscription<'_>,
        identifier: u32,
        is_due: bool,
        now: u64,
    ) {
        let (_, filter) = shared(wanted.filter);
        let ids: &[u32] = if identifier == 0 { &[] } else { &[identifier] };
        let parcel = Parcel { qos: wanted.qos, retain: true, ids };
        for topic in self.shadow_topics(id).into_iter().filter(|name| topic::matches(filter, name)) {
            self.tell_state(id, &topic, parcel, (is_due, asks_for_documents(filter)), now);
        }
    }

    /// A session goes on: what it is subscribed to may have changed meanwhile.
    pub(crate) fn tell_returned(&mut self, id: usize, now: u64) {
        for topic in self.shadow_topics(id) {
            let Some(session) = self.sessions.get(id) else { return };
            if subscriptions(session, &topic, true).is_empty() {
                continue;
            }
            let own = subscriptions(session, &topic, false);
            let asks = session.subscriptions.iter().any(|known| asks_for_documents(&known.filter));
            let (qos, ids) = envelope(own.iter());
            let parcel = Parcel { qos, retain: true, ids: &ids };
            self.tell_state(id, &topic, parcel, (!own.is_empty(), asks), now);
        }
    }

    /// Notes that a session knows a state, and tells it if that is due; a blank one only if it was asked for.
    fn tell_state(
        &mut self,
        id: usize,
        topic: &str,
        parcel: Parcel<'_>,
        (is_due, or_blank): (bool, bool),
        now: u64,
    ) {
        let Some(sid) = self.sessions.get(id).and_then(|session| session.sid.clone()) else { return };
        let Some((state, (label, part))) = self.state(&sid, topic).zip(shadow_topic(topic)) else { return };
        self.shadows.set_known(label, &sid, &state);
        if is_due && (!state.is_blank || (or_blank && part == Part::Document)) {
            self.tell(id, topic, &state, parcel, now);
        }
    }

    /// Topics of shadows that a session may get.
    fn shadow_topics(&self, id: usize) -> Vec<String> {
        let sid = self.sessions.get(id).and_then(|session| session.sid.as_ref());
        match self.policy.grants().and_then(|grants| grants.access(sid)) {
            None => Vec::new(),
            Some(Access::Device { label }) => vec![format!("s/{label}/delta")],
            Some(Access::App { devices, .. }) => devices.keys().map(|label| format!("s/{label}")).collect(),
        }
    }

    /// A compare-and-set was lost. Before MQTT 5 no answer can say so: the current document does.
    pub(super) fn tell_loser(&mut self, from: Option<usize>, label: &str, now: u64) {
        let Some((id, session)) = from.and_then(|id| Some((id, self.sessions.get(id)?))) else { return };
        let Some(link) = session.connection.and_then(|connection| self.connections.get(&connection)) else {
            return;
        };
        if link.version == Version::V5 {
            return;
        }
        let topic = format!("s/{label}");
        let (qos, _) = envelope(subscriptions(session, &topic, true).iter());
        if let Some(sid) = session.sid.clone()
            && let Some(state) = self.state(&sid, &topic)
        {
            self.tell(id, &topic, &state, Parcel { qos, retain: false, ids: &[] }, now);
        }
    }

    /// Grants are about to change what documents say: those that are not written yet are overdue instead.
    pub(crate) fn recall_shadows(&mut self) {
        for (_, session) in &mut self.sessions {
            let Some(link) = session.connection.and_then(|id| self.connections.get_mut(&id)) else {
                continue;
            };
            let mut recalled = Vec::new();
            link.retain_messages(|publish| {
                let is_shadow = shadow_topic(publish.topic).is_some();
                if is_shadow {
                    session.overdue.insert(publish.topic.into(), publish.retain);
                    recalled.extend(publish.packet_id);
                }
                !is_shadow
            });
            session.flying.retain(|flying| !recalled.contains(&flying.packet_id));
        }
    }
}

/// What is sent of one change, by grant; nothing to grants that see none.
#[derive(Default)]
struct Told(Vec<(Rc<str>, Option<State>)>);

/// Whether a filter names shadows, and does not only match them: then a document with nothing in it is an answer, too.
fn asks_for_documents(filter: &str) -> bool {
    filter.starts_with("s/")
}

/// A session's subscriptions that match a topic, with those of shared groups or without.
fn subscriptions(session: &Session, name: &str, with_shared: bool) -> Vec<Entry> {
    let matching = session.subscriptions.iter().filter(|subscribed| {
        let (group, filter) = shared(&subscribed.filter);
        (with_shared || group.is_none()) && topic::matches(filter, name)
    });
    matching.map(|subscribed| subscribed.entry).collect()
}

/// QoS and subscription identifiers of one delivery for several subscriptions (§3.3.4).
fn envelope<'a>(entries: impl Iterator<Item = &'a Entry> + Clone) -> (QoS, Vec<u32>) {
    let qos = entries.clone().map(|entry| entry.qos).max().unwrap_or_default();
    (qos, entries.map(|entry| entry.id).filter(|id| *id != 0).collect())
}
