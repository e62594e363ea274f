//! A PCM is killed at the worst moments: what it acknowledged is there again, what was withdrawn meanwhile is not.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{Scene, handle};
use mqtt_wire::{QoS, ReasonCode};
use serde_json::{Value, json};
use testkit::mqtt::{Client, Options};
use testkit::owner::Consent;
use tokio::time::timeout;

const HOUR: u32 = 60 * 60;

/// A client whose session outlives its connection.
async fn lasting(scene: &Scene, token: &str) -> anyhow::Result<Client> {
    Options::new(&scene.stack.mqtt()).bearer(token).client_id("lasting").session(HOUR).connect().await
}

async fn thermostat(scene: &Scene) -> anyhow::Result<Client> {
    Options::new(&scene.stack.mqtts()?).bearer(&scene.owned.access_token).connect().await
}

async fn kill(scene: &Scene) -> anyhow::Result<()> {
    ensure!(scene.stack.kill_pcms().await? == 1, "one owner has one PCM");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_delivered_by_the_next_pcm() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let mut app = lasting(&scene, &scene.allowed.access_token).await?;
    ensure!(app.subscribe("d/#", QoS::ExactlyOnce).await?.is_success());
    app.disconnect().await?;
    let mut device = thermostat(&scene).await?;
    ensure!(device.publish("d/heater/state", "true", QoS::ExactlyOnce).await?.is_success());
    for reading in ["20", "21"] {
        ensure!(device.retain("d/temperature", reading, QoS::AtLeastOnce).await?.is_success());
    }
    kill(&scene).await?;

    let mut app = lasting(&scene, &scene.allowed.access_token).await?;
    ensure!(app.session_present());
    for expected in ["true", "20", "21"] {
        let message = app.message().await?;
        ensure!(message.text() == expected, "{message:?} instead of {expected}");
    }
    let path = format!("{}/v1/d/{}/temperature", scene.stack.gateway(), scene.handle);
    let last = testkit::browser::http().get(path).bearer_auth(&scene.allowed.access_token).send().await?;
    ensure!(last.error_for_status()?.text().await? == "21", "the retained reading");

    // And with an app that is there: it hears that the session broke, comes back, and misses nothing.
    let mut device = thermostat(&scene).await?;
    kill(&scene).await?;
    ensure!(app.ended_within(Duration::from_secs(5)).await?.is_some());
    ensure!(device.ended_within(Duration::from_secs(5)).await?.is_some());
    let mut device = thermostat(&scene).await?;
    ensure!(device.publish("d/temperature", "22", QoS::AtLeastOnce).await?.is_success());
    let mut app = lasting(&scene, &scene.allowed.access_token).await?;
    ensure!(app.session_present() && app.message().await?.text() == "22");
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stock_client_finds_its_session_again() -> anyhow::Result<()> {
    use rumqttc::{AsyncClient, Event, EventLoop, Incoming, MqttOptions};
    async fn incoming(events: &mut EventLoop) -> anyhow::Result<Incoming> {
        loop {
            let event = timeout(Duration::from_secs(10), events.poll()).await.context("nothing comes")??;
            if let Event::Incoming(packet) = event {
                return Ok(packet);
            }
        }
    }
    let scene = Scene::new().await?;
    let port = scene.stack.deployment().ports.ignite_mqtt;
    let mut options = MqttOptions::new("diary", "localhost", port);
    options.set_credentials("Bearer", &scene.allowed.access_token).set_clean_session(false);
    let (client, mut events) = AsyncClient::new(options.clone(), 16);
    client.subscribe("d/#", rumqttc::QoS::AtLeastOnce).await?;
    while !matches!(incoming(&mut events).await?, Incoming::SubAck(_)) {}
    drop((client, events));
    let mut device = thermostat(&scene).await?;
    ensure!(device.publish("d/temperature", "kept", QoS::AtLeastOnce).await?.is_success());
    kill(&scene).await?;
    let (_client, mut events) = AsyncClient::new(options, 16);
    let ack = incoming(&mut events).await?;
    ensure!(matches!(ack, Incoming::ConnAck(ack) if ack.session_present), "a session that was kept");
    loop {
        if let Incoming::Publish(publish) = incoming(&mut events).await? {
            ensure!(publish.payload == "kept");
            return scene.stack.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_withdrawn_while_the_pcm_was_dead_does_not_come_back() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let other = scene.stack.app("House Book").await?;
    let other = scene.stack.allowed(&scene.ann, &other, &Consent::default()).await?;
    for tokens in [&scene.allowed, &other] {
        let mut app = lasting(&scene, &tokens.access_token).await?;
        ensure!(app.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
        let wish = format!("s/{}/desired", handle(&scene.stack, tokens).await?);
        let wish = app.publish(&wish, r#"{"heater": true}"#, QoS::AtLeastOnce).await?;
        ensure!(wish.is_success(), "{wish:?}");
        app.disconnect().await?;
    }
    let mut device = thermostat(&scene).await?;
    ensure!(device.retain("d/temperature", "before", QoS::AtLeastOnce).await?.is_success());
    kill(&scene).await?;
    scene.ann.withdraw("Heating Diary").await?;

    let refusal = Options::new(&scene.stack.mqtt()).bearer(&scene.allowed.access_token).refusal().await?;
    ensure!(refusal == ReasonCode::NOT_AUTHORIZED, "{refusal:?}");
    let mut stays = lasting(&scene, &other.access_token).await?;
    ensure!(stays.session_present() && stays.message().await?.text() == "before", "the other's is untouched");
    // The same app is allowed again: a new grant, which sees later readings only.
    let again = scene.stack.allowed(&scene.ann, &scene.app, &Consent::default()).await?;
    let mut app = lasting(&scene, &again.access_token).await?;
    ensure!(!app.session_present());
    ensure!(app.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    let mut device = thermostat(&scene).await?;
    ensure!(device.publish("d/temperature", "after", QoS::AtLeastOnce).await?.is_success());
    let first = app.message().await?;
    ensure!(first.text() == "after", "{first:?}");
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_survives_the_pcm() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let http = testkit::browser::http();
    let address = format!("{}/v1/s/{}", scene.stack.gateway(), scene.handle);
    let patch = |version: &'static str| {
        let request = http.patch(&address).bearer_auth(&scene.allowed.access_token);
        request.header("If-Match", version).json(&json!({"desired": {"heater": true}})).send()
    };
    ensure!(patch("\"0\"").await?.status() == 200);
    kill(&scene).await?;
    let kept =
        http.get(&address).bearer_auth(&scene.allowed.access_token).send().await?.error_for_status()?;
    ensure!(kept.headers()["etag"] == "\"1\"");
    let kept: Value = kept.json().await?;
    ensure!(kept["desired"] == json!({"heater": true}) && kept["delta"] == kept["desired"], "{kept}");
    ensure!(patch("\"0\"").await?.status() == 412, "compare-and-set knows the version, too");
    kill(&scene).await?;
    let mut device = thermostat(&scene).await?;
    ensure!(device.subscribe("s/delta", QoS::AtLeastOnce).await?.is_success());
    ensure!(device.message().await?.text() == r#"{"heater":true}"#);
    scene.stack.stop().await
}
