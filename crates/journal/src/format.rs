//! How a file looks: a header that tells whose it is, then frames, each sealed for its place.
//!
//! ```text
//! header  magic "OAPCMJ" ‖ version u16 ‖ generation u64 ‖ salt 32 bytes ‖ tag 16 bytes
//! frame   length u32 ‖ ciphertext of that length ‖ tag 16 bytes
//! ```
//!
//! Numbers are little-endian. The file's key is HKDF-SHA256 of the journal's key with the salt and the journal's name,
//! and no two files ever have the same salt, so that a frame's number is its nonce. Frames count from 1; number 0 seals
//! the header. Name, generation and frame number are associated data.

use crate::storage::Storage;
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use hkdf::Hkdf;
use sha2::Sha256;
use std::io;
use zeroize::Zeroizing;

pub(crate) const HEADER: u64 = 64;
pub(crate) const VERSION: u16 = 1;
/// Bytes of a frame beside its records.
pub(crate) const OVERHEAD: u64 = 4 + TAG as u64;
const MAGIC: [u8; 6] = *b"OAPCMJ";
const OPEN: usize = 48;
const TAG: usize = 16;

/// What a file's first bytes say.
pub(crate) enum Head {
    /// Nothing, or the beginning of a header that was never finished.
    Blank,
    /// Another program's file.
    Foreign,
    /// Of this version or another.
    Other(u16),
    Ours(Header),
}

/// A header as it was written.
pub(crate) struct Header {
    pub(crate) generation: u64,
    bytes: [u8; HEADER as usize],
}

impl Header {
    /// Reads the header of a file.
    pub(crate) fn read(file: &impl Storage) -> io::Result<Head> {
        let mut bytes = [0; HEADER as usize];
        let length = file.length()?;
        let there = usize::try_from(length.min(HEADER)).unwrap_or(0);
        let start = bytes.split_at_mut(there).0;
        file.read(start, 0)?;
        let is_begun = start.iter().zip(MAGIC).all(|(found, wanted)| *found == wanted);
        if start.iter().all(|byte| *byte == 0) || (is_begun && length < HEADER) {
            return Ok(Head::Blank);
        }
        if !is_begun {
            return Ok(Head::Foreign);
        }
        let [.., a, b, c, d, e, f, g, h, i, j] = *bytes.first_chunk::<16>().unwrap_or(&[0; 16]);
        match u16::from_le_bytes([a, b]) {
            VERSION => {
                Ok(Head::Ours(Header { generation: u64::from_le_bytes([c, d, e, f, g, h, i, j]), bytes }))
            }
            other => Ok(Head::Other(other)),
        }
    }
}

/// What seals and opens the frames of one file.
pub(crate) struct Seal {
    cipher: ChaCha20Poly1305,
    name: Box<str>,
    generation: u64,
}

impl Seal {
    fn of(key: &[u8; 32], name: &str, salt: &[u8], generation: u64) -> Seal {
        let salt = [salt, name.as_bytes()].concat();
        let mut file_key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(&salt), key)
            .expand(b"journal file", file_key.as_mut_slice())
            .expect("HKDF-SHA256 gives 32 bytes");
        Seal { cipher: ChaCha20Poly1305::new((&*file_key).into()), name: name.into(), generation }
    }

    /// A new file's seal and header.
    pub(crate) fn new(key: &[u8; 32], name: &str, salt: [u8; 32], generation: u64) -> (Seal, Vec<u8>) {
        let seal = Seal::of(key, name, &salt, generation);
        let mut header = Vec::with_capacity(HEADER as usize);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&generation.to_le_bytes());
        header.extend_from_slice(&salt);
        let tag = seal.tag(0, &header, &mut []);
        header.extend_from_slice(&tag);
        (seal, header)
    }

    /// The seal of a file that is there, if this is its key and name.
    pub(crate) fn existing(key: &[u8; 32], name: &str, header: &Header) -> Option<Seal> {
        let (open, tag) = header.bytes.split_at(OPEN);
        let seal = Seal::of(key, name, open.get(16..)?, header.generation);
        seal.open(0, open, &mut [], tag).then_some(seal)
    }

    fn associated(&self, number: u64, more: &[u8]) -> Vec<u8> {
        let (generation, number) = (self.generation.to_le_bytes(), number.to_le_bytes());
        [self.name.as_bytes(), &[0], &generation, &number, more].concat()
    }

    fn tag(&self, number: u64, more: &[u8], bytes: &mut [u8]) -> Tag {
        let sealed =
            self.cipher.encrypt_in_place_detached(&nonce(number), &self.associated(number, more), bytes);
        sealed.expect("a frame is far from 256 GiB long")
    }

    fn open(&self, number: u64, more: &[u8], bytes: &mut [u8], tag: &[u8]) -> bool {
        let associated = self.associated(number, more);
        tag.len() == TAG
            && self
                .cipher
                .decrypt_in_place_detached(&nonce(number), &associated, bytes, Tag::from_slice(tag))
                .is_ok()
    }

    /// Makes a frame of these records in `frame`.
    pub(crate) fn frame(&self, number: u64, records: &[u8], frame: &mut Vec<u8>) -> io::Result<()> {
        let length = u32::try_from(records.len()).map_err(io::Error::other)?;
        frame.clear();
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(records);
        let tag = self.tag(number, &[], frame.split_at_mut(4).1);
        frame.extend_from_slice(&tag);
        Ok(())
    }
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce.split_at_mut(4).1.copy_from_slice(&number.to_le_bytes());
    nonce.into()
}

/// Reads the frames of a file one after the other, to its end or to the first that is not whole.
pub(crate) struct Frames<'a, S> {
    file: &'a S,
    seal: &'a Seal,
    /// Where the next one begins, up to where all are whole.
    pub(crate) at: u64,
    length: u64,
    /// Number of the last one.
    pub(crate) number: u64,
}

impl<'a, S: Storage> Frames<'a, S> {
    pub(crate) fn of(file: &'a S, seal: &'a Seal) -> io::Result<Frames<'a, S>> {
        Ok(Frames { file, seal, at: HEADER, length: file.length()?, number: 0 })
    }

    /// Puts the next frame's records into `records`; answers false at the end.
    pub(crate) fn next(&mut self, records: &mut Vec<u8>) -> io::Result<bool> {
        records.clear();
        let left = self.length.saturating_sub(self.at);
        if left < OVERHEAD {
            return Ok(false);
        }
        let mut length = [0; 4];
        self.file.read(&mut length, self.at)?;
        let length = u64::from(u32::from_le_bytes(length));
        // What is allocated is never more than the file has.
        let Some(whole) = usize::try_from(length).ok().filter(|_| length <= left - OVERHEAD) else {
            return Ok(false);
        };
        records.resize(whole + TAG, 0);
        self.file.read(records, self.at + 4)?;
        let (bytes, tag) = records.split_at_mut(whole);
        if !self.seal.open(self.number + 1, &[], bytes, tag) {
            records.clear();
            return Ok(false);
        }
        records.truncate(whole);
        self.number += 1;
        self.at += length + OVERHEAD;
        Ok(true)
    }
}
