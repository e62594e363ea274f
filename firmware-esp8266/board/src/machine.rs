//! The processor: cycles as a clock, sleeping until something happens, services of the emulator, memory that was never used.

use core::ptr;

unsafe extern "C" {
    safe fn cycles() -> u32;
    safe fn wake_at(cycle: u32);
    safe fn wait_for_interrupt(mask: u32);
    safe fn mask_interrupts() -> u32;
    safe fn restore_interrupts(ps: u32);
    safe fn leave(code: u32) -> !;
    fn semihosting(call: u32, a: u32, b: u32, c: u32) -> i32;
    static mut _stack_bottom: u32;
    static mut _stack_top: u32;
}

/// Cycles in a millisecond on this board.
const CYCLES_PER_MS: u32 = 40_000;

/// Longest sleep: the counter goes round in 107 seconds and must be looked at before.
const LONGEST: u64 = 50_000;

/// Interrupt lines of the board.
const SERIAL: u32 = 1 << 0;
const NETWORK: u32 = 1 << 1;
const TIMER: u32 = 1 << 6;

/// What the painted stack is painted with; see `start.S`.
const PAINT: u32 = 0x5aa5_5aa5;

struct Mask;
critical_section::set_impl!(Mask);

// SAFETY: there is one core, and interrupts are masked in between.
unsafe impl critical_section::Impl for Mask {
    unsafe fn acquire() -> u32 {
        mask_interrupts()
    }

    unsafe fn release(ps: u32) {
        restore_interrupts(ps);
    }
}

/// Ends the emulator with this code.
pub fn exit(code: u32) -> ! {
    leave(code)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    leave(134)
}

/// Called by `start.S` for every exception: a defect.
#[unsafe(no_mangle)]
extern "C" fn trapped(cause: u32, at: u32, address: u32) -> ! {
    crate::console::line(&[
        "trap ",
        crate::console::Number::hex(cause).as_str(),
        " at ",
        crate::console::Number::hex(at).as_str(),
        " address ",
        crate::console::Number::hex(address).as_str(),
    ]);
    leave(135)
}

/// Time and work since the board was switched on.
pub struct Clock {
    last: u32,
    /// Milliseconds, and cycles of the one that has begun. Kept apart, because a 64-bit division is hundreds of instructions.
    ms: u64,
    part: u32,
    cycles: u64,
    asleep: u64,
}

impl Clock {
    /// Starts at zero.
    #[must_use]
    pub fn new() -> Self {
        Self { last: cycles(), ms: 0, part: 0, cycles: 0, asleep: 0 }
    }

    fn count(&mut self) -> u64 {
        let now = cycles();
        let passed = now.wrapping_sub(self.last);
        self.last = now;
        self.cycles += u64::from(passed);
        let (whole, rest) = if passed < CYCLES_PER_MS {
            (0, passed)
        } else {
            (passed / CYCLES_PER_MS, passed % CYCLES_PER_MS)
        };
        self.ms += u64::from(whole);
        self.part += rest;
        if self.part >= CYCLES_PER_MS {
            self.part -= CYCLES_PER_MS;
            self.ms += 1;
        }
        self.cycles
    }

    /// Milliseconds.
    pub fn now(&mut self) -> u64 {
        self.count();
        self.ms
    }

    /// Puts the clock forward, as if so many milliseconds had passed: for tests that cannot wait.
    pub fn put_forward(&mut self, ms: u64) {
        self.ms += ms;
    }

    /// Cycles in which the processor worked. With `-icount shift=3` 8 cycles are 25 instructions.
    pub fn busy(&mut self) -> u64 {
        self.count() - self.asleep
    }

    /// What was worked since [`Clock::busy`] said `busy` does not count: it was for the measurement.
    pub fn leave_out(&mut self, busy: u64) {
        self.asleep += self.busy() - busy;
    }

    /// Sleeps until a packet or a key comes or the time is `until`; may return earlier.
    pub fn sleep(&mut self, until: Option<u64>) {
        let now = self.now();
        let ms = until.map_or(LONGEST, |until| until.saturating_sub(now)).min(LONGEST);
        if ms == 0 {
            return;
        }
        let before = self.count();
        wake_at(self.last.wrapping_add(ms as u32 * CYCLES_PER_MS));
        wait_for_interrupt(SERIAL | NETWORK | TIMER);
        let after = self.count();
        self.asleep += after - before;
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Bytes of memory that were never used since the start, and bytes that the stack may use in all.
#[must_use]
pub fn untouched() -> (usize, usize) {
    let bottom = ptr::addr_of!(_stack_bottom);
    let top = ptr::addr_of!(_stack_top);
    let mut at = bottom;
    // SAFETY: the linker script puts both symbols into RAM, the stack's top above its bottom.
    unsafe {
        while at < top && at.read_volatile() == PAINT {
            at = at.add(1);
        }
        (at.byte_offset_from(bottom) as usize, top.byte_offset_from(bottom) as usize)
    }
}

/// A file on the emulator's host.
pub struct File(u32);

const READ: u32 = 3;
const WRITE: u32 = 4;
const OPEN: u32 = 5;
const SEEK: u32 = 19;
const OPEN_READ_WRITE: u32 = 2;

impl File {
    /// Opens a file for reading and writing; `name` ends with a zero byte.
    #[must_use]
    pub fn open(name: &core::ffi::CStr) -> Option<Self> {
        // SAFETY: the emulator reads a string that ends with zero.
        let file = unsafe { semihosting(OPEN, name.as_ptr() as u32, OPEN_READ_WRITE, 0) };
        u32::try_from(file).ok().map(Self)
    }

    /// Reads at `at` and returns how many bytes there were.
    pub fn read(&self, at: u32, out: &mut [u8]) -> Option<usize> {
        self.seek(at)?;
        self.read_on(out)
    }

    /// Reads where the last read ended.
    pub fn read_on(&self, out: &mut [u8]) -> Option<usize> {
        // SAFETY: the emulator writes at most so many bytes there.
        usize::try_from(unsafe { semihosting(READ, self.0, out.as_mut_ptr() as u32, out.len() as u32) }).ok()
    }

    /// Writes all of `bytes` at `at`.
    pub fn write(&self, at: u32, bytes: &[u8]) -> Option<()> {
        self.seek(at)?;
        // SAFETY: the emulator reads so many bytes from there.
        let written = unsafe { semihosting(WRITE, self.0, bytes.as_ptr() as u32, bytes.len() as u32) };
        (usize::try_from(written) == Ok(bytes.len())).then_some(())
    }

    fn seek(&self, at: u32) -> Option<()> {
        // SAFETY: no memory is involved.
        let there = unsafe { semihosting(SEEK, self.0, at, 0) };
        (u32::try_from(there) == Ok(at)).then_some(())
    }
}
