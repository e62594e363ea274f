//! An encrypted journal in two files that survives being killed at any byte.
//!
//! A file begins with a snapshot, records of a whole state, and goes on with the records of what changed since: the log.
//! When the log has grown, or something must not linger in it, [`Journal::compact`] writes a new snapshot into the other
//! file, ends it with a marker, and only then empties this one. So there is always one file that is whole up to its last
//! commit, whatever moment a process dies at; [`Journal::open`] finds the newest one. A file that was opened is read, not
//! continued: the first write is a compaction, with a key of its own.
//!
//! What it protects: nobody without the key reads a record, makes one up, or moves one to another place, file or journal.
//! Not that somebody puts an earlier state of both files back, or cuts the end off: whoever can write the files can.
//!
//! Left to others: what records mean, when to commit, where key, name and salts come from.

mod format;
mod storage;

pub use storage::Storage;

use format::{Frames, HEADER, Head, Header, OVERHEAD, Seal};
use std::fmt;
use std::io;
use zeroize::Zeroizing;

/// A log shorter than this is not worth a compaction.
const WORTH_COMPACTING: u64 = 256 << 10;
/// A log may be so many times as long as its snapshot.
const TIMES: u64 = 4;

/// How a journal is kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Longest file in bytes; at least 512 KiB. A state whose snapshot leaves less than 256 KiB of it is refused.
    pub cap: u64,
    /// Whether a commit waits for the medium (`fdatasync`): then what is committed also survives a loss of power.
    pub sync: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { cap: 16 << 20, sync: false }
    }
}

/// Why a journal cannot be opened. Its files are as they were.
#[derive(Debug)]
pub enum Error {
    /// The file is no journal, or one of another key or name.
    Foreign,
    /// Written by a version that this one does not know.
    Unsupported(u16),
    /// The system's.
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Foreign => f.write_str("the journal is of another key or name, or no journal"),
            Error::Unsupported(version) => write!(f, "the journal has version {version}, which is not known"),
            Error::Io(error) => write!(f, "the journal cannot be read: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Foreign | Error::Unsupported(_) => None,
            Error::Io(error) => Some(error),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

/// The newest state that a file has.
struct Found {
    file: usize,
    seal: Seal,
    /// Frames that are whole.
    frames: u64,
    /// Bytes after them.
    torn: u64,
}

/// The file that is being written.
struct Active {
    file: usize,
    seal: Seal,
    /// Number of the next frame, and where it goes.
    next: u64,
    at: u64,
    /// Where the snapshot ends.
    snapshot: u64,
    /// A write has failed: what is after `at` is unknown, and a nonce may be spent.
    is_torn: bool,
}

/// A journal in two files.
pub struct Journal<S> {
    files: [S; 2],
    key: Zeroizing<[u8; 32]>,
    name: Box<str>,
    options: Options,
    /// The highest generation that any file has had.
    generation: u64,
    found: Option<Found>,
    active: Option<Active>,
    frame: Vec<u8>,
}

impl<S: Storage> Journal<S> {
    /// Opens what is in the files, if it is of this key and name, or nothing. The files stay as they are until the
    /// first [`Self::compact`].
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(files: [S; 2], key: &[u8; 32], name: &str, options: Options) -> Result<Journal<S>, Error> {
        let mut candidates = Vec::new();
        for (at, file) in files.iter().enumerate() {
            match Header::read(file)? {
                Head::Blank => {}
                Head::Foreign => return Err(Error::Foreign),
                Head::Other(version) => return Err(Error::Unsupported(version)),
                Head::Ours(header) => {
                    let seal = Seal::existing(key, name, &header).ok_or(Error::Foreign)?;
                    candidates.push((header.generation, at, seal));
                }
            }
        }
        candidates.sort_unstable_by_key(|(generation, ..)| std::cmp::Reverse(*generation));
        let generation = candidates.first().map_or(0, |(generation, ..)| *generation);
        let (mut found, mut partial) = (None, None);
        for (of, at, seal) in candidates {
            let Some(file) = files.get(at) else { continue };
            let (frames, torn, is_valid) = measure(file, &seal)?;
            let state = Some(Found { file: at, seal, frames, torn });
            if is_valid {
                found = state;
                break;
            }
            // An unfinished first generation never had anything in it that was committed. In any other case without a
            // finished one the medium has lost something: what comes before the loss is better than nothing.
            if partial.is_none() && of > 1 && frames > 0 {
                partial = state;
            }
        }
        Ok(Journal {
            files,
            key: Zeroizing::new(*key),
            name: name.into(),
            options,
            generation,
            found: found.or(partial),
            active: None,
            frame: Vec::new(),
        })
    }

    /// Whether these are its key and name.
    pub fn is_of(&self, key: &[u8; 32], name: &str) -> bool {
        let differs = self.key.iter().zip(key).fold(0, |differs, (own, other)| differs | (own ^ other));
        differs == 0 && *self.name == *name
    }

    /// Bytes at the end of what was opened that are no commit: the last one was not finished, or they were damaged.
    pub fn torn(&self) -> u64 {
        self.found.as_ref().map_or(0, |found| found.torn)
    }

    /// Gives out the records that were found, commit by commit.
    ///
    /// # Errors
    /// The system's, or the first of `take`.
    pub fn replay(&self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let Some(found) = &self.found else { return Ok(()) };
        let Some(file) = self.files.get(found.file) else { return Ok(()) };
        let mut frames = Frames::of(file, &found.seal)?;
        let mut records = Vec::new();
        while frames.number < found.frames && frames.next(&mut records)? {
            if !records.is_empty() {
                take(&records)?;
            }
        }
        Ok(())
    }

    /// Bytes of both files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.length().unwrap_or(0)).sum()
    }

    /// Whether a compaction is due rather than so many more bytes of records: always before the first one.
    pub fn wants_compaction(&self, more: usize) -> bool {
        self.active.as_ref().is_none_or(|active| {
            let end = active.at + more as u64 + OVERHEAD;
            active.is_torn
                || end - active.snapshot > WORTH_COMPACTING.max(TIMES * active.snapshot)
                || end > self.options.cap
        })
    }

    /// Commits records, all of them or none.
    ///
    /// # Errors
    /// The system's, or a file that would be too long. Nothing can be appended then before a compaction.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let active = self.active.as_mut().filter(|active| !active.is_torn);
        let active = active.ok_or_else(|| io::Error::other("the journal must be compacted first"))?;
        let Some(file) = self.files.get(active.file) else { return Ok(()) };
        let written = put(file, active, records, &mut self.frame, self.options.cap)
            .and_then(|()| if self.options.sync { file.sync() } else { Ok(()) });
        self.frame.clear();
        self.frame.shrink_to(KEPT_CAPACITY);
        active.is_torn = written.is_err();
        written
    }

