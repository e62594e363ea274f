//! Ears on every link: `tcpdump` on the networks, `strace` on the processes that speak over Unix sockets.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::capture::{self, Stream};
use crate::matrix::Party;

/// Captures under way.
pub struct Ears {
    networks: Vec<(Child, PathBuf)>,
    processes: Vec<(Child, PathBuf, Party)>,
}

/// All that was said.
pub struct Heard {
    /// On the networks.
    pub streams: Vec<Stream>,
    /// On Unix sockets and files of a party.
    pub calls: Vec<(Party, Vec<u8>)>,
}

impl Ears {
    /// Begins to listen on these devices; what was said goes to files in `dir`.
    ///
    /// # Errors
    /// `tcpdump` is missing or may not.
    pub fn on(bridges: &[String], dir: &Path) -> anyhow::Result<Self> {
        let mut networks = Vec::new();
        for bridge in bridges {
            let file = dir.join(format!("{bridge}.pcap"));
            let mut child = Command::new("tcpdump")
                .args([
                    "-i",
                    bridge,
                    "-n",
                    "-s",
                    "0",
                    "-B",
                    "32768",
                    "--immediate-mode",
                    "-U",
                    "-Z",
                    "root",
                    "-w",
                ])
                .arg(&file)
                .args(["tcp", "or", "udp"])
                .stdin(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .context("start tcpdump")?;
            wait_for(&mut child, "listening on")?;
            networks.push((child, file));
        }
        Ok(Self { networks, processes: Vec::new() })
    }

    /// Listens to what a process reads and writes, too.
    ///
    /// # Errors
    /// `strace` is missing or may not.
    pub fn follow(&mut self, process: u32, party: Party, dir: &Path) -> anyhow::Result<()> {
        let file = dir.join(format!("{process}.calls"));
        let calls =
            "trace=read,readv,recvfrom,recvmsg,pread64,write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2";
        let mut child = Command::new("strace")
            .args(["-f", "-xx", "-s", "1048576", "-e", calls, "-o"])
            .arg(&file)
            .args(["-p", &process.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start strace")?;
        wait_for(&mut child, "attached")?;
        self.processes.push((child, file, party));
        Ok(())
    }

    /// What was said until now on the networks. A packet that is on its way to the file is not among it.
    ///
    /// # Errors
    /// A file is not what it should be.
    pub fn so_far(&self) -> anyhow::Result<Vec<Stream>> {
        let mut streams = Vec::new();
        for (_, file) in &self.networks {
            streams.extend(capture::streams(&std::fs::read(file)?)?);
        }
        Ok(streams)
    }

    /// Stops listening.
    ///
    /// # Errors
    /// Something was said that was not heard.
    pub fn stop(mut self) -> anyhow::Result<Heard> {
        let mut heard = Heard { streams: Vec::new(), calls: Vec::new() };
        for (mut child, file) in std::mem::take(&mut self.networks) {
            interrupt(&child)?;
            let told = rest(&mut child)?;
            let lost = told.lines().find(|line| line.contains("dropped by kernel"));
            ensure!(
                lost.is_some_and(|line| line.trim().starts_with("0 ")),
                "tcpdump lost packets: {}",
                told.trim()
            );
            heard.streams.extend(capture::streams(&std::fs::read(file)?)?);
        }
        for (mut child, file, party) in std::mem::take(&mut self.processes) {
            interrupt(&child)?;
            rest(&mut child)?;
            let record = std::fs::read(file)?;
            let streams = crate::calls::streams(&String::from_utf8_lossy(&record));
            heard.calls.extend(streams.into_iter().map(|stream| (party, stream)));
        }
        Ok(heard)
    }
}

impl Drop for Ears {
    fn drop(&mut self) {
        let processes = self.processes.iter_mut().map(|(child, ..)| child);
        for child in self.networks.iter_mut().map(|(child, _)| child).chain(processes) {
            // It has ended already, or it is ended here: nothing else can be done.
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

/// Reads standard error until it says that it is ready.
fn wait_for(child: &mut Child, ready: &str) -> anyhow::Result<()> {
    let error = child.stderr.take().context("no standard error")?;
    let mut reader = BufReader::new(error);
    let mut told = String::new();
    loop {
        let before = told.len();
        reader.read_line(&mut told)?;
        ensure!(told.len() > before, "it ended: {}", told.trim());
        if told[before..].contains(ready) {
            child.stderr = Some(reader.into_inner());
            return Ok(());
        }
    }
}

fn interrupt(child: &Child) -> anyhow::Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    Ok(rustix::process::kill_process(pid.context("no process")?, rustix::process::Signal::INT)?)
}

fn rest(child: &mut Child) -> anyhow::Result<String> {
    let mut told = String::new();
    if let Some(mut error) = child.stderr.take() {
        std::io::Read::read_to_string(&mut error, &mut told)?;
    }
    child.wait()?;
    Ok(told)
}
