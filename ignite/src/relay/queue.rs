//! Bytes on their way to one side: appended packet by packet, taken as the socket allows.

use mqtt_wire::{EncodeError, Packet, Publish, Version};

/// An outgoing buffer. Its bound is the relay's: it stops reading whatever could add to a long one.
#[derive(Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    taken: usize,
}

/// What a silent session keeps.
const KEPT: usize = 1024;
/// Beyond this the taken part is cut off instead of waiting for an empty buffer.
const COMPACT: usize = 64 * 1024;

impl Queue {
    /// What is to be written.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `count` bytes were written.
    pub(crate) fn take(&mut self, count: usize) {
        self.taken += count;
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        } else if self.taken > COMPACT {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }

    /// Gives memory back while there is nothing to keep in it.
    pub(crate) fn give_back(&mut self) {
        if self.is_empty() {
            self.bytes.shrink_to(KEPT);
        }
    }

    /// Appends bytes that are a packet already.
    pub(crate) fn push_raw(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
    }

    /// Appends a packet.
    ///
    /// # Errors
    /// The packet cannot be encoded; nothing was appended.
    pub(crate) fn push(&mut self, packet: &Packet<'_>, version: Version) -> Result<(), EncodeError> {
        packet.encode_into(version, &mut self.bytes)
    }

    /// Appends a PUBLISH if it is no longer than `longest`; the payload is copied once, from frame to buffer.
    ///
    /// # Errors
    /// It is longer, or cannot be encoded; nothing was appended.
    pub(crate) fn push_publish(
        &mut self,
        publish: &Publish<'_>,
        version: Version,
        longest: usize,
    ) -> Result<(), EncodeError> {
        let head = publish.head_len(version, publish.payload.len())?;
        if head + publish.payload.len() > longest {
            return Err(EncodeError::TooLong);
        }
        let start = self.bytes.len();
        self.bytes.resize(start + head, 0);
        if let Err(error) = publish.encode_head(version, publish.payload.len(), &mut self.bytes[start..]) {
            self.bytes.truncate(start);
            return Err(error);
        }
        self.bytes.extend_from_slice(publish.payload);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt_wire::{Properties, QoS};

    #[test]
    fn what_was_taken_is_gone_and_the_rest_stays_in_order() {
        let mut queue = Queue::default();
        queue.push_raw(b"abc");
        queue.take(2);
        queue.push_raw(b"de");
        assert_eq!(queue.pending(), b"cde");
        queue.take(3);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_publish_is_written_as_the_codec_writes_it_or_not_at_all() {
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "d/x",
            packet_id: Some(7),
            properties: Properties::EMPTY,
            payload: b"21.5",
        };
        let whole = Packet::Publish(publish).to_vec(Version::V5);
        let mut queue = Queue::default();
        assert_eq!(queue.push_publish(&publish, Version::V5, whole.len()), Ok(()));
        assert_eq!(queue.pending(), whole);
        assert!(queue.push_publish(&publish, Version::V5, whole.len() - 1).is_err());
        assert_eq!(queue.pending(), whole);
    }
}
