//! Clients that flood, stall, half-close or send a byte a second, against the real process: each is cut or held back by a
//! limit, two that behave are served meanwhile, and the process stays small.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is to do")]

mod common;

use common::control::{Control, app, device};
use common::{PATIENCE, Pcm, message, plain_connect};
use mqtt_wire::{Packet, Properties, Property, Publish, QoS, ReasonCode, Version, frame_len};
use pcm_wire::{Grant, Preamble, Rule, View};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A message between two that behave takes no longer, however busy the machine.
const BOUND: Duration = Duration::from_secs(2);
/// More than everything that the limits allow one grant, with room for the allocator.
const MEMORY_KB: u64 = 48 << 10;

struct Owner {
    pcm: Pcm,
    socket: PathBuf,
    _control: Control,
    _directory: tempfile::TempDir,
    thermostat: Raw,
    chart: Raw,
    sent: u32,
}

/// A connection whose every read and write returns soon.
struct Raw {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Raw {
    fn open(socket: &Path, sid: &str) -> Raw {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut raw = Raw { stream, buffer: Vec::new() };
        raw.send(&Preamble::Session { sid: sid.into(), client: sid.into() }.to_bytes());
        raw
    }

    fn client(socket: &Path, sid: &str, keep_alive: u16) -> Raw {
        let mut raw = Raw::open(socket, sid);
        let connect = mqtt_wire::Connect { keep_alive, ..plain_connect(sid, Version::V5) };
        raw.send(&Packet::Connect(connect).to_vec(Version::V5));
        assert_eq!(raw.packet().expect("a CONNACK")[0], 0x20);
        raw
    }

    /// Sends what the peer takes; false if it did not take everything, or is gone.
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    fn publish(&mut self, publish: Publish<'_>) -> bool {
        self.send(&Packet::Publish(publish).to_vec(Version::V5))
    }

    /// The next packet, or `None` at the end of the connection.
    fn packet(&mut self) -> Option<Vec<u8>> {
        let deadline = Instant::now() + PATIENCE + PATIENCE;
        let mut chunk = [0; 4096];
        loop {
            if let Some(length) = frame_len(&self.buffer, usize::MAX).unwrap()
                && self.buffer.len() >= length
            {
                return Some(self.buffer.drain(..length).collect());
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
            assert!(Instant::now() < deadline, "neither a packet nor the end");
        }
    }

    /// The reason of the DISCONNECT that comes before the end, whatever comes before that.
    fn reason(&mut self) -> Option<ReasonCode> {
        let mut reason = None;
        while let Some(frame) = self.packet() {
            if let Ok(Packet::Disconnect(disconnect)) = Packet::decode(&frame, Version::V5) {
                reason = Some(disconnect.reason);
            }
        }
        reason
    }

    /// The reason code of the acknowledgement that comes next.
    fn acknowledged(&mut self) -> ReasonCode {
        let frame = self.packet().expect("an acknowledgement");
        match Packet::decode(&frame, Version::V5) {
            Ok(Packet::PubAck(ack) | Packet::PubRec(ack)) => ack.reason,
            other => panic!("{other:?}"),
        }
    }
}

impl Owner {
    fn new() -> Owner {
        let directory = tempfile::tempdir().unwrap();
        let (pcm, socket) = Pcm::inherited(directory.path(), &["--sandbox"]);
        let mut control = Control::open(&socket);
        let rule = Rule {
            label: "G".into(),
            read: vec!["t".into()],
            command: Vec::new(),
            view: View::Raw,
            views: BTreeMap::new(),
        };
        let good = Grant::Device { sid: "good".into(), label: "G".into() };
        let watch = Grant::App { sid: "watch".into(), rules: vec![rule], key: None };
        control.grant(1, vec![device(), app(&["t"], &[]), good, watch]);
        let thermostat = Raw::client(&socket, "good", 0);
        let mut chart = Raw::client(&socket, "watch", 0);
        subscribe(&mut chart, "d/#");
        Owner { pcm, socket, _control: control, _directory: directory, thermostat, chart, sent: 0 }
    }

    /// A message between the two that behave arrives in time, and memory is bounded.
    fn is_well(&mut self) {
        self.sent += 1;
        let (payload, began) = (self.sent.to_string(), Instant::now());
        assert!(self.thermostat.publish(message("d/G/t", &payload, QoS::AtMostOnce, 0)));
        let frame = self.chart.packet().expect("the message");
        assert!(frame.ends_with(payload.as_bytes()), "{frame:02X?}");
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pcm.child.id())).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line VmRSS");
        let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes < MEMORY_KB, "{kilobytes} kB");
    }
}

/// Subscribes with QoS 1 and answers the reason code.
fn subscribe(client: &mut Raw, filter: &str) -> u8 {
    let mut body = vec![0, 1, 0];
    body.extend((filter.len() as u16).to_be_bytes());
    body.extend(filter.as_bytes());
    body.push(1);
    let mut frame = vec![0x82, body.len() as u8];
    frame.append(&mut body);
    assert!(client.send(&frame));
    *client.packet().expect("a SUBACK").last().unwrap()
}

#[test]
fn a_reader_that_stalls_and_a_flood_towards_it() {
    let mut owner = Owner::new();
    let mut stalled = Raw::client(&owner.socket, "app", 0);
    subscribe(&mut stalled, "d/L/t");
    let payload = "x".repeat(8_000);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut flood = Raw::client(&owner.socket, "dev", 0);
        for number in 1..=2_000u16 {
            // Acknowledgements are read here; the stalled one reads nothing.
            assert!(flood.publish(message("d/L/t", &payload, qos, number)));
            if qos == QoS::AtLeastOnce {
                flood.acknowledged();
            }
            if number % 500 == 0 {
                owner.is_well();
            }
        }
    }
    owner.is_well();
}

