//! Claiming a device by its pages.

use http::StatusCode;

use super::site::{Page, Site};
use crate::hub::ClaimMessage;

/// Checklist 30: unknown, owned and unpressed codes all give the same page, before and after the digits.
#[tokio::test]
async fn unknown_owned_and_unpressed_codes_look_the_same() {
    let site = Site::start().await;
    let mut other = site.owner().await;
    let owned = site.device("code").await;
    let (mut seat, digits) = site.press(&owned).await;
    let ticket = other.type_code(&owned, &digits).await;
    other.post(&ticket, &[("decision", "claim")]).await;
    site.finish(&owned, &mut seat).await;
    let unpressed = site.device("code").await;
    let press_only = site.device("press").await;
    let unknown = "/r/AAAAAAAAAAAAAAAAAAAAAA";

    site.provider.lie("sub", "bob".into());
    let mut browser = site.owner().await;
    let expected = browser.get(unknown).await;
    let refused = browser.post(unknown, &[("user_code", "1234")]).await;
    let again = browser.get(refused.location()).await;
    again.says(StatusCode::OK, "That did not work");
    for page in [&owned.page, &unpressed.page, &press_only.page] {
        assert_eq!(without(&browser.get(page).await, page), without(&expected, unknown));
        let answer = browser.post(page, &[("user_code", "1234")]).await;
        assert_eq!(answer.location().replace(page.as_str(), unknown), refused.location());
        let shown = browser.get(answer.location()).await;
        assert_eq!(without(&shown, page), without(&again, unknown));
    }
}

/// A page without its own address, which it holds as it is and encoded.
fn without(page: &Page, address: &str) -> String {
    page.body.replace(address, "").replace(&address.replace('/', "%2F"), "")
}

#[tokio::test]
async fn before_the_login_the_page_offers_the_providers_and_comes_back() {
    let site = Site::start().await;
    let device = site.device("code").await;
    let mut browser = site.browser();
    browser.get(&device.page).await.says(StatusCode::OK, "Continue with Demo Login");
    assert_eq!(browser.log_in(&device.page).await, device.page);
    browser.get(&device.page).await.says(StatusCode::OK, "Type the code it shows");
}

