//! A thermostat: the life of design §5 on the emulated board.
#![no_std]
#![no_main]

/// Called once by `start.S`; what it returns is how the emulator ends.
#[unsafe(no_mangle)]
extern "C" fn firmware() -> u32 {
    // SAFETY: called once.
    unsafe { board::product::live(|_| {}) }
}
