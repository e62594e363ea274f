//! Child processes that end with their parent, whatever ends it.
//!
//! A child is this program again (`demo child PARENT ROLE …`). It asks the kernel to be killed when its parent dies and then
//! becomes the role. What it logs goes to a file, which is shown if it ends when nobody asked it to.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};

use crate::ROLES;

/// How long children may take to end when they are asked to.
const DRAIN: Duration = Duration::from_secs(5);

/// How much of a dead child's log is shown, in lines.
const LAST_LINES: usize = 20;

/// The processes of one demo.
#[derive(Debug, Default)]
pub(crate) struct Children(Vec<One>);

#[derive(Debug)]
struct One {
    name: &'static str,
    process: Child,
    log: PathBuf,
}

impl Children {
    /// Starts this program as `role` with these arguments. Must be called from the main thread: the child dies with the thread
    /// that started it.
    pub(crate) fn start(
        &mut self,
        name: &'static str,
        role: &[&str],
        config: &Path,
        logs: &Path,
    ) -> anyhow::Result<()> {
        let log = logs.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let program = std::env::current_exe().context("the path of this program")?;
        let process = Command::new(program)
            .arg("child")
            .arg(std::process::id().to_string())
            .args(role)
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        self.0.push(One { name, process, log });
        Ok(())
    }

    /// Fails if one has ended, with the end of its log.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        for one in &mut self.0 {
            if let Some(status) = one.process.try_wait()? {
                let log = std::fs::read_to_string(&one.log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
                bail!("{} ended ({status}); its log ends with\n  {last}", one.name);
            }
        }
        Ok(())
    }

    /// Asks all to end, the last started first, and waits; kills what does not listen and complains about it.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        for one in self.0.iter().rev() {
            // One that is gone already has nothing to be told.
            let _ = rustix::process::kill_process(Pid::from_child(&one.process), Signal::TERM);
        }
        let deadline = Instant::now() + DRAIN;
        let mut deaf = Vec::new();
        for mut one in self.0.drain(..).rev() {
            while one.process.try_wait()?.is_none() {
                if Instant::now() > deadline {
                    deaf.push(one.name);
                    one.process.kill()?;
                    one.process.wait()?;
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        ensure!(deaf.is_empty(), "had to be killed: {}", deaf.join(", "));
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// `demo child PARENT ROLE …`.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    match become_role(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("demo child: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn become_role(mut args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    ensure!(args.len() > 2, "is started by `demo` itself only");
    let parent: i32 =
        args[1].to_str().and_then(|text| text.parse().ok()).context("the parent is no number")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("follow the parent")?;
    let actual = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    ensure!(actual == Some(parent), "the parent is gone already");
    args.drain(..2);
    let role = ROLES.iter().find(|(name, _)| args[0] == *name).context("no such role")?;
    Ok(role.1(args))
}
