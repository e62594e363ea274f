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
    // Its words would end at the gateway, which has its own.
    properties.push(Property::RequestProblemInformation(false));
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
    let topic = names.map(|names| names.topic.to_string());
    let response = names.and_then(|names| names.response).map(|response| response.to_string());
    let said = connect.will.iter().flat_map(|will| will.properties.iter());
    let said = said.filter_map(|property| match property {
        Property::ResponseTopic(_) => response.as_deref().map(Property::ResponseTopic),
        other => Some(other),
    });
    let will_properties: Vec<_> = said.collect();
    let will = connect.will.zip(topic.as_deref()).map(|(will, topic)| Will {
        topic,
        properties: Properties::list(&will_properties),
        ..will
    });
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
        aliases: connect.properties.topic_alias_maximum().unwrap_or_default().min(TOPIC_ALIASES),
        words: connect.properties.request_problem_information() != Some(false),
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

/// The CONNACK that refuses, with the cause in words where MQTT 5 has room for them and `longest` bytes are enough; empty
/// where the version has no word for the cause.
pub(crate) fn refusal(version: Version, cause: Cause, longest: Option<u32>) -> Vec<u8> {
    let row = cause.row();
    let reason = match version {
        Version::V5 if row.v5.is_allowed_in(PacketType::ConnAck) => row.v5,
        Version::V5 => ReasonCode::SERVER_UNAVAILABLE,
        Version::V31 | Version::V311 => match ReasonCode::from_v311_connack(row.v3) {
            Some(reason) if !reason.is_success() => reason,
            _ => return Vec::new(),
        },
    };
    let words = [Property::ReasonString(row.text)];
    let refusal = |words| {
        let connack = ConnAck { session_present: false, reason, properties: Properties::list(words) };
        Packet::ConnAck(connack).to_vec(version)
    };
    let spoken = refusal(&words);
    let fits =
        longest.is_none_or(|longest| u32::try_from(spoken.len()).is_ok_and(|length| length <= longest));
    if fits { spoken } else { refusal(&[]) }
}

