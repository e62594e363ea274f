//! Whatever is encoded decodes to the same packet; whatever is decoded encodes to the same bytes; nothing panics.

use mqtt_wire::{
    Ack, Auth, ConnAck, Connect, Disconnect, Error, Filters, Packet, Properties, Property, Publish, QoS,
    ReasonCode, RetainHandling, SubAck, Subscribe, Subscription, TopicFilters, UnsubAck, Unsubscribe,
    Version, Will, frame_len,
};
use proptest::prelude::*;

const USER: u8 = 0x26;

fn text() -> BoxedStrategy<&'static str> {
    "[a-zA-Z0-9 /_äß€\u{2A6D4}]{0,12}".prop_map(|text| &*text.leak()).boxed()
}

fn name() -> BoxedStrategy<&'static str> {
    "[a-z$ä]{1,4}(/[a-z0-9]{0,3}){0,3}".prop_map(|text| &*text.leak()).boxed()
}

fn filter() -> BoxedStrategy<&'static str> {
    "([$]share/g[0-9]/)?([a-z]{1,4}|[+])(/([a-z0-9]{0,3}|[+])){0,3}(/#)?"
        .prop_map(|text| &*text.leak())
        .boxed()
}

fn bytes() -> BoxedStrategy<&'static [u8]> {
    prop::collection::vec(any::<u8>(), 0..200).prop_map(|bytes| &*bytes.leak()).boxed()
}

fn qos() -> BoxedStrategy<QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)].boxed()
}

fn property(id: u8) -> BoxedStrategy<Property<'static>> {
    let flag = any::<bool>();
    match id {
        0x01 => flag.prop_map(Property::PayloadFormatIndicator).boxed(),
        0x02 => any::<u32>().prop_map(Property::MessageExpiryInterval).boxed(),
        0x03 => text().prop_map(Property::ContentType).boxed(),
        0x08 => name().prop_map(Property::ResponseTopic).boxed(),
        0x09 => bytes().prop_map(Property::CorrelationData).boxed(),
        0x0B => (1..=268_435_455u32).prop_map(Property::SubscriptionIdentifier).boxed(),
        0x11 => any::<u32>().prop_map(Property::SessionExpiryInterval).boxed(),
        0x12 => text().prop_map(Property::AssignedClientIdentifier).boxed(),
        0x13 => any::<u16>().prop_map(Property::ServerKeepAlive).boxed(),
        0x15 => text().prop_map(Property::AuthenticationMethod).boxed(),
        0x16 => bytes().prop_map(Property::AuthenticationData).boxed(),
        0x17 => flag.prop_map(Property::RequestProblemInformation).boxed(),
        0x18 => any::<u32>().prop_map(Property::WillDelayInterval).boxed(),
        0x19 => flag.prop_map(Property::RequestResponseInformation).boxed(),
        0x1A => text().prop_map(Property::ResponseInformation).boxed(),
        0x1C => text().prop_map(Property::ServerReference).boxed(),
        0x1F => text().prop_map(Property::ReasonString).boxed(),
        0x21 => (1..=u16::MAX).prop_map(Property::ReceiveMaximum).boxed(),
        0x22 => any::<u16>().prop_map(Property::TopicAliasMaximum).boxed(),
        0x23 => (1..=u16::MAX).prop_map(Property::TopicAlias).boxed(),
        0x24 => {
            prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce)].prop_map(Property::MaximumQos).boxed()
        }
        0x25 => flag.prop_map(Property::RetainAvailable).boxed(),
        USER => (text(), text()).prop_map(|(name, value)| Property::UserProperty(name, value)).boxed(),
        0x27 => (1..=u32::MAX).prop_map(Property::MaximumPacketSize).boxed(),
        0x28 => flag.prop_map(Property::WildcardSubscriptionAvailable).boxed(),
        0x29 => flag.prop_map(Property::SubscriptionIdentifierAvailable).boxed(),
        _ => flag.prop_map(Property::SharedSubscriptionAvailable).boxed(),
    }
}

