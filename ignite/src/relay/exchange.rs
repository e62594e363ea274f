//! One session's packets, judged and translated: pure, frames in, bytes and steps out.
//!
//! Keeps what MQTT makes a relay remember: topic aliases of the client's hop, which SUBSCRIBE answers must be merged with
//! refusals, and which QoS 2 exchanges are finished here because the other side never saw them. Everything else is the
//! PCM's state. Reading, writing and time limits are the parent module's.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mqtt_wire::{
    Ack, Auth, Disconnect, Filters, Packet, Properties, Property, Publish, ReasonCode, SubAck, Subscribe,
    Subscription, TopicFilters, UnsubAck, Unsubscribe, Version,
};
use zeroize::Zeroizing;

use super::queue::Queue;
use crate::cause::Cause;
use crate::keys::Keys;
use crate::policy::{self, Grant, Refused};

/// Topic aliases that a client may use (MQTT 5 §3.2.2.3.8). On the PCM's hop there are none.
pub(crate) const TOPIC_ALIASES: u16 = 16;

/// The one authentication method (MQTT 5 §4.12).
pub(crate) const METHOD: &str = "Bearer";

/// Most filters that wait for the PCM's answer at once.
const FILTERS_IN_FLIGHT: usize = 4096;

/// What the two sides agreed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Spoken on both hops.
    pub(crate) version: Version,
    /// The client asked for the method `Bearer`, so that it may re-authenticate.
    pub(crate) enhanced: bool,
    /// Longest packet that the client takes.
    pub(crate) client_packet: usize,
    /// Longest packet that the PCM takes.
    pub(crate) pcm_packet: usize,
    /// Longest topic after translation.
    pub(crate) topic: usize,
}

/// What the relay does after a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing but writing what is queued.
    Continue,
    /// Checks this token; the session goes on meanwhile.
    Reauthenticate(Zeroizing<String>),
    /// Ends the session.
    End(Cause),
}

/// One session's packet state.
pub(crate) struct Exchange {
    terms: Terms,
    keys: Arc<Keys>,
    grant: Arc<Grant>,
    /// Towards the client.
    pub(crate) to_client: Queue,
    /// Towards the PCM.
    pub(crate) to_pcm: Queue,
    aliases: Vec<Option<String>>,
    /// By packet identifier: an answer for each filter, `None` where the PCM's comes.
    subscribing: HashMap<u16, Vec<Option<u8>>>,
    unsubscribing: HashMap<u16, Vec<Option<u8>>>,
    filters_in_flight: usize,
    /// The client's QoS 2 messages that were acknowledged and dropped: their PUBREL is answered here.
    dropped_up: HashSet<u16>,
    /// The PCM's QoS 2 messages that were dropped: their PUBREL is answered here.
    dropped_down: HashSet<u16>,
}

impl Exchange {
    pub(crate) fn new(terms: Terms, keys: Arc<Keys>, grant: Arc<Grant>) -> Self {
        Self {
            terms,
            keys,
            grant,
            to_client: Queue::default(),
            to_pcm: Queue::default(),
            aliases: vec![None; usize::from(TOPIC_ALIASES)],
            subscribing: HashMap::new(),
            unsubscribing: HashMap::new(),
            filters_in_flight: 0,
            dropped_up: HashSet::new(),
            dropped_down: HashSet::new(),
        }
    }

    pub(crate) fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// From now on `grant` decides, also about what waits for the client: the client may be slow to take it.
    pub(crate) fn replace_grant(&mut self, grant: Arc<Grant>) {
        if self.grant.role != grant.role {
            let before = Arc::clone(&self.grant);
            self.leave_out(|topic| grant.may_still_receive(&before, topic));
        }
        self.grant = grant;
    }

    /// Leaves out the deliveries that wait for the client and are not `wanted` any more, by the client's name of their
    /// topic.
    fn leave_out(&mut self, wanted: impl Fn(&str) -> bool) {
        let version = self.terms.version;
        let mut dropped = Vec::new();
        self.to_client.retain(|frame| match Packet::decode(frame, version) {
            Ok(Packet::Publish(publish)) if !wanted(publish.topic) => {
                dropped.push((publish.qos, publish.packet_id));
                false
            }
            _ => true,
        });
        for (qos, id) in dropped {
            // A short acknowledgement, which fits.
            let _ = self.drop_down(qos, id);
        }
    }

