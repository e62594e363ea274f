//! An MQTT client that sends and sees packets as they are.

use bytes::BytesMut;
use mqtt_wire::{
    Ack, Connect, Disconnect, Filters, Packet, Properties, Property, Publish, QoS, Subscribe, Subscription,
    TopicFilters, Unsubscribe, Version, Will, frame_len,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::DEADLINE;

pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection, before or after CONNECT.
pub struct Client {
    stream: Box<dyn Wire>,
    input: BytesMut,
    pub version: Version,
}

/// A PUBLISH that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub packet_id: Option<u16>,
    pub response: Option<String>,
}

impl Client {
    pub fn over(stream: impl Wire + 'static) -> Self {
        Self { stream: Box::new(stream), input: BytesMut::new(), version: Version::V5 }
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// False if the connection is broken.
    pub async fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    pub async fn send(&mut self, packet: &Packet<'_>) {
        let bytes = packet.to_vec(self.version);
        assert!(!bytes.is_empty());
        self.send_raw(&bytes).await;
    }

    /// The next packet's bytes; `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<BytesMut> {
        let reading = async {
            loop {
                match frame_len(&self.input, usize::MAX).unwrap() {
                    Some(length) if self.input.len() >= length => return Some(self.input.split_to(length)),
                    _ => {}
                }
                match self.stream.read_buf(&mut self.input).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        timeout(DEADLINE, reading).await.expect("a packet or the end in time")
    }

    /// Expects a packet and looks at it.
    pub async fn expect<T>(&mut self, look: impl FnOnce(Packet<'_>) -> T) -> T {
        let frame = self.frame().await.expect("a packet, not the end");
        look(Packet::decode(&frame, self.version).unwrap())
    }

    /// Expects the end.
    pub async fn expect_end(&mut self) {
        if let Some(frame) = self.frame().await {
            panic!("expected the end, not {:?}", Packet::decode(&frame, self.version));
        }
    }

    /// Sends CONNECT and answers the CONNACK's reason code.
    pub async fn connect(&mut self, connect: Connect<'_>) -> u8 {
        self.version = connect.version;
        self.send(&Packet::Connect(connect)).await;
        self.connack().await
    }

    pub async fn connack(&mut self) -> u8 {
        let version = self.version;
        self.expect(|packet| match packet {
            Packet::ConnAck(connack) if version == Version::V5 => connack.reason.0,
            Packet::ConnAck(connack) => connack.reason.v311_connack(),
            other => panic!("expected CONNACK, not {other:?}"),
        })
        .await
    }

    /// Connects with a token and expects success.
    pub async fn log_in(&mut self, version: Version, client_id: &str, token: &str) {
        assert_eq!(self.connect(bearer(version, client_id, token)).await, 0);
    }

    pub async fn subscribe(&mut self, packet_id: u16, filters: &[&str]) -> Vec<u8> {
        let wishes: Vec<_> =
            filters.iter().map(|filter| Subscription::new(filter, QoS::ExactlyOnce)).collect();
        let filters = Filters::list(&wishes);
        self.send(&Packet::Subscribe(Subscribe { packet_id, properties: Properties::EMPTY, filters })).await;
        self.expect(|packet| match packet {
            Packet::SubAck(ack) if ack.packet_id == packet_id => ack.codes.to_vec(),
            other => panic!("expected SUBACK, not {other:?}"),
        })
        .await
    }

    pub async fn unsubscribe(&mut self, packet_id: u16, filters: &[&str]) -> Vec<u8> {
        let filters = TopicFilters::list(filters);
        self.send(&Packet::Unsubscribe(Unsubscribe { packet_id, properties: Properties::EMPTY, filters }))
            .await;
        self.expect(|packet| match packet {
            Packet::UnsubAck(ack) if ack.packet_id == packet_id => ack.codes.to_vec(),
            other => panic!("expected UNSUBACK, not {other:?}"),
        })
        .await
    }

    pub async fn publish(&mut self, qos: QoS, packet_id: u16, topic: &str, payload: &[u8]) {
        self.send(&publish(qos, packet_id, topic, payload, Properties::EMPTY)).await;
    }

    /// Publishes with QoS 1 and answers the PUBACK's reason code.
    pub async fn publish_acked(&mut self, packet_id: u16, topic: &str, payload: &[u8]) -> u8 {
        self.publish(QoS::AtLeastOnce, packet_id, topic, payload).await;
        self.puback(packet_id).await
    }

    pub async fn puback(&mut self, packet_id: u16) -> u8 {
        self.expect(|packet| match packet {
            Packet::PubAck(ack) if ack.packet_id == packet_id => ack.reason.0,
            other => panic!("expected PUBACK, not {other:?}"),
        })
        .await
    }

    /// Expects a message; it is acknowledged if QoS 1.
    pub async fn message(&mut self) -> Arrived {
        let arrived = self
            .expect(|packet| match packet {
                Packet::Publish(publish) => Arrived {
                    topic: publish.topic.to_owned(),
                    payload: publish.payload.to_vec(),
                    qos: publish.qos,
                    retain: publish.retain,
                    packet_id: publish.packet_id,
                    response: publish.properties.response_topic().map(str::to_owned),
                },
                other => panic!("expected PUBLISH, not {other:?}"),
            })
            .await;
        if let (QoS::AtLeastOnce, Some(id)) = (arrived.qos, arrived.packet_id) {
            self.send(&Packet::PubAck(Ack::new(id, mqtt_wire::ReasonCode::SUCCESS))).await;
        }
        arrived
    }

    /// The next message's payload, acknowledged; none if the session ends instead.
    pub async fn message_or_end(&mut self) -> Option<Vec<u8>> {
        let frame = self.frame().await?;
        let Packet::Publish(publish) = Packet::decode(&frame, self.version).unwrap() else { return None };
        let ack = publish.packet_id.map(|id| Ack::new(id, mqtt_wire::ReasonCode::SUCCESS));
        let ack = Packet::PubAck(ack.expect("QoS 1")).to_vec(self.version);
        self.try_send_raw(&ack).await;
        Some(publish.payload.to_vec())
    }

    /// Takes messages of any QoS, with the whole handshake of each, until `enough` of them have come.
    pub async fn messages_until(&mut self, enough: impl Fn(&[Arrived]) -> bool) -> Vec<Arrived> {
        let mut arrived: Vec<Arrived> = Vec::new();
        let ok = |id| Ack::new(id, mqtt_wire::ReasonCode::SUCCESS);
        let mut open = 0;
        while open > 0 || !enough(&arrived) {
            let frame = self.frame().await.expect("a packet, not the end");
            match Packet::decode(&frame, self.version).unwrap() {
                Packet::Publish(publish) => {
                    arrived.push(Arrived {
                        topic: publish.topic.to_owned(),
                        payload: publish.payload.to_vec(),
                        qos: publish.qos,
                        retain: publish.retain,
                        packet_id: publish.packet_id,
                        response: None,
                    });
                    match (publish.qos, publish.packet_id) {
                        (QoS::AtLeastOnce, Some(id)) => self.send(&Packet::PubAck(ok(id))).await,
                        (QoS::ExactlyOnce, Some(id)) => {
                            open += 1;
                            self.send(&Packet::PubRec(ok(id))).await;
                        }
                        _ => {}
                    }
                }
                Packet::PubRel(ack) => {
                    open -= 1;
                    self.send(&Packet::PubComp(ok(ack.packet_id))).await;
                }
                other => panic!("expected messages, not {other:?}"),
            }
        }
        arrived
    }

    /// Publishes with QoS 2, the whole handshake.
    pub async fn publish_completed(&mut self, id: u16, topic: &str, payload: &[u8]) {
        let ok = Ack::new(id, mqtt_wire::ReasonCode::SUCCESS);
        self.publish(QoS::ExactlyOnce, id, topic, payload).await;
        self.expect(|packet| assert_eq!(packet, Packet::PubRec(ok))).await;
        self.send(&Packet::PubRel(ok)).await;
        self.expect(|packet| assert_eq!(packet, Packet::PubComp(ok))).await;
    }

    /// Expects DISCONNECT (MQTT 5) with this code, then the end.
    pub async fn expect_disconnect(&mut self, code: u8) {
        let reason = self
            .expect(|packet| match packet {
                Packet::Disconnect(disconnect) => disconnect.reason.0,
                other => panic!("expected DISCONNECT, not {other:?}"),
            })
            .await;
        assert_eq!(reason, code, "{reason:#x} is not {code:#x}");
        self.expect_end().await;
    }

    /// Everything that was sent before this has been seen by the gateway.
    pub async fn ping(&mut self) {
        self.send(&Packet::PingReq).await;
        self.expect(|packet| assert_eq!(packet, Packet::PingResp)).await;
    }

    pub async fn disconnect(mut self) {
        self.send(&Packet::Disconnect(Disconnect::new(mqtt_wire::ReasonCode::NORMAL_DISCONNECTION))).await;
        self.expect_end().await;
    }
}

/// CONNECT with user name `Bearer`.
pub fn bearer<'a>(version: Version, client_id: &'a str, token: &'a str) -> Connect<'a> {
    Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        properties: Properties::EMPTY,
        client_id,
        will: None,
        username: Some("Bearer"),
        password: Some(token.as_bytes()),
    }
}

/// The same for a session of ten minutes that goes on where it was.
pub fn lasting<'a>(client_id: &'a str, token: &'a str) -> Connect<'a> {
    const KEEP: &[Property<'static>] = &[Property::SessionExpiryInterval(600)];
    Connect {
        clean_start: false,
        properties: Properties::list(KEEP),
        ..bearer(Version::V5, client_id, token)
    }
}

pub fn publish<'a>(
    qos: QoS,
    packet_id: u16,
    topic: &'a str,
    payload: &'a [u8],
    properties: Properties<'a>,
) -> Packet<'a> {
    let packet_id = (qos != QoS::AtMostOnce).then_some(packet_id);
    Packet::Publish(Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload })
}

pub fn will<'a>(topic: &'a str, properties: &'a [Property<'a>]) -> Will<'a> {
    let properties = Properties::list(properties);
    Will { qos: QoS::AtLeastOnce, retain: false, properties, topic, payload: b"gone" }
}
