//! Several clients' streams into one broker: it neither panics nor says anything that is no MQTT, it stays within its
//! limits, serves two clients that behave throughout, and holds nothing once everybody is gone and everything expired.
//!
//! The bytes of a [`run`] are a script. The first byte says whether the broker is an open one or has grants. Then steps:
//! a byte whose low two bits are the client and whose next four are what happens, with what it needs behind it. Any
//! bytes are a script, and [`Script`] writes good ones.

use crate::generate::plain_connect;
use mqtt_broker::{Access, Broker, Channels, Grants, Identity, Limits, Policy};
use mqtt_wire::{Packet, Version, frame_len};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::OnceLock;
use views::View;

/// Clients that a script moves.
pub const CLIENTS: usize = 4;

/// Who they are; each has its own grant where there are grants.
const SIDS: [&str; CLIENTS] = ["dev", "app", "other", "second"];
const VERSIONS: [Version; CLIENTS] = [Version::V5, Version::V5, Version::V311, Version::V31];

/// The two that behave: a device and an app that reads it.
const WATCHED: (usize, usize) = (90, 91);
const WATCHED_SIDS: (&str, &str) = ("watched-device", "watched-app");

const SEND: u8 = 0;
const OPEN: u8 = 9;
const CONNECT: u8 = 10;
const WRITTEN: u8 = 12;
const PASS: u8 = 13;
const GRANTS: u8 = 14;
const CLOSE: u8 = 15;

const WEEK_MS: u64 = 7 * 24 * 3_600_000;

/// Views that grants may have, in their JSON; beyond the last one: raw.
const VIEWS: [&str; 5] = [
    r#"{"kind":"summary","window_s":10,"min_samples":2,"statistics":["mean","min","max"]}"#,
    r#"{"kind":"filter","above":20.0,"dead_band":0.5,"interval_s":5}"#,
    r#"{"kind":"coarsening","round":0.5,"drop":["v"]}"#,
    r#"{"kind":"filter","field":"v","below":20.0}"#,
    r#"{"kind":"summary","field":"v","window_s":10,"min_samples":2,"statistics":["std","last"],"histogram":[0.0,20.0]}"#,
];
const RAW: usize = VIEWS.len();

fn views() -> &'static [View] {
    static PARSED: OnceLock<Vec<View>> = OnceLock::new();
    PARSED.get_or_init(|| VIEWS.iter().map(|json| serde_json::from_str(json).expect("a view")).collect())
}

/// Limits so low that scripts meet them.
fn limits() -> Limits {
    Limits {
        sessions: 12,
        grant_sessions: 2,
        grant_share: 2,
        subscriptions: 6,
        queue_messages: 8,
        queue_bytes: 4_000,
        retained_messages: 6,
        retained_bytes: 3_500,
        unattended_ms: 60_000,
        packet: 2_000,
        output: 1_000,
        receive_maximum: 3,
        in_flight: 3,
        ..Limits::PERSONAL
    }
}

/// Writes a script.
#[derive(Clone, Debug)]
pub struct Script {
    bytes: Vec<u8>,
}

impl Script {
    /// A script for a broker with or without grants.
    pub fn new(granted: bool) -> Script {
        Script { bytes: vec![u8::from(granted)] }
    }

    fn step(&mut self, client: usize, what: u8) {
        self.bytes.push((client % CLIENTS) as u8 | what << 2);
    }

    /// A client sends bytes; one that is not connected does that first.
    pub fn send(&mut self, client: usize, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.step(client, SEND);
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(bytes.iter().take(usize::from(length)));
    }

    /// A new connection in place of the old one, without a CONNECT.
    pub fn open(&mut self, client: usize) {
        self.step(client, OPEN);
    }

    /// The same with a CONNECT: the low two bits choose the version, the next one Clean Start, the rest the expiry.
    pub fn connect(&mut self, client: usize, how: u8) {
        self.step(client, CONNECT);
        self.bytes.push(how);
    }

    /// The client reads so many bytes.
    pub fn written(&mut self, client: usize, count: u8) {
        self.step(client, WRITTEN);
        self.bytes.push(count);
    }

    /// So many quarters of a second pass.
    pub fn pass(&mut self, quarters: u8) {
        self.step(0, PASS);
        self.bytes.push(quarters);
    }

    /// Other grants, by bits.
    pub fn grants(&mut self, bits: u8) {
        self.step(0, GRANTS);
        self.bytes.push(bits);
    }

