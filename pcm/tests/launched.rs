//! A broker under a launcher: nobody's at first, then one owner's and no other's, and gone when nobody needs it.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is to do")]

mod common;

use common::control::{app, device, session};
use common::{Client, Pcm, plain_connect};
use mqtt_wire::{Packet, Version};
use pcm_wire::{Answer, Claim, Identity, Preamble, Reply, Request, Verb};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs::File;
use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAME: &str = "pcm-00112233445566778899aabbccddeeff";

struct Bench {
    pcm: Pcm,
    socket: PathBuf,
    dir: tempfile::TempDir,
}

/// A broker that waits for its identity.
fn waiting() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let uid = rustix::process::getuid().as_raw().to_string();
    let (pcm, socket) = Pcm::inherited(dir.path(), &["--launcher-uid", &uid, "--sandbox"]);
    Bench { pcm, socket, dir }
}

fn identity(name: &str) -> Verb {
    Verb::Identity(Identity { name: name.into(), file_bytes: Some(1 << 20), sync: false })
}

/// One question of the launcher, with files that come along.
fn ask(socket: &Path, verb: Verb, files: &[File]) -> Option<Answer> {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let mut bytes = Preamble::Launcher {}.to_bytes();
    bytes.extend(serde_json::to_vec(&Request { id: 7, verb }).unwrap());
    bytes.push(b'\n');
    let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&files)));
    }
    sendmsg(&stream, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::empty()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    let reply: Reply = serde_json::from_str(&line).ok()?;
    assert_eq!(reply.id, 7);
    Some(reply.answer)
}

impl Bench {
    fn ask(&self, verb: Verb) -> Option<Answer> {
        ask(&self.socket, verb, &[])
    }

    fn files(&self) -> [File; 2] {
        ["a", "b"].map(|name| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(self.dir.path().join(name)).unwrap()
        })
    }

    fn whose(&self) -> Option<String> {
        match self.ask(Verb::Whose {}) {
            Some(Answer::Whose { name }) => name,
            other => panic!("{other:?}"),
        }
    }

    fn control(&self) -> common::control::Control {
        common::control::Control::open(&self.socket)
    }
}

fn claim(name: &str) -> Verb {
    Verb::Claim(Claim { name: name.into(), key: "A".repeat(43) })
}

#[test]
fn it_is_nobodys_until_the_launcher_says_whose() {
    let bench = waiting();
    assert_eq!(bench.whose(), None);
    // The gateway is not let in, and nothing else is done.
    let mut early = UnixStream::connect(&bench.socket).unwrap();
    early.write_all(&Preamble::Control {}.to_bytes()).unwrap();
    assert_eq!(early.read(&mut [0; 16]).unwrap_or(0), 0);
    for verb in [claim(NAME), Verb::Stats {}, Verb::Drain {}, Verb::Retire {}] {
        assert!(matches!(bench.ask(verb), Some(Answer::Error(_))));
    }
    // Half a state is none.
    let [a, _] = bench.files();
    assert!(matches!(ask(&bench.socket, identity(NAME), &[a]), Some(Answer::Error(_))));
    assert_eq!(bench.whose(), None);

    assert_eq!(ask(&bench.socket, identity(NAME), &bench.files()), Some(Answer::Ok {}));
    assert_eq!(bench.whose().as_deref(), Some(NAME));
    assert_eq!(bench.ask(identity(NAME)), Some(Answer::Ok {}));
    let other = NAME.replace("ff", "00");
    assert!(matches!(bench.ask(identity(&other)), Some(Answer::Error(_))));
    assert!(matches!(bench.control().ask(claim(&other)), Answer::Error(_)));
    assert_eq!(bench.whose().as_deref(), Some(NAME));

    let mut control = bench.control();
    assert_eq!(control.ask(claim(NAME)), Answer::Ok {});
    control.grant(1, vec![device(), app(&["t"], &[])]);
    assert!(std::fs::metadata(bench.dir.path().join("a")).unwrap().len() > 0, "it keeps its state there");
}

#[test]
fn without_files_it_keeps_nothing_and_needs_no_claim() {
    let bench = waiting();
    assert_eq!(bench.ask(identity(NAME)), Some(Answer::Ok {}));
    let mut control = bench.control();
    assert!(matches!(control.ask(claim(NAME)), Answer::Error(_)));
    control.grant(1, vec![device()]);
}

#[test]
fn a_launcher_that_falls_silent_is_given_up() {
    let bench = waiting();
    let mut silent = UnixStream::connect(&bench.socket).unwrap();
    silent.write_all(b"OAP1").unwrap();
    assert_eq!(ask(&bench.socket, identity(NAME), &bench.files()), Some(Answer::Ok {}));
}

#[test]
fn a_stop_while_it_waits_is_no_failure() {
    let mut bench = waiting();
    assert_eq!(bench.whose(), None);
    assert_eq!(bench.pcm.terminate(), Some(0));
}

fn idle_ms(bench: &Bench) -> Option<u64> {
    match bench.ask(Verb::Stats {}) {
        Some(Answer::Stats(stats)) => stats.idle_ms,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_retires_when_nobody_needs_it() {
    let mut bench = waiting();
    assert_eq!(ask(&bench.socket, identity(NAME), &bench.files()), Some(Answer::Ok {}));
    let mut control = bench.control();
    assert_eq!(control.ask(claim(NAME)), Answer::Ok {});
    control.grant(1, vec![device()]);
    let mut client = session(&bench.socket, "dev");
    client.send(&Packet::Connect(plain_connect("dev", Version::V5)));
    assert!(client.receive().is_some());
    assert_eq!(idle_ms(&bench), None, "somebody is connected, traffic or not");
    assert_eq!(bench.ask(Verb::Retire {}), Some(Answer::Busy {}));
    client.send(&Packet::Disconnect(mqtt_wire::Disconnect::new(mqtt_wire::ReasonCode::SUCCESS)));
    drop(client);
    let deadline = std::time::Instant::now() + common::PATIENCE;
    while idle_ms(&bench).is_none() {
        assert!(std::time::Instant::now() < deadline, "the client has gone");
        std::thread::sleep(Duration::from_millis(2));
    }
    // Who has only connected so far may be about to say what for.
    let comer = Client::unix(&bench.socket);
    assert_eq!(bench.ask(Verb::Retire {}), Some(Answer::Busy {}));
    drop(comer);
    while bench.ask(Verb::Retire {}) != Some(Answer::Ok {}) {
        assert!(std::time::Instant::now() < deadline, "it retires");
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(control);
    assert_eq!(bench.pcm.exit_code(), Some(0));
}
