//! A view as consent, grants and the control channel write it: JSON with a `kind`.

use serde::{Deserialize, Serialize};

/// Lengths of a summary's window, in seconds. Each divides the next and all are aligned to the Unix epoch, so that windows
/// never overlap in part and cannot be subtracted from each other to uncover a moment.
pub const WINDOWS_S: [u32; 7] = [10, 60, 300, 900, 3_600, 21_600, 86_400];

/// Longest name of a field, in bytes, and most names in a list.
const MAX_NAME: usize = 64;
const MAX_NAMES: usize = 16;
/// Most bounds of a histogram.
const MAX_BOUNDS: usize = 32;
/// Longest `interval_s`: a day.
const MAX_INTERVAL_S: u32 = 86_400;

/// How much of a reading its receiver sees. The PCM applies it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", try_from = "Unchecked")]
pub enum View {
    /// Every value as the device sent it.
    #[default]
    Raw,
    /// Some of the values, each as the device sent it.
    Filter(Filter),
    /// Statistics of a window instead of its values.
    Summary(Summary),
    /// Every value, but less exact, or without parts.
    Coarsening(Coarsening),
}

// JSON has no NaN, and `check` refuses what is not finite: equality is reflexive.
impl Eq for View {}

/// Lets a value through if all of its conditions hold. The first value of a channel meets dead band and interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Where the number is: the member of a JSON object, or the name in a SenML pack. Absent: the payload is the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Threshold: only values greater than this. With a `below` that is higher, only values between the two; with one that is
    /// not, only values outside of `below..=above`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Threshold: only values less than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// Only values that differ from the last one let through by at least this much; greater than zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_band: Option<f64>,
    /// At most one value in so many seconds, 1 to 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_s: Option<u32>,
}

/// Statistics of windows of a fixed length. A window with fewer than `min_samples` is never shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// As in [`Filter::field`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// One of [`WINDOWS_S`].
    pub window_s: u32,
    /// 2 to 10,000; 5 if absent.
    #[serde(default = "five")]
    pub min_samples: u32,
    /// What is shown; `count`, `mean` and `std` if absent.
    #[serde(default = "inexact")]
    pub statistics: Vec<Statistic>,
    /// Ascending bounds of a histogram's bins: values below the first, between two, from the last on. Bins with fewer than
    /// `min_samples` are shown as `null`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub histogram: Vec<f64>,
}

/// One number of a summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    /// How many values.
    Count,
    /// Arithmetic mean.
    Mean,
    /// Standard deviation of the values in the window (of the population).
    Std,
    /// Lowest value: an exact one.
    Min,
    /// Highest value: an exact one.
    Max,
    /// Last value: an exact one.
    Last,
}

impl Statistic {
    /// True for what is one of the device's own values; a consent page calls these "exact values".
    pub const fn is_exact(self) -> bool {
        match self {
            Self::Min | Self::Max | Self::Last => true,
            Self::Count | Self::Mean | Self::Std => false,
        }
    }
}

/// Makes values less exact. At least one of the three is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coarsening {
    /// Numbers are rounded to the nearest multiple of this; greater than zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<f64>,
    /// Members of JSON objects, at any depth, that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
    /// Members of JSON objects, at any depth, whose value is replaced by a keyed hash; each grant has its own key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hash: Vec<String>,
}

const fn five() -> u32 {
    5
}

fn inexact() -> Vec<Statistic> {
    vec![Statistic::Count, Statistic::Mean, Statistic::Std]
}

/// A view that asks for what no view can do; the text says what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadView(pub &'static str);

impl std::fmt::Display for BadView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadView {}

impl View {
    /// Whether the numbers make sense. Reading a view from JSON asks this too.
    ///
    /// # Errors
    /// [`BadView`] with the rule that is broken.
    pub fn check(&self) -> Result<(), BadView> {
        match self {
            Self::Raw => Ok(()),
            Self::Filter(filter) => filter.check(),
            Self::Summary(summary) => summary.check(),
            Self::Coarsening(coarsening) => coarsening.check(),
        }
    }

    /// True if every value is seen as the device sent it.
    pub const fn is_raw(&self) -> bool {
        matches!(self, Self::Raw)
    }

    /// True if what is shown depends on the grant's key.
    pub fn hashes(&self) -> bool {
        match self {
            Self::Raw | Self::Filter(_) | Self::Summary(_) => false,
            Self::Coarsening(coarsening) => !coarsening.hash.is_empty(),
        }
    }

    /// True if some of what is shown may be one of the device's own values.
    pub fn shows_exact_values(&self) -> bool {
        match self {
            Self::Raw | Self::Filter(_) => true,
            Self::Summary(summary) => summary.statistics.iter().any(|one| one.is_exact()),
            Self::Coarsening(coarsening) => coarsening.round.is_none(),
        }
    }
}

