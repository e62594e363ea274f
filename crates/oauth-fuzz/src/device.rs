//! A device between servers that say what they like, a clock that lies, and a flash that loses power (`device_client`).
//!
//! The input is a script. What the device stores really goes into two slots of flash, and after a power cut a new device
//! starts from what they hold: from the record before or the one that was being written, and from nothing else. At the end the
//! servers are honest again, and the device must find its way: to its gateway, or to a claim and from there to its gateway.

use device_client::device::Phase;
use device_client::{Action, Closed, Device, Flash, Options, PublishError, Record, SLOT_LEN, Server, Slots};
use mqtt_fuzz::random::Random;
use mqtt_wire::{Packet, Version, frame_len};

use crate::generate;

/// Buffers as small as the chip's.
type Small = Device<1280, 768>;

const CLIENT: &str = "client-of-the-factory";
const SECRET: &str = "secret-of-the-factory";

/// Actions without a rest after which a device counts as running wild.
const RESTLESS: usize = 20_000;

/// Longest time that finding back may take: the longest back-off, a few times.
const PATIENCE: u64 = 4 * 3_600_000;

/// Topics on which a device hears something.
const TOPICS: [&str; 8] = [
    "$oauth/claim/response",
    "$oauth/token/response",
    "$oauth/claim/done/response",
    "$oauth/reset/response",
    "c/heater",
    "s/delta",
    "c/a/b/c/d/e",
    "",
];

/// What may be said there; what follows turns some of it into something else.
const PAYLOADS: [&str; 10] = [
    r#"{"status":"window_open","expires_in":120,"user_code":"0427"}"#,
    r#"{"status":"granted","code":"a-code"}"#,
    r#"{"error":"access_denied"}"#,
    r#"{"error":"invalid_grant","error_description":"no"}"#,
    r#"{"error":"temporarily_unavailable"}"#,
    r#"{"access_token":"x.token","refresh_token":"x-refresh","token_type":"Bearer","expires_in":86400,"client_secret":"renewed","gateway":{"host":"gateway.example","port":8883,"spki_sha256":["BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="]}}"#,
    r#"{"access_token":"y.token","token_type":"bearer","expires_in":0}"#,
    "{}",
    "true",
    r#"{"heater":true}"#,
];

/// The flash: two slots, and what goes wrong with them.
#[derive(Clone, Default)]
struct Cells {
    slots: [Vec<u8>; 2],
    /// The power goes after so many bytes of the next write.
    power: Option<usize>,
    /// Writing fails as a whole.
    broken: bool,
}

impl Flash for Cells {
    type Error = ();

    fn read(&mut self, slot: usize, out: &mut [u8; SLOT_LEN]) -> Result<usize, ()> {
        let held = &self.slots[slot];
        out[..held.len()].copy_from_slice(held);
        Ok(held.len())
    }

    fn write(&mut self, slot: usize, bytes: &[u8]) -> Result<(), ()> {
        if self.broken {
            return Err(());
        }
        let written = bytes.len().min(self.power.unwrap_or(usize::MAX));
        self.slots[slot] = vec![0xff; SLOT_LEN];
        self.slots[slot][..written].copy_from_slice(&bytes[..written]);
        if self.power.is_some() { Err(()) } else { Ok(()) }
    }
}

/// One connection, as its server sees it.
#[derive(Default)]
struct Connection {
    heard: Vec<u8>,
    to_say: Vec<u8>,
}

struct World {
    device: Small,
    slots: Slots<Cells>,
    /// What the flash holds for certain.
    stored: Record,
    now: u64,
    chance: Random,
    connection: Option<Connection>,
    honest: bool,
    reachable: bool,
    trusted: bool,
    seen: Seen,
}

/// What happened in a script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Records that were stored.
    pub stored: u32,
    /// Restarts from the flash.
    pub restarts: u32,
    /// Restarts because the power went in the middle of a write.
    pub torn: u32,
    /// Token answers of honest servers.
    pub tokens: u32,
    /// Logins at a gateway.
    pub logins: u32,
}

