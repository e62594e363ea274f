//! A broker core with clients that are only numbers, and a clock that is only a number.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use mqtt_broker::{Access, Broker, Channels, Grants, Identity, Limits, Policy};
use mqtt_wire::{
    Ack, Connect, Filters, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe, Subscription,
    Version, Will, frame_len,
};
use std::collections::BTreeMap;
use std::rc::Rc;
use views::{HashKey, View};

pub struct Hub {
    pub broker: Broker,
    pub now: u64,
}

/// A packet as a test wants to see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    ConnAck { present: bool, reason: ReasonCode },
    Message { topic: String, payload: String, qos: u8, id: u16, dup: bool, retain: bool, ids: Vec<u32> },
    PubAck(u16, ReasonCode),
    PubRec(u16, ReasonCode),
    PubRel(u16),
    PubComp(u16),
    SubAck(Vec<u8>),
    UnsubAck(Vec<u8>),
    Disconnect(ReasonCode),
    Other(String),
}

impl Seen {
    /// A message with QoS 0 and no flags.
    pub fn message(topic: &str, payload: &str) -> Seen {
        Seen::Message {
            topic: topic.into(),
            payload: payload.into(),
            qos: 0,
            id: 0,
            dup: false,
            retain: false,
            ids: Vec::new(),
        }
    }

    pub fn qos(topic: &str, payload: &str, qos: u8, id: u16) -> Seen {
        Seen::Message {
            topic: topic.into(),
            payload: payload.into(),
            qos,
            id,
            dup: false,
            retain: false,
            ids: Vec::new(),
        }
    }
}

pub const OK: ReasonCode = ReasonCode::SUCCESS;

pub fn connect<'a>(client_id: &'a str, clean_start: bool, properties: &'a [Property<'a>]) -> Connect<'a> {
    Connect {
        version: Version::V5,
        clean_start,
        keep_alive: 0,
        properties: Properties::list(properties),
        client_id,
        will: None,
        username: None,
        password: None,
    }
}

