//! Times and lengths of time as an operator types them.

use chrono::{DateTime, NaiveDate};

/// Seconds: `90`, `90s`, `15m`, `24h`, `30d`.
pub(super) fn length(text: &str) -> Result<i64, String> {
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let number: i64 =
        digits.parse().map_err(|_| "a length of time is 90, 90s, 15m, 24h or 30d".to_owned())?;
    number.checked_mul(unit).filter(|seconds| *seconds >= 0).ok_or_else(|| "too long".to_owned())
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Unix seconds.
    At(i64),
    /// Seconds from now.
    In(i64),
}

impl Moment {
    /// Unix seconds.
    pub(super) fn at(self, now: i64) -> i64 {
        match self {
            Self::At(at) => at,
            Self::In(seconds) => now.saturating_add(seconds),
        }
    }
}

/// A moment: `30d` from now, `2027-01-31` (its beginning, UTC), `2027-01-31T12:00:00Z`, or Unix seconds.
pub(super) fn moment(text: &str) -> Result<Moment, String> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(Moment::At(seconds));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Moment::At(time.timestamp()));
    }
    if let Some(time) = text.parse::<NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0)) {
        return Ok(Moment::At(time.and_utc().timestamp()));
    }
    length(text)
        .map(Moment::In)
        .map_err(|_| "a moment is 30d, 2027-01-31, 2027-01-31T12:00:00Z or Unix seconds".into())
}

/// A moment as a table shows it.
pub(super) fn shown(unix: i64) -> String {
    DateTime::from_timestamp(unix, 0)
        .map_or_else(|| unix.to_string(), |time| time.format("%Y-%m-%d %H:%M").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_moments_are_read_as_people_write_them() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("24h", 86_400), ("30d", 2_592_000)] {
            assert_eq!(length(text), Ok(seconds));
        }
        for bad in ["", "d", "-1d", "1w", "1.5h", "99999999999999999d"] {
            assert!(length(bad).is_err(), "{bad}");
        }
        assert_eq!(moment("2027-01-31"), Ok(Moment::At(1_801_353_600)));
        assert_eq!(moment("2027-01-31T12:00:00Z"), Ok(Moment::At(1_801_396_800)));
        assert_eq!(moment("1801353600"), Ok(Moment::At(1_801_353_600)));
        assert_eq!(moment("30d").unwrap().at(100), 2_592_100);
        assert!(moment("soon").is_err());
        assert_eq!(shown(1_801_353_600), "2027-01-31 00:00");
    }
}
