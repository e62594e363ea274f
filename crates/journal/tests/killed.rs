//! Real files, and a process that is killed again and again while it writes them.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is to do")]

use journal::{Journal, Options};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const DIRECTORY: &str = "JOURNAL_TEST_DIRECTORY";

fn open(directory: &Path) -> Journal<File> {
    let file = |name| {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).open(directory.join(name)).unwrap()
    };
    Journal::open([file("a"), file("b")], &[1; 32], "pcm", Options::default()).unwrap()
}

/// The numbers that are in it: all from 0 on.
fn count(journal: &Journal<File>) -> u64 {
    let mut next = 0u64;
    journal
        .replay(|records| {
            for number in records.chunks(8) {
                assert_eq!(number, next.to_le_bytes(), "one after the other");
                next += 1;
            }
            Ok(())
        })
        .unwrap();
    next
}

/// Not a test of its own: what the killed process does. It says each number after committing it.
#[test]
#[ignore = "runs in a process of its own"]
fn writes_until_it_is_killed() {
    let directory = std::env::var_os(DIRECTORY).unwrap();
    let mut journal = open(Path::new(&directory));
    let mut next = count(&journal);
    let mut out = std::io::stdout();
    loop {
        if next.is_multiple_of(7) || journal.wants_compaction(8) {
            let salt = [next.to_le_bytes(), RandomState::new().hash_one(next).to_le_bytes()].concat();
            let salt = [salt.as_slice(), &salt].concat().try_into().unwrap();
            journal
                .compact(salt, |push| (0..next).try_for_each(|number| push(&number.to_le_bytes())))
                .unwrap();
        }
        journal.append(&next.to_le_bytes()).unwrap();
        writeln!(out, "committed {next}").unwrap();
        next += 1;
    }
}

#[test]
fn a_process_killed_at_random_moments_loses_nothing_it_has_committed() {
    let directory = tempfile::tempdir().unwrap();
    let mut committed = 0;
    for round in 0..40u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_it_is_killed", "--ignored", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = RandomState::new().hash_one(round) % 40;
        for line in lines {
            let line = line.unwrap();
            let Some((_, number)) = line.rsplit_once("committed ") else { continue };
            committed = number.parse::<u64>().unwrap() + 1;
            if left == 0 {
                break;
            }
            left -= 1;
        }
        // It has gone on meanwhile, who knows how far.
        child.kill().unwrap();
        child.wait().unwrap();
        let found = count(&open(directory.path()));
        assert!(found >= committed, "round {round}: {committed} committed, {found} found");
    }
    assert!(committed > 40);
}
