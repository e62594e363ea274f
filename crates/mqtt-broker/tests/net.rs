//! The loop over real sockets: silence, slowness, floods, halves of packets, and the way out.

use mqtt_broker::net::{Admission, Answer, Door, Plain, Server, Unwelcome};
use mqtt_broker::{Broker, Limits, Policy};
use mqtt_wire::{
    Connect, Filters, Packet, Properties, Property, Publish, QoS, Subscribe, Subscription, Version, Will,
    frame_len,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(10);

/// A server in a thread; dropping `stop` does not stop it, writing to it does.
struct Running {
    address: SocketAddr,
    stop: UnixStream,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Running {
    fn start(limits: Limits) -> Running {
        Running::behind(Plain, limits)
    }

    fn behind(door: impl Door + Send + 'static, limits: Limits) -> Running {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let (stop, stopped) = UnixStream::pair().expect("a pair");
        let thread = std::thread::spawn(move || {
            let mut server = Server::new(Broker::new(limits, Policy::Open, 1), door)?;
            server.listen_tcp(listener)?;
            server.stop_on(OwnedFd::from(stopped))?;
            server.run()
        });
        Running { address, stop, thread: Some(thread) }
    }

    fn stop(&mut self) {
        self.stop.write_all(b"x").expect("it runs");
        let outcome = self.thread.take().expect("stopped once").join().expect("no panic");
        outcome.expect("it stopped well");
    }

    fn open(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    fn client(&self, name: &str) -> TcpStream {
        self.introduced(connect(name)).0
    }

    /// A connection, and whether its session was there before.
    fn introduced(&self, connect: Connect<'_>) -> (TcpStream, bool) {
        let mut stream = self.open();
        send(&mut stream, &Packet::Connect(connect));
        let frame = receive(&mut stream).expect("a CONNACK");
        match Packet::decode(&frame, Version::V5) {
            Ok(Packet::ConnAck(ack)) if ack.reason.is_success() => (stream, ack.session_present),
            other => panic!("{other:?}"),
        }
    }
}

fn connect(name: &str) -> Connect<'_> {
    Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive: 0,
        properties: Properties::EMPTY,
        client_id: name,
        will: None,
        username: None,
        password: None,
    }
}

const WILL: Will<'_> = Will {
    qos: QoS::AtMostOnce,
    retain: false,
    properties: Properties::EMPTY,
    topic: "will",
    payload: b"gone",
};

fn send(stream: &mut TcpStream, packet: &Packet<'_>) {
    stream.write_all(&packet.to_vec(Version::V5)).expect("it takes the packet");
}

fn publish<'a>(topic: &'a str, payload: &'a [u8], qos: QoS) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: Some(1),
        properties: Properties::EMPTY,
        payload,
    })
}

fn subscribe(stream: &mut TcpStream, filter: &str, qos: QoS) {
    let list = [Subscription::new(filter, qos)];
    let packet = Subscribe { packet_id: 1, properties: Properties::EMPTY, filters: Filters::list(&list) };
    send(stream, &Packet::Subscribe(packet));
    assert_eq!(receive(stream).expect("a SUBACK")[0], 0x90);
}

/// One packet, or `None` at the end.
fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return None,
            Ok(_) => frame.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("nothing came: {error}"),
        }
        if let Some(length) = frame_len(&frame, usize::MAX).expect("a header") {
            let start = frame.len();
            frame.resize(length, 0);
            stream.read_exact(&mut frame[start..]).expect("the rest");
            return Some(frame);
        }
    }
}

#[test]
fn who_does_not_introduce_himself_is_closed() {
    let mut server = Running::start(Limits { handshake_ms: 50, ..Limits::PLAIN });
    let mut silent = server.open();
    assert_eq!(receive(&mut silent), None);
    let mut slow = server.open();
    slow.write_all(&[0x10]).expect("one byte");
    assert_eq!(receive(&mut slow), None);
    server.stop();
}

