//! What MQTT promises, through the gateway: QoS, sessions, wills, retained and shared messages, request and response.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use std::time::Duration;

use common::client::{Client, bearer, publish, will};
use common::{DEADLINE, Stack, app_detail, until};
use mqtt_wire::{Ack, Connect, Packet, Properties, Property, Publish, QoS, ReasonCode, Version};
use serde_json::json;
use tokio::time::timeout;

struct Parties {
    stack: Stack,
    device: String,
    app: String,
}

async fn parties() -> Parties {
    let stack = Stack::start().await;
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let app = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read", "command"])]));
    Parties { stack, device, app }
}

impl Parties {
    async fn client(&self, version: Version, id: &str, token: &str) -> Client {
        let mut client = self.stack.connect().await;
        client.log_in(version, id, token).await;
        client
    }

    async fn handle(&self) -> String {
        let url = format!("http://{}/v1/devices", self.stack.http);
        let answer = reqwest::Client::new().get(url).bearer_auth(&self.app).send().await.unwrap();
        let devices: serde_json::Value = answer.json().await.unwrap();
        devices[0]["handle"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn qos_2_is_exactly_once_across_the_gateway() {
    let parties = parties().await;
    for version in [Version::V311, Version::V5] {
        let mut app = parties.client(version, "app", &parties.app).await;
        app.subscribe(1, &["d/#"]).await;
        let mut device = parties.client(version, "device", &parties.device).await;
        let step = Ack::new(9, ReasonCode::SUCCESS);
        device.publish(QoS::ExactlyOnce, 9, "d/temperature", b"once").await;
        device.expect(|packet| assert_eq!(packet, Packet::PubRec(step))).await;
        device.send(&Packet::PubRel(step)).await;
        device.expect(|packet| assert_eq!(packet, Packet::PubComp(step))).await;
        let arrived = app.message().await;
        assert_eq!((arrived.qos, arrived.payload.as_slice()), (QoS::ExactlyOnce, &b"once"[..]));
        let step = Ack::new(arrived.packet_id.unwrap(), ReasonCode::SUCCESS);
        app.send(&Packet::PubRec(step)).await;
        app.expect(|packet| assert_eq!(packet, Packet::PubRel(step))).await;
        app.send(&Packet::PubComp(step)).await;
        app.ping().await;
    }
}

/// A session is kept for its client and found again under the same grant.
#[tokio::test]
async fn messages_wait_for_an_app_that_is_away() {
    let parties = parties().await;
    let keep = [Property::SessionExpiryInterval(600)];
    let connect = Connect {
        clean_start: false,
        properties: Properties::list(&keep),
        ..bearer(Version::V5, "app", &parties.app)
    };
    let mut app = parties.stack.connect().await;
    assert_eq!(app.connect(connect).await, 0);
    app.subscribe(1, &["d/#"]).await;
    app.disconnect().await;
    let mut device = parties.client(Version::V5, "device", &parties.device).await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"waits").await, 0);
    let mut app = parties.stack.connect().await;
    app.version = Version::V5;
    app.send(&Packet::Connect(connect)).await;
    app.expect(|packet| match packet {
        Packet::ConnAck(connack) => assert!(connack.session_present),
        other => panic!("expected CONNACK, not {other:?}"),
    })
    .await;
    assert_eq!(app.message().await.payload, b"waits");
}

/// Checklist 39: what waits for a grant that was revoked meanwhile goes to nobody.
#[tokio::test]
async fn messages_do_not_wait_beyond_the_grant() {
    let parties = parties().await;
    let keep = [Property::SessionExpiryInterval(600)];
    let connect = |token| Connect {
        clean_start: false,
        properties: Properties::list(&keep),
        ..bearer(Version::V5, "app", token)
    };
    let mut app = parties.stack.connect().await;
    assert_eq!(app.connect(connect(&parties.app)).await, 0);
    app.subscribe(1, &["d/#"]).await;
    app.disconnect().await;
    let mut device = parties.client(Version::V5, "device", &parties.device).await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"old").await, 0);
    let requests = parties.stack.didp.facts().grant_requests;
    parties.stack.didp.revoke("owner", "s-app");
    until("the PCM was told", async || parties.stack.didp.facts().grant_requests > requests).await;
    let again = parties.stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    parties.stack.didp.say("changed", "sub", "owner");
    let mut app = parties.stack.connect().await;
    app.version = Version::V5;
    app.send(&Packet::Connect(connect(&again))).await;
    app.expect(|packet| match packet {
        Packet::ConnAck(connack) => assert!(!connack.session_present, "nothing is left of the session"),
        other => panic!("expected CONNACK, not {other:?}"),
    })
    .await;
}

