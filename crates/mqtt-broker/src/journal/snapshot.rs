//! The whole state as records, as a new journal begins with.

use super::wire::{put_bytes, put_maybe_text, put_number};
use super::{Kind, Log, may_keep, put_left};
use crate::broker::Broker;
use crate::flights::Stage;
use crate::grants::Policy;
use crate::retained::Retained;
use crate::session::Session;
use crate::shadow::Shadows;
use std::io;

/// Bytes of records from which on they are handed out.
const CHUNK: usize = 32 << 10;

/// Takes a buffer of whole records, and leaves it empty or as it is.
type Sink<'a> = &'a mut dyn FnMut(&mut Vec<u8>) -> io::Result<()>;

/// The entry of a topic, or that there is none.
pub(super) fn put_retained(out: &mut Vec<u8>, retained: &Retained, topic: &str) {
    let mut entry = Vec::new();
    retained.write(topic, &mut entry);
    out.push(Kind::Retained as u8);
    put_bytes(out, topic.as_bytes());
    put_bytes(out, &entry);
}

/// The shadow of a device, or that there is none.
pub(super) fn put_shadow(out: &mut Vec<u8>, shadows: &Shadows, label: &str) {
    let mut entry = Vec::new();
    shadows.write(label, &mut entry);
    out.push(Kind::Shadow as u8);
    put_bytes(out, label.as_bytes());
    put_bytes(out, &entry);
}

impl Log {
    /// Writes everything about a session; `hand_out` is asked after each record that may be long.
    pub(super) fn whole(
        &mut self,
        id: usize,
        session: &Session,
        policy: &Policy,
        hand_out: Sink<'_>,
    ) -> io::Result<()> {
        if let Some(out) = self.about(Kind::Session, id, session) {
            put_bytes(out, session.key.as_bytes());
            put_maybe_text(out, session.sid.as_deref());
            put_number(out, u64::from(session.expiry));
            put_number(out, u64::from(session.flying.last_id()));
        }
        if session.will.as_ref().is_some_and(|will| may_keep(policy, will)) {
            self.will(id, session, policy);
        }
        for subscribed in &session.subscriptions {
            self.subscribed(id, session, subscribed);
        }
        for packet_id in &session.received {
            self.received(id, session, *packet_id);
        }
        for flying in session.flying.iter() {
            match (&flying.message, flying.stage) {
                (Some(waiting), Stage::Ack | Stage::Rec) => {
                    self.flown(id, session, waiting, flying.packet_id);
                    hand_out(&mut self.records)?;
                }
                (_, Stage::Comp) => self.completing(id, session, flying.packet_id),
                // Its grant has ended: the identifier is free with the next connection.
                (None, Stage::Ack | Stage::Rec) => {}
            }
        }
        for waiting in &session.waiting {
            self.enqueued(id, session, waiting);
            hand_out(&mut self.records)?;
        }
        if session.connection.is_none()
            && let Some(out) = self.about(Kind::Left, id, session)
        {
            put_left(out, session);
        }
        hand_out(&mut self.records)
    }
}

impl Broker {
    /// Hands the whole state out as records, in pieces: whatever the log had is among it. All pieces together, in their
    /// order, and the records that follow make a state. [`Broker::kept`] or [`Broker::not_kept`] is to be called then.
    ///
    /// # Errors
    /// The first one of `sink`.
    pub fn snapshot(&mut self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let Broker { log, sessions, retained, shadows, policy, .. } = self;
        let behind = std::mem::replace(&mut log.behind, false);
        let owing = std::mem::take(&mut log.owing);
        log.records.clear();
        log.written_from = log.next_message + 1;
        let mut hand_out = |records: &mut Vec<u8>, at_least: usize| {
            if records.len() < at_least.max(1) {
                return Ok(());
            }
            sink(records)?;
            records.clear();
            Ok(())
        };
        let mut write = || {
            for (id, session) in sessions.iter_mut() {
                let will = session.will.as_ref().is_some_and(|will| may_keep(policy, will));
                session.logged = session.expiry > 0 || will;
                if session.logged {
                    log.whole(id, session, policy, &mut |records| hand_out(records, CHUNK))?;
                }
            }
            for topic in retained.topics() {
                put_retained(&mut log.records, retained, topic);
                hand_out(&mut log.records, CHUNK)?;
            }
            for label in shadows.labels() {
                put_shadow(&mut log.records, shadows, label);
                hand_out(&mut log.records, CHUNK)?;
            }
            hand_out(&mut log.records, 1)
        };
        let done = write();
        log.records.clear();
        log.records.shrink_to(super::KEPT_CAPACITY);
        log.behind = behind;
        log.owing = owing;
        if done.is_ok() {
            log.is_whole = true;
            log.retained.clear();
            log.shadows.clear();
        }
        done
    }
}
