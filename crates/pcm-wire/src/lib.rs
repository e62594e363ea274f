//! What IGNITE and a PCM say to each other before and beside MQTT.
//!
//! Every connection on a PCM's Unix socket begins with [`MAGIC`], a big-endian `u32` length and that many bytes of JSON: a
//! [`Preamble`]. A session goes on with MQTT; the control connection goes on with JSON lines, [`Request`] one way and
//! [`Reply`] the other. Identity and grants travel here and never as MQTT properties.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
pub use views::{HashKey, View};

/// First four bytes of every connection.
pub const MAGIC: [u8; 4] = *b"OAP1";

/// Longest preamble, in bytes.
pub const MAX_PREAMBLE: usize = 1024;

/// Longest line on a control connection, in bytes.
pub const MAX_LINE: usize = 4 * 1024 * 1024;

/// What a connection is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Preamble {
    /// One client's MQTT session.
    Session {
        /// The grant under which it runs.
        sid: String,
        /// The client id that the CONNECT packet carries, as IGNITE derived it.
        client: String,
    },
    /// Grants, statistics, draining.
    Control {},
    /// The launcher: whose PCM this is, whether it is still needed. Whoever only looks keeps no grants alive.
    Launcher {},
}

impl Preamble {
    /// Magic, length and JSON, ready to send.
    pub fn to_bytes(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("a preamble has only strings");
        let mut bytes = Vec::with_capacity(8 + json.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&(json.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&json);
        bytes
    }

    /// Reads a preamble from the beginning of `buf`: the preamble and its length in bytes, or `Ok(None)` if more bytes are
    /// needed.
    ///
    /// # Errors
    /// Wrong magic, a length beyond [`MAX_PREAMBLE`], or JSON that is no preamble.
    pub fn parse(buf: &[u8]) -> Result<Option<(Preamble, usize)>, BadPreamble> {
        let head = buf.len().min(MAGIC.len());
        if buf[..head] != MAGIC[..head] {
            return Err(BadPreamble);
        }
        let Some(length) = buf.get(4..8) else { return Ok(None) };
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if length > MAX_PREAMBLE {
            return Err(BadPreamble);
        }
        let Some(json) = buf.get(8..8 + length) else { return Ok(None) };
        serde_json::from_slice(json).map(|preamble| Some((preamble, 8 + length))).map_err(|_| BadPreamble)
    }
}

/// The first bytes are no preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPreamble;

impl std::fmt::Display for BadPreamble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a preamble")
    }
}

impl std::error::Error for BadPreamble {}

/// One line from IGNITE on the control connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Returned in the reply.
    pub id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub verb: Verb,
}

/// What IGNITE asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Says whose PCM this is. A PCM that keeps its state on disk takes no grants before. Saying the same again is fine, anything
    /// else is an error.
    Claim(Claim),
    /// Replaces all grants. Whatever they no longer cover is discarded before the reply.
    Grants(Grants),
    /// Asks for [`Stats`].
    Stats {},
    /// End every session with 0x8B, then exit.
    Drain {},
    /// From the launcher: whose PCM this is from now on, and where its state lies: two open files come along with the line
    /// (`SCM_RIGHTS`), or none. Saying the same again is fine, anything else is an error.
    Identity(Identity),
    /// Asks for [`Answer::Whose`].
    Whose {},
    /// Exit, unless somebody is connected or about to be, a will is due later, or something would be lost: then
    /// [`Answer::Busy`]. Who asks sees to it that nobody finds the socket meanwhile.
    Retire {},
}

/// Whose PCM it is, as the launcher knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The PCM's name.
    pub name: String,
    /// How long each of the two files may become, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    /// Whether what is acknowledged must be on the medium, for loss of power.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sync: bool,
}

/// Whose PCM it is, and the key of what it keeps.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The PCM's name, as [`Preamble`]s never carry it.
    pub name: String,
    /// 32 bytes, base64url. It is kept in memory only.
    pub key: String,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").finish_non_exhaustive()
    }
}

/// One line from the PCM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's.
    pub id: u64,
    /// What is answered.
    #[serde(flatten)]
    pub answer: Answer,
}

