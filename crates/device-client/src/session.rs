//! An MQTT 3.1.1 client over two fixed buffers: one connection at a time, no I/O, no clock of its own.
//!
//! 3.1.1 and not 5, because a device gains nothing from 5 here and pays for it in bytes and code: the DIdP correlates
//! answers by connection, a chip with memory for one TLS session cannot use AUTH 0x19 (it has to leave the gateway in order
//! to fetch the new token), and "refused" needs no finer reason than "ask the DIdP again".
//!
//! A PUBLISH that is larger than the receive buffer is acknowledged and skipped: a sender must not be able to hold up a
//! device with a message that would be delivered again and again. Which topics mean what is left to [`crate::device`].

use core::ops::Range;

use mqtt_wire::{
    Ack, Connect, Disconnect, Filters, Packet, PacketType, Properties, Publish, QoS, ReasonCode, Subscribe,
    Subscription, Version, frame_len,
};

use crate::Millis;

const VERSION: Version = Version::V311;

/// How long a PINGRESP may take.
const PONG: Millis = 10_000;

/// What a server's bytes amount to. Spans are read with [`Session::bytes`] before the next call of [`Session::event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// CONNACK with code 0.
    Accepted,
    /// CONNACK with another code (§3.2.2.3).
    Refused(u8),
    /// PUBLISH.
    Message { topic: Range<usize>, payload: Range<usize> },
    /// PUBACK.
    Acknowledged(u16),
    /// The server broke the protocol or ended the connection.
    Broken,
}

/// One connection's state and buffers.
pub(crate) struct Session<const RX: usize, const TX: usize> {
    rx: [u8; RX],
    rx_len: usize,
    /// Bytes of the frame that the last event lies in.
    used: usize,
    /// Bytes of a packet that does not fit, still to be thrown away.
    skip: usize,
    tx: [u8; TX],
    tx_len: usize,
    greeted: bool,
    keep_alive: Millis,
    ping_at: Millis,
    pong_by: Option<Millis>,
}

