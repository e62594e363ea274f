//! The manufacturer's pages: its login, what it is told and what never, withdrawing, replacing, labels.

use http::{StatusCode, header};
use serde_json::json;

use super::site::{Browser, Device, Page, Site};

const TOKEN: &str = "the-token-of-the-maker";

/// Logs in as a manufacturer.
async fn log_in(browser: &mut Browser<'_>, id: &str, token: &str) -> Page {
    let form = browser.get("/manufacturer/login").await;
    let csrf = form.hidden("csrf");
    browser.post_raw("/manufacturer/login", &[("csrf", &csrf), ("id", id), ("token", token)], &[]).await
}

/// Posts with the token of the manufacturer's forms.
async fn post(browser: &mut Browser<'_>, path: &str, fields: &[(&str, &str)]) -> Page {
    let csrf = browser.get("/manufacturer").await.hidden("csrf");
    let mut all = vec![("csrf", csrf.as_str())];
    all.extend(fields);
    browser.post_raw(path, &all, &[]).await
}

impl Site {
    async fn batch(&self, name: &str, size: usize) -> Vec<Device> {
        let mut made = Vec::new();
        for _ in 0..size {
            let channels = json!([{ "name": "temperature", "direction": "data", "title": "Temperature" }]);
            let device = json!({ "confirm": "code", "channels": channels, "batch": name });
            made.push(self.device_of(json!({ "client_name": "Lamp L1", "device": device })).await);
        }
        made
    }
}

#[tokio::test]
async fn a_manufacturer_logs_in_with_its_own_cookie_and_an_owner_is_none() {
    let site = Site::start().await;
    let mut owner = site.owner().await;
    assert_eq!(owner.get("/manufacturer").await.location(), "/manufacturer/login");
    for (id, token) in [("maker", "wrong"), ("other", TOKEN), ("dev", "the-token-of-the-developer"), ("", "")]
    {
        let page = log_in(&mut owner, id, token).await;
        page.says(StatusCode::UNAUTHORIZED, "do not belong together");
    }
    let mut maker = site.browser();
    assert_eq!(log_in(&mut maker, "maker", TOKEN).await.location(), "/manufacturer");
    maker.get("/manufacturer").await.says(StatusCode::OK, "No device is registered yet.");
    assert_eq!(maker.get("/account").await.status, StatusCode::SEE_OTHER, "it is no owner");
    let seal = maker.cookies["didp_maker"].clone();
    assert!(!seal.contains(TOKEN));
    for forged in [seal.replace("maker", "dev"), seal.replace('.', ".9"), format!("{seal}x"), String::new()] {
        maker.cookies.insert("didp_maker".into(), forged);
        assert_eq!(maker.get("/manufacturer").await.location(), "/manufacturer/login");
    }
    maker.cookies.insert("didp_maker".into(), seal);
    let page = maker.post_raw("/manufacturer/logout", &[("csrf", "wrong")], &[]).await;
    page.says(StatusCode::FORBIDDEN, "try that again");
    assert_eq!(post(&mut maker, "/manufacturer/logout", &[]).await.location(), "/manufacturer/login");
    assert!(!maker.cookies.contains_key("didp_maker"));
}

#[tokio::test]
async fn it_is_told_counts_of_twenty_at_least_and_nothing_of_single_devices_but_that_they_are() {
    let site = Site::start().await;
    let devices = site.batch("2026-11", 25).await;
    site.batch("2026-12", 3).await;
    let mut owner = site.owner().await;
    let (mut seat, digits) = site.press(&devices[0]).await;
    let ticket = owner.type_code(&devices[0], &digits).await;
    owner.post(&ticket, &[("decision", "claim"), ("name", "Owners own name")]).await.location();
    site.finish(&devices[0], &mut seat).await;
    let mut maker = site.browser();
    log_in(&mut maker, "maker", TOKEN).await;
    let page = maker.get("/manufacturer").await;
    page.says(StatusCode::OK, "Lamp L1");
    assert!(page.body.contains("<td class=\"number\">25</td><td class=\"number\">not told</td>"));
    page.says(StatusCode::OK, "Smaller batches together");
    assert!(page.body.contains("<td class=\"number\">fewer than 20</td>") && !page.body.contains("2026-12"));
    let list = maker.get("/manufacturer/devices?model=Lamp+L1&batch=2026-11").await;
    assert_eq!(list.body.matches("<code>").count(), 25);
    let lines: Vec<&str> =
        list.body.split("<small>").skip(1).map(|rest| rest.split('<').next().unwrap()).collect();
    assert!(lines.windows(2).all(|two| two[0] == two[1]), "the owned one looks like any other");
    assert!(!list.body.contains("Owners own name"));
    maker.get("/manufacturer/devices?model=Lamp+L1").await.says(StatusCode::BAD_REQUEST, "malformed");
}

