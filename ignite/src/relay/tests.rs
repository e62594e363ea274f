//! The relay rules of design §7, packet by packet, without a socket. What only MQTT 5 has is `v5`'s.

mod v5;

use std::sync::Arc;

use mqtt_wire::{
    Ack, Auth, Disconnect, Filters, Packet, Properties, Property, Publish, QoS, ReasonCode, SubAck,
    Subscribe, Subscription, TopicFilters, UnsubAck, Unsubscribe, Version, frame_len,
};
use proptest::prelude::*;
use service::secret::Key;

use super::exchange::{Exchange, Step, Terms};
use super::outbox::Outbox;
use super::queue::Queue;
use crate::cause::Cause;
use crate::keys::Keys;
use crate::policy::Grant;
use crate::policy::grant::{AppRole, DeviceRole, Role, SharedDevice};

const LABEL: &str = "label-of-device";

fn keys() -> Arc<Keys> {
    Arc::new(Keys::derive(&Key::new([1; 32])))
}

fn grant(role: Role) -> Arc<Grant> {
    let (iss, sub, sid) = ("http://didp".to_owned(), "owner".to_owned(), "sid".to_owned());
    Arc::new(Grant { iss, sub, sid, exp: 1_000, rev: 1, role, state_share: None })
}

fn device(version: Version) -> Exchange {
    let role = DeviceRole { label: LABEL.to_owned(), publish: true, subscribe: true };
    exchange(version, Role::Device(role))
}

fn handle() -> String {
    keys().handle("sid", LABEL)
}

fn app(version: Version) -> Exchange {
    let device = SharedDevice {
        label: LABEL.to_owned(),
        handle: handle(),
        reference: None,
        title: None,
        channels: Vec::new(),
        read: vec!["temperature".to_owned()],
        command: vec!["heater".to_owned()],
        shadow: true,
        view: oauth_wire::View::Raw,
        views: std::collections::BTreeMap::new(),
    };
    exchange(version, Role::App(AppRole::new(true, vec![device])))
}

fn exchange(version: Version, role: Role) -> Exchange {
    Exchange::new(terms(version), keys(), grant(role))
}

fn terms(version: Version) -> Terms {
    Terms {
        version,
        enhanced: true,
        words: false,
        aliases: 0,
        client_packet: 200,
        pcm_packet: 400,
        topic: 100,
    }
}

/// Takes all packets out of a queue and describes them.
fn taken(queue: &mut Queue, version: Version) -> Vec<String> {
    let mut bytes = queue.pending().to_vec();
    queue.take(bytes.len());
    let mut packets = Vec::new();
    while let Some(length) = frame_len(&bytes, usize::MAX).unwrap() {
        let rest = bytes.split_off(length);
        packets.push(format!("{:?}", Packet::decode(&bytes, version).unwrap()));
        bytes = rest;
    }
    packets
}

struct Side {
    version: Version,
}

impl Side {
    /// What the packets look like that are expected.
    fn expects(&self, queue: &mut Queue, expected: &[Packet<'_>]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|packet| {
                let bytes = packet.to_vec(self.version);
                format!("{:?}", Packet::decode(&bytes, self.version).unwrap())
            })
            .collect();
        assert_eq!(taken(queue, self.version), expected);
    }
}

const V5: Side = Side { version: Version::V5 };
const V311: Side = Side { version: Version::V311 };

fn client(exchange: &mut Exchange, packet: &Packet<'_>, version: Version) -> Step {
    from_client(exchange, &packet.to_vec(version))
}

fn from_client(exchange: &mut Exchange, frame: &[u8]) -> Step {
    let mut out = Outbox::default();
    let step = exchange.take_from_client(frame, 0, &mut out);
    queue_up(exchange, frame, &out);
    step
}

fn from_pcm(exchange: &mut Exchange, frame: &[u8]) -> Step {
    let mut out = Outbox::default();
    let step = exchange.take_from_pcm(frame, 0, &mut out);
    queue_up(exchange, frame, &out);
    step
}

/// As if no socket took anything.
fn queue_up(exchange: &mut Exchange, input: &[u8], out: &Outbox) {
    out.to_client.spill(input, 0, &mut exchange.to_client);
    out.to_pcm.spill(input, 0, &mut exchange.to_pcm);
}

fn pcm(exchange: &mut Exchange, packet: &Packet<'_>, version: Version) -> Step {
    from_pcm(exchange, &packet.to_vec(version))
}

