//! The authorization endpoint's judgement and the app's code: RFC 6749 §4.1, 7636, 8707, 9207, 9396; checklist 1, 3 to 7, 11.

use didp::flows::account;
use didp::flows::authorize::{self, AuthorizeError, Choice, ChosenDevice, PageError};
use serde_json::json;
use service::secret;

use crate::harness::{CALLBACK, Client, DEVELOPER, Didp, query, text};

async fn check(
    didp: &Didp,
    client: &Client,
    change: impl Fn(&mut Vec<(String, String)>),
) -> Result<authorize::ConsentRequest, AuthorizeError> {
    let mut parameters = client.request(&secret::random_token::<32>());
    change(&mut parameters);
    authorize::check(&didp.app, &parameters).await
}

fn set(parameters: &mut Vec<(String, String)>, name: &str, value: &str) {
    parameters.retain(|(key, _)| key != name);
    parameters.push((name.to_owned(), value.to_owned()));
}

#[tokio::test]
async fn checklist_1_another_redirect_uri_is_refused_without_a_redirect() {
    let didp = Didp::start().await;
    let client = didp.register_app("none").await;
    for uri in [
        "https://app.example/callback?x=2",
        "https://app.example/callback",
        "https://app.example:444/callback?x=1",
        "//app.example",
        "",
    ] {
        let refused = check(&didp, &client, |p| set(p, "redirect_uri", uri)).await;
        assert!(matches!(refused, Err(AuthorizeError::Page(PageError::RedirectUri))), "{uri}");
    }
    let refused = check(&didp, &client, |p| set(p, "client_id", "unknown")).await;
    assert!(matches!(refused, Err(AuthorizeError::Page(PageError::UnknownClient))));
    let twice =
        check(&didp, &client, |p| p.push(("redirect_uri".into(), "https://evil.example".into()))).await;
    assert!(matches!(twice, Err(AuthorizeError::Page(PageError::Duplicate))));
    let device = didp.device("code").await;
    let refused = check(&didp, &client, |p| set(p, "client_id", &device.client_id)).await;
    assert!(matches!(refused, Err(AuthorizeError::Page(PageError::UnknownClient))), "a device asks nobody");
}

