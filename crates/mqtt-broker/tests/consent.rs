//! Consent before storage: what no grant covers is nowhere, and what was covered goes with its grant.

mod hub;

use hub::{Hub, OK, Seen, app, connect, device, publish, will};
use mqtt_broker::{Limits, Policy};
use mqtt_wire::{Packet, Property, Publish, QoS, ReasonCode, Subscription};

const NOT_AUTHORIZED: ReasonCode = ReasonCode::NOT_AUTHORIZED;

fn granted() -> Hub {
    Hub::with(Limits::PERSONAL, Policy::Granted(None))
}

fn all(qos: QoS) -> [Subscription<'static>; 1] {
    [Subscription::new("#", qos)]
}

fn retained<'a>(topic: &'a str, payload: &'a str) -> Publish<'a> {
    Publish { retain: true, ..publish(topic, payload, 1, 1) }
}

fn shown(topic: &str, payload: &str, id: u16) -> Seen {
    match Seen::qos(topic, payload, 1, id) {
        Seen::Message { topic, payload, qos, id, dup, ids, .. } => {
            Seen::Message { topic, payload, qos, id, dup, retain: true, ids }
        }
        other => other,
    }
}

#[test]
fn nobody_comes_in_before_the_grants_or_without_one() {
    let mut hub = granted();
    hub.connect_as(1, "dev", connect("dev", true, &[]));
    assert_eq!(hub.take(1), [Seen::ConnAck { present: false, reason: ReasonCode::SERVER_UNAVAILABLE }]);
    assert!(hub.broker.is_closing(1));
    hub.grant(&[("dev", device("L"))]);
    hub.connect_as(2, "stranger", connect("stranger", true, &[]));
    assert_eq!(hub.take(2), [Seen::ConnAck { present: false, reason: NOT_AUTHORIZED }]);
    hub.connect(3, connect("dev", true, &[]));
    assert_eq!(hub.take(3), [Seen::ConnAck { present: false, reason: NOT_AUTHORIZED }]);
    let identity = mqtt_broker::Identity { sid: "dev".into(), client: "one".into() };
    hub.broker.open(4, Some(identity), hub.now);
    hub.send(4, &Packet::Connect(connect("another", true, &[])));
    let refused = Seen::ConnAck { present: false, reason: ReasonCode::CLIENT_IDENTIFIER_NOT_VALID };
    assert_eq!(hub.take(4), [refused]);
}

#[test]
fn each_gets_what_its_grant_says() {
    let mut hub = granted();
    hub.grant(&[
        ("dev", device("L")),
        ("dev2", device("M")),
        ("app", app("L", &["t"], &["heater"])),
        ("app2", app("M", &["t"], &[])),
    ]);
    for (id, sid) in [(1, "dev"), (2, "dev2"), (3, "app"), (4, "app2")] {
        hub.lasting(id, sid, false);
    }
    assert_eq!(hub.subscribe(3, &all(QoS::AtMostOnce)), Seen::SubAck(vec![0]));
    assert_eq!(hub.subscribe(4, &all(QoS::AtMostOnce)), Seen::SubAck(vec![0]));
    let filters = ["c/L/#", "c/M/#", "d/L/t", "#"].map(|filter| Subscription::new(filter, QoS::AtMostOnce));
    assert_eq!(hub.subscribe(1, &filters), Seen::SubAck(vec![0, 0x87, 0x87, 0x87]));

    hub.publish(1, publish("d/L/t", "20", 1, 1));
    hub.publish(1, publish("d/L/secret", "x", 1, 2));
    hub.publish(1, publish("d/M/t", "99", 1, 3));
    hub.publish(1, publish("c/L/heater", "on", 1, 4));
    let denied = |id| Seen::PubAck(id, NOT_AUTHORIZED);
    assert_eq!(hub.take(1), [Seen::PubAck(1, OK), Seen::PubAck(2, OK), denied(3), denied(4)]);
    assert_eq!(hub.take(3), [Seen::message("d/L/t", "20")]);
    assert_eq!(hub.take(4), []);

    hub.publish(3, publish("c/L/heater", "on", 1, 1));
    hub.publish(3, publish("c/L/fan", "on", 1, 2));
    hub.publish(4, publish("c/L/heater", "off", 2, 3));
    assert_eq!(hub.take(3), [Seen::PubAck(1, OK), denied(2)]);
    assert_eq!(hub.take(4), [Seen::PubRec(3, NOT_AUTHORIZED)]);
    assert_eq!(hub.take(1), [Seen::message("c/L/heater", "on")]);
    assert_eq!(hub.take(2), []);
}

