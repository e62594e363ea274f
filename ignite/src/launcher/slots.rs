//! Where PCMs are run: a slot each, which is a directory for its socket and, with containers, a user of its own.
//!
//! A slot is made before it is anybody's, as `pool-<number>`; claiming it is renaming the directory to the owner's PCM's
//! name, which only one can do and which does not happen by halves. What the directory is called, and whom it belongs to, is
//! the record of a claim: who comes after a launcher that died reads there what it was about. Running something in a slot is
//! left to `docker` and `process`.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};

use super::wire::PcmName;

/// Lowest user id of a PCM. All are below twice as much, far from every account.
const FIRST_USER: u32 = 1 << 30;
/// How a directory begins that is to go.
const GONE: &str = "gone-";
/// How long a launcher that ends may take to let go of the directory.
const HANDOVER: Duration = Duration::from_secs(5);

/// A number between 2^30 and 2^31: with containers it is the user and group of the PCM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot(u32);

impl Slot {
    /// Any slot; whether it is free is found out by making it.
    pub(super) fn random() -> Self {
        Self(FIRST_USER | (rand::random::<u32>() & (FIRST_USER - 1)))
    }

    /// The slot of a user.
    pub(super) fn of_user(uid: u32) -> Option<Self> {
        (FIRST_USER..FIRST_USER << 1).contains(&uid).then_some(Self(uid))
    }

    /// Reads what [`Self::number`] wrote.
    pub(super) fn parse(number: &str) -> Option<Self> {
        u32::from_str_radix(number, 16).ok().and_then(Self::of_user).filter(|slot| slot.number() == number)
    }

    /// Eight hexadecimal digits.
    pub(super) fn number(self) -> String {
        format!("{:08x}", self.0)
    }

    /// The user.
    pub(super) fn user(self) -> u32 {
        self.0
    }

    /// Name of its container while it is nobody's.
    pub(super) fn container(self) -> String {
        format!("pcm-pool-{}", self.number())
    }

    /// Name of its directory while it is nobody's.
    pub(super) fn directory(self) -> String {
        format!("pool-{}", self.number())
    }
}

/// The directory of all slots.
#[derive(Debug)]
pub(super) struct Slots {
    dir: PathBuf,
    /// The gateway's group, where each slot has a user of its own.
    peer_gid: Option<u32>,
    _lock: File,
}

/// A directory that was found, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nobody's yet.
    Pool(Slot),
    /// Somebody's, in the slot that its user tells; no slot if the user is another one.
    Claimed(PcmName, Option<Slot>),
    /// To be removed.
    Gone(String),
}

impl Slots {
    /// Takes over a directory that is there, for this launcher alone.
    ///
    /// # Errors
    /// Another launcher works there, or what the file system says.
    pub(super) fn open(dir: &Path, peer_gid: Option<u32>) -> anyhow::Result<Self> {
        let mode = match peer_gid {
            Some(gid) => {
                chown(dir, None, Some(gid)).with_context(|| format!("give {} its group", dir.display()))?;
                0o750
            }
            None => 0o700,
        };
        std::fs::set_permissions(dir, Permissions::from_mode(mode))
            .with_context(|| format!("set the mode of {}", dir.display()))?;
        let path = dir.join("lock");
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let deadline = std::time::Instant::now() + HANDOVER;
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            ensure!(std::time::Instant::now() < deadline, "another launcher works in {}", dir.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { dir: dir.to_owned(), peer_gid, _lock: lock })
    }

    /// Makes the directory of a slot that is free.
    ///
    /// # Errors
    /// `AlreadyExists` if it is not, or what the file system says.
    pub(super) fn make(&self, slot: Slot) -> io::Result<PathBuf> {
        let dir = self.dir.join(slot.directory());
        std::fs::create_dir(&dir)?;
        std::fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        if let Some(gid) = self.peer_gid {
            chown(&dir, Some(slot.user()), Some(gid))?;
            std::fs::set_permissions(&dir, Permissions::from_mode(0o2770))?;
        }
        Ok(dir)
    }

