//! `loadtest report`: one page with tables and plots from the raw documents.
//!
//! Tables are `paper | Mosquitto | OAuthing | ratio`. A number is a median with its range; a ratio is the median of the pairs'
//! ratios, a pair being two runs of one round, and there is none from fewer than three pairs.

pub mod cases;
pub mod compare;
mod figures;
mod paper;
mod plot;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::brokers::System;
use crate::results::Results;
use cases::{Case, cases};
use plot::Plot;

/// A section of the page.
struct Section {
    title: String,
    /// What is measured, in a few sentences.
    text: String,
    /// File names and plots.
    plots: Vec<(String, Plot)>,
    lines: Vec<Line>,
}

/// A line of a table.
struct Line {
    what: String,
    paper: Option<String>,
    mosquitto: Option<String>,
    ours: Option<String>,
    ratio: Option<String>,
}

impl Line {
    /// A metric of a case, both systems'.
    fn of(case: &Case<'_>, metric: &str, what: impl Into<String>) -> Line {
        let spread = |system| case.spread(system, metric).map(|spread| spread.text());
        Line {
            what: what.into(),
            paper: None,
            mosquitto: spread(System::Mosquitto),
            ours: spread(System::Oauthing),
            ratio: case.ratio(metric).map(|ratio| ratio.text()),
        }
    }

    fn paper(mut self, paper: impl Into<String>) -> Line {
        self.paper = Some(paper.into());
        self
    }
}

/// Makes the page in `to` from the documents in `from`; answers how many there were.
///
/// # Errors
/// A document cannot be read, or the page cannot be written.
pub fn make(from: &Path, to: &Path) -> anyhow::Result<usize> {
    let mut documents = Vec::new();
    let listed = std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))?;
    for entry in listed {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            documents.push((name, Results::read(&path)?));
        }
    }
    documents.sort_by(|(a, one), (b, other)| (order(&one.scenario), a).cmp(&(order(&other.scenario), b)));
    std::fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    let mut page = head(&documents);
    for (name, results) in &documents {
        let stem = name.trim_end_matches(".json");
        let cases = cases(results);
        let section = figures::section(results, &cases, stem);
        page.push_str(&write_section(&section, results, &format!("raw/{name}"), to)?);
    }
    let file = to.join("README.md");
    std::fs::write(&file, page).with_context(|| format!("write {}", file.display()))?;
    Ok(documents.len())
}

/// The paper's order of figures, then what it has not.
fn order(scenario: &str) -> usize {
    let known = [
        "latency",
        "connect",
        "stress",
        "register",
        "introspect",
        "token",
        "storm",
        "fanout",
        "density",
        "soak",
        "broker",
        "harness",
    ];
    known.iter().position(|one| *one == scenario).unwrap_or(known.len())
}

fn head(documents: &[(String, Results)]) -> String {
    let mut page = String::from("# Measured\n\n");
    page.push_str(
        "Made by `loadtest report` from the documents in [raw](raw); how each is made stands in [loadtest/README.md](../../loadtest/README.md). \
         The paper's figures were taken on other machines and over a network: they stand beside, they are no baseline. The baseline is Mosquitto, in the same run, on the same \
         machine, with a password file, TLS on both sides or on neither.\n\n\
         A number is the median of the runs with the least and the most in brackets. Runs of the systems alternate, round after round. A ratio is OAuthing's number over Mosquitto's, the median of the \
         rounds' ratios; there is none from fewer than three rounds.\n\n",
    );
    if let Some((_, results)) = documents.first() {
        let machine = &results.machine;
        let _ = writeln!(
            page,
            "Machine: {} cores of {}, {} MB, Linux {}. Load generator, baseline and all of OAuthing share it.\n",
            machine.cores, machine.cpu, machine.memory_mb, machine.kernel
        );
    }
    page
}

fn write_section(section: &Section, results: &Results, raw: &str, to: &Path) -> anyhow::Result<String> {
    let mut text = format!("## {}\n\n{}\n\n", section.title, section.text);
    for (name, plot) in &section.plots {
        if let Some(svg) = plot.svg()? {
            let file = to.join(name);
            std::fs::write(&file, svg).with_context(|| format!("write {}", file.display()))?;
            let _ = writeln!(text, "![{}]({name})\n", plot.title);
        }
    }
    text.push_str("| | paper | Mosquitto | OAuthing | ratio |\n|---|---|---|---|---|\n");
    for line in &section.lines {
        let cell = |cell: &Option<String>| cell.clone().unwrap_or_default();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            line.what,
            cell(&line.paper),
            cell(&line.mosquitto),
            cell(&line.ours),
            cell(&line.ratio)
        );
    }
    text.push('\n');
    text.push_str(&notes(results, raw));
    Ok(text)
}

