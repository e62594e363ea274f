//! The codec's promises, for any bytes: see the crate documentation of [`mqtt_wire`].

use mqtt_wire::{Packet, Properties, Property, Version, frame_len, topic};

/// All versions.
pub const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Decoding answers instead of panicking; what it accepts can be walked through to the end, and lies within the frame.
pub fn decode(bytes: &[u8]) {
    for max in [0, 2, 127, usize::MAX] {
        if let Ok(Some(length)) = frame_len(bytes, max) {
            assert!((2..=max).contains(&length), "a packet is between its header and the bound");
        }
    }
    for version in VERSIONS {
        match Packet::decode(bytes, version) {
            Ok(packet) => {
                assert_eq!(frame_len(bytes, usize::MAX), Ok(Some(bytes.len())), "a frame is one packet");
                walk(&packet, bytes);
            }
            Err(error) => {
                assert!(!error.reason().is_success(), "an error has an error's code");
                assert!(!error.message().is_empty());
            }
        }
    }
}

/// What was decoded encodes to no more bytes, which decode to the same packet and encode to themselves.
pub fn round_trip(bytes: &[u8]) {
    for version in VERSIONS {
        let Ok(packet) = Packet::decode(bytes, version) else { continue };
        let version = match &packet {
            Packet::Connect(connect) => connect.version,
            _ => version,
        };
        let length = packet.encoded_len(version);
        assert!(0 < length && length <= bytes.len(), "the encoder writes the shortest form: {packet:?}");
        let mut again = Vec::new();
        assert_eq!(packet.encode_into(version, &mut again), Ok(()), "{packet:?}");
        assert_eq!(again.len(), length, "{packet:?}");
        let second = Packet::decode(&again, version);
        assert_eq!(second, Ok(packet), "the same packet");
        if let Ok(second) = second {
            assert_eq!(second.to_vec(version), again, "the same bytes");
        }
        if let Some(short) = length.checked_sub(1)
            && let Some(space) = again.get_mut(..short)
        {
            assert!(packet.encode(version, space).is_err(), "no room");
        }
    }
}

/// Reads everything that a packet borrows.
fn walk(packet: &Packet<'_>, frame: &[u8]) {
    let inside = |part: &[u8]| {
        let (start, end) = (frame.as_ptr() as usize, frame.as_ptr() as usize + frame.len());
        let at = part.as_ptr() as usize;
        assert!(part.is_empty() || (start <= at && at + part.len() <= end), "borrowed from the frame");
    };
    match packet {
        Packet::Connect(connect) => {
            properties(&connect.properties, &inside);
            inside(connect.client_id.as_bytes());
            inside(connect.username.unwrap_or_default().as_bytes());
            inside(connect.password.unwrap_or_default());
            if let Some(will) = &connect.will {
                properties(&will.properties, &inside);
                inside(will.payload);
                name(will.topic);
            }
        }
        Packet::ConnAck(connack) => properties(&connack.properties, &inside),
        Packet::Publish(publish) => {
            properties(&publish.properties, &inside);
            inside(publish.payload);
            inside(publish.topic.as_bytes());
            if publish.properties.topic_alias().is_none() {
                name(publish.topic);
            }
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            assert_ne!(ack.packet_id, 0);
            properties(&ack.properties, &inside);
        }
        Packet::Subscribe(subscribe) => {
            properties(&subscribe.properties, &inside);
            assert_ne!(subscribe.filters.iter().count(), 0, "at least one filter");
            for subscription in subscribe.filters.iter() {
                filter(subscription.filter, &inside);
            }
        }
        Packet::Unsubscribe(unsubscribe) => {
            properties(&unsubscribe.properties, &inside);
            assert_ne!(unsubscribe.filters.iter().count(), 0, "at least one filter");
            unsubscribe.filters.iter().for_each(|one| filter(one, &inside));
        }
        Packet::SubAck(suback) => {
            properties(&suback.properties, &inside);
            assert_ne!(suback.reasons().count(), 0);
        }
        Packet::UnsubAck(unsuback) => {
            properties(&unsuback.properties, &inside);
            inside(unsuback.codes);
        }
        Packet::Disconnect(disconnect) => properties(&disconnect.properties, &inside),
        Packet::Auth(auth) => properties(&auth.properties, &inside),
        Packet::PingReq | Packet::PingResp => {}
    }
}

fn name(topic: &str) {
    assert!(topic::is_valid_name(topic));
    assert!(topic::matches(topic, topic), "a name is a filter that matches itself");
    assert_eq!(topic::matches("#", topic), !topic.starts_with('$'));
}

fn filter(filter: &str, inside: &impl Fn(&[u8])) {
    inside(filter.as_bytes());
    assert!(topic::is_valid_filter(filter));
    let plain = topic::split_shared(filter).map_or(filter, |(_, plain)| plain);
    let _either = topic::matches(plain, "a/b");
}

fn properties(properties: &Properties<'_>, inside: &impl Fn(&[u8])) {
    let mut seen = 0u64;
    for property in properties.iter() {
        let bit = 1u64 << property.id();
        let repeats = matches!(property, Property::UserProperty(..) | Property::SubscriptionIdentifier(_));
        assert!(seen & bit == 0 || repeats, "at most once");
        seen |= bit;
        match property {
            Property::CorrelationData(bytes) | Property::AuthenticationData(bytes) => inside(bytes),
            Property::UserProperty(name, value) => {
                inside(name.as_bytes());
                inside(value.as_bytes());
            }
            Property::ResponseTopic(topic) => name(topic),
            Property::SubscriptionIdentifier(id) => assert!((1..=268_435_455).contains(&id)),
            Property::ReceiveMaximum(value) | Property::TopicAlias(value) => assert_ne!(value, 0),
            Property::MaximumPacketSize(value) => assert_ne!(value, 0),
            _ => {}
        }
    }
    assert_eq!(seen == 0, properties.is_empty());
}