/// Plays the script `bytes`, as [`play`] does.
///
/// # Panics
/// As [`play`].
pub fn device(bytes: &[u8]) {
    play(bytes);
}

/// Plays the script `bytes`.
///
/// # Panics
/// A device that panics, never rests, uses what is not stored, restarts from something else, shows a credential to the wrong
/// server, connects to one without pins, or does not find back.
pub fn play(bytes: &[u8]) -> Seen {
    let mut script = Script(bytes);
    let mut world = World::new(script.number());
    world.settle();
    while let Some(word) = script.next() {
        match word % 13 {
            0 => world.honest = script.byte() & 1 == 1,
            1 => world.say(&mut script),
            2 => {
                let raw = script.take_some();
                world.push(raw);
            }
            3 => world.now = world.now.saturating_add(script.long()),
            4 => world.now = world.now.saturating_sub(script.long()),
            5 => world.lose(),
            6 => world.touch(script.byte()),
            7 => world.cut_power(None),
            8 => world.slots.flash().power = Some(usize::from(script.number())),
            9 => world.slots.flash().broken = script.byte() & 1 == 1,
            10 => world.damage(script.byte(), script.number()),
            11 => world.push(&[0x20, 2, 0, script.byte() % 7]),
            _ => (world.reachable, world.trusted) = (script.byte() & 1 == 1, script.byte() & 1 == 1),
        }
        world.settle();
    }
    world.finds_back();
    world.seen
}

/// Reads the input; behind its end are zeros.
struct Script<'s>(&'s [u8]);

impl<'s> Script<'s> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn number(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// From nothing to for ever.
    fn long(&mut self) -> u64 {
        let shift = u32::from(self.byte()) % 64;
        u64::from(self.byte()).checked_shl(shift).unwrap_or(u64::MAX)
    }

    fn take_some(&mut self) -> &'s [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }
}

