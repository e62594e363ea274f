//! MQTT sessions through the gateway, a real launcher and real PCMs.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use common::client::bearer;
use common::{Stack, app_detail};
use mqtt_wire::{QoS, Version};
use serde_json::json;

/// The handle of a device, as the app learns it: from the topic of a message.
async fn first_reading(stack: &Stack, version: Version) {
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let app = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read", "command"])]));

    let mut tpa = stack.connect().await;
    tpa.log_in(version, "app", &app).await;
    assert_eq!(tpa.subscribe(1, &["d/#"]).await, [2]);

    let mut thermostat = stack.connect().await;
    thermostat.log_in(version, "thermostat", &device).await;
    assert_eq!(thermostat.subscribe(1, &["c/#"]).await, [2]);
    assert_eq!(thermostat.publish_acked(2, "d/temperature", b"21.5").await, 0);

    let reading = tpa.message().await;
    assert_eq!(reading.payload, b"21.5");
    let handle = reading.topic.strip_prefix("d/").unwrap().strip_suffix("/temperature").unwrap().to_owned();
    assert_eq!(handle.len(), 22, "an app never sees the label");

    assert_eq!(tpa.publish_acked(2, &format!("c/{handle}/heater"), b"true").await, 0);
    let command = thermostat.message().await;
    assert_eq!((command.topic.as_str(), command.payload.as_slice()), ("c/heater", &b"true"[..]));
    assert_eq!(stack.pcms().await, 1);
}

#[tokio::test]
async fn a_reading_and_a_command_go_through_in_v5() {
    first_reading(&Stack::start().await, Version::V5).await;
}

#[tokio::test]
async fn a_reading_and_a_command_go_through_in_v311() {
    first_reading(&Stack::start().await, Version::V311).await;
}

/// Checklist 34.
#[tokio::test]
async fn wrong_credentials_get_their_codes_and_the_end() {
    let stack = Stack::start().await;
    let good = stack.didp.add_device("owner", "s1", "label1");
    let cases = [
        ("unknown token", Some("Bearer"), Some("demo.unknown"), 0x87_u8, 5_u8),
        ("unknown issuer", Some("Bearer"), Some("other.token"), 0x86, 4),
        ("no tag", Some("Bearer"), Some("token"), 0x86, 4),
        ("no password", Some("Bearer"), None, 0x86, 4),
        ("no user name", None, None, 0x86, 4),
        ("another user name", Some("someone"), Some(good.as_str()), 0x86, 4),
        ("not even text", Some("Bearer"), Some("demo.\u{1}"), 0x86, 4),
    ];
    for (what, username, password, v5, v3) in cases {
        for (version, code) in [(Version::V5, v5), (Version::V311, v3)] {
            let mut client = stack.connect().await;
            let connect = mqtt_wire::Connect {
                username,
                password: password.map(str::as_bytes),
                ..bearer(version, "c", "")
            };
            assert_eq!(client.connect(connect).await, code, "{what}, {version:?}");
            client.expect_end().await;
        }
    }
    let asked = stack.didp.facts().asked.clone();
    assert!(asked.iter().all(|token| token == "demo.unknown"), "nothing else was sent anywhere: {asked:?}");
}

#[tokio::test]
async fn a_denied_publish_is_said_in_v5_and_swallowed_in_v311() {
    let stack = Stack::start().await;
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let mut v5 = stack.connect().await;
    v5.log_in(Version::V5, "five", &device).await;
    assert_eq!(v5.publish_acked(1, "c/heater", b"x").await, 0x87);
    v5.publish(QoS::ExactlyOnce, 2, "elsewhere", b"x").await;
    v5.expect(|packet| assert!(matches!(packet, mqtt_wire::Packet::PubRec(ack) if ack.reason.0 == 0x87)))
        .await;
    let mut v311 = stack.connect().await;
    v311.log_in(Version::V311, "three", &device).await;
    assert_eq!(v311.publish_acked(1, "c/heater", b"x").await, 0);
    v311.publish(QoS::ExactlyOnce, 2, "elsewhere", b"x").await;
    let ack = mqtt_wire::Ack::new(2, mqtt_wire::ReasonCode::SUCCESS);
    v311.expect(|packet| assert_eq!(packet, mqtt_wire::Packet::PubRec(ack))).await;
    v311.send(&mqtt_wire::Packet::PubRel(ack)).await;
    v311.expect(|packet| assert_eq!(packet, mqtt_wire::Packet::PubComp(ack))).await;
}
