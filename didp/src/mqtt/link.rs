//! Packets in and out of one connection, with bounds on size and time.

use std::fmt;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use mqtt_wire::{Packet, ReasonCode, Version};
use service::net::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::config::Limits;

/// First byte of a CONNECT (MQTT 5 §3.1.1).
const CONNECT: u8 = 0x10;

/// Why a connection ends. What the peer could be told was told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The peer closed, or the network did.
    Closed,
    /// The peer was too slow.
    TimeLimit,
    /// With this reason.
    Reason(ReasonCode),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::TimeLimit => f.write_str("time limit"),
            Self::Reason(reason) => f.write_str(reason.name()),
        }
    }
}

/// One connection.
pub(super) struct Link {
    stream: Stream,
    input: BytesMut,
    frame: usize,
    /// Longest packet to accept.
    pub(super) packet: usize,
    write: Duration,
    /// Longest packet that the peer accepts.
    pub(super) peer_packet: usize,
    /// The version that the peer speaks; known after its CONNECT.
    pub(super) version: Version,
    /// The CONNECT came; until then nothing else is waited for.
    pub(super) greeted: bool,
}

impl Link {
    pub(super) fn new(stream: Stream, limits: &Limits) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            frame: 0,
            packet: limits.packet,
            write: Duration::from_secs(limits.write),
            peer_packet: usize::MAX,
            version: Version::V311,
            greeted: false,
        }
    }

    /// Waits until a whole packet is there; [`Link::frame`] has its bytes then. Cancelling loses nothing.
    pub(super) async fn receive(&mut self) -> Result<(), End> {
        self.input.advance(std::mem::take(&mut self.frame));
        loop {
            if !self.greeted && self.input.first().is_some_and(|first| *first != CONNECT) {
                return Err(End::Reason(ReasonCode::PROTOCOL_ERROR));
            }
            match mqtt_wire::frame_len(&self.input, self.packet) {
                Ok(Some(length)) if self.input.len() >= length => {
                    self.frame = length;
                    return Ok(());
                }
                Ok(_) => {}
                Err(error) => return Err(End::Reason(error.reason())),
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return Err(End::Closed),
                Ok(_) => {}
            }
        }
    }

    /// The packet that [`Link::receive`] waited for.
    pub(super) fn frame(&self) -> &[u8] {
        self.input.get(..self.frame).unwrap_or_default()
    }

    /// Sends one packet. One that is longer than the peer accepts is not sent (MQTT 5 §3.1.2.11.4).
    pub(super) async fn send(&mut self, packet: &Packet<'_>) -> Result<(), End> {
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        if packet.encode_into(self.version, &mut bytes).is_err() || bytes.len() > self.peer_packet {
            tracing::debug!(event = "mqtt_packet_not_sent");
            return Ok(());
        }
        match tokio::time::timeout(self.write, self.stream.write_all(&bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Closed),
            Err(_) => Err(End::TimeLimit),
        }
    }

    /// Closes; what was sent gets its chance to arrive.
    pub(super) async fn finish(&mut self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.stream.shutdown()).await;
    }
}
