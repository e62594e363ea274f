//! An MQTT client that speaks packets, so that a test can send what no library would.

use std::net::SocketAddr;

use bytes::{Buf as _, BytesMut};
use mqtt_wire::{ConnAck, Connect, Packet, Properties, Publish, QoS, ReasonCode, Version};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::DEADLINE;

/// An MQTT connection that speaks packets.
pub(crate) struct Mqtt {
    stream: TcpStream,
    input: BytesMut,
    version: Version,
}

/// A packet that came, in so far as tests look at it.
#[derive(Debug, PartialEq)]
pub(crate) enum Came {
    ConnAck(ReasonCode),
    Publish { topic: String, correlation: Option<Vec<u8>>, payload: Value },
    Ack(u16, ReasonCode),
    SubAck(Vec<u8>),
    Pong,
    Goodbye(ReasonCode),
    Closed,
}

impl Mqtt {
    pub(crate) async fn open(address: SocketAddr, version: Version) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), input: BytesMut::new(), version }
    }

    pub(crate) async fn login(
        address: SocketAddr,
        version: Version,
        user: &str,
        password: &str,
    ) -> Result<Self, ReasonCode> {
        let mut mqtt = Self::open(address, version).await;
        let connect = Connect {
            version,
            clean_start: true,
            keep_alive: 60,
            properties: Properties::EMPTY,
            client_id: "test",
            will: None,
            username: Some(user),
            password: Some(password.as_bytes()),
        };
        mqtt.send(&Packet::Connect(connect)).await;
        match mqtt.next().await {
            Came::ConnAck(ReasonCode::SUCCESS) => Ok(mqtt),
            Came::ConnAck(reason) => {
                assert_eq!(mqtt.next().await, Came::Closed);
                Err(reason)
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, packet: &Packet<'_>) {
        self.raw(&packet.to_vec(self.version)).await;
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        // The peer may have closed already; what it says is looked at by `next`.
        let _ = self.stream.write_all(bytes).await;
    }

    pub(crate) async fn publish(&mut self, topic: &str, payload: &[u8], properties: Properties<'_>) {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: None,
            properties,
            payload,
        };
        self.send(&Packet::Publish(publish)).await;
    }

    /// A request to `$oauth/<what>` and its answer.
    pub(crate) async fn ask(&mut self, what: &str, payload: &Value) -> Value {
        self.publish(&format!("$oauth/{what}"), payload.to_string().as_bytes(), Properties::EMPTY).await;
        let (topic, answer) = self.message().await;
        assert_eq!(topic, format!("$oauth/{what}/response"));
        answer
    }

    /// The next message that is pushed or answered.
    pub(crate) async fn message(&mut self) -> (String, Value) {
        match self.next().await {
            Came::Publish { topic, payload, .. } => (topic, payload),
            other => panic!("expected a message, not {other:?}"),
        }
    }

    pub(crate) async fn next(&mut self) -> Came {
        tokio::time::timeout(DEADLINE, self.packet()).await.expect("nothing came in time")
    }

    async fn packet(&mut self) -> Came {
        loop {
            if let Some(length) = mqtt_wire::frame_len(&self.input, 1 << 20).unwrap()
                && self.input.len() >= length
            {
                let came = read(&Packet::decode(&self.input[..length], self.version).unwrap());
                self.input.advance(length);
                return came;
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return Came::Closed,
                Ok(_) => {}
            }
        }
    }
}

fn read(packet: &Packet<'_>) -> Came {
    match packet {
        Packet::ConnAck(ConnAck { reason, .. }) => Came::ConnAck(*reason),
        Packet::Publish(publish) => Came::Publish {
            topic: publish.topic.to_owned(),
            correlation: publish.properties.correlation_data().map(<[u8]>::to_vec),
            payload: serde_json::from_slice(publish.payload).unwrap(),
        },
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) => {
            Came::Ack(ack.packet_id, ack.reason)
        }
        Packet::SubAck(ack) => Came::SubAck(ack.codes.to_vec()),
        Packet::UnsubAck(ack) => Came::SubAck(ack.codes.to_vec()),
        Packet::PingResp => Came::Pong,
        Packet::Disconnect(goodbye) => Came::Goodbye(goodbye.reason),
        other => panic!("{other:?}"),
    }
}
