//! `(grant, packet) → verdict`, pure: what a grant lets through, and under which name (design §7).
//!
//! The grammar of topics is in `topics`, the grant itself in `grant`. Who receives a message is the PCM's choice; this is
//! the second check, both ways. Moving bytes and answering is the relay's.

pub mod grant;
mod topics;

#[cfg(test)]
mod tests;

use mqtt_wire::topic::split_shared;
use mqtt_wire::{QoS, ReasonCode, Version};

use crate::keys::Keys;
pub use grant::Grant;
pub use topics::Name;

/// A message's names on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names<'a> {
    /// Its topic.
    pub topic: Name<'a>,
    /// Its Response Topic, if it had one and may keep it.
    pub response: Option<Name<'a>>,
}

/// A PUBLISH or will from the client, towards the PCM.
///
/// # Errors
/// 0x87 if the grant does not cover the topic, 0x90 for a Response Topic outside the addressed device's `d/` or a topic that
/// is longer than `longest` bytes after translation.
pub fn publish<'a>(
    grant: &'a Grant,
    topic: &'a str,
    response: Option<&'a str>,
    longest: usize,
) -> Result<Names<'a>, ReasonCode> {
    let translated = grant.publish_up(topic).ok_or(ReasonCode::NOT_AUTHORIZED)?;
    let response = match response {
        Some(response) => Some(grant.response_up(topic, response).ok_or(ReasonCode::TOPIC_NAME_INVALID)?),
        None => None,
    };
    if translated.len() > longest || response.is_some_and(|response| response.len() > longest) {
        return Err(ReasonCode::TOPIC_NAME_INVALID);
    }
    Ok(Names { topic: translated, response })
}

/// A filter of a SUBSCRIBE, towards the PCM. A shared subscription's group becomes one of this grant alone.
///
/// # Errors
/// 0x87 if it can match nothing granted, 0x8F if it is longer than `longest` bytes after translation.
pub fn subscribe(grant: &Grant, keys: &Keys, filter: &str, longest: usize) -> Result<String, ReasonCode> {
    let translated = match split_shared(filter) {
        Some((group, inner)) => grant.filter_up(inner).map(|inner| shared(grant, keys, group, &inner)),
        None => grant.filter_up(filter),
    };
    match translated {
        None => Err(ReasonCode::NOT_AUTHORIZED),
        Some(filter) if filter.len() > longest => Err(ReasonCode::TOPIC_FILTER_INVALID),
        Some(filter) => Ok(filter),
    }
}

/// A filter of an UNSUBSCRIBE, towards the PCM; `None` if it can never have been subscribed.
pub fn unsubscribe(grant: &Grant, keys: &Keys, filter: &str) -> Option<String> {
    match split_shared(filter) {
        Some((group, inner)) => grant.unsubscribe_up(inner).map(|inner| shared(grant, keys, group, &inner)),
        None => grant.unsubscribe_up(filter),
    }
}

/// A PUBLISH from the PCM, towards the client; `None` if the client may not have it. A Response Topic that has no name
/// on the client's side is left out.
pub fn deliver<'a>(grant: &'a Grant, topic: &'a str, response: Option<&'a str>) -> Option<Names<'a>> {
    let topic = grant.deliver_down(topic)?;
    Some(Names { topic, response: response.and_then(|response| grant.response_down(response)) })
}

/// How a refused PUBLISH is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Not at all: QoS 0 has no answer.
    Silently,
    /// PUBACK with this code.
    PubAck(ReasonCode),
    /// PUBREC with this code, which ends the exchange if it is an error (MQTT 5 §4.3.3).
    PubRec(ReasonCode),
    /// PUBREC, and later PUBCOMP for the PUBREL: MQTT 3.1.1 cannot say no, so that it is acknowledged and dropped.
    PubRecAndFinish,
}

/// How a refused PUBLISH is answered: with `reason` in MQTT 5, acknowledged and dropped before it.
pub fn refused(version: Version, qos: QoS, reason: ReasonCode) -> Refused {
    match (qos, version) {
        (QoS::AtMostOnce, _) => Refused::Silently,
        (QoS::AtLeastOnce, Version::V5) => Refused::PubAck(reason),
        (QoS::AtLeastOnce, Version::V31 | Version::V311) => Refused::PubAck(ReasonCode::SUCCESS),
        (QoS::ExactlyOnce, Version::V5) => Refused::PubRec(reason),
        (QoS::ExactlyOnce, Version::V31 | Version::V311) => Refused::PubRecAndFinish,
    }
}

fn shared(grant: &Grant, keys: &Keys, group: &str, filter: &str) -> String {
    format!("$share/{}/{filter}", keys.group(&grant.sid, group))
}
