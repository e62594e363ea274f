//! Any bytes as a script of several clients of one broker.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| mqtt_fuzz::streams::run(script));
