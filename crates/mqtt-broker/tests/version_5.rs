//! What MQTT 5 adds to a connection: aliases that the broker gives, words for people, what the broker decides.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is to do")]

mod hub;

use hub::{Hub, OK, app, connect, device, publish};
use mqtt_broker::{Limits, Policy};
use mqtt_wire::{
    Connect, Filters, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe, Subscription,
    Version,
};

/// Topic on the wire, alias and payload of each message written to a connection.
fn messages(hub: &mut Hub, id: usize) -> Vec<(String, Option<u16>, String)> {
    let decoded = |frame: &[u8]| match Packet::decode(frame, Version::V5).unwrap() {
        Packet::Publish(Publish { topic, properties, payload, .. }) => {
            Some((topic.into(), properties.topic_alias(), String::from_utf8_lossy(payload).into_owned()))
        }
        _ => None,
    };
    hub.frames(id).iter().filter_map(|frame| decoded(frame)).collect()
}

fn message(topic: &str, alias: u16, payload: &str) -> (String, Option<u16>, String) {
    (topic.into(), (alias > 0).then_some(alias), payload.into())
}

/// Connects and answers the properties of the CONNACK, and its code.
fn welcome(hub: &mut Hub, connect: Connect<'_>, see: impl FnOnce(Properties<'_>)) -> ReasonCode {
    let version = connect.version;
    hub.connect(1, connect);
    let frames = hub.frames(1);
    let Ok(Packet::ConnAck(connack)) = Packet::decode(&frames[0], version) else { panic!("{frames:02X?}") };
    see(connack.properties);
    connack.reason
}

