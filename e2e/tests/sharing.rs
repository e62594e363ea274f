//! What an app gets, what it does not get, and how it ends.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::{Scene, handle, handles};
use mqtt_wire::{QoS, ReasonCode, Version};
use testkit::device;
use testkit::mqtt::{Client, Options};
use testkit::owner::Consent;
use testkit::stack::Stack;

/// Connects an app and subscribes to whatever it may see.
async fn listen(stack: &Stack, token: &str) -> anyhow::Result<Client> {
    let mut app = Options::new(&stack.ws()).bearer(token).connect().await?;
    ensure!(app.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    Ok(app)
}

async fn talk(stack: &Stack, token: &str) -> anyhow::Result<Client> {
    Options::new(&stack.mqtts()?).bearer(token).connect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_go_to_the_app_and_commands_to_the_device() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let (stack, topic) = (&scene.stack, scene.handle.as_str());
    for door in [stack.mqtt(), stack.mqtts()?, stack.ws(), stack.wss()?] {
        for version in [Version::V311, Version::V5] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let options = Options::new(&door).version(version);
                let mut app = options.clone().bearer(&scene.allowed.access_token).connect().await?;
                let mut thermostat = options.bearer(&scene.owned.access_token).connect().await?;
                ensure!(app.subscribe("d/#", qos).await?.is_success());
                ensure!(thermostat.subscribe("c/heater", qos).await?.is_success());
                thermostat.publish("d/temperature", "21.5", qos).await?;
                let reading = app.message().await?;
                ensure!(
                    reading.topic == format!("d/{topic}/temperature")
                        && reading.text() == "21.5"
                        && reading.qos == qos
                );
                app.publish(&format!("c/{topic}/heater"), "true", qos).await?;
                let command = thermostat.message().await?;
                ensure!(command.topic == "c/heater" && command.text() == "true" && command.qos == qos);
            }
        }
    }
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_are_apart() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let stack = &scene.stack;
    let bob = stack.owner("bob")?;
    let (_, bobs) = stack.claimed(&bob, "Hall").await?;
    let his = stack.allowed(&bob, &scene.app, &Consent::default()).await?;
    let his_handle = handle(stack, &his).await?;

    let mut anns_app = listen(stack, &scene.allowed.access_token).await?;
    let mut bobs_app = listen(stack, &his.access_token).await?;
    let mut anns_device = talk(stack, &scene.owned.access_token).await?;
    let mut bobs_device = talk(stack, &bobs.access_token).await?;
    anns_device.publish("d/temperature", "ann's", QoS::AtLeastOnce).await?;
    bobs_device.publish("d/temperature", "bob's", QoS::AtLeastOnce).await?;
    ensure!(anns_app.message().await?.text() == "ann's");
    ensure!(bobs_app.message().await?.text() == "bob's");
    let stranger = format!("d/{his_handle}/#");
    ensure!(anns_app.subscribe(&stranger, QoS::AtMostOnce).await? == ReasonCode::NOT_AUTHORIZED);
    let stranger = format!("c/{his_handle}/heater");
    ensure!(anns_app.publish(&stranger, "true", QoS::AtLeastOnce).await? == ReasonCode::NOT_AUTHORIZED);
    // Whatever went astray would have come before these.
    anns_device.publish("d/temperature", "last", QoS::AtLeastOnce).await?;
    bobs_device.publish("d/temperature", "last", QoS::AtLeastOnce).await?;
    ensure!(anns_app.message().await?.text() == "last" && bobs_app.message().await?.text() == "last");
    ensure!(!scene.ann.owns("Hall").await?);
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_consent_nothing_is_kept() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let (_, owned) = stack.claimed(&ann, "Kitchen").await?;
    let app = stack.app("Heating Diary").await?;
    let mut thermostat = talk(&stack, &owned.access_token).await?;
    ensure!(thermostat.retain("d/temperature", "before", QoS::AtLeastOnce).await?.is_success());
    ensure!(thermostat.retain("d/heater/state", "before", QoS::ExactlyOnce).await?.is_success());

    let allowed = stack.allowed(&ann, &app, &Consent::default()).await?;
    let handle = handle(&stack, &allowed).await?;
    let last = format!("{}/v1/d/{handle}/temperature", stack.gateway());
    let last = testkit::browser::http().get(last).bearer_auth(&allowed.access_token).send().await?;
    ensure!(last.status() == 404, "a value from before the consent: {}", last.status());
    let mut listening = listen(&stack, &allowed.access_token).await?;
    thermostat.publish("d/temperature", "after", QoS::AtLeastOnce).await?;
    ensure!(listening.message().await?.text() == "after");

    // What was kept under the grant goes with the grant.
    ensure!(thermostat.retain("d/temperature", "kept", QoS::AtLeastOnce).await?.is_success());
    ensure!(listening.message().await?.text() == "kept");
    let mut late = listen(&stack, &allowed.access_token).await?;
    let kept = late.message().await?;
    ensure!(kept.text() == "kept" && kept.retain, "what is retained under a grant does not come: {kept:?}");
    ann.withdraw("Heating Diary").await?;
    late.ended_within(Duration::from_secs(1)).await?;
    let allowed = stack.allowed(&ann, &app, &Consent::default()).await?;
    let mut again = listen(&stack, &allowed.access_token).await?;
    thermostat.publish("d/temperature", "fresh", QoS::AtLeastOnce).await?;
    let first = again.message().await?;
    ensure!(first.text() == "fresh", "a value of a withdrawn grant comes: {first:?}");
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_gets_what_was_ticked_and_no_more() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let (_, kitchen) = stack.claimed(&ann, "Kitchen").await?;
    let (_, cellar) = stack.claimed(&ann, "Cellar").await?;
    let app = stack.app("Heating Diary").await?;
    let consent = Consent {
        devices: Some(vec!["Kitchen".to_owned()]),
        command: false,
        without: vec!["heater/state".to_owned()],
        ..Consent::default()
    };
    let allowed = stack.allowed(&ann, &app, &consent).await?;
    let details = allowed.authorization_details.as_deref().context("what was granted")?;
    ensure!(
        details.len() == 1 && details[0].identifier.is_none() && details[0].name.is_none(),
        "{details:?}"
    );
    let handle = handle(&stack, &allowed).await?;
    let mut listening = listen(&stack, &allowed.access_token).await?;
    let mut kitchen = talk(&stack, &kitchen.access_token).await?;
    let mut cellar = talk(&stack, &cellar.access_token).await?;
    cellar.publish("d/temperature", "cellar", QoS::AtLeastOnce).await?;
    kitchen.publish("d/heater/state", "true", QoS::AtLeastOnce).await?;
    kitchen.publish("d/temperature", "kitchen", QoS::AtLeastOnce).await?;
    let first = listening.message().await?;
    ensure!(first.text() == "kitchen", "{first:?} was not ticked");
    let command = format!("c/{handle}/heater");
    ensure!(listening.publish(&command, "true", QoS::AtLeastOnce).await? == ReasonCode::NOT_AUTHORIZED);

    // Another app with the names, and devices that come later.
    let other = stack.app("House Book").await?;
    let consent = Consent { share_names: true, future: true, ..Consent::default() };
    let told = stack.allowed(&ann, &other, &consent).await?;
    let names: Vec<_> =
        told.authorization_details.iter().flatten().filter_map(|d| d.name.as_deref()).collect();
    ensure!(names.contains(&"Kitchen") && names.contains(&"Cellar"), "{names:?}");
    ensure!(!handles(&stack, &told.access_token).await?.contains(&handle), "two apps share a handle");
    let mut listening = listen(&stack, &told.access_token).await?;
    let (_, attic) = stack.claimed(&ann, "Attic").await?;
    let mut attic = talk(&stack, &attic.access_token).await?;
    attic.publish("d/temperature", "attic", QoS::AtLeastOnce).await?;
    ensure!(listening.message().await?.text() == "attic");
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn declining_an_app_gives_it_nothing() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    stack.claimed(&ann, "Kitchen").await?;
    let app = stack.app("Heating Diary").await?;
    let back = ann.decline(&app.ask().url).await?;
    ensure!(back.parameter("error").as_deref() == Some("access_denied") && back.parameter("code").is_none());
    ensure!(back.parameter("iss").is_some() && back.parameter("state").is_some());
    ensure!(!ann.allows("Heating Diary").await?);
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn withdrawing_ends_the_app_s_sessions_within_a_second() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let stack = &scene.stack;
    let mut listening = listen(stack, &scene.allowed.access_token).await?;
    let mut old = Options::new(&stack.mqtt())
        .version(Version::V311)
        .bearer(&scene.allowed.access_token)
        .client_id("old")
        .connect()
        .await?;
    let mut thermostat = talk(stack, &scene.owned.access_token).await?;
    let started = Instant::now();
    scene.ann.withdraw("Heating Diary").await?;
    let reason = listening.ended_within(Duration::from_secs(1)).await?;
    ensure!(reason == Some(ReasonCode::NOT_AUTHORIZED), "{reason:?}");
    ensure!(old.ended_within(Duration::from_secs(1)).await?.is_none());
    ensure!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());

    let again = Options::new(&stack.mqtt()).bearer(&scene.allowed.access_token);
    ensure!(again.refusal().await? == ReasonCode::NOT_AUTHORIZED);
    let refused = scene.app.refresh(&scene.allowed.refresh_token).await?;
    ensure!(refused.is_err_and(|refusal| refusal.error == "invalid_grant"));
    ensure!(
        thermostat.publish("d/temperature", "20", QoS::AtLeastOnce).await?.is_success(),
        "the device goes on"
    );
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_device_forgets_its_owner_and_finds_another() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let stack = &scene.stack;
    let bob = stack.owner("bob")?;
    let mut thermostat = talk(stack, &scene.owned.access_token).await?;
    let mut listening = listen(stack, &scene.allowed.access_token).await?;
    ensure!(thermostat.retain("d/temperature", "ann's", QoS::AtLeastOnce).await?.is_success());
    ensure!(listening.message().await?.text() == "ann's");
    scene.ann.release("Kitchen").await?;
    let reason = thermostat.ended_within(Duration::from_secs(1)).await?;
    ensure!(reason == Some(ReasonCode::NOT_AUTHORIZED), "{reason:?}");
    let refusal = Options::new(&stack.mqtt()).bearer(&scene.owned.access_token).refusal().await?;
    ensure!(refusal == ReasonCode::NOT_AUTHORIZED, "{refusal:?}");
    ensure!(!scene.ann.owns("Kitchen").await?);

    let secret = scene.owned.client_secret.clone().context("the renewed secret")?;
    let released = device::Device { client_secret: secret, ..scene.device.clone() };
    let owned = testkit::stack::claim(&bob, &released, "Hall").await?;
    let allowed = stack.allowed(&bob, &scene.app, &Consent::default()).await?;
    ensure!(handle(stack, &allowed).await? != scene.handle, "the new owner's app sees the old handle");
    let mut bobs_app = listen(stack, &allowed.access_token).await?;
    let mut thermostat = talk(stack, &owned.access_token).await?;
    thermostat.publish("d/temperature", "bob's", QoS::AtLeastOnce).await?;
    let first = bobs_app.message().await?;
    ensure!(first.text() == "bob's", "{first:?}");
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_on_the_device_gives_up_its_owner() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let mut gateway = talk(&scene.stack, &scene.owned.access_token).await?;
    let secret = scene.owned.client_secret.clone().context("the renewed secret")?;
    let owned = device::Device { client_secret: secret, ..scene.device.clone() };
    let mut waiting = owned.wait().await?;
    waiting.reset().await?;
    gateway.ended_within(Duration::from_secs(1)).await?;
    ensure!(!scene.ann.owns("Kitchen").await?);
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_id_takes_over_the_own_session_only() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let door = scene.stack.mqtt();
    let options = |token: &str| Options::new(&door).bearer(token).client_id("same");
    let mut thermostat = options(&scene.owned.access_token).connect().await?;
    let mut app = options(&scene.allowed.access_token).connect().await?;
    ensure!(app.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    ensure!(thermostat.publish("d/temperature", "both", QoS::AtLeastOnce).await?.is_success());
    ensure!(app.message().await?.text() == "both");
    let _newer = options(&scene.allowed.access_token).connect().await?;
    let reason = app.ended_within(Duration::from_secs(5)).await?;
    ensure!(reason == Some(ReasonCode::SESSION_TAKEN_OVER), "{reason:?}");
    ensure!(thermostat.publish("d/temperature", "still", QoS::AtLeastOnce).await?.is_success());
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn wills_obey_the_grant_as_it_is_then() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let stack = &scene.stack;
    let door = stack.mqtt();
    let mut listening = listen(stack, &scene.allowed.access_token).await?;
    let options = Options::new(&door).bearer(&scene.owned.access_token);
    drop(options.clone().will("d/heater/state", b"lost", QoS::AtLeastOnce, false).connect().await?);
    let will = listening.message().await?;
    ensure!(will.text() == "lost" && will.topic == format!("d/{}/heater/state", scene.handle), "{will:?}");

    let foreign = options.clone().will("c/heater", b"true", QoS::AtLeastOnce, false).refusal().await?;
    ensure!(!foreign.is_success(), "a device may leave a command as its will");

    let mut thermostat = options.connect().await?;
    ensure!(thermostat.subscribe("c/#", QoS::AtLeastOnce).await?.is_success());
    let topic = format!("c/{}/heater", scene.handle);
    let mut app = Options::new(&door)
        .bearer(&scene.allowed.access_token)
        .client_id("with a will")
        .will(&topic, b"of a withdrawn app", QoS::AtLeastOnce, false)
        .connect()
        .await?;
    scene.ann.withdraw("Heating Diary").await?;
    app.ended_within(Duration::from_secs(1)).await?;
    let allowed = stack.allowed(&scene.ann, &scene.app, &Consent::default()).await?;
    let mut app = Options::new(&door).bearer(&allowed.access_token).connect().await?;
    let topic = format!("c/{}/heater", handle(stack, &allowed).await?);
    ensure!(app.publish(&topic, "fresh", QoS::AtLeastOnce).await?.is_success());
    let first = thermostat.message().await?;
    ensure!(first.text() == "fresh", "{first:?}");
    scene.stack.stop().await
}
