//! How many messages a broker delivers in a second of processor time.
//!
//! Starts each broker by itself, drives it from one thread with a closed loop (no publisher has more than its window of
//! messages under way, at any QoS), and divides what subscribers got by the processor time of the broker's process.
//! Rounds alternate between the brokers, so that both see the same machine. See `docs/performance.md`.
//!
//! `cargo run --release -p pcm --example throughput -- [--rounds N] [--seconds N] [--only TEXT] [--pcm PATH] [--mosquitto PATH]`
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on has nothing to tell"
)]

#[path = "load/mod.rs"]
mod load;

use load::broker::Running;
use load::{Load, run};
use std::time::Duration;

const fn pairs(name: &'static str, pairs: usize, qos: u8, window: usize) -> Load {
    Load { name, publishers: pairs, qos, window, ..Load::ONE }
}

const LOADS: &[Load] = &[
    pairs("1 pair, QoS 0, window 1", 1, 0, 1),
    pairs("1 pair, QoS 0, window 200", 1, 0, 200),
    pairs("1 pair, QoS 1, window 1", 1, 1, 1),
    pairs("1 pair, QoS 1, window 200", 1, 1, 200),
    pairs("1 pair, QoS 2, window 1", 1, 2, 1),
    pairs("1 pair, QoS 2, window 200", 1, 2, 200),
    pairs("50 pairs, QoS 0, window 1", 50, 0, 1),
    pairs("50 pairs, QoS 0, window 200", 50, 0, 200),
    pairs("50 pairs, QoS 1, window 1", 50, 1, 1),
    pairs("50 pairs, QoS 1, window 200", 50, 1, 200),
    pairs("50 pairs, QoS 2, window 1", 50, 2, 1),
    pairs("50 pairs, QoS 2, window 200", 50, 2, 200),
    Load { subscribers: 100, ..pairs("fan-out to 100, QoS 0", 1, 0, 200) },
    Load { subscribers: 100, ..pairs("fan-out to 100, QoS 1", 1, 1, 200) },
    Load { topics: 10_000, ..pairs("10,000 topics", 1, 0, 200) },
    Load { retain: true, ..pairs("1 retained topic", 1, 0, 200) },
    Load { topics: 100, retain: true, ..pairs("100 retained topics", 1, 0, 200) },
    Load { topics: 10_000, retain: true, ..pairs("10,000 retained topics", 1, 0, 200) },
    Load { filters: 1, ..pairs("1 wildcard filter beside", 1, 0, 200) },
    Load { filters: 1_000, ..pairs("1,000 wildcard filters beside", 1, 0, 200) },
];

struct Options {
    rounds: usize,
    seconds: u64,
    only: String,
    pcm: String,
    mosquitto: String,
}

fn options() -> Options {
    let mut options = Options {
        rounds: 3,
        seconds: 2,
        only: String::new(),
        pcm: "target/release/pcm".to_owned(),
        mosquitto: "mosquitto".to_owned(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().unwrap_or_else(|| panic!("{name} needs a value"));
        match name.as_str() {
            "--rounds" => options.rounds = value.parse().expect("a number"),
            "--seconds" => options.seconds = value.parse().expect("a number"),
            "--only" => options.only = value,
            "--pcm" => options.pcm = value,
            "--mosquitto" => options.mosquitto = value,
            _ => panic!("unknown argument {name}"),
        }
    }
    options
}

fn main() {
    let options = options();
    println!("| load | pcm, thousand messages a core-second | mosquitto | ratio |");
    println!("|---|---|---|---|");
    for load in LOADS.iter().filter(|load| load.name.contains(&options.only)) {
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..options.rounds {
            let brokers = [Running::pcm(&options.pcm), Running::mosquitto(&options.mosquitto)];
            for (rates, broker) in rates.iter_mut().zip(brokers) {
                if let Some(broker) = broker {
                    rates.push(run(load, &broker, Duration::from_secs(options.seconds)));
                }
            }
        }
        let [ours, theirs] = rates.map(median);
        println!("| {} | {ours:.0} | {theirs:.0} | {:.2} |", load.name, ours / theirs);
    }
}

/// In thousands.
fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN) / 1_000.0
}
