//! The codec beside a published one, `mqtt-protocol-core`: what we accept it accepts, and writes to what we read as the same
//! packet; and what it accepts we accept, but for a list of rules, each of the standard, that it leaves to its state machine or
//! does not have.

use mqtt_fuzz::random::Random;
use mqtt_fuzz::{generate, mutate};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet as Theirs, v3_1_1 as v3, v5_0 as v5};
use mqtt_wire::{Error, Packet, PacketType, Version};
use std::collections::BTreeMap;

/// Their packet of a frame's type, flags and body, and how much of the body it took.
fn theirs(kind: PacketType, flags: u8, body: &[u8], version: Version) -> Option<(Theirs, usize)> {
    macro_rules! parse {
        ($type:ty) => {
            <$type>::parse(body).ok().map(|(packet, used)| (packet.into(), used))
        };
    }
    match (version, kind) {
        (Version::V5, PacketType::Connect) => parse!(v5::Connect),
        (Version::V5, PacketType::ConnAck) => parse!(v5::Connack),
        (Version::V5, PacketType::Publish) => {
            v5::Publish::parse(flags, body.into()).ok().map(|(packet, used)| (packet.into(), used))
        }
        (Version::V5, PacketType::PubAck) => parse!(v5::Puback),
        (Version::V5, PacketType::PubRec) => parse!(v5::Pubrec),
        (Version::V5, PacketType::PubRel) => parse!(v5::Pubrel),
        (Version::V5, PacketType::PubComp) => parse!(v5::Pubcomp),
        (Version::V5, PacketType::Subscribe) => parse!(v5::Subscribe),
        (Version::V5, PacketType::SubAck) => parse!(v5::Suback),
        (Version::V5, PacketType::Unsubscribe) => parse!(v5::Unsubscribe),
        (Version::V5, PacketType::UnsubAck) => parse!(v5::Unsuback),
        (Version::V5, PacketType::PingReq) => parse!(v5::Pingreq),
        (Version::V5, PacketType::PingResp) => parse!(v5::Pingresp),
        (Version::V5, PacketType::Disconnect) => parse!(v5::Disconnect),
        (Version::V5, PacketType::Auth) => parse!(v5::Auth),
        (_, PacketType::Connect) => parse!(v3::Connect),
        (_, PacketType::ConnAck) => parse!(v3::Connack),
        (_, PacketType::Publish) => {
            v3::Publish::parse(flags, body.into()).ok().map(|(packet, used)| (packet.into(), used))
        }
        (_, PacketType::PubAck) => parse!(v3::Puback),
        (_, PacketType::PubRec) => parse!(v3::Pubrec),
        (_, PacketType::PubRel) => parse!(v3::Pubrel),
        (_, PacketType::PubComp) => parse!(v3::Pubcomp),
        (_, PacketType::Subscribe) => parse!(v3::Subscribe),
        (_, PacketType::SubAck) => parse!(v3::Suback),
        (_, PacketType::Unsubscribe) => parse!(v3::Unsubscribe),
        (_, PacketType::UnsubAck) => parse!(v3::Unsuback),
        (_, PacketType::PingReq) => parse!(v3::Pingreq),
        (_, PacketType::PingResp) => parse!(v3::Pingresp),
        (_, PacketType::Disconnect) => parse!(v3::Disconnect),
        (_, PacketType::Auth) => None,
    }
}

/// Where the other codec refuses what ours leaves to others, or is stricter than the standard.
fn is_known(packet: &Packet<'_>) -> bool {
    match packet {
        // §3.1.2.9 of MQTT 5: a password needs no user name.
        Packet::Connect(connect) => connect.username.is_none() && connect.password.is_some(),
        _ => false,
    }
}

/// Version and body of a frame whose fixed header is right, if both codecs are for it.
fn comparable(frame: &[u8], version: Version) -> Option<(PacketType, Version, &[u8])> {
    let kind = PacketType::of(*frame.first()?)?;
    if mqtt_wire::frame_len(frame, usize::MAX) != Ok(Some(frame.len())) {
        return None;
    }
    let header = 2 + frame.iter().skip(1).take(3).take_while(|byte| **byte & 0x80 != 0).count();
    let body = frame.get(header..)?;
    // A CONNECT says its own version, and the other codec has no MQTT 3.1.
    let version = match (kind, body) {
        (PacketType::Connect, [0, 4, b'M', b'Q', b'T', b'T', 4, ..]) => Version::V311,
        (PacketType::Connect, [0, 4, b'M', b'Q', b'T', b'T', 5, ..]) => Version::V5,
        (PacketType::Connect, _) => return None,
        _ => version,
    };
    Some((kind, version, body))
}

