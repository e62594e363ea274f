//! What the kernel says about processes: CPU time and memory, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

/// CPU time that a process and all its living threads have had, in seconds.
///
/// # Errors
/// No such process.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    Ok(thread_seconds(pid)?.into_values().sum())
}

/// CPU time that each living thread of a process has had, in seconds, by thread id.
///
/// # Errors
/// No such process.
pub fn thread_seconds(pid: u32) -> anyhow::Result<BTreeMap<u32, f64>> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid}"))?;
    let mut seconds = BTreeMap::new();
    for task in tasks {
        let task = task?;
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let Some(thread) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let nanoseconds = first_number(&text).unwrap_or(0);
        #[allow(
            clippy::cast_precision_loss,
            reason = "a thread does not run for a hundred days of CPU time"
        )]
        seconds.insert(thread, nanoseconds as f64 / 1e9);
    }
    Ok(seconds)
}

/// Memory of a process: its proportional set size (shared pages divided by how many share them), in bytes.
///
/// # Errors
/// No such process, or it is somebody else's.
pub fn pss_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let kilobytes = field(&text, "Pss:").with_context(|| format!("{path} has no Pss"))?;
    Ok(kilobytes * 1024)
}

/// What of a process is swapped out, shared pages divided by how many share them, in bytes; 0 where the kernel does not count it.
///
/// # Errors
/// No such process, or it is somebody else's.
pub fn swap_pss_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    Ok(field(&text, "SwapPss:").unwrap_or(0) * 1024)
}

/// Resident set size of a process, in bytes.
///
/// # Errors
/// No such process.
pub fn rss_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    Ok(field(&text, "VmRSS:").with_context(|| format!("{path} has no VmRSS"))? * 1024)
}

/// Direct and indirect children of a process, itself first.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(parent) = all.get(at).copied() {
        at += 1;
        let Ok(tasks) = fs::read_dir(format!("/proc/{parent}/task")) else { continue };
        for task in tasks.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|text| text.parse::<u32>().ok()));
        }
    }
    all
}

/// A size that the kernel reports in kilobytes.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| first_number(line.strip_prefix(name)?))
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Lets this process have as many open files as the kernel allows it, and answers how many.
///
/// # Errors
/// The kernel's.
pub fn raise_open_files() -> anyhow::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("raise the limit of open files")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// The size of a file.
///
/// # Errors
/// It is not there.
pub fn file_bytes(path: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.len())
}

/// Checks that a program is there before anything is measured.
///
/// # Errors
/// It is not, with what to do about it.
pub fn ensure_program(path: &Path, remedy: &str) -> anyhow::Result<()> {
    ensure!(path.is_file(), "{} is not there; {remedy}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{cpu_seconds, family, field, pss_bytes, rss_bytes};

    #[test]
    fn this_process_has_used_something() {
        let before = cpu_seconds(std::process::id()).expect("it lives");
        let mut sum = 0_u64;
        while cpu_seconds(std::process::id()).expect("it lives") <= before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(pss_bytes(std::process::id()).expect("it is ours") > 100_000);
        assert!(rss_bytes(std::process::id()).expect("it lives") > 100_000);
        assert_eq!(family(std::process::id()).first(), Some(&std::process::id()));
        assert!(cpu_seconds(u32::MAX).is_err());
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "Rss:    12 kB\nPss_Anon:   3 kB\nPss:     7 kB\n";
        assert_eq!(field(text, "Pss:"), Some(7));
        assert_eq!(field(text, "Swap:"), None);
    }
}
