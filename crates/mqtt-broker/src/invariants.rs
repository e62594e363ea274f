//! What must hold after any sequence of events, tried with random ones.

use crate::Identity;
use crate::broker::{Broker, covers};
use crate::grants::{Access, Channels, Grants, Policy, Sight, shadow_topic};
use crate::limits::Limits;
use crate::message::Content;
use crate::retained::Kept;
use crate::session::Session;
use crate::tally::Tally;
use crate::tree::Matches;
use mqtt_wire::{
    Ack, Connect, Disconnect, Filters, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe,
    Subscription, TopicFilters, Unsubscribe, Version, Will,
};
use proptest::prelude::*;
use serde_json::Value;
use std::rc::Rc;
use views::View;

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Connect { at: usize, client: usize, version: Version, clean: bool, expiry: u32, will: bool, delay: u32 },
    Close(usize),
    Disconnect(usize),
    Publish { at: usize, topic: usize, qos: u8, id: u16, retain: bool, length: usize, expiry: Option<u32> },
    Subscribe { at: usize, filter: usize, qos: u8 },
    Unsubscribe { at: usize, filter: usize },
    Patch { at: usize, desired: bool, patch: usize, qos: u8 },
    Ack { at: usize, kind: u8, id: u16 },
    Bytes { at: usize, bytes: Vec<u8> },
    Written { at: usize, count: usize },
    Pass(u64),
    Grants(u8),
    Unattended,
}

const CONNECTIONS: usize = 4;
const TOPICS: [&str; 5] = ["d/L/t", "d/L/u", "c/L/h", "d/M/t", "other"];
const FILTERS: [&str; 9] =
    ["#", "d/+/t", "d/L/u", "c/L/#", "$share/g/d/#", "$share/g/c/L/h", "s/L/#", "s/+", "$share/g/s/#"];
/// Patches of a shadow, of what is reported and of what is desired.
const PATCHES: [&str; 10] = [
    r#"{"t":1}"#,
    r#"{"t":{"a":1},"u":2,"x":3}"#,
    r#"{"t":{"b":2,"a":null}}"#,
    r#"{"u":null,"h":{"a":1}}"#,
    r#"{"h":{"a":1}}"#,
    r#"{"h":{"b":2}}"#,
    r#"{"h":null}"#,
    r#"{"$version":0,"h":7}"#,
    r#"{"$version":1,"desired":{"h":8,"i":8}}"#,
    "{",
];
const SIDS: [&str; 3] = ["device", "app", "late"];
/// Three of each grant.
const CLIENTS: usize = 9;

