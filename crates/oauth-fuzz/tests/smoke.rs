//! The fuzzing does what it says: its inputs get beyond the first check, and the same seed is the same run.

use mqtt_fuzz::random::Random;
use oauth_fuzz::device::{Seen, play};
use oauth_fuzz::generate;
use oauth_fuzz::targets::TARGETS;
use oauth_wire::{DeviceRequest, Form, Metadata, RequestTopic};

fn inputs(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut random = Random::new(seed);
    let input = |_| {
        let mut input = Vec::new();
        generate::input(&mut random, &mut input);
        input
    };
    (0..count).map(input).collect()
}

#[test]
fn some_inputs_are_accepted_and_most_are_not() {
    let inputs = inputs(7, 4_000);
    let accepted =
        |is_accepted: &dyn Fn(&[u8]) -> bool| inputs.iter().filter(|input| is_accepted(input)).count();
    let metadata = accepted(&|input| {
        serde_json::from_slice::<Metadata>(input).is_ok_and(|mut metadata| metadata.check(false).is_ok())
    });
    let requests =
        accepted(&|input| RequestTopic::ALL.iter().any(|topic| DeviceRequest::parse(*topic, input).is_ok()));
    let forms = accepted(&|input| Form::parse(input).is_ok_and(|form| form.pairs().len() > 2));
    for (what, count) in [("metadata", metadata), ("requests", requests), ("forms", forms)] {
        assert!((40..3_000).contains(&count), "{count} {what} of 4000");
    }
}

#[test]
fn the_targets_hold_for_some_thousand_inputs() {
    for input in inputs(3, 6_000) {
        for target in TARGETS {
            (target.hold)(&input);
        }
    }
}

#[test]
fn a_device_lives_through_its_scripts() {
    let mut random = Random::new(3);
    let mut script = Vec::new();
    let mut all = Seen::default();
    for _ in 0..1_000 {
        generate::script(&mut random, &mut script);
        let seen = play(&script);
        all.stored += seen.stored;
        all.restarts += seen.restarts;
        all.torn += seen.torn;
        all.tokens += seen.tokens;
        all.logins += seen.logins;
    }
    println!("{all:?}");
    for (what, count) in [("restarts", all.restarts), ("torn writes", all.torn), ("logins", all.logins)] {
        assert!(count > 100, "{count} {what}");
    }
    assert!(all.stored > 4_000 && all.tokens > 1_000, "{all:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(inputs(5, 200), inputs(5, 200));
    assert_ne!(inputs(5, 200), inputs(6, 200));
}