/// Any of these properties at most once each, then some more user properties.
fn properties(ids: &'static [u8]) -> BoxedStrategy<Properties<'static>> {
    let each: Vec<_> = ids.iter().map(|id| prop::option::of(property(*id))).collect();
    (each, prop::collection::vec(property(USER), 0..3))
        .prop_map(|(each, users)| {
            let mut list: Vec<Property<'static>> = each.into_iter().flatten().collect();
            if !list.iter().any(|property| property.id() == 0x15) {
                list.retain(|property| property.id() != 0x16);
            }
            list.extend(users);
            Properties::list(list.leak())
        })
        .boxed()
}

fn reason(codes: &'static [u8]) -> BoxedStrategy<ReasonCode> {
    prop::sample::select(codes).prop_map(ReasonCode).boxed()
}

fn connect() -> BoxedStrategy<Packet<'static>> {
    let will =
        (qos(), any::<bool>(), properties(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x18]), name(), bytes()).prop_map(
            |(qos, retain, properties, topic, payload)| Will { qos, retain, properties, topic, payload },
        );
    (
        any::<bool>(),
        any::<u16>(),
        properties(&[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x27]),
        text(),
        prop::option::of(will),
        prop::option::of(text()),
        prop::option::of(bytes()),
    )
        .prop_map(|(clean_start, keep_alive, properties, client_id, will, username, password)| {
            let version = Version::V5;
            Packet::Connect(Connect {
                version,
                clean_start,
                keep_alive,
                properties,
                client_id,
                will,
                username,
                password,
            })
        })
        .boxed()
}

fn publish() -> BoxedStrategy<Packet<'static>> {
    let properties = properties(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23]);
    (any::<bool>(), qos(), any::<bool>(), name(), 1..=u16::MAX, properties, bytes())
        .prop_map(|(dup, qos, retain, topic, packet_id, properties, payload)| {
            let needs_id = qos != QoS::AtMostOnce;
            let packet_id = needs_id.then_some(packet_id);
            Packet::Publish(Publish {
                dup: dup && needs_id,
                qos,
                retain,
                topic,
                packet_id,
                properties,
                payload,
            })
        })
        .boxed()
}

fn ack(codes: &'static [u8]) -> BoxedStrategy<Ack<'static>> {
    (1..=u16::MAX, reason(codes), properties(&[0x1F]))
        .prop_map(|(packet_id, reason, properties)| Ack { packet_id, reason, properties })
        .boxed()
}

fn subscribe() -> BoxedStrategy<Packet<'static>> {
    let handling = prop_oneof![
        Just(RetainHandling::Send),
        Just(RetainHandling::SendIfNew),
        Just(RetainHandling::DontSend)
    ];
    let one = (filter(), qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        |(filter, qos, no_local, retain_as_published, retain_handling)| {
            let no_local = no_local && !filter.starts_with("$share/");
            Subscription { filter, qos, no_local, retain_as_published, retain_handling }
        },
    );
    (1..=u16::MAX, properties(&[0x0B]), prop::collection::vec(one, 1..4))
        .prop_map(|(packet_id, properties, list)| {
            Packet::Subscribe(Subscribe { packet_id, properties, filters: Filters::list(list.leak()) })
        })
        .boxed()
}

fn others() -> BoxedStrategy<Packet<'static>> {
    let pub_codes = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    let rel_codes = &[0x00, 0x92];
    let codes = |allowed: &'static [u8]| {
        prop::collection::vec(prop::sample::select(allowed), 1..4).prop_map(|codes| &*codes.leak())
    };
    let filters = prop::collection::vec(filter(), 1..4);
    prop_oneof![
        ack(pub_codes).prop_map(Packet::PubAck),
        ack(pub_codes).prop_map(Packet::PubRec),
        ack(rel_codes).prop_map(Packet::PubRel),
        ack(rel_codes).prop_map(Packet::PubComp),
        (
            any::<bool>(),
            reason(&[0x00, 0x80, 0x87, 0x9F]),
            properties(&[
                0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x27, 0x28, 0x29,
                0x2A
            ])
        )
            .prop_map(|(present, reason, properties)| Packet::ConnAck(ConnAck {
                session_present: present && reason == ReasonCode::SUCCESS,
                reason,
                properties
            })),
        (1..=u16::MAX, properties(&[0x1F]), codes(&[0, 1, 2, 0x80, 0x87, 0xA2])).prop_map(
            |(packet_id, properties, codes)| Packet::SubAck(SubAck { packet_id, properties, codes })
        ),
        (1..=u16::MAX, properties(&[0x1F]), codes(&[0, 0x11, 0x80, 0x91])).prop_map(
            |(packet_id, properties, codes)| Packet::UnsubAck(UnsubAck { packet_id, properties, codes })
        ),
        (1..=u16::MAX, properties(&[]), filters).prop_map(|(packet_id, properties, list)| {
            Packet::Unsubscribe(Unsubscribe {
                packet_id,
                properties,
                filters: TopicFilters::list(list.leak()),
            })
        }),
        (reason(&[0x00, 0x04, 0x82, 0x8E, 0xA2]), properties(&[0x11, 0x1C, 0x1F]))
            .prop_map(|(reason, properties)| Packet::Disconnect(Disconnect { reason, properties })),
        (reason(&[0x00, 0x18, 0x19]), properties(&[0x15, 0x16, 0x1F])).prop_map(|(reason, properties)| {
            match properties.authentication_method() {
                Some(_) => Packet::Auth(Auth { reason, properties }),
                None => Packet::Auth(Auth { reason: ReasonCode::SUCCESS, properties: Properties::EMPTY }),
            }
        }),
        Just(Packet::PingReq),
        Just(Packet::PingResp),
    ]
    .boxed()
}

