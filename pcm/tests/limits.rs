//! Each limit of an owner's broker, against the real process: what happens beyond it, and that `stats` counts it.

mod common;

use common::control::{Control, device, session};
use common::{Client, Pcm, message, plain_connect};
use mqtt_wire::{
    Connect, Disconnect, Filters, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe,
    Subscription, Version,
};
use pcm_wire::{Answer, Grant, Preamble, Rule, Stats, Verb, View};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FULL: ReasonCode = ReasonCode::QUOTA_EXCEEDED;

/// An app's grant: 600 channels of the device.
fn everything_of_it(sid: &str, view: View) -> Grant {
    let read = (0..600).map(|number| format!("c{number}")).collect();
    let rule = Rule { label: "L".into(), read, command: Vec::new(), view, views: BTreeMap::new() };
    Grant::App { sid: sid.into(), rules: vec![rule], key: None }
}

fn apps(count: usize) -> (Vec<String>, Vec<Grant>) {
    let names: Vec<String> = (0..count).map(|number| format!("app{number}")).collect();
    let grants = names.iter().map(|name| everything_of_it(name, View::Raw)).collect();
    (names, grants)
}

struct Owner {
    _pcm: Pcm,
    socket: PathBuf,
    control: Control,
    _directory: tempfile::TempDir,
}

impl Owner {
    /// One device, and one app that reads everything of it.
    fn new() -> Owner {
        Owner::with(vec![everything_of_it("app", View::Raw)])
    }

    /// One device, and these apps.
    fn with(apps: Vec<Grant>) -> Owner {
        let directory = tempfile::tempdir().expect("a directory");
        let (pcm, socket) = Pcm::inherited(directory.path(), &["--sandbox"]);
        let mut control = Control::open(&socket);
        control.grant(1, std::iter::once(device()).chain(apps).collect());
        Owner { _pcm: pcm, socket, control, _directory: directory }
    }

