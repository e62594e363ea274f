//! Apps without a browser: the code, the question, and how it ends (RFC 8628 §3.3, §5.4).

use http::StatusCode;

use super::site::{Browser, Page, Site};
use crate::flows::device_authorization;

/// The answer to the question on this page, with everything ticked that it proposes.
async fn answer(browser: &mut Browser<'_>, page: &Page, decision: &str) -> Page {
    let (request, seal) = (page.hidden("request"), page.hidden("seal"));
    let fields = [
        ("request", request.as_str()),
        ("seal", seal.as_str()),
        ("decision", decision),
        ("may", "read"),
        ("future", "yes"),
        ("until", "withdrawn"),
    ];
    browser.post("/device/decide", &fields).await
}

#[tokio::test]
async fn an_app_elsewhere_is_allowed_by_its_code_and_the_page_says_what_that_means() {
    let site = Site::start().await;
    let (client_id, begun) = site.television().await;
    let mut browser = site.browser();
    let complete = begun.verification_uri_complete.strip_prefix("http://didp.localhost:8080").unwrap();
    let login = browser.get(complete).await;
    assert_eq!(login.location(), format!("/login?next=%2Fdevice%3Fuser_code%3D{}", begun.user_code));
    assert_eq!(browser.log_in(complete).await, complete);
    let page = browser.get(complete).await;
    page.says(StatusCode::OK, "Which code does the app show?");
    assert!(page.body.contains(&format!("value=\"{}\"", begun.user_code)), "filled in, but not sent");
    let question = browser.post("/device", &[("user_code", &begun.user_code.to_lowercase())]).await;
    question.says(StatusCode::OK, "Television");
    question.says(StatusCode::OK, &format!("shows the code {}", begun.user_code));
    question.says(StatusCode::OK, "decline");
    answer(&mut browser, &question, "allow").await.says(StatusCode::OK, "Allowed");
    answer(&mut browser, &question, "allow").await.says(StatusCode::NOT_FOUND, "Too late");
    let client = crate::store::clients::get(&mut site.app.store.read().await.unwrap(), &client_id).await;
    let tokens = device_authorization::poll(&site.app, &client.unwrap().unwrap(), &begun.device_code).await;
    assert_eq!(tokens.unwrap().scope.to_string(), "data:subscribe");
    browser.get("/account").await.says(StatusCode::OK, "Television");
}

#[tokio::test]
async fn declining_and_wrong_codes_give_nothing() {
    let site = Site::start().await;
    let (client_id, begun) = site.television().await;
    let mut browser = site.owner().await;
    let wrong = browser.post("/device", &[("user_code", "BCDF-BCDF")]).await;
    wrong.says(StatusCode::UNPROCESSABLE_ENTITY, "No app shows this code");
    let question = browser.post("/device", &[("user_code", &begun.user_code)]).await;
    answer(&mut browser, &question, "decline").await.says(StatusCode::OK, "Declined");
    let client = crate::store::clients::get(&mut site.app.store.read().await.unwrap(), &client_id).await;
    let polled = device_authorization::poll(&site.app, &client.unwrap().unwrap(), &begun.device_code).await;
    assert!(polled.is_err());
    for _ in 0..12 {
        browser.post("/device", &[("user_code", "BCDF-BCDF")]).await;
    }
    let limited = browser.post("/device", &[("user_code", "BCDF-BCDF")]).await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
}

/// What an app may put into its own request is never taken for a user code, nor the other way round.
#[tokio::test]
async fn a_sealed_value_counts_on_its_own_page_only() {
    let site = Site::start().await;
    let (_, begun) = site.television().await;
    let mut browser = site.owner().await;
    let question = browser.post("/device", &[("user_code", &begun.user_code)]).await;
    let (request, seal) = (question.hidden("request"), question.hidden("seal"));
    let fields = [("request", request.as_str()), ("seal", seal.as_str()), ("decision", "allow")];
    assert_eq!(browser.post("/authorize", &fields).await.status, StatusCode::BAD_REQUEST);
    let other = [("request", "device BCDFBCDF"), ("seal", seal.as_str()), ("decision", "allow")];
    assert_eq!(browser.post("/device/decide", &other).await.status, StatusCode::FORBIDDEN);
    let mut stranger = site.owner().await;
    assert_eq!(
        stranger.post("/device/decide", &fields).await.status,
        StatusCode::FORBIDDEN,
        "another login's seal"
    );
}
