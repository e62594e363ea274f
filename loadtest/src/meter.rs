//! CPU time by part: what each process of a system has had, all its threads together.

use std::collections::BTreeMap;

use crate::process;
use crate::results::Row;

/// The processes of a system, by part.
#[derive(Clone, Debug, Default)]
pub struct Meter(Vec<(&'static str, Vec<u32>)>);

/// CPU seconds by part and thread.
///
/// By thread, because one that ends takes its time out of the sum: what it used since the reading before is not counted, but nothing that
/// others used is taken away for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading(BTreeMap<&'static str, BTreeMap<u32, f64>>);

impl Meter {
    /// Of these parts.
    #[must_use]
    pub const fn new(parts: Vec<(&'static str, Vec<u32>)>) -> Meter {
        Meter(parts)
    }

    /// What each part has had so far.
    ///
    /// # Errors
    /// A process has ended.
    pub fn read(&self) -> anyhow::Result<Reading> {
        let mut reading = Reading::default();
        for (part, pids) in &self.0 {
            let threads = reading.0.entry(part).or_default();
            for pid in pids {
                threads.extend(process::thread_seconds(*pid)?);
            }
        }
        Ok(reading)
    }
}

impl Reading {
    /// What was used since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Reading) -> Reading {
        let before = |part: &str, thread: &u32| {
            earlier.0.get(part).and_then(|threads| threads.get(thread)).copied().unwrap_or(0.0)
        };
        let used = |part: &'static str, threads: &BTreeMap<u32, f64>| {
            let used = threads.iter().map(|(thread, seconds)| (*thread, seconds - before(part, thread)));
            (part, used.collect::<BTreeMap<u32, f64>>())
        };
        Reading(self.0.iter().map(|(part, threads)| used(part, threads)).collect())
    }

    /// All parts together.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.0.values().flat_map(BTreeMap::values).sum()
    }

    /// `cpu_seconds` of all, and `cpu_<part>_seconds` of each where there is more than one.
    pub fn describe(&self, row: &mut Row) {
        row.metric("cpu_seconds", self.total());
        if self.0.len() > 1 {
            for (part, threads) in &self.0 {
                row.metric(&format!("cpu_{part}_seconds"), threads.values().sum());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Meter;
    use crate::brokers::System;
    use crate::results::{Row, Table};

    #[test]
    fn parts_are_apart_and_together() {
        let own = std::process::id();
        let meter = Meter::new(vec![("one", vec![own]), ("two", vec![own])]);
        let before = meter.read().expect("it lives");
        let mut sum = 0_u64;
        let used = loop {
            sum = std::hint::black_box(sum + 1);
            let used = meter.read().expect("it lives").since(&before);
            if used.total() > 0.001 {
                break used;
            }
        };
        let mut row = Row::new(System::Oauthing, Table::new());
        used.describe(&mut row);
        assert_eq!(row.metrics.len(), 3);
        assert!(row.metrics["cpu_seconds"] >= row.metrics["cpu_one_seconds"]);
        assert!(Meter::new(vec![("gone", vec![u32::MAX])]).read().is_err());
    }
}
