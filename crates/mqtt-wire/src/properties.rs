//! MQTT 5 properties (§2.2.2): checked once when a packet is decoded, read later without errors.

use crate::read::Reader;
#[cfg(feature = "alloc")]
use crate::write::Slice;
use crate::write::{Count, Sink};
use crate::{EncodeError, Error, PacketType, QoS, Version, topic};

/// One property. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's, §2.2.2.2")]
pub enum Property<'a> {
    /// Whether the payload is UTF-8 text.
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    /// QoS 0 or 1; 2 is said by leaving the property out.
    MaximumQos(QoS),
    RetainAvailable(bool),
    /// Name and value; the only property that may appear any number of times everywhere.
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

/// Where properties stand: it decides which are allowed. Wills have their own set (§3.1.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Packet(PacketType),
    Will,
}

const USER_PROPERTY: u8 = 0x26;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;

const fn set(mut ids: &[u8]) -> u64 {
    let mut bits = 0;
    while let [id, rest @ ..] = ids {
        bits |= 1 << *id;
        ids = rest;
    }
    bits
}

impl Place {
    const fn allowed(self) -> u64 {
        match self {
            Place::Will => set(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26]),
            Place::Packet(kind) => match kind {
                PacketType::Connect => set(&[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27]),
                PacketType::ConnAck => set(&[
                    0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28,
                    0x29, 0x2A,
                ]),
                PacketType::Publish => set(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26]),
                PacketType::PubAck
                | PacketType::PubRec
                | PacketType::PubRel
                | PacketType::PubComp
                | PacketType::SubAck
                | PacketType::UnsubAck => set(&[0x1F, 0x26]),
                PacketType::Subscribe => set(&[0x0B, 0x26]),
                PacketType::Unsubscribe => set(&[0x26]),
                PacketType::Disconnect => set(&[0x11, 0x1C, 0x1F, 0x26]),
                PacketType::Auth => set(&[0x15, 0x16, 0x1F, 0x26]),
                PacketType::PingReq | PacketType::PingResp => 0,
            },
        }
    }

    /// Which error a property outside [`Self::allowed`] is. In SUBSCRIBE and UNSUBSCRIBE it is answered as malformed,
    /// elsewhere as a protocol error; §2.2.2.2 and §4.13 can be read both ways, and this is what brokers in use do.
    const fn not_allowed(self) -> Error {
        match self {
            Place::Packet(PacketType::Subscribe | PacketType::Unsubscribe) => {
                Error::PropertyNotAllowedInSubscription
            }
            Place::Packet(_) | Place::Will => Error::PropertyNotAllowed,
        }
    }

    const fn may_repeat(self, id: u8) -> bool {
        id == USER_PROPERTY
            || (id == SUBSCRIPTION_IDENTIFIER && matches!(self, Place::Packet(PacketType::Publish)))
    }
}

const fn flag(value: u8) -> Result<bool, Error> {
    match value {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Error::PropertyValue),
    }
}

impl<'a> Property<'a> {
    /// The property's identifier (§2.2.2.2, table 2-4).
    pub const fn id(&self) -> u8 {
        match self {
            Property::PayloadFormatIndicator(_) => 0x01,
            Property::MessageExpiryInterval(_) => 0x02,
            Property::ContentType(_) => 0x03,
            Property::ResponseTopic(_) => 0x08,
            Property::CorrelationData(_) => 0x09,
            Property::SubscriptionIdentifier(_) => SUBSCRIPTION_IDENTIFIER,
            Property::SessionExpiryInterval(_) => 0x11,
            Property::AssignedClientIdentifier(_) => 0x12,
            Property::ServerKeepAlive(_) => 0x13,
            Property::AuthenticationMethod(_) => 0x15,
            Property::AuthenticationData(_) => 0x16,
            Property::RequestProblemInformation(_) => 0x17,
            Property::WillDelayInterval(_) => 0x18,
            Property::RequestResponseInformation(_) => 0x19,
            Property::ResponseInformation(_) => 0x1A,
            Property::ServerReference(_) => 0x1C,
            Property::ReasonString(_) => 0x1F,
            Property::ReceiveMaximum(_) => 0x21,
            Property::TopicAliasMaximum(_) => 0x22,
            Property::TopicAlias(_) => 0x23,
            Property::MaximumQos(_) => 0x24,
            Property::RetainAvailable(_) => 0x25,
            Property::UserProperty(_, _) => USER_PROPERTY,
            Property::MaximumPacketSize(_) => 0x27,
            Property::WildcardSubscriptionAvailable(_) => 0x28,
            Property::SubscriptionIdentifierAvailable(_) => 0x29,
            Property::SharedSubscriptionAvailable(_) => 0x2A,
        }
    }