    /// The connection breaks.
    pub fn close(&mut self, client: usize) {
        self.step(client, CLOSE);
    }

    /// The script.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[derive(Default)]
struct Client {
    open: bool,
    input: Vec<u8>,
    /// What it was told and has not been looked at: less than a packet.
    told: Vec<u8>,
}

struct World {
    broker: Broker,
    granted: bool,
    now: u64,
    clients: BTreeMap<usize, Client>,
}

/// Plays a script.
pub fn run(script: &[u8]) {
    let mut script = script.iter().copied();
    let granted = script.next().is_some_and(|first| first & 1 == 1);
    let policy = if granted { Policy::Granted(Some(grants(0x0F))) } else { Policy::Open };
    let mut world =
        World { broker: Broker::new(limits(), policy, 1), granted, now: 1_000, clients: BTreeMap::new() };
    world.watch();
    while let Some(step) = script.next() {
        let client = usize::from(step & 0x03);
        match step >> 2 & 0x0F {
            OPEN => world.open(client, SIDS.get(client).copied().unwrap_or_default()),
            CONNECT | 11 => world.connect(client, script.next().unwrap_or_default()),
            WRITTEN => {
                world.written(client, usize::from(script.next().unwrap_or_default()));
            }
            PASS => world.pass(u64::from(script.next().unwrap_or_default()) * 250),
            GRANTS => {
                let bits = script.next().unwrap_or_default();
                if world.granted {
                    world.broker.set_grants(grants(bits), world.now);
                }
            }
            CLOSE => world.close(client),
            _ => {
                let length = u16::from_be_bytes([
                    script.next().unwrap_or_default(),
                    script.next().unwrap_or_default(),
                ]);
                let bytes: Vec<u8> = script.by_ref().take(usize::from(length)).collect();
                world.send(client, &bytes);
            }
        }
        world.look_around();
    }
    world.is_alive();
    world.end();
}

/// Grants by bits: which of the four exist, and which channels the apps have. The watched ones always exist.
fn grants(bits: u8) -> Grants {
    let app = |label: &str, read: &[(&str, usize)], command: &[&str]| {
        let mut channels = Channels::default();
        for (channel, view) in read {
            channels.allow_reading(channel, views().get(*view).unwrap_or(&View::Raw));
        }
        channels.command.extend(command.iter().map(|channel| Box::from(*channel)));
        Access::App { devices: [(label.into(), channels)].into(), key: None }
    };
    let device = |label: &str| Access::Device { label: label.into() };
    let mut list: Vec<(Rc<str>, Access)> =
        vec![(WATCHED_SIDS.0.into(), device("W")), (WATCHED_SIDS.1.into(), app("W", &[("t", RAW)], &[]))];
    let view = usize::from(bits >> 5);
    let read: &[(&str, usize)] = if bits & 0x10 == 0 { &[("t", view), ("u", RAW)] } else { &[("t", RAW)] };
    let all = [device("L"), app("L", read, &["h"]), app("L", &[("t", (view + 1) % 8)], &[]), device("M")];
    for (at, (sid, access)) in SIDS.into_iter().zip(all).enumerate() {
        if bits >> at & 1 == 1 {
            list.push((sid.into(), access));
        }
    }
    Grants::new(list)
}

impl World {
    fn open(&mut self, at: usize, name: &str) {
        self.close(at);
        let identity = self.granted.then(|| Identity { sid: name.to_owned(), client: name.to_owned() });
        self.broker.open(at, identity, self.now);
        self.clients.insert(at, Client { open: true, ..Client::default() });
    }

    fn connect(&mut self, at: usize, how: u8) {
        let name = SIDS.get(at).copied().unwrap_or_default();
        let version = VERSIONS.get(usize::from(how & 0x03)).copied().unwrap_or(Version::V5);
        let expiry = u32::from(how >> 3);
        self.connect_as(at, name, version, how & 0x04 != 0, expiry);
    }

    fn connect_as(&mut self, at: usize, name: &str, version: Version, clean: bool, expiry: u32) {
        self.open(at, name);
        let mut packet = Vec::new();
        plain_connect(version, name, clean, expiry, &mut packet);
        self.send(at, &packet);
    }

    fn close(&mut self, at: usize) {
        self.read_all(at);
        self.broker.close(at, self.now);
        self.clients.remove(&at);
    }

