//! Bytes that a side's socket did not take at once: appended packet by packet, taken as the socket allows.

use mqtt_wire::frame_len;

/// An outgoing buffer. Its bound is the relay's: it stops reading whatever could add to a long one.
#[derive(Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    taken: usize,
    /// End of the packet that is partly written, or `taken`: what is before it has to be written.
    begun: usize,
}

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

    /// Nothing waits any more.
    pub(crate) fn clear(&mut self) {
        self.take(self.len());
    }

    /// The first `count` bytes, which were just appended, are the rest of a packet that is partly written.
    pub(crate) fn has_begun(&mut self, count: usize) {
        self.begun = self.taken + count;
    }

    /// The buffer, if there is nothing in it: somebody else may have use for it.
    pub(crate) fn give_back(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.bytes.capacity() > 0).then(|| std::mem::take(&mut self.bytes))
    }

    /// Uses `buffer`, which is empty, for what comes, if it has none of its own.
    pub(crate) fn borrow(&mut self, buffer: impl FnOnce() -> Vec<u8>) {
        if self.bytes.capacity() == 0 {
            self.bytes = buffer();
        }
    }

    /// Appends bytes that are a packet already.
    pub(crate) fn push_raw(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
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
    use mqtt_wire::{Ack, Packet, ReasonCode, Version};

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
    fn an_empty_queue_lends_its_buffer_to_others() {
        let mut queue = Queue::default();
        queue.borrow(|| Vec::with_capacity(64));
        queue.push_raw(b"abc");
        queue.borrow(|| panic!("it has one"));
        assert_eq!(queue.give_back(), None);
        queue.take(3);
        assert_eq!(queue.give_back().map(|buffer| buffer.capacity()), Some(64));
        queue.push_raw(b"d");
        assert_eq!(queue.pending(), b"d");
    }
}
