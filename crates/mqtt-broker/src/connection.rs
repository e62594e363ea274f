//! One client's connection: what was agreed at CONNECT, and the bytes that wait to be written.

use crate::aliases::Aliases;
use crate::message::{Content, Envelope, encode};
use mqtt_wire::{Packet, Publish, Version, frame_len};

/// Who a connection is, as the shell established it before the first MQTT byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The grant it runs under.
    pub sid: String,
    /// The client identifier that its CONNECT must carry.
    pub client: String,
}

pub(crate) struct Connection {
    pub(crate) identity: Option<Identity>,
    /// There from a successful CONNECT on.
    pub(crate) session: Option<usize>,
    pub(crate) version: Version,
    pub(crate) opened_at: u64,
    pub(crate) last_seen: u64,
    /// One and a half times the keep alive (§3.1.2.10), in milliseconds; 0 for none.
    pub(crate) patience_ms: u64,
    /// The client's maximum packet size in bytes.
    pub(crate) max_packet: usize,
    /// The client's receive maximum, or ours if that is lower.
    pub(crate) window: usize,
    /// Whether the client takes reason strings (§3.1.2.11.7): who says nothing does.
    pub(crate) wants_reasons: bool,
    /// Whether it said so.
    pub(crate) asked_for_reasons: bool,
    /// Topic aliases that the client has set; index 0 is alias 1.
    pub(crate) aliases: Vec<Option<Box<str>>>,
    /// Topic aliases that it was given.
    pub(crate) given: Aliases,
    pub(crate) output: Output,
    /// To be closed once the output is written.
    pub(crate) closing: bool,
    /// On the broker's list of connections to look after.
    pub(crate) listed: bool,
}

impl Connection {
    pub(crate) fn new(identity: Option<Identity>, now: u64) -> Connection {
        Connection {
            identity,
            session: None,
            version: Version::V311,
            opened_at: now,
            last_seen: now,
            patience_ms: 0,
            max_packet: usize::MAX,
            window: 1,
            wants_reasons: true,
            asked_for_reasons: false,
            aliases: Vec::new(),
            given: Aliases::default(),
            output: Output::default(),
            closing: false,
            listed: false,
        }
    }

    /// Appends a packet, unless it is longer than the client takes. Answers whether it was.
    pub(crate) fn send(&mut self, packet: &Packet<'_>) -> bool {
        if packet.encoded_len(self.version) > self.max_packet {
            return false;
        }
        packet.encode_into(self.version, &mut self.output.bytes).is_ok()
    }

    /// Appends a message, unless it is longer than the client takes. Answers whether it was.
    pub(crate) fn publish(&mut self, content: Content<'_>, envelope: Envelope<'_>, now: u64) -> bool {
        let out = &mut self.output.bytes;
        let mut put = |topic, alias| {
            encode(Content { topic, ..content }, envelope, alias, self.version, self.max_packet, now, out)
        };
        if let Some(alias) = self.given.of(content.topic) {
            return put("", Some(alias));
        }
        if let Some(alias) = self.given.free_for(content.topic)
            && put(content.topic, Some(alias))
        {
            self.given.introduce(alias, content.topic);
            return true;
        }
        put(content.topic, None)
    }

    /// Drops the messages of which nothing is written yet and that `keep` does not choose. It must choose all or none of a
    /// topic: what is left may name it by an alias only.
    pub(crate) fn retain_messages(&mut self, mut keep: impl FnMut(&Publish<'_>) -> bool) {
        let Connection { output, given, version, .. } = self;
        let mut dropped: Vec<Box<str>> = Vec::new();
        output.retain(|frame| {
            let Ok(Packet::Publish(publish)) = Packet::decode(frame, *version) else { return true };
            let alias = publish.properties.topic_alias();
            let topic = alias.and_then(|alias| given.topic(alias)).unwrap_or(publish.topic);
            let keeps = keep(&Publish { topic, ..publish });
            if !keeps && alias.is_some() {
                dropped.push(topic.into());
            }
            keeps
        });
        // The packet that would have introduced the alias may be among them.
        given.retain(|topic| !dropped.iter().any(|dropped| **dropped == *topic));
    }
}

/// Encoded packets that wait to be written. The bytes begin at the start of a packet, part of which may be written.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    written: usize,
}

/// An empty output keeps at most this much memory.
const KEPT_CAPACITY: usize = 4 << 10;
/// So many written bytes are worth moving the rest to the front.
const COMPACT_AT: usize = 32 << 10;

impl Output {
    pub(crate) fn pending(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    pub(crate) fn advance(&mut self, count: usize) {
        self.written = (self.written + count).min(self.bytes.len());
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_CAPACITY);
            self.written = 0;
        } else if self.written >= COMPACT_AT {
            let start = self.start_of_partial();
            self.bytes.drain(..start);
            self.written -= start;
        }
    }

    /// Throws away what is not written, be it a part of a packet.
    pub(crate) fn drop_unwritten(&mut self) {
        *self = Output::default();
    }

    /// Start of the packet that the first unwritten byte belongs to.
    fn start_of_partial(&self) -> usize {
        let mut start = 0;
        while let Some(length) = self.packet_at(start).filter(|length| start + length <= self.written) {
            start += length;
        }
        start
    }

    fn packet_at(&self, start: usize) -> Option<usize> {
        let rest = self.bytes.get(start..).filter(|rest| !rest.is_empty())?;
        frame_len(rest, usize::MAX).ok().flatten()
    }

    /// Drops every packet of which nothing is written yet and that `keep` does not choose.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        let mut start = self.start_of_partial();
        if start < self.written {
            start += self.packet_at(start).unwrap_or(0);
        }
        let mut kept = start;
        while let Some(length) = self.packet_at(start) {
            let end = (start + length).min(self.bytes.len());
            if self.bytes.get(start..end).is_some_and(&mut keep) {
                self.bytes.copy_within(start..end, kept);
                kept += end - start;
            }
            start = end;
        }
        self.bytes.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::Output;

    #[test]
    fn a_packet_that_is_partly_written_stays_whole() {
        let mut output = Output { bytes: vec![0xC0, 0, 0x40, 2, 0, 1, 0x40, 2, 0, 2, 0xD0, 0], written: 0 };
        output.advance(3);
        output.retain(|packet| packet[0] == 0xD0);
        assert_eq!(output.pending(), [2, 0, 1, 0xD0, 0]);
        output.retain(|_| false);
        assert_eq!(output.pending(), [2, 0, 1]);
        output.advance(3);
        assert!(output.bytes.is_empty());
    }

    #[test]
    fn nothing_written_means_everything_may_go() {
        let mut output = Output { bytes: vec![0x40, 2, 0, 1, 0xD0, 0], written: 0 };
        output.retain(|packet| packet[0] != 0x40);
        assert_eq!(output.pending(), [0xD0, 0]);
    }
}
