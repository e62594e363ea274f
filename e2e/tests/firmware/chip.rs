//! The chip's own: the C interface, memory that was flashed wrongly.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::emulator::{self, Board};
use testkit::stack::Stack;
use tokio::process::Command;

use crate::program;

/// How long a program may run that talks to nobody.
const PATIENCE: Duration = Duration::from_secs(180);

/// Runs a program to its end with its serial line connected so, and gives its exit code and what it wrote.
async fn run(program: &Path, folder: &Path, serial: &str) -> anyhow::Result<(i32, String)> {
    let qemu = Command::new("qemu-system-xtensa")
        .args([
            "-M",
            "kc705-nommu",
            "-cpu",
            "lx106",
            "-display",
            "none",
            "-monitor",
            "none",
            "-semihosting",
            "-nic",
            "none",
        ])
        .args(["-serial", serial, "-kernel"])
        .arg(program)
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, qemu).await.context("the program does not end")??;
    let code = output.status.code().context("QEMU was killed")?;
    Ok((code, String::from_utf8(output.stdout)?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_in_c_reaches_the_claim_window() -> anyhow::Result<()> {
    let Some(program) = program("shell") else { return Ok(()) };
    let stack = Stack::start().await?;
    let device = stack.device().await?;
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("registration.json"), serde_json::to_vec(&device)?)?;
    std::fs::write(dir.path().join("flash.bin"), [0xff; 8192])?;
    let serial = format!("tcp:127.0.0.1:{}", device.mqtt.port);
    let (code, said) = run(&program, dir.path(), &serial).await?;
    ensure!(code == 0, "ended with {code}: {said}");
    ensure!(said.lines().any(|line| line.starts_with("code ")), "{said}");
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn flash_that_holds_no_record_is_a_blank_device_and_half_of_one_does_no_harm() -> anyhow::Result<()> {
    let Some(program) = program("thermostat") else { return Ok(()) };
    let stack = Stack::start().await?;
    let device = stack.device().await?;
    let mut board = Board::new(&program, &emulator::record(&device)?)?;
    let good = board.flash()?;
    let half = [&good[..100], &[0xff; 8192 - 100]].concat();
    for blank in [&[][..], &[0xff; 8192], &[0; 8192], &good[..100], &half] {
        board.set_flash(blank)?;
        board.switch_on()?;
        board.hear("phase blank").await?;
        ensure!(board.ended().await? == 3);
    }
    // The other slot was being written when the power went: the one that is whole counts.
    let mut torn = good.clone();
    torn[4096..4196].copy_from_slice(&good[..100]);
    board.set_flash(&torn)?;
    board.switch_on()?;
    board.hear("phase ready").await?;
    stack.stop().await
}
