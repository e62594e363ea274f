//! The command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::brokers::{Programs, System};
use crate::engine::Stop;
use crate::scenario::Settings;
use crate::stack::Runtime;

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
    /// Runs a scenario whose clients are carried by drivers, on this host or others.
    Manager(Manager),
    /// Carries clients for a manager.
    Driver(Driver),
    /// Runs every scenario with --quick and says what is off by a factor of three from the committed figures.
    Smoke {
        /// Where the committed documents are.
        #[arg(long, default_value = "docs/results/raw", value_name = "FOLDER")]
        committed: PathBuf,
        /// Where this run's documents go.
        #[arg(long, default_value = "target/loadtest", value_name = "FOLDER")]
        out: PathBuf,
        /// Where the project's programs are; by default beside this one.
        #[arg(long, value_name = "FOLDER")]
        bin_dir: Option<PathBuf>,
    },
    /// Makes the page with tables and plots.
    Report {
        /// Where the documents are that `run --json` wrote.
        #[arg(long, default_value = "docs/results/raw", value_name = "FOLDER")]
        from: PathBuf,
        /// Where the page goes.
        #[arg(long, default_value = "docs/results", value_name = "FOLDER")]
        to: PathBuf,
    },
    /// Turns the samples of a power meter (CSV: time with volts and amperes, or with milliwatts) into mWh and mean mW.
    Energy {
        /// The samples.
        file: PathBuf,
        /// As JSON: `{"mwh", "mean_mw", "seconds", "samples"}`.
        #[arg(long)]
        json: bool,
    },
}

/// How to run a scenario with drivers.
#[derive(Debug, Args)]
pub struct Manager {
    /// Where drivers find the manager.
    #[arg(long, default_value = "127.0.0.1:7070")]
    pub listen: SocketAddr,
    /// Wait for so many drivers; 0: for the first, and for those that come within --gather seconds after it.
    #[arg(long, default_value_t = 0)]
    pub drivers: usize,
    /// See --drivers.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=120))]
    gather: u16,
    /// Name or address under which drivers reach this host.
    #[arg(long, default_value = "localhost")]
    pub host: String,
    /// Address that the systems under test listen on; a private network's at most.
    #[arg(long, default_value = "127.0.0.1")]
    pub bind: IpAddr,
    /// What drivers have to know; without it anybody who reaches the manager may be one.
    #[arg(long, env = "LOADTEST_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// What to run.
    #[command(flatten)]
    pub run: Run,
}

impl Manager {
    /// How long further drivers are waited for.
    #[must_use]
    pub fn gather(&self) -> Duration {
        Duration::from_secs(u64::from(self.gather))
    }
}

/// How to be a driver.
#[derive(Debug, Args)]
pub struct Driver {
    /// The manager's URL.
    #[arg(long, value_name = "URL")]
    pub manager: String,
    /// What the manager wants to hear.
    #[arg(long, env = "LOADTEST_KEY", hide_env_values = true)]
    pub key: Option<String>,
}

/// The scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// PCM, Mosquitto and rumqttd as plain brokers: messages a core-second, latency.
    Broker,
    /// Latency through the whole system, one message a second and client, both directions (figures 10 and 11).
    Latency,
    /// How long a connect takes (figure 12).
    Connect,
    /// Messages a second, one in flight each, and fairness (figure 13).
    Stress,
    /// Memory of an owner, owners on 2 GB, cost of each.
    Density,
    /// Devices registered a second, by iterations of the hash (figure 14).
    Register,
    /// Tokens judged a second, for 1 to 16 gateways, with up to a million devices in the store (figure 15).
    Introspect,
    /// Tokens refreshed a second, over HTTP and MQTT.
    Token,
    /// Everybody reconnects at once.
    Storm,
    /// One device, many receivers.
    Fanout,
    /// One message a second for a long time: latency and memory over time.
    Soak,
    /// The harness itself: against a null sink, and beside a client that is not ours.
    Harness,
}

