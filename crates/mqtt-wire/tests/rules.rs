//! One packet for each rule of the standard that a packet alone can break, and the code that answers it.

use mqtt_wire::{Error, Packet, ReasonCode, Version};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .map(|digit| (digit as char).to_digit(16).map_or(0, |d| d as u8))
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn decode(version: Version, body: &str) -> Result<(), Error> {
    let body = bytes(body);
    let (first, rest) = body.split_first().expect("a first byte");
    let mut frame = vec![*first, u8::try_from(rest.len()).expect("a short packet")];
    frame.extend_from_slice(rest);
    Packet::decode(&frame, version).map(|_| ())
}

#[test]
fn v5() {
    let cases: &[(&str, Result<(), Error>)] = &[
        // CONNECT
        ("10 0004 4D515454 05 02 000A 00 0001 70", Ok(())),
        ("10 0004 4D515454 05 03 000A 00 0001 70", Err(Error::ConnectFlags)),
        ("10 0004 4D515454 05 0A 000A 00 0001 70", Err(Error::ConnectFlags)),
        ("10 0004 4D515454 05 1E 000A 00 0001 70 00 0001 70 0000", Err(Error::ConnectFlags)),
        ("10 0004 4D515454 06 02 000A 00 0001 70", Err(Error::ProtocolVersion)),
        ("10 0004 4D515455 05 02 000A 00 0001 70", Err(Error::ProtocolName)),
        ("10 0004 4D515454 05 02 000A 00 0001 70 00", Err(Error::TrailingBytes)),
        ("10 0004 4D515454 05 42 000A 00 0001 70 0001 70", Ok(())),
        ("10 0004 4D515454 05 06 000A 00 0001 70 00 0001 2B 0000", Err(Error::TopicName)),
        ("10 0004 4D515454 05 06 000A 00 0001 70 02 2301 0001 70 0000", Err(Error::Truncated)),
        ("10 0004 4D515454 05 02 000A 03 210000 0001 70", Err(Error::PropertyValue)),
        ("10 0004 4D515454 05 02 000A 05 2700000000 0001 70", Err(Error::PropertyValue)),
        ("10 0004 4D515454 05 02 000A 02 1702 0001 70", Err(Error::PropertyValue)),
        ("10 0004 4D515454 05 02 000A 04 16000161 0001 70", Err(Error::AuthenticationData)),
        ("11 0004 4D515454 05 02 000A 00 0001 70", Err(Error::Flags)),
        // CONNACK
        ("20 00 00 00", Ok(())),
        ("20 02 00 00", Err(Error::ConnAckFlags)),
        ("20 01 87 00", Err(Error::ConnAckFlags)),
        ("20 00 01 00", Err(Error::ReasonCode)),
        // PUBLISH
        ("30 0001 61 00", Ok(())),
        ("30 0000 00", Err(Error::TopicName)),
        ("30 0000 03 230001", Ok(())),
        ("30 0001 61 03 230000", Err(Error::TopicAlias)),
        ("30 0001 23 00", Err(Error::TopicName)),
        ("30 0001 00 00", Err(Error::Text)),
        ("30 0003 EDA080 00", Err(Error::Text)),
        ("30 0002 C285 00", Err(Error::Text)),
        ("30 0003 EFBFBF 00", Err(Error::Text)),
        ("38 0001 61 00", Err(Error::Flags)),
        ("36 0001 61 0001 00", Err(Error::Flags)),
        ("32 0001 61 0000 00", Err(Error::PacketId)),
        ("30 0001 61 04 01010101", Err(Error::PropertyTwice)),
        ("30 0001 61 02 0B00", Err(Error::PropertyMalformed)),
        ("30 0001 61 04 0B010B02", Ok(())),
        ("30 0001 61 04 08000123", Err(Error::PropertyValue)),
        ("30 0001 61 05 1100000001", Err(Error::PropertyNotAllowed)),
        ("30 0001 61 02 7F00", Err(Error::PropertyMalformed)),
        ("30 0001 61 05 0100", Err(Error::Truncated)),
        ("30 0001 61 81 00", Err(Error::PropertyMalformed)),
        // acknowledgements
        ("40 0001", Ok(())),
        ("40 0001 10", Ok(())),
        ("40 0001 92", Err(Error::ReasonCode)),
        ("62 0001 92", Ok(())),
        ("60 0001", Err(Error::Flags)),
        ("70 0001 00 00 00", Err(Error::TrailingBytes)),
        ("50 0000", Err(Error::PacketId)),
        // SUBSCRIBE and the like
        ("82 0001 00 0001 61 00", Ok(())),
        ("82 0001 00", Err(Error::NoFilters)),
        ("82 0001 00 0001 61 03", Err(Error::SubscriptionOptions)),
        ("82 0001 00 0001 61 30", Err(Error::SubscriptionOptions)),
        ("82 0001 00 0001 61 40", Err(Error::SubscriptionOptions)),
        ("82 0001 00 0002 6123 00", Err(Error::TopicFilter)),
        ("82 0001 00 0009 2473686172652F672F 00", Err(Error::SharedSubscription)),
        ("82 0001 00 000A 2473686172652F672F61 04", Err(Error::SharedSubscription)),
        ("82 0001 05 1100000001 0001 61 00", Err(Error::PropertyNotAllowedInSubscription)),
        ("80 0001 00 0001 61 00", Err(Error::Flags)),
        ("90 0001 00", Err(Error::NoFilters)),
        ("90 0001 00 03", Err(Error::ReasonCode)),
        ("A2 0001 00", Err(Error::NoFilters)),
        ("B0 0001 00 11", Ok(())),
        ("B0 0001 00 10", Err(Error::ReasonCode)),
        // the rest
        ("C0", Ok(())),
        ("C1", Err(Error::Flags)),
        ("C0 00", Err(Error::TrailingBytes)),
        ("E0 04", Ok(())),
        ("E0 05", Err(Error::ReasonCode)),
        ("F0", Ok(())),
        ("F0 00 00", Ok(())),
        ("F0 18 04 15000161", Ok(())),
        ("F0 18", Err(Error::AuthenticationMethod)),
        ("F0 19 00", Err(Error::AuthenticationMethod)),
        ("F0 00 04 1F000161", Err(Error::AuthenticationMethod)),
        ("F0 18 08 1500016115000161", Err(Error::PropertyTwice)),
        ("F0 04", Err(Error::ReasonCode)),
        ("00", Err(Error::PacketType)),
    ];
    for (packet, expected) in cases {
        assert_eq!(decode(Version::V5, packet), *expected, "{packet}");
    }
}

