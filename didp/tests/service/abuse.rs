//! Limits before any hashing; checklist 16, 19, 23.

use mqtt_wire::{ReasonCode, Version};
use serde_json::json;

use crate::harness::{DEVELOPER, Didp, GATEWAY, Mqtt};

#[tokio::test]
async fn checklist_23_wrong_secrets_are_limited_for_each_client_over_http_and_mqtt_together() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    let other = didp.device("code").await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", "x")];
    let wrong = async || didp.form("/token", Some((&device.client_id, "wrong")), &form).await;
    for _ in 0..10 {
        assert_eq!(wrong().await.0, 401);
    }
    let (status, answer) = wrong().await;
    assert_eq!((status, &answer["error"]), (429, &json!("slow_down")));
    let mqtt = Mqtt::login(didp.mqtt_address(), Version::V5, &device.client_id, &device.secret).await;
    assert_eq!(mqtt.err(), Some(ReasonCode::CONNECTION_RATE_EXCEEDED));
    assert!(Mqtt::login(didp.mqtt_address(), Version::V311, &other.client_id, &other.secret).await.is_ok());
    didp.clock.advance(60);
    assert!(Mqtt::login(didp.mqtt_address(), Version::V5, &device.client_id, &device.secret).await.is_ok());
}

#[tokio::test]
async fn checklist_23_one_address_cannot_guess_at_many_clients_whatever_it_says_of_itself() {
    let didp = Didp::start_with("limits = { failures_per_address = 5 }").await;
    let mut statuses = Vec::new();
    for n in 0..7 {
        let request = didp
            .http
            .post(didp.url("/token"))
            .basic_auth(format!("client {n}"), Some("wrong"))
            .header("X-Forwarded-For", format!("192.0.2.{n}"))
            .header("Forwarded", format!("for=192.0.2.{n}"))
            .form(&[("grant_type", "refresh_token")]);
        statuses.push(request.send().await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429], "checklist 19: forwarding headers are ignored");
    let (status, _) = didp.form("/introspect", Some((GATEWAY.0, "wrong")), &[("token", "x")]).await;
    assert_eq!(status, 429);
    let (status, _) = didp.form("/introspect", Some(GATEWAY), &[("token", "x")]).await;
    assert_eq!(status, 200, "a gateway is not locked out by others' tries");
}

#[tokio::test]
async fn registration_without_a_token_is_limited_for_each_address() {
    let didp = Didp::start_with("app_registration = \"open\"\nlimits = { failures_per_address = 3 }").await;
    let metadata = json!({"client_name": "App", "redirect_uris": ["https://app.example/cb"]});
    for _ in 0..3 {
        assert_eq!(didp.json("/register", None, &metadata).await.0, 201);
    }
    assert_eq!(didp.json("/register", None, &metadata).await.0, 429);
    assert_eq!(didp.json("/register", Some(DEVELOPER), &metadata).await.0, 201);
}

#[tokio::test]
async fn many_at_once_are_served_and_none_is_lost() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (_client, tokens) = didp.allowed(&anna, "none").await;
    let access = tokens["access_token"].as_str().unwrap();
    let asked = (0..64).map(|_| didp.introspect(access));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| answer["active"] == true));
}

#[tokio::test]
async fn health_is_told_without_credentials() {
    let didp = Didp::start().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(didp.http.get(didp.url(path)).send().await.unwrap().status(), 204);
    }
}
