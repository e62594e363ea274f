//! Two slots in flash: a record is written whole or not at all, whenever the power goes.
//!
//! A write goes to the slot that does not hold the newest record, so that record stays readable until the new one is
//! complete; writes alternate, which wears both slots evenly. A slot is valid if its CRC is right; the higher sequence
//! number (modulo 2³²) wins. How a slot is erased and programmed is left to [`Flash`].
//!
//! ```text
//! 0  "OAD1"    magic and format
//! 4  u32 LE    sequence number
//! 8  u16 LE    length of the record
//! 10 …         the record (crate::record)
//!    u32 LE    CRC-32 (IEEE 802.3) over all before it
//! ```

use crate::record::{MAX_RECORD, Record};

/// Bytes that a slot must hold.
pub const SLOT_LEN: usize = HEAD + MAX_RECORD + 4;

const MAGIC: [u8; 4] = *b"OAD1";
const HEAD: usize = 10;

/// Two places of [`SLOT_LEN`] bytes that keep what is written to them.
pub trait Flash {
    /// What can go wrong.
    type Error;

    /// Fills the beginning of `out` with what slot 0 or 1 holds and returns how much that is; less than it should be, or
    /// garbage, is for the caller to find out. A slot that was never written may have length 0.
    fn read(&mut self, slot: usize, out: &mut [u8; SLOT_LEN]) -> Result<usize, Self::Error>;

