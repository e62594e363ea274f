//! The chip computes as this machine does: the firmware's self-test in the emulator against the same file compiled here.
//!
//! `cargo xtask firmware` builds the program and runs this; without it there is nothing to compare.

use std::path::PathBuf;
use std::process::Command;

#[path = "../../../firmware-esp8266/arithmetic/suite.rs"]
mod suite;

#[test]
fn arithmetic_on_the_chip_is_the_same_as_here() {
    let Some(folder) = std::env::var_os("OAUTHING_FIRMWARE").map(PathBuf::from) else {
        assert!(std::env::var_os("OAUTHING_ALL").is_none_or(|all| all != "1"), "nothing may be skipped");
        eprintln!("SKIPPED: no firmware, install what `cargo xtask firmware` needs and run that");
        return;
    };
    let mut here = Vec::new();
    suite::run(suite::ROUNDS, &mut |round, sum| here.push(format!("round {round} {sum}")));
    let output = Command::new("qemu-system-xtensa")
        .args([
            "-M",
            "kc705-nommu",
            "-cpu",
            "lx106",
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "stdio",
        ])
        .args(["-semihosting", "-nic", "none", "-kernel"])
        .arg(folder.join("arithmetic"))
        .output()
        .expect("qemu-system-xtensa starts");
    let there = String::from_utf8_lossy(&output.stdout);
    let there: Vec<_> = there.lines().collect();
    assert!(output.status.success());
    assert_eq!(there.len(), here.len(), "rounds");
    for (here, there) in here.iter().zip(there) {
        assert_eq!(here, there);
    }
}
