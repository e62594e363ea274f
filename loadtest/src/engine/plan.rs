//! What an engine is to do: which clients, what they subscribe, what they publish and how fast.

use std::time::Duration;

use mqtt_wire::{QoS, Version};

use super::stamp;

/// Everything one engine drives.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The version all clients speak.
    pub version: Version,
    /// Connections being opened at the same time.
    pub connecting: usize,
    /// Keep alive in seconds; 0 for none.
    pub keep_alive: u16,
    /// Longest time from opening to the last SUBACK, for one client.
    pub patience: Duration,
    /// The clients, numbered from 0.
    pub clients: Vec<ClientPlan>,
    /// What they publish, numbered from 0.
    pub streams: Vec<StreamPlan>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            version: Version::V311,
            connecting: 64,
            keep_alive: 300,
            patience: Duration::from_secs(20),
            clients: Vec::new(),
            streams: Vec::new(),
        }
    }
}

impl Plan {
    /// Adds a client and answers its number.
    pub fn client(&mut self, client: ClientPlan) -> usize {
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// Adds a stream and answers its number.
    pub fn stream(&mut self, stream: StreamPlan) -> usize {
        self.streams.push(stream);
        self.streams.len() - 1
    }
}

/// One client.
#[derive(Clone, Debug, Default)]
pub struct ClientPlan {
    /// Its client id.
    pub id: String,
    /// User name and password.
    pub login: Option<(String, String)>,
    /// What it subscribes before it counts as ready.
    pub filters: Vec<(String, QoS)>,
}

impl ClientPlan {
    /// A client that subscribes nothing.
    #[must_use]
    pub fn new(id: impl Into<String>) -> ClientPlan {
        ClientPlan { id: id.into(), login: None, filters: Vec::new() }
    }

    /// The same with one more filter.
    #[must_use]
    pub fn subscribing(mut self, filter: impl Into<String>, qos: QoS) -> ClientPlan {
        self.filters.push((filter.into(), qos));
        self
    }

    /// The same with user name and password.
    #[must_use]
    pub fn login(mut self, name: impl Into<String>, password: impl Into<String>) -> ClientPlan {
        self.login = Some((name.into(), password.into()));
        self
    }
}

/// One client's messages on one topic.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    /// The client that publishes.
    pub publisher: usize,
    /// Where to.
    pub topic: String,
    /// How.
    pub qos: QoS,
    /// Whether the broker is to keep them.
    pub retain: bool,
    /// Bytes of a payload; at least [`stamp::LENGTH`] are sent.
    pub payload: usize,
    /// How many clients of the same engine receive each message.
    pub receivers: u64,
    /// When the next one is sent.
    pub pace: Pace,
}

impl StreamPlan {
    /// Messages of 100 bytes for one receiver.
    #[must_use]
    pub fn new(publisher: usize, topic: impl Into<String>, qos: QoS, pace: Pace) -> StreamPlan {
        StreamPlan { publisher, topic: topic.into(), qos, retain: false, payload: 100, receivers: 1, pace }
    }

    pub(super) fn length(&self) -> usize {
        self.payload.max(stamp::LENGTH)
    }
}

/// When the next message of a stream is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Closed loop: as soon as fewer than so many are on their way.
    Closed {
        /// Messages not yet received by everybody (and, with QoS 1 and 2, not yet acknowledged).
        window: u64,
    },
    /// Open loop: at fixed times, whatever happened to the earlier ones. A message that had to wait for its turn counts from
    /// the time at which it was due, so a stalled broker cannot hide its stall by holding the load back (coordinated omission).
    Open {
        /// From one to the next.
        interval: Duration,
        /// From the start to the first.
        offset: Duration,
    },
    /// So many, as fast as acknowledgements (QoS 1 and 2) or the socket (QoS 0) allow.
    Once {
        /// How many.
        messages: u64,
    },
}