/// What a PCM answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done.
    Ok {},
    /// Counts.
    Stats(Stats),
    /// Whose it is; nobody's before [`Verb::Identity`].
    Whose {
        /// The name in [`Identity`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Somebody needs it still.
    Busy {},
    /// Not done; the text is for a log and has no identifier in it.
    Error(String),
}

/// Every current grant of one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    /// The DIdP's `rev`.
    pub rev: i64,
    /// Devices' and apps' grants.
    pub grants: Vec<Grant>,
}

/// One grant, as topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "lowercase")]
pub enum Grant {
    /// A device: publishes below `d/<label>/`, subscribes below `c/<label>/`.
    Device {
        /// The grant's id.
        sid: String,
        /// The device's label.
        label: String,
    },
    /// An app: one rule for each device that was consented.
    App {
        /// The grant's id.
        sid: String,
        /// What may be read and commanded.
        rules: Vec<Rule>,
        /// Key for fields that a view hashes: 32 bytes, base64url. The grant's own, so that two apps cannot compare.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
}

impl Grant {
    /// The grant's id.
    pub fn sid(&self) -> &str {
        match self {
            Self::Device { sid, .. } | Self::App { sid, .. } => sid,
        }
    }
}

/// What an app may do with one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The device's label.
    pub label: String,
    /// Channels whose values it receives: `d/<label>/<channel>`.
    pub read: Vec<String>,
    /// Channels that it may command: `c/<label>/<channel>`.
    pub command: Vec<String>,
    /// How coarse readings are, where `views` does not say otherwise.
    #[serde(default)]
    pub view: View,
    /// How coarse the readings of single channels are, by channel name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub views: BTreeMap<String, View>,
}

impl Rule {
    /// How coarse readings of a channel are.
    pub fn view_of(&self, channel: &str) -> &View {
        self.views.get(channel).unwrap_or(&self.view)
    }
}

/// Counts of one PCM; nothing in them names anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Connected sessions.
    pub connections: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Messages queued for sessions that are away or slow.
    pub queued: u64,
    /// Messages that a limit kept from a session, since the start.
    #[serde(default)]
    pub dropped: u64,
    /// Connections, sessions, subscriptions and packets that a limit refused, since the start.
    #[serde(default)]
    pub refused: u64,
    /// Wills that are published later unless their client comes back.
    #[serde(default)]
    pub pending_wills: u64,
    /// For how many milliseconds there has been no connection and no pending will; absent while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// Bytes of the journal on disk; 0 without one.
    #[serde(default)]
    pub journal_bytes: u64,
    /// The `rev` of the grants in force; absent before the first ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rev: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preamble_round_trip_at_every_cut() {
        let preamble = Preamble::Session { sid: "s".into(), client: "c".into() };
        let mut bytes = preamble.to_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(Preamble::parse(&bytes[..cut]), Ok(None), "{cut}");
        }
        let length = bytes.len();
        bytes.extend_from_slice(b"\x10");
        assert_eq!(Preamble::parse(&bytes), Ok(Some((preamble, length))));
    }

    #[test]
    fn anything_else_is_refused_at_its_first_wrong_byte() {
        assert_eq!(Preamble::parse(b"\x10"), Err(BadPreamble));
        assert_eq!(Preamble::parse(b"OAP2"), Err(BadPreamble));
        assert_eq!(Preamble::parse(b"OAP1\xff\xff\xff\xff"), Err(BadPreamble));
        assert_eq!(Preamble::parse(b"OAP1\0\0\0\x02{}"), Err(BadPreamble));
    }

    #[test]
    fn control_lines() {
        let line = r#"{"id":1,"grants":{"rev":2,"grants":[{"role":"device","sid":"a","label":"L"},{"role":"app","sid":"b","rules":[{"label":"L","read":["t"],"command":[],"view":{"kind":"raw"}}]}]}}"#;
        let request: Request = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), line);
        let reply: Reply = serde_json::from_str(r#"{"id":1,"ok":{}}"#).unwrap();
        assert_eq!(reply.answer, Answer::Ok {});
        let stats: Request = serde_json::from_str(r#"{"id":2,"stats":{}}"#).unwrap();
        assert_eq!(stats.verb, Verb::Stats {});
    }
}
