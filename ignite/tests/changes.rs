//! What changes at the DIdP do to sessions that run: revocation, narrowing, ends, a lost event stream.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use std::time::Duration;

use common::client::{Client, bearer};
use common::{Stack, app_detail, timed, until};
use mqtt_wire::{Auth, Packet, Properties, Property, QoS, ReasonCode, Version};
use serde_json::json;

const A_SECOND: Duration = Duration::from_secs(1);

/// An app that has subscribed to everything, and a device.
async fn app_and_device(stack: &Stack, version: Version) -> (Client, Client, String) {
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read", "command"])]));
    let mut app = stack.connect().await;
    app.log_in(version, "app", &token).await;
    assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
    let mut thermostat = stack.connect().await;
    thermostat.log_in(version, "thermostat", &device).await;
    (app, thermostat, token)
}

/// Checklist 40.
#[tokio::test]
async fn a_revoked_grant_ends_its_session_within_a_second_and_no_other() {
    let stack = Stack::start().await;
    let (mut app, mut device, token) = app_and_device(&stack, Version::V5).await;
    stack.didp.revoke("owner", "s-app");
    let ((), took) = timed(app.expect_disconnect(0x87)).await;
    assert!(took < A_SECOND, "{took:?}");
    assert_eq!(device.publish_acked(9, "d/temperature", b"1").await, 0, "the device goes on");
    let mut again = stack.connect().await;
    assert_eq!(again.connect(bearer(Version::V5, "app", &token)).await, 0x87);
}

/// Checklist 40.
#[tokio::test]
async fn the_event_alone_ends_the_sessions_of_its_grant() {
    let stack = Stack::start().await;
    let (mut app, mut device, token) = app_and_device(&stack, Version::V5).await;
    stack.didp.kill(&token);
    stack.didp.say("revoked", "sid", "s-app");
    app.expect_disconnect(0x87).await;
    device.ping().await;
}

/// Checklist 40.
#[tokio::test]
async fn a_revoked_v311_session_is_closed_within_a_second() {
    let stack = Stack::start().await;
    let (mut app, _device, _) = app_and_device(&stack, Version::V311).await;
    stack.didp.revoke("owner", "s-app");
    let ((), took) = timed(app.expect_end()).await;
    assert!(took < A_SECOND, "{took:?}");
}

/// A token that dies without an event of its own is found when its owner's grants change.
#[tokio::test]
async fn a_dead_token_is_noticed_when_its_owner_changes() {
    let stack = Stack::start().await;
    let (mut app, _device, token) = app_and_device(&stack, Version::V5).await;
    stack.didp.kill(&token);
    stack.didp.say("changed", "sub", "somebody-else");
    app.ping().await;
    stack.didp.say("changed", "sub", "owner");
    app.expect_disconnect(0x87).await;
}

/// Checklist 39: the grant as it is now.
#[tokio::test]
async fn a_narrowed_grant_counts_at_once() {
    let stack = Stack::start().await;
    let (mut app, mut device, _) = app_and_device(&stack, Version::V5).await;
    device.subscribe(1, &["c/#"]).await;
    assert_eq!(device.publish_acked(2, "d/temperature", b"1").await, 0);
    let handle = app.message().await.topic.split('/').nth(1).unwrap().to_owned();
    let asked = stack.didp.facts().asked.len();
    stack.didp.narrow("owner", "s-app", json!([app_detail("label1", &["read"])]));
    until("sessions were asked about", async || stack.didp.facts().asked.len() >= asked + 2).await;
    // The PCM may end the narrowed session or keep it; commanding is over either way.
    let topic = format!("c/{handle}/heater");
    let denied = async || {
        let mut client = stack.connect().await;
        let token = "demo.token-of-s-app-1";
        client.log_in(Version::V5, "probe", token).await;
        client.publish_acked(3, &topic, b"true").await == 0x87
    };
    until("commands are denied", denied).await;
    device.ping().await;
}

