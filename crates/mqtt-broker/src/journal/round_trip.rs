//! Whatever happens, the records put the same state back.

use super::may_keep;
use crate::broker::Broker;
use crate::flights::Stage;
use crate::grants::Policy;
use crate::invariants::{World, event, grants, limits};
use crate::session::Waiting;
use mqtt_wire::QoS;
use proptest::prelude::*;
use std::fmt::Write;

/// A store that keeps everything, as a journal does.
#[derive(Default)]
struct Kept {
    records: Vec<u8>,
    snapshots: usize,
}

impl Kept {
    fn snapshot(&mut self, broker: &mut Broker) {
        let mut records = Vec::new();
        let taken = broker.snapshot(&mut |piece| {
            records.extend_from_slice(piece);
            Ok(())
        });
        taken.expect("memory takes everything");
        broker.kept();
        self.records = records;
        self.snapshots += 1;
    }

    fn commit(&mut self, broker: &mut Broker) {
        if broker.wants_snapshot() {
            self.snapshot(broker);
        } else {
            broker.take_log(&mut self.records);
            broker.kept();
        }
    }

    fn restored(&self, policy: Policy, now: u64) -> World {
        let mut broker = Broker::new(limits(), policy, 1);
        let mut restore = broker.restore();
        restore.records(&self.records).expect("records");
        restore.finish(now);
        World { broker, now }
    }
}

fn waiting(out: &mut String, waiting: &Waiting) {
    let content = waiting.message.content();
    let Waiting { qos, retain, ids, .. } = waiting;
    let (topic, length, expiry) = (content.topic, content.payload.len(), content.expires_at);
    write!(out, "{topic} {length} {expiry:?} {qos:?} {retain} {ids:?};").unwrap();
}

/// What of a broker must be the same after a restart at `now`.
fn dump(broker: &Broker, now: u64) -> String {
    let mut out = String::new();
    for (key, id) in &broker.by_key {
        let session = &broker.sessions[*id];
        let will = session.will.as_ref().filter(|will| may_keep(&broker.policy, will));
        if session.expiry == 0 && will.is_none() {
            continue;
        }
        write!(out, "\n{key:?} {:?} {}", session.sid, session.expiry).unwrap();
        if let Some(will) = will {
            let (topic, lost) = (will.message.content().topic, session.connection.is_some());
            let at = if lost {
                Some(now + u64::from(will.delay.min(session.expiry)) * 1_000)
            } else {
                session.will_at
            };
            write!(out, " will {topic} {:?} {} {:?} {at:?}", will.qos, will.retain, will.expiry).unwrap();
        }
        let lost = now + u64::from(session.expiry) * 1_000;
        write!(out, " until {}", session.expires_at.unwrap_or(lost)).unwrap();
        if session.expiry == 0 {
            continue;
        }
        for known in &session.subscriptions {
            let entry = &known.entry;
            let options = (entry.qos, entry.no_local, entry.retain_as_published, entry.id);
            write!(out, "\n  sub {} {options:?}", known.filter).unwrap();
        }
        for one in session.waiting.iter().filter(|one| one.qos != QoS::AtMostOnce) {
            out.push_str("\n  waits ");
            waiting(&mut out, one);
        }
        for flying in session.flying.iter().filter(|one| one.message.is_some() || one.stage == Stage::Comp) {
            write!(out, "\n  flies {} {:?} ", flying.packet_id, flying.stage).unwrap();
            if let Some(one) = &flying.message {
                waiting(&mut out, one);
            }
        }
        write!(out, "\n  received {:?}", session.received).unwrap();
    }
    for topic in broker.retained.topics() {
        let mut entry = Vec::new();
        broker.retained.write(topic, &mut entry);
        write!(out, "\n{topic} {entry:02x?}").unwrap();
    }
    for label in broker.shadows.labels() {
        let mut entry = Vec::new();
        broker.shadows.write(label, &mut entry);
        write!(out, "\n{label} {}", String::from_utf8_lossy(&entry)).unwrap();
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn after_any_event_the_records_restore_what_there_is(
        open in any::<bool>(),
        events in prop::collection::vec(event(), 1..80),
    ) {
        let policy = if open { Policy::Open } else { Policy::Granted(Some(grants(0b1110))) };
        let mut world = World { broker: Broker::new(limits(), policy, 1), now: 1 };
        let mut kept = Kept::default();
        world.broker.start_log();
        kept.snapshot(&mut world.broker);
        for event in &events {
            world.apply(event);
            kept.commit(&mut world.broker);
            if !world.broker.log.on {
                // Everything was forgotten, and the log with it.
                break;
            }
            world.broker.retained.expire(world.now);
            let mut restored = kept.restored(world.broker.policy.clone(), world.now);
            prop_assert_eq!(dump(&restored.broker, world.now), dump(&world.broker, world.now), "after {:?}", event);
            restored.check();
            let mut again = Kept::default();
            restored.broker.start_log();
            again.snapshot(&mut restored.broker);
            let again = again.restored(world.broker.policy.clone(), world.now);
            prop_assert_eq!(dump(&again.broker, world.now), dump(&world.broker, world.now), "from a snapshot");
        }
    }

    /// No key was needed to damage these; the broker is of no use then, but it stands.
    #[test]
    fn damaged_records_are_refused_or_read_but_never_a_panic(
        events in prop::collection::vec(event(), 1..60),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut world = World { broker: Broker::new(limits(), Policy::Granted(Some(grants(0b1110))), 1), now: 1 };
        let mut kept = Kept::default();
        world.broker.start_log();
        kept.snapshot(&mut world.broker);
        for event in &events {
            world.apply(event);
            kept.commit(&mut world.broker);
        }
        for (at, byte) in flips {
            if !kept.records.is_empty() {
                let at = at.index(kept.records.len());
                kept.records[at] = byte;
            }
        }
        let mut broker = Broker::new(limits(), Policy::Granted(Some(grants(0b1110))), 1);
        let mut restore = broker.restore();
        let _refused_or_read = restore.records(&kept.records);
        restore.finish(world.now);
        broker.start_log();
        kept.snapshot(&mut broker);
        broker.set_grants(grants(0), world.now);
        broker.tick(u64::MAX / 2);
    }

    #[test]
    fn bytes_that_are_no_records_are_refused_without_a_panic(bytes: Vec<u8>) {
        let mut broker = Broker::new(limits(), Policy::Open, 1);
        let mut restore = broker.restore();
        let _refused_or_by_chance_records = restore.records(&bytes);
        restore.finish(1);
        World { broker, now: 1 }.check();
    }
}
