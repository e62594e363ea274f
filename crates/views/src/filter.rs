//! Values that meet conditions, and no others.
//!
//! A payload that is no number ([`crate::number`]) is not let through, unless the only condition is the time between two values: a
//! switch can be seen at most once a minute, too. Of a SenML pack the records of the filter's name that
//! meet the conditions go through, resolved, as a pack of their own; the other records do not.

use crate::lens::Seen;
use crate::number::{self, Reading};
use crate::senml::{self, Record};
use crate::view::Filter;
use serde_json::Value;

/// The value that was let through last, and when, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passed(Option<(f64, u64)>);

impl Filter {
    fn meets_thresholds(&self, value: f64) -> bool {
        match (self.above, self.below) {
            (None, None) => true,
            (Some(above), None) => value > above,
            (None, Some(below)) => value < below,
            (Some(above), Some(below)) if above < below => value > above && value < below,
            (Some(above), Some(below)) => value > above || value < below,
        }
    }

    fn lets_through(&self, value: f64, passed: Passed, now: u64) -> bool {
        let Passed(Some((last, at))) = passed else { return self.meets_thresholds(value) };
        self.meets_thresholds(value)
            && self.dead_band.is_none_or(|width| (value - last).abs() >= width)
            && self.interval_s.is_none_or(|seconds| now >= at.saturating_add(u64::from(seconds) * 1_000))
    }

    /// True if nothing is asked of a value but that it does not come too soon: then it may be of any kind.
    const fn asks_only_for_time(&self) -> bool {
        self.field.is_none() && self.above.is_none() && self.below.is_none() && self.dead_band.is_none()
    }