    /// Makes a slot somebody's.
    ///
    /// # Errors
    /// `AlreadyExists` if the name has a directory, `NotFound` if the slot has none (any more).
    pub(super) fn claim(&self, slot: Slot, name: &PcmName) -> io::Result<()> {
        let (from, to) = (self.dir.join(slot.directory()), self.dir.join(name.as_str()));
        Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    /// Removes a slot's directory, whatever it is called.
    pub(super) fn remove(&self, slot: Slot, name: Option<&PcmName>) -> io::Result<()> {
        let dir = match name {
            Some(name) => self.put_away(name)?,
            None => Some(self.dir.join(slot.directory())),
        };
        dir.map_or(Ok(()), |dir| remove_all(&dir))
    }

    /// Takes the name from its directory, so that another one can have it and nobody finds the socket any more.
    pub(super) fn put_away(&self, name: &PcmName) -> io::Result<Option<PathBuf>> {
        let away = self.dir.join(format!("{GONE}{}-{:08x}", name.as_str(), rand::random::<u32>()));
        match std::fs::rename(self.dir.join(name.as_str()), &away) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            done => done.map(|()| Some(away)),
        }
    }

    /// Removes what [`Self::put_away`] left.
    pub(super) fn remove_gone(&self, directory: &str) -> io::Result<()> {
        remove_all(&self.dir.join(directory))
    }

    /// The slot that a name has.
    pub(super) fn slot_of(&self, name: &PcmName) -> io::Result<Option<Slot>> {
        match std::fs::symlink_metadata(self.dir.join(name.as_str())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            found => found.map(|found| Slot::of_user(found.uid())),
        }
    }

    /// Whether a name has a directory.
    pub(super) fn is_taken(&self, name: &PcmName) -> bool {
        std::fs::symlink_metadata(self.dir.join(name.as_str())).is_ok()
    }

    /// Where a claimed PCM listens.
    pub(super) fn socket(&self, name: &PcmName) -> PathBuf {
        self.dir.join(name.as_str()).join("s")
    }

    /// Where one listens that is nobody's yet.
    pub(super) fn pool_socket(&self, slot: Slot) -> PathBuf {
        self.dir.join(slot.directory()).join("s")
    }

    /// Hides the socket from whoever would connect now, or shows it again.
    pub(super) fn hide(&self, name: &PcmName, hidden: bool) -> io::Result<()> {
        let (socket, away) = (self.socket(name), self.hidden(name));
        if hidden { std::fs::rename(socket, away) } else { std::fs::rename(away, socket) }
    }

    /// Where a hidden socket is.
    pub(super) fn hidden(&self, name: &PcmName) -> PathBuf {
        self.dir.join(name.as_str()).join("away")
    }

    /// Everything that is there and is a slot, or was one.
    pub(super) fn list(&self) -> io::Result<Vec<Found>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Ok(name) = PcmName::new(name) {
                match entry.metadata() {
                    Ok(metadata) => found.push(Found::Claimed(name, Slot::of_user(metadata.uid()))),
                    // It went while we looked.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            } else if let Some(slot) = name.strip_prefix("pool-").and_then(Slot::parse) {
                found.push(Found::Pool(slot));
            } else if name.starts_with(GONE) {
                found.push(Found::Gone(name.to_owned()));
            }
        }
        Ok(found)
    }
}

fn remove_all(dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(last: char) -> PcmName {
        PcmName::new(format!("pcm-{}{last}", "0".repeat(31))).unwrap()
    }

    #[test]
    fn a_slots_number_is_exactly_its_form() {
        let slot = Slot::random();
        assert_eq!(Slot::parse(&slot.number()), Some(slot));
        assert_eq!(Slot::of_user(slot.user()), Some(slot));
        for bad in ["", "0", "00000000", "80000000", "+7fffffff", "7FFFFFFF", "7fffffff/", "17fffffff"] {
            assert_eq!(Slot::parse(bad), None, "{bad}");
        }
        assert_eq!(Slot::of_user(0), None);
    }

    #[test]
    fn one_slot_is_claimed_once_and_one_name_has_one_slot() {
        let dir = tempfile::tempdir().unwrap();
        let slots = Slots::open(dir.path(), None).unwrap();
        let [first, second] = [Slot::random(), Slot::random()];
        slots.make(first).unwrap();
        slots.make(second).unwrap();
        assert_eq!(slots.make(first).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        slots.claim(first, &name('1')).unwrap();
        assert_eq!(slots.claim(second, &name('1')).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(slots.claim(first, &name('2')).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(slots.is_taken(&name('1')) && !slots.is_taken(&name('2')));

        let gone = slots.put_away(&name('1')).unwrap().unwrap();
        let mut found = slots.list().unwrap();
        found.sort_by_key(|found| matches!(found, Found::Gone(_)));
        let gone = gone.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(found, [Found::Pool(second), Found::Gone(gone.clone())]);
        slots.remove_gone(&gone).unwrap();
        slots.remove(second, None).unwrap();
        slots.remove(first, Some(&name('1'))).unwrap();
        assert_eq!(slots.list().unwrap(), []);
    }
}
