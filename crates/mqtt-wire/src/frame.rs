//! The fixed header (§2.1): packet types and remaining length.

use crate::Error;

/// Largest remaining length that four bytes can say.
pub const MAX_REMAINING_LENGTH: usize = 268_435_455;

/// The kind of a packet, as the high four bits of its first byte say (§2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The type that a packet's first byte names; `None` for the reserved 0.
    pub const fn of(first_byte: u8) -> Option<PacketType> {
        Some(match first_byte >> 4 {
            1 => PacketType::Connect,
            2 => PacketType::ConnAck,
            3 => PacketType::Publish,
            4 => PacketType::PubAck,
            5 => PacketType::PubRec,
            6 => PacketType::PubRel,
            7 => PacketType::PubComp,
            8 => PacketType::Subscribe,
            9 => PacketType::SubAck,
            10 => PacketType::Unsubscribe,
            11 => PacketType::UnsubAck,
            12 => PacketType::PingReq,
            13 => PacketType::PingResp,
            14 => PacketType::Disconnect,
            15 => PacketType::Auth,
            _ => return None,
        })
    }

    /// First byte of a packet of this type with these low four bits.
    pub(crate) const fn first_byte(self, flags: u8) -> u8 {
        ((self as u8) << 4) | (flags & 0x0F)
    }
}

/// Total length of the first packet in `buf`, fixed header included.
///
/// `Ok(None)`: the header is not complete yet, read more. The rest of the packet need not be in `buf`.
///
/// # Errors
/// [`Error::RemainingLength`] for a malformed length, [`Error::TooLarge`] for a packet longer than `max` bytes.
pub fn frame_len(buf: &[u8], max: usize) -> Result<Option<usize>, Error> {
    let Some((_, length)) = buf.split_first() else { return Ok(None) };
    let mut value = 0usize;
    for (index, &byte) in length.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if index > 0 && byte == 0 {
                return Err(Error::RemainingLength);
            }
            let total = 2 + index + value;
            return if total > max { Err(Error::TooLarge) } else { Ok(Some(total)) };
        }
    }
    if length.len() >= 4 { Err(Error::RemainingLength) } else { Ok(None) }
}

/// Type, flags and body of a frame that holds exactly one packet.
pub(crate) fn split(frame: &[u8]) -> Result<(PacketType, u8, &[u8]), Error> {
    let total = frame_len(frame, usize::MAX)?.ok_or(Error::Truncated)?;
    if total < frame.len() {
        return Err(Error::TrailingBytes);
    }
    if total > frame.len() {
        return Err(Error::Truncated);
    }
    let first = *frame.first().ok_or(Error::Truncated)?;
    let kind = PacketType::of(first).ok_or(Error::PacketType)?;
    let header = frame.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 2;
    let body = frame.get(header..).ok_or(Error::Truncated)?;
    Ok((kind, first & 0x0F, body))
}
