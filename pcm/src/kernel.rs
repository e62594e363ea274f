//! What only the C library offers: a descriptor by number, signals as a descriptor, a peer's user id.
#![allow(unsafe_code, reason = "none of these has a safe interface that fits")]

use rustix::net::{AddressFamily, SocketType, sockopt};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
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

/// The user id of the process at the other end of a Unix socket, when it connected (`SO_PEERCRED`).
///
/// `rustix::net::sockopt::socket_peercred` fails for a peer in another process namespace, whose process id is 0 here,
/// and that is where a gateway in its own container is.
///
/// # Errors
/// The kernel's.
pub(crate) fn peer_uid(socket: &impl AsRawFd) -> io::Result<u32> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the pointers are to locals, and `length` is the size of what the first one points to.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(credentials.uid) }
}

/// Never takes the processor from whoever wakes this process (`SCHED_BATCH`, sched(7)). Otherwise a gateway with messages for
/// many owners is interrupted after each, and what it and they could do at once costs a switch each.
///
/// # Errors
/// The kernel's, which takes this from anybody; a system call filter may not.
pub(crate) fn wait_for_the_processor() -> io::Result<()> {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to that local.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives memory that starting up has used and freed back to the system.
pub(crate) fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it only looks after the allocator's own free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A write that makes a file longer than the process may have them fails, instead of ending the process.
///
/// # Errors
/// The kernel's.
pub(crate) fn survive_long_files() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler and touches no memory.
    if unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
