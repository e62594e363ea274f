//! Whatever decodes, encoded and decoded again, in all versions.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|bytes: &[u8]| mqtt_fuzz::codec::round_trip(bytes));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mqtt_wire_fuzz::change(data, size, max_size, seed)
});