#[tokio::test]
async fn a_will_is_published_under_the_devices_label_when_it_is_gone() {
    let parties = parties().await;
    for version in [Version::V311, Version::V5] {
        let mut app = parties.client(version, "app", &parties.app).await;
        app.subscribe(1, &["d/#"]).await;
        let mut device = parties.stack.connect().await;
        let connect =
            Connect { will: Some(will("d/heater-state", &[])), ..bearer(version, "device", &parties.device) };
        assert_eq!(device.connect(connect).await, 0);
        drop(device);
        let arrived = app.message().await;
        assert_eq!(arrived.payload, b"gone");
        assert!(arrived.topic.ends_with("/heater-state") && !arrived.topic.contains("label1"));
    }
}

/// Checklist 39: the will of a session whose grant was revoked is not published, even if the PCM hears of it later than the
/// session does.
#[tokio::test]
async fn a_will_does_not_outlive_its_grant() {
    let parties = parties().await;
    let command = format!("c/{}/heater", parties.handle().await);
    let other = parties.stack.didp.add_app("owner", "s-other", json!([app_detail("label1", &["command"])]));
    parties.stack.didp.say("changed", "sub", "owner");
    let mut device = parties.client(Version::V5, "device", &parties.device).await;
    device.subscribe(1, &["c/#"]).await;
    let mut app = parties.stack.connect().await;
    let connect = Connect { will: Some(will(&command, &[])), ..bearer(Version::V5, "app", &parties.app) };
    assert_eq!(app.connect(connect).await, 0);
    parties.stack.didp.kill(&parties.app);
    parties.stack.didp.say("revoked", "sid", "s-app");
    app.expect_disconnect(0x87).await;
    drop(app);
    parties.stack.didp.revoke("owner", "s-app");
    let mut other_app = parties.client(Version::V5, "other", &other).await;
    let handle = ignite::keys::Keys::derive(&service::secret::Key::new([42; 32])).handle("s-other", "label1");
    assert_eq!(other_app.publish_acked(1, &format!("c/{handle}/heater"), b"next").await, 0);
    assert_eq!(device.message().await.payload, b"next");
}

/// Checklist 39: a session that was ended because its token is dead publishes no will, even if its grant lives on, so that the
/// PCM has nothing against it.
#[tokio::test]
async fn a_will_does_not_outlive_its_token() {
    let parties = parties().await;
    let stack = &parties.stack;
    let handle = parties.handle().await;
    let command = format!("c/{handle}/heater");
    stack.didp.facts().tokens.get_mut(&parties.device).unwrap()["exp"] = json!(common::didp::now() + 9_000);
    let mut device = parties.client(Version::V5, "device", &parties.device).await;
    device.subscribe(1, &["c/#"]).await;
    let sessions = async || {
        let ready = reqwest::get(format!("http://{}/readyz", stack.http)).await.unwrap();
        ready.json::<serde_json::Value>().await.unwrap()["sessions"].as_u64().unwrap()
    };
    let method = [Property::AuthenticationMethod("Bearer")];
    let refused = [Property::AuthenticationMethod("Bearer"), Property::AuthenticationData(b"demo.wrong")];
    for (version, how) in [
        (Version::V311, "revoked"),
        (Version::V5, "revoked"),
        (Version::V5, "reauthentication"),
        (Version::V311, "end"),
        (Version::V5, "end"),
    ] {
        let token = stack.didp.another_token(&parties.app);
        stack.didp.facts().tokens.get_mut(&token).unwrap()["exp"] = json!(stack.clock.now() + 60);
        let properties = if how == "reauthentication" { &method[..] } else { &[] };
        let properties = Properties::list(properties);
        let connect =
            Connect { will: Some(will(&command, &[])), properties, ..bearer(version, "app", &token) };
        let mut app = stack.connect().await;
        assert_eq!(app.connect(connect).await, 0);
        match how {
            "revoked" => {
                stack.didp.kill(&token);
                stack.didp.say("changed", "sub", "owner");
            }
            "end" => stack.clock.advance(61),
            _ => {
                let reason = ReasonCode::RE_AUTHENTICATE;
                let properties = Properties::list(&refused);
                app.send(&Packet::Auth(mqtt_wire::Auth { reason, properties })).await;
            }
        }
        match version {
            Version::V5 => app.expect_disconnect(0x87).await,
            Version::V31 | Version::V311 => app.expect_end().await,
        }
        drop(app);
        until("the session is over", async || sessions().await == 1).await;
        let mut next = parties.client(version, "next", &parties.app).await;
        assert_eq!(next.publish_acked(1, &command, how.as_bytes()).await, 0);
        assert_eq!(device.message().await.payload, how.as_bytes(), "{version:?}");
        next.disconnect().await;
        until("that session is over", async || sessions().await == 1).await;
    }
}

