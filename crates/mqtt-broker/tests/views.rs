//! Views: each grant sees a topic as its owner chose for it, whichever way the values come.

mod hub;

use hub::{Hub, OK, Seen, app, connect, device, publish, view, viewing, will};
use mqtt_broker::{Access, Limits, Policy};
use mqtt_wire::{Property, Publish, QoS, Subscription};
use views::View;

const DEVICE: usize = 1;
const ONE: usize = 2;
const OTHER: usize = 3;

const ROUND: &str = r#"{"kind":"coarsening","round":5}"#;
const HIGH: &str = r#"{"kind":"filter","above":30}"#;
const MEAN: &str = r#"{"kind":"summary","window_s":10,"min_samples":3,"statistics":["count","mean"]}"#;

fn sees(json: &str) -> Access {
    viewing("L", &[("t", view(json))], &[])
}

/// A device and two apps that see the same topic, each in its way; all are connected, the apps have subscribed.
fn two(one: Access, other: Access, filter: &str, qos: QoS) -> Hub {
    let mut hub = Hub::with(Limits::PERSONAL, Policy::Granted(None));
    hub.now = 1_000_000;
    hub.grant(&[("dev", device("L")), ("one", one), ("other", other)]);
    for (id, sid) in [(DEVICE, "dev"), (ONE, "one"), (OTHER, "other")] {
        hub.lasting(id, sid, false);
    }
    for id in [ONE, OTHER] {
        hub.subscribe(id, &[Subscription::new(filter, qos)]);
    }
    hub
}

fn values(hub: &mut Hub, values: &[&str]) {
    for value in values {
        hub.publish(DEVICE, publish("d/L/t", value, 0, 0));
    }
}

/// The payloads of the messages among what was seen.
fn payloads(seen: &[Seen]) -> Vec<&str> {
    let mut payloads = Vec::new();
    for seen in seen {
        if let Seen::Message { payload, .. } = seen {
            payloads.push(payload.as_str());
        }
    }
    payloads
}