    /// Shows a payload to the filter.
    pub(crate) fn see(&self, passed: &mut Passed, payload: &[u8], now: u64) -> Seen {
        if self.asks_only_for_time() {
            // Without a dead band nobody looks at the value before.
            let passes = self.lets_through(0.0, *passed, now);
            if passes {
                *passed = Passed(Some((0.0, now)));
            }
            return if passes { Seen::AsIs } else { Seen::Nothing };
        }
        let mut passes = |value: f64| {
            let passes = self.lets_through(value, *passed, now);
            if passes {
                *passed = Passed(Some((value, now)));
            }
            passes
        };
        match number::read(payload, self.field.as_deref()) {
            Reading::One(value) if passes(value) => Seen::AsIs,
            Reading::One(_) | Reading::Nothing => Seen::Nothing,
            Reading::Pack(records) => {
                let Some(name) = self.field.as_deref() else { return Seen::Nothing };
                let passes = |record: &Record| senml::number(record, name).is_some_and(&mut passes);
                let through: Vec<Value> = records.into_iter().filter(passes).map(Value::Object).collect();
                if through.is_empty() {
                    return Seen::Nothing;
                }
                serde_json::to_vec(&through).map_or(Seen::Nothing, Seen::Instead)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Passed;
    use crate::lens::Seen;
    use crate::view::Filter;
    use proptest::prelude::*;

    fn through(filter: &Filter, values: &[(u64, f64)]) -> Vec<f64> {
        let mut passed = Passed::default();
        let passes = |&&(at, value): &&(u64, f64)| {
            filter.see(&mut passed, value.to_string().as_bytes(), at * 1_000) == Seen::AsIs
        };
        values.iter().filter(passes).map(|(_, value)| *value).collect()
    }

    #[test]
    fn thresholds_make_a_half_line_a_band_or_what_is_outside_of_one() {
        let values = [(0, 5.0), (1, 10.0), (2, 15.0), (3, 20.0), (4, 25.0)];
        let bounds = |above, below| through(&Filter { above, below, ..Filter::default() }, &values);
        assert_eq!(bounds(Some(10.0), None), [15.0, 20.0, 25.0]);
        assert_eq!(bounds(None, Some(10.0)), [5.0]);
        assert_eq!(bounds(Some(10.0), Some(20.0)), [15.0]);
        assert_eq!(bounds(Some(20.0), Some(10.0)), [5.0, 25.0]);
    }

    #[test]
    fn dead_band_and_interval_count_from_the_last_value_let_through() {
        let band = Filter { dead_band: Some(1.0), ..Filter::default() };
        assert_eq!(through(&band, &[(0, 20.0), (1, 20.5), (2, 20.9), (3, 21.0), (4, 20.5)]), [20.0, 21.0]);
        let interval = Filter { interval_s: Some(10), ..Filter::default() };
        assert_eq!(
            through(&interval, &[(5, 1.0), (14, 2.0), (15, 3.0), (16, 4.0), (30, 5.0)]),
            [1.0, 3.0, 5.0]
        );
    }

    #[test]
    fn of_a_pack_the_records_that_pass_make_a_new_one() {
        let filter = Filter { field: Some("t".into()), above: Some(20.0), ..Filter::default() };
        let mut passed = Passed::default();
        let pack = r#"[{"bv":20,"n":"t","v":1.5},{"n":"t","v":-1},{"n":"secret","v":9},{"n":"t","vs":"x"}]"#;
        let Seen::Instead(out) = filter.see(&mut passed, pack.as_bytes(), 0) else { panic!("one passes") };
        assert_eq!(String::from_utf8(out).unwrap(), r#"[{"n":"t","v":21.5}]"#);
        assert_eq!(filter.see(&mut passed, br#"[{"n":"other","v":99}]"#, 0), Seen::Nothing);
        let interval = Filter { field: Some("t".into()), interval_s: Some(1), ..Filter::default() };
        let Seen::Instead(out) = interval.see(&mut Passed::default(), pack.as_bytes(), 0) else { panic!() };
        assert_eq!(String::from_utf8(out).unwrap(), r#"[{"n":"t","v":21.5}]"#);
    }

    fn option(range: std::ops::Range<f64>) -> impl Strategy<Value = Option<f64>> {
        prop::option::of(range)
    }

    #[test]
    fn whoever_asks_only_for_time_gets_any_kind_of_value() {
        let rare = Filter { interval_s: Some(60), ..Filter::default() };
        let mut passed = Passed::default();
        let seen = |payload: &[u8], at: u64, passed: &mut Passed| {
            rare.see(passed, payload, at * 1_000) == Seen::AsIs
        };
        assert!(seen(b"true", 0, &mut passed));
        assert!(!seen(b"false", 59, &mut passed));
        assert!(seen(b"{\"open\":1}", 60, &mut passed));
        assert!(!seen(b"7", 119, &mut passed));
        let above = Filter { above: Some(1.0), ..rare };
        assert!(above.see(&mut Passed::default(), b"true", 0) == Seen::Nothing);
    }

    proptest! {
        #[test]
        fn nothing_passes_that_the_conditions_forbid(
            above in option(-5.0..5.0),
            below in option(-5.0..5.0),
            dead_band in option(0.1..4.0),
            interval_s in prop::option::of(1..20u32),
            values in prop::collection::vec((0..5u64, -10.0..10.0f64), 1..50),
        ) {
            let filter = Filter { field: None, above, below, dead_band, interval_s };
            let (mut passed, mut now) = (Passed::default(), 0);
            let mut last: Option<(f64, u64)> = None;
            for (wait, value) in values {
                now += wait * 1_000;
                if filter.see(&mut passed, value.to_string().as_bytes(), now) == Seen::Nothing {
                    continue;
                }
                match (above, below) {
                    (Some(above), Some(below)) if above >= below => prop_assert!(value > above || value < below),
                    (above, below) => {
                        prop_assert!(above.is_none_or(|above| value > above));
                        prop_assert!(below.is_none_or(|below| value < below));
                    }
                }
                if let Some((before, at)) = last {
                    prop_assert!(dead_band.is_none_or(|width| (value - before).abs() >= width));
                    prop_assert!(interval_s.is_none_or(|seconds| now - at >= u64::from(seconds) * 1_000));
                }
                last = Some((value, now));
            }
        }
    }
}
