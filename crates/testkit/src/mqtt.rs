//! A plain MQTT client for tests and measurements: no task of its own, no queue but one, every reason code to be seen.
//!
//! It speaks MQTT 3.1.1 and 5 over TCP, TLS and WebSocket. It sends no pings; ask for a keep-alive of zero (the default). The
//! stock clients of other people are the business of the `e2e` package.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use mqtt_wire::{
    Ack, Auth, Connect, Disconnect, Filters, Packet, Properties, Property, Publish, QoS, ReasonCode,
    Subscribe, Subscription, TopicFilters, Unsubscribe, Version, Will, frame_len,
};
use tokio::time::{Instant, timeout_at};

mod door;

pub use door::Door;
use door::Wire;

/// How long an answer may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

const MOST_BYTES: usize = 4 * 1024 * 1024;

/// How to connect.
#[derive(Clone)]
pub struct Options {
    door: Door,
    version: Version,
    client_id: String,
    clean: bool,
    session_expiry: Option<u32>,
    username: Option<String>,
    password: Option<String>,
    reauthentication: bool,
    will: Option<(String, Vec<u8>, QoS, bool)>,
}

impl Options {
    /// MQTT 5 without a name or a password, clean start, an empty client id.
    #[must_use]
    pub fn new(door: &Door) -> Self {
        Self {
            door: door.clone(),
            version: Version::V5,
            client_id: String::new(),
            clean: true,
            session_expiry: None,
            username: None,
            password: None,
            reauthentication: false,
            will: None,
        }
    }

    /// User name and password.
    #[must_use]
    pub fn login(mut self, username: &str, password: &str) -> Self {
        self.username = Some(username.to_owned());
        self.password = Some(password.to_owned());
        self
    }

    /// User name `Bearer`, the token as password.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.login("Bearer", token)
    }

    /// Another version than MQTT 5.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// A client id.
    #[must_use]
    pub fn client_id(mut self, client_id: &str) -> Self {
        client_id.clone_into(&mut self.client_id);
        self
    }

    /// Continue a session that may be there, and keep it for so many seconds after the connection (MQTT 5).
    #[must_use]
    pub fn session(mut self, expiry: u32) -> Self {
        self.clean = false;
        self.session_expiry = Some(expiry);
        self
    }

    /// Announce the authentication method `Bearer`, so that AUTH may bring a new token later.
    #[must_use]
    pub fn reauthentication(mut self) -> Self {
        self.reauthentication = true;
        self
    }

    /// A will.
    #[must_use]
    pub fn will(mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool) -> Self {
        self.will = Some((topic.to_owned(), payload.to_vec(), qos, retain));
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// No connection, or the server refuses (see [`Options::refusal`]).
    pub async fn connect(&self) -> anyhow::Result<Client> {
        match self.attempt().await? {
            (client, ReasonCode::SUCCESS) => Ok(client),
            (_, reason) => Err(anyhow!("{:?} refuses the connection: {reason:?}", self.door)),
        }
    }

    /// Connects and expects that the server refuses: why it does.
    ///
    /// # Errors
    /// No connection, or the server accepts.
    pub async fn refusal(&self) -> anyhow::Result<ReasonCode> {
        match self.attempt().await? {
            (_, ReasonCode::SUCCESS) => Err(anyhow!("{:?} accepts what it should refuse", self.door)),
            (_, reason) => Ok(reason),
        }
    }

    async fn attempt(&self) -> anyhow::Result<(Client, ReasonCode)> {
        let deadline = Instant::now() + PATIENCE;
        let wire = timeout_at(deadline, self.door.open()).await.context("no connection in time")??;
        let mut properties = Vec::new();
        properties.extend(self.session_expiry.map(Property::SessionExpiryInterval));
        if self.reauthentication {
            properties.push(Property::AuthenticationMethod("Bearer"));
        }
        let will = self.will.as_ref().map(|(topic, payload, qos, retain)| Will {
            qos: *qos,
            retain: *retain,
            properties: Properties::EMPTY,
            topic,
            payload,
        });
        let connect = Packet::Connect(Connect {
            version: self.version,
            clean_start: self.clean,
            keep_alive: 0,
            properties: Properties::list(&properties),
            client_id: &self.client_id,
            will,
            username: self.username.as_deref(),
            password: self.password.as_deref().map(str::as_bytes),
        });
        let mut client = Client {
            wire,
            version: self.version,
            buffer: Vec::with_capacity(8 * 1024),
            consumed: 0,
            messages: VecDeque::new(),
            last_id: 0,
            session_present: false,
        };
        client.send(&connect).await?;
        match client.answer(deadline).await? {
            Answer::Connected { reason, session_present } => {
                client.session_present = session_present;
                Ok((client, reason))
            }
            other => bail!("{other:?} instead of CONNACK"),
        }
    }
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// How it was delivered.
    pub qos: QoS,
    /// Whether it was kept from earlier.
    pub retain: bool,
    /// The correlation data (MQTT 5).
    pub correlation: Option<Vec<u8>>,
}