pub(crate) fn event() -> impl Strategy<Value = Event> {
    let at = 0..CONNECTIONS;
    let version = prop::sample::select(&[Version::V311, Version::V5]);
    prop_oneof![
        3 => (at.clone(), 0..CLIENTS, version, any::<bool>(), 0..3u32, any::<bool>(), 0..3u32).prop_map(
            |(at, client, version, clean, expiry, will, delay)| {
                Event::Connect { at, client, version, clean, expiry, will, delay }
            }
        ),
        1 => at.clone().prop_map(Event::Close),
        1 => at.clone().prop_map(Event::Disconnect),
        8 => (at.clone(), 0..TOPICS.len(), 0..3u8, 1..4u16, any::<bool>(), 0..60usize, prop::option::of(0..3u32))
            .prop_map(|(at, topic, qos, id, retain, length, expiry)| {
                Event::Publish { at, topic, qos, id, retain, length, expiry }
            }),
        4 => (at.clone(), 0..FILTERS.len(), 0..3u8).prop_map(|(at, filter, qos)| Event::Subscribe { at, filter, qos }),
        1 => (at.clone(), 0..FILTERS.len()).prop_map(|(at, filter)| Event::Unsubscribe { at, filter }),
        8 => (at.clone(), any::<bool>(), 0..PATCHES.len(), 0..3u8)
            .prop_map(|(at, desired, patch, qos)| Event::Patch { at, desired, patch, qos }),
        5 => (at.clone(), 0..4u8, 1..6u16).prop_map(|(at, kind, id)| Event::Ack { at, kind, id }),
        1 => (at.clone(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Event::Bytes { at, bytes }),
        5 => (at, 0..200usize).prop_map(|(at, count)| Event::Written { at, count }),
        2 => (1..2_500u64).prop_map(Event::Pass),
        1 => Just(Event::Pass(10_000)),
        1 => any::<u8>().prop_map(Event::Grants),
        1 => Just(Event::Unattended),
    ]
}

/// Views by bits.
fn view(bits: u8) -> View {
    let json = match bits & 3 {
        0 => r#"{"kind":"raw"}"#,
        1 => r#"{"kind":"filter","above":30}"#,
        2 => r#"{"kind":"summary","window_s":10,"min_samples":3}"#,
        _ => r#"{"kind":"coarsening","round":10}"#,
    };
    serde_json::from_str(json).expect("a view")
}

/// Whether a payload is what a view of these shows.
fn is_shown_by(view: &View, payload: &[u8]) -> bool {
    fn is_round(value: &Value) -> bool {
        match value {
            Value::Number(number) => number.as_f64().is_some_and(|number| number % 10.0 == 0.0),
            Value::Object(members) => members.values().all(is_round),
            Value::Array(_) | Value::Bool(_) | Value::Null | Value::String(_) => false,
        }
    }
    let value = serde_json::from_slice::<Value>(payload);
    match view {
        View::Raw => true,
        View::Filter(_) => value.is_ok_and(|value| value.as_f64().is_some_and(|number| number > 30.0)),
        View::Summary(_) => value.is_ok_and(|value| value["count"].as_u64().is_some_and(|count| count >= 3)),
        View::Coarsening(_) => value.is_ok_and(|value| is_round(&value)),
    }
}

/// Grants by bits: which exist, which channels they have, and which views.
pub(crate) fn grants(bits: u8) -> Grants {
    let app = |view: &View, read: &[&str], command: &[&str]| {
        let command = command.iter().map(|name| (*name).into()).collect();
        let mut channels = Channels { read: Vec::new(), command };
        for channel in read {
            channels.allow_reading(channel, view);
        }
        Access::App { devices: [("L".into(), channels)].into(), key: None }
    };
    let mut list: Vec<(Rc<str>, Access)> = Vec::new();
    if bits & 1 == 0 {
        list.push((SIDS[0].into(), Access::Device { label: "L".into() }));
    }
    let own = view(bits >> 4);
    match bits >> 1 & 3 {
        0 => {}
        1 => list.push((SIDS[1].into(), app(&own, &["t"], &[]))),
        2 => list.push((SIDS[1].into(), app(&own, &["u"], &["h"]))),
        _ => list.push((SIDS[1].into(), app(&own, &["t", "u"], &["h"]))),
    }
    if bits & 8 != 0 {
        list.push((SIDS[2].into(), app(&view(bits >> 6), &["t"], &["h"])));
    }
    Grants::new(list)
}

pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) now: u64,
}

impl World {
    fn send(&mut self, at: usize, packet: &Packet<'_>) {
        let version = self.broker.connections.get(&at).map_or(Version::V5, |link| link.version);
        self.broker.receive(at, &packet.to_vec(version), self.now);
    }

