//! The emulated board as a [`Board`]: what is typed on its console are its button and its sensors, what it does it says there.
//!
//! ```text
//! in   down | up                    the button
//!      publish CHANNEL PAYLOAD      a reading, at most once       keep CHANNEL PAYLOAD   at least once
//!      report JSON                  the shadow                    every MS [COUNT]       a reading of its own so often; 0 ends it;
//!                                                                                     after so many: counters
//!      clock MS                     time passes                   stat                   counters
//!      stop                         hang up and end
//! out  phase NAME NOTICE CODE       a new status; `-` for none
//!      pin on | off                 the switch that `heater` commands
//!      command CHANNEL PAYLOAD      delta JSON     delivered     refused WHY
//!      stored | not-stored
//!      stat NAME=NUMBER…
//! ```

use device_client::button::{Button, Press};
use device_client::device::{Notice, Phase, PublishError};
use device_client::{Millis, Record, Slots, Status};
use device_link::{Board, Event, Input, Lost};

use crate::console::{self, Number, Typed};
use crate::flash::Sectors;
use crate::machine::{self, Clock, File};
use crate::net::Net;

/// The channel of the readings that the board makes by itself.
const READING: &str = "temperature";

/// How long a board that woke for one reading stays awake without success.
const AWAKE: Millis = 60_000;

/// How far a board is that woke for one reading.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Duty {
    /// It did not: it is always awake.
    None,
    /// Still awake, at the latest until then.
    Awake { by: Millis },
    /// The reading is on its way.
    Sent { by: Millis },
    Done,
}

/// The board.
pub struct Emulated {
    clock: Clock,
    net: Net,
    typed: Typed,
    random: Option<File>,
    slots: Slots<Sectors>,
    button: Button,
    pin: bool,
    every: Millis,
    next_reading: Millis,
    readings: u32,
    /// Readings that are still to be made.
    left: u32,
    reading: [u8; 4],
    sent: u32,
    wakes: u32,
    duty: Duty,
    running: bool,
}

/// Why a wait ended.
enum Woken {
    Time,
    Readable,
    Typed,
    Reading,
    Pressed(Press),
    Done,
}

impl Emulated {
    /// Switches it on.
    ///
    /// # Safety
    /// May be called once; see [`Net::new`].
    #[must_use]
    pub unsafe fn new() -> Self {
        let random = File::open(c"/dev/urandom");
        let mut seed = [0; 8];
        fill(random.as_ref(), &mut seed);
        Self {
            clock: Clock::new(),
            // SAFETY: as for this function.
            net: unsafe { Net::new(u64::from_le_bytes(seed)) },
            typed: Typed::new(),
            random,
            slots: Slots::new(Sectors::open()),
            button: Button::new(),
            pin: false,
            every: 0,
            next_reading: 0,
            readings: 0,
            left: 0,
            reading: *b"20.0",
            sent: 0,
            wakes: 0,
            duty: Duty::None,
            running: false,
        }
    }

    /// The record in the flash.
    pub fn record(&mut self) -> Option<Record> {
        self.slots.load().ok().flatten()
    }

    /// Makes a reading of its own so often; after `count` of them it says the counters instead.
    pub fn read_every(&mut self, ms: Millis, count: Option<u32>) {
        self.every = ms;
        self.left = count.unwrap_or(u32::MAX);
        self.next_reading = self.clock.now() + ms;
    }

    /// Says one reading as soon as there is a session, and wants to stop when it is acknowledged.
    pub fn wake_for_a_reading(&mut self) {
        self.duty = Duty::Awake { by: self.clock.now() + AWAKE };
    }

    /// What a board that woke for one reading does now, if anything.
    fn on_duty(&mut self, now: Millis) -> Option<Woken> {
        match self.duty {
            Duty::None => None,
            Duty::Awake { by } if self.running => {
                self.duty = Duty::Sent { by };
                Some(Woken::Reading)
            }
            Duty::Awake { by } | Duty::Sent { by } => (now >= by).then_some(Woken::Done),
            Duty::Done => Some(Woken::Done),
        }
    }