#[test]
fn a_value_without_a_reader_is_acknowledged_and_kept_nowhere() {
    let mut hub = granted();
    hub.grant(&[("dev", device("L")), ("app", app("L", &["other"], &[]))]);
    hub.lasting(1, "dev", false);
    hub.lasting(2, "app", false);
    hub.subscribe(2, &all(QoS::ExactlyOnce));
    hub.cut(2);
    hub.publish(1, retained("d/L/t", "20"));
    hub.publish(1, Publish { retain: true, ..publish("d/L/t", "21", 2, 2) });
    assert_eq!(hub.take(1), [Seen::PubAck(1, OK), Seen::PubRec(2, OK)]);
    assert_eq!((hub.broker.counts().retained, hub.broker.counts().queued), (0, 0));
    hub.grant(&[("dev", device("L")), ("app", app("L", &["other", "t"], &[]))]);
    hub.lasting(2, "app", true);
    assert_eq!(hub.take(2), []);
    assert_eq!(hub.subscribe(2, &all(QoS::ExactlyOnce)), Seen::SubAck(vec![2]));
    assert_eq!(hub.take(2), []);
}

#[test]
fn a_later_grant_sees_only_later_values() {
    let mut hub = granted();
    let first = ("app", app("L", &["t"], &[]));
    let second = ("late", app("L", &["t"], &[]));
    hub.grant(&[("dev", device("L")), first.clone()]);
    hub.lasting(1, "dev", false);
    hub.publish(1, retained("d/L/t", "old"));
    hub.grant(&[("dev", device("L")), first.clone(), second.clone()]);
    hub.lasting(2, "app", false);
    hub.lasting(3, "late", false);
    hub.subscribe(2, &all(QoS::AtLeastOnce));
    hub.subscribe(3, &all(QoS::AtLeastOnce));
    assert_eq!(hub.take(2), [shown("d/L/t", "old", 1)]);
    assert_eq!(hub.take(3), []);
    // A grant that was narrowed in between is a later one too.
    hub.grant(&[("dev", device("L")), ("app", app("L", &["x"], &[])), second.clone()]);
    assert_eq!(hub.broker.counts().retained, 0, "its last reader is gone");
    hub.grant(&[("dev", device("L")), first, second]);
    hub.subscribe(2, &all(QoS::AtLeastOnce));
    assert_eq!(hub.take(2), []);
}

#[test]
fn what_is_stored_goes_when_its_grant_goes() {
    let mut hub = granted();
    let dev = ("dev", device("L"));
    hub.grant(&[dev.clone(), ("app", app("L", &["t", "u"], &["heater"]))]);
    hub.lasting(1, "dev", false);
    hub.subscribe(1, &[Subscription::new("c/L/#", QoS::ExactlyOnce)]);
    hub.lasting(2, "app", false);
    hub.subscribe(2, &all(QoS::AtLeastOnce));
    hub.publish(1, retained("d/L/t", "flying"));
    hub.publish(1, retained("d/L/u", "flying too"));
    assert_eq!(hub.take(2).len(), 2);
    hub.cut(2);
    hub.publish(1, publish("d/L/t", "waiting", 1, 3));
    assert_eq!(hub.broker.counts().queued, 3);

    // Narrowed: only what is still covered stays.
    hub.grant(&[dev.clone(), ("app", app("L", &["u"], &["heater"]))]);
    assert_eq!(hub.broker.counts().retained, 1);
    hub.lasting(2, "app", true);
    let again = Seen::Message {
        topic: "d/L/u".into(),
        payload: "flying too".into(),
        qos: 1,
        id: 2,
        dup: true,
        retain: false,
        ids: Vec::new(),
    };
    assert_eq!(hub.take(2), [again]);

    // A command that waits for the device goes with the grant of the app that gave it.
    hub.take(1);
    hub.cut(1);
    hub.publish(2, publish("c/L/heater", "on", 1, 1));
    assert_eq!(hub.take(2), [Seen::PubAck(1, OK)]);
    hub.grant(std::slice::from_ref(&dev));
    assert_eq!(hub.take(2), [Seen::Disconnect(NOT_AUTHORIZED)]);
    assert!(hub.broker.is_closing(2));
    assert_eq!((hub.broker.counts().retained, hub.broker.counts().queued), (0, 0));
    assert_eq!(hub.broker.counts().sessions, 1);
    hub.lasting(1, "dev", true);
    assert_eq!(hub.take(1), []);
}

