//! Shadows of the owner's devices: `s/<label>` and what is below it, under grants only.
//!
//! What a shadow is, who sees which part of it and when its version moves is the `shadow` crate's. Here are the topics, and
//! when documents go out: newest only, at once to whoever is connected, on subscribing and when a session goes on. They
//! are never queued: what finds no room is remembered as overdue by its topic, and sent as it is then.

use crate::broker::Broker;
use crate::flights::{Flying, Stage};
use crate::grants::{Access, Grants, Part, Policy, Sight, shadow_topic};
use crate::message::{Content, Envelope, Routed, encode};
use crate::publish::Parcel;
use crate::session::Session;
use crate::tree::{Entry, Matches, shared};
use ::shadow::{Audience, Desire, Refused, Shadow, Viewer, parse_report};
use mqtt_wire::{Packet, Properties, Property, QoS, ReasonCode, Subscription, Version, topic};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem;
use std::rc::Rc;

/// All shadows, by the device's label.
#[derive(Default)]
pub(crate) struct Shadows {
    by_label: BTreeMap<Box<str>, Kept>,
}

/// A device's shadow, and what was last made known of it.
#[derive(Default)]
struct Kept {
    shadow: Shadow,
    /// By grant, what its sessions know, hashed: they are told only if it is something else.
    known: BTreeMap<Rc<str>, u64>,
}

impl Shadows {
    /// Labels of the devices that have one.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        self.by_label.keys().map(|label| &**label)
    }

    /// Appends a whole shadow to `out`; nothing if there is none.
    pub(crate) fn write(&self, label: &str, out: &mut Vec<u8>) {
        if let Some(kept) = self.by_label.get(label) {
            kept.shadow.write(out);
        }
    }

    /// Puts in place what [`Self::write`] wrote. Answers whether it could be read.
    pub(crate) fn read(&mut self, label: &str, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            self.by_label.remove(label);
            return true;
        }
        let shadow = Shadow::read(bytes);
        let is_read = shadow.is_some();
        if let Some(shadow) = shadow {
            self.by_label.insert(label.into(), Kept { shadow, known: BTreeMap::new() });
        }
        is_read
    }

    fn set_known(&mut self, label: &str, sid: &Rc<str>, state: &State) {
        if let Some(kept) = self.by_label.get_mut(label) {
            kept.known.insert(Rc::clone(sid), state.hash());
        }
    }
}

/// A grant as it looks at one device's shadow.
#[derive(Clone, Copy)]
struct Eyes<'a> {
    sid: &'a Rc<str>,
    access: &'a Access,
    label: &'a str,
}

impl Viewer for Eyes<'_> {
    fn id(&self) -> &str {
        self.sid
    }

    fn reads(&self, channel: &str) -> bool {
        self.sight(channel) != Sight::Blind
    }

    fn commands(&self, channel: &str) -> bool {
        match self.access {
            Access::Device { label } => **label == *self.label,
            Access::App { devices, .. } => {
                devices.get(self.label).is_some_and(|channels| channels.may_command(channel))
            }
        }
    }
}

impl<'a> Eyes<'a> {
    fn sight(&self, channel: &str) -> Sight<'a> {
        match self.access {
            Access::Device { .. } => Sight::Blind,
            Access::App { devices, .. } => {
                devices.get(self.label).map_or(Sight::Blind, |channels| channels.sight(channel))
            }
        }
    }

    /// Whether it sees anything of this device.
    fn is_concerned(&self) -> bool {
        match self.access {
            Access::Device { label } => **label == *self.label,
            Access::App { devices, .. } => devices.contains_key(self.label),
        }
    }

    fn is_device(&self) -> bool {
        matches!(self.access, Access::Device { .. })
    }
}

/// Everybody who sees something of a device's shadow, the device itself too.
fn viewers<'a>(grants: &'a Grants, label: &'a str) -> Vec<Eyes<'a>> {
    let eyes = grants.iter().map(|(sid, access)| Eyes { sid, access, label });
    eyes.filter(Eyes::is_concerned).collect()
}

fn has_device(grants: &Grants, label: &str) -> bool {
    grants.iter().any(|(_, access)| matches!(access, Access::Device { label: own } if **own == *label))
}

