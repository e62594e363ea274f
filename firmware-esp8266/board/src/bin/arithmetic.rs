//! The self-test: the same arithmetic as on the host, whose result the host compares.
#![no_std]
#![no_main]

use board::console::{self, Number};

#[path = "../../../arithmetic/suite.rs"]
mod suite;

/// Called once by `start.S`; what it returns is how the emulator ends.
#[unsafe(no_mangle)]
extern "C" fn firmware() -> u32 {
    suite::run(suite::ROUNDS, &mut |round, sum| {
        console::line(&["round ", Number::new(u64::from(round)).as_str(), " ", Number::new(sum).as_str()]);
    });
    0
}
