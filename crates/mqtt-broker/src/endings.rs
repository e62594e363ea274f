//! How connections end when the broker ends them (§4.13): the reason code, and words for people beside it.
//!
//! The words say what went wrong and nothing about anybody. In a refusing CONNACK they stand unless the client declined them
//! (§3.1.2.11.7), in DISCONNECT too under grants; a plain broker's DISCONNECT has them for who asked, because suites for plain
//! brokers compare it byte by byte. Where they would make the packet longer than the client takes, they are left out
//! (§3.2.2.3.9, §3.14.2.2.3).

use crate::broker::Broker;
use mqtt_wire::{ConnAck, Disconnect, Error, Packet, PacketType, Properties, Property, ReasonCode, Version};

/// A reason code, and what to say beside it.
#[derive(Clone, Copy)]
pub(crate) struct Cause {
    pub(crate) reason: ReasonCode,
    pub(crate) words: Option<&'static str>,
}

/// The words that a reason code has wherever nobody knows better ones.
pub(crate) const fn words_for(reason: ReasonCode) -> Cause {
    let words = match reason {
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => Some("this broker speaks MQTT 3.1, 3.1.1 and 5"),
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => Some("not the client identifier of this connection"),
        ReasonCode::BAD_AUTHENTICATION_METHOD => Some("no enhanced authentication is offered"),
        ReasonCode::NOT_AUTHORIZED => Some("the grant does not cover this, or has ended"),
        ReasonCode::SERVER_UNAVAILABLE => Some("no grants are known yet"),
        ReasonCode::SERVER_SHUTTING_DOWN => Some("the broker stops, or its owner's grants are unknown"),
        ReasonCode::KEEP_ALIVE_TIMEOUT => Some("nothing, or no whole packet, came for too long"),
        ReasonCode::SESSION_TAKEN_OVER => Some("another connection has this client identifier"),
        ReasonCode::PACKET_TOO_LARGE => Some("the packet is longer than was announced"),
        ReasonCode::TOPIC_NAME_INVALID => Some("the topic has too many levels"),
        ReasonCode::RECEIVE_MAXIMUM_EXCEEDED => Some("more messages of QoS 2 are open than was announced"),
        ReasonCode::TOPIC_ALIAS_INVALID => Some("the topic alias is zero or above the maximum"),
        ReasonCode::QUOTA_EXCEEDED => Some("too many sessions, or nothing can be stored at present"),
        _ => None,
    };
    Cause { reason, words }
}

/// What is wrong with a packet of this type from a client that is connected.
pub(crate) const fn out_of_place(kind: Option<PacketType>) -> &'static str {
    match kind {
        Some(PacketType::Connect) => "a second CONNECT",
        Some(PacketType::Auth) => "no authentication was begun",
        Some(_) => "only a server sends this packet",
        None => "no such packet type",
    }
}

impl Broker {
    /// The bytes on a connection are no MQTT packet.
    pub fn reject(&mut self, connection: usize, error: Error, now: u64) {
        self.fail_because(connection, Cause { reason: error.reason(), words: Some(error.message()) }, now);
    }

    /// Ends a connection because of what the client did; its will is due. Before CONNECT it ends without a word.
    pub(crate) fn fail(&mut self, connection: usize, reason: ReasonCode, now: u64) {
        self.fail_because(connection, words_for(reason), now);
    }

    /// The same for a protocol error, of which there are many.
    pub(crate) fn violated(&mut self, connection: usize, words: &'static str, now: u64) {
        let cause = Cause { reason: ReasonCode::PROTOCOL_ERROR, words: Some(words) };
        self.fail_because(connection, cause, now);
    }

    fn fail_because(&mut self, connection: usize, cause: Cause, now: u64) {
        self.count_refusal(cause.reason);
        self.detach(connection, true, now);
        self.finish(connection, cause);
    }

    /// Ends a connection with a DISCONNECT, where the version has one.
    pub(crate) fn end(&mut self, connection: usize, reason: ReasonCode, now: u64) {
        self.detach(connection, true, now);
        self.finish(connection, words_for(reason));
    }

    /// Ends a connection without a word.
    pub(crate) fn hang_up(&mut self, connection: usize, now: u64) {
        self.detach(connection, true, now);
        self.close_after_output(connection);
    }

    /// Ends every connection with this reason; sessions stay as their expiry says.
    pub fn end_all(&mut self, reason: ReasonCode, now: u64) {
        let open: Vec<usize> = self.connections.keys().copied().collect();
        for connection in open {
            self.end(connection, reason, now);
        }
    }

    /// Says why, and closes.
    pub(crate) fn finish(&mut self, connection: usize, cause: Cause) {
        let is_granted = self.policy.is_granted();
        let Some(link) = self.connections.get_mut(&connection).filter(|link| !link.closing) else { return };
        if link.version == Version::V5 {
            let is_due = link.asked_for_reasons || (is_granted && link.wants_reasons);
            let words = cause.words.filter(|_| is_due).map(Property::ReasonString);
            let last = |words| {
                Packet::Disconnect(Disconnect { reason: cause.reason, properties: Properties::list(words) })
            };
            if !link.send(&last(words.as_slice())) {
                link.send(&last(&[]));
            }
        }
        self.close_after_output(connection);
    }

    /// Refuses a CONNECT.
    pub(crate) fn refuse(&mut self, connection: usize, reason: ReasonCode) {
        self.count_refusal(reason);
        if let Some(link) = self.connections.get_mut(&connection) {
            let words = words_for(reason).words.filter(|_| link.wants_reasons).map(Property::ReasonString);
            let refusal = |words| {
                let properties = Properties::list(words);
                Packet::ConnAck(ConnAck { session_present: false, reason, properties })
            };
            if !link.send(&refusal(words.as_slice())) {
                link.send(&refusal(&[]));
            }
        }
        self.close_after_output(connection);
    }

    fn close_after_output(&mut self, connection: usize) {
        if let Some(link) = self.connections.get_mut(&connection) {
            link.closing = true;
        }
        self.attend(connection);
    }

    /// Counts a refusal if a limit was the reason.
    pub(crate) const fn count_refusal(&mut self, reason: ReasonCode) {
        self.refused += match reason {
            ReasonCode::QUOTA_EXCEEDED
            | ReasonCode::PACKET_TOO_LARGE
            | ReasonCode::RECEIVE_MAXIMUM_EXCEEDED
            | ReasonCode::TOPIC_ALIAS_INVALID
            | ReasonCode::TOPIC_NAME_INVALID
            | ReasonCode::TOPIC_FILTER_INVALID
            | ReasonCode::KEEP_ALIVE_TIMEOUT => 1,
            _ => 0,
        };
    }
}
