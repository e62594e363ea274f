//! The broker: connections and sessions, which packet goes where, and what time does.

use crate::connection::{Connection, Identity};
use crate::endings::{out_of_place, words_for};
use crate::grants::{Grants, Policy};
use crate::journal::Log;
use crate::lens::Lenses;
use crate::limits::Limits;
use crate::message::{Message, Routed, after};
use crate::retained::Retained;
use crate::session::{Session, Will};
use crate::shadow::Shadows;
use crate::tally::Tally;
use crate::tree::{Matches, Tree, shared};
use mqtt_wire::{Ack, Disconnect, Error, Packet, PacketType, ReasonCode};
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::rc::Rc;

/// The whole state of a broker. Connections go by numbers that the caller chooses and may use again after
/// [`Broker::close`]. Times are milliseconds since the Unix epoch that do not go back.
pub struct Broker {
    pub(crate) limits: Limits,
    pub(crate) policy: Policy,
    pub(crate) connections: BTreeMap<usize, Connection>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) by_key: BTreeMap<Box<str>, usize>,
    pub(crate) tree: Tree,
    pub(crate) retained: Retained,
    pub(crate) shadows: Shadows,
    pub(crate) lenses: Lenses,
    /// Reused by the router.
    pub(crate) matches: Matches,
    /// Bytes of messages that wait or fly, in all sessions.
    pub(crate) held: Tally,
    /// Changes for the journal.
    pub(crate) log: Log,
    /// Distinguishes the client identifiers that this broker assigns from another run's.
    pub(crate) seed: u64,
    pub(crate) assigned: u64,
    attention: VecDeque<usize>,
    next_tick: Option<u64>,
    /// When everything is forgotten, unless grants come before.
    forget_at: Option<u64>,
    /// When the last connection ended, or the last will was published.
    left_at: u64,
    /// See [`Counts`].
    pub(crate) dropped: u64,
    pub(crate) refused: u64,
}

/// Counts of a broker; nothing in them names anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections with a session.
    pub connected: usize,
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Retained messages.
    pub retained: usize,
    /// Messages that wait for a session or its acknowledgement.
    pub queued: usize,
    /// Wills that will be published unless their client comes back before.
    pub pending_wills: usize,
    /// Messages that a limit kept from a session, since the start.
    pub dropped: u64,
    /// Connections, sessions, subscriptions and packets that a limit refused, since the start; silence too.
    pub refused: u64,
}

impl Broker {
    /// An empty broker. `seed` should be random: it goes into client identifiers that the broker assigns.
    pub fn new(limits: Limits, policy: Policy, seed: u64) -> Broker {
        Broker {
            limits,
            policy,
            connections: BTreeMap::new(),
            sessions: Slab::new(),
            by_key: BTreeMap::new(),
            tree: Tree::default(),
            retained: Retained::default(),
            shadows: Shadows::default(),
            lenses: Lenses::default(),
            matches: Matches::default(),
            held: Tally::default(),
            log: Log::default(),
            seed,
            assigned: 0,
            attention: VecDeque::new(),
            next_tick: None,
            forget_at: None,
            left_at: 0,
            dropped: 0,
            refused: 0,
        }
    }

    /// The limits it was made with.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What it holds.
    pub fn counts(&self) -> Counts {
        Counts {
            connected: self.connections.values().filter(|connection| connection.session.is_some()).count(),
            sessions: self.sessions.len(),
            retained: self.retained.len(),
            queued: self
                .sessions
                .iter()
                .map(|(_, session)| session.waiting.len() + session.flying.len())
                .sum(),
            pending_wills: self.sessions.iter().filter(|(_, session)| session.will_at.is_some()).count(),
            dropped: self.dropped,
            refused: self.refused,
        }
    }

    /// Since when there has been no connection and no will that is due later, if there is none; 0 if there never was one.
    pub fn idle_since(&self) -> Option<u64> {
        let is_idle = self.connections.is_empty() && self.counts().pending_wills == 0;
        is_idle.then_some(self.left_at)
    }

    /// Whether values have been summed up that are shown later: nobody but this process knows them.
    pub const fn owes_summaries(&self) -> bool {
        self.lenses.next_due().is_some()
    }