    fn stats(&mut self) -> Stats {
        match self.control.ask(Verb::Stats {}) {
            Answer::Stats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }

    fn client(&self, sid: &str) -> Client {
        let mut client = session(&self.socket, sid);
        client.connect(sid, Version::V5);
        client
    }
}

impl Owner {
    /// A session of this grant that outlives its connection, subscribed to everything and away.
    fn leave_behind(&self, sid: &str) {
        let kept = [Property::SessionExpiryInterval(60)];
        let mut client = session(&self.socket, sid);
        let connect = Connect { properties: Properties::list(&kept), ..plain_connect(sid, Version::V5) };
        client.send(&Packet::Connect(connect));
        assert_eq!(client.receive().expect("a CONNACK")[3], 0);
        assert!(subscribe(&mut client, "d/#", QoS::AtLeastOnce).is_success());
        client.send(&Packet::Disconnect(Disconnect::new(ReasonCode::SUCCESS)));
        assert_eq!(client.receive(), None);
    }
}

/// A client under a grant, and the code that its CONNECT is answered with.
fn open(socket: &Path, sid: &str, name: &str) -> (Client, ReasonCode) {
    let mut client = Client::unix(socket);
    client.raw(&Preamble::Session { sid: sid.into(), client: name.into() }.to_bytes());
    client.send(&Packet::Connect(plain_connect(name, Version::V5)));
    let frame = client.receive().expect("a CONNACK");
    match Packet::decode(&frame, Version::V5) {
        Ok(Packet::ConnAck(ack)) => (client, ack.reason),
        other => panic!("{other:?}"),
    }
}

/// The reason code of the answer to a SUBSCRIBE.
fn subscribe(client: &mut Client, filter: &str, qos: QoS) -> ReasonCode {
    let list = [Subscription::new(filter, qos)];
    client.send(&Packet::Subscribe(Subscribe {
        packet_id: 1,
        properties: Properties::EMPTY,
        filters: Filters::list(&list),
    }));
    let frame = client.receive().expect("a SUBACK");
    ReasonCode(*frame.last().expect("a code"))
}

/// The reason code of the answer to a PUBLISH with QoS 1.
fn acknowledged(client: &mut Client, publish: Publish<'_>) -> ReasonCode {
    client.send(&Packet::Publish(publish));
    let frame = client.receive().expect("a PUBACK");
    match Packet::decode(&frame, client.version) {
        Ok(Packet::PubAck(ack)) => ack.reason,
        other => panic!("{other:?}"),
    }
}

fn received(client: &mut Client) -> (String, QoS, usize, Option<u16>) {
    let frame = client.receive().expect("a message");
    match Packet::decode(&frame, client.version) {
        Ok(Packet::Publish(publish)) => {
            (publish.topic.to_owned(), publish.qos, publish.payload.len(), publish.packet_id)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_connection_of_a_grant_too_many() {
    let mut owner = Owner::new();
    let _idle: Vec<Client> = (0..64).map(|_| session(&owner.socket, "app")).collect();
    assert_eq!(session(&owner.socket, "app").receive(), None);
    assert_eq!(owner.stats().refused, 1);
    owner.client("dev");
}

#[test]
fn one_session_of_a_grant_too_many() {
    let mut owner = Owner::new();
    let sessions: Vec<(Client, ReasonCode)> =
        (0..32).map(|number| open(&owner.socket, "app", &format!("app-{number}"))).collect();
    assert!(sessions.iter().all(|(_, reason)| reason.is_success()));
    assert_eq!(open(&owner.socket, "app", "app-32").1, FULL);
    let stats = owner.stats();
    assert_eq!((stats.sessions, stats.refused), (32, 1));
    owner.client("dev");
}

#[test]
fn one_subscription_too_many() {
    let mut owner = Owner::new();
    let mut reader = owner.client("app");
    for number in 0..100 {
        assert!(subscribe(&mut reader, &format!("d/L/c{number}"), QoS::AtMostOnce).is_success());
    }
    assert_eq!(subscribe(&mut reader, "d/L/c100", QoS::AtMostOnce), FULL);
    assert_eq!(owner.stats().refused, 1);
    // One that is there already takes no other place.
    assert_eq!(subscribe(&mut reader, "d/L/c0", QoS::AtLeastOnce).0, 1);
}

#[test]
fn one_retained_message_of_a_grant_too_many() {
    let mut owner = Owner::new();
    let (mut writer, mut reader) = (owner.client("dev"), owner.client("app"));
    let topic = |number: u16| format!("d/L/c{number}");
    let mut retain = |number: u16| {
        let topic = topic(number);
        acknowledged(&mut writer, Publish { retain: true, ..message(&topic, "1", QoS::AtLeastOnce, 1) })
    };
    for number in 0..500 {
        assert!(retain(number).is_success(), "{number}");
    }
    assert!(subscribe(&mut reader, &topic(500), QoS::AtMostOnce).is_success());
    assert_eq!(retain(500), FULL);
    assert_eq!(received(&mut reader).0, topic(500), "delivered all the same");
    let stats = owner.stats();
    assert_eq!((stats.retained, stats.dropped), (500, 1));
    // Another value of a topic that is there takes no other place.
    assert!(retain(0).is_success());
    assert!(subscribe(&mut reader, &topic(500), QoS::AtMostOnce).is_success());
    reader.nothing_else();
}

#[test]
fn one_retained_byte_of_a_grant_too_many() {
    let mut owner = Owner::new();
    let (mut writer, mut reader) = (owner.client("dev"), owner.client("app"));
    let payload = "x".repeat(200_000);
    let mut retain = |topic: &str| {
        acknowledged(&mut writer, Publish { retain: true, ..message(topic, &payload, QoS::AtLeastOnce, 1) })
    };
    for number in 0..5 {
        assert!(retain(&format!("d/L/c{number}")).is_success(), "a megabyte is a quarter of four");
    }
    assert!(subscribe(&mut reader, "d/L/c5", QoS::AtMostOnce).is_success());
    assert_eq!(retain("d/L/c5"), FULL);
    assert_eq!(received(&mut reader).2, payload.len(), "delivered all the same");
    let stats = owner.stats();
    assert_eq!((stats.retained, stats.dropped), (5, 1));
}

#[test]
fn a_full_queue_loses_qos_0_first_and_then_the_publisher_learns_of_it() {
    let mut owner = Owner::new();
    let kept = [Property::SessionExpiryInterval(60)];
    let mut stalled = session(&owner.socket, "app");
    let connect = Connect { properties: Properties::list(&kept), ..plain_connect("app", Version::V5) };
    stalled.send(&Packet::Connect(connect));
    assert_eq!(stalled.receive().expect("a CONNACK")[3], 0);
    assert!(subscribe(&mut stalled, "d/#", QoS::AtLeastOnce).is_success());
    let mut writer = owner.client("dev");
    // More than fits between the two: some of these wait already.
    let large = "x".repeat(60_000);
    let (larges, smalls) = (20, 500);
    for _ in 0..larges {
        writer.send(&Packet::Publish(message("d/L/c0", &large, QoS::AtMostOnce, 0)));
    }
    for _ in 0..smalls {
        writer.send(&Packet::Publish(message("d/L/c1", "0", QoS::AtMostOnce, 0)));
    }
    // Also says that everything before was handled.
    writer.nothing_else();
    let before = owner.stats();
    assert!(before.queued > smalls && before.dropped == 0, "{before:?}");
    let mut publish = || acknowledged(&mut writer, message("d/L/c2", "1", QoS::AtLeastOnce, 1));
    for number in 0..1_000 {
        assert!(publish().is_success(), "{number}");
    }
    let full = owner.stats();
    assert_eq!((full.queued, full.dropped), (1_000, before.queued), "all of QoS 0 gave way");
    assert_eq!(publish(), FULL);
    let beyond = owner.stats();
    assert_eq!((beyond.queued, beyond.dropped), (1_000, before.queued + 1));
    // What is kept arrives once it is read.
    let mut arrived = 0;
    while arrived < 1_000 {
        let (topic, qos, ..) = match received(&mut stalled) {
            (_, QoS::AtMostOnce, ..) => continue,
            message => {
                let acknowledgement =
                    mqtt_wire::Ack::new(message.3.expect("an identifier"), ReasonCode::SUCCESS);
                stalled.send(&Packet::PubAck(acknowledgement));
                message
            }
        };
        assert_eq!((topic.as_str(), qos), ("d/L/c2", QoS::AtLeastOnce));
        arrived += 1;
    }
    stalled.nothing_else();
    assert_eq!(owner.stats().queued, 0);
}

#[test]
fn too_long_a_packet() {
    let mut owner = Owner::new();
    let mut writer = owner.client("dev");
    // The longest that is taken: 4 bytes of header, 2 + 6 of the topic, 1 for no properties.
    let rest = (256 << 10) - 4 - 9;
    let fits = "x".repeat(rest);
    writer.send(&Packet::Publish(message("d/L/c0", &fits, QoS::AtMostOnce, 0)));
    writer.nothing_else();
    assert_eq!(owner.stats().refused, 0);
    writer.send(&Packet::Publish(message("d/L/c0", &format!("{fits}x"), QoS::AtMostOnce, 0)));
    assert_eq!(writer.last_words(), ReasonCode::PACKET_TOO_LARGE);
    assert_eq!(writer.receive(), None);
    assert_eq!(owner.stats().refused, 1);
}

#[test]
fn one_connection_of_all_too_many() {
    let (names, grants) = apps(4);
    let mut owner = Owner::with(grants);
    let idle = |name: &String| -> Vec<Client> { (0..64).map(|_| session(&owner.socket, name)).collect() };
    let _idle: Vec<Vec<Client>> = names.iter().map(idle).collect();
    assert_eq!(session(&owner.socket, "dev").receive(), None);
    assert_eq!(owner.stats().refused, 1, "and control finds its way in");
}

#[test]
fn one_session_of_all_too_many() {
    let (names, grants) = apps(8);
    let mut owner = Owner::with(grants);
    let mut sessions = Vec::new();
    for name in &names {
        for number in 0..32 {
            let (client, reason) = open(&owner.socket, name, &format!("{name}-{number}"));
            assert!(reason.is_success());
            sessions.push(client);
        }
    }
    // With 256 connections there is no 257th either: one of them stays behind as a session.
    let mut last = sessions.pop().expect("a client");
    last.send(&Packet::Disconnect(Disconnect::new(ReasonCode::SUCCESS)));
    assert_eq!(last.receive(), None);
    owner.leave_behind("app7");
    let full = owner.stats();
    assert_eq!((full.sessions, full.connections, full.refused), (256, 255, 0));
    assert_eq!(open(&owner.socket, "dev", "dev").1, FULL);
    assert_eq!(owner.stats().refused, 1);
}

#[test]
fn one_waiting_byte_too_many_of_a_grant_and_of_all() {
    let (names, grants) = apps(5);
    let mut owner = Owner::with(grants);
    let mut writer = owner.client("dev");
    let payload = "x".repeat(100_000);
    owner.leave_behind(&names[0]);
    let mut publish = || acknowledged(&mut writer, message("d/L/c0", &payload, QoS::AtLeastOnce, 1));
    for number in 0..20 {
        assert!(publish().is_success(), "{number}: two megabytes are a quarter of eight");
    }
    assert_eq!(publish(), FULL);
    let stats = owner.stats();
    assert_eq!((stats.queued, stats.dropped), (20, 1));
    for name in &names[1..] {
        owner.leave_behind(name);
    }
    // Of 83 that fit in all 63 are left: fifteen times four, and three of the next four.
    for _ in 0..16 {
        assert!(publish().is_success(), "somebody took it");
    }
    let stats = owner.stats();
    assert_eq!((stats.queued, stats.dropped), (83, 1 + 16 + 1), "each time one for the first, who is full");
}

#[test]
fn more_than_was_announced() {
    let mut owner = Owner::new();
    let mut refused = 0;
    let mut ends = |owner: &mut Owner, packets: &[Publish<'_>], reason| {
        let mut client = owner.client("dev");
        for packet in packets {
            client.send(&Packet::Publish(*packet));
        }
        loop {
            let frame = client.receive().expect("a DISCONNECT in the end");
            match Packet::decode(&frame, Version::V5) {
                Ok(Packet::Disconnect(last)) => {
                    assert_eq!(last.reason, reason);
                    break;
                }
                Ok(Packet::PubRec(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        refused += 1;
        assert_eq!(owner.stats().refused, refused, "{reason}");
    };
    let open: Vec<Publish<'_>> = (1..=33).map(|id| message("d/L/c0", "1", QoS::ExactlyOnce, id)).collect();
    ends(&mut owner, &open, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);
    let alias = [Property::TopicAlias(11)];
    let aliased =
        Publish { properties: Properties::list(&alias), ..message("d/L/c0", "1", QoS::AtMostOnce, 0) };
    ends(&mut owner, &[aliased], ReasonCode::TOPIC_ALIAS_INVALID);
    let deep = format!("d/L/{}", "a/".repeat(30));
    ends(&mut owner, &[message(&deep, "1", QoS::AtMostOnce, 0)], ReasonCode::TOPIC_NAME_INVALID);
    let mut reader = owner.client("app");
    assert_eq!(subscribe(&mut reader, &deep, QoS::AtMostOnce), ReasonCode::TOPIC_FILTER_INVALID);
    assert_eq!(owner.stats().refused, refused + 1);
}

#[test]
fn one_channel_with_a_memory_too_many() {
    let view = serde_json::from_str(r#"{"kind": "filter", "interval_s": 3600}"#).expect("a view");
    let mut owner = Owner::with(vec![everything_of_it("app", view)]);
    let mut reader = owner.client("app");
    assert!(subscribe(&mut reader, "d/#", QoS::AtMostOnce).is_success());
    let mut writer = owner.client("dev");
    for number in 0..=500 {
        writer.send(&Packet::Publish(message(&format!("d/L/c{number}"), "1", QoS::AtMostOnce, 0)));
    }
    for number in 0..500 {
        assert_eq!(received(&mut reader).0, format!("d/L/c{number}"));
    }
    writer.nothing_else();
    reader.nothing_else();
    assert_eq!(owner.stats().dropped, 1, "five hundred are a quarter of two thousand");
}

/// One that says nothing, one that stops inside a packet, and one that takes nothing: cut after 10, 30 and 60 seconds.
#[test]
fn who_is_slow_is_counted() {
    let mut owner = Owner::new();
    let _silent = Client::unix(&owner.socket);
    let mut begun = owner.client("dev");
    begun.raw(&[0x30, 100, 0]);
    let mut deaf = owner.client("app");
    assert!(subscribe(&mut deaf, "d/#", QoS::AtMostOnce).is_success());
    let mut writer = Client::unix(&owner.socket);
    writer.raw(&Preamble::Session { sid: "dev".into(), client: "writer".into() }.to_bytes());
    writer.connect("writer", Version::V5);
    let payload = "x".repeat(200_000);
    for _ in 0..10 {
        writer.send(&Packet::Publish(message("d/L/c0", &payload, QoS::AtMostOnce, 0)));
    }
    writer.nothing_else();
    let began = Instant::now();
    let mut cut = Vec::new();
    while cut.len() < 3 {
        assert!(began.elapsed() < Duration::from_secs(90), "{cut:?}");
        std::thread::sleep(Duration::from_millis(100));
        for _ in cut.len() as u64..owner.stats().refused {
            cut.push(began.elapsed().as_secs());
        }
    }
    for (cut, limit) in cut.iter().zip([10, 30, 60]) {
        assert!((limit - 1..limit + 5).contains(cut), "{cut} s instead of {limit}");
    }
}
