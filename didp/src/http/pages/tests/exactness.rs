//! Choosing how exactly an app sees each channel: at consent, and later on the owner's page.

use http::StatusCode;
use oauth_wire::View;
use proptest::prelude::*;

use super::site::{Browser, Page, Site, challenge};
use crate::flows::account;
use crate::flows::login;

/// An authorization request for readings and commands, with this view asked for; none means every value.
fn request(client_id: &str, view: Option<&str>) -> String {
    let details = match view {
        Some(view) => format!(r#"[{{"type":"mqtt","view":{view}}}]"#),
        None => r#"[{"type":"mqtt"}]"#.to_owned(),
    };
    let fields = [
        ("client_id", client_id),
        ("redirect_uri", "https://warm.example/callback"),
        ("response_type", "code"),
        ("code_challenge", &challenge()),
        ("code_challenge_method", "S256"),
        ("authorization_details", &details),
    ];
    format!("/authorize?{}", serde_urlencoded::to_string(fields).unwrap())
}

/// The options of a select: what they say, and whether they are chosen.
fn options(page: &Page, id: &str) -> Vec<(String, bool)> {
    let select = page.body.split(&format!("<select id=\"{id}\"")).nth(1).unwrap().split("</select>").next();
    select
        .unwrap()
        .split("<option ")
        .skip(1)
        .map(|option| {
            let (tag, words) = option.split_once('>').unwrap();
            (words.split('<').next().unwrap().to_owned(), tag.ends_with(" selected"))
        })
        .collect()
}

/// What is chosen in a select.
fn chosen(page: &Page, id: &str) -> String {
    let options = options(page, id);
    let mut chosen = options.iter().filter(|(_, chosen)| *chosen);
    let one = chosen.next().unwrap().0.clone();
    assert!(chosen.next().is_none());
    one
}

/// Allows the device's temperature and heater, with these fields beside.
async fn allow(browser: &mut Browser<'_>, page: &Page, device: &str, beside: &[(&str, &str)]) -> Page {
    let (request, seal) = (page.hidden("request"), page.hidden("seal"));
    let (temperature, heater) = (format!("{device} d/temperature"), format!("{device} c/heater"));
    let mut fields = vec![
        ("request", request.as_str()),
        ("seal", &seal),
        ("decision", "allow"),
        ("until", "withdrawn"),
        ("may", "read"),
        ("may", "command"),
        ("device", device),
        ("channel", &temperature),
        ("channel", &heater),
    ];
    fields.extend(beside);
    browser.post("/authorize", &fields).await
}

/// How exactly the first app of the first person sees the temperature.
async fn stored(site: &Site) -> View {
    let token = login::sign_in(&site.app, &site.provider.issuer(), "alice").await.unwrap();
    let session = login::session(&site.app, &token).await.unwrap().unwrap();
    let app = account::overview(&site.app, &session).await.unwrap().apps.remove(0);
    app.devices[0].view_of("temperature")
}

#[tokio::test]
async fn the_page_proposes_what_the_app_asks_for() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    site.claim(&mut browser, "Kitchen").await;
    let app = site.app(true).await;
    let page = browser.get(&request(&app, None)).await;
    page.says(StatusCode::OK, "How exactly?");
    let words: Vec<String> = options(&page, "view-0-0").into_iter().map(|(words, _)| words).collect();
    assert_eq!(
        words,
        [
            "Every value as it is",
            "Rounded to 1 °C",
            "At most one a minute",
            "Average over a minute",
            "Average over 15 minutes",
            "Average over an hour",
            "Average over a day"
        ]
    );
    assert_eq!(chosen(&page, "view-0-0"), "Every value as it is");
    assert_eq!(chosen(&page, "later"), "Every value as it is");

    let page = browser.get(&request(&app, Some(r#"{"kind":"summary","window_s":3600}"#))).await;
    assert_eq!(chosen(&page, "view-0-0"), "Average over an hour");
    assert_eq!(chosen(&page, "later"), "Average over an hour");
    assert_eq!(options(&page, "view-0-0").len(), 7);

    let custom = r#"{"kind":"summary","window_s":10,"statistics":["mean","max"]}"#;
    let page = browser.get(&request(&app, Some(custom))).await;
    let words = "Average over 10 seconds, without spread, exact values: highest";
    page.says(StatusCode::OK, "It asks for: average over 10 seconds, without spread, exact values: highest");
    assert_eq!(options(&page, "view-0-0")[0], (words.to_owned(), true));
    assert_eq!(chosen(&page, "later"), words);

    let commands = request(&app, None).replace("client_id", "scope=command%3Apublish&client_id");
    let page = browser.get(&commands).await;
    assert!(!page.body.contains("name=\"view\"") && !page.body.contains("name=\"later\""));
}

#[tokio::test]
async fn what_is_chosen_at_consent_stands_on_the_owners_page_and_can_be_changed_there() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let device = site.claim(&mut browser, "Kitchen").await;
    let app = site.app(true).await;
    let page = browser.get(&request(&app, None)).await;
    let rounded = format!("{device} d/temperature rounded");
    let beside = [("view", rounded.as_str()), ("future", "yes"), ("later", "later mean-hour")];
    let answer = allow(&mut browser, &page, &device, &beside).await;
    site.finish_app(&app, answer.location()).await;
    assert_eq!(stored(&site).await, serde_json::from_str(r#"{"kind":"coarsening","round":1}"#).unwrap());
    let account = browser.get("/account").await;
    account.says(StatusCode::OK, "Temperature (°C)<small>rounded to 1 °C</small>");
    account.says(StatusCode::OK, "Also devices that you add later: average over an hour");
    let app_page = app_page(&account);
    let page = browser.get(&app_page).await;
    page.says(StatusCode::OK, "What Warm Home may see and do");
    assert_eq!(chosen(&page, "view-0-0"), "Rounded to 1 °C");
    assert_eq!(chosen(&page, "later"), "Average over an hour");

    let path = format!("{app_page}/change");
    let kept = page.hidden("shown");
    assert_eq!(kept, device);
    let (temperature, quarter) =
        (format!("{kept} d/temperature"), format!("{kept} d/temperature mean-quarter"));
    let fields = [
        ("shown", kept.as_str()),
        ("may", "read"),
        ("may", "command"),
        ("device", &kept),
        ("channel", &temperature),
        ("view", &quarter),
        ("until", "withdrawn"),
    ];
    assert_eq!(browser.post(&path, &fields).await.location(), "/account?changed");
    let account = browser.get("/account?changed").await;
    account.says(StatusCode::OK, "From now on this is what the app may see and do");
    account.says(StatusCode::OK, "<small>average over 15 minutes</small>");
    account.says(StatusCode::OK, "You changed what Warm Home may see");
    assert!(!account.body.contains("May command"), "the heater was unticked");
    assert!(!account.body.contains("Also devices that you add later"));

    let nothing = [("shown", kept.as_str()), ("may", "read"), ("until", "withdrawn")];
    browser.post(&path, &nothing).await.says(StatusCode::UNPROCESSABLE_ENTITY, "Choose at least one device");
    let no_action = [("shown", kept.as_str()), ("device", &kept), ("until", "withdrawn")];
    browser
        .post(&path, &no_action)
        .await
        .says(StatusCode::UNPROCESSABLE_ENTITY, "Choose what the app may do");
    let as_it_is = [&fields[..6], &[("until", "as-it-is")]].concat();
    browser.post(&path, &as_it_is).await.says(StatusCode::BAD_REQUEST, "malformed");
    let forged = [("csrf", "wrong"), ("shown", kept.as_str())];
    browser.post_raw(&path, &forged, &[]).await.says(StatusCode::FORBIDDEN, "try that again");
    site.provider.lie("sub", "bob".into());
    let mut bob = site.owner().await;
    bob.post(&path, &fields).await.says(StatusCode::NOT_FOUND, "nothing here");
    bob.get(&app_page).await.says(StatusCode::NOT_FOUND, "nothing here");
    browser.get("/account").await.says(StatusCode::OK, "<small>average over 15 minutes</small>");

    let heater = format!("{kept} c/heater");
    let more =
        [&fields[..], &[("channel", heater.as_str()), ("future", "yes"), ("share_names", "yes")]].concat();
    let more: Vec<_> =
        more.iter().map(|field| if field.0 == "until" { ("until", "week") } else { *field }).collect();
    assert_eq!(browser.post(&path, &more).await.location(), "/account?changed");
    let account = browser.get("/account").await;
    for extended in ["May command", "Also devices that you add later", "Ends on", "Knows your names"] {
        account.says(StatusCode::OK, extended);
    }
    let page = browser.get(&app_page).await;
    page.says(StatusCode::OK, "as it is now:");
    let kept_end: Vec<_> =
        more.iter().map(|field| if field.0 == "until" { ("until", "as-it-is") } else { *field }).collect();
    assert_eq!(browser.post(&path, &kept_end).await.location(), "/account?changed");
    browser.get("/account").await.says(StatusCode::OK, "Ends on");
}

/// Where the first app's own page is.
fn app_page(account: &Page) -> String {
    let rest = account.body.split("href=\"/account/apps/").nth(1).unwrap();
    format!("/account/apps/{}", rest.split('"').next().unwrap())
}

#[tokio::test]
async fn a_form_that_was_tampered_with_is_malformed_and_changes_nothing() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let device = site.claim(&mut browser, "Kitchen").await;
    let app = site.app(true).await;
    let page = browser.get(&request(&app, None)).await;
    let temperature = format!("{device} d/temperature");
    for wrong in ["special", "", "raw", "{\"kind\":\"raw\"}", "rounded "] {
        let view = format!("{temperature} {wrong}");
        let answer = allow(&mut browser, &page, &device, &[("view", &view)]).await;
        answer.says(StatusCode::BAD_REQUEST, "malformed");
    }
    let (every, rounded) = (format!("{temperature} every"), format!("{temperature} rounded"));
    let twice = allow(&mut browser, &page, &device, &[("view", &every), ("view", &rounded)]).await;
    twice.says(StatusCode::BAD_REQUEST, "malformed");
    let later = allow(&mut browser, &page, &device, &[("future", "yes"), ("later", "later rounded")]).await;
    later.says(StatusCode::BAD_REQUEST, "malformed");
    browser.get("/account").await.says(StatusCode::OK, "No app may see or command anything");

    let answer = allow(&mut browser, &page, &device, &[("view", "somebody d/x nonsense")]).await;
    site.finish_app(&app, answer.location()).await;
    let page = app_page(&browser.get("/account").await);
    let kept = browser.get(&page).await.hidden("shown");
    let (channel, view) = (format!("{kept} d/temperature"), format!("{kept} d/temperature blurred"));
    let fields = [
        ("shown", kept.as_str()),
        ("may", "read"),
        ("device", &kept),
        ("channel", &channel),
        ("view", &view),
        ("until", "withdrawn"),
    ];
    let refused = browser.post(&format!("{page}/change"), &fields).await;
    refused.says(StatusCode::BAD_REQUEST, "malformed");
    assert_eq!(stored(&site).await, View::Raw);
}

fn asked() -> impl Strategy<Value = View> {
    let some = |json: &str| serde_json::from_str::<View>(json).unwrap();
    prop_oneof![
        Just(View::Raw),
        Just(some(r#"{"kind":"summary","window_s":10,"statistics":["last"]}"#)),
        Just(some(r#"{"kind":"filter","above":3}"#)),
        Just(some(r#"{"kind":"coarsening","drop":["x"]}"#)),
    ]
}

proptest! {
    /// Whatever a form says, what comes of it is one of the offers or a refusal.
    #[test]
    fn only_what_is_offered_can_be_chosen(
        asked in asked(),
        kind in prop_oneof![Just(Some("number")), Just(Some("boolean")), Just(None)],
        values in proptest::collection::vec(
            prop_oneof![
                "k d/x (every|rounded|one-a-minute|mean-(minute|quarter|hour|day)|special)",
                "k d/x.{0,20}",
                r#"k d/x \{"kind":"raw"\}"#,
                ".{0,30}",
            ],
            0..4,
        ),
    ) {
        let channel = oauth_wire::Channel {
            name: "x".into(),
            direction: oauth_wire::Direction::Data,
            title: None,
            unit: None,
            value_type: kind.map(Into::into),
        };
        let wish = crate::flows::exactness::Exactness::all(asked).of(&channel);
        let offers = crate::flows::exactness::offers(&channel, &wish);
        prop_assert!(crate::flows::exactness::chosen(&offers, &wish).is_some());
        if let Ok(Some(picked)) = crate::http::pages::exactness::picked(&offers, &values, "k d/x") {
            let value = format!("k d/x {}", picked.id);
            prop_assert!(values.contains(&value));
            prop_assert!(offers.contains(picked));
        }
    }
}