#[tokio::test]
async fn a_leaked_batch_is_withdrawn_at_once_and_owned_devices_go_on_unseen() {
    let site = Site::start().await;
    let devices = site.batch("2026-11", 21).await;
    let mut owner = site.owner().await;
    let (mut seat, digits) = site.press(&devices[0]).await;
    let ticket = owner.type_code(&devices[0], &digits).await;
    owner.post(&ticket, &[("decision", "claim")]).await.location();
    site.finish(&devices[0], &mut seat).await;
    drop(seat);
    let mut maker = site.browser();
    log_in(&mut maker, "maker", TOKEN).await;
    let batch = [("model", "Lamp L1"), ("batch", "2026-11")];
    let ask = maker.get("/manufacturer/batch?model=Lamp+L1&batch=2026-11").await;
    ask.says(StatusCode::OK, "You do not learn which these are.");
    let done =
        post(&mut maker, "/manufacturer/batch", &[&batch[..], &[("decision", "withdraw")]].concat()).await;
    assert_eq!(done.location(), "/manufacturer?withdrawn");
    let list = maker.get("/manufacturer/devices?model=Lamp+L1&batch=2026-11").await;
    assert_eq!(list.body.matches("· withdrawn<").count(), 21, "all look alike");

    let is_disabled = async |device: &Device| {
        let mut conn = site.app.store.read().await.unwrap();
        crate::store::clients::get(&mut conn, &device.client_id).await.unwrap().unwrap().disabled
    };
    assert!(!is_disabled(&devices[0]).await, "who has an owner goes on");
    assert!(is_disabled(&devices[1]).await, "who never had one cannot log in");
    owner.get("/account").await.says(StatusCode::OK, "Lamp L1");
    let id = owner
        .get("/account")
        .await
        .body
        .split("/account/devices/")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let handed = owner.post(&format!("/account/devices/{id}/transfer"), &[]).await;
    let address: url::Url =
        handed.body.split("<code>").nth(1).unwrap().split("</code>").next().unwrap().parse().unwrap();
    let (_seat, digits) = site.press(&devices[0]).await;
    let printed = owner.post(&devices[0].page, &[("user_code", &digits)]).await;
    assert!(printed.location().ends_with("?no-match"));
    let answer = owner.post(address.path(), &[("user_code", &digits)]).await;
    assert!(answer.location().starts_with("/claim/"), "its owner can still hand it over");

    let done =
        post(&mut maker, "/manufacturer/batch", &[&batch[..], &[("decision", "restore")]].concat()).await;
    assert_eq!(done.location(), "/manufacturer?restored");
    assert!(!is_disabled(&devices[1]).await);
    let unknown = [("model", "Lamp L1"), ("batch", "nope"), ("decision", "withdraw")];
    post(&mut maker, "/manufacturer/batch", &unknown).await.says(StatusCode::NOT_FOUND, "nothing here");
}

#[tokio::test]
async fn a_broken_unit_is_replaced_and_its_label_printed() {
    let site = Site::start().await;
    let broken = site.batch("2026-11", 1).await.remove(0);
    let mut maker = site.browser();
    log_in(&mut maker, "maker", TOKEN).await;
    let path = format!("/manufacturer/devices/{}/replace", broken.client_id);
    let page = post(&mut maker, &path, &[]).await;
    page.says(StatusCode::CREATED, "takes the place of a broken one");
    let answer = page.hidden("answers");
    let new: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&new["client_name"], &new["device"]["batch"]), (&json!("Lamp L1"), &json!("2026-11")));
    assert!(new["client_id"] != broken.client_id.as_str() && new["client_secret"].is_string());
    let list = maker.get("/manufacturer/devices?model=Lamp+L1&batch=2026-11").await;
    assert_eq!((list.body.matches("· withdrawn<").count(), list.body.matches("· valid<").count()), (1, 1));
    let sheet = post(&mut maker, "/manufacturer/labels", &[("answers", &answer)]).await;
    sheet.says(StatusCode::OK, "Sheet of 1");
    assert_eq!(sheet.body.matches("<svg class=\"qr\"").count(), 1);
    assert!(!sheet.body.contains(new["client_secret"].as_str().unwrap()), "no secret is printed");
    let unknown = post(&mut maker, "/manufacturer/devices/nope/replace", &[]).await;
    unknown.says(StatusCode::NOT_FOUND, "nothing here");
    for bad in ["", "{", "https://evil.example/r/abc", &"http://didp.localhost:8080/r/abc\n".repeat(1_001)] {
        let page = post(&mut maker, "/manufacturer/labels", &[("answers", bad)]).await;
        page.says(StatusCode::UNPROCESSABLE_ENTITY, "That cannot be read");
    }
    assert_eq!(sheet.headers[header::CACHE_CONTROL], "no-store");
}