fn publish<'a>(qos: QoS, id: u16, topic: &'a str, properties: Properties<'a>) -> Packet<'a> {
    let packet_id = (qos != QoS::AtMostOnce).then_some(id);
    Packet::Publish(Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload: b"1" })
}

fn plain(qos: QoS, id: u16, topic: &str) -> Packet<'_> {
    publish(qos, id, topic, Properties::EMPTY)
}

fn ok(id: u16) -> Ack<'static> {
    Ack::new(id, ReasonCode::SUCCESS)
}

#[test]
fn topic_aliases_are_resolved_on_the_clients_hop() {
    let mut exchange = device(Version::V5);
    let alias = [Property::TopicAlias(3)];
    let set = publish(QoS::AtMostOnce, 0, "d/temperature", Properties::list(&alias));
    let used = publish(QoS::AtMostOnce, 0, "", Properties::list(&alias));
    for packet in [&set, &used] {
        assert_eq!(client(&mut exchange, packet, Version::V5), Step::Continue);
        let topic = format!("d/{LABEL}/temperature");
        V5.expects(&mut exchange.to_pcm, &[plain(QoS::AtMostOnce, 0, &topic)]);
    }
    let unknown = [Property::TopicAlias(4)];
    let unknown = publish(QoS::AtMostOnce, 0, "", Properties::list(&unknown));
    assert_eq!(client(&mut exchange, &unknown, Version::V5), Step::End(Cause::OutOfOrder));
    let beyond = [Property::TopicAlias(17)];
    let beyond = publish(QoS::AtMostOnce, 0, "d/x", Properties::list(&beyond));
    assert_eq!(client(&mut exchange, &beyond, Version::V5), Step::End(Cause::TopicAlias));
}

#[test]
fn a_shadow_has_the_clients_names_and_a_delta_keeps_its_version() {
    let mut thermostat = device(Version::V5);
    let version = [Property::UserProperty("version", "7")];
    let delta = |topic| publish(QoS::AtLeastOnce, 1, topic, Properties::list(&version));
    let from_pcm = format!("s/{LABEL}/delta");
    assert_eq!(pcm(&mut thermostat, &delta(&from_pcm), Version::V5), Step::Continue);
    V5.expects(&mut thermostat.to_client, &[delta("s/delta")]);
    let report = plain(QoS::AtLeastOnce, 2, "s/reported");
    assert_eq!(client(&mut thermostat, &report, Version::V5), Step::Continue);
    V5.expects(&mut thermostat.to_pcm, &[plain(QoS::AtLeastOnce, 2, &format!("s/{LABEL}/reported"))]);

    for side in [V5, V311] {
        let mut app = app(side.version);
        let document = format!("s/{LABEL}");
        let from_pcm = plain(QoS::AtLeastOnce, 1, &document);
        assert_eq!(pcm(&mut app, &from_pcm, side.version), Step::Continue);
        side.expects(&mut app.to_client, &[plain(QoS::AtLeastOnce, 1, &format!("s/{}", handle()))]);
        let denied = format!("s/{}/reported", handle());
        assert_eq!(client(&mut app, &plain(QoS::AtLeastOnce, 3, &denied), side.version), Step::Continue);
        let code = if side.version == Version::V5 { ReasonCode::NOT_AUTHORIZED } else { ReasonCode::SUCCESS };
        side.expects(&mut app.to_client, &[Packet::PubAck(Ack::new(3, code))]);
        assert!(app.to_pcm.is_empty());
    }
}

#[test]
fn refused_filters_get_their_codes_among_the_pcms() {
    let mut exchange = app(Version::V5);
    let wishes =
        ["$SYS/#", "d/#", "c/#", "d/+/temperature"].map(|filter| Subscription::new(filter, QoS::AtLeastOnce));
    let subscribe =
        Subscribe { packet_id: 7, properties: Properties::EMPTY, filters: Filters::list(&wishes) };
    assert_eq!(client(&mut exchange, &Packet::Subscribe(subscribe), Version::V5), Step::Continue);
    let forwarded = [wishes[1], wishes[3]];
    V5.expects(
        &mut exchange.to_pcm,
        &[Packet::Subscribe(Subscribe { filters: Filters::list(&forwarded), ..subscribe })],
    );
    assert!(exchange.to_client.is_empty());
    let suback = |codes| Packet::SubAck(SubAck { packet_id: 7, properties: Properties::EMPTY, codes });
    assert_eq!(pcm(&mut exchange, &suback(&[1, 0x97]), Version::V5), Step::Continue);
    V5.expects(&mut exchange.to_client, &[suback(&[0x87, 1, 0x87, 0x97])]);
}

