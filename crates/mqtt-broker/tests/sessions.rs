//! Sessions, delivery guarantees, wills, limits: what MQTT asks of any broker.

mod hub;

use hub::{Hub, OK, Seen, connect, publish, will};
use mqtt_broker::{Limits, Policy};
use mqtt_wire::{
    Ack, Connect, Disconnect, Packet, Properties, Property, Publish, QoS, ReasonCode, RetainHandling,
    Subscription, TopicFilters, Unsubscribe, Version,
};

const HOUR: &[Property<'static>] = &[Property::SessionExpiryInterval(3_600)];

fn sub(filter: &str, qos: u8) -> [Subscription<'_>; 1] {
    [Subscription::new(filter, QoS::from_bits(qos).expect("a QoS"))]
}

fn with_dup(seen: Seen) -> Seen {
    match seen {
        Seen::Message { topic, payload, qos, id, retain, ids, .. } => {
            Seen::Message { topic, payload, qos, id, dup: true, retain, ids }
        }
        other => other,
    }
}

fn with_ids(seen: Seen, wanted: &[u32]) -> Seen {
    match seen {
        Seen::Message { topic, payload, qos, id, dup, retain, .. } => {
            Seen::Message { topic, payload, qos, id, dup, retain, ids: wanted.to_vec() }
        }
        other => other,
    }
}

#[test]
fn a_session_that_lasts_gets_what_it_missed_in_order() {
    let mut hub = Hub::open();
    hub.client(1, "publisher");
    hub.connect(2, connect("sleeper", false, HOUR));
    hub.take(2);
    hub.subscribe(2, &sub("a", 2));
    hub.publish(1, publish("a", "flying", 1, 1));
    assert_eq!(hub.take(2), [Seen::qos("a", "flying", 1, 1)]);
    hub.cut(2);
    hub.publish(1, publish("a", "lost", 0, 0));
    hub.publish(1, publish("a", "one", 1, 2));
    hub.publish(1, publish("a", "two", 2, 3));
    assert_eq!(hub.take(1), [Seen::PubAck(1, OK), Seen::PubAck(2, OK), Seen::PubRec(3, OK)]);
    hub.connect(3, connect("sleeper", false, HOUR));
    let expected = [
        Seen::ConnAck { present: true, reason: OK },
        with_dup(Seen::qos("a", "flying", 1, 1)),
        Seen::qos("a", "one", 1, 2),
        Seen::qos("a", "two", 2, 3),
    ];
    assert_eq!(hub.take(3), expected);
    hub.send(3, &Packet::PubRec(Ack::new(3, OK)));
    assert_eq!(hub.take(3), [Seen::PubRel(3)]);
    hub.puback(3, 1);
    hub.puback(3, 2);
    hub.cut(3);
    hub.connect(4, connect("sleeper", false, HOUR));
    assert_eq!(hub.take(4), [Seen::ConnAck { present: true, reason: OK }, Seen::PubRel(3)]);
    hub.send(4, &Packet::PubComp(Ack::new(3, OK)));
    assert_eq!(hub.broker.counts().queued, 0);
}

#[test]
fn a_session_ends_with_its_expiry_or_a_clean_start() {
    let mut hub = Hub::open();
    hub.connect(1, connect("c", false, HOUR));
    hub.cut(1);
    hub.pass(3_599);
    hub.connect(2, connect("c", false, HOUR));
    assert_eq!(hub.take(2), [Seen::ConnAck { present: true, reason: OK }]);
    hub.cut(2);
    hub.pass(3_601);
    assert_eq!(hub.broker.counts().sessions, 0);
    hub.connect(3, connect("c", false, HOUR));
    assert_eq!(hub.take(3), [Seen::ConnAck { present: false, reason: OK }]);
    hub.connect(4, connect("c", true, &[]));
    assert_eq!(hub.take(3), [Seen::Disconnect(ReasonCode::SESSION_TAKEN_OVER)]);
    assert_eq!(hub.take(4), [Seen::ConnAck { present: false, reason: OK }]);
    hub.cut(4);
    assert_eq!(hub.broker.counts().sessions, 0);
}

#[test]
fn a_session_of_3_1_1_lasts_without_clean_session() {
    let mut hub = Hub::open();
    let old = Connect { version: Version::V311, ..connect("old", false, &[]) };
    hub.connect(1, old);
    assert_eq!(hub.broker.output(1), [0x20, 2, 0, 0]);
    hub.cut(1);
    hub.connect(2, old);
    assert_eq!(hub.broker.output(2), [0x20, 2, 1, 0]);
    hub.cut(2);
    hub.pass(8 * 24 * 3_600);
    assert_eq!(hub.broker.counts().sessions, 0, "the longest expiry is a week");
}

#[test]
fn qos_2_is_routed_once_however_often_it_comes() {
    let mut hub = Hub::open();
    hub.client(1, "publisher");
    hub.client(2, "subscriber");
    hub.subscribe(2, &sub("a", 0));
    hub.publish(1, publish("a", "once", 2, 7));
    hub.publish(1, Publish { dup: true, ..publish("a", "once", 2, 7) });
    assert_eq!(hub.take(1), [Seen::PubRec(7, OK), Seen::PubRec(7, OK)]);
    assert_eq!(hub.take(2), [Seen::message("a", "once")]);
    hub.send(1, &Packet::PubRel(Ack::new(7, OK)));
    assert_eq!(hub.take(1), [Seen::PubComp(7)]);
    hub.publish(1, publish("a", "again", 2, 7));
    assert_eq!(hub.take(2), [Seen::message("a", "again")]);
}

#[test]
fn the_clients_receive_maximum_is_kept() {
    let mut hub = Hub::open();
    hub.connect(1, connect("slow", true, &[Property::ReceiveMaximum(2)]));
    hub.take(1);
    hub.subscribe(1, &sub("a", 1));
    for id in 1..=4 {
        hub.publish(1, publish("a", &id.to_string(), 1, id));
    }
    hub.publish(1, publish("a", "qos 0", 0, 0));
    let messages = |seen: Vec<Seen>| -> Vec<(String, u16)> {
        seen.into_iter()
            .filter_map(|one| match one {
                Seen::Message { payload, id, .. } => Some((payload, id)),
                _ => None,
            })
            .collect()
    };
    assert_eq!(messages(hub.take(1)), [("1".into(), 1), ("2".into(), 2), ("qos 0".into(), 0)]);
    hub.puback(1, 1);
    assert_eq!(messages(hub.take(1)), [("3".into(), 3)]);
    hub.puback(1, 3);
    hub.puback(1, 2);
    assert_eq!(messages(hub.take(1)), [("4".into(), 4)]);
}

#[test]
fn ours_is_kept_too() {
    let mut hub = Hub::with(Limits { receive_maximum: 2, ..Limits::PERSONAL }, Policy::Open);
    hub.client(1, "eager");
    for id in 1..=3 {
        hub.publish(1, publish("a", "x", 2, id));
    }
    let expected =
        [Seen::PubRec(1, OK), Seen::PubRec(2, OK), Seen::Disconnect(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED)];
    assert_eq!(hub.take(1), expected);
}

#[test]
fn packets_longer_than_the_client_takes_are_left_out() {
    let mut hub = Hub::open();
    hub.connect(1, connect("small", true, &[Property::MaximumPacketSize(24)]));
    assert_eq!(hub.take(1).len(), 1);
    hub.subscribe(1, &sub("a", 1));
    hub.publish(1, publish("a", "much too long for that", 1, 1));
    hub.publish(1, publish("a", "short", 1, 2));
    assert_eq!(hub.take(1), [Seen::PubAck(1, OK), Seen::qos("a", "short", 1, 2), Seen::PubAck(2, OK)]);
    hub.connect(2, connect("tiny", true, &[Property::MaximumPacketSize(5)]));
    assert_eq!(hub.take(2), []);
    assert!(hub.broker.is_closing(2), "not even the CONNACK fits");
}

#[test]
fn a_full_queue_drops_qos_0_first_then_says_quota() {
    let limits = Limits { queue_messages: 2, output: 1, in_flight: 1, ..Limits::PERSONAL };
    let mut hub = Hub::with(limits, Policy::Open);
    hub.client(1, "publisher");
    hub.client(2, "stuck");
    hub.subscribe(2, &sub("a", 1));
    // One goes out and fills the output; the next two wait.
    for (payload, qos, id) in [("0", 1, 1), ("1", 0, 0), ("2", 1, 2), ("3", 1, 3), ("4", 0, 0), ("5", 1, 4)] {
        hub.publish(1, publish("a", payload, qos, id));
    }
    let quota = ReasonCode::QUOTA_EXCEEDED;
    assert_eq!(
        hub.take(1),
        [Seen::PubAck(1, OK), Seen::PubAck(2, OK), Seen::PubAck(3, OK), Seen::PubAck(4, quota)]
    );
    let payloads: Vec<String> = (0..3)
        .map(|_| {
            let Seen::Message { payload, id, .. } = hub.take_one(2) else { panic!("no message") };
            hub.puback(2, id);
            payload
        })
        .collect();
    assert_eq!(payloads, ["0", "2", "3"]);
    assert_eq!(hub.take(2), []);
    assert_eq!(hub.broker.counts().dropped, 3, "one gave way, two found no place");
}

#[test]
fn wills_come_when_a_connection_breaks() {
    let mut hub = Hub::open();
    hub.client(9, "watcher");
    hub.subscribe(9, &sub("will", 0));
    let dying = |name, delay: &'static [Property<'static>]| Connect {
        will: Some(will("will", name, delay)),
        ..connect(name, false, HOUR)
    };
    const LATER: &[Property<'static>] = &[Property::WillDelayInterval(10)];
    hub.connect(1, dying("cut", &[]));
    hub.cut(1);
    assert_eq!(hub.take(9), [Seen::message("will", "cut")]);

    hub.connect(2, dying("polite", &[]));
    hub.send(2, &Packet::Disconnect(Disconnect::new(OK)));
    hub.connect(3, dying("rude", &[]));
    hub.send(3, &Packet::Disconnect(Disconnect::new(ReasonCode::DISCONNECT_WITH_WILL)));
    assert_eq!(hub.take(9), [Seen::message("will", "rude")]);

    hub.connect(4, dying("delayed", LATER));
    hub.cut(4);
    hub.pass(9);
    assert_eq!(hub.take(9), []);
    hub.pass(2);
    assert_eq!(hub.take(9), [Seen::message("will", "delayed")]);

    hub.connect(5, dying("back in time", LATER));
    hub.cut(5);
    hub.pass(5);
    hub.connect(6, dying("back in time", LATER));
    hub.pass(20);
    assert_eq!(hub.take(9), []);
    hub.connect(7, Connect { clean_start: true, ..dying("back in time", LATER) });
    assert_eq!(hub.take(9), [Seen::message("will", "back in time")], "a clean start ends the session");
}

#[test]
fn silence_beyond_the_keep_alive_ends_a_connection() {
    let mut hub = Hub::open();
    hub.connect(1, Connect { keep_alive: 10, ..connect("quiet", true, &[]) });
    hub.take(1);
    hub.pass(14);
    hub.send(1, &Packet::PingReq);
    hub.pass(14);
    assert_eq!(hub.take(1), [Seen::Other("PingResp".into())]);
    hub.pass(2);
    assert_eq!(hub.take(1), [Seen::Disconnect(ReasonCode::KEEP_ALIVE_TIMEOUT)]);
    hub.broker.open(2, None, hub.now);
    hub.pass(11);
    assert!(hub.broker.is_closing(2), "and so does silence before CONNECT");
    assert_eq!(hub.take(2), []);
}

#[test]
fn overlapping_subscriptions_make_one_delivery() {
    let mut hub = Hub::open();
    hub.client(1, "c");
    hub.subscribe_with(1, &sub("a/#", 0), &[Property::SubscriptionIdentifier(5)]);
    hub.subscribe_with(1, &sub("a/+", 1), &[Property::SubscriptionIdentifier(6)]);
    hub.subscribe(1, &sub("a/b", 0));
    hub.publish(1, publish("a/b", "x", 2, 1));
    let seen = hub.take(1);
    let Some(Seen::Message { ids, .. }) = seen.first() else { panic!("{seen:?}") };
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [5, 6]);
    assert_eq!(seen[0], with_ids(Seen::qos("a/b", "x", 1, 1), ids));
}

