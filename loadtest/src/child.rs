//! Child processes that end with their parent, whatever ends it, and not by the terminal's Ctrl-C.
//!
//! A child is first this program again (`loadtest child PARENT PROGRAM ARGUMENT…`). It asks the kernel to be killed when its
//! parent dies and then becomes the program. Must be started from the main thread, which the kernel takes for the parent.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};

/// How long a child may take to end when it is asked to.
const DRAIN: Duration = Duration::from_secs(5);

/// A running program; it ends when this goes.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `program`; what it logs goes to the file `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start<A: AsRef<OsStr>>(program: &Path, args: &[A], log: &Path) -> anyhow::Result<Process> {
        Process::spawn(program, args, log, Stdio::piped())
    }

    /// Starts `program`, whose output nobody waits for; what it logs goes to the file `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn serve<A: AsRef<OsStr>>(program: &Path, args: &[A], log: &Path) -> anyhow::Result<Process> {
        Process::spawn(program, args, log, Stdio::null())
    }

    fn spawn<A: AsRef<OsStr>>(
        program: &Path,
        args: &[A],
        log: &Path,
        output: Stdio,
    ) -> anyhow::Result<Process> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = std::fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
        let own = std::env::current_exe().context("the path of this program")?;
        let child = Command::new(own)
            .arg("child")
            .arg(std::process::id().to_string())
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Process { name, child })
    }

    /// The first line that it prints.
    ///
    /// # Errors
    /// It ends without one.
    pub fn first_line(&mut self) -> anyhow::Result<String> {
        let output = self.child.stdout.take().with_context(|| format!("{} was asked before", self.name))?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(!line.is_empty(), "{} ended at once; see its log", self.name);
        Ok(line.trim().to_owned())
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended.
    ///
    /// # Errors
    /// It has.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended ({status})", self.name),
            None => Ok(()),
        }
    }

    /// Asks it to end and waits; kills it if it does not listen.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        // One that is gone already has nothing to be told.
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        let deadline = Instant::now() + DRAIN;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nobody is left to be told.
        let _ = self.stop();
    }
}

/// `loadtest child PARENT PROGRAM ARGUMENT…`: comes back only if it fails.
#[must_use]
pub fn become_program(args: &[OsString]) -> ExitCode {
    let error = match follow(args) {
        Ok(mut command) => anyhow::Error::from(command.exec()),
        Err(error) => error,
    };
    eprintln!("loadtest child: {error:#}");
    ExitCode::FAILURE
}

fn follow(args: &[OsString]) -> anyhow::Result<Command> {
    let [parent, program, rest @ ..] = args else { bail!("is started by `loadtest` itself only") };
    let parent: i32 =
        parent.to_str().and_then(|text| text.parse().ok()).context("the parent is no number")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("follow the parent")?;
    let actual = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    ensure!(actual == Some(parent), "the parent is gone already");
    let mut command = Command::new(program);
    command.args(rest);
    Ok(command)
}