/// The send buffer has no room, or the packet cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl<const RX: usize, const TX: usize> Session<RX, TX> {
    pub(crate) const fn new() -> Self {
        Self {
            rx: [0; RX],
            rx_len: 0,
            used: 0,
            skip: 0,
            tx: [0; TX],
            tx_len: 0,
            greeted: false,
            keep_alive: 0,
            ping_at: 0,
            pong_by: None,
        }
    }

    /// Forgets the connection before and writes CONNECT. `keep_alive` in seconds; 0 switches it off.
    pub(crate) fn open(
        &mut self,
        client_id: &str,
        username: &str,
        password: &str,
        clean: bool,
        keep_alive: u16,
        now: Millis,
    ) -> Result<(), Full> {
        self.forget();
        self.keep_alive = Millis::from(keep_alive) * 1000;
        self.ping_at = now + self.keep_alive;
        self.write(&Packet::Connect(Connect {
            version: VERSION,
            clean_start: clean,
            keep_alive,
            properties: Properties::EMPTY,
            client_id,
            will: None,
            username: Some(username),
            password: Some(password.as_bytes()),
        }))
    }

    /// Forgets everything; credentials in the buffers are overwritten.
    pub(crate) fn forget(&mut self) {
        self.rx.fill(0);
        self.tx.fill(0);
        (self.rx_len, self.used, self.skip, self.tx_len) = (0, 0, 0, 0);
        self.greeted = false;
        self.pong_by = None;
    }

    /// How many bytes [`Session::receive`] would take.
    pub(crate) fn room(&self) -> usize {
        RX - self.rx_len
    }

    /// Takes what came from the server, as much as there is room for, and returns how much that was.
    pub(crate) fn receive(&mut self, bytes: &[u8], now: Millis) -> usize {
        let taken = bytes.len().min(self.room());
        self.rx[self.rx_len..self.rx_len + taken].copy_from_slice(&bytes[..taken]);
        self.rx_len += taken;
        if taken > 0 {
            self.ping_at = now + self.keep_alive;
        }
        taken
    }

    /// What waits to be sent.
    pub(crate) fn outgoing(&self) -> &[u8] {
        &self.tx[..self.tx_len]
    }

    /// The first `n` bytes of [`Session::outgoing`] were sent.
    pub(crate) fn sent(&mut self, n: usize) {
        if n < self.tx_len {
            self.tx.copy_within(n..self.tx_len, 0);
            self.tx_len -= n;
        } else {
            self.tx_len = 0;
        }
    }

    pub(crate) fn bytes(&self, span: Range<usize>) -> &[u8] {
        self.rx.get(span).unwrap_or_default()
    }

    pub(crate) fn str(&self, span: Range<usize>) -> &str {
        core::str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    /// The next thing that happened. Acknowledgements and PINGRESP are dealt with here. Returns nothing, although there are
    /// bytes, while the send buffer has no room for an answer.
    pub(crate) fn event(&mut self) -> Option<Event> {
        loop {
            self.drop_used();
            if self.skip > 0 || self.rx_len == 0 {
                return None;
            }
            let total = match frame_len(&self.rx[..self.rx_len], usize::MAX) {
                Ok(Some(total)) => total,
                Ok(None) => return None,
                Err(_) => return Some(Event::Broken),
            };
            if total > RX {
                match self.skip_large(total) {
                    Ok(true) => continue,
                    Ok(false) => return None,
                    Err(Full) => return Some(Event::Broken),
                }
            }
            if self.rx_len < total || self.tx_len + 4 > TX {
                return None;
            }
            let Ok(packet) = Packet::decode(&self.rx[..total], VERSION) else { return Some(Event::Broken) };
            let mut ack = None;
            let event = match packet {
                Packet::ConnAck(ack) if !self.greeted => match ack.reason {
                    ReasonCode::SUCCESS => Some(Event::Accepted),
                    reason => Some(Event::Refused(reason.v311_connack())),
                },
                Packet::Publish(publish) if self.greeted => {
                    ack = match (publish.qos, publish.packet_id) {
                        (QoS::AtMostOnce, _) => None,
                        (QoS::AtLeastOnce, Some(id)) => Some(id),
                        // Nothing was subscribed to with QoS 2.
                        (QoS::AtLeastOnce, None) | (QoS::ExactlyOnce, _) => return Some(Event::Broken),
                    };
                    Some(Event::Message {
                        topic: span(&self.rx, publish.topic.as_bytes()),
                        payload: span(&self.rx, publish.payload),
                    })
                }
                Packet::PubAck(ack) if self.greeted => Some(Event::Acknowledged(ack.packet_id)),
                Packet::SubAck(_) if self.greeted => None,
                Packet::PingResp => {
                    self.pong_by = None;
                    None
                }
                _ => return Some(Event::Broken),
            };
            self.greeted |= event == Some(Event::Accepted);
            self.used = total;
            if let Some(id) = ack {
                // There is room: it was looked at above.
                let _ = self.write(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)));
            }
            if event.is_some() {
                return event;
            }
        }
    }

    fn drop_used(&mut self) {
        if self.skip > 0 {
            let gone = self.skip.min(self.rx_len);
            self.skip -= gone;
            self.used = gone;
        }
        if self.used > 0 {
            self.rx.copy_within(self.used..self.rx_len, 0);
            self.rx_len -= self.used;
            self.used = 0;
        }
    }

    /// Begins to throw away the packet at the front, which is larger than the buffer; false: more of it must come first.
    fn skip_large(&mut self, total: usize) -> Result<bool, Full> {
        let head = 1 + self.rx[1..].iter().take_while(|byte| *byte & 0x80 != 0).count() + 1;
        if !self.greeted || PacketType::of(self.rx[0]) != Some(PacketType::Publish) {
            return Err(Full);
        }
        if self.rx_len < RX {
            return Ok(false);
        }
        match self.rx[0] >> 1 & 3 {
            0 => {}
            1 => {
                let topic = u16::from_be_bytes([self.rx[head], self.rx[head + 1]]);
                let at = head + 2 + usize::from(topic);
                let id = self.rx.get(at..at + 2).ok_or(Full)?;
                let id = u16::from_be_bytes([id[0], id[1]]);
                self.write(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)))?;
            }
            _ => return Err(Full),
        }
        self.skip = total;
        Ok(true)
    }

    fn write(&mut self, packet: &Packet<'_>) -> Result<(), Full> {
        self.tx_len += packet.encode(VERSION, &mut self.tx[self.tx_len..]).map_err(|_| Full)?;
        Ok(())
    }

    /// Writes a PUBLISH with QoS 0.
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) -> Result<(), Full> {
        self.write(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain,
            topic,
            packet_id: None,
            properties: Properties::EMPTY,
            payload,
        }))
    }

    /// Writes a packet that was encoded elsewhere.
    pub(crate) fn push(&mut self, packet: &[u8]) -> Result<(), Full> {
        let place = self.tx.get_mut(self.tx_len..self.tx_len + packet.len()).ok_or(Full)?;
        place.copy_from_slice(packet);
        self.tx_len += packet.len();
        Ok(())
    }

    /// Writes a SUBSCRIBE with QoS 1.
    pub(crate) fn subscribe<const N: usize>(
        &mut self,
        filters: [&str; N],
        packet_id: u16,
    ) -> Result<(), Full> {
        let filters = filters.map(|filter| Subscription::new(filter, QoS::AtLeastOnce));
        self.write(&Packet::Subscribe(Subscribe {
            packet_id,
            properties: Properties::EMPTY,
            filters: Filters::list(&filters),
        }))
    }

    /// Writes DISCONNECT.
    pub(crate) fn disconnect(&mut self) -> Result<(), Full> {
        self.write(&Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)))
    }

    /// Sends PINGREQ when the server has been silent for the keep-alive time: that is enough for the server, which hears the
    /// ping, and tells a dead connection from a quiet one. False if the answer to the last one is overdue.
    pub(crate) fn keep_alive(&mut self, now: Millis) -> bool {
        if self.keep_alive == 0 || !self.greeted {
            return true;
        }
        match self.pong_by {
            Some(by) => now < by,
            None => {
                if now >= self.ping_at && self.write(&Packet::PingReq).is_ok() {
                    self.pong_by = Some(now + PONG);
                    self.ping_at = now + self.keep_alive;
                }
                true
            }
        }
    }

    /// When [`Session::keep_alive`] has to be called next; [`Millis::MAX`]: never.
    pub(crate) fn deadline(&self) -> Millis {
        if self.keep_alive > 0 && self.greeted { self.pong_by.unwrap_or(self.ping_at) } else { Millis::MAX }
    }
}

