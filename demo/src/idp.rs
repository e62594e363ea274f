//! `demo idp`: the built-in OpenID provider as a process (see [`testkit::openid`]).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use serde::Deserialize;
use service::net::{Admission, Listener};
use service::{Clock, Shutdown};
use testkit::openid::{self, Person};

#[derive(Parser)]
#[command(name = "demo idp")]
struct Arguments {
    #[arg(long)]
    config: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    listen: SocketAddr,
    issuer: String,
    client_id: String,
    client_secret_file: PathBuf,
    redirect_base: String,
    signing_key_file: PathBuf,
    people: Vec<PersonConfig>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PersonConfig {
    id: String,
    name: String,
}

/// Exit codes: 0 done, 1 failed, 2 wrong usage.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(2);
        }
    };
    service::telemetry::init("idp");
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo idp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (config, _) = service::config::load::<Config>(&arguments.config)?;
    let secret = service::secret::read_secret(&config.client_secret_file).context("client secret")?;
    let settings = openid::Settings {
        issuer: config.issuer,
        client_id: config.client_id,
        client_secret: secret.to_string(),
        redirect_base: config.redirect_base,
        signing_key_pem: std::fs::read_to_string(&config.signing_key_file).context("signing key")?,
        people: config.people.iter().map(|person| Person::new(&person.id, &person.name)).collect(),
    };
    let router = openid::router(settings, Clock::system())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = Listener::bind(&config.listen.to_string()).await?;
        let shutdown = Shutdown::new();
        shutdown.on_signals();
        service::http::serve(listener, router, Admission::new(256, 256), shutdown.clone()).await;
        Ok(())
    })
}