#[tokio::test]
async fn checklist_3_7_and_others_are_told_to_the_app_with_state_and_iss() {
    let didp = Didp::start().await;
    let client = didp.register_app("none").await;
    let cases: [(&str, &str, &str); 13] = [
        ("code_challenge", "", "invalid_request"),
        ("code_challenge", "short", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge_method", "", "invalid_request"),
        ("response_type", "token", "unsupported_response_type"),
        ("response_type", "", "invalid_request"),
        ("scope", "data:publish", "invalid_scope"),
        ("scope", "admin", "invalid_scope"),
        ("resource", "http://elsewhere.test", "invalid_target"),
        ("request_uri", "https://app.example/request", "invalid_request"),
        ("authorization_details", "nonsense", "invalid_authorization_details"),
        (
            "authorization_details",
            r#"[{"type":"mqtt","actions":["publish"]}]"#,
            "invalid_authorization_details",
        ),
        ("authorization_details", r#"[{"type":"mqtt","identifier":"x"}]"#, "invalid_authorization_details"),
    ];
    for (name, value, error) in cases {
        let refused = check(&didp, &client, |p| set(p, name, value)).await;
        let Err(AuthorizeError::Redirect(url)) = refused else { panic!("{name}={value}: {refused:?}") };
        assert!(url.as_str().starts_with(CALLBACK), "{url}");
        assert_eq!(query(&url, "error").as_deref(), Some(error), "{name}={value}");
        assert_eq!(query(&url, "state").as_deref(), Some("state of the app"));
        assert_eq!(query(&url, "iss").as_deref(), Some("http://didp.test"));
    }
    let twice = check(&didp, &client, |p| p.push(("scope".into(), "data:subscribe".into()))).await;
    assert!(matches!(twice, Err(AuthorizeError::Redirect(_))));
}

#[tokio::test]
async fn what_is_asked_is_the_scope_and_the_details_together() {
    let didp = Didp::start().await;
    let client = didp.register_app("none").await;
    let asked = check(&didp, &client, |p| set(p, "scope", "data:subscribe")).await.unwrap();
    assert_eq!((asked.wants_read, asked.wants_command, asked.verified), (true, false, true));
    assert_eq!((asked.app_name.as_str(), asked.app_host.as_str()), ("App", "app.example"));
    let details = r#"[{"type":"mqtt","actions":["command"],"channels":["heater"]}]"#;
    let asked = check(&didp, &client, |p| set(p, "authorization_details", details)).await.unwrap();
    assert_eq!((asked.wants_read, asked.wants_command), (false, true));
    assert_eq!(asked.wanted_channels, Some(vec!["heater".to_owned()]));
    let refused = check(&didp, &client, |p| {
        set(p, "scope", "data:subscribe");
        set(p, "authorization_details", details);
    });
    assert!(matches!(refused.await, Err(AuthorizeError::Redirect(_))));
}

#[tokio::test]
async fn the_owner_cannot_be_made_to_grant_more_than_was_asked() {
    let didp = Didp::start().await;
    let (anna, ben) = (didp.owner("anna").await, didp.owner("ben").await);
    let (_device, _mqtt, _) = didp.claimed(&anna).await;
    let client = didp.register_app("none").await;
    let verifier = secret::random_token::<32>();
    let mut parameters = client.request(&verifier);
    set(&mut parameters, "scope", "data:subscribe");
    let request = authorize::check(&didp.app, &parameters).await.unwrap();
    let id = authorize::devices(&didp.app, &anna).await.unwrap()[0].id.clone();
    let all = || Choice {
        devices: vec![ChosenDevice { id: id.clone(), ..ChosenDevice::default() }],
        read: true,
        command: true,
        ..Choice::default()
    };
    let url = authorize::allow(&didp.app, &anna, &request, all()).await.unwrap();
    let (status, tokens) = didp.redeem(&client, &query(&url, "code").unwrap(), &verifier).await;
    assert_eq!((status, &tokens["scope"]), (200, &json!("data:subscribe")));
    assert_eq!(tokens["authorization_details"][0]["channels"].as_array().unwrap().len(), 1);

    let foreign = authorize::allow(&didp.app, &ben, &request, all()).await;
    let Err(AuthorizeError::Redirect(url)) = foreign else { panic!("{foreign:?}") };
    assert_eq!(query(&url, "error").as_deref(), Some("access_denied"), "another owner's device");
    for choice in [
        Choice { read: false, ..all() },
        Choice { devices: Vec::new(), ..all() },
        Choice { until: Some(didp.clock.now() - 1), ..all() },
    ] {
        assert!(matches!(
            authorize::allow(&didp.app, &anna, &request, choice).await,
            Err(AuthorizeError::Redirect(_))
        ));
    }
    let declined = authorize::decline(&didp.app, &request).await.unwrap();
    assert_eq!(query(&declined, "error").as_deref(), Some("access_denied"));
    assert_eq!(query(&declined, "iss").as_deref(), Some("http://didp.test"));
}

#[tokio::test]
async fn checklist_5_a_second_redemption_fails_and_revokes_what_the_first_gave() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let client = didp.register_app("client_secret_basic").await;
    let verifier = secret::random_token::<32>();
    let code = didp.app_code(&anna, &client, &verifier).await;
    let (status, tokens) = didp.redeem(&client, &code, &verifier).await;
    assert_eq!(status, 200);
    assert!(didp.is_active(&text(&tokens["access_token"])).await);
    let (status, again) = didp.redeem(&client, &code, &verifier).await;
    assert_eq!((status, &again["error"]), (400, &json!("invalid_grant")));
    assert!(!didp.is_active(&text(&tokens["access_token"])).await);
    assert_eq!(didp.refresh(&client, &text(&tokens["refresh_token"])).await.1["error"], "invalid_grant");
}

#[tokio::test]
async fn checklist_6_a_code_lives_60_seconds_and_is_bound() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let client = didp.register_app("client_secret_basic").await;
    let other = didp.register_app("client_secret_basic").await;
    let verifier = secret::random_token::<32>();
    let code = didp.app_code(&anna, &client, &verifier).await;
    let refused = |answer: (u16, serde_json::Value)| assert_eq!(answer.1["error"], "invalid_grant");
    refused(didp.redeem(&other, &code, &verifier).await);
    refused(didp.redeem(&client, &code, &secret::random_token::<32>()).await);
    let without_redirect =
        [("grant_type", "authorization_code"), ("code", code.as_str()), ("code_verifier", verifier.as_str())];
    refused(didp.token(&client, &without_redirect).await);
    assert_eq!(didp.redeem(&client, &code, &verifier).await.0, 200, "none of that used it up");

    let code = didp.app_code(&anna, &client, &verifier).await;
    didp.clock.advance(60);
    refused(didp.redeem(&client, &code, &verifier).await);
    didp.sweep().await;
    assert_eq!(
        account::overview(&didp.app, &anna).await.unwrap().apps.len(),
        1,
        "the unredeemed one is gone"
    );
}

