//! One empty network, with message queues of its own, that all PCMs of the `process` runtime are put into.
//!
//! A namespace each would cost more than the PCM. Whoever may make one (root in most places) leaves the host's network with the
//! thread that starts PCMs, whose children inherit it. Who may not may still make one within a user namespace, where the
//! system allows that; it belongs to a process that has ended by the time it is used, and each child joins it.

use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::path::Path;

/// What has been made for PCMs.
#[derive(Debug)]
pub(super) enum Network {
    /// The calling thread is in it, and its children will be.
    Left,
    /// Children join it: user namespace first, then the others.
    Joined(Vec<(OwnedFd, libc::c_int)>),
    /// Nothing: PCMs see the host's.
    Host(io::Error),
}

const WANTED: libc::c_int = libc::CLONE_NEWNET | libc::CLONE_NEWIPC;

impl Network {
    /// Takes the calling thread out of the host's network if it may, else makes another one; that is only possible if PCMs
    /// serve the launcher's own user, for a user namespace knows no other.
    pub(super) fn make(for_own_user: bool) -> Self {
        let another = |error| if for_own_user { make_as_anybody() } else { Err(error) };
        match leave().map_err(another) {
            Ok(()) => Self::Left,
            Err(Ok(namespaces)) => Self::Joined(namespaces),
            Err(Err(error)) => Self::Host(error),
        }
    }

    /// What a child has to call `setns` with, in this order.
    pub(super) fn to_join(&self) -> Vec<(RawFd, libc::c_int)> {
        match self {
            Self::Joined(all) => all.iter().map(|(file, kind)| (file.as_raw_fd(), *kind)).collect(),
            Self::Left | Self::Host(_) => Vec::new(),
        }
    }
}

#[allow(unsafe_code)]
fn leave() -> io::Result<()> {
    // SAFETY: neither flag changes what memory or descriptors the thread shares with others.
    check(unsafe { libc::unshare(WANTED) })
}

/// In a process of its own, because only one with a single thread may make a user namespace.
#[allow(unsafe_code)]
fn make_as_anybody() -> io::Result<Vec<(OwnedFd, libc::c_int)>> {
    let (mut made, tell) = io::pipe()?;
    let (stay, stay_open) = io::pipe()?;
    let (tell_fd, stay_fd, stay_open_fd) = (tell.as_raw_fd(), stay.as_raw_fd(), stay_open.as_raw_fd());
    // SAFETY: the child makes system calls only, on numbers and on bytes of its own stack, and ends.
    let child = unsafe {
        match libc::fork() {
            0 => {
                libc::close(stay_open_fd);
                let made = u8::from(libc::unshare(libc::CLONE_NEWUSER | WANTED) == 0);
                libc::write(tell_fd, (&raw const made).cast(), 1);
                let mut byte = 0_u8;
                libc::read(stay_fd, (&raw mut byte).cast(), 1);
                libc::_exit(0)
            }
            child => child,
        }
    };
    check(child)?;
    drop((tell, stay));
    let outcome = (|| {
        let mut byte = [0];
        made.read_exact(&mut byte)?;
        if byte != [1] {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let process = format!("/proc/{child}");
        // Without this the PCM would take its gateway's user for nobody.
        let user = rustix::process::getuid().as_raw();
        std::fs::write(Path::new(&process).join("uid_map"), format!("{user} {user} 1"))?;
        let open =
            |name: &str| std::fs::File::open(Path::new(&process).join("ns").join(name)).map(OwnedFd::from);
        Ok(vec![
            (open("user")?, libc::CLONE_NEWUSER),
            (open("net")?, libc::CLONE_NEWNET),
            (open("ipc")?, libc::CLONE_NEWIPC),
        ])
    })();
    drop(stay_open);
    // SAFETY: it is our child, and nobody else waits for it.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    outcome
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
