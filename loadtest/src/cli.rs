//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::brokers::{Programs, System};
use crate::engine::Stop;
use crate::scenario::Settings;

/// Longest measurement of a single run.
const LONGEST: u64 = 3600;

/// Repeats the paper's measurements against Mosquitto and rumqttd on this machine.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a scenario.
    Run(Run),
}

/// The scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// PCM, Mosquitto and rumqttd as plain brokers: messages a core-second, latency.
    Broker,
}

/// How to run one.
#[derive(Debug, Args)]
pub struct Run {
    /// Which.
    pub scenario: Scenario,
    /// Fewer cases and shorter runs: a smoke test, not a measurement.
    #[arg(long)]
    pub quick: bool,
    /// Where the results go; written after every run.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Rounds of each case, all systems in each round; fewer than three make no ratio.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub rounds: u16,
    /// Seconds that one run is measured; by default 2, with --quick 0.2.
    #[arg(long, value_parser = seconds)]
    pub seconds: Option<Duration>,
    /// What is measured; by default all three, rumqttd if it was built.
    #[arg(long, value_delimiter = ',')]
    pub systems: Vec<System>,
    /// Only cases whose label contains this, for example `pairs50-q1`.
    #[arg(long, value_name = "PART")]
    pub only: Option<String>,
    /// The PCM's program.
    #[arg(long, value_name = "PROGRAM")]
    pub pcm: Option<PathBuf>,
    /// Mosquitto's program.
    #[arg(long, value_name = "PROGRAM")]
    pub mosquitto: Option<PathBuf>,
    /// The program of loadtest/rumqttd.
    #[arg(long, value_name = "PROGRAM")]
    pub rumqttd: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "no number".to_owned())?;
    if (0.05..=Duration::from_secs(LONGEST).as_secs_f64()).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("from 0.05 to {LONGEST}"))
    }
}

impl Run {
    /// The scenario's settings.
    ///
    /// # Errors
    /// This program does not know where it is.
    pub fn settings(&self, stop: Stop) -> anyhow::Result<Settings> {
        let mut programs = Programs::usual()?;
        for (place, given) in [
            (&mut programs.pcm, &self.pcm),
            (&mut programs.mosquitto, &self.mosquitto),
            (&mut programs.rumqttd, &self.rumqttd),
        ] {
            if let Some(given) = given {
                place.clone_from(given);
            }
        }
        let usual = Duration::from_millis(if self.quick { 200 } else { 2000 });
        let time = self.seconds.unwrap_or(usual);
        let mut systems = self.systems.clone();
        if systems.is_empty() {
            systems = vec![System::Oauthing, System::Mosquitto];
            match programs.ensure(System::Rumqttd) {
                Ok(()) => systems.push(System::Rumqttd),
                Err(error) => eprintln!("loadtest: without rumqttd: {error}"),
            }
        }
        Ok(Settings {
            quick: self.quick,
            rounds: usize::from(self.rounds),
            time,
            warm_up: time / 4,
            systems,
            only: self.only.clone(),
            programs,
            stop,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Command, Run};
    use clap::{CommandFactory as _, Parser as _};

    fn run(line: &str) -> Result<Run, String> {
        let words = std::iter::once("loadtest").chain(line.split_whitespace());
        match Arguments::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Run(run) => Ok(run),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let settings = run("run broker --quick --systems oauthing,mosquitto --only q1")
            .and_then(|run| run.settings(crate::engine::Stop::default()).map_err(|error| error.to_string()))
            .expect("it is right");
        assert_eq!((settings.systems.len(), settings.rounds), (2, 3));
        assert!(settings.wants("pairs1-q1-w1") && !settings.wants("pairs1-q2-w1"));
    }

    #[test]
    fn there_are_bounds() {
        for line in
            ["run broker --seconds 4000", "run broker --seconds 0", "run broker --rounds 0", "run nothing"]
        {
            assert!(run(line).is_err(), "{line}");
        }
    }
}
