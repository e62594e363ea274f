//! The only I/O: one thread, one loop over listeners and connections, nothing blocking.
//!
//! A turn of the loop has two halves. First what has come is read and handled and the broker learns the time, then the
//! [`Door`] makes safe what must not be lost, and only then is anything written: an acknowledgement never leaves before
//! the journal has what it acknowledges, and all that a turn acknowledges is journalled at once.
//!
//! Every connection reads into one shared buffer and keeps only an incomplete packet for itself. What a turn produces
//! for a connection is written in one go. A connection whose peer does not read is not read from either, and one that
//! does not introduce itself in time is closed, and so are those that owe the rest of a packet, or reading, for too long. Who may come in is the door's business too.

mod deadlines;
mod door;
mod peer;

pub use door::{Admission, Answer, Door, Plain, Unwelcome};

use crate::broker::Broker;
use mio::event::{Event, Source};
use mio::net::{TcpListener, UnixListener};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use peer::{Peer, Progress, Socket, Stage};
use slab::Slab;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn accept(&self) -> io::Result<Socket> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| Socket::Unix(stream)),
        }
    }
}

const STOP: Token = Token(usize::MAX);
/// Tokens below are listeners.
const FIRST_PEER: usize = 64;
/// Bytes read from one connection in a turn.
const READ: usize = 16 << 10;
/// Length of the buffer for it: so large that the allocator takes fresh pages, which cost nothing until they are used.
const BUFFER: usize = 256 << 10;
/// Bytes read from all connections in a turn, or one buffer more.
const TURN: usize = 64 << 10;
/// Connections beyond the limit for clients, so that control finds its way in when clients have taken all of theirs.
const RESERVED: usize = 8;
/// How long a connection that is being closed may take to read what it was told.
const LINGER_MS: u64 = 1_000;
/// How long to wait after accepting failed, for example for want of file descriptors.
const ACCEPT_PAUSE_MS: u64 = 100;

/// A broker with its sockets.
pub struct Server<D> {
    poll: Poll,
    broker: Broker,
    door: D,
    listeners: Vec<Listener>,
    accept_at: Option<u64>,
    stop: Option<OwnedFd>,
    peers: Slab<Peer>,
    /// Connections that may have something to read.
    ready: VecDeque<usize>,
    /// Connections that may have something to write, beside those that the broker names.
    outgoing: Vec<usize>,
    /// Connections to be closed at a time, oldest first: those that must introduce themselves, and those that linger.
    introductions: VecDeque<(u64, usize, u64)>,
    lingering: VecDeque<(u64, usize, u64)>,
    /// Connections that may owe something, with a time before which nothing of it is due.
    deadlines: BTreeSet<(u64, usize)>,
    serial: u64,
    buffer: Vec<u8>,
    began: Instant,
    /// Milliseconds from the Unix epoch to `began`.
    began_at: u64,
    ends_at: Option<u64>,
}

impl<D: Door> Server<D> {
    /// A server without listeners.
    ///
    /// # Errors
    /// The kernel's, if there is no epoll instance to be had.
    pub fn new(broker: Broker, door: D) -> io::Result<Server<D>> {
        Ok(Server {
            poll: Poll::new()?,
            broker,
            door,
            listeners: Vec::new(),
            accept_at: None,
            stop: None,
            peers: Slab::new(),
            ready: VecDeque::new(),
            outgoing: Vec::new(),
            introductions: VecDeque::new(),
            lingering: VecDeque::new(),
            deadlines: BTreeSet::new(),
            serial: 0,
            buffer: vec![0; BUFFER],
            began: Instant::now(),
            began_at: millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            ends_at: None,
        })
    }

    /// Accepts from a TCP listener.
    ///
    /// # Errors
    /// The kernel's, or too many listeners.
    pub fn listen_tcp(&mut self, listener: std::net::TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        self.listen(Listener::Tcp(TcpListener::from_std(listener)))
    }

