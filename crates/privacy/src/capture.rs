//! Captured packets as what was said: TCP streams put together in order, UDP datagrams, WebSocket frames unmasked.
//!
//! Reads what `tcpdump -w` writes of an Ethernet device. A stream of which a byte is missing is not put together silently: it says so.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, bail, ensure};

/// What one side said to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Who said it.
    pub from: SocketAddrV4,
    /// To whom.
    pub to: SocketAddrV4,
    /// What.
    pub bytes: Vec<u8>,
    /// Bytes that were sent and not captured.
    pub missing: u64,
}

const MAGIC_MICRO: u32 = 0xa1b2_c3d4;
const MAGIC_NANO: u32 = 0xa1b2_3c4d;
const ETHERNET: u32 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 1;
const SYN: u8 = 2;

/// One direction of a connection under way.
#[derive(Default)]
struct Half {
    /// Sequence number of the first byte.
    first: Option<u32>,
    /// Segments by distance from the first byte.
    segments: BTreeMap<u64, Vec<u8>>,
}

/// Everything that was said in a capture, in no particular order.
///
/// # Errors
/// No capture, or one of another kind of device.
pub fn streams(capture: &[u8]) -> anyhow::Result<Vec<Stream>> {
    let head: &[u8; 24] = capture.first_chunk().context("shorter than a capture's head")?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    ensure!(matches!(word(0), MAGIC_MICRO | MAGIC_NANO), "no capture of this machine");
    ensure!(word(20) & 0xffff == ETHERNET, "the device is no Ethernet");
    let mut open: BTreeMap<(SocketAddrV4, SocketAddrV4), Half> = BTreeMap::new();
    let mut said = Vec::new();
    let mut rest = &capture[24..];
    while let Some((record, after)) = rest.split_first_chunk::<16>() {
        let word =
            |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
        let (kept, whole) = (word(8) as usize, word(12) as usize);
        if kept != whole {
            bail!("a packet was cut to {kept} of {whole} bytes");
        }
        // The last packet may be on its way to the file.
        let Some(frame) = after.get(..kept) else { break };
        packet(frame, &mut open, &mut said);
        rest = &after[kept..];
    }
    said.extend(open.into_iter().map(|((from, to), half)| half.together(from, to)));
    said.retain(|stream| !stream.bytes.is_empty());
    for stream in &mut said {
        let unmasked = websocket(&stream.bytes);
        stream.bytes.extend(unmasked);
    }
    Ok(said)
}

