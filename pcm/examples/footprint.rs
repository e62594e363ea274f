//! What a personal broker costs in memory: forty of them, as a gateway starts them, and one plain broker with a thousand
//! idle connections. See `docs/performance.md`.
//!
//! `footprint PATH`, with the path of a `pcm` program; reads `smaps_rollup` of processes that are not dumpable, so it
//! has to run as root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on has nothing to tell"
)]

#[path = "load/mod.rs"]
#[allow(dead_code, reason = "only the broker's process is wanted")]
mod load;

use load::broker::Running;
use mqtt_wire::{Connect, Filters, Packet, Properties, Publish, QoS, Subscribe, Subscription, Version};
use pcm_wire::{Grant, Grants, Preamble, Request, Rule, Verb, View};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PROCESSES: usize = 40;
const CONNECTIONS: usize = 1_000;

/// A personal broker with its gateway's connections to it.
struct Personal {
    child: Child,
    directory: tempfile::TempDir,
    connections: Vec<UnixStream>,
}

impl Drop for Personal {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Personal {
    fn start(path: &str) -> Personal {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let uid = rustix::process::getuid().as_raw().to_string();
        let child = Command::new(path)
            .args(["--listen-fd", "0", "--peer-uid", &uid, "--sandbox"])
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stderr(Stdio::null())
            .spawn()
            .expect("a pcm program");
        let mut personal = Personal { child, directory, connections: Vec::new() };
        // Closed at once for want of a preamble: it serves.
        let mut probe = personal.connect();
        probe.write_all(b"x").unwrap();
        assert_eq!(probe.read(&mut [0; 8]).unwrap_or(0), 0);
        personal
    }

    fn connect(&mut self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("s")).unwrap()
    }

    /// A control connection gives the grants of one device and one app.
    fn claim(&mut self) {
        let rule = Rule {
            label: "thermostat0".into(),
            read: vec!["temperature".into()],
            command: vec!["heater".into()],
            view: View::Raw,
            views: BTreeMap::new(),
        };
        let grants = vec![
            Grant::Device { sid: "device".into(), label: "thermostat0".into() },
            Grant::App { sid: "app".into(), rules: vec![rule], key: None },
        ];
        let mut control = self.connect();
        control.write_all(&Preamble::Control {}.to_bytes()).unwrap();
        let request = Request { id: 1, verb: Verb::Grants(Grants { rev: 1, grants }) };
        let mut line = serde_json::to_vec(&request).unwrap();
        line.push(b'\n');
        control.write_all(&line).unwrap();
        expect(&mut control);
        self.connections.push(control);
    }

    /// A device and an app that have exchanged a reading.
    fn exchange(&mut self) {
        let [mut device, mut app] = ["device", "app"].map(|sid| {
            let mut stream = self.connect();
            let preamble = Preamble::Session { sid: sid.into(), client: sid.into() };
            stream.write_all(&preamble.to_bytes()).unwrap();
            send(&mut stream, &connect(sid));
            expect(&mut stream);
            stream
        });
        let list = [Subscription::new("d/#", QoS::AtLeastOnce)];
        let subscribe =
            Subscribe { packet_id: 1, properties: Properties::EMPTY, filters: Filters::list(&list) };
        send(&mut app, &Packet::Subscribe(subscribe));
        expect(&mut app);
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: "d/thermostat0/temperature",
            packet_id: None,
            properties: Properties::EMPTY,
            payload: b"20.5",
        };
        send(&mut device, &Packet::Publish(publish));
        expect(&mut app);
        self.connections.extend([device, app]);
    }
}

fn connect(name: &str) -> Packet<'_> {
    Packet::Connect(Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 60,
        properties: Properties::EMPTY,
        client_id: name,
        will: None,
        username: None,
        password: None,
    })
}

fn send(stream: &mut impl Write, packet: &Packet<'_>) {
    stream.write_all(&packet.to_vec(Version::V5)).unwrap();
}

fn expect(stream: &mut impl Read) {
    assert!(stream.read(&mut [0; 4_096]).unwrap() > 0, "an answer");
}

/// A line of `smaps_rollup`, in bytes.
fn memory(process: u32, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("as root");
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

fn mean(personals: &[Personal], name: &str) -> f64 {
    personals.iter().map(|one| memory(one.child.id(), name)).sum::<u64>() as f64 / PROCESSES as f64 / 1_024.0
}

fn main() {
    let path = std::env::args().nth(1).expect("the path of a pcm program");
    println!("{path}: {} bytes", std::fs::metadata(Path::new(&path)).unwrap().len());
    println!("mean over {PROCESSES} processes, kB as the kernel counts them    PSS   private dirty");
    let mut personals: Vec<Personal> = (0..PROCESSES).map(|_| Personal::start(&path)).collect();
    let report = |state: &str, personals: &[Personal]| {
        println!("{state:<32} {:>6.1} {:>15.1}", mean(personals, "Pss:"), mean(personals, "Private_Dirty:"));
    };
    report("started", &personals);
    personals.iter_mut().for_each(Personal::claim);
    report("with grants", &personals);
    personals.iter_mut().for_each(Personal::exchange);
    report("with two clients", &personals);
    drop(personals);

    let plain = Running::pcm(&path).unwrap();
    let before = memory(plain.process(), "Rss:");
    let clients: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|at| {
            let mut stream = TcpStream::connect(plain.address).unwrap();
            send(&mut stream, &connect(&format!("client-{at}")));
            expect(&mut stream);
            stream
        })
        .collect();
    let after = memory(plain.process(), "Rss:");
    println!("an idle connection of {CONNECTIONS}: {} bytes", (after - before) / clients.len() as u64);
}