#[tokio::test]
async fn an_erased_owner_loses_sessions_and_pcm() {
    let stack = Stack::start().await;
    let (mut app, mut device, _) = app_and_device(&stack, Version::V5).await;
    assert_eq!(stack.pcms().await, 1);
    stack.didp.facts().tokens.clear();
    stack.didp.say("erased", "sub", "owner");
    app.expect_disconnect(0x87).await;
    device.expect_disconnect(0x87).await;
    until("the PCM is gone", async || stack.pcms().await == 0).await;
}

/// Checklist 39, 40.
#[tokio::test]
async fn a_session_ends_with_its_token() {
    let stack = Stack::start().await;
    let (mut app, mut device, token) = app_and_device(&stack, Version::V5).await;
    stack.clock.advance(3_590);
    app.ping().await;
    stack.clock.advance(20);
    app.expect_disconnect(0x87).await;
    device.expect_disconnect(0x87).await;
    let mut late = stack.connect().await;
    assert_eq!(late.connect(bearer(Version::V5, "app", &token)).await, 0x87);
}

/// Checklist 39: on each packet, not only by the clock's tick.
#[tokio::test]
async fn a_packet_after_the_tokens_end_does_nothing() {
    let stack = Stack::start().await;
    let (mut app, mut device, token) = app_and_device(&stack, Version::V5).await;
    stack.didp.facts().tokens.get_mut(&token).unwrap()["exp"] = json!(common::didp::now() + 9_000);
    let asked = stack.didp.facts().asked.len();
    stack.didp.say("changed", "sub", "owner");
    until("sessions were asked about", async || stack.didp.facts().asked.len() >= asked + 2).await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"in time").await, 0);
    assert_eq!(app.message().await.payload, b"in time");
    stack.clock.advance(4_000);
    device.publish(QoS::AtMostOnce, 0, "d/temperature", b"late").await;
    device.expect_disconnect(0x87).await;
    app.ping().await;
}

fn auth<'a>(properties: &'a [Property<'a>]) -> Packet<'a> {
    Packet::Auth(Auth { reason: ReasonCode::RE_AUTHENTICATE, properties: Properties::list(properties) })
}

async fn log_in_enhanced(stack: &Stack, token: &str) -> Client {
    let mut client = stack.connect().await;
    let properties = [Property::AuthenticationMethod("Bearer")];
    let connect =
        mqtt_wire::Connect { properties: Properties::list(&properties), ..bearer(Version::V5, "app", token) };
    client.send(&Packet::Connect(connect)).await;
    client
        .expect(|packet| match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(connack.reason, ReasonCode::SUCCESS);
                assert_eq!(connack.properties.authentication_method(), Some("Bearer"));
            }
            other => panic!("expected CONNACK, not {other:?}"),
        })
        .await;
    client
}

#[tokio::test]
async fn a_session_outlives_its_token_by_reauthentication() {
    let stack = Stack::start().await;
    let old = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let mut app = log_in_enhanced(&stack, &old).await;
    app.subscribe(1, &["d/#"]).await;
    let new = stack.didp.another_token(&old);
    stack.didp.facts().tokens.get_mut(&new).unwrap()["exp"] = json!(common::didp::now() + 7_200);
    app.send(&auth(&[
        Property::AuthenticationMethod("Bearer"),
        Property::AuthenticationData(new.as_bytes()),
    ]))
    .await;
    app.expect(|packet| match packet {
        Packet::Auth(auth) => {
            assert_eq!(auth.reason, ReasonCode::SUCCESS);
            assert_eq!(auth.properties.authentication_method(), Some("Bearer"));
        }
        other => panic!("expected AUTH, not {other:?}"),
    })
    .await;
    // Rotation kills the old token; a check of the session asks about the new one.
    stack.didp.kill(&old);
    stack.didp.say("changed", "sub", "owner");
    until("the new token was checked", async || {
        stack.didp.facts().asked.iter().filter(|token| **token == new).count() >= 2
    })
    .await;
    stack.clock.advance(3_700);
    let device = stack.didp.add_device("owner", "s-device", "label1");
    stack.didp.facts().tokens.get_mut(&device).unwrap()["exp"] = json!(common::didp::now() + 7_200);
    stack.didp.say("changed", "sub", "owner");
    let mut thermostat = stack.connect().await;
    thermostat.log_in(Version::V5, "thermostat", &device).await;
    assert_eq!(thermostat.publish_acked(1, "d/temperature", b"still").await, 0);
    assert_eq!(app.message().await.payload, b"still", "the subscription is still the same");
}

