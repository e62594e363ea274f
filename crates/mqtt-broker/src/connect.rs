//! CONNECT (§3.1): admission, takeover, resuming a session.

use crate::aliases::Aliases;
use crate::broker::Broker;
use crate::flights::Stage;
use crate::message::{Content, Envelope, Message, passed_on};
use crate::session::{Session, Will};
use mqtt_wire::{
    Ack, ConnAck, Connect, Error, Packet, PacketType, Properties, Property, ReasonCode, Version,
    Will as WireWill,
};
use std::rc::Rc;

/// A CONNECT that was let in.
struct Admitted {
    key: Box<str>,
    sid: Option<Rc<str>>,
    /// Client identifier that the broker chose.
    assigned: Option<String>,
}

impl Broker {
    /// The first packet of a connection.
    pub(crate) fn handshake(&mut self, connection: usize, frame: &[u8], now: u64) {
        let is_connect = frame.first().and_then(|first| PacketType::of(*first)) == Some(PacketType::Connect);
        match Packet::decode(frame, Version::V311) {
            Ok(Packet::Connect(connect)) => self.connect(connection, &connect, now),
            Err(Error::ProtocolVersion) if is_connect => {
                self.refuse(connection, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
            }
            Ok(_) | Err(_) => self.hang_up(connection, now),
        }
    }

    fn connect(&mut self, connection: usize, connect: &Connect<'_>, now: u64) {
        if let Some(link) = self.connections.get_mut(&connection) {
            link.version = connect.version;
            let wish = connect.properties.request_problem_information();
            link.wants_reasons = wish != Some(false);
            link.asked_for_reasons = wish == Some(true);
            let largest = connect.properties.maximum_packet_size().unwrap_or(u32::MAX);
            link.max_packet = usize::try_from(largest).unwrap_or(usize::MAX);
        }
        let admitted = match self.admit(connection, connect) {
            Ok(admitted) => admitted,
            Err(reason) => return self.refuse(connection, reason),
        };
        let (id, session_present) = match self.session_for(&admitted, connect.clean_start, now) {
            Ok(found) => found,
            Err(reason) => return self.refuse(connection, reason),
        };
        let wished = match (connect.version, connect.clean_start) {
            (Version::V5, _) => connect.properties.session_expiry_interval().unwrap_or(0),
            (Version::V31 | Version::V311, true) => 0,
            (Version::V31 | Version::V311, false) => u32::MAX,
        };
        let expiry = wished.min(self.limits.session_expiry);
        if expiry > 0 && !session_present && self.log.refuses() {
            self.forget(id);
            return self.refuse(connection, ReasonCode::QUOTA_EXCEEDED);
        }
        let imposed = self.imposed_keep_alive(connect);
        let window = connect.properties.receive_maximum().unwrap_or(u16::MAX).min(self.limits.in_flight);
        if let Some(session) = self.sessions.get_mut(id) {
            session.connection = Some(connection);
            session.expiry = expiry;
            session.expires_at = None;
            session.will_at = None;
            session.will = connect.will.as_ref().map(|will| will_of(will, session.sid.as_ref()));
            self.log.attached(id, session, &self.policy);
        }
        if let Some(link) = self.connections.get_mut(&connection) {
            link.session = Some(id);
            link.patience_ms = u64::from(imposed.unwrap_or(connect.keep_alive)) * 1_500;
            link.window = usize::from(window.max(1));
            let aliases = connect.properties.topic_alias_maximum().unwrap_or(0);
            link.given = Aliases::up_to(aliases.min(self.limits.topic_aliases));
            if link.patience_ms > 0 {
                let due = now + link.patience_ms;
                self.wake_at(due);
            }
        }
        let base = self.response_base(connect, &admitted.key);
        let told = [
            (wished != expiry).then_some(Property::SessionExpiryInterval(expiry)),
            imposed.map(Property::ServerKeepAlive),
            admitted.assigned.as_deref().map(Property::AssignedClientIdentifier),
            base.as_deref().map(Property::ResponseInformation),
        ];
        self.welcome(connection, session_present, told.into_iter().flatten(), now);
        self.resend(connection, id, now);
        self.pump(id, now);
        if session_present {
            self.tell_returned(id, now);
        }
    }

    /// Who this is and whether it may come in.
    fn admit(&mut self, connection: usize, connect: &Connect<'_>) -> Result<Admitted, ReasonCode> {
        if connect.properties.authentication_method().is_some() {
            return Err(ReasonCode::BAD_AUTHENTICATION_METHOD);
        }
        if let Some(will) = &connect.will
            && will.topic.split('/').count() > self.limits.topic_levels
        {
            return Err(ReasonCode::TOPIC_NAME_INVALID);
        }
        if self.policy.is_granted() {
            return self.admit_granted(connection, connect);
        }
        if !connect.client_id.is_empty() {
            return Ok(Admitted { key: connect.client_id.into(), sid: None, assigned: None });
        }
        let may_be_empty = match connect.version {
            Version::V31 => false,
            Version::V311 => connect.clean_start,
            Version::V5 => true,
        };
        if !may_be_empty {
            return Err(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        }
        self.assigned += 1;
        let assigned = format!("auto-{:016x}-{}", self.seed, self.assigned);
        Ok(Admitted { key: assigned.as_str().into(), sid: None, assigned: Some(assigned) })
    }

    fn admit_granted(&self, connection: usize, connect: &Connect<'_>) -> Result<Admitted, ReasonCode> {
        let grants = self.policy.grants().ok_or(ReasonCode::SERVER_UNAVAILABLE)?;
        let identity = self
            .connections
            .get(&connection)
            .and_then(|link| link.identity.as_ref())
            .ok_or(ReasonCode::NOT_AUTHORIZED)?;
        let sid = grants.sid(&identity.sid).ok_or(ReasonCode::NOT_AUTHORIZED)?;
        if connect.client_id.is_empty() || connect.client_id != identity.client {
            return Err(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
        }
        if let Some(will) = &connect.will
            && !self.policy.may_publish(Some(&sid), will.topic)
        {
            return Err(ReasonCode::NOT_AUTHORIZED);
        }
        // Client identifiers cannot hold U+0000, so that two grants never share a key.
        let key = format!("{sid}\0{}", connect.client_id).into_boxed_str();
        Ok(Admitted { key, sid: Some(sid), assigned: None })
    }

    /// The session to use, and whether it was there before. Ends another connection of the same client.
    fn session_for(
        &mut self,
        admitted: &Admitted,
        clean_start: bool,
        now: u64,
    ) -> Result<(usize, bool), ReasonCode> {
        if let Some(id) = self.by_key.get(&admitted.key).copied() {
            let other = self.sessions.get_mut(id).and_then(|session| {
                // A will whose delay has not passed is not published if the session goes on (§3.1.3.2.2).
                if !clean_start && session.will.as_ref().is_some_and(|will| will.delay > 0) {
                    session.will = None;
                    self.log.no_will(id, session);
                }
                session.connection
            });
            if let Some(other) = other {
                self.end(other, ReasonCode::SESSION_TAKEN_OVER, now);
            }
            if clean_start && self.sessions.contains(id) && self.by_key.contains_key(&admitted.key) {
                self.end_session(id, now);
            }
        }
        // Ending the other connection may have ended the session too.
        if let Some(id) = self.by_key.get(&admitted.key).copied() {
            return Ok((id, true));
        }
        if let Some(sid) = &admitted.sid {
            self.make_room_for(sid, now)?;
        }
        if self.sessions.len() >= self.limits.sessions {
            return Err(ReasonCode::QUOTA_EXCEEDED);
        }
        let id = self.sessions.insert(Session::new(admitted.key.clone(), admitted.sid.clone()));
        self.by_key.insert(admitted.key.clone(), id);
        Ok((id, false))
    }

    /// Sees to it that this grant may have one more session: its own that has been disconnected longest makes place.
    fn make_room_for(&mut self, sid: &Rc<str>, now: u64) -> Result<(), ReasonCode> {
        let own = || self.sessions.iter().filter(|(_, session)| session.sid.as_ref() == Some(sid));
        if own().count() < self.limits.grant_sessions {
            return Ok(());
        }
        let oldest = own()
            .filter(|(_, session)| session.connection.is_none())
            .min_by_key(|(_, session)| session.left_at)
            .map(|(id, _)| id);
        self.end_session(oldest.ok_or(ReasonCode::QUOTA_EXCEEDED)?, now);
        Ok(())
    }

    /// The keep alive that a client gets instead of the one it wished for (§3.2.2.3.14).
    fn imposed_keep_alive(&self, connect: &Connect<'_>) -> Option<u16> {
        let longest = self.limits.keep_alive;
        let is_longer = connect.keep_alive == 0 || connect.keep_alive > longest;
        (connect.version == Version::V5 && longest > 0 && is_longer).then_some(longest)
    }

    /// Where a client that asks may let answers be sent (§3.2.2.3.15): topics that nobody else is told of. Under grants
    /// the topics are the owner's.
    fn response_base(&self, connect: &Connect<'_>, key: &str) -> Option<String> {
        let asks = connect.properties.request_response_information() == Some(true);
        let is_a_level = !key.contains(['+', '#', '/']);
        (asks && is_a_level && !self.policy.is_granted()).then(|| format!("response/{key}"))
    }

    fn welcome<'p>(
        &mut self,
        connection: usize,
        session_present: bool,
        more: impl Iterator<Item = Property<'p>>,
        now: u64,
    ) {
        let largest = u32::try_from(self.limits.packet).unwrap_or(u32::MAX);
        let mut properties = vec![
            Property::ReceiveMaximum(self.limits.receive_maximum),
            Property::TopicAliasMaximum(self.limits.topic_aliases),
            Property::MaximumPacketSize(largest),
        ];
        properties.extend(more);
        let reason = ReasonCode::SUCCESS;
        let connack = ConnAck { session_present, reason, properties: Properties::list(&properties) };
        let sent =
            self.connections.get_mut(&connection).is_some_and(|link| link.send(&Packet::ConnAck(connack)));
        if sent {
            self.attend(connection);
        } else {
            // The client takes no packet as long as this one: there is nothing to say to it.
            self.hang_up(connection, now);
        }
    }

    /// What the last connection left unacknowledged is sent again, in its order (§4.4).
    fn resend(&mut self, connection: usize, id: usize, now: u64) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(link) = self.connections.get_mut(&connection).filter(|link| link.session.is_some()) else {
            return;
        };
        // A message whose grant has ended is not sent again; its identifier is free with the new connection.
        session.flying.retain(|flying| flying.message.is_some() || flying.stage == Stage::Comp);
        for flying in session.flying.iter() {
            match &flying.message {
                Some(waiting) => {
                    let envelope = Envelope {
                        qos: waiting.qos,
                        dup: true,
                        retain: waiting.retain,
                        packet_id: Some(flying.packet_id),
                        ids: &waiting.ids,
                    };
                    link.publish(waiting.message.content(), envelope, now);
                }
                None => {
                    link.send(&Packet::PubRel(Ack::new(flying.packet_id, ReasonCode::SUCCESS)));
                }
            }
        }
        self.attend(connection);
    }
}

fn will_of(will: &WireWill<'_>, sid: Option<&Rc<str>>) -> Will {
    let properties = passed_on(&will.properties);
    let content =
        Content { topic: will.topic, payload: will.payload, properties: &properties, expires_at: None };
    Will {
        message: Message::new(content, sid),
        qos: will.qos,
        retain: will.retain,
        delay: will.properties.will_delay_interval().unwrap_or(0),
        expiry: will.properties.message_expiry_interval(),
    }
}
