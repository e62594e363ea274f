//! Energy from the samples of a power meter: what was used in all, and at which mean power.
//!
//! The file is CSV. Its first line names the columns with their units; the names that are understood are in [`COLUMNS`]. A file of
//! numbers only has time in seconds and power in milliwatts, or time in seconds, volts and amperes. Between two samples power
//! is taken to change evenly.

use std::path::Path;

use anyhow::{Context as _, bail, ensure};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Time,
    Volts,
    Amperes,
    Milliwatts,
}

/// Names of columns (small letters; spaces, brackets and `/` read as `_`), what they hold, and the factor to seconds, volts, amperes or
/// milliwatts.
const COLUMNS: [(&str, Kind, f64); 24] = [
    ("t", Kind::Time, 1.0),
    ("time", Kind::Time, 1.0),
    ("time_s", Kind::Time, 1.0),
    ("seconds", Kind::Time, 1.0),
    ("timestamp", Kind::Time, 1.0),
    ("time_ms", Kind::Time, 1e-3),
    ("time_us", Kind::Time, 1e-6),
    ("v", Kind::Volts, 1.0),
    ("volts", Kind::Volts, 1.0),
    ("voltage", Kind::Volts, 1.0),
    ("voltage_v", Kind::Volts, 1.0),
    ("mv", Kind::Volts, 1e-3),
    ("voltage_mv", Kind::Volts, 1e-3),
    ("a", Kind::Amperes, 1.0),
    ("amps", Kind::Amperes, 1.0),
    ("current", Kind::Amperes, 1.0),
    ("current_a", Kind::Amperes, 1.0),
    ("ma", Kind::Amperes, 1e-3),
    ("current_ma", Kind::Amperes, 1e-3),
    ("current_ua", Kind::Amperes, 1e-6),
    ("mw", Kind::Milliwatts, 1.0),
    ("power_mw", Kind::Milliwatts, 1.0),
    ("w", Kind::Milliwatts, 1e3),
    ("power_w", Kind::Milliwatts, 1e3),
];

/// What was used.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Energy {
    /// Energy in milliwatt-hours.
    pub mwh: f64,
    /// Mean power in milliwatts.
    pub mean_mw: f64,
    /// From the first sample to the last.
    pub seconds: f64,
    /// How many.
    pub samples: usize,
}

/// Of a file.
///
/// # Errors
/// It cannot be read, or is no series of samples; the line is named.
pub fn of_file(path: &Path) -> anyhow::Result<Energy> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    of(&text).with_context(|| path.display().to_string())
}

fn of(text: &str) -> anyhow::Result<Energy> {
    let mut lines = text
        .trim_start_matches('\u{feff}')
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .peekable();
    let (_, first) = *lines.peek().context("it is empty")?;
    let columns = match cells(first).map(|cell| cell.parse::<f64>()).collect::<Result<Vec<_>, _>>() {
        Ok(numbers) => unnamed(numbers.len())?,
        Err(_) => {
            lines.next();
            named(first)?
        }
    };
    let mut series: Vec<(f64, f64)> = Vec::new();
    for (number, line) in lines {
        let (time, power) = sample(line, &columns).with_context(|| format!("line {number}"))?;
        if let Some((before, _)) = series.last() {
            ensure!(time > *before, "line {number}: time does not go on");
        }
        series.push((time, power));
    }
    let (Some((start, _)), Some((end, _))) = (series.first(), series.last()) else {
        bail!("it has no samples")
    };
    let seconds = end - start;
    ensure!(series.len() > 1, "a single sample says nothing of energy");
    let milliwatt_seconds: f64 = series
        .windows(2)
        .map(|pair| match pair {
            [(t0, p0), (t1, p1)] => (t1 - t0) * f64::midpoint(*p0, *p1),
            _ => 0.0,
        })
        .sum();
    Ok(Energy {
        mwh: milliwatt_seconds / 3600.0,
        mean_mw: milliwatt_seconds / seconds,
        seconds,
        samples: series.len(),
    })
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    let separator = if line.contains(';') {
        ';'
    } else if line.contains('\t') {
        '\t'
    } else {
        ','
    };
    line.split(separator).map(|cell| cell.trim().trim_matches('"'))
}

fn unnamed(columns: usize) -> anyhow::Result<Vec<Option<(Kind, f64)>>> {
    let kinds: &[Kind] = match columns {
        2 => &[Kind::Time, Kind::Milliwatts],
        3 => &[Kind::Time, Kind::Volts, Kind::Amperes],
        _ => bail!("{columns} columns without names: there must be time and mW, or time, volts and amperes"),
    };
    Ok(kinds.iter().map(|kind| Some((*kind, 1.0))).collect())
}

