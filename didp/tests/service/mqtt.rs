//! MQTT 3.1.1 and 5 at the DIdP, design §6; checklist 31, 34 to 36, 41, 44.

use mqtt_wire::{
    Connect, Disconnect, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe, Subscription,
    Version, Will,
};
use proptest::prelude::*;
use serde_json::json;

use crate::harness::{Came, Didp, Mqtt, press};

fn connect<'a>(version: Version, user: Option<&'a str>, password: Option<&'a [u8]>) -> Connect<'a> {
    Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        properties: Properties::EMPTY,
        client_id: "c",
        will: None,
        username: user,
        password,
    }
}

async fn refused(didp: &Didp, connect: Connect<'_>) -> ReasonCode {
    let mut mqtt = Mqtt::open(didp.mqtt_address(), connect.version).await;
    mqtt.send(&Packet::Connect(connect)).await;
    let Came::ConnAck(reason) = mqtt.next().await else { panic!("no CONNACK") };
    assert_eq!(mqtt.next().await, Came::Closed);
    reason
}

#[tokio::test]
async fn checklist_34_wrong_missing_and_others_credentials_are_refused_and_closed() {
    let didp = Didp::start().await;
    let (device, other) = (didp.device("code").await, didp.device("code").await);
    let app = didp.register_app("client_secret_basic").await;
    let id = device.client_id.as_str();
    let secret = device.secret.as_bytes();
    for version in [Version::V311, Version::V5] {
        for (user, password) in [
            (Some(id), Some(&b"wrong"[..])),
            (Some(id), Some(other.secret.as_bytes())),
            (Some("unknown"), Some(secret)),
            (Some(id), Some(&b"\xff"[..])),
            (Some(""), Some(secret)),
            (None, None),
            (Some(app.client_id.as_str()), app.secret.as_ref().map(|secret| secret.as_bytes())),
        ] {
            let reason = refused(&didp, connect(version, user, password)).await;
            assert_eq!(reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
        }
    }
}

#[tokio::test]
async fn what_a_connect_may_not_ask_for() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    let good = |version| connect(version, Some(&device.client_id), Some(device.secret.as_bytes()));
    let will =
        Will { qos: QoS::AtMostOnce, retain: false, properties: Properties::EMPTY, topic: "x", payload: b"" };
    let with_will = Connect { will: Some(will), ..good(Version::V5) };
    assert_eq!(refused(&didp, with_will).await, ReasonCode::NOT_AUTHORIZED);
    let method = [Property::AuthenticationMethod("SCRAM")];
    let with_method = Connect { properties: Properties::list(&method), ..good(Version::V5) };
    assert_eq!(refused(&didp, with_method).await, ReasonCode::BAD_AUTHENTICATION_METHOD);
    assert_eq!(refused(&didp, good(Version::V31)).await, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
    let nameless = Connect { client_id: "", clean_start: false, ..good(Version::V311) };
    assert_eq!(refused(&didp, nameless).await, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
}

#[tokio::test]
async fn checklist_36_and_44_malformed_bytes_end_that_connection_only() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    let other = didp.device("code").await;
    let mut witness = didp.connect(&other).await;
    let before: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01",
        b"\x00\x00",
        b"\x10\xff\xff\xff\xff\x01",
        b"\x10\xff\xff\xff\x7f",
        b"\x10\x04\x00\x04MQ",
        b"\xc0\x00",
    ];
    for bytes in before {
        let mut mqtt = Mqtt::open(didp.mqtt_address(), Version::V5).await;
        mqtt.raw(bytes).await;
        assert_eq!(mqtt.next().await, Came::Closed, "{bytes:?}");
    }
    let after: [&[u8]; 6] = [
        b"\x00\x00",
        b"\x10\x04\x00\x04MQ",
        b"\xc1\x00",
        b"\x30\xff\xff\xff\x7f",
        b"\x30\x01\x00",
        b"\x82\x00",
    ];
    for version in [Version::V311, Version::V5] {
        for bytes in after {
            let mut mqtt =
                Mqtt::login(didp.mqtt_address(), version, &device.client_id, &device.secret).await.unwrap();
            mqtt.raw(bytes).await;
            if version == Version::V5 {
                assert!(matches!(mqtt.next().await, Came::Goodbye(_)), "{bytes:?}");
            }
            assert_eq!(mqtt.next().await, Came::Closed, "{bytes:?}");
        }
    }
    witness.send(&Packet::PingReq).await;
    assert_eq!(witness.next().await, Came::Pong);
}