#[tokio::test]
async fn reauthentication_with_anything_else_ends_the_session() {
    let stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let other_grant = stack.didp.add_app("owner", "s-other", json!([app_detail("label1", &["read"])]));
    let other_owner = stack.didp.add_app("owner2", "s-app", json!([app_detail("label9", &["read"])]));
    for wrong in [other_grant.as_str(), &other_owner, "demo.unknown", "other.token", ""] {
        let mut app = log_in_enhanced(&stack, &token).await;
        app.send(&auth(&[
            Property::AuthenticationMethod("Bearer"),
            Property::AuthenticationData(wrong.as_bytes()),
        ]))
        .await;
        app.expect_disconnect(0x87).await;
    }
    let mut plain = stack.connect().await;
    plain.log_in(Version::V5, "plain", &token).await;
    plain.send(&auth(&[Property::AuthenticationMethod("Bearer"), Property::AuthenticationData(b"x")])).await;
    plain.expect_disconnect(0x82).await;
}

#[tokio::test]
async fn a_lost_stream_is_resumed_and_every_session_checked() {
    let stack = Stack::start().await;
    let (mut app, mut device, token) = app_and_device(&stack, Version::V5).await;
    let asked = stack.didp.facts().asked.len();
    stack.didp.say("changed", "sub", "owner");
    until("the event came", async || stack.didp.facts().asked.len() > asked).await;
    stack.didp.set_down(true);
    until("the gateway says so", async || !stack.is_ready().await).await;
    app.ping().await;
    let mut new = stack.connect().await;
    assert_eq!(new.connect(bearer(Version::V5, "new", &token)).await, 0x88, "nothing is known about tokens");
    // The token dies while nobody listens, and no event says so.
    stack.didp.kill(&token);
    stack.didp.set_down(false);
    app.expect_disconnect(0x87).await;
    device.ping().await;
    until("the gateway is ready again", async || stack.is_ready().await).await;
    let streams = stack.didp.facts().streams.clone();
    assert_eq!(streams.first(), Some(&None));
    assert_eq!(streams.last(), Some(&Some("1".to_owned())), "it resumes where it was");
}

