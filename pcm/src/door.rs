//! Who may connect to a personal broker, and what its gateway tells it on the control connection.
//!
//! The socket's file mode lets one group in, the kernel's word on the peer's user id lets one user in, and the first
//! bytes must be the gateway's preamble. Everything else is `mqtt_broker`'s.

use crate::state::State;
use crate::{kernel, log};
use mio::net::UnixStream;
use mqtt_broker::net::{Admission, Answer, Door, Unwelcome};
use mqtt_broker::{Access, Broker, Channels, Grants, Identity};
use pcm_wire::{
    Answer as WireAnswer, Grant, HashKey, MAX_LINE, MAX_PREAMBLE, Preamble, Reply, Request, Stats, Verb,
};
use rustix::fs::Mode;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;

/// Listens on `<directory>/s`, mode 0660. A socket that an earlier run left there is replaced.
///
/// # Errors
/// The kernel's.
pub fn bind(directory: &Path) -> io::Result<UnixListener> {
    let path = directory.join("s");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let before = rustix::process::umask(Mode::from_raw_mode(0o117));
    let listener = UnixListener::bind(&path);
    rustix::process::umask(before);
    listener
}

/// The door of a personal broker.
pub struct PreambleDoor {
    peer_uid: u32,
    rev: Option<i64>,
    state: Option<State>,
}

impl PreambleDoor {
    /// A door for connections of one user.
    pub const fn new(peer_uid: u32) -> PreambleDoor {
        PreambleDoor { peer_uid, rev: None, state: None }
    }

    /// What must not be lost is kept there. Grants are taken only after a claim then.
    #[must_use]
    pub fn with_state(self, state: State) -> PreambleDoor {
        PreambleDoor { state: Some(state), ..self }
    }

    fn handle(&mut self, broker: &mut Broker, verb: Verb, now: u64) -> (WireAnswer, bool) {
        match verb {
            Verb::Claim(claim) => {
                let claimed = match &mut self.state {
                    Some(state) => state.claim(claim),
                    None => Err("no state directory".to_owned()),
                };
                (done(claimed), false)
            }
            Verb::Grants(grants) => {
                log::line(format_args!("grants of rev {}: {}", grants.rev, grants.grants.len()));
                let rev = grants.rev;
                let taken = match &mut self.state {
                    Some(state) => state.set_grants(broker, grants, now),
                    None => {
                        broker.set_grants(table(grants.grants), now);
                        Ok(())
                    }
                };
                if taken.is_ok() {
                    self.rev = Some(rev);
                }
                (done(taken), false)
            }
            Verb::Stats {} => (WireAnswer::Stats(self.stats(broker)), false),
            Verb::Drain {} => {
                log::line(format_args!("draining"));
                (WireAnswer::Ok {}, true)
            }
        }
    }

    fn stats(&self, broker: &Broker) -> Stats {
        let counts = broker.counts();
        Stats {
            connections: counts.connected as u64,
            sessions: counts.sessions as u64,
            retained: counts.retained as u64,
            queued: counts.queued as u64,
            dropped: counts.dropped,
            refused: counts.refused,
            journal_bytes: self.state.as_ref().map_or(0, State::bytes),
            rev: self.rev.filter(|_| broker.has_grants()),
        }
    }
}

impl Door for PreambleDoor {
    fn lets_in(&self, peer: &UnixStream) -> bool {
        match kernel::peer_uid(peer) {
            Ok(uid) if uid == self.peer_uid => true,
            Ok(_) | Err(_) => {
                log::line(format_args!("refused a connection of another user"));
                false
            }
        }
    }

    fn admit(&mut self, first: &[u8]) -> Result<Option<(Admission, usize)>, Unwelcome> {
        let admission = |preamble| match preamble {
            Preamble::Session { sid, client } => Admission::Client(Some(Identity { sid, client })),
            Preamble::Control {} => Admission::Control,
        };
        match Preamble::parse(first) {
            Ok(found) => Ok(found.map(|(preamble, length)| (admission(preamble), length))),
            Err(_) => {
                log::line(format_args!("refused a connection without preamble"));
                Err(Unwelcome)
            }
        }
    }

    fn commit(&mut self, broker: &mut Broker, now: u64) -> io::Result<()> {
        if let Some(state) = &mut self.state {
            state.commit(broker, now);
        }
        Ok(())
    }

    fn longest(&self) -> (usize, usize) {
        (8 + MAX_PREAMBLE, MAX_LINE)
    }

    fn control(&mut self, broker: &mut Broker, line: &[u8], now: u64) -> Answer {
        let Ok(request) = serde_json::from_slice::<Request>(line) else {
            log::line(format_args!("closed the control connection: not a request"));
            return Answer { close: true, ..Answer::default() };
        };
        let (answer, drain) = self.handle(broker, request.verb, now);
        match serde_json::to_vec(&Reply { id: request.id, answer }) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                Answer { bytes, drain, close: false }
            }
            Err(_) => Answer { drain, close: true, ..Answer::default() },
        }
    }
}

fn done(result: Result<(), String>) -> WireAnswer {
    match result {
        Ok(()) => WireAnswer::Ok {},
        Err(error) => WireAnswer::Error(error),
    }
}

/// The grants as the broker asks them.
pub(crate) fn table(grants: Vec<Grant>) -> Grants {
    Grants::new(grants.into_iter().map(|grant| match grant {
        Grant::Device { sid, label } => (Rc::from(sid), Access::Device { label: label.into() }),
        Grant::App { sid, rules, key } => {
            let mut devices: BTreeMap<Box<str>, Channels> = BTreeMap::new();
            for rule in rules {
                let channels = devices.entry(rule.label.as_str().into()).or_default();
                for channel in &rule.read {
                    channels.allow_reading(channel, rule.view_of(channel));
                }
                channels.command.extend(rule.command.into_iter().map(Into::into));
            }
            let key = key.as_deref().and_then(HashKey::parse);
            (Rc::from(sid), Access::App { devices, key })
        }
    }))
}
