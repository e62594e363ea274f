//! Shadows: who sees, sets and is told what, when, and in which order.

#[path = "hub/home.rs"]
mod home;
mod hub;

use home::{
    APP, CONFLICT, DENIED, DEVICE, EMPTY, MALFORMED, OTHER, QUOTA, delta, desire, document, flagged, home,
    report, retained, subscription, usual,
};
use hub::{Hub, OK, Seen, app, connect, publish};
use mqtt_broker::{Limits, Policy};
use mqtt_wire::{
    Connect, Filters, Packet, Properties, Property, Publish, RetainHandling, Subscribe, Subscription,
    Version, frame_len,
};

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
