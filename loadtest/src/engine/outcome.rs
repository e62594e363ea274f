//! What an engine measured, how it travels from a driver to the manager, and how the parts become one.

use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use serde::{Deserialize, Serialize};

use super::plan::GROUPS;
use super::stream::Counts;

/// Longest latency that is told apart, in nanoseconds.
const LONGEST: u64 = 120_000_000_000;

/// What an engine saw since the last [`Engine::mark`](super::Engine::mark).
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Seconds since the mark.
    pub seconds: f64,
    /// From when a message was due to its receipt, in nanoseconds.
    pub latency: Histogram<u64>,
    /// From when its publishing really started, in nanoseconds; the same as `latency` in closed loops.
    pub service: Histogram<u64>,
    /// `latency` of the streams of each group.
    pub groups: Vec<Histogram<u64>>,
    /// Of all streams together.
    pub counts: Counts,
    /// Of each stream.
    pub streams: Vec<Counts>,
    /// Messages that the broker acknowledged with a refusal.
    pub refused: u64,
    /// Messages that this load did not send.
    pub foreign: u64,
    /// Connections that ended, with the first reason.
    pub ended: (u64, Option<String>),
}

/// A histogram as all of this crate's are.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds are constant and valid")
}

/// What is measured.
pub(super) struct Tally {
    pub(super) latency: Histogram<u64>,
    pub(super) service: Histogram<u64>,
    pub(super) groups: Vec<Histogram<u64>>,
    pub(super) connects: Histogram<u64>,
    pub(super) refused: u64,
    pub(super) foreign: u64,
    pub(super) ended: u64,
    pub(super) reason: Option<String>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            latency: histogram(),
            service: histogram(),
            groups: (0..GROUPS).map(|_| histogram()).collect(),
            connects: histogram(),
            refused: 0,
            foreign: 0,
            ended: 0,
            reason: None,
        }
    }
}

/// An [`Outcome`] as JSON: histograms in HdrHistogram's V2 encoding, which keeps every bucket's count.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sent {
    seconds: f64,
    latency: String,
    service: String,
    groups: Vec<String>,
    streams: Vec<[u64; 4]>,
    refused: u64,
    foreign: u64,
    ended: (u64, Option<String>),
}

/// A histogram as text.
///
/// # Errors
/// It cannot be encoded.
pub fn encode(histogram: &Histogram<u64>) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(histogram, &mut bytes).context("encode a histogram")?;
    Ok(STANDARD.encode(bytes))
}

/// A histogram from text.
///
/// # Errors
/// It is none.
pub fn decode(text: &str) -> anyhow::Result<Histogram<u64>> {
    let bytes = STANDARD.decode(text).context("a histogram")?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| anyhow::anyhow!("a histogram: {error:?}"))
}

impl Outcome {
    /// Nothing yet.
    #[must_use]
    pub fn empty() -> Outcome {
        Outcome {
            seconds: 0.0,
            latency: histogram(),
            service: histogram(),
            groups: (0..GROUPS).map(|_| histogram()).collect(),
            counts: Counts::default(),
            streams: Vec::new(),
            refused: 0,
            foreign: 0,
            ended: (0, None),
        }
    }

    /// For the manager.
    ///
    /// # Errors
    /// A histogram cannot be encoded.
    pub fn send(&self) -> anyhow::Result<Sent> {
        Ok(Sent {
            seconds: self.seconds,
            latency: encode(&self.latency)?,
            service: encode(&self.service)?,
            groups: self.groups.iter().map(encode).collect::<anyhow::Result<_>>()?,
            streams: self
                .streams
                .iter()
                .map(|counts| [counts.sent, counts.received, counts.lost, counts.disordered])
                .collect(),
            refused: self.refused,
            foreign: self.foreign,
            ended: self.ended.clone(),
        })
    }

    /// From a driver.
    ///
    /// # Errors
    /// A histogram cannot be read.
    pub fn receive(sent: &Sent) -> anyhow::Result<Outcome> {
        let streams: Vec<Counts> = sent
            .streams
            .iter()
            .map(|[sent, received, lost, disordered]| Counts {
                sent: *sent,
                received: *received,
                lost: *lost,
                disordered: *disordered,
            })
            .collect();
        Ok(Outcome {
            seconds: sent.seconds,
            latency: decode(&sent.latency)?,
            service: decode(&sent.service)?,
            groups: sent.groups.iter().map(|text| decode(text)).collect::<anyhow::Result<_>>()?,
            counts: streams.iter().fold(Counts::default(), |sum, one| sum.plus(one)),
            streams,
            refused: sent.refused,
            foreign: sent.foreign,
            ended: sent.ended.clone(),
        })
    }

    /// Takes another part of the same run in; all histograms have the same buckets, so no count moves.
    ///
    /// # Errors
    /// A histogram of other bounds.
    pub fn merge(&mut self, other: &Outcome) -> anyhow::Result<()> {
        self.seconds = self.seconds.max(other.seconds);
        self.latency.add(&other.latency).context("merge")?;
        self.service.add(&other.service).context("merge")?;
        for (own, other) in self.groups.iter_mut().zip(&other.groups) {
            own.add(other).context("merge")?;
        }
        self.counts = self.counts.plus(&other.counts);
        self.streams.extend_from_slice(&other.streams);
        self.refused += other.refused;
        self.foreign += other.foreign;
        self.ended.0 += other.ended.0;
        if self.ended.1.is_none() {
            self.ended.1.clone_from(&other.ended.1);
        }
        Ok(())
    }

    /// How evenly the streams were served: the slowest's share of the median's, from 0 to 1; none if there are no streams.
    #[must_use]
    pub fn fairness(&self) -> Option<f64> {
        let mut received: Vec<u64> = self.streams.iter().map(|counts| counts.received).collect();
        received.sort_unstable();
        let median = *received.get(received.len() / 2)?;
        let least = *received.first()?;
        (median > 0).then(|| crate::results::float(least) / crate::results::float(median))
    }

    /// Its time.
    #[must_use]
    pub fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, Outcome};

    #[test]
    fn parts_become_one_without_loss() {
        let (mut one, mut other) = (Outcome::empty(), Outcome::empty());
        for (at, outcome) in [&mut one, &mut other].into_iter().enumerate() {
            for value in 1..2000_u64 {
                outcome.latency.record(value * 977 * (1 + at as u64 * 3)).expect("in range");
            }
            outcome.streams = vec![Counts { sent: 5, received: 4 + at as u64, lost: 1, disordered: 0 }];
            outcome.counts = outcome.streams[0];
        }
        let mut whole = one.latency.clone();
        whole.add(&other.latency).expect("same bounds");
        let sent = serde_json::to_string(&other.send().expect("it is sent")).expect("JSON");
        let received = Outcome::receive(&serde_json::from_str(&sent).expect("JSON")).expect("it is received");
        assert_eq!(received.latency, other.latency);
        one.merge(&received).expect("same bounds");
        assert_eq!(one.latency, whole);
        assert_eq!((one.counts.sent, one.counts.received, one.streams.len()), (10, 9, 2));
        assert!((one.fairness().expect("two streams") - 0.8).abs() < 1e-9);
    }
}