impl Message {
    /// The payload as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// A packet from the server, but for messages.
#[derive(Debug)]
enum Answer {
    Connected {
        reason: ReasonCode,
        session_present: bool,
    },
    Acknowledged {
        packet_id: u16,
        reason: ReasonCode,
    },
    Received {
        packet_id: u16,
        reason: ReasonCode,
    },
    Authenticated(ReasonCode),
    /// The server ended the connection: its DISCONNECT's reason, or nothing if it just closed.
    Ended(Option<ReasonCode>),
}

/// A connected client.
pub struct Client {
    wire: Wire,
    version: Version,
    buffer: Vec<u8>,
    consumed: usize,
    messages: VecDeque<Message>,
    last_id: u16,
    session_present: bool,
}

impl Client {
    /// Whether the server still had a session.
    #[must_use]
    pub fn session_present(&self) -> bool {
        self.session_present
    }

    /// Publishes and waits for the acknowledgement: its reason code (MQTT 3.1.1 and QoS 0: always success).
    ///
    /// # Errors
    /// The connection ends, or no acknowledgement in time.
    pub async fn publish(
        &mut self,
        topic: &str,
        payload: impl AsRef<[u8]>,
        qos: QoS,
    ) -> anyhow::Result<ReasonCode> {
        self.publish_with(topic, payload.as_ref(), qos, false, &[]).await
    }

    /// Publishes a message that should be kept as the topic's last one.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub async fn retain(
        &mut self,
        topic: &str,
        payload: impl AsRef<[u8]>,
        qos: QoS,
    ) -> anyhow::Result<ReasonCode> {
        self.publish_with(topic, payload.as_ref(), qos, true, &[]).await
    }

