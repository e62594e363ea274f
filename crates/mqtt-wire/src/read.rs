//! Reading the standard's data types (§1.5) from a slice, without a panic and without a copy.

use crate::Error;

/// What is left to read.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// The rest must be empty.
    pub(crate) const fn end(self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::TrailingBytes) }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// Variable byte integer (§1.5.5), at most four bytes, shortest form only.
    pub(crate) fn varint(&mut self) -> Result<u32, Error> {
        let mut value = 0u32;
        for index in 0..4u32 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                return if index > 0 && byte == 0 { Err(Error::PropertyMalformed) } else { Ok(value) };
            }
        }
        Err(Error::PropertyMalformed)
    }

    pub(crate) fn packet_id(&mut self) -> Result<u16, Error> {
        match self.u16()? {
            0 => Err(Error::PacketId),
            id => Ok(id),
        }
    }

    /// Binary data (§1.5.6).
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// UTF-8 string (§1.5.4).
    pub(crate) fn text(&mut self) -> Result<&'a str, Error> {
        text(self.binary()?)
    }
}

/// Checks a UTF-8 string: U+0000 must not be there; control characters and non-characters, which the standard lets a
/// receiver refuse, are refused.
fn text(bytes: &[u8]) -> Result<&str, Error> {
    let text = core::str::from_utf8(bytes).map_err(|_| Error::Text)?;
    let mut ascii = true;
    for &byte in bytes {
        if byte < 0x20 || byte == 0x7F {
            return Err(Error::Text);
        }
        ascii &= byte < 0x80;
    }
    if !ascii && text.chars().any(is_refused) {
        return Err(Error::Text);
    }
    Ok(text)
}

const fn is_refused(character: char) -> bool {
    let code = character as u32;
    matches!(code, 0x80..=0x9F | 0xFDD0..=0xFDEF) || code & 0xFFFE == 0xFFFE
}
