//! The serial line: lines out, lines in. Text and decimal numbers only, because formatting costs kilobytes.

/// The 16550's registers lie four bytes apart.
const UART: usize = 0x9d05_0020;
const DATA: usize = 0;
const INTERRUPTS: usize = 1;
const FIFO: usize = 2;
const STATUS: usize = 5;
const RECEIVED: u32 = 0x01;

/// Longest line that is read.
pub const MAX_LINE: usize = 320;

fn register(at: usize) -> *mut u32 {
    (UART + 4 * at) as *mut u32
}

fn put(bytes: &[u8]) {
    for byte in bytes {
        // SAFETY: a register of the board.
        unsafe { register(DATA).write_volatile(u32::from(*byte)) };
    }
}

/// Writes a line.
pub fn line(parts: &[&str]) {
    for part in parts {
        put(part.as_bytes());
    }
    put(b"\n");
}

/// A number as text.
pub struct Number {
    digits: [u8; 20],
    start: usize,
}

impl Number {
    /// In decimal.
    #[must_use]
    pub fn new(value: u64) -> Self {
        Self::to_base(value, 10)
    }

    /// In hexadecimal.
    #[must_use]
    pub fn hex(value: u32) -> Self {
        Self::to_base(u64::from(value), 16)
    }

    fn to_base(mut value: u64, base: u64) -> Self {
        let mut number = Self { digits: [b'0'; 20], start: 20 };
        loop {
            number.start -= 1;
            number.digits[number.start] = b"0123456789abcdef"[(value % base) as usize];
            value /= base;
            if value == 0 {
                return number;
            }
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.digits[self.start..]).unwrap_or_default()
    }
}

/// What is typed, until the line is whole.
pub struct Typed {
    line: [u8; MAX_LINE],
    len: usize,
    whole: bool,
}

impl Typed {
    /// Switches the receiver's interrupt on.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: registers of the board.
        unsafe {
            register(FIFO).write_volatile(0x01);
            register(INTERRUPTS).write_volatile(0x01);
        }
        Self { line: [0; MAX_LINE], len: 0, whole: false }
    }

    /// Takes what has come; true if a line is whole now. [`Typed::take`] has to be called before the next one is read.
    pub fn poll(&mut self) -> bool {
        // SAFETY: registers of the board.
        while !self.whole && unsafe { register(STATUS).read_volatile() } & RECEIVED != 0 {
            match unsafe { register(DATA).read_volatile() } as u8 {
                b'\n' => self.whole = true,
                byte if self.len < MAX_LINE => {
                    self.line[self.len] = byte;
                    self.len += 1;
                }
                _ => {}
            }
        }
        self.whole
    }

    /// The whole line.
    #[must_use]
    pub fn line(&self) -> &str {
        core::str::from_utf8(&self.line[..self.len]).unwrap_or_default()
    }

    /// Makes room for the next line.
    pub fn clear(&mut self) {
        self.len = 0;
        self.whole = false;
    }

    /// The whole line, whose place the next one will take.
    pub fn take(&mut self) -> &str {
        let len = self.len;
        self.clear();
        core::str::from_utf8(&self.line[..len]).unwrap_or_default()
    }
}

impl Default for Typed {
    fn default() -> Self {
        Self::new()
    }
}