fn packet() -> BoxedStrategy<Packet<'static>> {
    prop_oneof![connect(), publish(), subscribe(), others()].boxed()
}

fn encoded(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = vec![0; packet.encoded_len(version)];
    assert_eq!(packet.encode(version, &mut out), Ok(out.len()));
    out
}

/// What is left of a packet in a version without properties and most reason codes.
fn as_v311(packet: Packet<'static>) -> Option<Packet<'static>> {
    let none = Properties::EMPTY;
    let ack = |ack: Ack<'_>| Ack::new(ack.packet_id, ReasonCode::SUCCESS);
    Some(match packet {
        Packet::Connect(connect) if connect.password.is_some() && connect.username.is_none() => return None,
        Packet::Connect(connect) => Packet::Connect(Connect {
            version: Version::V311,
            properties: none,
            will: connect.will.map(|will| Will { properties: none, ..will }),
            ..connect
        }),
        Packet::Publish(publish) => Packet::Publish(Publish { properties: none, ..publish }),
        Packet::PubAck(inner) => Packet::PubAck(ack(inner)),
        Packet::PubRec(inner) => Packet::PubRec(ack(inner)),
        Packet::PubRel(inner) => Packet::PubRel(ack(inner)),
        Packet::PubComp(inner) => Packet::PubComp(ack(inner)),
        Packet::ConnAck(connack) => Packet::ConnAck(ConnAck {
            properties: none,
            reason: ReasonCode::from_v311_connack(connack.reason.v311_connack())?,
            ..connack
        }),
        Packet::Subscribe(subscribe) => {
            let list: Vec<_> =
                subscribe.filters.iter().map(|one| Subscription::new(one.filter, one.qos)).collect();
            Packet::Subscribe(Subscribe {
                properties: none,
                filters: Filters::list(list.leak()),
                ..subscribe
            })
        }
        Packet::SubAck(suback) => {
            let codes: Vec<u8> = suback.codes.iter().map(|code| (*code).min(0x80)).collect();
            Packet::SubAck(SubAck { properties: none, codes: codes.leak(), ..suback })
        }
        Packet::Unsubscribe(unsubscribe) => {
            Packet::Unsubscribe(Unsubscribe { properties: none, ..unsubscribe })
        }
        Packet::UnsubAck(unsuback) => Packet::UnsubAck(UnsubAck { properties: none, codes: &[], ..unsuback }),
        Packet::Disconnect(_) => Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)),
        Packet::Auth(_) => return None,
        Packet::PingReq => Packet::PingReq,
        Packet::PingResp => Packet::PingResp,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn v5_round_trip(packet in packet()) {
        let bytes = encoded(&packet, Version::V5);
        prop_assert_eq!(frame_len(&bytes, usize::MAX), Ok(Some(bytes.len())));
        prop_assert_eq!(Packet::decode(&bytes, Version::V5), Ok(packet));
    }

    #[test]
    fn v311_round_trip(packet in packet()) {
        if let Some(expected) = as_v311(packet) {
            let bytes = encoded(&expected, Version::V311);
            prop_assert_eq!(Packet::decode(&bytes, Version::V311), Ok(expected));
            if !matches!(packet, Packet::Connect(_)) {
                prop_assert_eq!(encoded(&packet, Version::V311), bytes);
            }
        }
    }

    #[test]
    fn every_truncation_is_an_error_and_never_a_panic(packet in packet()) {
        let bytes = encoded(&packet, Version::V5);
        for cut in 0..bytes.len() {
            let part = &bytes[..cut];
            prop_assert!(Packet::decode(part, Version::V5).is_err());
            // The same cut, with a remaining length that owns up to it.
            let mut reframed = vec![part.first().copied().unwrap_or(0xC0)];
            let body = part.get(bytes.len() - body_len(&bytes)..).unwrap_or(&[]);
            push_varint(&mut reframed, body.len());
            reframed.extend_from_slice(body);
            for version in [Version::V31, Version::V311, Version::V5] {
                visit(&reframed, version);
            }
        }
    }

    #[test]
    fn one_changed_byte_never_panics(packet in packet(), at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let mut bytes = encoded(&packet, Version::V5);
        let at = at.index(bytes.len());
        bytes[at] = value;
        for version in [Version::V31, Version::V311, Version::V5] {
            visit(&bytes, version);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(first in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = frame_len(&body, 1_000);
        let mut frame = vec![first];
        push_varint(&mut frame, body.len());
        frame.extend_from_slice(&body);
        for version in [Version::V31, Version::V311, Version::V5] {
            visit(&frame, version);
            visit(&body, version);
        }
    }

    #[test]
    fn a_short_output_is_an_error(packet in packet()) {
        let bytes = encoded(&packet, Version::V5);
        let mut out = vec![0; bytes.len() - 1];
        prop_assert!(packet.encode(Version::V5, &mut out).is_err());
    }

    #[test]
    fn a_publish_head_and_its_payload_are_the_packet(packet in publish(), version in prop::sample::select(&[Version::V311, Version::V5])) {
        let Packet::Publish(publish) = packet else { unreachable!("publish() makes nothing else") };
        let whole = encoded(&packet, version);
        let mut head = vec![0; publish.head_len(version, publish.payload.len()).unwrap()];
        prop_assert_eq!(publish.encode_head(version, publish.payload.len(), &mut head), Ok(head.len()));
        head.extend_from_slice(publish.payload);
        prop_assert_eq!(head, whole);
    }
}

/// Decodes; if that works, walks through everything and encodes it to the same bytes again, unless the frame was in a
/// longer form than needed.
fn visit(frame: &[u8], version: Version) {
    let Ok(packet) = Packet::decode(frame, version) else { return };
    let again = encoded(&packet, version);
    assert!(again.len() <= frame.len(), "{packet:?}");
    assert_eq!(Packet::decode(&again, version), Ok(packet));
}

fn body_len(frame: &[u8]) -> usize {
    let header = frame.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 2;
    frame.len() - header
}

fn push_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7F) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[test]
fn frame_lengths() {
    assert_eq!(frame_len(&[], 100), Ok(None));
    assert_eq!(frame_len(&[0xC0], 100), Ok(None));
    assert_eq!(frame_len(&[0xC0, 0x00], 100), Ok(Some(2)));
    assert_eq!(frame_len(&[0x30, 0x80], 100), Ok(None));
    assert_eq!(frame_len(&[0x30, 0x80, 0x01], 1_000), Ok(Some(131)));
    assert_eq!(frame_len(&[0x30, 0x80, 0x01], 100), Err(Error::TooLarge));
    assert_eq!(frame_len(&[0x30, 0x80, 0x00], 100), Err(Error::RemainingLength));
    assert_eq!(frame_len(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], usize::MAX), Ok(Some(268_435_460)));
    assert_eq!(frame_len(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF], usize::MAX), Err(Error::RemainingLength));
}

