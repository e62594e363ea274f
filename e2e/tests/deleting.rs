//! An owner deletes the account: everything that ran for it ends, and nothing that was kept for it stays.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::Scene;
use mqtt_wire::{QoS, ReasonCode};
use testkit::device::Device;
use testkit::mqtt::Options;

/// Waits until something is so.
async fn until(what: &str, so: impl Fn() -> bool) -> anyhow::Result<()> {
    let becomes = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), becomes).await.context(what.to_owned())
}

/// How many folders a folder holds; one that is not there holds none.
fn folders(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_the_account_ends_sessions_and_the_pcm_and_leaves_nothing() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let door = scene.stack.mqtt();
    let mut app = Options::new(&door).bearer(&scene.allowed.access_token).connect().await?;
    let mut thermostat = Options::new(&door).bearer(&scene.owned.access_token).connect().await?;
    ensure!(app.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    ensure!(thermostat.retain("d/temperature", "20", QoS::AtLeastOnce).await?.is_success());
    ensure!(app.message().await?.text() == "20");
    let pcms = scene.stack.pcms().await?;
    let state = scene.stack.deployment().pcm_state();
    ensure!(pcms.len() == 1 && folders(&state) == 1, "one owner has one PCM, and it keeps something");
    let process = format!("/proc/{}", pcms[0].as_raw_nonzero());
    ensure!(Path::new(&process).exists());

    let page = scene.ann.delete_account().await?;
    ensure!(!page.has("sure"), "{page:?}");
    for session in [&mut app, &mut thermostat] {
        let reason = session.ended_within(Duration::from_secs(1)).await?;
        ensure!(reason == Some(ReasonCode::NOT_AUTHORIZED), "{reason:?}");
    }
    until("the PCM's process goes", || !Path::new(&process).exists()).await?;
    until("what the PCM kept goes", || folders(&state) == 0).await?;
    ensure!(scene.stack.pcms().await?.is_empty());

    for token in [&scene.allowed.access_token, &scene.owned.access_token] {
        let refusal = Options::new(&door).bearer(token).refusal().await?;
        ensure!(refusal == ReasonCode::NOT_AUTHORIZED, "{refusal:?}");
    }
    ensure!(scene.app.refresh(&scene.allowed.refresh_token).await?.is_err());
    // Who logs in again is new here.
    ensure!(!scene.ann.owns("").await? && !scene.ann.allows("").await?);

    // The device is nobody's: it comes with the secret of its claim, and the printed code claims it again.
    let renewed = scene.owned.client_secret.clone().context("a claim renews the secret")?;
    let device = Device { client_secret: renewed, ..scene.device.clone() };
    let mut waiting = device.wait().await?;
    ensure!(waiting.refresh(&scene.owned.refresh_token).await?.is_err());
    let bob = scene.stack.owner("bob")?;
    let digits = waiting.press().await?;
    let uru = &device.user_registration_uri;
    let (tokens, page) = tokio::join!(waiting.finish(), bob.claim(uru, &digits, "Cellar"));
    page?;
    let tokens = tokens?;
    let mut thermostat = Options::new(&door).bearer(&tokens.access_token).connect().await?;
    ensure!(thermostat.publish("d/temperature", "21", QoS::AtLeastOnce).await?.is_success());
    scene.stack.stop().await
}
