//! One session's packets, judged and translated: pure, frames in, packets and steps out.
//!
//! Keeps what MQTT makes a relay remember: topic aliases of the client's hop, which SUBSCRIBE answers must be merged with
//! refusals (`subscriptions`), and which QoS 2 exchanges are finished here because the other side never saw them. Everything
//! else is the PCM's state. A message on its way takes nothing from the allocator. Reading, writing and time limits are the
//! parent module's.

use std::sync::Arc;

use mqtt_wire::{
    Ack, Auth, Disconnect, Packet, PacketType, Properties, Property, Publish, QoS, ReasonCode, SubAck,
    UnsubAck, Version,
};
use zeroize::Zeroizing;

use super::aliases::{Given, Naming, Taken};
use super::ids::PacketIds;
use super::outbox::Outbox;
use super::queue::Queue;
use super::subscriptions::Subscriptions;
use crate::cause::{Cause, words};
use crate::keys::Keys;
use crate::policy::{self, Grant, Refused};

/// The one authentication method (MQTT 5 §4.12).
pub(crate) const METHOD: &str = "Bearer";

/// What the two sides agreed on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Spoken on both hops.
    pub(crate) version: Version,
    /// The client asked for the method `Bearer`, so that it may re-authenticate.
    pub(crate) enhanced: bool,
    /// The client takes reason strings everywhere (MQTT 5 §3.1.2.11.7).
    pub(crate) words: bool,
    /// Topic aliases that the client takes, [`super::TOPIC_ALIASES`] at most.
    pub(crate) aliases: u16,
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
    /// Nothing but writing what came of it.
    Continue,
    /// Checks this token; the session goes on meanwhile.
    Reauthenticate(Zeroizing<String>),
    /// Ends the session.
    End(Cause),
}

/// One session's packet state.
pub(crate) struct Exchange {
    pub(super) terms: Terms,
    pub(super) keys: Arc<Keys>,
    pub(super) grant: Arc<Grant>,
    /// What the client's socket did not take at once.
    pub(crate) to_client: Queue,
    /// What the PCM's socket did not take at once.
    pub(crate) to_pcm: Queue,
    taken: Taken,
    given: Given,
    pub(super) subscriptions: Subscriptions,
    /// The client's QoS 2 messages that were acknowledged and dropped: their PUBREL is answered here.
    dropped_up: PacketIds,
    /// The PCM's QoS 2 messages that were dropped: their PUBREL is answered here.
    dropped_down: PacketIds,
}

impl Exchange {
    pub(crate) fn new(terms: Terms, keys: Arc<Keys>, grant: Arc<Grant>) -> Self {
        Self {
            terms,
            keys,
            grant,
            to_client: Queue::default(),
            to_pcm: Queue::default(),
            taken: Taken::default(),
            given: Given::default(),
            subscriptions: Subscriptions::default(),
            dropped_up: PacketIds::default(),
            dropped_down: PacketIds::default(),
        }
    }

    /// Does what makes packets without any having come; they queue up behind what waits.
    pub(super) fn aside(&mut self, make: impl FnOnce(&mut Self, &mut Outbox)) {
        let mut out = Outbox::default();
        make(self, &mut out);
        for (batch, queue) in [(&out.to_client, &mut self.to_client), (&out.to_pcm, &mut self.to_pcm)] {
            batch.spill(&[], 0, queue);
        }
    }

    pub(crate) fn grant(&self) -> &Arc<Grant> {
        &self.grant
    }

    /// From now on `grant` decides, also about what waits for the client: the client may be slow to take it.
    pub(crate) fn replace_grant(&mut self, grant: Arc<Grant>, out: &mut Outbox) {
        if self.grant.role != grant.role {
            let before = Arc::clone(&self.grant);
            self.leave_out(|topic| grant.may_still_receive(&before, topic), out);
        }
        self.grant = grant;
    }