/// Checklist 35.
#[tokio::test]
async fn a_will_that_is_not_granted_refuses_the_connection() {
    let parties = parties().await;
    let responses = [Property::ResponseTopic("c/heater")];
    for (version, topic, properties, code) in [
        (Version::V5, "c/heater", &[][..], 0x87),
        (Version::V311, "elsewhere", &[], 5),
        (Version::V5, "d/x", &responses[..], 0x90),
    ] {
        let mut device = parties.stack.connect().await;
        let connect =
            Connect { will: Some(will(topic, properties)), ..bearer(version, "device", &parties.device) };
        assert_eq!(device.connect(connect).await, code, "{topic}");
        device.expect_end().await;
    }
}

#[tokio::test]
async fn request_and_response_through_handles_and_labels() {
    let parties = parties().await;
    let handle = parties.handle().await;
    let mut app = parties.client(Version::V5, "app", &parties.app).await;
    app.subscribe(1, &[&format!("d/{handle}/heater-state")]).await;
    let mut device = parties.client(Version::V5, "device", &parties.device).await;
    device.subscribe(1, &["c/+"]).await;
    let response = format!("d/{handle}/heater-state");
    let properties = [Property::ResponseTopic(&response), Property::CorrelationData(b"42")];
    let command = format!("c/{handle}/heater");
    app.send(&publish(QoS::AtLeastOnce, 5, &command, b"true", Properties::list(&properties))).await;
    assert_eq!(app.puback(5).await, 0);
    let request = device.message().await;
    assert_eq!(request.response.as_deref(), Some("d/heater-state"));
    assert_eq!(device.publish_acked(6, "d/heater-state", b"true").await, 0);
    let answer = app.message().await;
    assert_eq!((answer.topic, answer.payload.as_slice()), (response, &b"true"[..]));
    let outside = [Property::ResponseTopic("d/somewhere/else")];
    app.send(&publish(QoS::AtLeastOnce, 7, &command, b"true", Properties::list(&outside))).await;
    assert_eq!(app.puback(7).await, 0x90);
}

#[tokio::test]
async fn a_shared_subscription_shares_within_its_grant_only() {
    let parties = parties().await;
    let second = parties.stack.didp.add_app("owner", "s-app2", json!([app_detail("label1", &["read"])]));
    parties.stack.didp.say("changed", "sub", "owner");
    let mut members = Vec::new();
    for id in ["one", "two"] {
        let mut member = parties.client(Version::V5, id, &parties.app).await;
        assert_eq!(member.subscribe(1, &["$share/group/d/#"]).await, [2]);
        members.push(member);
    }
    let mut other = parties.client(Version::V5, "one", &second).await;
    assert_eq!(other.subscribe(1, &["$share/group/d/#"]).await, [2]);
    let mut device = parties.client(Version::V5, "device", &parties.device).await;
    for id in 1..=10 {
        assert_eq!(device.publish_acked(id, "d/temperature", &id.to_be_bytes()).await, 0);
    }
    // Another grant's group of the same name takes nothing away.
    for id in 1..=10_u16 {
        assert_eq!(other.message().await.payload, id.to_be_bytes());
    }
    let mut seen = Vec::new();
    for member in &mut members {
        while let Ok(message) = timeout(Duration::from_millis(100), member.message()).await {
            seen.push(message.payload);
        }
    }
    seen.sort();
    let expected: Vec<_> = (1..=10_u16).map(|id| id.to_be_bytes().to_vec()).collect();
    assert_eq!(seen, expected, "each message went to one member");
}

/// Without a consent nothing is kept, and what is kept goes with its last grant.
#[tokio::test]
async fn retained_values_obey_the_grant_as_it_is_now() {
    let stack = Stack::start().await;
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let mut thermostat = stack.connect().await;
    thermostat.log_in(Version::V5, "device", &device).await;
    let retain = async |thermostat: &mut Client, id, payload| {
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "d/temperature",
            packet_id: Some(id),
            properties: Properties::EMPTY,
            payload,
        };
        thermostat.send(&Packet::Publish(publish)).await;
        assert_eq!(thermostat.puback(id).await, 0, "acknowledged, whatever becomes of it");
    };
    retain(&mut thermostat, 1, b"before").await;
    let app = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    stack.didp.say("changed", "sub", "owner");
    let mut reader = stack.connect().await;
    reader.log_in(Version::V5, "reader", &app).await;
    assert_eq!(reader.subscribe(1, &["d/#"]).await, [2]);
    retain(&mut thermostat, 2, b"after").await;
    let first = reader.message().await;
    assert_eq!(first.payload, b"after", "what was said before the consent is kept nowhere");
    let mut again = stack.connect().await;
    again.log_in(Version::V5, "again", &app).await;
    assert_eq!(again.subscribe(1, &["d/#"]).await, [2]);
    let kept = again.message().await;
    assert_eq!((kept.payload.as_slice(), kept.retain), (&b"after"[..], true));
}