#[tokio::test]
async fn names_go_to_the_app_only_if_the_owner_shares_them_and_labels_never() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_device, _mqtt, device_tokens) = didp.claimed(&anna).await;
    let (_client, tokens) = didp.allowed(&anna, "none").await;
    let detail = &tokens["authorization_details"][0];
    assert_eq!((&detail["name"], &detail["title"]), (&json!("Kitchen"), &json!("Thermostat T1")));
    assert!(detail.get("identifier").is_none());
    let at_gateway = didp.introspect(&text(&tokens["access_token"])).await;
    let label = didp.introspect(&text(&device_tokens["access_token"])).await["label"].clone();
    let seen = &at_gateway["authorization_details"][0];
    assert_eq!((&seen["identifier"], &seen["ref"]), (&label, &detail["ref"]));
    assert!(seen.get("name").is_none());
    assert!(at_gateway.get("label").is_none(), "only a device has one");
}

#[tokio::test]
async fn a_device_claimed_later_joins_and_a_released_one_leaves() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_client, tokens) = didp.allowed(&anna, "none").await;
    let access = text(&tokens["access_token"]);
    assert_eq!(tokens["authorization_details"], json!([]));
    assert_eq!(didp.introspect(&access).await["authorization_details"], json!([]));
    let (_device, _mqtt, _) = didp.claimed(&anna).await;
    assert_eq!(didp.introspect(&access).await["authorization_details"].as_array().unwrap().len(), 1);
    let overview = account::overview(&didp.app, &anna).await.unwrap();
    let names: Vec<&str> =
        overview.apps[0].devices[0].channels.iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["temperature", "heater"]);
    assert!(account::release(&didp.app, &anna, &overview.devices[0].id).await.unwrap());
    assert_eq!(didp.introspect(&access).await["authorization_details"], json!([]));
}

#[tokio::test]
async fn a_resource_is_the_owners_home_gateway_or_refused() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let client = didp.register_app("none").await;
    let all = || Choice { read: true, future: true, ..Choice::default() };
    let home = check(&didp, &client, |p| set(p, "resource", "http://ignite.test")).await.unwrap();
    assert!(authorize::allow(&didp.app, &anna, &home, all()).await.is_ok());
    let other = check(&didp, &client, |p| set(p, "resource", "http://other.test")).await.unwrap();
    let refused = authorize::allow(&didp.app, &anna, &other, all()).await;
    let Err(AuthorizeError::Redirect(url)) = refused else { panic!("{refused:?}") };
    assert_eq!(query(&url, "error").as_deref(), Some("invalid_target"));
}

#[tokio::test]
async fn an_http_redirect_elsewhere_is_for_operators_who_allow_it() {
    let metadata = json!({"client_name": "App", "redirect_uris": ["http://192.0.2.7:8090/callback"]});
    let strict = Didp::start().await;
    assert_eq!(strict.json("/register", Some(DEVELOPER), &metadata).await.0, 400);
    let lenient = Didp::start_with("allow_http_redirect = true").await;
    assert_eq!(lenient.json("/register", Some(DEVELOPER), &metadata).await.0, 201);
}
