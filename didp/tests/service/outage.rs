//! A database that is lost: 503 over HTTP, 0x88 and `temporarily_unavailable` over MQTT, nothing acknowledged; health tells it.

use mqtt_wire::{ReasonCode, Version};
use serde_json::{Value, json};

use crate::harness::{DEVELOPER, Didp, GATEWAY, Mqtt, device_metadata, press, refreshing};

#[tokio::test]
async fn a_lost_database_is_503_over_http_and_told_over_mqtt() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (device, mut mqtt, tokens) = didp.claimed(&anna).await;
    let (client, app_tokens) = didp.allowed(&anna, "client_secret_basic").await;
    didp.app.store.close().await;

    let basic = (client.client_id.as_str(), client.secret.as_deref());
    let refresh = app_tokens["refresh_token"].as_str().unwrap();
    let post = |path: &str| didp.http.post(didp.url(path));
    let form =
        [("grant_type", "refresh_token"), ("refresh_token", refresh), ("token", refresh), ("sub", "x")];
    let requests = [
        post("/token").basic_auth(basic.0, basic.1).form(&form),
        post("/revoke").basic_auth(basic.0, basic.1).form(&form),
        post("/par").basic_auth(basic.0, basic.1).form(&form),
        post("/introspect").basic_auth(GATEWAY.0, Some(GATEWAY.1)).form(&form),
        post("/introspect/grants").basic_auth(GATEWAY.0, Some(GATEWAY.1)).form(&form),
        post("/register").bearer_auth(crate::harness::MANUFACTURER).json(&device_metadata("code")),
        post("/register/batch").bearer_auth(DEVELOPER).json(&json!([{"client_name": "App",
            "redirect_uris": ["https://app.example/cb"]}])),
        didp.http.get(didp.url("/register/x")).bearer_auth("x"),
        didp.http.get(didp.url("/introspect/events")).basic_auth(GATEWAY.0, Some(GATEWAY.1)),
    ];
    for request in requests {
        let response = request.send().await.unwrap();
        let path = response.url().path().to_owned();
        assert_eq!(response.status(), 503, "{path}");
        assert!(response.headers().contains_key("retry-after"), "{path}");
        let answer: Value = response.json().await.unwrap();
        assert_eq!(answer["error"], "temporarily_unavailable", "{path}");
        assert!(!answer.to_string().to_lowercase().contains("sql"), "the database's words stay here");
    }
    let page =
        didp.http.get(didp.url(&format!("/authorize?client_id={}", client.client_id))).send().await.unwrap();
    assert_eq!(page.status(), 503);
    assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
    assert_eq!(didp.http.get(didp.url("/readyz")).send().await.unwrap().status(), 503);
    assert_eq!(didp.http.get(didp.url("/healthz")).send().await.unwrap().status(), 204);

    for (what, payload) in
        [("token", refreshing(&tokens)), ("claim", press(&device.verifier)), ("reset", json!({}))]
    {
        assert_eq!(mqtt.ask(what, &payload).await["error"], "temporarily_unavailable", "{what}");
    }
    let login = Mqtt::login(didp.mqtt_address(), Version::V5, &device.client_id, &device.secret).await;
    assert_eq!(login.err(), Some(ReasonCode::SERVER_UNAVAILABLE));
    let login = Mqtt::login(didp.mqtt_address(), Version::V311, &device.client_id, &device.secret).await;
    assert_eq!(login.err(), Some(ReasonCode::SERVER_UNAVAILABLE));
}
