//! Peers that do not behave: bytes that are no protocol, packets that are none, requests without end. Nothing stops for others.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::Scene;
use mqtt_wire::{QoS, ReasonCode};
use testkit::mqtt::Options;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a port may get that expects something else.
const ROUGH: [&[u8]; 9] = [
    b"",
    b"\0",
    b"GET / HTTP/1.1\r\n\r\n",
    b"POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
    b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: !\r\n\r\n",
    // A CONNECT that claims to be 256 MB long, one with a wrong protocol name, one that is cut off, one with a wild property.
    b"\x10\xff\xff\xff\x7f\x00\x04MQTT\x05",
    b"\x10\x0c\x00\x04MQXX\x04\x02\x00\x3c\x00\x00",
    b"\x10\x7f\x00\x04MQTT\x05\xc2",
    b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00\x03\xfe\xff\xff\x00\x00",
];

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_protocol_end_their_own_connection_only() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let ports = scene.stack.deployment().ports;
    let listeners = [
        ports.didp_http,
        ports.didp_mqtt,
        ports.didp_mqtts,
        ports.ignite_mqtt,
        ports.ignite_mqtts,
        ports.ignite_http,
        ports.ignite_https,
    ];
    let mut app = Options::new(&scene.stack.ws()).bearer(&scene.allowed.access_token).connect().await?;
    let mut thermostat =
        Options::new(&scene.stack.mqtt()).bearer(&scene.owned.access_token).connect().await?;
    ensure!(app.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    for port in listeners {
        for bytes in ROUGH {
            let mut rough = TcpStream::connect(("127.0.0.1", port)).await?;
            rough.write_all(bytes).await?;
            rough.shutdown().await?;
            let mut answer = Vec::new();
            let ended = timeout(Duration::from_secs(15), rough.read_to_end(&mut answer)).await;
            // A reset is an end as well.
            let _ = ended.with_context(|| format!("port {port} goes on after {bytes:?}"))?;
        }
        thermostat.publish("d/temperature", port.to_string(), QoS::AtLeastOnce).await?;
        ensure!(app.message().await?.text() == port.to_string());
    }
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_packets_after_the_login_end_that_session_with_a_reason() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    // A topic with a wildcard, QoS 3, a SUBSCRIBE without filters, a second CONNECT.
    let packets: [&[u8]; 4] = [
        b"\x30\x06\x00\x03d/#\x00",
        b"\x36\x08\x00\x03d/t\x00\x01\x00",
        b"\x82\x03\x00\x01\x00",
        b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x00",
    ];
    for packet in packets {
        let mut session =
            Options::new(&scene.stack.mqtt()).bearer(&scene.owned.access_token).connect().await?;
        session.send_raw(packet).await?;
        let reason = session.ended_within(Duration::from_secs(5)).await?;
        // The standard leaves open which of the two some of them are (§4.13).
        let named = matches!(reason, Some(ReasonCode::MALFORMED_PACKET | ReasonCode::PROTOCOL_ERROR));
        ensure!(named, "{packet:?} is answered with {reason:?}");
        let mut waiting = scene.stack.device().await?.wait().await?;
        waiting.client().send_raw(packet).await?;
        let reason = waiting.client().ended_within(Duration::from_secs(5)).await?;
        ensure!(reason.is_some(), "the DIdP says no reason for {packet:?}");
    }
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_oauth_topics_exists_at_the_didp() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    for topic in ["d/temperature", "$SYS/x", "$oauth/elsewhere", "$oauth/token/response"] {
        let mut waiting = scene.stack.device().await?.wait().await?;
        let reason = waiting.client().publish(topic, "{}", QoS::AtLeastOnce).await;
        ensure!(
            reason.is_err() || reason.is_ok_and(|reason| !reason.is_success()),
            "{topic} may be published"
        );
    }
    let mut waiting = scene.stack.device().await?.wait().await?;
    for filter in ["#", "$oauth/#", "+/+/response", "$share/g/#"] {
        let reason = waiting.client().subscribe(filter, QoS::AtMostOnce).await?;
        ensure!(!reason.is_success(), "{filter} may be subscribed");
    }
    // Requests that are no JSON get an error of their own and the connection goes on.
    let answer = waiting.ask("$oauth/token", &serde_json::json!("no object")).await?;
    ensure!(answer["error"] == "invalid_request", "{answer}");
    ensure!(waiting.press().await?.len() == 4);
    scene.stack.stop().await
}
