//! The network card (OpenCores Ethernet MAC), polled; its interrupt only ends a sleep.

use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

const BASE: usize = 0x9d03_0000;
const MODE: usize = 0x00;
const INTERRUPT_SOURCE: usize = 0x04;
const INTERRUPT_MASK: usize = 0x08;
const SEND_DESCRIPTORS: usize = 0x20;
const ADDRESS_LOW: usize = 0x40;
const ADDRESS_HIGH: usize = 0x44;
const DESCRIPTORS: usize = BASE + 0x400;

const RESET: u32 = 1 << 11;
/// Receive, send, broadcasts, full duplex, checksums, padding.
const RUN: u32 = 0xa40b | 1 << 10;
const FRAME_CAME: u32 = 1 << 2;
/// Of a descriptor: ours to read or the card's to fill, last of its kind, interrupt.
const OWNED_BY_CARD: u32 = 0x8000;
const LAST: u32 = 0x2000;
const PAD_AND_CHECKSUM: u32 = 0x1800;
const INTERRUPT: u32 = 0x4000;

const RECEIVE_BUFFERS: usize = 2;
const FRAME: usize = 1536;

/// What is sent is shorter: `net` holds no more than [`MOST_SENT`].
const SENT_FRAME: usize = MOST_SENT + 128;

/// Most bytes of TCP that are sent in one frame.
pub const MOST_SENT: usize = 768;

/// The card reads and writes here. Words, so that they lie as the card wants them.
static mut TO_SEND: [u32; SENT_FRAME / 4] = [0; SENT_FRAME / 4];
static mut RECEIVED: [[u32; FRAME / 4]; RECEIVE_BUFFERS] = [[0; FRAME / 4]; RECEIVE_BUFFERS];

fn set(register: usize, value: u32) {
    // SAFETY: a register of the card.
    unsafe { ((BASE + register) as *mut u32).write_volatile(value) };
}

fn descriptor(at: usize) -> *mut u32 {
    (DESCRIPTORS + 8 * at) as *mut u32
}

/// The memory of a descriptor; the first one is for sending.
fn frame(at: usize) -> *mut u8 {
    match at {
        0 => (&raw mut TO_SEND).cast(),
        at => (&raw mut RECEIVED).cast::<u8>().wrapping_add((at - 1) * FRAME),
    }
}

/// The card.
pub struct Card {
    next: usize,
}

impl Card {
    /// Switches it on. There is one card, so there may be one of these.
    #[must_use]
    pub fn new(address: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = address;
        set(MODE, RESET);
        set(MODE, 0);
        set(ADDRESS_LOW, u32::from_be_bytes([c, d, e, f]));
        set(ADDRESS_HIGH, u32::from(a) << 8 | u32::from(b));
        set(SEND_DESCRIPTORS, 1);
        set(INTERRUPT_MASK, FRAME_CAME);
        // SAFETY: the card's descriptors, each of two words: state and address.
        unsafe {
            descriptor(0).write_volatile(LAST);
            descriptor(0).add(1).write_volatile(frame(0) as u32);
            for at in 1..=RECEIVE_BUFFERS {
                descriptor(at).add(1).write_volatile(frame(at) as u32);
                let last = if at == RECEIVE_BUFFERS { LAST } else { 0 };
                descriptor(at).write_volatile(OWNED_BY_CARD | INTERRUPT | last);
            }
        }
        set(MODE, RUN);
        Self { next: 1 }
    }

    /// Takes the interrupt back, so that the next one is heard.
    pub fn acknowledge(&mut self) {
        set(INTERRUPT_SOURCE, FRAME_CAME);
    }

    /// Whether a frame waits to be taken.
    #[must_use]
    pub fn has_received(&self) -> bool {
        // SAFETY: a descriptor of the card.
        unsafe { descriptor(self.next).read_volatile() & OWNED_BY_CARD == 0 }
    }
}

/// A frame that has come.
pub struct Received(usize);

/// Room for a frame to send.
pub struct Room;

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        // SAFETY: the card has given the frame away until its descriptor is written again.
        unsafe {
            let state = descriptor(self.0).read_volatile();
            // The length counts the checksum.
            let len = ((state >> 16) as usize).saturating_sub(4).min(FRAME);
            let result = read(core::slice::from_raw_parts(frame(self.0), len));
            descriptor(self.0).write_volatile(state & LAST | OWNED_BY_CARD | INTERRUPT);
            result
        }
    }
}

impl phy::TxToken for Room {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        // SAFETY: the card has sent what was there before (`transmit`, and QEMU sends at once).
        unsafe {
            let result = write(core::slice::from_raw_parts_mut(frame(0), len.min(SENT_FRAME)));
            descriptor(0).write_volatile((len as u32) << 16 | OWNED_BY_CARD | LAST | PAD_AND_CHECKSUM);
            result
        }
    }
}

impl Device for Card {
    type RxToken<'a> = Received;
    type TxToken<'a> = Room;

    fn receive(&mut self, _: Instant) -> Option<(Received, Room)> {
        if !self.has_received() {
            return None;
        }
        let at = self.next;
        self.next = at % RECEIVE_BUFFERS + 1;
        Some((Received(at), Room))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room> {
        // SAFETY: a descriptor of the card.
        let busy = unsafe { descriptor(0).read_volatile() & OWNED_BY_CARD != 0 };
        (!busy).then_some(Room)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.max_transmission_unit = 1514;
        capabilities.max_burst_size = Some(RECEIVE_BUFFERS);
        capabilities.medium = Medium::Ethernet;
        capabilities
    }
}