#[tokio::test]
async fn a_claim_runs_through_all_its_pages() {
    let site = Site::start().await;
    let device = site.device("code").await;
    let mut browser = site.owner().await;
    let (mut seat, digits) = site.press(&device).await;
    let ticket = browser.type_code(&device, &format!(" {} {} ", &digits[..2], &digits[2..])).await;

    let page = browser.get(&ticket).await;
    for words in ["Thermostat T1", "Temperature (°C)", "Heater", "Claim", "Decline"] {
        page.says(StatusCode::OK, words);
    }
    assert_eq!(
        browser.post(&ticket, &[("decision", "claim"), ("name", " Kitchen ")]).await.location(),
        ticket
    );
    let waiting = browser.get(&ticket).await;
    waiting.says(StatusCode::OK, "Waiting for the device");
    waiting.says(StatusCode::OK, "http-equiv=\"refresh\"");

    let state_path = format!("{ticket}/state");
    let mut watcher = site.browser();
    watcher.cookies = browser.cookies.clone();
    let (state, ()) = tokio::join!(watcher.get(&state_path), site.finish(&device, &mut seat));
    assert_eq!((state.status, state.body.as_str()), (StatusCode::OK, r#"{"state":"done"}"#));
    browser.get(&ticket).await.says(StatusCode::OK, "Thermostat T1 is yours");
    browser.get("/account").await.says(StatusCode::OK, "Kitchen");
}

/// Checklist 32: a declined claim leaves nothing.
#[tokio::test]
async fn declining_tells_the_device_and_keeps_nothing() {
    let site = Site::start().await;
    let device = site.device("code").await;
    let mut browser = site.owner().await;
    let (mut seat, digits) = site.press(&device).await;
    let ticket = browser.type_code(&device, &digits).await;
    assert_eq!(
        browser.post(&ticket, &[("decision", "decline"), ("name", "Kitchen")]).await.location(),
        ticket
    );
    browser.get(&ticket).await.says(StatusCode::OK, "Nothing was kept");
    assert!(matches!(seat.messages.recv().await, Some(ClaimMessage::Taken(_))));
    assert!(matches!(seat.messages.recv().await, Some(ClaimMessage::Denied)));
    let late = browser.post(&ticket, &[("decision", "claim")]).await;
    assert_eq!(late.location(), ticket, "deciding again changes nothing");
    browser.get(&ticket).await.says(StatusCode::OK, "Nothing was kept");
    browser.get("/account").await.says(StatusCode::OK, "No device yet");
}

#[tokio::test]
async fn a_device_that_goes_away_before_the_decision_is_said_to_be_gone() {
    let site = Site::start().await;
    let device = site.device("code").await;
    let mut browser = site.owner().await;
    let (seat, digits) = site.press(&device).await;
    let ticket = browser.type_code(&device, &digits).await;
    let connection = seat.connection;
    drop(seat);
    crate::flows::claim::connection_lost(&site.app, &device.client_id, connection).await.unwrap();
    browser.get(&ticket).await.says(StatusCode::OK, "The device went away");
    browser.get("/account").await.says(StatusCode::OK, "No device yet");
}

#[tokio::test]
async fn a_device_that_does_not_finish_in_time_is_not_owned() {
    let site = Site::start().await;
    let device = site.device("code").await;
    let mut browser = site.owner().await;
    let (_seat, digits) = site.press(&device).await;
    let ticket = browser.type_code(&device, &digits).await;
    browser.post(&ticket, &[("decision", "claim")]).await.location();
    browser.get(&ticket).await.says(StatusCode::OK, "Waiting for the device");
    site.app.clock.advance(site.app.config.lifetimes.claim_completion + 1);
    browser.get(&ticket).await.says(StatusCode::OK, "Time ran out");
    crate::sweeper::sweep(&site.app).await.unwrap();
    browser.get(&ticket).await.says(StatusCode::OK, "Nothing was kept");
    browser.get("/account").await.says(StatusCode::OK, "No device yet");
}

/// Checklist 30: the answers are the same over four tries, whatever the code is; the right digits after three wrong ones too.
#[tokio::test]
async fn wrong_answers_are_limited_and_the_limit_tells_nothing() {
    let site = Site::start().await;
    let pressed = site.device("code").await;
    let (_seat, digits) = site.press(&pressed).await;
    let wrong = if digits == "0000" { "0001" } else { "0000" };
    let unpressed = site.device("code").await;
    let button = site.device("press").await;
    let unknown = "/r/AAAAAAAAAAAAAAAAAAAAAA".to_owned();
    let mut browser = site.owner().await;
    let mut told = Vec::new();
    for page in [&pressed.page, &unpressed.page, &button.page, &unknown] {
        let mut answers = Vec::new();
        for typed in [wrong, wrong, wrong, digits.as_str()] {
            let answer = browser.post(page, &[("user_code", typed)]).await;
            answers.push(answer.location().replace(page.as_str(), ""));
            answers.push(without(&browser.get(answer.location()).await, page));
        }
        assert!(answers.iter().step_by(2).all(|there| there == "?no-match"), "{answers:?}");
        told.push(answers);
    }
    assert!(told.windows(2).all(|pair| pair[0] == pair[1]));
    browser.get(&format!("{unknown}?no-match")).await.says(StatusCode::OK, "After three wrong tries");

    site.app.clock.advance(site.app.config.lifetimes.claim_window);
    let (_seat, digits) = site.press(&unpressed).await;
    browser.type_code(&unpressed, &digits).await;
}

#[tokio::test]
async fn a_device_with_a_button_only_is_claimed_without_digits() {
    let site = Site::start().await;
    let device = site.device("press").await;
    let mut browser = site.owner().await;
    let (_seat, digits) = site.press(&device).await;
    assert_eq!(digits, "");
    let ticket = browser.type_code(&device, "").await;
    browser.get(&ticket).await.says(StatusCode::OK, "You are about to claim");
}

#[tokio::test]
async fn a_ticket_serves_the_login_that_got_it() {
    let site = Site::start().await;
    let device = site.device("code").await;
    let mut browser = site.owner().await;
    let (mut seat, digits) = site.press(&device).await;
    let ticket = browser.type_code(&device, &digits).await;
    site.provider.lie("sub", "mallory".into());
    let mut thief = site.owner().await;
    thief.get(&ticket).await.says(StatusCode::NOT_FOUND, "This claim is over");
    let state = thief.get(&format!("{ticket}/state")).await;
    assert_eq!(state.status, StatusCode::NOT_FOUND);
    thief.post(&ticket, &[("decision", "claim")]).await.location();
    assert!(matches!(seat.messages.try_recv(), Ok(ClaimMessage::Taken(_))));
    assert!(seat.messages.try_recv().is_err(), "nothing was granted");
    let nobody = site.browser().get(&format!("{ticket}/state")).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn malformed_input_is_answered_by_a_page() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let device = site.device("code").await;
    let (_seat, digits) = site.press(&device).await;
    let ticket = browser.type_code(&device, &digits).await;
    browser.post(&ticket, &[]).await.says(StatusCode::BAD_REQUEST, "missing or malformed");
    browser
        .post(&ticket, &[("decision", "maybe")])
        .await
        .says(StatusCode::BAD_REQUEST, "missing or malformed");
    let long = "x".repeat(61);
    browser
        .post(&ticket, &[("decision", "claim"), ("name", &long)])
        .await
        .says(StatusCode::UNPROCESSABLE_ENTITY, "at most 60");
    browser.get("/r/not%20a%20code").await.says(StatusCode::NOT_FOUND, "nothing here");
    browser.get(&format!("/r/{}", "x".repeat(65))).await.says(StatusCode::NOT_FOUND, "nothing here");
    let huge = "x".repeat(70_000);
    browser.post(&device.page, &[("user_code", &huge)]).await.says(StatusCode::BAD_REQUEST, "malformed");
    let mut json = site.browser();
    json.cookies = browser.cookies.clone();
    let page = json.post_raw(&device.page, &[], &[("content-type", "application/json")]).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
}
