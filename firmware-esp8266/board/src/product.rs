//! A thermostat's life on the emulated board, from power-on to the end; what its programs have in common.

use core::mem::MaybeUninit;

use device_client::{Device, Options};
use device_link::Records;

use crate::emulated::Emulated;
use crate::{console, machine};

/// Room for an answer of the DIdP and for a command; room for a CONNECT with a token and for a reading.
type Thermostat = Device<1280, 768>;

static mut RECORDS: Records = Records::new();
static mut BOARD: MaybeUninit<Emulated> = MaybeUninit::uninit();
static mut DEVICE: MaybeUninit<Thermostat> = MaybeUninit::uninit();

/// Lives until the board wants to stop; gives how the emulator ends. `prepare` is called with the board when it has its record.
///
/// # Safety
/// May be called once: it takes the memory.
pub unsafe fn live(prepare: fn(&mut Emulated)) -> u32 {
    let board = board();
    let Some(device) = device(board) else {
        // Nothing that could be tried again by itself: it has to be flashed.
        console::line(&["phase blank - -"]);
        return 3;
    };
    // SAFETY: nobody else has it.
    let records = unsafe { &mut *(&raw mut RECORDS) };
    prepare(board);
    device_link::run(board, device, records);
    board.tell_counters();
    let (untouched, _) = machine::untouched();
    u32::from(untouched == 0)
}

/// The large values are made in functions of their own, so that their stack frames are gone afterwards.
#[inline(never)]
fn board() -> &'static mut Emulated {
    // SAFETY: called once, by `live`.
    unsafe { (*(&raw mut BOARD)).write(Emulated::new()) }
}

#[inline(never)]
fn device(board: &mut Emulated) -> Option<&'static mut Thermostat> {
    let record = board.record()?;
    // SAFETY: called once, by `live`.
    Some(unsafe { (*(&raw mut DEVICE)).write(Device::new(record, Options::default())) })
}
