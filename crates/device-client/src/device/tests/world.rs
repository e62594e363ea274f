//! A DIdP, a gateway and a flash, simulated: enough of each to see whether a device keeps its side of the protocol.

use std::collections::VecDeque;

use mqtt_wire::{Ack, ConnAck, Packet, Properties, Publish, QoS, ReasonCode, SubAck, Version, frame_len};

use crate::device::{Action, Closed, Device, Options, Phase};
use crate::json::Object;
use crate::record::{Ownership, Record};
use crate::storage::{Flash, SLOT_LEN, Slots};
use crate::text::{Text, base64url};
use crate::{Millis, Server};

pub(super) const DIDP: u16 = 8884;
pub(super) const GATEWAY: u16 = 8883;
const PIN: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// One refresh token with its access token; the code is the parent of the first.
struct Node {
    refresh: String,
    access: String,
    parent: Option<usize>,
    alive: bool,
}

/// Tokens as design §3 has them.
#[derive(Default)]
pub(super) struct Family {
    nodes: Vec<Node>,
    pub(super) revoked: bool,
}

impl Family {
    fn mint(&mut self, parent: Option<usize>) -> usize {
        let n = self.nodes.len();
        let (refresh, access) = (format!("refresh-{n}"), format!("demo.access-{n}"));
        self.nodes.push(Node { refresh, access, parent, alive: true });
        n
    }

    /// The first use of a node kills what it came from and what came beside it.
    fn used(&mut self, used: usize) {
        let parent = self.nodes[used].parent;
        for (n, node) in self.nodes.iter_mut().enumerate() {
            if n != used && (Some(n) == parent || node.parent == parent) {
                node.alive = false;
            }
        }
    }

    fn revoke(&mut self) {
        self.revoked = true;
        self.nodes.iter_mut().for_each(|node| node.alive = false);
    }

    /// Presents a refresh token; the node that it gives, if it gives one.
    fn refresh(&mut self, token: &str) -> Option<usize> {
        let n = self.nodes.iter().position(|node| node.refresh == token)?;
        if !self.nodes[n].alive {
            self.revoke();
            return None;
        }
        self.used(n);
        Some(self.mint(Some(n)))
    }

    fn access(&mut self, token: &str) -> bool {
        let found = self.nodes.iter().position(|node| node.access == token && node.alive);
        if let Some(n) = found {
            self.used(n);
        }
        found.is_some()
    }
}

#[derive(Default)]
pub(super) struct Didp {
    pub(super) up: bool,
    pub(super) secrets: Vec<String>,
    pub(super) challenge: Option<String>,
    code: Option<(String, String)>,
    pub(super) family: Option<Family>,
    pub(super) done: usize,
    pub(super) resets: usize,
    pub(super) logins: usize,
    pub(super) expires_in: u32,
    pub(super) requests: Vec<String>,
    /// Answers with this error instead, to every request on the topic.
    pub(super) refuse: Option<(&'static str, &'static str)>,
    /// Says nothing to requests.
    pub(super) mute: bool,
}

#[derive(Default)]
pub(super) struct Gateway {
    pub(super) up: bool,
    pub(super) expired: Option<String>,
    pub(super) connects: Vec<String>,
    pub(super) published: Vec<String>,
    pub(super) subscribed: Vec<String>,
    pub(super) no_puback: bool,
}

/// What goes wrong with the next thing that the device sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The link breaks before the server sees it.
    Before,
    /// The server sees it, its answer is lost with the link.
    After,
    /// Power goes before the server sees it.
    CutBefore,
    /// The server sees it, then power goes.
    CutAfter,
}

#[derive(Clone, Default)]
struct Cells([Vec<u8>; 2]);

impl Flash for Cells {
    type Error = ();
    fn read(&mut self, slot: usize, out: &mut [u8; SLOT_LEN]) -> Result<usize, ()> {
        out[..self.0[slot].len()].copy_from_slice(&self.0[slot]);
        Ok(self.0[slot].len())
    }
    fn write(&mut self, slot: usize, bytes: &[u8]) -> Result<(), ()> {
        self.0[slot] = bytes.to_vec();
        Ok(())
    }
}

struct Conn {
    port: u16,
    from_device: Vec<u8>,
    to_device: Vec<u8>,
}

pub(super) struct World {
    pub(super) device: Device,
    pub(super) now: Millis,
    slots: Slots<Cells>,
    conn: Option<Conn>,
    pub(super) didp: Didp,
    pub(super) gateway: Gateway,
    pub(super) faults: VecDeque<Fault>,
    pub(super) commands: Vec<String>,
    pub(super) connects: Vec<u16>,
    pub(super) flash_fails: bool,
    pub(super) untrusted: bool,
    pub(super) stores: usize,
    seed: u64,
}

