//! What the gateway and the launcher say to each other: JSON lines over a Unix socket, typed verbs and nothing else.
//!
//! A caller names a PCM and what should become of it. No field reaches a container's settings: those are compiled into
//! `spec`. Reading and writing the lines is left to `server` and `client`.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Longest line in either direction, in bytes. Only the answers to `list` and `processes` come near it.
pub const MAX_LINE: usize = 2 * 1024 * 1024;

/// Longest line that the launcher reads, in bytes.
pub const MAX_REQUEST: usize = 1024;

/// The name of a PCM, its directory and its container: `pcm-` and 32 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PcmName(String);

impl PcmName {
    /// Accepts exactly the form above, so that a name can stand in a path, a label and a log as it is.
    ///
    /// # Errors
    /// Any other text.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        let name = name.into();
        let digits = name.strip_prefix("pcm-").ok_or(BadName)?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digits.len() == 32 && digits.bytes().all(hex) { Ok(Self(name)) } else { Err(BadName) }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PcmName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PcmName {
    type Error = BadName;
    fn try_from(name: String) -> Result<Self, BadName> {
        Self::new(name)
    }
}

impl From<PcmName> for String {
    fn from(name: PcmName) -> String {
        name.0
    }
}

/// A text that is no PCM's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a PCM's name is `pcm-` and 32 lower-case hexadecimal digits")]
pub struct BadName;

/// One line from the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Returned in the reply.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub verb: Verb,
}

/// What the gateway may ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Verb {
    /// A running PCM of this name, started if there is none. Answer: [`Answer::Ready`].
    Ensure {
        /// Whose.
        name: PcmName,
    },
    /// No PCM of this name any more, nor anything that it left or kept. Answer: [`Answer::Removed`].
    Remove {
        /// Whose.
        name: PcmName,
    },
    /// All running PCMs of this launcher. Answer: [`Answer::Pcms`].
    List {},
    /// How many there are of each kind, for metrics. Answer: [`Answer::Counts`].
    Counts {},
    /// The same as `list` with what runs them, those that are nobody's yet too: for measuring. Answer: [`Answer::Processes`].
    Processes {},
}

/// One line from the launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's; 0 if it could not be read.
    pub id: u64,
    /// What is answered.
    #[serde(flatten)]
    pub answer: Answer,
}

/// What the launcher answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The PCM accepts connections.
    Ready(Ready),
    /// The PCM is gone.
    Removed {},
    /// The running PCMs.
    Pcms {
        /// Sorted by name.
        names: Vec<PcmName>,
    },
    /// How many PCMs there are.
    Counts(Counts),
    /// The running PCMs, claimed or not.
    Processes {
        /// Claimed ones first, by name.
        pcms: Vec<Process>,
    },
    /// Not done.
    Error {
        /// For the caller's decisions.
        kind: ErrorKind,
        /// For its log; has no identifier of a person in it.
        message: String,
    },
}

/// How many PCMs there are of each kind; nothing in it names anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Somebody's.
    pub owned: u64,
    /// Nobody's yet.
    pub pool: u64,
    /// Owners who wait for a start now.
    pub starting: u64,
    /// Owners' PCMs at most.
    pub capacity: u64,
}

/// A PCM that accepts connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Whose.
    pub name: PcmName,
    /// Its Unix socket, as the gateway sees it.
    pub socket: PathBuf,
    /// The user that listens there. Check it: a PCM owns its directory and might put a link to another one's socket there.
    pub uid: u32,
    /// Whether it was started just now, and so knows no grants yet.
    pub fresh: bool,
}

/// What runs a PCM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Whose it is; absent while it is nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PcmName>,
    /// Its process on the host; 0 if the engine did not tell.
    pub pid: u32,
    /// Name of its container, or of the directory of its socket where there is none.
    pub container: String,
    /// With which others it shares a shim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// As many PCMs run as the configuration allows, or the host's memory does.
    Capacity,
    /// The engine, the image or the PCM itself failed.
    Engine,
    /// The line was not a request.
    BadRequest,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> PcmName {
        PcmName::new("pcm-00112233445566778899aabbccddeeff").unwrap()
    }

    #[test]
    fn a_name_is_exactly_its_form() {
        for bad in [
            "",
            "pcm-",
            "pcm-00112233445566778899aabbccddeef",
            "pcm-00112233445566778899aabbccddeefff",
            "pcm-00112233445566778899AABBCCDDEEFF",
            "pcm-00112233445566778899aabbccddee/f",
            "pcm-../../../../../../../../../../..",
            "pcx-00112233445566778899aabbccddeeff",
            "pcm-00112233445566778899aabbccddeef\n",
        ] {
            assert_eq!(PcmName::new(bad), Err(BadName), "{bad:?}");
        }
        assert_eq!(name().as_str(), "pcm-00112233445566778899aabbccddeeff");
    }

    #[test]
    fn the_lines_are_as_documented() {
        let ensure = Request { id: 1, verb: Verb::Ensure { name: name() } };
        let line = r#"{"id":1,"ensure":{"name":"pcm-00112233445566778899aabbccddeeff"}}"#;
        assert_eq!(serde_json::to_string(&ensure).unwrap(), line);
        assert_eq!(serde_json::from_str::<Request>(line).unwrap(), ensure);
        assert_eq!(serde_json::from_str::<Request>(r#"{"id":3,"list":{}}"#).unwrap().verb, Verb::List {});

        let ready = Ready { name: name(), socket: "/run/x/s".into(), uid: 7, fresh: true };
        let reply = Reply { id: 1, answer: Answer::Ready(ready) };
        let line = r#"{"id":1,"ready":{"name":"pcm-00112233445566778899aabbccddeeff","socket":"/run/x/s","uid":7,"fresh":true}}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), line);
        assert_eq!(serde_json::from_str::<Reply>(line).unwrap(), reply);

        let pcm = Process { name: Some(name()), pid: 7, container: "c".into(), group: None };
        let counts =
            Reply { id: 1, answer: Answer::Counts(Counts { owned: 2, pool: 1, starting: 0, capacity: 9 }) };
        let line = r#"{"id":1,"counts":{"owned":2,"pool":1,"starting":0,"capacity":9}}"#;
        assert_eq!(serde_json::to_string(&counts).unwrap(), line);
        assert_eq!(serde_json::from_str::<Reply>(line).unwrap(), counts);

        let reply = Reply { id: 1, answer: Answer::Processes { pcms: vec![pcm] } };
        let line = r#"{"id":1,"processes":{"pcms":[{"name":"pcm-00112233445566778899aabbccddeeff","pid":7,"container":"c"}]}}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), line);

        let refused = Answer::Error { kind: ErrorKind::Capacity, message: "full".into() };
        let line = r#"{"id":2,"error":{"kind":"capacity","message":"full"}}"#;
        assert_eq!(serde_json::to_string(&Reply { id: 2, answer: refused }).unwrap(), line);
    }

    #[test]
    fn a_verb_takes_no_container_setting() {
        let line = r#"{"id":1,"ensure":{"name":"pcm-00112233445566778899aabbccddeeff","privileged":true}}"#;
        assert!(serde_json::from_str::<Request>(line).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"id":1,"exec":{"name":"x"}}"#).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"id":1,"ensure":{"name":"pcm-x"}}"#).is_err());
    }
}
