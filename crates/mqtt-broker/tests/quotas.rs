//! One grant's part of the limits: whatever it does, the others still connect, keep and receive.

mod hub;

use hub::{Hub, OK, Seen, app, connect, device, publish};
use mqtt_broker::{Identity, Limits, Policy};
use mqtt_wire::{Connect, Property, Publish, QoS, ReasonCode, Subscription, Version};

const FULL: ReasonCode = ReasonCode::QUOTA_EXCEEDED;
const HOUR: &[Property<'static>] = &[Property::SessionExpiryInterval(3_600)];

fn granted(limits: Limits) -> Hub {
    let mut hub = Hub::with(limits, Policy::Granted(None));
    hub.grant(&[
        ("dev", device("L")),
        ("dev2", device("M")),
        ("app", app("L", &["t", "u", "v"], &["heater"])),
        ("app2", app("L", &["t"], &[])),
        ("app3", app("M", &["t"], &[])),
    ]);
    hub
}

fn welcome(present: bool) -> [Seen; 1] {
    [Seen::ConnAck { present, reason: OK }]
}

fn subscribe_to_all(hub: &mut Hub, id: usize) {
    let all = [Subscription::new("#", QoS::AtLeastOnce)];
    assert_eq!(hub.subscribe(id, &all), Seen::SubAck(vec![1]));
}

/// 200 bytes; with its topic and what is counted for bookkeeping 333 of them in a queue.
fn bulky() -> String {
    "x".repeat(200)
}

fn retained<'a>(topic: &'a str, payload: &'a str, id: u16) -> Publish<'a> {
    Publish { retain: true, ..publish(topic, payload, 1, id) }
}

#[test]
fn a_grant_that_leaves_sessions_behind_loses_its_own_oldest() {
    let mut hub = granted(Limits::PERSONAL);
    for round in 0..300 {
        let name = format!("c{round}");
        hub.connect_as(1, "app", connect(&name, false, HOUR));
        assert_eq!(hub.take(1), welcome(false), "{name}");
        hub.cut(1);
        hub.pass(1);
    }
    assert_eq!(hub.broker.counts().sessions, 32);
    hub.lasting(2, "dev", false);
    hub.lasting(3, "app2", false);
    for (name, present) in [("c299", true), ("c268", true), ("c267", false)] {
        hub.connect_as(1, "app", connect(name, false, HOUR));
        assert_eq!(hub.take(1), welcome(present), "{name}");
        hub.cut(1);
        hub.pass(1);
    }
    assert!(!hub.broker.is_closing(2) && !hub.broker.is_closing(3));
}

#[test]
fn the_oldest_is_the_one_that_has_been_away_longest() {
    let mut hub = granted(Limits { grant_sessions: 2, ..Limits::PERSONAL });
    for (id, name) in [(1, "first"), (2, "second")] {
        hub.connect_as(id, "app", connect(name, false, HOUR));
        assert_eq!(hub.take(id), welcome(false));
    }
    for id in [2, 1] {
        hub.cut(id);
        hub.pass(1);
    }
    for (id, name, present) in [(3, "third", false), (4, "first", true)] {
        hub.connect_as(id, "app", connect(name, false, HOUR));
        assert_eq!(hub.take(id), welcome(present), "{name}");
    }
}

#[test]
fn connected_sessions_do_not_make_place() {
    let mut hub = granted(Limits { grant_sessions: 2, ..Limits::PERSONAL });
    for (id, name) in [(1, "one"), (2, "two")] {
        hub.connect_as(id, "app", connect(name, true, &[]));
        assert_eq!(hub.take(id), welcome(false));
    }
    hub.connect_as(3, "app", connect("three", true, &[]));
    assert_eq!(hub.take(3), [Seen::ConnAck { present: false, reason: FULL }]);
    hub.connect_as(4, "app", Connect { version: Version::V311, ..connect("three", true, &[]) });
    assert_eq!(hub.broker.output(4), [0x20, 2, 0, 3]);
    hub.lasting(5, "dev", false);
    // The same client again needs no other place.
    hub.connect_as(6, "app", connect("two", true, &[]));
    assert_eq!(hub.take(6), welcome(false));
    assert!(!hub.broker.is_closing(1));
}

#[test]
fn a_grant_has_its_part_of_the_connections() {
    let mut hub = granted(Limits::PERSONAL);
    let of = |sid: &str| Identity { sid: sid.into(), client: sid.into() };
    for id in 0..64 {
        assert!(!hub.broker.is_full_for(Some(&of("app"))));
        hub.broker.open(id, Some(of("app")), hub.now);
    }
    assert!(hub.broker.is_full_for(Some(&of("app"))));
    assert!(!hub.broker.is_full_for(Some(&of("dev"))));
    hub.cut(7);
    assert!(!hub.broker.is_full_for(Some(&of("app"))));
}

#[test]
fn who_never_acknowledges_fills_its_own_part_of_the_queues() {
    let mut hub = granted(Limits { queue_bytes: 4_000, ..Limits::PERSONAL });
    hub.lasting(1, "dev", false);
    for (id, name) in [(2, "here"), (3, "away")] {
        hub.connect_as(id, "app", connect(name, false, HOUR));
        assert_eq!(hub.take(id), welcome(false));
        subscribe_to_all(&mut hub, id);
    }
    hub.cut(3);
    for id in 1..=10 {
        hub.publish(1, publish("d/L/t", &bulky(), 1, id));
    }
    // Both sessions together hold a quarter: three messages. Then the publisher hears that nobody took it.
    let answers: Vec<Seen> = (1..=10).map(|id| Seen::PubAck(id, if id <= 2 { OK } else { FULL })).collect();
    assert_eq!(hub.take(1), answers);
    assert_eq!(hub.broker.counts().queued, 3);

    hub.lasting(4, "app2", false);
    subscribe_to_all(&mut hub, 4);
    hub.publish(1, publish("d/L/t", &bulky(), 1, 11));
    assert_eq!(hub.take(1), [Seen::PubAck(11, OK)]);
    assert_eq!(hub.take(4), [Seen::qos("d/L/t", &bulky(), 1, 1)]);
    hub.cut(4);
    hub.publish(1, publish("d/L/t", &bulky(), 1, 12));
    assert_eq!(hub.take(1), [Seen::PubAck(12, OK)]);
    assert_eq!(hub.broker.counts().queued, 5);

    // What is acknowledged is free again, for the grant too.
    for id in [1, 2] {
        hub.puback(2, id);
    }
    hub.take(2);
    hub.publish(1, publish("d/L/u", &bulky(), 1, 13));
    assert_eq!(hub.take(1), [Seen::PubAck(13, OK)]);
}

#[test]
fn a_device_fills_its_own_part_of_what_is_retained() {
    for (limits, fit) in [
        (Limits { retained_messages: 8, ..Limits::PERSONAL }, 2),
        (Limits { retained_bytes: 7_200, ..Limits::PERSONAL }, 2),
    ] {
        let mut hub = granted(limits);
        hub.lasting(1, "dev", false);
        hub.lasting(2, "dev2", false);
        for (id, topic) in [(1, "d/L/t"), (2, "d/L/u"), (3, "d/L/v")] {
            hub.publish(1, retained(topic, &bulky(), id));
        }
        assert_eq!(hub.take(1), [Seen::PubAck(1, OK), Seen::PubAck(2, OK), Seen::PubAck(3, FULL)]);
        assert_eq!(hub.broker.counts().retained, fit);
        hub.publish(2, retained("d/M/t", &bulky(), 1));
        assert_eq!(hub.take(2), [Seen::PubAck(1, OK)]);
        hub.publish(1, retained("d/L/t", &bulky(), 4));
        assert_eq!(hub.take(1), [Seen::PubAck(4, OK)], "a new value takes the old one's place");
        hub.publish(1, retained("d/L/u", "", 5));
        hub.publish(1, retained("d/L/v", &bulky(), 6));
        assert_eq!(hub.take(1), [Seen::PubAck(5, OK), Seen::PubAck(6, OK)], "a removed one frees its place");
    }
}

#[test]
fn an_open_broker_knows_no_parts() {
    let limits =
        Limits { grant_sessions: 1, grant_connections: 1, grant_share: 1_000_000, ..Limits::PERSONAL };
    let mut hub = Hub::with(limits, Policy::Open);
    hub.client(1, "one");
    assert!(!hub.broker.is_full_for(None));
    hub.client(2, "two");
    subscribe_to_all(&mut hub, 2);
    hub.publish(1, retained("a", &bulky(), 1));
    hub.publish(1, retained("b", &bulky(), 2));
    assert_eq!(hub.take(1), [Seen::PubAck(1, OK), Seen::PubAck(2, OK)]);
    assert_eq!(hub.broker.counts().retained, 2);
}