    fn duty_ends(&self) -> Option<Millis> {
        match self.duty {
            Duty::Awake { by } | Duty::Sent { by } => Some(by),
            Duty::None | Duty::Done => None,
        }
    }

    /// Says what was counted since the start.
    pub fn tell_counters(&mut self) {
        let now = self.clock.now();
        let busy = self.clock.busy();
        let (untouched, stack) = machine::untouched();
        console::line(&[
            "stat ms=",
            Number::new(now).as_str(),
            " busy=",
            Number::new(busy).as_str(),
            " wakes=",
            Number::new(u64::from(self.wakes)).as_str(),
            " readings=",
            Number::new(u64::from(self.sent)).as_str(),
            " untouched=",
            Number::new(untouched as u64).as_str(),
            " stack=",
            Number::new(stack as u64).as_str(),
        ]);
        self.clock.leave_out(busy);
    }

    fn sleep(&mut self, until: Option<Millis>, listen: bool) -> Woken {
        loop {
            let now = self.clock.now();
            if self.typed.poll() {
                return Woken::Typed;
            }
            if let Some(press) = self.button.poll(now) {
                return Woken::Pressed(press);
            }
            if self.net.is_readable(now) && listen {
                return Woken::Readable;
            }
            if self.every > 0 && now >= self.next_reading {
                if self.left > 0 {
                    return Woken::Reading;
                }
                self.every = 0;
                self.tell_counters();
            }
            if let Some(woken) = self.on_duty(now) {
                return woken;
            }
            if until.is_some_and(|until| now >= until) {
                return Woken::Time;
            }
            let reading = (self.every > 0).then_some(self.next_reading);
            let wake = [until, reading, self.net.deadline(now), self.button.deadline(), self.duty_ends()];
            let wake = wake.into_iter().flatten().min();
            self.clock.sleep(wake);
            self.wakes = self.wakes.wrapping_add(1);
        }
    }

    fn take_reading(&mut self) -> Event<'_> {
        // Later readings do not try to catch up.
        self.next_reading = (self.next_reading + self.every).max(self.clock.now());
        self.readings = self.readings.wrapping_add(1);
        self.left = self.left.saturating_sub(1);
        self.reading[3] = b'0' + (self.readings % 10) as u8;
        self.sent = self.sent.wrapping_add(1);
        Event::Input(Input::Publish {
            channel: READING,
            payload: &self.reading,
            retain: false,
            at_least_once: matches!(self.duty, Duty::Sent { .. }),
        })
    }

    /// Does what was typed, if it concerns the board alone; true if it did.
    fn obey(&mut self) -> bool {
        let now = self.clock.now();
        let line = self.typed.line();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = rest.parse().unwrap_or(0);
        match word {
            "down" | "up" => self.button.set(word == "down", now),
            "clock" => {
                self.clock.put_forward(number);
                console::line(&["clock"]);
            }
            "every" => {
                let (ms, count) = rest.split_once(' ').unwrap_or((rest, ""));
                let (ms, count) = (ms.parse().unwrap_or(0), count.parse().ok());
                self.read_every(ms, count);
            }
            "stat" => self.tell_counters(),
            _ => return false,
        }
        self.typed.clear();
        true
    }

    /// What was typed, as an input of the device.
    fn input(&mut self) -> Event<'_> {
        let line = self.typed.take();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (channel, payload) = rest.split_once(' ').unwrap_or((rest, ""));
        Event::Input(match word {
            "publish" | "keep" => Input::Publish {
                channel,
                payload: payload.as_bytes(),
                retain: true,
                at_least_once: word == "keep",
            },
            "report" => Input::Report(rest.as_bytes()),
            "stop" => Input::Stop,
            _ => {
                console::line(&["what"]);
                return Event::Time;
            }
        })
    }
}

