//! How a thermostat gets what registration answered: from the factory's floor, once.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use device_client::{Record, Slots};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::flash::{FileFlash, replace};

/// Left in the folder from before the credentials are stored until the factory knows that they are.
const UNACKNOWLEDGED: &str = "flash-unacknowledged";

/// What a device asks the factory for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlashRequest {
    /// What is engraved on its back.
    pub hardware_id: String,
    /// The model.
    pub model: String,
}

/// What a device says when it has stored them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlashDone {
    /// What is engraved on its back.
    pub hardware_id: String,
}

/// The record that a registration answer (RFC 7591 §3.2.1, with `mqtt`) makes.
///
/// # Errors
/// Something is missing, too long or not what it should be; the error shows no value.
pub fn record(registration_answer: &[u8]) -> anyhow::Result<Record> {
    device_client::oauth::read_registration(registration_answer).map_err(|_| {
        anyhow::anyhow!("the registration answer lacks client_id, client_secret or mqtt with pins")
    })
}

/// Stores a registration answer in a thermostat's folder, as flashing does it.
///
/// # Errors
/// The answer is not one, or the folder cannot be written.
pub fn install(folder: &Path, registration_answer: &serde_json::Value) -> anyhow::Result<()> {
    let record = record(registration_answer.to_string().as_bytes())?;
    let mut slots = Slots::new(FileFlash::open(folder)?);
    slots.load()?;
    slots.save(&record).map_err(|error| anyhow::anyhow!("cannot store the credentials: {error:?}"))
}

/// Asks the factory, whose floor listener is at `factory`, for credentials and stores them.
///
/// # Errors
/// The factory does not answer or the folder cannot be written; try again later.
pub async fn fetch(folder: &Path, factory: &Url, request: &FlashRequest) -> anyhow::Result<Record> {
    let answer = client()?.post(factory.join("flash")?).json(request).send().await?.error_for_status()?;
    let record = record(&answer.bytes().await?)?;
    replace(&folder.join(UNACKNOWLEDGED), b"")?;
    let mut slots = Slots::new(FileFlash::open(folder)?);
    slots.load()?;
    slots.save(&record).map_err(|error| anyhow::anyhow!("cannot store the credentials: {error:?}"))?;
    Ok(record)
}

/// Tells the factory that the credentials are stored, if it does not know yet; it then forgets them.
///
/// # Errors
/// The factory does not answer; try again later.
pub async fn acknowledge(folder: &Path, factory: &Url, hardware_id: &str) -> anyhow::Result<()> {
    let mark = folder.join(UNACKNOWLEDGED);
    if !mark.exists() {
        return Ok(());
    }
    let done = FlashDone { hardware_id: hardware_id.to_owned() };
    client()?.post(factory.join("flash/done")?).json(&done).send().await?.error_for_status()?;
    std::fs::remove_file(&mark).context("remove the mark of an unacknowledged flashing")
}

fn client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer() -> serde_json::Value {
        json!({
            "client_id": "abc", "client_secret": "s3cret", "client_secret_expires_at": 0, "issuer": "http://didp.localhost:8080",
            "user_registration_uri": "http://didp.localhost:8080/r/x",
            "mqtt": {"host": "didp.localhost", "port": 8884, "spki_sha256": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]}
        })
    }

    #[test]
    fn a_registration_answer_becomes_a_record_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), &answer()).unwrap();
        let record = Slots::new(FileFlash::open(dir.path()).unwrap()).load().unwrap().unwrap();
        assert_eq!(record.client_id.as_str(), "abc");
        assert_eq!((record.didp.host.as_str(), record.didp.port), ("didp.localhost", 8884));
    }

    #[test]
    fn without_pins_there_are_no_credentials_and_errors_show_no_secret() {
        let mut bad = answer();
        bad["mqtt"]["spki_sha256"] = json!([]);
        let error = record(bad.to_string().as_bytes()).unwrap_err();
        assert!(!format!("{error:#}").contains("s3cret"));
        for missing in ["client_id", "client_secret", "mqtt"] {
            let mut bad = answer();
            bad.as_object_mut().unwrap().remove(missing);
            assert!(record(bad.to_string().as_bytes()).is_err(), "{missing}");
        }
    }
}