/// The answer to bytes that are no CONNECT, as far as they say what they wanted to be. MQTT 3.1.1 has one code for this, for
/// a protocol level that is not spoken (§3.1.2.2); MQTT 5 has one for all faults (§4.13.1).
pub(crate) fn refusal_of_malformed(bytes: &[u8], error: mqtt_wire::Error) -> Vec<u8> {
    let is_connect = bytes.first().is_some_and(|first| first >> 4 == PacketType::Connect as u8);
    let name = bytes.windows(7).position(|window| window[..6] == *b"\0\x04MQTT").filter(|at| *at <= 5);
    match name.and_then(|at| bytes.get(at + 6)) {
        Some(5..) if is_connect => refusal(Version::V5, Cause::Malformed(error), None),
        _ if is_connect && error == mqtt_wire::Error::ProtocolVersion => {
            refusal(Version::V311, Cause::Malformed(error), None)
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt_wire::QoS;
    use service::secret::Key;

    use crate::policy::grant::{DeviceRole, Role};

    fn grant() -> Grant {
        let role = DeviceRole { label: "label1".to_owned(), publish: true, subscribe: true };
        let (iss, sub, sid) = ("http://didp".to_owned(), "owner".to_owned(), "sid".to_owned());
        Grant { iss, sub, sid, exp: 0, rev: 0, role: Role::Device(role), state_share: None }
    }

    fn connect<'a>(version: Version, properties: Properties<'a>) -> Connect<'a> {
        Connect {
            version,
            clean_start: false,
            keep_alive: 30,
            properties,
            client_id: "client-of-mine",
            will: None,
            username: Some("Bearer"),
            password: Some(b"demo.secret-token"),
        }
    }

    fn decoded(bytes: &[u8], version: Version, look: impl FnOnce(Packet<'_>)) {
        look(Packet::decode(bytes, version).unwrap());
    }

    /// Checklist 42.
    #[test]
    fn token_client_id_and_texts_do_not_pass() {
        let said = [
            Property::SessionExpiryInterval(60),
            Property::ReceiveMaximum(7),
            Property::MaximumPacketSize(100),
            Property::TopicAliasMaximum(9),
            Property::RequestResponseInformation(true),
            Property::UserProperty("address", "10.0.0.7"),
            Property::AuthenticationMethod("Bearer"),
            Property::AuthenticationData(b"demo.secret-token"),
        ];
        let connect = connect(Version::V5, Properties::list(&said));
        let client = derived_id(&Keys::derive(&Key::new([1; 32])), &grant(), connect.client_id);
        let up = connect_up(&connect, &grant(), &client, 5_000, 100).unwrap();
        for secret in ["secret-token", "client-of-mine", "10.0.0.7", "Bearer"] {
            assert!(!up.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
        decoded(&up, Version::V5, |packet| {
            let kept = [
                Property::SessionExpiryInterval(60),
                Property::ReceiveMaximum(7),
                Property::MaximumPacketSize(5_000),
                Property::RequestProblemInformation(false),
            ];
            let expected = Connect {
                keep_alive: 0,
                properties: Properties::list(&kept),
                client_id: &client,
                username: None,
                password: None,
                ..connect
            };
            assert_eq!(packet, Packet::Connect(expected));
        });
    }

    /// Checklist 35 and 39: a will is a PUBLISH like any other.
    #[test]
    fn a_will_is_translated_or_refused() {
        let will = |topic, properties| Will {
            qos: QoS::AtLeastOnce,
            retain: true,
            properties,
            topic,
            payload: b"gone",
        };
        let with = |will| Connect { will: Some(will), ..connect(Version::V5, Properties::EMPTY) };
        let said = [Property::WillDelayInterval(5), Property::ResponseTopic("d/answer")];
        let good = with(will("d/state", Properties::list(&said)));
        decoded(&connect_up(&good, &grant(), "c", 5_000, 100).unwrap(), Version::V5, |packet| {
            let Packet::Connect(Connect { will: Some(will), .. }) = packet else { panic!("a will") };
            assert_eq!((will.topic, will.retain, will.payload), ("d/label1/state", true, &b"gone"[..]));
            assert_eq!(will.properties.will_delay_interval(), Some(5));
            assert_eq!(will.properties.response_topic(), Some("d/label1/answer"));
        });
        let refused = |connect: &Connect<'_>| connect_up(connect, &grant(), "c", 5_000, 100).unwrap_err();
        assert_eq!(refused(&with(will("c/heater", Properties::EMPTY))), Cause::WillNotGranted);
        let outside = [Property::ResponseTopic("c/heater")];
        let outside = with(will("d/state", Properties::list(&outside)));
        assert_eq!(refused(&outside), Cause::WillResponseTopic);
    }

    #[test]
    fn the_token_comes_as_password_or_as_authentication_data() {
        let by_password = connect(Version::V311, Properties::EMPTY);
        assert_eq!(token(&by_password).unwrap().as_str(), "demo.secret-token");
        let said = [Property::AuthenticationMethod("Bearer"), Property::AuthenticationData(b"demo.other")];
        let by_method = connect(Version::V5, Properties::list(&said));
        assert_eq!(token(&by_method).unwrap().as_str(), "demo.other");
        let method_alone = connect(Version::V5, Properties::list(&said[..1]));
        assert_eq!(token(&method_alone).unwrap().as_str(), "demo.secret-token");
        let other = [Property::AuthenticationMethod("SCRAM-SHA-256")];
        let other = connect(Version::V5, Properties::list(&other));
        assert_eq!(token(&other), Err(Cause::AuthenticationMethod));
        for username in [None, Some("bearer "), Some("admin")] {
            let wrong = Connect { username, ..by_password };
            assert_eq!(token(&wrong), Err(Cause::BadCredentials));
        }
        let binary = Connect { password: Some(b"demo.\xff"), ..by_password };
        assert_eq!(token(&binary), Err(Cause::BadCredentials));
    }

    #[test]
    fn an_empty_client_id_is_chosen_here_where_the_version_allows() {
        let empty = |version, clean_start| Connect {
            client_id: "",
            clean_start,
            ..connect(version, Properties::EMPTY)
        };
        assert_eq!(client_id(&empty(Version::V311, false)), Err(Cause::ClientId));
        assert_eq!(client_id(&empty(Version::V31, true)), Err(Cause::ClientId));
        for connect in [empty(Version::V311, true), empty(Version::V5, true), empty(Version::V5, false)] {
            let (id, chosen) = client_id(&connect).unwrap();
            assert!(chosen && id.len() == 22);
        }
    }

    #[test]
    fn connack_tells_what_holds_on_this_hop() {
        let said = [
            Property::ReceiveMaximum(20),
            Property::TopicAliasMaximum(99),
            Property::ServerKeepAlive(1),
            Property::MaximumPacketSize(1_000),
            Property::ReasonString("label1"),
            Property::AssignedClientIdentifier("derived"),
        ];
        let reason = ReasonCode::SUCCESS;
        let connack = ConnAck { session_present: true, reason, properties: Properties::list(&said) };
        let client = [
            Property::AuthenticationMethod("Bearer"),
            Property::MaximumPacketSize(300),
            Property::TopicAliasMaximum(5),
            Property::RequestProblemInformation(false),
        ];
        let connect = connect(Version::V5, Properties::list(&client));
        let (down, terms) = connack_down(&connack, &connect, Some("chosen"), 5_000, 100);
        assert_eq!((terms.client_packet, terms.pcm_packet, terms.enhanced), (300, 1_000, true));
        assert_eq!((terms.aliases, terms.words), (5, false));
        decoded(&down, Version::V5, |packet| {
            let expected = [
                Property::ReceiveMaximum(20),
                Property::MaximumPacketSize(1_000 - 128),
                Property::TopicAliasMaximum(16),
                Property::AssignedClientIdentifier("chosen"),
                Property::AuthenticationMethod("Bearer"),
            ];
            let properties = Properties::list(&expected);
            assert_eq!(packet, Packet::ConnAck(ConnAck { properties, ..connack }));
        });
    }

    /// MQTT 5 §3.2.2.3.9: a reason string is left out where it would make the packet too long for the client.
    #[test]
    fn a_refusal_says_why_if_the_client_has_room_for_it() {
        let cause = Cause::InactiveToken;
        for (longest, words) in [(None, Some(cause.row().text)), (Some(10), None)] {
            decoded(&refusal(Version::V5, cause, longest), Version::V5, |packet| {
                let Packet::ConnAck(connack) = packet else { panic!("a CONNACK") };
                assert_eq!((connack.reason.0, connack.properties.reason_string()), (0x87, words));
            });
        }
        assert_eq!(refusal(Version::V311, cause, None), [0x20, 2, 0, 5]);
    }
}
