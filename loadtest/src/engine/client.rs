//! One MQTT client: handshake, subscriptions, and the acknowledgements of both directions.

use std::io;

use mqtt_wire::{
    Ack, Connect, Filters, Packet, Properties, QoS, ReasonCode, Subscribe, Subscription, Version, frame_len,
};

use super::device::Voice;
use super::link::Link;
use super::plan::{ClientPlan, Plan};

/// Longest packet that is taken from a broker.
const LONGEST: usize = 1 << 20;

/// Filters in one SUBSCRIBE.
const FILTERS: usize = 50;

/// Unacknowledged messages of one client where the broker names no lower number.
const FLIGHT: u64 = 60_000;

/// How far a client has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not opened yet.
    Idle,
    /// The connection is being made, or the CONNECT is under way.
    Connecting,
    /// So many SUBACKs are missing.
    Subscribing(usize),
    /// Everything is there.
    Ready,
    /// It ended, for this reason.
    Ended(String),
}

/// Something that a packet meant for the rest of the engine.
pub(super) enum Event<'a> {
    /// CONNACK: connected.
    Connected,
    /// The last SUBACK.
    Ready,
    /// A message's payload.
    Message(&'a [u8]),
    /// A message of this client is done with; whether the broker took it.
    Acknowledged(bool),
}

pub(super) struct Client {
    pub(super) state: State,
    pub(super) link: Option<Link>,
    /// When it was opened.
    pub(super) opened: u64,
    /// When something was last sent.
    pub(super) spoke: u64,
    /// Messages of this client that the broker has not acknowledged.
    pub(super) unacknowledged: u64,
    /// At most so many.
    pub(super) flight: u64,
    /// Who speaks, if it is a device.
    pub(super) device: Option<Voice>,
    partial: Vec<u8>,
    packet_id: u16,
}

impl Client {
    pub(super) const fn new() -> Client {
        Client {
            state: State::Idle,
            link: None,
            opened: 0,
            spoke: 0,
            unacknowledged: 0,
            flight: FLIGHT,
            device: None,
            partial: Vec::new(),
            packet_id: 0,
        }
    }

    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// A packet identifier for the next message.
    pub(super) fn next_packet_id(&mut self) -> u16 {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.packet_id
    }

    /// Puts the CONNECT into a fresh connection's output.
    pub(super) fn greet(&mut self, link: Link, plan: &ClientPlan, all: &Plan, now: u64) -> io::Result<()> {
        self.state = State::Connecting;
        self.opened = now;
        self.spoke = now;
        if let Some(record) = &plan.device {
            let device = self.device.insert(Voice::new(record, all).map_err(io::Error::other)?);
            return device.greet(now, self.link.insert(link).output()).map_err(io::Error::other);
        }
        let connect = Connect {
            version: all.version,
            clean_start: plan.clean,
            keep_alive: all.keep_alive,
            properties: Properties::EMPTY,
            client_id: &plan.id,
            will: None,
            username: plan.login.as_ref().map(|(name, _)| name.as_str()),
            password: plan.login.as_ref().map(|(_, password)| password.as_bytes()),
        };
        let link = self.link.insert(link);
        Packet::Connect(connect)
            .encode_into(all.version, link.output())
            .map_err(|error| io::Error::other(format!("CONNECT: {error:?}")))?;
        Ok(())
    }

    fn subscribe(&mut self, plan: &ClientPlan, version: Version) -> Result<usize, String> {
        let mut packets = 0;
        for chunk in plan.filters.chunks(FILTERS) {
            let list: Vec<Subscription<'_>> =
                chunk.iter().map(|(filter, qos)| Subscription::new(filter, *qos)).collect();
            let packet_id = self.next_packet_id();
            let subscribe =
                Subscribe { packet_id, properties: Properties::EMPTY, filters: Filters::list(&list) };
            self.send(&Packet::Subscribe(subscribe), version)?;
            packets += 1;
        }
        Ok(packets)
    }

    pub(super) fn send(&mut self, packet: &Packet<'_>, version: Version) -> Result<(), String> {
        let Some(link) = &mut self.link else { return Err("not connected".to_owned()) };
        packet.encode_into(version, link.output()).map_err(|error| format!("encoding: {error:?}"))
    }