#[tokio::test]
async fn a_pcm_gets_new_grants_before_a_session_that_needs_them() {
    let stack = Stack::start().await;
    let (mut app, _device, _) = app_and_device(&stack, Version::V5).await;
    let second = stack.didp.add_device("owner", "s-device2", "label2");
    stack.didp.narrow(
        "owner",
        "s-app",
        json!([app_detail("label1", &["read", "command"]), app_detail("label2", &["read"])]),
    );
    let mut device2 = stack.connect().await;
    device2.log_in(Version::V5, "thermostat2", &second).await;
    until("the app's session knows the new device", async || stack.didp.facts().asked.len() >= 5).await;
    app.ping().await;
    let seen = async {
        for id in 1.. {
            assert_eq!(device2.publish_acked(id, "d/temperature", b"2").await, 0);
            if tokio::time::timeout(Duration::from_millis(50), app.message()).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(common::DEADLINE, seen).await.unwrap();
}

/// An owner's end date counts whether the DIdP can be asked or not.
#[tokio::test]
async fn a_grant_ends_in_time_without_its_didp() {
    let stack = Stack::start().await;
    let (mut app, mut device, token) = app_and_device(&stack, Version::V5).await;
    for grant in stack.didp.facts().grants.get_mut("owner").unwrap() {
        if grant["sid"] == "s-app" {
            grant["exp"] = json!(common::didp::now() + 100);
        }
    }
    let requests = stack.didp.facts().grant_requests;
    stack.didp.say("changed", "sub", "owner");
    until("the PCM was told", async || stack.didp.facts().grant_requests > requests).await;
    device.ping().await;
    app.ping().await;
    stack.didp.set_down(true);
    stack.clock.advance(101);
    app.expect_disconnect(0x87).await;
    device.ping().await;
    stack.didp.set_down(false);
    until("the gateway is ready again", async || stack.is_ready().await).await;
    // The PCM has nothing of that grant left, even for a token that says otherwise.
    let mut again = stack.connect().await;
    assert_eq!(again.connect(bearer(Version::V5, "app", &token)).await, 0x87);
}

/// Checklist 33: a PCM that could not be told of a revocation is told until it was, whether anybody connects or not.
#[tokio::test]
async fn grants_are_handed_on_until_it_is_done() {
    let stack = Stack::start().await;
    let (mut app, mut device, _) = app_and_device(&stack, Version::V5).await;
    let token = stack.didp.another_token("demo.token-of-s-device-0");
    stack.didp.facts().grants_fail = true;
    stack.didp.revoke("owner", "s-app");
    app.expect(|packet| assert!(matches!(packet, Packet::Disconnect(_)))).await;
    device.expect_disconnect(0x89).await;
    let mut early = stack.connect().await;
    assert_eq!(early.connect(bearer(Version::V5, "thermostat", &token)).await, 0x88);
    let requests = stack.didp.facts().grant_requests;
    until("it is tried again", async || stack.didp.facts().grant_requests > requests).await;
    let answers = stack.didp.facts().grant_answers;
    stack.didp.facts().grants_fail = false;
    until("it was done", async || stack.didp.facts().grant_answers > answers).await;
    let mut again = stack.connect().await;
    again.log_in(Version::V5, "thermostat", &token).await;
}

/// Checklist 33: also one that was started before this gateway was.
#[tokio::test]
async fn a_pcm_that_nobody_used_since_a_restart_hears_of_changes() {
    let mut stack = Stack::start().await;
    let _parties = app_and_device(&stack, Version::V5).await;
    stack.restart().await;
    let answers = stack.didp.facts().grant_answers;
    stack.didp.revoke("owner", "s-app");
    until("the PCM was told", async || stack.didp.facts().grant_answers > answers).await;
    stack.didp.revoke("owner", "s-device");
    until("the PCM is gone", async || stack.pcms().await == 0).await;
}

#[tokio::test]
async fn an_owner_without_grants_has_no_pcm() {
    let stack = Stack::start().await;
    let (mut app, mut device, _) = app_and_device(&stack, Version::V5).await;
    stack.didp.revoke("owner", "s-app");
    app.expect_disconnect(0x87).await;
    assert_eq!(stack.pcms().await, 1);
    device.ping().await;
    stack.didp.revoke("owner", "s-device");
    device.expect_disconnect(0x87).await;
    until("the PCM is gone", async || stack.pcms().await == 0).await;
    let (mut app, mut device, _) = app_and_device(&stack, Version::V5).await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"1").await, 0);
    assert_eq!(app.message().await.payload, b"1");
    assert_eq!(stack.pcms().await, 1);
}

/// While revocations do not come in, an answer about a token counts for seconds only, and that can be seen.
#[tokio::test]
async fn without_the_stream_tokens_are_asked_about_again_and_again() {
    let stack = Stack::with(|config| config.limits.unwatched_token_seconds = 1).await;
    let tokens = ["s-one", "s-two"]
        .map(|sid| stack.didp.add_app("owner", sid, json!([app_detail("label1", &["read"])])));
    let mut clients = Vec::new();
    for token in &tokens {
        let mut client = stack.connect().await;
        client.log_in(Version::V5, "app", token).await;
        clients.push(client);
    }
    stack.didp.set_streams_fail(true);
    until("the loss is seen", async || !stack.is_ready().await).await;
    let ready = reqwest::get(format!("http://{}/readyz", stack.http)).await.unwrap();
    assert_eq!(ready.status(), 503);
    let said: serde_json::Value = ready.json().await.unwrap();
    assert_eq!(
        (&said["didp"][0]["events"], &said["didp"][0]["token_check_seconds"]),
        (&json!("down"), &json!(1))
    );
    stack.didp.kill(&tokens[0]);
    let (_, took) = timed(clients[0].expect_disconnect(0x87)).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
    clients[1].ping().await;
    stack.didp.set_streams_fail(false);
    until("it is back", async || stack.is_ready().await).await;
    clients[1].ping().await;
}
