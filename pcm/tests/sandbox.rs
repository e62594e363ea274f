//! Every call that the sandbox is there to deny, tried behind it. A filter belongs to a thread: each test locks one in.
#![allow(unsafe_code, reason = "the calls are made as such, not by way of a library that may not make them")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// Tries calls in a thread that is locked in, as with a state directory; the numbers are the calls' error numbers, 0 for
/// success.
fn locked_in<T: Send + 'static>(try_calls: impl FnOnce() -> T + Send + 'static) -> T {
    locked_in_with(true, try_calls)
}

fn locked_in_with<T: Send + 'static>(files: bool, try_calls: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        pcm::sandbox::install(files).expect("a sandbox");
        try_calls()
    });
    thread.join().expect("the thread lives")
}

fn error_number(call: libc::c_long, arguments: [libc::c_long; 6]) -> i32 {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the calls below either fail at once in the filter or, without it, get arguments that make them fail or
    // do nothing to this process's memory.
    let result = unsafe { libc::syscall(call, a, b, c, d, e, f) };
    if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 }
}

#[test]
fn everything_but_serving_is_denied() {
    let path = c"/etc/hostname".as_ptr() as libc::c_long;
    let own = libc::c_long::from(std::process::id());
    let unix = libc::c_long::from(libc::AF_UNIX);
    let inet = libc::c_long::from(libc::AF_INET);
    let stream = libc::c_long::from(libc::SOCK_STREAM);
    let here = libc::c_long::from(libc::AT_FDCWD);
    let anonymous = libc::c_long::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let executable = libc::c_long::from(libc::PROT_READ | libc::PROT_EXEC);
    let calls: Vec<(&str, libc::c_long, [libc::c_long; 6])> = vec![
        ("socket (Unix)", libc::SYS_socket, [unix, stream, 0, 0, 0, 0]),
        ("socket (Internet)", libc::SYS_socket, [inet, stream, 0, 0, 0, 0]),
        ("socketpair", libc::SYS_socketpair, [unix, stream, 0, 0, 0, 0]),
        ("connect", libc::SYS_connect, [0; 6]),
        ("bind", libc::SYS_bind, [0; 6]),
        ("listen", libc::SYS_listen, [0; 6]),
        ("open", libc::SYS_open, [path, 0, 0, 0, 0, 0]),
        ("openat", libc::SYS_openat, [here, path, 0, 0, 0, 0]),
        ("openat2", libc::SYS_openat2, [here, path, 0, 0, 0, 0]),
        ("creat", libc::SYS_creat, [path, 0, 0, 0, 0, 0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [0; 6]),
        ("ptrace", libc::SYS_ptrace, [0, own, 0, 0, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [own, 0, 0, 0, 0, 0]),
        ("process_vm_writev", libc::SYS_process_vm_writev, [own, 0, 0, 0, 0, 0]),
        ("kill", libc::SYS_kill, [own, 0, 0, 0, 0, 0]),
        ("tkill", libc::SYS_tkill, [own, 0, 0, 0, 0, 0]),
        ("tgkill", libc::SYS_tgkill, [own, own, 0, 0, 0, 0]),
        ("pidfd_open", libc::SYS_pidfd_open, [own, 0, 0, 0, 0, 0]),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal, [0; 6]),
        ("execve", libc::SYS_execve, [path, 0, 0, 0, 0, 0]),
        ("execveat", libc::SYS_execveat, [here, path, 0, 0, 0, 0]),
        ("fork", libc::SYS_fork, [0; 6]),
        ("vfork", libc::SYS_vfork, [0; 6]),
        ("clone3", libc::SYS_clone3, [0; 6]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0]),
        ("mount", libc::SYS_mount, [0; 6]),
        ("unlink", libc::SYS_unlink, [path, 0, 0, 0, 0, 0]),
        ("prctl", libc::SYS_prctl, [libc::c_long::from(libc::PR_GET_DUMPABLE), 0, 0, 0, 0, 0]),
        ("seccomp", libc::SYS_seccomp, [0; 6]),
        ("sendmsg", libc::SYS_sendmsg, [0; 6]),
        ("recvmsg", libc::SYS_recvmsg, [0; 6]),
        ("mmap executable", libc::SYS_mmap, [0, 4096, executable, anonymous, -1, 0]),
        ("mprotect executable", libc::SYS_mprotect, [0, 4096, executable, 0, 0, 0]),
        ("ioctl (terminal)", libc::SYS_ioctl, [0, libc::TIOCSTI as libc::c_long, 0, 0, 0, 0]),
        ("fcntl (duplicate)", libc::SYS_fcntl, [0, libc::c_long::from(libc::F_DUPFD), 0, 0, 0, 0]),
    ];
    let results = locked_in(move || {
        calls
            .iter()
            .map(|(name, call, arguments)| (*name, error_number(*call, *arguments)))
            .collect::<Vec<_>>()
    });
    let open: Vec<_> = results.iter().filter(|(_, error)| *error != libc::EPERM).collect();
    assert!(open.is_empty(), "not denied: {open:?}");
}

