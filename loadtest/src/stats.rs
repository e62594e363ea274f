//! Medians, their spread, and ratios of pairs.

use std::fmt;

/// Fewest runs of a side that make a ratio.
pub const PAIRS: usize = 3;

/// The middle of some numbers and how far they reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
    /// How many.
    pub runs: usize,
}

impl Spread {
    /// Of these numbers; `None` if there are none.
    #[must_use]
    pub fn of(numbers: &[f64]) -> Option<Spread> {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get(sorted.len().saturating_sub(1) / 2)?;
        Some(Spread {
            median: f64::midpoint(lower, upper),
            least: *sorted.first()?,
            most: *sorted.last()?,
            runs: sorted.len(),
        })
    }

    /// Median, and the range in brackets, with three significant digits.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} [{}–{}]", short(self.median), short(self.least), short(self.most))
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

/// The median of the ratios of pairs, each of one round of both systems; `None` for fewer than [`PAIRS`] pairs.
#[must_use]
pub fn ratio(pairs: &[(f64, f64)]) -> Option<Spread> {
    let ratios: Vec<f64> =
        pairs.iter().filter(|(_, base)| *base > 0.0).map(|(value, base)| value / base).collect();
    if ratios.len() < PAIRS { None } else { Spread::of(&ratios) }
}

/// A number with three significant digits, thousands apart.
#[must_use]
pub fn short(number: f64) -> String {
    let size = number.abs();
    if size >= 1000.0 {
        let digits = format!("{number:.0}");
        let mut out = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) && !out.ends_with('-') {
                out.push(',');
            }
            out.push(digit);
        }
        out
    } else if size >= 100.0 {
        format!("{number:.0}")
    } else if size >= 10.0 {
        format!("{number:.1}")
    } else if size >= 1.0 || size == 0.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.3}")
    }
}

/// A number at an axis: no digits that say nothing.
#[must_use]
pub fn axis(number: f64) -> String {
    if number.abs() >= 1000.0 {
        return short(number);
    }
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Spread, axis, ratio, short};

    #[test]
    fn the_median_of_odd_and_even_numbers() {
        assert_eq!(Spread::of(&[]), None);
        let odd = Spread::of(&[3.0, 1.0, 9.0]).expect("three");
        assert_eq!((odd.median, odd.least, odd.most, odd.runs), (3.0, 1.0, 9.0, 3));
        let even = Spread::of(&[4.0, 1.0]).expect("two");
        assert!((even.median - 2.5).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_needs_three_pairs_and_is_taken_pair_by_pair() {
        assert_eq!(ratio(&[(2.0, 1.0), (4.0, 2.0)]), None);
        // A slow minute that hits both of a pair leaves its ratio as it is.
        let ratio = ratio(&[(2.0, 1.0), (0.2, 0.1), (4.0, 2.0), (1.0, 0.0)]).expect("three pairs");
        assert!((ratio.median - 2.0).abs() < 1e-9);
        assert_eq!(ratio.runs, 3);
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (1_234_567.8, "1,234,568"),
            (-1234.0, "-1,234"),
            (999.4, "999"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.1234, "0.123"),
            (0.0, "0.00"),
        ] {
            assert_eq!(short(number), text);
        }
        for (number, text) in [(0.0, "0"), (0.25, "0.25"), (400.0, "400"), (25_000.0, "25,000")] {
            assert_eq!(axis(number), text);
        }
    }
}