#[test]
fn a_released_device_takes_its_values_with_it() {
    let mut hub = granted();
    let reader = ("app", app("L", &["t"], &[]));
    hub.grant(&[("dev", device("L")), reader.clone()]);
    hub.lasting(1, "dev", false);
    hub.lasting(2, "app", false);
    hub.subscribe(2, &all(QoS::AtLeastOnce));
    hub.cut(2);
    hub.publish(1, retained("d/L/t", "1"));
    hub.grant(&[reader]);
    assert_eq!((hub.broker.counts().retained, hub.broker.counts().queued), (0, 0));
    hub.lasting(2, "app", true);
    assert_eq!(hub.take(2), []);
}

#[test]
fn bytes_that_are_not_written_yet_go_too() {
    let mut hub = granted();
    let dev = ("dev", device("L"));
    hub.grant(&[dev.clone(), ("app", app("L", &["t", "u"], &[]))]);
    hub.lasting(1, "dev", false);
    hub.lasting(2, "app", false);
    hub.subscribe(2, &all(QoS::AtMostOnce));
    hub.publish(1, publish("d/L/t", "1", 0, 0));
    hub.publish(1, publish("d/L/u", "2", 0, 0));
    hub.grant(&[dev.clone(), ("app", app("L", &["u"], &[]))]);
    assert_eq!(hub.take(2), [Seen::message("d/L/u", "2")]);
    hub.publish(1, publish("d/L/u", "3", 0, 0));
    hub.grant(&[dev]);
    assert_eq!(hub.take(2), [Seen::Disconnect(NOT_AUTHORIZED)]);
}

#[test]
fn wills_are_checked_when_they_are_made_and_when_they_are_due() {
    let mut hub = granted();
    let both = [("dev", device("L")), ("app", app("L", &["t"], &["heater"]))];
    hub.grant(&both);
    let out_of_bounds =
        mqtt_wire::Connect { will: Some(will("d/M/t", "gone", &[])), ..connect("dev", true, &[]) };
    hub.connect_as(1, "dev", out_of_bounds);
    assert_eq!(hub.take(1), [Seen::ConnAck { present: false, reason: NOT_AUTHORIZED }]);

    let delay = [Property::WillDelayInterval(10)];
    let expiry = [Property::SessionExpiryInterval(100)];
    let with_will = |topic| mqtt_wire::Connect {
        will: Some(will(topic, "gone", &delay)),
        ..connect("client", false, &expiry)
    };
    hub.connect_as(2, "app", with_will("c/L/heater"));
    hub.lasting(3, "dev", false);
    hub.subscribe(3, &[Subscription::new("c/L/#", QoS::AtMostOnce)]);
    hub.cut(2);
    hub.grant(&[both[0].clone(), ("app", app("L", &["t"], &[]))]);
    hub.grant(&both);
    hub.pass(11);
    assert_eq!(hub.take(3), [], "the will went when its grant was narrowed");
    hub.connect_as(4, "app", with_will("c/L/heater"));
    hub.cut(4);
    hub.pass(11);
    assert_eq!(hub.take(3), [Seen::message("c/L/heater", "gone")]);
}

#[test]
fn a_grant_cannot_take_over_anothers_session() {
    let mut hub = granted();
    hub.grant(&[("app", app("L", &["t"], &[])), ("app2", app("L", &["t"], &[]))]);
    for (id, sid) in [(1, "app"), (2, "app2")] {
        hub.connect_as(id, sid, connect("same", true, &[]));
        assert_eq!(hub.take(id), [Seen::ConnAck { present: false, reason: OK }]);
    }
    assert!(!hub.broker.is_closing(1));
    assert_eq!(hub.broker.counts().connected, 2);
}

