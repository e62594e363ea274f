//! One stream of messages: when the next may go, and what came of the earlier ones.
//!
//! Pure: time is a parameter, bytes and sockets are [`super::client`]'s.

use mqtt_wire::{EncodeError, Properties, Publish, QoS, Version};

use super::plan::{Pace, StreamPlan};
use super::stamp::Stamp;

/// What has happened on a stream so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages published.
    pub sent: u64,
    /// Copies received.
    pub received: u64,
    /// Copies given up.
    pub lost: u64,
    /// Copies that came although a later one, or the same, had come before (counted with one receiver only).
    pub disordered: u64,
}

impl Counts {
    /// What happened since `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Counts) -> Counts {
        Counts {
            sent: self.sent.wrapping_sub(earlier.sent),
            received: self.received.wrapping_sub(earlier.received),
            lost: self.lost.wrapping_sub(earlier.lost),
            disordered: self.disordered.wrapping_sub(earlier.disordered),
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(&self, other: &Counts) -> Counts {
        Counts {
            sent: self.sent + other.sent,
            received: self.received + other.received,
            lost: self.lost + other.lost,
            disordered: self.disordered + other.disordered,
        }
    }
}

/// The answer to "may another one go?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Yes; it was due at that time.
    Send(u64),
    /// Not before that time.
    At(u64),
    /// Not before something arrives.
    Wait,
}

pub(super) struct Stream {
    pub(super) publisher: usize,
    pub(super) qos: QoS,
    pub(super) counts: Counts,
    /// Already in the list of streams to look at.
    pub(super) hungry: bool,
    /// Already in the queue of streams that are due at some time.
    pub(super) scheduled: bool,
    /// Which histogram.
    pub(super) group: usize,
    topic: String,
    /// Whether the broker is to keep them.
    pub(super) retain: bool,
    /// Number in the engine.
    number: u32,
    frame: Vec<u8>,
    packet_id_at: usize,
    payload_at: usize,
    pace: Pace,
    receivers: u64,
    /// Copies that no longer hold up the closed loop.
    credited: u64,
    /// Messages below this number were given up; they come without credit.
    floor: u64,
    /// Receipts when somebody last looked, for [`Self::give_up_stalled`].
    seen: u64,
    next_due: u64,
    /// The number that comes next if nothing is lost.
    expected: u64,
}

impl Stream {
    pub(super) fn new(number: u32, plan: &StreamPlan, version: Version) -> Result<Stream, EncodeError> {
        let publish = Publish {
            dup: false,
            qos: plan.qos,
            retain: plan.retain,
            topic: &plan.topic,
            packet_id: (plan.qos != QoS::AtMostOnce).then_some(1),
            properties: Properties::EMPTY,
            payload: b"",
        };
        let head = publish.head_len(version, plan.length())?;
        let mut frame = vec![b'.'; head + plan.length()];
        publish.encode_head(version, plan.length(), &mut frame)?;
        let property_length = usize::from(version == Version::V5);
        Ok(Stream {
            publisher: plan.publisher,
            qos: plan.qos,
            counts: Counts::default(),
            hungry: false,
            scheduled: false,
            group: plan.group,
            topic: plan.topic.clone(),
            retain: plan.retain,
            number,
            frame,
            packet_id_at: head.saturating_sub(property_length + 2),
            payload_at: head,
            pace: plan.pace,
            receivers: plan.receivers,
            credited: 0,
            floor: 0,
            seen: 0,
            next_due: 0,
            expected: 0,
        })
    }

    /// The load starts.
    pub(super) fn start(&mut self, now: u64) {
        if let Pace::Open { offset, .. } = self.pace {
            self.next_due = now.saturating_add(nanoseconds(offset));
        }
    }

