//! Clients that flood, stall, half-close or send a byte a second, against the real process: each is cut or held back by a
//! limit, two that behave are served meanwhile, and the process stays small. An owner's broker and a plain one alike, where
//! the plain one has the same limit or one that can be reached.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is to do")]

mod common;

use common::control::{Control, app, device};
use common::{PATIENCE, Pcm, message, plain_connect};
use mqtt_wire::{
    Filters, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe, Subscription, Version,
    frame_len,
};
use pcm_wire::{Grant, Preamble, Rule, View};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A message between two that behave takes no longer, however busy the machine.
const BOUND: Duration = Duration::from_secs(2);
/// What differs between an owner's broker and a plain one (`pcm --listen`).
struct Mode {
    /// More than everything that the limits allow one client's doings here, with room for the allocator.
    memory_kb: u64,
    receive_maximum: u16,
    levels: usize,
}

const PERSONAL: Mode = Mode { memory_kb: 48 << 10, receive_maximum: 32, levels: 32 };
const PLAIN: Mode = Mode { memory_kb: 96 << 10, receive_maximum: 1_000, levels: 201 };

/// Where clients connect to, and what must live as long.
enum Place {
    Personal { socket: PathBuf, _control: Box<Control>, _directory: tempfile::TempDir },
    Plain(SocketAddr),
}

struct Broker {
    pcm: Pcm,
    mode: Mode,
    place: Place,
    /// Two that behave.
    pair: Option<(Raw, Raw)>,
    sent: u32,
}

trait Socket: Read + Write {
    fn end_writing(&self);
}

impl Socket for UnixStream {
    fn end_writing(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

impl Socket for TcpStream {
    fn end_writing(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }
}

/// A connection whose every read and write returns soon.
struct Raw {
    stream: Box<dyn Socket>,
    buffer: Vec<u8>,
}

impl Raw {
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

impl Broker {
    fn personal() -> Broker {
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
        let place = Place::Personal { socket, _control: Box::new(control), _directory: directory };
        Broker::with_pair(pcm, PERSONAL, place)
    }

    fn plain() -> Broker {
        let (pcm, address) = Pcm::plain(&["--sandbox"]);
        Broker::with_pair(pcm, PLAIN, Place::Plain(address))
    }

    fn with_pair(pcm: Pcm, mode: Mode, place: Place) -> Broker {
        let mut broker = Broker { pcm, mode, place, pair: None, sent: 0 };
        let thermostat = broker.client("good", 0);
        let mut chart = broker.client("watch", 0);
        subscribe(&mut chart, "d/G/#");
        broker.pair = Some((thermostat, chart));
        broker
    }

    /// A connection that has said nothing.
    fn connected(&self) -> Raw {
        let soon = Some(Duration::from_millis(50));
        let stream: Box<dyn Socket> = match &self.place {
            Place::Personal { socket, .. } => {
                let stream = UnixStream::connect(socket).unwrap();
                stream.set_read_timeout(soon).and_then(|()| stream.set_write_timeout(soon)).unwrap();
                Box::new(stream)
            }
            Place::Plain(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(soon).and_then(|()| stream.set_write_timeout(soon)).unwrap();
                stream.set_nodelay(true).unwrap();
                Box::new(stream)
            }
        };
        Raw { stream, buffer: Vec::new() }
    }

    /// A connection that may send its CONNECT.
    fn open(&self, sid: &str) -> Raw {
        let mut raw = self.connected();
        if let Place::Personal { .. } = self.place {
            raw.send(&Preamble::Session { sid: sid.into(), client: sid.into() }.to_bytes());
        }
        raw
    }

    fn client(&self, sid: &str, keep_alive: u16) -> Raw {
        let mut raw = self.open(sid);
        let connect = mqtt_wire::Connect { keep_alive, ..plain_connect(sid, Version::V5) };
        raw.send(&Packet::Connect(connect).to_vec(Version::V5));
        assert_eq!(raw.packet().expect("a CONNACK")[0], 0x20);
        raw
    }

    /// A message between the two that behave arrives in time, and memory is bounded.
    fn is_well(&mut self) {
        self.sent += 1;
        let (payload, began) = (self.sent.to_string(), Instant::now());
        let (thermostat, chart) = self.pair.as_mut().expect("they were there first");
        assert!(thermostat.publish(message("d/G/t", &payload, QoS::AtMostOnce, 0)));
        let frame = chart.packet().expect("the message");
        assert!(frame.ends_with(payload.as_bytes()), "{frame:02X?}");
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pcm.child.id())).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line VmRSS");
        let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes < self.mode.memory_kb, "{kilobytes} kB");
    }
}

/// Subscribes with QoS 1 and answers the reason code.
fn subscribe(client: &mut Raw, filter: &str) -> u8 {
    let list = [Subscription::new(filter, QoS::AtLeastOnce)];
    let filters = Filters::list(&list);
    let packet = Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::EMPTY, filters });
    assert!(client.send(&packet.to_vec(Version::V5)));
    *client.packet().expect("a SUBACK").last().unwrap()
}

macro_rules! tests {
    ($mode:ident: $($name:ident),+) => {
        mod $mode {
            use super::Broker;
            $(#[test]
            fn $name() {
                super::$name(Broker::$mode());
            })+
        }
    };
}

