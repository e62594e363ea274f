//! The project's chores: `cargo xtask test` is the one test command, `cargo xtask images` builds what Compose runs,
//! `cargo xtask deny` checks the dependencies, `cargo xtask fuzz` lets chance at codec and broker,
//! `cargo xtask firmware` builds the firmware and plays a device's life on an emulator, `cargo xtask flash-image` makes what is
//! flashed into one device, `cargo xtask soak` looks for ten minutes whether a broker's memory stays flat, `cargo xtask docs` whether the
//! pages say what is, `cargo xtask privacy` who has what, `cargo xtask sbom` what the programs are made of.
//!
//! `suites` says what is run and in which order, `step` runs it and draws the table, `stack` is the Compose deployment that the
//! suites use, `tools` knows what a suite needs and which package has it. The tests themselves lie with what they test.

mod docs;
mod firmware;
mod flash;
mod sbom;
mod stack;
mod step;
mod suites;
mod tools;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", about = "The project's chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Formatting, clippy, all Rust tests, and the suites whose tools are on this machine.
    Test {
        /// A suite that cannot run for want of a tool counts as failed.
        #[arg(long)]
        all: bool,
        /// Only this suite; may be given several times.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Names the suites and what each needs, and runs nothing.
        #[arg(long)]
        list: bool,
    },
    /// Codec, broker, parsers and a device against bytes that nobody meant: so many seconds, or so many packets.
    Fuzz {
        /// Seconds; 30 if nothing else is said.
        #[arg(long)]
        seconds: Option<u64>,
        /// Packets.
        #[arg(long, conflicts_with = "seconds")]
        packets: Option<u64>,
        /// Where chance begins.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// An owner's broker under everything at once, and whether its memory stays flat; Linux and root only.
    Soak {
        /// How long, the first two minutes not counted.
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// Where chance begins.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Every load scenario, shortly, compared with the committed figures.
    Loadtest,
    /// The firmware for the ESP8266: built, checked, played on an emulator, and measured against its budgets.
    Firmware {
        /// Measures OAuthing against plain MQTT too, so many runs each.
        #[arg(long, value_name = "RUNS")]
        energy: Option<u32>,
    },
    /// What is flashed into one device: reads the answer of a registration, writes its credentials as a flash image, prints its label.
    FlashImage {
        /// The answer of the registration (JSON), or `-` for standard input.
        answer: PathBuf,
        /// Where the image goes; only its owner will read it.
        #[arg(long, default_value = "credentials.bin")]
        out: PathBuf,
        /// The label as SVG, for a printer.
        #[arg(long)]
        label: Option<PathBuf>,
        /// The firmware (an ELF file): its image is made beside it, by esptool.
        #[arg(long, value_name = "ELF")]
        firmware: Option<PathBuf>,
    },
    /// Plays the whole scenario on the Compose deployment with marked values, and looks for every mark in everything that each party has:
    /// the matrix as found beside the matrix as promised. Root only.
    Privacy,
    /// Builds the images of the Compose deployment.
    Images,
    /// What the programs are made of, as CycloneDX.
    Sbom {
        /// Where it goes.
        #[arg(long, default_value = "target/sbom.cdx.json")]
        out: PathBuf,
    },
    /// Links, named files and tests, copied code and the log's events: whether the pages agree with the sources.
    Docs,
    /// Checks licences, sources and advisories of all dependencies with cargo-deny; not part of `test`.
    Deny,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Test { list: true, .. } => {
            suites::list();
            Ok(true)
        }
        Chore::Test { all, only, .. } => suites::test(all, &only),
        Chore::Fuzz { seconds, packets, seed } => suites::fuzz(seconds, packets, seed).map(|()| true),
        Chore::Loadtest => suites::loadtest().map(|()| true),
        Chore::Soak { minutes, seed } => suites::soak(minutes, seed).map(|()| true),
        Chore::Firmware { energy } => firmware::firmware(energy).map(|()| true),
        Chore::FlashImage { answer, out, label, firmware } => {
            flash::flash_image(&answer, &out, label.as_deref(), firmware.as_deref()).map(|()| true)
        }
        Chore::Privacy => suites::privacy_with_images().map(|()| true),
        Chore::Images => stack::build("oauthing").map(|()| true),
        Chore::Sbom { out } => sbom::write(&out).map(|()| true),
        Chore::Docs => suites::docs().map(|()| true),
        Chore::Deny => suites::deny().map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
