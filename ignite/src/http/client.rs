//! The API's own MQTT 5 client: speaks to a session of this gateway over memory, with the token that the request bore.
//!
//! So the API has no rights of its own: introspection, policy, expiry and revocation are the session's, as for anybody.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;
use mqtt_wire::{Connect, Packet, Properties, Property, ReasonCode, Version, frame_len};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use crate::gateway::{Gateway, Token};
use crate::session;

/// Bytes on their way in memory, each direction.
const PIPE: usize = 16 * 1024;

/// A connected client.
pub(super) struct Client {
    stream: DuplexStream,
    input: BytesMut,
    longest: usize,
}

impl Client {
    /// Connects with `token`, which came from `peer`, for this connection alone.
    ///
    /// # Errors
    /// The CONNACK's reason code.
    pub(super) async fn connect(
        gateway: &Arc<Gateway>,
        peer: IpAddr,
        token: &Token,
    ) -> Result<Self, ReasonCode> {
        Self::connect_as(gateway, peer, token, "", 0).await
    }

    /// Connects as the client `name`, whose session outlives the connection by `seconds`.
    ///
    /// # Errors
    /// The CONNACK's reason code.
    pub(super) async fn connect_as(
        gateway: &Arc<Gateway>,
        peer: IpAddr,
        token: &Token,
        name: &str,
        seconds: u32,
    ) -> Result<Self, ReasonCode> {
        let (stream, theirs) = tokio::io::duplex(PIPE);
        let session = session::run(Arc::clone(gateway), peer, Box::new(theirs));
        gateway.shutdown.spawn(session);
        let longest = 2 * gateway.limits.packet_bytes;
        let mut client = Self { stream, input: BytesMut::new(), longest };
        let properties = [Property::SessionExpiryInterval(seconds)];
        let connect = Connect {
            version: Version::V5,
            clean_start: seconds == 0,
            keep_alive: 0,
            properties: Properties::list(&properties),
            client_id: name,
            will: None,
            username: Some("Bearer"),
            password: Some(token.as_bytes()),
        };
        client.send(&Packet::Connect(connect)).await;
        match client.next().await.as_deref().map(decode) {
            Some(Some(Packet::ConnAck(connack))) if connack.reason.is_success() => Ok(client),
            Some(Some(Packet::ConnAck(connack))) => Err(connack.reason),
            _ => Err(ReasonCode::SERVER_UNAVAILABLE),
        }
    }

    /// Sends a packet; if the session has ended, [`Self::next`] will say so.
    pub(super) async fn send(&mut self, packet: &Packet<'_>) {
        let _ = self.stream.write_all(&packet.to_vec(Version::V5)).await;
    }

    /// The next packet, to be read with [`decode`]; `None` when the session has ended.
    pub(super) async fn next(&mut self) -> Option<BytesMut> {
        loop {
            match frame_len(&self.input, self.longest) {
                Ok(Some(length)) if self.input.len() >= length => return Some(self.input.split_to(length)),
                Ok(_) => {}
                Err(_) => return None,
            }
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
    }
}

/// Reads a frame of [`Client::next`].
pub(super) fn decode(frame: &[u8]) -> Option<Packet<'_>> {
    Packet::decode(frame, Version::V5).ok()
}