#[test]
fn a_subscribe_without_any_granted_filter_never_reaches_the_pcm() {
    for (side, codes) in [(V5, [0x87, 0x87]), (V311, [0x80, 0x80])] {
        let mut exchange = app(side.version);
        let wishes = ["c/#", "s/x"].map(|filter| Subscription::new(filter, QoS::AtMostOnce));
        let subscribe =
            Subscribe { packet_id: 7, properties: Properties::EMPTY, filters: Filters::list(&wishes) };
        assert_eq!(client(&mut exchange, &Packet::Subscribe(subscribe), side.version), Step::Continue);
        assert!(exchange.to_pcm.is_empty());
        let suback = SubAck { packet_id: 7, properties: Properties::EMPTY, codes: &codes };
        side.expects(&mut exchange.to_client, &[Packet::SubAck(suback)]);
    }
}

#[test]
fn unsubscribe_is_translated_and_merged() {
    let mut exchange = app(Version::V5);
    let own = format!("d/{}/temperature", handle());
    fn unsubscribe<'a>(filters: &'a [&'a str]) -> Packet<'a> {
        let filters = TopicFilters::list(filters);
        Packet::Unsubscribe(Unsubscribe { packet_id: 9, properties: Properties::EMPTY, filters })
    }
    assert_eq!(client(&mut exchange, &unsubscribe(&["c/#", &own]), Version::V5), Step::Continue);
    V5.expects(&mut exchange.to_pcm, &[unsubscribe(&[&format!("d/{LABEL}/temperature")])]);
    let unsuback = |codes| Packet::UnsubAck(UnsubAck { packet_id: 9, properties: Properties::EMPTY, codes });
    assert_eq!(pcm(&mut exchange, &unsuback(&[0]), Version::V5), Step::Continue);
    V5.expects(&mut exchange.to_client, &[unsuback(&[0x11, 0])]);
}

#[test]
fn an_identifier_that_waits_for_its_answer_cannot_be_used_again() {
    let mut exchange = app(Version::V5);
    let wish = [Subscription::new("d/#", QoS::AtMostOnce)];
    let subscribe = Subscribe { packet_id: 7, properties: Properties::EMPTY, filters: Filters::list(&wish) };
    assert_eq!(client(&mut exchange, &Packet::Subscribe(subscribe), Version::V5), Step::Continue);
    assert_eq!(
        client(&mut exchange, &Packet::Subscribe(subscribe), Version::V5),
        Step::End(Cause::OutOfOrder)
    );
}

#[test]
fn a_denied_qos_2_publish_is_finished_here_in_v311() {
    let mut exchange = device(Version::V311);
    assert_eq!(client(&mut exchange, &plain(QoS::ExactlyOnce, 5, "c/heater"), Version::V311), Step::Continue);
    assert_eq!(client(&mut exchange, &Packet::PubRel(ok(5)), Version::V311), Step::Continue);
    assert!(exchange.to_pcm.is_empty());
    V311.expects(&mut exchange.to_client, &[Packet::PubRec(ok(5)), Packet::PubComp(ok(5))]);
    // The same identifier is the PCM's business the next time.
    assert_eq!(client(&mut exchange, &Packet::PubRel(ok(5)), Version::V311), Step::Continue);
    V311.expects(&mut exchange.to_pcm, &[Packet::PubRel(ok(5))]);
}

#[test]
fn a_dropped_delivery_is_completed_upstream() {
    let mut exchange = app(Version::V5);
    let foreign = "d/another/temperature";
    assert_eq!(pcm(&mut exchange, &plain(QoS::AtMostOnce, 0, foreign), Version::V5), Step::Continue);
    assert_eq!(pcm(&mut exchange, &plain(QoS::AtLeastOnce, 3, foreign), Version::V5), Step::Continue);
    assert_eq!(pcm(&mut exchange, &plain(QoS::ExactlyOnce, 4, foreign), Version::V5), Step::Continue);
    V5.expects(&mut exchange.to_pcm, &[Packet::PubAck(ok(3)), Packet::PubRec(ok(4))]);
    assert_eq!(pcm(&mut exchange, &Packet::PubRel(ok(4)), Version::V5), Step::Continue);
    V5.expects(&mut exchange.to_pcm, &[Packet::PubComp(ok(4))]);
    assert!(exchange.to_client.is_empty());
}

/// MQTT 5 §3.1.2.11.4: what the client cannot take is dropped as if it were delivered; handles are longer than labels.
#[test]
fn packet_size_is_checked_after_translation() {
    let mut exchange = app(Version::V5);
    let topic = format!("d/{LABEL}/temperature");
    let deliver = |payload| {
        Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: &topic,
            packet_id: Some(1),
            properties: Properties::EMPTY,
            payload,
        })
    };
    let fitting = vec![b'x'; 200 - "d//temperature".len() - handle().len() - 8];
    assert_eq!(pcm(&mut exchange, &deliver(&fitting), Version::V5), Step::Continue);
    assert_eq!(exchange.to_client.len(), 200);
    let longer = vec![b'x'; fitting.len() + 1];
    assert_eq!(pcm(&mut exchange, &deliver(&longer), Version::V5), Step::Continue);
    assert_eq!(exchange.to_client.len(), 200, "nothing was added");
    V5.expects(&mut exchange.to_pcm, &[Packet::PubAck(ok(1))]);
}

