//! Allowing an app by its page.

use http::{StatusCode, header};
use url::Url;

use super::site::{Browser, Page, Site, challenge};

fn request(client_id: &str, changes: &[(&str, Option<&str>)]) -> String {
    let challenge = challenge();
    let mut fields = vec![
        ("client_id", client_id),
        ("redirect_uri", "https://warm.example/callback"),
        ("response_type", "code"),
        ("state", "st&te"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    for (name, value) in changes {
        fields.retain(|(field, _)| field != name);
        if let Some(value) = value {
            fields.push((name, value));
        }
    }
    format!("/authorize?{}", serde_urlencoded::to_string(fields).unwrap())
}

fn query(url: &str) -> std::collections::HashMap<String, String> {
    url.parse::<Url>().unwrap().query_pairs().into_owned().collect()
}

/// Sends the page's form with these choices.
async fn answer(browser: &mut Browser<'_>, page: &Page, choices: &[(&str, &str)]) -> Page {
    let (request, seal) = (page.hidden("request"), page.hidden("seal"));
    let mut fields = vec![("request", request.as_str()), ("seal", seal.as_str()), ("until", "withdrawn")];
    fields.extend(choices);
    browser.post("/authorize", &fields).await
}

/// Checklist 1: a redirect URI that differs by one character is refused without redirecting.
#[tokio::test]
async fn a_request_that_cannot_be_trusted_gets_a_page_and_no_redirect() {
    let site = Site::start().await;
    let app = site.app(true).await;
    let mut browser = site.owner().await;
    browser
        .get(&request("AAAAAAAAAAAAAAAAAAAAAA", &[]))
        .await
        .says(StatusCode::BAD_REQUEST, "not known here");
    for uri in [
        "https://warm.example/callback/",
        "https://warm.example/callbacK",
        "https://warm.example/callback?x",
        "http://warm.example/callback",
        "https://warm.example.evil/callback",
        "javascript:alert(1)",
        "",
    ] {
        let page = browser.get(&request(&app, &[("redirect_uri", Some(uri))])).await;
        page.says(StatusCode::BAD_REQUEST, "did not register");
        assert!(!page.headers.contains_key(header::LOCATION), "{uri}");
    }
    let twice = format!("{}&client_id=x", request(&app, &[]));
    browser.get(&twice).await.says(StatusCode::BAD_REQUEST, "malformed");
    let long = request(&app, &[("authorization_details", Some(&"x".repeat(3000)))]);
    browser.get(&long).await.says(StatusCode::BAD_REQUEST, "malformed");
}

/// Checklist 3, 7, 11: errors that the app may know go to it, with `state` and `iss`.
#[tokio::test]
async fn other_faults_are_told_to_the_app() {
    let site = Site::start().await;
    let app = site.app(true).await;
    let mut browser = site.browser();
    for (change, error) in [
        (("response_type", Some("token")), "unsupported_response_type"),
        (("code_challenge", None), "invalid_request"),
        (("code_challenge_method", Some("plain")), "invalid_request"),
        (("scope", Some("everything")), "invalid_scope"),
    ] {
        let page = browser.get(&request(&app, &[change])).await;
        assert!(page.location().starts_with("https://warm.example/callback?"));
        let answer = query(page.location());
        assert_eq!(answer["error"], error, "{change:?}");
        assert_eq!(
            (answer["state"].as_str(), answer["iss"].as_str()),
            ("st&te", "http://didp.localhost:8080")
        );
    }
}

#[tokio::test]
async fn whoever_is_not_logged_in_comes_back_to_the_same_request() {
    let site = Site::start().await;
    let app = site.app(true).await;
    let mut browser = site.browser();
    let asked = request(&app, &[]);
    let page = browser.get(&asked).await;
    let next = query(&format!("http://x{}", page.location()))["next"].clone();
    assert_eq!(next, asked);
    let back = browser.log_in(&next).await;
    browser.get(&back).await.says(StatusCode::OK, "Let Warm Home use your devices?");
}

/// Checklist 21: the page names the app, whether somebody checked it, what, and how long.
#[tokio::test]
async fn the_page_says_who_asks_and_for_what() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    site.claim(&mut browser, "Kitchen").await;
    for verified in [true, false] {
        let app = site.app(verified).await;
        let page = browser.get(&request(&app, &[])).await;
        for words in ["Warm Home", "warm.example", "Kitchen", "Temperature (°C)", "Heater", "I withdraw it"]
        {
            page.says(StatusCode::OK, words);
        }
        assert_eq!(page.body.contains("unverified"), !verified);
        let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.ends_with("form-action 'self' https://warm.example"), "{policy}");
    }
    let app = site.app(true).await;
    let reading = browser.get(&request(&app, &[("scope", Some("data:subscribe"))])).await;
    assert!(!reading.body.contains("value=\"command\"") && !reading.body.contains("Heater"));
}