pub fn will<'a>(topic: &'a str, payload: &'a str, properties: &'a [Property<'a>]) -> Will<'a> {
    Will {
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::list(properties),
        topic,
        payload: payload.as_bytes(),
    }
}

pub fn publish<'a>(topic: &'a str, payload: &'a str, qos: u8, id: u16) -> Publish<'a> {
    Publish {
        dup: false,
        qos: QoS::from_bits(qos).expect("a QoS"),
        retain: false,
        topic,
        packet_id: (qos > 0).then_some(id),
        properties: Properties::EMPTY,
        payload: payload.as_bytes(),
    }
}

fn see(packet: &Packet<'_>) -> Seen {
    match packet {
        Packet::ConnAck(connack) => {
            Seen::ConnAck { present: connack.session_present, reason: connack.reason }
        }
        Packet::Publish(publish) => Seen::Message {
            topic: publish.topic.into(),
            payload: String::from_utf8_lossy(publish.payload).into_owned(),
            qos: publish.qos.bits(),
            id: publish.packet_id.unwrap_or(0),
            dup: publish.dup,
            retain: publish.retain,
            ids: publish
                .properties
                .iter()
                .filter_map(|property| match property {
                    Property::SubscriptionIdentifier(id) => Some(id),
                    _ => None,
                })
                .collect(),
        },
        Packet::PubAck(ack) => Seen::PubAck(ack.packet_id, ack.reason),
        Packet::PubRec(ack) => Seen::PubRec(ack.packet_id, ack.reason),
        Packet::PubRel(ack) => Seen::PubRel(ack.packet_id),
        Packet::PubComp(ack) => Seen::PubComp(ack.packet_id),
        Packet::SubAck(suback) => Seen::SubAck(suback.codes.to_vec()),
        Packet::UnsubAck(unsuback) => Seen::UnsubAck(unsuback.codes.to_vec()),
        Packet::Disconnect(disconnect) => Seen::Disconnect(disconnect.reason),
        other => Seen::Other(format!("{other:?}")),
    }
}

impl Hub {
    pub fn open() -> Hub {
        Hub::with(Limits::PERSONAL, Policy::Open)
    }

    pub fn with(limits: Limits, policy: Policy) -> Hub {
        Hub { broker: Broker::new(limits, policy, 7), now: 1_000 }
    }

    /// A new connection that has sent its CONNECT; the answer is left to be taken.
    pub fn connect(&mut self, id: usize, connect: Connect<'_>) {
        self.broker.open(id, None, self.now);
        self.send(id, &Packet::Connect(connect));
    }

    /// The same under a grant.
    pub fn connect_as(&mut self, id: usize, sid: &str, connect: Connect<'_>) {
        let identity = Identity { sid: sid.into(), client: connect.client_id.into() };
        self.broker.open(id, Some(identity), self.now);
        self.send(id, &Packet::Connect(connect));
    }

    /// A clean session, welcomed.
    pub fn client(&mut self, id: usize, name: &str) {
        self.connect(id, connect(name, true, &[]));
        assert_eq!(self.take(id), [Seen::ConnAck { present: false, reason: OK }]);
    }

    /// A session under a grant that outlives its connection by an hour.
    pub fn lasting(&mut self, id: usize, sid: &str, present: bool) {
        self.connect_as(id, sid, connect(sid, false, &[Property::SessionExpiryInterval(3_600)]));
        assert_eq!(self.take_one(id), Seen::ConnAck { present, reason: OK });
    }

    pub fn send(&mut self, id: usize, packet: &Packet<'_>) {
        self.broker.receive(id, &packet.to_vec(Version::V5), self.now);
    }

    pub fn publish(&mut self, id: usize, publish: Publish<'_>) {
        self.send(id, &Packet::Publish(publish));
    }

    pub fn subscribe(&mut self, id: usize, list: &[Subscription<'_>]) -> Seen {
        self.subscribe_with(id, list, &[])
    }

    pub fn subscribe_with(
        &mut self,
        id: usize,
        list: &[Subscription<'_>],
        properties: &[Property<'_>],
    ) -> Seen {
        let subscribe = Subscribe {
            packet_id: 9,
            properties: Properties::list(properties),
            filters: Filters::list(list),
        };
        self.send(id, &Packet::Subscribe(subscribe));
        self.take_one(id)
    }

    pub fn puback(&mut self, id: usize, packet_id: u16) {
        self.send(id, &Packet::PubAck(Ack::new(packet_id, OK)));
    }

    /// Everything written to a connection so far.
    pub fn take(&mut self, id: usize) -> Vec<Seen> {
        let mut seen = Vec::new();
        while !self.broker.output(id).is_empty() {
            seen.push(self.take_one(id));
        }
        seen
    }

    /// The next packet written to a connection.
    pub fn take_one(&mut self, id: usize) -> Seen {
        let output = self.broker.output(id);
        let length = frame_len(output, usize::MAX).expect("a header").expect("a packet");
        let seen = see(&Packet::decode(&output[..length], Version::V5).expect("a packet"));
        self.broker.written(id, length, self.now);
        seen
    }

    /// The bytes of every packet written to a connection so far.
    pub fn frames(&mut self, id: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Ok(Some(length)) = frame_len(self.broker.output(id), usize::MAX) {
            frames.push(self.broker.output(id)[..length].to_vec());
            self.broker.written(id, length, self.now);
        }
        frames
    }

    /// The connection breaks without a word.
    pub fn cut(&mut self, id: usize) {
        self.broker.close(id, self.now);
    }

    /// Time passes.
    pub fn pass(&mut self, seconds: u64) {
        self.now += seconds * 1_000;
        self.broker.tick(self.now);
    }

    pub fn grant(&mut self, grants: &[(&str, Access)]) {
        let grants = grants.iter().map(|(sid, access)| (Rc::from(*sid), access.clone()));
        self.broker.set_grants(Grants::new(grants), self.now);
    }
}

pub fn device(label: &str) -> Access {
    Access::Device { label: label.into() }
}

/// An app that may read and command these channels of one device.
pub fn app(label: &str, read: &[&str], command: &[&str]) -> Access {
    let views: Vec<(&str, View)> = read.iter().map(|channel| (*channel, View::Raw)).collect();
    viewing(label, &views, command)
}

/// An app that may read these channels of one device through these views, and command those.
pub fn viewing(label: &str, read: &[(&str, View)], command: &[&str]) -> Access {
    let command = command.iter().map(|channel| (*channel).into()).collect();
    let mut channels = Channels { read: Vec::new(), command };
    for (channel, view) in read {
        channels.allow_reading(channel, view);
    }
    let devices = BTreeMap::from([(label.into(), channels)]);
    Access::App { devices, key: Some(HashKey::new([7; 32])) }
}

/// A view as the control channel writes it.
pub fn view(json: &str) -> View {
    serde_json::from_str(json).expect("a view")
}
