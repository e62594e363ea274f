//! The token and revocation endpoints: RFC 6749 §5 and §6, 7009, 8414; checklist 4, 7 to 12, 15, 16, 23.

use didp::flows::{account, login};
use didp::keys::Purpose;
use serde_json::{Value, json};
use service::secret;

use crate::harness::{Didp, refreshing, text};

#[tokio::test]
async fn checklist_11_metadata_says_s256_and_iss() {
    let didp = Didp::start().await;
    let url = didp.url("/.well-known/oauth-authorization-server");
    let metadata: Value = didp.http.get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(metadata["issuer"], "http://didp.test");
    assert_eq!(metadata["token_endpoint"], "http://didp.test/token");
    assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    assert_eq!(metadata["authorization_response_iss_parameter_supported"], true);
    assert_eq!(metadata["response_types_supported"], json!(["code"]));
    for (name, path) in [
        ("pushed_authorization_request_endpoint", "/par"),
        ("device_authorization_endpoint", "/device_authorization"),
        ("registration_endpoint", "/register"),
        ("revocation_endpoint", "/revoke"),
        ("introspection_endpoint", "/introspect"),
    ] {
        assert_eq!(metadata[name], format!("http://didp.test{path}"), "RFC 8414 §2");
        let answer = didp.http.post(didp.url(path)).send().await.unwrap();
        assert!(!matches!(answer.status().as_u16(), 404 | 405), "{path} is there");
    }
    let methods = json!(["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]);
    assert_eq!(metadata["token_endpoint_auth_methods_supported"], methods);
    assert_eq!(metadata["grant_types_supported"][2], oauth_wire::DEVICE_CODE);
    assert_eq!(metadata["authorization_details_types_supported"], json!(["mqtt"]));
}

/// Checklist 9: what was granted is the owner's to change.
#[tokio::test]
async fn checklist_9_a_refresh_cannot_widen_anything() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (client, tokens) = didp.allowed(&anna, "client_secret_basic").await;
    let refresh = text(&tokens["refresh_token"]);
    for (name, value, error) in [
        ("scope", "data:subscribe command:publish data:publish", "invalid_scope"),
        ("scope", "data:publish", "invalid_scope"),
        ("resource", "http://other.test", "invalid_target"),
        ("authorization_details", r#"[{"type":"mqtt"}]"#, "invalid_authorization_details"),
    ] {
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str()), (name, value)];
        let (status, answer) = didp.token(&client, &form).await;
        assert_eq!((status, &answer["error"]), (400, &json!(error)), "{name}={value}");
    }
    assert_eq!(didp.refresh(&client, &refresh).await.0, 200, "none of that used it up");
}

/// Checklist 13: a redirect that repeated a POST would carry what was typed to somebody else.
#[tokio::test]
async fn checklist_13_posts_redirect_with_303() {
    let didp = Didp::start().await;
    for path in ["/authorize", "/r/abc", "/claim/abc", "/logout", "/account/devices/x/name"] {
        let form = [("csrf", "x"), ("user_code", "1234")];
        let answer = didp.http.post(didp.url(path)).form(&form).send().await.unwrap();
        assert_eq!(answer.status(), 303, "{path}");
    }
}

#[tokio::test]
async fn checklist_12_a_client_uses_only_the_method_it_registered() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    for method in ["client_secret_basic", "client_secret_post", "none"] {
        let (client, tokens) = didp.allowed(&anna, method).await;
        let refresh = text(&tokens["refresh_token"]);
        let id = client.client_id.as_str();
        let secret = client.secret.clone().unwrap_or_else(|| "secret".to_owned());
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
        let in_body = [form[0], form[1], ("client_id", id), ("client_secret", &secret)];
        let public = [form[0], form[1], ("client_id", id)];
        let statuses = [
            didp.form("/token", Some((id, &secret)), &form).await.0,
            didp.form("/token", None, &in_body).await.0,
            didp.form("/token", None, &public).await.0,
        ];
        let expected = match method {
            "client_secret_basic" => [200, 401, 401],
            "client_secret_post" => [401, 200, 401],
            _ => [401, 401, 200],
        };
        assert_eq!(statuses, expected, "{method}");
    }
}