#[test]
fn v311_and_v31() {
    let both = [Version::V31, Version::V311];
    let cases: &[(&str, &[Version], Result<(), Error>)] = &[
        ("10 0004 4D515454 04 02 000A 0001 70", &both, Ok(())),
        ("10 0006 4D5149736470 03 02 000A 0001 70", &both, Ok(())),
        ("10 0006 4D5149736470 03 03 000A 0001 70", &both, Ok(())),
        ("10 0006 4D5149736470 04 02 000A 0001 70", &both, Err(Error::ProtocolVersion)),
        ("10 0004 4D515454 04 42 000A 0001 70 0001 70", &both, Err(Error::ConnectFlags)),
        ("20 01 00", &both, Ok(())),
        ("20 00 06", &both, Err(Error::ReasonCode)),
        ("30 0000", &both, Err(Error::TopicName)),
        ("40 0001 00", &both, Err(Error::TrailingBytes)),
        ("6A 0001", &[Version::V31], Ok(())),
        ("6A 0001", &[Version::V311], Err(Error::Flags)),
        ("82 0001 0001 61 04", &both, Err(Error::SubscriptionOptions)),
        ("90 0001 80", &both, Ok(())),
        ("90 0001 87", &both, Err(Error::ReasonCode)),
        ("B0 0001 00", &both, Err(Error::TrailingBytes)),
        ("E0 00", &both, Err(Error::TrailingBytes)),
        ("F0", &both, Err(Error::PacketType)),
    ];
    for (packet, versions, expected) in cases {
        for version in *versions {
            assert_eq!(decode(*version, packet), *expected, "{packet} {version:?}");
        }
    }
}

#[test]
fn a_frame_is_one_packet() {
    for (frame, expected) in [
        ("C0 00 C0 00", Error::TrailingBytes),
        ("C0", Error::Truncated),
        ("", Error::Truncated),
        ("30 05 0001", Error::Truncated),
        ("C0 80 00", Error::RemainingLength),
    ] {
        assert_eq!(Packet::decode(&bytes(frame), Version::V5), Err(expected), "{frame}");
    }
}

#[test]
fn errors_have_the_standards_codes() {
    for (error, code) in [
        (Error::Truncated, ReasonCode::MALFORMED_PACKET),
        (Error::PropertyTwice, ReasonCode::PROTOCOL_ERROR),
        (Error::ProtocolVersion, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION),
        (Error::TopicAlias, ReasonCode::TOPIC_ALIAS_INVALID),
        (Error::TooLarge, ReasonCode::PACKET_TOO_LARGE),
    ] {
        assert_eq!(error.reason(), code);
    }
    for (reason, return_code) in
        [(0x00, 0), (0x84, 1), (0x85, 2), (0x88, 3), (0x97, 3), (0x86, 4), (0x87, 5), (0x8A, 5)]
    {
        assert_eq!(ReasonCode(reason).v311_connack(), return_code, "{reason:#x}");
    }
}
