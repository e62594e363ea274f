//! How a device gets its owner, and all the ways in which it does not.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use mqtt_wire::{QoS, ReasonCode, Version};
use testkit::device::{self, Device};
use testkit::mqtt::Options;
use testkit::owner::Owner;
use testkit::stack::Stack;

#[tokio::test(flavor = "multi_thread")]
async fn a_press_a_code_a_click_and_the_device_is_owned() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let (thermostat, tokens) = stack.claimed(&ann, "Kitchen").await?;
    ensure!(tokens.access_token.starts_with("demo."), "the token does not name its issuer");
    let secret = tokens.client_secret.as_deref().context("a claim renews the secret")?;
    ensure!(secret != thermostat.client_secret);
    ensure!(ann.owns("Kitchen").await?);

    let mut gateway =
        Options::new(&device::door(&tokens.gateway)?).bearer(&tokens.access_token).connect().await?;
    ensure!(gateway.publish("d/temperature", "20", QoS::AtLeastOnce).await?.is_success());

    // Once the new secret was used, whoever made the device has no power over it any more.
    let renewed = Device { client_secret: secret.to_owned(), ..thermostat.clone() };
    renewed.wait().await?;
    ensure!(thermostat.didp()?.refusal().await? == ReasonCode::BAD_USER_NAME_OR_PASSWORD);
    let manufacturers = testkit::browser::http()
        .delete(format!("{}/register/{}", stack.issuer(), thermostat.client_id))
        .bearer_auth(&thermostat.registration_access_token);
    ensure!(manufacturers.send().await?.status() == 401, "the manufacturer may still delete it");
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_may_speak_3_1_1_at_the_didp() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let thermostat = stack.device().await?;
    let mut waiting = thermostat.wait_with(Version::V311).await?;
    let digits = waiting.press().await?;
    let (tokens, page) =
        tokio::join!(waiting.finish(), ann.claim(&thermostat.user_registration_uri, &digits, "Kitchen"));
    page?;
    let refreshed = waiting.refresh(&tokens?.refresh_token).await?;
    ensure!(refreshed.is_ok(), "{:?}", refreshed.err());
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_unpressed_wrong_and_owned_codes_look_alike() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let (ann, bob) = (stack.owner("ann")?, stack.owner("bob")?);
    let thermostat = stack.device().await?;
    let uru = thermostat.user_registration_uri.as_str();

    let offline = bob.type_code(uru, "1234").await?;
    let mut waiting = thermostat.wait().await?;
    let unpressed = bob.type_code(uru, "1234").await?;
    let invented = format!("{}/r/{}", stack.issuer(), "A".repeat(22));
    let unknown = bob.type_code(&invented, "1234").await?;

    let digits = waiting.press().await?;
    let wrong = bob.type_code(uru, &other_than(&digits)).await?;
    let (tokens, page) = tokio::join!(waiting.finish(), ann.claim(uru, &digits, "Kitchen"));
    tokens?;
    page?;
    let owned = bob.type_code(uru, &digits).await?;
    for page in [&offline, &unpressed, &unknown, &wrong, &owned] {
        ensure!(
            page.text() == unknown.text() && page.status() == unknown.status(),
            "{page:?} differs from {unknown:?}"
        );
        ensure!(!page.has("decision"), "{page:?} leads on");
    }
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn three_wrong_tries_end_a_login_s_chances_but_not_the_owner_s() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let (ann, bob) = (stack.owner("ann")?, stack.owner("bob")?);
    let thermostat = stack.device().await?;
    let uru = thermostat.user_registration_uri.as_str();
    let mut waiting = thermostat.wait().await?;
    let digits = waiting.press().await?;
    for _ in 0..3 {
        ensure!(!bob.type_code(uru, &other_than(&digits)).await?.has("decision"));
    }
    ensure!(!bob.type_code(uru, &digits).await?.has("decision"), "a fourth try counts");
    let (tokens, page) = tokio::join!(waiting.finish(), ann.claim(uru, &digits, "Kitchen"));
    tokens?;
    page?;
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn declining_leaves_nothing_behind() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let thermostat = stack.device().await?;
    let mut waiting = thermostat.wait().await?;
    let digits = waiting.press().await?;
    let page = ann.decline_claim(&thermostat.user_registration_uri, &digits).await?;
    ensure!(page.status().is_success(), "{page:?}");
    ensure!(waiting.decision().await? == Err("access_denied".to_owned()));
    ensure_free(&stack, &ann, &thermostat).await?;
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_closed_half_way_leaves_nothing_behind() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let thermostat = stack.device().await?;
    let mut waiting = thermostat.wait().await?;
    let digits = waiting.press().await?;
    let decision = ann.type_code(&thermostat.user_registration_uri, &digits).await?;
    ensure!(decision.has("decision"), "{decision:?}");
    stack.clock.advance(600);
    let late = decision.form("decision")?.press("decision", "claim").await?;
    ensure!(!late.has("decision") && !late.url().path().is_empty(), "{late:?}");
    ensure!(!ann.owns("").await?, "the account shows a device");
    drop(waiting);
    ensure_free(&stack, &ann, &thermostat).await?;
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_goes_away_during_its_claim_stays_free() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let thermostat = stack.device().await?;
    let mut waiting = thermostat.wait().await?;
    let digits = waiting.press().await?;
    let decision = ann.type_code(&thermostat.user_registration_uri, &digits).await?;
    drop(waiting);
    ann.wait_for_claim(&decision, "gone").await?;
    let late = decision.form("decision")?.press("decision", "claim").await?;
    ensure!(!late.has("decision"), "{late:?}");
    ensure_free(&stack, &ann, &thermostat).await?;
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_never_fetches_its_tokens_stays_free() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let thermostat = stack.device().await?;
    let mut waiting = thermostat.wait().await?;
    let digits = waiting.press().await?;
    let decision = ann.type_code(&thermostat.user_registration_uri, &digits).await?;
    let page = decision.form("decision")?.press("decision", "claim").await?;
    let code = waiting.decision().await?.map_err(anyhow::Error::msg)?;
    stack.clock.advance(121);
    ann.wait_for_claim(&page, "expired").await?;
    let refused = waiting.redeem(&code).await;
    ensure!(refused.is_err(), "a code of a claim that is over is accepted");
    drop(waiting);
    ensure_free(&stack, &ann, &thermostat).await?;
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_closes_after_two_minutes() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let thermostat = stack.device().await?;
    let mut waiting = thermostat.wait().await?;
    let digits = waiting.press().await?;
    stack.clock.advance(121);
    ensure!(!ann.type_code(&thermostat.user_registration_uri, &digits).await?.has("decision"));
    let digits = waiting.press().await?;
    let (tokens, page) =
        tokio::join!(waiting.finish(), ann.claim(&thermostat.user_registration_uri, &digits, "Kitchen"));
    tokens?;
    page?;
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_strands_no_device_but_a_code_is_dead_once_its_tokens_were_used() -> anyhow::Result<()>
{
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let thermostat = stack.device().await?;
    let mut waiting = thermostat.wait().await?;
    let digits = waiting.press().await?;
    let decision = ann.type_code(&thermostat.user_registration_uri, &digits).await?;
    let page = decision.form("decision")?.press("decision", "claim").await?;
    let code = waiting.decision().await?.map_err(anyhow::Error::msg)?;

    let lost = waiting.redeem(&code).await?;
    let tokens = waiting.redeem(&code).await.context("the same code again, as after a lost answer")?;
    waiting.done().await?;
    ann.wait_for_claim(&page, "done").await?;
    let gateway = |token: &str| Options::new(&stack.mqtt()).bearer(token);
    let mut session = gateway(&tokens.access_token).connect().await?;
    ensure!(gateway(&lost.access_token).refusal().await? == ReasonCode::NOT_AUTHORIZED, "two lines live");

    ensure!(waiting.redeem(&code).await.is_err(), "a code whose tokens are in use is accepted");
    let reason = session.ended_within(Duration::from_secs(1)).await?;
    ensure!(reason == Some(ReasonCode::NOT_AUTHORIZED), "whoever else has the code goes on: {reason:?}");
    stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_s_code_needs_its_verifier() -> anyhow::Result<()> {
    let stack = Stack::start().await?;
    let ann = stack.owner("ann")?;
    let thermostat = stack.device().await?;
    let mut waiting = thermostat.wait().await?;
    let digits = waiting.press().await?;
    let decision = ann.type_code(&thermostat.user_registration_uri, &digits).await?;
    decision.form("decision")?.press("decision", "claim").await?;
    let code = waiting.decision().await?.map_err(anyhow::Error::msg)?;
    let guess = serde_json::json!({
        "grant_type": "authorization_code", "code": code, "code_verifier": "x".repeat(43),
    });
    let answer = waiting.ask("$oauth/token", &guess).await?;
    ensure!(answer["error"] == "invalid_grant", "{answer}");
    stack.stop().await
}

/// The device can still be claimed and Ann's account is empty before.
async fn ensure_free(stack: &Stack, ann: &Owner, thermostat: &Device) -> anyhow::Result<()> {
    ensure!(!ann.owns("").await?, "the account shows a device");
    let tokens = testkit::stack::claim(ann, thermostat, "Kitchen").await?;
    let mut gateway = Options::new(&stack.mqtt()).bearer(&tokens.access_token).connect().await?;
    ensure!(gateway.message_within(Duration::ZERO).await?.is_none());
    Ok(())
}

/// Four digits that are not these.
fn other_than(digits: &str) -> String {
    digits.chars().map(|digit| if digit == '0' { '1' } else { '0' }).collect()
}
