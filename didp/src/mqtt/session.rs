//! The packets of a device that is logged in.

use std::time::Duration;

use mqtt_wire::{
    Ack, Disconnect, Packet, Properties, Property, Publish, QoS, ReasonCode, SubAck, Subscribe, UnsubAck,
    Unsubscribe, Version,
};
use oauth_wire::RequestTopic;
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::link::{End, Link};
use super::login::{Accepted, RECEIVE_MAXIMUM};
use super::requests;
use crate::flows::claim;
use crate::hub::{ClaimMessage, Seat};
use crate::state::App;

/// Requests that a client may send at once; it earns one more with each [`REFILL`].
const BURST: u32 = 30;
const REFILL: Duration = Duration::from_millis(500);

/// Where an answer goes: always this connection, under the topic that the request named.
struct ReplyTo {
    topic: String,
    correlation: Option<Vec<u8>>,
}

struct Session<'a> {
    app: &'a App,
    link: &'a mut Link,
    client_id: &'a str,
    seat: Seat<'a>,
    /// QoS 2 packet ids that were received but not released yet.
    unreleased: Vec<u16>,
    /// Who asked for the claim window that may be open.
    claim: Option<ReplyTo>,
    budget_full_at: Instant,
}

/// What a packet asks for, apart from the buffer that it stands in.
enum Wish {
    Nothing,
    Request { topic: RequestTopic, payload: Zeroizing<Vec<u8>>, reply: ReplyTo },
}

/// Serves the device until its connection ends.
pub(super) async fn run(app: &App, link: &mut Link, accepted: &Accepted) -> Result<(), End> {
    let client_id = accepted.client_id.as_str();
    let seat = app.hub.enter(client_id);
    let connection = seat.connection;
    let mut session = Session {
        app,
        link,
        client_id,
        seat,
        unreleased: Vec::new(),
        claim: None,
        budget_full_at: Instant::now(),
    };
    let ended = session.packets(accepted.patience).await;
    let had_window = session.claim.is_some();
    if let Err(End::Reason(reason)) = &ended {
        session.say_goodbye(*reason).await;
    }
    drop(session);
    if had_window && let Err(refusal) = Box::pin(claim::connection_lost(app, client_id, connection)).await {
        refusal.log("claim_not_undone");
    }
    ended
}