#[tokio::test]
async fn checklist_44_malformed_requests_get_an_error_on_every_topic() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    for payloads in [
        &[&b""[..], b"null", b"[]", b"\xff\xfe", b"{", b"{\"a\":", b"7"][..],
        &[
            b"\"text\"",
            b"{\"grant_type\":1}",
            b"[[[[[[[[[[[[[[[[",
            b"{\"code_challenge\":\"x\",\"code_challenge_method\":\"plain\"}",
        ],
    ] {
        let mut mqtt = didp.connect(&device).await;
        for payload in payloads {
            for what in ["claim", "token", "revoke"] {
                mqtt.publish(&format!("$oauth/{what}"), payload, Properties::EMPTY).await;
                let (topic, answer) = mqtt.message().await;
                assert_eq!(topic, format!("$oauth/{what}/response"));
                assert_eq!(answer["error"], "invalid_request", "{what} {payload:?}");
            }
        }
    }
    let mut mqtt = didp.connect(&device).await;
    let unsupported = mqtt.ask("token", &json!({"grant_type": "client_credentials"})).await;
    assert_eq!(unsupported["error"], "unsupported_grant_type");
    assert_eq!(mqtt.ask("token", &json!({"grant_type": "refresh_token"})).await["error"], "invalid_request");
    assert_eq!(mqtt.ask("claim/done", &json!({})).await["error"], "expired_token");
    assert_eq!(mqtt.ask("reset", &json!({})).await, json!({}));
    assert_eq!(mqtt.ask("revoke", &json!({"token": "unknown"})).await, json!({}));
}

#[tokio::test]
async fn answers_follow_response_topic_and_correlation_data() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let properties = [Property::ResponseTopic("my/answers"), Property::CorrelationData(b"\x00\x01")];
    mqtt.publish("$oauth/revoke", b"{\"token\":\"x\"}", Properties::list(&properties)).await;
    let expected =
        Came::Publish { topic: "my/answers".into(), correlation: Some(vec![0, 1]), payload: json!({}) };
    assert_eq!(mqtt.next().await, expected);
}

#[tokio::test]
async fn checklist_35_nothing_but_the_own_responses_can_be_subscribed() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    let filters = [
        "$oauth/token/response",
        "$oauth/claim/done/response",
        "#",
        "$oauth/#",
        "$oauth/+/response",
        "$share/g/$oauth/token/response",
        "$SYS/x",
        "$oauth/token",
    ];
    let expected: [(Version, [u8; 8]); 2] = [
        (Version::V311, [0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80]),
        (Version::V5, [0, 0, 0xa2, 0xa2, 0xa2, 0x9e, 0x87, 0x87]),
    ];
    for (version, codes) in expected {
        let mut mqtt =
            Mqtt::login(didp.mqtt_address(), version, &device.client_id, &device.secret).await.unwrap();
        let subscriptions = filters.map(|filter| Subscription::new(filter, QoS::AtLeastOnce));
        let packet = Subscribe {
            packet_id: 7,
            properties: Properties::EMPTY,
            filters: mqtt_wire::Filters::list(&subscriptions),
        };
        mqtt.send(&Packet::Subscribe(packet)).await;
        assert_eq!(mqtt.next().await, Came::SubAck(codes.to_vec()));
    }
}

