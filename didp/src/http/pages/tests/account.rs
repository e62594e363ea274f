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
    browser.get(&path).await.says(StatusCode::OK, "Does somebody else get it?");
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
    bob.get(&format!("{device}/transfer")).await.says(StatusCode::NOT_FOUND, "nothing here");
    bob.post(&format!("{device}/transfer"), &[]).await.says(StatusCode::NOT_FOUND, "nothing here");
    bob.post(&format!("{device}/undo"), &[]).await.says(StatusCode::NOT_FOUND, "nothing here");
    bob.get(&format!("/account/apps/{id}")).await.says(StatusCode::NOT_FOUND, "nothing here");
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

#[tokio::test]
async fn a_claim_of_the_wrong_device_is_undone() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let device = site.device("code").await;
    let (mut seat, digits) = site.press(&device).await;
    let ticket = browser.type_code(&device, &digits).await;
    browser.post(&ticket, &[("decision", "claim"), ("name", "Kitchen")]).await.location();
    site.finish(&device, &mut seat).await;
    let done = browser.get(&ticket).await;
    done.says(StatusCode::OK, "Not the device that you meant?");
    let path = done.body.split("action=\"").find(|rest| rest.split('"').next().unwrap().ends_with("/undo"));
    let path = path.unwrap().split('"').next().unwrap().to_owned();
    browser.get("/account").await.says(StatusCode::OK, "Wrong device: undo");
    assert_eq!(browser.post(&path, &[]).await.location(), "/account?undone");
    let account = browser.get("/account?undone").await;
    account.says(StatusCode::OK, "Taken back.");
    account.says(StatusCode::OK, "You took back the claim of Kitchen");
    account.says(StatusCode::OK, "No device yet");
    browser.post(&path, &[]).await.says(StatusCode::NOT_FOUND, "nothing here");
    // Its printed code can be claimed again.
    let (_seat, digits) = site.press(&device).await;
    browser.type_code(&device, &digits).await;
}

/// Checklist 33, and design §5: transfer is a release with a fresh one-shot code.
#[tokio::test]
async fn a_device_is_handed_over_with_a_code_of_its_own_that_works_once() {
    let site = Site::start().await;
    let mut alice = site.owner().await;
    let device = site.device("code").await;
    let (mut seat, digits) = site.press(&device).await;
    let ticket = alice.type_code(&device, &digits).await;
    alice.post(&ticket, &[("decision", "claim"), ("name", "Kitchen")]).await.location();
    site.finish(&device, &mut seat).await;
    let account = alice.get("/account").await;
    let id = account.body.split("/account/devices/").nth(1).unwrap().split('/').next().unwrap();
    let path = format!("/account/devices/{id}/transfer");
    alice.get(&path).await.says(StatusCode::OK, "Hand over Kitchen?");
    let page = alice.post(&path, &[]).await;
    page.says(StatusCode::OK, "Kitchen is on its way");
    let code = page.body.split("<code>").nth(1).unwrap().split("</code>").next().unwrap();
    let handed: url::Url = code.parse().unwrap();
    assert!(page.body.contains("<svg class=\"qr\"") && handed.path() != device.page);
    alice.get("/account").await.says(StatusCode::OK, "You handed over Kitchen");
    alice.post(&path, &[]).await.says(StatusCode::NOT_FOUND, "nothing here");

    site.provider.lie("sub", "bob".into());
    let mut bob = site.owner().await;
    let (mut seat, digits) = site.press(&device).await;
    let printed = bob.post(&device.page, &[("user_code", &digits)]).await;
    assert!(printed.location().ends_with("?no-match"), "the label is worth nothing now");
    let answer = bob.post(handed.path(), &[("user_code", &digits)]).await;
    let ticket = answer.location().to_owned();
    assert!(ticket.starts_with("/claim/"));
    bob.post(&ticket, &[("decision", "claim")]).await.location();
    site.finish(&device, &mut seat).await;
    bob.get(&ticket).await.says(StatusCode::OK, "is yours");

    let account = bob.get("/account").await;
    let id = account.body.split("/account/devices/").nth(1).unwrap().split('/').next().unwrap();
    bob.post(&format!("/account/devices/{id}/release"), &[]).await.location();
    let (_seat, digits) = site.press(&device).await;
    let again = bob.post(handed.path(), &[("user_code", &digits)]).await;
    assert!(again.location().ends_with("?no-match"), "it worked once");
    let answer = bob.post(&device.page, &[("user_code", &digits)]).await;
    assert!(answer.location().starts_with("/claim/"), "and the label works again");
}

#[tokio::test]
async fn a_long_press_ends_a_handover() {
    let site = Site::start().await;
    let mut alice = site.owner().await;
    let device = site.device("code").await;
    let (mut seat, digits) = site.press(&device).await;
    let ticket = alice.type_code(&device, &digits).await;
    alice.post(&ticket, &[("decision", "claim")]).await.location();
    site.finish(&device, &mut seat).await;
    let account = alice.get("/account").await;
    let id = account.body.split("/account/devices/").nth(1).unwrap().split('/').next().unwrap();
    alice.post(&format!("/account/devices/{id}/transfer"), &[]).await.says(StatusCode::OK, "on its way");
    crate::flows::claim::reset(&site.app, &device.client_id).await.unwrap();
    let (_seat, digits) = site.press(&device).await;
    alice.type_code(&device, &digits).await;
}

