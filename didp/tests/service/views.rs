//! How exactly an app sees what a device tells: asked for (RFC 9396), chosen, told to the gateway and the app, changed.

use didp::flows::account::{self, Changed, KeptDevice, Narrowing};
use didp::flows::authorize::{self, AuthorizeError, Choice, ChosenDevice};
use didp::flows::login::Session;
use oauth_wire::View;
use serde_json::{Value, json};
use service::secret;

use crate::harness::{Client, Didp, GATEWAY, query, text};

const QUARTER: &str = r#"{"kind":"summary","window_s":900}"#;

fn view(json: &str) -> View {
    serde_json::from_str(json).unwrap()
}

async fn check(
    didp: &Didp,
    client: &Client,
    details: &str,
) -> Result<authorize::ConsentRequest, AuthorizeError> {
    let mut parameters = client.request(&secret::random_token::<32>());
    parameters.push(("authorization_details".into(), details.into()));
    authorize::check(&didp.app, &parameters).await
}

/// An app with the owner's consent to what it asks for, and its first token response.
async fn allowed(didp: &Didp, owner: &Session, details: &str, choice: Choice) -> Value {
    let client = didp.register_app("none").await;
    let verifier = secret::random_token::<32>();
    let mut parameters = client.request(&verifier);
    parameters.push(("authorization_details".into(), details.into()));
    let request = authorize::check(&didp.app, &parameters).await.unwrap();
    let url = authorize::allow(&didp.app, owner, &request, choice).await.unwrap();
    let (status, tokens) = didp.redeem(&client, &query(&url, "code").unwrap(), &verifier).await;
    assert_eq!(status, 200, "{tokens}");
    tokens
}

/// Everything on every device, as exactly as the app asks.
async fn all(didp: &Didp, owner: &Session) -> Choice {
    let devices = authorize::devices(&didp.app, owner).await.unwrap();
    Choice {
        devices: devices
            .into_iter()
            .map(|device| ChosenDevice { id: device.id, ..ChosenDevice::default() })
            .collect(),
        read: true,
        command: true,
        ..Choice::default()
    }
}

