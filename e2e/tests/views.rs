//! How exactly an app sees what a device tells: chosen on the DIdP's pages, told by the gateway, done by the owner's broker.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::{Scene, handle};
use mqtt_wire::{QoS, ReasonCode};
use testkit::mqtt::{Client, Message, Options};
use testkit::owner::Consent;
use testkit::stack::Stack;

/// Within this time a change on the owner's page is in force.
const SOON: Duration = Duration::from_secs(2);

async fn listen(stack: &Stack, token: &str) -> anyhow::Result<Client> {
    let mut app = Options::new(&stack.ws()).bearer(token).connect().await?;
    ensure!(app.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    Ok(app)
}

fn exactly(channel: &str, choice: &str) -> Vec<(String, String)> {
    vec![(channel.to_owned(), choice.to_owned())]
}

fn number(message: &Message) -> anyhow::Result<f64> {
    message.text().parse().with_context(|| format!("not a number: {message:?}"))
}

async fn last_value(stack: &Stack, handle: &str, token: &str) -> anyhow::Result<f64> {
    let url = format!("{}/v1/d/{handle}/temperature", stack.gateway());
    let answer = testkit::browser::http().get(url).bearer_auth(token).send().await?.error_for_status()?;
    Ok(answer.text().await?.parse()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_apps_see_one_reading_each_as_exactly_as_its_owner_chose_and_until_it_is_changed()
-> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let stack = &scene.stack;
    let other = stack.app("Weather").await?;
    let coarse = Consent { exactly: exactly("temperature", "rounded"), ..Consent::default() };
    let coarse = stack.allowed(&scene.ann, &other, &coarse).await?;
    let coarse_handle = handle(stack, &coarse).await?;

    let mut sees_all = listen(stack, &scene.allowed.access_token).await?;
    let mut sees_less = listen(stack, &coarse.access_token).await?;
    let thermostat = Options::new(&stack.mqtts()?).bearer(&scene.owned.access_token);
    let mut thermostat = thermostat.connect().await?;
    ensure!(thermostat.retain("d/temperature", "21.37", QoS::AtLeastOnce).await?.is_success());
    ensure!(sees_all.message().await?.text() == "21.37");
    ensure!(number(&sees_less.message().await?)? == 21.0);
    ensure!(last_value(stack, &scene.handle, &scene.allowed.access_token).await? == 21.37);
    ensure!(last_value(stack, &coarse_handle, &coarse.access_token).await? == 21.0);

    // The owner changes her mind: the session goes on, and from some moment on nothing exact comes any more.
    scene.ann.change("Heating Diary", &exactly("temperature", "rounded"), &[]).await?;
    let changed = Instant::now();
    let mut was_rounded = false;
    while !was_rounded || changed.elapsed() < SOON {
        ensure!(thermostat.retain("d/temperature", "22.63", QoS::AtLeastOnce).await?.is_success());
        // What was on its way under the former view is lost, which is as it should be.
        if let Some(seen) = sees_all.message_within(SOON / 8).await? {
            let seen = number(&seen)?;
            ensure!(seen == 23.0 || (seen == 22.63 && !was_rounded), "{seen} after the change");
            was_rounded |= seen == 23.0;
        }
        ensure!(was_rounded || changed.elapsed() < SOON, "exact values after {SOON:?}");
    }
    ensure!(last_value(stack, &scene.handle, &scene.allowed.access_token).await? == 23.0);
    let mut late = listen(stack, &scene.allowed.access_token).await?;
    ensure!(number(&late.message().await?)? == 23.0, "what is retained obeys the view, too");
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_takes_away_is_refused_and_the_rest_goes_on() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let stack = &scene.stack;
    let command = format!("c/{}/heater", scene.handle);
    let mut app = listen(stack, &scene.allowed.access_token).await?;
    ensure!(app.publish(&command, "true", QoS::AtLeastOnce).await?.is_success());
    scene.ann.change("Heating Diary", &[], &["heater".to_owned()]).await?;
    let changed = Instant::now();
    while app.publish(&command, "true", QoS::AtLeastOnce).await? != ReasonCode::NOT_AUTHORIZED {
        ensure!(changed.elapsed() < SOON, "a command that was taken away is let through");
    }
    let thermostat = Options::new(&stack.mqtts()?).bearer(&scene.owned.access_token);
    let mut thermostat = thermostat.connect().await?;
    ensure!(thermostat.publish("d/temperature", "21.5", QoS::AtLeastOnce).await?.is_success());
    ensure!(app.message().await?.text() == "21.5");
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_may_be_seen_once_a_minute_is_seen_once() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let (_, owned) = stack.claimed(&ann, "Kitchen").await?;
    let app = stack.app("Heating Diary").await?;
    let consent = Consent { exactly: exactly("heater/state", "one-a-minute"), ..Consent::default() };
    let allowed = stack.allowed(&ann, &app, &consent).await?;
    let mut listening = listen(&stack, &allowed.access_token).await?;
    let mut thermostat = Options::new(&stack.mqtts()?).bearer(&owned.access_token).connect().await?;
    for state in ["true", "false", "true"] {
        ensure!(thermostat.publish("d/heater/state", state, QoS::AtLeastOnce).await?.is_success());
    }
    ensure!(thermostat.publish("d/temperature", "21.5", QoS::AtLeastOnce).await?.is_success());
    ensure!(listening.message().await?.text() == "true");
    ensure!(listening.message().await?.text() == "21.5", "more than one in a minute");
    stack.stop().await
}