pub(super) fn didp_server() -> Server {
    let mut server = Server::new("didp.localhost", DIDP).unwrap();
    assert!(server.pin([7; 32]));
    server
}

fn mix(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

impl World {
    pub(super) fn new() -> Self {
        let record = Record::new("client", "secret-0", didp_server()).unwrap();
        let mut slots = Slots::new(Cells::default());
        slots.load().unwrap();
        slots.save(&record).unwrap();
        Self {
            device: Device::new(record, Options::default()),
            now: 0,
            slots,
            conn: None,
            didp: Didp { up: true, secrets: vec!["secret-0".into()], expires_in: 86_400, ..Didp::default() },
            gateway: Gateway { up: true, ..Gateway::default() },
            faults: VecDeque::new(),
            commands: Vec::new(),
            connects: Vec::new(),
            flash_fails: false,
            untrusted: false,
            stores: 0,
            seed: 1,
        }
    }

    /// A world whose device has been claimed and runs.
    pub(super) fn owned() -> Self {
        let mut world = Self::new();
        world.until(Phase::Ready);
        world.device.press(world.now);
        world.until(Phase::Claimable);
        world.owner_says_yes();
        world.until(Phase::Running);
        world
    }

    /// What the flash holds.
    pub(super) fn flashed(&mut self) -> Record {
        let mut slots = Slots::new(self.slots.flash().clone());
        slots.load().unwrap().unwrap()
    }

    pub(super) fn power_cut(&mut self) {
        let record = self.slots.load().unwrap().unwrap();
        self.device = Device::new(record, Options::default());
        self.conn = None;
    }

    /// Lets the link break.
    pub(super) fn break_link(&mut self) {
        self.conn = None;
        let seed = &mut self.seed;
        self.device.closed(Closed::Lost, &mut |out| out.fill_with(|| mix(seed) as u8));
    }

    pub(super) fn owner_says_yes(&mut self) {
        let challenge = self.didp.challenge.take().expect("a window is open");
        self.didp.code = Some(("the-code".into(), challenge));
        self.push("$oauth/claim/response", r#"{"status":"granted","code":"the-code"}"#);
    }

    /// Sends a message to the device on the connection that there is.
    pub(super) fn push(&mut self, topic: &str, payload: &str) {
        let bytes = publish(topic, payload.as_bytes(), None);
        self.conn.as_mut().expect("a connection").to_device.extend(bytes);
    }

    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        if let Some(conn) = &mut self.conn {
            conn.to_device.extend_from_slice(bytes);
        }
    }

    /// Lets a command arrive with QoS 1.
    pub(super) fn command(&mut self, topic: &str, payload: &str) {
        let bytes = publish(topic, payload.as_bytes(), Some(77));
        self.conn.as_mut().expect("a connection").to_device.extend(bytes);
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.conn.as_ref().map(|conn| conn.port)
    }

    /// Does everything that can be done without time going on, and returns when the device wants to be asked again.
    pub(super) fn settle(&mut self) -> Option<Millis> {
        for _ in 0..10_000 {
            let seed = &mut self.seed;
            let action = self.device.poll(self.now, &mut |out| out.fill_with(|| mix(seed) as u8));
            match action {
                Action::Connect(server) => {
                    assert!(!server.pins().is_empty());
                    let port = server.port;
                    self.connects.push(port);
                    let up = if port == DIDP { self.didp.up } else { self.gateway.up };
                    if up && !self.untrusted {
                        self.conn = Some(Conn { port, from_device: Vec::new(), to_device: Vec::new() });
                        self.device.connected();
                    } else {
                        let how = if self.untrusted { Closed::Untrusted } else { Closed::Lost };
                        self.device.closed(how, &mut |out| out.fill_with(|| mix(seed) as u8));
                    }
                }
                Action::Send(bytes) => {
                    // A few at a time, as a slow network would.
                    let n = bytes.len().min(50);
                    let bytes = bytes[..n].to_vec();
                    self.device.sent(n);
                    self.take(&bytes);
                }
                Action::Close => self.conn = None,
                Action::Store(record) => {
                    let record = record.clone();
                    self.stores += 1;
                    let safe = !self.flash_fails && self.slots.save(&record).is_ok();
                    self.device.stored(safe);
                }
                Action::Command { channel, payload } => {
                    self.commands.push(format!("{channel} {}", String::from_utf8_lossy(payload)));
                }
                Action::Delta { patch } => {
                    self.commands.push(format!("delta {}", String::from_utf8_lossy(patch)));
                }
                Action::Wait(until) => {
                    let Some(conn) = self.conn.as_mut().filter(|conn| !conn.to_device.is_empty()) else {
                        return until;
                    };
                    let taken = self.device.received(&conn.to_device);
                    conn.to_device.drain(..taken);
                }
            }
        }
        panic!("the device does not come to rest");
    }

    /// Lets time go on until the device is in this phase; ten simulated hours at most.
    pub(super) fn until(&mut self, phase: Phase) {
        let end = self.now + 36_000_000;
        loop {
            let next = self.settle();
            if self.device.status().phase == phase {
                return;
            }
            let next = next.unwrap_or(end).max(self.now + 1);
            assert!(next < end, "still {:?} and not {phase:?}", self.device.status());
            self.now = next;
        }
    }

    /// Lets time go on until the device has logged in at the gateway once more; two simulated days at most.
    pub(super) fn until_next_login(&mut self) {
        let (logins, end) = (self.gateway.connects.len(), self.now + 172_800_000);
        while self.gateway.connects.len() == logins {
            self.now = self.settle().unwrap_or(end).max(self.now + 1);
            assert!(self.now < end, "still {:?}", self.device.status());
        }
    }

    /// Lets this much time go by.
    pub(super) fn pass(&mut self, time: Millis) {
        let end = self.now + time;
        while self.now < end {
            let next = self.settle().unwrap_or(end);
            self.now = next.clamp(self.now + 1, end);
        }
        self.settle();
    }

    fn take(&mut self, bytes: &[u8]) {
        let Some(conn) = &mut self.conn else { return };
        conn.from_device.extend_from_slice(bytes);
        loop {
            let Some(conn) = &mut self.conn else { return };
            let Some(len) = frame_len(&conn.from_device, 4096).expect("a device sends no nonsense") else {
                return;
            };
            if conn.from_device.len() < len {
                return;
            }
            let frame: Vec<u8> = conn.from_device.drain(..len).collect();
            let port = conn.port;
            let fault = self.faults.pop_front().unwrap_or(Fault::None);
            if matches!(fault, Fault::Before | Fault::CutBefore) {
                return self.fail(fault);
            }
            let packet = Packet::decode(&frame, Version::V311).expect("a device sends no nonsense");
            let answer = if port == DIDP { self.didp_hears(packet) } else { self.gateway_hears(packet) };
            if fault != Fault::None {
                return self.fail(fault);
            }
            match (answer, &mut self.conn) {
                (Some(answer), Some(conn)) => conn.to_device.extend(answer),
                (None, _) => return self.break_link(),
                (Some(_), None) => return,
            }
        }
    }

    fn fail(&mut self, fault: Fault) {
        match fault {
            Fault::None => {}
            Fault::Before | Fault::After => self.break_link(),
            Fault::CutBefore | Fault::CutAfter => self.power_cut(),
        }
    }

    /// The DIdP's answer; `None`: it closes.
    fn didp_hears(&mut self, packet: Packet<'_>) -> Option<Vec<u8>> {
        match packet {
            Packet::Connect(connect) => {
                assert_eq!((connect.username, connect.client_id), (Some("client"), "client"));
                let secret = String::from_utf8_lossy(connect.password.unwrap()).into_owned();
                let Some(at) = self.didp.secrets.iter().position(|known| *known == secret) else {
                    return Some(connack(4));
                };
                // A newer one that is used kills the older ones.
                self.didp.secrets.drain(..at);
                self.didp.logins += 1;
                Some(connack(0))
            }
            Packet::Publish(publish) => {
                let payload = String::from_utf8_lossy(publish.payload).into_owned();
                self.didp.requests.push(format!("{} {payload}", publish.topic));
                let topic = publish.topic.to_string();
                if self.didp.mute {
                    return Some(Vec::new());
                }
                let answer = match self.didp.refuse {
                    Some((on, error)) if topic == on => format!("{{\"error\":\"{error}\"}}"),
                    _ => self.didp_answers(&topic, &payload),
                };
                Some(self::publish(&format!("{topic}/response"), answer.as_bytes(), None))
            }
            Packet::PingReq => Some(vec![0xD0, 0]),
            Packet::Disconnect(_) => None,
            other => panic!("not at the DIdP: {other:?}"),
        }
    }

    fn didp_answers(&mut self, topic: &str, payload: &str) -> String {
        let object = Object::parse(payload.as_bytes()).unwrap();
        let text =
            |name: &str| object.text::<128>(name).unwrap().map(|text: Text<128>| text.as_str().to_string());
        let refused = || r#"{"error":"invalid_grant","error_description":"no"}"#.to_string();
        match topic {
            "$oauth/claim" => {
                assert_eq!(text("code_challenge_method").unwrap(), "S256");
                self.didp.challenge = text("code_challenge");
                r#"{"status":"window_open","expires_in":120,"user_code":"0427"}"#.to_string()
            }
            "$oauth/token" if text("grant_type").unwrap() == "authorization_code" => {
                let Some((code, challenge)) = &self.didp.code else { return refused() };
                let verifier = text("code_verifier").unwrap();
                if text("code").as_ref() != Some(code) || sha256(&verifier) != *challenge {
                    return refused();
                }
                let family = self.didp.family.get_or_insert_default();
                if family.nodes.iter().any(|node| node.parent.is_none() && !node.alive) {
                    // A code whose tokens were used is dead.
                    family.revoke();
                    return refused();
                }
                let node = family.mint(None);
                let secret = format!("secret-{}", self.didp.secrets.len() + node);
                self.didp.secrets.push(secret.clone());
                self.tokens(node, Some(&secret))
            }
            "$oauth/token" => {
                let token = text("refresh_token").unwrap();
                match self.didp.family.as_mut().and_then(|family| family.refresh(&token)) {
                    Some(node) => self.tokens(node, None),
                    None => refused(),
                }
            }
            "$oauth/claim/done" => {
                let record = self.flashed();
                assert!(record.grant().is_some_and(|grant| grant.done_pending), "done before it was stored");
                self.didp.done += 1;
                self.didp.code = None;
                "{}".to_string()
            }
            "$oauth/reset" => {
                assert_eq!(self.flashed().ownership, Ownership::ResetPending, "reset before it was stored");
                self.didp.family = None;
                self.didp.resets += 1;
                "{}".to_string()
            }
            _ => panic!("no such topic: {topic}"),
        }
    }

    fn tokens(&self, node: usize, secret: Option<&str>) -> String {
        let node = &self.didp.family.as_ref().unwrap().nodes[node];
        let secret = secret.map_or_else(String::new, |secret| format!(r#""client_secret":"{secret}","#));
        format!(
            r#"{{"access_token":"{}","refresh_token":"{}","token_type":"Bearer","expires_in":{},{secret}"scope":"data:publish",
            "gateway":{{"host":"ignite.localhost","port":{GATEWAY},"spki_sha256":["{PIN}"],"http":"http://x"}}}}"#,
            node.access, node.refresh, self.didp.expires_in
        )
    }

    /// The gateway's answer; `None`: it closes.
    fn gateway_hears(&mut self, packet: Packet<'_>) -> Option<Vec<u8>> {
        match packet {
            Packet::Connect(connect) => {
                assert_eq!(connect.username, Some("Bearer"));
                assert_ne!(connect.client_id, "client", "the gateway must not learn the client_id");
                let token = String::from_utf8_lossy(connect.password.unwrap()).into_owned();
                let stored = self.flashed();
                assert_eq!(stored.grant().unwrap().access_token.as_str(), token, "used before it was stored");
                self.gateway.connects.push(token.clone());
                let known = self.didp.family.as_mut().is_some_and(|family| family.access(&token));
                Some(connack(if known && self.gateway.expired != Some(token) { 0 } else { 5 }))
            }
            Packet::Publish(publish) => {
                let dup = if publish.dup { " dup" } else { "" };
                let text = format!("{} {}{dup}", publish.topic, String::from_utf8_lossy(publish.payload));
                self.gateway.published.push(text);
                match publish.packet_id.filter(|_| !self.gateway.no_puback) {
                    Some(id) => Some(encode(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)))),
                    None => Some(Vec::new()),
                }
            }
            Packet::Subscribe(subscribe) => {
                self.gateway.subscribed.extend(subscribe.filters.iter().map(|s| s.filter.to_string()));
                let packet_id = subscribe.packet_id;
                Some(encode(&Packet::SubAck(SubAck {
                    packet_id,
                    properties: Properties::EMPTY,
                    codes: &[1],
                })))
            }
            Packet::PubAck(_) => Some(Vec::new()),
            Packet::PingReq => Some(vec![0xD0, 0]),
            Packet::Disconnect(_) => None,
            other => panic!("not at the gateway: {other:?}"),
        }
    }
}

fn sha256(text: &str) -> String {
    use sha2::Digest as _;
    base64url(&sha2::Sha256::digest(text.as_bytes()).into()).as_str().to_string()
}

fn encode(packet: &Packet<'_>) -> Vec<u8> {
    let mut out = vec![0; 4096];
    let len = packet.encode(Version::V311, &mut out).unwrap();
    out.truncate(len);
    out
}

fn connack(code: u8) -> Vec<u8> {
    let reason = ReasonCode::from_v311_connack(code).unwrap();
    encode(&Packet::ConnAck(ConnAck { session_present: false, reason, properties: Properties::EMPTY }))
}

pub(super) fn publish(topic: &str, payload: &[u8], packet_id: Option<u16>) -> Vec<u8> {
    encode(&Packet::Publish(Publish {
        dup: false,
        qos: if packet_id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce },
        retain: false,
        topic,
        packet_id,
        properties: Properties::EMPTY,
        payload,
    }))
}
