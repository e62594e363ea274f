//! The client's side of QoS 1 and 2 deliveries (§4.3): PUBACK, PUBREC, PUBCOMP.

use crate::broker::Broker;
use crate::flights::Stage;
use mqtt_wire::{Ack, Packet, ReasonCode};

/// An acknowledgement of one QoS, or of one step, for a message of another.
const NOT_THIS_ONE: &str = "not the acknowledgement that this message waits for";

impl Broker {
    /// PUBACK. One for a message that is not in flight is ignored: it may be late. One for a message of QoS 2 is not.
    pub(crate) fn pub_ack(&mut self, connection: usize, session: usize, ack: &Ack<'_>, now: u64) {
        match self.stage(session, ack.packet_id) {
            None => {}
            Some(Stage::Ack) => self.landed(session, ack.packet_id, now),
            Some(Stage::Rec | Stage::Comp) => self.violated(connection, NOT_THIS_ONE, now),
        }
    }

    /// PUBREC. It is answered even for a message that is not in flight, so that the client can finish.
    pub(crate) fn pub_rec(&mut self, connection: usize, session: usize, ack: &Ack<'_>, now: u64) {
        match self.stage(session, ack.packet_id) {
            Some(Stage::Ack) => return self.violated(connection, NOT_THIS_ONE, now),
            Some(Stage::Rec | Stage::Comp) if !ack.reason.is_success() => {
                return self.landed(session, ack.packet_id, now);
            }
            None if !ack.reason.is_success() => return,
            None => {}
            Some(Stage::Rec | Stage::Comp) => {
                if let Some(known) = self.sessions.get_mut(session)
                    && let Some(flying) = known.flying.get_mut(ack.packet_id)
                {
                    let is_new = flying.stage != Stage::Comp;
                    flying.stage = Stage::Comp;
                    let freed = flying.message.take().map_or(0, |waiting| waiting.cost());
                    self.held.remove(known.sid.as_ref(), freed);
                    if is_new {
                        self.log.completing(session, known, ack.packet_id);
                    }
                }
            }
        }
        self.send(connection, &Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::SUCCESS)));
    }

    /// PUBCOMP.
    pub(crate) fn pub_comp(&mut self, connection: usize, session: usize, ack: &Ack<'_>, now: u64) {
        match self.stage(session, ack.packet_id) {
            None => {}
            Some(Stage::Comp) => self.landed(session, ack.packet_id, now),
            Some(Stage::Ack | Stage::Rec) => self.violated(connection, NOT_THIS_ONE, now),
        }
    }

    fn stage(&self, session: usize, packet_id: u16) -> Option<Stage> {
        self.sessions.get(session)?.flying.get(packet_id).map(|flying| flying.stage)
    }

    /// The client has it: the window opens for another.
    fn landed(&mut self, id: usize, packet_id: u16, now: u64) {
        if let Some(session) = self.sessions.get_mut(id)
            && let Some(flying) = session.flying.remove(packet_id)
        {
            let freed = flying.message.map_or(0, |waiting| waiting.cost());
            self.held.remove(session.sid.as_ref(), freed);
            self.log.landed(id, session, packet_id);
        }
        self.pump(id, now);
    }
}
