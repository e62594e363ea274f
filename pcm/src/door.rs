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
    /// The launcher's user, and whose PCM it said this is.
    launched: Option<(u32, String)>,
    rev: Option<i64>,
    state: Option<State>,
    /// When the first turn was.
    began: Option<u64>,
}

impl PreambleDoor {
    /// A door for connections of one user.
    pub const fn new(peer_uid: u32) -> PreambleDoor {
        PreambleDoor { peer_uid, launched: None, rev: None, state: None, began: None }
    }

    /// A launcher of this user, which may connect too, has said whose PCM this is.
    #[must_use]
    pub fn launched_by(self, uid: u32, name: String) -> PreambleDoor {
        PreambleDoor { launched: Some((uid, name)), ..self }
    }

    /// What must not be lost is kept there. Grants are taken only after a claim then.
    #[must_use]
    pub fn with_state(self, state: State) -> PreambleDoor {
        PreambleDoor { state: Some(state), ..self }
    }

    fn handle(&mut self, broker: &mut Broker, verb: Verb, guests: usize, now: u64) -> (WireAnswer, bool) {
        match verb {
            Verb::Claim(claim) => {
                let claimed = match (&mut self.state, &self.launched) {
                    (_, Some((_, name))) if *name != claim.name => Err("somebody else's".to_owned()),
                    (Some(state), _) => state.claim(claim),
                    (None, _) => Err("no state directory".to_owned()),
                };
                (done(claimed), false)
            }
            Verb::Identity(identity) => {
                let same = self.launched.as_ref().is_some_and(|(_, name)| *name == identity.name);
                (done(if same { Ok(()) } else { Err("somebody else's".to_owned()) }), false)
            }
            Verb::Whose {} => {
                (WireAnswer::Whose { name: self.launched.as_ref().map(|(_, name)| name.clone()) }, false)
            }
            Verb::Retire {} if guests > 0 || self.is_needed(broker) => (WireAnswer::Busy {}, false),
            Verb::Retire {} => {
                log::line(format_args!("retiring"));
                (WireAnswer::Ok {}, true)
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
            Verb::Stats {} => (WireAnswer::Stats(self.stats(broker, now)), false),
            Verb::Drain {} => {
                log::line(format_args!("draining"));
                (WireAnswer::Ok {}, true)
            }
        }
    }

    /// Whether there are files to keep a journal in.
    pub(crate) const fn keeps_state(&self) -> bool {
        self.state.is_some()
    }

    /// Whether somebody would miss what it knows and its files do not.
    fn is_needed(&self, broker: &Broker) -> bool {
        let counts = broker.counts();
        let keeps = match &self.state {
            Some(_) => broker.is_behind(),
            None => counts.sessions + counts.retained + counts.queued > 0,
        };
        keeps || counts.pending_wills > 0 || broker.owes_summaries()
    }

    fn stats(&self, broker: &Broker, now: u64) -> Stats {
        let counts = broker.counts();
        let began = self.began.unwrap_or(now);
        let idle_since = broker.idle_since().map(|since| since.max(began));
        Stats {
            connections: counts.connected as u64,
            sessions: counts.sessions as u64,
            retained: counts.retained as u64,
            queued: counts.queued as u64,
            pending_wills: counts.pending_wills as u64,
            idle_ms: idle_since.map(|since| now.saturating_sub(since)),
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
            Ok(uid) if self.launched.as_ref().is_some_and(|(launcher, _)| *launcher == uid) => true,
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
            Preamble::Launcher {} => Admission::Onlooker,
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
        self.began.get_or_insert(now);
        if let Some(state) = &mut self.state {
            state.commit(broker, now);
        }
        Ok(())
    }

    fn longest(&self) -> (usize, usize) {
        (8 + MAX_PREAMBLE, MAX_LINE)
    }

    fn control(&mut self, broker: &mut Broker, line: &[u8], guests: usize, now: u64) -> Answer {
        let Ok(request) = serde_json::from_slice::<Request>(line) else {
            log::line(format_args!("closed the control connection: not a request"));
            return Answer { close: true, ..Answer::default() };
        };
        let (answer, drain) = self.handle(broker, request.verb, guests, now);
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