#[test]
fn subscription_options_are_kept() {
    let mut hub = Hub::open();
    hub.client(1, "c");
    hub.publish(1, Publish { retain: true, ..publish("r", "kept", 1, 1) });
    hub.take(1);
    let kept = Seen::Message {
        topic: "r".into(),
        payload: "kept".into(),
        qos: 0,
        id: 0,
        dup: false,
        retain: true,
        ids: Vec::new(),
    };
    let with =
        |handling| [Subscription { retain_handling: handling, ..Subscription::new("r", QoS::AtMostOnce) }];
    hub.subscribe(1, &with(RetainHandling::DontSend));
    assert_eq!(hub.take(1), []);
    hub.subscribe(1, &with(RetainHandling::SendIfNew));
    assert_eq!(hub.take(1), [], "it is not new");
    hub.subscribe(1, &with(RetainHandling::Send));
    assert_eq!(hub.take(1), std::slice::from_ref(&kept));
    let unsubscribe =
        Unsubscribe { packet_id: 2, properties: Properties::EMPTY, filters: TopicFilters::list(&["r", "x"]) };
    hub.send(1, &Packet::Unsubscribe(unsubscribe));
    assert_eq!(hub.take(1), [Seen::UnsubAck(vec![0, 0x11])]);
    hub.subscribe(1, &with(RetainHandling::SendIfNew));
    assert_eq!(hub.take(1), std::slice::from_ref(&kept));

    let no_local = [Subscription { no_local: true, ..Subscription::new("own", QoS::AtMostOnce) }];
    hub.subscribe(1, &no_local);
    hub.publish(1, publish("own", "x", 1, 4));
    assert_eq!(hub.take(1), [Seen::PubAck(4, OK)], "there is a subscriber, though not for this");
    let as_published =
        [Subscription { retain_as_published: true, ..Subscription::new("r", QoS::AtMostOnce) }];
    hub.client(2, "d");
    hub.subscribe(2, &as_published);
    hub.take(2);
    hub.publish(1, Publish { retain: true, ..publish("r", "kept", 0, 0) });
    assert_eq!(hub.take(2), [kept]);
    assert_eq!(hub.take(1), [Seen::message("r", "kept")]);
    hub.publish(1, Publish { retain: true, ..publish("r", "", 0, 0) });
    assert_eq!(hub.broker.counts().retained, 0);
}

