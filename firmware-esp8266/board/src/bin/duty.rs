//! A thermostat on a battery: it wakes, says one reading with the token that it has stored, waits for the acknowledgement, and
//! sleeps, which on this chip is being off but for a timer: the next wake is a power-on. Whatever keeps it from saying its
//! reading (no owner, no network) keeps it awake for a while only.
#![no_std]
#![no_main]

use board::emulated::Emulated;

/// Called once by `start.S`; what it returns is how the emulator ends.
#[unsafe(no_mangle)]
extern "C" fn firmware() -> u32 {
    // SAFETY: called once.
    unsafe { board::product::live(Emulated::wake_for_a_reading) }
}
