//! A quick run beside the committed figures: what is off by a factor of three or more is said, whichever way.

use crate::results::{Results, float};
use crate::stats::{Spread, short};

use super::cases::{Case, cases};
use crate::brokers::System;

/// How far a quick run may be from the committed figure before it is said.
const FACTOR: f64 = 3.0;

/// What is compared with the same case; the rest follows from these or depends on how long a run was.
const METRICS: [&str; 7] =
    ["mean_ms", "p50_ms", "p99_ms", "per_second", "per_core_second", "bytes_each", "owners_per_2gb"];

/// What is compared with a case that has other numbers: what one owner or one message costs, however many there are.
const OF_EACH: [&str; 3] = ["per_core_second", "bytes_each", "owners_per_2gb"];

/// What is different, a line each, and how many numbers were compared.
#[must_use]
pub fn compare(quick: &Results, committed: &Results) -> (Vec<String>, usize) {
    let known = cases(committed);
    let mut lines = Vec::new();
    let mut compared = 0;
    for case in cases(quick) {
        for system in [System::Oauthing, System::Mosquitto, System::Rumqttd] {
            let Some(nearest) = nearest(&case, &known, system) else { continue };
            let metrics = if nearest.params == case.params { &METRICS[..] } else { &OF_EACH[..] };
            for metric in metrics {
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

/// The committed case that differs in numbers only, and in those least: a quick run may have smaller cases of its own.
fn nearest<'a>(case: &Case<'_>, known: &'a [Case<'a>], system: System) -> Option<&'a Case<'a>> {
    let distance = |other: &Case<'_>| {
        let apart = |(name, value): (&String, &serde_json::Value)| {
            let its = other.params.get(name)?;
            match (value.as_u64(), its.as_u64()) {
                (Some(one), Some(other)) => Some((float(one + 1).ln() - float(other + 1).ln()).abs()),
                _ => (its == value).then_some(0.0),
            }
        };
        case.params.iter().map(apart).sum::<Option<f64>>()
    };
    known
        .iter()
        .filter(|other| other.of(system).next().is_some())
        .filter_map(|other| Some((distance(other)?, other)))
        .min_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, nearest)| nearest)
}

#[cfg(test)]
mod tests {
    use super::compare;
    use crate::brokers::System;
    use crate::results::{Machine, Results, Row, params};

    fn results(cases: &[(&str, u64, f64)]) -> Results {
        let rows = cases.iter().map(|(pcm, owners, mean)| {
            let params = params([("pcm", (*pcm).into()), ("owners", (*owners).into()), ("round", 1.into())]);
            let mut row = Row::new(System::Oauthing, params);
            row.metric("mean_ms", *mean).metric("per_core_second", 1000.0 / mean);
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
        let committed = results(&[("running", 50, 1.0), ("running", 400, 10.0)]);
        for (quick, lines) in [(1.5, 0), (2.9, 0), (3.1, 2), (0.34, 0), (0.32, 2)] {
            let (said, compared) = compare(&results(&[("running", 50, quick)]), &committed);
            assert_eq!((said.len(), compared), (lines, 2), "{quick}: {said:?}");
        }
    }

    #[test]
    fn of_a_smaller_case_only_what_each_costs_is_compared_and_of_another_kind_nothing() {
        let committed = results(&[("running", 50, 1.0), ("running", 400, 10.0)]);
        let (said, compared) = compare(&results(&[("running", 399, 1.0)]), &committed);
        assert_eq!(compared, 1);
        assert!(said[0].contains("per_core_second") && said[0].contains("\"owners\":400"), "{said:?}");
        assert_eq!(compare(&results(&[("cold", 50, 1.0)]), &committed), (Vec::new(), 0));
    }
}
