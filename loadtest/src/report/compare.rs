//! A quick run beside the committed figures: what is off by a factor of three or more is said, whichever way.

use crate::results::{Results, float};
use crate::stats::{Spread, short};

use super::cases::{Case, cases};
use crate::brokers::System;

/// How far a quick run may be from the committed figure before it is said.
const FACTOR: f64 = 3.0;

/// What is compared; the rest follows from these or depends on how long a run was.
const METRICS: [&str; 7] =
    ["mean_ms", "p50_ms", "p99_ms", "per_second", "per_core_second", "bytes_each", "owners_per_2gb"];

/// What is different, a line each, and how many numbers were compared.
#[must_use]
pub fn compare(quick: &Results, committed: &Results) -> (Vec<String>, usize) {
    let known = cases(committed);
    let mut lines = Vec::new();
    let mut compared = 0;
    for case in cases(quick) {
        for system in [System::Oauthing, System::Mosquitto, System::Rumqttd] {
            let Some(nearest) = nearest(&case, &known, system) else { continue };
            for metric in METRICS {
                let pair = (case.spread(system, metric), nearest.spread(system, metric));
                let (Some(now), Some(then)) = pair else { continue };
                compared += 1;
                if is_off(&now, &then) {
                    let factor = now.median / then.median;
                    lines.push(format!(
                        "{} {system} {metric}: {} now, {} committed (× {}); now {}, committed {}",
                        quick.scenario,
                        short(now.median),
                        then.text(),
                        short(factor),
                        named(&case),
                        named(nearest)
                    ));
                }
            }
        }
    }
    (lines, compared)
}

fn is_off(now: &Spread, then: &Spread) -> bool {
    let (now, then) = (now.median, then.median);
    now > 0.0 && then > 0.0 && (now / then > FACTOR || then / now > FACTOR)
}

fn named(case: &Case<'_>) -> String {
    serde_json::to_string(&case.params).unwrap_or_default()
}

/// The committed case with the most parameters alike, and of those the one with the nearest numbers: a quick run has its own, smaller
/// cases.
fn nearest<'a>(case: &Case<'_>, known: &'a [Case<'a>], system: System) -> Option<&'a Case<'a>> {
    let distance = |other: &Case<'_>| {
        let mut sum = 0.0;
        for (name, value) in &case.params {
            sum += match (value.as_u64(), other.params.get(name).and_then(serde_json::Value::as_u64)) {
                (Some(one), Some(other)) => (float(one + 1).ln() - float(other + 1).ln()).abs(),
                _ if other.params.get(name) == Some(value) => 0.0,
                _ => 100.0,
            };
        }
        sum
    };
    known
        .iter()
        .filter(|other| other.of(system).next().is_some())
        .min_by(|one, other| distance(one).total_cmp(&distance(other)))
}

#[cfg(test)]
mod tests {
    use super::compare;
    use crate::brokers::System;
    use crate::results::{Machine, Results, Row, params};

    fn results(owners: &[(u64, f64)]) -> Results {
        let rows = owners.iter().map(|(owners, mean)| {
            let mut row =
                Row::new(System::Oauthing, params([("owners", (*owners).into()), ("round", 1.into())]));
            row.metric("mean_ms", *mean);
            row
        });
        Results {
            scenario: "latency".to_owned(),
            commit: "x".to_owned(),
            machine: Machine::default(),
            rows: rows.collect(),
        }
    }

    #[test]
    fn a_figure_that_is_off_by_a_factor_of_three_is_said_both_ways() {
        let committed = results(&[(50, 1.0), (400, 10.0)]);
        for (quick, lines) in [(1.5, 0), (2.9, 0), (3.1, 1), (0.34, 0), (0.32, 1)] {
            let (said, compared) = compare(&results(&[(10, quick)]), &committed);
            assert_eq!((said.len(), compared), (lines, 1), "{quick}: {said:?}");
        }
        let (said, _) = compare(&results(&[(399, 1.0)]), &committed);
        assert!(said[0].contains("\"owners\":400"), "{said:?}");
    }
}
