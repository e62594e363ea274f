//! What one read leads to, until it is written: packets that are made here, and payloads that stay where they were read.
//!
//! So a payload is never copied on its way: it is written from the buffer that it was read into. Only what a socket does not
//! take at once is copied, into the session's [`Queue`].

use std::io::IoSlice;
use std::ops::Range;

use mqtt_wire::{EncodeError, Packet, Publish, Version};

use super::queue::Queue;

/// Most pieces that go into one system call.
const SLICES: usize = 64;

/// Bytes, and packets, for which a thread's outbox has room from the start.
const ROOM: (usize, usize) = (16 * 1024, 512);

/// Packets for both sides, and room for the names in them. One for all sessions of a thread: it is empty between turns.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) to_client: Batch,
    pub(crate) to_pcm: Batch,
    /// Where a translated topic is put together.
    pub(super) topic: String,
    /// Where a translated Response Topic is put together.
    pub(super) response: String,
    /// Where properties are put together.
    pub(super) properties: Vec<u8>,
}

impl Outbox {
    /// One that does not grow while it is used as usual.
    pub(super) fn roomy() -> Self {
        let batch = || Batch {
            made: Vec::with_capacity(ROOM.0),
            pieces: Vec::with_capacity(ROOM.1),
            ends: Vec::with_capacity(ROOM.1),
        };
        let text = || String::with_capacity(ROOM.1);
        Self {
            to_client: batch(),
            to_pcm: batch(),
            topic: text(),
            response: text(),
            properties: Vec::with_capacity(ROOM.1),
        }
    }

    /// Nothing is under way any more.
    pub(super) fn clear(&mut self) {
        self.to_client.clear();
        self.to_pcm.clear();
    }
}

/// Packets for one side, in order.
#[derive(Default)]
pub(crate) struct Batch {
    made: Vec<u8>,
    pieces: Vec<Piece>,
    /// Where each packet ends.
    ends: Vec<usize>,
}

/// Bytes made here, then a payload of the input, which may be empty.
struct Piece {
    /// Where its bytes in `made` end; they begin where the piece before ends.
    made: usize,
    payload: Range<usize>,
}

impl Batch {
    pub(crate) fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Appends a packet.
    ///
    /// # Errors
    /// The packet cannot be encoded; nothing was appended.
    pub(crate) fn push(&mut self, packet: &Packet<'_>, version: Version) -> Result<(), EncodeError> {
        packet.encode_into(version, &mut self.made)?;
        self.made_until_here(0..0);
        Ok(())
    }

    /// Appends a PUBLISH if it is no longer than `longest`. Its payload is `payload` of the input.
    ///
    /// # Errors
    /// It is longer, or cannot be encoded; nothing was appended.
    pub(crate) fn push_publish(
        &mut self,
        publish: &Publish<'_>,
        version: Version,
        longest: usize,
        payload: Range<usize>,
    ) -> Result<(), EncodeError> {
        let head = publish.head_len(version, payload.len())?;
        if head + payload.len() > longest {
            return Err(EncodeError::TooLong);
        }
        let start = self.made.len();
        self.made.resize(start + head, 0);
        if let Err(error) = publish.encode_head(version, payload.len(), &mut self.made[start..]) {
            self.made.truncate(start);
            return Err(error);
        }
        self.made_until_here(payload);
        Ok(())
    }

    fn made_until_here(&mut self, payload: Range<usize>) {
        let end = self.made.len();
        let before = self.pieces.last().map_or(0, |last| last.made);
        self.ends.push(self.len() + end - before + payload.len());
        match self.pieces.last_mut() {
            Some(last) if last.payload.is_empty() => (last.made, last.payload) = (end, payload),
            _ => self.pieces.push(Piece { made: end, payload }),
        }
    }

