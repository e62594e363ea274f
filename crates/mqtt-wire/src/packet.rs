//! Any packet: which decoder, which flags.

use crate::frame::split;
use crate::write::{Count, Sink, Slice, header};
use crate::{
    Ack, Auth, ConnAck, Connect, Disconnect, EncodeError, Error, MAX_REMAINING_LENGTH, PacketType, Publish,
    SubAck, Subscribe, UnsubAck, Unsubscribe, Version,
};

/// One MQTT packet, borrowed from the bytes it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each variant's type says what it is")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// Low four bits of the first byte for everything but PUBLISH (§2.1.3).
const fn fixed_flags(kind: PacketType) -> u8 {
    match kind {
        PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0x02,
        PacketType::Connect
        | PacketType::ConnAck
        | PacketType::Publish
        | PacketType::PubAck
        | PacketType::PubRec
        | PacketType::PubComp
        | PacketType::SubAck
        | PacketType::UnsubAck
        | PacketType::PingReq
        | PacketType::PingResp
        | PacketType::Disconnect
        | PacketType::Auth => 0x00,
    }
}

impl<'a> Packet<'a> {
    /// Decodes and checks one packet. `frame` is exactly one packet, fixed header included (see
    /// [`frame_len`](crate::frame_len)). A CONNECT tells its own version; for the others `version` rules.
    ///
    /// # Errors
    /// The first thing that is wrong, with the reason code to answer it ([`Error::reason`]).
    pub fn decode(frame: &'a [u8], version: Version) -> Result<Packet<'a>, Error> {
        let (kind, flags, body) = split(frame)?;
        match kind {
            PacketType::Connect => return Connect::decode(flags, body).map(Packet::Connect),
            PacketType::Publish => return Publish::decode(flags, body, version).map(Packet::Publish),
            PacketType::Auth if version != Version::V5 => return Err(Error::PacketType),
            _ => {}
        }
        // MQTT 3.1 sends PUBREL, SUBSCRIBE and UNSUBSCRIBE with a DUP flag when it repeats them (its §2.1).
        let repeated = version == Version::V31 && fixed_flags(kind) == 0x02 && flags == 0x0A;
        if flags != fixed_flags(kind) && !repeated {
            return Err(Error::Flags);
        }
        let empty = |packet| if body.is_empty() { Ok(packet) } else { Err(Error::TrailingBytes) };
        match kind {
            PacketType::Connect => Connect::decode(flags, body).map(Packet::Connect),
            PacketType::ConnAck => ConnAck::decode(body, version).map(Packet::ConnAck),
            PacketType::Publish => Publish::decode(flags, body, version).map(Packet::Publish),
            PacketType::PubAck => Ack::decode(kind, body, version).map(Packet::PubAck),
            PacketType::PubRec => Ack::decode(kind, body, version).map(Packet::PubRec),
            PacketType::PubRel => Ack::decode(kind, body, version).map(Packet::PubRel),
            PacketType::PubComp => Ack::decode(kind, body, version).map(Packet::PubComp),
            PacketType::Subscribe => Subscribe::decode(body, version).map(Packet::Subscribe),
            PacketType::SubAck => SubAck::decode(body, version).map(Packet::SubAck),
            PacketType::Unsubscribe => Unsubscribe::decode(body, version).map(Packet::Unsubscribe),
            PacketType::UnsubAck => UnsubAck::decode(body, version).map(Packet::UnsubAck),
            PacketType::PingReq => empty(Packet::PingReq),
            PacketType::PingResp => empty(Packet::PingResp),
            PacketType::Disconnect => Disconnect::decode(body, version).map(Packet::Disconnect),
            PacketType::Auth => Auth::decode(body).map(Packet::Auth),
        }
    }

    /// The packet's type.
    pub const fn kind(&self) -> PacketType {
        match self {
            Packet::Connect(_) => PacketType::Connect,
            Packet::ConnAck(_) => PacketType::ConnAck,
            Packet::Publish(_) => PacketType::Publish,
            Packet::PubAck(_) => PacketType::PubAck,
            Packet::PubRec(_) => PacketType::PubRec,
            Packet::PubRel(_) => PacketType::PubRel,
            Packet::PubComp(_) => PacketType::PubComp,
            Packet::Subscribe(_) => PacketType::Subscribe,
            Packet::SubAck(_) => PacketType::SubAck,
            Packet::Unsubscribe(_) => PacketType::Unsubscribe,
            Packet::UnsubAck(_) => PacketType::UnsubAck,
            Packet::PingReq => PacketType::PingReq,
            Packet::PingResp => PacketType::PingResp,
            Packet::Disconnect(_) => PacketType::Disconnect,
            Packet::Auth(_) => PacketType::Auth,
        }
    }

    fn body<S: Sink>(&self, sink: &mut S, version: Version) -> Result<(), EncodeError> {
        match self {
            Packet::Connect(connect) => connect.body(sink),
            Packet::ConnAck(connack) => connack.body(sink, version),
            Packet::Publish(publish) => sink.put(publish.payload),
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                ack.body(sink, version)
            }
            Packet::Subscribe(subscribe) => subscribe.body(sink, version),
            Packet::SubAck(suback) => suback.body(sink, version),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.body(sink, version),
            Packet::UnsubAck(unsuback) => unsuback.body(sink, version),
            Packet::PingReq | Packet::PingResp => Ok(()),
            Packet::Disconnect(disconnect) => disconnect.body(sink, version),
            Packet::Auth(auth) if version == Version::V5 => auth.body(sink),
            Packet::Auth(_) => Err(EncodeError::Version),
        }
    }

