//! The life of the process: config, telemetry, bind, serve, drain with a deadline.
//!
//! `ignite serve` and `ignite launcher` read the same file; `check-config` judges it; `healthcheck` asks a running gateway,
//! since the image has no other HTTP client.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use service::{Clock, Shutdown};
use tokio::runtime::Builder;

use crate::config::Config;
use crate::serve::{self, Listeners};

#[derive(Parser)]
#[command(name = "ignite", about = "OAuthing's gateway and the launcher of its private brokers", version)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Runs the gateway.
    Serve(ConfigFile),
    /// Runs the launcher.
    Launcher(ConfigFile),
    /// Exits with 0 if the configuration can be used, else names file, line and fault.
    CheckConfig(ConfigFile),
    /// Exits with 0 if the URL (for example a gateway's /healthz) answers 200, or the launcher at `unix:PATH` answers.
    Healthcheck {
        /// What to ask.
        url: String,
    },
}

#[derive(clap::Args)]
struct ConfigFile {
    /// The configuration, TOML.
    #[arg(long = "config", default_value = "ignite.toml")]
    file: PathBuf,
}

/// What `main` does, for `ignite` itself and for programs that contain it. Exit codes: 0 done, 1 failed, 2 wrong usage.
pub fn main_with_args(args: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    service::tls::install_provider();
    service::telemetry::init("ignite");
    // The gateway's connections have threads of their own.
    let mut runtime = match arguments.role {
        Role::Launcher(_) => Builder::new_multi_thread(),
        Role::Serve(_) | Role::CheckConfig(_) | Role::Healthcheck { .. } => Builder::new_current_thread(),
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    match runtime.block_on(carry_out(arguments.role)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("{error:#}");
    ExitCode::FAILURE
}

async fn carry_out(role: Role) -> anyhow::Result<()> {
    match role {
        Role::Serve(config) => serve(load(&config.file)?).await,
        Role::Launcher(config) => launcher(load(&config.file)?).await,
        Role::CheckConfig(config) => check(&load(&config.file)?),
        Role::Healthcheck { url } => healthcheck(&url).await,
    }
}

fn load(file: &Path) -> anyhow::Result<Config> {
    let (config, source) = service::config::load::<Config>(file)?;
    config.validate(&source)?;
    Ok(config.relative_to(&std::path::absolute(source.folder()).context("current directory")?))
}

fn check(config: &Config) -> anyhow::Result<()> {
    crate::launcher::check(&config.launcher).map_err(anyhow::Error::msg)?;
    serve::check(config)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    lift_file_limit();
    let listeners = Listeners::bind(&config).await?;
    let drain = Duration::from_secs(config.limits.drain_seconds);
    let shutdown = Shutdown::new();
    shutdown.on_signals();
    serve::run(config, listeners, Clock::system(), shutdown.clone()).await?;
    if !shutdown.drain(drain).await {
        tracing::warn!(event = "drain_deadline", "connections were cut off");
    }
    Ok(())
}

/// A session takes two file descriptors, and many systems grant 1,024 to whoever does not ask for more.
fn lift_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(event = "file_limit", %error);
    }
}

async fn launcher(config: Config) -> anyhow::Result<()> {
    let drain = Duration::from_secs(config.limits.drain_seconds);
    let shutdown = Shutdown::new();
    shutdown.on_signals();
    crate::launcher::run(config.launcher, shutdown.clone()).await?;
    shutdown.drain(drain).await;
    Ok(())
}

async fn healthcheck(url: &str) -> anyhow::Result<()> {
    if let Some(socket) = url.strip_prefix("unix:") {
        let launcher = crate::launcher::client::LauncherClient::new(Path::new(socket));
        tokio::time::timeout(Duration::from_secs(5), launcher.list()).await.context("no answer")??;
        return Ok(());
    }
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?;
    let answer = client.get(url).send().await.context("no answer")?;
    anyhow::ensure!(answer.status().is_success(), "answered {}", answer.status());
    Ok(())
}
