//! The firmware on an emulated LX106 against the real stack: the whole life of design §5, what must not happen, what it costs.
//!
//! `cargo xtask firmware` builds the firmware and runs this; without it there is nothing to run.

mod arithmetic;
mod chip;
mod energy;
mod flash;
mod life;
mod refusals;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::ensure;
use e2e::emulator::{self, Board};
use testkit::owner::Owner;

/// A program of the firmware, if there is one.
fn program(name: &str) -> Option<PathBuf> {
    let folder = emulator::firmware();
    if folder.is_none() {
        e2e::skip("no firmware", "what `cargo xtask firmware` needs and run that");
    }
    Some(folder?.join(name))
}

/// Notes a measurement for the table at the end of `cargo xtask firmware`.
fn measured(name: &str, value: u64) -> anyhow::Result<()> {
    eprintln!("{name}={value}");
    if let Some(file) = std::env::var_os("OAUTHING_MEASURED") {
        writeln!(OpenOptions::new().create(true).append(true).open(file)?, "{name}={value}")?;
    }
    Ok(())
}

/// From a press on the board to its session with the owner's gateway.
async fn claim(board: &mut Board, owner: &Owner, uru: &str, name: &str) -> anyhow::Result<()> {
    board.press().await?;
    let code = board.hear("phase claimable - ").await?;
    ensure!(code.len() == 4 && code.bytes().all(|digit| digit.is_ascii_digit()), "shows {code}");
    owner.claim(uru, &code, name).await?;
    board.hear("phase running").await?;
    Ok(())
}