#[test]
fn two_apps_with_different_views_of_one_topic_see_each_their_own() {
    let mut hub = two(sees(ROUND), sees(HIGH), "#", QoS::AtMostOnce);
    values(&mut hub, &["21.7", "33.3", "on", "{\"t\":31.1}"]);
    assert_eq!(payloads(&hub.take(ONE)), ["20", "35", "{\"t\":30}"]);
    assert_eq!(payloads(&hub.take(OTHER)), ["33.3"]);

    let mut hub = two(sees(MEAN), app("L", &["t"], &[]), "d/+/t", QoS::AtMostOnce);
    values(&mut hub, &["20", "21", "25"]);
    assert_eq!(hub.take(ONE), []);
    assert_eq!(payloads(&hub.take(OTHER)), ["20", "21", "25"]);
    hub.pass(10);
    assert_eq!(hub.take(ONE), [Seen::message("d/L/t", r#"{"count":3,"from":1000,"mean":22,"to":1010}"#)]);
    assert_eq!(hub.take(OTHER), [], "a summary is for its own grant only");
}

#[test]
fn a_window_with_too_few_is_never_seen_and_a_late_tick_mixes_none() {
    let mut hub = two(sees(MEAN), app("L", &["t"], &[]), "#", QoS::AtMostOnce);
    values(&mut hub, &["20", "on", "21"]);
    hub.pass(10);
    assert_eq!(hub.take(ONE), []);
    values(&mut hub, &["1", "2", "3"]);
    // The window has ended, but nobody has called `tick`.
    hub.now += 10_000;
    values(&mut hub, &["900"]);
    assert_eq!(payloads(&hub.take(ONE)), [r#"{"count":3,"from":1010,"mean":2,"to":1020}"#]);
    hub.pass(100);
    assert_eq!(hub.take(ONE), []);
}

#[test]
fn one_publication_is_one_sample_however_many_sessions_and_filters_there_are() {
    let mut hub = two(sees(MEAN), sees(r#"{"kind":"filter","interval_s":60}"#), "#", QoS::AtMostOnce);
    for id in [ONE, OTHER] {
        hub.subscribe(id, &[Subscription::new("d/L/+", QoS::AtMostOnce)]);
        hub.subscribe(id, &[Subscription::new("$share/g/d/#", QoS::AtMostOnce)]);
    }
    hub.connect_as(4, "one", connect("second", true, &[]));
    hub.subscribe(4, &[Subscription::new("#", QoS::AtMostOnce)]);
    values(&mut hub, &["1", "2"]);
    hub.pass(10);
    assert_eq!(payloads(&hub.take(ONE)), [""; 0], "two samples, not four or six");
    // Once for the session's own filters, once for its shared one.
    assert_eq!(payloads(&hub.take(OTHER)), ["1", "1"]);
    values(&mut hub, &["1", "2", "3"]);
    hub.pass(10);
    let summary = r#"{"count":3,"from":1010,"mean":2,"to":1020}"#;
    assert_eq!(payloads(&hub.take(ONE)), [summary, summary]);
    assert_eq!(payloads(&hub.take(4)), [summary]);
}

#[test]
fn retained_messages_obey_the_view() {
    let retained = |value| Publish { retain: true, ..publish("d/L/t", value, 1, 1) };
    let mut hub = two(sees(ROUND), sees(HIGH), "nothing", QoS::AtMostOnce);
    let latest = |hub: &mut Hub, id: usize| {
        hub.take(id);
        hub.subscribe(id, &[Subscription::new("#", QoS::AtMostOnce)]);
        let seen = hub.take(id);
        payloads(&seen).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    hub.publish(DEVICE, retained("33.3"));
    assert_eq!(latest(&mut hub, ONE), ["35"]);
    assert_eq!(latest(&mut hub, OTHER), ["33.3"]);
    hub.publish(DEVICE, retained("21.7"));
    assert_eq!(latest(&mut hub, ONE), ["20"]);
    assert_eq!(latest(&mut hub, OTHER), ["33.3"], "the last one that the filter let through");
    hub.publish(DEVICE, retained(""));
    assert_eq!((latest(&mut hub, ONE).len(), latest(&mut hub, OTHER).len()), (0, 0));
    assert_eq!(hub.broker.counts().retained, 0);

    let mut hub = two(sees(MEAN), sees(ROUND), "nothing", QoS::AtMostOnce);
    for value in ["1", "2", "6"] {
        hub.publish(DEVICE, retained(value));
    }
    assert_eq!(latest(&mut hub, ONE), [""; 0]);
    hub.pass(10);
    let summary = r#"{"count":3,"from":1000,"mean":3,"to":1010}"#;
    assert_eq!(latest(&mut hub, ONE), [summary]);
    assert_eq!(latest(&mut hub, OTHER), ["5"]);
    // What is deleted does not come back with the window that was open.
    for value in ["1", "2", "6", ""] {
        hub.publish(DEVICE, retained(value));
    }
    hub.pass(10);
    assert_eq!(latest(&mut hub, ONE), [""; 0]);
}

#[test]
fn queued_messages_obey_the_view() {
    let mut hub = two(sees(ROUND), sees(MEAN), "#", QoS::AtLeastOnce);
    hub.cut(ONE);
    hub.cut(OTHER);
    for value in ["21", "23", "34"] {
        hub.publish(DEVICE, publish("d/L/t", value, 1, 1));
    }
    hub.pass(10);
    assert_eq!(hub.broker.counts().queued, 4);
    hub.lasting(ONE, "one", true);
    assert_eq!(payloads(&hub.take(ONE)), ["20", "25", "35"]);
    hub.lasting(OTHER, "other", true);
    let summary = r#"{"count":3,"from":1000,"mean":26,"to":1010}"#;
    assert_eq!(hub.take(OTHER), [Seen::qos("d/L/t", summary, 1, 1)]);
}

#[test]
fn shared_subscriptions_obey_the_view_and_take_fair_turns() {
    let mut hub = two(sees(HIGH), app("L", &["t"], &[]), "$share/g/#", QoS::AtMostOnce);
    hub.connect_as(4, "one", connect("second", true, &[]));
    hub.subscribe(4, &[Subscription::new("$share/g/#", QoS::AtMostOnce)]);
    hub.take(4);
    // Every second value is not shown: that takes nobody's turn.
    values(&mut hub, &["31", "1", "32", "2", "33", "3", "34", "4"]);
    let (first, second) = (hub.take(ONE), hub.take(4));
    assert_eq!((payloads(&first).len(), payloads(&second).len()), (2, 2));
    let mut all = [payloads(&first), payloads(&second)].concat();
    all.sort_unstable();
    assert_eq!(all, ["31", "32", "33", "34"]);
    assert_eq!(hub.take(OTHER).len(), 8);
}

#[test]
fn wills_obey_the_view() {
    let mut hub = two(sees(ROUND), sees(HIGH), "#", QoS::AtMostOnce);
    for (id, value) in [(4, "17.2"), (5, "gone")] {
        let will = Some(will("d/L/t", value, &[]));
        hub.connect_as(id, "dev", mqtt_wire::Connect { will, ..connect(value, true, &[]) });
        hub.take(id);
        hub.cut(id);
    }
    assert_eq!(payloads(&hub.take(ONE)), ["15"]);
    assert_eq!(payloads(&hub.take(OTHER)), [""; 0]);
}

#[test]
fn qos_2_obeys_the_view_and_one_sent_again_is_no_second_sample() {
    let mut hub = two(sees(MEAN), sees(ROUND), "#", QoS::ExactlyOnce);
    for id in 1..=2 {
        hub.publish(DEVICE, publish("d/L/t", "12", 2, id));
        hub.publish(DEVICE, Publish { dup: true, ..publish("d/L/t", "12", 2, id) });
    }
    hub.pass(10);
    assert_eq!(hub.take(ONE), [], "two samples, not four");
    assert_eq!(hub.take(OTHER), [Seen::qos("d/L/t", "10", 2, 1), Seen::qos("d/L/t", "10", 2, 2)]);
    assert!(hub.take(DEVICE).iter().all(|seen| matches!(seen, Seen::PubRec(_, OK))));
}

#[test]
fn a_changed_view_is_obeyed_from_its_change_on() {
    let raw = || app("L", &["t"], &[]);
    let mut hub = two(raw(), sees(MEAN), "#", QoS::AtLeastOnce);
    hub.publish(DEVICE, Publish { retain: true, ..publish("d/L/t", "21.7", 1, 1) });
    assert_eq!(payloads(&hub.take(ONE)), ["21.7"], "in flight");
    hub.publish(DEVICE, publish("d/L/t", "21.8", 1, 2));
    // One message is in flight, one encoded and not written, then one waits; the other app has a window open.
    hub.cut(ONE);
    hub.publish(DEVICE, publish("d/L/t", "21.9", 1, 3));
    let one_minute = MEAN.replace("\"window_s\":10", "\"window_s\":60");
    hub.grant(&[("dev", device("L")), ("one", sees(ROUND)), ("other", sees(&one_minute))]);
    assert_eq!(
        (hub.broker.counts().queued, hub.broker.counts().retained),
        (2, 0),
        "ids in flight stay taken"
    );
    hub.lasting(ONE, "one", true);
    assert_eq!(hub.take(ONE), []);
    hub.subscribe(ONE, &[Subscription::new("d/#", QoS::AtMostOnce)]);
    assert_eq!(hub.take(ONE), []);
    hub.pass(10);
    assert_eq!(hub.take(OTHER), [], "what the old window held is gone");
    values(&mut hub, &["21.7"]);
    assert_eq!(payloads(&hub.take(ONE)), ["20"]);

    // Back to raw: what was rounded is not taken for raw, and what was not seen then is not seen now.
    hub.publish(DEVICE, Publish { retain: true, ..publish("d/L/t", "22.2", 1, 4) });
    hub.take(ONE);
    hub.grant(&[("dev", device("L")), ("one", raw()), ("other", sees(&one_minute))]);
    hub.subscribe(ONE, &[Subscription::new("d/#", QoS::AtMostOnce)]);
    assert_eq!(hub.take(ONE), []);
}

#[test]
fn encoded_bytes_of_an_old_view_are_not_written() {
    let mut hub = two(app("L", &["t"], &[]), sees(ROUND), "#", QoS::AtMostOnce);
    values(&mut hub, &["21.7"]);
    hub.grant(&[("dev", device("L")), ("one", sees(ROUND)), ("other", sees(ROUND))]);
    assert_eq!(hub.take(ONE), []);
    assert_eq!(payloads(&hub.take(OTHER)), ["20"], "an unchanged view keeps what is its own");
}

#[test]
fn without_consent_nothing_is_windowed() {
    let mut hub = two(viewing("L", &[("other", view(MEAN))], &[]), device("M"), "#", QoS::AtMostOnce);
    values(&mut hub, &["1", "2", "3"]);
    // Consent comes within the same window, and sees what comes after it only.
    hub.grant(&[("dev", device("L")), ("one", sees(MEAN))]);
    values(&mut hub, &["7", "8"]);
    hub.pass(10);
    assert_eq!(hub.take(ONE), []);
    values(&mut hub, &["7", "8", "9"]);
    hub.grant(&[("dev", device("L"))]);
    hub.grant(&[("dev", device("L")), ("one", sees(MEAN))]);
    hub.lasting(ONE, "one", false);
    hub.subscribe(ONE, &[Subscription::new("#", QoS::AtMostOnce)]);
    hub.pass(10);
    assert_eq!(hub.take(ONE), [], "a window goes with its grant");
    values(&mut hub, &["7", "8", "9"]);
    hub.grant(&[("one", sees(MEAN))]);
    hub.pass(10);
    assert_eq!(hub.take(ONE), [], "and with its device");
}

#[test]
fn what_a_view_makes_carries_no_properties() {
    let mut hub = two(sees(ROUND), sees(HIGH), "#", QoS::AtMostOnce);
    let properties = [Property::UserProperty("exactly", "31.4"), Property::MessageExpiryInterval(60)];
    let properties = mqtt_wire::Properties::list(&properties);
    hub.publish(DEVICE, Publish { properties, ..publish("d/L/t", "31.4", 0, 0) });
    let told = |hub: &Hub, id| String::from_utf8_lossy(hub.broker.output(id)).into_owned();
    assert!(!told(&hub, ONE).contains("31.4"), "rounding hides it there, too");
    assert!(told(&hub, OTHER).contains("exactly"), "what is let through is as it was sent");
}

#[test]
fn beyond_the_limit_nothing_is_shown_and_that_is_counted() {
    let limits = Limits { lenses: 2, grant_share: 2, ..Limits::PERSONAL };
    let mut hub = Hub::with(limits, Policy::Granted(None));
    let both = |json: &str| viewing("L", &[("t", view(json)), ("u", view(json))], &[]);
    hub.grant(&[("dev", device("L")), ("one", both(HIGH)), ("other", both(ROUND))]);
    for (id, sid) in [(DEVICE, "dev"), (ONE, "one"), (OTHER, "other")] {
        hub.lasting(id, sid, false);
        hub.subscribe(id, &[Subscription::new("#", QoS::AtMostOnce)]);
    }
    hub.publish(DEVICE, publish("d/L/t", "31", 0, 0));
    hub.publish(DEVICE, publish("d/L/u", "31", 0, 0));
    assert_eq!(hub.take(ONE), [Seen::message("d/L/t", "31")]);
    assert_eq!(hub.take(OTHER).len(), 2, "a view without a memory needs no place");
    assert_eq!(hub.broker.counts().dropped, 1);
    hub.grant(&[("dev", device("L")), ("one", viewing("L", &[("u", view(HIGH)), ("t", View::Raw)], &[]))]);
    hub.publish(DEVICE, publish("d/L/u", "32", 0, 0));
    assert_eq!(hub.take(ONE), [Seen::message("d/L/u", "32")], "its place is free again");
}
