//! What a personal broker keeps on disk: its grants and the broker's records, in an encrypted journal of two files.
//!
//! The files are opened before the process locks itself in, and belong to nobody until a gateway claims them with a name
//! and a key. With the first grants after that the state comes back as it was under the grants of its time, and then the
//! new ones take away what they do not cover, in memory and, at once, in the files. From then on each turn of the loop is
//! committed before its answers leave.
//!
//! A commit that fails leaves nothing acknowledged that is not kept: see [`Broker::not_kept`]. It is tried again every
//! second, with a snapshot of everything.

use crate::door::table;
use crate::log;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use journal::{Journal, Options};
use mqtt_broker::Broker;
use pcm_wire::{Claim, Grants};
use rustix::fs::{FlockOperation, flock};
use rustix::rand::{GetRandomFlags, getrandom};
use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use zeroize::{Zeroize, Zeroizing};

/// First byte of each commit: what it holds.
const GRANTS: u8 = 0;
const RECORDS: u8 = 1;
/// A buffer between commits keeps at most this much memory.
const KEPT_CAPACITY: usize = 4 << 10;
/// From a failure to the next try, in milliseconds.
const RETRY_MS: u64 = 1_000;
/// How long an earlier process may take to let go of the files, when it is being replaced.
const HANDOVER: Duration = Duration::from_secs(3);

/// The files, and the journal in them once they are claimed.
pub struct State {
    files: [Rc<File>; 2],
    options: Options,
    journal: Option<Journal<Rc<File>>>,
    /// The state is in the broker, and what happens is committed.
    is_restored: bool,
    /// The grants in force, as JSON.
    grants: Vec<u8>,
    buffer: Vec<u8>,
    retry_at: u64,
}