#[test]
fn who_does_not_read_acknowledgements_is_not_read_from() {
    let mut owner = Owner::new();
    let mut deaf = Raw::client(&owner.socket, "dev", 0);
    let publish = Packet::Publish(message("d/L/t", "1", QoS::AtLeastOnce, 1)).to_vec(Version::V5);
    let many = publish.repeat(1_000);
    let taken = (0..10_000).take_while(|_| deaf.send(&many)).count();
    assert!(taken < 10_000, "it went on reading");
    owner.is_well();
}

#[test]
fn subscriptions_end_at_their_limit_and_one_retained_topic_does_not_add_up() {
    let mut owner = Owner::new();
    let mut reader = Raw::client(&owner.socket, "app", 0);
    let codes: Vec<u8> = (0..120).map(|number| subscribe(&mut reader, &format!("d/L/{number}"))).collect();
    assert!(codes[..100].iter().all(|code| *code == 1) && codes[100..].iter().all(|code| *code == 0x97));
    let mut writer = Raw::client(&owner.socket, "dev", 0);
    let payload = "x".repeat(200_000);
    for number in 1..=40 {
        let kept = Publish { retain: true, ..message("d/L/t", &payload, QoS::AtLeastOnce, number) };
        assert!(writer.publish(kept));
        assert!(writer.acknowledged().is_success(), "it is replaced");
    }
    owner.is_well();
}

#[test]
fn protocol_abuse_has_the_standards_codes() {
    let mut owner = Owner::new();
    let deep = format!("d/L/{}", "a/".repeat(40));
    let aliased = [Property::TopicAlias(11)];
    let mut client = Raw::client(&owner.socket, "dev", 0);
    client.publish(message(&deep, "1", QoS::AtLeastOnce, 1));
    assert_eq!(client.reason(), Some(ReasonCode::TOPIC_NAME_INVALID));
    assert_eq!(subscribe(&mut Raw::client(&owner.socket, "app", 0), &deep), 0x8F);

    let mut client = Raw::client(&owner.socket, "dev", 0);
    client.publish(Publish {
        properties: Properties::list(&aliased),
        ..message("d/L/t", "1", QoS::AtMostOnce, 0)
    });
    assert_eq!(client.reason(), Some(ReasonCode::TOPIC_ALIAS_INVALID));

    let mut client = Raw::client(&owner.socket, "dev", 0);
    for number in 1..=33 {
        client.publish(message("d/L/t", "1", QoS::ExactlyOnce, number));
    }
    assert_eq!(client.reason(), Some(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED));

    let mut client = Raw::client(&owner.socket, "dev", 0);
    client.send(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(client.reason(), Some(ReasonCode::PACKET_TOO_LARGE));
    let mut client = Raw::open(&owner.socket, "dev");
    client.send(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(client.reason(), None, "closed without a word before CONNECT");

    let mut client = Raw::client(&owner.socket, "dev", 0);
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.packet(), None, "half-closed is closed");
    owner.is_well();
}

#[test]
fn a_flood_of_connections_ends_at_the_grants_limit() {
    let mut owner = Owner::new();
    for _ in 0..1_000 {
        drop(Raw::open(&owner.socket, "dev"));
    }
    owner.is_well();
    let _idle: Vec<Raw> = (0..64).map(|_| Raw::open(&owner.socket, "app")).collect();
    assert_eq!(Raw::open(&owner.socket, "app").packet(), None, "one too many");
    owner.is_well();
}

/// One that says nothing, one that sends its preamble, one its CONNECT, one a PUBLISH, a byte a second; one that goes silent.
#[test]
fn who_is_slow_is_cut_in_time() {
    let mut owner = Owner::new();
    let silent = Raw { stream: UnixStream::connect(&owner.socket).unwrap(), buffer: Vec::new() };
    silent.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let connect = Packet::Connect(plain_connect("dev", Version::V5)).to_vec(Version::V5);
    let publish = Packet::Publish(message("d/L/t", &"x".repeat(100), QoS::AtMostOnce, 0)).to_vec(Version::V5);
    let mut slow = [
        (silent, Vec::new()),
        (Raw::open(&owner.socket, "dev"), connect),
        (Raw::client(&owner.socket, "dev", 2), publish),
        (Raw::client(&owner.socket, "app", 2), Vec::new()),
    ];
    let began = Instant::now();
    let (mut second, mut cut) = (0, [false; 4]);
    while cut.contains(&false) {
        assert!(began.elapsed() < PATIENCE + PATIENCE, "still connected: {cut:?}");
        let tick = began.elapsed().as_secs() as usize;
        for ((client, bytes), cut) in slow.iter_mut().zip(&mut cut).filter(|(_, cut)| !**cut) {
            if tick > second
                && let Some(byte) = bytes.get(tick)
            {
                // Sent or not: whether the connection is over is seen when reading.
                let _seen_when_reading = client.stream.write_all(&[*byte]);
            }
            let mut chunk = [0; 256];
            *cut = match client.stream.read(&mut chunk) {
                Ok(0) => true,
                Ok(_) => false,
                Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            };
        }
        if tick > second {
            second = tick;
            owner.is_well();
        }
    }
}