    /// Reads one property. A value out of range is told apart from one that cannot be read, so that the caller can go
    /// on looking for something worse.
    fn read(reader: &mut Reader<'a>) -> Result<(u8, Result<Property<'a>, Error>), Error> {
        let id = u8::try_from(reader.varint()?).map_err(|_| Error::PropertyMalformed)?;
        let property = match id {
            0x01 => flag(reader.u8()?).map(Property::PayloadFormatIndicator),
            0x02 => Ok(Property::MessageExpiryInterval(reader.u32()?)),
            0x03 => Ok(Property::ContentType(reader.text()?)),
            0x08 => match reader.text()? {
                name if topic::is_valid_name(name) => Ok(Property::ResponseTopic(name)),
                _ => Err(Error::PropertyValue),
            },
            0x09 => Ok(Property::CorrelationData(reader.binary()?)),
            SUBSCRIPTION_IDENTIFIER => match reader.varint()? {
                0 => Err(Error::PropertyMalformed),
                value => Ok(Property::SubscriptionIdentifier(value)),
            },
            0x11 => Ok(Property::SessionExpiryInterval(reader.u32()?)),
            0x12 => Ok(Property::AssignedClientIdentifier(reader.text()?)),
            0x13 => Ok(Property::ServerKeepAlive(reader.u16()?)),
            0x15 => Ok(Property::AuthenticationMethod(reader.text()?)),
            0x16 => Ok(Property::AuthenticationData(reader.binary()?)),
            0x17 => flag(reader.u8()?).map(Property::RequestProblemInformation),
            0x18 => Ok(Property::WillDelayInterval(reader.u32()?)),
            0x19 => flag(reader.u8()?).map(Property::RequestResponseInformation),
            0x1A => Ok(Property::ResponseInformation(reader.text()?)),
            0x1C => Ok(Property::ServerReference(reader.text()?)),
            0x1F => Ok(Property::ReasonString(reader.text()?)),
            0x21 => match reader.u16()? {
                0 => Err(Error::PropertyValue),
                value => Ok(Property::ReceiveMaximum(value)),
            },
            0x22 => Ok(Property::TopicAliasMaximum(reader.u16()?)),
            0x23 => match reader.u16()? {
                0 => Err(Error::TopicAlias),
                value => Ok(Property::TopicAlias(value)),
            },
            0x24 => flag(reader.u8()?)
                .map(|one| Property::MaximumQos(if one { QoS::AtLeastOnce } else { QoS::AtMostOnce })),
            0x25 => flag(reader.u8()?).map(Property::RetainAvailable),
            USER_PROPERTY => {
                let name = reader.text()?;
                Ok(Property::UserProperty(name, reader.text()?))
            }
            0x27 => match reader.u32()? {
                0 => Err(Error::PropertyValue),
                value => Ok(Property::MaximumPacketSize(value)),
            },
            0x28 => flag(reader.u8()?).map(Property::WildcardSubscriptionAvailable),
            0x29 => flag(reader.u8()?).map(Property::SubscriptionIdentifierAvailable),
            0x2A => flag(reader.u8()?).map(Property::SharedSubscriptionAvailable),
            _ => return Err(Error::PropertyMalformed),
        };
        Ok((id, property))
    }