impl State {
    /// Opens `a` and `b` in a directory, for this process alone; they are made if they are not there.
    ///
    /// # Errors
    /// The system's, or another process that has them.
    pub fn open(directory: &Path, sync: bool) -> io::Result<State> {
        let open = |name| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            options.open(directory.join(name)).map(Rc::new)
        };
        let files = [open("a")?, open("b")?];
        let [first, _] = &files;
        let deadline = Instant::now() + HANDOVER;
        while let Err(error) = flock(first, FlockOperation::NonBlockingLockExclusive) {
            if Instant::now() >= deadline {
                return Err(io::Error::other(format!("the state directory is in use: {error}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(State::of(files, sync))
    }

    /// In two files that a launcher has opened and locked.
    #[must_use]
    pub fn over(files: [File; 2], sync: bool) -> State {
        State::of(files.map(Rc::new), sync)
    }

    fn of(files: [Rc<File>; 2], sync: bool) -> State {
        let options = Options { sync, ..Options::default() };
        let (grants, buffer) = (Vec::new(), Vec::new());
        State { files, options, journal: None, is_restored: false, grants, buffer, retry_at: 0 }
    }

    /// Files may be no longer than this, in bytes.
    #[must_use]
    pub const fn with_cap(mut self, cap: u64) -> State {
        self.options.cap = cap;
        self
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::bytes)
    }

    /// The files are a PCM's: reads what is in them. The same claim may come again.
    ///
    /// # Errors
    /// Another claim than before, no key, or files of another key, name or version; the files stay as they are.
    pub(crate) fn claim(&mut self, claim: Claim) -> Result<(), String> {
        let Claim { name, key } = claim;
        let text = Zeroizing::new(key);
        let mut key = Zeroizing::new([0; 32]);
        if BASE64_URL_SAFE_NO_PAD.decode_slice(text.as_bytes(), key.as_mut_slice()) != Ok(32) {
            return Err("the key is not 32 bytes of base64url".to_owned());
        }
        if let Some(journal) = &self.journal {
            let same = journal.is_of(&key, &name);
            return if same { Ok(()) } else { Err("claimed before, by another name or key".to_owned()) };
        }
        match Journal::open(self.files.clone(), &key, &name, self.options) {
            Ok(journal) => {
                log::line(format_args!("claimed, {} bytes of state", journal.bytes()));
                if journal.torn() > 0 {
                    log::line(format_args!(
                        "{} bytes at the end of the journal are no whole commit: what came before is kept",
                        journal.torn()
                    ));
                }
                self.journal = Some(journal);
                Ok(())
            }
            Err(error) => {
                log::line(format_args!("{error}"));
                Err(error.to_string())
            }
        }
    }

    /// New grants: what was kept comes back first if it is not there yet, then what they do not cover goes, here and in
    /// the files.
    ///
    /// # Errors
    /// No claim yet, or what cannot be read, in which case the grants are not taken; or what had to go could not be
    /// erased.
    pub(crate) fn set_grants(&mut self, broker: &mut Broker, grants: Grants, now: u64) -> Result<(), String> {
        let Some(journal) = &self.journal else { return Err("not claimed".to_owned()) };
        let json = serde_json::to_vec(&grants).map_err(|error| error.to_string())?;
        if !self.is_restored {
            if let Err(error) = restore(journal, broker, now) {
                // Nobody comes in under grants of earlier.
                broker.forget_all();
                log::line(format_args!("what was kept cannot be read: {error}"));
                return Err(format!("what was kept cannot be read: {error}"));
            }
            self.is_restored = true;
        }
        broker.set_grants(table(grants.grants), now);
        broker.start_log();
        self.grants = json;
        self.replace(broker, now).map_err(|error| format!("what must go may still be on disk: {error}"))
    }

    /// Writes everything anew. If that fails, nothing is better than what must not be there any more.
    fn replace(&mut self, broker: &mut Broker, now: u64) -> io::Result<()> {
        if self.compact(broker).is_ok() {
            return Ok(());
        }
        let erased = self.journal.as_mut().map_or(Ok(()), Journal::erase);
        if let Err(error) = self.compact(broker) {
            self.failed(broker, &error, now);
        }
        erased
    }

    fn compact(&mut self, broker: &mut Broker) -> io::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let mut salt = [0; 32];
        if getrandom(&mut salt, GetRandomFlags::empty())? != salt.len() {
            return Err(io::Error::other("no random bytes"));
        }
        let buffer = &mut self.buffer;
        let mut fill = |kind: u8, bytes: &[u8], push: &mut dyn FnMut(&[u8]) -> io::Result<()>| {
            buffer.clear();
            buffer.push(kind);
            buffer.extend_from_slice(bytes);
            push(buffer)
        };
        journal.compact(salt, |push| {
            fill(GRANTS, &self.grants, push)?;
            broker.snapshot(&mut |records| fill(RECORDS, records, push))
        })?;
        broker.kept();
        self.buffer = Vec::new();
        Ok(())
    }

    /// Makes safe what the turn has changed, or sees to it that nobody is told that it is.
    pub(crate) fn commit(&mut self, broker: &mut Broker, now: u64) {
        if self.is_restored && !broker.has_grants() {
            // Unattended for too long: the broker has forgotten everything, and so is the key. The files wait for a claim.
            log::line(format_args!("forgotten for want of control; what is on disk stays"));
            self.journal = None;
            self.is_restored = false;
            self.grants.zeroize();
            self.grants = Vec::new();
        }
        if !self.is_restored {
            return;
        }
        let tried = if broker.is_behind() {
            if now >= self.retry_at {
                self.compact(broker).inspect(|()| log::line(format_args!("state can be kept again")))
            } else if broker.wants_snapshot() {
                return broker.not_kept(now);
            } else {
                return;
            }
        } else if broker.wants_snapshot() {
            self.replace(broker, now)
        } else if broker.has_log() {
            self.append(broker)
        } else {
            return broker.kept();
        };
        if let Err(error) = tried {
            self.failed(broker, &error, now);
        }
    }

    fn append(&mut self, broker: &mut Broker) -> io::Result<()> {
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        buffer.push(RECORDS);
        broker.take_log(&mut buffer);
        let written = match &mut self.journal {
            Some(journal) if !journal.wants_compaction(buffer.len()) => journal.append(&buffer),
            _ => self.compact(broker),
        };
        buffer.shrink_to(KEPT_CAPACITY);
        self.buffer = buffer;
        written.inspect(|()| broker.kept())
    }

    fn failed(&mut self, broker: &mut Broker, error: &io::Error, now: u64) {
        if !broker.is_behind() {
            log::line(format_args!("state cannot be kept, nothing is acknowledged that needs it: {error}"));
        }
        self.retry_at = now + RETRY_MS;
        broker.not_kept(now);
    }
}

/// Puts back what a journal has, under the grants that it was kept under.
fn restore(journal: &Journal<Rc<File>>, broker: &mut Broker, now: u64) -> io::Result<()> {
    let mut grants = None;
    journal.replay(|commit| {
        if let [GRANTS, json @ ..] = commit {
            grants = Some(serde_json::from_slice::<Grants>(json).map_err(io::Error::other)?);
        }
        Ok(())
    })?;
    let Some(grants) = grants else { return Ok(()) };
    broker.set_grants(table(grants.grants), now);
    let mut restore = broker.restore();
    journal.replay(|commit| match commit {
        [RECORDS, records @ ..] => restore.records(records).map_err(io::Error::other),
        _ => Ok(()),
    })?;
    restore.finish(now);
    Ok(())
}