    fn connect(&mut self, at: usize, sid: &str, connect: Connect<'_>) {
        self.broker.close(at, self.now);
        let identity = Identity { sid: sid.to_owned(), client: connect.client_id.to_owned() };
        self.broker.open(at, Some(identity), self.now);
        self.broker.receive(at, &Packet::Connect(connect).to_vec(connect.version), self.now);
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::Connect { at, client, version, clean, expiry, will, delay } => {
                let properties = [Property::SessionExpiryInterval(*expiry), Property::ReceiveMaximum(2)];
                let delays = [Property::WillDelayInterval(*delay)];
                let sid = client % SIDS.len();
                let name = format!("{}{}", SIDS[sid], client / SIDS.len());
                let will = will.then_some(Will {
                    qos: QoS::AtLeastOnce,
                    retain: *clean,
                    properties: Properties::list(&delays),
                    topic: TOPICS[sid * 2],
                    payload: b"gone",
                });
                let connect = Connect {
                    version: *version,
                    clean_start: *clean,
                    keep_alive: 2,
                    properties: Properties::list(&properties),
                    client_id: &name,
                    will,
                    username: None,
                    password: None,
                };
                self.connect(*at, SIDS[sid], connect);
            }
            Event::Close(at) => self.broker.close(*at, self.now),
            Event::Disconnect(at) => {
                self.send(*at, &Packet::Disconnect(Disconnect::new(ReasonCode::SUCCESS)));
            }
            Event::Publish { at, topic, qos, id, retain, length, expiry } => {
                let properties: Vec<_> = expiry.map(Property::MessageExpiryInterval).into_iter().collect();
                // Every third is no number.
                let payload = if length % 3 == 0 { "x".repeat(*length) } else { format!("{length}.25") };
                let publish = Publish {
                    dup: false,
                    qos: QoS::from_bits(*qos).unwrap_or_default(),
                    retain: *retain,
                    topic: TOPICS[*topic],
                    packet_id: Some(*id),
                    properties: Properties::list(&properties),
                    payload: payload.as_bytes(),
                };
                self.send(*at, &Packet::Publish(publish));
            }
            Event::Patch { at, desired, patch, qos } => {
                let publish = Publish {
                    dup: false,
                    qos: QoS::from_bits(*qos).unwrap_or_default(),
                    retain: true,
                    topic: if *desired { "s/L/desired" } else { "s/L/reported" },
                    packet_id: Some(5),
                    properties: Properties::EMPTY,
                    payload: PATCHES[*patch].as_bytes(),
                };
                self.send(*at, &Packet::Publish(publish));
            }
            Event::Subscribe { at, filter, qos } => {
                let qos = QoS::from_bits(*qos).unwrap_or_default();
                let list = [Subscription::new(FILTERS[*filter], qos)];
                let properties = Properties::EMPTY;
                self.send(
                    *at,
                    &Packet::Subscribe(Subscribe { packet_id: 1, properties, filters: Filters::list(&list) }),
                );
            }
            Event::Unsubscribe { at, filter } => {
                let list = [FILTERS[*filter]];
                let (properties, filters) = (Properties::EMPTY, TopicFilters::list(&list));
                self.send(*at, &Packet::Unsubscribe(Unsubscribe { packet_id: 1, properties, filters }));
            }
            Event::Ack { at, kind, id } => {
                let ack = Ack::new(*id, ReasonCode::SUCCESS);
                let packet =
                    [Packet::PubAck(ack), Packet::PubRec(ack), Packet::PubRel(ack), Packet::PubComp(ack)];
                self.send(*at, &packet[usize::from(*kind)]);
            }
            Event::Bytes { at, bytes } => self.broker.receive(*at, bytes, self.now),
            Event::Written { at, count } => {
                let count = self.broker.output(*at).len().min(*count);
                self.broker.written(*at, count, self.now);
            }
            Event::Pass(milliseconds) => {
                self.now += milliseconds;
                self.broker.tick(self.now);
            }
            Event::Grants(bits) if self.broker.policy.is_granted() => {
                self.broker.set_grants(grants(*bits), self.now);
            }
            Event::Grants(_) => {}
            Event::Unattended => self.broker.unattended(self.now),
        }
        while self.broker.next_attention().is_some() {}
    }

    pub(crate) fn check(&mut self) {
        let broker = &mut self.broker;
        let limits = &broker.limits;
        let mut held = Tally::default();
        for (_, session) in &broker.sessions {
            held.add(session.sid.as_ref(), session.held());
            let of_grant = |other: &Session| session.sid.is_some() && other.sid == session.sid;
            let sessions = broker.sessions.iter().filter(|(_, other)| of_grant(other)).count();
            assert!(sessions <= limits.grant_sessions, "sessions of one grant");
            assert!(session.may_hold(0, &broker.held, limits), "bytes held, in all and for one grant");
        }
        assert_eq!(broker.held, held, "bytes held");
        assert!(broker.retained.is_consistent() && broker.retained.len() <= limits.retained_messages);
        for sid in SIDS {
            let published =
                |(_, kept): &(&str, &Kept)| kept.publisher().map(|publisher| &**publisher) == Some(sid);
            let own = || broker.retained.matching("#").filter(published);
            assert!(own().count() <= limits.grants_part(limits.retained_messages), "retained for {sid}");
            let bytes: usize = own().map(|(topic, kept)| kept.cost(topic)).sum();
            assert!(bytes <= limits.grants_part(limits.retained_bytes), "bytes retained for {sid}");
        }
        assert_eq!(broker.by_key.len(), broker.sessions.len());
        assert!(broker.sessions.len() <= broker.limits.sessions);
        for (id, session) in &broker.sessions {
            assert_eq!(broker.by_key.get(&session.key), Some(&id));
            assert!(session.waiting.len() <= broker.limits.queue_messages);
            match session.connection {
                Some(at) => assert_eq!(broker.connections.get(&at).and_then(|link| link.session), Some(id)),
                None => assert!(session.expires_at.is_some(), "nobody would ever end it"),
            }
            if broker.policy.is_granted() {
                let messages = session.waiting.iter().map(|waiting| &waiting.message);
                let flying = session.flying.iter().filter_map(|flying| flying.message.as_ref());
                for message in messages.chain(flying.map(|waiting| &waiting.message)) {
                    assert!(covers(&broker.policy, message, session.sid.as_ref()), "kept without consent");
                }
            }
        }
        for link in broker.connections.values() {
            if let Some(id) = link.session {
                assert!(broker.sessions.contains(id));
            }
        }
        for (topic, kept) in broker.retained.matching("#") {
            assert!(broker.policy.has_reader(topic), "retained without consent");
            for stored in kept.stored() {
                assert_eq!(stored.message.content().topic, topic);
                assert!(broker.policy.may_publish(stored.message.sid.as_ref(), topic));
            }
        }
        check_shadows(broker);
        check_views(broker);
        let mut found = Matches::default();
        for topic in TOPICS {
            broker.tree.find(topic, &mut found);
            for entry in found.direct.iter().chain(&found.members) {
                let session = broker.sessions.get(entry.session).expect("a subscription has a session");
                let known = session.subscriptions.iter().any(|known| known.entry == *entry);
                assert!(known, "the tree and the session agree");
            }
        }
    }
}