    /// The bytes from `written` on, as many pieces as fit, and how many those are.
    pub(crate) fn slices<'a>(&'a self, input: &'a [u8], written: usize) -> ([IoSlice<'a>; SLICES], usize) {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for part in self.parts(input, written).take(SLICES) {
            slices[count] = IoSlice::new(part);
            count += 1;
        }
        (slices, count)
    }

    /// Copies the bytes from `written` on to the end of `queue`, which is empty if any were written.
    pub(crate) fn spill(&self, input: &[u8], written: usize, queue: &mut Queue) {
        for part in self.parts(input, written) {
            queue.push_raw(part);
        }
        if written > 0 {
            let end = self.ends[self.ends.partition_point(|end| *end < written)];
            queue.has_begun(end - written);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.made.clear();
        self.pieces.clear();
        self.ends.clear();
    }

    fn parts<'a>(&'a self, input: &'a [u8], mut skip: usize) -> impl Iterator<Item = &'a [u8]> {
        let mut begin = 0;
        let parts = self.pieces.iter().flat_map(move |piece| {
            let made = &self.made[begin..piece.made];
            begin = piece.made;
            [made, &input[piece.payload.clone()]]
        });
        parts.filter_map(move |part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            Some(&part[skipped..]).filter(|rest| !rest.is_empty())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtt_wire::{Ack, Properties, QoS, ReasonCode};

    fn publish<'a>(payload: &'a [u8]) -> Publish<'a> {
        Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "d/x",
            packet_id: Some(7),
            properties: Properties::EMPTY,
            payload,
        }
    }

    fn bytes(batch: &Batch, input: &[u8], written: usize) -> Vec<u8> {
        let mut queue = Queue::default();
        batch.spill(input, written, &mut queue);
        queue.pending().to_vec()
    }

    #[test]
    fn packets_come_as_the_codec_writes_them_wherever_writing_stopped() {
        let input = b"..21.5..";
        let ack = Packet::PubAck(Ack::new(3, ReasonCode::SUCCESS));
        let message = publish(&input[2..6]);
        let expected = [ack.to_vec(Version::V5), Packet::Publish(message).to_vec(Version::V5)];
        let expected = [&expected[0], &expected[0], &expected[1], &expected[1], &expected[0]];
        let expected: Vec<u8> = expected.into_iter().flatten().copied().collect();
        let mut batch = Batch::default();
        batch.push(&ack, Version::V5).unwrap();
        batch.push(&ack, Version::V5).unwrap();
        batch.push_publish(&message, Version::V5, 100, 2..6).unwrap();
        batch.push_publish(&message, Version::V5, 100, 2..6).unwrap();
        batch.push(&ack, Version::V5).unwrap();
        assert_eq!(batch.len(), expected.len());
        for written in 0..expected.len() {
            assert_eq!(bytes(&batch, input, written), expected[written..], "{written}");
            let (slices, count) = batch.slices(input, written);
            let gathered: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            assert_eq!(gathered, expected[written..]);
            // What is partly written is finished, whatever else is left out.
            let mut queue = Queue::default();
            batch.spill(input, written, &mut queue);
            queue.retain(|_| false);
            let begun = [0, 4, 8, 22, 36, 40].into_iter().find(|end| *end >= written).unwrap();
            assert_eq!(queue.pending(), &expected[written..begun], "{written}");
        }
        batch.clear();
        assert!(batch.is_empty() && bytes(&batch, input, 0).is_empty());
    }

    #[test]
    fn a_payload_is_written_from_where_it_lies() {
        let input = vec![b'x'; 300];
        let mut batch = Batch::default();
        batch.push_publish(&publish(&input[..299]), Version::V311, 400, 0..299).unwrap();
        let (slices, count) = batch.slices(&input, 0);
        assert_eq!(count, 2);
        assert!(std::ptr::eq(slices[1].as_ptr(), input.as_ptr()));
    }

    #[test]
    fn what_is_too_long_leaves_no_trace() {
        let whole = Packet::Publish(publish(b"21.5")).to_vec(Version::V5);
        let mut batch = Batch::default();
        assert!(batch.push_publish(&publish(b"21.5"), Version::V5, whole.len() - 1, 0..4).is_err());
        assert!(batch.is_empty() && batch.slices(b"", 0).1 == 0);
        batch.push_publish(&publish(b"21.5"), Version::V5, whole.len(), 0..4).unwrap();
        assert_eq!(bytes(&batch, b"21.5", 0), whole);
    }

    #[test]
    fn more_pieces_than_one_call_takes_follow_in_the_next() {
        let mut batch = Batch::default();
        for _ in 0..SLICES {
            batch.push_publish(&publish(b"1"), Version::V311, 100, 0..1).unwrap();
        }
        let (mut written, mut calls) = (0, 0);
        while written < batch.len() {
            let (slices, count) = batch.slices(b"1", written);
            written += slices[..count].iter().map(|slice| slice.len()).sum::<usize>();
            calls += 1;
        }
        assert_eq!(calls, 2);
    }
}
