//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (§3.8 to §3.11).

use crate::connect::properties;
use crate::properties::Place;
use crate::read::Reader;
use crate::write::Sink;
use crate::{EncodeError, Error, PacketType, Properties, QoS, ReasonCode, Version, topic};

/// What a new subscription gets of what is retained (§3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RetainHandling {
    /// All of it at each subscribe.
    #[default]
    Send,
    /// All of it if the subscription is new.
    SendIfNew,
    /// Nothing.
    DontSend,
}

/// One filter of a SUBSCRIBE with its options. Before MQTT 5 only the QoS exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// A valid filter when it was decoded, shared ones included.
    pub filter: &'a str,
    /// Highest QoS to deliver with.
    pub qos: QoS,
    /// Don't deliver what this same connection published.
    pub no_local: bool,
    /// Keep the retain flag as it was published.
    pub retain_as_published: bool,
    /// What of the retained messages to deliver now.
    pub retain_handling: RetainHandling,
}

impl<'a> Subscription<'a> {
    /// A subscription with default options.
    pub const fn new(filter: &'a str, qos: QoS) -> Subscription<'a> {
        Subscription {
            filter,
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Subscription<'a>, Error> {
        let filter = read_filter(reader)?;
        let options = reader.u8()?;
        let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
        if options & reserved != 0 {
            return Err(Error::SubscriptionOptions);
        }
        let qos = QoS::from_bits(options & 0x03).ok_or(Error::SubscriptionOptions)?;
        let retain_handling = match (options >> 4) & 0x03 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DontSend,
            _ => return Err(Error::SubscriptionOptions),
        };
        let no_local = options & 0x04 != 0;
        if no_local && topic::split_shared(filter).is_some() {
            return Err(Error::SharedSubscription);
        }
        Ok(Subscription { filter, qos, no_local, retain_as_published: options & 0x08 != 0, retain_handling })
    }

    fn write<S: Sink>(&self, sink: &mut S, version: Version) -> Result<(), EncodeError> {
        sink.text(self.filter)?;
        let mut options = self.qos.bits();
        if version == Version::V5 {
            options |= if self.no_local { 0x04 } else { 0 };
            options |= if self.retain_as_published { 0x08 } else { 0 };
            options |= match self.retain_handling {
                RetainHandling::Send => 0x00,
                RetainHandling::SendIfNew => 0x10,
                RetainHandling::DontSend => 0x20,
            };
        }
        sink.u8(options)
    }
}

fn read_filter<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Error> {
    let filter = reader.text()?;
    if topic::is_valid_filter(filter) {
        Ok(filter)
    } else if topic::share_prefix(filter).is_some() {
        Err(Error::SharedSubscription)
    } else {
        Err(Error::TopicFilter)
    }
}

macro_rules! sequence {
    ($(#[$doc:meta])* $name:ident, $iter:ident, $item:ty, $read:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name<'a>(Source<'a, $item>);

        impl<'a> $name<'a> {
            /// A list to be encoded, as it is given.
            pub const fn list(items: &'a [$item]) -> $name<'a> {
                $name(Source::List(items))
            }

            /// All of them in their order.
            pub fn iter(&self) -> $iter<'a> {
                $iter(match self.0 {
                    Source::Encoded(bytes, version) => Cursor::Encoded(Reader::new(bytes), version),
                    Source::List(items) => Cursor::List(items.iter()),
                })
            }

            fn decode(reader: Reader<'a>, version: Version) -> Result<$name<'a>, Error> {
                let bytes = reader.rest();
                if bytes.is_empty() {
                    return Err(Error::NoFilters);
                }
                let mut cursor = reader;
                while !cursor.is_empty() {
                    let _checked: $item = $read(&mut cursor, version)?;
                }
                Ok($name(Source::Encoded(bytes, version)))
            }
        }

        impl PartialEq for $name<'_> {
            fn eq(&self, other: &$name<'_>) -> bool {
                self.iter().eq(other.iter())
            }
        }

        impl Eq for $name<'_> {}

        impl core::fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_list().entries(self.iter()).finish()
            }
        }

        impl<'a> IntoIterator for $name<'a> {
            type Item = $item;
            type IntoIter = $iter<'a>;

            fn into_iter(self) -> $iter<'a> {
                self.iter()
            }
        }

        /// Iterator over the filters of a packet.
        #[derive(Clone)]
        pub struct $iter<'a>(Cursor<'a, $item>);

        impl<'a> Iterator for $iter<'a> {
            type Item = $item;

            fn next(&mut self) -> Option<$item> {
                match &mut self.0 {
                    Cursor::Encoded(reader, version) => $read(reader, *version).ok(),
                    Cursor::List(items) => items.next().copied(),
                }
            }
        }
    };
}

