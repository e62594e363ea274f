//! Runs what a scenario lists, interleaved, shows how far it is, and keeps what was measured when it is stopped.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::brokers::System;
use crate::engine::Stop;
use crate::results::{Results, Row};
use crate::stats::short;

/// A CPU share of the load side above which its own speed may be what was measured.
const LOAD_SHARE: f64 = 1.0;

/// Where results go while they are made.
pub struct Bench {
    /// What was measured so far.
    pub results: Results,
    /// Set by Ctrl-C.
    pub stop: Stop,
    file: Option<PathBuf>,
    steps: usize,
    done: usize,
    started: Instant,
    live: bool,
    quiet: bool,
    failures: Vec<String>,
    overloaded: BTreeMap<System, usize>,
}

impl Bench {
    /// Of so many steps. After each, `file` is written anew.
    #[must_use]
    pub fn new(scenario: &str, steps: usize, file: Option<PathBuf>, stop: Stop) -> Bench {
        Bench {
            results: Results::new(scenario),
            stop,
            file,
            steps,
            done: 0,
            started: Instant::now(),
            live: std::io::stderr().is_terminal(),
            quiet: false,
            failures: Vec::new(),
            overloaded: BTreeMap::new(),
        }
    }

    /// Keeps the runs that the file holds already, if it is there: this one goes on where it stopped.
    ///
    /// # Errors
    /// The file holds no results, or those of another scenario.
    pub fn keep_earlier(&mut self) -> anyhow::Result<()> {
        let Some(file) = self.file.as_ref().filter(|file| file.exists()) else { return Ok(()) };
        let earlier = Results::read(file)?;
        anyhow::ensure!(
            earlier.scenario == self.results.scenario,
            "{} holds results of `{}`",
            file.display(),
            earlier.scenario
        );
        self.results.rows = earlier.rows;
        Ok(())
    }

    /// Runs each case for each system, system after system, round after round: A B A B. Answers whether all was done.
    ///
    /// A run that fails is said and left out; it never stands for a number.
    ///
    /// # Errors
    /// The results cannot be written.
    pub fn interleave<C>(
        &mut self,
        systems: &[System],
        rounds: usize,
        case: &C,
        label: &str,
        mut run: impl FnMut(System, &C, usize) -> anyhow::Result<Vec<Row>>,
    ) -> anyhow::Result<bool> {
        for round in 1..=rounds {
            for system in systems {
                if self.stop.is_set() {
                    return Ok(false);
                }
                self.show(&format!("{label}, {system}, round {round} of {rounds}"));
                let outcome = run(*system, case, round);
                if self.stop.is_set() {
                    return Ok(false);
                }
                self.step(*system, label, outcome)?;
            }
        }
        Ok(true)
    }

    /// Takes the outcome of one step.
    ///
    /// # Errors
    /// The results cannot be written.
    pub fn step(
        &mut self,
        system: System,
        label: &str,
        outcome: anyhow::Result<Vec<Row>>,
    ) -> anyhow::Result<()> {
        self.done += 1;
        match outcome {
            Ok(rows) => {
                for row in rows {
                    self.row(label, row);
                }
            }
            Err(error) => {
                let line = format!("{label}, {system}: {error:#}");
                self.line(&format!("FAILED {line}"));
                self.failures.push(line);
            }
        }
        match &self.file {
            Some(file) => self.results.write(file),
            None => Ok(()),
        }
    }

    fn row(&mut self, label: &str, row: Row) {
        let metric = |name: &str| row.metrics.get(name).copied();
        if let (Some(load), Some(server)) = (metric("load_cpu_seconds"), metric("cpu_seconds"))
            && load > server * LOAD_SHARE
        {
            *self.overloaded.entry(row.system).or_default() += 1;
        }
        let shown = [
            "per_core_second",
            "per_second",
            "mean_ms",
            "p99_ms",
            "bytes_each",
            "cpu_seconds",
            "load_cpu_seconds",
        ];
        let numbers: Vec<String> =
            shown.iter().filter_map(|name| Some(format!("{name} {}", short(metric(name)?)))).collect();
        self.line(&format!("{label:<34} {:<9} {}", row.system, numbers.join("  ")));
        self.results.rows.push(row);
    }