#[tokio::test]
async fn the_past_is_shown_page_by_page_with_logins_and_without_addresses() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let id = site.claim(&mut browser, "Kitchen").await;
    for turn in 0..60 {
        let path = format!("/account/devices/{id}/name");
        browser.post(&path, &[("name", &format!("Room {turn}"))]).await.location();
    }
    for _ in 0..55 {
        site.owner().await;
    }
    let page = browser.get("/account/activity").await;
    page.says(StatusCode::OK, "Login with Demo Login");
    assert_eq!(page.body.matches("<time").count(), 50);
    let older =
        page.body.split("href=\"/account/activity?before=").nth(1).unwrap().split('"').next().unwrap();
    let page = browser.get(&format!("/account/activity?before={older}")).await;
    page.says(StatusCode::OK, "You claimed Kitchen");
    assert!(!page.body.contains("?before="), "it is the last one");
    assert!(!browser.get("/account").await.body.contains("Login with"), "the overview leaves logins out");
    browser.get("/account/activity?before=x").await.says(StatusCode::BAD_REQUEST, "malformed");
}

#[tokio::test]
async fn other_logins_are_ended() {
    let site = Site::start().await;
    let mut here = site.owner().await;
    assert!(!here.get("/account").await.body.contains("Log out there"));
    let mut there = site.owner().await;
    here.get("/account").await.says(StatusCode::OK, "You are logged in in one other browser.");
    assert_eq!(here.post("/account/sessions/end", &[]).await.location(), "/account?logged-out-elsewhere");
    assert_eq!(there.get("/account").await.status, StatusCode::SEE_OTHER);
    here.get("/account?logged-out-elsewhere").await.says(StatusCode::OK, "You are logged in only here now.");
}

#[tokio::test]
async fn everything_is_exported_and_no_secret_with_it() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    site.claim(&mut browser, "Kitchen").await;
    let page = browser.post("/account/export", &[]).await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.headers["content-disposition"], "attachment; filename=\"oauthing-account.json\"");
    let export: serde_json::Value = serde_json::from_str(&page.body).unwrap();
    assert_eq!(export["version"], 1);
    assert_eq!(export["devices"][0]["name"], "Kitchen");
    assert_eq!(export["devices"][0]["channels"][0]["name"], "temperature");
    assert_eq!(export["account"]["linked_logins"], 1);
    assert_eq!(export["account"]["pseudonyms"][0]["gateway"], "ignite");
    let kinds: Vec<_> =
        export["activity"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["exported", "claimed", "logged_in"]);
    for secret in ["state_share", "token", "secret", "hash", "user_key"] {
        assert!(!page.body.contains(&format!("\"{secret}")), "{secret}");
    }
    let forged = browser.post_raw("/account/export", &[("csrf", "wrong")], &[]).await;
    forged.says(StatusCode::FORBIDDEN, "try that again");
}

#[tokio::test]
async fn an_account_is_deleted_after_a_question_and_nothing_of_it_stays() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let device = site.device("code").await;
    let (mut seat, digits) = site.press(&device).await;
    let ticket = browser.type_code(&device, &digits).await;
    browser.post(&ticket, &[("decision", "claim"), ("name", "A very own name")]).await.location();
    site.finish(&device, &mut seat).await;
    let sub = {
        let mut conn = site.app.store.read().await.unwrap();
        crate::store::users::pseudonyms(&mut conn, 1).await.unwrap().remove(0)
    };
    browser.get("/account/delete").await.says(StatusCode::OK, "It cannot be undone.");
    browser.post("/account/delete", &[]).await.says(StatusCode::UNPROCESSABLE_ENTITY, "Nothing was deleted.");
    browser.get("/account").await.says(StatusCode::OK, "A very own name");
    let gone = browser.post("/account/delete", &[("sure", "yes")]).await;
    gone.says(StatusCode::OK, "Your account is gone");
    assert_eq!(browser.get("/account").await.status, StatusCode::SEE_OTHER, "logged out");

    let mut conn = site.app.store.read().await.unwrap();
    let events = crate::store::events::after(&mut conn, &sub.0, 0, 100).await.unwrap();
    let last = events.last().unwrap();
    assert_eq!((last.kind.as_str(), last.sub.as_deref()), ("erased", Some(sub.1.as_str())));
    assert!(crate::store::users::pseudonyms(&mut conn, 1).await.unwrap().is_empty());
    drop(conn);
    let again = site.owner().await.get("/account").await;
    again.says(StatusCode::OK, "No device yet");
    assert!(!again.body.contains("A very own name"));
    let mut other = site.owner().await;
    let (_seat, digits) = site.press(&device).await;
    other.type_code(&device, &digits).await;
}

#[tokio::test]
async fn a_language_is_the_browsers_or_the_one_that_was_chosen() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let page = browser.get_in("de-AT,de;q=0.9,en;q=0.5", "/account").await;
    page.says(StatusCode::OK, "Deine Geräte und Apps");
    assert_eq!(page.headers["content-language"], "de");
    assert!(page.headers["vary"].to_str().unwrap().contains("accept-language"));
    browser.get_in("de", "/account/devices/x/release").await.says(StatusCode::NOT_FOUND, "Hier ist nichts");
    browser.get_in("fr", "/account").await.says(StatusCode::OK, "Your devices and apps");

    let link = "/language/de?next=%2Faccount%2Factivity";
    browser.get("/account/activity").await.says(StatusCode::OK, link);
    assert_eq!(browser.get(link).await.location(), "/account/activity");
    browser.get_in("en", "/account/activity").await.says(StatusCode::OK, "Verlauf");
    for elsewhere in ["//evil.example/account", "https://evil.example/", "/logout"] {
        let query: String = url::form_urlencoded::byte_serialize(elsewhere.as_bytes()).collect();
        assert_eq!(browser.get(&format!("/language/en?next={query}")).await.location(), "/account");
    }
    browser.get("/language/tlh").await.says(StatusCode::NOT_FOUND, "nothing here");
}
