//! PUBLISH (§3.3).

use crate::connect::properties;
use crate::properties::Place;
use crate::read::Reader;
use crate::write::{Count, Sink, Slice, header, varint_len};
use crate::{EncodeError, Error, MAX_REMAINING_LENGTH, PacketType, Properties, QoS, Version, topic};

/// PUBLISH: an application message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether this is a second attempt (§3.3.1.1); never with QoS 0.
    pub dup: bool,
    /// Delivery guarantee.
    pub qos: QoS,
    /// To the server: keep it. To the client: it was kept (§3.3.1.3).
    pub retain: bool,
    /// A valid topic name when it was decoded; empty only with a topic alias.
    pub topic: &'a str,
    /// There with QoS 1 and 2, and never zero then.
    pub packet_id: Option<u16>,
    /// Empty before MQTT 5.
    pub properties: Properties<'a>,
    /// The message: any bytes.
    pub payload: &'a [u8],
}

const DUP: u8 = 0x08;
const RETAIN: u8 = 0x01;

impl<'a> Publish<'a> {
    pub(crate) fn decode(flags: u8, body: &'a [u8], version: Version) -> Result<Publish<'a>, Error> {
        let qos = QoS::from_bits((flags >> 1) & 0x03).ok_or(Error::Flags)?;
        let dup = flags & DUP != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(Error::Flags);
        }
        let mut reader = Reader::new(body);
        let topic = reader.text()?;
        let packet_id = match qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce | QoS::ExactlyOnce => Some(reader.packet_id()?),
        };
        let properties = properties(&mut reader, version, Place::Packet(PacketType::Publish))?;
        let aliased = topic.is_empty() && properties.topic_alias().is_some();
        if !aliased && !topic::is_valid_name(topic) {
            return Err(Error::TopicName);
        }
        let retain = flags & RETAIN != 0;
        Ok(Publish { dup, qos, retain, topic, packet_id, properties, payload: reader.rest() })
    }

    fn flags(&self) -> u8 {
        let dup = if self.dup && self.qos != QoS::AtMostOnce { DUP } else { 0 };
        dup | (self.qos.bits() << 1) | if self.retain { RETAIN } else { 0 }
    }

    fn variable_header<S: Sink>(&self, sink: &mut S, version: Version) -> Result<(), EncodeError> {
        sink.text(self.topic)?;
        if self.qos != QoS::AtMostOnce {
            sink.packet_id(self.packet_id.ok_or(EncodeError::PacketId)?)?;
        }
        self.properties.write(sink, version)
    }

    fn variable_header_len(&self, version: Version) -> Result<usize, EncodeError> {
        let mut count = Count::default();
        self.variable_header(&mut count, version)?;
        Ok(count.0)
    }

    pub(crate) fn write<S: Sink>(
        &self,
        sink: &mut S,
        version: Version,
        payload_len: usize,
    ) -> Result<(), EncodeError> {
        let remaining = self.variable_header_len(version)?.saturating_add(payload_len);
        header(sink, PacketType::Publish, self.flags(), remaining)?;
        self.variable_header(sink, version)
    }

    /// Bytes that [`Self::encode_head`] writes.
    ///
    /// # Errors
    /// As [`Self::encode_head`], never [`EncodeError::BufferTooSmall`].
    pub fn head_len(&self, version: Version, payload_len: usize) -> Result<usize, EncodeError> {
        let variable = self.variable_header_len(version)?;
        let remaining = variable.saturating_add(payload_len);
        if remaining > MAX_REMAINING_LENGTH {
            return Err(EncodeError::TooLong);
        }
        Ok(1 + varint_len(remaining) + variable)
    }

    /// Writes everything but the payload, for a payload of `payload_len` bytes (`self.payload` is not looked at), so
    /// that the payload can follow from where it lies. Answers how many bytes were written.
    ///
    /// # Errors
    /// [`EncodeError`], with `out` in an undefined state.
    pub fn encode_head(
        &self,
        version: Version,
        payload_len: usize,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let mut sink = Slice::new(out);
        self.write(&mut sink, version, payload_len)?;
        Ok(sink.written)
    }
}
