//! Changes to a packet, by someone who knows where its lengths are.

use crate::generate;
use crate::random::Random;

/// Longest result.
pub const LONGEST: usize = 4_096;

/// Values at which comparisons change their answer.
const INTERESTING: [u8; 12] = [0x00, 0x01, 0x02, 0x03, 0x04, 0x26, 0x7F, 0x80, 0x81, 0xC0, 0xFE, 0xFF];

/// Changes `packet` once. `other` is another packet, to take a part from.
///
/// Afterwards the remaining length is made true again most of the time, so that what is inside is looked at.
pub fn mutate(random: &mut Random, packet: &mut Vec<u8>, other: &[u8]) {
    match random.below(13) {
        0 => flip(random, packet),
        1 => set(random, packet),
        2 => {
            let bytes = [random.byte(), random.one_of(&INTERESTING)];
            insert(random, packet, &bytes);
        }
        3 => {
            let range = range(random, packet.len());
            packet.drain(range);
        }
        4 => {
            let range = range(random, packet.len());
            let part = packet.get(range).unwrap_or_default().to_vec();
            insert(random, packet, &part);
        }
        5 => {
            packet.truncate(random.below(packet.len() + 1));
            let from = random.below(other.len() + 1);
            packet.extend_from_slice(other.get(from..).unwrap_or_default());
        }
        6 | 7 => stretch(random, packet),
        8 | 9 => {
            let mut property = Vec::new();
            let id = random.byte() & 0x3F;
            generate::property(random, id, &mut property);
            grow_properties(random, packet, &property);
        }
        10 => packet.truncate(random.below(packet.len() + 1)),
        11 => {
            if let Some(first) = packet.first_mut() {
                *first = if random.one_in(2) { random.byte() } else { *first ^ (1 << random.below(4)) };
            }
        }
        _ => return wrong_length(random, packet),
    }
    packet.truncate(LONGEST);
    if !random.one_in(8) {
        reframe(packet);
    }
}

/// Appends a variable byte integer (§1.5.5).
pub fn push_length(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of the fixed header, as far as it can be told.
fn header(packet: &[u8]) -> usize {
    let more = packet.iter().skip(1).take(3).take_while(|byte| **byte & 0x80 != 0).count();
    (more + 2).min(packet.len())
}

/// Makes the remaining length true.
fn reframe(packet: &mut Vec<u8>) {
    let Some(first) = packet.first().copied() else { return };
    let header = header(packet);
    let mut fresh = vec![first];
    push_length(&mut fresh, packet.len() - header);
    packet.splice(..header, fresh);
}

fn range(random: &mut Random, length: usize) -> std::ops::Range<usize> {
    let start = random.below(length + 1);
    start..(start + random.below(9)).min(length)
}

fn insert(random: &mut Random, packet: &mut Vec<u8>, bytes: &[u8]) {
    let at = random.below(packet.len() + 1);
    packet.splice(at..at, bytes.iter().copied());
}

fn flip(random: &mut Random, packet: &mut [u8]) {
    let (at, bit) = (random.below(packet.len()), random.below(8));
    if let Some(byte) = packet.get_mut(at) {
        *byte ^= 1 << bit;
    }
}

fn set(random: &mut Random, packet: &mut [u8]) {
    let (at, value) = (random.below(packet.len()), random.one_of(&INTERESTING));
    if let Some(byte) = packet.get_mut(at) {
        *byte = value;
    }
}

/// Makes one two-byte length say a little more or less, or very much, without changing what follows.
fn stretch(random: &mut Random, packet: &mut [u8]) {
    let fits = |at: usize| {
        let length = u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]);
        (at + 2 + usize::from(length) <= packet.len()).then_some(at)
    };
    let places: Vec<usize> = (header(packet)..packet.len()).filter_map(fits).collect();
    let at = random.one_of(&places);
    let Some(field) = packet.get_mut(at..at + 2) else { return };
    let Ok(old) = <[u8; 2]>::try_from(&*field) else { return };
    let old = u16::from_be_bytes(old);
    let new = match random.below(5) {
        0 => old.wrapping_add(1),
        1 => old.wrapping_sub(1),
        2 => u16::MAX,
        3 => 0,
        _ => old ^ (1 << random.below(16)),
    };
    field.copy_from_slice(&new.to_be_bytes());
}

/// Puts a property somewhere behind a byte that may be a properties' length, and counts it there.
fn grow_properties(random: &mut Random, packet: &mut Vec<u8>, property: &[u8]) {
    let start = header(packet);
    let fits = |at: &usize| {
        packet.get(*at).is_some_and(|length| *length < 0x60 && at + 1 + usize::from(*length) <= packet.len())
    };
    let places: Vec<usize> = (start..packet.len()).filter(fits).collect();
    let at = random.one_of(&places);
    let Some(length) = packet.get_mut(at).filter(|_| at >= start) else { return };
    *length = length.saturating_add(u8::try_from(property.len()).unwrap_or(0));
    packet.splice(at + 1..at + 1, property.iter().copied());
}

/// A remaining length that is not true, not in its shortest form, or too long.
fn wrong_length(random: &mut Random, packet: &mut Vec<u8>) {
    let Some(first) = packet.first().copied() else { return };
    let header = header(packet);
    let true_length = packet.len() - header;
    let mut fresh = vec![first];
    match random.below(5) {
        0 => push_length(&mut fresh, true_length + 1),
        1 => push_length(&mut fresh, true_length.saturating_sub(1)),
        2 => fresh.extend([0x80 | (true_length & 0x7F) as u8, 0x80 | (true_length >> 7 & 0x7F) as u8, 0x00]),
        3 => fresh.extend([0xFF, 0xFF, 0xFF, 0xFF]),
        _ => fresh.extend([0xFF, 0xFF, 0xFF, 0x7F]),
    }
    packet.splice(..header, fresh);
}
