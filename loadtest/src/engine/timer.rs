//! A timer in the poll set with the kernel's own resolution; `epoll_wait` alone rounds up to whole milliseconds.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

const SECOND: u64 = 1_000_000_000;

pub(super) struct Timer {
    descriptor: OwnedFd,
    armed: bool,
}

impl Timer {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Timer> {
        let descriptor =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&descriptor.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Timer { descriptor, armed: false })
    }

    /// Fires once, so many nanoseconds from now; `None` disarms. Setting it again also takes back a firing that nobody saw.
    pub(super) fn set(&mut self, nanoseconds: Option<u64>) -> io::Result<()> {
        if nanoseconds.is_none() && !self.armed {
            return Ok(());
        }
        self.armed = nanoseconds.is_some();
        // Zero would disarm; what is overdue fires in a nanosecond.
        let wait = nanoseconds.map_or(0, |wait| wait.max(1));
        let spec = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(wait / SECOND).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(wait % SECOND).unwrap_or(0),
            },
        };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}
