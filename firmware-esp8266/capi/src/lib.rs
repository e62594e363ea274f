//! `liboauthing.a`: [`device_link::run`] behind `include/oauthing.h`, for shells that own Wi-Fi.
//!
//! The types here mirror the header's; `tests/shell.c` calls them in both directions.

#![no_std]
// The header's names.
#![allow(non_camel_case_types)]

mod shell;

use core::ffi::{CStr, c_char, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

use device_client::{Device, Options, Record, SLOT_LEN, Slots, blink, oauth};
use device_link::Records;

use crate::shell::{Sectors, Shell};

/// The header's version.
const ABI: u32 = 1;

// The header says so too.
const _: () = assert!(SLOT_LEN == 1198);

type Held = Device<1280, 768>;

static RUNNING: AtomicBool = AtomicBool::new(false);
static mut RECORDS: Records = Records::new();
static mut DEVICE: MaybeUninit<Held> = MaybeUninit::uninit();
static mut SHELL: MaybeUninit<Shell> = MaybeUninit::uninit();

unsafe extern "C" {
    fn oauthing_mask_interrupts() -> u32;
    fn oauthing_restore_interrupts(ps: u32);
    safe fn abort() -> !;
}

struct Mask;
critical_section::set_impl!(Mask);

// SAFETY: there is one core, and interrupts are masked in between.
unsafe impl critical_section::Impl for Mask {
    unsafe fn acquire() -> u32 {
        // SAFETY: two instructions.
        unsafe { oauthing_mask_interrupts() }
    }

    unsafe fn release(ps: u32) {
        // SAFETY: what `acquire` returned.
        unsafe { oauthing_restore_interrupts(ps) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    abort()
}

/// `oauthing_input`.
#[repr(C)]
struct input {
    kind: u32,
    channel: *const c_char,
    payload: *const u8,
    payload_len: usize,
    retain: bool,
    at_least_once: bool,
}

/// `oauthing_status`.
#[repr(C)]
struct status {
    phase: u32,
    notice: u32,
    code: *const c_char,
    code_until: u64,
}

/// `oauthing_board`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct board {
    context: *mut c_void,
    now: Option<unsafe extern "C" fn(*mut c_void) -> u64>,
    random: Option<unsafe extern "C" fn(*mut c_void, *mut u8, usize)>,
    dial: Option<unsafe extern "C" fn(*mut c_void, *const c_char, u16, u64) -> bool>,
    is_readable: Option<unsafe extern "C" fn(*mut c_void) -> bool>,
    read: Option<unsafe extern "C" fn(*mut c_void, *mut u8, usize, u64) -> i32>,
    write: Option<unsafe extern "C" fn(*mut c_void, *const u8, usize, u64) -> i32>,
    hang_up: Option<unsafe extern "C" fn(*mut c_void)>,
    wait: Option<unsafe extern "C" fn(*mut c_void, u64, bool, *mut input) -> u32>,
    flash_read: Option<unsafe extern "C" fn(*mut c_void, u32, *mut u8, usize) -> i32>,
    flash_write: Option<unsafe extern "C" fn(*mut c_void, u32, *const u8, usize) -> bool>,
    command: Option<unsafe extern "C" fn(*mut c_void, *const c_char, *const u8, usize)>,
    delta: Option<unsafe extern "C" fn(*mut c_void, *const u8, usize)>,
    show: Option<unsafe extern "C" fn(*mut c_void, *const status)>,
    delivered: Option<unsafe extern "C" fn(*mut c_void)>,
    refused: Option<unsafe extern "C" fn(*mut c_void, u32)>,
}

impl board {
    fn is_complete(&self) -> bool {
        self.now.is_some()
            && self.random.is_some()
            && self.dial.is_some()
            && self.is_readable.is_some()
            && self.read.is_some()
            && self.write.is_some()
            && self.hang_up.is_some()
            && self.wait.is_some()
            && self.flash_read.is_some()
            && self.flash_write.is_some()
            && self.command.is_some()
            && self.show.is_some()
    }
}

const STOPPED: u32 = 0;
const NOT_FLASHED: u32 = 1;
const RUNNING_ALREADY: u32 = 2;
const BAD_BOARD: u32 = 3;

/// Takes the statics for one call; there is one core, and interrupts do not call this library.
fn enter() -> bool {
    let was = RUNNING.load(Ordering::Relaxed);
    RUNNING.store(true, Ordering::Relaxed);
    !was
}

/// `oauthing_run`.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn oauthing_run(board: *const board) -> u32 {
    // SAFETY: null, or the shell's.
    let Some(callbacks) = (unsafe { board.as_ref() }).filter(|board| board.is_complete()) else {
        return BAD_BOARD;
    };
    if !enter() {
        return RUNNING_ALREADY;
    }
    let end = live(callbacks);
    RUNNING.store(false, Ordering::Relaxed);
    end
}

fn live(callbacks: &board) -> u32 {
    // SAFETY: between `enter` and the end of `oauthing_run` nobody else has them.
    let (shell, records) =
        unsafe { ((*(&raw mut SHELL)).write(Shell::new(*callbacks)), &mut *(&raw mut RECORDS)) };
    let Some(record) = shell.record() else { return NOT_FLASHED };
    device_link::run(shell, device(record), records);
    STOPPED
}

#[inline(never)]
fn device(record: Record) -> &'static mut Held {
    // SAFETY: as in `live`.
    unsafe { (*(&raw mut DEVICE)).write(Device::new(record, Options::default())) }
}

/// `oauthing_flash`.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn oauthing_flash(board: *const board, answer: *const u8, len: usize) -> bool {
    // SAFETY: null, or the shell's.
    let Some(callbacks) = (unsafe { board.as_ref() }).filter(|board| board.is_complete()) else {
        return false;
    };
    if answer.is_null() || !enter() {
        return false;
    }
    // SAFETY: the shell's bytes.
    let answer = unsafe { core::slice::from_raw_parts(answer, len) };
    let stored = oauth::read_registration(answer).is_ok_and(|record| {
        let mut slots = Slots::new(Sectors(*callbacks));
        // What cannot be read is replaced.
        let _ = slots.load();
        slots.save(&record).is_ok()
    });
    RUNNING.store(false, Ordering::Relaxed);
    stored
}

/// `oauthing_blink`.
///
/// # Safety
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn oauthing_blink(code: *const c_char, since: u64, for_ms: *mut u64) -> bool {
    // SAFETY: the shell's text, with a zero byte at its end.
    let code = if code.is_null() { c"" } else { unsafe { CStr::from_ptr(code) } };
    let light = blink::code(code.to_str().unwrap_or_default(), since);
    // SAFETY: null, or the shell's.
    if let Some(for_ms) = unsafe { for_ms.as_mut() } {
        *for_ms = light.for_ms.unwrap_or(u64::MAX);
    }
    light.on
}

/// `oauthing_abi`.
#[unsafe(no_mangle)]
pub extern "C" fn oauthing_abi() -> u32 {
    ABI
}
