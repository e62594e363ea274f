//! The shell's callbacks as a [`Board`].

use core::ffi::{CStr, c_char};
use core::ptr;

use device_client::device::{MAX_CHANNEL, Notice, Phase, PublishError};
use device_client::record::MAX_HOST;
use device_client::{Flash, Millis, Record, SLOT_LEN, Slots, Status};
use device_link::{Board, Event, Input, Lost};

use crate::{board, input, status};

const READABLE: u32 = 1;
const INPUT: u32 = 2;

/// The callbacks with the record's store.
pub(crate) struct Shell {
    callbacks: board,
    slots: Slots<Sectors>,
}

/// The shell's two slots of flash.
pub(crate) struct Sectors(pub(crate) board);

/// The shell could not read or write its flash.
pub(crate) struct Broken;

/// Calls a callback that [`board::is_complete`] found to be there, or does without.
macro_rules! call {
    ($board:expr, $name:ident ( $($argument:expr),* ), $without:expr) => {
        match $board.$name {
            // SAFETY: the shell's function, called as the header says.
            Some(callback) => unsafe { callback($board.context, $($argument),*) },
            None => $without,
        }
    };
}

impl Flash for Sectors {
    type Error = Broken;

    fn read(&mut self, slot: usize, out: &mut [u8; SLOT_LEN]) -> Result<usize, Broken> {
        let read = call!(self.0, flash_read(slot as u32, out.as_mut_ptr(), SLOT_LEN), -1);
        usize::try_from(read).ok().filter(|read| *read <= SLOT_LEN).ok_or(Broken)
    }

    fn write(&mut self, slot: usize, bytes: &[u8]) -> Result<(), Broken> {
        if call!(self.0, flash_write(slot as u32, bytes.as_ptr(), bytes.len()), false) {
            Ok(())
        } else {
            Err(Broken)
        }
    }
}

impl Shell {
    pub(crate) fn new(callbacks: board) -> Self {
        Self { callbacks, slots: Slots::new(Sectors(callbacks)) }
    }

    pub(crate) fn record(&mut self) -> Option<Record> {
        self.slots.load().ok().flatten()
    }
}

/// `text` with a zero byte behind it, in `place`, as far as it fits.
fn zero_ended<'a>(text: &str, place: &'a mut [u8]) -> *const c_char {
    let len = text.len().min(place.len() - 1);
    place[..len].copy_from_slice(&text.as_bytes()[..len]);
    place[len] = 0;
    (&raw const *place).cast()
}

/// What came through a pointer and a length.
fn bytes<'a>(start: *const u8, len: usize) -> &'a [u8] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: the shell's, valid until its next callback, which is later than the use.
    unsafe { core::slice::from_raw_parts(start, len) }
}

fn amount(result: i32, most: usize) -> Result<usize, Lost> {
    usize::try_from(result).ok().filter(|amount| (1..=most).contains(amount)).ok_or(Lost)
}

impl Board for Shell {
    fn now(&mut self) -> Millis {
        call!(self.callbacks, now(), 0)
    }

    fn random(&mut self, out: &mut [u8]) {
        call!(self.callbacks, random(out.as_mut_ptr(), out.len()), crate::abort());
    }

    fn dial(&mut self, host: &str, port: u16, by: Millis) -> Result<(), Lost> {
        let mut place = [0; MAX_HOST + 1];
        let host = zero_ended(host, &mut place);
        if call!(self.callbacks, dial(host, port, by), false) { Ok(()) } else { Err(Lost) }
    }

    fn is_readable(&mut self) -> bool {
        call!(self.callbacks, is_readable(), false)
    }

    fn read(&mut self, out: &mut [u8], by: Millis) -> Result<usize, Lost> {
        amount(call!(self.callbacks, read(out.as_mut_ptr(), out.len(), by), 0), out.len())
    }

    fn write(&mut self, bytes: &[u8], by: Millis) -> Result<usize, Lost> {
        amount(call!(self.callbacks, write(bytes.as_ptr(), bytes.len(), by), 0), bytes.len())
    }

    fn hang_up(&mut self) {
        call!(self.callbacks, hang_up(), ());
    }

    fn wait(&mut self, until: Option<Millis>, listen: bool) -> Event<'_> {
        let mut wanted = input {
            kind: u32::MAX,
            channel: ptr::null(),
            payload: ptr::null(),
            payload_len: 0,
            retain: false,
            at_least_once: false,
        };
        match call!(self.callbacks, wait(until.unwrap_or(u64::MAX), listen, &raw mut wanted), 0) {
            READABLE => Event::Readable,
            INPUT => read_input(&wanted),
            _ => Event::Time,
        }
    }

    fn store(&mut self, record: &Record) -> bool {
        self.slots.save(record).is_ok()
    }

    fn command(&mut self, channel: &str, payload: &[u8]) {
        let mut place = [0; MAX_CHANNEL + 1];
        let channel = zero_ended(channel, &mut place);
        call!(self.callbacks, command(channel, payload.as_ptr(), payload.len()), ());
    }

    fn delta(&mut self, patch: &[u8]) {
        call!(self.callbacks, delta(patch.as_ptr(), patch.len()), ());
    }

    fn show(&mut self, shown: &Status) {
        let mut place = [0; 16];
        let code = zero_ended(shown.user_code.as_ref().map_or("", |code| code.as_str()), &mut place);
        let told = status {
            phase: phase(shown.phase),
            notice: shown.notice.map_or(0, notice),
            code,
            code_until: shown.window_until.unwrap_or(u64::MAX),
        };
        call!(self.callbacks, show(&raw const told), ());
    }

    fn delivered(&mut self) {
        call!(self.callbacks, delivered(), ());
    }

    fn refused(&mut self, why: PublishError) {
        let why = match why {
            PublishError::NotConnected => 1,
            PublishError::Busy => 2,
            PublishError::Channel => 3,
            PublishError::TooLong => 4,
        };
        call!(self.callbacks, refused(why), ());
    }
}

fn read_input<'a>(wanted: &input) -> Event<'a> {
    let payload = bytes(wanted.payload, wanted.payload_len);
    Event::Input(match wanted.kind {
        0 => Input::Press,
        1 => Input::LongPress,
        2 if !wanted.channel.is_null() => {
            // SAFETY: the shell's text, with a zero byte at its end.
            let channel: &'a CStr = unsafe { CStr::from_ptr(wanted.channel) };
            Input::Publish {
                // What is no UTF-8 is no channel either, and is refused as one.
                channel: channel.to_str().unwrap_or_default(),
                payload,
                retain: wanted.retain,
                at_least_once: wanted.at_least_once,
            }
        }
        3 => Input::Report(payload),
        4 => Input::Stop,
        _ => return Event::Time,
    })
}

fn phase(phase: Phase) -> u32 {
    match phase {
        Phase::Searching => 0,
        Phase::Ready => 1,
        Phase::Claimable => 2,
        Phase::Settling => 3,
        Phase::Joining => 4,
        Phase::Renewing => 5,
        Phase::Running => 6,
        Phase::Resetting => 7,
    }
}

fn notice(notice: Notice) -> u32 {
    match notice {
        Notice::Unreachable => 1,
        Notice::Untrusted => 2,
        Notice::CredentialsRefused => 3,
        Notice::Declined => 4,
        Notice::WindowOver => 5,
        Notice::ClaimFailed => 6,
        Notice::Released => 7,
        Notice::StorageFailed => 8,
    }
}
