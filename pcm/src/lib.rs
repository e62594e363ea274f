//! The personal cloud middleware: one owner's private MQTT broker, as a process without a network.
//!
//! [`mqtt_broker`] does the work. Here is the shell around it: command line, listeners, who may connect ([`door`]),
//! the way out (SIGTERM or a control message), and the sandbox that the process runtime insists on ([`sandbox`]).
//! Grants live no longer than somebody can end them: five minutes after its last control connection ended, unless
//! grants came by a new one, a personal broker forgets them and everything it keeps, wills unpublished.
//! With a state directory ([`state`]) what must not be lost is on disk before it is acknowledged, readable with a key that
//! the gateway hands over and the process keeps in memory only.
//! Under a launcher it is started before it is anybody's, and waits to be told whose it is (`identity`).
//! No configuration file, no `/etc`, no `/proc`: it runs from an empty image.

pub mod args;
pub mod door;
mod identity;
mod kernel;
mod log;
pub mod sandbox;
pub mod state;

use args::{Listen, Options, StateOptions};
use door::PreambleDoor;
use identity::Told;
use mqtt_broker::net::{Door, Plain, Server};
use mqtt_broker::{Broker, Limits, Policy};
use state::State;
use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;

/// What the `pcm` binary does, for programs that carry it along. `args` begin with the program's name.
///
/// Exit code 0 after draining, 1 when something failed, 2 for a wrong command line.
pub fn main_with_args(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args.skip(1).peekable();
    if args.peek().is_some_and(|argument| argument == "--version") {
        log::line(format_args!("{}", env!("CARGO_PKG_VERSION")));
        return ExitCode::SUCCESS;
    }
    let options = match args::parse(args) {
        Ok(options) => options,
        Err(error) => {
            log::line(format_args!("{error}\n{}", args::USAGE));
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => {
            log::line(format_args!("stopped"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            log::line(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Listens, locks itself in, serves, drains.
///
/// # Errors
/// A listener that cannot be had, a sandbox that cannot be installed, or a failing poll.
fn run(options: &Options) -> io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    let stop = kernel::stop_signals()?;
    let (listener, peer_uid) = match &options.listen {
        Listen::Plain(address) => return serve(&mut *plain(options, *address)?, stop),
        Listen::Directory(directory, peer_uid) => (door::bind(directory)?, *peer_uid),
        Listen::Descriptor(descriptor, peer_uid) => (kernel::listener(*descriptor)?, *peer_uid),
    };
    let Some(door) = personal(options, &listener, peer_uid, &stop)? else { return Ok(()) };
    let (waits_for, with_files) =
        if door.keeps_state() { ("a claim and grants", true) } else { ("grants", false) };
    let mut server = boxed(*door)?;
    server.listen_unix(listener)?;
    lock_in(options, with_files)?;
    log::line(format_args!("listening, waiting for {waits_for}"));
    serve(&mut *server, stop)
}

/// A plain broker, listening and locked in.
///
/// Not inlined, like [`personal`] and [`boxed`]: what starting up needs of the stack is not to lie below the loop for good,
/// three pages of every owner's.
#[inline(never)]
fn plain(options: &Options, address: SocketAddr) -> io::Result<Box<Server<Plain>>> {
    let listener = TcpListener::bind(address)?;
    let bound = listener.local_addr()?;
    let mut server = Box::new(Server::new(Broker::new(Limits::PLAIN, Policy::Open, seed()), Plain)?);
    server.listen_tcp(listener)?;
    lock_in(options, false)?;
    writeln!(io::stdout(), "{bound}")?;
    log::line(format_args!("plain broker, anonymous, listening"));
    Ok(server)
}

/// What knows whom to let in, with the files; `None` if the process was stopped before it was anybody's.
#[inline(never)]
fn personal(
    options: &Options,
    listener: &UnixListener,
    peer_uid: u32,
    stop: &OwnedFd,
) -> io::Result<Option<Box<PreambleDoor>>> {
    kernel::survive_long_files()?;
    kernel::wait_for_the_processor()?;
    let mut state = None;
    if let Some(StateOptions { directory, sync }) = &options.state {
        state = Some(State::open(directory, *sync)?);
    }
    let mut door = PreambleDoor::new(peer_uid);
    if let Some(launcher_uid) = options.launcher_uid {
        if options.sandbox {
            sandbox::install_waiting().map_err(no_sandbox)?;
        }
        kernel::trim_memory();
        log::line(format_args!("listening, waiting for an identity"));
        let Some(Told { identity, files }) = identity::wait(listener, launcher_uid, stop)? else {
            return Ok(None);
        };
        let over = |files| State::over(files, identity.sync);
        state = files.map(over).map(|state| match identity.file_bytes {
            Some(bytes) => state.with_cap(bytes),
            None => state,
        });
        door = door.launched_by(launcher_uid, identity.name);
    }
    if let Some(state) = state {
        door = door.with_state(state);
    }
    Ok(Some(Box::new(door)))
}

/// The broker behind its door, without a listener.
#[inline(never)]
fn boxed(door: PreambleDoor) -> io::Result<Box<Server<PreambleDoor>>> {
    Ok(Box::new(Server::new(Broker::new(Limits::PERSONAL, Policy::Granted(None), seed()), door)?))
}

fn no_sandbox(error: seccompiler::Error) -> io::Error {
    io::Error::other(format!("no sandbox, so no start: {error}"))
}

fn serve<D: Door>(server: &mut Server<D>, stop: OwnedFd) -> io::Result<()> {
    server.stop_on(stop)?;
    kernel::trim_memory();
    server.run()
}

fn lock_in(options: &Options, with_files: bool) -> io::Result<()> {
    if options.sandbox {
        sandbox::install(with_files).map_err(no_sandbox)?;
    }
    Ok(())
}

/// The standard library's hash seed is the one source of randomness that needs neither a file nor a crate.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
