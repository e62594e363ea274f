//! The device authorization grant, for apps without a browser: RFC 8628. Its pages are tested beside them.

use std::net::IpAddr;

use didp::flows::Refusal;
use didp::flows::authorize::{Choice, ConsentRequest};
use didp::flows::device_authorization;
use didp::flows::login::Session;
use oauth_wire::{DEVICE_CODE, OAuthErrorCode};
use serde_json::{Value, json};

use crate::harness::{Client, DEVELOPER, Didp, text};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

async fn television(didp: &Didp, method: &str) -> Client {
    let metadata = json!({"client_name": "Television", "token_endpoint_auth_method": method,
        "grant_types": [DEVICE_CODE, "refresh_token"]});
    let (status, answer) = didp.json("/register", Some(DEVELOPER), &metadata).await;
    assert_eq!(status, 201, "{answer}");
    Client {
        client_id: text(&answer["client_id"]),
        secret: answer["client_secret"].as_str().map(str::to_owned),
        method: method.to_owned(),
    }
}

async fn begin(didp: &Didp, client: &Client, form: &[(&str, &str)]) -> (u16, Value) {
    let mut form = form.to_vec();
    match &client.secret {
        Some(secret) => didp.form("/device_authorization", Some((&client.client_id, secret)), &form).await,
        None => {
            form.push(("client_id", &client.client_id));
            didp.form("/device_authorization", None, &form).await
        }
    }
}

async fn poll(didp: &Didp, client: &Client, begun: &Value) -> (u16, Value) {
    let code = text(&begun["device_code"]);
    didp.token(client, &[("grant_type", DEVICE_CODE), ("device_code", &code)]).await
}

async fn entered(didp: &Didp, owner: &Session, begun: &Value) -> ConsentRequest {
    let code = text(&begun["user_code"]).to_lowercase();
    device_authorization::enter(&didp.app, owner, HERE, &code).await.unwrap().unwrap()
}

fn all() -> Choice {
    Choice { read: true, command: true, future: true, ..Choice::default() }
}

fn error(answer: (u16, Value)) -> (u16, String) {
    (answer.0, text(&answer.1["error"]))
}

#[tokio::test]
async fn rfc_8628_section_3_2_to_3_5_the_owner_allows_elsewhere_and_the_polling_app_gets_tokens() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_device, _mqtt, _) = didp.claimed(&anna).await;
    for method in ["client_secret_basic", "none"] {
        let client = television(&didp, method).await;
        let (status, begun) = begin(&didp, &client, &[("scope", "data:subscribe")]).await;
        assert_eq!(status, 200, "{begun}");
        assert_eq!((&begun["expires_in"], &begun["interval"]), (&json!(600), &json!(5)));
        assert_eq!(begun["verification_uri"], "http://didp.test/device");
        let complete = format!("http://didp.test/device?user_code={}", text(&begun["user_code"]));
        assert_eq!(begun["verification_uri_complete"], complete);
        assert_eq!(error(poll(&didp, &client, &begun).await), (400, "authorization_pending".into()));
        assert_eq!(error(poll(&didp, &client, &begun).await), (400, "slow_down".into()));
        didp.clock.advance(5);
        assert_eq!(error(poll(&didp, &client, &begun).await), (400, "authorization_pending".into()));

        let request = entered(&didp, &anna, &begun).await;
        assert_eq!(
            (request.app_name.as_str(), request.wants_read, request.wants_command),
            ("Television", true, false)
        );
        assert!(device_authorization::allow(&didp.app, &anna, &request, all()).await.unwrap());
        assert!(
            !device_authorization::allow(&didp.app, &anna, &request, all()).await.unwrap(),
            "decided once"
        );
        assert!(!device_authorization::decline(&didp.app, &request).await.unwrap());
        didp.clock.advance(5);
        let (status, lost) = poll(&didp, &client, &begun).await;
        assert_eq!((status, &lost["scope"]), (200, &json!("data:subscribe")), "{lost}");
        let (status, tokens) = poll(&didp, &client, &begun).await;
        assert_eq!(status, 200, "a lost answer strands nobody");
        assert!(didp.is_active(&text(&tokens["access_token"])).await);
        assert!(!didp.is_active(&text(&lost["access_token"])).await);
        let (status, next) = didp.refresh(&client, &text(&tokens["refresh_token"])).await;
        assert_eq!(status, 200);
        assert!(didp.is_active(&text(&next["access_token"])).await);
        assert_eq!(error(poll(&didp, &client, &begun).await), (400, "invalid_grant".into()), "a replay");
        assert!(!didp.is_active(&text(&next["access_token"])).await, "ends the grant");
    }
}

