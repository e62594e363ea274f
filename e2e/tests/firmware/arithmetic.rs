//! The chip computes as this machine does: the firmware's self-test in the emulator against the same file compiled here.

use anyhow::ensure;
use e2e::emulator;

use crate::program;

#[path = "../../../firmware-esp8266/arithmetic/suite.rs"]
mod suite;

#[tokio::test(flavor = "multi_thread")]
async fn arithmetic_on_the_chip_is_the_same_as_here() -> anyhow::Result<()> {
    let Some(program) = program("arithmetic") else { return Ok(()) };
    let there = tokio::spawn(async move { emulator::run(&program, &std::env::temp_dir(), "stdio").await });
    let mut here = Vec::new();
    suite::run(suite::ROUNDS, &mut |round, sum| here.push(format!("round {round} {sum}")));
    let (code, said) = there.await??;
    ensure!(code == 0, "ended with {code}: {said}");
    let there: Vec<_> = said.lines().collect();
    ensure!(there.len() == here.len(), "{} rounds there, {} here", there.len(), here.len());
    for (there, here) in there.iter().zip(&here) {
        ensure!(there == here, "`{there}` on the chip, `{here}` here");
    }
    Ok(())
}
