//! SUBSCRIBE and UNSUBSCRIBE: what of them goes to the PCM, and the answers that are put together from its and this gateway's.

use mqtt_wire::{
    Filters, Packet, Properties, Property, ReasonCode, SubAck, Subscribe, Subscription, TopicFilters,
    UnsubAck, Unsubscribe,
};

use super::exchange::Exchange;
use super::outbox::Outbox;
use crate::cause::Cause;
use crate::policy;

/// Most filters that wait for the PCM's answer at once.
const FILTERS_IN_FLIGHT: usize = 4096;

/// What waits for the PCM's answer.
#[derive(Default)]
pub(super) struct Subscriptions {
    waiting: Vec<Waiting>,
    filters: usize,
}

struct Waiting {
    packet_id: u16,
    subscribing: bool,
    /// An answer for each filter, `None` where the PCM's comes.
    answers: Box<[Option<u8>]>,
}

impl Subscriptions {
    /// Keeps the answers given here until the PCM's come. A client that uses an identifier that is in use breaks the
    /// protocol (MQTT 5 §2.2.1), and its answers could not be told apart.
    fn remember(&mut self, packet_id: u16, answers: Vec<Option<u8>>, subscribing: bool) -> Result<(), Cause> {
        if self.waiting.iter().any(|waiting| waiting.packet_id == packet_id) {
            return Err(Cause::OutOfOrder);
        }
        self.filters += answers.len();
        self.waiting.push(Waiting { packet_id, subscribing, answers: answers.into_boxed_slice() });
        Ok(())
    }

    fn has_room_for(&self, filters: usize) -> bool {
        self.filters + filters <= FILTERS_IN_FLIGHT
    }

    /// The PCM's codes with this relay's own at their places.
    pub(super) fn merged(&mut self, packet_id: u16, codes: &[u8], subscribing: bool) -> Vec<u8> {
        let asked = |waiting: &Waiting| waiting.packet_id == packet_id && waiting.subscribing == subscribing;
        let Some(at) = self.waiting.iter().position(asked) else { return codes.to_vec() };
        let answers = self.waiting.swap_remove(at).answers;
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        self.filters -= answers.len();
        let mut theirs = codes.iter().copied();
        let own = answers.iter().copied();
        own.map(|own| own.or_else(|| theirs.next()).unwrap_or(ReasonCode::UNSPECIFIED_ERROR.0)).collect()
    }
}

impl Exchange {
    pub(super) fn subscribe_up(&mut self, subscribe: &Subscribe<'_>, out: &mut Outbox) -> Result<(), Cause> {
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
        let identifier = subscribe.properties.subscription_identifier().map(Property::SubscriptionIdentifier);
        let forwarded = Packet::Subscribe(Subscribe {
            packet_id: subscribe.packet_id,
            properties: Properties::list(identifier.as_slice()),
            filters: Filters::list(&translated),
        });
        let fits = forwarded.encoded_len(self.terms.version) <= self.terms.pcm_packet;
        if translated.is_empty() || !fits || !self.subscriptions.has_room_for(answers.len()) {
            let codes: Vec<u8> =
                answers.iter().map(|answer| answer.unwrap_or(ReasonCode::QUOTA_EXCEEDED.0)).collect();
            return self.suback(subscribe.packet_id, &codes, out);
        }
        self.pcm(&forwarded, out)?;
        self.subscriptions.remember(subscribe.packet_id, answers, true)
    }

    pub(super) fn unsubscribe_up(
        &mut self,
        unsubscribe: &Unsubscribe<'_>,
        out: &mut Outbox,
    ) -> Result<(), Cause> {
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
        let fits = forwarded.encoded_len(self.terms.version) <= self.terms.pcm_packet;
        if translated.is_empty() || !fits || !self.subscriptions.has_room_for(answers.len()) {
            let codes: Vec<u8> = answers
                .iter()
                .map(|answer| answer.unwrap_or(ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR.0))
                .collect();
            return self.unsuback(unsubscribe.packet_id, &codes, out);
        }
        self.pcm(&forwarded, out)?;
        self.subscriptions.remember(unsubscribe.packet_id, answers, false)
    }

    pub(super) fn suback(&self, packet_id: u16, codes: &[u8], out: &mut Outbox) -> Result<(), Cause> {
        // There is one text for all filters: the first refusal's.
        let words = codes.iter().find_map(|code| self.words(ReasonCode(*code))).map(Property::ReasonString);
        let spoken = SubAck { packet_id, properties: Properties::list(words.as_slice()), codes };
        let silent = Packet::SubAck(SubAck { properties: Properties::EMPTY, ..spoken });
        let spoken = Packet::SubAck(spoken);
        self.client(if self.fits(&spoken) { &spoken } else { &silent }, out)
    }

    pub(super) fn unsuback(&self, packet_id: u16, codes: &[u8], out: &mut Outbox) -> Result<(), Cause> {
        let unsuback = UnsubAck { packet_id, properties: Properties::EMPTY, codes };
        self.client(&Packet::UnsubAck(unsuback), out)
    }
}
