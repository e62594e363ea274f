//! Writing the standard's data types (§1.5), either for real or only to count.

use crate::{EncodeError, MAX_REMAINING_LENGTH, PacketType};

/// Where encoded bytes go.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError>;

    fn u8(&mut self, value: u8) -> Result<(), EncodeError> {
        self.put(&[value])
    }

    fn u16(&mut self, value: u16) -> Result<(), EncodeError> {
        self.put(&value.to_be_bytes())
    }

    fn u32(&mut self, value: u32) -> Result<(), EncodeError> {
        self.put(&value.to_be_bytes())
    }

    fn varint(&mut self, value: usize) -> Result<(), EncodeError> {
        if value > MAX_REMAINING_LENGTH {
            return Err(EncodeError::TooLong);
        }
        let mut left = value;
        loop {
            let low = (left & 0x7F) as u8;
            left >>= 7;
            if left == 0 {
                return self.u8(low);
            }
            self.u8(low | 0x80)?;
        }
    }

    fn packet_id(&mut self, id: u16) -> Result<(), EncodeError> {
        if id == 0 { Err(EncodeError::PacketId) } else { self.u16(id) }
    }

    fn binary(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let length = u16::try_from(bytes.len()).map_err(|_| EncodeError::TooLong)?;
        self.u16(length)?;
        self.put(bytes)
    }

    fn text(&mut self, text: &str) -> Result<(), EncodeError> {
        self.binary(text.as_bytes())
    }
}

/// Counts what would be written.
#[derive(Default)]
pub(crate) struct Count(pub(crate) usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(())
    }
}

/// Writes to the front of a slice.
pub(crate) struct Slice<'b> {
    out: &'b mut [u8],
    pub(crate) written: usize,
}

impl<'b> Slice<'b> {
    pub(crate) const fn new(out: &'b mut [u8]) -> Slice<'b> {
        Slice { out, written: 0 }
    }
}

impl Sink for Slice<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let end = self.written.checked_add(bytes.len()).ok_or(EncodeError::TooLong)?;
        self.out.get_mut(self.written..end).ok_or(EncodeError::BufferTooSmall)?.copy_from_slice(bytes);
        self.written = end;
        Ok(())
    }
}

/// Writes a fixed header for a body of `remaining` bytes.
pub(crate) fn header<S: Sink>(
    sink: &mut S,
    kind: PacketType,
    flags: u8,
    remaining: usize,
) -> Result<(), EncodeError> {
    sink.u8(kind.first_byte(flags))?;
    sink.varint(remaining)
}

/// Bytes that a variable byte integer takes.
pub(crate) const fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}
