//! The chip's own: the C interface, memory that was flashed wrongly.

use anyhow::ensure;
use e2e::emulator::{self, Board};
use testkit::stack::Stack;

use crate::program;

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_in_c_reaches_the_claim_window() -> anyhow::Result<()> {
    let Some(program) = program("shell") else { return Ok(()) };
    let stack = Stack::start().await?;
    let device = stack.device().await?;
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("registration.json"), serde_json::to_vec(&device)?)?;
    std::fs::write(dir.path().join("flash.bin"), [0xff; 8192])?;
    let serial = format!("tcp:127.0.0.1:{}", device.mqtt.port);
    let (code, said) = emulator::run(&program, dir.path(), &serial).await?;
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