#[tokio::test]
async fn rfc_8628_section_3_5_declined_and_expired_are_told() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let client = television(&didp, "client_secret_basic").await;
    let (_, begun) = begin(&didp, &client, &[]).await;
    let request = entered(&didp, &anna, &begun).await;
    assert!(device_authorization::decline(&didp.app, &request).await.unwrap());
    assert_eq!(error(poll(&didp, &client, &begun).await), (400, "access_denied".into()));

    let (_, begun) = begin(&didp, &client, &[]).await;
    didp.clock.advance(600);
    let code = text(&begun["user_code"]);
    assert!(device_authorization::enter(&didp.app, &anna, HERE, &code).await.unwrap().is_none());
    assert_eq!(error(poll(&didp, &client, &begun).await), (400, "expired_token".into()));
    didp.clock.advance(86_400);
    didp.sweep().await;
    assert_eq!(error(poll(&didp, &client, &begun).await), (400, "invalid_grant".into()));
}

#[tokio::test]
async fn a_device_code_is_its_clients_and_no_refresh_token() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (client, other) = (television(&didp, "client_secret_basic").await, television(&didp, "none").await);
    let (_, begun) = begin(&didp, &client, &[]).await;
    assert_eq!(error(poll(&didp, &other, &begun).await), (400, "invalid_grant".into()));
    let request = entered(&didp, &anna, &begun).await;
    device_authorization::allow(&didp.app, &anna, &request, all()).await.unwrap();
    assert_eq!(error(poll(&didp, &other, &begun).await), (400, "invalid_grant".into()));
    let code = text(&begun["device_code"]);
    assert_eq!(error(didp.refresh(&client, &code).await), (400, "invalid_grant".into()));
    assert_eq!(poll(&didp, &client, &begun).await.0, 200);
    assert!(!didp.holds(&code) && !didp.holds(&text(&begun["user_code"]).replace('-', "")), "checklist 18");
}

#[tokio::test]
async fn only_apps_that_registered_for_it_begin_one() {
    let didp = Didp::start().await;
    let app = didp.register_app("client_secret_basic").await;
    assert_eq!(error(begin(&didp, &app, &[]).await), (400, "unauthorized_client".into()));
    let device = didp.device("code").await;
    let device = Client { client_id: device.client_id, secret: Some(device.secret), method: String::new() };
    assert_eq!(error(begin(&didp, &device, &[]).await), (400, "unauthorized_client".into()));
    let client = television(&didp, "client_secret_basic").await;
    for (form, code) in [
        (("scope", "data:publish"), "invalid_scope"),
        (("resource", "http://elsewhere.test"), "invalid_target"),
        (("authorization_details", "{}"), "invalid_authorization_details"),
    ] {
        assert_eq!(error(begin(&didp, &client, &[form]).await), (400, code.into()));
    }
    let parameters = client.request("verifier");
    let browser = didp::flows::authorize::check(&didp.app, &parameters).await;
    assert!(browser.is_err(), "and it has no redirect URI to be sent back to");
}

/// RFC 8628 §5.1: a user code is short, so guesses are few, before anything is looked up.
#[tokio::test]
async fn checklist_29_guesses_at_user_codes_are_limited() {
    let didp = Didp::start().await;
    let (anna, ben) = (didp.owner("anna").await, didp.owner("ben").await);
    let client = television(&didp, "none").await;
    let (_, begun) = begin(&didp, &client, &[]).await;
    let code = text(&begun["user_code"]);
    for _ in 0..10 {
        assert!(device_authorization::enter(&didp.app, &anna, HERE, "BCDF-BCDF").await.unwrap().is_none());
    }
    let limited = device_authorization::enter(&didp.app, &anna, HERE, &code).await;
    assert!(matches!(limited, Err(Refusal::TooMany(_))), "{limited:?}");
    assert!(device_authorization::enter(&didp.app, &ben, HERE, &code).await.unwrap().is_some());
    let refused = Refusal::TooMany(1).answer();
    assert_eq!(refused.error, OAuthErrorCode::SlowDown);
}