/// What has to be said beside the numbers.
fn notes(results: &Results, raw: &str) -> String {
    let mut text = String::new();
    let mut overloaded: Vec<String> = Vec::new();
    for system in [System::Oauthing, System::Mosquitto, System::Rumqttd] {
        let of = || results.rows.iter().filter(move |row| row.system == system);
        let over = of().filter(|row| {
            let metric = |name: &str| row.metrics.get(name).copied();
            matches!((metric("load_cpu_seconds"), metric("cpu_seconds")), (Some(load), Some(own)) if load > own)
        });
        let (over, all) = (over.count(), of().count());
        if over > 0 {
            overloaded.push(format!("{over} of {all} runs of {system}"));
        }
    }
    if !overloaded.is_empty() {
        let _ = writeln!(
            text,
            "**The load side used more CPU than the system under test** in {}: what a second brought is bounded by the harness there, what a CPU-second of the system brought is not.\n",
            overloaded.join(", ")
        );
    }
    let lost: u64 = results
        .rows
        .iter()
        .filter_map(|row| row.params.get("lost_drivers").and_then(serde_json::Value::as_u64))
        .sum();
    if lost > 0 {
        let _ =
            writeln!(text, "**Drivers were lost** {lost} times; those runs hold what the others measured.\n");
    }
    let warm_up: std::collections::BTreeSet<u64> =
        results.rows.iter().filter_map(|row| row.params.get("warm_up_ms")?.as_u64()).collect();
    let warm_up: Vec<String> = warm_up.iter().map(|time| format!("{time} ms")).collect();
    let versions: Vec<&str> = results.machine.versions.values().map(String::as_str).collect();
    let _ = writeln!(
        text,
        "[{raw}]({raw}): commit {}, {}warm-up {}, load average before {:.1}.\n",
        results.commit,
        if versions.is_empty() { String::new() } else { format!("{}, ", versions.join(", ")) },
        if warm_up.is_empty() { "none".to_owned() } else { warm_up.join(" or ") },
        results.machine.load_before
    );
    text
}

#[cfg(test)]
mod tests {
    use super::make;
    use crate::brokers::System;
    use crate::results::{Machine, Results, Row, params};

    #[test]
    fn a_page_has_a_table_a_plot_and_what_must_be_said() {
        let dir = tempfile::tempdir().expect("a folder");
        let (raw, out) = (dir.path().join("raw"), dir.path().join("out"));
        let mut rows = Vec::new();
        for round in 1..=3_u64 {
            for (system, mean) in [(System::Oauthing, 0.3), (System::Mosquitto, 0.2)] {
                for owners in [50_u64, 400] {
                    let mut row = Row::new(
                        system,
                        params([
                            ("owners", owners.into()),
                            ("round", round.into()),
                            ("tls", false.into()),
                            ("warm_up_ms", 250.into()),
                        ]),
                    );
                    row.metric("mean_ms", mean).metric("p95_ms", mean * 2.0).metric("p99_ms", mean * 3.0);
                    row.metric("cpu_seconds", 1.0).metric("load_cpu_seconds", 2.0);
                    rows.push(row);
                }
            }
        }
        let machine = Machine { cpu: "a CPU".to_owned(), cores: 2, ..Machine::default() };
        let results = Results { scenario: "latency".to_owned(), commit: "abc".to_owned(), machine, rows };
        results.write(&raw.join("latency.json")).expect("it is written");
        assert_eq!(make(&raw, &out).expect("a page"), 1);
        let page = std::fs::read_to_string(out.join("README.md")).expect("the page");
        for part in [
            "2 cores of a CPU",
            "| | paper | Mosquitto | OAuthing | ratio |",
            "| 1.50 [1.50–1.50] |",
            "used more CPU than the system under test",
            "commit abc",
            "warm-up 250 ms",
            ".svg)",
        ] {
            assert!(page.contains(part), "{part} in\n{page}");
        }
        let plots = std::fs::read_dir(&out).expect("the folder").flatten();
        let plots = plots.filter(|entry| entry.path().extension().is_some_and(|end| end == "svg")).count();
        assert!(plots >= 1);
    }
}