    fn line(&mut self, line: &str) {
        if self.quiet {
            return;
        }
        let clear = if self.live { "\r\x1b[K" } else { "" };
        eprintln!("{clear}{line}");
    }

    /// Shows what is being done, how far it is and how long the rest may take.
    pub fn show(&self, what: &str) {
        if !self.live || self.quiet {
            return;
        }
        let width = 20;
        let filled = (self.done * width).checked_div(self.steps.max(1)).unwrap_or(0).min(width);
        let bar = format!("{}{}", "█".repeat(filled), "░".repeat(width - filled));
        let left = match estimate(self.started.elapsed(), self.done, self.steps) {
            Some(left) => format!("{}:{:02} left", left.as_secs() / 60, left.as_secs() % 60),
            None => "estimating".to_owned(),
        };
        eprint!("\r\x1b[K{bar} {}/{} {left} · {what}", self.done, self.steps);
        // Progress that cannot be shown is no reason to stop.
        let _ = std::io::stderr().flush();
    }

    /// Says what must be said at the end. Answers whether every run gave its numbers.
    pub fn finish(&mut self) -> bool {
        if self.stop.is_set() {
            self.line(&format!(
                "stopped after {} of {} runs; what was measured is kept",
                self.done, self.steps
            ));
        }
        for (system, runs) in std::mem::take(&mut self.overloaded) {
            self.line(&format!(
                "warning: in {runs} runs of {system} the load side used more CPU than the system under test; rates a second say \
                 little there, rates a core-second of the system's own CPU do"
            ));
        }
        if let Some(file) = &self.file {
            let line = format!("{} rows are in {}", self.results.rows.len(), file.display());
            self.line(&line);
        }
        self.failures.is_empty() && !self.stop.is_set()
    }
}

/// What the rest takes if it goes on as it went.
fn estimate(elapsed: Duration, done: usize, steps: usize) -> Option<Duration> {
    let each = elapsed.checked_div(u32::try_from(done).ok()?)?;
    each.checked_mul(u32::try_from(steps.saturating_sub(done)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::{Bench, estimate};
    use crate::brokers::System;
    use crate::engine::Stop;
    use crate::results::{Results, Row, Table};
    use std::time::Duration;

    #[test]
    fn the_rest_is_estimated_from_what_was_done() {
        assert_eq!(estimate(Duration::from_secs(10), 0, 5), None);
        assert_eq!(estimate(Duration::from_secs(10), 2, 5), Some(Duration::from_secs(15)));
        assert_eq!(estimate(Duration::from_secs(10), 5, 5), Some(Duration::ZERO));
    }

    #[test]
    fn runs_are_interleaved_and_a_stop_keeps_what_was_measured() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("r.json");
        let stop = Stop::default();
        let mut bench = Bench::new("test", 6, Some(file.clone()), stop.clone());
        bench.quiet = true;
        let mut order = Vec::new();
        let systems = [System::Oauthing, System::Mosquitto];
        let done = bench.interleave(&systems, 3, &(), "case", |system, (), round| {
            order.push((system, round));
            if order.len() == 2 {
                anyhow::bail!("it broke");
            }
            if order.len() == 4 {
                stop.set();
            }
            Ok(vec![Row::new(system, Table::new())])
        });
        assert!(!done.expect("it is written"));
        let pairs =
            [(System::Oauthing, 1), (System::Mosquitto, 1), (System::Oauthing, 2), (System::Mosquitto, 2)];
        assert_eq!(order, pairs);
        let kept = Results::read(&file).expect("it is kept");
        assert_eq!(kept.rows.len(), 2, "neither the failed run nor the interrupted one");
        assert!(!bench.finish());
    }
}