    /// Whether another message may go, with so many unacknowledged of at most so many.
    pub(super) fn next(&self, now: u64, unacknowledged: u64, flight: u64) -> Next {
        if self.qos != QoS::AtMostOnce && unacknowledged >= flight {
            return Next::Wait;
        }
        match self.pace {
            Pace::Closed { window } => {
                let free = if self.receivers == 0 {
                    // Nobody but the acknowledgement tells of the end of such a message.
                    self.qos != QoS::AtMostOnce && unacknowledged < window
                } else {
                    let out = (self.counts.sent * self.receivers).saturating_sub(self.credited);
                    out.div_ceil(self.receivers) < window
                        && (self.qos == QoS::AtMostOnce || unacknowledged < window)
                };
                if free { Next::Send(now) } else { Next::Wait }
            }
            Pace::Open { .. } if self.next_due <= now => Next::Send(self.next_due),
            Pace::Open { .. } => Next::At(self.next_due),
            Pace::Once { messages } if self.counts.sent < messages => Next::Send(now),
            Pace::Once { .. } => Next::Wait,
        }
    }

    /// Topic and payload of the next message; [`Stream::went`] counts it.
    pub(super) fn message(&mut self, due: u64, now: u64) -> (&str, &[u8]) {
        let stamp = Stamp { stream: self.number, sequence: low(self.counts.sent), due, sent: now };
        if let Some(payload) = self.frame.get_mut(self.payload_at..) {
            stamp.write(payload);
        }
        (&self.topic, self.frame.get(self.payload_at..).unwrap_or_default())
    }

    /// Appends the next message to `out`.
    pub(super) fn write(&mut self, packet_id: u16, due: u64, now: u64, out: &mut Vec<u8>) {
        self.message(due, now);
        if self.qos != QoS::AtMostOnce
            && let Some(place) = self.frame.get_mut(self.packet_id_at..self.packet_id_at + 2)
        {
            place.copy_from_slice(&packet_id.to_be_bytes());
        }
        out.extend_from_slice(&self.frame);
        self.went();
    }

    /// The next message is out.
    pub(super) fn went(&mut self) {
        self.counts.sent += 1;
        if let Pace::Open { interval, .. } = self.pace {
            self.next_due = self.next_due.saturating_add(nanoseconds(interval));
        }
    }

    /// A copy arrived.
    pub(super) fn received(&mut self, stamp: &Stamp) {
        self.counts.received += 1;
        let number = self.full(stamp.sequence);
        if number >= self.floor {
            self.credited += 1;
        }
        if self.receivers == 1 {
            if number < self.expected {
                self.counts.disordered += 1;
            } else {
                self.expected = number + 1;
            }
        }
    }

    /// Copies that are still to come.
    pub(super) fn outstanding(&self) -> u64 {
        (self.counts.sent * self.receivers).saturating_sub(self.credited)
    }

    /// Gives up what has not come if nothing came since the last call; answers whether the loop goes on by that.
    pub(super) fn give_up_stalled(&mut self) -> bool {
        let silent = self.seen == self.counts.received;
        self.seen = self.counts.received;
        let missing = self.outstanding();
        if !silent || missing == 0 {
            return false;
        }
        self.counts.lost += missing;
        self.credited += missing;
        self.floor = self.counts.sent;
        true
    }

    /// The whole number of which only the lower half travels: the largest one not above what was sent.
    fn full(&self, sequence: u32) -> u64 {
        let base = self.counts.sent & !u64::from(u32::MAX);
        let number = base | u64::from(sequence);
        if number > self.counts.sent { number.saturating_sub(1 << 32) } else { number }
    }
}

fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