const TWO_ALIASES: &[Property<'_>] = &[Property::TopicAliasMaximum(2)];

fn all(hub: &mut Hub, id: usize, filter: &str, qos: QoS) {
    hub.subscribe(id, &[Subscription::new(filter, qos)]);
}

#[test]
fn a_topic_is_named_once_and_then_by_its_alias() {
    let mut hub = Hub::open();
    hub.connect(1, connect("reader", true, TWO_ALIASES));
    hub.take(1);
    all(&mut hub, 1, "#", QoS::AtLeastOnce);
    hub.client(2, "writer");
    for (number, topic) in ["first", "second", "first", "third", "second", "third"].into_iter().enumerate() {
        hub.publish(2, publish(topic, topic, u8::from(number % 2 == 0), 7));
    }
    let expected = [
        message("first", 1, "first"),
        message("second", 2, "second"),
        message("", 1, "first"),
        message("third", 0, "third"),
        message("", 2, "second"),
        message("third", 0, "third"),
    ];
    assert_eq!(
        messages(&mut hub, 1),
        expected,
        "first come, first served, and none beyond the client's maximum"
    );
}

#[test]
fn aliases_end_with_the_connection_and_messages_are_sent_again_without() {
    let mut hub = Hub::open();
    let lasting = [Property::SessionExpiryInterval(60), Property::TopicAliasMaximum(2)];
    hub.connect(1, connect("reader", true, &lasting));
    hub.take(1);
    all(&mut hub, 1, "#", QoS::AtLeastOnce);
    hub.client(2, "writer");
    hub.publish(2, publish("first", "a", 1, 7));
    hub.publish(2, publish("first", "b", 1, 8));
    assert_eq!(messages(&mut hub, 1), [message("first", 1, "a"), message("", 1, "b")]);
    hub.cut(1);
    hub.connect(3, connect("reader", false, &lasting[..1]));
    assert_eq!(messages(&mut hub, 3), [message("first", 0, "a"), message("first", 0, "b")]);
    hub.cut(3);
    hub.connect(4, connect("reader", false, &lasting));
    assert_eq!(messages(&mut hub, 4), [message("first", 1, "a"), message("", 1, "b")]);
}

#[test]
fn who_does_not_ask_for_aliases_gets_none() {
    let mut hub = Hub::open();
    hub.client(1, "reader");
    all(&mut hub, 1, "#", QoS::AtMostOnce);
    let old = Connect { version: Version::V311, ..connect("writer", true, &[]) };
    hub.connect(2, old);
    hub.publish(1, publish("first", "a", 0, 0));
    hub.publish(1, publish("first", "b", 0, 0));
    assert_eq!(messages(&mut hub, 1), [message("first", 0, "a"), message("first", 0, "b")]);
}

/// The packet that would have told the client what an alias means may be the one that must not be sent any more.
#[test]
fn an_alias_whose_introduction_was_dropped_is_introduced_again() {
    let mut hub = Hub::with(Limits::PERSONAL, Policy::Granted(None));
    let both = [("dev", device("L")), ("app", app("L", &["one", "two"], &[]))];
    hub.grant(&both);
    hub.connect_as(1, "app", connect("app", true, TWO_ALIASES));
    hub.take(1);
    all(&mut hub, 1, "d/#", QoS::AtMostOnce);
    hub.connect_as(2, "dev", connect("dev", true, &[]));
    for topic in ["d/L/one", "d/L/two", "d/L/one", "d/L/two"] {
        hub.publish(2, publish(topic, "old", 0, 0));
    }
    hub.grant(&[("dev", device("L")), ("app", app("L", &["two"], &[]))]);
    hub.grant(&both);
    for topic in ["d/L/two", "d/L/one", "d/L/one"] {
        hub.publish(2, publish(topic, "new", 0, 0));
    }
    let expected = [
        message("d/L/two", 2, "old"),
        message("", 2, "old"),
        message("", 2, "new"),
        message("d/L/one", 1, "new"),
        message("", 1, "new"),
    ];
    assert_eq!(messages(&mut hub, 1), expected);
    // What is known already is forgotten with the right to it, and its number is free for another topic.
    hub.grant(&[("dev", device("L")), ("app", app("L", &["two", "three"], &[]))]);
    hub.publish(2, publish("d/L/three", "new", 0, 0));
    hub.publish(2, publish("d/L/three", "new", 0, 0));
    assert_eq!(messages(&mut hub, 1), [message("d/L/three", 1, "new"), message("", 1, "new")]);
}

#[test]
fn an_alias_that_makes_a_packet_too_long_is_left_out() {
    let mut hub = Hub::open();
    let small = [Property::TopicAliasMaximum(2), Property::MaximumPacketSize(30)];
    hub.connect(1, connect("reader", true, &small));
    hub.take(1);
    all(&mut hub, 1, "#", QoS::AtMostOnce);
    hub.client(2, "writer");
    // Header 2, topic 2 + 5, property length 1, payload 20: exactly 30 without an alias.
    let long = "x".repeat(20);
    hub.publish(2, publish("first", &long, 0, 0));
    hub.publish(2, publish("first", "short", 0, 0));
    hub.publish(2, publish("first", &long, 0, 0));
    hub.publish(2, publish("first", &"x".repeat(24), 0, 0));
    let expected = [message("first", 0, &long), message("first", 1, "short"), message("", 1, &long)];
    assert_eq!(messages(&mut hub, 1), expected);
}

#[test]
fn a_longer_keep_alive_than_the_brokers_is_replaced() {
    let limits = Limits { keep_alive: 100, ..Limits::PLAIN };
    for (version, wished, imposed) in [
        (Version::V5, 0, Some(100)),
        (Version::V5, 101, Some(100)),
        (Version::V5, 100, None),
        (Version::V311, 0, None),
    ] {
        let mut hub = Hub::with(limits, Policy::Open);
        let connect = Connect { keep_alive: wished, version, ..connect("a", true, &[]) };
        let code = welcome(&mut hub, connect, |told| assert_eq!(told.server_keep_alive(), imposed));
        assert_eq!(code, OK);
        hub.pass(149);
        assert!(!hub.broker.is_closing(1));
        hub.pass(2);
        assert_eq!(hub.broker.is_closing(1), version == Version::V5, "it counts for the broker too");
    }
}

#[test]
fn a_client_without_a_name_is_given_one_and_is_found_by_it() {
    let mut hub = Hub::open();
    let mut name = String::new();
    let lasting = [Property::SessionExpiryInterval(60)];
    welcome(&mut hub, connect("", true, &lasting), |told| {
        name = told.assigned_client_identifier().unwrap().into();
    });
    hub.cut(1);
    hub.connect(2, connect(&name, false, &lasting));
    assert_eq!(hub.take(2), [hub::Seen::ConnAck { present: true, reason: OK }]);
    welcome(&mut hub, connect("named", true, &[]), |told| {
        assert_eq!(told.assigned_client_identifier(), None);
    });
}

#[test]
fn who_asks_is_told_where_answers_may_go() {
    let information = |properties: Properties<'_>| {
        properties.iter().find_map(|one| match one {
            Property::ResponseInformation(base) => Some(base.to_owned()),
            _ => None,
        })
    };
    let asks = [Property::RequestResponseInformation(true)];
    for (name, properties, expected) in [
        ("me", &asks[..], Some("response/me")),
        ("me", &[][..], None),
        ("me", &[Property::RequestResponseInformation(false)][..], None),
        ("not/a+level", &asks[..], None),
    ] {
        let connect = connect(name, true, properties);
        let see = |told: Properties<'_>| assert_eq!(information(told).as_deref(), expected);
        welcome(&mut Hub::open(), connect, see);
    }
}