impl Session<'_> {
    async fn packets(&mut self, patience: Duration) -> Result<(), End> {
        let mut deadline = Instant::now() + patience;
        loop {
            tokio::select! {
                received = self.link.receive() => {
                    received?;
                    deadline = Instant::now() + patience;
                    match self.packet().await? {
                        None => return Err(End::Closed),
                        Some(Wish::Nothing) => {}
                        Some(Wish::Request { topic, payload, reply }) => self.request(topic, &payload, reply).await?,
                    }
                }
                Some(message) = self.seat.messages.recv() => self.push(message).await?,
                () = self.seat.taken_over.cancelled() => return Err(End::Reason(ReasonCode::SESSION_TAKEN_OVER)),
                () = self.app.shutdown.begun() => return Err(End::Reason(ReasonCode::SERVER_SHUTTING_DOWN)),
                () = tokio::time::sleep_until(deadline) => return Err(End::Reason(ReasonCode::KEEP_ALIVE_TIMEOUT)),
            }
        }
    }

    /// Handles one packet; none means that the client said goodbye.
    async fn packet(&mut self) -> Result<Option<Wish>, End> {
        let version = self.link.version;
        let frame = Zeroizing::new(self.link.frame().to_vec());
        match Packet::decode(&frame, version).map_err(|error| End::Reason(error.reason()))? {
            Packet::Publish(publish) => return self.publish(&publish).await.map(Some),
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe).await?,
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe).await?,
            Packet::PubRel(ack) => {
                let known = self.unreleased.iter().position(|id| *id == ack.packet_id);
                if let Some(index) = known {
                    self.unreleased.swap_remove(index);
                }
                let reason = if known.is_some() {
                    ReasonCode::SUCCESS
                } else {
                    ReasonCode::PACKET_IDENTIFIER_NOT_FOUND
                };
                self.link.send(&Packet::PubComp(answer(ack.packet_id, reason))).await?;
            }
            Packet::PingReq => self.link.send(&Packet::PingResp).await?,
            Packet::Disconnect(_) => return Ok(None),
            // Nothing is ever sent with QoS 1 or 2, so there is nothing to acknowledge; a client that does is left alone.
            Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubComp(_) => {}
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp
            | Packet::Auth(_) => return Err(End::Reason(ReasonCode::PROTOCOL_ERROR)),
        }
        Ok(Some(Wish::Nothing))
    }

    async fn publish(&mut self, publish: &Publish<'_>) -> Result<Wish, End> {
        let v5 = self.link.version == Version::V5;
        if publish.properties.topic_alias().is_some() {
            return Err(End::Reason(ReasonCode::TOPIC_ALIAS_INVALID));
        }
        if v5 && publish.qos == QoS::ExactlyOnce {
            return Err(End::Reason(ReasonCode::QOS_NOT_SUPPORTED));
        }
        if v5 && publish.retain {
            return Err(End::Reason(ReasonCode::RETAIN_NOT_SUPPORTED));
        }
        let topic = RequestTopic::of(publish.topic);
        let reason = match topic {
            Some(_) => ReasonCode::SUCCESS,
            None if publish.topic.starts_with("$oauth/") => ReasonCode::TOPIC_NAME_INVALID,
            None => ReasonCode::NOT_AUTHORIZED,
        };
        // Before MQTT 5 a PUBLISH cannot be refused but by closing (3.1.1 §3.3.5); nor can one that is not acknowledged.
        if topic.is_none() && (!v5 || publish.qos == QoS::AtMostOnce) {
            return Err(End::Reason(reason));
        }
        let mut repeated = false;
        match (publish.qos, publish.packet_id) {
            (QoS::AtMostOnce, _) | (_, None) => {}
            (QoS::AtLeastOnce, Some(id)) => self.link.send(&Packet::PubAck(answer(id, reason))).await?,
            (QoS::ExactlyOnce, Some(id)) => {
                repeated = self.unreleased.contains(&id);
                if !repeated {
                    if self.unreleased.len() >= usize::from(RECEIVE_MAXIMUM) {
                        return Err(End::Reason(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED));
                    }
                    self.unreleased.push(id);
                }
                self.link.send(&Packet::PubRec(answer(id, reason))).await?;
            }
        }
        let Some(topic) = topic.filter(|_| !repeated) else { return Ok(Wish::Nothing) };
        if !self.affords_request() {
            return Err(End::Reason(ReasonCode::MESSAGE_RATE_TOO_HIGH));
        }
        let reply = ReplyTo {
            topic: publish
                .properties
                .response_topic()
                .map_or_else(|| topic.response().to_owned(), str::to_owned),
            correlation: publish.properties.correlation_data().map(<[u8]>::to_vec),
        };
        Ok(Wish::Request { topic, payload: Zeroizing::new(publish.payload.to_vec()), reply })
    }

    fn affords_request(&mut self) -> bool {
        let now = Instant::now();
        let full_at = self.budget_full_at.max(now) + REFILL;
        let affordable = full_at <= now + REFILL * BURST;
        if affordable {
            self.budget_full_at = full_at;
        }
        affordable
    }

    async fn request(&mut self, topic: RequestTopic, payload: &[u8], reply: ReplyTo) -> Result<(), End> {
        let answering = requests::answer(self.app, self.client_id, self.seat.connection, topic, payload);
        let answer = Box::pin(answering).await;
        self.reply(&reply, &answer).await?;
        if topic == RequestTopic::Claim {
            self.claim = Some(reply);
        }
        Ok(())
    }

    async fn push(&mut self, message: ClaimMessage) -> Result<(), End> {
        // A claim message can only follow a request of this connection.
        let Some(reply) = self.claim.take() else { return Ok(()) };
        let payload = Zeroizing::new(
            match &message {
                ClaimMessage::Taken(seconds) => json!({"status": "window_open", "expires_in": seconds}),
                ClaimMessage::Granted(code) => json!({"status": "granted", "code": code.as_str()}),
                ClaimMessage::Denied => json!({"error": "access_denied"}),
                ClaimMessage::Expired => json!({"error": "expired_token"}),
            }
            .to_string()
            .into_bytes(),
        );
        let sent = self.reply(&reply, &payload).await;
        self.claim = Some(reply);
        sent
    }

    async fn reply(&mut self, reply: &ReplyTo, payload: &[u8]) -> Result<(), End> {
        let correlation = reply.correlation.as_deref().map(Property::CorrelationData);
        let properties = match &correlation {
            Some(property) if self.link.version == Version::V5 => {
                Properties::list(std::slice::from_ref(property))
            }
            _ => Properties::EMPTY,
        };
        let packet = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: &reply.topic,
            packet_id: None,
            properties,
            payload,
        };
        self.link.send(&Packet::Publish(packet)).await
    }

    async fn subscribe(&mut self, subscribe: &Subscribe<'_>) -> Result<(), End> {
        let v5 = self.link.version == Version::V5;
        let codes: Vec<u8> = subscribe
            .filters
            .iter()
            .map(|subscription| {
                let filter = subscription.filter;
                let reason = if RequestTopic::of_response(filter).is_some() {
                    ReasonCode::GRANTED_QOS_0
                } else if !v5 {
                    ReasonCode::UNSPECIFIED_ERROR
                } else if mqtt_wire::topic::split_shared(filter).is_some() {
                    ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
                } else if filter.contains(['+', '#']) {
                    ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
                } else {
                    ReasonCode::NOT_AUTHORIZED
                };
                reason.0
            })
            .collect();
        let packet = SubAck { packet_id: subscribe.packet_id, properties: Properties::EMPTY, codes: &codes };
        self.link.send(&Packet::SubAck(packet)).await
    }

    async fn unsubscribe(&mut self, unsubscribe: &Unsubscribe<'_>) -> Result<(), End> {
        let codes: Vec<u8> = unsubscribe
            .filters
            .iter()
            .map(|filter| match RequestTopic::of_response(filter) {
                Some(_) => ReasonCode::SUCCESS.0,
                None => ReasonCode::NO_SUBSCRIPTION_EXISTED.0,
            })
            .collect();
        let packet =
            UnsubAck { packet_id: unsubscribe.packet_id, properties: Properties::EMPTY, codes: &codes };
        self.link.send(&Packet::UnsubAck(packet)).await
    }

    /// MQTT 5 clients are told why; before that a connection just closes.
    async fn say_goodbye(&mut self, reason: ReasonCode) {
        if self.link.version == Version::V5 {
            let packet = Disconnect { reason, properties: Properties::EMPTY };
            let _ = self.link.send(&Packet::Disconnect(packet)).await;
        }
    }
}

fn answer(packet_id: u16, reason: ReasonCode) -> Ack<'static> {
    Ack { packet_id, reason, properties: Properties::EMPTY }
}