#[derive(Clone, Copy)]
enum Source<'a, T> {
    Encoded(&'a [u8], Version),
    List(&'a [T]),
}

#[derive(Clone)]
enum Cursor<'a, T> {
    Encoded(Reader<'a>, Version),
    List(core::slice::Iter<'a, T>),
}

sequence! {
    /// The filters of a SUBSCRIBE with their options; at least one when decoded.
    Filters, FiltersIter, Subscription<'a>, Subscription::read
}

sequence! {
    /// The filters of an UNSUBSCRIBE; at least one when decoded.
    TopicFilters, TopicFiltersIter, &'a str, |reader: &mut Reader<'a>, _version: Version| read_filter(reader)
}

/// SUBSCRIBE: a client asks for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Never zero when decoded.
    pub packet_id: u16,
    /// Empty before MQTT 5.
    pub properties: Properties<'a>,
    /// What to subscribe to.
    pub filters: Filters<'a>,
}

impl<'a> Subscribe<'a> {
    pub(crate) fn decode(body: &'a [u8], version: Version) -> Result<Subscribe<'a>, Error> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = properties(&mut reader, version, Place::Packet(PacketType::Subscribe))?;
        Ok(Subscribe { packet_id, properties, filters: Filters::decode(reader, version)? })
    }

    pub(crate) fn body<S: Sink>(&self, sink: &mut S, version: Version) -> Result<(), EncodeError> {
        sink.packet_id(self.packet_id)?;
        self.properties.write(sink, version)?;
        self.filters.iter().try_for_each(|subscription| subscription.write(sink, version))
    }
}

/// UNSUBSCRIBE: a client gives subscriptions back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Never zero when decoded.
    pub packet_id: u16,
    /// Empty before MQTT 5.
    pub properties: Properties<'a>,
    /// The filters, character by character as they were subscribed.
    pub filters: TopicFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(crate) fn decode(body: &'a [u8], version: Version) -> Result<Unsubscribe<'a>, Error> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = properties(&mut reader, version, Place::Packet(PacketType::Unsubscribe))?;
        Ok(Unsubscribe { packet_id, properties, filters: TopicFilters::decode(reader, version)? })
    }

    pub(crate) fn body<S: Sink>(&self, sink: &mut S, version: Version) -> Result<(), EncodeError> {
        sink.packet_id(self.packet_id)?;
        self.properties.write(sink, version)?;
        self.filters.iter().try_for_each(|filter| sink.text(filter))
    }
}

/// SUBACK: one reason code for each filter of the SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// Never zero when decoded.
    pub packet_id: u16,
    /// Empty before MQTT 5.
    pub properties: Properties<'a>,
    /// Reason codes as bytes: the granted QoS, or from 0x80 on a refusal (before MQTT 5 written as 0x80).
    pub codes: &'a [u8],
}

impl<'a> SubAck<'a> {
    /// The reason codes in the order of the filters.
    pub fn reasons(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        self.codes.iter().copied().map(ReasonCode)
    }

    pub(crate) fn decode(body: &'a [u8], version: Version) -> Result<SubAck<'a>, Error> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = properties(&mut reader, version, Place::Packet(PacketType::SubAck))?;
        let codes = reader.rest();
        let valid = |code: &u8| match version {
            Version::V5 => ReasonCode(*code).is_allowed_in(PacketType::SubAck),
            Version::V31 | Version::V311 => matches!(code, 0..=2 | 0x80),
        };
        if codes.is_empty() {
            return Err(Error::NoFilters);
        }
        if codes.iter().all(valid) {
            Ok(SubAck { packet_id, properties, codes })
        } else {
            Err(Error::ReasonCode)
        }
    }

    pub(crate) fn body<S: Sink>(&self, sink: &mut S, version: Version) -> Result<(), EncodeError> {
        sink.packet_id(self.packet_id)?;
        self.properties.write(sink, version)?;
        match version {
            Version::V5 => sink.put(self.codes),
            Version::V31 | Version::V311 => self.codes.iter().try_for_each(|code| sink.u8((*code).min(0x80))),
        }
    }
}

/// UNSUBACK: in MQTT 5 one reason code for each filter, before it nothing but the identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// Never zero when decoded.
    pub packet_id: u16,
    /// Empty before MQTT 5.
    pub properties: Properties<'a>,
    /// Reason codes as bytes; empty before MQTT 5.
    pub codes: &'a [u8],
}

impl<'a> UnsubAck<'a> {
    /// The reason codes in the order of the filters.
    pub fn reasons(&self) -> impl Iterator<Item = ReasonCode> + use<'a> {
        self.codes.iter().copied().map(ReasonCode)
    }

    pub(crate) fn decode(body: &'a [u8], version: Version) -> Result<UnsubAck<'a>, Error> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = properties(&mut reader, version, Place::Packet(PacketType::UnsubAck))?;
        let codes = reader.rest();
        if version != Version::V5 {
            reader.end()?;
        } else if codes.is_empty() {
            return Err(Error::NoFilters);
        } else if !codes.iter().all(|code| ReasonCode(*code).is_allowed_in(PacketType::UnsubAck)) {
            return Err(Error::ReasonCode);
        }
        Ok(UnsubAck { packet_id, properties, codes })
    }

    pub(crate) fn body<S: Sink>(&self, sink: &mut S, version: Version) -> Result<(), EncodeError> {
        sink.packet_id(self.packet_id)?;
        self.properties.write(sink, version)?;
        match version {
            Version::V5 => sink.put(self.codes),
            Version::V31 | Version::V311 => Ok(()),
        }
    }
}
