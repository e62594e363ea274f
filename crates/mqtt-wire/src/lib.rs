//! MQTT 3.1, 3.1.1 and 5 packets: `no_std`, zero-copy, no panic on any input.
//!
//! [`frame_len`] finds where a packet ends, [`Packet::decode`] checks everything about one packet that can be known
//! without the connection's history, [`Packet::encode`] writes one. All of it borrows from the caller's buffers.
//! Section numbers are those of the OASIS MQTT 5.0 standard unless another one is named.
//!
//! # Contract
//! - [`frame_len`], [`Packet::decode`], [`Packet::encode`] and everything in [`topic`] return for any input: no panic, no
//!   unsafe code, time linear in the input's length (a property's getter: in the length of the properties).
//! - Nothing allocates; only what the feature `alloc` adds does, and only into the vector that it is given or answers.
//! - What a decoded packet holds lies within the frame. It has been checked to its end, so that its iterators give
//!   everything there is; they have no errors to report.
//! - What decodes has at least one encoding, not longer than the frame, which decodes to an equal packet and encodes to
//!   itself. Other forms than the shortest (reason code 0 written out, an empty property length) are accepted where the
//!   standard accepts them; lengths that are not in their shortest form are not (§1.5.5).
//! - Encoding checks lengths and packet identifiers and nothing else: what is invalid otherwise is written as given.
//!   [`Packet::encoded_len`] is exactly what [`Packet::encode`] writes.
//!
//! The property tests, `crates/mqtt-fuzz` and the targets in `fuzz/` hold the crate to it.
//!
//! Left to others: state (which packet may follow which), topic aliases, packet identifiers in use, quotas, I/O.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::panic, clippy::expect_used, clippy::string_slice)
)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod ack;
mod connect;
mod disconnect;
mod error;
mod frame;
mod packet;
mod properties;
mod publish;
mod read;
mod reason;
mod subscribe;
pub mod topic;
mod write;

pub use ack::Ack;
pub use connect::{ConnAck, Connect, Will};
pub use disconnect::{Auth, Disconnect};
pub use error::{EncodeError, Error};
pub use frame::{MAX_REMAINING_LENGTH, PacketType, frame_len};
pub use packet::Packet;
pub use properties::{Iter as PropertiesIter, Properties, Property};
pub use publish::Publish;
pub use reason::ReasonCode;
pub use subscribe::{
    Filters, FiltersIter, RetainHandling, SubAck, Subscribe, Subscription, TopicFilters, TopicFiltersIter,
    UnsubAck, Unsubscribe,
};

/// The protocol version a connection speaks (§3.1.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V311,
    /// MQTT 5: protocol name `MQTT`, level 5.
    V5,
}

/// Delivery guarantee of an application message (§4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// Delivered once or not at all; no packet identifier.
    #[default]
    AtMostOnce,
    /// Delivered once or more; PUBACK.
    AtLeastOnce,
    /// Delivered exactly once; PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce,
}

impl QoS {
    /// The QoS of its two-bit number; `None` for 3 and more.
    pub const fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }

    /// 0, 1 or 2.
    pub const fn bits(self) -> u8 {
        match self {
            QoS::AtMostOnce => 0,
            QoS::AtLeastOnce => 1,
            QoS::ExactlyOnce => 2,
        }
    }
}