impl Scenario {
    /// Whether drivers can carry its clients.
    #[must_use]
    pub const fn is_distributed(self) -> bool {
        matches!(self, Scenario::Latency | Scenario::Stress | Scenario::Fanout)
    }
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
    /// What the file holds already stays, and this run's results come after it.
    #[arg(long, requires = "json")]
    pub append: bool,
    /// Rounds of each case, all systems in each round; fewer than three make no ratio. By default 5, with --quick 1.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub rounds: Option<u16>,
    /// Seconds that one run is measured; each scenario has its own default.
    #[arg(long, value_parser = seconds)]
    pub seconds: Option<Duration>,
    /// What is measured; by default this system and Mosquitto, for `broker` also rumqttd if it was built.
    #[arg(long, value_delimiter = ',')]
    pub systems: Vec<System>,
    /// Numbers of owners, instead of the scenario's own list.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub owners: Vec<u16>,
    /// TLS 1.3 on both sides instead of on neither.
    #[arg(long)]
    pub tls: bool,
    /// What PCMs run as.
    #[arg(long, value_enum, default_value = "process")]
    pub runtime: Runtime,
    /// The PCM's image, for `--runtime docker`.
    #[arg(long, default_value = "oauthing-pcm")]
    pub image: String,
    /// Where the project's programs are; by default beside this one.
    #[arg(long, value_name = "FOLDER")]
    pub bin_dir: Option<PathBuf>,
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
    /// As `loadtest run SCENARIO --quick --json FILE`.
    #[must_use]
    pub fn quick(scenario: Scenario, json: PathBuf, bin_dir: Option<PathBuf>) -> Run {
        Run {
            scenario,
            quick: true,
            json: Some(json),
            append: false,
            rounds: None,
            seconds: None,
            systems: Vec::new(),
            owners: Vec::new(),
            tls: false,
            runtime: Runtime::Process,
            image: String::new(),
            bin_dir,
            only: None,
            pcm: None,
            mosquitto: None,
            rumqttd: None,
        }
    }

    /// The scenario's settings.
    ///
    /// # Errors
    /// This program does not know where it is.
    pub fn settings(&self, stop: Stop) -> anyhow::Result<Settings> {
        let mut programs = match &self.bin_dir {
            Some(folder) => Programs::below(folder),
            None => Programs::usual()?,
        };
        for (place, given) in [
            (&mut programs.pcm, &self.pcm),
            (&mut programs.mosquitto, &self.mosquitto),
            (&mut programs.rumqttd, &self.rumqttd),
        ] {
            if let Some(given) = given {
                place.clone_from(given);
            }
        }
        let usual = match (self.scenario, self.quick) {
            (Scenario::Broker, true) => 200,
            (_, true) => 1000,
            (Scenario::Latency, false) => 10_000,
            (Scenario::Soak, false) => 600_000,
            (Scenario::Register | Scenario::Introspect | Scenario::Token | Scenario::Harness, false) => 4000,
            (
                Scenario::Broker
                | Scenario::Stress
                | Scenario::Connect
                | Scenario::Density
                | Scenario::Storm
                | Scenario::Fanout,
                false,
            ) => 2000,
        };
        let time = self.seconds.unwrap_or(Duration::from_millis(usual));
        let mut systems = self.systems.clone();
        if systems.is_empty() {
            systems = vec![System::Oauthing, System::Mosquitto];
            if self.scenario == Scenario::Broker {
                match programs.ensure(System::Rumqttd) {
                    Ok(()) => systems.push(System::Rumqttd),
                    Err(error) => eprintln!("loadtest: without rumqttd: {error}"),
                }
            }
        }
        Ok(Settings {
            quick: self.quick,
            rounds: usize::from(self.rounds.unwrap_or(if self.quick { 1 } else { 5 })),
            time,
            warm_up: time / 4,
            systems,
            only: self.only.clone(),
            programs,
            runtime: self.runtime,
            image: self.image.clone(),
            tls: self.tls,
            host: "localhost".to_owned(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            crew: None,
            owners: self.owners.iter().copied().map(usize::from).collect(),
            json: self.json.clone(),
            append: self.append,
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
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let settings = run("run broker --quick --systems oauthing,mosquitto --only q1")
            .and_then(|run| run.settings(crate::engine::Stop::default()).map_err(|error| error.to_string()))
            .expect("it is right");
        assert_eq!((settings.systems.len(), settings.rounds), (2, 1));
        assert!(settings.wants("pairs1-q1-w1") && !settings.wants("pairs1-q2-w1"));
    }

    #[test]
    fn there_are_bounds() {
        for line in [
            "run broker --seconds 4000",
            "run broker --seconds 0",
            "run broker --rounds 0",
            "run nothing",
            "run latency --owners 100000",
        ] {
            assert!(run(line).is_err(), "{line}");
        }
    }
}