impl World {
    fn new(seed: u16) -> Self {
        let mut didp = Server::new("didp.example", 8884).expect("a short name");
        assert!(didp.pin([7; 32]), "there is room");
        let record = Record::new(CLIENT, SECRET, didp).expect("a whole record");
        let mut slots = Slots::new(Cells::default());
        assert_eq!(slots.load(), Ok(None));
        assert_eq!(slots.save(&record), Ok(()));
        Self {
            device: Device::new(record.clone(), Options::default()),
            slots,
            stored: record,
            now: 0,
            chance: Random::new(u64::from(seed)),
            connection: None,
            honest: true,
            reachable: true,
            trusted: true,
            seen: Seen::default(),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        if let Some(connection) = &mut self.connection {
            connection.to_say.extend_from_slice(bytes);
        }
    }

    /// A message on one of the topics, more or less as it should be.
    fn say(&mut self, script: &mut Script<'_>) {
        let topic = TOPICS[usize::from(script.byte()) % TOPICS.len()];
        let mut payload = PAYLOADS[usize::from(script.byte()) % PAYLOADS.len()].as_bytes().to_vec();
        let mut chance = Random::new(u64::from(script.number()));
        for _ in 0..script.byte() % 4 {
            generate::change(&mut chance, &mut payload);
        }
        let mut frame = message(topic, &payload, script.byte() & 1 == 1);
        if script.byte().is_multiple_of(16) {
            generate::change(&mut chance, &mut frame);
        }
        self.push(&frame);
    }

    fn lose(&mut self) {
        self.connection = None;
        let chance = &mut self.chance;
        self.device.closed(Closed::Lost, &mut |out| out.fill_with(|| chance.byte()));
    }

    fn touch(&mut self, what: u8) {
        let refused = match what % 5 {
            0 => {
                self.device.press(self.now);
                return;
            }
            1 => {
                self.device.long_press(self.now);
                return;
            }
            2 => self.device.publish("temperature", b"21.5", true),
            3 => self.device.publish_at_least_once("temperature", b"21.5", false),
            _ => self.device.report(br#"{"heater":true}"#),
        };
        // A name and a payload that are right.
        assert!(!matches!(refused, Err(PublishError::Channel | PublishError::TooLong)), "{refused:?}");
    }

    /// The power goes and comes back; `writing` was on its way into the flash.
    fn cut_power(&mut self, writing: Option<&Record>) {
        let mut cells = self.slots.flash().clone();
        cells.power = None;
        self.connection = None;
        self.seen.restarts += 1;
        self.seen.torn += u32::from(writing.is_some());
        self.slots = Slots::new(cells);
        let found = self.slots.load().expect("reading does not fail").expect("a record survives everything");
        assert!(
            found == self.stored || writing == Some(&found),
            "it starts from something that was never whole"
        );
        self.stored = found.clone();
        self.device = Device::new(found, Options::default());
    }

    /// The slot that the newest record is not in turns into something else; that must not matter.
    fn damage(&mut self, how: u8, at: u16) {
        let cells = self.slots.flash();
        let mut probe = cells.clone();
        let newest = (0..2).find(|slot| {
            probe.slots[1 - slot] = Vec::new();
            let holds = Slots::new(probe.clone()).load() == Ok(Some(self.stored.clone()));
            probe = cells.clone();
            holds
        });
        let older = &mut cells.slots[1 - newest.expect("the newest record is in a slot")];
        let at = usize::from(at) % (older.len() + 1);
        match how % 3 {
            0 => older.truncate(at),
            1 if at < older.len() => older[at] ^= how,
            _ => older.fill(how),
        }
    }

    fn settle(&mut self) -> Option<u64> {
        for _ in 0..RESTLESS {
            let chance = &mut self.chance;
            match self.device.poll(self.now, &mut |out| out.fill_with(|| chance.byte())) {
                Action::Connect(server) => {
                    assert!(server.is_usable(), "it calls a server that it could not know");
                    self.uses_what_is_stored();
                    if self.reachable && self.trusted {
                        self.connection = Some(Connection::default());
                        self.device.connected();
                    } else {
                        let how = if self.reachable { Closed::Untrusted } else { Closed::Lost };
                        let chance = &mut self.chance;
                        self.device.closed(how, &mut |out| out.fill_with(|| chance.byte()));
                    }
                }
                Action::Send(bytes) => {
                    let some = 1 + self.chance.below(bytes.len());
                    let bytes = bytes[..some.min(bytes.len())].to_vec();
                    self.device.sent(bytes.len());
                    self.uses_what_is_stored();
                    self.hear(&bytes);
                }
                Action::Close => self.connection = None,
                Action::Store(record) => {
                    let record = record.clone();
                    self.store(&record);
                }
                Action::Command { channel, .. } => {
                    assert!(channel.split('/').count() <= 4 && channel.len() <= 64);
                }
                Action::Delta { .. } => {}
                Action::Wait(until) => {
                    let Some(connection) = self.connection.as_mut().filter(|open| !open.to_say.is_empty())
                    else {
                        return until;
                    };
                    let taken = self.device.received(&connection.to_say);
                    connection.to_say.drain(..taken);
                    if taken == 0 {
                        return until;
                    }
                }
            }
        }
        panic!("the device does not come to rest");
    }

    fn store(&mut self, record: &Record) {
        let cut = self.slots.flash().power.is_some();
        let safe = self.slots.save(record).is_ok();
        if cut {
            assert!(!safe, "the power went while it was writing");
            return self.cut_power(Some(record));
        }
        if safe {
            let read = Slots::new(self.slots.flash().clone()).load();
            assert_eq!(read, Ok(Some(record.clone())), "what is safe can be read");
            self.stored = record.clone();
            self.seen.stored += 1;
        }
        self.device.stored(safe);
    }

    fn uses_what_is_stored(&self) {
        assert!(*self.device.record() == self.stored, "it uses what is not stored");
    }

    /// The server's side of what the device sends.
    fn hear(&mut self, bytes: &[u8]) {
        let Some(connection) = &mut self.connection else { return };
        connection.heard.extend_from_slice(bytes);
        while let Some(connection) = &mut self.connection {
            let Some(len) = frame_len(&connection.heard, 4096).expect("a device sends no nonsense") else {
                return;
            };
            if connection.heard.len() < len {
                return;
            }
            let frame: Vec<u8> = connection.heard.drain(..len).collect();
            let answer =
                self.answer(&Packet::decode(&frame, Version::V311).expect("a device sends no nonsense"));
            if self.honest {
                self.push(&answer);
            }
        }
    }

    fn answer(&mut self, packet: &Packet<'_>) -> Vec<u8> {
        match packet {
            Packet::Connect(connect) => {
                let password = connect.password.unwrap_or_default();
                if connect.username == Some("Bearer") {
                    assert_ne!(connect.client_id, CLIENT, "the gateway must not learn it");
                    let token = self.stored.grant().map(|grant| grant.access_token.as_str().as_bytes());
                    assert!(token == Some(password), "a token that is not stored");
                    self.seen.logins += 1;
                } else {
                    assert_eq!((connect.username, connect.client_id), (Some(CLIENT), CLIENT));
                    let secrets = [&self.stored.client_secret, &self.stored.former_secret];
                    assert!(secrets.iter().any(|secret| secret.as_str().as_bytes() == password));
                }
                vec![0x20, 2, 0, 0]
            }
            Packet::Publish(publish) => match (publish.topic, publish.packet_id) {
                (_, Some(id)) => [&[0x40, 2][..], &id.to_be_bytes()].concat(),
                ("$oauth/claim", None) => {
                    let open = message(TOPICS[0], PAYLOADS[0].as_bytes(), false);
                    [open, message(TOPICS[0], PAYLOADS[1].as_bytes(), false)].concat()
                }
                ("$oauth/token", None) => {
                    self.seen.tokens += 1;
                    let fresh = PAYLOADS[5].replace("x.token", &format!("z.{}", self.seen.tokens));
                    message(TOPICS[1], fresh.as_bytes(), false)
                }
                ("$oauth/claim/done", None) => message(TOPICS[2], b"{}", false),
                ("$oauth/reset", None) => message(TOPICS[3], b"{}", false),
                (topic, None) => {
                    assert!(topic.starts_with("d/") || topic == "s/reported", "{topic}");
                    Vec::new()
                }
            },
            Packet::Subscribe(subscribe) => {
                [&[0x90, 4][..], &subscribe.packet_id.to_be_bytes(), &[1, 1]].concat()
            }
            Packet::PingReq => vec![0xd0, 0],
            Packet::PubAck(_) | Packet::Disconnect(_) => Vec::new(),
            other => panic!("a device does not send {other:?}"),
        }
    }

    /// With honest servers, a sound flash and a sound clock it comes to its gateway, if need be by way of a claim.
    fn finds_back(&mut self) {
        let cells = self.slots.flash();
        (cells.power, cells.broken) = (None, false);
        (self.honest, self.reachable, self.trusted) = (true, true, true);
        // Where time stands still nothing can be waited for.
        self.now = self.now.min(u64::MAX / 4);
        self.lose();
        let end = self.now + PATIENCE;
        let mut next = self.settle();
        loop {
            match self.device.status().phase {
                Phase::Running => break,
                Phase::Ready => self.device.press(self.now),
                _ => self.now = next.unwrap_or(end).max(self.now + 1),
            }
            assert!(self.now < end, "still {:?}", self.device.status());
            next = self.settle();
        }
        assert_eq!(self.device.publish("temperature", b"21.5", false), Ok(()));
        self.settle();
    }
}

/// A PUBLISH, whose topic may be none.
fn message(topic: &str, payload: &[u8], at_least_once: bool) -> Vec<u8> {
    let id: &[u8] = if at_least_once { &[0, 9] } else { &[] };
    let mut rest = (topic.len() as u16).to_be_bytes().to_vec();
    rest.extend_from_slice(topic.as_bytes());
    rest.extend_from_slice(id);
    rest.extend_from_slice(payload);
    let mut frame = vec![if at_least_once { 0x32 } else { 0x30 }];
    let mut left = rest.len();
    loop {
        let more = left >= 128;
        frame.push((left % 128) as u8 | if more { 0x80 } else { 0 });
        left /= 128;
        if !more {
            break;
        }
    }
    frame.extend(rest);
    frame
}
