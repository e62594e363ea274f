//! What the factory knows of the devices that it made: one JSON file, replaced as a whole.
//!
//! A registration answer is kept only until its device has stored it. Nothing in here says whether a device has an owner.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

/// Most devices in one ledger: this is a sample, not a plant.
pub const MOST: usize = 1_000;

/// One device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1.
    pub n: u32,
    /// What is engraved on its back.
    pub hardware_id: String,
    /// Its model.
    pub model: String,
    /// Sent with the registration, so that a repeated one makes no second client.
    idempotency_key: String,
    /// Once it is registered.
    pub registered: Option<Registered>,
    /// What registration answered, until the device has it.
    answer: Option<Value>,
    /// Whether the device has said that it has it.
    pub flashed: bool,
}

/// What a manufacturer keeps of a registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The device's client_id.
    pub client_id: String,
    /// The user registration URI, which the label shows.
    pub uru: String,
}

/// A device as pages and scripts see it: without anything secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// Its number, from 1.
    pub n: u32,
    /// Its model.
    pub model: String,
    /// What is engraved on its back.
    pub hardware_id: String,
    /// Its client_id.
    pub client_id: String,
    /// The user registration URI.
    pub uru: String,
    /// Whether it has its credentials, and the factory none any more.
    pub flashed: bool,
}

/// What is to be done for a device that asks for its credentials.
#[derive(Debug, PartialEq)]
pub enum Asked {
    /// Hand this over, again if need be.
    Answer(Value),
    /// Register it with this idempotency key.
    Register {
        /// The key.
        idempotency_key: String,
    },
    /// It said that it has them; the factory has forgotten them.
    Forgotten,
    /// There is no room for more devices.
    Full,
}

/// The ledger.
pub struct Ledger {
    file: PathBuf,
    entries: Mutex<Vec<Entry>>,
    made: watch::Sender<Vec<Made>>,
}

impl Ledger {
    /// Reads what is in `directory`, which is made if it does not exist.
    ///
    /// # Errors
    /// It cannot be read or made, or holds something else.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let file = directory.join("devices.json");
        let entries: Vec<Entry> = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        let (made, _) = watch::channel(made(&entries));
        Ok(Self { file, entries: Mutex::new(entries), made })
    }

    /// A device asks for its credentials; a new one is written down first.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn ask(&self, hardware_id: &str, model: &str) -> io::Result<Asked> {
        let mut entries = self.lock();
        if let Some(entry) = entries.iter().find(|entry| entry.hardware_id == hardware_id) {
            return Ok(match (&entry.answer, entry.flashed) {
                (_, true) => Asked::Forgotten,
                (Some(answer), false) => Asked::Answer(answer.clone()),
                (None, false) => Asked::Register { idempotency_key: entry.idempotency_key.clone() },
            });
        }
        if entries.len() >= MOST {
            return Ok(Asked::Full);
        }
        let idempotency_key = service::secret::random_token::<16>();
        let mut more = entries.clone();
        more.push(Entry {
            n: more.last().map_or(1, |last| last.n + 1),
            hardware_id: hardware_id.to_owned(),
            model: model.to_owned(),
            idempotency_key: idempotency_key.clone(),
            registered: None,
            answer: None,
            flashed: false,
        });
        self.replace(&mut entries, more)?;
        Ok(Asked::Register { idempotency_key })
    }

    /// A device was registered.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn registered(&self, hardware_id: &str, registered: Registered, answer: Value) -> io::Result<()> {
        self.change(hardware_id, |entry| {
            entry.registered = Some(registered);
            entry.answer = Some(answer);
        })
    }

    /// A device has stored its credentials: the factory forgets them.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub fn flashed(&self, hardware_id: &str) -> io::Result<()> {
        self.change(hardware_id, |entry| {
            // Only what was handed over can have been stored.
            entry.flashed |= entry.answer.take().is_some();
        })
    }

    /// All registered devices, now and as they change.
    pub fn made(&self) -> watch::Receiver<Vec<Made>> {
        self.made.subscribe()
    }

    fn change(&self, hardware_id: &str, change: impl FnOnce(&mut Entry)) -> io::Result<()> {
        let mut entries = self.lock();
        let mut changed = entries.clone();
        if let Some(entry) = changed.iter_mut().find(|entry| entry.hardware_id == hardware_id) {
            change(entry);
        }
        self.replace(&mut entries, changed)
    }

    /// On disk first: what was handed out must not be forgotten.
    fn replace(&self, entries: &mut MutexGuard<'_, Vec<Entry>>, changed: Vec<Entry>) -> io::Result<()> {
        if **entries == changed {
            return Ok(());
        }
        let new = self.file.with_extension("new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&changed)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.file)?;
        self.made.send_replace(made(&changed));
        **entries = changed;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn made(entries: &[Entry]) -> Vec<Made> {
    entries
        .iter()
        .filter_map(|entry| {
            let Registered { client_id, uru } = entry.registered.clone()?;
            let (model, hardware_id) = (entry.model.clone(), entry.hardware_id.clone());
            Some(Made { n: entry.n, model, hardware_id, client_id, uru, flashed: entry.flashed })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_kept_until_the_device_has_it_and_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        let Asked::Register { idempotency_key: key } = ledger.ask("02-aa", "T1").unwrap() else {
            panic!("new")
        };
        // A restart before the answer came: the same key again, so that the DIdP makes no second client.
        let ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(ledger.ask("02-aa", "T1").unwrap(), Asked::Register { idempotency_key: key });
        assert!(ledger.made().borrow().is_empty());
        ledger.flashed("02-aa").unwrap();
        assert!(
            matches!(ledger.ask("02-aa", "T1").unwrap(), Asked::Register { .. }),
            "nothing was handed over yet"
        );

        let answer = json!({"client_id": "c", "client_secret": "very-secret"});
        let registered = Registered { client_id: "c".into(), uru: "http://didp/r/x".into() };
        ledger.registered("02-aa", registered, answer.clone()).unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        assert_eq!(ledger.ask("02-aa", "T1").unwrap(), Asked::Answer(answer));
        assert!(!ledger.made().borrow()[0].flashed);

        ledger.flashed("02-aa").unwrap();
        assert_eq!(ledger.ask("02-aa", "T1").unwrap(), Asked::Forgotten);
        assert!(ledger.made().borrow()[0].flashed);
        let text = fs::read_to_string(dir.path().join("devices.json")).unwrap();
        assert!(!text.contains("very-secret") && text.contains("http://didp/r/x"));
    }

    #[test]
    fn numbers_go_up_and_the_secret_is_not_in_what_pages_see() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path()).unwrap();
        for (n, id) in ["02-aa", "02-bb"].iter().enumerate() {
            ledger.ask(id, "T1").unwrap();
            let registered = Registered { client_id: format!("c{n}"), uru: "u".into() };
            ledger.registered(id, registered, json!({"client_secret": "very-secret"})).unwrap();
        }
        let made = ledger.made().borrow().clone();
        assert_eq!(made.iter().map(|made| made.n).collect::<Vec<_>>(), [1, 2]);
        assert!(!serde_json::to_string(&made).unwrap().contains("very-secret"));
    }

    #[test]
    fn a_broken_ledger_is_an_error_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("devices.json"), "{").unwrap();
        assert!(Ledger::open(dir.path()).is_err());
    }
}