/// One frame of a run: mostly valid, or changed a little.
fn frame(random: &mut Random, version: Version) -> Vec<u8> {
    let (mut frame, mut other) = (Vec::new(), Vec::new());
    generate::packet(random, version, &mut frame);
    generate::packet(random, version, &mut other);
    for _ in 0..random.below(3) {
        mutate::mutate(random, &mut frame, &other);
    }
    frame
}

/// What the other codec accepts and we refuse, and by which rule.
const WE_ALONE_REFUSE: &[(Error, &str)] = &[
    (Error::Flags, "§2.1.3: its decoders are not shown the flags of the fixed header"),
    (Error::Text, "§1.5.4: control characters and non-characters, which a receiver may refuse"),
    (Error::TopicName, "§4.7.1, §4.7.3: wildcards in a name, or none at all without an alias"),
    (Error::TopicFilter, "§4.7.1: misplaced wildcards"),
    (Error::SharedSubscription, "§4.8.2, §3.8.3.1: no group, no filter, or no local"),
    (Error::SubscriptionOptions, "§3.8.3.1: reserved bits; MQTT 3.1.1 §3.8.3: all but the QoS are"),
    (Error::PacketId, "§2.2.1: zero"),
    (Error::ConnectFlags, "§3.1.2.6, §3.1.2.7: QoS or retain flag of a will that is not there"),
    (Error::ConnAckFlags, "§3.2.2.1: reserved bits, or a session present in a refusal"),
    (Error::PropertyTwice, "§3.8.2.1.2: two subscription identifiers in a SUBSCRIBE"),
    (Error::PropertyMalformed, "§1.5.5: a length that is not in its shortest form"),
    (Error::AuthenticationData, "§3.1.2.11.10: data without a method"),
    (Error::AuthenticationMethod, "§3.15.2.2.2: AUTH without a method"),
    (Error::TrailingBytes, "MQTT 3.1.1 §3.4.1 and others: an acknowledgement is two bytes long"),
    (Error::Truncated, "§3.3.2.3.1: a PUBLISH without a property length"),
];

#[test]
fn what_another_codec_accepts_we_accept_but_for_rules_with_a_name() {
    let mut random = Random::new(12);
    let (mut both, mut alone) = (0, BTreeMap::<String, (usize, Vec<u8>)>::new());
    for round in 0..400_000 {
        let version = if round % 2 == 0 { Version::V5 } else { Version::V311 };
        let frame = frame(&mut random, version);
        let Some((kind, version, body)) = comparable(&frame, version) else { continue };
        if theirs(kind, frame[0] & 0x0F, body, version).is_none_or(|(_, used)| used != body.len()) {
            continue;
        }
        match Packet::decode(&frame, version) {
            Ok(_) => both += 1,
            Err(error) => alone.entry(format!("{error:?}")).or_insert((0, frame)).0 += 1,
        }
    }
    println!("{both} packets accepted by both; refused by us alone: {alone:02X?}");
    assert!(both > 100_000, "{both}");
    let named: Vec<String> = WE_ALONE_REFUSE.iter().map(|(error, _)| format!("{error:?}")).collect();
    let unnamed: Vec<_> = alone.iter().filter(|(error, _)| !named.contains(error)).collect();
    assert!(unnamed.is_empty(), "{unnamed:02X?}");
    let unused: Vec<_> = named.iter().filter(|error| !alone.contains_key(*error)).collect();
    assert!(unused.is_empty(), "the other codec has these by now: {unused:?}");
}

#[test]
fn what_we_accept_another_codec_reads_as_the_same() {
    let mut random = Random::new(11);
    let (mut compared, mut wrong) = (0, Vec::new());
    for round in 0..200_000 {
        let version = if round % 2 == 0 { Version::V5 } else { Version::V311 };
        let frame = frame(&mut random, version);
        let Ok(ours) = Packet::decode(&frame, version) else { continue };
        let Some((kind, version, body)) = comparable(&frame, version) else { continue };
        if is_known(&ours) {
            continue;
        }
        compared += 1;
        match theirs(kind, frame[0] & 0x0F, body, version) {
            None => wrong.push(format!("refused: {ours:?} {frame:02X?}")),
            Some((packet, used)) => {
                let again = packet.to_continuous_buffer();
                if used != body.len() || Packet::decode(&again, version) != Ok(ours) {
                    wrong.push(format!("{ours:?} is {:?}", Packet::decode(&again, version)));
                }
            }
        }
    }
    println!("{compared} packets compared");
    assert!(compared > 50_000, "{compared}");
    assert!(
        wrong.is_empty(),
        "{} differ, among them\n{}",
        wrong.len(),
        wrong[..wrong.len().min(12)].join("\n")
    );
}
