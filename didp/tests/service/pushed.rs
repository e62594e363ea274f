//! Pushed authorization requests: RFC 9126; checklist 1, 3, 7.

use didp::flows::authorize::{self, AuthorizeError, Choice, PageError};
use serde_json::json;
use service::secret;

use crate::harness::{CALLBACK, Client, DEVELOPER, Didp, query, text};

async fn push(
    didp: &Didp,
    client: &Client,
    change: impl Fn(&mut Vec<(String, String)>),
) -> (u16, serde_json::Value) {
    let mut parameters = client.request(&secret::random_token::<32>());
    change(&mut parameters);
    let form: Vec<(&str, &str)> = parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let basic = client.secret.as_deref().map(|secret| (client.client_id.as_str(), secret));
    didp.form("/par", basic, &form).await
}

fn by_handle(client: &Client, request_uri: &str) -> Vec<(String, String)> {
    [("client_id", client.client_id.as_str()), ("request_uri", request_uri)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

fn all() -> Choice {
    Choice { read: true, command: true, future: true, ..Choice::default() }
}

#[tokio::test]
async fn rfc_9126_section_2_2_a_pushed_request_is_decided_once_by_its_own_client() {
    let didp = Didp::start().await;
    let anna = didp.owner("anna").await;
    let client = didp.register_app("client_secret_basic").await;
    let verifier = secret::random_token::<32>();
    let details = r#"[{"type":"mqtt","actions":["read"]}]"#;
    let (status, answer) = push(&didp, &client, |parameters| {
        *parameters = client.request(&verifier);
        parameters.push(("authorization_details".into(), details.into()));
        parameters.push(("login_hint".into(), "anna@people.test".into()));
    })
    .await;
    assert!(!didp.holds("anna%40people.test"), "nothing that names a person is kept");
    assert_eq!((status, &answer["expires_in"]), (201, &json!(600)), "{answer}");
    let handle = text(&answer["request_uri"]);
    assert!(handle.starts_with("urn:ietf:params:oauth:request_uri:"));

    let mut tampered = by_handle(&client, &handle);
    tampered.extend([
        ("scope".to_owned(), "command:publish".to_owned()),
        ("redirect_uri".into(), "https://evil.example".into()),
    ]);
    let request = authorize::check(&didp.app, &tampered).await.unwrap();
    assert_eq!((request.wants_read, request.wants_command), (true, false), "only what was pushed counts");
    let other = didp.register_app("none").await;
    let foreign = authorize::check(&didp.app, &by_handle(&other, &handle)).await;
    assert!(matches!(foreign, Err(AuthorizeError::Page(PageError::RequestUri))), "another client's");

    let again = authorize::check(&didp.app, &by_handle(&client, &handle)).await.unwrap();
    let url = authorize::allow(&didp.app, &anna, &request, all()).await.unwrap();
    assert!(
        url.as_str().starts_with(CALLBACK) && query(&url, "state").as_deref() == Some("state of the app")
    );
    let (status, tokens) = didp.redeem(&client, &query(&url, "code").unwrap(), &verifier).await;
    assert_eq!((status, &tokens["scope"]), (200, &json!("data:subscribe")));
    let twice = authorize::allow(&didp.app, &anna, &again, all()).await;
    assert!(matches!(twice, Err(AuthorizeError::Page(PageError::RequestUri))), "decided already");
    let late = authorize::check(&didp.app, &by_handle(&client, &handle)).await;
    assert!(matches!(late, Err(AuthorizeError::Page(PageError::RequestUri))));
}

#[tokio::test]
async fn rfc_9126_section_2_3_errors_are_json_at_the_push() {
    let didp = Didp::start().await;
    let client = didp.register_app("client_secret_basic").await;
    let set = |name: &'static str, value: &'static str| {
        move |parameters: &mut Vec<(String, String)>| {
            parameters.retain(|(key, _)| key != name);
            parameters.push((name.to_owned(), value.to_owned()));
        }
    };
    for (name, value, error) in [
        ("redirect_uri", "https://app.example/callback?x=2", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge", "", "invalid_request"),
        ("response_type", "token", "unsupported_response_type"),
        ("scope", "data:publish", "invalid_scope"),
        ("resource", "http://elsewhere.test", "invalid_target"),
        ("authorization_details", "[]", "invalid_authorization_details"),
        ("request_uri", "urn:ietf:params:oauth:request_uri:x", "invalid_request"),
        ("request", "e30.e30.", "invalid_request"),
    ] {
        let (status, answer) = push(&didp, &client, set(name, value)).await;
        assert_eq!((status, &answer["error"]), (400, &json!(error)), "{name}={value}");
    }
    let nobody = Client { client_id: client.client_id.clone(), secret: None, method: String::new() };
    assert_eq!(push(&didp, &nobody, |_| {}).await.0, 401, "the client proves itself first");
    let device = didp.device("code").await;
    let device = Client { client_id: device.client_id, secret: Some(device.secret), method: String::new() };
    assert_eq!(push(&didp, &device, |_| {}).await.1["error"], "unauthorized_client");
}

#[tokio::test]
async fn a_pushed_request_ends_and_declining_spends_it() {
    let didp = Didp::start().await;
    let client = didp.register_app("client_secret_basic").await;
    let handle = text(&push(&didp, &client, |_| {}).await.1["request_uri"]);
    let request = authorize::check(&didp.app, &by_handle(&client, &handle)).await.unwrap();
    let url = authorize::decline(&didp.app, &request).await.unwrap();
    assert_eq!(query(&url, "error").as_deref(), Some("access_denied"));
    assert!(authorize::check(&didp.app, &by_handle(&client, &handle)).await.is_err());
    let handle = text(&push(&didp, &client, |_| {}).await.1["request_uri"]);
    didp.clock.advance(600);
    assert!(authorize::check(&didp.app, &by_handle(&client, &handle)).await.is_err());
    didp.sweep().await;
}

#[tokio::test]
async fn rfc_9126_section_6_an_app_may_bind_itself_to_pushing() {
    let didp = Didp::start().await;
    let metadata = json!({"client_name": "App", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none",
        "require_pushed_authorization_requests": true});
    let (status, answer) = didp.json("/register", Some(DEVELOPER), &metadata).await;
    assert_eq!((status, &answer["require_pushed_authorization_requests"]), (201, &json!(true)));
    let client = Client { client_id: text(&answer["client_id"]), secret: None, method: "none".into() };
    let direct = authorize::check(&didp.app, &client.request(&secret::random_token::<32>())).await;
    let Err(AuthorizeError::Redirect(url)) = direct else { panic!("{direct:?}") };
    assert_eq!(query(&url, "error").as_deref(), Some("invalid_request"));
    let (_, answer) = push(&didp, &client, |_| {}).await;
    assert!(authorize::check(&didp.app, &by_handle(&client, &text(&answer["request_uri"]))).await.is_ok());
}
