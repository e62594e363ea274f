//! Every scenario with `--quick`, one after the other: whether all of them still run, and what is far off the committed figures.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;

use crate::cli::{Run, Scenario};
use crate::engine::Stop;
use crate::report::compare::compare;
use crate::results::Results;
use crate::scenario;

/// Longest time for all of them.
const LONGEST: Duration = Duration::from_secs(240);

/// Runs all scenarios; documents go to `out`, committed ones are looked for in `committed`. True if all ran, and in time.
///
/// A figure that is off by a factor of three is printed and fails nothing: machines differ, and a reader has to see it.
///
/// # Errors
/// The command line of a scenario is wrong, or a document cannot be read.
pub fn run(committed: &Path, out: &Path, bin_dir: Option<&Path>, stop: &Stop) -> anyhow::Result<bool> {
    let all = Instant::now();
    let mut complete = true;
    let mut off = Vec::new();
    let (mut compared, mut unknown) = (0, Vec::new());
    for scenario in Scenario::value_variants() {
        let Some(name) = scenario.to_possible_value().map(|value| value.get_name().to_owned()) else {
            continue;
        };
        let file = out.join(format!("{name}.json"));
        let run = Run::quick(*scenario, file.clone(), bin_dir.map(Path::to_owned));
        let started = Instant::now();
        let outcome = run.settings(stop.clone()).and_then(|settings| scenario::run(*scenario, &settings));
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(true) => eprintln!("{name}: {seconds:.1} s"),
            Ok(false) => {
                complete = false;
                eprintln!("{name}: incomplete after {seconds:.1} s");
            }
            Err(error) => {
                complete = false;
                eprintln!("{name}: {error:#}");
                continue;
            }
        }
        if stop.is_set() {
            return Ok(false);
        }
        let known = committed.join(format!("{name}.json"));
        if known.is_file() {
            let (lines, count) = compare(&Results::read(&file)?, &Results::read(&known)?);
            off.extend(lines);
            compared += count;
        } else {
            unknown.push(name);
        }
    }
    let took = all.elapsed();
    println!(
        "{compared} figures compared with the committed ones; off by a factor of three or more: {}",
        off.len()
    );
    for line in &off {
        println!("  {line}");
    }
    if !unknown.is_empty() {
        println!("no committed figures: {}", unknown.join(", "));
    }
    println!("{:.0} s in all, {:.0} s at most", took.as_secs_f64(), LONGEST.as_secs_f64());
    Ok(complete && took <= LONGEST)
}
