//! Programs of this machine: `docker`, `ip`, `tcpdump`, `strace`, `sqlite3`.

use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// Runs a program to its end: what it wrote to standard output.
///
/// # Errors
/// It is not there, or does not end with 0; the error has what it wrote to standard error.
pub fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let (out, _) = both(program, arguments)?;
    Ok(out)
}

/// The same, with what it wrote to standard error beside.
///
/// # Errors
/// As [`output`].
pub fn both(program: &str, arguments: &[&str]) -> anyhow::Result<(String, String)> {
    let run = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let run = run.with_context(|| format!("start {program}"))?;
    let error = String::from_utf8_lossy(&run.stderr).into_owned();
    ensure!(run.status.success(), "{program} {}: {}: {}", arguments.join(" "), run.status, error.trim());
    Ok((String::from_utf8_lossy(&run.stdout).into_owned(), error))
}