    /// Begins a new generation in the other file with what `snapshot` pushes, and empties this one. `salt` must be random.
    ///
    /// # Errors
    /// The system's, or a file that would be too long, or the first of `snapshot`. What was kept is kept then.
    pub fn compact(
        &mut self,
        salt: [u8; 32],
        snapshot: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        let used = self.active.as_ref().map(|active| active.file);
        let used = used.or(self.found.as_ref().map(|found| found.file));
        let target = usize::from(used == Some(0));
        let Some(file) = self.files.get(target) else { return Ok(()) };
        self.generation += 1;
        let (seal, header) = Seal::new(&self.key, &self.name, salt, self.generation);
        let mut next = Active { file: target, seal, next: 1, at: HEADER, snapshot: 0, is_torn: false };
        let cap = self.options.cap.saturating_sub(WORTH_COMPACTING);
        let frame = &mut self.frame;
        let write = || {
            file.cut(0)?;
            file.write(&header, 0)?;
            snapshot(&mut |records| match records {
                // An empty frame is the marker.
                [] => Ok(()),
                records => put(file, &mut next, records, frame, cap),
            })?;
            put(file, &mut next, &[], frame, cap)?;
            if self.options.sync { file.sync() } else { Ok(()) }
        };
        let written = write();
        self.frame = Vec::new();
        if let Err(error) = written {
            // It is not valid without its marker; what it takes up may be what others lack.
            let _of_no_use = file.cut(0);
            return Err(error);
        }
        next.snapshot = next.at;
        self.active = Some(next);
        self.found = None;
        let old = self.files.get(1 - target);
        old.map_or(Ok(()), |old| {
            old.cut(0)?;
            if self.options.sync { old.sync() } else { Ok(()) }
        })
    }

    /// Empties both files: for what must not be kept when it cannot be replaced.
    ///
    /// # Errors
    /// The system's.
    pub fn erase(&mut self) -> io::Result<()> {
        self.active = None;
        self.found = None;
        let [one, other] = &self.files;
        let first = one.cut(0);
        other.cut(0)?;
        first?;
        if self.options.sync {
            one.sync()?;
            other.sync()?;
        }
        Ok(())
    }
}

/// A journal between commits keeps at most this much memory.
const KEPT_CAPACITY: usize = 4 << 10;

fn put<S: Storage>(
    file: &S,
    active: &mut Active,
    records: &[u8],
    frame: &mut Vec<u8>,
    cap: u64,
) -> io::Result<()> {
    active.seal.frame(active.next, records, frame)?;
    if active.at + frame.len() as u64 > cap {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    file.write(frame, active.at)?;
    active.at += frame.len() as u64;
    active.next += 1;
    Ok(())
}

/// How many frames of a file are whole, how many bytes follow them, and whether its snapshot is complete.
fn measure<S: Storage>(file: &S, seal: &Seal) -> io::Result<(u64, u64, bool)> {
    let mut frames = Frames::of(file, seal)?;
    let mut records = Vec::new();
    let mut is_valid = false;
    while frames.next(&mut records)? {
        is_valid |= records.is_empty();
    }
    Ok((frames.number, file.length()?.saturating_sub(frames.at), is_valid))
}