fn fill(random: Option<&File>, out: &mut [u8]) {
    // Without randomness there is no security: better no device at all.
    if random.and_then(|file| file.read_on(out)) != Some(out.len()) {
        console::line(&["no random numbers"]);
        machine::exit(136);
    }
}

impl Board for Emulated {
    fn now(&mut self) -> Millis {
        self.clock.now()
    }

    fn random(&mut self, out: &mut [u8]) {
        fill(self.random.as_ref(), out);
    }

    fn dial(&mut self, _host: &str, port: u16, by: Millis) -> Result<(), Lost> {
        self.net.dial(&mut self.clock, port, by)
    }

    fn is_readable(&mut self) -> bool {
        let now = self.clock.now();
        self.net.is_readable(now)
    }

    fn read(&mut self, out: &mut [u8], by: Millis) -> Result<usize, Lost> {
        self.net.read(&mut self.clock, out, by)
    }

    fn write(&mut self, bytes: &[u8], by: Millis) -> Result<usize, Lost> {
        self.net.write(&mut self.clock, bytes, by)
    }

    fn hang_up(&mut self) {
        self.net.hang_up(&mut self.clock);
    }

    fn wait(&mut self, until: Option<Millis>, listen: bool) -> Event<'_> {
        match self.sleep(until, listen) {
            Woken::Time => Event::Time,
            Woken::Readable => Event::Readable,
            Woken::Pressed(Press::Short) => Event::Input(Input::Press),
            Woken::Pressed(Press::Long) => Event::Input(Input::LongPress),
            Woken::Reading => self.take_reading(),
            Woken::Done => Event::Input(Input::Stop),
            Woken::Typed if self.obey() => Event::Time,
            Woken::Typed => self.input(),
        }
    }

    fn store(&mut self, record: &Record) -> bool {
        let stored = self.slots.save(record).is_ok();
        console::line(&[if stored { "stored" } else { "not-stored" }]);
        stored
    }

    fn command(&mut self, channel: &str, payload: &[u8]) {
        let text = core::str::from_utf8(payload).unwrap_or("?");
        console::line(&["command ", channel, " ", text]);
        if channel == "heater" && matches!(text, "true" | "false") {
            self.pin = text == "true";
            console::line(&["pin ", if self.pin { "on" } else { "off" }]);
        }
    }

    fn delta(&mut self, patch: &[u8]) {
        console::line(&["delta ", core::str::from_utf8(patch).unwrap_or("?")]);
    }

    fn show(&mut self, status: &Status) {
        self.running = status.phase == Phase::Running;
        let code = status.user_code.as_ref().map_or("-", |code| code.as_str());
        console::line(&["phase ", phase(status.phase), " ", status.notice.map_or("-", notice), " ", code]);
    }

    fn delivered(&mut self) {
        if matches!(self.duty, Duty::Sent { .. }) {
            self.duty = Duty::Done;
        }
        console::line(&["delivered"]);
    }

    fn refused(&mut self, why: PublishError) {
        console::line(&[
            "refused ",
            match why {
                PublishError::NotConnected => "not-connected",
                PublishError::Busy => "busy",
                PublishError::Channel => "channel",
                PublishError::TooLong => "too-long",
            },
        ]);
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Searching => "searching",
        Phase::Ready => "ready",
        Phase::Claimable => "claimable",
        Phase::Settling => "settling",
        Phase::Joining => "joining",
        Phase::Renewing => "renewing",
        Phase::Running => "running",
        Phase::Resetting => "resetting",
    }
}

fn notice(notice: Notice) -> &'static str {
    match notice {
        Notice::Unreachable => "unreachable",
        Notice::Untrusted => "untrusted",
        Notice::CredentialsRefused => "credentials-refused",
        Notice::Declined => "declined",
        Notice::WindowOver => "window-over",
        Notice::ClaimFailed => "claim-failed",
        Notice::Released => "released",
        Notice::StorageFailed => "storage-failed",
    }
}
