//! Packets byte by byte, most of them valid, without the encoder under test.

use crate::mutate::push_length;
use crate::random::Random;
use mqtt_wire::Version;

/// Names that meet each other in filters, and some that are a test for themselves.
const NAMES: [&str; 13] = [
    "a",
    "a/b",
    "a/b/c",
    "d/L/t",
    "d/L/t",
    "d/L/u",
    "s/L/reported",
    "s/L/desired",
    "c/L/h",
    "$SYS/x",
    "/",
    "deep/a/b/c/d/e/f/g/h/i/j/k",
    "ä/€",
];

const FILTERS: [&str; 14] = [
    "#",
    "+",
    "a/#",
    "a/+",
    "+/b",
    "d/L/t",
    "d/#",
    "c/L/#",
    "$share/g/a/b",
    "$share/g/#",
    "$SYS/#",
    "/",
    "+/+/+",
    "a#",
];

const PAYLOADS: [&str; 10] = [
    "",
    "x",
    "21.5",
    "-1e308",
    "1e999",
    r#"{"v":21.5,"w":"x"}"#,
    r#"{"reported":{"t":1},"desired":{"h":null},"$version":1}"#,
    r#"[{"bn":"a","bt":1,"n":"v","v":20},{"n":"v","v":22,"t":1}]"#,
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
];

const CLIENTS: [&str; 6] = ["", "one", "two", "three", "four", "five"];

/// Property identifiers that exist, and two that do not.
const PROPERTIES: [u8; 29] = [
    0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1C, 0x1F,
    0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x00, 0x7F,
];

/// Which of them each kind of packet may carry; index 0 is a will.
const ALLOWED: [&[u8]; 16] = [
    &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
    &[0x11, 0x15, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
    &[0x11, 0x12, 0x13, 0x15, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A],
    &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26],
    &[0x1F, 0x26],
    &[0x1F, 0x26],
    &[0x1F, 0x26],
    &[0x1F, 0x26],
    &[0x0B, 0x26],
    &[0x1F, 0x26],
    &[0x26],
    &[0x1F, 0x26],
    &[],
    &[],
    &[0x11, 0x1C, 0x1F, 0x26],
    &[0x15, 0x1F, 0x26],
];

const REASONS: [u8; 12] = [0x00, 0x00, 0x00, 0x01, 0x02, 0x04, 0x10, 0x18, 0x80, 0x87, 0x92, 0x97];

/// Appends any packet in this version; now and then one that is wrong in a way that only the standard's text tells.
pub fn packet(random: &mut Random, version: Version, out: &mut Vec<u8>) {
    // What clients send to a broker comes more often than the rest.
    let kind = random.one_of(&[1, 2, 3, 3, 3, 3, 3, 4, 5, 6, 6, 7, 8, 8, 8, 9, 10, 10, 11, 12, 13, 14, 15]);
    packet_of(random, kind, version, out);
}

/// Appends a packet of this type, 1 to 15.
pub fn packet_of(random: &mut Random, kind: u8, version: Version, out: &mut Vec<u8>) {
    let v5 = version == Version::V5;
    let mut body = Vec::with_capacity(64);
    let mut flags = match kind {
        6 | 8 | 10 => 0x02,
        _ => 0,
    };
    match kind {
        1 => connect(random, version, &mut body),
        2 => {
            body.push(u8::from(random.one_in(4)));
            body.push(if random.one_in(2) { 0 } else { random.one_of(&REASONS) });
            properties(random, kind, v5, &mut body);
        }
        3 => {
            let qos = random.one_of(&[0, 0, 1, 2]);
            flags = qos << 1 | u8::from(random.one_in(4));
            if qos > 0 && random.one_in(4) {
                flags |= 0x08;
            }
            let topic = if v5 && random.one_in(8) { "" } else { random.one_of(&NAMES) };
            text(topic, &mut body);
            if qos > 0 {
                packet_id(random, &mut body);
            }
            properties(random, kind, v5, &mut body);
            body.extend_from_slice(random.one_of(&PAYLOADS).as_bytes());
        }
        4..=7 => {
            packet_id(random, &mut body);
            if v5 && random.one_in(2) {
                body.push(if kind < 6 { random.one_of(&REASONS) } else { random.one_of(&[0, 0, 0x92]) });
                if random.one_in(2) {
                    properties(random, kind, v5, &mut body);
                }
            }
        }
        8 | 10 => {
            packet_id(random, &mut body);
            properties(random, kind, v5, &mut body);
            for _ in 0..=random.below(3) {
                text(random.one_of(&FILTERS), &mut body);
                if kind == 8 {
                    let more = if v5 { random.one_of(&[0, 0x04, 0x08, 0x10, 0x20, 0x30]) } else { 0 };
                    body.push(random.one_of(&[0, 1, 2]) | more);
                }
            }
        }
        9 | 11 => {
            packet_id(random, &mut body);
            properties(random, kind, v5, &mut body);
            if kind == 9 || v5 {
                body.extend((0..=random.below(3)).map(|_| random.one_of(&[0, 0, 1, 2, 0x11, 0x80, 0x87])));
            }
        }
        14 | 15 if v5 && random.one_in(2) => {
            body.push(random.one_of(&REASONS));
            if random.one_in(2) {
                properties(random, kind, v5, &mut body);
            }
        }
        _ => {}
    }
    out.push(kind << 4 | flags);
    push_length(out, body.len());
    out.append(&mut body);
}

