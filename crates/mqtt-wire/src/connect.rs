//! CONNECT (§3.1) and CONNACK (§3.2).

use crate::properties::Place;
use crate::read::Reader;
use crate::write::Sink;
use crate::{EncodeError, Error, PacketType, Properties, QoS, ReasonCode, Version, topic};

/// CONNECT: a client asks for a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version the client speaks; it rules the rest of the connection.
    pub version: Version,
    /// Clean Start (§3.1.2.4); before MQTT 5: Clean Session.
    pub clean_start: bool,
    /// Keep alive in seconds; 0 means none.
    pub keep_alive: u16,
    /// Empty before MQTT 5.
    pub properties: Properties<'a>,
    /// May be empty: then the server chooses one, or refuses.
    pub client_id: &'a str,
    /// Published when the connection ends without a DISCONNECT.
    pub will: Option<Will<'a>>,
    /// User name.
    pub username: Option<&'a str>,
    /// Password: any bytes.
    pub password: Option<&'a [u8]>,
}

/// Passwords never get into a log by way of `{:?}`.
impl core::fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("client_id", &self.client_id)
            .field("will", &self.will)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "…"))
            .finish_non_exhaustive()
    }
}

/// The will message in a CONNECT (§3.1.3.2 to §3.1.3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// QoS to publish it with.
    pub qos: QoS,
    /// Whether it is to be retained.
    pub retain: bool,
    /// Will properties; empty before MQTT 5.
    pub properties: Properties<'a>,
    /// A valid topic name when it was decoded.
    pub topic: &'a str,
    /// The message.
    pub payload: &'a [u8],
}

const RESERVED: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

impl<'a> Connect<'a> {
    pub(crate) fn decode(header_flags: u8, body: &'a [u8]) -> Result<Connect<'a>, Error> {
        let mut reader = Reader::new(body);
        let name = reader.binary()?;
        let level = reader.u8()?;
        let version = match (name, level) {
            (b"MQIsdp", 3) => Version::V31,
            (b"MQTT", 4) => Version::V311,
            (b"MQTT", 5) => Version::V5,
            (b"MQTT" | b"MQIsdp", _) => return Err(Error::ProtocolVersion),
            _ => return Err(Error::ProtocolName),
        };
        // MQTT 3.1 leaves these bits undefined: they are ignored there.
        let strict = version != Version::V31;
        if strict && header_flags != 0 {
            return Err(Error::Flags);
        }
        let flags = reader.u8()?;
        if strict && flags & RESERVED != 0 {
            return Err(Error::ConnectFlags);
        }
        let will_qos = QoS::from_bits((flags >> WILL_QOS_SHIFT) & 0x03).ok_or(Error::ConnectFlags)?;
        let has_will = flags & WILL != 0;
        if !has_will && (will_qos != QoS::AtMostOnce || flags & WILL_RETAIN != 0) {
            return Err(Error::ConnectFlags);
        }
        if version != Version::V5 && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
            return Err(Error::ConnectFlags);
        }
        let keep_alive = reader.u16()?;
        let properties = properties(&mut reader, version, Place::Packet(PacketType::Connect))?;
        let client_id = reader.text()?;
        let will = if has_will {
            let properties = crate::connect::properties(&mut reader, version, Place::Will)?;
            let topic = reader.text()?;
            if !topic::is_valid_name(topic) {
                return Err(Error::TopicName);
            }
            let payload = reader.binary()?;
            Some(Will { qos: will_qos, retain: flags & WILL_RETAIN != 0, properties, topic, payload })
        } else {
            None
        };
        let username = if flags & USER_NAME != 0 { Some(reader.text()?) } else { None };
        let password = if flags & PASSWORD != 0 { Some(reader.binary()?) } else { None };
        reader.end()?;
        let clean_start = flags & CLEAN_START != 0;
        Ok(Connect { version, clean_start, keep_alive, properties, client_id, will, username, password })
    }

    pub(crate) fn body<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        let (name, level) = match self.version {
            Version::V31 => ("MQIsdp", 3),
            Version::V311 => ("MQTT", 4),
            Version::V5 => ("MQTT", 5),
        };
        sink.text(name)?;
        sink.u8(level)?;
        let will = self.will.map_or(0, |will| {
            WILL | (will.qos.bits() << WILL_QOS_SHIFT) | if will.retain { WILL_RETAIN } else { 0 }
        });
        let flags = will
            | if self.clean_start { CLEAN_START } else { 0 }
            | if self.username.is_some() { USER_NAME } else { 0 }
            | if self.password.is_some() { PASSWORD } else { 0 };
        sink.u8(flags)?;
        sink.u16(self.keep_alive)?;
        self.properties.write(sink, self.version)?;
        sink.text(self.client_id)?;
        if let Some(will) = &self.will {
            will.properties.write(sink, self.version)?;
            sink.text(will.topic)?;
            sink.binary(will.payload)?;
        }
        if let Some(username) = self.username {
            sink.text(username)?;
        }
        if let Some(password) = self.password {
            sink.binary(password)?;
        }
        Ok(())
    }
}

/// Reads properties where the version has them.
pub(crate) fn properties<'a>(
    reader: &mut Reader<'a>,
    version: Version,
    place: Place,
) -> Result<Properties<'a>, Error> {
    match version {
        Version::V5 => Properties::decode(reader, place),
        Version::V31 | Version::V311 => Ok(Properties::EMPTY),
    }
}

/// CONNACK: the server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server has state from an earlier connection (§3.2.2.1.1). Always false in MQTT 3.1.
    pub session_present: bool,
    /// Result. Before MQTT 5 it travels as [`ReasonCode::v311_connack`].
    pub reason: ReasonCode,
    /// Empty before MQTT 5.
    pub properties: Properties<'a>,
}

impl<'a> ConnAck<'a> {
    pub(crate) fn decode(body: &'a [u8], version: Version) -> Result<ConnAck<'a>, Error> {
        let mut reader = Reader::new(body);
        let flags = reader.u8()?;
        let code = reader.u8()?;
        let session_present = match (flags, version) {
            (_, Version::V31) | (0, _) => false,
            (1, _) => true,
            _ => return Err(Error::ConnAckFlags),
        };
        let reason = match version {
            Version::V5 => ReasonCode(code),
            Version::V31 | Version::V311 => ReasonCode::from_v311_connack(code).ok_or(Error::ReasonCode)?,
        };
        if !reason.is_allowed_in(PacketType::ConnAck) {
            return Err(Error::ReasonCode);
        }
        if session_present && reason != ReasonCode::SUCCESS {
            return Err(Error::ConnAckFlags);
        }
        let properties = properties(&mut reader, version, Place::Packet(PacketType::ConnAck))?;
        reader.end()?;
        Ok(ConnAck { session_present, reason, properties })
    }

    pub(crate) fn body<S: Sink>(&self, sink: &mut S, version: Version) -> Result<(), EncodeError> {
        sink.u8(u8::from(self.session_present && version != Version::V31))?;
        sink.u8(match version {
            Version::V5 => self.reason.0,
            Version::V31 | Version::V311 => self.reason.v311_connack(),
        })?;
        self.properties.write(sink, version)
    }
}