fn named(line: &str) -> anyhow::Result<Vec<Option<(Kind, f64)>>> {
    let columns: Vec<Option<(Kind, f64)>> = cells(line)
        .map(|cell| {
            let plain: String =
                cell.to_lowercase().chars().map(|c| if " ([/".contains(c) { '_' } else { c }).collect();
            let mut plain = plain.replace([')', ']'], "").replace('µ', "u");
            while plain.contains("__") {
                plain = plain.replace("__", "_");
            }
            COLUMNS.iter().find(|(name, ..)| *name == plain).map(|(_, kind, factor)| (*kind, *factor))
        })
        .collect();
    let count = |kind: Kind| columns.iter().flatten().filter(|(one, _)| *one == kind).count();
    ensure!(count(Kind::Time) == 1, "there must be one column of time; these are understood: {}", names());
    let power = count(Kind::Milliwatts);
    let both = (count(Kind::Volts), count(Kind::Amperes));
    ensure!(
        (power == 1 && both == (0, 0)) || (power == 0 && both == (1, 1)) || (power == 1 && both == (1, 1)),
        "there must be one column of power, or one of volts and one of amperes; these are understood: {}",
        names()
    );
    Ok(columns)
}

fn names() -> String {
    COLUMNS.map(|(name, ..)| name).join(", ")
}

/// Seconds and milliwatts of a line; where power is measured beside volts and amperes, power counts.
fn sample(line: &str, columns: &[Option<(Kind, f64)>]) -> anyhow::Result<(f64, f64)> {
    let (mut time, mut volts, mut amperes, mut power) = (None, None, None, None);
    let mut found = 0;
    for (cell, column) in cells(line).zip(columns) {
        found += 1;
        let Some((kind, factor)) = column else { continue };
        let number: f64 = cell.parse().with_context(|| format!("`{cell}` is no number"))?;
        ensure!(number.is_finite(), "`{cell}` is no number");
        let place = match kind {
            Kind::Time => &mut time,
            Kind::Volts => &mut volts,
            Kind::Amperes => &mut amperes,
            Kind::Milliwatts => &mut power,
        };
        *place = Some(number * factor);
    }
    ensure!(found == columns.len(), "{found} cells instead of {}", columns.len());
    let product = volts.zip(amperes).map(|(volts, amperes)| volts * amperes * 1e3);
    Ok((time.context("no time")?, power.or(product).context("no power")?))
}

#[cfg(test)]
mod tests {
    use super::of;

    fn close(number: f64, wanted: f64) -> bool {
        (number - wanted).abs() < 1e-9 * wanted.abs().max(1.0)
    }

    #[test]
    fn a_steady_load_of_360_milliwatts_uses_6_milliwatt_hours_a_minute() {
        for text in [
            "0,360\n60,360\n",
            "0;5;0.072\n30;5;0.072\n60;5;0.072\n",
            "time_ms,Current (mA),Voltage (V)\n0,72,5\n60000,72,5\n",
            "\u{feff}# a meter\nTime [s]\tPower [W]\tnote\n0\t0.36\tx\n60\t0.36\ty\n",
            "t,volts,amps,mW\n0,9,9,360\n60,9,9,360\n",
        ] {
            let energy = of(text).expect(text);
            assert!(close(energy.mwh, 6.0) && close(energy.mean_mw, 360.0), "{text}: {energy:?}");
            assert!(close(energy.seconds, 60.0), "{energy:?}");
        }
    }

    #[test]
    fn samples_count_by_the_time_between_them() {
        // A ramp to 100 mW in a second, nine seconds there: 50 + 900 mWs.
        let energy = of("time_s,mw\n0,0\n1,100\n10,100\n").expect("it is right");
        assert!(close(energy.mwh, 950.0 / 3600.0) && close(energy.mean_mw, 95.0), "{energy:?}");
        assert_eq!(energy.samples, 3);
    }

    #[test]
    fn what_is_no_series_is_refused_and_the_line_is_named() {
        for (text, complaint) in [
            ("", "empty"),
            ("t,mw\n", "no samples"),
            ("t,mw\n0,1\n", "single"),
            ("t,mw\n1,1\n1,2\n", "line 3: time"),
            ("t,mw\n0,1\n1,x\n", "line 3"),
            ("t,mw\n0,1\n1\n", "line 3"),
            ("t,mw\n0,1\n1,NaN\n", "line 3"),
            ("t,volts\n0,1\n1,1\n", "one column of power"),
            ("mw,mw\n0,1\n1,1\n", "one column of time"),
            ("1,2,3,4\n", "4 columns"),
        ] {
            let error = format!("{:#}", of(text).expect_err(text));
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