#[tokio::test]
async fn checklist_7_errors_are_those_of_rfc_6749_section_5_2() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (client, tokens) = didp.allowed(&anna, "client_secret_basic").await;
    let refresh = text(&tokens["refresh_token"]);
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[], "invalid_request"),
        (&[("grant_type", "password"), ("username", "x"), ("password", "y")], "unsupported_grant_type"),
        (&[("grant_type", "client_credentials")], "unsupported_grant_type"),
        (&[("grant_type", "refresh_token")], "invalid_request"),
        (&[("grant_type", "refresh_token"), ("refresh_token", "unknown")], "invalid_grant"),
        (&[("grant_type", "authorization_code"), ("code", "unknown")], "invalid_request"),
        (
            &[("grant_type", "refresh_token"), ("grant_type", "refresh_token"), ("refresh_token", &refresh)],
            "invalid_request",
        ),
        (
            &[
                ("grant_type", "refresh_token"),
                ("refresh_token", &refresh),
                ("scope", "data:subscribe admin"),
            ],
            "invalid_scope",
        ),
        (
            &[
                ("grant_type", "refresh_token"),
                ("refresh_token", &refresh),
                ("resource", "http://other.test"),
            ],
            "invalid_target",
        ),
    ];
    for (form, error) in cases {
        let (status, answer) = didp.token(&client, form).await;
        assert_eq!((status, &answer["error"]), (400, &json!(error)), "{form:?}");
    }
    assert_eq!(didp.refresh(&client, &refresh).await.0, 200, "none of that used it up");
}

#[tokio::test]
async fn checklist_16_malformed_requests_get_json_and_tokens_in_urls_are_refused() {
    let didp = Didp::start().await;
    let send = |request: reqwest::RequestBuilder| async {
        let response = request.send().await.unwrap();
        let cache = response.headers().get("cache-control").cloned();
        assert_eq!(cache.unwrap(), "no-store");
        (response.status().as_u16(), response.json::<Value>().await.unwrap()["error"].clone())
    };
    let form = "application/x-www-form-urlencoded";
    let post = |path: &str| didp.http.post(didp.url(path));
    let invalid = json!("invalid_request");
    assert_eq!(send(post("/token").body("{}")).await, (400, invalid.clone()));
    assert_eq!(
        send(post("/token").header("content-type", form).body(vec![0xff; 9])).await,
        (400, invalid.clone())
    );
    let long = "x".repeat(100_000);
    assert_eq!(send(post("/token").header("content-type", form).body(long)).await, (413, invalid.clone()));
    assert_eq!(send(didp.http.get(didp.url("/token"))).await, (405, invalid.clone()));
    let in_url = post("/introspect?token=x").header("content-type", form).body("token=x");
    assert_eq!(send(in_url).await, (400, invalid), "checklist 16");
    let metadata = json!("invalid_client_metadata");
    let broken = post("/register").header("content-type", "application/json").body("{");
    assert_eq!(send(broken).await, (400, metadata));
}

/// Checklist 4: a verifier is worth nothing where no challenge was: a refresh token has none.
#[tokio::test]
async fn checklist_4_a_verifier_without_a_challenge_is_refused_and_revokes_nothing() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    for method in ["client_secret_basic", "none"] {
        let (client, tokens) = didp.allowed(&anna, method).await;
        let refresh = text(&tokens["refresh_token"]);
        let verifier = secret::random_token::<32>();
        let (status, answer) = didp.redeem(&client, &refresh, &verifier).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_grant")));
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.as_str()),
            ("code_verifier", verifier.as_str()),
        ];
        let (status, answer) = didp.token(&client, &form).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_request")));
        assert!(didp.is_active(&text(&tokens["access_token"])).await, "nothing was revoked");
        assert_eq!(didp.refresh(&client, &refresh).await.0, 200, "nor used up");
    }
}

