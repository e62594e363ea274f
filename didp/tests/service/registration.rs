//! RFC 7591 and 7592 with design §4's additions; security checklist 2, 18, 22.

use serde_json::{Value, json};

use crate::harness::{
    BIG_MANUFACTURER, CALLBACK, DEVELOPER, Didp, MANUFACTURER, device_metadata, press, text,
};

#[tokio::test]
async fn a_device_gets_exactly_what_it_is_flashed_with() {
    let didp = Didp::start().await;
    let (status, answer) = didp.json("/register", Some(MANUFACTURER), &device_metadata("code")).await;
    assert_eq!(status, 201);
    assert_eq!(text(&answer["client_id"]).len(), 22);
    assert_eq!(text(&answer["client_secret"]).len(), 43);
    assert_eq!(answer["client_secret_expires_at"], 0);
    assert_eq!(answer["issuer"], "http://didp.test");
    assert_eq!(answer["mqtt"]["port"], 8884);
    let code = text(&answer["user_registration_uri"]);
    assert_eq!(code.strip_prefix("http://didp.test/r/").unwrap().len(), 22);
    let uri = format!("http://didp.test/register/{}", text(&answer["client_id"]));
    assert_eq!(answer["registration_client_uri"], uri);
    assert_eq!(answer["device"], device_metadata("code")["device"]);
}

#[tokio::test]
async fn checklist_22_registration_needs_the_right_token_and_known_metadata() {
    let didp = Didp::start().await;
    let device = device_metadata("code");
    for token in [None, Some("wrong"), Some("")] {
        let (status, answer) = didp.json("/register", token, &device).await;
        assert_eq!((status, &answer["error"]), (401, &json!("invalid_token")), "{token:?}");
    }
    let (status, answer) = didp.json("/register", Some(DEVELOPER), &device).await;
    assert_eq!((status, &answer["error"]), (403, &json!("access_denied")));

    let with = |change: &dyn Fn(&mut Value)| {
        let mut metadata = device.clone();
        change(&mut metadata);
        metadata
    };
    let bad = [
        with(&|m| m["client_id"] = json!("chosen")),
        with(&|m| m["client_secret"] = json!("chosen")),
        with(&|m| m["client_name"] = json!("x".repeat(81))),
        with(&|m| m["client_name"] = json!(" ")),
        with(&|m| m["grant_types"] = json!(["password"])),
        with(&|m| m["token_endpoint_auth_method"] = json!("none")),
        with(&|m| m["redirect_uris"] = json!([CALLBACK])),
        with(&|m| m["device"]["confirm"] = json!("nothing")),
        with(&|m| m["device"]["channels"] = json!([])),
        with(&|m| m["device"]["channels"][0]["name"] = json!("a/#")),
        with(&|m| m["device"]["channels"][0]["secret"] = json!(1)),
        with(&|m| m["device"]["channels"][1] = m["device"]["channels"][0].clone()),
        json!([]),
        json!("text"),
    ];
    for metadata in bad {
        let (status, answer) = didp.json("/register", Some(MANUFACTURER), &metadata).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_client_metadata")), "{metadata}");
    }
    let long = with(&|m| m["software_id"] = json!("x".repeat(100_000)));
    let (status, answer) = didp.json("/register", Some(MANUFACTURER), &long).await;
    assert_eq!((status, &answer["error"]), (413, &json!("invalid_request")));
}

#[tokio::test]
async fn checklist_2_a_foreign_http_redirect_is_refused() {
    let didp = Didp::start().await;
    let register = async |uris: Value| {
        let metadata = json!({"client_name": "App", "redirect_uris": uris});
        didp.json("/register", Some(DEVELOPER), &metadata).await
    };
    for uris in
        [json!([]), json!(["http://app.example/cb"]), json!([CALLBACK, "javascript:x"]), json!(["/cb"])]
    {
        let (status, answer) = register(uris.clone()).await;
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_redirect_uri")), "{uris}");
    }
    for uris in [json!(["http://127.0.0.1/cb"]), json!(["http://tpa.localhost:8090/cb", CALLBACK])] {
        assert_eq!(register(uris).await.0, 201);
    }
}

#[tokio::test]
async fn apps_register_without_a_token_only_where_the_operator_allows_it() {
    let metadata = json!({"client_name": "App", "redirect_uris": [CALLBACK]});
    let closed = Didp::start().await;
    assert_eq!(closed.json("/register", None, &metadata).await.0, 401);
    let open = Didp::start_with("app_registration = \"open\"").await;
    assert_eq!(open.json("/register", None, &metadata).await.0, 201);
    assert_eq!(
        open.json("/register", None, &device_metadata("code")).await.0,
        401,
        "devices always need one"
    );
}

#[tokio::test]
async fn a_repeated_request_with_an_idempotency_key_gives_the_same_device() {
    let didp = Didp::start().await;
    let send = |key: &'static str, metadata: Value| {
        let request =
            didp.http.post(didp.url("/register")).bearer_auth(MANUFACTURER).header("Idempotency-Key", key);
        async move {
            let response = request.json(&metadata).send().await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        }
    };
    let first = send("serial 1", device_metadata("code")).await;
    assert_eq!(first.0, 201);
    assert_eq!(send("serial 1", device_metadata("code")).await, first);
    let second = send("serial 2", device_metadata("code")).await.1;
    for secret in ["client_id", "client_secret", "user_registration_uri", "registration_access_token"] {
        assert_ne!(second[secret], first.1[secret]);
    }
    assert_eq!(send("serial 1", device_metadata("press")).await.0, 400, "another request under a used key");
}