/// Who learns of a channel of the device that these eyes see.
fn audience(viewers: &[Eyes<'_>], channel: &str) -> Audience {
    let mut audience = Audience::default();
    for eyes in viewers.iter().filter(|eyes| !eyes.is_device()) {
        match eyes.sight(channel) {
            Sight::Blind => {}
            Sight::Raw => audience.raw.push((&**eyes.sid).into()),
            Sight::Through(_) => audience.viewed.push((&**eyes.sid).into()),
        }
        if eyes.commands(channel) {
            audience.commanders.push((&**eyes.sid).into());
        }
    }
    audience
}

/// A document or delta as it is now.
struct State {
    payload: Vec<u8>,
    /// Encoded.
    properties: Vec<u8>,
    /// There is nothing in it, and was not since it is counted.
    is_blank: bool,
}

impl State {
    fn hash(&self) -> u64 {
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

/// How a patch that was not applied is answered.
const fn reason_for(refused: Refused) -> ReasonCode {
    match refused {
        Refused::Malformed => ReasonCode::PAYLOAD_FORMAT_INVALID,
        Refused::TooLarge | Refused::TooDeep => ReasonCode::QUOTA_EXCEEDED,
        Refused::Conflict => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        Refused::NotAllowed => ReasonCode::NOT_AUTHORIZED,
    }
}

/// What is said beside the reason code of a refused publication.
pub(crate) fn explanation(topic: &str, reason: ReasonCode) -> Option<&'static str> {
    shadow_topic(topic)?;
    match reason {
        ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR => Some("not the current version"),
        ReasonCode::QUOTA_EXCEEDED => Some("too large or too deep"),
        ReasonCode::PAYLOAD_FORMAT_INVALID => Some("not a JSON object"),
        _ => None,
    }
}

impl Broker {
    /// Takes a message that belongs to a shadow; the policy has allowed its topic. `None` if it belongs to none.
    pub(crate) fn publish_to_shadow(
        &mut self,
        routed: &Routed<'_>,
        from: Option<usize>,
        now: u64,
    ) -> Option<ReasonCode> {
        let (label, part) = shadow_topic(routed.content.topic).filter(|_| self.policy.is_granted())?;
        let taken = match part {
            Part::Reported => self.report(label, routed.content.payload),
            Part::Desired => self.desire(routed.sid, label, routed.content.payload),
            Part::Document | Part::Delta => Err(Refused::NotAllowed),
        };
        Some(match taken {
            Ok(changed) => {
                if changed {
                    self.tell_all(label, now);
                }
                ReasonCode::SUCCESS
            }
            Err(refused) => {
                if refused == Refused::Conflict {
                    self.tell_loser(from, label, now);
                }
                reason_for(refused)
            }
        })
    }

    fn report(&mut self, label: &str, payload: &[u8]) -> Result<bool, Refused> {
        let members = parse_report(payload)?;
        let Some(grants) = self.policy.grants() else { return Ok(false) };
        let viewers = viewers(grants, label);
        let audience = |channel: &str| audience(&viewers, channel);
        let lens = |_: &str, _: &str, _: &_| ::shadow::Sight::Nothing;
        match self.shadows.by_label.get_mut(label) {
            Some(kept) => kept.shadow.report(&members, audience, lens),
            None => {
                let mut shadow = Shadow::default();
                let changed = shadow.report(&members, audience, lens)?;
                if !shadow.is_empty() {
                    self.shadows.by_label.insert(label.into(), Kept { shadow, known: BTreeMap::new() });
                }
                Ok(changed)
            }
        }
    }

    fn desire(&mut self, sid: Option<&Rc<str>>, label: &str, payload: &[u8]) -> Result<bool, Refused> {
        let desire = Desire::parse(payload)?;
        let grants = self.policy.grants().filter(|grants| has_device(grants, label));
        let grants = grants.ok_or(Refused::NotAllowed)?;
        let (sid, access) = sid.zip(grants.access(sid)).ok_or(Refused::NotAllowed)?;
        let writer = Eyes { sid, access, label };
        let viewers = viewers(grants, label);
        match self.shadows.by_label.get_mut(label) {
            Some(kept) => kept.shadow.desire(&desire, &writer, &viewers),
            None => {
                let mut shadow = Shadow::default();
                let changed = shadow.desire(&desire, &writer, &viewers)?;
                if !shadow.is_empty() {
                    self.shadows.by_label.insert(label.into(), Kept { shadow, known: BTreeMap::new() });
                }
                Ok(changed)
            }
        }
    }

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
    fn tell_all(&mut self, label: &str, now: u64) {
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
        for end in &matches.ends {
            let members = matches.members.get(start..*end).unwrap_or_default();
            start = *end;
            let is_there = |entry: &&Entry| {
                self.sessions.get(entry.session).is_some_and(|session| session.connection.is_some())
            };
            if let Some(entry) = members.iter().find(is_there).copied() {
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
        let is_sent = encode(content, envelope, link.version, link.max_packet, now, &mut link.output.bytes);
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
    fn tell_loser(&mut self, from: Option<usize>, label: &str, now: u64) {
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
            let version = link.version;
            let mut recalled = Vec::new();
            link.output.retain(|frame| match Packet::decode(frame, version) {
                Ok(Packet::Publish(publish)) if shadow_topic(publish.topic).is_some() => {
                    session.overdue.insert(publish.topic.into(), publish.retain);
                    recalled.extend(publish.packet_id);
                    false
                }
                _ => true,
            });
            session.flying.retain(|flying| !recalled.contains(&flying.packet_id));
        }
    }

    /// Drops what the grants do not cover any more, and tells whoever sees a change.
    pub(crate) fn refilter_shadows(&mut self, earlier: &Policy, now: u64) {
        let Some(grants) = self.policy.grants() else { return };
        let commands = |policy: &Policy, sid: &str, label: &str, channel: &str| {
            policy.grants().is_some_and(|grants| {
                let Some(sid) = grants.sid(sid) else { return false };
                let access = grants.access(Some(&sid));
                access.is_some_and(|access| Eyes { sid: &sid, access, label }.commands(channel))
            })
        };
        self.shadows.by_label.retain(|label, kept| {
            if !has_device(grants, label) {
                return false;
            }
            let viewers = viewers(grants, label);
            let ids: Vec<&str> = viewers.iter().map(|eyes| &**eyes.sid).collect();
            kept.shadow.refilter(
                &ids,
                |sid, channel| commands(earlier, sid, label, channel),
                |sid, channel| commands(&self.policy, sid, label, channel),
                |sid, channel| {
                    self.policy.sees_as_in(earlier, grants.sid(sid).as_ref(), &format!("d/{label}/{channel}"))
                },
            );
            kept.known.retain(|sid, _| ids.contains(&&**sid));
            true
        });
        let labels: Vec<Box<str>> = self.shadows.by_label.keys().cloned().collect();
        for label in &labels {
            self.tell_all(label, now);
        }
        self.shadows.by_label.retain(|_, kept| !kept.shadow.is_empty());
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
