//! What the journal costs a message, without sockets: `cargo run --profile pcm -p pcm --example journal_cost`.
//!
//! One device publishes 100-byte values with QoS 1 to one app, whose session lasts; each message goes through the broker
//! and, with state, through a commit of its own or one for 32 messages. Files are in the system's temporary directory.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made is to stop")]

use mqtt_broker::net::Door;
use mqtt_broker::{Broker, Identity, Limits, Policy};
use mqtt_wire::{
    Ack, Connect, Filters, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe, Subscription,
    Version,
};
use pcm::door::PreambleDoor;
use pcm::state::State;
use std::time::{Duration, Instant};

const APP: usize = 0;
const DEVICE: usize = 1;
const MESSAGES: usize = 200_000;

struct World {
    broker: Broker,
    door: PreambleDoor,
    out: Vec<u8>,
}

impl World {
    fn new(directory: Option<&std::path::Path>, sync: bool) -> World {
        let limits = Limits { queue_bytes: 1 << 30, queue_messages: 1_000, ..Limits::PERSONAL };
        let mut broker = Broker::new(limits, Policy::Granted(None), 1);
        let mut door = PreambleDoor::new(0);
        if let Some(directory) = directory {
            door = door.with_state(State::open(directory, sync).unwrap());
            let key = "A".repeat(43);
            door.control(
                &mut broker,
                format!(r#"{{"id":1,"claim":{{"name":"p","key":"{key}"}}}}"#).as_bytes(),
                0,
                1,
            );
        }
        let grants = r#"{"id":2,"grants":{"rev":1,"grants":[{"role":"device","sid":"d","label":"L"},{"role":"app","sid":"a","rules":[{"label":"L","read":["t"],"command":[]}]}]}}"#;
        door.control(&mut broker, grants.as_bytes(), 0, 1);
        let mut world = World { broker, door, out: Vec::new() };
        world.connect(APP, "a", 3_600);
        let list = [Subscription::new("d/#", QoS::AtLeastOnce)];
        let (packet_id, properties) = (1, Properties::EMPTY);
        world.send(
            APP,
            &Packet::Subscribe(Subscribe { packet_id, properties, filters: Filters::list(&list) }),
        );
        world.connect(DEVICE, "d", 0);
        world.turn();
        world
    }

    fn connect(&mut self, at: usize, sid: &str, expiry: u32) {
        let identity = Identity { sid: sid.into(), client: sid.into() };
        self.broker.open(at, Some(identity), 1);
        let properties = [Property::SessionExpiryInterval(expiry)];
        let connect = Connect {
            version: Version::V5,
            clean_start: false,
            keep_alive: 0,
            properties: Properties::list(&properties),
            client_id: sid,
            will: None,
            username: None,
            password: None,
        };
        self.send(at, &Packet::Connect(connect));
    }

    fn send(&mut self, at: usize, packet: &Packet<'_>) {
        self.out.clear();
        packet.encode_into(Version::V5, &mut self.out).unwrap();
        self.broker.receive(at, &self.out, 1);
    }

    fn publish(&mut self, id: u16) {
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "d/L/t",
            packet_id: Some(id),
            properties: Properties::EMPTY,
            payload: &[b'x'; 100],
        };
        self.send(DEVICE, &Packet::Publish(publish));
    }

    /// The rest of a turn: a commit, and everything is written.
    fn turn(&mut self) {
        self.door.commit(&mut self.broker, 1).unwrap();
        while let Some(at) = self.broker.next_attention() {
            let count = self.broker.output(at).len();
            self.broker.written(at, count, 1);
        }
    }

    /// The app acknowledges everything that it was sent in this turn.
    fn live(&mut self, batch: usize, next_id: &mut u16) {
        for _ in 0..batch {
            self.publish(1);
        }
        self.turn();
        for _ in 0..batch {
            *next_id = next_id.checked_add(1).unwrap_or(1);
            self.send(APP, &Packet::PubAck(Ack::new(*next_id, ReasonCode::SUCCESS)));
        }
        self.turn();
    }
}

fn each(elapsed: Duration, messages: usize) -> f64 {
    elapsed.as_secs_f64() * 1e6 / messages as f64
}

/// How a run keeps its state.
#[derive(Clone, Copy)]
enum Keeps {
    Nothing,
    Journal,
    Synced,
}

fn world(keeps: Keeps) -> (World, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let world = match keeps {
        Keeps::Nothing => World::new(None, false),
        Keeps::Journal => World::new(Some(directory.path()), false),
        Keeps::Synced => World::new(Some(directory.path()), true),
    };
    (world, directory)
}

fn measure(keeps: Keeps, batch: usize, is_live: bool, messages: usize) -> f64 {
    if is_live {
        let (mut world, _directory) = world(keeps);
        let (mut next_id, start) = (0, Instant::now());
        for _ in 0..messages / batch {
            world.live(batch, &mut next_id);
        }
        let spent = start.elapsed();
        assert_eq!(world.broker.counts().queued, 0, "everything was acknowledged");
        return each(spent, messages);
    }
    // A queue holds 1,000: a new one for every 960 messages, outside of the measurement.
    let (mut spent, mut done) = (Duration::ZERO, 0);
    while done < messages {
        let (mut world, _directory) = world(keeps);
        world.broker.close(APP, 1);
        world.turn();
        let start = Instant::now();
        for _ in 0..960 / batch {
            for _ in 0..batch {
                world.publish(1);
            }
            world.turn();
        }
        spent += start.elapsed();
        assert_eq!(world.broker.counts().queued, 960);
        done += 960;
    }
    each(spent, done)
}

fn main() {
    for (what, is_live) in [("to a session that is away", false), ("live, acknowledged at once", true)] {
        for batch in [1, 32] {
            let without = measure(Keeps::Nothing, batch, is_live, MESSAGES);
            let with = measure(Keeps::Journal, batch, is_live, MESSAGES);
            let synced = measure(Keeps::Synced, batch, is_live, 960);
            println!(
                "QoS 1 {what}, {batch:2} a turn: {without:.2} µs without, {with:.2} µs with journal, {:.2} µs more; with fsync {synced:.1} µs",
                with - without
            );
        }
    }
}
