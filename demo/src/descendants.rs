//! Which processes descend from this one, as `/proc` tells, and which of them are still there later.
//!
//! A process id alone may be another process's by then; with its start time it is not.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context as _, ensure};

/// One process for good: its id and when it started, in clock ticks after boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pid: u32,
    started: u64,
}

/// Children of this process, their children and so on.
pub(crate) fn all() -> anyhow::Result<Vec<Process>> {
    let mut parents: HashMap<u32, Vec<Process>> = HashMap::new();
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ends meanwhile descends from nobody.
        if let Some((parent, process)) = look(pid) {
            parents.entry(parent).or_default().push(process);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![std::process::id()];
    while let Some(pid) = open.pop() {
        for child in parents.remove(&pid).unwrap_or_default() {
            open.push(child.pid);
            found.push(child);
        }
    }
    Ok(found)
}

/// Fails if one of them still runs.
pub(crate) fn ensure_gone(processes: &[Process]) -> anyhow::Result<()> {
    let left: Vec<u32> = processes
        .iter()
        .filter(|process| look(process.pid).is_some_and(|(_, now)| now == **process))
        .map(|process| process.pid)
        .collect();
    ensure!(left.is_empty(), "processes are left behind: {left:?}");
    Ok(())
}

/// The parent of a process, and since when it runs; nothing if there is none or it has ended.
fn look(pid: u32) -> Option<(u32, Process)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so counting starts behind it: state is field 3 (proc(5)).
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.first() == Some(&"Z") {
        return None;
    }
    Some((fields.get(1)?.parse().ok()?, Process { pid, started: fields.get(19)?.parse().ok()? }))
}
