//! Shadows under changing grants and through views: what is not kept, what goes, and what nobody sees.

#[path = "hub/home.rs"]
mod home;
mod hub;

use home::{
    APP, DENIED, DEVICE, EMPTY, OTHER, all, delta, desire, document, home, report, retained, subscription,
    usual,
};
use hub::{Hub, OK, Seen, app, connect, device, publish, view, viewing, will};
use mqtt_wire::Connect;
use views::View;

#[test]
fn what_nobody_may_read_is_acknowledged_and_kept_nowhere() {
    let mut hub = home(&[("dev", device("L")), ("app", app("L", &["other"], &[]))]);
    report(&mut hub, r#"{"t":20,"a":{"b":1}}"#);
    hub.publish(DEVICE, publish("s/L/reported", r#"{"t":21}"#, 2, 2));
    assert_eq!(hub.take(DEVICE), [Seen::PubRec(2, OK)]);
    // The consent comes while the device is connected.
    hub.grant(&[("dev", device("L")), ("app", app("L", &["other", "t", "a"], &["t"]))]);
    hub.subscribe(APP, &all());
    assert_eq!(hub.take(APP), [retained("s/L", EMPTY)]);
    report(&mut hub, r#"{"a":{"c":2}}"#);
    assert_eq!(
        hub.take(APP),
        [document(r#"{"version":0,"reported":{"a":{"c":2}},"desired":{},"delta":{}}"#)],
        "what was reported before the consent is not part of it"
    );
}

#[test]
fn a_later_grant_sees_only_later_reports() {
    let mut hub = home(&usual());
    report(&mut hub, r#"{"t":1,"u":1,"heater":"off"}"#);
    let mut grants = usual().to_vec();
    grants.push(("late", app("L", &["t", "heater"], &["heater"])));
    hub.grant(&grants);
    hub.lasting(4, "late", false);
    hub.subscribe(4, &all());
    assert_eq!(hub.take(4), [retained("s/L", EMPTY)]);
    assert_eq!(desire(&mut hub, APP, r#"{"heater":"off"}"#), OK);
    let unknown = r#"{"version":1,"reported":{},"desired":{"heater":"off"},"delta":{"heater":"off"}}"#;
    assert_eq!(hub.take(4), [document(unknown)], "nor whether it is so already");
    report(&mut hub, r#"{"t":2,"heater":"off"}"#);
    let later = r#"{"version":1,"reported":{"heater":"off","t":2},"desired":{"heater":"off"},"delta":{}}"#;
    assert_eq!(hub.take(4), [document(later)]);
}

#[test]
fn revoking_and_narrowing_take_effect_at_once() {
    let mut hub = home(&usual());
    for id in [APP, OTHER] {
        hub.subscribe(id, &all());
    }
    hub.subscribe(DEVICE, &[subscription("s/L/delta", 0)]);
    report(&mut hub, r#"{"t":1,"u":2,"heater":"off"}"#);
    assert_eq!(desire(&mut hub, APP, r#"{"fan":3}"#), OK);
    assert_eq!(desire(&mut hub, OTHER, r#"{"heater":"on"}"#), OK);
    for id in [DEVICE, APP, OTHER] {
        hub.take(id);
    }
    let [dev, first, other] = usual();
    hub.grant(&[dev.clone(), ("app", app("L", &["t"], &["fan"])), other.clone()]);
    let narrowed = r#"{"version":3,"reported":{"t":1},"desired":{"fan":3},"delta":{"fan":3}}"#;
    assert_eq!(hub.take(APP), [document(narrowed)]);
    assert_eq!((hub.take(OTHER), hub.take(DEVICE)), (vec![], vec![]));
    hub.grant(&[dev.clone(), first.clone(), other.clone()]);
    let again = r#"{"version":4,"reported":{"t":1},"desired":{"fan":3,"heater":"on"},"delta":{"fan":3,"heater":"on"}}"#;
    assert_eq!(hub.take(APP), [document(again)], "a reading that was lost stays lost");
    hub.grant(&[dev.clone(), first.clone()]);
    assert_eq!(hub.take(OTHER), [Seen::Disconnect(DENIED)]);
    assert_eq!(hub.take(DEVICE), [delta(r#"{"fan":3}"#)], "what it desired goes with it");
    let seen = r#"{"version":5,"reported":{"t":1},"desired":{"fan":3},"delta":{"fan":3}}"#;
    assert_eq!(hub.take(APP), [document(seen)]);
    hub.grant(&[dev.clone(), first, other]);
    hub.lasting(OTHER, "other", false);
    hub.subscribe(OTHER, &all());
    assert_eq!(hub.take(OTHER), [retained("s/L", EMPTY)], "u had no other reader");
    // Nobody reads and nobody commands any more.
    hub.grant(&[dev, ("app", app("L", &["x"], &[]))]);
    assert_eq!(hub.take(APP), [document(r#"{"version":6,"reported":{},"desired":{},"delta":{}}"#)]);
    assert_eq!(hub.take(DEVICE), [delta("{}")]);
}

#[test]
fn a_released_device_takes_its_shadow_with_it() {
    let mut hub = home(&usual());
    report(&mut hub, r#"{"t":1}"#);
    assert_eq!(desire(&mut hub, APP, r#"{"heater":"on"}"#), OK);
    let [dev, first, _] = usual();
    hub.grant(std::slice::from_ref(&first));
    hub.subscribe(APP, &[subscription("s/L", 0)]);
    assert_eq!(hub.take(APP), [], "there is no such device");
    assert_eq!(desire(&mut hub, APP, r#"{"heater":"on"}"#), DENIED);
    hub.grant(&[dev, first]);
    hub.lasting(DEVICE, "dev", false);
    hub.subscribe(DEVICE, &[subscription("s/L/delta", 0)]);
    assert_eq!(hub.take(DEVICE), []);
    hub.subscribe(APP, &[subscription("s/L", 0)]);
    assert_eq!(hub.take(APP), [retained("s/L", EMPTY)]);
}

#[test]
fn a_changed_view_takes_the_raw_value_away() {
    let mut hub = home(&usual());
    hub.subscribe(APP, &all());
    report(&mut hub, r#"{"t":21.57,"heater":"off"}"#);
    hub.take(APP);
    let [dev, first, _] = usual();
    let viewed =
        |json: &str| ("app", viewing("L", &[("t", view(json)), ("heater", View::Raw)], &["heater", "fan"]));
    let rounded = viewed(r#"{"kind":"coarsening","round":1}"#);
    let seen = |reported: &str| {
        [document(&format!(r#"{{"version":0,"reported":{reported},"desired":{{}},"delta":{{}}}}"#))]
    };
    hub.grant(&[dev.clone(), rounded.clone()]);
    assert_eq!(hub.take(APP), seen(r#"{"heater":"off"}"#));
    report(&mut hub, r#"{"t":21.57}"#);
    assert_eq!(hub.take(APP), seen(r#"{"heater":"off","t":22}"#));
    report(&mut hub, r#"{"t":21.61}"#);
    assert_eq!(hub.take(APP), [], "the same, as far as it sees");
    hub.grant(&[dev.clone(), rounded]);
    assert_eq!(hub.take(APP), []);
    hub.grant(&[dev.clone(), viewed(r#"{"kind":"coarsening","round":10}"#)]);
    assert_eq!(hub.take(APP), seen(r#"{"heater":"off"}"#), "what another view has shown is gone, too");
    report(&mut hub, r#"{"t":21.57}"#);
    assert_eq!(hub.take(APP), seen(r#"{"heater":"off","t":20}"#));
    hub.grant(&[dev, first]);
    assert_eq!(hub.take(APP), seen(r#"{"heater":"off"}"#));
}

#[test]
fn each_view_shows_its_own() {
    let mut hub = home(&usual());
    let hidden = view(r#"{"kind":"coarsening","round":5,"drop":["where"],"hash":["who"]}"#);
    let high = view(r#"{"kind":"filter","field":"c","above":20}"#);
    hub.grant(&[
        ("dev", device("L")),
        ("app", viewing("L", &[("t", hidden)], &[])),
        ("other", viewing("L", &[("t", high)], &[])),
    ]);
    for id in [APP, OTHER] {
        hub.subscribe(id, &[subscription("s/L", 0)]);
        hub.take(id);
    }
    let told = |hub: &mut Hub, id: usize| match hub.take(id).pop() {
        Some(Seen::Message { payload, .. }) => payload,
        other => panic!("{other:?}"),
    };
    report(&mut hub, r#"{"t":{"c":19.5,"who":"ann","where":{"x":1.5}}}"#);
    let seen = told(&mut hub, APP);
    assert!(seen.contains(r#""c":20"#) && !seen.contains("ann") && !seen.contains("where"), "{seen}");
    assert_eq!(hub.take(OTHER), []);
    // A part of the object: merged into what each has seen.
    report(&mut hub, r#"{"t":{"c":31,"where":{"x":null}}}"#);
    let seen = told(&mut hub, APP);
    assert!(seen.contains(r#""c":30"#) && seen.contains("who") && !seen.contains("where"), "{seen}");
    let high = r#"{"version":0,"reported":{"t":{"c":31,"where":{}}},"desired":{},"delta":{}}"#;
    assert_eq!(told(&mut hub, OTHER), high, "nothing of what was filtered out before");
    report(&mut hub, r#"{"t":null}"#);
    assert_eq!((told(&mut hub, APP), told(&mut hub, OTHER)), (EMPTY.to_owned(), EMPTY.to_owned()));
}

#[test]
fn a_summary_is_reported_when_its_window_ends() {
    let mut hub = home(&usual());
    let mean = view(r#"{"kind":"summary","window_s":10,"min_samples":2,"statistics":["mean"]}"#);
    hub.grant(&[("dev", device("L")), ("app", viewing("L", &[("t", mean)], &[]))]);
    hub.subscribe(APP, &[subscription("s/L", 0)]);
    hub.take(APP);
    for value in [20, 22] {
        report(&mut hub, &format!(r#"{{"t":{value}}}"#));
    }
    hub.subscribe(APP, &[subscription("s/L", 0)]);
    assert_eq!(hub.take(APP), [retained("s/L", EMPTY)], "not yet");
    hub.pass(10);
    let first = r#"{"version":0,"reported":{"t":{"from":0,"mean":21,"to":10}},"desired":{},"delta":{}}"#;
    assert_eq!(hub.take(APP), [document(first)]);
    report(&mut hub, r#"{"t":30}"#);
    hub.pass(10);
    assert_eq!(hub.take(APP), [], "one sample is no summary");
    // A window that has ended is shown before the next report is looked at.
    report(&mut hub, r#"{"t":1}"#);
    report(&mut hub, r#"{"t":2}"#);
    hub.now += 10_000;
    report(&mut hub, r#"{"t":3}"#);
    let second = r#"{"version":0,"reported":{"t":{"from":20,"mean":1.5,"to":30}},"desired":{},"delta":{}}"#;
    assert_eq!(hub.take(APP), [document(second)]);
    // A grant that ends takes its window with it.
    report(&mut hub, r#"{"t":3}"#);
    hub.grant(&[("dev", device("L")), ("app", app("L", &["u"], &[]))]);
    assert_eq!(hub.take(APP), [document(EMPTY)]);
    hub.pass(20);
    assert_eq!(hub.take(APP), []);
}

#[test]
fn a_will_is_a_report_like_any_other() {
    for (readable, expected) in [(true, r#"{"online":false}"#), (false, "{}")] {
        let mut hub = home(&usual());
        let channels: &[&str] = if readable { &["online"] } else { &["t"] };
        hub.grant(&[("dev", device("L")), ("app", app("L", channels, &[]))]);
        hub.subscribe(APP, &all());
        let last = will("s/L/reported", r#"{"online":false}"#, &[]);
        hub.connect_as(5, "dev", Connect { will: Some(last), ..connect("mortal", true, &[]) });
        hub.take(5);
        hub.cut(5);
        hub.subscribe(APP, &all());
        let seen = format!(r#"{{"version":0,"reported":{expected},"desired":{{}},"delta":{{}}}}"#);
        assert_eq!(hub.take(APP).pop(), Some(retained("s/L", &seen)));
        let foreign = will("s/L/desired", "{}", &[]);
        hub.connect_as(5, "dev", Connect { will: Some(foreign), ..connect("mortal", true, &[]) });
        assert_eq!(hub.take(5), [Seen::ConnAck { present: false, reason: DENIED }]);
    }
}

#[test]
fn without_control_everything_is_forgotten() {
    let mut hub = home(&usual());
    report(&mut hub, r#"{"t":1}"#);
    hub.broker.unattended(hub.now);
    hub.pass(301);
    hub.take(APP);
    hub.grant(&usual());
    hub.lasting(APP, "app", false);
    hub.subscribe(APP, &all());
    assert_eq!(hub.take(APP), [retained("s/L", EMPTY)]);
}
