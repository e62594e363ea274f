//! What only the C library offers: a descriptor by number, and signals as a descriptor.
#![allow(unsafe_code, reason = "taking over a numbered descriptor and signalfd have no safe interface")]

use rustix::net::{AddressFamily, SocketType, sockopt};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

/// Takes over a Unix stream listener that the parent process opened.
///
/// # Errors
/// If the number is no such listener.
pub(crate) fn listener(descriptor: i32) -> io::Result<UnixListener> {
    // SAFETY: asking for flags does no more than say whether the number is an open descriptor.
    if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, the parent opened it for us, and this is the only place that takes it over, once.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let right = sockopt::socket_acceptconn(&owned)?
        && sockopt::socket_domain(&owned)? == AddressFamily::UNIX
        && sockopt::socket_type(&owned)? == SocketType::STREAM;
    if right { Ok(owned.into()) } else { Err(io::Error::other("not a Unix stream listener")) }
}

/// A descriptor that is readable once SIGTERM or SIGINT has come; they do nothing else any more.
///
/// # Errors
/// The kernel's.
pub(crate) fn stop_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use, all pointers are to that local, and the result of
    // signalfd, once checked, is a new descriptor that nobody else owns.
    unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, libc::SIGTERM);
        libc::sigaddset(&mut signals, libc::SIGINT);
        if libc::sigprocmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &signals, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) {
            descriptor if descriptor < 0 => Err(io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}
