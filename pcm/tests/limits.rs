//! Each limit of an owner's broker, against the real process: what happens beyond it, and that `stats` counts it.

mod common;

use common::control::{Control, app, device, session};
use common::{Client, Pcm, message, plain_connect};
use mqtt_wire::{
    Connect, Filters, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe, Subscription,
    Version,
};
use pcm_wire::{Answer, Stats, Verb};
use std::path::PathBuf;

const FULL: ReasonCode = ReasonCode::QUOTA_EXCEEDED;

struct Owner {
    _pcm: Pcm,
    socket: PathBuf,
    control: Control,
    _directory: tempfile::TempDir,
}

impl Owner {
    /// One device, and one app that reads everything of it.
    fn new() -> Owner {
        let directory = tempfile::tempdir().expect("a directory");
        let (pcm, socket) = Pcm::inherited(directory.path(), &["--sandbox"]);
        let mut control = Control::open(&socket);
        let channels: Vec<String> = (0..600).map(|number| format!("c{number}")).collect();
        let read: Vec<&str> = channels.iter().map(String::as_str).collect();
        control.grant(1, vec![device(), app(&read, &[])]);
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
    let open = |name: &str| {
        let mut client = Client::unix(&owner.socket);
        client.raw(&pcm_wire::Preamble::Session { sid: "app".into(), client: name.into() }.to_bytes());
        client.send(&Packet::Connect(plain_connect(name, Version::V5)));
        let frame = client.receive().expect("a CONNACK");
        match Packet::decode(&frame, Version::V5) {
            Ok(Packet::ConnAck(ack)) => (client, ack.reason),
            other => panic!("{other:?}"),
        }
    };
    let sessions: Vec<(Client, ReasonCode)> = (0..32).map(|number| open(&format!("app-{number}"))).collect();
    assert!(sessions.iter().all(|(_, reason)| reason.is_success()));
    assert_eq!(open("app-32").1, FULL);
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
