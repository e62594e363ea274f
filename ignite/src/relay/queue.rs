//! Bytes on their way to one side: appended packet by packet, taken as the socket allows.

use mqtt_wire::{EncodeError, Packet, Publish, Version, frame_len};

/// An outgoing buffer. Its bound is the relay's: it stops reading whatever could add to a long one.
#[derive(Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    taken: usize,
    /// End of the packet that is partly written, or `taken`: what is before it has to be written.
    begun: usize,
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
        while self.begun < self.taken {
            self.begun += first_packet(&self.bytes[self.begun..]);
        }
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            (self.taken, self.begun) = (0, 0);
        } else if self.taken > COMPACT {
            self.bytes.drain(..self.taken);
            self.begun -= self.taken;
            self.taken = 0;
        }
    }

    /// Leaves out the packets that `keep` does not want, of those of which nothing was written.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        let waiting = self.bytes.split_off(self.begun);
        let mut rest = waiting.as_slice();
        while !rest.is_empty() {
            let (packet, next) = rest.split_at(first_packet(rest));
            if keep(packet) {
                self.bytes.extend_from_slice(packet);
            }
            rest = next;
        }
        self.take(0);
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

/// Length of the packet that `bytes`, which are not empty, begin with.
fn first_packet(bytes: &[u8]) -> usize {
    match frame_len(bytes, usize::MAX) {
        Ok(Some(length)) => length.clamp(1, bytes.len()),
        Ok(None) | Err(_) => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt_wire::{Ack, Properties, QoS, ReasonCode};

    #[test]
    fn what_is_not_wanted_any_more_is_left_out_but_not_half_of_a_packet() {
        let frame = |id| Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)).to_vec(Version::V311);
        for written in 0..=12 {
            let mut queue = Queue::default();
            for id in 1..=4 {
                queue.push_raw(&frame(id));
            }
            queue.take(written);
            queue.retain(|packet| packet == frame(4));
            let begun = written.next_multiple_of(4);
            let expected = [&[frame(1), frame(2), frame(3)].concat()[written..begun], &frame(4)].concat();
            assert_eq!(queue.pending(), expected, "{written}");
            queue.retain(|_| false);
            assert_eq!(queue.len(), begun - written);
            queue.push_raw(&frame(5));
            queue.take(begun - written);
            assert_eq!(queue.pending(), frame(5));
        }
    }

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
