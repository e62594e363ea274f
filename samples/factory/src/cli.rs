//! The command line: `serve`, `check-config`, `healthcheck`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use service::Shutdown;
use service::net::Listener;
use url::Url;

use crate::{Config, Listeners};

/// A sample manufacturing server.
#[derive(Parser)]
#[command(name = "factory", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves page and floor until SIGTERM.
    Serve {
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
        /// For example `http://127.0.0.1:8095/healthz`.
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
    service::telemetry::init("factory");
    service::tls::install_provider();
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

async fn play(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve { config } => {
            let config = Config::load(&config)?;
            let shutdown = Shutdown::new();
            shutdown.on_signals();
            let listeners = Listeners {
                page: Listener::bind(&config.listen).await?,
                floor: Listener::bind(&config.floor_listen).await?,
            };
            crate::run(config, listeners, shutdown).await
        }
        Command::CheckConfig { config } => {
            Config::load(&config)?;
            println!("{} is fine", config.display());
            Ok(())
        }
        Command::Healthcheck { url } => {
            let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
            client.get(url).send().await?.error_for_status()?;
            Ok(())
        }
    }
}