#[test]
fn a_shared_group_takes_turns_and_skips_who_is_away() {
    let mut hub = Hub::open();
    hub.client(9, "publisher");
    for (id, name) in [(1, "one"), (2, "two")] {
        hub.connect(id, connect(name, false, HOUR));
        hub.take(id);
        hub.subscribe(id, &sub("$share/g/a/#", 1));
    }
    for id in 1..=4 {
        hub.publish(9, publish("a/b", "x", 1, id));
    }
    assert_eq!((hub.take(1).len(), hub.take(2).len()), (2, 2));
    hub.cut(1);
    for id in 5..=6 {
        hub.publish(9, publish("a/b", "x", 1, id));
    }
    assert_eq!(hub.take(2).len(), 2);
}

#[test]
fn messages_expire_while_they_wait_and_count_down() {
    let mut hub = Hub::open();
    hub.client(1, "publisher");
    hub.connect(2, connect("sleeper", false, HOUR));
    hub.subscribe(2, &sub("#", 1));
    hub.cut(2);
    let ten = [Property::MessageExpiryInterval(10)];
    let expiring = |topic| Publish {
        properties: Properties::list(&ten),
        retain: topic == "kept",
        ..publish(topic, "x", 1, 1)
    };
    hub.publish(1, expiring("early"));
    hub.publish(1, expiring("kept"));
    hub.pass(6);
    hub.publish(1, expiring("late"));
    hub.pass(5);
    assert_eq!(hub.broker.counts().retained, 0);
    hub.connect(3, connect("sleeper", false, HOUR));
    hub.take_one(3);
    let output = hub.broker.output(3).to_vec();
    let Ok(Packet::Publish(late)) = Packet::decode(&output, Version::V5) else { panic!("{output:02X?}") };
    assert_eq!((late.topic, late.properties.message_expiry_interval()), ("late", Some(5)));
}

