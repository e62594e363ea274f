//! The driver without libFuzzer: each target for so many seconds or inputs, the same for the same seed. What fails is written
//! as a file and named.

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use clap::Parser;
use mqtt_fuzz::random::Random;
use oauth_fuzz::targets::{TARGETS, Target};

#[derive(Parser)]
#[command(about = "Fuzzes the parsers of forms, JSON and device requests, and a device, deterministically")]
struct Arguments {
    /// Stop each target after so many seconds; 30 if no number of inputs is given.
    #[arg(long)]
    seconds: Option<u64>,
    /// Stop each target after so many inputs.
    #[arg(long)]
    inputs: Option<u64>,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Inputs between two looks at the clock.
const TURN: u64 = 256;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let seconds = arguments.seconds.or_else(|| arguments.inputs.is_none().then_some(30));
    let inputs = arguments.inputs.unwrap_or(u64::MAX);
    // Side by side: a target has its seconds, whether there is one processor or one for each.
    let failures: Vec<anyhow::Error> = std::thread::scope(|scope| {
        let run = |(at, target): (u64, Target)| {
            let random = Random::new(arguments.seed.wrapping_mul(1_000_003).wrapping_add(at));
            scope.spawn(move || fuzz(target, random, seconds.map(Duration::from_secs), inputs))
        };
        let threads: Vec<_> = (0..).zip(TARGETS).map(run).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the driver panicked"))))
            .filter_map(Result::err)
            .collect()
    });
    failures.into_iter().next().map_or(Ok(()), Err)
}

fn fuzz(
    Target { name, write, hold }: Target,
    mut random: Random,
    limit: Option<Duration>,
    inputs: u64,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut input = Vec::new();
    let mut done = 0_u64;
    while done < inputs && limit.is_none_or(|limit| began.elapsed() < limit) {
        for _ in 0..TURN.min(inputs - done) {
            write(&mut random, &mut input);
            if catch_unwind(|| hold(&input)).is_err() {
                return Err(keep(name, &input));
            }
            done += 1;
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!("{name}: {done} inputs in {took:.1} s, {:.0} a second", done as f64 / took);
    Ok(())
}

/// What failed, as a file.
fn keep(name: &str, input: &[u8]) -> anyhow::Error {
    let path = std::env::temp_dir().join(format!("oauth-fuzz-{name}"));
    match std::fs::write(&path, input) {
        Ok(()) => anyhow::anyhow!("an input of {name} failed; it is kept in {}", path.display()),
        Err(error) => {
            anyhow::anyhow!("an input of {name} failed and could not be kept ({error}): {input:02X?}")
        }
    }
}
