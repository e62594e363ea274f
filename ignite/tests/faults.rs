//! The gateway when what it depends on is slow, gone, full, or changes at the worst moment.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use std::time::Duration;

use common::client::{Client, bearer};
use common::{DEADLINE, Stack, app_detail, timed, until};
use mqtt_wire::{Connect, Filters, Packet, Properties, Property, QoS, Subscribe, Subscription, Version};
use serde_json::json;

async fn refused(stack: &Stack, token: &str) -> (u8, u8) {
    let mut codes = Vec::new();
    for version in [Version::V5, Version::V311] {
        let mut client = stack.connect().await;
        codes.push(client.connect(bearer(version, "c", token)).await);
        client.expect_end().await;
    }
    (codes[0], codes[1])
}

#[tokio::test]
async fn a_didp_that_hangs_is_given_up() {
    let stack = Stack::with(|config| config.limits.didp_seconds = 1).await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    stack.didp.facts().hangs = true;
    let (codes, took) = timed(refused(&stack, &token)).await;
    assert_eq!(codes, (0x88, 3));
    assert!(took < Duration::from_secs(4), "{took:?}");
    stack.didp.facts().hangs = false;
    let mut client = stack.connect().await;
    client.log_in(Version::V5, "c", &token).await;
}

#[tokio::test]
async fn without_a_launcher_there_is_no_session_and_with_one_again_there_is() {
    let stack = Stack::start().await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let mut client = stack.connect().await;
    client.log_in(Version::V5, "c", &token).await;
    stack.stop_launcher();
    client.expect(|packet| assert!(matches!(packet, Packet::Disconnect(_)))).await;
    until("the launcher is gone", async || stack.launcher.list().await.is_err()).await;
    assert_eq!(refused(&stack, &token).await, (0x88, 3));
}

#[tokio::test]
async fn a_full_house_is_said() {
    let stack = Stack::with(|config| config.launcher.capacity = 1).await;
    let first = stack.didp.add_device("owner1", "s1", "label1");
    let second = stack.didp.add_device("owner2", "s2", "label2");
    let mut client = stack.connect().await;
    client.log_in(Version::V5, "c", &first).await;
    assert_eq!(refused(&stack, &second).await, (0x97, 3));
    client.ping().await;
}

/// A token that is revoked while its introspection is under way: whichever way the answer and the event cross, no session
/// outlives it.
#[tokio::test]
async fn a_revocation_that_overtakes_the_introspection_counts() {
    let stack = Stack::start().await;
    for round in 0..5 {
        let sid = format!("s{round}");
        let token = stack.didp.add_app("owner", &sid, json!([app_detail("label1", &["read"])]));
        stack.didp.facts().revoke_next = true;
        let mut client = stack.connect().await;
        match client.connect(bearer(Version::V5, "c", &token)).await {
            0 => client.expect_disconnect(0x87).await,
            0x87 => client.expect_end().await,
            other => panic!("{other:#x}"),
        }
    }
}

/// Checklist 40: between registration and the first packet the PCM is connected, which takes a while; an order that comes
/// then is heard.
#[tokio::test]
async fn a_revocation_while_the_pcm_is_connected_counts() {
    let stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    stack.didp.set_grants_wait(true);
    let mut client = stack.connect().await;
    client.version = Version::V5;
    client.send(&Packet::Connect(bearer(Version::V5, "c", &token))).await;
    until("the PCM is being connected", async || stack.didp.facts().grant_requests == 1).await;
    // Only the token: the PCM does not know that it is dead.
    stack.didp.kill(&token);
    stack.didp.say("changed", "sub", "owner");
    until("the session was asked about", async || stack.didp.facts().asked.len() == 2).await;
    stack.didp.set_grants_wait(false);
    assert_eq!(client.connack().await, 0);
    client.expect_disconnect(0x87).await;
}

