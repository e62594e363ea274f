//! DISCONNECT (§3.14) and AUTH (§3.15).

use crate::ack::{reason_and_properties, write_reason_and_properties};
use crate::read::Reader;
use crate::write::Sink;
use crate::{EncodeError, Error, PacketType, Properties, ReasonCode, Version};

/// DISCONNECT: the last packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why; always success (normal) before MQTT 5.
    pub reason: ReasonCode,
    /// Empty before MQTT 5.
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT without properties.
    pub const fn new(reason: ReasonCode) -> Disconnect<'static> {
        Disconnect { reason, properties: Properties::EMPTY }
    }

    pub(crate) fn decode(body: &'a [u8], version: Version) -> Result<Disconnect<'a>, Error> {
        let mut reader = Reader::new(body);
        let (reason, properties) = match version {
            Version::V5 => reason_and_properties(&mut reader, PacketType::Disconnect)?,
            Version::V31 | Version::V311 => (ReasonCode::NORMAL_DISCONNECTION, Properties::EMPTY),
        };
        reader.end()?;
        Ok(Disconnect { reason, properties })
    }

    pub(crate) fn body<S: Sink>(&self, sink: &mut S, version: Version) -> Result<(), EncodeError> {
        match version {
            Version::V5 => write_reason_and_properties(sink, self.reason, &self.properties),
            Version::V31 | Version::V311 => Ok(()),
        }
    }
}

/// AUTH: a step of enhanced authentication (§4.12). MQTT 5 only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, continue, or re-authenticate.
    pub reason: ReasonCode,
    /// Authentication method and data among them. There always is a method when it was decoded, unless the packet says
    /// nothing at all: success, and no properties.
    pub properties: Properties<'a>,
}

/// Authentication data never gets into a log by way of `{:?}`.
impl core::fmt::Debug for Auth<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Auth").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<'a> Auth<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Auth<'a>, Error> {
        let mut reader = Reader::new(body);
        let (reason, properties) = reason_and_properties(&mut reader, PacketType::Auth)?;
        reader.end()?;
        // §3.15.2.1 lets both be left out together; otherwise §3.15.2.2.2 wants the method.
        let says_nothing = reason == ReasonCode::SUCCESS && properties.is_empty();
        if !says_nothing && properties.authentication_method().is_none() {
            return Err(Error::AuthenticationMethod);
        }
        Ok(Auth { reason, properties })
    }

    pub(crate) fn body<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        write_reason_and_properties(sink, self.reason, &self.properties)
    }
}
