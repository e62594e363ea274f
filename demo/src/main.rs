//! The whole story in one process tree, without Docker; and the secrets of a fresh deployment.
//!
//! One binary is every part: `demo` starts itself again as `demo didp`, `demo ignite` and so on ([`children`]), so that there
//! is nothing to install and nothing to find. Without arguments it prints the page to open; `--auto` plays the story itself
//! ([`scenario`]). What each part does is its own crate's business.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

mod children;
mod descendants;
mod idp;
mod panel;
mod report;
mod scenario;
mod setup;
mod tree;

use report::Report;
use tree::Tree;

/// What the program is if the first argument says so. The first of `args` is the role's own name.
type Role = fn(args: Vec<OsString>) -> ExitCode;

const ROLES: [(&str, Role); 9] = [
    ("child", children::main),
    ("setup", setup::main),
    ("idp", idp::main),
    ("didp", |args| didp::main_with_args(args.into_iter())),
    ("ignite", |args| ignite::main_with_args(args.into_iter())),
    ("pcm", |args| pcm::main_with_args(args.into_iter())),
    ("factory", |args| factory::main_with_args(args.into_iter())),
    ("device", |args| device::main_with_args(args.into_iter())),
    ("tpa", |args| tpa::main_with_args(args.into_iter())),
];

/// Runs DIdP, gateway, brokers, a login provider, a factory, two thermostats and a web app on this machine, in a temporary
/// folder, until Ctrl-C.
#[derive(Parser)]
#[command(name = "demo", version)]
struct Arguments {
    /// Play the whole story without a browser, check every step and end.
    #[arg(long)]
    auto: bool,
    /// With --auto: print one JSON document at the end instead of lines.
    #[arg(long, requires = "auto")]
    json: bool,
    /// Take any free ports instead of the documented ones (--auto always does).
    #[arg(long)]
    free_ports: bool,
    /// Name or address of this machine in all URLs, for example for a phone; other addresses than loopback are bound.
    #[arg(long, env = "OAUTHING_HOST", default_value = "localhost")]
    host: String,
}

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    if let Some((_, role)) = args.get(1).and_then(|first| ROLES.iter().find(|(name, _)| first == name)) {
        args.remove(0);
        return role(args);
    }
    let arguments = Arguments::parse();
    // One thread, the main one: children die with the thread that started them.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("demo: {error}");
            return ExitCode::FAILURE;
        }
    };
    service::tls::install_provider();
    match runtime.block_on(Box::pin(run(&arguments))) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let bind = match arguments.host.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let ports =
        if arguments.auto || arguments.free_ports { tree::free_ports(bind)? } else { tree::usual_ports() };
    if arguments.auto {
        return automatic(arguments, bind, ports).await;
    }
    let mut tree = Tree::start(&arguments.host, bind, ports)?;
    let stopped = tokio::select! {
        stopped = until_stopped(&mut tree) => stopped,
        signal = signals() => signal,
    };
    println!("\nStopping.");
    tree.stop()?;
    match stopped {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if format!("{error:#}").contains("in use") => {
            Err(error.context("a port is taken; with --free-ports others are used"))
        }
        Err(error) => Err(error),
    }
}

async fn automatic(
    arguments: &Arguments,
    bind: IpAddr,
    ports: (testkit::config::Ports, tree::SamplePorts),
) -> anyhow::Result<ExitCode> {
    let mut report = Report::new(arguments.json);
    let mut tree = Tree::start(&arguments.host, bind, ports)?;
    let mut result = tokio::select! {
        result = Box::pin(scenario::play(&mut tree, &mut report)) => result,
        _ = signals() => Err(anyhow::anyhow!("interrupted")),
    };
    if let Err(error) = &result
        && let Err(dead) = tree.check()
    {
        result = Err(dead.context(format!("{error:#}")));
    }
    let stopped = async {
        let processes = descendants::all()?;
        anyhow::ensure!(!processes.is_empty(), "no process is seen, though parts run");
        tree.stop()?;
        descendants::ensure_gone(&processes)
    };
    let stopped = report.step("everything stops and leaves nothing behind", stopped).await;
    let result = result.and(stopped);
    report.finish(&result);
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Says where to go, then watches the parts.
async fn until_stopped(tree: &mut Tree) -> anyhow::Result<()> {
    println!("Starting …");
    tree.ready().await?;
    println!("\n  Open {}/ in a browser: the factory, where the story begins.", tree.factory());
    println!("  Ctrl-C stops everything and removes what it wrote.");
    if !tree::web().join("node_modules").is_dir() {
        println!("\n  The web app needs mqtt.js once: npm ci --ignore-scripts --prefix samples/tpa/web");
    }
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        tree.check()?;
    }
}

async fn signals() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