#[test]
fn a_packet_once_begun_must_end_in_time() {
    let mut server = Running::start(Limits { packet_ms: 1_000, ..Limits::PLAIN });
    let mut watcher = server.client("watcher");
    subscribe(&mut watcher, "#", QoS::AtMostOnce);
    let (mut slow, _) = server.introduced(Connect { will: Some(WILL), ..connect("slow") });
    let packet = publish("a", &[7; 10_000], QoS::AtMostOnce).to_vec(Version::V5);
    // Each of these is in time, together they are not: the time is a packet's.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1_500) {
        let (first, rest) = packet.split_at(1_000);
        slow.write_all(first).expect("it takes the start");
        slow.write_all(&[rest, &packet[..1]].concat()).expect("it takes the rest and the next start");
        assert!(receive(&mut watcher).expect("the message").ends_with(&[7; 100]));
        slow.write_all(&packet[1..]).expect("it takes the rest");
        assert!(receive(&mut watcher).expect("the message").ends_with(&[7; 100]));
    }
    // A byte at a time until the connection is over.
    slow.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
    let mut last_words = Vec::new();
    let mut bytes = packet.iter();
    let mut chunk = [0; 64];
    loop {
        match slow.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => last_words.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(_) => {
                let byte = bytes.next().expect("cut before the packet is whole");
                let _over_is_seen_when_reading = slow.write_all(&[*byte]);
            }
        }
    }
    assert_eq!(last_words, [0xE0, 1, 0x8D]);
    assert!(receive(&mut watcher).expect("the will").ends_with(b"gone"));
    send(&mut watcher, &Packet::PingReq);
    assert_eq!(receive(&mut watcher).as_deref(), Some(&[0xD0, 0][..]), "silence between packets is no debt");
    server.stop();
}

#[test]
fn who_reads_nothing_for_too_long_is_cut_and_keeps_its_session() {
    let mut server = Running::start(Limits { stall_ms: 300, ..Limits::PLAIN });
    let mut watcher = server.client("watcher");
    subscribe(&mut watcher, "will", QoS::AtMostOnce);
    let kept = [Property::SessionExpiryInterval(60)];
    let keeping = Connect { properties: Properties::list(&kept), clean_start: false, ..connect("stalled") };
    let (mut stalled, present) = server.introduced(Connect { will: Some(WILL), ..keeping });
    assert!(!present);
    subscribe(&mut stalled, "flood", QoS::AtLeastOnce);
    let mut publisher = server.client("publisher");
    let payload = vec![7; 60_000];
    for _ in 0..300 {
        send(&mut publisher, &publish("flood", &payload, QoS::AtLeastOnce));
        assert_eq!(receive(&mut publisher).expect("a PUBACK")[0], 0x40);
    }
    assert!(receive(&mut watcher).expect("the will").ends_with(b"gone"));
    let (_again, present) = server.introduced(keeping);
    assert!(present, "the session stayed");
    drop(stalled);
    server.stop();
}

#[test]
fn packets_may_come_in_any_pieces() {
    let mut server = Running::start(Limits::PLAIN);
    let mut client = server.client("pieces");
    subscribe(&mut client, "a", QoS::AtMostOnce);
    let payload: Vec<u8> = (0..100_000u32).map(|one| one as u8).collect();
    let mut bytes = publish("a", b"first", QoS::AtMostOnce).to_vec(Version::V5);
    bytes.extend(publish("a", &payload, QoS::AtMostOnce).to_vec(Version::V5));
    for piece in bytes.chunks(20_011) {
        client.write_all(piece).expect("it takes the piece");
    }
    let first = receive(&mut client).expect("the first");
    assert!(first.ends_with(b"first"));
    let second = receive(&mut client).expect("the second");
    assert!(second.ends_with(&payload));
    for byte in publish("a", b"third", QoS::AtMostOnce).to_vec(Version::V5) {
        client.write_all(&[byte]).expect("it takes the byte");
    }
    assert!(receive(&mut client).expect("the third").ends_with(b"third"));
    server.stop();
}

#[test]
fn too_long_a_packet_ends_its_connection_only() {
    let mut server = Running::start(Limits { packet: 1_000, ..Limits::PLAIN });
    let mut polite = server.client("polite");
    let mut long = server.client("long");
    long.write_all(&[0x30, 0xFF, 0x7F, 0, 1, b'a']).expect("a start");
    assert_eq!(receive(&mut long).as_deref(), Some(&[0xE0, 1, 0x95][..]));
    assert_eq!(receive(&mut long), None);
    send(&mut polite, &Packet::PingReq);
    assert_eq!(receive(&mut polite).as_deref(), Some(&[0xD0, 0][..]));
    server.stop();
}

#[test]
fn one_connection_too_many_is_closed_at_once() {
    let mut server = Running::start(Limits { connections: 1, ..Limits::PLAIN });
    let _first = server.client("first");
    let mut second = server.open();
    assert_eq!(receive(&mut second), None);
    server.stop();
}