/// Where `part`, a slice of `whole`, lies in it.
fn span(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
    if part.is_empty() { 0..0 } else { start..start + part.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Small = Session<64, 128>;

    fn greeted() -> Small {
        let mut session = Small::new();
        session.open("c", "u", "p", true, 60, 0).unwrap();
        session.sent(usize::MAX);
        session.receive(&[0x20, 2, 0, 0], 0);
        assert_eq!(session.event(), Some(Event::Accepted));
        session
    }

    fn publish(topic: &str, payload: &[u8], id: Option<u16>) -> Vec<u8> {
        let packet = Packet::Publish(Publish {
            dup: false,
            qos: if id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
            retain: false,
            topic,
            packet_id: id,
            properties: Properties::EMPTY,
            payload,
        });
        let mut out = vec![0; 512];
        let len = packet.encode(VERSION, &mut out).unwrap();
        out.truncate(len);
        out
    }

    /// Feeds `bytes` in pieces of `step` and returns the messages as text.
    fn feed(session: &mut Small, bytes: &[u8], step: usize) -> Vec<String> {
        let mut seen = Vec::new();
        for piece in bytes.chunks(step) {
            let mut rest = piece;
            while !rest.is_empty() {
                let taken = session.receive(rest, 0);
                rest = &rest[taken..];
                while let Some(event) = session.event() {
                    match event {
                        Event::Message { topic, payload } => seen.push(format!(
                            "{} {}",
                            session.str(topic),
                            String::from_utf8_lossy(session.bytes(payload))
                        )),
                        other => seen.push(format!("{other:?}")),
                    }
                    if seen.last().is_some_and(|s| s == "Broken") {
                        return seen;
                    }
                }
            }
        }
        seen
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let mut bytes = publish("c/heater", b"true", Some(7));
        bytes.extend(publish("c/heater", b"", None));
        bytes.extend([0x40, 2, 0, 9]);
        for step in 1..bytes.len() {
            let mut session = greeted();
            assert_eq!(feed(&mut session, &bytes, step), ["c/heater true", "c/heater ", "Acknowledged(9)"]);
            assert_eq!(session.outgoing(), [0x40, 2, 0, 7]);
        }
    }

    #[test]
    fn a_message_that_does_not_fit_is_acknowledged_and_skipped() {
        for step in [1, 5, 64, 400] {
            let mut session = greeted();
            let mut bytes = publish("c/heater", &[b'x'; 300], Some(0x0102));
            bytes.extend(publish("c/heater", b"after", None));
            bytes.extend(publish("c/heater", &[b'x'; 300], None));
            bytes.extend(publish("c/heater", b"again", None));
            assert_eq!(feed(&mut session, &bytes, step), ["c/heater after", "c/heater again"], "step {step}");
            assert_eq!(session.outgoing(), [0x40, 2, 1, 2]);
        }
    }

    #[test]
    fn what_a_server_may_not_say_breaks_the_connection() {
        let mut fresh = Small::new();
        fresh.open("c", "u", "p", true, 60, 0).unwrap();
        fresh.receive(&publish("c/x", b"early", None), 0);
        assert_eq!(fresh.event(), Some(Event::Broken));
        for bad in [
            &[0x20, 2, 0, 0][..],
            &[0xE0, 0],
            &[0x10, 0],
            &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            &[0x34, 5, 0, 1, b'a', 0, 1],
        ] {
            let mut session = greeted();
            session.receive(bad, 0);
            assert_eq!(session.event(), Some(Event::Broken), "{bad:02x?}");
        }
    }

    #[test]
    fn silence_is_answered_with_a_ping_and_then_given_up() {
        let mut session = greeted();
        assert_eq!(session.deadline(), 60_000);
        assert!(session.keep_alive(59_999) && session.outgoing().is_empty());
        assert!(session.keep_alive(60_000));
        assert_eq!(session.outgoing(), [0xC0, 0]);
        assert_eq!(session.deadline(), 70_000);
        assert!(session.keep_alive(69_999) && !session.keep_alive(70_000));
        session.receive(&[0xD0, 0], 69_000);
        assert_eq!(session.event(), None);
        assert!(session.keep_alive(70_000));
        assert_eq!(session.deadline(), 129_000);
    }

    #[test]
    fn a_full_send_buffer_holds_back_what_needs_an_answer() {
        let mut session = greeted();
        while session.push(b"x").is_ok() {}
        session.receive(&publish("c/x", b"1", Some(1)), 0);
        assert_eq!(session.event(), None);
        session.sent(100);
        assert!(matches!(session.event(), Some(Event::Message { .. })));
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(bytes: Vec<u8>, step in 1usize..70) {
            feed(&mut greeted(), &bytes, step);
            let mut fresh = Small::new();
            fresh.open("c", "u", "p", true, 60, 0).unwrap();
            feed(&mut fresh, &bytes, step);
        }

        #[test]
        fn nearly_mqtt_does_not_panic(
            first in prop::sample::select(vec![0x30u8, 0x32, 0x3a, 0x34, 0x40, 0x90, 0xd0, 0x20]),
            len in 0u8..=255, tail in prop::collection::vec(any::<u8>(), 0..300), step in 1usize..70,
        ) {
            let mut bytes = vec![first, len];
            bytes.extend(tail);
            feed(&mut greeted(), &bytes, step);
        }
    }
}