/// Whoever only has bad tokens does not keep the DIdP busy: after some, an address is not asked about for a while.
#[tokio::test]
async fn failed_tokens_of_one_address_are_counted() {
    let stack = Stack::with(|config| config.limits.failed_tokens_per_address = 4).await;
    let token = stack.didp.add_app("owner", "s1", json!([app_detail("label1", &["read"])]));
    for _ in 0..5 {
        let mut good = stack.connect().await;
        good.log_in(Version::V5, "good", &token).await;
    }
    stack.didp.facts().asked.clear();
    for _ in 0..2 {
        assert_eq!(refused(&stack, "demo.wrong").await, (0x87, 5));
    }
    for token in ["demo.wrong", &token] {
        assert_eq!(refused(&stack, token).await, (0x9F, 3));
        let api = reqwest::Client::new();
        for path in ["devices", "events"] {
            let request = api.get(format!("http://{}/v1/{path}", stack.http)).bearer_auth(token);
            assert_eq!(request.send().await.unwrap().status(), 429);
        }
    }
    assert_eq!(stack.didp.facts().asked.len(), 4, "nobody asks");
    stack.clock.advance(5);
    let mut good = stack.connect().await;
    good.log_in(Version::V5, "good", &token).await;
}

/// PCMs outlive the gateway: a session that a client keeps is found again, and the PCM takes the new control connection.
#[tokio::test]
async fn a_restarted_gateway_finds_its_pcms() {
    let mut stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let keep = [Property::SessionExpiryInterval(600)];
    let connect = Connect {
        clean_start: false,
        properties: Properties::list(&keep),
        ..bearer(Version::V5, "app", &token)
    };
    let mut app = stack.connect().await;
    assert_eq!(app.connect(connect).await, 0);
    assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
    stack.restart().await;
    app.expect_disconnect(0x8B).await;
    let mut thermostat = stack.connect().await;
    thermostat.log_in(Version::V5, "device", &device).await;
    assert_eq!(thermostat.publish_acked(1, "d/temperature", b"1").await, 0);
    let mut app = stack.connect().await;
    assert_eq!(app.connect(connect).await, 0);
    assert_eq!(app.message().await.payload, b"1");
    assert_eq!(stack.pcms().await, 1);
}

/// A grant that was revoked while the gateway was down is gone before any session of its owner begins.
#[tokio::test]
async fn what_changed_during_a_restart_counts_before_the_next_session() {
    let mut stack = Stack::start().await;
    let app = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let mut thermostat = stack.connect().await;
    thermostat.log_in(Version::V5, "device", &device).await;
    stack.shutdown.begin();
    assert!(stack.shutdown.drain(DEADLINE).await);
    stack.didp.revoke("owner", "s-app");
    stack.restart().await;
    assert_eq!(refused(&stack, &app).await, (0x87, 5));
    let mut thermostat = stack.connect().await;
    thermostat.log_in(Version::V5, "device", &device).await;
    assert_eq!(thermostat.publish_acked(1, "d/temperature", b"nobody's").await, 0);
}

/// A client that does not read is cut off; its owner's other sessions do not notice.
#[tokio::test]
async fn a_blocked_client_is_cut_off() {
    let stack = Stack::with(|config| config.limits.write_seconds = 1).await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let mut blocked = stack.connect().await;
    blocked.log_in(Version::V311, "blocked", &token).await;
    // With QoS 0, whose messages are not held back until others are acknowledged.
    let wish = [Subscription::new("d/#", QoS::AtMostOnce)];
    let (properties, filters) = (Properties::EMPTY, Filters::list(&wish));
    blocked.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties, filters })).await;
    blocked.expect(|packet| assert!(matches!(packet, Packet::SubAck(_)))).await;
    let mut thermostat = stack.connect().await;
    thermostat.log_in(Version::V5, "device", &device).await;
    let payload = vec![b'x'; 100_000];
    let sessions = async || {
        let ready = reqwest::get(format!("http://{}/readyz", stack.http)).await.unwrap();
        ready.json::<serde_json::Value>().await.unwrap()["sessions"].as_u64().unwrap()
    };
    assert_eq!(sessions().await, 2);
    let flooding = async {
        for number in 1_u32.. {
            // QoS 0, since the PCM stops sending what is not acknowledged long before the sockets' buffers are full.
            thermostat.publish(QoS::AtMostOnce, 0, "d/temperature", &payload).await;
            thermostat.ping().await;
            if number % 16 == 0 && sessions().await == 1 {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, flooding).await.expect("the blocked client is cut off");
    thermostat.ping().await;
}

/// The stream says that it cannot resume: everything is asked about again.
#[tokio::test]
async fn a_gap_has_every_session_checked() {
    let stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let mut app: Client = stack.connect().await;
    app.log_in(Version::V5, "app", &token).await;
    stack.didp.kill(&token);
    app.ping().await;
    stack.didp.say("gap", "note", "");
    app.expect_disconnect(0x87).await;
}