    fn write<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        sink.u8(self.id())?;
        match *self {
            Property::PayloadFormatIndicator(value)
            | Property::RequestProblemInformation(value)
            | Property::RequestResponseInformation(value)
            | Property::RetainAvailable(value)
            | Property::WildcardSubscriptionAvailable(value)
            | Property::SubscriptionIdentifierAvailable(value)
            | Property::SharedSubscriptionAvailable(value) => sink.u8(u8::from(value)),
            Property::MaximumQos(value) => sink.u8(value.bits().min(1)),
            Property::ServerKeepAlive(value)
            | Property::ReceiveMaximum(value)
            | Property::TopicAliasMaximum(value)
            | Property::TopicAlias(value) => sink.u16(value),
            Property::MessageExpiryInterval(value)
            | Property::SessionExpiryInterval(value)
            | Property::WillDelayInterval(value)
            | Property::MaximumPacketSize(value) => sink.u32(value),
            Property::SubscriptionIdentifier(value) => {
                sink.varint(usize::try_from(value).map_err(|_| EncodeError::TooLong)?)
            }
            Property::ContentType(text)
            | Property::ResponseTopic(text)
            | Property::AssignedClientIdentifier(text)
            | Property::AuthenticationMethod(text)
            | Property::ResponseInformation(text)
            | Property::ServerReference(text)
            | Property::ReasonString(text) => sink.text(text),
            Property::CorrelationData(bytes) | Property::AuthenticationData(bytes) => sink.binary(bytes),
            Property::UserProperty(name, value) => {
                sink.text(name)?;
                sink.text(value)
            }
        }
    }
}