#[tokio::test]
async fn checklist_8_a_lost_reply_never_strands_and_a_replay_ends_the_grant() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (client, first) = didp.allowed(&anna, "client_secret_basic").await;
    let refresh = text(&first["refresh_token"]);
    let mut kept = Value::Null;
    for _ in 0..12 {
        let (status, answer) = didp.refresh(&client, &refresh).await;
        assert_eq!(status, 200, "any number of lost replies");
        kept = answer;
    }
    assert!(didp.is_active(&text(&kept["access_token"])).await);
    assert!(!didp.is_active(&text(&first["access_token"])).await, "the parent died by the use");
    assert_eq!(didp.refresh(&client, &refresh).await.1["error"], "invalid_grant");
    assert!(!didp.is_active(&text(&kept["access_token"])).await);
    let overview = account::overview(&didp.app, &anna).await.unwrap();
    assert!(overview.apps.is_empty());
    assert_eq!(overview.notices[0].kind, account::NoticeKind::TheftAlarm);
}

#[tokio::test]
async fn a_public_client_may_retry_for_60_seconds_only() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (client, first) = didp.allowed(&anna, "none").await;
    let refresh = text(&first["refresh_token"]);
    didp.refresh(&client, &refresh).await;
    didp.clock.advance(60);
    let (status, second) = didp.refresh(&client, &refresh).await;
    assert_eq!(status, 200);
    didp.clock.advance(1);
    assert_eq!(didp.refresh(&client, &refresh).await.0, 400);
    assert!(!didp.is_active(&text(&second["access_token"])).await);
}

#[tokio::test]
async fn checklist_10_tokens_end_by_inactivity_absolutely_and_with_the_owners_date() {
    const DAY: i64 = 86_400;
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (client, tokens) = didp.allowed(&anna, "client_secret_basic").await;
    assert_eq!(tokens["expires_in"], 3600);
    didp.clock.advance(3600);
    assert!(!didp.is_active(&text(&tokens["access_token"])).await);
    let mut refresh = text(&tokens["refresh_token"]);
    for _ in 0..13 {
        didp.clock.advance(28 * DAY);
        let (status, next) = didp.refresh(&client, &refresh).await;
        assert_eq!(status, 200);
        refresh = text(&next["refresh_token"]);
    }
    didp.clock.advance(DAY);
    assert_eq!(didp.refresh(&client, &refresh).await.0, 400, "a year is over");

    let (client, tokens) = didp.allowed(&anna, "client_secret_basic").await;
    didp.clock.advance(30 * DAY);
    assert_eq!(didp.refresh(&client, &text(&tokens["refresh_token"])).await.0, 400, "idle for 30 days");

    let client = didp.register_app("none").await;
    let verifier = secret::random_token::<32>();
    let until = didp.clock.now() + 600;
    let code = didp.app_code_until(&anna, &client, &verifier, Some(until)).await;
    let (_, tokens) = didp.redeem(&client, &code, &verifier).await;
    assert!(tokens["expires_in"].as_i64().unwrap() <= 600);
    assert_eq!(didp.introspect(&text(&tokens["access_token"])).await["exp"], until);
    didp.clock.advance(600);
    assert!(!didp.is_active(&text(&tokens["access_token"])).await);
    assert_eq!(didp.refresh(&client, &text(&tokens["refresh_token"])).await.0, 400);
}

