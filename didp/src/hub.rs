//! Devices that are connected to this process now, so that a claim can reach the one connection that asked for it.
//!
//! A message goes to exactly one connection, named by its number; there is no way to address anything else.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::mpsc;
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

/// The connected devices.
#[derive(Default)]
pub struct Hub {
    next: AtomicI64,
    devices: Mutex<HashMap<String, Connected>>,
}

struct Connected {
    connection: i64,
    messages: mpsc::Sender<ClaimMessage>,
    taken_over: CancellationToken,
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
    /// Registers a connection of `client_id`; an older one of the same client is told to go.
    pub fn enter(&self, client_id: &str) -> Seat<'_> {
        let connection = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (messages, receiver) = mpsc::channel(QUEUE);
        let taken_over = CancellationToken::new();
        let connected = Connected { connection, messages, taken_over: taken_over.clone() };
        if let Some(older) = self.devices().insert(client_id.to_owned(), connected) {
            older.taken_over.cancel();
        }
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

    fn devices(&self) -> std::sync::MutexGuard<'_, HashMap<String, Connected>> {
        self.devices.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut devices = self.hub.devices();
        if devices.get(&self.client_id).is_some_and(|connected| connected.connection == self.connection) {
            devices.remove(&self.client_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reaches_the_named_connection_only() {
        let hub = Hub::default();
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

    #[test]
    fn a_device_that_takes_nothing_counts_as_gone() {
        let hub = Hub::default();
        let seat = hub.enter("a");
        let sent = (0..100).filter(|_| hub.send("a", seat.connection, ClaimMessage::Denied)).count();
        assert_eq!(sent, QUEUE);
    }
}