/// Nothing is in a shadow, or on its way out of one, that is not granted.
fn check_shadows(broker: &mut Broker) {
    let policy = &broker.policy;
    if !policy.is_granted() {
        assert_eq!(broker.shadows.labels().count(), 0);
    }
    for label in broker.shadows.labels() {
        assert!(policy.has_publisher(&format!("s/{label}/reported")), "a shadow without its device");
        let mut stored = Vec::new();
        broker.shadows.write(label, &mut stored);
        let [reported, own, desired, versions]: [Value; 4] = serde_json::from_slice(&stored).expect("JSON");
        let may_read = |sid: &str, channel: &str| {
            assert_eq!(policy.sight(Some(&sid.into()), &format!("d/{label}/{channel}")), Sight::Raw);
        };
        let may_command = |sid: &str, channel: &str| {
            assert!(policy.may_publish(Some(&sid.into()), &format!("c/{label}/{channel}")));
        };
        for (channel, parts) in members(&reported) {
            ids(&parts[1]).for_each(|sid| may_read(sid, channel));
            ids(&parts[2]).for_each(|sid| may_command(sid, channel));
            assert!(ids(&parts[1]).chain(ids(&parts[2])).count() > 0, "reported without consent");
        }
        for (sid, own) in members(&own) {
            for (channel, value) in members(own) {
                let view = policy.view(Some(&sid.into()), &format!("d/{label}/{channel}"));
                assert!(view.is_some_and(|view| is_shown_by(view, value.to_string().as_bytes())));
            }
        }
        for (channel, parts) in members(&desired) {
            ids(&parts[1]).for_each(|sid| may_command(sid, channel));
            assert!(ids(&parts[1]).count() > 0, "desired by nobody");
        }
        for (sid, _) in members(&versions) {
            assert!(policy.grants().is_some_and(|grants| grants.sid(sid).is_some()));
        }
    }
    for (_, session) in &broker.sessions {
        assert!(session.overdue.is_empty() || session.connection.is_some());
        assert!(session.overdue.keys().all(|topic| shadow_topic(topic).is_some()));
        let Some(link) = session.connection.and_then(|id| broker.connections.get_mut(&id)) else { continue };
        let sid = session.sid.clone();
        link.retain_messages(|publish| {
            if let Some((label, _)) = shadow_topic(publish.topic).filter(|_| policy.is_granted()) {
                assert!(policy.may_read(sid.as_ref(), publish.topic));
                let document: Value = serde_json::from_slice(publish.payload).expect("JSON");
                for (channel, _) in document.get("reported").into_iter().flat_map(members) {
                    assert!(policy.may_read(sid.as_ref(), &format!("d/{label}/{channel}")));
                }
                for (channel, _) in document.get("desired").into_iter().flat_map(members) {
                    assert!(policy.may_publish(sid.as_ref(), &format!("c/{label}/{channel}")));
                }
            }
            true
        });
    }
}

