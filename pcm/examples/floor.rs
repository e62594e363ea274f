//! What one process for each owner costs a message whatever it does: `floor [--owners 400] [--seconds 5]`, see `docs/performance.md`.
//!
//! Each owner has a process that copies what comes on one Unix socket to another and does nothing else of a broker's work; one
//! thread keeps one message of 120 bytes under way for each, as the closed loop of `ignite/examples/relay.rs` does through gateway and
//! PCMs. No broker of an owner's own can be cheaper than that process, and no gateway before it than that thread.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has nothing to tell")]
#![allow(unsafe_code, reason = "a scheduling class, as the PCM takes it")]

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

const MESSAGE: [u8; 120] = [b'.'; 120];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "copy") {
        return copy();
    }
    let number = |name: &str, usual: u64| {
        let at = words.iter().position(|word| word == name);
        at.map_or(usual, |at| words.get(at + 1).unwrap().parse().unwrap())
    };
    measure(number("--owners", 400), Duration::from_secs(number("--seconds", 5)));
}

/// An owner's process: its standard input and output are its sockets.
fn copy() {
    // SAFETY: the structure is plain numbers, and the pointer is to a local.
    unsafe {
        let parameters: libc::sched_param = std::mem::zeroed();
        assert_eq!(libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters), 0);
    }
    // SAFETY: both are open, and nothing else in this process uses them.
    let (mut input, mut output) = unsafe { (File::from_raw_fd(0), File::from_raw_fd(1)) };
    let mut poll = Poll::new().unwrap();
    poll.registry().register(&mut SourceFd(&input.as_raw_fd()), Token(0), Interest::READABLE).unwrap();
    let mut events = Events::with_capacity(8);
    let mut buffer = [0; 4096];
    loop {
        poll.poll(&mut events, None).unwrap();
        match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => output.write_all(&buffer[..length]).unwrap(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

fn measure(owners: u64, time: Duration) {
    let own = std::env::current_exe().unwrap();
    let mut poll = Poll::new().unwrap();
    let mut all = Vec::new();
    for number in 0..owners {
        let (there, its_input) = UnixStream::pair().unwrap();
        let (back, its_output) = UnixStream::pair().unwrap();
        its_input.set_nonblocking(true).unwrap();
        back.set_nonblocking(true).unwrap();
        let child = Command::new(&own)
            .arg("copy")
            .stdin(Stdio::from(OwnedFd::from(its_input)))
            .stdout(Stdio::from(OwnedFd::from(its_output)))
            .spawn()
            .unwrap();
        let token = Token(usize::try_from(number).unwrap());
        poll.registry().register(&mut SourceFd(&back.as_raw_fd()), token, Interest::READABLE).unwrap();
        all.push((there, back, child));
    }
    for (there, ..) in &mut all {
        there.write_all(&MESSAGE).unwrap();
    }
    let mut events = Events::with_capacity(256);
    let mut buffer = [0; 4096];
    let mut turn = |messages: &mut u64, all: &mut Vec<(UnixStream, UnixStream, std::process::Child)>| {
        poll.poll(&mut events, Some(Duration::from_secs(1))).unwrap();
        for event in &events {
            let (there, back, _) = &mut all[event.token().0];
            if back.read(&mut buffer).is_ok() {
                *messages += 1;
                there.write_all(&MESSAGE).unwrap();
            }
        }
    };
    let cpu = |all: &Vec<(UnixStream, UnixStream, std::process::Child)>| {
        let children: f64 = all.iter().map(|(.., child)| seconds(child.id())).sum();
        (seconds(std::process::id()), children)
    };
    let mut messages = 0;
    let warm = Instant::now();
    while warm.elapsed() < time / 4 {
        turn(&mut messages, &mut all);
    }
    let (own_before, children_before) = cpu(&all);
    messages = 0;
    let start = Instant::now();
    while start.elapsed() < time {
        turn(&mut messages, &mut all);
    }
    let took = start.elapsed().as_secs_f64();
    let (own_after, children_after) = cpu(&all);
    for (there, _, mut child) in all {
        drop(there);
        child.wait().unwrap();
    }
    #[allow(clippy::cast_precision_loss, reason = "a count of seconds' worth of messages")]
    let count = messages as f64;
    println!(
        "{owners} owners: {:.0} messages a second, {:.1} us each of the copying processes, {:.1} us of the thread before them",
        count / took,
        (children_after - children_before) / count * 1e6,
        (own_after - own_before) / count * 1e6,
    );
}

/// Processor time of a process with one thread (`/proc/PID/schedstat`, nanoseconds).
fn seconds(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}
