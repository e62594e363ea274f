//! What a PCM keeps: told its key before anything else, kept over its death, gone with its owner.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use common::client::{Client, bearer};
use common::{Stack, app_detail, until};
use mqtt_wire::{Connect, Properties, Property, Version};
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
    assert_eq!(stack.kill_pcms(), 1);
    let mut app = stack.connect().await;
    assert_eq!(app.connect(kept(&app_token)).await, 0);
    assert_eq!(app.message().await.payload, b"kept");
    // The gateway that comes next derives the same key.
    app.disconnect().await;
    let mut device = stack.connect().await;
    device.log_in(Version::V5, "thermostat", &device_token).await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"again").await, 0);
    stack.restart().await;
    assert_eq!(stack.kill_pcms(), 1);
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
    assert_eq!(stack.kill_pcms(), 1);
    let mut early = stack.connect().await;
    assert_eq!(early.connect(kept(&app_token)).await, 0x88);
    // With the key that it was, everything is there.
    share("c2hhcmU");
    stack.kill_pcms();
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
    assert_eq!(stack.kill_pcms(), 1);
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
            assert_eq!(stack.kill_pcms(), 1);
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
    assert_eq!(stack.kill_pcms(), 1);
    stack.didp.say("erased", "sub", "owner");
    until("everything is gone", async || stack.kept().is_empty()).await;
}
