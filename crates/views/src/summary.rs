//! Statistics of windows instead of values.
//!
//! Windows are aligned to the Unix epoch and a value belongs to the window in which it arrives, whatever time it carries. A
//! payload that is no number ([`crate::number`]) is not counted; a SenML pack counts one sample for each record of the
//! summary's name. Mean and variance are kept by Welford's method, so that a window of any length is of one size.
//!
//! A window with fewer than `min_samples` is forgotten when it ends. In a histogram a bin with fewer is `null`; so that what
//! is hidden cannot be had by subtraction from `count`, further bins are hidden, smallest first, until those hidden are two at
//! least and hold `min_samples` together, or none.

use crate::number::{self, Reading};
use crate::senml;
use crate::view::{Statistic, Summary};
use serde_json::{Map, Number, Value};

/// The window that is open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// Its number since the epoch.
    number: u64,
    count: u32,
    mean: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
    min: f64,
    max: f64,
    last: f64,
    bins: Box<[u32]>,
}

impl Window {
    pub(crate) fn new(summary: &Summary) -> Window {
        let bins = if summary.histogram.is_empty() { 0 } else { summary.histogram.len() + 1 };
        Window { bins: vec![0; bins].into(), ..Window::default() }
    }

    /// When it ends, in milliseconds, if anything is in it.
    pub(crate) fn ends(&self, summary: &Summary) -> Option<u64> {
        (self.count > 0).then(|| self.number.saturating_add(1).saturating_mul(length(summary)))
    }

    /// Bytes that it takes.
    pub(crate) fn cost(&self) -> usize {
        size_of::<Window>() + size_of_val(&*self.bins)
    }

    fn clear(&mut self) {
        self.bins.fill(0);
        *self = Window { bins: std::mem::take(&mut self.bins), ..Window::default() };
    }

    fn add(&mut self, value: f64, bounds: &[f64]) {
        self.count = self.count.saturating_add(1);
        let distance = value - self.mean;
        self.mean += distance / f64::from(self.count);
        self.squares += distance * (value - self.mean);
        if self.count == 1 {
            (self.min, self.max) = (value, value);
        } else {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
        }
        self.last = value;
        if let Some(bin) = self.bins.get_mut(bounds.partition_point(|bound| *bound <= value)) {
            *bin = bin.saturating_add(1);
        }
    }

    /// Shows a payload; answers how many samples were in it. A window that has ended must have been taken by
    /// [`Self::due`] before: what is left of it is forgotten.
    pub(crate) fn see(&mut self, summary: &Summary, payload: &[u8], now: u64) -> u32 {
        let number = now / length(summary);
        if self.number != number {
            self.clear();
            self.number = number;
        }
        match number::read(payload, summary.field.as_deref()) {
            Reading::One(value) => {
                self.add(value, &summary.histogram);
                1
            }
            Reading::Pack(records) => {
                let Some(name) = summary.field.as_deref() else { return 0 };
                let mut seen = 0;
                for value in records.iter().filter_map(|record| senml::number(record, name)) {
                    self.add(value, &summary.histogram);
                    seen += 1;
                }
                seen
            }
            Reading::Nothing => 0,
        }
    }

    /// Takes the summary of a window that has ended, if it holds enough.
    pub(crate) fn due(&mut self, summary: &Summary, now: u64) -> Option<Vec<u8>> {
        self.ends(summary).filter(|end| *end <= now)?;
        let shown = (self.count >= summary.min_samples).then(|| self.write(summary));
        self.clear();
        shown
    }

    fn write(&self, summary: &Summary) -> Vec<u8> {
        let from = self.number.saturating_mul(u64::from(summary.window_s));
        let mut out = Map::new();
        out.insert("from".into(), from.into());
        out.insert("to".into(), from.saturating_add(u64::from(summary.window_s)).into());
        for statistic in &summary.statistics {
            let variance = self.squares / f64::from(self.count.max(1));
            let (name, value) = match statistic {
                Statistic::Count => ("count", self.count.into()),
                Statistic::Mean => ("mean", computed(self.mean)),
                Statistic::Std => ("std", computed(variance.max(0.0).sqrt())),
                Statistic::Min => ("min", exact(self.min)),
                Statistic::Max => ("max", exact(self.max)),
                Statistic::Last => ("last", exact(self.last)),
            };
            out.insert(name.into(), value);
        }
        if !self.bins.is_empty() {
            let bins = suppressed(&self.bins, summary.min_samples);
            out.insert("histogram".into(), bins.into_iter().map(Value::from).collect());
        }
        Value::Object(out).to_string().into_bytes()
    }
}

fn length(summary: &Summary) -> u64 {
    u64::from(summary.window_s.max(1)) * 1_000
}

/// Bins as they may be shown.
fn suppressed(bins: &[u32], least: u32) -> Vec<Option<u32>> {
    let mut shown: Vec<Option<u32>> =
        bins.iter().map(|count| Some(*count).filter(|count| *count >= least)).collect();
    let mut hidden: u32 = bins.iter().filter(|count| **count < least).sum();
    let mut places = shown.iter().filter(|bin| bin.is_none()).count();
    while hidden > 0 && (hidden < least || places < 2) {
        let smallest = shown.iter_mut().filter(|bin| bin.is_some()).min_by_key(|bin| **bin);
        let Some(count) = smallest.and_then(Option::take) else { break };
        hidden = hidden.saturating_add(count);
        places += 1;
    }
    shown
}

