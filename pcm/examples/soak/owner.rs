//! The broker's process and the gateway's control of it.

use pcm_wire::{Answer, Claim, Grant, Grants, Preamble, Reply, Request, Stats, Verb};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(crate) struct Owner {
    child: Child,
    pub(crate) socket: PathBuf,
    control: BufReader<UnixStream>,
    asked: u64,
    _directory: tempfile::TempDir,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Owner {
    /// A claimed broker with a state directory, in its sandbox.
    pub(crate) fn start(program: &Path) -> Owner {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("s");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let uid = rustix::process::getuid().as_raw().to_string();
        let child = Command::new(program)
            .args(["--listen-fd", "0", "--peer-uid", &uid, "--sandbox", "--state-dir"])
            .arg(directory.path())
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stderr(Stdio::null())
            .spawn()
            .expect("a pcm program");
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        stream.write_all(&Preamble::Control {}.to_bytes()).expect("it reads");
        let control = BufReader::new(stream);
        let mut owner = Owner { child, socket, control, asked: 0, _directory: directory };
        owner.ask(Verb::Claim(Claim { name: "pcm-soak".into(), key: "A".repeat(43) }));
        owner
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    fn ask(&mut self, verb: Verb) -> Answer {
        self.asked += 1;
        let mut line = serde_json::to_vec(&Request { id: self.asked, verb }).expect("JSON");
        line.push(b'\n');
        self.control.get_mut().write_all(&line).expect("it runs");
        let mut answer = String::new();
        self.control.read_line(&mut answer).expect("it runs");
        match serde_json::from_str::<Reply>(&answer).expect("a reply").answer {
            Answer::Error(error) => panic!("{error}"),
            answer => answer,
        }
    }

    pub(crate) fn grant(&mut self, grants: Vec<Grant>) {
        self.ask(Verb::Grants(Grants { rev: self.asked as i64, grants }));
    }

    pub(crate) fn stats(&mut self) -> Stats {
        match self.ask(Verb::Stats {}) {
            Answer::Stats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }
}
