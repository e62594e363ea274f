//! The fuzzing does what it says: its packets reach every decoder, and the same seed is the same run.

use mqtt_fuzz::codec::{VERSIONS, decode, round_trip};
use mqtt_fuzz::random::Random;
use mqtt_fuzz::streams::{CLIENTS, Script, run};
use mqtt_fuzz::{generate, mutate};
use mqtt_wire::{Packet, Version};

#[test]
fn generated_packets_of_every_type_are_valid_most_of_the_time() {
    let mut random = Random::new(7);
    for version in VERSIONS {
        for kind in 1..=14 {
            let valid = |_: &usize| {
                let mut packet = Vec::new();
                generate::packet_of(&mut random, kind, version, &mut packet);
                Packet::decode(&packet, version).is_ok()
            };
            let count = (0..200).filter(valid).count();
            assert!(count > 20, "type {kind} in {version:?}: {count} of 200");
        }
    }
    let mut auth = Vec::new();
    generate::packet_of(&mut random, 15, Version::V5, &mut auth);
    assert!(!auth.is_empty());
}

#[test]
fn the_targets_hold_for_some_thousand_packets() {
    let mut random = Random::new(3);
    for _ in 0..300 {
        let mut script = Script::new(random.one_in(2));
        for _ in 0..16 {
            let (mut packet, mut other) = (Vec::new(), Vec::new());
            generate::packet(&mut random, Version::V5, &mut packet);
            generate::packet(&mut random, Version::V311, &mut other);
            for _ in 0..random.below(3) {
                mutate::mutate(&mut random, &mut packet, &other);
            }
            decode(&packet);
            round_trip(&packet);
            script.send(random.below(CLIENTS), &packet);
            script.pass(random.byte());
        }
        run(script.bytes());
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let packets = |seed| {
        let mut random = Random::new(seed);
        let mut all = Vec::new();
        for _ in 0..50 {
            generate::packet(&mut random, Version::V5, &mut all);
        }
        all
    };
    assert_eq!(packets(1), packets(1));
    assert_ne!(packets(1), packets(2));
}