    /// A new connection. With a granting policy it needs an identity, or its CONNECT is refused.
    pub fn open(&mut self, connection: usize, identity: Option<Identity>, now: u64) {
        self.connections.insert(connection, Connection::new(identity, now));
        self.wake_at(now + self.limits.handshake_ms);
    }

    /// Whether there are as many connections as there may be, in all or of the newcomer's grant.
    pub fn is_full_for(&self, newcomer: Option<&Identity>) -> bool {
        let of_grant = |sid: &str| {
            let identities = self.connections.values().filter_map(|link| link.identity.as_ref());
            identities.filter(|identity| identity.sid == sid).count()
        };
        self.connections.len() >= self.limits.connections
            || newcomer.is_some_and(|newcomer| {
                self.policy.is_granted() && of_grant(&newcomer.sid) >= self.limits.grant_connections
            })
    }

    /// The connection is gone; without a DISCONNECT before, that is when its will is due.
    pub fn close(&mut self, connection: usize, now: u64) {
        self.detach(connection, true, now);
        self.connections.remove(&connection);
        self.left_at = now;
    }

    /// Takes one complete packet. Unknown and closing connections are ignored.
    pub fn receive(&mut self, connection: usize, frame: &[u8], now: u64) {
        let Some(link) = self.connections.get_mut(&connection).filter(|link| !link.closing) else { return };
        link.last_seen = now;
        self.log.acts(Some(connection));
        self.handle(connection, frame, now);
        self.log.acts(None);
    }

    fn handle(&mut self, connection: usize, frame: &[u8], now: u64) {
        let Some(link) = self.connections.get(&connection) else { return };
        let version = link.version;
        let Some(session) = link.session else { return self.handshake(connection, frame, now) };
        let kind = frame.first().and_then(|first| PacketType::of(*first));
        match kind {
            // A ping has nothing to say, so neither has the answer to one that does.
            Some(PacketType::PingReq | PacketType::PingResp) if frame.len() > 2 => {
                return self.hang_up(connection, now);
            }
            // What only servers send, a second CONNECT, and AUTH where CONNECT began no authentication (§4.12.1).
            None
            | Some(
                PacketType::Connect
                | PacketType::ConnAck
                | PacketType::SubAck
                | PacketType::UnsubAck
                | PacketType::PingResp
                | PacketType::Auth,
            ) => return self.violated(connection, out_of_place(kind), now),
            Some(
                PacketType::Publish
                | PacketType::PubAck
                | PacketType::PubRec
                | PacketType::PubRel
                | PacketType::PubComp
                | PacketType::Subscribe
                | PacketType::Unsubscribe
                | PacketType::PingReq
                | PacketType::Disconnect,
            ) => {}
        }
        match Packet::decode(frame, version) {
            Ok(packet) => self.dispatch(connection, session, &packet, now),
            // A DISCONNECT with a code that it cannot carry still ends the connection, and nobody waits for an answer.
            Err(Error::ReasonCode) if kind == Some(PacketType::Disconnect) => self.hang_up(connection, now),
            Err(error) => self.reject(connection, error, now),
        }
    }