#[test]
fn a_response_topic_is_translated_both_ways() {
    let mut app = app(Version::V5);
    let (own, theirs) = (format!("d/{}/answer", handle()), format!("d/{LABEL}/answer"));
    let from_app = [Property::ResponseTopic(&own), Property::CorrelationData(b"7")];
    let at_pcm = [Property::CorrelationData(b"7"), Property::ResponseTopic(&theirs)];
    let (command, inner) = (format!("c/{}/heater", handle()), format!("c/{LABEL}/heater"));
    let sent = publish(QoS::AtLeastOnce, 1, &command, Properties::list(&from_app));
    assert_eq!(client(&mut app, &sent, Version::V5), Step::Continue);
    let forwarded = publish(QoS::AtLeastOnce, 1, &inner, Properties::list(&at_pcm));
    V5.expects(&mut app.to_pcm, &[forwarded]);

    let mut device = device(Version::V5);
    assert_eq!(pcm(&mut device, &forwarded, Version::V5), Step::Continue);
    let at_device = [Property::CorrelationData(b"7"), Property::ResponseTopic("d/answer")];
    V5.expects(
        &mut device.to_client,
        &[publish(QoS::AtLeastOnce, 1, "c/heater", Properties::list(&at_device))],
    );

    let outside = [Property::ResponseTopic("d/elsewhere/answer")];
    let outside = publish(QoS::AtLeastOnce, 2, &command, Properties::list(&outside));
    assert_eq!(client(&mut app, &outside, Version::V5), Step::Continue);
    assert!(app.to_pcm.is_empty());
    V5.expects(&mut app.to_client, &[Packet::PubAck(Ack::new(2, ReasonCode::TOPIC_NAME_INVALID))]);
}

/// Checklist 42, the other way: what the PCM calls things does not reach the client.
#[test]
fn the_pcms_texts_stay_with_the_pcm() {
    let mut exchange = app(Version::V5);
    let text = [Property::ReasonString(LABEL), Property::UserProperty("label", LABEL)];
    let properties = Properties::list(&text);
    let ack = Ack { properties, ..Ack::new(1, ReasonCode::NOT_AUTHORIZED) };
    for packet in [
        Packet::PubAck(ack),
        Packet::PubRec(ack),
        Packet::PubComp(Ack { properties, ..ok(1) }),
        Packet::PubRel(Ack { properties, ..ok(1) }),
        Packet::SubAck(SubAck { packet_id: 1, properties, codes: &[0] }),
        Packet::UnsubAck(UnsubAck { packet_id: 1, properties, codes: &[0] }),
    ] {
        assert_eq!(pcm(&mut exchange, &packet, Version::V5), Step::Continue);
    }
    let end = Packet::Disconnect(Disconnect { reason: ReasonCode::SESSION_TAKEN_OVER, properties });
    let ended = Cause::PcmEnded(ReasonCode::SESSION_TAKEN_OVER);
    assert_eq!(pcm(&mut exchange, &end, Version::V5), Step::End(ended));
    exchange.aside(|exchange, out| exchange.say_goodbye(ended, out));
    let bytes = exchange.to_client.pending();
    assert!(!bytes.windows(LABEL.len()).any(|window| window == LABEL.as_bytes()));
}