    /// The session ends: a MQTT 5 client is told why; older versions have no word for it. If the right to the session is over,
    /// nothing that waits counts any more, and the PCM is told that the client left in order: its will must not be
    /// published.
    pub(crate) fn say_goodbye(&mut self, cause: Cause) {
        if cause.ends_the_right() || matches!(cause, Cause::PcmEnded(_) | Cause::PcmGone) {
            self.leave_out(|_| false);
        }
        if cause.ends_the_right() {
            self.to_pcm.retain(|_| false);
            let nothing_stays = [Property::SessionExpiryInterval(0)];
            // A token that ended is no grant that ended: what waits for the client's next token stays.
            let gone = cause == Cause::Revoked && self.terms.version == Version::V5;
            let properties = if gone { Properties::list(&nothing_stays) } else { Properties::EMPTY };
            let left = Disconnect { reason: ReasonCode::NORMAL_DISCONNECTION, properties };
            let _ = self.pcm(&Packet::Disconnect(left));
        }
        if self.terms.version == Version::V5 {
            let _ = self.client(&Packet::Disconnect(Disconnect::new(cause.row().v5)));
        }
    }

    /// Re-authentication succeeded.
    pub(crate) fn reauthenticated(&mut self) {
        let properties = [Property::AuthenticationMethod(METHOD)];
        let auth = Auth { reason: ReasonCode::SUCCESS, properties: Properties::list(&properties) };
        let _ = self.client(&Packet::Auth(auth));
    }