    fn dispatch(&mut self, connection: usize, session: usize, packet: &Packet<'_>, now: u64) {
        match packet {
            Packet::Publish(publish) => self.published(connection, session, publish, now),
            Packet::PubAck(ack) => self.pub_ack(connection, session, ack, now),
            Packet::PubRec(ack) => self.pub_rec(connection, session, ack, now),
            Packet::PubRel(ack) => {
                if let Some(known) = self.sessions.get_mut(session)
                    && let Some(at) = known.received.iter().position(|id| *id == ack.packet_id)
                {
                    known.received.swap_remove(at);
                    self.log.released(session, known, ack.packet_id);
                }
                self.send(connection, &Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS)));
            }
            Packet::PubComp(ack) => self.pub_comp(connection, session, ack, now),
            Packet::Subscribe(subscribe) => self.subscribed(connection, session, subscribe, now),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribed(connection, session, unsubscribe),
            Packet::PingReq => self.send(connection, &Packet::PingResp),
            Packet::Disconnect(disconnect) => self.disconnected(connection, session, disconnect, now),
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp
            | Packet::Auth(_) => self.violated(connection, out_of_place(Some(packet.kind())), now),
        }
    }

    fn disconnected(&mut self, connection: usize, session: usize, disconnect: &Disconnect<'_>, now: u64) {
        if let Some(wished) = disconnect.properties.session_expiry_interval() {
            let expiry = wished.min(self.limits.session_expiry);
            match self.sessions.get_mut(session) {
                // §3.14.2.2.2: a session that was to end with its connection cannot be made to stay now.
                Some(session) if session.expiry == 0 && expiry != 0 => {
                    return self.violated(connection, "the session was to end with its connection", now);
                }
                Some(session) => session.expiry = expiry,
                None => {}
            }
        }
        let with_will = disconnect.reason != ReasonCode::NORMAL_DISCONNECTION;
        self.detach(connection, with_will, now);
        self.hang_up(connection, now);
    }

    /// Takes the session off its connection. With `abnormal` its will is due.
    pub(crate) fn detach(&mut self, connection: usize, abnormal: bool, now: u64) {
        let Some(id) = self.connections.get_mut(&connection).and_then(|link| link.session.take()) else {
            return;
        };
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.connection = None;
        session.left_at = now;
        session.drop_qos0(&mut self.held);
        session.overdue.clear();
        if !abnormal && session.will.take().is_some() {
            self.log.no_will(id, session);
        }
        let (expiry, delay) = (session.expiry, session.will.as_ref().map(|will| will.delay));
        session.expires_at = (expiry > 0).then(|| after(now, expiry));
        let expires_at = session.expires_at;
        match delay {
            Some(delay) if delay > 0 && expiry > 0 => {
                let due = after(now, delay.min(expiry));
                session.will_at = Some(due);
                self.log.left(id, session);
                self.wake_at(due);
            }
            Some(_) => {
                self.log.left(id, session);
                self.publish_will(id, now);
            }
            None => self.log.left(id, session),
        }
        match expires_at {
            Some(at) => self.wake_at(at),
            None => self.forget(id),
        }
    }

    /// Publishes a session's will, if it has one; the policy is asked as for any other message.
    fn publish_will(&mut self, id: usize, now: u64) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.will_at.take().is_some() {
            self.left_at = now;
        }
        let Some(Will { mut message, qos, retain, expiry, .. }) = session.will.take() else { return };
        self.log.no_will(id, session);
        message.expires_at = expiry.map(|seconds| after(now, seconds));
        let message = Rc::new(message);
        self.publish(&Routed::of(&message), Some(id), qos, retain, now);
    }

    /// A session ends: its will is due, then everything it holds goes.
    pub(crate) fn end_session(&mut self, id: usize, now: u64) {
        self.publish_will(id, now);
        self.forget(id);
    }

    /// Removes a session with everything it holds; a will goes unpublished.
    pub(crate) fn forget(&mut self, id: usize) {
        let Some(session) = self.sessions.try_remove(id) else { return };
        self.log.ended(id, &session);
        self.held.remove(session.sid.as_ref(), session.held());
        for subscribed in &session.subscriptions {
            let (group, filter) = shared(&subscribed.filter);
            let group = group.map(|group| group_name(session.sid.as_ref(), group));
            self.tree.remove(filter, group.as_deref(), id);
        }
        self.by_key.remove(&session.key);
    }

    /// Removes a session and ends its connection, of whose output only the reason is left to say.
    fn dismiss(&mut self, id: usize, reason: ReasonCode) {
        let connection = self.sessions.get(id).and_then(|session| session.connection);
        self.forget(id);
        if let Some(connection) = connection
            && let Some(link) = self.connections.get_mut(&connection)
        {
            link.session = None;
            link.output.retain(|_| false);
            self.finish(connection, words_for(reason));
        }
    }

    /// Grants replace all earlier ones. Whatever they do not cover is gone when this returns: sessions (ended with
    /// 0x87), wills, and messages retained, waiting, in flight or encoded but not written. So is what a grant was to get
    /// through a view that is now another.
    pub fn set_grants(&mut self, grants: Grants, now: u64) {
        let earlier = mem::replace(&mut self.policy, Policy::Granted(Some(grants)));
        self.forget_at = None;
        let known = |policy: &Policy, sid: Option<&Rc<str>>| {
            sid.is_some_and(|sid| policy.grants().is_some_and(|grants| grants.sid(sid).is_some()))
        };
        let gone: Vec<usize> = self
            .sessions
            .iter()
            .filter(|(_, session)| !known(&self.policy, session.sid.as_ref()))
            .map(|(id, _)| id)
            .collect();
        for id in gone {
            self.dismiss(id, ReasonCode::NOT_AUTHORIZED);
        }
        self.recall_shadows();
        self.log.outdated();
        self.retained.refilter(&self.policy, &earlier);
        self.lenses.refilter(&self.policy, &earlier);
        for (_, session) in &mut self.sessions {
            let sid = session.sid.clone();
            let same = |topic: &str| self.policy.sees_as_in(&earlier, sid.as_ref(), topic);
            let covered = |message: &Message| {
                covers(&self.policy, message, sid.as_ref()) && same(message.content().topic)
            };
            session.retain(&mut self.held, covered);
            if session
                .will
                .as_ref()
                .is_some_and(|will| !self.policy.may_publish(sid.as_ref(), will.message.content().topic))
            {
                session.will = None;
                session.will_at = None;
            }
            if let Some(link) = session.connection.and_then(|id| self.connections.get_mut(&id)) {
                let stays = |topic: &str| same(topic) && self.policy.has_publisher(topic);
                link.retain_messages(|publish| stays(publish.topic));
                link.given.retain(stays);
            }
        }
        self.refilter_shadows(&earlier, now);
        self.pump_all(now);
    }

    /// Nobody is left who could tell that a grant has ended. Without new grants by [`Limits::unattended_ms`] from now
    /// on, [`Self::tick`] forgets the grants and everything kept under them: sessions end (with 0x8B, for the grants
    /// themselves may be good), wills go unpublished, and nobody comes in until there are grants again.
    pub fn unattended(&mut self, now: u64) {
        if self.has_grants() && self.forget_at.is_none() {
            let due = now.saturating_add(self.limits.unattended_ms);
            self.forget_at = Some(due);
            self.wake_at(due);
        }
    }

    /// Forgets the grants and everything kept under them, as [`Self::tick`] does after [`Self::unattended`].
    pub fn forget_all(&mut self) {
        // What the journal has is not forgotten: whoever has its key and its grants may go on from there.
        self.stop_log();
        let all: Vec<usize> = self.sessions.iter().map(|(id, _)| id).collect();
        for id in all {
            self.dismiss(id, ReasonCode::SERVER_SHUTTING_DOWN);
        }
        self.retained = Retained::default();
        self.shadows = Shadows::default();
        self.lenses = Lenses::default();
        self.policy = Policy::Granted(None);
        self.forget_at = None;
    }

    /// Whether grants were given and are not forgotten.
    pub const fn has_grants(&self) -> bool {
        self.policy.grants().is_some()
    }

    /// Does what is due by now; answers when to call again at the latest.
    pub fn tick(&mut self, now: u64) -> Option<u64> {
        if self.next_tick.is_none_or(|at| at > now) {
            return self.next_tick;
        }
        self.next_tick = None;
        if self.forget_at.is_some_and(|at| at <= now) {
            // Before the wills that are due: they go unpublished.
            self.forget_all();
        }
        // Before the sessions that are due: what was windowed while they were there is theirs.
        self.send_summaries(now);
        let handshake = self.limits.handshake_ms;
        let mut late = Vec::new();
        let mut next: Option<u64> = None;
        let mut soonest = |at: u64| next = Some(next.map_or(at, |known: u64| known.min(at)));
        for (id, link) in self.connections.iter().filter(|(_, link)| !link.closing) {
            let due = match link.session {
                None => link.opened_at + handshake,
                Some(_) if link.patience_ms == 0 => continue,
                Some(_) => link.last_seen + link.patience_ms,
            };
            if due <= now { late.push(*id) } else { soonest(due) }
        }
        let mut wills = Vec::new();
        let mut ended = Vec::new();
        for (id, session) in self.sessions.iter().filter(|(_, session)| session.connection.is_none()) {
            match session.will_at {
                Some(at) if at <= now => wills.push(id),
                Some(at) => soonest(at),
                None => {}
            }
            match session.expires_at {
                Some(at) if at <= now => ended.push(id),
                Some(at) => soonest(at),
                None => {}
            }
        }
        for at in self.retained.expire(now).into_iter().chain(self.forget_at) {
            soonest(at);
        }
        if let Some(at) = next {
            self.wake_at(at);
        }
        for id in late {
            self.fail(id, ReasonCode::KEEP_ALIVE_TIMEOUT, now);
        }
        for id in wills {
            self.publish_will(id, now);
        }
        for id in ended {
            self.end_session(id, now);
        }
        self.next_tick
    }

    pub(crate) fn wake_at(&mut self, at: u64) {
        self.next_tick = Some(self.next_tick.map_or(at, |known| known.min(at)));
    }

    /// When [`Self::tick`] is due next.
    pub const fn next_tick(&self) -> Option<u64> {
        self.next_tick
    }

    pub(crate) fn send(&mut self, connection: usize, packet: &Packet<'_>) {
        if let Some(link) = self.connections.get_mut(&connection)
            && link.send(packet)
        {
            self.attend(connection);
        }
    }

    /// Puts a connection on the list of those that have something to write or are to be closed.
    pub(crate) fn attend(&mut self, connection: usize) {
        if let Some(link) = self.connections.get_mut(&connection).filter(|link| !link.listed) {
            link.listed = true;
            self.attention.push_back(connection);
        }
    }

    /// The next connection that has something to write or is to be closed.
    pub fn next_attention(&mut self) -> Option<usize> {
        let connection = self.attention.pop_front()?;
        if let Some(link) = self.connections.get_mut(&connection) {
            link.listed = false;
        }
        Some(connection)
    }

    /// Whether any connection has something to write or is to be closed.
    pub fn needs_attention(&self) -> bool {
        !self.attention.is_empty()
    }

    /// The bytes to write to a connection.
    pub fn output(&self, connection: usize) -> &[u8] {
        self.connections.get(&connection).map(|link| link.output.pending()).unwrap_or_default()
    }

    /// So many bytes of [`Self::output`] are written: messages that waited for room may follow.
    pub fn written(&mut self, connection: usize, count: usize, now: u64) {
        let Some(link) = self.connections.get_mut(&connection) else { return };
        link.output.advance(count);
        if let Some(session) = link.session {
            self.pump(session, now);
        }
    }

    /// Whether the connection is to be closed as soon as its output is written.
    pub fn is_closing(&self, connection: usize) -> bool {
        self.connections.get(&connection).is_none_or(|link| link.closing)
    }

    /// Whether to read from the connection: not while its own answers pile up.
    pub fn wants_input(&self, connection: usize) -> bool {
        let room = |link: &Connection| !link.closing && link.output.pending().len() < self.limits.output;
        self.connections.get(&connection).is_some_and(room)
    }

    /// Longest packet to take from the connection now, in bytes: nobody needs much to introduce himself.
    pub fn input_limit(&self, connection: usize) -> usize {
        const LONGEST_CONNECT: usize = 256 << 10;
        let introduced = self.connections.get(&connection).is_some_and(|link| link.session.is_some());
        if introduced { self.limits.packet } else { self.limits.packet.min(LONGEST_CONNECT) }
    }

    /// A connection found no place ([`Self::is_full_for`]) and is counted.
    pub const fn turned_away(&mut self) {
        self.count_refusal(ReasonCode::QUOTA_EXCEEDED);
    }
}

/// Whether a kept message may still go to a session under this grant: its publisher may still publish it, and the
/// session may read it.
pub(crate) fn covers(policy: &Policy, message: &Message, sid: Option<&Rc<str>>) -> bool {
    let topic = message.content().topic;
    policy.may_publish(message.sid.as_ref(), topic) && policy.may_read(sid, topic)
}

/// A shared group belongs to one grant alone.
pub(crate) fn group_name(sid: Option<&Rc<str>>, group: &str) -> String {
    match sid {
        Some(sid) => format!("{sid}/{group}"),
        None => group.to_owned(),
    }
}