#[test]
fn reauthentication_needs_the_method_of_the_connect() {
    fn auth<'a>(reason: ReasonCode, properties: &'a [Property<'a>]) -> Packet<'a> {
        Packet::Auth(Auth { reason, properties: Properties::list(properties) })
    }
    let method = Property::AuthenticationMethod("Bearer");
    let good = [method, Property::AuthenticationData(b"demo.token")];
    let step = client(&mut app(Version::V5), &auth(ReasonCode::RE_AUTHENTICATE, &good), Version::V5);
    assert_eq!(step, Step::Reauthenticate("demo.token".to_owned().into()));
    let other = [Property::AuthenticationMethod("SCRAM"), Property::AuthenticationData(b"x")];
    for (reason, properties, cause) in [
        (ReasonCode::RE_AUTHENTICATE, &other[..], Cause::OutOfOrder),
        (ReasonCode::CONTINUE_AUTHENTICATION, &good[..], Cause::OutOfOrder),
        (ReasonCode::RE_AUTHENTICATE, &[method][..], Cause::ReauthenticationRefused),
    ] {
        let step = client(&mut app(Version::V5), &auth(reason, properties), Version::V5);
        assert_eq!(step, Step::End(cause));
    }
    let terms = Terms { enhanced: false, ..terms(Version::V5) };
    let mut plain = Exchange::new(terms, keys(), Arc::clone(app(Version::V5).grant()));
    let step = client(&mut plain, &auth(ReasonCode::RE_AUTHENTICATE, &good), Version::V5);
    assert_eq!(step, Step::End(Cause::OutOfOrder));
}

#[test]
fn disconnect_goes_on_without_words() {
    let mut exchange = device(Version::V5);
    let said = [Property::SessionExpiryInterval(5), Property::ReasonString("10.0.0.7")];
    let said = Disconnect { reason: ReasonCode(4), properties: Properties::list(&said) };
    let step = client(&mut exchange, &Packet::Disconnect(said), Version::V5);
    assert_eq!(step, Step::End(Cause::ClientDisconnected));
    let kept = [Property::SessionExpiryInterval(5)];
    let kept = Disconnect { reason: ReasonCode(4), properties: Properties::list(&kept) };
    V5.expects(&mut exchange.to_pcm, &[Packet::Disconnect(kept)]);
}

#[test]
fn packets_of_the_wrong_side_end_the_session() {
    let suback = Packet::SubAck(SubAck { packet_id: 1, properties: Properties::EMPTY, codes: &[0] });
    assert_eq!(client(&mut device(Version::V311), &suback, Version::V311), Step::End(Cause::OutOfOrder));
    assert_eq!(pcm(&mut device(Version::V311), &Packet::PingReq, Version::V311), Step::End(Cause::PcmGone));
}

proptest! {
    /// Checklist 36: whatever comes, there is a step and no panic.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..80), kind in 1_u8..16) {
        let mut frame = vec![kind << 4 | if matches!(kind, 6 | 8 | 10) { 2 } else { 0 }, bytes.len() as u8];
        frame.extend(&bytes);
        for version in [Version::V311, Version::V5] {
            let _ = from_client(&mut device(version), &frame);
            let _ = from_client(&mut app(version), &frame);
            let _ = from_pcm(&mut app(version), &frame);
        }
    }

    /// Checklist 35: whatever a device calls a topic, the PCM sees it below the device's own label or not at all.
    #[test]
    fn a_device_stays_in_its_tree(topic in "[a-z$/_d. -]{1,30}|[ds]/[a-z/]{1,20}|s/reported|\\PC{1,20}") {
        prop_assume!(mqtt_wire::topic::is_valid_name(&topic));
        let mut exchange = device(Version::V5);
        let _ = client(&mut exchange, &plain(QoS::AtMostOnce, 0, &topic), Version::V5);
        let bytes = exchange.to_pcm.pending();
        if !bytes.is_empty() {
            let Ok(Packet::Publish(publish)) = Packet::decode(bytes, Version::V5) else { panic!("a publish") };
            let own = [format!("d/{LABEL}/"), format!("s/{LABEL}/reported")];
            prop_assert!(own.iter().any(|own| publish.topic.starts_with(own)));
        }
    }

    /// Checklist 35: whatever an app subscribes to, what the PCM would send it outside its grant never arrives.
    #[test]
    fn an_app_sees_only_what_was_consented(topic in "[dc]/(label-of-device|other)/(temperature|heater|x)(/y)?|s/(label-of-device|other)(/(desired|delta|reported))?") {
        let mut exchange = app(Version::V5);
        let _ = pcm(&mut exchange, &plain(QoS::AtMostOnce, 0, &topic), Version::V5);
        let granted = [format!("d/{LABEL}/temperature"), format!("s/{LABEL}")];
        prop_assert_eq!(!exchange.to_client.is_empty(), granted.contains(&topic));
    }
}

