//! The owner's pages.

use http::StatusCode;

use super::site::Site;

#[tokio::test]
async fn a_device_is_named_and_renamed() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let id = site.claim(&mut browser, "Kitchen").await;
    let path = format!("/account/devices/{id}/name");
    assert_eq!(browser.post(&path, &[("name", "<i>Bath</i>")]).await.location(), "/account?renamed");
    let page = browser.get("/account?renamed").await;
    page.says(StatusCode::OK, "The name is changed");
    assert!(page.body.contains("&#60;i&#62;Bath") && !page.body.contains("<i>"));
    browser.post(&path, &[("name", "  ")]).await.location();
    assert!(!browser.get("/account").await.body.contains("Bath"));
    browser.post(&path, &[]).await.says(StatusCode::BAD_REQUEST, "malformed");
    browser
        .post(&path, &[("name", &"x".repeat(61))])
        .await
        .says(StatusCode::UNPROCESSABLE_ENTITY, "at most 60");
}

#[tokio::test]
async fn a_device_is_released_after_a_question() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let id = site.claim(&mut browser, "Kitchen").await;
    let path = format!("/account/devices/{id}/release");
    browser.get(&path).await.says(StatusCode::OK, "Release Kitchen?");
    browser.get("/account").await.says(StatusCode::OK, "Kitchen");
    assert_eq!(browser.post(&path, &[]).await.location(), "/account?released");
    browser.get("/account?released").await.says(StatusCode::OK, "No device yet");
    browser.post(&path, &[]).await.says(StatusCode::NOT_FOUND, "nothing here");
    browser.get(&path).await.says(StatusCode::NOT_FOUND, "nothing here");
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_not_there() {
    let site = Site::start().await;
    let mut alice = site.owner().await;
    let id = site.claim(&mut alice, "Kitchen").await;
    site.provider.lie("sub", "bob".into());
    let mut bob = site.owner().await;
    let device = format!("/account/devices/{id}");
    bob.get(&format!("{device}/release")).await.says(StatusCode::NOT_FOUND, "nothing here");
    bob.post(&format!("{device}/release"), &[]).await.says(StatusCode::NOT_FOUND, "nothing here");
    bob.post(&format!("{device}/name"), &[("name", "Mine")])
        .await
        .says(StatusCode::NOT_FOUND, "nothing here");
    bob.post(&format!("/account/apps/{id}/withdraw"), &[]).await.says(StatusCode::NOT_FOUND, "nothing here");
    alice.get("/account").await.says(StatusCode::OK, "Kitchen");
}

#[tokio::test]
async fn an_app_is_withdrawn_at_once() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let app = site.app(true).await;
    let asked = format!(
        "/authorize?client_id={app}&redirect_uri=https%3A%2F%2Fwarm.example%2Fcallback&response_type=code\
         &code_challenge={}&code_challenge_method=S256",
        super::site::challenge()
    );
    let page = browser.get(&asked).await;
    let (request, seal) = (page.hidden("request"), page.hidden("seal"));
    let fields = [
        ("request", request.as_str()),
        ("seal", &seal),
        ("decision", "allow"),
        ("may", "read"),
        ("future", "yes"),
        ("until", "week"),
    ];
    let answer = browser.post("/authorize", &fields).await;
    site.finish_app(&app, answer.location()).await;
    let account = browser.get("/account").await;
    account.says(StatusCode::OK, "Ends on");
    account.says(StatusCode::OK, "Also devices that you add later");
    let path =
        account.body.split("action=\"").find(|rest| rest.split('"').next().unwrap().ends_with("/withdraw"));
    let path = path.unwrap().split('"').next().unwrap().to_owned();
    assert_eq!(browser.post(&path, &[]).await.location(), "/account?withdrawn");
    let after = browser.get("/account").await;
    after.says(StatusCode::OK, "No app may see or command anything");
    after.says(StatusCode::OK, "Warm Home lost its access");
    browser.post(&path, &[]).await.says(StatusCode::NOT_FOUND, "nothing here");
}

#[tokio::test]
async fn the_front_door_leads_to_the_account() {
    let site = Site::start().await;
    assert_eq!(site.browser().get("/").await.location(), "/account");
}
