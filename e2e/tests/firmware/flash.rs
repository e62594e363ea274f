//! From a registration's answer to a device: `cargo xtask flash-image` on what a real DIdP answered, and the board booted from it.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use e2e::emulator::Board;
use serde_json::Value;
use testkit::stack::Stack;
use tokio::process::Command;

use crate::{claim, program};

#[tokio::test(flavor = "multi_thread")]
async fn what_flash_image_writes_boots_and_is_claimed_by_its_label() -> anyhow::Result<()> {
    let Some(program) = program("thermostat") else { return Ok(()) };
    let xtask =
        std::env::var_os("OAUTHING_XTASK").map(PathBuf::from).context("`cargo xtask firmware` runs this")?;
    let stack = Stack::start().await?;
    let token = stack.deployment().secrets.read("factory/initial-access-token")?;
    let register = reqwest::Client::new().post(format!("{}/register", stack.issuer())).bearer_auth(token);
    let answer =
        register.json(&testkit::device::thermostat()).send().await?.error_for_status()?.text().await?;
    let dir = tempfile::tempdir()?;
    let file = |name: &str| dir.path().join(name);
    std::fs::write(file("answer.json"), &answer)?;
    // A copy, so that what is made beside it is made here.
    std::fs::copy(&program, file("thermostat"))?;
    let made = Command::new(&xtask)
        .arg("flash-image")
        .arg(file("answer.json"))
        .arg("--out")
        .arg(file("credentials.bin"))
        .arg("--label")
        .arg(file("label.svg"))
        .arg("--firmware")
        .arg(file("thermostat"))
        .output()
        .await?;
    let (said, told) = (String::from_utf8(made.stdout)?, String::from_utf8(made.stderr)?);
    ensure!(made.status.success(), "{told}");
    let secret =
        serde_json::from_str::<Value>(&answer)?["client_secret"].as_str().context("a secret")?.to_owned();
    ensure!(!said.contains(&secret) && !told.contains(&secret), "it shows the secret");
    for part in ["thermostat.bin-0x00000.bin", "thermostat.bin-0x10010.bin", "credentials.bin"] {
        ensure!(file(part).exists() && told.contains(part), "{part} is not to be flashed: {told}");
    }
    // Only its owner may read it.
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file("credentials.bin"))?.permissions());
    ensure!(mode & 0o077 == 0, "others may read the credentials: {mode:o}");
    ensure!(std::fs::read_to_string(file("label.svg"))?.contains("<svg"), "the label is no drawing");

    // Whoever has the device and what was printed needs nothing else.
    let uru = said.lines().last().context("no address was printed")?.trim().to_owned();
    let mut board = Board::with_flash(&program, &std::fs::read(file("credentials.bin"))?)?;
    let ann = stack.owner("ann")?;
    board.switch_on()?;
    board.hear("phase ready").await?;
    claim(&mut board, &ann, &uru, "Kitchen").await?;
    ensure!(ann.owns("Kitchen").await?);
    stack.stop().await
}