    /// As the shell feeds a broker: whole packets, none once it is closing.
    fn send(&mut self, at: usize, bytes: &[u8]) {
        if !self.clients.get(&at).is_some_and(|client| client.open) {
            let version = VERSIONS.get(at).copied().unwrap_or(Version::V5);
            self.connect_as(at, SIDS.get(at).copied().unwrap_or_default(), version, false, 600);
        }
        if !self.broker.wants_input(at) {
            self.read_all(at);
        }
        let Some(client) = self.clients.get_mut(&at) else { return };
        client.input.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(rest) = client.input.get(used..).filter(|rest| !rest.is_empty()) {
            if self.broker.is_closing(at) {
                used = client.input.len();
                break;
            }
            match frame_len(rest, self.broker.input_limit(at)) {
                Ok(Some(length)) => {
                    let Some(frame) = rest.get(..length) else { break };
                    self.broker.receive(at, frame, self.now);
                    used += length;
                }
                Ok(None) => break,
                Err(error) => {
                    self.broker.reject(at, error, self.now);
                    used = client.input.len();
                    break;
                }
            }
        }
        client.input.drain(..used);
    }

    /// The client takes bytes from the broker; each packet among them must be one.
    fn written(&mut self, at: usize, count: usize) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let Some(client) = self.clients.get_mut(&at) else { return packets };
        let output = self.broker.output(at);
        let count = count.min(output.len());
        client.told.extend_from_slice(output.get(..count).unwrap_or_default());
        self.broker.written(at, count, self.now);
        while let Some(length) = frame_len(&client.told, usize::MAX).expect("a remaining length") {
            if client.told.len() < length {
                break;
            }
            let packet: Vec<u8> = client.told.drain(..length).collect();
            let is_mqtt =
                crate::codec::VERSIONS.iter().any(|version| Packet::decode(&packet, *version).is_ok());
            assert!(is_mqtt, "the broker wrote {packet:02X?}");
            packets.push(packet);
        }
        packets
    }

    fn read_all(&mut self, at: usize) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        while !self.broker.output(at).is_empty() && self.clients.contains_key(&at) {
            packets.append(&mut self.written(at, usize::MAX));
        }
        packets
    }

    fn pass(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        // What is due may make something due at once, for example a will that expires when it is published; not for ever.
        let mut due = || self.broker.tick(self.now).is_some_and(|next| next <= self.now);
        assert!((0..8).any(|_| !due()), "what is due by now is done");
    }

    /// What the shell does after every turn, and what must hold at any time.
    fn look_around(&mut self) {
        while let Some(at) = self.broker.next_attention() {
            if self.broker.is_closing(at) {
                self.close(at);
            }
        }
        let (counts, limits) = (self.broker.counts(), self.broker.limits());
        assert!(counts.sessions <= limits.sessions, "sessions");
        assert!(counts.retained <= limits.retained_messages, "retained messages");
        assert!(
            counts.queued <= limits.sessions * (limits.queue_messages + usize::from(limits.in_flight)),
            "queued messages"
        );
    }

    fn watch(&mut self) {
        let (device, app) = WATCHED;
        self.connect_as(device, WATCHED_SIDS.0, Version::V5, false, u32::MAX);
        self.connect_as(app, WATCHED_SIDS.1, Version::V5, false, u32::MAX);
        self.send(app, b"\x82\x0B\0\x01\0\0\x05d/W/t\0");
    }

    /// The two that behave are still served. With an open broker a script may have taken their sessions over.
    fn is_alive(&mut self) {
        let (device, app) = WATCHED;
        if [device, app].iter().any(|at| !self.clients.contains_key(at)) {
            assert!(!self.granted, "nobody else has their grants");
            return;
        }
        self.read_all(app);
        self.send(device, b"\x30\x0D\0\x05d/W/t\0alive");
        let alive = self.read_all(app).iter().any(|packet| packet.ends_with(b"alive"));
        assert!(alive, "a message between two that behave");
    }

    /// Everybody leaves, everything expires, nothing is left but what is retained.
    fn end(mut self) {
        let all: Vec<usize> = self.clients.keys().copied().collect();
        all.into_iter().for_each(|at| self.close(at));
        self.pass(WEEK_MS);
        // Wills that were due with the sessions went to other sessions, which are over now as well.
        self.pass(1);
        let counts = self.broker.counts();
        assert_eq!((counts.connected, counts.sessions, counts.queued), (0, 0, 0), "nothing is left");
    }
}
