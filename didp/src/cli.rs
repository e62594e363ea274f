//! The command line: `didp serve`, `check-config`, `healthcheck`, `key`, and what an operator does while a DIdP runs: `manufacturer`,
//! `developer`, `gateway`, `client`, `stats`.

mod key;
mod operator;
mod told;
mod when;

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use service::config::ConfigError;
use service::net::Listener;
use service::{Clock, Shutdown};

use self::key::KeyCommand;
use self::operator::{ClientCommand, Common, GatewayCommand, RegistrarCommand};
use crate::config::Mistake;
use crate::flows::operator::Kind;
use crate::state::{AdminToken, Parts};
use crate::{Config, Listeners};

#[derive(Parser)]
#[command(name = "didp", version, about = "The device identity provider")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT.
    Serve {
        /// The configuration file.
        #[arg(long, env = "DIDP_CONFIG", default_value = "didp.toml")]
        config: PathBuf,
    },
    /// Say whether a configuration can be used; changes nothing.
    CheckConfig {
        /// The configuration file.
        #[arg(long, env = "DIDP_CONFIG", default_value = "didp.toml")]
        config: PathBuf,
    },
    /// Ask a running DIdP whether it is ready; ends with 0 or 1.
    Healthcheck {
        /// Its address.
        #[arg(default_value = "http://127.0.0.1:8080/readyz")]
        url: url::Url,
    },
    /// Keys of this DIdP.
    #[command(alias = "keys")]
    Key {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Manufacturers, who register devices.
    Manufacturer {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: RegistrarCommand,
    },
    /// App developers that have an initial access token.
    Developer {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: RegistrarCommand,
    },
    /// Gateways, which introspect.
    Gateway {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: GatewayCommand,
    },
    /// Registered devices and apps.
    Client {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: ClientCommand,
    },
    /// How much of everything there is.
    Stats {
        #[command(flatten)]
        common: Common,
    },
}

/// What `main` does: runs the command of `args` (the program's name first) in a runtime of its own.
pub fn main_with_args(args: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no failures; nothing can be done about a closed standard output.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match arguments.command {
        Command::Serve { config } => serve(&config),
        Command::CheckConfig { config } => check(&config),
        Command::Healthcheck { url } => healthcheck(&url),
        Command::Key { common, command } => key::run(&common, command),
        Command::Manufacturer { common, command } => {
            operator::registrar(&common, Kind::Manufacturer, command)
        }
        Command::Developer { common, command } => operator::registrar(&common, Kind::Developer, command),
        Command::Gateway { common, command } => operator::gateway(&common, command),
        Command::Client { common, command } => operator::client(&common, command),
        Command::Stats { common } => operator::stats(&common),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn load(file: &Path) -> anyhow::Result<Config> {
    let (mut config, source) = service::config::load::<Config>(file)?;
    config.resolve(source.folder());
    config.check().map_err(|mistake| located(file, &mistake))?;
    Ok(config)
}

/// `file:line: what is wrong`.
fn located(file: &Path, mistake: &Mistake) -> ConfigError {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    ConfigError { file: file.to_owned(), line: mistake.line(&text), message: mistake.to_string() }
}

fn serve(file: &Path) -> anyhow::Result<()> {
    service::memory::keep_little();
    service::telemetry::init("didp");
    service::tls::install_provider();
    let config = load(file)?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let shutdown = Shutdown::new();
        shutdown.on_signals();
        let listeners = bind(&config).await?;
        crate::run(config, listeners, Clock::system(), shutdown).await
    })
}

async fn bind(config: &Config) -> anyhow::Result<Listeners> {
    let mut listeners = Listeners::default();
    if let Some(address) = config.listen.http {
        listeners.http = Some(Listener::bind(&address.to_string()).await?);
    }
    if let Some(address) = config.listen.mqtt {
        listeners.mqtt = Some(Listener::bind(&address.to_string()).await?);
    }
    if let (Some(address), Some(tls)) = (config.listen.https, &config.tls) {
        let settings = match &tls.client_ca {
            Some(clients) => service::tls::mutual_server_config(&tls.cert, &tls.key, clients)?,
            None => service::tls::server_config(&tls.cert, &tls.key)?,
        };
        listeners.https = Some(Listener::bind(&address.to_string()).await?.with_tls(settings));
    }
    if let (Some(address), Some(tls)) = (config.listen.mqtts, &config.tls) {
        let settings = service::tls::server_config(&tls.cert, &tls.key)?;
        listeners.mqtts = Some(Listener::bind(&address.to_string()).await?.with_tls(settings));
    }
    if let Some(address) = config.listen.metrics {
        listeners.metrics = Some(Listener::bind(&address.to_string()).await?);
    }
    Ok(listeners)
}

fn check(file: &Path) -> anyhow::Result<()> {
    service::tls::install_provider();
    let config = load(file)?;
    Parts::read(&config).map_err(|mistake| located(file, &mistake))?;
    if let Some(tls) = &config.tls {
        service::tls::server_config(&tls.cert, &tls.key).map_err(|error| {
            located(file, &Mistake { table: "tls", index: 0, key: "cert", what: error.to_string() })
        })?;
    }
    if let Some(admin) = &config.admin {
        AdminToken::read(&admin.token_file).map_err(|error| {
            located(file, &Mistake { table: "admin", index: 0, key: "token_file", what: error.to_string() })
        })?;
    }
    println!("{}: good", file.display());
    Ok(())
}

/// A plain request over a plain connection: enough for a check from inside the same container.
fn healthcheck(url: &url::Url) -> anyhow::Result<()> {
    const LIMIT: Duration = Duration::from_secs(5);
    anyhow::ensure!(url.scheme() == "http", "only http is checked");
    let host = url.host_str().context("the URL has no host")?;
    let port = url.port_or_known_default().context("the URL has no port")?;
    let address = (host, port).to_socket_addrs()?.next().context("the host has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    write!(stream, "GET {} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n", url.path())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    anyhow::ensure!(head.starts_with(b"HTTP/1.1 2"), "not ready: {}", String::from_utf8_lossy(&head));
    Ok(())
}
