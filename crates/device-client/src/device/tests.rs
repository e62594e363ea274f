//! Whole lives against a simulated DIdP and gateway.

mod world;

use proptest::prelude::*;

use self::world::{DIDP, Fault, GATEWAY, World, didp_server, publish};
use crate::device::{Device, Lamp, Notice, Options, Phase, PublishError};
use crate::record::{Ownership, Record};

#[test]
fn from_the_factory_to_running() {
    let mut world = World::new();
    world.until(Phase::Ready);
    assert_eq!(world.didp.requests, [""; 0], "an unpressed device offers nothing");
    world.device.press(world.now);
    world.until(Phase::Claimable);
    let status = world.device.status();
    assert_eq!(status.user_code.unwrap().as_str(), "0427");
    assert_eq!(status.window_until, Some(world.now + 120_000));
    assert_eq!(status.phase.lamp(), Lamp::Fast);
    world.owner_says_yes();
    world.until(Phase::Running);
    assert_eq!(world.device.status().user_code, None);
    assert_eq!(world.didp.done, 1);
    // Waiting, redeeming and done on one connection; one more, so that the factory's secret dies; then the gateway.
    assert_eq!(world.connects, [DIDP, DIDP, GATEWAY]);
    assert_eq!(world.didp.secrets, ["secret-1"]);
    assert_eq!(world.gateway.subscribed, ["c/#", "s/delta"]);
    let record = world.flashed();
    assert_eq!(record.client_secret.as_str(), "secret-1");
    assert!(record.former_secret.is_empty());
    assert!(!record.grant().unwrap().done_pending);
}

#[test]
fn readings_and_commands() {
    let mut world = World::owned();
    world.device.publish("temperature", b"21.5", true).unwrap();
    world.device.publish_at_least_once("heater", b"true", true).unwrap();
    world.command("c/heater", "true");
    world.push("d/heater", "not a command");
    world.push("c/a/b/c/d/e", "not a channel");
    world.settle();
    assert_eq!(world.gateway.published, ["d/temperature 21.5", "d/heater true"]);
    assert_eq!(world.commands, ["heater true"]);
    assert_eq!(world.device.publish("a+b", b"", false), Err(PublishError::Channel));
    assert_eq!(world.device.publish("a", &[0; 2000], false), Err(PublishError::TooLong));
    assert_eq!(world.device.publish_at_least_once("a", &[0; 200], false), Err(PublishError::TooLong));
}

