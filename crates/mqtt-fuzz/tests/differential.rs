//! The codec beside a published one, `mqtt-protocol-core`: what we accept it accepts, and writes to what we read as the same
//! packet. The other way round nothing is claimed: its decoders leave topic names, filters and flags to its state machine.

use mqtt_fuzz::random::Random;
use mqtt_fuzz::{generate, mutate};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet as Theirs, v3_1_1 as v3, v5_0 as v5};
use mqtt_wire::{Packet, PacketType, Version};

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

#[test]
fn what_we_accept_another_codec_reads_as_the_same() {
    let mut random = Random::new(11);
    let (mut compared, mut wrong) = (0, Vec::new());
    for round in 0..200_000 {
        let version = if round % 2 == 0 { Version::V5 } else { Version::V311 };
        let (mut frame, mut other) = (Vec::new(), Vec::new());
        generate::packet(&mut random, version, &mut frame);
        generate::packet(&mut random, version, &mut other);
        for _ in 0..random.below(3) {
            mutate::mutate(&mut random, &mut frame, &other);
        }
        let Ok(ours) = Packet::decode(&frame, version) else { continue };
        // A CONNECT says its own version, and the other codec has no MQTT 3.1.
        let version = match &ours {
            Packet::Connect(connect) if connect.version == Version::V31 => continue,
            Packet::Connect(connect) => connect.version,
            _ => version,
        };
        if is_known(&ours) {
            continue;
        }
        compared += 1;
        let total = frame.len();
        let header = 2 + frame.iter().skip(1).take(3).take_while(|byte| **byte & 0x80 != 0).count();
        let body = &frame[header..total];
        match theirs(ours.kind(), frame[0] & 0x0F, body, version) {
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
