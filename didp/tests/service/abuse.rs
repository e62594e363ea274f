//! Limits before any hashing; checklist 16, 19, 23, 37.

use std::time::Duration;

use mqtt_wire::{ReasonCode, Version};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
async fn apps_without_a_token_are_few_small_and_forgotten_when_nobody_allows_them() {
    let didp = Didp::start_with("app_registration = \"open\"\nlimits = { unverified_apps = 2 }").await;
    let metadata = json!({"client_name": "App", "redirect_uris": ["https://app.example/cb"]});
    let long = format!("https://app.example/{}", "x".repeat(2_000));
    let large =
        json!({"client_name": "App", "redirect_uris": [long, format!("{long}/2"), format!("{long}/3")]});
    let (status, answer) = didp.json("/register", None, &large).await;
    assert_eq!((status, &answer["error"]), (400, &json!("invalid_client_metadata")));
    assert_eq!(didp.json("/register", Some(DEVELOPER), &large).await.0, 201);
    for _ in 0..2 {
        assert_eq!(didp.json("/register", None, &metadata).await.0, 201);
    }
    assert_eq!(didp.json("/register", None, &metadata).await.1["error"], "access_denied");
    assert_eq!(didp.json("/register", Some(DEVELOPER), &metadata).await.0, 201);
    didp.clock.advance(86_400);
    didp.sweep().await;
    assert_eq!(didp.json("/register", None, &metadata).await.0, 201, "nobody allowed the others anything");
}

#[tokio::test]
async fn made_up_tokens_of_a_public_client_cost_its_address() {
    let didp = Didp::start_with("limits = { failures_per_address = 4 }").await;
    let app = didp.register_app("none").await;
    for _ in 0..2 {
        assert_eq!(didp.refresh(&app, "made up").await.1["error"], "invalid_grant");
        let form = [("client_id", app.client_id.as_str()), ("token", "made up")];
        assert_eq!(didp.form("/revoke", None, &form).await.0, 200);
    }
    assert_eq!(didp.refresh(&app, "made up").await.0, 429);
}

/// Checklist 37: a peer that sends its request's head too slowly is cut off.
#[tokio::test]
async fn checklist_37_slow_headers_are_cut_by_the_time_limit() {
    let didp = Didp::start_with("limits = { http_head = 1 }").await;
    let address = didp.url("").trim_start_matches("http://").to_owned();
    for head in ["", "G", "GET /healthz HTTP/1.1\r\nHost: didp.test\r\nX-Slow: "] {
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let cut = tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut rest)).await;
        assert!(cut.is_ok(), "still open after {head:?}");
        assert!(!rest.starts_with(b"HTTP/1.1 2"), "{head:?} was answered");
    }
    assert_eq!(didp.http.get(didp.url("/healthz")).send().await.unwrap().status(), 204);
}

#[tokio::test]
async fn malformed_requests_get_the_errors_of_the_standard() {
    let didp = Didp::start().await;
    let wrong_type = didp.http.post(didp.url("/token")).header("content-type", "text/plain").body("x");
    let answer = wrong_type.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let answer: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(answer["error"], "invalid_request");
    let no_text = didp.http.get(didp.url("/register/%FF")).bearer_auth("x").send().await.unwrap();
    assert_eq!(no_text.status(), 404);
    let answer: serde_json::Value = no_text.json().await.unwrap();
    assert_eq!(answer["error"], "invalid_request");
    for page in ["/r/%FF", "/claim/%FF", "/login/%FF", "/assets/%FF"] {
        let answer = didp.http.get(didp.url(page)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{page}");
        assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/html"), "{page}");
    }
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
