//! PUBACK, PUBREC, PUBREL and PUBCOMP (§3.4 to §3.7), which are built alike.

use crate::properties::Place;
use crate::read::Reader;
use crate::write::Sink;
use crate::{EncodeError, Error, PacketType, Properties, ReasonCode, Version};

/// One step of a QoS 1 or 2 handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The PUBLISH it belongs to; never zero when decoded.
    pub packet_id: u16,
    /// Success before MQTT 5.
    pub reason: ReasonCode,
    /// Empty before MQTT 5.
    pub properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    /// An acknowledgement without properties.
    pub const fn new(packet_id: u16, reason: ReasonCode) -> Ack<'static> {
        Ack { packet_id, reason, properties: Properties::EMPTY }
    }

    pub(crate) fn decode(kind: PacketType, body: &'a [u8], version: Version) -> Result<Ack<'a>, Error> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let (reason, properties) = match version {
            Version::V5 => reason_and_properties(&mut reader, kind)?,
            Version::V31 | Version::V311 => (ReasonCode::SUCCESS, Properties::EMPTY),
        };
        reader.end()?;
        Ok(Ack { packet_id, reason, properties })
    }

    pub(crate) fn body<S: Sink>(&self, sink: &mut S, version: Version) -> Result<(), EncodeError> {
        sink.packet_id(self.packet_id)?;
        match version {
            Version::V5 => write_reason_and_properties(sink, self.reason, &self.properties),
            Version::V31 | Version::V311 => Ok(()),
        }
    }
}

/// A reason code that may be left out (success), then properties that may be left out (none): §3.4.2.1, §3.14.2.1.
pub(crate) fn reason_and_properties<'a>(
    reader: &mut Reader<'a>,
    kind: PacketType,
) -> Result<(ReasonCode, Properties<'a>), Error> {
    if reader.is_empty() {
        return Ok((ReasonCode::SUCCESS, Properties::EMPTY));
    }
    let reason = ReasonCode(reader.u8()?);
    let properties =
        if reader.is_empty() { Properties::EMPTY } else { Properties::decode(reader, Place::Packet(kind))? };
    if reason.is_allowed_in(kind) { Ok((reason, properties)) } else { Err(Error::ReasonCode) }
}

/// The shortest form of reason code and properties.
pub(crate) fn write_reason_and_properties<S: Sink>(
    sink: &mut S,
    reason: ReasonCode,
    properties: &Properties<'_>,
) -> Result<(), EncodeError> {
    if properties.is_empty() {
        return if reason == ReasonCode::SUCCESS { Ok(()) } else { sink.u8(reason.0) };
    }
    sink.u8(reason.0)?;
    properties.write(sink, Version::V5)
}