    /// One packet from the client.
    pub(crate) fn take_from_client(&mut self, frame: &[u8]) -> Step {
        let packet = match Packet::decode(frame, self.terms.version) {
            Ok(packet) => packet,
            Err(error) => return Step::End(Cause::Malformed(error)),
        };
        let done = match packet {
            Packet::Publish(publish) => self.publish_up(publish),
            Packet::PubAck(ack) => self.pcm(&Packet::PubAck(Ack::new(ack.packet_id, ack.reason))),
            Packet::PubRec(ack) => self.pcm(&Packet::PubRec(Ack::new(ack.packet_id, ack.reason))),
            Packet::PubComp(ack) => self.pcm(&Packet::PubComp(Ack::new(ack.packet_id, ack.reason))),
            Packet::PubRel(ack) if self.dropped_up.remove(&ack.packet_id) => {
                self.client(&Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS)))
            }
            Packet::PubRel(ack) => self.pcm(&Packet::PubRel(Ack::new(ack.packet_id, ack.reason))),
            Packet::Subscribe(subscribe) => self.subscribe_up(&subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe_up(&unsubscribe),
            Packet::PingReq => self.client(&Packet::PingResp),
            Packet::Disconnect(disconnect) => {
                let kept: Vec<_> = disconnect
                    .properties
                    .iter()
                    .filter(|property| matches!(property, Property::SessionExpiryInterval(_)))
                    .collect();
                let goodbye = Disconnect { reason: disconnect.reason, properties: Properties::list(&kept) };
                let _ = self.pcm(&Packet::Disconnect(goodbye));
                Err(Cause::ClientDisconnected)
            }
            Packet::Auth(auth) => return self.auth(&auth),
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp => Err(Cause::OutOfOrder),
        };
        done.map_or_else(Step::End, |()| Step::Continue)
    }

    /// One packet from the PCM.
    pub(crate) fn take_from_pcm(&mut self, frame: &[u8]) -> Step {
        let Ok(packet) = Packet::decode(frame, self.terms.version) else {
            return Step::End(Cause::PcmGone);
        };
        let done = match packet {
            Packet::Publish(publish) => self.publish_down(publish),
            // Texts in acknowledgements pass neither way; those of the PCM may name what the client knows by other names.
            Packet::PubAck(ack) => self.client(&Packet::PubAck(Ack::new(ack.packet_id, ack.reason))),
            Packet::PubRec(ack) => self.client(&Packet::PubRec(Ack::new(ack.packet_id, ack.reason))),
            Packet::PubComp(ack) => self.client(&Packet::PubComp(Ack::new(ack.packet_id, ack.reason))),
            Packet::PubRel(ack) if self.dropped_down.remove(&ack.packet_id) => {
                self.pcm(&Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS)))
            }
            Packet::PubRel(ack) => self.client(&Packet::PubRel(Ack::new(ack.packet_id, ack.reason))),
            Packet::SubAck(suback) => {
                let codes = self.merged(suback.packet_id, suback.codes, true);
                let suback = SubAck { codes: &codes, properties: Properties::EMPTY, ..suback };
                self.client(&Packet::SubAck(suback))
            }
            Packet::UnsubAck(unsuback) => {
                let codes = self.merged(unsuback.packet_id, unsuback.codes, false);
                let unsuback = UnsubAck { codes: &codes, properties: Properties::EMPTY, ..unsuback };
                self.client(&Packet::UnsubAck(unsuback))
            }
            Packet::PingResp => Ok(()),
            Packet::Disconnect(disconnect) => Err(Cause::PcmEnded(disconnect.reason)),
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq
            | Packet::Auth(_) => Err(Cause::PcmGone),
        };
        done.map_or_else(Step::End, |()| Step::Continue)
    }

    fn client(&mut self, packet: &Packet<'_>) -> Result<(), Cause> {
        // What this relay builds has the lengths of what it read, so that only a PCM's nonsense can fail here.
        self.to_client.push(packet, self.terms.version).map_err(|_| Cause::PcmGone)
    }

    fn pcm(&mut self, packet: &Packet<'_>) -> Result<(), Cause> {
        self.to_pcm.push(packet, self.terms.version).map_err(|_| Cause::Quota)
    }

    fn publish_up(&mut self, publish: Publish<'_>) -> Result<(), Cause> {
        let resolved = self.resolve_alias(&publish)?;
        let topic = resolved.as_deref().unwrap_or(publish.topic);
        let response = publish.properties.response_topic();
        let reason = match policy::publish(&self.grant, topic, response, self.terms.topic) {
            Ok(names) => {
                let properties = translated(publish.properties, names.response.as_deref());
                let properties = Properties::list(&properties);
                let forwarded = Publish { topic: &names.topic, properties, ..publish };
                match self.to_pcm.push_publish(&forwarded, self.terms.version, self.terms.pcm_packet) {
                    Ok(()) => return Ok(()),
                    Err(_) => ReasonCode::QUOTA_EXCEEDED,
                }
            }
            Err(reason) => reason,
        };
        let id = publish.packet_id.unwrap_or_default();
        match policy::refused(self.terms.version, publish.qos, reason) {
            Refused::Silently => Ok(()),
            Refused::PubAck(reason) => self.client(&Packet::PubAck(Ack::new(id, reason))),
            Refused::PubRec(reason) => self.client(&Packet::PubRec(Ack::new(id, reason))),
            Refused::PubRecAndFinish => {
                self.dropped_up.insert(id);
                self.client(&Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)))
            }
        }
    }

    /// The topic that an alias stands for; `None` if the packet has its topic itself (and perhaps sets an alias).
    fn resolve_alias(&mut self, publish: &Publish<'_>) -> Result<Option<String>, Cause> {
        let Some(alias) = publish.properties.topic_alias() else { return Ok(None) };
        let slot = self.aliases.get_mut(usize::from(alias).wrapping_sub(1)).ok_or(Cause::TopicAlias)?;
        if publish.topic.is_empty() {
            return slot.clone().map(Some).ok_or(Cause::OutOfOrder);
        }
        *slot = Some(publish.topic.to_owned());
        Ok(None)
    }

    fn publish_down(&mut self, publish: Publish<'_>) -> Result<(), Cause> {
        let names = policy::deliver(&self.grant, publish.topic, publish.properties.response_topic());
        if let Some(names) = names {
            let properties = translated(publish.properties, names.response.as_deref());
            let properties = Properties::list(&properties);
            let delivered = Publish { topic: &names.topic, properties, ..publish };
            if self.to_client.push_publish(&delivered, self.terms.version, self.terms.client_packet).is_ok() {
                return Ok(());
            }
        }
        self.drop_down(publish.qos, publish.packet_id)
    }

    /// Completes a delivery that the client does not get: the PCM must not wait for an answer that cannot come.
    fn drop_down(&mut self, qos: mqtt_wire::QoS, id: Option<u16>) -> Result<(), Cause> {
        match (qos, id) {
            (mqtt_wire::QoS::AtMostOnce, _) | (_, None) => Ok(()),
            (mqtt_wire::QoS::AtLeastOnce, Some(id)) => {
                self.pcm(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)))
            }
            (mqtt_wire::QoS::ExactlyOnce, Some(id)) => {
                self.dropped_down.insert(id);
                self.pcm(&Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)))
            }
        }
    }

    fn subscribe_up(&mut self, subscribe: &Subscribe<'_>) -> Result<(), Cause> {
        let mut answers = Vec::new();
        let mut filters = Vec::new();
        for wish in subscribe.filters.iter() {
            if answers.len() >= FILTERS_IN_FLIGHT {
                return Err(Cause::Quota);
            }
            match policy::subscribe(&self.grant, &self.keys, wish.filter, self.terms.topic) {
                Ok(filter) => {
                    answers.push(None);
                    filters.push((filter, wish));
                }
                Err(reason) => answers.push(Some(reason.0)),
            }
        }
        let translated: Vec<_> =
            filters.iter().map(|(filter, wish)| Subscription { filter: filter.as_str(), ..*wish }).collect();
        let identifier: Vec<_> = subscribe
            .properties
            .subscription_identifier()
            .map(Property::SubscriptionIdentifier)
            .into_iter()
            .collect();
        let forwarded = Packet::Subscribe(Subscribe {
            packet_id: subscribe.packet_id,
            properties: Properties::list(&identifier),
            filters: Filters::list(&translated),
        });
        let id = subscribe.packet_id;
        let fits = forwarded.encoded_len(self.terms.version) <= self.terms.pcm_packet;
        if translated.is_empty() || !fits || self.filters_in_flight + answers.len() > FILTERS_IN_FLIGHT {
            let codes: Vec<u8> =
                answers.iter().map(|answer| answer.unwrap_or(ReasonCode::QUOTA_EXCEEDED.0)).collect();
            return self.client(&Packet::SubAck(SubAck {
                packet_id: id,
                properties: Properties::EMPTY,
                codes: &codes,
            }));
        }
        self.pcm(&forwarded)?;
        self.remember(id, answers, true)
    }

    fn unsubscribe_up(&mut self, unsubscribe: &Unsubscribe<'_>) -> Result<(), Cause> {
        let mut answers = Vec::new();
        let mut filters = Vec::new();
        for filter in unsubscribe.filters.iter() {
            if answers.len() >= FILTERS_IN_FLIGHT {
                return Err(Cause::Quota);
            }
            match policy::unsubscribe(&self.grant, &self.keys, filter) {
                Some(filter) => {
                    answers.push(None);
                    filters.push(filter);
                }
                None => answers.push(Some(ReasonCode::NO_SUBSCRIPTION_EXISTED.0)),
            }
        }
        let translated: Vec<_> = filters.iter().map(String::as_str).collect();
        let forwarded = Packet::Unsubscribe(Unsubscribe {
            packet_id: unsubscribe.packet_id,
            properties: Properties::EMPTY,
            filters: TopicFilters::list(&translated),
        });
        let id = unsubscribe.packet_id;
        let fits = forwarded.encoded_len(self.terms.version) <= self.terms.pcm_packet;
        if translated.is_empty() || !fits || self.filters_in_flight + answers.len() > FILTERS_IN_FLIGHT {
            let codes: Vec<u8> = answers
                .iter()
                .map(|answer| answer.unwrap_or(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR.0))
                .collect();
            return self.client(&Packet::UnsubAck(UnsubAck {
                packet_id: id,
                properties: Properties::EMPTY,
                codes: &codes,
            }));
        }
        self.pcm(&forwarded)?;
        self.remember(id, answers, false)
    }

    /// Keeps the answers given here until the PCM's come. A client that uses an identifier that is in use breaks the
    /// protocol (MQTT 5 §2.2.1), and its answers could not be told apart.
    fn remember(&mut self, id: u16, answers: Vec<Option<u8>>, subscribing: bool) -> Result<(), Cause> {
        if self.subscribing.contains_key(&id) || self.unsubscribing.contains_key(&id) {
            return Err(Cause::OutOfOrder);
        }
        self.filters_in_flight += answers.len();
        let waiting = if subscribing { &mut self.subscribing } else { &mut self.unsubscribing };
        waiting.insert(id, answers);
        Ok(())
    }

    /// The PCM's codes with this relay's own at their places.
    fn merged(&mut self, id: u16, codes: &[u8], subscribing: bool) -> Vec<u8> {
        let waiting = if subscribing { &mut self.subscribing } else { &mut self.unsubscribing };
        let Some(answers) = waiting.remove(&id) else { return codes.to_vec() };
        self.filters_in_flight -= answers.len();
        let mut theirs = codes.iter().copied();
        answers
            .into_iter()
            .map(|own| own.or_else(|| theirs.next()).unwrap_or(ReasonCode::UNSPECIFIED_ERROR.0))
            .collect()
    }

    /// AUTH from the client (MQTT 5 §4.12.1): only re-authentication, only with the method of the CONNECT.
    fn auth(&self, auth: &Auth<'_>) -> Step {
        let method = auth.properties.authentication_method();
        if !self.terms.enhanced || auth.reason != ReasonCode::RE_AUTHENTICATE || method != Some(METHOD) {
            return Step::End(Cause::OutOfOrder);
        }
        match auth.properties.authentication_data().and_then(|data| std::str::from_utf8(data).ok()) {
            Some(token) => Step::Reauthenticate(Zeroizing::new(token.to_owned())),
            None => Step::End(Cause::ReauthenticationRefused),
        }
    }
}

/// A PUBLISH's properties for the other hop: without its topic alias, with the Response Topic's other name or none.
fn translated<'a>(properties: Properties<'a>, response: Option<&'a str>) -> Vec<Property<'a>> {
    properties
        .iter()
        .filter_map(|property| match property {
            Property::TopicAlias(_) => None,
            Property::ResponseTopic(_) => response.map(Property::ResponseTopic),
            other => Some(other),
        })
        .collect()
}
