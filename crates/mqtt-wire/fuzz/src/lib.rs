//! The mutator that knows MQTT, as libFuzzer wants to call it: its own and ours by turns.

use mqtt_fuzz::mutate::mutate;
use mqtt_fuzz::random::Random;

/// Changes the first `size` bytes of `data` in place; answers how many there are now, at most `max_size`.
pub fn change(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random::new(u64::from(seed));
    if random.one_in(2) {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let mut packet = data.get(..size).unwrap_or_default().to_vec();
    let mut other = Vec::new();
    mqtt_fuzz::generate::packet(&mut random, version(seed), &mut other);
    mutate(&mut random, &mut packet, &other);
    packet.truncate(max_size);
    if let Some(space) = data.get_mut(..packet.len()) {
        space.copy_from_slice(&packet);
    }
    packet.len()
}

fn version(seed: u32) -> mqtt_wire::Version {
    if seed & 1 == 0 { mqtt_wire::Version::V5 } else { mqtt_wire::Version::V311 }
}
