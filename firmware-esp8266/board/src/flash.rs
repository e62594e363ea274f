//! NOR flash of the emulated board: a file in which bits can be cleared one by one and set only a sector at a time.
//!
//! The record's two slots lie in two sectors, at the place where the flash image of `cargo xtask flash-image` puts them.

use device_client::{Flash, SLOT_LEN};

use crate::machine::File;

/// Bytes of a sector.
pub const SECTOR: usize = 4096;

const _: () = assert!(SLOT_LEN <= SECTOR);

/// Piece of a sector that is erased or written at once.
const PAGE: usize = 256;

/// The flash could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Two sectors of flash.
pub struct Sectors(Option<File>);

impl Sectors {
    /// The sectors in the file `flash.bin`, which is made beforehand.
    #[must_use]
    pub fn open() -> Self {
        Self(File::open(c"flash.bin"))
    }

    fn file(&self) -> Result<&File, Broken> {
        self.0.as_ref().ok_or(Broken)
    }
}

impl Flash for Sectors {
    type Error = Broken;

    fn read(&mut self, slot: usize, out: &mut [u8; SLOT_LEN]) -> Result<usize, Broken> {
        self.file()?.read((slot * SECTOR) as u32, out).ok_or(Broken)
    }

    fn write(&mut self, slot: usize, bytes: &[u8]) -> Result<(), Broken> {
        let file = self.file()?;
        let start = slot * SECTOR;
        for page in 0..SECTOR / PAGE {
            file.write((start + page * PAGE) as u32, &[0xff; PAGE]).ok_or(Broken)?;
        }
        for (page, bytes) in bytes.chunks(PAGE).enumerate() {
            file.write((start + page * PAGE) as u32, bytes).ok_or(Broken)?;
        }
        Ok(())
    }
}