#[test]
fn what_a_publisher_adds_is_passed_on() {
    let mut hub = Hub::open();
    hub.client(1, "c");
    hub.subscribe(1, &sub("a", 0));
    let properties = [
        Property::TopicAlias(3),
        Property::PayloadFormatIndicator(true),
        Property::UserProperty("k", "1"),
        Property::ResponseTopic("reply"),
        Property::UserProperty("k", "2"),
        Property::CorrelationData(b"\0\x01"),
        Property::ContentType("text/plain"),
    ];
    hub.publish(1, Publish { properties: Properties::list(&properties), ..publish("a", "x", 0, 0) });
    let output = hub.broker.output(1).to_vec();
    let Ok(Packet::Publish(seen)) = Packet::decode(&output, Version::V5) else { panic!("{output:02X?}") };
    assert_eq!(seen.properties, Properties::list(&properties[1..]));
    hub.take(1);
    let alias = [Property::TopicAlias(3)];
    hub.publish(1, Publish { properties: Properties::list(&alias), ..publish("", "by alias", 0, 0) });
    assert_eq!(hub.take(1), [Seen::message("a", "by alias")]);
    let unknown = [Property::TopicAlias(4)];
    hub.publish(1, Publish { properties: Properties::list(&unknown), ..publish("", "x", 0, 0) });
    assert_eq!(hub.take(1), [Seen::Disconnect(ReasonCode::PROTOCOL_ERROR)]);
}

