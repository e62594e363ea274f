//! Ten minutes of everything at once against one personal broker with a state directory, and whether its memory stays flat:
//! clients that come and go, sessions that expire, messages of every QoS, retained values, wills, shadows, grants and views
//! that change several times a second, and clients that take nothing or never get to the end of a packet.
//!
//! `cargo xtask soak`, or `soak [--pcm PROGRAM] [--minutes N] [--seed N]`; as root, because the process is not dumpable. Fails if
//! after [`WARM_UP`] memory grows by more than [`PART`] and [`KILOBYTES`], or who owes is not cut in time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on has nothing to tell"
)]

mod chance;
mod churn;
mod client;
mod debts;
mod memory;
mod owner;

use churn::Churn;
use debts::Debts;
use memory::{Sample, growth, mean};
use owner::Owner;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Seconds that do not count.
const WARM_UP: f64 = 120.0;
/// What memory may grow by afterwards: no more than this part of it, or no more than so many kB.
const PART: f64 = 0.05;
const KILOBYTES: f64 = 200.0;
/// Things done between two pauses, which are as long as this.
const BURST: usize = 20;
const PAUSE: Duration = Duration::from_millis(5);
const GRANTS_EVERY_S: f64 = 0.25;
const DEBTORS_EVERY_S: f64 = 45.0;

fn main() -> ExitCode {
    let (mut program, mut minutes, mut seed) = (beside(), 10.0, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().expect("a value behind each name");
        match name.as_str() {
            "--pcm" => program = value.into(),
            "--minutes" => minutes = value.parse().expect("minutes"),
            "--seed" => seed = value.parse().expect("a number"),
            _ => panic!("unknown: {name}"),
        }
    }

    let mut owner = Owner::start(&program);
    let (mut churn, mut debts) = (Churn::new(seed), Debts::default());
    let mut samples: Vec<Sample> = Vec::new();
    let (mut next_grants, mut next_debtors, mut next_second) = (0.0, 0.0, 0.0);
    let began = Instant::now();
    println!(
        "  min   RSS kB   PSS kB connects  messages  received   grants sessions retained  queued   dropped  refused journal kB"
    );
    loop {
        let now = began.elapsed().as_secs_f64();
        if now >= minutes * 60.0 {
            break;
        }
        if now >= next_grants {
            churn.grant(&mut owner);
            next_grants = now + GRANTS_EVERY_S;
        }
        if now >= next_debtors {
            debts.open(&owner, now);
            next_debtors = now + DEBTORS_EVERY_S;
        }
        for _ in 0..BURST {
            churn.act(&owner);
        }
        churn.read();
        if now >= next_second {
            next_second = now.floor() + 1.0;
            debts.look(now);
            samples.push(memory::sample(owner.process(), now));
            if samples.len().is_multiple_of(60) {
                line(&mut owner, &churn, &samples);
            }
        }
        std::thread::sleep(PAUSE);
    }
    verdict(&samples, &debts)
}

/// The program that was built into the same place.
fn beside() -> PathBuf {
    let own = std::env::current_exe().expect("a path of one's own");
    own.ancestors().nth(2).expect("below a profile's place").join("pcm")
}

/// Means of the last minute, and what else there is to say.
fn line(owner: &mut Owner, churn: &Churn, samples: &[Sample]) {
    let last = samples.get(samples.len() - 60..).unwrap_or_default();
    let (stats, counts) = (owner.stats(), &churn.counts);
    println!(
        "{:>5} {:>8.0} {:>8.0} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8} {:>7} {:>9} {:>8} {:>10}",
        samples.len() / 60,
        mean(last, |sample| sample.rss),
        mean(last, |sample| sample.pss),
        counts.connects,
        counts.publishes,
        counts.received,
        counts.grants,
        stats.sessions,
        stats.retained,
        stats.queued,
        stats.dropped,
        stats.refused,
        stats.journal_bytes / 1_024,
    );
}

fn verdict(samples: &[Sample], debts: &Debts) -> ExitCode {
    let counted: Vec<Sample> = samples.iter().copied().filter(|sample| sample.second >= WARM_UP).collect();
    if counted.is_empty() {
        println!("shorter than the warm-up of {WARM_UP} s: memory is not judged");
    }
    let mut flat = true;
    for (name, of) in [("RSS", (|one| one.rss) as fn(&Sample) -> f64), ("PSS", |one| one.pss)] {
        let (level, grown) = (mean(&counted, of), growth(&counted, of));
        let most = counted.iter().map(of).fold(0.0, f64::max);
        println!(
            "{name} after {WARM_UP} s: mean {level:.0} kB, highest {most:.0} kB, grows by {grown:+.0} kB ({:+.1} %)",
            grown / level.max(1.0) * 100.0
        );
        flat &= grown <= KILOBYTES || grown <= level * PART;
    }
    for (what, cut) in [("took nothing", &debts.stalled), ("dripped", &debts.dripped)] {
        let (first, last) = (cut.iter().copied().reduce(f64::min), cut.iter().copied().reduce(f64::max));
        println!("{} that {what} were cut, after {first:.1?} to {last:.1?} s", cut.len());
    }
    if flat { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
