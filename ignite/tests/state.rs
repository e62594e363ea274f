//! What a PCM keeps: told its key before anything else, kept over its death, gone with its owner.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::client::{Client, bearer, will};
use common::{Stack, app_detail, until};
use mqtt_wire::{Connect, Packet, Properties, Property, QoS, Version};
use serde_json::json;

const KEEP: [Property<'static>; 1] = [Property::SessionExpiryInterval(600)];

/// An app whose session is kept, with a subscription, and a device; their tokens.
async fn parties(stack: &Stack) -> (Client, Client, [String; 2]) {
    let app_token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let device_token = stack.didp.add_device("owner", "s-device", "label1");
    let mut app = stack.connect().await;
    assert_eq!(app.connect(kept(&app_token)).await, 0);
    assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
    let mut device = stack.connect().await;
    device.log_in(Version::V5, "thermostat", &device_token).await;
    (app, device, [app_token, device_token])
}

fn kept(token: &str) -> Connect<'_> {
    Connect { clean_start: false, properties: Properties::list(&KEEP), ..bearer(Version::V5, "app", token) }
}

#[tokio::test]
async fn a_killed_pcm_comes_back_with_what_it_acknowledged() {
    let mut stack = Stack::start().await;
    let (app, mut device, [app_token, device_token]) = parties(&stack).await;
    app.disconnect().await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"kept").await, 0);
    assert_eq!(stack.kill_pcms().await, 1);
    let mut app = stack.connect().await;
    assert_eq!(app.connect(kept(&app_token)).await, 0);
    assert_eq!(app.message().await.payload, b"kept");
    // The gateway that comes next derives the same key.
    app.disconnect().await;
    let mut device = stack.connect().await;
    device.log_in(Version::V5, "thermostat", &device_token).await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"again").await, 0);
    stack.restart().await;
    assert_eq!(stack.kill_pcms().await, 1);
    let mut app = stack.connect().await;
    assert_eq!(app.connect(kept(&app_token)).await, 0);
    assert_eq!(app.message().await.payload, b"again");
}

#[tokio::test]
async fn files_of_another_key_are_refused_and_left_alone() {
    let stack = Stack::start().await;
    let (app, mut device, [app_token, _]) = parties(&stack).await;
    app.disconnect().await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"kept").await, 0);
    let share = |text: &str| {
        for answer in stack.didp.facts().tokens.values_mut() {
            answer["state_share"] = json!(text);
        }
    };
    share("YW5vdGhlcg");
    assert_eq!(stack.kill_pcms().await, 1);
    let mut early = stack.connect().await;
    assert_eq!(early.connect(kept(&app_token)).await, 0x88);
    // With the key that it was, everything is there.
    share("c2hhcmU");
    stack.kill_pcms().await;
    let mut app = stack.connect().await;
    assert_eq!(app.connect(kept(&app_token)).await, 0);
    assert_eq!(app.message().await.payload, b"kept");
}

#[tokio::test]
async fn what_was_revoked_while_the_pcm_was_dead_does_not_come_back() {
    let stack = Stack::start().await;
    let (app, mut device, [_, device_token]) = parties(&stack).await;
    app.disconnect().await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"for nobody").await, 0);
    assert_eq!(stack.kill_pcms().await, 1);
    let answers = stack.didp.facts().grant_answers;
    stack.didp.revoke("owner", "s-app");
    until("the gateway asked", async || stack.didp.facts().grant_answers > answers).await;
    // The same grant id comes back, as no real one does: what it had is gone nevertheless.
    let mut device = stack.connect().await;
    device.log_in(Version::V5, "thermostat", &device_token).await;
    let app_token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    stack.didp.say("changed", "sub", "owner");
    let mut app = stack.connect().await;
    assert_eq!(app.connect(kept(&app_token)).await, 0);
    assert_eq!(app.subscribe(1, &["d/#"]).await, [2], "nothing comes before the answer");
    assert_eq!(device.publish_acked(1, "d/temperature", b"later").await, 0);
    assert_eq!(app.message().await.payload, b"later");
}

#[tokio::test]
async fn an_owner_without_grants_leaves_nothing_whether_the_pcm_runs_or_not() {
    for runs in [true, false] {
        let stack = Stack::start().await;
        let (app, mut device, _) = parties(&stack).await;
        app.disconnect().await;
        assert_eq!(device.publish_acked(1, "d/temperature", b"kept").await, 0);
        assert_eq!(stack.kept().len(), 1);
        if !runs {
            assert_eq!(stack.kill_pcms().await, 1);
            until("it is dead", async || stack.pcms().await == 0).await;
        }
        stack.didp.revoke("owner", "s-app");
        stack.didp.revoke("owner", "s-device");
        until("everything is gone", async || stack.kept().is_empty()).await;
    }
}