#[test]
fn what_cannot_be_encoded_says_so() {
    let long = "x".repeat(65_536);
    let publish = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: &long,
        packet_id: None,
        properties: Properties::EMPTY,
        payload: b"",
    };
    let mut out = vec![0; 70_000];
    assert_eq!(Packet::Publish(publish).encode(Version::V5, &mut out), Err(mqtt_wire::EncodeError::TooLong));
    assert_eq!(Packet::Publish(publish).encoded_len(Version::V5), 0);
    let no_id = Publish { qos: QoS::AtLeastOnce, topic: "a", ..publish };
    assert_eq!(Packet::Publish(no_id).encode(Version::V5, &mut out), Err(mqtt_wire::EncodeError::PacketId));
    let auth = Packet::Auth(Auth { reason: ReasonCode::SUCCESS, properties: Properties::EMPTY });
    assert_eq!(auth.encode(Version::V311, &mut out), Err(mqtt_wire::EncodeError::Version));
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let properties = [Property::AuthenticationMethod("Bearer"), Property::AuthenticationData(b"demo.secret")];
    let auth = Auth { reason: ReasonCode::RE_AUTHENTICATE, properties: Properties::list(&properties) };
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 0,
        properties: Properties::list(&properties),
        client_id: "c",
        will: None,
        username: Some("Bearer"),
        password: Some(b"demo.secret"),
    };
    let shown = format!("{auth:?} {connect:?}");
    assert!(!shown.contains("secret") && !shown.contains(&format!("{:?}", b"demo.secret")), "{shown}");
}