fn exact(value: f64) -> Value {
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < WHOLE {
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Twelve digits: what is computed is not more exact, and `0.1` does not become `0.09999999999999999`.
fn computed(value: f64) -> Value {
    format!("{value:.11e}").parse().map_or(Value::Null, exact)
}

#[cfg(test)]
mod tests {
    use super::{Window, suppressed};
    use crate::view::{Statistic, Summary};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const ALL: [Statistic; 6] =
        [Statistic::Count, Statistic::Mean, Statistic::Std, Statistic::Min, Statistic::Max, Statistic::Last];

    fn summary(min_samples: u32) -> Summary {
        Summary { field: None, window_s: 60, min_samples, statistics: ALL.to_vec(), histogram: Vec::new() }
    }

    fn read(out: Option<Vec<u8>>) -> Option<Value> {
        out.map(|out| serde_json::from_slice(&out).unwrap())
    }

    #[test]
    fn a_window_ends_with_its_minute() {
        let summary = summary(3);
        let mut window = Window::new(&summary);
        for (at, value) in [(60_000, "20"), (61_000, "x"), (90_000, "22"), (119_999, "21.6")] {
            assert_eq!(window.see(&summary, value.as_bytes(), at), u32::from(value != "x"));
        }
        assert_eq!(window.ends(&summary), Some(120_000));
        assert_eq!(window.due(&summary, 119_999), None);
        let shown = read(window.due(&summary, 120_000)).unwrap();
        let expected = json!({"from": 60, "to": 120, "count": 3, "mean": 21.2, "std": 0.864098759788,
            "min": 20, "max": 22, "last": 21.6});
        assert_eq!(shown, expected);
        assert_eq!((window.ends(&summary), window.due(&summary, 500_000)), (None, None));
    }

    #[test]
    fn only_what_was_chosen_is_there() {
        let summary = Summary { statistics: vec![Statistic::Mean], ..summary(2) };
        let mut window = Window::new(&summary);
        window.see(&summary, b"1", 0);
        window.see(&summary, b"2", 0);
        assert_eq!(window.due(&summary, 60_000).unwrap(), br#"{"from":0,"mean":1.5,"to":60}"#);
    }

    #[test]
    fn a_late_caller_gets_no_mixture() {
        let summary = summary(2);
        let mut window = Window::new(&summary);
        window.see(&summary, b"1", 0);
        window.see(&summary, b"1", 0);
        window.see(&summary, b"2", 60_000);
        assert_eq!(window.due(&summary, 120_000), None);
    }

    #[test]
    fn hidden_bins_cannot_be_had_by_subtraction() {
        assert_eq!(suppressed(&[9, 8, 7], 5), [Some(9), Some(8), Some(7)]);
        assert_eq!(suppressed(&[9, 0, 0], 5), [Some(9), None, None]);
        assert_eq!(suppressed(&[9, 1, 7], 5), [Some(9), None, None]);
        assert_eq!(suppressed(&[9, 1, 1], 5), [None, None, None]);
        assert_eq!(suppressed(&[4, 4, 9], 5), [None, None, Some(9)]);
        assert_eq!(suppressed(&[1, 2], 5), [None, None]);
    }

    #[test]
    fn a_packs_records_are_samples() {
        let summary = Summary { field: Some("a/t".into()), histogram: vec![10.0, 20.0], ..summary(2) };
        let mut window = Window::new(&summary);
        let pack = r#"[{"bn":"a/","bv":10,"n":"t","v":1},{"n":"t","v":2},{"n":"u","v":3},{"n":"t","v":10}]"#;
        assert_eq!(window.see(&summary, pack.as_bytes(), 0), 3);
        let shown = read(window.due(&summary, 60_000)).unwrap();
        assert_eq!((&shown["count"], &shown["max"]), (&json!(3), &json!(20)));
        assert_eq!(shown["histogram"], json!([null, null, null]));
    }

    proptest! {
        #[test]
        fn no_window_with_too_few_is_ever_shown(
            min_samples in 2..8u32,
            bounds in prop::collection::btree_set(-50..50i32, 0..5),
            values in prop::collection::vec((0..30_000u64, -100.0..100.0f64), 1..200),
        ) {
            let histogram: Vec<f64> = bounds.into_iter().map(f64::from).collect();
            let summary = Summary { histogram, ..summary(min_samples) };
            let mut window = Window::new(&summary);
            let mut now = 0;
            let mut open: Vec<f64> = Vec::new();
            for (wait, value) in values {
                now += wait;
                let due = window.ends(&summary).is_some_and(|end| end <= now);
                let shown = read(window.due(&summary, now));
                if due {
                    let n = open.len();
                    prop_assert_eq!(shown.is_some(), n >= min_samples as usize);
                    if let Some(shown) = shown {
                        prop_assert_eq!(shown["count"].as_u64(), Some(n as u64));
                        let mean = open.iter().sum::<f64>() / n as f64;
                        let squares: f64 = open.iter().map(|one| (one - mean).powi(2)).sum();
                        prop_assert!((shown["mean"].as_f64().unwrap() - mean).abs() < 1e-8);
                        prop_assert!((shown["std"].as_f64().unwrap() - (squares / n as f64).sqrt()).abs() < 1e-6);
                        let bins = shown["histogram"].as_array().cloned().unwrap_or_default();
                        let counts: Vec<u64> = bins.iter().filter_map(Value::as_u64).collect();
                        prop_assert!(counts.iter().all(|count| *count >= u64::from(min_samples)));
                        let hidden = n as u64 - counts.iter().sum::<u64>();
                        prop_assert!(bins.is_empty() || hidden == 0 || hidden >= u64::from(min_samples));
                        prop_assert!(hidden == 0 || bins.is_empty() || bins.len() - counts.len() >= 2);
                    }
                    open.clear();
                } else {
                    prop_assert!(shown.is_none());
                }
                window.see(&summary, value.to_string().as_bytes(), now);
                open.push(value);
            }
        }
    }
}