#[tokio::test]
async fn checklist_22_a_batch_is_all_or_nothing_and_bounded_by_the_quota() {
    let didp = Didp::start().await;
    let batch = |count: usize| Value::from(vec![device_metadata("code"); count]);
    let (status, answer) = didp.json("/register/batch", Some(MANUFACTURER), &batch(40)).await;
    assert_eq!(status, 201);
    assert_eq!(answer.as_array().unwrap().len(), 40);
    let (status, answer) = didp.json("/register/batch", Some(MANUFACTURER), &batch(11)).await;
    assert_eq!((status, &answer["error"]), (403, &json!("access_denied")));
    let (status, _) = didp.json("/register/batch", Some(MANUFACTURER), &batch(10)).await;
    assert_eq!(status, 201, "the refused batch left nothing");
    let mut spoilt = batch(2);
    spoilt[1]["client_name"] = json!("");
    assert_eq!(didp.json("/register/batch", Some(MANUFACTURER), &spoilt).await.0, 400);
}

#[tokio::test]
async fn a_batch_of_a_thousand_is_repeated_by_its_key_and_one_more_is_refused() {
    let didp = Didp::start_with("limits = { hash_iterations = 10 }").await;
    let send = async |count: usize| {
        let batch = Value::from(vec![device_metadata("code"); count]);
        let request = didp.http.post(didp.url("/register/batch")).bearer_auth(BIG_MANUFACTURER);
        let response = request.header("Idempotency-Key", "batch 7").json(&batch).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, first) = send(1_000).await;
    assert_eq!((status, first.as_array().unwrap().len()), (201, 1_000));
    let ids: std::collections::HashSet<&str> =
        first.as_array().unwrap().iter().map(|one| one["client_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1_000);
    assert_eq!(send(1_000).await, (201, first), "the same devices, not new ones");
    assert_eq!(send(1_001).await.0, 400);
}

#[tokio::test]
async fn checklist_22_an_initial_access_token_ends() {
    let tables = r#"
        [[manufacturer]]
        id = "former"
        name = "Former Maker"
        initial_access_token_file = "former"
        expires = 1"#;
    let didp = Didp::start_with_files(&[("former", "token of a former maker")], "", tables).await;
    let (status, answer) =
        didp.json("/register", Some("token of a former maker"), &device_metadata("code")).await;
    assert_eq!((status, &answer["error"]), (401, &json!("invalid_token")));
}

#[tokio::test]
async fn checklist_18_no_secret_stands_in_the_database() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    assert!(didp.holds(&device.client_id), "the search itself works");
    for secret in [&device.secret, &device.code, &device.management] {
        assert!(!didp.holds(secret));
    }
}

#[tokio::test]
async fn management_reads_replaces_and_deletes() {
    let didp = Didp::start().await;
    let device = didp.device("code").await;
    let url = didp.url(&format!("/register/{}", device.client_id));
    let read = |token: &str| didp.http.get(&url).bearer_auth(token).send();
    assert_eq!(read("wrong").await.unwrap().status(), 401);
    assert_eq!(didp.http.get(&url).send().await.unwrap().status(), 401);
    let answer: Value = read(&device.management).await.unwrap().json().await.unwrap();
    assert_eq!(answer["client_name"], "Thermostat T1");
    assert!(answer.get("client_secret").is_none() && answer.get("user_registration_uri").is_none());
    // RFC 7592 §3: what manages the registration is told each time.
    assert_eq!(answer["registration_access_token"], device.management);

    let mut changed = device_metadata("press");
    changed["client_name"] = json!("Thermostat T2");
    changed["client_id"] = json!("another");
    let put = |body: &Value| didp.http.put(&url).bearer_auth(&device.management).json(body).send();
    assert_eq!(put(&changed).await.unwrap().status(), 400);
    changed["client_id"] = json!(device.client_id);
    let answer: Value = put(&changed).await.unwrap().json().await.unwrap();
    assert_eq!(
        (&answer["client_name"], &answer["device"]["confirm"]),
        (&json!("Thermostat T2"), &json!("press"))
    );
    changed["client_secret"] = json!("chosen");
    assert_eq!(put(&changed).await.unwrap().status(), 400);
    changed["client_secret"] = json!(device.secret);
    assert_eq!(put(&changed).await.unwrap().status(), 200, "RFC 7592 §2.2: it may be repeated");

    changed.as_object_mut().unwrap().remove("client_secret");
    let mut mqtt = didp.connect(&device).await;
    let window = mqtt.ask("claim", &press(&device.verifier)).await;
    assert_eq!(window["status"], "window_open");
    let refused = put(&changed).await.unwrap();
    let refused: Value = refused.json().await.unwrap();
    assert_eq!(refused["error"], "access_denied", "what an owner may just be looking at stays as it is");

    let delete = || didp.http.delete(&url).bearer_auth(&device.management).send();
    assert_eq!(delete().await.unwrap().status(), 204);
    assert_eq!(delete().await.unwrap().status(), 401);
}

#[tokio::test]
async fn checklist_33_the_makers_token_is_dead_once_the_device_is_claimed() {
    let didp = Didp::start().await;
    let owner = didp.owner("anna").await;
    let (device, _mqtt, _) = didp.claimed(&owner).await;
    let url = didp.url(&format!("/register/{}", device.client_id));
    assert_eq!(didp.http.get(&url).bearer_auth(&device.management).send().await.unwrap().status(), 401);
    assert_eq!(didp.http.delete(&url).bearer_auth(&device.management).send().await.unwrap().status(), 401);
}
