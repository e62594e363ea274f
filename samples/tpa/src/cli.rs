//! The command line: `tpa --config FILE`, `tpa check-config --config FILE`, `tpa healthcheck URL`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use service::net::Listener;
use service::{Clock, Shutdown};

use crate::Config;

#[derive(Parser)]
#[command(name = "tpa", version, about = "The Heating Diary, a sample third-party app")]
struct Arguments {
    /// Configuration file.
    #[arg(long, global = true, default_value = "tpa.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (the default).
    Serve,
    /// Check the configuration file and exit.
    CheckConfig,
    /// Exit with 0 if a GET of the URL answers 200.
    Healthcheck {
        /// For example `http://127.0.0.1:8090/healthz`.
        url: url::Url,
    },
}

/// What the program does, from its arguments to its exit code.
pub fn main_with_args(args: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // A second service in the same process may have installed it already; it is the same one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    service::telemetry::init("tpa");
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match arguments.command.unwrap_or(Command::Serve) {
        Command::CheckConfig => match Config::load(&arguments.config) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Command::Healthcheck { url } => runtime.block_on(healthcheck(url)),
        Command::Serve => match Config::load(&arguments.config) {
            Ok(config) => runtime.block_on(serve(config)),
            Err(error) => fail(&error),
        },
    }
}

async fn serve(config: Config) -> ExitCode {
    let shutdown = Shutdown::new();
    shutdown.on_signals();
    let listener = match Listener::bind(&config.listen).await {
        Ok(listener) => listener,
        Err(error) => return fail(&error),
    };
    tracing::info!(event = "listening", address = %config.listen, url = %config.public_url);
    match crate::run(config, listener, Clock::system(), shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn healthcheck(url: url::Url) -> ExitCode {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(3)).build();
    let Ok(client) = client else { return ExitCode::FAILURE };
    match client.get(url).send().await {
        Ok(answer) if answer.status().is_success() => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("tpa: {error}");
    ExitCode::FAILURE
}
