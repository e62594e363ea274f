//! A thermostat: the life of design §5 on the emulated board.
#![no_std]
#![no_main]

use board::console;
use board::emulated::Emulated;
use board::machine;
use core::mem::MaybeUninit;
use device_client::{Device, Options, Record};
use device_link::Records;

/// Room for an answer of the DIdP and for a command; room for a CONNECT with a token and for a reading.
type Thermostat = Device<1280, 768>;

static mut RECORDS: Records = Records::new();
static mut BOARD: MaybeUninit<Emulated> = MaybeUninit::uninit();
static mut DEVICE: MaybeUninit<Thermostat> = MaybeUninit::uninit();

/// Called once by `start.S`; what it returns is how the emulator ends.
#[unsafe(no_mangle)]
extern "C" fn firmware() -> u32 {
    let board = board();
    let Some(record) = board.record() else {
        // Nothing that could be tried again by itself: it has to be flashed.
        console::line(&["phase blank - -"]);
        return 3;
    };
    let device = device(record);
    // SAFETY: nobody else has it.
    let records = unsafe { &mut *(&raw mut RECORDS) };
    device_link::run(board, device, records);
    board.tell_counters();
    let (untouched, _) = machine::untouched();
    u32::from(untouched == 0)
}

/// The large values are made in functions of their own, so that their stack frames are gone afterwards.
#[inline(never)]
fn board() -> &'static mut Emulated {
    // SAFETY: called once, by `firmware`.
    unsafe { (*(&raw mut BOARD)).write(Emulated::new()) }
}

#[inline(never)]
fn device(record: Record) -> &'static mut Thermostat {
    // SAFETY: called once, by `firmware`.
    unsafe { (*(&raw mut DEVICE)).write(Device::new(record, Options::default())) }
}