fn packet(
    frame: &[u8],
    open: &mut BTreeMap<(SocketAddrV4, SocketAddrV4), Half>,
    said: &mut Vec<Stream>,
) -> Option<()> {
    let (ethernet, ip) = frame.split_at_checked(14)?;
    if ethernet[12..] != [8, 0] || ip.first()? >> 4 != 4 {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    let address = |at: usize| Some(Ipv4Addr::from(*ip.get(at..)?.first_chunk::<4>()?));
    let (source, target) = (address(12)?, address(16)?);
    let protocol = *ip.get(9)?;
    let transport = ip.get(usize::from(ip[0] & 15) * 4..length.min(ip.len()))?;
    let port = |at: usize| Some(u16::from_be_bytes(*transport.get(at..)?.first_chunk::<2>()?));
    let key = (SocketAddrV4::new(source, port(0)?), SocketAddrV4::new(target, port(2)?));
    if protocol == UDP {
        let bytes = transport.get(8..)?.to_vec();
        said.push(Stream { from: key.0, to: key.1, bytes, missing: 0 });
        return Some(());
    }
    if protocol != TCP {
        return None;
    }
    let sequence = u32::from_be_bytes(*transport.get(4..)?.first_chunk::<4>()?);
    let payload = transport.get(usize::from(transport.get(12)? >> 4) * 4..)?;
    let flags = *transport.get(13)?;
    if flags & SYN != 0 {
        let fresh = Half { first: Some(sequence.wrapping_add(1)), segments: BTreeMap::new() };
        let known = open.get(&key).and_then(|half| half.first);
        // A port that is used again is another connection; a repeated SYN is not.
        if known != fresh.first
            && let Some(former) = open.insert(key, fresh)
        {
            said.push(former.together(key.0, key.1));
        }
        return Some(());
    }
    if payload.is_empty() {
        return Some(());
    }
    let half = open.entry(key).or_default();
    let first = *half.first.get_or_insert(sequence);
    let distance = sequence.wrapping_sub(first);
    // A keep-alive probe repeats a byte from before the beginning; nothing is lost with it.
    if distance < u32::MAX / 2 && (flags & FIN == 0 || !payload.is_empty()) {
        let segment = half.segments.entry(u64::from(distance)).or_default();
        if segment.len() < payload.len() {
            *segment = payload.to_vec();
        }
    }
    Some(())
}

impl Half {
    fn together(self, from: SocketAddrV4, to: SocketAddrV4) -> Stream {
        let mut bytes: Vec<u8> = Vec::new();
        let (mut at, mut missing) = (0u64, 0u64);
        for (distance, segment) in self.segments {
            let end = distance + segment.len() as u64;
            if end <= at {
                continue;
            }
            if distance > at {
                missing += distance - at;
                at = distance;
            }
            bytes.extend_from_slice(&segment[(at - distance) as usize..]);
            at = end;
        }
        Stream { from, to, bytes, missing }
    }
}

/// The payloads of a client's WebSocket frames (RFC 6455 §5.3): clients mask what they send.
fn websocket(stream: &[u8]) -> Vec<u8> {
    let end = stream.windows(4).position(|window| window == b"\r\n\r\n");
    let Some((head, mut rest)) = end.and_then(|end| stream.split_at_checked(end + 4)) else {
        return Vec::new();
    };
    if !head.to_ascii_lowercase().windows(18).any(|window| window == b"upgrade: websocket") {
        return Vec::new();
    }
    let mut payloads = Vec::new();
    while let Some((payload, mask, after)) = frame(rest) {
        payloads.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        rest = after;
    }
    payloads
}

fn frame(bytes: &[u8]) -> Option<(&[u8], [u8; 4], &[u8])> {
    let second = *bytes.get(1)?;
    let (length, mut at) = match second & 127 {
        126 => (usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk::<2>()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*bytes.get(2..)?.first_chunk::<8>()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let mut mask = [0; 4];
    if second & 128 != 0 {
        mask = *bytes.get(at..)?.first_chunk::<4>()?;
        at += 4;
    }
    let payload = bytes.get(at..at.checked_add(length)?)?;
    Some((payload, mask, &bytes[at + length..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4000);
    const B: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 80);

    fn ip(protocol: u8, transport: &[u8]) -> Vec<u8> {
        let mut frame = [[0; 12].as_slice(), &[8, 0]].concat();
        let length = u16::try_from(20 + transport.len()).unwrap().to_be_bytes();
        frame.extend([0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend(A.ip().octets());
        frame.extend(B.ip().octets());
        frame.extend(transport);
        frame
    }

    fn tcp(sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut head = [A.port().to_be_bytes(), B.port().to_be_bytes()].concat();
        head.extend(sequence.to_be_bytes());
        head.extend([0, 0, 0, 0, 5 << 4, flags, 0, 0, 0, 0, 0, 0]);
        ip(TCP, &[&head[..], payload].concat())
    }

    fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut file = MAGIC_MICRO.to_le_bytes().to_vec();
        file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0]);
        for frame in frames {
            let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
            file.extend([[0; 4], [0; 4], length, length].concat());
            file.extend(frame);
        }
        file
    }

    #[test]
    fn segments_are_put_in_order_across_the_end_of_the_numbers() {
        let start = u32::MAX - 3;
        let frames = [
            tcp(start, SYN, b""),
            tcp(start.wrapping_add(6), 0, b"mark"),
            tcp(start.wrapping_add(1), 0, b"hello"),
            tcp(start.wrapping_add(1), 0, b"hello"),
            tcp(start.wrapping_add(4), 0, b"loma"),
        ];
        let all = streams(&capture(&frames)).unwrap();
        assert_eq!(all, [Stream { from: A, to: B, bytes: b"hellomark".to_vec(), missing: 0 }]);
    }

    #[test]
    fn a_port_that_is_used_again_is_another_stream_and_a_gap_is_told() {
        let frames = [
            tcp(10, SYN, b""),
            tcp(11, 0, b"first"),
            tcp(900, SYN, b""),
            tcp(901, 0, b"sec"),
            tcp(907, 0, b"nd"),
        ];
        let all = streams(&capture(&frames)).unwrap();
        let told: Vec<_> = all.iter().map(|stream| (stream.bytes.as_slice(), stream.missing)).collect();
        assert_eq!(told, [(b"first".as_slice(), 0), (b"secnd".as_slice(), 3)]);
    }

    #[test]
    fn datagrams_and_masked_frames_are_read() {
        let mask = [1, 2, 3, 4];
        let masked: Vec<u8> =
            b"a payload that was masked".iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
        let upgrade = b"GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".to_vec();
        let said = [upgrade, vec![0x82, 0x80 | 25], mask.to_vec(), masked].concat();
        let udp = ip(UDP, &[&[15, 160, 0, 80, 0, 16, 0, 0], &b"question"[..]].concat());
        let all = streams(&capture(&[tcp(1, SYN, b""), tcp(2, 0, &said), udp])).unwrap();
        assert!(all[1].bytes.ends_with(b"a payload that was masked"));
        assert_eq!(all[0].bytes, b"question");
    }

    #[test]
    fn what_is_no_capture_or_was_cut_is_said() {
        assert!(streams(b"x").is_err());
        let mut cut = capture(&[tcp(1, SYN, b"")]);
        cut[24 + 12] += 1;
        assert!(streams(&cut).is_err());
    }
}