#[tokio::test]
async fn rfc9396_5_a_view_that_makes_no_sense_is_invalid_authorization_details() {
    let didp = Didp::start().await;
    let client = didp.register_app("none").await;
    for bad in [
        r#"{"kind":"blurred"}"#,
        r#"{"kind":"summary","window_s":61}"#,
        r#"{"kind":"summary","window_s":60,"min_samples":1}"#,
        r#"{"kind":"filter"}"#,
        r#"{"kind":"coarsening","round":0}"#,
        r#""raw""#,
        "{}",
    ] {
        let refused = check(&didp, &client, &format!(r#"[{{"type":"mqtt","view":{bad}}}]"#)).await;
        let Err(AuthorizeError::Redirect(url)) = refused else { panic!("{bad}: {refused:?}") };
        assert_eq!(query(&url, "error").as_deref(), Some("invalid_authorization_details"), "{bad}");
    }
    let fine = check(&didp, &client, &format!(r#"[{{"type":"mqtt","view":{QUARTER}}}]"#)).await.unwrap();
    assert_eq!(fine.wanted_exactness.view, view(QUARTER));
}

#[tokio::test]
async fn what_was_chosen_is_told_to_the_app_and_to_the_gateway() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_device, _mqtt, _) = didp.claimed(&anna).await;
    let asked = format!(r#"[{{"type":"mqtt","view":{QUARTER}}}]"#);
    let tokens = allowed(&didp, &anna, &asked, all(&didp, &anna).await).await;
    let expected = json!({"temperature": {"kind": "summary", "window_s": 900, "min_samples": 5,
        "statistics": ["count", "mean", "std"]}});
    let seen = didp.introspect(&text(&tokens["access_token"])).await;
    let grants = didp.form("/introspect/grants", Some(GATEWAY), &[("sub", &text(&seen["sub"]))]).await.1;
    let listed = grants["grants"].as_array().unwrap().iter().find(|one| one["sid"] == seen["sid"]).unwrap();
    for details in [&tokens, &seen, listed].map(|answer| &answer["authorization_details"][0]) {
        assert_eq!((&details["view"], &details["views"]), (&json!({"kind": "raw"}), &expected));
    }
    assert_eq!(grants["state_share"], seen["state_share"], "a gateway needs it before any session");

    let mut exact = all(&didp, &anna).await;
    exact.devices[0].views.insert("temperature".into(), View::Raw);
    let tokens = allowed(&didp, &anna, &asked, exact).await;
    let detail = &tokens["authorization_details"][0];
    assert_eq!((&detail["view"], detail.get("views")), (&json!({"kind": "raw"}), None), "the owner decides");
}

#[tokio::test]
async fn devices_that_join_are_seen_as_exactly_as_was_chosen_for_them() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let asked = format!(r#"[{{"type":"mqtt","view":{QUARTER}}}]"#);
    let client = didp.register_app("none").await;
    let wanted = check(&didp, &client, &asked).await.unwrap().wanted_exactness;
    let choice = Choice { read: true, future: true, future_exactness: wanted, ..Choice::default() };
    let tokens = allowed(&didp, &anna, &asked, choice).await;
    let (_device, _mqtt, _) = didp.claimed(&anna).await;
    let seen = didp.introspect(&text(&tokens["access_token"])).await;
    assert_eq!(seen["authorization_details"][0]["views"]["temperature"]["window_s"], 900);
    let other = Choice { read: true, future: true, ..Choice::default() };
    let tokens = allowed(&didp, &anna, &asked, other).await;
    let (_device, _mqtt, _) = didp.claimed(&anna).await;
    let seen = didp.introspect(&text(&tokens["access_token"])).await;
    assert_eq!(seen["authorization_details"][0].get("views"), None);
}

#[tokio::test]
async fn a_changed_view_moves_rev_and_the_sessions_go_on() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_device, _mqtt, _) = didp.claimed(&anna).await;
    let tokens = allowed(&didp, &anna, r#"[{"type":"mqtt"}]"#, all(&didp, &anna).await).await;
    let access = text(&tokens["access_token"]);
    let before = didp.introspect(&access).await;
    let app = account::overview(&didp.app, &anna).await.unwrap().apps.remove(0);
    let rounded = view(r#"{"kind":"coarsening","round":1}"#);
    let kept = |channel: &str| KeptDevice {
        id: app.devices[0].id.clone(),
        read: [(channel.to_owned(), rounded.clone())].into(),
        command: vec!["heater".into(), "door".into()],
    };
    let change = Narrowing { devices: vec![kept("temperature")], ..Narrowing::default() };
    assert_eq!(account::change_app(&didp.app, &anna, &app.id, &change).await.unwrap(), Changed::Done);
    let after = didp.introspect(&access).await;
    assert!(after["rev"].as_i64() > before["rev"].as_i64());
    assert_eq!((&after["sid"], &after["sub"]), (&before["sid"], &before["sub"]));
    let detail = &after["authorization_details"][0];
    assert_eq!(detail["views"], json!({"temperature": {"kind": "coarsening", "round": 1.0}}));
    assert_eq!(detail["channels"].as_array().unwrap().len(), 2, "nothing that it did not have came");
    assert_eq!(detail["ref"], before["authorization_details"][0]["ref"]);

    let ben = didp.owner("ben").await;
    assert_eq!(account::change_app(&didp.app, &ben, &app.id, &change).await.unwrap(), Changed::Unknown);
    let notices = account::overview(&didp.app, &anna).await.unwrap().notices;
    assert_eq!(notices[0].kind, account::NoticeKind::AppChanged);
}

#[tokio::test]
async fn what_is_taken_away_stays_away_and_the_last_thing_is_withdrawn_instead() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_first, _mqtt, _) = didp.claimed(&anna).await;
    let (_second, _other_mqtt, _) = didp.claimed(&anna).await;
    let tokens = allowed(&didp, &anna, r#"[{"type":"mqtt"}]"#, all(&didp, &anna).await).await;
    let access = text(&tokens["access_token"]);
    let app = account::overview(&didp.app, &anna).await.unwrap().apps.remove(0);
    let [first, second] = [0, 1].map(|at| app.devices[at].id.clone());
    let change =
        async |change: Narrowing| account::change_app(&didp.app, &anna, &app.id, &change).await.unwrap();
    let kept = KeptDevice { id: first.clone(), command: vec!["heater".into()], ..KeptDevice::default() };
    let less = Narrowing { devices: vec![kept], gone: vec![second.clone()], future: None };
    assert_eq!(change(less).await, Changed::Done);
    let details = didp.introspect(&access).await["authorization_details"].clone();
    assert_eq!(details.as_array().unwrap().len(), 1);
    assert_eq!(details[0]["channels"].as_array().unwrap().len(), 1);
    assert_eq!(details[0]["channels"][0]["direction"], "command");

    let back = KeptDevice {
        id: first.clone(),
        read: [("temperature".to_owned(), View::Raw)].into(),
        command: vec!["heater".into()],
    };
    let also = KeptDevice { id: second, ..back.clone() };
    let more = Narrowing {
        devices: vec![back, also],
        future: Some(didp::flows::exactness::Exactness::default()),
        ..Narrowing::default()
    };
    assert_eq!(change(more).await, Changed::Done);
    assert_eq!(didp.introspect(&access).await["authorization_details"], details, "nothing comes back");
    let app = account::overview(&didp.app, &anna).await.unwrap().apps.remove(0);
    assert_eq!(app.future, None, "nor do later devices join that did not");

    let nothing = Narrowing { gone: vec![first], ..Narrowing::default() };
    let rev = didp.introspect(&access).await["rev"].clone();
    assert_eq!(change(nothing).await, Changed::Nothing);
    assert_eq!(didp.introspect(&access).await["authorization_details"], details);
    assert_eq!(didp.introspect(&access).await["rev"], rev);
    assert_eq!(change(Narrowing::default()).await, Changed::Done, "a device that is not spoken of stays");
    assert_eq!(didp.introspect(&access).await["authorization_details"], details);
}