#[test]
fn who_does_not_read_loses_qos_0_and_hurts_nobody() {
    let mut server = Running::start(Limits { queue_messages: 10, ..Limits::PLAIN });
    let mut stuck = server.client("stuck");
    subscribe(&mut stuck, "#", QoS::AtMostOnce);
    let mut reader = server.client("reader");
    subscribe(&mut reader, "#", QoS::AtLeastOnce);
    let mut publisher = server.client("publisher");
    let payload = vec![7; 60_000];
    let messages = 500;
    for _ in 0..messages {
        send(&mut publisher, &publish("flood", &payload, QoS::AtLeastOnce));
        assert_eq!(receive(&mut publisher).expect("a PUBACK")[0], 0x40);
        let frame = receive(&mut reader).expect("a message");
        let topic_end = frame.len() - payload.len() - 1;
        let acknowledgement = [0x40, 2, frame[topic_end - 2], frame[topic_end - 1]];
        reader.write_all(&acknowledgement).expect("it takes the PUBACK");
    }
    // Much less than was published is there for who did not read: what fits between, and the queue.
    stuck.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    let mut left = 0;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count) = stuck.read(&mut buffer)
        && count > 0
    {
        left += count;
    }
    assert!(left < messages * payload.len() * 9 / 10, "{left} bytes");
    server.stop();
}

#[test]
fn who_floods_with_requests_and_reads_no_answer_is_not_read_from() {
    let mut server = Running::start(Limits::PLAIN);
    let mut flood = server.client("flood");
    flood.set_write_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let pings = [0xC0, 0].repeat(1 << 15);
    let mut stopped = false;
    for _ in 0..1_000 {
        if flood.write_all(&pings).is_err() {
            stopped = true;
            break;
        }
    }
    assert!(stopped, "60 MB of requests were taken without an answer being read");
    let mut other = server.client("other");
    send(&mut other, &Packet::PingReq);
    assert_eq!(receive(&mut other).as_deref(), Some(&[0xD0, 0][..]));
    server.stop();
}

#[test]
fn a_half_closed_connection_is_a_broken_one() {
    let mut server = Running::start(Limits::PLAIN);
    let mut client = server.client("half");
    client.shutdown(std::net::Shutdown::Write).expect("half closed");
    assert_eq!(receive(&mut client), None);
    server.stop();
}

#[test]
fn stopping_tells_the_clients() {
    let mut server = Running::start(Limits::PLAIN);
    let mut client = server.client("client");
    server.stop();
    assert_eq!(receive(&mut client).as_deref(), Some(&[0xE0, 1, 0x8B][..]));
    assert_eq!(receive(&mut client), None);
    assert!(TcpStream::connect(server.address).is_err());
}

/// A door whose journal has no room for anything retained.
struct FullDisk;

impl Door for FullDisk {
    fn lets_in(&self, peer: &mio::net::UnixStream) -> bool {
        Plain.lets_in(peer)
    }

    fn admit(&mut self, first: &[u8]) -> Result<Option<(Admission, usize)>, Unwelcome> {
        Plain.admit(first)
    }

    fn longest(&self) -> (usize, usize) {
        Plain.longest()
    }

    fn control(&mut self, broker: &mut Broker, line: &[u8], guests: usize, now: u64) -> Answer {
        Plain.control(broker, line, guests, now)
    }

    fn commit(&mut self, broker: &mut Broker, _now: u64) -> std::io::Result<()> {
        if broker.counts().retained == 0 { Ok(()) } else { Err(std::io::Error::other("disk full")) }
    }
}

#[test]
fn nothing_is_acknowledged_that_could_not_be_committed() {
    let mut server = Running::behind(FullDisk, Limits::PLAIN);
    let mut reader = server.client("reader");
    subscribe(&mut reader, "#", QoS::AtMostOnce);
    let mut client = server.client("client");
    send(&mut client, &publish("a", b"fleeting", QoS::AtLeastOnce));
    assert_eq!(receive(&mut client).expect("a PUBACK")[0], 0x40);
    assert!(receive(&mut reader).expect("a message").ends_with(b"fleeting"));
    let Packet::Publish(kept) = publish("a", b"kept", QoS::AtLeastOnce) else { unreachable!() };
    send(&mut client, &Packet::Publish(Publish { retain: true, ..kept }));
    assert_eq!(receive(&mut client), None);
    assert_eq!(receive(&mut reader), None);
    let outcome = server.thread.take().expect("not stopped yet").join().expect("no panic");
    assert_eq!(outcome.expect_err("it could not go on").to_string(), "disk full");
}
