//! SUBSCRIBE and UNSUBSCRIBE (§3.8, §3.10).

use crate::broker::{Broker, group_name};
use crate::message::Routed;
use crate::publish::Parcel;
use crate::session::Subscribed;
use crate::tree::{Entry, shared};
use mqtt_wire::{
    Packet, Properties, Property, ReasonCode, RetainHandling, SubAck, Subscribe, Subscription, UnsubAck,
    Unsubscribe,
};

impl Broker {
    pub(crate) fn subscribed(
        &mut self,
        connection: usize,
        session: usize,
        subscribe: &Subscribe<'_>,
        now: u64,
    ) {
        let id = subscribe.properties.subscription_identifier().unwrap_or(0);
        let mut codes = Vec::new();
        let mut accepted = Vec::new();
        for subscription in subscribe.filters.iter() {
            let code = match self.subscribe(session, &subscription, id) {
                Ok(is_new) => {
                    accepted.push((subscription, sends_retained(&subscription, is_new)));
                    ReasonCode(subscription.qos.bits())
                }
                Err(reason) => {
                    self.count_refusal(reason);
                    reason
                }
            };
            codes.push(code.0);
        }
        let packet_id = subscribe.packet_id;
        let suback =
            |words| Packet::SubAck(SubAck { packet_id, properties: Properties::list(words), codes: &codes });
        let Some(link) = self.connections.get_mut(&connection) else { return };
        let words =
            codes.iter().find_map(|code| explanation(ReasonCode(*code))).filter(|_| link.wants_reasons);
        let words = words.map(Property::ReasonString);
        if link.send(&suback(words.as_slice())) || link.send(&suback(&[])) {
            self.attend(connection);
        }
        for (subscription, is_due) in accepted {
            if is_due {
                self.send_retained(session, &subscription, id, now);
            }
            self.tell_subscriber(session, &subscription, id, is_due, now);
        }
    }

    /// Adds or replaces one subscription; answers whether it is new.
    fn subscribe(
        &mut self,
        id: usize,
        wanted: &Subscription<'_>,
        identifier: u32,
    ) -> Result<bool, ReasonCode> {
        let (group, filter) = shared(wanted.filter);
        if filter.split('/').count() > self.limits.topic_levels {
            return Err(ReasonCode::TOPIC_FILTER_INVALID);
        }
        let session = self.sessions.get_mut(id).ok_or(ReasonCode::UNSPECIFIED_ERROR)?;
        if !self.policy.may_subscribe(session.sid.as_ref(), filter) {
            return Err(ReasonCode::NOT_AUTHORIZED);
        }
        if session.expiry > 0 && self.log.refuses() {
            return Err(ReasonCode::QUOTA_EXCEEDED);
        }
        let entry = Entry {
            session: id,
            qos: wanted.qos,
            no_local: wanted.no_local,
            retain_as_published: wanted.retain_as_published,
            id: identifier,
        };
        let at = session.subscriptions.iter().position(|known| *known.filter == *wanted.filter);
        if at.is_none() && session.subscriptions.len() >= self.limits.subscriptions {
            return Err(ReasonCode::QUOTA_EXCEEDED);
        }
        let subscribed = Subscribed { filter: wanted.filter.into(), entry };
        self.log.subscribed(id, session, &subscribed);
        match at.and_then(|at| session.subscriptions.get_mut(at)) {
            Some(known) => *known = subscribed,
            None => session.subscriptions.push(subscribed),
        }
        let group = group.map(|group| group_name(session.sid.as_ref(), group));
        self.tree.insert(filter, group.as_deref(), entry);
        Ok(at.is_none())
    }

    /// Delivers what is retained for a new subscription (§3.3.1.3): what the grant covers now and covered when it was
    /// published.
    fn send_retained(&mut self, id: usize, wanted: &Subscription<'_>, identifier: u32, now: u64) {
        let Some(sid) = self.sessions.get(id).map(|session| session.sid.clone()) else { return };
        let found: Vec<_> = self
            .retained
            .matching(wanted.filter)
            .filter_map(|(topic, kept)| kept.seen_by(&self.policy, sid.as_ref(), topic))
            .filter(|stored| !stored.message.is_expired(now))
            .cloned()
            .collect();
        let ids: &[u32] = if identifier == 0 { &[] } else { &[identifier] };
        for stored in found {
            let parcel = Parcel { qos: stored.qos.min(wanted.qos), retain: true, ids };
            if !self.deliver(id, &Routed::of(&stored.message), parcel, now) {
                self.dropped += 1;
            }
        }
    }

    pub(crate) fn unsubscribed(&mut self, connection: usize, session: usize, unsubscribe: &Unsubscribe<'_>) {
        let mut codes = Vec::new();
        for filter in unsubscribe.filters.iter() {
            let existed = self.unsubscribe(session, filter);
            codes.push(if existed { ReasonCode::SUCCESS } else { ReasonCode::NO_SUBSCRIPTION_EXISTED }.0);
        }
        let packet_id = unsubscribe.packet_id;
        let answer = UnsubAck { packet_id, properties: Properties::EMPTY, codes: &codes };
        self.send(connection, &Packet::UnsubAck(answer));
    }

    pub(crate) fn unsubscribe(&mut self, id: usize, filter: &str) -> bool {
        let Some(session) = self.sessions.get_mut(id) else { return false };
        let Some(at) = session.subscriptions.iter().position(|known| *known.filter == *filter) else {
            return false;
        };
        session.subscriptions.remove(at);
        self.log.unsubscribed(id, session, filter);
        let (group, inner) = shared(filter);
        let group = group.map(|group| group_name(session.sid.as_ref(), group));
        self.tree.remove(inner, group.as_deref(), id);
        true
    }
}

/// Why a filter was refused, for people (§3.9.2.1.2).
const fn explanation(reason: ReasonCode) -> Option<&'static str> {
    match reason {
        ReasonCode::NOT_AUTHORIZED => Some("the grant does not cover the filter"),
        ReasonCode::QUOTA_EXCEEDED => Some("too many subscriptions"),
        ReasonCode::TOPIC_FILTER_INVALID => Some("too many levels"),
        _ => None,
    }
}

/// Whether retained messages are due (§3.8.3.1); never for shared subscriptions (§4.8.2).
fn sends_retained(subscription: &Subscription<'_>, is_new: bool) -> bool {
    let (group, _) = shared(subscription.filter);
    group.is_none()
        && match subscription.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DontSend => false,
        }
}
