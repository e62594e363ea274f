//! How exactly an app sees what a device tells: asked for (RFC 9396), chosen, told to the gateway and the app, changed.

use didp::flows::account::{self, Changed, apps};
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
    allowed_to(didp, owner, &client, details, choice).await
}

/// The same for an app that is registered.
async fn allowed_to(didp: &Didp, owner: &Session, client: &Client, details: &str, choice: Choice) -> Value {
    let verifier = secret::random_token::<32>();
    let mut parameters = client.request(&verifier);
    parameters.push(("authorization_details".into(), details.into()));
    let request = authorize::check(&didp.app, &parameters).await.unwrap();
    let url = authorize::allow(&didp.app, owner, &request, choice).await.unwrap();
    let (status, tokens) = didp.redeem(client, &query(&url, "code").unwrap(), &verifier).await;
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
    let shown = [app.devices[0].id.clone()];
    let rounded = view(r#"{"kind":"coarsening","round":1}"#);
    let chosen = ChosenDevice {
        id: shown[0].clone(),
        read: Some(vec!["temperature".into()]),
        command: Some(vec!["heater".into(), "door".into()]),
        views: [("temperature".to_owned(), rounded)].into(),
    };
    let change = Choice { devices: vec![chosen], read: true, command: true, ..Choice::default() };
    assert_eq!(apps::change(&didp.app, &anna, &app.id, &shown, &change).await.unwrap(), Changed::Done);
    let after = didp.introspect(&access).await;
    assert!(after["rev"].as_i64() > before["rev"].as_i64());
    assert_eq!((&after["sid"], &after["sub"]), (&before["sid"], &before["sub"]));
    let detail = &after["authorization_details"][0];
    assert_eq!(detail["views"], json!({"temperature": {"kind": "coarsening", "round": 1.0}}));
    assert_eq!(detail["channels"].as_array().unwrap().len(), 2, "nothing that it did not have came");
    assert_eq!(detail["ref"], before["authorization_details"][0]["ref"]);

    let ben = didp.owner("ben").await;
    assert_eq!(apps::change(&didp.app, &ben, &app.id, &shown, &change).await.unwrap(), Changed::Unknown);
    let notices = account::overview(&didp.app, &anna).await.unwrap().notices;
    assert_eq!(notices[0].kind, account::NoticeKind::AppChanged);
}

/// What an owner leaves or gives of one device.
fn of_device(id: &str, read: &[&str], command: &[&str]) -> ChosenDevice {
    let names = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
    ChosenDevice { id: id.to_owned(), read: names(read), command: names(command), ..ChosenDevice::default() }
}

#[tokio::test]
async fn checklist_21_terms_are_narrowed_and_extended_within_what_the_app_asked_for() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_first, _mqtt, _) = didp.claimed(&anna).await;
    let (_second, _other_mqtt, _) = didp.claimed(&anna).await;
    let asked = r#"[{"type":"mqtt","channels":["temperature","heater"]}]"#;
    let tokens = allowed(&didp, &anna, asked, all(&didp, &anna).await).await;
    let access = text(&tokens["access_token"]);
    let app = account::overview(&didp.app, &anna).await.unwrap().apps.remove(0);
    let [first, second] = [0, 1].map(|at| app.devices[at].id.clone());
    let both = [first.clone(), second.clone()];
    let change = async |shown: &[String], choice: Choice| {
        apps::change(&didp.app, &anna, &app.id, shown, &choice).await.unwrap()
    };
    let details = async || didp.introspect(&access).await["authorization_details"].clone();
    let whole = details().await;

    let less =
        Choice { devices: vec![of_device(&first, &[], &["heater"])], command: true, ..Choice::default() };
    assert_eq!(change(&both, less).await, Changed::Done);
    let left = details().await;
    assert_eq!((left.as_array().unwrap().len(), left[0]["channels"].as_array().unwrap().len()), (1, 1));
    assert_eq!(left[0]["channels"][0]["direction"], "command");
    assert_eq!(didp.introspect(&access).await["scope"], "command:publish");

    let devices = both.iter().map(|id| of_device(id, &["temperature", "humidity"], &["heater"])).collect();
    let future = Some(didp.clock.now() + 3_600);
    let more = Choice { devices, read: true, command: true, until: future, ..Choice::default() };
    assert_eq!(change(&both, more).await, Changed::Done);
    let again = didp.introspect(&access).await;
    let channels = |of: &Value| of[0]["channels"].clone();
    assert_eq!(channels(&again["authorization_details"]), channels(&whole), "humidity was never asked for");
    assert_eq!(again["authorization_details"].as_array().unwrap().len(), 2);
    assert_eq!(again["scope"], "data:subscribe command:publish");
    assert_eq!(again["exp"].as_i64(), future.map(|end| end.min(again["exp"].as_i64().unwrap())));

    let rev = again["rev"].clone();
    let nothing = Choice { read: true, command: true, ..Choice::default() };
    assert_eq!(change(&both, nothing.clone()).await, Changed::Nothing);
    assert_eq!(didp.introspect(&access).await["rev"], rev, "nothing was changed");
    let joined = [first];
    assert_eq!(change(&joined, nothing).await, Changed::Done, "a device that was not shown stays");
    assert_eq!(details().await.as_array().unwrap().len(), 1);
}

/// RFC 6749 §6: a client may always name the scope that it was first given; the answer says what it is now.
#[tokio::test]
async fn an_app_whose_terms_changed_can_still_refresh_with_the_scope_it_was_given() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_device, _mqtt, _) = didp.claimed(&anna).await;
    let client = didp.register_app("none").await;
    let tokens = allowed_to(&didp, &anna, &client, r#"[{"type":"mqtt"}]"#, all(&didp, &anna).await).await;
    let app = account::overview(&didp.app, &anna).await.unwrap().apps.remove(0);
    let device = app.devices[0].id.clone();
    let only_reading =
        Choice { devices: vec![of_device(&device, &["temperature"], &[])], read: true, ..Choice::default() };
    let done = apps::change(&didp.app, &anna, &app.id, &[device], &only_reading).await.unwrap();
    assert_eq!(done, Changed::Done);
    let refresh = text(&tokens["refresh_token"]);
    let form = |scope| {
        [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.as_str()),
            ("client_id", client.client_id.as_str()),
            ("scope", scope),
        ]
    };
    let (status, answer) = didp.form("/token", None, &form("data:subscribe command:publish")).await;
    assert_eq!((status, answer["scope"].as_str()), (200, Some("data:subscribe")));
    let (status, answer) = didp.form("/token", None, &form("command:publish")).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_scope")), "checklist 9");
}
