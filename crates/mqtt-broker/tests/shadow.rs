//! Shadows: who sees, sets and is told what, and what is kept of it.

mod hub;

use hub::{Hub, OK, Seen, app, connect, device, publish, view, viewing, will};
use mqtt_broker::{Access, Limits, Policy};
use mqtt_wire::{
    Connect, Filters, Packet, Properties, Property, Publish, QoS, ReasonCode, RetainHandling, Subscribe,
    Subscription, Version, frame_len,
};
use views::View;

const DENIED: ReasonCode = ReasonCode::NOT_AUTHORIZED;
const CONFLICT: ReasonCode = ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR;
const QUOTA: ReasonCode = ReasonCode::QUOTA_EXCEEDED;
const MALFORMED: ReasonCode = ReasonCode::PAYLOAD_FORMAT_INVALID;

const DEVICE: usize = 1;
const APP: usize = 2;
const OTHER: usize = 3;

fn subscription(filter: &str, qos: u8) -> Subscription<'_> {
    Subscription::new(filter, QoS::from_bits(qos).expect("a QoS"))
}

/// A device `L` and two apps, all connected and nothing subscribed.
fn home(grants: &[(&str, Access)]) -> Hub {
    let mut hub = Hub::with(Limits::PERSONAL, Policy::Granted(None));
    hub.grant(grants);
    for (id, sid) in [(DEVICE, "dev"), (APP, "app"), (OTHER, "other")] {
        if grants.iter().any(|(granted, _)| *granted == sid) {
            hub.lasting(id, sid, false);
        }
    }
    hub
}