/// Appends a CONNECT with this client identifier and nothing remarkable.
pub fn plain_connect(version: Version, client: &str, clean: bool, expiry: u32, out: &mut Vec<u8>) {
    let mut body = Vec::with_capacity(32);
    protocol(version, &mut body);
    body.push(if clean { 0x02 } else { 0 });
    body.extend([0, 0]);
    if version == Version::V5 {
        body.extend([5, 0x11]);
        body.extend(expiry.to_be_bytes());
    }
    text(client, &mut body);
    out.push(0x10);
    push_length(out, body.len());
    out.append(&mut body);
}

fn protocol(version: Version, body: &mut Vec<u8>) {
    let (name, level) = match version {
        Version::V31 => ("MQIsdp", 3),
        Version::V311 => ("MQTT", 4),
        Version::V5 => ("MQTT", 5),
    };
    text(name, body);
    body.push(level);
}

fn connect(random: &mut Random, version: Version, body: &mut Vec<u8>) {
    let v5 = version == Version::V5;
    protocol(version, body);
    let mut flags = random.one_of(&[0, 0x02]);
    let will = random.one_in(3);
    if will {
        flags |= 0x04 | random.one_of(&[0, 0x08, 0x10]) | random.one_of(&[0, 0x20]);
    }
    flags |= random.one_of(&[0, 0, 0x80, 0xC0]);
    body.push(flags);
    body.extend(random.one_of(&[0u16, 1, 60, 65_535]).to_be_bytes());
    properties(random, 1, v5, body);
    text(random.one_of(&CLIENTS), body);
    if will {
        properties(random, 0, v5, body);
        text(random.one_of(&NAMES), body);
        binary(b"gone", body);
    }
    if flags & 0x80 != 0 {
        text("user", body);
    }
    if flags & 0x40 != 0 {
        binary(b"\0\xFF", body);
    }
}

fn packet_id(random: &mut Random, body: &mut Vec<u8>) {
    body.extend(random.one_of(&[1u16, 1, 2, 3, 4, 255, 65_535]).to_be_bytes());
}

fn properties(random: &mut Random, kind: u8, v5: bool, body: &mut Vec<u8>) {
    if !v5 {
        return;
    }
    let mut list = Vec::new();
    let allowed = ALLOWED.get(usize::from(kind)).copied().unwrap_or_default();
    for _ in 0..random.one_of(&[0, 0, 0, 1, 2, 4]) {
        let id = if random.one_in(40) || allowed.is_empty() {
            random.one_of(&PROPERTIES)
        } else {
            random.one_of(allowed)
        };
        property(random, id, &mut list);
    }
    push_length(body, list.len());
    body.append(&mut list);
}

/// Appends one property with any value, in its range most of the time.
pub fn property(random: &mut Random, id: u8, out: &mut Vec<u8>) {
    out.push(id);
    match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => {
            out.push(random.one_of(&[0, 1, 1, 0, 1, 0, 1, 2]));
        }
        0x02 | 0x11 | 0x18 | 0x27 => {
            out.extend(random.one_of(&[0u32, 1, 3, 60, 256, 70_000, u32::MAX]).to_be_bytes());
        }
        0x08 => text(random.one_of(&NAMES), out),
        0x09 | 0x16 => binary(b"\0\x01\xFF", out),
        0x0B => push_length(out, random.one_of(&[1, 2, 127, 128, 268_435_455, 0])),
        0x13 | 0x21 | 0x22 | 0x23 => {
            out.extend(random.one_of(&[1u16, 1, 2, 3, 10, 11, 65_535, 0]).to_be_bytes());
        }
        0x26 => {
            text("name", out);
            text(random.one_of(&NAMES), out);
        }
        _ => text("text", out),
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    binary(text.as_bytes(), out);
}

fn binary(bytes: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(bytes.iter().take(usize::from(length)));
}