fn nanoseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Next, Stream};
    use crate::engine::plan::{Pace, StreamPlan};
    use crate::engine::stamp::Stamp;
    use mqtt_wire::{Packet, QoS, Version, frame_len};
    use std::time::Duration;

    fn stream(qos: QoS, pace: Pace, receivers: u64) -> Stream {
        let plan = StreamPlan { receivers, ..StreamPlan::new(0, "a/b", qos, pace) };
        Stream::new(3, &plan, Version::V5).expect("a short topic")
    }

    fn send(stream: &mut Stream, due: u64, now: u64) -> Stamp {
        let mut out = Vec::new();
        stream.write(513, due, now, &mut out);
        assert_eq!(frame_len(&out, 1000), Ok(Some(out.len())));
        let Ok(Packet::Publish(publish)) = Packet::decode(&out, Version::V5) else { panic!("no PUBLISH") };
        assert_eq!(publish.topic, "a/b");
        assert_eq!(publish.packet_id, (stream.qos != QoS::AtMostOnce).then_some(513));
        assert_eq!(publish.payload.len(), 100);
        Stamp::read(publish.payload).expect("a stamp")
    }

    #[test]
    fn a_window_is_kept_and_opens_by_receipts() {
        let mut stream = stream(QoS::AtMostOnce, Pace::Closed { window: 2 }, 3);
        let first = send(&mut stream, 1, 1);
        send(&mut stream, 2, 2);
        assert_eq!(stream.next(3, 0, 100), Next::Wait);
        stream.received(&first);
        stream.received(&first);
        assert_eq!(stream.next(3, 0, 100), Next::Wait, "one of three has not got it");
        stream.received(&first);
        assert_eq!(stream.next(4, 0, 100), Next::Send(4));
        assert_eq!(stream.outstanding(), 3);
    }

    #[test]
    fn acknowledgements_hold_up_a_window_too() {
        let mut stream = stream(QoS::ExactlyOnce, Pace::Closed { window: 1 }, 1);
        let first = send(&mut stream, 1, 1);
        stream.received(&first);
        assert_eq!(stream.next(2, 1, 100), Next::Wait);
        assert_eq!(stream.next(2, 0, 100), Next::Send(2));
        assert_eq!(stream.next(2, 0, 0), Next::Wait, "the broker's receive maximum");
    }

    #[test]
    fn an_open_loop_remembers_when_a_message_was_due() {
        let pace = Pace::Open { interval: Duration::from_nanos(100), offset: Duration::from_nanos(50) };
        let mut stream = stream(QoS::AtMostOnce, pace, 1);
        stream.start(1000);
        assert_eq!(stream.next(1049, 0, 9), Next::At(1050));
        // The driver or the broker stalls until 1300: three messages are overdue, each from its own time.
        let mut due = Vec::new();
        while let Next::Send(time) = stream.next(1300, 0, 9) {
            due.push(send(&mut stream, time, 1300));
        }
        assert_eq!(due.iter().map(|stamp| stamp.due).collect::<Vec<_>>(), [1050, 1150, 1250]);
        assert!(due.iter().all(|stamp| stamp.sent == 1300 && stamp.stream == 3));
        assert_eq!(stream.next(1300, 0, 9), Next::At(1350));
    }

    #[test]
    fn what_was_lost_is_counted_and_the_loop_goes_on() {
        let mut stream = stream(QoS::AtMostOnce, Pace::Closed { window: 1 }, 1);
        let late = send(&mut stream, 1, 1);
        assert!(stream.give_up_stalled(), "nothing came since the start");
        assert_eq!((stream.counts.lost, stream.next(9, 0, 9)), (1, Next::Send(9)));
        send(&mut stream, 9, 9);
        stream.received(&late);
        assert_eq!(stream.next(10, 0, 9), Next::Wait, "a late copy gives no credit");
        assert!(!stream.give_up_stalled());
    }

    #[test]
    fn disorder_is_counted() {
        let mut stream = stream(QoS::AtMostOnce, Pace::Once { messages: 3 }, 1);
        let stamps: Vec<Stamp> = (0..3).map(|now| send(&mut stream, now, now)).collect();
        assert_eq!(stream.next(3, 0, 9), Next::Wait, "all are out");
        for which in [0, 2, 1, 1] {
            stream.received(&stamps[which]);
        }
        assert_eq!(stream.counts.disordered, 2);
    }

    #[test]
    fn numbers_beyond_32_bits_are_told_apart() {
        let mut stream = stream(QoS::AtMostOnce, Pace::Once { messages: u64::MAX }, 1);
        stream.counts.sent = (1 << 32) + 5;
        assert_eq!(stream.full(3), (1 << 32) + 3);
        assert_eq!(stream.full(u32::MAX), u64::from(u32::MAX));
    }
}