tests!(personal:
    a_reader_that_stalls_and_a_flood_towards_it,
    who_does_not_read_acknowledgements_is_not_read_from,
    subscriptions_end_at_their_limit_and_one_retained_topic_does_not_add_up,
    protocol_abuse_has_the_standards_codes,
    a_flood_of_connections_ends_at_the_grants_limit,
    who_is_slow_is_cut_in_time);

tests!(plain:
    a_reader_that_stalls_and_a_flood_towards_it,
    who_does_not_read_acknowledgements_is_not_read_from,
    protocol_abuse_has_the_standards_codes,
    who_is_slow_is_cut_in_time);

fn a_reader_that_stalls_and_a_flood_towards_it(mut broker: Broker) {
    let mut stalled = broker.client("app", 0);
    subscribe(&mut stalled, "d/L/t");
    let payload = "x".repeat(8_000);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut flood = broker.client("dev", 0);
        for number in 1..=2_000u16 {
            // Acknowledgements are read here; the stalled one reads nothing.
            assert!(flood.publish(message("d/L/t", &payload, qos, number)));
            if qos == QoS::AtLeastOnce {
                flood.acknowledged();
            }
            if number % 500 == 0 {
                broker.is_well();
            }
        }
    }
    broker.is_well();
}

fn who_does_not_read_acknowledgements_is_not_read_from(mut broker: Broker) {
    let mut deaf = broker.client("dev", 0);
    let publish = Packet::Publish(message("d/L/t", "1", QoS::AtLeastOnce, 1)).to_vec(Version::V5);
    let many = publish.repeat(1_000);
    let taken = (0..10_000).take_while(|_| deaf.send(&many)).count();
    assert!(taken < 10_000, "it went on reading");
    broker.is_well();
}

fn subscriptions_end_at_their_limit_and_one_retained_topic_does_not_add_up(mut broker: Broker) {
    let mut reader = broker.client("app", 0);
    let codes: Vec<u8> = (0..120).map(|number| subscribe(&mut reader, &format!("d/L/{number}"))).collect();
    assert!(codes[..100].iter().all(|code| *code == 1) && codes[100..].iter().all(|code| *code == 0x97));
    let mut writer = broker.client("dev", 0);
    let payload = "x".repeat(200_000);
    for number in 1..=40 {
        let kept = Publish { retain: true, ..message("d/L/t", &payload, QoS::AtLeastOnce, number) };
        assert!(writer.publish(kept));
        assert!(writer.acknowledged().is_success(), "it is replaced");
    }
    broker.is_well();
}

fn protocol_abuse_has_the_standards_codes(mut broker: Broker) {
    let deep = format!("d/L/{}", "a/".repeat(broker.mode.levels));
    let aliased = [Property::TopicAlias(11)];
    let mut client = broker.client("dev", 0);
    client.publish(message(&deep, "1", QoS::AtLeastOnce, 1));
    assert_eq!(client.reason(), Some(ReasonCode::TOPIC_NAME_INVALID));
    assert_eq!(subscribe(&mut broker.client("app", 0), &deep), 0x8F);

    let mut client = broker.client("dev", 0);
    client.publish(Publish {
        properties: Properties::list(&aliased),
        ..message("d/L/t", "1", QoS::AtMostOnce, 0)
    });
    assert_eq!(client.reason(), Some(ReasonCode::TOPIC_ALIAS_INVALID));

    let mut client = broker.client("dev", 0);
    for number in 1..=broker.mode.receive_maximum + 1 {
        client.publish(message("d/L/t", "1", QoS::ExactlyOnce, number));
    }
    assert_eq!(client.reason(), Some(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED));

    let mut client = broker.client("dev", 0);
    client.send(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(client.reason(), Some(ReasonCode::PACKET_TOO_LARGE));
    let mut client = broker.open("dev");
    client.send(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(client.reason(), None, "closed without a word before CONNECT");

    let mut client = broker.client("dev", 0);
    client.stream.end_writing();
    assert_eq!(client.packet(), None, "half-closed is closed");
    broker.is_well();
}

fn a_flood_of_connections_ends_at_the_grants_limit(mut broker: Broker) {
    for _ in 0..1_000 {
        drop(broker.open("dev"));
    }
    broker.is_well();
    let _idle: Vec<Raw> = (0..64).map(|_| broker.open("app")).collect();
    assert_eq!(broker.open("app").packet(), None, "one too many");
    broker.is_well();
}

/// One that says nothing, one that sends its preamble, one its CONNECT, one a PUBLISH, a byte a second; one that goes silent.
fn who_is_slow_is_cut_in_time(mut broker: Broker) {
    let silent = broker.connected();
    let connect = Packet::Connect(plain_connect("dev", Version::V5)).to_vec(Version::V5);
    let publish = Packet::Publish(message("d/L/t", &"x".repeat(100), QoS::AtMostOnce, 0)).to_vec(Version::V5);
    let mut slow = [
        (silent, Vec::new()),
        (broker.open("dev"), connect),
        (broker.client("dev", 2), publish),
        (broker.client("app", 2), Vec::new()),
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
            broker.is_well();
        }
    }
}