#[test]
fn serving_still_works() {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(b"ping").unwrap();
    let answer = locked_in(move || {
        let mut buffer = vec![0; 4];
        ours.set_nonblocking(true).unwrap();
        ours.read_exact(&mut buffer).unwrap();
        let large: Vec<u8> = vec![1; 32 << 20];
        ours.write_all(b"pong").unwrap();
        (buffer, large.iter().map(|byte| usize::from(*byte)).sum::<usize>())
    });
    assert_eq!(answer, (b"ping".to_vec(), 32 << 20));
    let mut buffer = [0; 4];
    theirs.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"pong");
}

#[test]
fn open_files_are_for_a_journal_only() {
    let calls =
        [libc::SYS_pread64, libc::SYS_pwrite64, libc::SYS_ftruncate, libc::SYS_fdatasync, libc::SYS_lseek];
    let tried = move || calls.map(|call| error_number(call, [-1, 0, 0, 0, 0, 0]));
    assert_eq!(locked_in_with(false, tried), [libc::EPERM; 5]);
    assert!(locked_in_with(true, tried).iter().all(|error| *error == libc::EBADF || *error == libc::EINVAL));
    let file = tempfile::tempfile().unwrap();
    let length = locked_in(move || {
        use journal::Storage;
        file.write(b"journal", 3).unwrap();
        file.cut(5).unwrap();
        file.sync().unwrap();
        let mut read = [0; 2];
        file.read(&mut read, 3).unwrap();
        (file.length().unwrap(), read)
    });
    assert_eq!(length, (5, *b"jo"));
}

#[test]
fn it_cannot_be_undone() {
    let again = locked_in(|| pcm::sandbox::install(true).is_err());
    assert!(again, "a locked-in thread cannot even install another filter");
}

#[test]
fn waiting_for_an_identity_takes_little_more_and_ends() {
    let here = libc::c_long::from(libc::AT_FDCWD);
    let path = c"/etc/hostname".as_ptr() as libc::c_long;
    let unix = libc::c_long::from(libc::AF_UNIX);
    let stream = libc::c_long::from(libc::SOCK_STREAM);
    let dumpable = libc::c_long::from(libc::PR_SET_DUMPABLE);
    let denied = [
        (libc::SYS_socket, [unix, stream, 0, 0, 0, 0]),
        (libc::SYS_connect, [0; 6]),
        (libc::SYS_openat, [here, path, 0, 0, 0, 0]),
        (libc::SYS_execve, [path, 0, 0, 0, 0, 0]),
        (libc::SYS_clone3, [0; 6]),
        (libc::SYS_ptrace, [0; 6]),
        (libc::SYS_kill, [1, 0, 0, 0, 0, 0]),
        (libc::SYS_sendmsg, [0; 6]),
        (libc::SYS_prctl, [dumpable, 1, 0, 0, 0, 0]),
    ];
    let thread = std::thread::spawn(move || {
        pcm::sandbox::install_waiting().expect("the first lock");
        let first = denied.map(|(call, arguments)| error_number(call, arguments));
        let waits = error_number(libc::SYS_recvmsg, [-1, 0, 0, 0, 0, 0]);
        pcm::sandbox::install(true).expect("the second");
        let then = error_number(libc::SYS_recvmsg, [-1, 0, 0, 0, 0, 0]);
        (first, waits, then, pcm::sandbox::install(true).is_err())
    });
    let (first, waits, then, is_final) = thread.join().expect("the thread lives");
    assert_eq!(first, [libc::EPERM; 9]);
    assert_eq!((waits, then), (libc::EBADF, libc::EPERM), "files are handed over once");
    assert!(is_final);
}