#[test]
fn a_shared_group_belongs_to_one_grant() {
    let mut hub = granted();
    hub.grant(&[("dev", device("L")), ("app", app("L", &["t"], &[])), ("app2", app("L", &["t"], &[]))]);
    hub.lasting(1, "dev", false);
    for (id, sid) in [(2, "app"), (3, "app2")] {
        hub.lasting(id, sid, false);
        hub.subscribe(id, &[Subscription::new("$share/g/d/#", QoS::AtMostOnce)]);
    }
    hub.publish(1, publish("d/L/t", "1", 0, 0));
    assert_eq!(hub.take(2), [Seen::message("d/L/t", "1")]);
    assert_eq!(hub.take(3), [Seen::message("d/L/t", "1")]);
}

/// Five minutes.
const UNATTENDED: u64 = 300;

#[test]
fn without_control_for_long_everything_is_forgotten() {
    let mut hub = granted();
    let both = [("dev", device("L")), ("app", app("L", &["t"], &["heater"]))];
    hub.grant(&both);
    hub.lasting(1, "dev", false);
    hub.lasting(2, "app", false);
    hub.subscribe(2, &all(QoS::AtLeastOnce));
    hub.publish(1, retained("d/L/t", "flying"));
    hub.take(1);
    hub.take(2);
    hub.cut(2);
    hub.publish(1, publish("d/L/t", "waiting", 1, 2));
    hub.take(1);
    let before = hub.broker.counts();
    assert_eq!((before.sessions, before.retained, before.queued), (2, 1, 2));

    // A shorter absence loses nothing, and the next one is counted from its own beginning.
    hub.broker.unattended(hub.now);
    hub.pass(UNATTENDED - 1);
    hub.grant(&both);
    hub.pass(UNATTENDED);
    assert_eq!(hub.broker.counts(), before);
    hub.broker.unattended(hub.now);
    hub.pass(UNATTENDED - 1);
    hub.broker.unattended(hub.now);
    assert_eq!(hub.broker.counts(), before);
    assert!(hub.broker.has_grants());

    hub.pass(1);
    assert_eq!(hub.take(1), [Seen::Disconnect(ReasonCode::SERVER_SHUTTING_DOWN)]);
    assert!(hub.broker.is_closing(1) && !hub.broker.has_grants());
    hub.cut(1);
    let after = hub.broker.counts();
    assert_eq!((after.connected, after.sessions, after.retained, after.queued), (0, 0, 0, 0));
    hub.connect_as(3, "dev", connect("dev", false, &[]));
    assert_eq!(hub.take(3), [Seen::ConnAck { present: false, reason: ReasonCode::SERVER_UNAVAILABLE }]);

    hub.grant(&both);
    hub.lasting(4, "app", false);
    assert_eq!(hub.subscribe(4, &all(QoS::AtLeastOnce)), Seen::SubAck(vec![1]));
    assert_eq!(hub.take(4), []);
}

#[test]
fn what_is_forgotten_has_no_last_will() {
    let mut hub = granted();
    let both = [("dev", device("L")), ("app", app("L", &["t"], &["heater"]))];
    hub.grant(&both);
    hub.lasting(1, "dev", false);
    hub.subscribe(1, &[Subscription::new("c/L/#", QoS::AtMostOnce)]);
    let expiry = [Property::SessionExpiryInterval(3_600)];
    // One is due at the very moment, one later, one with the end of its connection.
    for (id, name, delay) in [(2, "now", UNATTENDED as u32), (3, "later", 1_000), (4, "here", 0)] {
        let delay = [Property::WillDelayInterval(delay)];
        let will = Some(will("c/L/heater", name, &delay));
        hub.connect_as(id, "app", mqtt_wire::Connect { will, ..connect(name, false, &expiry) });
    }
    hub.cut(2);
    hub.cut(3);
    hub.broker.unattended(hub.now);
    hub.pass(UNATTENDED);
    assert_eq!(hub.take(1), [Seen::Disconnect(ReasonCode::SERVER_SHUTTING_DOWN)]);
    hub.cut(4);
    hub.grant(&both);
    hub.lasting(5, "dev", false);
    hub.subscribe(5, &[Subscription::new("c/L/#", QoS::AtMostOnce)]);
    hub.pass(3_600);
    assert_eq!(hub.take(5), []);
}

#[test]
fn a_broker_without_grants_waits_for_nobody() {
    let mut hub = Hub::open();
    hub.client(1, "c");
    hub.broker.unattended(hub.now);
    hub.pass(UNATTENDED);
    assert_eq!(hub.take(1), []);
    assert!(!hub.broker.is_closing(1));
}
