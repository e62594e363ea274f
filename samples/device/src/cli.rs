//! The command line: `run`, `panel`, `check-config`, `healthcheck`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use service::Shutdown;
use service::net::Listener;
use url::Url;

use crate::panel::{self, Listeners, PanelConfig};
use crate::thermostat::Settings;

/// A sample thermostat, and a panel for several of them.
#[derive(Parser)]
#[command(name = "device", version)]
struct Arguments {
    #[command(subcommand)]
    command: Role,
}

#[derive(Subcommand)]
enum Role {
    /// One thermostat: JSON lines on standard input and output.
    Run {
        /// Its folder.
        #[arg(long)]
        dir: PathBuf,
        /// The factory's floor listener.
        #[arg(long)]
        factory: Option<Url>,
        /// The model.
        #[arg(long, default_value = "T1")]
        model: String,
        /// Milliseconds between two readings.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..))]
        interval_ms: u64,
        /// Connect to this address whatever a server's name says.
        #[arg(long)]
        resolve: Option<IpAddr>,
    },
    /// The panel page, and a process for each thermostat.
    Panel {
        /// TOML.
        #[arg(long)]
        config: PathBuf,
    },
    /// Checks a configuration: exit code 0, or 1 and what is wrong.
    CheckConfig {
        /// TOML.
        #[arg(long)]
        config: PathBuf,
    },
    /// Asks `URL`: exit code 0 if it answers well.
    Healthcheck {
        /// For example `http://127.0.0.1:8096/healthz`.
        url: Url,
    },
}

/// What `main` does; `args` begins with the program's name.
pub fn main_with_args(args: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing else to do if the terminal is gone.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    service::telemetry::init("device");
    service::tls::install_provider();
    // A thermostat is one task with one socket: one thread is enough for it, and for the panel too.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(play(arguments.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&format!("{error:#}")),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

async fn play(role: Role) -> anyhow::Result<()> {
    match role {
        Role::Run { dir, factory, model, interval_ms, resolve } => {
            let interval = Duration::from_millis(interval_ms);
            let settings = Settings { factory, model, interval, resolve, ..Settings::new(dir) };
            crate::child::run(settings).await
        }
        Role::Panel { config } => {
            let config = PanelConfig::load(&config)?;
            let shutdown = Shutdown::new();
            shutdown.on_signals();
            let listeners = Listeners {
                page: Listener::bind(&config.listen).await?,
                floor: match &config.floor_listen {
                    Some(address) => Some(Listener::bind(address).await?),
                    None => None,
                },
            };
            panel::run(config, listeners, shutdown).await
        }
        Role::CheckConfig { config } => {
            PanelConfig::load(&config)?;
            println!("{} is fine", config.display());
            Ok(())
        }
        Role::Healthcheck { url } => {
            let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
            client.get(url).send().await?.error_for_status()?;
            Ok(())
        }
    }
}