    /// Replaces what slot 0 or 1 holds. May be interrupted at any byte, but must not touch the other slot, and must not
    /// return before the bytes are where a power cut cannot take them.
    fn write(&mut self, slot: usize, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Why a record was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveError<E> {
    /// The flash said so.
    Flash(E),
    /// What was read back is not what was written.
    Worn,
}

/// A record store in two slots.
///
/// Holds one slot's worth of memory, which belongs into a static on a small chip.
pub struct Slots<F> {
    flash: F,
    buffer: [u8; SLOT_LEN],
    newest: Option<(usize, u32)>,
}

impl<F: Flash> Slots<F> {
    /// A store on `flash`; nothing is read yet.
    pub fn new(flash: F) -> Self {
        Self { flash, buffer: [0; SLOT_LEN], newest: None }
    }

    /// The newest whole record, if there is one. A slot that cannot be read counts as empty, so that one worn slot does
    /// not hide the other; an error only if neither gave a record and one could not be read.
    pub fn load(&mut self) -> Result<Option<Record>, F::Error> {
        let mut found: Option<(usize, u32, Record)> = None;
        let mut failed = None;
        for slot in 0..2 {
            match self.flash.read(slot, &mut self.buffer) {
                Ok(len) => {
                    let Some((sequence, record)) = self.buffer.get(..len).and_then(parse) else { continue };
                    let newer = found.as_ref().is_none_or(|(_, other, _)| is_after(sequence, *other));
                    if newer {
                        found = Some((slot, sequence, record));
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        self.newest = found.as_ref().map(|(slot, sequence, _)| (*slot, *sequence));
        match (found, failed) {
            (Some((_, _, record)), _) => Ok(Some(record)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// Stores `record` as one atomic step. Call [`Slots::load`] once before.
    pub fn save(&mut self, record: &Record) -> Result<(), SaveError<F::Error>> {
        let (slot, sequence) = match self.newest {
            Some((slot, sequence)) => (1 - slot, sequence.wrapping_add(1)),
            None => (0, 1),
        };
        let len = compose(record, sequence, &mut self.buffer);
        self.flash.write(slot, &self.buffer[..len]).map_err(SaveError::Flash)?;
        let read = self.flash.read(slot, &mut self.buffer).map_err(SaveError::Flash)?;
        match self.buffer.get(..read).and_then(parse) {
            Some((seen, back)) if seen == sequence && back == *record => {
                self.newest = Some((slot, sequence));
                Ok(())
            }
            _ => Err(SaveError::Worn),
        }
    }

    /// The flash, for those who need it beside the store.
    pub fn flash(&mut self) -> &mut F {
        &mut self.flash
    }
}

/// Writes the image of a first slot that holds `record`, for whoever flashes a device, and returns its length.
pub fn image(record: &Record, out: &mut [u8; SLOT_LEN]) -> usize {
    compose(record, 1, out)
}

fn compose(record: &Record, sequence: u32, out: &mut [u8; SLOT_LEN]) -> usize {
    out[..4].copy_from_slice(&MAGIC);
    out[4..8].copy_from_slice(&sequence.to_le_bytes());
    // Every field is bounded and the slot has room for all bounds together (tested).
    let len = record.encode(&mut out[HEAD..HEAD + MAX_RECORD]).unwrap_or(0);
    out[8..HEAD].copy_from_slice(&(len as u16).to_le_bytes());
    let crc = crc32(&out[..HEAD + len]);
    out[HEAD + len..HEAD + len + 4].copy_from_slice(&crc.to_le_bytes());
    HEAD + len + 4
}

fn parse(bytes: &[u8]) -> Option<(u32, Record)> {
    let head: &[u8; HEAD] = bytes.first_chunk()?;
    if head[..4] != MAGIC {
        return None;
    }
    let sequence = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    let end = HEAD + usize::from(u16::from_le_bytes([head[8], head[9]]));
    let crc = bytes.get(end..end + 4)?;
    if crc != crc32(&bytes[..end]).to_le_bytes() {
        return None;
    }
    Some((sequence, Record::decode(&bytes[HEAD..end]).ok()?))
}

fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

/// CRC-32 of IEEE 802.3, bit by bit: a table would cost a kilobyte for a sum that is needed a few times a day.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{largest, server};
    use crate::record::{Code, Ownership};
    use crate::text::Text;
    use proptest::prelude::*;

    /// Flash that loses power: a write erases first, then stops after `power` bytes.
    #[derive(Clone)]
    struct Brittle {
        slots: [Vec<u8>; 2],
        power: usize,
        worn: Option<usize>,
        writes: [usize; 2],
    }

    impl Default for Brittle {
        fn default() -> Self {
            Self { slots: [Vec::new(), Vec::new()], power: usize::MAX, worn: None, writes: [0; 2] }
        }
    }

    impl Flash for Brittle {
        type Error = ();

        fn read(&mut self, slot: usize, out: &mut [u8; SLOT_LEN]) -> Result<usize, ()> {
            let held = &self.slots[slot];
            out[..held.len()].copy_from_slice(held);
            Ok(held.len())
        }

        fn write(&mut self, slot: usize, bytes: &[u8]) -> Result<(), ()> {
            self.writes[slot] += 1;
            self.slots[slot] = vec![0xFF; SLOT_LEN];
            let written = bytes.len().min(self.power);
            self.slots[slot][..written].copy_from_slice(&bytes[..written]);
            if let Some(bit) = self.worn {
                self.slots[slot][bit / 8] ^= 1 << (bit % 8);
            }
            if self.power < bytes.len() { Err(()) } else { Ok(()) }
        }
    }

    fn first() -> Record {
        Record::new("id", "secret", server("didp.localhost", 8884)).unwrap()
    }

    fn second() -> Record {
        let code = Code { code: Text::new("code").unwrap(), verifier: Text::new("verifier").unwrap() };
        Record { ownership: Ownership::Granted(code), ..first() }
    }

    #[test]
    fn the_check_value_of_crc_32() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn empty_flash_has_no_record() {
        assert_eq!(Slots::new(Brittle::default()).load(), Ok(None));
        let erased = Brittle { slots: [vec![0xFF; SLOT_LEN], vec![0xFF; SLOT_LEN]], ..Brittle::default() };
        assert_eq!(Slots::new(erased).load(), Ok(None));
    }

    #[test]
    fn power_loss_at_every_byte_leaves_the_old_record_or_the_new_one() {
        for (old, new) in [(first(), second()), (second(), largest()), (largest(), first())] {
            // Both slots in use, so that the write that fails erases the older of two good ones.
            let mut slots = Slots::new(Brittle::default());
            assert_eq!(slots.load(), Ok(None));
            slots.save(&new).unwrap();
            slots.save(&old).unwrap();
            let before = slots.flash().clone();
            let whole = { compose(&new, 3, &mut [0; SLOT_LEN]) };
            for power in 0..=whole {
                let mut cut = Slots::new(Brittle { power, ..before.clone() });
                assert_eq!(cut.load(), Ok(Some(old.clone())));
                let saved = cut.save(&new).is_ok();
                assert_eq!(saved, power == whole, "cut at {power}");
                // Restart with what the flash holds now, and go on.
                let mut after = Slots::new(Brittle { power: usize::MAX, ..cut.flash().clone() });
                let expected = if saved { &new } else { &old };
                assert_eq!(after.load().unwrap().as_ref(), Some(expected), "cut at {power}");
                after.save(&largest()).unwrap();
                let mut again = Slots::new(after.flash().clone());
                assert_eq!(again.load(), Ok(Some(largest())), "cut at {power}");
            }
        }
    }

    #[test]
    fn a_failed_write_does_not_make_the_next_one_erase_the_good_slot() {
        let mut slots = Slots::new(Brittle::default());
        slots.load().unwrap();
        slots.save(&first()).unwrap();
        for _ in 0..3 {
            slots.flash().power = 20;
            assert!(slots.save(&second()).is_err());
            assert_eq!(Slots::new(slots.flash().clone()).load(), Ok(Some(first())));
        }
    }

    #[test]
    fn worn_cells_are_noticed() {
        let mut slots = Slots::new(Brittle { worn: Some(8 * 30), ..Brittle::default() });
        slots.load().unwrap();
        assert_eq!(slots.save(&first()), Err(SaveError::Worn));
    }

    #[test]
    fn writes_alternate_and_the_sequence_number_may_wrap() {
        let mut slots = Slots::new(Brittle::default());
        slots.load().unwrap();
        slots.newest = Some((1, u32::MAX - 3));
        for n in 0..10 {
            let record = Record { client_secret: Text::new(&format!("{n}")).unwrap(), ..first() };
            slots.save(&record).unwrap();
            assert_eq!(Slots::new(slots.flash().clone()).load(), Ok(Some(record)));
        }
        assert_eq!(slots.flash().writes, [5, 5]);
    }

    proptest! {
        #[test]
        fn garbage_in_one_slot_does_not_hide_the_other(garbage in prop::collection::vec(any::<u8>(), 0..SLOT_LEN)) {
            let mut slots = Slots::new(Brittle::default());
            slots.load().unwrap();
            slots.save(&first()).unwrap();
            slots.flash().slots[1] = garbage;
            prop_assert_eq!(slots.load(), Ok(Some(first())));
        }

        #[test]
        fn a_flipped_bit_is_noticed(bit: prop::sample::Index) {
            let mut slots = Slots::new(Brittle::default());
            slots.load().unwrap();
            slots.save(&second()).unwrap();
            let bit = bit.index(8 * compose(&second(), 1, &mut [0; SLOT_LEN]));
            slots.flash().slots[0][bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(slots.load(), Ok(None));
        }
    }
}