    fn write<S: Sink>(&self, sink: &mut S, version: Version) -> Result<(), EncodeError> {
        if let Packet::Publish(publish) = self {
            publish.write(sink, version, publish.payload.len())?;
        } else {
            let mut remaining = Count::default();
            self.body(&mut remaining, version)?;
            if remaining.0 > MAX_REMAINING_LENGTH {
                return Err(EncodeError::TooLong);
            }
            header(sink, self.kind(), fixed_flags(self.kind()), remaining.0)?;
        }
        self.body(sink, version)
    }

    /// Bytes that [`Self::encode`] writes; 0 for a packet that cannot be encoded.
    pub fn encoded_len(&self, version: Version) -> usize {
        let mut count = Count::default();
        self.write(&mut count, version).map_or(0, |()| count.0)
    }

    /// Writes the packet to the front of `out` and answers its length. In MQTT 3.1 and 3.1.1 properties are left out
    /// and reason codes become what those versions have. A CONNECT is written in its own version.
    ///
    /// # Errors
    /// [`EncodeError`], with `out` in an undefined state.
    pub fn encode(&self, version: Version, out: &mut [u8]) -> Result<usize, EncodeError> {
        let mut sink = Slice::new(out);
        self.write(&mut sink, version)?;
        Ok(sink.written)
    }

    /// Appends the packet to `out`.
    ///
    /// # Errors
    /// [`EncodeError`], with `out` unchanged.
    #[cfg(feature = "alloc")]
    pub fn encode_into(&self, version: Version, out: &mut alloc::vec::Vec<u8>) -> Result<(), EncodeError> {
        let mut count = Count::default();
        self.write(&mut count, version)?;
        let start = out.len();
        out.resize(start + count.0, 0);
        let written = match out.get_mut(start..) {
            Some(space) => self.encode(version, space),
            None => Err(EncodeError::BufferTooSmall),
        };
        if written.is_err() {
            out.truncate(start);
        }
        written.map(|_| ())
    }

    /// The packet's bytes. Empty for a packet that cannot be encoded: where a field may be longer than the format
    /// allows, use [`Self::encode_into`], which says so.
    #[cfg(feature = "alloc")]
    pub fn to_vec(&self, version: Version) -> alloc::vec::Vec<u8> {
        let mut out = alloc::vec::Vec::new();
        match self.encode_into(version, &mut out) {
            Ok(()) => out,
            Err(_) => alloc::vec::Vec::new(),
        }
    }
}
