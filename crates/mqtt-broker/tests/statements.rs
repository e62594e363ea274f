//! Normative statements that no other test is about, each by its number in the MQTT 5 standard. `docs/mqtt.md` has them all.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is to do")]

mod hub;

use hub::{Hub, OK, Seen, connect, publish};
use mqtt_wire::{
    Ack, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscription, TopicFilters, Unsubscribe,
};

const HOUR: &[Property<'static>] = &[Property::SessionExpiryInterval(3_600)];
const REFUSED: ReasonCode = ReasonCode::UNSPECIFIED_ERROR;

fn filter(filter: &str, qos: QoS) -> [Subscription<'_>; 1] {
    [Subscription::new(filter, qos)]
}

fn unsubscribe(hub: &mut Hub, id: usize, filters: &[&str]) {
    let packet =
        Unsubscribe { packet_id: 3, properties: Properties::EMPTY, filters: TopicFilters::list(filters) };
    hub.send(id, &Packet::Unsubscribe(packet));
}

/// [MQTT-3.8.4-3], [MQTT-3.8.4-4]
#[test]
fn the_same_filter_again_replaces_the_subscription_and_loses_nothing() {
    let mut hub = Hub::open();
    hub.client(1, "reader");
    hub.client(2, "writer");
    hub.publish(2, Publish { retain: true, ..publish("a", "kept", 0, 0) });
    assert_eq!(hub.subscribe(1, &filter("a", QoS::AtMostOnce)), Seen::SubAck(vec![0]));
    hub.publish(2, publish("a", "between", 0, 0));
    assert_eq!(hub.subscribe(1, &filter("a", QoS::AtLeastOnce)), kept_flag("kept"));
    assert_eq!(
        hub.take(1),
        [Seen::message("a", "between"), Seen::SubAck(vec![1]), kept_flag("kept")],
        "what is retained is sent again"
    );
    hub.publish(2, publish("a", "once", 1, 1));
    assert_eq!(hub.take(1), [Seen::qos("a", "once", 1, 1)], "one delivery, with the new QoS");
}

fn kept_flag(payload: &str) -> Seen {
    match Seen::message("a", payload) {
        Seen::Message { topic, payload, qos, id, dup, ids, .. } => {
            Seen::Message { topic, payload, qos, id, dup, retain: true, ids }
        }
        other => other,
    }
}

/// [MQTT-3.10.4-1] to [MQTT-3.10.4-6], [MQTT-3.11.3-1]
#[test]
fn what_flies_goes_on_after_the_subscription_has_ended() {
    let mut hub = Hub::open();
    hub.client(1, "reader");
    hub.client(2, "writer");
    hub.subscribe(1, &filter("a", QoS::ExactlyOnce));
    hub.publish(2, publish("a", "1", 2, 1));
    unsubscribe(&mut hub, 1, &["a", "never/subscribed", "a"]);
    hub.publish(2, publish("a", "2", 2, 2));
    assert_eq!(hub.take(1), [Seen::qos("a", "1", 2, 1), Seen::UnsubAck(vec![0x00, 0x11, 0x11])]);
    hub.send(1, &Packet::PubRec(Ack::new(1, OK)));
    assert_eq!(hub.take(1), [Seen::PubRel(1)]);
}

/// [MQTT-4.4.0-1], [MQTT-4.4.0-2], [MQTT-4.3.3-9]
#[test]
fn what_the_client_refuses_is_not_sent_again() {
    let mut hub = Hub::open();
    hub.connect(1, connect("reader", true, HOUR));
    hub.take(1);
    hub.client(2, "writer");
    hub.subscribe(1, &filter("a", QoS::ExactlyOnce));
    for (id, qos) in [(1, 1), (2, 2), (3, 1)] {
        hub.publish(2, publish("a", &id.to_string(), qos, id));
    }
    assert_eq!(hub.take(1).len(), 3);
    hub.send(1, &Packet::PubAck(Ack::new(1, REFUSED)));
    hub.send(1, &Packet::PubRec(Ack::new(2, REFUSED)));
    assert_eq!(hub.take(1), [], "no PUBREL for what was refused, and nothing again while connected");
    hub.cut(1);
    hub.connect(3, connect("reader", false, HOUR));
    let Seen::Message { payload, dup, .. } = hub.take(3).remove(1) else { panic!("no message") };
    assert_eq!((payload.as_str(), dup), ("3", true), "only what is neither taken nor refused");
}

/// [MQTT-4.8.2-3] to [MQTT-4.8.2-6]
#[test]
fn a_shared_message_that_one_member_refuses_or_dies_with_goes_to_no_other() {
    let mut hub = Hub::open();
    for (id, name) in [(1, "one"), (2, "other")] {
        hub.connect(id, connect(name, true, &[]));
        hub.take(id);
        hub.subscribe(id, &filter("$share/g/a", QoS::ExactlyOnce));
    }
    hub.client(3, "writer");
    hub.publish(3, publish("a", "refused", 1, 1));
    assert_eq!(hub.take(1), [Seen::qos("a", "refused", 1, 1)]);
    hub.send(1, &Packet::PubAck(Ack::new(1, REFUSED)));
    hub.publish(3, publish("a", "for the other", 1, 2));
    assert_eq!(hub.take(2), [Seen::qos("a", "for the other", 1, 1)]);
    hub.publish(3, publish("a", "dies", 2, 3));
    assert_eq!(hub.take(1), [Seen::qos("a", "dies", 2, 2)]);
    hub.cut(1);
    assert_eq!(hub.take(2), []);
}

/// [MQTT-4.3.3-7], [MQTT-4.3.3-13]
#[test]
fn a_message_that_was_sent_does_not_expire() {
    let mut hub = Hub::open();
    hub.client(1, "reader");
    hub.client(2, "writer");
    hub.subscribe(1, &filter("a", QoS::ExactlyOnce));
    let second = [Property::MessageExpiryInterval(1)];
    hub.publish(2, Publish { properties: Properties::list(&second), ..publish("a", "x", 2, 1) });
    assert_eq!(hub.take(1), [Seen::qos("a", "x", 2, 1)]);
    hub.pass(5);
    hub.send(1, &Packet::PubRec(Ack::new(1, OK)));
    assert_eq!(hub.take(1), [Seen::PubRel(1)]);
    hub.send(1, &Packet::PubComp(Ack::new(1, OK)));
    assert_eq!(hub.broker.counts().queued, 0);
}

/// [MQTT-4.7.3-4], [MQTT-4.7.2-1], [MQTT-1.5.4-3]
#[test]
fn topics_are_compared_byte_by_byte() {
    let mut hub = Hub::open();
    hub.client(1, "reader");
    hub.client(2, "writer");
    // Composed and decomposed, upper and lower case, with and without U+FEFF, with a slash more.
    hub.subscribe(1, &filter("caf\u{E9}", QoS::AtMostOnce));
    hub.subscribe(1, &filter("+", QoS::AtMostOnce));
    unsubscribe(&mut hub, 1, &["+"]);
    hub.take(1);
    for topic in ["cafe\u{301}", "Caf\u{E9}", "\u{FEFF}caf\u{E9}", "caf\u{E9}/", "/caf\u{E9}"] {
        hub.publish(2, publish(topic, "no", 0, 0));
    }
    hub.publish(2, publish("caf\u{E9}", "yes", 0, 0));
    assert_eq!(hub.take(1), [Seen::message("caf\u{E9}", "yes")]);
    hub.subscribe(1, &filter("#", QoS::AtMostOnce));
    hub.subscribe(1, &filter("+/x", QoS::AtMostOnce));
    hub.publish(2, publish("$own/x", "no", 0, 0));
    assert_eq!(hub.take(1), [], "wildcards do not reach what begins with a dollar sign");
}

/// [MQTT-3.1.0-2], [MQTT-3.1.2-3], [MQTT-3.14.1-1], [MQTT-4.12.0-6], [MQTT-4.13.1-1]
#[test]
fn protocol_errors_end_the_connection_with_their_code() {
    let second = Packet::Connect(connect("c", true, &[])).to_vec(mqtt_wire::Version::V5);
    for (bytes, reason) in [
        (second.as_slice(), ReasonCode::PROTOCOL_ERROR),
        (&[0xF0, 0][..], ReasonCode::PROTOCOL_ERROR),
        (&[0xE1, 0][..], ReasonCode::MALFORMED_PACKET),
        (&[0x20, 3, 0, 0, 0][..], ReasonCode::PROTOCOL_ERROR),
    ] {
        let mut hub = Hub::open();
        hub.client(1, "c");
        hub.broker.receive(1, bytes, hub.now);
        assert_eq!(hub.take(1), [Seen::Disconnect(reason)], "{bytes:02X?}");
        assert!(hub.broker.is_closing(1));
        hub.broker.receive(1, &[0xC0, 0], hub.now);
        assert_eq!(hub.take(1), [], "nothing after the DISCONNECT [MQTT-3.14.4-1]");
    }
}
