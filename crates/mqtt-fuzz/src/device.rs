//! The target for [`device_client`]: a device among servers that say anything, on a clock that lies, with flash that forgets.
//!
//! Panics if the device does, if it never comes to rest, if it loses who it is, or if it stands still for good.

use device_client::record::Ownership;
use device_client::{Action, Closed, Device, Flash, Millis, Options, Record, SLOT_LEN, Server, Slots};
use mqtt_wire::Version;

use crate::random::Random;
use crate::{generate, mutate};

/// Things that happen in one life.
const STEPS: usize = 48;

/// Actions without a rest that would be a loop.
const RESTLESS: usize = 2_000;

const PIN: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What servers say, before it is changed.
const ANSWERS: [(&str, &str); 9] = [
    ("$oauth/claim/response", r#"{"status":"window_open","expires_in":120,"user_code":"0427"}"#),
    ("$oauth/claim/response", r#"{"status":"granted","code":"c0de"}"#),
    ("$oauth/claim/response", r#"{"error":"access_denied"}"#),
    ("$oauth/token/response", r#"{"error":"invalid_grant"}"#),
    ("$oauth/token/response", r#"{"error":"temporarily_unavailable"}"#),
    ("$oauth/claim/done/response", "{}"),
    ("$oauth/reset/response", "{}"),
    ("c/heater", "true"),
    ("s/delta", r#"{"heater":true}"#),
];

/// Two slots, of which one write in some is cut short, and one read in some fails.
struct Forgetful {
    slots: [Vec<u8>; 2],
    chance: Random,
}

impl Flash for Forgetful {
    type Error = ();

    fn read(&mut self, slot: usize, out: &mut [u8; SLOT_LEN]) -> Result<usize, ()> {
        let held = &self.slots[slot];
        out[..held.len()].copy_from_slice(held);
        Ok(held.len())
    }

    fn write(&mut self, slot: usize, bytes: &[u8]) -> Result<(), ()> {
        let written = if self.chance.one_in(4) { self.chance.below(bytes.len()) } else { bytes.len() };
        self.slots[slot] = bytes[..written].to_vec();
        // Some flash does not know what it did.
        if written == bytes.len() || self.chance.one_in(2) { Ok(()) } else { Err(()) }
    }
}

struct World {
    device: Device<1024, 512>,
    slots: Slots<Forgetful>,
    now: Millis,
    open: bool,
    stored: bool,
}

fn registered() -> Record {
    let mut server = Server::new("didp.example", 8884).expect("a short name");
    assert!(server.pin([7; 32]));
    Record::new("device", "secret", server).expect("short values")
}

/// One life.
pub fn life(random: &mut Random) {
    let record = registered();
    let flash = Forgetful { slots: [Vec::new(), Vec::new()], chance: Random::new(random.next()) };
    let mut slots = Slots::new(flash);
    assert_eq!(slots.load(), Ok(None));
    let stored = slots.save(&record).is_ok();
    let device = Device::new(record, Options::default());
    let mut world = World { device, slots, now: 0, open: false, stored };
    for _ in 0..STEPS {
        world.happen(random);
        world.rest(random);
    }
    // Whatever was said: who it is stays, and it tries again.
    assert_eq!(world.device.record().client_id.as_str(), "device");
    world.device.closed(Closed::Lost, &mut |out| out.fill(9));
    world.open = false;
    let until = world.now + 2 * Options::default().backoff_max + 60_000;
    while world.now < until {
        if world.rest(random) {
            return;
        }
    }
    panic!("it does not try to connect any more: {:?}", world.device.status());
}

impl World {
    /// Does what the device wants until it waits, and lets that time pass; true if it wanted to connect.
    fn rest(&mut self, random: &mut Random) -> bool {
        let seed = random.byte();
        let mut noise = |out: &mut [u8]| out.fill(seed);
        let mut connected = false;
        for _ in 0..RESTLESS {
            match self.device.poll(self.now, &mut noise) {
                Action::Connect(server) => {
                    assert!(server.is_usable(), "it would connect without a pin");
                    connected = true;
                    self.open = !random.one_in(4);
                    if self.open {
                        self.device.connected();
                        let accepted = if random.one_in(4) { random.byte() % 6 } else { 0 };
                        self.device.received(&[0x20, 2, 0, accepted]);
                    } else {
                        let how = if random.one_in(2) { Closed::Lost } else { Closed::Untrusted };
                        self.device.closed(how, &mut noise);
                    }
                }
                Action::Send(bytes) => {
                    let sent = if random.one_in(3) { 1 } else { bytes.len() };
                    self.device.sent(sent);
                }
                Action::Close => self.open = false,
                Action::Store(record) => {
                    let safe = self.slots.save(record).is_ok();
                    self.stored |= safe;
                    self.device.stored(safe);
                }
                Action::Command { .. } | Action::Delta { .. } => {}
                Action::Wait(until) => {
                    let until = until.unwrap_or(self.now + 60_000);
                    self.now = self.now.max(until.min(self.now.saturating_add(120_000)));
                    return connected;
                }
            }
        }
        panic!("it does not come to rest");
    }

    fn happen(&mut self, random: &mut Random) {
        let noise = &mut |out: &mut [u8]| out.fill(3);
        match random.below(24) {
            0 => self.device.press(self.now),
            1 => self.device.long_press(self.now),
            2 => self.device.closed(Closed::Lost, noise),
            // A clock that lies: back, and far ahead.
            3 => drop(self.device.poll(self.now / 2, noise)),
            4 => self.now = self.now.saturating_add(random.next() % 200_000_000),
            // Channels that are none, payloads that do not fit: refused, and nothing else.
            5 => drop(self.device.publish("temperature", &vec![b'1'; random.below(700)], random.one_in(2))),
            6 => drop(self.device.publish_at_least_once("a/b/c/d/e", b"1", false)),
            7 => drop(self.device.report(b"{}")),
            8 => self.restart(),
            _ => self.answer(random),
        }
    }

    /// The power goes; one slot may be cut short or forgotten meanwhile.
    fn restart(&mut self) {
        let damage = self.slots.flash().chance.below(8);
        if let (Some(slot), false) = (self.slots.flash().slots.get_mut(damage), self.stored) {
            slot.truncate(20);
        }
        let record = match self.slots.load() {
            Ok(Some(record)) => record,
            // Half a block of credentials is none: flashed again.
            Ok(None) | Err(()) => {
                assert!(!self.stored, "a stored record is gone");
                registered()
            }
        };
        self.open = false;
        self.device = Device::new(record, Options::default());
    }

    fn answer(&mut self, random: &mut Random) {
        let mut bytes = Vec::new();
        match random.below(4) {
            0 => generate::packet(random, Version::V311, &mut bytes),
            1 => {
                let tokens = format!(
                    r#"{{"access_token":"a{}","token_type":"Bearer","expires_in":{},"refresh_token":"r","client_secret":"s{}",
                    "gateway":{{"host":"ignite.example","port":8883,"spki_sha256":["{PIN}"]}}}}"#,
                    random.byte(),
                    random.next() % 5_000_000_000,
                    random.byte()
                );
                publish("$oauth/token/response", tokens.as_bytes(), &mut bytes);
            }
            _ => {
                let (topic, payload) = ANSWERS[random.below(ANSWERS.len())];
                publish(topic, payload.as_bytes(), &mut bytes);
            }
        }
        for _ in 0..random.one_of(&[0usize, 0, 1, 1, 2, 5]) {
            mutate::mutate(random, &mut bytes, ANSWERS[0].1.as_bytes());
        }
        let mut rest = &bytes[..];
        let noise = &mut |out: &mut [u8]| out.fill(5);
        for _ in 0..8 {
            let taken = self.device.received(rest);
            rest = &rest[taken..];
            let _ = self.device.poll(self.now, noise);
        }
        if matches!(self.device.record().ownership, Ownership::Owned(_)) {
            assert!(self.device.record().grant().is_some_and(|grant| grant.gateway.is_usable()));
        }
    }
}

/// A PUBLISH with QoS 0.
fn publish(topic: &str, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x30);
    mutate::push_length(out, 2 + topic.len() + payload.len());
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(payload);
}