#[tokio::test]
async fn an_erased_owner_leaves_nothing() {
    let stack = Stack::start().await;
    let _parties = parties(&stack).await;
    assert_eq!(stack.kill_pcms().await, 1);
    stack.didp.say("erased", "sub", "owner");
    until("everything is gone", async || stack.kept().is_empty()).await;
}

/// An erasure is not forgotten because nobody can carry it out at that moment.
#[tokio::test]
async fn an_owner_who_is_erased_while_the_launcher_is_away_is_gone_when_it_is_back() {
    let mut stack = Stack::start().await;
    let (mut app, _device, _) = parties(&stack).await;
    stack.stop_launcher();
    app.expect(|packet| assert!(matches!(packet, Packet::Disconnect(_)))).await;
    until("the launcher is gone", async || stack.launcher.list().await.is_err()).await;
    assert_eq!(stack.kept().len(), 1);
    stack.didp.facts().tokens.clear();
    stack.didp.facts().grants.clear();
    stack.didp.say("erased", "sub", "owner");
    let errors = async || {
        let metrics = reqwest::get(format!("http://{}/metrics", stack.metrics)).await.unwrap();
        metrics.text().await.unwrap().contains("event=\"erase_failed\"")
    };
    until("it was tried", errors).await;
    assert_eq!(stack.kept().len(), 1);
    stack.start_launcher().await;
    until("everything is gone", async || stack.kept().is_empty()).await;
}

/// A stack whose PCMs are stopped after a second without anybody.
async fn hasty() -> Stack {
    Stack::with(|config| config.launcher.idle_seconds = 1).await
}

#[tokio::test]
async fn an_idle_pcm_is_stopped_and_comes_back_with_its_state() {
    let stack = hasty().await;
    let (app, mut device, [app_token, _]) = parties(&stack).await;
    app.disconnect().await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"kept").await, 0);
    // No traffic is not idle: somebody is connected.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        assert_eq!(stack.pcms().await, 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    device.disconnect().await;
    until("it is stopped", async || stack.pcms().await == 0).await;
    assert_eq!(stack.kept().len(), 1);
    let mut app = stack.connect().await;
    assert_eq!(app.connect(kept(&app_token)).await, 0);
    assert_eq!(app.message().await.payload, b"kept");
}

#[tokio::test]
async fn a_pcm_with_a_pending_will_is_not_idle() {
    let stack = hasty().await;
    let app_token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let device_token = stack.didp.add_device("owner", "s-device", "label1");
    let mut app = stack.connect().await;
    assert_eq!(app.connect(kept(&app_token)).await, 0);
    assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
    app.disconnect().await;
    let mut device = stack.connect().await;
    let delay = [Property::WillDelayInterval(4)];
    let connect = Connect {
        will: Some(will("d/temperature", &delay)),
        properties: Properties::list(&KEEP),
        ..bearer(Version::V5, "thermostat", &device_token)
    };
    assert_eq!(device.connect(connect).await, 0);
    let began = Instant::now();
    drop(device);
    until("it is stopped", async || stack.pcms().await == 0).await;
    assert!(began.elapsed() > Duration::from_secs(4), "{:?}", began.elapsed());
    let mut app = stack.connect().await;
    assert_eq!(app.connect(kept(&app_token)).await, 0);
    assert_eq!(app.message().await.payload, b"gone");
}

