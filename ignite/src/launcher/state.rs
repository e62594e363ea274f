//! What PCMs keep over their own end: a directory of two files each, which only `remove` deletes.
//!
//! The launcher opens the files and hands them over when it says whose a PCM is; no PCM sees a directory of them, not even its
//! own. One that died, hung or is out of date loses its process or container and its socket's directory, never these. What lies
//! in them is the PCM's, encrypted with a key that the launcher does not have.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, OFlags, flock};
use tokio::time::{Instant, sleep};

use super::wire::PcmName;

/// How long an earlier PCM may take to let go of its files.
const HANDOVER: Duration = Duration::from_secs(5);
/// Pause between two looks whether it has.
const HANDOVER_PAUSE: Duration = Duration::from_millis(10);

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

    /// The two files of this PCM, made if they are not there, and locked for whoever holds them: as long as an earlier PCM has
    /// them, no other gets them.
    pub(super) async fn open(&self, name: &PcmName) -> io::Result<[File; 2]> {
        let dir = self.dir.join(name.as_str());
        match std::fs::create_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if !own(&dir, 0o700)?.is_some_and(|found| found.is_dir()) {
            return Err(io::Error::other("there is something else in the place of the PCM's state"));
        }
        let files = [open(&dir.join("a"))?, open(&dir.join("b"))?];
        let deadline = Instant::now() + HANDOVER;
        while let Err(error) = flock(&files[0], FlockOperation::NonBlockingLockExclusive) {
            if Instant::now() >= deadline {
                return Err(io::Error::other(format!("another PCM has the state still: {error}")));
            }
            sleep(HANDOVER_PAUSE).await;
        }
        Ok(files)
    }

    /// Deletes what this PCM, which does not run any more, has kept.
    pub(super) fn erase(&self, name: &PcmName) -> io::Result<()> {
        erase(&self.dir.join(name.as_str()))
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A link would be somebody else's file, and a pipe would make us wait.
    if own(path, 0o600)?.is_some_and(|found| !found.is_file()) {
        return Err(io::Error::other("there is something else in the place of a file of the PCM's state"));
    }
    let no_links = OFlags::NOFOLLOW.bits().cast_signed();
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_links)
        .open(path)
}

/// Takes what is there over from whoever had it: an earlier version gave each PCM its own.
fn own(path: &Path, mode: u32) -> io::Result<Option<std::fs::Metadata>> {
    let found = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if found.is_dir() || found.is_file() {
        let user = rustix::process::getuid().as_raw();
        if found.uid() != user {
            chown(path, Some(user), None)?;
        }
        if found.mode() & 0o7777 != mode {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(Some(found))
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
    use std::io::Write as _;

    use super::*;

    fn name() -> PcmName {
        PcmName::new(format!("pcm-{}", "a".repeat(32))).unwrap()
    }

    #[tokio::test]
    async fn what_is_there_stays_until_it_is_erased() {
        let dir = tempfile::tempdir().unwrap();
        let states = States::new(&dir.path().join("state")).unwrap();
        let files = states.open(&name()).await.unwrap();
        (&files[0]).write_all(b"kept").unwrap();
        drop(files);
        let own = dir.path().join("state").join(name().as_str());
        assert_eq!(std::fs::read(own.join("a")).unwrap(), b"kept");
        drop(states.open(&name()).await.unwrap());
        assert_eq!(std::fs::read(own.join("a")).unwrap(), b"kept");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&own), mode(own.parent().unwrap()), mode(&own.join("b"))), (0o700, 0o700, 0o600));

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

    #[tokio::test]
    async fn two_pcms_never_have_one_state() {
        let dir = tempfile::tempdir().unwrap();
        let states = States::new(dir.path()).unwrap();
        let name = name();
        let first = states.open(&name).await.unwrap();
        let (second, ()) = tokio::join!(states.open(&name), async move {
            sleep(Duration::from_millis(50)).await;
            drop(first);
        });
        second.unwrap();
    }

    #[tokio::test]
    async fn a_link_in_its_place_is_no_state() {
        let dir = tempfile::tempdir().unwrap();
        let states = States::new(dir.path()).unwrap();
        let own = dir.path().join(name().as_str());
        std::os::unix::fs::symlink("/", &own).unwrap();
        assert!(states.open(&name()).await.is_err());
        states.erase(&name()).unwrap();
        assert!(std::fs::symlink_metadata(&own).is_err());
        std::fs::create_dir(&own).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", own.join("a")).unwrap();
        assert!(states.open(&name()).await.is_err());
    }
}
