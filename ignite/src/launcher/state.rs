//! What PCMs keep over their own end: a directory each, which only `remove` deletes.
//!
//! A PCM that died, hung or is out of date loses its process or container and its socket's directory, never this one. What
//! lies in it is the PCM's, encrypted with a key that the launcher does not have.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::wire::PcmName;

/// Longest file that a PCM may write, in bytes. It has two of them.
pub(super) const LONGEST_FILE: u64 = 48 << 20;

/// The directory of all of them.
#[derive(Debug)]
pub(super) struct States {
    dir: PathBuf,
}

impl States {
    /// Takes over the directory, which nobody else may look into.
    pub(super) fn new(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("set the mode of {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The directory of this PCM, made if it is not there, for the launcher's own user, or user and group `owner`, and no one else.
    pub(super) fn prepare(&self, name: &PcmName, owner: Option<u32>) -> io::Result<PathBuf> {
        let dir = self.dir.join(name.as_str());
        match std::fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let found = std::fs::symlink_metadata(&dir)?;
        if !found.is_dir() {
            return Err(io::Error::other("there is something else in the place of the PCM's state"));
        }
        if found.mode() & 0o7777 != 0o700 {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        }
        if let Some(owner) = owner.filter(|owner| (found.uid(), found.gid()) != (*owner, *owner)) {
            chown(&dir, Some(owner), Some(owner))?;
        }
        Ok(dir)
    }

    /// Deletes what this PCM, which does not run any more, has kept.
    pub(super) fn erase(&self, name: &PcmName) -> io::Result<()> {
        erase(&self.dir.join(name.as_str()))
    }
}

/// Deletes a tree that belongs to another user. The launcher may give itself a directory, but has no right to look into other
/// people's ones.
fn erase(path: &Path) -> io::Result<()> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.is_dir() {
        return std::fs::remove_file(path);
    }
    let own = rustix::process::getuid().as_raw();
    if found.uid() != own {
        chown(path, Some(own), None)?;
    }
    if found.mode() & 0o700 != 0o700 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    }
    for entry in std::fs::read_dir(path)? {
        erase(&entry?.path())?;
    }
    std::fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> PcmName {
        PcmName::new(format!("pcm-{}", "a".repeat(32))).unwrap()
    }

    #[test]
    fn what_is_there_stays_until_it_is_erased() {
        let dir = tempfile::tempdir().unwrap();
        let states = States::new(&dir.path().join("state")).unwrap();
        let own = states.prepare(&name(), None).unwrap();
        std::fs::write(own.join("a"), "kept").unwrap();
        assert_eq!(states.prepare(&name(), None).unwrap(), own);
        assert_eq!(std::fs::read(own.join("a")).unwrap(), b"kept");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&own), mode(own.parent().unwrap())), (0o700, 0o700));

        // Neither a closed directory nor a link to somebody else's stands in the way.
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("b"), "not ours").unwrap();
        std::os::unix::fs::symlink(&elsewhere, own.join("link")).unwrap();
        std::fs::create_dir(own.join("closed")).unwrap();
        std::fs::write(own.join("closed/c"), "deep").unwrap();
        std::fs::set_permissions(own.join("closed"), std::fs::Permissions::from_mode(0o0)).unwrap();
        states.erase(&name()).unwrap();
        assert!(!own.exists() && elsewhere.join("b").exists());
        states.erase(&name()).unwrap();
    }

    #[test]
    fn a_link_in_its_place_is_no_state() {
        let dir = tempfile::tempdir().unwrap();
        let states = States::new(dir.path()).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join(name().as_str())).unwrap();
        assert!(states.prepare(&name(), None).is_err());
        states.erase(&name()).unwrap();
        assert!(std::fs::symlink_metadata(dir.path().join(name().as_str())).is_err());
    }
}