#[tokio::test]
async fn revocation_follows_rfc_7009() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (client, tokens) = didp.allowed(&anna, "client_secret_basic").await;
    let (_, others) = didp.allowed(&anna, "client_secret_basic").await;
    let basic = Some((client.client_id.as_str(), client.secret.as_deref().unwrap()));
    let revoke = async |token: &Value| didp.form("/revoke", basic, &[("token", &text(token))]).await.0;
    assert_eq!(revoke(&json!("unknown")).await, 200);
    assert_eq!(revoke(&others["refresh_token"]).await, 200, "another client's: no error, and no effect");
    assert!(didp.is_active(&text(&others["access_token"])).await);
    assert_eq!(didp.form("/revoke", None, &[("token", "x")]).await.0, 401);
    assert_eq!(didp.form("/revoke", basic, &[]).await.0, 400);

    assert_eq!(revoke(&tokens["access_token"]).await, 200);
    assert!(!didp.is_active(&text(&tokens["access_token"])).await);
    let (status, next) = didp.refresh(&client, &text(&tokens["refresh_token"])).await;
    assert_eq!(status, 200, "an access token ends alone");
    assert!(didp.is_active(&text(&next["access_token"])).await);
    assert_eq!(revoke(&next["refresh_token"]).await, 200);
    assert!(!didp.is_active(&text(&next["access_token"])).await, "a refresh token takes the grant along");
    assert_eq!(account::overview(&didp.app, &anna).await.unwrap().apps.len(), 1);
}

#[tokio::test]
async fn checklist_15_only_registered_origins_may_read_the_token_endpoint() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (client, tokens) = didp.allowed(&anna, "none").await;
    let refresh = text(&tokens["refresh_token"]);
    for (origin, allowed) in [("https://app.example", true), ("https://evil.example", false), ("null", false)]
    {
        let form =
            [("grant_type", "refresh_token"), ("refresh_token", &refresh), ("client_id", &client.client_id)];
        let request = didp.http.post(didp.url("/token")).header("origin", origin).form(&form);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().contains_key("access-control-allow-origin"), allowed, "{origin}");
    }
    let consent = didp.http.get(didp.url("/authorize")).header("origin", "https://app.example");
    let response = consent.send().await.unwrap();
    assert!(!response.headers().contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn a_device_refreshes_over_http_as_well() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let (device, mut mqtt, tokens) = didp.claimed(&anna).await;
    let refresh = text(&tokens["refresh_token"]);
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    let (status, answer) = didp.form("/token", Some((&device.client_id, &device.secret)), &form).await;
    assert_eq!(status, 200);
    assert!(answer.get("client_secret").is_none() && answer.get("authorization_details").is_none());
    assert_eq!(answer["expires_in"], 86_400);
    assert!(mqtt.ask("token", &refreshing(&answer)).await["access_token"].is_string());
}

#[tokio::test]
async fn a_new_key_of_every_purpose_logs_nobody_out_and_kills_no_printed_code() {
    let didp = Didp::start().await;
    let session = login::sign_in(&didp.app, "https://people.test", "anna").await.unwrap();
    let anna = login::session(&didp.app, &session).await.unwrap().unwrap();
    let (device, _mqtt, tokens) = didp.claimed(&anna).await;
    let (client, app_tokens) = didp.allowed(&anna, "client_secret_basic").await;
    let mut printed = didp.device("code").await;
    for purpose in Purpose::ALL {
        let file = didp.dir().join(format!("keys/{}.2.key", purpose.name()));
        std::fs::write(file, &*secret::Key::random().to_text()).unwrap();
    }
    let didp = didp.restart().await;
    assert_eq!(login::session(&didp.app, &session).await.unwrap(), Some(anna));
    assert_eq!(didp.owner("anna").await.user, anna.user, "and a new login is the same owner");
    assert!(didp.is_active(&text(&tokens["access_token"])).await);
    assert_eq!(didp.refresh(&client, &text(&app_tokens["refresh_token"])).await.0, 200);
    let mut mqtt = didp.connect(&device).await;
    assert!(mqtt.ask("token", &refreshing(&tokens)).await["access_token"].is_string());
    let mut mqtt = didp.connect(&printed).await;
    didp.claim(&anna, &mut printed, &mut mqtt).await;
}
