//! What can be wrong with a packet, and the reason code that says so on the wire.

use crate::ReasonCode;

/// Why bytes are not a valid packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The remaining length is longer than four bytes or not in its shortest form (§1.5.5).
    RemainingLength,
    /// The packet is longer than the receiver allows (§3.1.2.11.4).
    TooLarge,
    /// The frame is not exactly as long as its header says, or a field runs past its end.
    Truncated,
    /// Bytes are left over after the last field.
    TrailingBytes,
    /// Packet type 0, or AUTH before MQTT 5 (§2.1.2).
    PacketType,
    /// Reserved bits of the fixed header (§2.1.3), a QoS of 3, or DUP with QoS 0 (§3.3.1).
    Flags,
    /// A string that is not UTF-8 or has U+0000, control characters or non-characters (§1.5.4).
    Text,
    /// A packet identifier of zero (§2.2.1).
    PacketId,
    /// The protocol name is neither `MQTT` nor `MQIsdp` (§3.1.2.1).
    ProtocolName,
    /// The protocol level is not 3, 4 or 5 with the matching name (§3.1.2.2).
    ProtocolVersion,
    /// Connect flags that contradict each other, or reserved ones (§3.1.2.3).
    ConnectFlags,
    /// A topic name that is empty or has wildcards (§4.7).
    TopicName,
    /// A topic filter that is empty or has misplaced wildcards (§4.7).
    TopicFilter,
    /// `$share` without group or filter, or with the no-local option (§4.8.2).
    SharedSubscription,
    /// Subscription options with reserved bits or values (§3.8.3.1).
    SubscriptionOptions,
    /// A list that must not be empty is (§3.8.3, §3.10.3).
    NoFilters,
    /// A property identifier that does not exist (§2.2.2.2), or a length that does not fit.
    PropertyMalformed,
    /// A property that this kind of packet cannot carry.
    PropertyNotAllowed,
    /// A property that this kind of subscription packet cannot carry.
    PropertyNotAllowedInSubscription,
    /// A property that may appear once appears twice.
    PropertyTwice,
    /// A property's value is outside its range.
    PropertyValue,
    /// A topic alias of zero (§3.3.2.3.4).
    TopicAlias,
    /// Authentication data without a method (§3.1.2.11.10).
    AuthenticationData,
    /// AUTH without a method (§3.15.2.2.2).
    AuthenticationMethod,
    /// A reason code that this kind of packet cannot carry (§2.4).
    ReasonCode,
    /// CONNACK says "session present" and refuses at once (§3.2.2.1.1), or its flags are reserved ones.
    ConnAckFlags,
}

impl Error {
    /// The reason code for DISCONNECT or CONNACK (§4.13).
    pub const fn reason(self) -> ReasonCode {
        match self {
            Error::TooLarge => ReasonCode::PACKET_TOO_LARGE,
            Error::ProtocolVersion => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            Error::TopicAlias => ReasonCode::TOPIC_ALIAS_INVALID,
            Error::PacketType
            | Error::PacketId
            | Error::SharedSubscription
            | Error::PropertyNotAllowed
            | Error::PropertyTwice
            | Error::PropertyValue
            | Error::AuthenticationData
            | Error::AuthenticationMethod
            | Error::ReasonCode
            | Error::ConnAckFlags => ReasonCode::PROTOCOL_ERROR,
            Error::RemainingLength
            | Error::Truncated
            | Error::TrailingBytes
            | Error::Flags
            | Error::Text
            | Error::ProtocolName
            | Error::ConnectFlags
            | Error::TopicName
            | Error::TopicFilter
            | Error::SubscriptionOptions
            | Error::NoFilters
            | Error::PropertyMalformed
            | Error::PropertyNotAllowedInSubscription => ReasonCode::MALFORMED_PACKET,
        }
    }

    /// A sentence for logs; never contains anything from the packet.
    pub const fn message(self) -> &'static str {
        match self {
            Error::RemainingLength => "remaining length is malformed",
            Error::TooLarge => "packet is too large",
            Error::Truncated => "packet ends inside a field",
            Error::TrailingBytes => "bytes after the last field",
            Error::PacketType => "no such packet type in this version",
            Error::Flags => "reserved or contradicting header flags",
            Error::Text => "string is not allowed UTF-8",
            Error::PacketId => "packet identifier is zero",
            Error::ProtocolName => "unknown protocol name",
            Error::ProtocolVersion => "unknown protocol version",
            Error::ConnectFlags => "reserved or contradicting connect flags",
            Error::TopicName => "topic name is not valid",
            Error::TopicFilter => "topic filter is not valid",
            Error::SharedSubscription => "shared subscription is not valid",
            Error::SubscriptionOptions => "subscription options are not valid",
            Error::NoFilters => "no topic filter",
            Error::PropertyMalformed => "property is malformed",
            Error::PropertyNotAllowed | Error::PropertyNotAllowedInSubscription => {
                "property is not allowed here"
            }
            Error::PropertyTwice => "property appears twice",
            Error::PropertyValue => "property value is out of range",
            Error::TopicAlias => "topic alias is zero",
            Error::AuthenticationData => "authentication data without a method",
            Error::AuthenticationMethod => "AUTH without a method",
            Error::ReasonCode => "reason code is not allowed here",
            Error::ConnAckFlags => "CONNACK flags are not valid",
        }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for Error {}

/// Why a packet cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The output is shorter than [`Packet::encoded_len`](crate::Packet::encoded_len).
    BufferTooSmall,
    /// A string or binary field is longer than 65,535 bytes, or the packet longer than 268,435,455.
    TooLong,
    /// QoS 1 or 2 without a packet identifier, or one of zero.
    PacketId,
    /// The packet does not exist in that version (AUTH before MQTT 5).
    Version,
}

impl core::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            EncodeError::BufferTooSmall => "output buffer is too small",
            EncodeError::TooLong => "a field or the packet is too long",
            EncodeError::PacketId => "packet identifier is missing",
            EncodeError::Version => "no such packet in this version",
        })
    }
}

impl core::error::Error for EncodeError {}
