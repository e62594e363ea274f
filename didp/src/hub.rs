//! Devices that are connected to this process now, so that a claim can reach the one connection that asked for it.
//!
//! A message goes to exactly one connection, named by its number; there is no way to address anything else. Where several DIdPs
//! share a database, [`crate::peers`] carries messages to the one that holds the connection, and hears here who came and went.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// Messages that may wait for one connection; beyond that the device counts as gone.
const QUEUE: usize = 8;

/// What a claim tells the device that asked for it.
#[derive(Debug)]
pub enum ClaimMessage {
    /// The owner's answer was right: the window stays open for this many seconds, until the decision.
    Taken(i64),
    /// The owner consented: the authorization code.
    Granted(Zeroizing<String>),
    /// The owner declined, or the window was contested or ran out of tries.
    Denied,
    /// The window or the owner's time is over.
    Expired,
}

impl ClaimMessage {
    /// As bytes, for another replica.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let (kind, rest) = match self {
            Self::Taken(seconds) => (b't', Zeroizing::new(seconds.to_be_bytes().to_vec())),
            Self::Granted(code) => (b'g', Zeroizing::new(code.as_bytes().to_vec())),
            Self::Denied => (b'd', Zeroizing::default()),
            Self::Expired => (b'e', Zeroizing::default()),
        };
        Zeroizing::new([&[kind], rest.as_slice()].concat())
    }

    /// From the bytes of another replica.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match (kind, rest) {
            (b't', seconds) => Some(Self::Taken(i64::from_be_bytes(seconds.try_into().ok()?))),
            (b'g', code) => Some(Self::Granted(Zeroizing::new(String::from_utf8(code.to_vec()).ok()?))),
            (b'd', []) => Some(Self::Denied),
            (b'e', []) => Some(Self::Expired),
            _ => None,
        }
    }
}

/// The connected devices.
pub struct Hub {
    next: AtomicI64,
    devices: Mutex<HashMap<String, Connected>>,
    moves: Option<Moves>,
}

struct Connected {
    connection: i64,
    messages: mpsc::Sender<ClaimMessage>,
    taken_over: CancellationToken,
    /// The other replicas were told of it.
    announced: bool,
}

/// What the other replicas have yet to be told; one entry a device at most.
#[derive(Default)]
struct Moves {
    pending: Mutex<HashMap<String, Move>>,
    some: Notify,
}

/// A device came or went, on the connection of that number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// It came.
    Arrived(i64),
    /// It went.
    Left(i64),
}

/// A device's place in the hub; it is free again when this is dropped.
pub struct Seat<'a> {
    hub: &'a Hub,
    client_id: String,
    /// Number of this connection.
    pub connection: i64,
    /// What claims tell this device.
    pub messages: mpsc::Receiver<ClaimMessage>,
    /// Cancelled when the same client connects again, or when its ownership ended.
    pub taken_over: CancellationToken,
}

impl Hub {
    /// A hub whose connections have numbers after `first`. With `shared`, it remembers who came and went, for the others.
    pub fn new(first: i64, shared: bool) -> Self {
        Self { next: AtomicI64::new(first), devices: Mutex::default(), moves: shared.then(Moves::default) }
    }