#[test]
fn the_limits_answer_with_the_quota_code() {
    let limits =
        Limits { sessions: 1, subscriptions: 1, retained_messages: 1, topic_levels: 3, ..Limits::PERSONAL };
    let mut hub = Hub::with(limits, Policy::Open);
    hub.client(1, "c");
    hub.connect(2, connect("d", true, &[]));
    assert_eq!(hub.take(2), [Seen::ConnAck { present: false, reason: ReasonCode::QUOTA_EXCEEDED }]);
    let two = [Subscription::new("a", QoS::AtMostOnce), Subscription::new("b", QoS::AtMostOnce)];
    assert_eq!(hub.subscribe(1, &two), Seen::SubAck(vec![0, 0x97]));
    assert_eq!(hub.subscribe(1, &sub("a/b/c/d", 0)), Seen::SubAck(vec![0x8F]));
    hub.publish(1, Publish { retain: true, ..publish("x", "1", 1, 1) });
    hub.publish(1, Publish { retain: true, ..publish("a", "1", 1, 2) });
    let none = ReasonCode::NO_MATCHING_SUBSCRIBERS;
    assert_eq!(
        hub.take(1),
        [Seen::PubAck(1, none), Seen::message("a", "1"), Seen::PubAck(2, ReasonCode::QUOTA_EXCEEDED)]
    );
    assert_eq!((hub.broker.counts().refused, hub.broker.counts().dropped), (3, 1));
    hub.publish(1, publish("a/b/c/d", "1", 0, 0));
    assert_eq!(hub.take(1), [Seen::Disconnect(ReasonCode::TOPIC_NAME_INVALID)]);
    assert_eq!(hub.broker.counts().refused, 4);
}

#[test]
fn a_client_that_goes_beyond_what_it_was_told_is_counted() {
    let alias = [Property::TopicAlias(3)];
    let aliased = Publish { properties: Properties::list(&alias), ..publish("a", "", 0, 0) };
    let limits = Limits { receive_maximum: 1, topic_aliases: 2, handshake_ms: 1_000, ..Limits::PERSONAL };
    let mut hub = Hub::with(limits, Policy::Open);
    for id in 1..=4 {
        hub.client(id, &id.to_string());
    }
    hub.publish(1, aliased);
    assert_eq!(hub.take(1), [Seen::Disconnect(ReasonCode::TOPIC_ALIAS_INVALID)]);
    hub.publish(2, publish("a", "", 2, 1));
    hub.publish(2, publish("a", "", 2, 2));
    let exceeded = ReasonCode::RECEIVE_MAXIMUM_EXCEEDED;
    assert_eq!(hub.take(2), [Seen::PubRec(1, OK), Seen::Disconnect(exceeded)]);
    hub.broker.reject(3, mqtt_wire::Error::TooLarge, hub.now);
    assert_eq!(hub.take(3), [Seen::Disconnect(ReasonCode::PACKET_TOO_LARGE)]);
    hub.broker.open(5, None, hub.now);
    hub.pass(2);
    assert!(hub.broker.is_closing(5), "it did not introduce itself in time");
    assert_eq!(hub.broker.counts().refused, 4);
    hub.broker.reject(4, mqtt_wire::Error::Flags, hub.now);
    assert_eq!(hub.broker.counts().refused, 4, "no limit was the reason");
}

#[test]
fn a_server_that_goes_says_so() {
    let mut hub = Hub::open();
    hub.client(1, "c");
    hub.broker.end_all(ReasonCode::SERVER_SHUTTING_DOWN, hub.now);
    assert_eq!(hub.take(1), [Seen::Disconnect(ReasonCode::SERVER_SHUTTING_DOWN)]);
    assert!(hub.broker.is_closing(1));
}
