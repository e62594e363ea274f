//! The power is cut at every byte of every write, and at every cut of a file: what was committed is there, whole.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is to do")]

use journal::{Error, Journal, Options, Storage};
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

const KEY: [u8; 32] = [7; 32];
const NAME: &str = "pcm-1";

/// Two files of one machine whose power lasts for so many bytes.
#[derive(Clone)]
struct Disk {
    bytes: Rc<RefCell<Vec<u8>>>,
    power: Rc<Cell<u64>>,
}

fn disks(power: u64) -> [Disk; 2] {
    let power = Rc::new(Cell::new(power));
    [(); 2].map(|()| Disk { bytes: Rc::default(), power: Rc::clone(&power) })
}

/// The same files after the power is back.
fn again(disks: &[Disk; 2]) -> [Disk; 2] {
    let power = Rc::new(Cell::new(u64::MAX));
    disks.clone().map(|disk| Disk { power: Rc::clone(&power), ..disk })
}

impl Disk {
    fn spend(&self, wanted: u64) -> u64 {
        let had = self.power.get();
        self.power.set(had.saturating_sub(wanted));
        wanted.min(had)
    }
}

impl Storage for Disk {
    fn length(&self) -> io::Result<u64> {
        Ok(self.bytes.borrow().len() as u64)
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let at = at as usize;
        let bytes = self.bytes.borrow();
        let found = bytes.get(at..at + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }

    fn write(&self, new: &[u8], at: u64) -> io::Result<()> {
        let count = self.spend(new.len() as u64) as usize;
        let mut bytes = self.bytes.borrow_mut();
        let end = at as usize + count;
        if count > 0 && bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[at as usize..end].copy_from_slice(&new[..count]);
        if count == new.len() { Ok(()) } else { Err(io::Error::other("no power")) }
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        if self.spend(1) == 0 {
            return Err(io::Error::other("no power"));
        }
        self.bytes.borrow_mut().resize(length as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.spend(1) == 0 { Err(io::Error::other("no power")) } else { Ok(()) }
    }
}

fn contents(journal: &Journal<Disk>) -> Vec<u8> {
    let mut found = Vec::new();
    journal
        .replay(|records| {
            found.extend_from_slice(records);
            Ok(())
        })
        .unwrap();
    found
}

fn open(disks: &[Disk; 2], sync: bool) -> Result<Journal<Disk>, Error> {
    Journal::open(again(disks), &KEY, NAME, Options { sync, ..Options::default() })
}

/// Two thirds of the steps append, one compacts: into three frames, of which one is empty. Answers the state that was
/// committed, and the one that was being committed when the power went.
fn work(journal: &mut Journal<Disk>, mut state: Vec<u8>, steps: u8) -> (Vec<u8>, Vec<u8>) {
    for step in 0..steps {
        let mut next = state.clone();
        let done = if step % 3 == 0 {
            let (one, two) = state.split_at(state.len() / 2);
            journal.compact([step; 32], |push| {
                push(one)?;
                push(&[])?;
                push(two)
            })
        } else {
            next.extend_from_slice(&[step, step, step]);
            journal.append(&[step, step, step])
        };
        if done.is_err() {
            return (state, next);
        }
        state = next;
    }
    (state.clone(), state)
}

/// Works until the power goes, opens what is left, works again until it goes again, and opens that.
fn live_and_die(first: u64, second: u64, sync: bool) -> (bool, bool) {
    let disks = disks(first);
    let options = Options { sync, ..Options::default() };
    let mut journal = Journal::open(disks.clone(), &KEY, NAME, options).unwrap();
    let (committed, next) = work(&mut journal, Vec::new(), 8);
    let journal = open(&disks, sync).unwrap();
    let found = contents(&journal);
    assert!(found == committed || found == next, "{first}: {found:?} is not {committed:?}");

    let again = again(&disks);
    again[0].power.set(second);
    let mut journal = Journal::open(again.clone(), &KEY, NAME, options).unwrap();
    let (later, later_next) = work(&mut journal, found, 5);
    let journal = open(&again, sync).unwrap();
    let found = contents(&journal);
    assert!(found == later || found == later_next, "{first} {second}: {found:?} is not {later:?}");
    (committed == next, later == later_next)
}

#[test]
fn nothing_committed_is_lost_and_nothing_half_applied_at_any_byte() {
    for sync in [false, true] {
        let mut lasted = (0, 0);
        for first in 0..900 {
            let done = live_and_die(first, u64::MAX, sync);
            lasted.0 += u32::from(done.0);
        }
        for second in 0..500 {
            for first in [130, 333, u64::MAX] {
                lasted.1 += u32::from(live_and_die(first, second, sync).1);
            }
        }
        assert!(lasted.0 > 0 && lasted.1 > 0, "some runs must have had enough power: {lasted:?}");
    }
}

#[test]
fn after_a_failed_append_only_a_compaction_goes_on() {
    let disks = disks(u64::MAX);
    let mut journal = Journal::open(disks.clone(), &KEY, NAME, Options::default()).unwrap();
    assert!(journal.wants_compaction(0) && journal.append(b"x").is_err(), "not before the first generation");
    journal.compact([1; 32], |push| push(b"one")).unwrap();
    assert!(!journal.wants_compaction(100));
    disks[0].power.set(10);
    assert!(journal.append(b"two").is_err());
    disks[0].power.set(u64::MAX);
    assert!(journal.wants_compaction(0) && journal.append(b"two").is_err());
    assert_eq!(contents(&open(&disks, false).unwrap()), b"one");
    assert_eq!(open(&disks, false).unwrap().torn(), 10);
    journal.compact([2; 32], |push| push(b"one two")).unwrap();
    journal.append(b" three").unwrap();
    assert_eq!(contents(&open(&disks, false).unwrap()), b"one two three");
    journal.erase().unwrap();
    assert_eq!(journal.bytes(), 0);
}

#[test]
fn a_failed_compaction_leaves_what_was() {
    let disks = disks(u64::MAX);
    let mut journal = Journal::open(disks.clone(), &KEY, NAME, Options::default()).unwrap();
    journal.compact([1; 32], |push| push(b"one")).unwrap();
    let failed = journal.compact([2; 32], |push| push(b"new").and(Err(io::Error::other("no"))));
    assert!(failed.is_err());
    journal.append(b" two").unwrap();
    assert_eq!(contents(&open(&disks, false).unwrap()), b"one two");
}

#[test]
fn another_key_name_file_or_version_is_refused_and_nothing_touched() {
    let disks = disks(u64::MAX);
    let mut journal = Journal::open(disks.clone(), &KEY, NAME, Options::default()).unwrap();
    journal.compact([1; 32], |push| push(b"one")).unwrap();
    journal.append(b"two").unwrap();
    let before = disks.each_ref().map(|disk| disk.bytes.borrow().clone());
    let options = Options::default();
    assert!(matches!(Journal::open(disks.clone(), &[8; 32], NAME, options), Err(Error::Foreign)));
    assert!(matches!(Journal::open(disks.clone(), &KEY, "pcm-2", options), Err(Error::Foreign)));
    assert!(journal.is_of(&KEY, NAME) && !journal.is_of(&[8; 32], NAME) && !journal.is_of(&KEY, "pcm-2"));
    assert_eq!(before, disks.each_ref().map(|disk| disk.bytes.borrow().clone()));
    let full = disks.iter().position(|disk| !disk.bytes.borrow().is_empty()).unwrap();
    disks[full].bytes.borrow_mut()[6] = 2;
    assert!(matches!(open(&disks, false), Err(Error::Unsupported(2))));
    *disks[full].bytes.borrow_mut() = b"#!/bin/sh\n".to_vec();
    assert!(matches!(open(&disks, false), Err(Error::Foreign)));
}

#[test]
fn the_plain_text_is_in_no_file_and_a_revoked_value_in_no_generation() {
    let disks = disks(u64::MAX);
    let mut journal = Journal::open(disks.clone(), &KEY, NAME, Options::default()).unwrap();
    journal.compact([1; 32], |push| push(b"a value that is revoked")).unwrap();
    let lasting = |disks: &[Disk; 2]| disks.each_ref().map(|disk| disk.bytes.borrow().clone()).concat();
    let sealed = lasting(&disks);
    assert!(!sealed.windows(8).any(|part| part == b"a value "));
    journal.compact([2; 32], |push| push(b"another")).unwrap();
    let now = lasting(&disks);
    assert!(
        !now.windows(16).any(|part| sealed[64..].windows(16).any(|old| part == old)),
        "not a block of it"
    );
}

#[test]
fn a_file_is_never_longer_than_its_cap_and_a_log_not_much_longer_than_its_snapshot() {
    let disks = disks(u64::MAX);
    let options = Options { cap: 1 << 20, sync: false };
    let mut journal = Journal::open(disks, &KEY, NAME, options).unwrap();
    journal.compact([1; 32], |push| push(&[1; 1000])).unwrap();
    let mut appended = 0;
    while !journal.wants_compaction(10_000) {
        journal.append(&[2; 10_000]).unwrap();
        appended += 10_000;
    }
    assert!((250_000..270_000).contains(&appended), "{appended}");
    journal.compact([2; 32], |push| (0..7).try_for_each(|_| push(&[3; 100_000]))).unwrap();
    while !journal.wants_compaction(10_000) {
        journal.append(&[4; 10_000]).unwrap();
    }
    assert!(journal.append(&[5; 10_000]).is_err());
    assert!(journal.bytes() <= 1 << 20);
    let too_long = journal.compact([3; 32], |push| (0..8).try_for_each(|_| push(&[3; 100_000])));
    assert_eq!(too_long.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    assert!(journal.bytes() <= 1 << 20);
}

proptest! {
    #[test]
    fn arbitrary_files_are_refused_or_empty(mut one: Vec<u8>, two: Vec<u8>, like_ours: bool) {
        let disks = disks(u64::MAX);
        if like_ours {
            one.splice(..0, *b"OAPCMJ\x01\0");
        }
        *disks[0].bytes.borrow_mut() = one;
        *disks[1].bytes.borrow_mut() = two;
        if let Ok(journal) = open(&disks, false) {
            prop_assert_eq!(contents(&journal), b"");
        }
    }

    #[test]
    fn damage_costs_what_is_damaged_and_what_follows(
        flips in prop::collection::vec((0usize..2, any::<prop::sample::Index>(), 1u8..), 0..4),
        cut in prop::option::of((0usize..2, any::<prop::sample::Index>())),
        steps in 1u8..20,
    ) {
        let disks = disks(u64::MAX);
        let mut journal = Journal::open(disks.clone(), &KEY, NAME, Options::default()).unwrap();
        let (state, _) = work(&mut journal, Vec::new(), steps);
        for (disk, at, mask) in flips {
            let mut bytes = disks[disk].bytes.borrow_mut();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= mask;
            }
        }
        if let Some((disk, at)) = cut {
            let mut bytes = disks[disk].bytes.borrow_mut();
            let at = at.index(bytes.len() + 1);
            bytes.truncate(at);
        }
        if let Ok(journal) = open(&disks, false) {
            let found = contents(&journal);
            prop_assert!(state.starts_with(&found), "{:?} of {:?}", found, state);
        }
    }
}