    /// Leaves out the deliveries that wait for the client and are not `wanted` any more, by the client's name of their
    /// topic.
    fn leave_out(&mut self, wanted: impl Fn(&str) -> bool, out: &mut Outbox) {
        let version = self.terms.version;
        let (mut dropped, mut unset) = (Vec::new(), Vec::new());
        let given = &self.given;
        self.to_client.retain(|frame| match Packet::decode(frame, version) {
            Ok(Packet::Publish(publish)) => {
                let alias = publish.properties.topic_alias();
                let topic = match alias.filter(|_| publish.topic.is_empty()) {
                    Some(alias) => given.topic(alias).unwrap_or_default(),
                    None => publish.topic,
                };
                let stays = wanted(topic);
                if !stays {
                    dropped.push((publish.qos, publish.packet_id));
                    unset.extend(alias.filter(|_| !publish.topic.is_empty()));
                }
                stays
            }
            _ => true,
        });
        for alias in unset {
            self.given.unset(alias);
        }
        for (qos, id) in dropped {
            // A short acknowledgement, which fits.
            let _ = self.drop_down(qos, id, out);
        }
    }

    /// The session ends: a MQTT 5 client is told why; older versions have no word for it. If the right to the session is over,
    /// nothing that waits counts any more, and the PCM is told that the client left in order: its will must not be
    /// published.
    pub(crate) fn say_goodbye(&mut self, cause: Cause, out: &mut Outbox) {
        if cause.ends_the_right() || matches!(cause, Cause::PcmEnded(_) | Cause::PcmGone) {
            self.leave_out(|_| false, out);
        }
        if cause.ends_the_right() {
            self.to_pcm.retain(|_| false);
            out.to_pcm.clear();
            let nothing_stays = [Property::SessionExpiryInterval(0)];
            // A token that ended is no grant that ended: what waits for the client's next token stays.
            let gone = cause == Cause::Revoked && self.terms.version == Version::V5;
            let properties = if gone { Properties::list(&nothing_stays) } else { Properties::EMPTY };
            let left = Disconnect { reason: ReasonCode::NORMAL_DISCONNECTION, properties };
            let _ = self.pcm(&Packet::Disconnect(left), out);
        }
        if self.terms.version == Version::V5 {
            let row = cause.row();
            let words = [Property::ReasonString(row.text)];
            let spoken =
                Packet::Disconnect(Disconnect { reason: row.v5, properties: Properties::list(&words) });
            let silent = Packet::Disconnect(Disconnect::new(row.v5));
            let _ = self.client(if self.fits(&spoken) { &spoken } else { &silent }, out);
        }
    }

    /// Re-authentication succeeded.
    pub(crate) fn reauthenticated(&mut self, out: &mut Outbox) {
        let properties = [Property::AuthenticationMethod(METHOD)];
        let auth = Auth { reason: ReasonCode::SUCCESS, properties: Properties::list(&properties) };
        let _ = self.client(&Packet::Auth(auth), out);
    }

