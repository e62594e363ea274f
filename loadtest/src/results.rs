//! What a scenario leaves behind: one JSON document with a row for each single run.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::brokers::System;

/// Parameters of a run, or its metrics, by name.
pub type Table<V> = BTreeMap<String, V>;

/// All runs of a scenario.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Results {
    /// Its name.
    pub scenario: String,
    /// The commit that was measured, with `+` if the tree had changes.
    pub commit: String,
    /// Where.
    pub machine: Machine,
    /// One for each run, in the order in which they were made.
    pub rows: Vec<Row>,
}

/// One run. `params` always has `round` (from 1); a run of one round of each system makes a pair.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct Row {
    /// What was measured.
    pub system: System,
    /// How.
    pub params: Table<Value>,
    /// What came out; see `loadtest/README.md` for the names.
    pub metrics: Table<f64>,
}

impl Row {
    /// A row without numbers yet.
    #[must_use]
    pub fn new(system: System, params: Table<Value>) -> Row {
        Row { system, params, metrics: Table::new() }
    }

    /// Adds a metric; what is not a number is left out.
    pub fn metric(&mut self, name: &str, value: f64) -> &mut Row {
        if value.is_finite() {
            self.metrics.insert(name.to_owned(), value);
        }
        self
    }

    /// Adds a count.
    pub fn count(&mut self, name: &str, value: u64) -> &mut Row {
        self.metric(name, float(value))
    }

    /// Adds `mean_ms`, `p50_ms`, `p95_ms` and `p99_ms` of nanoseconds, each name after `prefix`; nothing if there are none.
    pub fn latency(&mut self, prefix: &str, nanoseconds: &Histogram<u64>) -> &mut Row {
        if nanoseconds.is_empty() {
            return self;
        }
        self.metric(&format!("{prefix}mean_ms"), nanoseconds.mean() / 1e6);
        for (name, quantile) in [("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)] {
            let value = float(nanoseconds.value_at_quantile(quantile)) / 1e6;
            self.metric(&format!("{prefix}{name}"), value);
        }
        self
    }
}

/// Where it was measured, and with what.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// How many of them this process may use.
    pub cores: u64,
    /// Memory in MB.
    pub memory_mb: u64,
    /// The kernel's version.
    pub kernel: String,
    /// Processes waiting for a processor in the minute before it began; what others do here disturbs what is measured.
    pub load_before: f64,
    /// Versions of what was measured.
    pub versions: BTreeMap<String, String>,
    /// When it began, in seconds since 1970.
    pub started: u64,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = after(&read("/proc/meminfo"), "MemTotal")
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0);
        let load = read("/proc/loadavg").split_whitespace().next().and_then(|text| text.parse().ok());
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Machine {
            cpu: after(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u64),
            memory_mb: memory / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: load.unwrap_or(0.0),
            versions: BTreeMap::new(),
            started: since_1970.map_or(0, |time| time.as_secs()),
        }
    }
}

impl Results {
    /// No runs yet, at this commit on this machine.
    #[must_use]
    pub fn new(scenario: &str) -> Results {
        Results {
            scenario: scenario.to_owned(),
            commit: commit(),
            machine: Machine::this(),
            rows: Vec::new(),
        }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// It is not there, or is none.
    pub fn read(path: &Path) -> anyhow::Result<Results> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} holds no results", path.display()))
    }

    /// Writes the document, whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        let part = path.with_extension("json.part");
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        std::fs::write(&part, text).with_context(|| format!("write {}", part.display()))?;
        std::fs::rename(&part, path).with_context(|| format!("write {}", path.display()))
    }
}

/// The commit of the working directory; `unknown` outside of a repository.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => head,
        _ => format!("{head}+"),
    }
}

/// A count as a metric.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// Parameters from names and values.
#[must_use]
pub fn params<const N: usize>(pairs: [(&str, Value); N]) -> Table<Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::{Machine, Results, Row, params};
    use crate::brokers::System;
    use crate::engine::histogram;

    #[test]
    fn the_document_has_the_agreed_shape() {
        let mut row = Row::new(System::Oauthing, params([("pairs", 50.into()), ("round", 1.into())]));
        let mut times = histogram();
        times.record(2_000_000).expect("in range");
        row.latency("", &times).metric("per_second", 10.5).metric("cpu_seconds", f64::NAN);
        let results = Results {
            scenario: "broker".to_owned(),
            commit: "abc".to_owned(),
            machine: Machine::default(),
            rows: vec![row],
        };
        let json = serde_json::to_value(&results).expect("it is JSON");
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().expect("an object").keys().cloned().collect()
        };
        assert_eq!(keys(&json), ["commit", "machine", "rows", "scenario"]);
        assert_eq!(json["rows"][0]["system"], "oauthing");
        assert_eq!(json["rows"][0]["params"]["pairs"], 50);
        assert_eq!(
            keys(&json["rows"][0]["metrics"]),
            ["mean_ms", "p50_ms", "p95_ms", "p99_ms", "per_second"]
        );
        assert!((json["rows"][0]["metrics"]["p99_ms"].as_f64().expect("a number") - 2.0).abs() < 0.01);
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("deep/results.json");
        results.write(&path).expect("it is written");
        assert_eq!(Results::read(&path).expect("it is read"), results);
    }
}