fn narrowed(version: Version) -> Arc<Grant> {
    let before = app(version);
    let Role::App(role) = &before.grant().role else { panic!("an app") };
    let mut devices = role.devices.clone();
    devices[0].read = vec!["humidity".to_owned()];
    grant(Role::App(AppRole::new(true, devices)))
}

/// Checklist 39: what a slow client has not taken yet is judged by the grant as it is now; the PCM does not wait for it.
#[test]
fn what_waits_for_the_client_does_not_outlive_the_grant() {
    for side in [V5, V311] {
        let mut exchange = app(side.version);
        let topic = format!("d/{LABEL}/temperature");
        for (qos, id) in [(QoS::AtMostOnce, 0), (QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 2)] {
            assert_eq!(pcm(&mut exchange, &plain(qos, id, &topic), side.version), Step::Continue);
        }
        pcm(&mut exchange, &Packet::PubAck(ok(9)), side.version);
        // The first one is on its way already, half of it would break the stream.
        let delivered = format!("d/{}/temperature", handle());
        let begun = plain(QoS::AtMostOnce, 0, &delivered);
        exchange.to_client.take(1);
        exchange.aside(|exchange, out| exchange.replace_grant(narrowed(side.version), out));
        let rest = begun.to_vec(side.version).len() - 1;
        exchange.to_client.take(rest);
        side.expects(&mut exchange.to_client, &[Packet::PubAck(ok(9))]);
        side.expects(&mut exchange.to_pcm, &[Packet::PubAck(ok(1)), Packet::PubRec(ok(2))]);
        pcm(&mut exchange, &Packet::PubRel(ok(2)), side.version);
        side.expects(&mut exchange.to_pcm, &[Packet::PubComp(ok(2))]);
    }
}

#[test]
fn what_is_still_granted_still_waits_after_a_change() {
    let mut exchange = app(Version::V5);
    let topic = format!("d/{LABEL}/temperature");
    pcm(&mut exchange, &plain(QoS::AtLeastOnce, 1, &topic), Version::V5);
    let Role::App(role) = &exchange.grant().role else { panic!("an app") };
    let mut devices = role.devices.clone();
    devices[0].command.clear();
    exchange
        .aside(|exchange, out| exchange.replace_grant(grant(Role::App(AppRole::new(true, devices))), out));
    let delivered = format!("d/{}/temperature", handle());
    V5.expects(&mut exchange.to_client, &[plain(QoS::AtLeastOnce, 1, &delivered)]);
    V5.expects(&mut exchange.to_pcm, &[]);
}

/// Checklist 39: nothing of a session counts after its right is over: no message either way, no will.
#[test]
fn after_the_right_is_over_the_last_words_are_all_that_is_said() {
    let nothing_stays = [Property::SessionExpiryInterval(0)];
    for (cause, properties) in [
        (Cause::Revoked, Properties::list(&nothing_stays)),
        (Cause::TokenEnded, Properties::EMPTY),
        (Cause::ReauthenticationRefused, Properties::EMPTY),
        (Cause::Unchecked, Properties::EMPTY),
    ] {
        for side in [V5, V311] {
            let mut exchange = app(side.version);
            pcm(&mut exchange, &plain(QoS::AtLeastOnce, 1, &format!("d/{LABEL}/temperature")), side.version);
            client(
                &mut exchange,
                &plain(QoS::AtMostOnce, 0, &format!("c/{}/heater", handle())),
                side.version,
            );
            exchange.aside(|exchange, out| exchange.say_goodbye(cause, out));
            let row = cause.row();
            let words = [Property::ReasonString(row.text)];
            let goodbye = Disconnect { reason: row.v5, properties: Properties::list(&words) };
            let (properties, told): (_, &[_]) = match side.version {
                Version::V5 => (properties, &[Packet::Disconnect(goodbye)]),
                Version::V31 | Version::V311 => (Properties::EMPTY, &[]),
            };
            let reason = ReasonCode::NORMAL_DISCONNECTION;
            side.expects(&mut exchange.to_pcm, &[Packet::Disconnect(Disconnect { reason, properties })]);
            side.expects(&mut exchange.to_client, told);
        }
    }
}