/// The properties of a packet: bytes that were decoded, then a list to be encoded; either may be empty.
///
/// Equality compares the properties one by one in their order.
#[derive(Clone, Copy)]
pub struct Properties<'a> {
    /// Bytes that [`Properties::decode`] or [`Properties::encode_where`] made; if not, reading ends at the first wrong one.
    encoded: &'a [u8],
    list: &'a [Property<'a>],
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident: $variant:ident -> $type:ty;)*) => {
        $($(#[$doc])* pub fn $name(&self) -> Option<$type> {
            self.iter().find_map(|property| match property { Property::$variant(value) => Some(value), _ => None })
        })*
    };
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const EMPTY: Properties<'static> = Properties { encoded: &[], list: &[] };

    /// Properties to be encoded. They are written as given: nothing is checked but lengths.
    pub const fn list(properties: &'a [Property<'a>]) -> Properties<'a> {
        Properties { encoded: &[], list: properties }
    }

    /// Properties that [`Self::encode_where`] wrote, then more of them: for passing a message on.
    pub const fn joined(encoded: &'a [u8], more: &'a [Property<'a>]) -> Properties<'a> {
        Properties { encoded, list: more }
    }

    /// Appends those properties to `out` that `keep` chooses, without a length in front, for [`Self::joined`].
    ///
    /// # Errors
    /// [`EncodeError::TooLong`], with `out` unchanged.
    #[cfg(feature = "alloc")]
    pub fn encode_where(
        &self,
        keep: impl Fn(&Property<'a>) -> bool,
        out: &mut alloc::vec::Vec<u8>,
    ) -> Result<(), EncodeError> {
        let kept = || self.iter().filter(&keep);
        let mut length = Count::default();
        kept().try_for_each(|property| property.write(&mut length))?;
        let start = out.len();
        out.resize(start + length.0, 0);
        let mut sink = Slice::new(out.get_mut(start..).unwrap_or_default());
        kept().try_for_each(|property| property.write(&mut sink))
    }

    /// All properties in their order.
    pub fn iter(&self) -> Iter<'a> {
        Iter { encoded: Reader::new(self.encoded), list: self.list.iter() }
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.encoded.is_empty() && self.list.is_empty()
    }

    getters! {
        /// Payload format indicator (§3.3.2.3.2): whether the payload is UTF-8 text.
        payload_format_indicator: PayloadFormatIndicator -> bool;
        /// Message expiry interval in seconds (§3.3.2.3.3).
        message_expiry_interval: MessageExpiryInterval -> u32;
        /// Content type (§3.3.2.3.9).
        content_type: ContentType -> &'a str;
        /// Response topic (§3.3.2.3.5), a valid topic name when it was decoded.
        response_topic: ResponseTopic -> &'a str;
        /// Correlation data (§3.3.2.3.6).
        correlation_data: CorrelationData -> &'a [u8];
        /// The first subscription identifier (§3.3.2.3.8, §3.8.2.1.2); a delivered PUBLISH may have more.
        subscription_identifier: SubscriptionIdentifier -> u32;
        /// Session expiry interval in seconds (§3.1.2.11.2); `u32::MAX` means never.
        session_expiry_interval: SessionExpiryInterval -> u32;
        /// Client identifier that the server chose (§3.2.2.3.7).
        assigned_client_identifier: AssignedClientIdentifier -> &'a str;
        /// Keep alive in seconds that the server imposes (§3.2.2.3.14).
        server_keep_alive: ServerKeepAlive -> u16;
        /// Authentication method (§3.1.2.11.9).
        authentication_method: AuthenticationMethod -> &'a str;
        /// Authentication data (§3.1.2.11.10).
        authentication_data: AuthenticationData -> &'a [u8];
        /// Whether reason strings are wanted (§3.1.2.11.7).
        request_problem_information: RequestProblemInformation -> bool;
        /// Will delay interval in seconds (§3.1.3.2.2).
        will_delay_interval: WillDelayInterval -> u32;
        /// Whether response information is wanted (§3.1.2.11.6).
        request_response_information: RequestResponseInformation -> bool;
        /// Reason string (§3.2.2.3.9).
        reason_string: ReasonString -> &'a str;
        /// Receive maximum (§3.1.2.11.3), never zero when it was decoded.
        receive_maximum: ReceiveMaximum -> u16;
        /// Topic alias maximum (§3.1.2.11.5).
        topic_alias_maximum: TopicAliasMaximum -> u16;
        /// Topic alias (§3.3.2.3.4), never zero when it was decoded.
        topic_alias: TopicAlias -> u16;
        /// Maximum QoS that the server takes (§3.2.2.3.4).
        maximum_qos: MaximumQos -> QoS;
        /// Whether the server retains (§3.2.2.3.5).
        retain_available: RetainAvailable -> bool;
        /// Maximum packet size in bytes (§3.1.2.11.4), never zero when it was decoded.
        maximum_packet_size: MaximumPacketSize -> u32;
    }

    /// User properties in their order (§1.5.7): names and values.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// Reads the property length and the properties, and checks all of them. What cannot be read at all counts before
    /// what is only not allowed.
    pub(crate) fn decode(reader: &mut Reader<'a>, place: Place) -> Result<Properties<'a>, Error> {
        let length = reader.varint()?;
        let bytes = reader.bytes(usize::try_from(length).map_err(|_| Error::Truncated)?)?;
        let mut cursor = Reader::new(bytes);
        let mut seen = 0u64;
        let mut first: Option<Error> = None;
        while !cursor.is_empty() {
            let (id, property) = Property::read(&mut cursor)?;
            let bit = 1u64 << id;
            let error = if place.allowed() & bit == 0 {
                Some(place.not_allowed())
            } else if seen & bit != 0 && !place.may_repeat(id) {
                Some(Error::PropertyTwice)
            } else {
                property.err()
            };
            seen |= bit;
            first = first.or(error);
        }
        match first {
            Some(error) => Err(error),
            None if seen & set(&[0x15, 0x16]) == set(&[0x16]) => Err(Error::AuthenticationData),
            None => Ok(Properties { encoded: bytes, list: &[] }),
        }
    }

    /// Writes length and properties, in MQTT 5 only.
    pub(crate) fn write<S: Sink>(&self, sink: &mut S, version: Version) -> Result<(), EncodeError> {
        if version != Version::V5 {
            return Ok(());
        }
        let mut length = Count(self.encoded.len());
        self.list.iter().try_for_each(|property| property.write(&mut length))?;
        sink.varint(length.0)?;
        sink.put(self.encoded)?;
        self.list.iter().try_for_each(|property| property.write(sink))
    }
}

impl PartialEq for Properties<'_> {
    fn eq(&self, other: &Properties<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Properties<'_> {}

impl Default for Properties<'_> {
    fn default() -> Self {
        Properties::EMPTY
    }
}

impl core::fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for Properties<'a> {
    type Item = Property<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Iterator over [`Properties`].
#[derive(Clone)]
pub struct Iter<'a> {
    encoded: Reader<'a>,
    list: core::slice::Iter<'a, Property<'a>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        if self.encoded.is_empty() {
            self.list.next().copied()
        } else {
            Property::read(&mut self.encoded).ok()?.1.ok()
        }
    }
}
