//! The driver without libFuzzer: so many packets, or so many seconds, the same for the same seed and number of threads.
//!
//! Each packet begins as one of `../shared/mqtt-vectors` or as a generated one, is changed up to six times, goes through
//! the codec's targets in all versions, and then into a broker as a part of a script of four clients. What fails is
//! written as a file for `cargo fuzz` and named with its seed.

use anyhow::{Context as _, bail};
use clap::Parser;
use mqtt_fuzz::streams::{CLIENTS, Script};
use mqtt_fuzz::{codec, corpus, generate, mutate, random::Random, streams};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(about = "Fuzzes codec and broker, deterministically")]
struct Arguments {
    /// Stop after so many seconds; 30 if no number of packets is given.
    #[arg(long)]
    seconds: Option<u64>,
    /// Stop after so many packets.
    #[arg(long)]
    packets: Option<u64>,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads, each with a seed of its own.
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Writes scripts and packets to begin with for `cargo fuzz` into this directory, and stops.
    #[arg(long, value_name = "DIRECTORY")]
    seeds_into: Option<PathBuf>,
}

/// Packets of one script.
const SCRIPT: u64 = 32;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let vectors = match corpus::vectors()? {
        Some((sequences, packets)) => {
            println!("{} different packets of {sequences} sequences", packets.len());
            packets
        }
        None => {
            println!("SKIPPED the packet sequences: ../shared/mqtt-vectors is not beside the workspace");
            Vec::new()
        }
    };
    if let Some(directory) = arguments.seeds_into {
        return write_seeds(&directory, &vectors, arguments.seed);
    }
    let packets = arguments.packets.unwrap_or(u64::MAX);
    let seconds = arguments.seconds.or_else(|| arguments.packets.is_none().then_some(30));
    let (began, done, accepted) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let is_over = || seconds.is_some_and(|seconds| began.elapsed() >= Duration::from_secs(seconds));
    let work = |thread: u64| {
        let mut random = Random::new(arguments.seed.wrapping_mul(1_000_003).wrapping_add(thread));
        while !is_over() && done.fetch_add(SCRIPT, Ordering::Relaxed) < packets {
            let mut before = random.clone();
            let outcome = catch_unwind(AssertUnwindSafe(|| one_script(&mut random, &vectors)));
            match outcome {
                Ok(count) => accepted.fetch_add(count, Ordering::Relaxed),
                Err(_) => return Err(keep(&mut before, &vectors)),
            };
        }
        Ok(())
    };
    let failures: Vec<anyhow::Error> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..arguments.threads.max(1)).map(|thread| scope.spawn(move || work(thread))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| bail!("a thread of the driver panicked")))
            .filter_map(Result::err)
            .collect()
    });
    let took = began.elapsed().as_secs_f64();
    let done = done.into_inner().min(packets);
    println!(
        "{done} packets (seed {}, {} threads) in {took:.1} s, {:.0} a second; {} were accepted by a version's decoder",
        arguments.seed,
        arguments.threads.max(1),
        done as f64 / took,
        accepted.into_inner()
    );
    match failures.into_iter().next() {
        None => Ok(()),
        Some(failure) => Err(failure),
    }
}

/// One packet: where it begins and what becomes of it.
fn one_packet(random: &mut Random, vectors: &[Vec<u8>], packet: &mut Vec<u8>, other: &mut Vec<u8>) {
    for place in [&mut *packet, &mut *other] {
        place.clear();
        match vectors.get(random.below(vectors.len())).filter(|_| random.one_in(3)) {
            Some(vector) => place.extend_from_slice(vector),
            None => {
                let version = codec::VERSIONS.get(random.below(4)).copied().unwrap_or(mqtt_wire::Version::V5);
                generate::packet(random, version, place);
            }
        }
    }
    let changes = random.one_of(&[0, 0, 0, 1, 1, 1, 2, 6]);
    for _ in 0..changes {
        mutate::mutate(random, packet, other);
    }
}

/// A script's packets through the codec, then the script through a broker. Answers how many packets were some version's.
fn one_script(random: &mut Random, vectors: &[Vec<u8>]) -> u64 {
    let (mut packet, mut other) = (Vec::new(), Vec::new());
    let mut accepted = 0;
    let script = compose(random, vectors, &mut packet, &mut other, &mut |packet| {
        codec::decode(packet);
        codec::round_trip(packet);
        let is_one = |version: &mqtt_wire::Version| mqtt_wire::Packet::decode(packet, *version).is_ok();
        accepted += u64::from(codec::VERSIONS.iter().any(is_one));
    });
    streams::run(script.bytes());
    accepted
}

fn compose(
    random: &mut Random,
    vectors: &[Vec<u8>],
    packet: &mut Vec<u8>,
    other: &mut Vec<u8>,
    each: &mut impl FnMut(&[u8]),
) -> Script {
    let mut script = Script::new(random.one_in(2));
    for _ in 0..SCRIPT {
        let client = random.below(CLIENTS);
        match random.below(32) {
            0 => script.open(client),
            1 | 2 => script.connect(client, random.byte()),
            3 => script.pass(random.byte()),
            4 => script.grants(random.byte()),
            5 => script.close(client),
            6..=8 => script.written(client, random.byte()),
            _ => {}
        }
        one_packet(random, vectors, packet, other);
        each(packet);
        match random.below(16) {
            // In two pieces: the second comes with whatever this client sends next.
            0 => script.send(client, packet.get(..random.below(packet.len())).unwrap_or_default()),
            _ => script.send(client, packet),
        }
    }
    script
}

/// What failed, as files.
fn keep(random: &mut Random, vectors: &[Vec<u8>]) -> anyhow::Error {
    let directory = std::env::temp_dir().join("mqtt-fuzz");
    let mut last = Vec::new();
    let (mut packet, mut other) = (Vec::new(), Vec::new());
    let mut bad = None;
    let script = compose(random, vectors, &mut packet, &mut other, &mut |packet| {
        last.clear();
        last.extend_from_slice(packet);
        let targets = || {
            codec::decode(packet);
            codec::round_trip(packet);
        };
        if bad.is_none() && catch_unwind(AssertUnwindSafe(targets)).is_err() {
            bad = Some(packet.to_vec());
        }
    });
    let (name, bytes) = match &bad {
        Some(packet) => ("packet", packet.as_slice()),
        None => ("script", script.bytes()),
    };
    let path = directory.join(name);
    let kept = std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(&path, bytes));
    match kept {
        Ok(()) => anyhow::anyhow!("a {name} failed; it is kept in {}", path.display()),
        Err(error) => anyhow::anyhow!("a {name} failed and could not be kept ({error}): {bytes:02X?}"),
    }
}

/// A start for libFuzzer.
fn write_seeds(directory: &Path, vectors: &[Vec<u8>], seed: u64) -> anyhow::Result<()> {
    let mut random = Random::new(seed);
    let (packets, scripts) = (directory.join("packets"), directory.join("streams"));
    for place in [&packets, &scripts] {
        std::fs::create_dir_all(place).with_context(|| format!("cannot make {}", place.display()))?;
    }
    let (mut packet, mut other) = (Vec::new(), Vec::new());
    for (number, vector) in vectors.iter().enumerate() {
        std::fs::write(packets.join(format!("vector-{number}")), vector)?;
    }
    for number in 0..200 {
        let script = compose(&mut random, vectors, &mut packet, &mut other, &mut |_| {});
        std::fs::write(packets.join(format!("generated-{number}")), &packet)?;
        std::fs::write(scripts.join(format!("script-{number}")), script.bytes())?;
    }
    println!("seeds are in {}", directory.display());
    Ok(())
}
