//! Publishing: at most once, or at least once with one message kept.

use mqtt_wire::{Packet, Properties, Publish, QoS, Version};

use super::{Device, PublishError};
use crate::text::Text;

/// Longest channel name, in bytes.
pub const MAX_CHANNEL: usize = 64;
/// Longest payload of [`Device::publish_at_least_once`], in bytes.
pub const MAX_KEPT_PAYLOAD: usize = 192;

/// Where a device says what state it is in.
const REPORTED: &str = "s/reported";

/// A channel's topic.
pub(super) type Topic = Text<{ MAX_CHANNEL + 2 }>;

const KEPT: usize = MAX_KEPT_PAYLOAD + MAX_CHANNEL + 16;

/// A message that is kept until the gateway has acknowledged it.
pub(super) struct Kept {
    pub(super) bytes: [u8; KEPT],
    pub(super) len: usize,
    pub(super) packet_id: u16,
    pub(super) sent: bool,
}

impl<const RX: usize, const TX: usize> Device<RX, TX> {
    /// Publishes to `d/<channel>`, at most once: nothing is kept for later. `retain`: the owner's broker keeps it as the
    /// channel's last value, as far as a consent allows.
    pub fn publish(&mut self, channel: &str, payload: &[u8], retain: bool) -> Result<(), PublishError> {
        self.name(channel)?;
        if !self.is_running() {
            return Err(PublishError::NotConnected);
        }
        if payload.len() + channel.len() + 9 > TX {
            return Err(PublishError::TooLong);
        }
        self.session.publish(self.topic.as_str(), payload, retain).map_err(|_| PublishError::Busy)
    }

    /// Makes the channel's topic. Most devices say the same one again and again: what was checked is not checked once more.
    fn name(&mut self, channel: &str) -> Result<(), PublishError> {
        if self.topic.as_bytes().strip_prefix(b"d/") != Some(channel.as_bytes()) {
            self.topic = topic(channel)?;
        }
        Ok(())
    }

    /// Publishes to `d/<channel>`, at least once: kept, one at a time and not over a restart, until the gateway has
    /// acknowledged it.
    pub fn publish_at_least_once(
        &mut self,
        channel: &str,
        payload: &[u8],
        retain: bool,
    ) -> Result<(), PublishError> {
        self.name(channel)?;
        if self.record.grant().is_none() {
            return Err(PublishError::NotConnected);
        }
        if payload.len() > MAX_KEPT_PAYLOAD {
            return Err(PublishError::TooLong);
        }
        if self.kept.is_some() {
            return Err(PublishError::Busy);
        }
        let packet_id = self.packet_id();
        let packet = Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain,
            topic: self.topic.as_str(),
            packet_id: Some(packet_id),
            properties: Properties::EMPTY,
            payload,
        });
        let mut bytes = [0; KEPT];
        let len = packet.encode(Version::V311, &mut bytes).map_err(|_| PublishError::TooLong)?;
        self.kept = Some(Kept { bytes, len, packet_id, sent: false });
        Ok(())
    }

    /// True while a message of [`Device::publish_at_least_once`] has not been acknowledged.
    pub fn keeps_message(&self) -> bool {
        self.kept.is_some()
    }

    /// Reports the device's state to its shadow, at most once: `patch` is a JSON merge patch (RFC 7396) whose members are
    /// channels. The owner's broker keeps it as far as a consent allows, and answers with [`Action::Delta`](crate::Action::Delta)
    /// where something else is wanted.
    pub fn report(&mut self, patch: &[u8]) -> Result<(), PublishError> {
        if !self.is_running() {
            return Err(PublishError::NotConnected);
        }
        if patch.len() + REPORTED.len() + 7 > TX {
            return Err(PublishError::TooLong);
        }
        self.session.publish(REPORTED, patch, false).map_err(|_| PublishError::Busy)
    }

    pub(super) fn packet_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }
}

fn topic(channel: &str) -> Result<Topic, PublishError> {
    let mut topic = Text::EMPTY;
    if is_channel(channel) && topic.push("d/") && topic.push(channel) {
        Ok(topic)
    } else {
        Err(PublishError::Channel)
    }
}

/// One to four levels of ASCII letters, digits, `-` and `_`, [`MAX_CHANNEL`] bytes at most.
pub(super) fn is_channel(name: &str) -> bool {
    let (mut levels, mut empty) = (1, true);
    for byte in name.bytes() {
        match byte {
            b'/' if empty => return false,
            b'/' => (levels, empty) = (levels + 1, true),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => empty = false,
            _ => return false,
        }
    }
    name.len() <= MAX_CHANNEL && levels <= 4 && !empty
}