/// Nothing is kept for a grant, or on its way to it, that its view as it is now would not have shown; and nothing is
/// remembered that no grant covers.
fn check_views(broker: &mut Broker) {
    let policy = &broker.policy;
    assert!(broker.lenses.is_consistent(&broker.limits));
    for (sid, topic) in broker.lenses.iter() {
        let view = policy.view(Some(sid), topic).expect("remembered with consent");
        assert!(view.remembers() && policy.has_publisher(topic), "remembered for nothing");
    }
    let is_shown = |sid: Option<&Rc<str>>, content: Content<'_>| {
        let view = policy.view(sid, content.topic);
        assert!(view.is_some_and(|view| is_shown_by(view, content.payload)), "{content:?} for {view:?}");
    };
    for (topic, kept) in broker.retained.matching("#") {
        for sid in SIDS.map(Rc::from) {
            if let Some(stored) = kept.seen_by(policy, Some(&sid), topic).filter(|_| policy.is_granted()) {
                is_shown(Some(&sid), stored.message.content());
            }
        }
        assert!(!policy.is_granted() || kept.raw().is_none() || !policy.raw_readers(topic).is_empty());
    }
    for (_, session) in &broker.sessions {
        let flying = session.flying.iter().filter_map(|flying| flying.message.as_ref());
        for waiting in session.waiting.iter().chain(flying) {
            is_shown(session.sid.as_ref(), waiting.message.content());
        }
        let Some(link) = session.connection.and_then(|id| broker.connections.get_mut(&id)) else { continue };
        let (sid, version) = (session.sid.clone(), link.version);
        link.output.retain(|frame| {
            if let Ok(Packet::Publish(Publish { topic, payload, .. })) = Packet::decode(frame, version) {
                is_shown(sid.as_ref(), Content { topic, payload, properties: &[], expires_at: None });
            }
            true
        });
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn ids(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

pub(crate) fn limits() -> Limits {
    Limits {
        sessions: 5,
        grant_sessions: 2,
        grant_share: 2,
        subscriptions: 4,
        queue_messages: 3,
        queue_bytes: 1_500,
        retained_messages: 4,
        retained_bytes: 2_500,
        unattended_ms: 2_000,
        output: 150,
        receive_maximum: 2,
        in_flight: 2,
        lenses: 4,
        ..Limits::PERSONAL
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn whatever_happens_the_books_balance(open in any::<bool>(), events in prop::collection::vec(event(), 1..120)) {
        let policy = if open { Policy::Open } else { Policy::Granted(Some(grants(0b1110))) };
        let mut world = World { broker: Broker::new(limits(), policy, 1), now: 1 };
        for event in &events {
            world.apply(event);
            world.check();
        }
        for at in 0..CONNECTIONS {
            world.broker.close(at, world.now);
        }
        world.apply(&Event::Pass(8 * 24 * 3_600_000));
        world.check();
        prop_assert_eq!(world.broker.sessions.len(), 0);
        prop_assert_eq!(world.broker.held, Tally::default());
        prop_assert!(world.broker.tree.is_empty());
    }
}
