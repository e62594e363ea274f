//! Memory of live processes, as a core dump would have it: every mapping that can be read, but for files that are mapped read-only.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use anyhow::Context as _;

use crate::ledger::Ledger;
use crate::matrix::{Party, Place};
use crate::search::Searcher;

/// A mapping of a process's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
}

/// Mappings that are worth a look, of `/proc/PID/maps`.
fn mappings(maps: &str) -> Vec<Mapping> {
    let mapping = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (range, rights) = (words.next()?, words.next()?);
        let name = words.nth(3).unwrap_or_default();
        let of_a_file = name.starts_with('/') && !rights.contains('w');
        // The kernel's own pages cannot be read, or hold no data.
        if !rights.starts_with('r') || of_a_file || name.starts_with("[v") {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        Some(Mapping { start: u64::from_str_radix(start, 16).ok()?, end: u64::from_str_radix(end, 16).ok()? })
    };
    maps.lines().filter_map(mapping).collect()
}

struct Part<'a> {
    memory: &'a File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(into.len());
        if left == 0 {
            return Ok(0);
        }
        match self.memory.read_at(&mut into[..left], self.at) {
            Ok(read) => {
                self.at += read as u64;
                Ok(read)
            }
            // Reserved, and nothing in it.
            Err(error) if matches!(error.raw_os_error(), Some(5 | 14)) => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// Searches the memory of a process, which should be stopped meanwhile.
///
/// # Errors
/// There is no such process, or not the right to look.
pub fn search(ledger: &mut Ledger, searcher: &Searcher, party: Party, process: u32) -> anyhow::Result<()> {
    let name = std::fs::read_to_string(format!("/proc/{process}/comm"))?;
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps"))?;
    let memory = File::open(format!("/proc/{process}/mem"))
        .with_context(|| format!("memory of {}; this takes root", name.trim()))?;
    for Mapping { start, end } in mappings(&maps) {
        let part = Part { memory: &memory, at: start, end };
        let what = format!("{} {start:x}", name.trim());
        ledger.search_all(searcher, party, Place::Memory, &what, part)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Kind, Mark};

    #[test]
    fn read_only_files_and_what_cannot_be_read_are_left_out() {
        let maps = "\
55d0-55d8 r-xp 00000000 fe:01 12 /usr/bin/didp
55d8-55e0 rw-p 00008000 fe:01 12 /usr/bin/didp
6000-7000 rw-p 00000000 00:00 0 [heap]
7000-7800 ---p 00000000 00:00 0
7ffd-7fff r-xp 00000000 00:00 0 [vdso]
8000-9000 rw-s 00000000 fe:01 9 /var/lib/didp.db-shm
";
        let starts: Vec<u64> = mappings(maps).iter().map(|mapping| mapping.start).collect();
        assert_eq!(starts, [0x55d8, 0x6000, 0x8000]);
    }

    #[test]
    fn what_a_live_process_holds_is_found() {
        let held = format!("held-in-memory-{}", std::process::id());
        let marks = [
            Mark::new(Kind::Profile, "", held.as_str(), []),
            Mark::new(Kind::Profile, "", "absent-mark-x", []),
        ];
        let mut child = std::process::Command::new("sleep").arg("60").env("HELD", &held).spawn().unwrap();
        // Until exec is done it is this process that is looked at.
        while std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap().trim() != "sleep" {
            std::thread::yield_now();
        }
        let mut ledger = Ledger::default();
        let searched = search(&mut ledger, &Searcher::new(&marks).unwrap(), Party::Pcm, child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        searched.unwrap();
        assert!(ledger.places(Party::Pcm, 0).contains(&Place::Memory));
        assert!(ledger.places(Party::Pcm, 1).is_empty());
    }
}