#[tokio::test]
async fn other_topics_are_refused_with_a_reason() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    let login = |version| Mqtt::login(didp.mqtt_address(), version, &device.client_id, &device.secret);
    let publish = |topic, qos| Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: (qos != QoS::AtMostOnce).then_some(9),
        properties: Properties::EMPTY,
        payload: b"{}",
    };
    let cases =
        [("d/temperature", ReasonCode::NOT_AUTHORIZED), ("$oauth/other", ReasonCode::TOPIC_NAME_INVALID)];
    for (topic, reason) in cases {
        let mut mqtt = login(Version::V5).await.unwrap();
        mqtt.send(&Packet::Publish(publish(topic, QoS::AtLeastOnce))).await;
        assert_eq!(mqtt.next().await, Came::Ack(9, reason));
        mqtt.send(&Packet::Publish(publish(topic, QoS::AtMostOnce))).await;
        assert_eq!(mqtt.next().await, Came::Goodbye(reason));
        assert_eq!(mqtt.next().await, Came::Closed);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut mqtt = login(Version::V311).await.unwrap();
            mqtt.send(&Packet::Publish(publish(topic, qos))).await;
            assert_eq!(mqtt.next().await, Came::Closed);
        }
    }
    let mut mqtt = login(Version::V5).await.unwrap();
    mqtt.send(&Packet::Publish(publish("$oauth/reset", QoS::ExactlyOnce))).await;
    assert_eq!(mqtt.next().await, Came::Goodbye(ReasonCode::QOS_NOT_SUPPORTED));
    let mut mqtt = login(Version::V5).await.unwrap();
    mqtt.send(&Packet::Publish(Publish { retain: true, ..publish("$oauth/reset", QoS::AtMostOnce) })).await;
    assert_eq!(mqtt.next().await, Came::Goodbye(ReasonCode::RETAIN_NOT_SUPPORTED));
}

#[tokio::test]
async fn a_request_with_qos_2_is_answered_once() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    let mut mqtt =
        Mqtt::login(didp.mqtt_address(), Version::V311, &device.client_id, &device.secret).await.unwrap();
    let request = |dup| Publish {
        dup,
        qos: QoS::ExactlyOnce,
        retain: false,
        topic: "$oauth/reset",
        packet_id: Some(3),
        properties: Properties::EMPTY,
        payload: b"{}",
    };
    mqtt.send(&Packet::Publish(request(false))).await;
    assert_eq!(mqtt.next().await, Came::Ack(3, ReasonCode::SUCCESS));
    assert_eq!(mqtt.message().await.1, json!({}));
    mqtt.send(&Packet::Publish(request(true))).await;
    assert_eq!(mqtt.next().await, Came::Ack(3, ReasonCode::SUCCESS));
    let release = mqtt_wire::Ack { packet_id: 3, reason: ReasonCode::SUCCESS, properties: Properties::EMPTY };
    mqtt.send(&Packet::PubRel(release)).await;
    assert_eq!(mqtt.next().await, Came::Ack(3, ReasonCode::SUCCESS), "and no second answer before it");
}

#[tokio::test]
async fn checklist_41_a_connection_is_taken_over_by_the_same_client_only() {
    let didp = Didp::start().await;
    let (device, other) = (didp.device("code").await, didp.device("code").await);
    let mut first = didp.connect(&device).await;
    // The same MQTT client id everywhere: it names nobody here.
    let mut others = didp.connect(&other).await;
    let mut second = didp.connect(&device).await;
    assert_eq!(first.next().await, Came::Goodbye(ReasonCode::SESSION_TAKEN_OVER));
    assert_eq!(first.next().await, Came::Closed);
    for mqtt in [&mut others, &mut second] {
        mqtt.send(&Packet::PingReq).await;
        assert_eq!(mqtt.next().await, Came::Pong);
    }
}

