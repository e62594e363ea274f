//! A folder as flash: each slot is a file that is replaced as a whole.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use device_client::{Flash, SLOT_LEN};

/// Two slot files in a folder, readable by their owner only.
#[derive(Debug)]
pub struct FileFlash {
    folder: PathBuf,
}

impl FileFlash {
    /// The flash in `folder`, which is made if it does not exist.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, slot: usize) -> PathBuf {
        self.folder.join(format!("slot{slot}"))
    }
}

impl Flash for FileFlash {
    type Error = io::Error;

    fn read(&mut self, slot: usize, out: &mut [u8; SLOT_LEN]) -> io::Result<usize> {
        match fs::read(self.path(slot)) {
            Ok(held) => {
                let len = held.len().min(SLOT_LEN);
                out[..len].copy_from_slice(&held[..len]);
                Ok(len)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, slot: usize, bytes: &[u8]) -> io::Result<()> {
        replace(&self.path(slot), bytes)
    }
}

/// Replaces a file as a whole: after a power cut it holds the old bytes or the new ones, and only its owner reads it.
///
/// # Errors
/// As the file system says.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_client::{Record, Server, Slots};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_record_survives_in_files_that_nobody_else_reads() {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server::new("didp.localhost", 8884).unwrap();
        assert!(server.pin([1; 32]));
        let record = Record::new("id", "secret", server).unwrap();
        let mut slots = Slots::new(FileFlash::open(dir.path()).unwrap());
        assert_eq!(slots.load().unwrap(), None);
        slots.save(&record).unwrap();
        slots.save(&record).unwrap();
        let mut again = Slots::new(FileFlash::open(dir.path()).unwrap());
        assert_eq!(again.load().unwrap(), Some(record));
        for entry in fs::read_dir(dir.path()).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