#[test]
fn a_request_finds_its_answer() {
    let mut hub = Hub::open();
    hub.client(1, "asks");
    hub.client(2, "answers");
    all(&mut hub, 1, "response/asks", QoS::AtMostOnce);
    all(&mut hub, 2, "question", QoS::AtMostOnce);
    let request = [Property::ResponseTopic("response/asks"), Property::CorrelationData(b"\x00\x01")];
    hub.publish(1, Publish { properties: Properties::list(&request), ..publish("question", "?", 0, 0) });
    let frames = hub.frames(2);
    let Ok(Packet::Publish(question)) = Packet::decode(&frames[0], Version::V5) else {
        panic!("{frames:02X?}")
    };
    let data = question.properties.correlation_data().unwrap();
    let answer = [Property::CorrelationData(data)];
    let to = question.properties.response_topic().unwrap();
    hub.publish(2, Publish { properties: Properties::list(&answer), ..publish(to, "!", 0, 0) });
    let frames = hub.frames(1);
    let Ok(Packet::Publish(answer)) = Packet::decode(&frames[0], Version::V5) else {
        panic!("{frames:02X?}")
    };
    assert_eq!((answer.payload, answer.properties.correlation_data()), (&b"!"[..], Some(&b"\x00\x01"[..])));
}

#[test]
fn a_refused_filter_is_explained_to_who_wants_to_hear_it() {
    for (wish, words) in [
        (&[][..], Some("too many subscriptions")),
        (&[Property::RequestProblemInformation(false)][..], None),
        (&[Property::MaximumPacketSize(20)][..], None),
    ] {
        let mut hub = Hub::with(Limits { subscriptions: 1, ..Limits::PERSONAL }, Policy::Open);
        hub.connect(1, connect("reader", true, wish));
        hub.take(1);
        let list = ["a", "b"].map(|filter| Subscription::new(filter, QoS::AtMostOnce));
        let subscribe =
            Subscribe { packet_id: 9, properties: Properties::EMPTY, filters: Filters::list(&list) };
        hub.send(1, &Packet::Subscribe(subscribe));
        let frames = hub.frames(1);
        let Some(Ok(Packet::SubAck(suback))) = frames.first().map(|one| Packet::decode(one, Version::V5))
        else {
            panic!("{frames:02X?}")
        };
        assert_eq!(suback.codes, [0, 0x97]);
        assert_eq!(suback.properties.reason_string(), words);
    }
}

/// The last words on a connection: code and reason string.
fn last_words(hub: &mut Hub, id: usize) -> (ReasonCode, Option<String>) {
    let frames = hub.frames(id);
    let last = frames.last().expect("a packet");
    let (reason, properties) = match Packet::decode(last, Version::V5).unwrap() {
        Packet::ConnAck(connack) => (connack.reason, connack.properties),
        Packet::Disconnect(disconnect) => (disconnect.reason, disconnect.properties),
        other => panic!("{other:?}"),
    };
    assert!(hub.broker.is_closing(id));
    (reason, properties.reason_string().map(str::to_owned))
}

/// Whether a packet like this one is longer than the client takes.
const SMALL: Property<'_> = Property::MaximumPacketSize(25);

#[test]
fn a_refused_connect_is_explained() {
    let refused = ReasonCode::BAD_AUTHENTICATION_METHOD;
    let method = Property::AuthenticationMethod("SCRAM-SHA-1");
    for (wish, words) in [
        (&[method][..], Some("no enhanced authentication is offered")),
        (
            &[method, Property::RequestProblemInformation(true)][..],
            Some("no enhanced authentication is offered"),
        ),
        (&[method, Property::RequestProblemInformation(false)][..], None),
        (&[method, SMALL][..], None),
    ] {
        let mut hub = Hub::open();
        hub.connect(1, connect("c", true, wish));
        assert_eq!(last_words(&mut hub, 1), (refused, words.map(str::to_owned)));
    }
    let mut hub = Hub::open();
    hub.connect(1, connect("c", true, &[method, Property::MaximumPacketSize(4)]));
    assert_eq!(hub.take(1), [], "not even the code fits");
    assert!(hub.broker.is_closing(1));
}

#[test]
fn a_plain_broker_explains_the_end_to_who_asked() {
    let asks = Property::RequestProblemInformation(true);
    for (wish, words) in [
        (&[asks][..], Some("topic name is not valid")),
        (&[][..], None),
        (&[Property::RequestProblemInformation(false)][..], None),
        (&[asks, SMALL][..], None),
    ] {
        let mut hub = Hub::open();
        hub.connect(1, connect("c", true, wish));
        hub.publish(1, publish("a/+", "", 0, 0));
        let malformed = ReasonCode::MALFORMED_PACKET;
        assert_eq!(last_words(&mut hub, 1), (malformed, words.map(str::to_owned)));
    }
}

#[test]
fn under_grants_the_end_is_explained_unless_declined() {
    for (wish, words) in [
        (&[][..], Some("the grant does not cover this, or has ended")),
        (&[Property::RequestProblemInformation(false)][..], None),
    ] {
        let mut hub = Hub::with(Limits::PERSONAL, Policy::Granted(None));
        hub.grant(&[("dev", device("L"))]);
        hub.connect_as(1, "dev", connect("dev", true, wish));
        hub.take(1);
        hub.grant(&[]);
        assert_eq!(last_words(&mut hub, 1), (ReasonCode::NOT_AUTHORIZED, words.map(str::to_owned)));
    }
}