impl Filter {
    fn check(&self) -> Result<(), BadView> {
        let Self { field, above, below, dead_band, interval_s } = self;
        if above.is_none() && below.is_none() && dead_band.is_none() && interval_s.is_none() {
            return Err(BadView("a filter needs a condition"));
        }
        check_field(field.as_deref())?;
        if !above.iter().chain(below).all(|bound| bound.is_finite()) {
            return Err(BadView("a threshold must be a finite number"));
        }
        if dead_band.is_some_and(|width| !width.is_finite() || width <= 0.0) {
            return Err(BadView("dead_band must be greater than zero"));
        }
        if interval_s.is_some_and(|seconds| !(1..=MAX_INTERVAL_S).contains(&seconds)) {
            return Err(BadView("interval_s must be 1 to 86400"));
        }
        Ok(())
    }
}

impl Summary {
    fn check(&self) -> Result<(), BadView> {
        check_field(self.field.as_deref())?;
        if !WINDOWS_S.contains(&self.window_s) {
            return Err(BadView("window_s must be 10, 60, 300, 900, 3600, 21600 or 86400"));
        }
        if !(2..=10_000).contains(&self.min_samples) {
            return Err(BadView("min_samples must be 2 to 10000"));
        }
        if self.statistics.is_empty() && self.histogram.is_empty() {
            return Err(BadView("a summary needs a statistic"));
        }
        if self.statistics.len() > 6 {
            return Err(BadView("a statistic is named twice"));
        }
        let ascending = self.histogram.windows(2).all(|pair| matches!(pair, [low, high] if low < high));
        if self.histogram.len() > MAX_BOUNDS
            || !ascending
            || !self.histogram.iter().all(|bound| bound.is_finite())
        {
            return Err(BadView("histogram must be at most 32 finite, ascending bounds"));
        }
        Ok(())
    }
}

impl Coarsening {
    fn check(&self) -> Result<(), BadView> {
        if self.round.is_none() && self.drop.is_empty() && self.hash.is_empty() {
            return Err(BadView("a coarsening needs round, drop or hash"));
        }
        if self.round.is_some_and(|step| !step.is_finite() || step <= 0.0) {
            return Err(BadView("round must be greater than zero"));
        }
        if self.drop.len() > MAX_NAMES || self.hash.len() > MAX_NAMES {
            return Err(BadView("drop and hash take at most 16 names"));
        }
        self.drop.iter().chain(&self.hash).try_for_each(|name| check_field(Some(name)))
    }
}

fn check_field(name: Option<&str>) -> Result<(), BadView> {
    match name {
        Some(name) if name.is_empty() || name.len() > MAX_NAME => {
            Err(BadView("a field's name must have 1 to 64 bytes"))
        }
        _ => Ok(()),
    }
}

/// A view as it was written, before anybody asked whether it makes sense.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Unchecked {
    Raw {},
    Filter(Filter),
    Summary(Summary),
    Coarsening(Coarsening),
}

impl TryFrom<Unchecked> for View {
    type Error = BadView;

    fn try_from(unchecked: Unchecked) -> Result<View, BadView> {
        let view = match unchecked {
            Unchecked::Raw {} => View::Raw,
            Unchecked::Filter(filter) => View::Filter(filter),
            Unchecked::Summary(summary) => View::Summary(summary),
            Unchecked::Coarsening(coarsening) => View::Coarsening(coarsening),
        };
        view.check().map(|()| view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_what_it_writes() {
        for text in [
            r#"{"kind":"raw"}"#,
            r#"{"kind":"filter","field":"t","above":30.5,"dead_band":0.5,"interval_s":60}"#,
            r#"{"kind":"summary","window_s":900,"min_samples":5,"statistics":["count","mean","std"]}"#,
            r#"{"kind":"coarsening","round":0.5,"drop":["serial"],"hash":["card"]}"#,
        ] {
            let view: View = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&view).unwrap(), text);
        }
        let summary: View = serde_json::from_str(r#"{"kind":"summary","window_s":900}"#).unwrap();
        assert!(!summary.shows_exact_values());
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_not_taken_as_raw() {
        for text in [
            r#"{"kind":"blurred"}"#,
            r#"{"kind":"filter"}"#,
            r#"{"kind":"filter","above":1,"nonsense":2}"#,
            r#"{"kind":"filter","interval_s":0}"#,
            r#"{"kind":"summary"}"#,
            r#"{"kind":"summary","window_s":61}"#,
            r#"{"kind":"summary","window_s":60,"min_samples":1}"#,
            r#"{"kind":"summary","window_s":60,"statistics":["median"]}"#,
            r#"{"kind":"summary","window_s":60,"histogram":[2,1]}"#,
            r#"{"kind":"coarsening"}"#,
            r#"{"kind":"coarsening","round":0}"#,
            r#"{"kind":"coarsening","drop":[""]}"#,
        ] {
            assert!(serde_json::from_str::<View>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_window_divides_the_next() {
        assert!(WINDOWS_S.windows(2).all(|pair| pair[1] % pair[0] == 0));
    }
}
