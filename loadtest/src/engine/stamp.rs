//! What every message of the load carries: which stream, which number, when it was due and when it was sent.
//!
//! Times are nanoseconds of this process's monotonic clock. They never leave the process that wrote them: publisher and
//! receivers of a stream live in one driver, so no two clocks are ever compared.

use std::time::Instant;

/// Bytes of a [`Stamp`]; the shortest payload.
pub const LENGTH: usize = 32;

const MAGIC: [u8; 8] = *b"oaLoad01";

/// The head of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The stream it belongs to.
    pub stream: u32,
    /// Its number in that stream.
    pub sequence: u32,
    /// When it was to be sent.
    pub due: u64,
    /// When its publishing started.
    pub sent: u64,
}

impl Stamp {
    /// Writes itself to the front of `payload`, which is at least [`LENGTH`] long; a shorter one stays as it is.
    pub fn write(&self, payload: &mut [u8]) {
        let Some(head) = payload.first_chunk_mut::<LENGTH>() else { return };
        let parts: [&[u8]; 5] = [
            &MAGIC,
            &self.stream.to_le_bytes(),
            &self.sequence.to_le_bytes(),
            &self.due.to_le_bytes(),
            &self.sent.to_le_bytes(),
        ];
        let mut rest = head.as_mut_slice();
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
    }

    /// The stamp of a payload; `None` if the load did not send it.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Stamp> {
        let rest = payload.strip_prefix(&MAGIC)?;
        let (stream, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (due, rest) = rest.split_first_chunk()?;
        let (sent, _) = rest.split_first_chunk()?;
        Some(Stamp {
            stream: u32::from_le_bytes(*stream),
            sequence: u32::from_le_bytes(*sequence),
            due: u64::from_le_bytes(*due),
            sent: u64::from_le_bytes(*sent),
        })
    }
}

/// Nanoseconds since some moment of this process.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts at zero.
    #[must_use]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{LENGTH, Stamp};

    #[test]
    fn a_stamp_comes_back_as_it_went() {
        let stamp = Stamp { stream: 7, sequence: u32::MAX, due: 1, sent: u64::MAX };
        let mut payload = [0xAA; LENGTH + 3];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(payload[LENGTH..], [0xAA; 3]);
    }

    #[test]
    fn what_the_load_did_not_send_has_none() {
        assert_eq!(Stamp::read(b"21.5"), None);
        assert_eq!(Stamp::read(&[0; LENGTH]), None);
        let mut short = [1; LENGTH - 1];
        Stamp { stream: 0, sequence: 0, due: 0, sent: 0 }.write(&mut short);
        assert_eq!(short, [1; LENGTH - 1]);
    }
}