    /// Registers a connection of `client_id`; an older one of the same client is told to go.
    pub fn enter(&self, client_id: &str) -> Seat<'_> {
        let connection = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (messages, receiver) = mpsc::channel(QUEUE);
        let taken_over = CancellationToken::new();
        let connected = Connected { connection, messages, taken_over: taken_over.clone(), announced: false };
        if let Some(older) = self.devices().insert(client_id.to_owned(), connected) {
            older.taken_over.cancel();
        }
        self.note(client_id, Move::Arrived(connection));
        Seat { hub: self, client_id: client_id.to_owned(), connection, messages: receiver, taken_over }
    }

    /// True if the device is connected.
    pub fn is_online(&self, client_id: &str) -> bool {
        self.devices().contains_key(client_id)
    }

    /// True if this connection of the device is still there.
    pub fn holds(&self, client_id: &str, connection: i64) -> bool {
        self.devices().get(client_id).is_some_and(|connected| connected.connection == connection)
    }

    /// Sends to one connection of one device; false if it is gone or takes nothing any more.
    pub fn send(&self, client_id: &str, connection: i64, message: ClaimMessage) -> bool {
        match self.devices().get(client_id) {
            Some(connected) if connected.connection == connection => {
                connected.messages.try_send(message).is_ok()
            }
            _ => false,
        }
    }

    /// What the others have yet to be told; waits until there is something. Never answers if nobody else is there.
    pub(crate) async fn moves(&self) -> Vec<(String, Move)> {
        let Some(moves) = &self.moves else { return std::future::pending().await };
        loop {
            let some = moves.some.notified();
            let pending = std::mem::take(&mut *lock(&moves.pending));
            if !pending.is_empty() {
                return pending.into_iter().collect();
            }
            some.await;
        }
    }

    /// Everybody who is here has to be announced again.
    pub(crate) fn announce_all(&self) {
        let Some(moves) = &self.moves else { return };
        let mut pending = lock(&moves.pending);
        for (client_id, connected) in &mut *self.devices() {
            connected.announced = false;
            pending.insert(client_id.clone(), Move::Arrived(connected.connection));
        }
        moves.some.notify_one();
    }

    /// Every replica hears in the same order who came where. A connection here that was announced before a connection elsewhere
    /// is the older one, and is told to go.
    pub(crate) fn heard(&self, client_id: &str, connection: i64) {
        if let Some(here) = self.devices().get_mut(client_id) {
            if here.connection == connection {
                here.announced = true;
            } else if here.announced {
                here.taken_over.cancel();
            }
        }
    }

    fn note(&self, client_id: &str, one: Move) {
        if let Some(moves) = &self.moves {
            lock(&moves.pending).insert(client_id.to_owned(), one);
            moves.some.notify_one();
        }
    }

    fn devices(&self) -> std::sync::MutexGuard<'_, HashMap<String, Connected>> {
        lock(&self.devices)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut devices = self.hub.devices();
        if devices.get(&self.client_id).is_some_and(|connected| connected.connection == self.connection) {
            devices.remove(&self.client_id);
            self.hub.note(&self.client_id, Move::Left(self.connection));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reaches_the_named_connection_only() {
        let hub = Hub::new(0, false);
        let mut first = hub.enter("a");
        let other = hub.enter("b");
        assert!(hub.send("a", first.connection, ClaimMessage::Denied));
        assert!(!hub.send("a", other.connection, ClaimMessage::Denied));
        assert!(first.messages.try_recv().is_ok());

        let second = hub.enter("a");
        assert!(first.taken_over.is_cancelled());
        assert!(!hub.send("a", first.connection, ClaimMessage::Denied));
        drop(first);
        assert!(hub.holds("a", second.connection), "the older one's end must not remove the newer one");
        drop(second);
        assert!(!hub.is_online("a"));
    }

    #[tokio::test]
    async fn the_older_connection_goes_wherever_it_is() {
        let (here, there) = (Hub::new(1 << 32, true), Hub::new(2 << 32, true));
        let (older, newer) = (here.enter("a"), there.enter("a"));
        assert_eq!(here.moves().await, [("a".to_owned(), Move::Arrived(older.connection))]);
        for hub in [&here, &there] {
            hub.heard("a", older.connection);
        }
        assert!(!older.taken_over.is_cancelled() && !newer.taken_over.is_cancelled());
        for hub in [&here, &there] {
            hub.heard("a", newer.connection);
        }
        assert!(older.taken_over.is_cancelled() && !newer.taken_over.is_cancelled());
        let (number, _) = (older.connection, drop(older));
        assert_eq!(here.moves().await, [("a".to_owned(), Move::Left(number))]);
    }

    #[test]
    fn messages_survive_the_way_to_another_replica() {
        let code = || ClaimMessage::Granted(Zeroizing::new("code".into()));
        for message in [ClaimMessage::Taken(300), code(), ClaimMessage::Denied, ClaimMessage::Expired] {
            let again = ClaimMessage::from_bytes(&message.to_bytes()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{message:?}"));
        }
        assert!(ClaimMessage::from_bytes(b"dx").is_none() && ClaimMessage::from_bytes(b"").is_none());
    }

    #[test]
    fn a_device_that_takes_nothing_counts_as_gone() {
        let hub = Hub::new(0, false);
        let seat = hub.enter("a");
        let sent = (0..100).filter(|_| hub.send("a", seat.connection, ClaimMessage::Denied)).count();
        assert_eq!(sent, QUEUE);
    }
}