#[tokio::test]
async fn a_client_that_asks_too_fast_is_cut() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let mut answers = 0;
    // One at a time: what a server leaves unread when it closes resets the connection, and the goodbye with it.
    let end = loop {
        mqtt.publish("$oauth/revoke", b"{\"token\":\"x\"}", Properties::EMPTY).await;
        match mqtt.next().await {
            Came::Publish { .. } => answers += 1,
            other => break other,
        }
    };
    assert_eq!(end, Came::Goodbye(ReasonCode::MESSAGE_RATE_TOO_HIGH));
    assert!((30..60).contains(&answers), "{answers}");
}

#[tokio::test]
async fn a_goodbye_closes_and_takes_the_window_along() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let device = didp.device("code").await;
    let mut mqtt = didp.connect(&device).await;
    let window = mqtt.ask("claim", &press(&device.verifier)).await;
    let goodbye = Disconnect { reason: ReasonCode::NORMAL_DISCONNECTION, properties: Properties::EMPTY };
    mqtt.send(&Packet::Disconnect(goodbye)).await;
    assert_eq!(mqtt.next().await, Came::Closed);
    let typed = window["user_code"].as_str().unwrap();
    let attempt = didp::flows::claim::confirm(&didp.app, &anna, &device.code, typed).await.unwrap();
    assert_eq!(attempt, didp::flows::claim::Attempt::NoMatch);
}

#[tokio::test]
async fn checklist_37_who_is_slow_is_cut_even_byte_by_byte() {
    let didp = Didp::start_with("limits = { connect = 1 }").await;
    let mut silent = Mqtt::open(didp.mqtt_address(), Version::V5).await;
    let mut slow = Mqtt::open(didp.mqtt_address(), Version::V5).await;
    slow.raw(&[0x10, 0x20, 0x00]).await;
    assert_eq!(silent.next().await, Came::Closed);
    assert_eq!(slow.next().await, Came::Closed);

    let device = didp.device("code").await;
    let mut mqtt = Mqtt::open(didp.mqtt_address(), Version::V5).await;
    let connect = Connect {
        keep_alive: 1,
        ..connect(Version::V5, Some(&device.client_id), Some(device.secret.as_bytes()))
    };
    mqtt.send(&Packet::Connect(connect)).await;
    assert_eq!(mqtt.next().await, Came::ConnAck(ReasonCode::SUCCESS));
    // A packet that never ends is no sign of life.
    mqtt.raw(&[0x30, 0x7f]).await;
    assert_eq!(mqtt.next().await, Came::Goodbye(ReasonCode::KEEP_ALIVE_TIMEOUT));
    assert_eq!(mqtt.next().await, Came::Closed);
}

#[test]
fn checklist_44_no_bytes_stop_the_service() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (didp, device) = runtime.block_on(async {
        let didp = Didp::start().await;
        let device = didp.device("code").await;
        (didp, device)
    });
    let topic = proptest::sample::select(vec!["claim", "token", "claim/done", "revoke", "reset", "other"]);
    let payload = proptest::prop_oneof![
        proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        "\\PC{0,80}".prop_map(String::into_bytes),
        "[{\\[]\"(grant_type|code|token|code_challenge)\":(\"[a-z_]{0,20}\"|[0-9]{1,30}|null|[{\\[]){1,4}"
            .prop_map(String::into_bytes),
    ];
    let bytes = proptest::collection::vec(proptest::num::u8::ANY, 0..60);
    let config = ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&(topic, payload, bytes), |(topic, payload, bytes)| {
        runtime.block_on(async {
            let mut mqtt = didp.connect(&device).await;
            mqtt.publish(&format!("$oauth/{topic}"), &payload, Properties::EMPTY).await;
            mqtt.raw(&bytes).await;
            let mut witness = didp.connect(&device).await;
            witness.send(&Packet::PingReq).await;
            assert_eq!(witness.next().await, Came::Pong);
        });
        Ok(())
    });
    outcome.unwrap();
}
