//! What went over a board's wire: TCP segments out of a recording (pcap) that QEMU made.

use std::path::Path;

use anyhow::{Context as _, ensure};

/// A TCP segment between the board and this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// True if the board sent it.
    pub from_board: bool,
    /// The port on this machine.
    pub port: u16,
    /// Of the whole frame, in bytes.
    pub frame: usize,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// Where the board is on QEMU's network.
const BOARD: [u8; 4] = [10, 0, 2, 15];

/// Reads a recording; a packet that was cut off at its end is left out.
///
/// # Errors
/// There is none, or it is not one of an Ethernet.
pub fn read(file: &Path) -> anyhow::Result<Vec<Segment>> {
    let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
    ensure!(bytes.starts_with(&[0xd4, 0xc3, 0xb2, 0xa1]), "not a recording of this machine's byte order");
    let mut rest = bytes.get(24..).unwrap_or_default();
    let mut segments = Vec::new();
    while let Some((head, after)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let Some((frame, after)) = after.split_at_checked(len) else { break };
        segments.extend(segment(frame));
        rest = after;
    }
    Ok(segments)
}

fn segment(frame: &[u8]) -> Option<Segment> {
    let packet = frame.get(14..)?;
    if frame.get(12..14)? != [0x08, 0x00] || *packet.get(9)? != 6 {
        return None;
    }
    let head = usize::from(packet.first()? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let from_board = packet.get(12..16)? == BOARD;
    let tcp = packet.get(head..total)?;
    let ports =
        [u16::from_be_bytes([*tcp.first()?, *tcp.get(1)?]), u16::from_be_bytes([*tcp.get(2)?, *tcp.get(3)?])];
    let data = usize::from(tcp.get(12)? >> 4) * 4;
    Some(Segment {
        from_board,
        port: if from_board { ports[1] } else { ports[0] },
        frame: frame.len(),
        payload: tcp.get(data..)?.to_vec(),
    })
}

/// Sums of a recording.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// TCP segments, both ways.
    pub packets: usize,
    /// Bytes of their frames.
    pub bytes: usize,
    /// How often the board had sent something and then got an answer: each costs the time there and back.
    pub round_trips: usize,
}

/// Adds a recording up.
#[must_use]
pub fn sums(segments: &[Segment]) -> Sums {
    let mut sums = Sums::default();
    let mut asked = false;
    for segment in segments {
        sums.packets += 1;
        sums.bytes += segment.frame;
        // SYN and its answer carry nothing, but wait for each other like a question and its answer do.
        let opening = segment.payload.is_empty() && sums.packets <= 2;
        if segment.payload.is_empty() && !opening {
            continue;
        }
        if segment.from_board {
            asked = true;
        } else if asked {
            asked = false;
            sums.round_trips += 1;
        }
    }
    sums
}

/// The TLS records that the board sent to a port: type and length each.
#[must_use]
pub fn records(segments: &[Segment], port: u16) -> Vec<(u8, usize)> {
    let bytes: Vec<u8> = segments
        .iter()
        .filter(|segment| segment.from_board && segment.port == port)
        .flat_map(|segment| segment.payload.iter().copied())
        .collect();
    let mut rest = &bytes[..];
    let mut records = Vec::new();
    while let [kind, _, _, high, low, after @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        records.push((*kind, len));
        rest = after.get(len..).unwrap_or_default();
    }
    records
}