/// Whoever connects while its PCM is being stopped waits for the next one, and nothing that was acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_during_a_cull_is_served() {
    let stack = std::sync::Arc::new(hasty().await);
    let mut owners = tokio::task::JoinSet::new();
    for owner in 0..6_u64 {
        let stack = std::sync::Arc::clone(&stack);
        owners.spawn(async move {
            let (owner_name, label) = (format!("owner{owner}"), format!("label{owner}"));
            let app_token =
                stack.didp.add_app(&owner_name, &format!("a{owner}"), json!([app_detail(&label, &["read"])]));
            let device_token = stack.didp.add_device(&owner_name, &format!("d{owner}"), &label);
            let mut app = stack.connect().await;
            assert_eq!(app.connect(kept(&app_token)).await, 0);
            assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
            app.disconnect().await;
            for round in 0..4_u64 {
                let payload = format!("{owner}-{round}");
                let mut device = stack.connect().await;
                device.log_in(Version::V5, "thermostat", &device_token).await;
                assert_eq!(device.publish_acked(1, "d/temperature", payload.as_bytes()).await, 0);
                device.disconnect().await;
                // Into the second in which it is asked whether anybody needs it.
                tokio::time::sleep(Duration::from_millis(1_000 + (owner * 97 + round * 211) % 1_100)).await;
                let mut app = stack.connect().await;
                assert_eq!(app.connect(kept(&app_token)).await, 0);
                assert_eq!(app.message().await.payload, payload.as_bytes());
                app.disconnect().await;
            }
        });
    }
    let mut pids = BTreeSet::new();
    while !owners.is_empty() {
        let pcms = stack.launcher.processes().await.unwrap();
        pids.extend(pcms.iter().filter(|pcm| pcm.name.is_some()).map(|pcm| pcm.pid));
        while let Some(done) = owners.try_join_next() {
            done.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(pids.len() > 6, "some were stopped: {}", pids.len());
}

#[tokio::test]
async fn a_release_while_the_pcm_is_stopped_leaves_nothing() {
    let stack = hasty().await;
    let (app, mut device, _) = parties(&stack).await;
    app.disconnect().await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"kept").await, 0);
    device.disconnect().await;
    until("it is stopped", async || stack.pcms().await == 0).await;
    assert_eq!(stack.kept().len(), 1);
    stack.didp.revoke("owner", "s-app");
    stack.didp.revoke("owner", "s-device");
    until("everything is gone", async || stack.kept().is_empty()).await;
}

/// Who has used up their disk is told so, keeps what was acknowledged, and is nobody else's trouble.
#[tokio::test]
async fn an_owners_disk_has_an_end_that_is_said_and_nobody_elses() {
    const PAYLOAD: usize = 20_000;
    let stack = Stack::with(|config| config.launcher.owner_disk_mib = 1).await;
    let (app, device, [app_token, device_token]) = parties(&stack).await;
    let other = stack.didp.add_device("other", "s-other", "label2");
    let reader = stack.didp.add_app("other", "s-reader", json!([app_detail("label2", &["read"])]));
    let mut away = stack.connect().await;
    assert_eq!(away.connect(kept(&reader)).await, 0);
    assert_eq!(away.subscribe(1, &["d/#"]).await, [2]);
    away.disconnect().await;
    app.disconnect().await;
    device.disconnect().await;

    let payload = |number: u16| [&number.to_be_bytes()[..], &[b'x'; PAYLOAD]].concat();
    let (mut kept_messages, mut cuts) = (0, 0);
    // The message at which the disk turned out to be full costs the connection: it can be neither kept nor refused.
    let code = loop {
        let mut device = stack.connect().await;
        device.log_in(Version::V5, "thermostat", &device_token).await;
        let ended = loop {
            device.publish(QoS::AtLeastOnce, 1, "d/temperature", &payload(kept_messages + 1)).await;
            let answer = device.expect(|packet| match packet {
                Packet::PubAck(ack) => Some(ack.reason.0),
                Packet::Disconnect(_) => None,
                other => panic!("{other:?}"),
            });
            match answer.await {
                Some(0) => kept_messages += 1,
                ended => break ended,
            }
            assert!(usize::from(kept_messages) * PAYLOAD < 1 << 20, "there is no end");
        };
        if let Some(code) = ended {
            device.ping().await;
            break code;
        }
        cuts += 1;
        assert!(cuts < 3, "it is not said");
    };
    assert_eq!((code, cuts), (0x97, 1));
    assert!(kept_messages > 10);
    let files = stack.kept().into_iter().flat_map(|dir| std::fs::read_dir(dir).unwrap());
    assert!(files.map(|file| file.unwrap().metadata().unwrap().len()).all(|length| length <= 512 << 10));

    let mut device = stack.connect().await;
    device.log_in(Version::V5, "other", &other).await;
    assert_eq!(device.publish_acked(1, "d/temperature", &payload(1)).await, 0);
    // What was acknowledged is there. As long as its taking cannot be noted either, whoever takes it is cut off and gets it again.
    let mut left: BTreeSet<Vec<u8>> = (1..=kept_messages).map(payload).collect();
    while !left.is_empty() {
        let mut app = stack.connect().await;
        assert_eq!(app.connect(kept(&app_token)).await, 0);
        while let Some(taken) = app.message_or_end().await {
            left.remove(&taken);
            if left.is_empty() {
                break;
            }
        }
    }
}
