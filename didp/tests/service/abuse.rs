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

/// Checklist 19: only a proxy that the operator named is believed, hop by hop, and only in the header that it sets.
#[tokio::test]
async fn checklist_19_a_named_proxy_is_believed_and_only_in_its_own_header() {
    let settings = "trusted_proxies = [\"127.0.0.0/8\"]\nlimits = { failures_per_address = 2 }";
    let didp = Didp::start_with(settings).await;
    let guess = async |headers: &[(&str, &str)]| {
        let mut request = didp.http.post(didp.url("/token")).basic_auth("nobody", Some("wrong"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.form(&[("grant_type", "refresh_token")]).send().await.unwrap().status().as_u16()
    };
    for n in 0..6 {
        let address = format!("192.0.2.{n}");
        assert_eq!(guess(&[("X-Forwarded-For", &address)]).await, 401, "each is another client");
    }
    let made_up = |n: u8| format!("203.0.113.{n}, 198.51.100.7, 127.0.0.1");
    let one = [made_up(1), made_up(2), made_up(3)];
    let statuses = [
        guess(&[("X-Forwarded-For", &one[0])]).await,
        guess(&[("X-Forwarded-For", &one[1])]).await,
        guess(&[("X-Forwarded-For", &one[2])]).await,
    ];
    assert_eq!(statuses, [401, 401, 429], "what the client itself put before does not count");
    let mut statuses = Vec::new();
    for n in 0..3 {
        statuses.push(guess(&[("Forwarded", &format!("for=192.0.2.{n}"))]).await);
    }
    assert_eq!(statuses, [401, 401, 429], "the other header could be the client's own");
}

#[tokio::test]
async fn checklist_23_each_further_wrong_secret_locks_out_for_longer() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", "x")];
    let guess = async || {
        let request =
            didp.http.post(didp.url("/token")).basic_auth(&device.client_id, Some("wrong")).form(&form);
        let response = request.send().await.unwrap();
        let retry = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), retry)
    };
    for _ in 0..10 {
        assert_eq!(guess().await, (401, None));
    }
    for lockout in [6, 12, 24, 48] {
        let (status, retry) = guess().await;
        let retry: i64 = retry.unwrap().parse().unwrap();
        assert_eq!(status, 429);
        assert!((lockout - 1..=lockout + 1).contains(&retry), "{retry} for {lockout}");
        didp.clock.advance(retry);
        assert_eq!(guess().await.0, 401);
    }
}

/// A full queue for hashing is said at once: 429 with Retry-After, over MQTT 0x97 (3.1.1: 3); never a pile-up.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_hashing_queue_is_429_or_0x97() {
    let didp = Didp::start_with("limits = { hash_queue = 1, hash_iterations = 300000 }").await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", "x")];
    let guesses = (0..32).map(|n| {
        let request = didp.http.post(didp.url("/token")).basic_auth(format!("client {n}"), Some("wrong"));
        async {
            let response = request.form(&form).send().await.unwrap();
            let retry = response.headers().contains_key("retry-after");
            let status = response.status().as_u16();
            (status, retry, response.json::<serde_json::Value>().await.unwrap()["error"].clone())
        }
    });
    let logins = (0..24).map(|n| {
        let version = if n % 2 == 0 { Version::V5 } else { Version::V311 };
        let address = didp.mqtt_address();
        async move { (version, Mqtt::login(address, version, &format!("device {n}"), "wrong").await.err()) }
    });
    let (answers, logins) =
        tokio::join!(futures_util::future::join_all(guesses), futures_util::future::join_all(logins));
    assert!(answers.iter().any(|(status, ..)| *status == 429), "{answers:?}");
    for (status, retry, error) in answers {
        let expected =
            if status == 429 { (true, json!("slow_down")) } else { (false, json!("invalid_client")) };
        assert!(matches!(status, 401 | 429));
        assert_eq!((retry, error), expected);
    }
    assert!(logins.iter().any(|(_, reason)| *reason == Some(ReasonCode::QUOTA_EXCEEDED)), "{logins:?}");
    for (version, reason) in logins {
        let full =
            if version == Version::V5 { ReasonCode::QUOTA_EXCEEDED } else { ReasonCode::SERVER_UNAVAILABLE };
        assert!([Some(full), Some(ReasonCode::BAD_USER_NAME_OR_PASSWORD)].contains(&reason), "{reason:?}");
    }
}

/// Right logins are not refused for coming together, not even after somebody at their address was wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_right_logins_at_once_are_let_in_over_http_and_mqtt() {
    let didp = Didp::start_with("limits = { hash_iterations = 20000 }").await;
    let anna = didp.owner("anna").await;
    let (app, tokens) = didp.allowed(&anna, "client_secret_basic").await;
    let device = didp.device("code").await;
    let wrong = Some((app.client_id.as_str(), "wrong"));
    assert_eq!(didp.form("/token", wrong, &[("grant_type", "refresh_token")]).await.0, 401);
    let (address, refresh) = (didp.mqtt_address(), tokens["refresh_token"].as_str().unwrap());
    let login = async || Mqtt::login(address, Version::V5, &device.client_id, &device.secret).await.err();
    assert!(Mqtt::login(address, Version::V5, &device.client_id, "wrong").await.is_err());
    let (http, mqtt) = tokio::join!(
        futures_util::future::join_all((0..64).map(|_| didp.refresh(&app, refresh))),
        futures_util::future::join_all((0..64).map(|_| login())),
    );
    assert!(http.iter().all(|(status, _)| *status == 200), "{http:?}");
    assert!(mqtt.iter().all(Option::is_none), "{mqtt:?}");
}

/// Checklist 22: guessing at registration tokens is limited like guessing at secrets.
#[tokio::test]
async fn checklist_22_wrong_registration_tokens_are_limited() {
    let didp = Didp::start_with("limits = { failures_per_client = 3 }").await;
    let metadata = json!({"client_name": "App", "redirect_uris": ["https://app.example/cb"]});
    for _ in 0..3 {
        assert_eq!(didp.json("/register", Some("wrong"), &metadata).await.0, 401);
    }
    assert_eq!(didp.json("/register", Some("wrong"), &metadata).await.0, 429);
    assert_eq!(didp.json("/register/batch", Some(DEVELOPER), &json!([metadata])).await.0, 429);
    didp.clock.advance(7);
    assert_eq!(didp.json("/register", Some(DEVELOPER), &metadata).await.0, 201);
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

/// What is kept until an owner decides is bounded for each client, however right its secret is.
#[tokio::test]
async fn a_client_cannot_leave_requests_without_end() {
    let didp = Didp::start().await;
    let (app, other) =
        (didp.register_app("client_secret_basic").await, didp.register_app("client_secret_basic").await);
    let push = async |app: &crate::harness::Client| {
        let request = app.request("a verifier of at least forty-three characters");
        let form: Vec<(&str, &str)> =
            request.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        didp.form("/par", Some((&app.client_id, app.secret.as_deref().unwrap())), &form).await.0
    };
    assert_eq!(push(&app).await, 201);
    while didp.app.throttle.charge_client(&app.client_id, didp.clock.now_millis()).is_ok() {}
    assert_eq!(push(&app).await, 429);
    assert_eq!(push(&other).await, 201);
    didp.clock.advance(1);
    assert_eq!(push(&app).await, 201);
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
