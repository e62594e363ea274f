//! The runs of a document by case: rows that differ in round and system only belong together.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::brokers::System;
use crate::results::{Results, Row, Table};
use crate::stats::{Spread, ratio};

/// Parameters that do not tell cases apart: which run it was, and what only one of the systems has.
const SHARED: [&str; 7] =
    ["round", "warm_up_ms", "runtime", "drivers", "lost_drivers", "connects", "connections"];

/// All runs of one case.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// What it is, without what [`SHARED`] names.
    pub params: Table<Value>,
    rows: Vec<&'a Row>,
}

/// The cases of a document, in the order in which they were first run.
#[must_use]
pub fn cases(results: &Results) -> Vec<Case<'_>> {
    let mut all: Vec<Case<'_>> = Vec::new();
    for row in &results.rows {
        let mut params = row.params.clone();
        params.retain(|name, _| !SHARED.contains(&name.as_str()));
        match all.iter_mut().find(|case| case.params == params) {
            Some(case) => case.rows.push(row),
            None => all.push(Case { params, rows: vec![row] }),
        }
    }
    all
}

impl Case<'_> {
    /// A parameter that is a whole number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.params.get(name)?.as_u64()
    }

    /// A parameter that is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.params.get(name)?.as_str()
    }

    /// A parameter that is true.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.params.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Median and range of a metric of one system.
    #[must_use]
    pub fn spread(&self, system: System, metric: &str) -> Option<Spread> {
        let numbers: Vec<f64> = self.of(system).filter_map(|row| row.metrics.get(metric).copied()).collect();
        Spread::of(&numbers)
    }

    /// The runs of one system.
    pub fn of(&self, system: System) -> impl Iterator<Item = &Row> {
        self.rows.iter().copied().filter(move |row| row.system == system)
    }

    /// This system's and Mosquitto's number of each round that has both.
    #[must_use]
    pub fn pairs(&self, metric: &str) -> Vec<(f64, f64)> {
        let by_round = |system: System| -> BTreeMap<(u64, usize), f64> {
            let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
            let numbers = self.of(system).filter_map(|row| {
                let round = row.params.get("round")?.as_u64()?;
                // A document may hold the rounds of several parts.
                let part = seen.entry(round).or_default();
                *part += 1;
                Some(((round, *part), *row.metrics.get(metric)?))
            });
            numbers.collect()
        };
        let base = by_round(System::Mosquitto);
        by_round(System::Oauthing)
            .into_iter()
            .filter_map(|(round, ours)| Some((ours, *base.get(&round)?)))
            .collect()
    }

    /// The median of the pairs' ratios, this system's to Mosquitto's; none from fewer than three pairs.
    #[must_use]
    pub fn ratio(&self, metric: &str) -> Option<Spread> {
        ratio(&self.pairs(metric))
    }

    /// The median of the pairs' differences, this system's less Mosquitto's; none from fewer than three pairs.
    #[must_use]
    pub fn difference(&self, metric: &str) -> Option<Spread> {
        let differences: Vec<f64> = self.pairs(metric).iter().map(|(ours, base)| ours - base).collect();
        if differences.len() < crate::stats::PAIRS { None } else { Spread::of(&differences) }
    }
}

#[cfg(test)]
mod tests {
    use super::cases;
    use crate::brokers::System;
    use crate::results::{Machine, Results, Row, params};

    #[test]
    fn rounds_pair_up_and_two_pairs_make_no_ratio() {
        let row = |system, owners: u64, round: u64, value: f64| {
            let mut row = Row::new(system, params([("owners", owners.into()), ("round", round.into())]));
            row.metric("mean_ms", value);
            row
        };
        let mut rows = Vec::new();
        for round in 1..=3 {
            let slow = if round == 2 { 10.0 } else { 1.0 };
            rows.push(row(System::Oauthing, 50, round, 2.0 * slow));
            rows.push(row(System::Mosquitto, 50, round, slow));
            if round < 3 {
                rows.push(row(System::Oauthing, 400, round, 3.0));
                rows.push(row(System::Mosquitto, 400, round, 1.0));
            }
        }
        let results = Results {
            scenario: "latency".to_owned(),
            commit: "x".to_owned(),
            machine: Machine::default(),
            rows,
        };
        let cases = cases(&results);
        assert_eq!(cases.iter().map(|case| case.number("owners")).collect::<Vec<_>>(), [Some(50), Some(400)]);
        let ratio = cases[0].ratio("mean_ms").expect("three pairs");
        assert!((ratio.median - 2.0).abs() < 1e-9, "a slow round slows both of its pair");
        assert!((cases[0].difference("mean_ms").expect("three").median - 1.0).abs() < 1e-9);
        assert!(cases[1].ratio("mean_ms").is_none() && cases[1].difference("mean_ms").is_none());
        assert_eq!(cases[1].spread(System::Mosquitto, "mean_ms").expect("two runs").runs, 2);
    }
}