#[tokio::test]
async fn a_client_that_names_itself_not_is_given_a_name_that_works() {
    let parties = parties().await;
    let mut first = parties.stack.connect().await;
    first.version = Version::V5;
    first.send(&Packet::Connect(bearer(Version::V5, "", &parties.app))).await;
    let name = first
        .expect(|packet| match packet {
            Packet::ConnAck(ack) => ack.properties.assigned_client_identifier().unwrap().to_owned(),
            other => panic!("expected CONNACK, not {other:?}"),
        })
        .await;
    let _second = parties.client(Version::V5, &name, &parties.app).await;
    first.expect_disconnect(0x8E).await;
    let mut old = parties.stack.connect().await;
    let connect = Connect { clean_start: false, ..bearer(Version::V311, "", &parties.app) };
    assert_eq!(old.connect(connect).await, 2);
}

#[tokio::test]
async fn mqtt_3_1_is_spoken_too() {
    let parties = parties().await;
    let mut app = parties.client(Version::V31, "app", &parties.app).await;
    app.subscribe(1, &["d/#"]).await;
    let mut device = parties.client(Version::V31, "device", &parties.device).await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"1").await, 0);
    assert_eq!(app.message().await.payload, b"1");
}

/// Much in both directions at once, with a reader that pauses: nothing is lost, nothing stands still.
#[tokio::test]
async fn a_flood_arrives_whole_and_in_order() {
    const MESSAGES: u32 = 3_000;
    let parties = parties().await;
    let mut app = parties.client(Version::V311, "app", &parties.app).await;
    assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
    let mut device = parties.client(Version::V311, "device", &parties.device).await;
    let payload = vec![b'x'; 1_000];
    let sending = async {
        for number in 0..MESSAGES {
            let id = u16::try_from(number % 60_000).unwrap() + 1;
            let mut payload = payload.clone();
            payload[..4].copy_from_slice(&number.to_be_bytes());
            assert_eq!(device.publish_acked(id, "d/temperature", &payload).await, 0);
        }
    };
    let receiving = async {
        for number in 0..MESSAGES {
            if number % 1_000 == 0 {
                tokio::task::yield_now().await;
            }
            let message = app.message().await;
            assert_eq!(message.payload[..4], number.to_be_bytes());
        }
    };
    timeout(3 * DEADLINE, async { tokio::join!(sending, receiving) }).await.unwrap();
}

/// Checklist 38: the rate of one client is bounded by making it wait, not by losing anything.
#[tokio::test]
async fn a_client_that_is_too_fast_has_to_wait() {
    let stack = Stack::with(|config| config.limits.packets_per_second = 5).await;
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let mut client = stack.connect().await;
    client.log_in(Version::V311, "device", &device).await;
    let ((), took) = common::timed(async {
        for id in 1..=12 {
            client.publish(QoS::AtLeastOnce, id, "d/temperature", b"1").await;
        }
        for id in 1..=12 {
            assert_eq!(client.puback(id).await, 0);
        }
    })
    .await;
    assert!(took > Duration::from_secs(1), "{took:?}");
}

/// Checklist 38: a filter is as much work as a packet, and many of them are as many packets.
#[tokio::test]
async fn filters_count_as_packets_do() {
    let stack = Stack::with(|config| config.limits.packets_per_second = 100).await;
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let mut client = stack.connect().await;
    client.log_in(Version::V311, "device", &device).await;
    let filters = ["d/no/such"; 60];
    let ((), took) = common::timed(async {
        for id in 1..=3 {
            assert_eq!(client.subscribe(id, &filters).await, [0x80; 60]);
        }
    })
    .await;
    assert!(took > Duration::from_secs(1), "{took:?}");
}

/// Checklist 38.
#[tokio::test]
async fn sessions_of_one_grant_are_counted() {
    let stack = Stack::with(|config| config.limits.sessions_per_grant = 2).await;
    let app = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let other = stack.didp.add_app("owner", "s-other", json!([app_detail("label1", &["read"])]));
    let mut held = Vec::new();
    for (id, token, code) in [("1", &app, 0), ("2", &app, 0), ("3", &app, 0x97), ("1", &other, 0)] {
        let mut client = stack.connect().await;
        assert_eq!(client.connect(bearer(Version::V5, id, token)).await, code, "{id}");
        held.push(client);
    }
}
