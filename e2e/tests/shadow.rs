//! The device's shadow through the whole system: device, app over MQTT, app over HTTP.

use anyhow::{Context as _, ensure};
use e2e::Scene;
use mqtt_wire::{QoS, ReasonCode, Version};
use serde_json::{Value, json};
use testkit::mqtt::{Client, Message, Options};

async fn talk(scene: &Scene, token: &str) -> anyhow::Result<Client> {
    Options::new(&scene.stack.mqtts()?).bearer(token).connect().await
}

fn document(message: &Message) -> anyhow::Result<Value> {
    serde_json::from_str(&message.text()).context("a document is JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_waits_for_the_device_and_is_reported_back() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let topic = format!("s/{}", scene.handle);
    let mut app = talk(&scene, &scene.allowed.access_token).await?;
    ensure!(app.subscribe("s/+", QoS::AtLeastOnce).await?.is_success());
    let first = app.message().await?;
    ensure!(first.topic == topic && first.retain);
    ensure!(document(&first)? == json!({"version": 0, "reported": {}, "desired": {}, "delta": {}}));

    // The device is away.
    let wish = r#"{"$version": 0, "heater": true}"#;
    ensure!(app.publish(&format!("{topic}/desired"), wish, QoS::AtLeastOnce).await?.is_success());
    let wished = document(&app.message().await?)?;
    ensure!(wished["version"] == 1 && wished["delta"] == json!({"heater": true}), "{wished}");
    let late = app.publish(&format!("{topic}/desired"), wish, QoS::AtLeastOnce).await?;
    ensure!(late == ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR, "{late:?}");

    for version in [Version::V311, Version::V5] {
        let options = Options::new(&scene.stack.mqtts()?).version(version);
        let mut thermostat = options.bearer(&scene.owned.access_token).connect().await?;
        ensure!(thermostat.subscribe("s/delta", QoS::AtLeastOnce).await?.is_success());
        let delta = thermostat.message().await?;
        ensure!(delta.topic == "s/delta" && delta.text() == r#"{"heater":true}"#);
    }
    let mut thermostat = talk(&scene, &scene.owned.access_token).await?;
    let report = r#"{"temperature": 21.5, "heater": true, "nobody's": 1}"#;
    ensure!(thermostat.publish("s/reported", report, QoS::AtLeastOnce).await?.is_success());
    let done = document(&app.message().await?)?;
    ensure!(done["reported"]["temperature"] == 21.5 && done["delta"] == json!({}), "{done}");
    ensure!(done["reported"].get("nobody's").is_none(), "{done}");
    let foreign = thermostat.publish("s/desired", "{}", QoS::AtLeastOnce).await?;
    ensure!(foreign == ReasonCode::NOT_AUTHORIZED);
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_over_http() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let http = testkit::browser::http();
    let address = format!("{}/v1/s/{}", scene.stack.gateway(), scene.handle);
    let patch = |body: &str, tag: Option<&str>| {
        let request = http
            .patch(&address)
            .bearer_auth(&scene.allowed.access_token)
            .header("content-type", "application/merge-patch+json")
            .body(body.to_owned());
        match tag {
            Some(tag) => request.header("if-match", tag),
            None => request,
        }
    };
    let mut thermostat = talk(&scene, &scene.owned.access_token).await?;
    ensure!(thermostat.subscribe("s/delta", QoS::AtLeastOnce).await?.is_success());
    ensure!(thermostat.publish("s/reported", r#"{"temperature": 20}"#, QoS::AtLeastOnce).await?.is_success());

    let answer = http.get(&address).bearer_auth(&scene.allowed.access_token).send().await?;
    ensure!(answer.status() == 200 && answer.headers()["etag"] == "\"0\"", "{answer:?}");
    let document: Value = serde_json::from_slice(&answer.bytes().await?)?;
    ensure!(document["reported"] == json!({"temperature": 20}), "{document}");

    let answer = patch(r#"{"desired": {"heater": true}}"#, Some("\"0\"")).send().await?;
    ensure!(answer.status() == 200 && answer.headers()["etag"] == "\"1\"", "{answer:?}");
    ensure!(thermostat.message().await?.text() == r#"{"heater":true}"#);
    for (body, tag, status) in [
        (r#"{"heater": false}"#, Some("\"0\""), 412),
        (r#"{"$version": 0, "heater": false}"#, None, 412),
        (r#"{"temperature": 30}"#, None, 403),
        ("[1]", None, 422),
        ("heater", None, 422),
    ] {
        let answer = patch(body, tag).send().await?;
        ensure!(answer.status() == status, "{body}: {answer:?}");
    }
    let long = json!({"heater": "x".repeat(9_000)}).to_string();
    ensure!(patch(&long, None).send().await?.status() == 413);
    let answer = patch(r#"{"heater": null}"#, Some("\"1\"")).send().await?;
    ensure!(answer.status() == 200 && answer.headers()["etag"] == "\"2\"", "{answer:?}");
    ensure!(thermostat.message().await?.text() == "{}");
    scene.stack.stop().await
}
