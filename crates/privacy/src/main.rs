//! `privacy run`: plays the scenario on the Compose deployment and looks for every mark in everything that each party has.
//! `privacy hold`: a process that holds what it is told, for the check of the check.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};
use privacy::collector::{self, Collector};
use privacy::deployment::{Deployment, POOL};
use privacy::listen::Ears;
use privacy::matrix::Party;
use privacy::people::Person;
use privacy::story::{self, Story};
use privacy::{look, plant, report};

#[derive(Parser)]
#[command(name = "privacy", about = "Who has what, beside who may have it")]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// The scenario, the search, and the search of planted leaks. Needs root, Docker, tcpdump, strace, sqlite3 and ip.
    Run {
        /// Prefix of the images' names.
        #[arg(long, default_value = "oauthing")]
        images: String,
        /// The workspace.
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
    /// Reads standard input to its end and holds it until it is killed.
    Hold,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        What::Hold => plant::hold().map(|()| true),
        What::Run { images, root } => tokio::runtime::Runtime::new()
            .context("start the runtime")
            .and_then(|runtime| runtime.block_on(run(&images, &root))),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("privacy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(images: &str, root: &std::path::Path) -> anyhow::Result<bool> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "memory, volumes and lines of others are seen by root only"
    );
    service::tls::install_provider();
    let begun = Instant::now();
    let root = root.canonicalize()?;
    let people = [Person::new(1, "demo"), Person::new(2, "github")];
    let channels = story::channels();
    let mut deployment = Deployment::create(&root, images, &people, &channels)?;
    let mut ears = Ears::on(&deployment.bridges, deployment.dir())?;
    let address = deployment.address(10)?;
    let collector = Collector::at(address).await?;
    deployment.start(&format!("http://{address}:{}", collector::PORT))?;
    println!("privacy: everything is up after {} s", begun.elapsed().as_secs());
    let mut followed = Vec::new();
    for container in deployment.containers()? {
        if container.party == Party::Pcm || container.name.contains("launcher") {
            let process = *container.processes.first().context("a container without a process")?;
            ears.follow(process, container.party, deployment.dir())?;
            followed.push(process);
        }
    }
    ensure!(followed.len() > POOL, "{} processes are followed: the pool is not full", followed.len());
    let mut story = Story::begin(&deployment, &people, channels).await?;
    story.play(&ears).await?;
    let containers = deployment.containers()?;
    let heard = ears.stop()?;
    let Story { mut marks, mut ledger, addresses, .. } = story;
    marks.extend(privacy::learn::of_streams(&heard.streams));
    privacy::learn::once(&mut marks);
    look::heard(&heard, &containers, &addresses, &marks, &mut ledger)?;
    let across = collector.search(&marks, &mut ledger)?;
    ensure!(across > 0, "no trace went over DIdP and gateway");
    println!("privacy: {across} traces went over DIdP and gateway");
    println!("privacy: played and searched after {} s\n", begun.elapsed().as_secs());
    let report = report::report(&marks, &ledger);
    println!("{}", report.text);
    for fault in &report.faults {
        println!("FAULT {fault}");
    }
    let planted = plant::check(&deployment, addresses[0].0).await?;
    println!("{planted}");
    deployment.down()?;
    println!("privacy: {} faults, {} s", report.faults.len(), begun.elapsed().as_secs());
    Ok(report.faults.is_empty())
}