fn usual() -> [(&'static str, Access); 3] {
    [
        ("dev", device("L")),
        ("app", app("L", &["t", "heater"], &["heater", "fan"])),
        ("other", app("L", &["u"], &["heater"])),
    ]
}

fn report(hub: &mut Hub, patch: &str) {
    hub.publish(DEVICE, publish("s/L/reported", patch, 1, 7));
    assert_eq!(hub.take_one(DEVICE), Seen::PubAck(7, OK));
}

/// Publishes and answers with the code; what came before the acknowledgement is left out.
fn desire(hub: &mut Hub, id: usize, patch: &str) -> ReasonCode {
    hub.publish(id, publish("s/L/desired", patch, 1, 7));
    match hub.take(id).pop() {
        Some(Seen::PubAck(7, reason)) => reason,
        other => panic!("no PUBACK but {other:?}"),
    }
}

fn retained(topic: &str, payload: &str) -> Seen {
    flagged(Seen::message(topic, payload), true)
}

fn flagged(seen: Seen, flag: bool) -> Seen {
    match seen {
        Seen::Message { topic, payload, qos, id, dup, ids, .. } => {
            Seen::Message { topic, payload, qos, id, dup, retain: flag, ids }
        }
        other => other,
    }
}

fn document(payload: &str) -> Seen {
    Seen::message("s/L", payload)
}

fn delta(payload: &str) -> Seen {
    Seen::message("s/L/delta", payload)
}

const EMPTY: &str = r#"{"version":0,"reported":{},"desired":{},"delta":{}}"#;

#[test]
fn each_is_told_what_it_may_see() {
    let mut hub = home(&usual());
    assert_eq!(hub.subscribe(DEVICE, &[subscription("s/L/delta", 0)]), Seen::SubAck(vec![0]));
    assert_eq!(hub.take(DEVICE), [], "nothing was ever desired");
    for id in [APP, OTHER] {
        assert_eq!(hub.subscribe(id, &[subscription("s/+", 0)]), Seen::SubAck(vec![0]));
        assert_eq!(hub.take(id), [retained("s/L", EMPTY)]);
    }
    report(&mut hub, r#"{"t":21.5,"secret":"x"}"#);
    assert_eq!(hub.take(OTHER), [], "nothing for it to see");
    assert_eq!(hub.take(APP), [document(r#"{"version":0,"reported":{"t":21.5},"desired":{},"delta":{}}"#)]);
    report(&mut hub, r#"{"t":21.5}"#);
    assert_eq!(hub.take(APP), [], "nothing has changed");

    hub.publish(APP, publish("s/L/desired", r#"{"heater":"on","fan":2}"#, 1, 1));
    let seen = r#"{"version":2,"reported":{"t":21.5},"desired":{"fan":2,"heater":"on"},"delta":{"fan":2,"heater":"on"}}"#;
    assert_eq!(hub.take(APP), [document(seen), Seen::PubAck(1, OK)], "the document comes first");
    let seen = r#"{"version":1,"reported":{},"desired":{"heater":"on"},"delta":{"heater":"on"}}"#;
    assert_eq!(hub.take(OTHER), [document(seen)]);
    assert_eq!(hub.take(DEVICE), [delta(r#"{"fan":2,"heater":"on"}"#)]);

    hub.publish(DEVICE, publish("s/L/reported", r#"{"heater":"on"}"#, 0, 0));
    assert_eq!(hub.take(DEVICE), [delta(r#"{"fan":2}"#)]);
    let seen = r#"{"version":2,"reported":{"heater":"on","t":21.5},"desired":{"fan":2,"heater":"on"},"delta":{"fan":2}}"#;
    assert_eq!(hub.take(APP), [document(seen)]);
    let seen = r#"{"version":1,"reported":{},"desired":{"heater":"on"},"delta":{}}"#;
    assert_eq!(
        hub.take(OTHER),
        [document(seen)],
        "what it commands is done; what was reported it may not read"
    );
    assert_eq!(desire(&mut hub, APP, r#"{"desired":{"fan":null}}"#), OK);
    assert_eq!(hub.take(DEVICE), [delta("{}")]);
    assert_eq!(hub.take(OTHER), [], "the fan is not its to see");
}

#[test]
fn wrong_roles_and_wrong_payloads_are_refused() {
    let mut hub = home(&usual());
    for (id, topic, payload, code) in [
        (DEVICE, "s/L/desired", "{}", DENIED),
        (DEVICE, "s/L/delta", "{}", DENIED),
        (DEVICE, "s/L", "{}", DENIED),
        (DEVICE, "s/M/reported", "{}", DENIED),
        (DEVICE, "s/L/reported/t", "1", DENIED),
        (APP, "s/L/reported", "{}", DENIED),
        (APP, "s/M/desired", "{}", DENIED),
        (APP, "s/L/desired", r#"{"heater":1,"t":1}"#, DENIED),
        (OTHER, "s/L/desired", r#"{"fan":1}"#, DENIED),
        (APP, "s/L/desired", "on", MALFORMED),
        (APP, "s/L/desired", "[1]", MALFORMED),
        (APP, "s/L/desired", "", MALFORMED),
        (DEVICE, "s/L/reported", "21.5", MALFORMED),
        (DEVICE, "s/L/reported", "{\"t\":", MALFORMED),
    ] {
        hub.publish(id, publish(topic, payload, 1, 1));
        assert_eq!(hub.take(id), [Seen::PubAck(1, code)], "{topic} {payload}");
        hub.publish(id, publish(topic, payload, 2, 1));
        assert_eq!(hub.take(id), [Seen::PubRec(1, code)], "{topic} {payload}");
    }
    let filters = ["s/L", "s/+/delta", "s/L/delta", "s/L/#"].map(|filter| subscription(filter, 0));
    assert_eq!(hub.subscribe(DEVICE, &filters), Seen::SubAck(vec![0x87, 0x87, 0, 0]));
    assert_eq!(hub.subscribe(APP, &[subscription("s/#", 0)]), Seen::SubAck(vec![0]));
    assert_eq!(hub.take(APP), [retained("s/L", EMPTY)], "nothing was applied");
    assert_eq!((hub.broker.counts().retained, hub.broker.counts().queued), (0, 0));
}

#[test]
fn limits_are_the_quota_code() {
    let mut hub = home(&usual());
    let long = |name: &str, length: usize| format!(r#"{{"{name}":"{}"}}"#, "x".repeat(length));
    assert_eq!(desire(&mut hub, APP, &long("heater", 5_000)), OK);
    assert_eq!(desire(&mut hub, APP, &long("fan", 5_000)), QUOTA);
    assert_eq!(desire(&mut hub, APP, &long("fan", 3_000)), OK);
    assert_eq!(desire(&mut hub, APP, &format!(r#"{{"fan":{}{}}}"#, "[".repeat(16), "]".repeat(16))), QUOTA);
    assert_eq!(desire(&mut hub, APP, &format!(r#"{{"fan":{}{}}}"#, "[".repeat(15), "]".repeat(15))), OK);
    report(&mut hub, &long("t", 5_000));
    report(&mut hub, &long("secret", 5_000));
    hub.publish(DEVICE, publish("s/L/reported", &long("heater", 5_000), 1, 1));
    assert_eq!(hub.take(DEVICE), [Seen::PubAck(1, QUOTA)]);
    report(&mut hub, r#"{"t":null}"#);
    report(&mut hub, &long("heater", 5_000));
}

#[test]
fn of_two_that_compare_and_set_one_wins() {
    let mut hub = home(&usual());
    hub.subscribe(APP, &[subscription("s/L", 1)]);
    hub.subscribe(OTHER, &[subscription("s/L", 1)]);
    assert_eq!(desire(&mut hub, APP, r#"{"fan":1}"#), OK);
    assert_eq!(desire(&mut hub, OTHER, r#"{"$version":0,"heater":"off"}"#), OK);
    assert_eq!(desire(&mut hub, APP, r#"{"$version":1,"heater":"on"}"#), CONFLICT);
    assert_eq!(desire(&mut hub, APP, r#"{"$version":2,"heater":"on"}"#), OK);
    assert_eq!(desire(&mut hub, OTHER, r#"{"$version":1,"heater":"off"}"#), CONFLICT);
    assert_eq!(desire(&mut hub, OTHER, r#"{"$version":2,"desired":{"heater":"off"}}"#), OK);
    assert_eq!(desire(&mut hub, OTHER, r#"{"$version":"3","heater":"off"}"#), MALFORMED);

    hub.take(APP);
    hub.publish(APP, publish("s/L/desired", r#"{"$version":0}"#, 1, 1));
    match Packet::decode(hub.broker.output(APP), Version::V5) {
        Ok(Packet::PubAck(ack)) => {
            assert_eq!(ack.reason, CONFLICT);
            assert_eq!(ack.properties.reason_string(), Some("not the current version"));
        }
        other => panic!("{other:?}"),
    }
    hub.take(APP);
    let modest = [Property::RequestProblemInformation(false)];
    hub.connect_as(5, "app", connect("modest", true, &modest));
    hub.take(5);
    hub.publish(5, publish("s/L/desired", r#"{"$version":0}"#, 1, 1));
    match Packet::decode(hub.broker.output(5), Version::V5) {
        Ok(Packet::PubAck(ack)) => assert_eq!(ack.properties.reason_string(), None),
        other => panic!("{other:?}"),
    }
}

/// A client of either version.
struct Client<'a> {
    hub: &'a mut Hub,
    id: usize,
    version: Version,
}

impl Client<'_> {
    fn connect(&mut self, sid: &str, clean: bool) {
        let identity = mqtt_broker::Identity { sid: sid.into(), client: "client".into() };
        self.hub.broker.open(self.id, Some(identity), self.hub.now);
        let lasting = [Property::SessionExpiryInterval(60)];
        self.send(&Packet::Connect(Connect { version: self.version, ..connect("client", clean, &lasting) }));
    }

    fn send(&mut self, packet: &Packet<'_>) {
        self.hub.broker.receive(self.id, &packet.to_vec(self.version), self.hub.now);
    }

    fn subscribe(&mut self, filter: &str) {
        let list = [subscription(filter, 1)];
        let filters = Filters::list(&list);
        self.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::EMPTY, filters }));
    }

    /// Packets in short: an exclamation mark for the retain flag, and the version that a delta has.
    fn take(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let output = self.hub.broker.output(self.id);
            let Ok(Some(length)) = frame_len(output, usize::MAX) else { return seen };
            let packet = Packet::decode(&output[..length], self.version).expect("a packet");
            seen.push(match &packet {
                Packet::Publish(publish) => {
                    let payload = String::from_utf8_lossy(publish.payload);
                    let retain = if publish.retain { "!" } else { "" };
                    let version = publish.properties.iter().find_map(|property| match property {
                        Property::UserProperty("version", version) => Some(format!(" v{version}")),
                        _ => None,
                    });
                    format!("{}{retain} {payload}{}", publish.topic, version.unwrap_or_default())
                }
                Packet::ConnAck(connack) => format!("CONNACK {}", connack.session_present),
                Packet::SubAck(suback) => format!("SUBACK {:?}", suback.codes),
                Packet::PubAck(_) => "PUBACK".to_owned(),
                other => format!("{other:?}"),
            });
            self.hub.broker.written(self.id, length, self.hub.now);
        }
    }
}

#[test]
fn before_mqtt_5_the_loser_gets_the_current_document() {
    let mut hub = home(&usual());
    assert_eq!(desire(&mut hub, OTHER, r#"{"heater":1}"#), OK);
    let mut old = Client { hub: &mut hub, id: 8, version: Version::V311 };
    old.connect("app", true);
    old.send(&Packet::Publish(publish("s/L/desired", r#"{"$version":0,"heater":2}"#, 1, 1)));
    let current = r#"s/L {"version":1,"reported":{},"desired":{"heater":1},"delta":{"heater":1}}"#;
    assert_eq!(old.take(), ["CONNACK false", current, "PUBACK"]);
    old.send(&Packet::Publish(publish("s/L/desired", r#"{"$version":1,"heater":2}"#, 1, 1)));
    assert_eq!(old.take(), ["PUBACK"]);
}

#[test]
fn a_device_that_comes_back_learns_what_it_missed() {
    for (version, clean) in
        [(Version::V311, false), (Version::V311, true), (Version::V5, false), (Version::V5, true)]
    {
        let mut hub = home(&usual());
        let mut client = Client { hub: &mut hub, id: 8, version };
        client.connect("dev", clean);
        client.subscribe("s/L/#");
        assert_eq!(client.take(), ["CONNACK false", "SUBACK [1]"]);
        hub.cut(8);
        assert_eq!(desire(&mut hub, APP, r#"{"heater":"on"}"#), OK);
        assert_eq!(desire(&mut hub, APP, r#"{"fan":3}"#), OK);
        assert_eq!(hub.broker.counts().queued, 0, "nothing waits");
        let suffix = if version == Version::V5 { " v2" } else { "" };
        let missed = format!(r#"s/L/delta! {{"fan":3,"heater":"on"}}{suffix}"#);
        let mut client = Client { hub: &mut hub, id: 8, version };
        client.connect("dev", clean);
        if clean {
            client.subscribe("s/L/#");
            assert_eq!(client.take(), ["CONNACK false", "SUBACK [1]", &missed]);
        } else {
            // Not acknowledged, and so sent once more, as it is then.
            assert_eq!(client.take(), ["CONNACK true", &missed]);
            hub.cut(8);
            assert_eq!(desire(&mut hub, APP, r#"{"fan":null,"heater":null}"#), OK);
            let mut client = Client { hub: &mut hub, id: 8, version };
            client.connect("dev", clean);
            let suffix = if version == Version::V5 { " v4" } else { "" };
            assert_eq!(client.take(), ["CONNACK true".to_owned(), format!("s/L/delta! {{}}{suffix}")]);
        }
    }
}

#[test]
fn an_app_that_comes_back_gets_the_newest_document_once() {
    let mut hub = home(&usual());
    let identifier = [Property::SubscriptionIdentifier(5)];
    hub.subscribe_with(APP, &[subscription("#", 1), subscription("$share/g/s/+", 1)], &identifier);
    hub.subscribe_with(APP, &[subscription("s/L/#", 0)], &[Property::SubscriptionIdentifier(6)]);
    hub.take(APP);
    hub.cut(APP);
    for value in 1..4 {
        report(&mut hub, &format!(r#"{{"t":{value}}}"#));
    }
    hub.lasting(APP, "app", true);
    let newest = r#"{"version":0,"reported":{"t":3},"desired":{},"delta":{}}"#;
    let seen = Seen::Message {
        topic: "s/L".into(),
        payload: newest.into(),
        qos: 1,
        id: 1,
        dup: false,
        retain: true,
        ids: vec![5, 6],
    };
    assert_eq!(hub.take(APP), [seen]);
    hub.cut(APP);
    hub.lasting(APP, "app", true);
    assert_eq!(hub.take(APP).len(), 1, "what was not acknowledged is not sent twice");
}

#[test]
fn retain_handling_is_obeyed() {
    let mut hub = home(&usual());
    report(&mut hub, r#"{"t":1}"#);
    let now = |t: u32| format!(r#"{{"version":0,"reported":{{"t":{t}}},"desired":{{}},"delta":{{}}}}"#);
    let with = |handling| Subscription { retain_handling: handling, ..subscription("s/L", 0) };
    assert_eq!(hub.subscribe(APP, &[with(RetainHandling::DontSend)]), Seen::SubAck(vec![0]));
    hub.publish(DEVICE, publish("s/L/reported", r#"{"u":1}"#, 0, 0));
    assert_eq!(hub.take(APP), [], "what is not its to see is no change");
    report(&mut hub, r#"{"t":2}"#);
    assert_eq!(hub.take(APP), [document(&now(2))]);
    hub.subscribe(APP, &[with(RetainHandling::SendIfNew)]);
    assert_eq!(hub.take(APP), []);
    hub.subscribe(APP, &[with(RetainHandling::Send)]);
    assert_eq!(hub.take(APP), [retained("s/L", &now(2))]);
    hub.subscribe(APP, &[subscription("$share/g/s/+", 0)]);
    assert_eq!(hub.take(APP), [], "never for shared subscriptions");
}

#[test]
fn who_asks_for_everything_gets_no_blank_documents() {
    let mut hub = home(&usual());
    hub.subscribe(APP, &[subscription("#", 0)]);
    hub.subscribe(OTHER, &[subscription("+/L", 0)]);
    assert_eq!((hub.take(APP), hub.take(OTHER)), (vec![], vec![]));
    report(&mut hub, r#"{"t":1}"#);
    let seen = r#"{"version":0,"reported":{"t":1},"desired":{},"delta":{}}"#;
    assert_eq!((hub.take(APP), hub.take(OTHER)), (vec![document(seen)], vec![]));
    report(&mut hub, r#"{"t":null}"#);
    assert_eq!(hub.take(APP), [document(EMPTY)], "but it is told of the change to nothing");
    hub.subscribe(APP, &[subscription("#", 0)]);
    assert_eq!(hub.take(APP), []);
}

#[test]
fn one_member_of_a_shared_group_is_told() {
    let mut hub = home(&usual());
    hub.connect_as(5, "app", connect("second", true, &[]));
    hub.take(5);
    for id in [APP, 5] {
        hub.subscribe(id, &[subscription("$share/g/s/+", 0)]);
    }
    let mut told = Vec::new();
    for value in 0..4 {
        report(&mut hub, &format!(r#"{{"t":{value}}}"#));
        told.push((hub.take(APP).len(), hub.take(5).len()));
    }
    assert_eq!(told, [(1, 0), (0, 1), (1, 0), (0, 1)]);
    hub.cut(5);
    report(&mut hub, r#"{"t":9}"#);
    report(&mut hub, r#"{"t":10}"#);
    assert_eq!(hub.take(APP).len(), 2);
}

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

fn all() -> [Subscription<'static>; 1] {
    [subscription("s/#", 0)]
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
fn a_slow_client_gets_the_newest_when_it_reads_again() {
    let limits = Limits { output: 300, ..Limits::PERSONAL };
    let mut hub = Hub::with(limits, Policy::Granted(None));
    hub.grant(&usual());
    hub.lasting(DEVICE, "dev", false);
    hub.lasting(APP, "app", false);
    hub.subscribe(APP, &[subscription("s/L", 0)]);
    for value in 0..50 {
        report(&mut hub, &format!(r#"{{"t":{value}}}"#));
    }
    let told = hub.take(APP);
    assert!(told.len() < 10, "{told:?}");
    let newest = r#"{"version":0,"reported":{"t":49},"desired":{},"delta":{}}"#;
    assert_eq!(told.last(), Some(&document(newest)));
}

#[test]
fn a_client_that_does_not_acknowledge_gets_the_newest_when_it_does() {
    let mut hub = home(&usual());
    let window = [Property::ReceiveMaximum(1)];
    hub.connect_as(5, "app", connect("narrow", true, &window));
    hub.take(5);
    hub.subscribe(5, &[subscription("s/L", 2)]);
    assert_eq!(hub.take(5), [flagged(Seen::qos("s/L", EMPTY, 1, 1), true)]);
    for value in 0..3 {
        report(&mut hub, &format!(r#"{{"t":{value}}}"#));
    }
    assert_eq!(hub.take(5), []);
    hub.puback(5, 1);
    let newest = r#"{"version":0,"reported":{"t":2},"desired":{},"delta":{}}"#;
    assert_eq!(hub.take(5), [Seen::qos("s/L", newest, 1, 2)]);
    hub.puback(5, 2);
    assert_eq!(hub.take(5), []);
}

#[test]
fn a_document_that_is_not_written_yet_is_replaced() {
    let mut hub = home(&usual());
    let window = [Property::ReceiveMaximum(1)];
    hub.connect_as(5, "app", connect("narrow", true, &window));
    hub.take(5);
    report(&mut hub, r#"{"t":1,"heater":"off"}"#);
    hub.send(
        5,
        &Packet::Subscribe(Subscribe {
            packet_id: 1,
            properties: Properties::EMPTY,
            filters: Filters::list(&[subscription("s/L", 1)]),
        }),
    );
    let [dev, _, other] = usual();
    hub.grant(&[dev.clone(), ("app", app("L", &["t"], &["heater"])), other.clone()]);
    let narrowed = r#"{"version":0,"reported":{"t":1},"desired":{},"delta":{}}"#;
    let seen = [Seen::SubAck(vec![1]), flagged(Seen::qos("s/L", narrowed, 1, 2), true)];
    assert_eq!(hub.take(5), seen, "with the flag that it had, and its number is free");
    hub.puback(5, 2);
    report(&mut hub, r#"{"t":2}"#);
    assert_eq!(hub.take(5).len(), 1);
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

#[test]
fn in_a_plain_broker_these_are_topics_like_others() {
    let mut hub = Hub::open();
    hub.client(1, "one");
    hub.client(2, "two");
    hub.subscribe(1, &[subscription("s/#", 0)]);
    let plain = Publish { retain: true, ..publish("s/L/desired", "anything", 1, 1) };
    hub.publish(2, plain);
    assert_eq!(hub.take(2), [Seen::PubAck(1, OK)]);
    assert_eq!(hub.take(1), [Seen::message("s/L/desired", "anything")]);
    assert_eq!(hub.broker.counts().retained, 1);
}