    /// Publishes with MQTT 5 properties.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub async fn publish_with(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        properties: &[Property<'_>],
    ) -> anyhow::Result<ReasonCode> {
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.next_id());
        let properties = Properties::list(properties);
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id,
            properties,
            payload,
        }))
        .await?;
        let Some(packet_id) = packet_id else { return Ok(ReasonCode::SUCCESS) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.answer(deadline).await? {
                Answer::Acknowledged { packet_id: id, reason } if id == packet_id => return Ok(reason),
                Answer::Received { packet_id: id, reason } if id == packet_id => {
                    if !reason.is_success() {
                        return Ok(reason);
                    }
                    self.send(&Packet::PubRel(Ack::new(id, ReasonCode::SUCCESS))).await?;
                }
                other => bail!("{other:?} instead of the acknowledgement of a publish to {topic}"),
            }
        }
    }

    /// Subscribes to one filter: the granted QoS or the refusal.
    ///
    /// # Errors
    /// The connection ends, or no answer in time.
    pub async fn subscribe(&mut self, filter: &str, qos: QoS) -> anyhow::Result<ReasonCode> {
        let packet_id = self.next_id();
        let filters = [Subscription::new(filter, qos)];
        let subscribe =
            Subscribe { packet_id, properties: Properties::EMPTY, filters: Filters::list(&filters) };
        self.send(&Packet::Subscribe(subscribe)).await?;
        self.acknowledgement(packet_id).await
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn unsubscribe(&mut self, filter: &str) -> anyhow::Result<ReasonCode> {
        let packet_id = self.next_id();
        let filters = TopicFilters::list(std::slice::from_ref(&filter));
        self.send(&Packet::Unsubscribe(Unsubscribe { packet_id, properties: Properties::EMPTY, filters }))
            .await?;
        self.acknowledgement(packet_id).await
    }

    async fn acknowledgement(&mut self, packet_id: u16) -> anyhow::Result<ReasonCode> {
        match self.answer(Instant::now() + PATIENCE).await? {
            Answer::Acknowledged { packet_id: id, reason } if id == packet_id => Ok(reason),
            other => bail!("{other:?} instead of an acknowledgement"),
        }
    }

    /// Brings a new token (AUTH 0x19): success, or the reason of the DISCONNECT.
    ///
    /// # Errors
    /// No answer in time, or one that does not fit.
    pub async fn reauthenticate(&mut self, token: &str) -> anyhow::Result<ReasonCode> {
        let properties =
            [Property::AuthenticationMethod("Bearer"), Property::AuthenticationData(token.as_bytes())];
        let properties = Properties::list(&properties);
        self.send(&Packet::Auth(Auth { reason: ReasonCode::RE_AUTHENTICATE, properties })).await?;
        match self.answer(Instant::now() + PATIENCE).await? {
            Answer::Authenticated(reason) | Answer::Ended(Some(reason)) => Ok(reason),
            other => bail!("{other:?} instead of AUTH"),
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// The connection ends, or nothing comes in ten seconds.
    pub async fn message(&mut self) -> anyhow::Result<Message> {
        self.message_within(PATIENCE).await?.context("no message came")
    }

    /// The next message, if one comes in time.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn message_within(&mut self, time: Duration) -> anyhow::Result<Option<Message>> {
        let deadline = Instant::now() + time;
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(Some(message));
            }
            match timeout_at(deadline, self.packet()).await {
                Err(_) => return Ok(None),
                Ok(answer) => match answer? {
                    None => {}
                    Some(Answer::Ended(reason)) => bail!("the server ended the connection: {reason:?}"),
                    Some(other) => bail!("{other:?} came unasked"),
                },
            }
        }
    }

    /// Waits until the server ends the connection: the reason of its DISCONNECT (MQTT 5), or `None` if it only closed.
    /// Messages that come before are left to [`Client::received`].
    ///
    /// # Errors
    /// It did not in time.
    pub async fn ended_within(&mut self, time: Duration) -> anyhow::Result<Option<ReasonCode>> {
        match self.answer(Instant::now() + time).await? {
            Answer::Ended(reason) => Ok(reason),
            other => bail!("{other:?} came unasked"),
        }
    }

    /// What came already and was not taken yet.
    pub fn received(&mut self) -> Vec<Message> {
        self.messages.drain(..).collect()
    }

    /// Says good-bye, so that no will is published.
    ///
    /// # Errors
    /// The connection is gone already.
    pub async fn disconnect(mut self) -> anyhow::Result<()> {
        self.send(&Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION))).await
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.wire.write(bytes.to_vec()).await?)
    }

    async fn send(&mut self, packet: &Packet<'_>) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        packet
            .encode_into(self.version, &mut bytes)
            .map_err(|error| anyhow!("cannot be encoded: {error}"))?;
        Ok(self.wire.write(bytes).await?)
    }

    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }

    /// The next packet that is no message.
    async fn answer(&mut self, deadline: Instant) -> anyhow::Result<Answer> {
        loop {
            let packet = timeout_at(deadline, self.packet()).await.context("no answer in time")??;
            if let Some(answer) = packet {
                return Ok(answer);
            }
        }
    }

    /// Takes one packet: `None` for what is dealt with here (messages, their handshakes).
    async fn packet(&mut self) -> anyhow::Result<Option<Answer>> {
        self.buffer.drain(..std::mem::take(&mut self.consumed));
        let length = loop {
            let length =
                frame_len(&self.buffer, MOST_BYTES).map_err(|error| anyhow!("from the server: {error}"))?;
            if let Some(length) = length.filter(|length| *length <= self.buffer.len()) {
                break length;
            }
            match self.wire.read(&mut self.buffer).await {
                Ok(true) => {}
                Ok(false) => return Ok(Some(Answer::Ended(None))),
                Err(error) => return Err(error.into()),
            }
        };
        // Not drained at once: if this future is dropped while it acknowledges, the packet must not be seen twice.
        self.consumed = length;
        let packet = Packet::decode(&self.buffer[..length], self.version);
        let packet = packet.map_err(|error| anyhow!("from the server: {error}"))?;
        let acknowledged = |packet_id, reason| Ok(Some(Answer::Acknowledged { packet_id, reason }));
        let reply = match packet {
            Packet::ConnAck(ack) => {
                let (reason, session_present) = (ack.reason, ack.session_present);
                return Ok(Some(Answer::Connected { reason, session_present }));
            }
            Packet::PubAck(ack) | Packet::PubComp(ack) => return acknowledged(ack.packet_id, ack.reason),
            Packet::PubRec(ack) => {
                return Ok(Some(Answer::Received { packet_id: ack.packet_id, reason: ack.reason }));
            }
            Packet::SubAck(ack) => {
                return acknowledged(
                    ack.packet_id,
                    ack.reasons().next().unwrap_or(ReasonCode::UNSPECIFIED_ERROR),
                );
            }
            Packet::UnsubAck(ack) => {
                return acknowledged(ack.packet_id, ack.reasons().next().unwrap_or(ReasonCode::SUCCESS));
            }
            Packet::Disconnect(disconnect) => return Ok(Some(Answer::Ended(Some(disconnect.reason)))),
            Packet::Auth(auth) => return Ok(Some(Answer::Authenticated(auth.reason))),
            Packet::PubRel(ack) => Some(Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS))),
            Packet::PingResp => None,
            Packet::Publish(publish) => {
                self.messages.push_back(Message {
                    topic: publish.topic.to_owned(),
                    payload: publish.payload.to_vec(),
                    qos: publish.qos,
                    retain: publish.retain,
                    correlation: publish.properties.correlation_data().map(<[u8]>::to_vec),
                });
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => Some(Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS))),
                    (QoS::ExactlyOnce, Some(id)) => Some(Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS))),
                    _ => None,
                }
            }
            other => bail!("a server sent {:?}", other.kind()),
        };
        if let Some(reply) = reply {
            self.wire.write(reply.to_vec(self.version)).await?;
        }
        Ok(None)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("version", &self.version).finish_non_exhaustive()
    }
}
