//! Running commands one after the other, and the table at the end.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How a suite ended.
pub(crate) enum Outcome {
    /// Everything in it passed.
    Passed,
    /// Something in it did not.
    Failed(String),
    /// It was not run; what to install.
    Skipped(String),
}

/// One line of the table.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

/// Runs a suite and says how long it took.
pub(crate) fn timed(name: &'static str, suite: impl FnOnce() -> anyhow::Result<()>) -> Line {
    eprintln!("\n==> {name}");
    let started = Instant::now();
    let outcome = match suite() {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(format!("{error:#}")),
    };
    let took = started.elapsed();
    eprintln!("<== {name}: {} in {:.1} s", word(&outcome), took.as_secs_f64());
    Line { name, outcome, took }
}

/// Draws the table. True if nothing failed.
pub(crate) fn conclude(lines: &[Line]) -> bool {
    println!("\n{:<16} {:<8} {:>9}  ", "suite", "result", "seconds");
    println!("{}", "-".repeat(72));
    for Line { name, outcome, took } in lines {
        let note = match outcome {
            Outcome::Passed => "",
            Outcome::Failed(why) => why.lines().next().unwrap_or_default(),
            Outcome::Skipped(install) => install,
        };
        println!("{name:<16} {:<8} {:>9.1}  {note}", word(outcome), took.as_secs_f64());
    }
    println!("{}", "-".repeat(72));
    println!(
        "Not part of this command: cargo xtask deny (licences and advisories of dependencies; needs cargo-deny)."
    );
    let count = |wanted: fn(&Outcome) -> bool| lines.iter().filter(|line| wanted(&line.outcome)).count();
    let failed = count(|outcome| matches!(outcome, Outcome::Failed(_)));
    println!(
        "{} passed, {failed} failed, {} skipped",
        count(|outcome| matches!(outcome, Outcome::Passed)),
        count(|outcome| matches!(outcome, Outcome::Skipped(_)))
    );
    failed == 0
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) => "FAILED",
        Outcome::Skipped(_) => "skipped",
    }
}

/// A command in the workspace's root that says what it is and reads nothing from the terminal.
pub(crate) struct Run {
    command: Command,
    shown: String,
}

impl Run {
    /// `program` with `arguments`.
    pub(crate) fn new(program: impl AsRef<Path>, arguments: &[&str]) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(root()).stdin(Stdio::null());
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
        Self { command, shown: format!("{name} {}", arguments.join(" ")) }
    }

    /// In a folder of the workspace.
    pub(crate) fn dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(root().join(dir));
        self
    }

    /// With a variable set.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Without a variable that it would inherit.
    pub(crate) fn without(mut self, key: &str) -> Self {
        self.command.env_remove(key);
        self
    }

    /// Runs it with its output on the terminal.
    ///
    /// # Errors
    /// If it cannot be started or does not exit with 0.
    pub(crate) fn go(mut self) -> anyhow::Result<()> {
        eprintln!("$ {}", self.shown);
        let status = self.command.status().with_context(|| format!("cannot start `{}`", self.shown))?;
        if !status.success() {
            bail!("`{}` ended with {status}", self.shown);
        }
        Ok(())
    }

    /// Runs it and returns what it wrote to standard output.
    ///
    /// # Errors
    /// As [`Run::go`].
    pub(crate) fn output(mut self) -> anyhow::Result<String> {
        let output = self.command.output().with_context(|| format!("cannot start `{}`", self.shown))?;
        if !output.status.success() {
            bail!(
                "`{}` ended with {}: {}",
                self.shown,
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The workspace's root.
pub(crate) fn root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map_or(own.clone(), Path::to_path_buf)
}

/// Cargo, the one that runs this.
pub(crate) fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}
