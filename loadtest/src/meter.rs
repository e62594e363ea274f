//! CPU time by part: what each process of a system has had, all its threads together.

use std::collections::BTreeMap;

use crate::process;
use crate::results::Row;

/// The processes of a system, by part.
#[derive(Clone, Debug, Default)]
pub struct Meter(Vec<(&'static str, Vec<u32>)>);

/// CPU seconds by part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading(BTreeMap<&'static str, f64>);

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
            let mut seconds = 0.0;
            for pid in pids {
                seconds += process::cpu_seconds(*pid)?;
            }
            *reading.0.entry(part).or_default() += seconds;
        }
        Ok(reading)
    }
}

impl Reading {
    /// What was used since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Reading) -> Reading {
        let before = |part: &str| earlier.0.get(part).copied().unwrap_or(0.0);
        Reading(self.0.iter().map(|(part, seconds)| (*part, seconds - before(part))).collect())
    }

    /// All parts together.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.0.values().sum()
    }

    /// `cpu_seconds` of all, and `cpu_<part>_seconds` of each where there is more than one.
    pub fn describe(&self, row: &mut Row) {
        row.metric("cpu_seconds", self.total());
        if self.0.len() > 1 {
            for (part, seconds) in &self.0 {
                row.metric(&format!("cpu_{part}_seconds"), *seconds);
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