    /// Accepts from a Unix stream listener.
    ///
    /// # Errors
    /// The kernel's, or too many listeners.
    pub fn listen_unix(&mut self, listener: std::os::unix::net::UnixListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        self.listen(Listener::Unix(UnixListener::from_std(listener)))
    }

    fn listen(&mut self, mut listener: Listener) -> io::Result<()> {
        let at = self.listeners.len();
        if at >= FIRST_PEER {
            return Err(io::Error::other("too many listeners"));
        }
        let source: &mut dyn Source = match &mut listener {
            Listener::Tcp(listener) => listener,
            Listener::Unix(listener) => listener,
        };
        self.poll.registry().register(source, Token(at), Interest::READABLE)?;
        self.listeners.push(listener);
        Ok(())
    }

    /// Drains and stops as soon as this descriptor is readable, for example a signalfd.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stop_on(&mut self, descriptor: OwnedFd) -> io::Result<()> {
        let raw = descriptor.as_raw_fd();
        self.poll.registry().register(&mut SourceFd(&raw), STOP, Interest::READABLE)?;
        self.stop = Some(descriptor);
        Ok(())
    }

    /// Milliseconds since the Unix epoch that do not go back: the wall clock is asked once.
    fn now(&self) -> u64 {
        self.began_at.saturating_add(millis(self.began.elapsed()))
    }

    /// Serves until it is told to stop and every client has been told so, or a second has passed.
    ///
    /// # Errors
    /// Only what makes going on impossible: the poll's, or the door's when it cannot commit.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        let mut now = self.now();
        loop {
            if self.ends_at.is_some_and(|at| at <= now || self.peers.is_empty()) {
                return self.door.commit(&mut self.broker, now);
            }
            let timeout = self.timeout(now);
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    now = self.now();
                    continue;
                }
                Err(error) => return Err(error),
            }
            // Once a turn: what the turn takes is little, and comes off no limit but the next wait's.
            now = self.now();
            for event in &events {
                self.notice(event, now);
            }
            self.take_in(now);
            self.let_pass(now);
            self.door.commit(&mut self.broker, now)?;
            self.give_out(now);
        }
    }

    fn timeout(&self, now: u64) -> Option<Duration> {
        if !self.ready.is_empty() || !self.outgoing.is_empty() || self.broker.needs_attention() {
            return Some(Duration::ZERO);
        }
        let times = [
            self.broker.next_tick(),
            self.introductions.front().map(|first| first.0),
            self.lingering.front().map(|first| first.0),
            self.deadlines.first().map(|first| first.0),
            self.accept_at,
            self.ends_at,
        ];
        let next = times.into_iter().flatten().min()?;
        Some(Duration::from_millis(next.saturating_sub(now)))
    }

    fn notice(&mut self, event: &Event, now: u64) {
        match event.token() {
            STOP => self.drain(now),
            Token(at) if at < FIRST_PEER => self.accept(at, now),
            Token(token) => {
                let slot = token - FIRST_PEER;
                let Some(peer) = self.peers.get_mut(slot) else { return };
                let may_write = event.is_writable() && !peer.writable;
                peer.writable |= may_write;
                peer.ended |= event.is_read_closed() || event.is_error();
                if event.is_readable() || peer.ended {
                    peer.readable = true;
                    self.make_ready(slot);
                }
                if may_write {
                    self.will_write(slot);
                }
            }
        }
    }

    /// Reads from connections that have something, once each, and lets the broker and the door handle it.
    fn take_in(&mut self, now: u64) {
        let mut left = TURN;
        for _ in 0..self.ready.len() {
            if left == 0 {
                return;
            }
            let Some(slot) = self.ready.pop_front() else { return };
            left = left.saturating_sub(self.read(slot, now));
        }
    }

    /// Does what is due by now.
    fn let_pass(&mut self, now: u64) {
        self.broker.tick(now);
        if self.accept_at.is_some_and(|at| at <= now) {
            self.accept_at = None;
            for at in 0..self.listeners.len() {
                self.accept(at, now);
            }
        }
        while let Some((at, slot, serial)) = self.introductions.front().copied() {
            let silent = self.peers.get(slot).is_some_and(|peer| peer.serial == serial && peer.is_unknown());
            if silent && at > now {
                break;
            }
            self.introductions.pop_front();
            if silent {
                self.broker.count_refusal(mqtt_wire::ReasonCode::KEEP_ALIVE_TIMEOUT);
                self.drop_peer(slot, now);
            }
        }
        while let Some((_, slot, serial)) = self.lingering.front().copied().filter(|(at, ..)| *at <= now) {
            self.lingering.pop_front();
            if self.peers.get(slot).is_some_and(|peer| peer.serial == serial) {
                self.drop_peer(slot, now);
            }
        }
        self.collect(now);
    }

    /// Writes what there was to write when this turn was committed. What the writing itself makes room for waits for
    /// the next turn.
    fn give_out(&mut self, now: u64) {
        while let Some(slot) = self.broker.next_attention() {
            self.will_write(slot);
        }
        for slot in mem::take(&mut self.outgoing) {
            self.flush(slot, now);
        }
    }

    fn will_write(&mut self, slot: usize) {
        if let Some(peer) = self.peers.get_mut(slot).filter(|peer| !peer.outgoing) {
            peer.outgoing = true;
            self.outgoing.push(slot);
        }
    }

    fn make_ready(&mut self, slot: usize) {
        if let Some(peer) = self.peers.get_mut(slot).filter(|peer| !peer.queued) {
            peer.queued = true;
            self.ready.push_back(slot);
        }
    }

    fn accept(&mut self, at: usize, now: u64) {
        while self.ends_at.is_none() {
            let Some(listener) = self.listeners.get(at) else { return };
            match listener.accept() {
                Ok(socket) => self.welcome(socket, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    self.accept_at = Some(now + ACCEPT_PAUSE_MS);
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, socket: Socket, now: u64) {
        let stranger = matches!(&socket, Socket::Unix(stream) if !self.door.lets_in(stream));
        if stranger || self.peers.len() >= self.broker.limits().connections + RESERVED {
            return;
        }
        self.serial += 1;
        let slot = self.peers.insert(Peer::new(socket, self.serial));
        let Some(peer) = self.peers.get_mut(slot) else { return };
        // Not writable: a Unix socket would wake this process each time its peer has read something.
        let token = Token(FIRST_PEER + slot);
        if self.poll.registry().register(peer.socket.source(), token, Interest::READABLE).is_err() {
            self.peers.remove(slot);
            return;
        }
        self.introductions.push_back((now + self.broker.limits().handshake_ms, slot, self.serial));
        self.introduce(slot, now);
    }

    /// Asks the door what the connection is, as far as its bytes tell.
    fn introduce(&mut self, slot: usize, now: u64) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        match self.door.admit(&peer.input) {
            Ok(None) if peer.input.len() > self.door.longest().0 => self.drop_peer(slot, now),
            Ok(None) => {}
            Ok(Some((admission, length))) => {
                peer.input.drain(..length.min(peer.input.len()));
                match admission {
                    Admission::Control => peer.stage = Stage::Control,
                    Admission::Onlooker => peer.stage = Stage::Onlooker,
                    Admission::Client(identity) if self.broker.is_full_for(identity.as_ref()) => {
                        self.broker.turned_away();
                        return self.drop_peer(slot, now);
                    }
                    Admission::Client(identity) => {
                        peer.stage = Stage::Client;
                        self.broker.open(slot, identity, now);
                    }
                }
                self.consume(slot, now);
            }
            Err(Unwelcome) => self.drop_peer(slot, now),
        }
    }

    /// Reads once from a connection, if its own output leaves room for what that may lead to. Answers how many bytes came.
    fn read(&mut self, slot: usize, now: u64) -> usize {
        let Some(peer) = self.peers.get_mut(slot) else { return 0 };
        peer.queued = false;
        let wanted = match peer.stage {
            Stage::Client => self.broker.wants_input(slot),
            Stage::Control | Stage::Onlooker => peer.output.is_empty(),
            Stage::Unknown | Stage::Lingering => true,
        };
        if wanted && peer.paused {
            peer.excuse(now);
        }
        peer.paused = peer.readable && !wanted;
        if !peer.readable || !wanted {
            return 0;
        }
        match peer.read(self.buffer.get_mut(..READ).unwrap_or_default()) {
            Progress::Moved(count) => {
                if peer.readable {
                    self.make_ready(slot);
                }
                self.arrived(slot, count, now);
                count
            }
            Progress::Blocked => {
                self.remember(slot);
                0
            }
            Progress::Ended => {
                self.drop_peer(slot, now);
                0
            }
        }
    }

    /// So many bytes have come into the buffer. Whole packets are taken from there; only a rest is copied.
    fn arrived(&mut self, slot: usize, count: usize, now: u64) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let bytes = self.buffer.get(..count).unwrap_or_default();
        match peer.stage {
            Stage::Lingering => {}
            Stage::Client if peer.input.is_empty() => {
                let used = feed(&mut self.broker, slot, bytes, now);
                peer.input.extend_from_slice(bytes.get(used..).unwrap_or_default());
                peer.owes_packet(true, now);
                self.remember(slot);
            }
            Stage::Unknown => {
                peer.input.extend_from_slice(bytes);
                self.introduce(slot, now);
            }
            Stage::Client | Stage::Control | Stage::Onlooker => {
                peer.input.extend_from_slice(bytes);
                self.consume(slot, now);
            }
        }
    }

    /// Takes what is complete in a connection's own input.
    fn consume(&mut self, slot: usize, now: u64) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        match peer.stage {
            Stage::Client => {
                let used = feed(&mut self.broker, slot, &peer.input, now);
                peer.used(used);
                peer.owes_packet(used > 0, now);
                self.remember(slot);
            }
            Stage::Control | Stage::Onlooker => self.control(slot, now),
            Stage::Unknown | Stage::Lingering => {}
        }
    }

    fn control(&mut self, slot: usize, now: u64) {
        let mut drain = false;
        for at in 0..self.listeners.len() {
            self.accept(at, now);
        }
        let may_be_client = |peer: &Peer| matches!(peer.stage, Stage::Unknown | Stage::Client);
        let guests = self.peers.iter().filter(|(_, peer)| may_be_client(peer)).count();
        while let Some(peer) = self.peers.get_mut(slot) {
            let Some(end) = peer.input.iter().position(|byte| *byte == b'\n') else {
                if peer.input.len() > self.door.longest().1 {
                    self.drop_peer(slot, now);
                }
                break;
            };
            let answer =
                self.door.control(&mut self.broker, peer.input.get(..end).unwrap_or_default(), guests, now);
            peer.used(end + 1);
            peer.output.extend_from_slice(&answer.bytes);
            peer.closing |= answer.close;
            drain |= answer.drain;
            if answer.close {
                break;
            }
        }
        self.will_write(slot);
        if drain {
            self.drain(now);
        }
    }

    /// Writes what a connection has to write, in one go.
    fn flush(&mut self, slot: usize, now: u64) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.outgoing = false;
        let (pending, closing) = match peer.stage {
            Stage::Client => (self.broker.output(slot), self.broker.is_closing(slot)),
            Stage::Control | Stage::Onlooker => (peer.output.as_slice(), peer.closing),
            Stage::Unknown if peer.closing => return self.linger(slot, now),
            Stage::Unknown | Stage::Lingering => return,
        };
        let length = pending.len();
        let written = match length {
            0 => 0,
            _ if !peer.writable => 0,
            _ => match peer.socket.write(pending) {
                Progress::Moved(count) => count,
                Progress::Blocked => 0,
                Progress::Ended => return self.drop_peer(slot, now),
            },
        };
        peer.writable &= written == length;
        if peer.awaits_room == peer.writable {
            let interest = match peer.writable {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            let token = Token(FIRST_PEER + slot);
            if self.poll.registry().reregister(peer.socket.source(), token, interest).is_err() {
                return self.drop_peer(slot, now);
            }
            peer.awaits_room = !peer.writable;
        }
        let owes = peer.stage == Stage::Client && written < length;
        peer.owes_room(written > 0, owes, now);
        if written > 0 && peer.stage == Stage::Client {
            self.broker.written(slot, written, now);
        } else {
            peer.output.drain(..written.min(peer.output.len()));
        }
        if closing {
            return if written == length { self.linger(slot, now) } else { self.stop_waiting_for(slot, now) };
        }
        if peer.paused && (written > 0 || length == 0) {
            self.make_ready(slot);
        }
        if owes {
            self.remember(slot);
        }
    }

    /// Everything is said: what still comes is thrown away until the peer closes, so that it can read our last words.
    fn linger(&mut self, slot: usize, now: u64) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let stage = mem::replace(&mut peer.stage, Stage::Lingering);
        peer.used(usize::MAX);
        let said = peer.socket.shutdown_write();
        self.left(slot, stage, now);
        if said.is_err() {
            return self.drop_peer(slot, now);
        }
        self.stop_waiting_for(slot, now);
        self.make_ready(slot);
    }

    fn stop_waiting_for(&mut self, slot: usize, now: u64) {
        if let Some(peer) = self.peers.get_mut(slot).filter(|peer| !peer.doomed) {
            peer.doomed = true;
            self.lingering.push_back((now + LINGER_MS, slot, peer.serial));
        }
    }

    fn drop_peer(&mut self, slot: usize, now: u64) {
        let Some(mut peer) = self.peers.try_remove(slot) else { return };
        // Closing the socket takes it out of the poll anyway; there is nothing to do about an error.
        let _closed_anyway = self.poll.registry().deregister(peer.socket.source());
        self.forgive(slot, &peer);
        self.left(slot, peer.stage, now);
    }

    /// A connection is not any more what it was.
    fn left(&mut self, slot: usize, stage: Stage, now: u64) {
        match stage {
            Stage::Client => self.broker.close(slot, now),
            Stage::Control if self.peers.iter().all(|(_, peer)| peer.stage != Stage::Control) => {
                self.broker.unattended(now);
            }
            Stage::Control | Stage::Onlooker | Stage::Unknown | Stage::Lingering => {}
        }
    }

    /// Tells every client that the server goes, and takes no new ones.
    fn drain(&mut self, now: u64) {
        if self.ends_at.is_some() {
            return;
        }
        self.ends_at = Some(now + LINGER_MS);
        self.listeners.clear();
        self.broker.end_all(mqtt_wire::ReasonCode::SERVER_SHUTTING_DOWN, now);
        let others: Vec<usize> =
            self.peers.iter().filter(|(_, peer)| peer.stage != Stage::Client).map(|(slot, _)| slot).collect();
        for slot in others {
            if let Some(peer) = self.peers.get_mut(slot) {
                peer.closing = true;
            }
            self.will_write(slot);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Hands every complete packet to the broker; answers how many bytes they were.
fn feed(broker: &mut Broker, connection: usize, bytes: &[u8], now: u64) -> usize {
    let mut used = 0;
    while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
        if broker.is_closing(connection) {
            return bytes.len();
        }
        match mqtt_wire::frame_len(rest, broker.input_limit(connection)) {
            Ok(Some(length)) => {
                let Some(frame) = rest.get(..length) else { break };
                broker.receive(connection, frame, now);
                used += length;
            }
            Ok(None) => break,
            Err(error) => {
                broker.reject(connection, error, now);
                return bytes.len();
            }
        }
    }
    used
}