    /// Takes what was read and tells what it meant.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        plan: &ClientPlan,
        version: Version,
        now: u64,
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), String> {
        if let (Some(device), Some(link)) = (&mut self.device, &mut self.link) {
            let (state, unacknowledged) = (&mut self.state, &mut self.unacknowledged);
            return device.feed(bytes, now, link.output(), &mut |event| {
                match &event {
                    Event::Ready => *state = State::Ready,
                    Event::Acknowledged(_) => *unacknowledged = unacknowledged.saturating_sub(1),
                    Event::Connected | Event::Message(_) => {}
                }
                tell(event);
            });
        }
        if self.partial.is_empty() {
            let used = self.packets(bytes, plan, version, tell)?;
            self.partial.extend_from_slice(bytes.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut all = std::mem::take(&mut self.partial);
        all.extend_from_slice(bytes);
        let used = self.packets(&all, plan, version, tell)?;
        all.drain(..used);
        if all.is_empty() {
            all.shrink_to(0);
        }
        self.partial = all;
        Ok(())
    }

    fn packets(
        &mut self,
        bytes: &[u8],
        plan: &ClientPlan,
        version: Version,
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let length = match frame_len(rest, LONGEST) {
                Ok(Some(length)) if length <= rest.len() => length,
                Ok(_) => return Ok(used),
                Err(error) => return Err(format!("the broker sent garbage: {error:?}")),
            };
            let frame = rest.get(..length).unwrap_or_default();
            let packet = Packet::decode(frame, version)
                .map_err(|error| format!("the broker sent a malformed packet: {error:?}"))?;
            self.packet(&packet, plan, version, tell)?;
            used += length;
        }
    }

    fn packet(
        &mut self,
        packet: &Packet<'_>,
        plan: &ClientPlan,
        version: Version,
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), String> {
        match packet {
            Packet::Publish(publish) => {
                let id = publish.packet_id.unwrap_or(0);
                match publish.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => self.acknowledge(0x40, id),
                    QoS::ExactlyOnce => self.acknowledge(0x50, id),
                }
                tell(Event::Message(publish.payload));
            }
            Packet::PubAck(ack) => self.acknowledged(ack, tell),
            Packet::PubRec(ack) if ack.reason.is_success() => self.acknowledge(0x62, ack.packet_id),
            Packet::PubRec(ack) => self.acknowledged(ack, tell),
            Packet::PubRel(ack) => self.acknowledge(0x70, ack.packet_id),
            Packet::PubComp(ack) => self.acknowledged(ack, tell),
            Packet::ConnAck(connack) => {
                if connack.reason != ReasonCode::SUCCESS {
                    return Err(format!("refused with {:?}", connack.reason));
                }
                if let Some(maximum) = connack.properties.receive_maximum() {
                    self.flight = u64::from(maximum);
                }
                tell(Event::Connected);
                match self.subscribe(plan, version)? {
                    0 => {
                        self.state = State::Ready;
                        tell(Event::Ready);
                    }
                    packets => self.state = State::Subscribing(packets),
                }
            }
            Packet::SubAck(suback) => {
                if let Some(refused) = suback.reasons().find(|code| !code.is_success()) {
                    return Err(format!("a subscription was refused with {refused:?}"));
                }
                match self.state {
                    State::Subscribing(missing) if missing > 1 => {
                        self.state = State::Subscribing(missing - 1);
                    }
                    State::Subscribing(_) => {
                        self.state = State::Ready;
                        tell(Event::Ready);
                    }
                    _ => {}
                }
            }
            Packet::Disconnect(disconnect) => {
                return Err(format!("the broker disconnects with {:?}", disconnect.reason));
            }
            Packet::PingResp => {}
            other => return Err(format!("the broker sent a {:?}", other.kind())),
        }
        Ok(())
    }

    /// A four-byte acknowledgement, the same in all versions when it has nothing to say.
    fn acknowledge(&mut self, first: u8, packet_id: u16) {
        if let Some(link) = &mut self.link {
            let [high, low] = packet_id.to_be_bytes();
            link.output().extend_from_slice(&[first, 2, high, low]);
        }
    }

    fn acknowledged(&mut self, ack: &Ack<'_>, tell: &mut impl FnMut(Event<'_>)) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        tell(Event::Acknowledged(ack.reason.is_success()));
    }
}
