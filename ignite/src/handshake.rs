//! CONNECT and CONNACK across the gateway: what is taken out, what is put in. Pure.
//!
//! User name, password, token and the client's own id end here (checklist 42): the PCM sees a derived id and translated
//! topics. Keep alive ends here, too: the Unix socket tells the PCM when a client is gone.

use mqtt_wire::{ConnAck, Connect, Packet, PacketType, Properties, Property, ReasonCode, Version, Will};
use zeroize::Zeroizing;

use crate::cause::Cause;
use crate::gateway::Token;
use crate::keys::Keys;
use crate::policy::{self, Grant};
use crate::relay::{METHOD, TOPIC_ALIASES, Terms};

/// The one user name.
const USER_NAME: &str = "Bearer";
/// By how much a packet may grow or shrink in translation: labels and handles in topic and Response Topic.
const TRANSLATION: usize = 128;

/// Takes the token out of a CONNECT: user name `Bearer` and the token as password, or in MQTT 5 authentication method
/// `Bearer` with the token as its data.
///
/// # Errors
/// [`Cause::BadCredentials`], [`Cause::AuthenticationMethod`].
pub(crate) fn token(connect: &Connect<'_>) -> Result<Token, Cause> {
    let method = connect.properties.authentication_method();
    if method.is_some_and(|method| method != METHOD) {
        return Err(Cause::AuthenticationMethod);
    }
    let password = || connect.username.filter(|name| *name == USER_NAME).and(connect.password);
    let token = connect.properties.authentication_data().or_else(password).ok_or(Cause::BadCredentials)?;
    let token = std::str::from_utf8(token).map_err(|_| Cause::BadCredentials)?;
    Ok(Zeroizing::new(token.to_owned()))
}

/// The client id that is meant, and whether the server chose it (MQTT 5 §3.1.3.1, MQTT 3.1.1 §3.1.3.1).
///
/// # Errors
/// [`Cause::ClientId`] if it is empty where it may not be.
pub(crate) fn client_id(connect: &Connect<'_>) -> Result<(String, bool), Cause> {
    match (connect.client_id, connect.version) {
        ("", Version::V31) => Err(Cause::ClientId),
        ("", Version::V311) if !connect.clean_start => Err(Cause::ClientId),
        ("", Version::V311 | Version::V5) => Ok((service::secret::random_token::<16>(), true)),
        (id, _) => Ok((id.to_owned(), false)),
    }
}

/// The CONNECT that the PCM gets.
///
/// # Errors
/// [`Cause::WillNotGranted`], [`Cause::WillResponseTopic`].
pub(crate) fn connect_up(
    connect: &Connect<'_>,
    grant: &Grant,
    client: &str,
    longest_packet: usize,
    longest_topic: usize,
) -> Result<Vec<u8>, Cause> {
    let mut properties: Vec<_> = connect
        .properties
        .iter()
        .filter(|property| {
            matches!(property, Property::SessionExpiryInterval(_) | Property::ReceiveMaximum(_))
        })
        .collect();
    properties.push(Property::MaximumPacketSize(u32::try_from(longest_packet).unwrap_or(u32::MAX)));
    let names = match &connect.will {
        None => None,
        Some(will) => {
            let response = will.properties.response_topic();
            Some(policy::publish(grant, will.topic, response, longest_topic).map_err(
                |reason| match reason {
                    ReasonCode::TOPIC_NAME_INVALID => Cause::WillResponseTopic,
                    _ => Cause::WillNotGranted,
                },
            )?)
        }
    };
    let mut will_properties = Vec::new();
    let will = connect.will.zip(names.as_ref()).map(|(will, names)| {
        will_properties.extend(will.properties.iter().filter_map(|property| match property {
            Property::ResponseTopic(_) => names.response.as_deref().map(Property::ResponseTopic),
            other => Some(other),
        }));
        Will { topic: &names.topic, ..will }
    });
    let will = will.map(|will| Will { properties: Properties::list(&will_properties), ..will });
    let up = Connect {
        version: connect.version,
        clean_start: connect.clean_start,
        keep_alive: 0,
        properties: Properties::list(&properties),
        client_id: client,
        will,
        username: None,
        password: None,
    };
    let mut bytes = Vec::new();
    // Only the will can be too long, by a label that is longer than the handle.
    Packet::Connect(up).encode_into(connect.version, &mut bytes).map_err(|_| Cause::WillNotGranted)?;
    Ok(bytes)
}