#[tokio::test]
async fn allowing_gives_the_app_a_code_and_the_owner_a_line() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let device = site.claim(&mut browser, "Kitchen").await;
    let app = site.app(true).await;
    let page = browser.get(&request(&app, &[])).await;
    let channel = format!("{device} d/temperature");
    let answer = answer(
        &mut browser,
        &page,
        &[("decision", "allow"), ("may", "read"), ("device", &device), ("channel", &channel)],
    )
    .await;
    assert!(answer.location().starts_with("https://warm.example/callback?"));
    let sent = query(answer.location());
    assert_eq!(sent["code"].len(), 43);
    assert_eq!((sent["state"].as_str(), sent["iss"].as_str()), ("st&te", "http://didp.localhost:8080"));
    site.finish_app(&app, answer.location()).await;
    let account = browser.get("/account").await;
    account.says(StatusCode::OK, "Warm Home");
    account.says(StatusCode::OK, "Until you withdraw it");
    assert!(!account.body.contains("May command"), "only readings were ticked");
}

#[tokio::test]
async fn declining_tells_the_app_and_keeps_nothing() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let app = site.app(true).await;
    let page = browser.get(&request(&app, &[])).await;
    let answer = answer(&mut browser, &page, &[("decision", "decline")]).await;
    assert_eq!(query(answer.location())["error"], "access_denied");
    browser.get("/account").await.says(StatusCode::OK, "No app may see or command anything");
}

#[tokio::test]
async fn a_choice_of_nothing_is_asked_again() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let device = site.claim(&mut browser, "Kitchen").await;
    let app = site.app(true).await;
    let page = browser.get(&request(&app, &[])).await;
    let nothing = answer(&mut browser, &page, &[("decision", "allow"), ("may", "read")]).await;
    nothing.says(StatusCode::UNPROCESSABLE_ENTITY, "Choose at least one device");
    let empty =
        answer(&mut browser, &page, &[("decision", "allow"), ("may", "read"), ("device", &device)]).await;
    empty.says(StatusCode::UNPROCESSABLE_ENTITY, "Choose at least one device");
    let heater = format!("{device} c/heater");
    let other =
        [("decision", "allow"), ("may", "read"), ("device", device.as_str()), ("channel", heater.as_str())];
    let other = answer(&mut browser, &page, &other).await;
    other.says(StatusCode::UNPROCESSABLE_ENTITY, "Choose at least one device");
    let idle = answer(&mut browser, &page, &[("decision", "allow"), ("future", "yes")]).await;
    idle.says(StatusCode::UNPROCESSABLE_ENTITY, "Choose what the app may do");
    let future =
        answer(&mut browser, &page, &[("decision", "allow"), ("may", "read"), ("future", "yes")]).await;
    assert!(query(future.location()).contains_key("code"));
}

#[tokio::test]
async fn an_app_never_gets_more_than_it_asked_for() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let device = site.claim(&mut browser, "Kitchen").await;
    let app = site.app(true).await;
    let details = r#"[{"type":"mqtt","actions":["read"],"channels":["temperature"]}]"#;
    let page = browser.get(&request(&app, &[("authorization_details", Some(details))])).await;
    assert!(!page.body.contains("Heater"));
    let (temperature, heater) = (format!("{device} d/temperature"), format!("{device} c/heater"));
    let choices = [
        ("decision", "allow"),
        ("may", "read"),
        ("may", "command"),
        ("device", device.as_str()),
        ("channel", temperature.as_str()),
        ("channel", heater.as_str()),
    ];
    let answer = answer(&mut browser, &page, &choices).await;
    site.finish_app(&app, answer.location()).await;
    let account = browser.get("/account").await;
    account.says(StatusCode::OK, "Sees");
    assert!(!account.body.contains("May command"));
}

#[tokio::test]
async fn nobody_can_give_away_a_device_that_is_not_theirs() {
    let site = Site::start().await;
    let mut alice = site.owner().await;
    let device = site.claim(&mut alice, "Kitchen").await;
    site.provider.lie("sub", "bob".into());
    let mut bob = site.owner().await;
    let app = site.app(true).await;
    let page = bob.get(&request(&app, &[])).await;
    assert!(!page.body.contains("Kitchen"));
    let channel = format!("{device} d/temperature");
    let choices = [
        ("decision", "allow"),
        ("may", "read"),
        ("device", device.as_str()),
        ("channel", channel.as_str()),
        ("future", "yes"),
    ];
    let answer = answer(&mut bob, &page, &choices).await;
    site.finish_app(&app, answer.location()).await;
    let account = bob.get("/account").await;
    account.says(StatusCode::OK, "Warm Home");
    assert!(!account.body.contains("Kitchen") && !account.body.contains("Temperature"));
}

#[tokio::test]
async fn a_request_that_was_changed_on_the_way_is_refused() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let app = site.app(true).await;
    let page = browser.get(&request(&app, &[])).await;
    let (sent, seal) = (page.hidden("request"), page.hidden("seal"));
    let changed = sent.replace("st%26te", "other");
    assert_ne!(changed, sent);
    for (query, seal) in [(changed.as_str(), seal.as_str()), (sent.as_str(), "wrong")] {
        let fields = [("request", query), ("seal", seal), ("decision", "decline")];
        browser.post("/authorize", &fields).await.says(StatusCode::FORBIDDEN, "try that again");
    }
    let unknown = [("request", sent.as_str()), ("seal", seal.as_str()), ("decision", "perhaps")];
    browser.post("/authorize", &unknown).await.says(StatusCode::BAD_REQUEST, "malformed");
    let until =
        [("request", sent.as_str()), ("seal", seal.as_str()), ("decision", "allow"), ("until", "forever")];
    browser.post("/authorize", &until).await.says(StatusCode::BAD_REQUEST, "malformed");
}