#[test]
fn the_shadow_is_reported_to_and_says_what_is_wanted() {
    let mut world = World::owned();
    world.device.report(br#"{"heater":false}"#).unwrap();
    world.command("s/delta", r#"{"heater":true}"#);
    world.push("s/deltas", "not a delta");
    world.push("s/reported", "nor this");
    world.settle();
    assert_eq!(world.gateway.published, [r#"s/reported {"heater":false}"#]);
    assert_eq!(world.commands, [r#"delta {"heater":true}"#]);
    assert_eq!(world.device.report(&[b' '; 2000]), Err(PublishError::TooLong));
    world.break_link();
    assert_eq!(world.device.report(b"{}"), Err(PublishError::NotConnected));
}

#[test]
fn an_unacknowledged_message_comes_again_and_says_so() {
    let mut world = World::owned();
    world.gateway.no_puback = true;
    world.device.publish_at_least_once("heater", b"true", true).unwrap();
    world.settle();
    assert_eq!(world.device.publish_at_least_once("heater", b"false", true), Err(PublishError::Busy));
    world.gateway.no_puback = false;
    world.break_link();
    world.until(Phase::Running);
    world.settle();
    assert_eq!(world.gateway.published, ["d/heater true", "d/heater true dup"]);
    assert_eq!(world.device.publish_at_least_once("heater", b"false", true), Ok(()));
}

#[test]
fn a_valid_token_is_kept_over_a_restart_and_the_didp_is_skipped() {
    let mut world = World::owned();
    world.connects.clear();
    world.didp.up = false;
    world.power_cut();
    world.until(Phase::Running);
    assert_eq!(world.connects, [GATEWAY]);
    assert_eq!(world.gateway.connects[0], world.gateway.connects[1]);
}

#[test]
fn a_restart_with_an_expired_token_fetches_a_new_one() {
    let mut world = World::owned();
    world.connects.clear();
    world.power_cut();
    world.gateway.expired = world.gateway.connects.first().cloned();
    world.until(Phase::Running);
    assert_eq!(world.connects, [GATEWAY, DIDP, GATEWAY]);
    assert_ne!(world.gateway.connects[1], world.gateway.connects[2]);
}

#[test]
fn tokens_are_renewed_before_they_end_and_the_gap_is_short() {
    let mut world = World::owned();
    let start = world.now;
    world.until_next_login();
    let after = world.now - start;
    assert!((43_200_000..86_400_000).contains(&after), "renewed after {after} ms");
    assert_eq!(world.connects[2..], [GATEWAY, DIDP, GATEWAY]);
    assert_ne!(world.gateway.connects[0], world.gateway.connects[1]);
    assert_eq!(world.device.status().phase, Phase::Running);
    assert!(!world.didp.family.as_ref().unwrap().revoked);
}

#[test]
fn while_the_didp_is_away_the_old_token_serves_on() {
    let mut world = World::owned();
    world.didp.up = false;
    world.pass(80_000_000);
    assert_eq!(world.device.status().phase, Phase::Running);
    world.didp.up = true;
    world.pass(10_000_000);
    assert!(world.gateway.connects.last() != world.gateway.connects.first(), "renewed in the end");
    assert_eq!(world.device.status().phase, Phase::Running);
}

#[test]
fn after_a_restart_it_renews_sooner_because_nobody_counted() {
    let mut world = World::owned();
    world.power_cut();
    world.until(Phase::Running);
    let start = world.now;
    world.until_next_login();
    assert!(world.now - start < 60_000_000);
}

#[test]
fn a_gateway_that_moved_is_found_by_asking_the_didp() {
    let mut world = World::owned();
    world.gateway.up = false;
    world.break_link();
    world.connects.clear();
    world.pass(120_000);
    assert!(world.connects.contains(&DIDP), "{:?}", world.connects);
    world.gateway.up = true;
    world.until(Phase::Running);
    assert!(!world.didp.family.as_ref().unwrap().revoked);
}

#[test]
fn a_withdrawn_ownership_makes_it_wait_for_the_next_owner() {
    let mut world = World::owned();
    world.didp.family = None;
    world.break_link();
    world.until(Phase::Ready);
    assert_eq!(world.device.status().notice, Some(Notice::Released));
    assert_eq!(world.flashed().ownership, Ownership::Waiting);
    assert_eq!(world.device.publish_at_least_once("x", b"", false), Err(PublishError::NotConnected));
    world.device.press(world.now);
    world.until(Phase::Claimable);
    world.owner_says_yes();
    world.until(Phase::Running);
}

#[test]
fn a_long_press_is_remembered_until_the_didp_acknowledges_it() {
    let mut world = World::owned();
    world.didp.up = false;
    world.device.long_press(world.now);
    world.settle();
    assert_eq!(world.flashed().ownership, Ownership::ResetPending, "the tokens are gone at once");
    assert_eq!(world.port(), None);
    world.power_cut();
    world.pass(60_000);
    assert_eq!(world.device.status().phase, Phase::Resetting);
    world.didp.up = true;
    world.didp.refuse = Some(("$oauth/reset", "temporarily_unavailable"));
    world.pass(600_000);
    assert_eq!(world.device.status().phase, Phase::Resetting);
    world.didp.refuse = None;
    world.until(Phase::Ready);
    assert_eq!(world.didp.resets, 1);
    assert_eq!(world.flashed().ownership, Ownership::Waiting);
}

#[test]
fn declining_and_waiting_too_long_leave_nothing() {
    for (answer, notice) in [
        ("access_denied", Notice::Declined),
        ("expired_token", Notice::WindowOver),
        ("slow_down", Notice::ClaimFailed),
    ] {
        let mut world = World::new();
        world.until(Phase::Ready);
        world.device.press(world.now);
        world.until(Phase::Claimable);
        world.push("$oauth/claim/response", &format!("{{\"error\":\"{answer}\"}}"));
        world.until(Phase::Ready);
        assert_eq!(world.device.status().notice, Some(notice));
        assert_eq!(world.stores, 0);
        // A grant that comes too late is nobody's.
        world.push("$oauth/claim/response", r#"{"status":"granted","code":"late"}"#);
        world.settle();
        assert_eq!(world.device.status().phase, Phase::Ready);
    }
    let mut world = World::new();
    world.until(Phase::Ready);
    world.device.press(world.now);
    world.until(Phase::Claimable);
    world.pass(120_000);
    assert_eq!(world.device.status().notice, Some(Notice::WindowOver));
}

#[test]
fn a_press_without_a_connection_counts_for_a_minute() {
    let mut world = World::new();
    world.didp.up = false;
    world.pass(10_000);
    world.device.press(world.now);
    world.pass(20_000);
    world.didp.up = true;
    world.until(Phase::Claimable);

    let mut world = World::new();
    world.didp.up = false;
    world.pass(10_000);
    world.device.press(world.now);
    world.pass(90_000);
    world.didp.up = true;
    world.until(Phase::Ready);
    world.pass(5_000);
    assert_eq!(world.device.status().phase, Phase::Ready);
}

#[test]
fn a_broken_link_closes_the_window() {
    let mut world = World::new();
    world.until(Phase::Ready);
    world.device.press(world.now);
    world.until(Phase::Claimable);
    world.break_link();
    assert_eq!(world.device.status().user_code, None);
    world.until(Phase::Ready);
}

#[test]
fn a_second_press_opens_the_window_anew_and_a_press_of_an_owned_device_does_nothing() {
    let mut world = World::new();
    world.until(Phase::Ready);
    world.device.press(world.now);
    world.until(Phase::Claimable);
    world.pass(60_000);
    world.device.press(world.now);
    world.pass(1_000);
    assert_eq!(world.didp.requests.len(), 2);
    assert_eq!(world.device.status().phase, Phase::Claimable);
    assert!(world.device.status().window_until > Some(world.now + 60_000));
    world.owner_says_yes();
    world.until(Phase::Running);
    let mut world = World::owned();
    let requests = world.didp.requests.len();
    world.device.press(world.now);
    world.pass(1_000);
    assert_eq!((world.device.status().phase, world.didp.requests.len()), (Phase::Running, requests));
}

#[test]
fn what_comes_late_for_the_window_before_does_not_close_the_new_one() {
    for late in [
        r#"{"error":"expired_token"}"#,
        r#"{"error":"access_denied"}"#,
        r#"{"status":"granted","code":"old"}"#,
    ] {
        let mut world = World::new();
        world.until(Phase::Ready);
        world.device.press(world.now);
        world.until(Phase::Claimable);
        world.didp.mute = true;
        world.device.press(world.now);
        world.settle();
        world.push("$oauth/claim/response", late);
        world.settle();
        world
            .push("$oauth/claim/response", r#"{"status":"window_open","expires_in":120,"user_code":"1111"}"#);
        world.settle();
        assert_eq!(world.device.status().user_code.unwrap().as_str(), "1111", "{late}");
        assert_eq!(world.stores, 0);
    }
}

#[test]
fn nothing_is_used_before_it_is_stored() {
    let mut world = World::new();
    world.until(Phase::Ready);
    world.device.press(world.now);
    world.until(Phase::Claimable);
    world.flash_fails = true;
    world.owner_says_yes();
    world.pass(30_000);
    assert_eq!(world.didp.requests.len(), 1, "the code is not presented before it is stored");
    assert_eq!(world.device.status().notice, Some(Notice::StorageFailed));
    world.flash_fails = false;
    world.until(Phase::Running);
}

#[test]
fn an_unanswered_request_is_given_up_with_its_connection() {
    let mut world = World::new();
    world.until(Phase::Ready);
    world.device.press(world.now);
    world.until(Phase::Claimable);
    world.didp.mute = true;
    world.owner_says_yes();
    world.pass(60_000);
    world.didp.mute = false;
    world.until(Phase::Running);
    let redemptions =
        world.didp.requests.iter().filter(|request| request.starts_with("$oauth/token")).count();
    assert!(redemptions > 1);
    assert!(!world.didp.family.as_ref().unwrap().revoked);
}

#[test]
fn an_answer_that_nobody_asked_for_changes_nothing() {
    let mut world = World::new();
    world.until(Phase::Ready);
    for topic in [
        "$oauth/token/response",
        "$oauth/claim/done/response",
        "$oauth/reset/response",
        "$oauth/claim/response",
        "x",
    ] {
        world.push(
            topic,
            r#"{"status":"granted","code":"c","access_token":"a","token_type":"Bearer","refresh_token":"r"}"#,
        );
        world.settle();
    }
    assert_eq!((world.device.status().phase, world.stores), (Phase::Ready, 0));
}

#[test]
fn refused_credentials_are_tried_again_after_minutes_not_seconds() {
    let mut world = World::new();
    world.didp.secrets = vec!["another".into()];
    world.pass(600_000);
    assert_eq!(world.device.status().notice, Some(Notice::CredentialsRefused));
    assert!(world.connects.len() < 30, "{}", world.connects.len());
}

#[test]
fn a_secret_that_the_didp_took_back_is_replaced_by_the_former_one() {
    let mut world = World::owned();
    let mut record = world.flashed();
    record.former_secret = record.client_secret.clone();
    assert!(record.client_secret.set("taken-back"));
    world.didp.family = None;
    world.device = Device::new(record, Options::default());
    world.until(Phase::Ready);
    assert_eq!(world.flashed().client_secret.as_str(), "secret-1");
}

#[test]
fn an_untrusted_server_gets_nothing() {
    let mut world = World::new();
    world.untrusted = true;
    world.pass(60_000);
    assert_eq!(world.device.status().notice, Some(Notice::Untrusted));
    assert_eq!(world.didp.logins, 0);
}

#[test]
fn back_off_grows_and_does_not_march_in_step() {
    let tries = |seed: u8| {
        let mut device =
            Device::<512, 512>::new(Record::new("c", "s", didp_server()).unwrap(), Options::default());
        let (mut now, mut at) = (0, Vec::new());
        while at.len() < 12 {
            match device.poll(now, &mut |out| out.fill(seed)) {
                crate::Action::Connect(_) => {
                    at.push(now);
                    device.closed(crate::Closed::Lost, &mut |out| out.fill(seed));
                }
                crate::Action::Wait(Some(until)) => now = until,
                _ => {}
            }
        }
        at
    };
    let (one, other) = (tries(0), tries(0x7f));
    assert_ne!(one, other);
    let gaps: Vec<_> = one.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps[0] >= 500 && gaps.iter().all(|gap| *gap <= 300_000), "{gaps:?}");
    assert!(gaps[10] > 100_000, "{gaps:?}");
}

#[test]
fn a_clock_that_lies_makes_it_begin_again_and_never_stop() {
    for lie in [10_000_000_000, crate::Millis::MAX - 1_000_000_000_000, crate::Millis::MAX] {
        let mut world = World::owned();
        let before = world.now;
        world.now = world.now.saturating_add(lie);
        world.settle();
        world.now = before + 5;
        world.until(Phase::Running);
        assert!(world.now < before + 600_000, "it waits for a time that the clock made up");
        // Its deadlines are the true clock's again.
        world.until_next_login();
        assert!(world.now < before + 90_000_000);
        assert!(!world.didp.family.as_ref().unwrap().revoked);
        // And what goes back a little is waited for.
        let connects = world.connects.len();
        world.now -= 900;
        world.pass(2_000);
        assert_eq!(world.connects.len(), connects);
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => Just(Fault::None),
        1 => Just(Fault::Before),
        2 => Just(Fault::After),
        1 => Just(Fault::CutBefore),
        2 => Just(Fault::CutAfter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Design §3: without a thief no schedule of lost messages and power cuts strands a device or revokes its tokens.
    #[test]
    fn no_schedule_of_faults_strands_a_device(faults in prop::collection::vec(fault(), 0..60)) {
        let mut world = World::new();
        world.until(Phase::Ready);
        world.device.press(world.now);
        world.until(Phase::Claimable);
        world.faults = faults.into();
        world.owner_says_yes();
        // The answer to the press cannot be lost any more: from here on nobody has to touch the device.
        world.until(Phase::Running);
        world.pass(200_000_000);
        world.faults.clear();
        world.until(Phase::Running);
        let family = world.didp.family.as_ref().unwrap();
        prop_assert!(!family.revoked);
        prop_assert!(world.didp.done >= 1);
        prop_assert_eq!(world.didp.secrets.len(), 1, "the factory's secret is dead");
    }

    #[test]
    fn hostile_servers_do_not_make_it_panic(
        topic in prop::sample::select(vec![
            "$oauth/claim/response", "$oauth/token/response", "$oauth/claim/done/response", "$oauth/reset/response", "c/x", "",
        ]),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        raw in prop::collection::vec(any::<u8>(), 0..100),
        stage in 0u8..4,
    ) {
        let mut world = World::new();
        world.until(Phase::Ready);
        world.device.press(world.now);
        world.until(Phase::Claimable);
        if stage > 0 {
            world.didp.mute = stage == 1;
            world.owner_says_yes();
            world.settle();
        }
        if stage == 3 {
            world.didp.mute = true;
            world.device.long_press(world.now);
            world.settle();
        }
        if !topic.is_empty() {
            world.push_bytes(&publish(topic, &payload, None));
        }
        world.settle();
        world.push_bytes(&raw);
        world.pass(1_000);
    }
}
