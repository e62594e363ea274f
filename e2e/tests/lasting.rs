//! What holds over time: tokens that end and are renewed, services that are restarted.

use std::time::Duration;

use anyhow::ensure;
use e2e::Scene;
use mqtt_wire::{QoS, ReasonCode};
use testkit::mqtt::Options;

const HOUR: i64 = 60 * 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ended_ends_its_session() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let options = Options::new(&scene.stack.ws()).bearer(&scene.allowed.access_token);
    let mut app = options.connect().await?;
    ensure!(app.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    scene.stack.clock.advance(HOUR + 1);
    // What comes next is the first thing that the gateway has to judge by the new time.
    let mut thermostat =
        Options::new(&scene.stack.mqtt()).bearer(&scene.owned.access_token).connect().await?;
    thermostat.publish("d/temperature", "20", QoS::AtLeastOnce).await?;
    let reason = app.ended_within(Duration::from_secs(5)).await?;
    ensure!(reason == Some(ReasonCode::NOT_AUTHORIZED), "{reason:?}");
    ensure!(app.received().is_empty(), "a reading went to a token that had ended");
    ensure!(options.refusal().await? == ReasonCode::NOT_AUTHORIZED);
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_its_token_by_a_new_one() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let options = Options::new(&scene.stack.ws()).bearer(&scene.allowed.access_token).reauthentication();
    let mut app = options.connect().await?;
    ensure!(app.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    scene.stack.clock.advance(HOUR - 60);
    let renewed = scene.app.refresh(&scene.allowed.refresh_token).await?;
    let renewed = renewed.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
    ensure!(app.reauthenticate(&renewed.access_token).await? == ReasonCode::SUCCESS);
    scene.stack.clock.advance(120);
    let mut thermostat =
        Options::new(&scene.stack.mqtt()).bearer(&scene.owned.access_token).connect().await?;
    thermostat.publish("d/temperature", "20", QoS::AtLeastOnce).await?;
    ensure!(app.message().await?.text() == "20");
    // Somebody else's token does not do.
    let stranger = app.reauthenticate(&scene.owned.access_token).await?;
    ensure!(stranger == ReasonCode::NOT_AUTHORIZED, "{stranger:?}");
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_strands_nobody_and_a_stolen_token_is_noticed() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let lost = scene.app.refresh(&scene.allowed.refresh_token).await?;
    let lost = lost.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
    let second = scene.app.refresh(&scene.allowed.refresh_token).await?;
    let second = second.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
    let mut app = Options::new(&scene.stack.mqtt()).bearer(&second.access_token).connect().await?;
    // The first use decided: the lost line is dead.
    let refusal = Options::new(&scene.stack.mqtt()).bearer(&lost.access_token).refusal().await?;
    ensure!(refusal == ReasonCode::NOT_AUTHORIZED, "{refusal:?}");
    // Presenting what is dead gives everything away as stolen.
    ensure!(scene.app.refresh(&scene.allowed.refresh_token).await?.is_err());
    let reason = app.ended_within(Duration::from_secs(1)).await?;
    ensure!(reason == Some(ReasonCode::NOT_AUTHORIZED), "{reason:?}");
    ensure!(scene.app.refresh(&second.refresh_token).await?.is_err());
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_lose_nothing() -> anyhow::Result<()> {
    let mut scene = Scene::new().await?;
    scene.stack.restart_didp().await?;
    exchange(&scene, "after the DIdP's restart").await?;
    ensure!(scene.ann.owns("Kitchen").await?, "the account is empty after a restart");

    scene.stack.restart_ignite().await?;
    exchange(&scene, "after the gateway's restart").await?;

    scene.stack.restart_launcher().await?;
    exchange(&scene, "after the launcher's restart").await?;

    // What is withdrawn while a gateway is away is withdrawn for it, too.
    let withdrawn = scene.allowed.access_token.clone();
    scene.ann.withdraw("Heating Diary").await?;
    scene.stack.restart_ignite().await?;
    let refusal = Options::new(&scene.stack.mqtt()).bearer(&withdrawn).refusal().await?;
    ensure!(refusal == ReasonCode::NOT_AUTHORIZED, "{refusal:?}");
    scene.stack.stop().await
}

/// A reading and a command go through on new connections with the old tokens.
async fn exchange(scene: &Scene, when: &str) -> anyhow::Result<()> {
    let door = scene.stack.mqtt();
    let mut app = Options::new(&door).bearer(&scene.allowed.access_token).connect().await?;
    let mut thermostat = Options::new(&door).bearer(&scene.owned.access_token).connect().await?;
    ensure!(app.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    ensure!(thermostat.subscribe("c/#", QoS::AtLeastOnce).await?.is_success());
    thermostat.publish("d/temperature", when, QoS::AtLeastOnce).await?;
    ensure!(app.message().await?.text() == when);
    app.publish(&format!("c/{}/heater", scene.handle), when, QoS::AtLeastOnce).await?;
    ensure!(thermostat.message().await?.text() == when);
    Ok(())
}