/// The CONNACK that the client gets for the PCM's, and the terms of the session.
pub(crate) fn connack_down(
    connack: &ConnAck<'_>,
    connect: &Connect<'_>,
    assigned: Option<&str>,
    longest_packet: usize,
    longest_topic: usize,
) -> (Vec<u8>, Terms) {
    let limit =
        |wire: Option<u32>| wire.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let pcm_packet = limit(connack.properties.maximum_packet_size());
    let terms = Terms {
        version: connect.version,
        enhanced: connect.properties.authentication_method().is_some(),
        client_packet: limit(connect.properties.maximum_packet_size()).min(longest_packet + TRANSLATION),
        pcm_packet,
        topic: longest_topic,
    };
    // Only what was agreed with the PCM and still holds on this hop; texts of the PCM are not the client's business.
    let mut properties: Vec<_> = connack
        .properties
        .iter()
        .filter(|property| {
            matches!(
                property,
                Property::SessionExpiryInterval(_)
                    | Property::ReceiveMaximum(_)
                    | Property::MaximumQos(_)
                    | Property::RetainAvailable(_)
                    | Property::WildcardSubscriptionAvailable(_)
                    | Property::SubscriptionIdentifierAvailable(_)
                    | Property::SharedSubscriptionAvailable(_)
            )
        })
        .collect();
    let takes = longest_packet.min(pcm_packet.saturating_sub(TRANSLATION));
    properties.push(Property::MaximumPacketSize(u32::try_from(takes).unwrap_or(u32::MAX)));
    properties.push(Property::TopicAliasMaximum(TOPIC_ALIASES));
    if let Some(assigned) = assigned {
        properties.push(Property::AssignedClientIdentifier(assigned));
    }
    if terms.enhanced {
        properties.push(Property::AuthenticationMethod(METHOD));
    }
    let down = ConnAck { properties: Properties::list(&properties), ..*connack };
    (Packet::ConnAck(down).to_vec(connect.version), terms)
}

/// The PCM's id for a client.
pub(crate) fn derived_id(keys: &Keys, grant: &Grant, client_id: &str) -> String {
    keys.client_id(&grant.iss, &grant.sid, client_id)
}

/// The CONNACK that refuses; empty where the version has no word for the cause.
pub(crate) fn refusal(version: Version, cause: Cause) -> Vec<u8> {
    let row = cause.row();
    let reason = match version {
        Version::V5 if row.v5.is_allowed_in(PacketType::ConnAck) => row.v5,
        Version::V5 => ReasonCode::SERVER_UNAVAILABLE,
        Version::V31 | Version::V311 => match ReasonCode::from_v311_connack(row.v3) {
            Some(reason) if !reason.is_success() => reason,
            _ => return Vec::new(),
        },
    };
    let connack = ConnAck { session_present: false, reason, properties: Properties::EMPTY };
    Packet::ConnAck(connack).to_vec(version)
}

/// The answer to bytes that are no CONNECT, as far as they say what they wanted to be. MQTT 3.1.1 has one code for this, for
/// a protocol level that is not spoken (§3.1.2.2); MQTT 5 has one for all faults (§4.13.1).
pub(crate) fn refusal_of_malformed(bytes: &[u8], error: mqtt_wire::Error) -> Vec<u8> {
    let is_connect = bytes.first().is_some_and(|first| first >> 4 == PacketType::Connect as u8);
    let name = bytes.windows(7).position(|window| window[..6] == *b"\0\x04MQTT").filter(|at| *at <= 5);
    match name.and_then(|at| bytes.get(at + 6)) {
        Some(5..) if is_connect => refusal(Version::V5, Cause::Malformed(error)),
        _ if is_connect && error == mqtt_wire::Error::ProtocolVersion => {
            refusal(Version::V311, Cause::Malformed(error))
        }
        _ => Vec::new(),
    }
}
