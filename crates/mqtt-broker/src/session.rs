//! One client's session (§4.1): subscriptions, messages waiting and in flight, the will.

use crate::flights::Flights;
use crate::limits::Limits;
use crate::message::Message;
use crate::tally::Tally;
use crate::tree::Entry;
use mqtt_wire::QoS;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

pub(crate) struct Session {
    /// Where the broker finds it.
    pub(crate) key: Box<str>,
    pub(crate) sid: Option<Rc<str>>,
    pub(crate) connection: Option<usize>,
    /// Seconds that it outlives its connection.
    pub(crate) expiry: u32,
    /// When its last connection ended.
    pub(crate) left_at: u64,
    pub(crate) expires_at: Option<u64>,
    pub(crate) subscriptions: Vec<Subscribed>,
    pub(crate) waiting: VecDeque<Waiting>,
    /// How many of those have QoS 0.
    waiting_qos0: usize,
    pub(crate) flying: Flights,
    /// Packet identifiers of QoS 2 messages received and not yet released.
    pub(crate) received: Vec<u16>,
    pub(crate) will: Option<Will>,
    pub(crate) will_at: Option<u64>,
    /// Topics of shadows whose newest state found no room, each with the retain flag that it goes out with.
    pub(crate) overdue: BTreeMap<Box<str>, bool>,
    /// The journal knows of it.
    pub(crate) logged: bool,
}

/// A subscription as the client wrote it.
pub(crate) struct Subscribed {
    pub(crate) filter: Box<str>,
    pub(crate) entry: Entry,
}

/// A message that waits for its turn.
pub(crate) struct Waiting {
    pub(crate) message: Rc<Message>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) ids: Box<[u32]>,
}

/// The will of a connection (§3.1.2.5).
pub(crate) struct Will {
    pub(crate) message: Message,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) delay: u32,
    /// Message expiry interval: it counts from the publishing on.
    pub(crate) expiry: Option<u32>,
}

impl Session {
    pub(crate) fn new(key: Box<str>, sid: Option<Rc<str>>) -> Session {
        Session {
            key,
            sid,
            connection: None,
            expiry: 0,
            left_at: 0,
            expires_at: None,
            subscriptions: Vec::new(),
            waiting: VecDeque::new(),
            waiting_qos0: 0,
            flying: Flights::default(),
            received: Vec::new(),
            will: None,
            will_at: None,
            overdue: BTreeMap::new(),
            logged: false,
        }
    }

    /// Bytes held by messages that wait or fly.
    pub(crate) fn held(&self) -> usize {
        let waiting = self.waiting.iter();
        waiting
            .chain(self.flying.iter().filter_map(|flying| flying.message.as_ref()))
            .map(Waiting::cost)
            .sum()
    }

    /// Lets a message wait. At a limit messages of QoS 0 give way, oldest first, but only to others.
    /// Answers whether the message was taken. `held` counts the bytes of all sessions.
    pub(crate) fn enqueue(&mut self, waiting: Waiting, held: &mut Tally, limits: &Limits) -> bool {
        let cost = waiting.cost();
        while self.waiting.len() >= limits.queue_messages || !self.may_hold(cost, held, limits) {
            if waiting.qos == QoS::AtMostOnce || !self.drop_oldest_qos0(held) {
                return false;
            }
        }
        held.add(self.sid.as_ref(), cost);
        self.waiting_qos0 += usize::from(waiting.qos == QoS::AtMostOnce);
        self.waiting.push_back(waiting);
        true
    }

    /// Whether there is room for so many more bytes, in all and for this session's grant.
    pub(crate) fn may_hold(&self, cost: usize, held: &Tally, limits: &Limits) -> bool {
        held.has_room(self.sid.as_ref(), cost, (None, 0), limits.queue_bytes, limits)
    }

    fn drop_oldest_qos0(&mut self, held: &mut Tally) -> bool {
        if self.waiting_qos0 == 0 {
            return false;
        }
        match self.waiting.iter().position(|waiting| waiting.qos == QoS::AtMostOnce) {
            Some(at) => self.take(at, held).is_some(),
            None => false,
        }
    }

    /// Takes a waiting message out; its cost is not counted as held any more.
    fn take(&mut self, at: usize, held: &mut Tally) -> Option<Waiting> {
        let waiting = self.waiting.remove(at)?;
        self.waiting_qos0 -= usize::from(waiting.qos == QoS::AtMostOnce);
        held.remove(self.sid.as_ref(), waiting.cost());
        if self.waiting.is_empty() {
            self.waiting.shrink_to_fit();
        }
        Some(waiting)
    }

    /// The next message that can be sent with a window of so many acknowledgements outstanding: while the window is
    /// closed, QoS 0 goes past the others.
    pub(crate) fn next_waiting(&mut self, window: usize, held: &mut Tally) -> Option<Waiting> {
        if self.flying.len() < window {
            return self.take(0, held);
        }
        if self.waiting_qos0 == 0 {
            return None;
        }
        let at = self.waiting.iter().position(|waiting| waiting.qos == QoS::AtMostOnce)?;
        self.take(at, held)
    }

    /// Keeps only those messages, waiting or in flight, that `keep` chooses. A packet identifier in flight stays taken
    /// until the client acknowledges it.
    pub(crate) fn retain(&mut self, held: &mut Tally, keep: impl Fn(&Message) -> bool) {
        let before = self.held();
        self.waiting.retain(|waiting| keep(&waiting.message));
        for flying in self.flying.iter_mut() {
            if flying.message.as_ref().is_some_and(|waiting| !keep(&waiting.message)) {
                flying.message = None;
            }
        }
        self.recount(before, held);
    }

    /// A connection has ended: what was not worth keeping goes.
    pub(crate) fn drop_qos0(&mut self, held: &mut Tally) {
        let before = self.held();
        self.waiting.retain(|waiting| waiting.qos != QoS::AtMostOnce);
        self.recount(before, held);
    }

    /// It held `before` bytes and may hold fewer now.
    fn recount(&mut self, before: usize, held: &mut Tally) {
        self.waiting_qos0 = self.waiting.iter().filter(|waiting| waiting.qos == QoS::AtMostOnce).count();
        held.remove(self.sid.as_ref(), before.saturating_sub(self.held()));
    }
}

impl Waiting {
    pub(crate) fn cost(&self) -> usize {
        self.message.cost()
    }
}