    /// One packet from the client, which begins `at` in the input.
    pub(crate) fn take_from_client(&mut self, frame: &[u8], at: usize, out: &mut Outbox) -> Step {
        let packet = match Packet::decode(frame, self.terms.version) {
            Ok(packet) => packet,
            Err(error) => return Step::End(Cause::Malformed(error)),
        };
        let done = match packet {
            Packet::Publish(publish) => self.publish_up(publish, at + frame.len(), out),
            Packet::PubAck(ack) => self.pcm(&Packet::PubAck(Ack::new(ack.packet_id, ack.reason)), out),
            Packet::PubRec(ack) => self.pcm(&Packet::PubRec(Ack::new(ack.packet_id, ack.reason)), out),
            Packet::PubComp(ack) => self.pcm(&Packet::PubComp(Ack::new(ack.packet_id, ack.reason)), out),
            Packet::PubRel(ack) if self.dropped_up.remove(ack.packet_id) => {
                self.client(&Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS)), out)
            }
            Packet::PubRel(ack) => self.pcm(&Packet::PubRel(Ack::new(ack.packet_id, ack.reason)), out),
            Packet::Subscribe(subscribe) => self.subscribe_up(&subscribe, out),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe_up(&unsubscribe, out),
            Packet::PingReq => self.client(&Packet::PingResp, out),
            Packet::Disconnect(disconnect) => {
                let kept =
                    disconnect.properties.session_expiry_interval().map(Property::SessionExpiryInterval);
                let properties = Properties::list(kept.as_slice());
                let goodbye = Disconnect { reason: disconnect.reason, properties };
                let _ = self.pcm(&Packet::Disconnect(goodbye), out);
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

    /// One packet from the PCM, which begins `at` in the input.
    pub(crate) fn take_from_pcm(&mut self, frame: &[u8], at: usize, out: &mut Outbox) -> Step {
        let Ok(packet) = Packet::decode(frame, self.terms.version) else {
            return Step::End(Cause::PcmGone);
        };
        let done = match packet {
            Packet::Publish(publish) => self.publish_down(publish, at + frame.len(), out),
            // Texts in acknowledgements pass neither way; those of the PCM may name what the client knows by other names.
            Packet::PubAck(ack) => self.acknowledge(PacketType::PubAck, ack, out),
            Packet::PubRec(ack) => self.acknowledge(PacketType::PubRec, ack, out),
            Packet::PubComp(ack) => self.acknowledge(PacketType::PubComp, ack, out),
            Packet::PubRel(ack) if self.dropped_down.remove(ack.packet_id) => {
                self.pcm(&Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::SUCCESS)), out)
            }
            Packet::PubRel(ack) => self.acknowledge(PacketType::PubRel, ack, out),
            Packet::SubAck(SubAck { packet_id, codes, .. }) => {
                let codes = self.subscriptions.merged(packet_id, codes, true);
                self.suback(packet_id, &codes, out)
            }
            Packet::UnsubAck(UnsubAck { packet_id, codes, .. }) => {
                let codes = self.subscriptions.merged(packet_id, codes, false);
                self.unsuback(packet_id, &codes, out)
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

    pub(super) fn client(&self, packet: &Packet<'_>, out: &mut Outbox) -> Result<(), Cause> {
        // What this relay builds has the lengths of what it read, so that only a PCM's nonsense can fail here.
        out.to_client.push(packet, self.terms.version).map_err(|_| Cause::PcmGone)
    }

    pub(super) fn pcm(&self, packet: &Packet<'_>, out: &mut Outbox) -> Result<(), Cause> {
        out.to_pcm.push(packet, self.terms.version).map_err(|_| Cause::Quota)
    }

    /// An acknowledgement to the client, with this gateway's own words for what went wrong if the client has room for them.
    fn acknowledge(&self, kind: PacketType, ack: Ack<'_>, out: &mut Outbox) -> Result<(), Cause> {
        let silent = Ack::new(ack.packet_id, ack.reason);
        let words = self.words(ack.reason).map(Property::ReasonString);
        let spoken = handshake_step(kind, Ack { properties: Properties::list(words.as_slice()), ..silent });
        match words {
            Some(_) if self.fits(&spoken) => self.client(&spoken, out),
            Some(_) | None => self.client(&handshake_step(kind, silent), out),
        }
    }

    /// What this gateway says about `reason`, if the client wants to hear it.
    pub(super) fn words(&self, reason: ReasonCode) -> Option<&'static str> {
        words(reason).filter(|_| self.terms.words && self.terms.version == Version::V5)
    }

    pub(super) fn fits(&self, packet: &Packet<'_>) -> bool {
        packet.encoded_len(self.terms.version) <= self.terms.client_packet
    }

    fn publish_up(&mut self, publish: Publish<'_>, end: usize, out: &mut Outbox) -> Result<(), Cause> {
        let topic = match publish.properties.topic_alias() {
            Some(alias) => self.taken.resolve(alias, publish.topic)?,
            None => publish.topic,
        };
        let response = publish.properties.response_topic();
        let reason = match policy::publish(&self.grant, topic, response, self.terms.topic) {
            Ok(names) => {
                let Outbox { to_pcm, topic, response, properties, .. } = out;
                let response = names.response.map(|name| Property::ResponseTopic(name.in_buffer(response)));
                let properties = carried(publish.properties, response, properties)?;
                let forwarded = Publish { topic: names.topic.in_buffer(topic), properties, ..publish };
                let payload = end - publish.payload.len()..end;
                match to_pcm.push_publish(&forwarded, self.terms.version, self.terms.pcm_packet, payload) {
                    Ok(()) => return Ok(()),
                    Err(_) => ReasonCode::QUOTA_EXCEEDED,
                }
            }
            Err(reason) => reason,
        };
        let id = publish.packet_id.unwrap_or_default();
        match policy::refused(self.terms.version, publish.qos, reason) {
            Refused::Silently => Ok(()),
            Refused::PubAck(reason) => self.acknowledge(PacketType::PubAck, Ack::new(id, reason), out),
            Refused::PubRec(reason) => self.acknowledge(PacketType::PubRec, Ack::new(id, reason), out),
            Refused::PubRecAndFinish => {
                self.dropped_up.insert(id);
                self.client(&Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)), out)
            }
        }
    }

    fn publish_down(&mut self, publish: Publish<'_>, end: usize, out: &mut Outbox) -> Result<(), Cause> {
        let names = policy::deliver(&self.grant, publish.topic, publish.properties.response_topic());
        if let Some(names) = names {
            let Outbox { to_client, topic, response, properties, .. } = out;
            let topic = names.topic.in_buffer(topic);
            let naming = self.given.naming(topic, self.terms.aliases);
            let response = names.response.map(|name| Property::ResponseTopic(name.in_buffer(response)));
            let alias = match naming {
                Naming::InFull => None,
                Naming::Sets(alias) | Naming::By(alias) => Some(Property::TopicAlias(alias)),
            };
            let properties = carried(publish.properties, response.into_iter().chain(alias), properties)?;
            let named = if matches!(naming, Naming::By(_)) { "" } else { topic };
            let delivered = Publish { topic: named, properties, ..publish };
            let payload = end - publish.payload.len()..end;
            let (version, longest) = (self.terms.version, self.terms.client_packet);
            if to_client.push_publish(&delivered, version, longest, payload).is_ok() {
                if let Naming::Sets(alias) = naming {
                    self.given.set(alias, topic);
                }
                return Ok(());
            }
        }
        self.drop_down(publish.qos, publish.packet_id, out)
    }

    /// Completes a delivery that the client does not get: the PCM must not wait for an answer that cannot come.
    fn drop_down(&mut self, qos: QoS, id: Option<u16>, out: &mut Outbox) -> Result<(), Cause> {
        match (qos, id) {
            (QoS::AtMostOnce, _) | (_, None) => Ok(()),
            (QoS::AtLeastOnce, Some(id)) => self.pcm(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)), out),
            (QoS::ExactlyOnce, Some(id)) => {
                self.dropped_down.insert(id);
                self.pcm(&Packet::PubRec(Ack::new(id, ReasonCode::SUCCESS)), out)
            }
        }
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

/// One step of a QoS 1 or 2 handshake; PUBACK unless `kind` is another one.
fn handshake_step(kind: PacketType, ack: Ack<'_>) -> Packet<'_> {
    match kind {
        PacketType::PubRec => Packet::PubRec(ack),
        PacketType::PubRel => Packet::PubRel(ack),
        PacketType::PubComp => Packet::PubComp(ack),
        _ => Packet::PubAck(ack),
    }
}

/// A PUBLISH's properties for the other hop, put together in `buffer`: all but topic alias and Response Topic, then the hop's
/// `own`.
fn carried<'b>(
    properties: Properties<'_>,
    own: impl IntoIterator<Item = Property<'b>>,
    buffer: &'b mut Vec<u8>,
) -> Result<Properties<'b>, Cause> {
    buffer.clear();
    let of_the_message =
        |property: &Property<'_>| !matches!(property, Property::TopicAlias(_) | Property::ResponseTopic(_));
    let mut appended = properties.encode_where(of_the_message, buffer);
    for property in own {
        appended = appended.and(Properties::list(&[property]).encode_where(|_| true, buffer));
    }
    appended.map_err(|_| Cause::Quota)?;
    Ok(Properties::joined(buffer, &[]))
}
