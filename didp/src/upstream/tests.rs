//! Logins against small providers that live in this test: an OpenID provider that can lie in every field, and a plain
//! OAuth2 one. Each refusal names the line of the security checklist that it shows.

pub(crate) mod provider;

use provider::{Plain, Provider, Signing};

use super::{Callback, Pending, Person, Upstream, UpstreamError, Upstreams};

fn callback(code: &str, state: &str, iss: Option<&str>) -> Callback {
    Callback { code: Some(code.into()), state: Some(state.into()), iss: iss.map(Into::into), error: None }
}

fn now() -> i64 {
    service::Clock::system().now()
}

fn upstream(upstreams: &Upstreams) -> &Upstream {
    upstreams.iter().next().unwrap()
}

/// Begins a login, lets the provider grant it, and finishes it with the answer as the provider would send it.
async fn log_in(provider: &Provider, upstream: &Upstream) -> Result<Person, UpstreamError> {
    let now = now();
    let (url, pending) = upstream.begin("/account", now).await?;
    let (code, state) = provider.grant(&url);
    upstream.finish(&callback(&code, &state, Some(&provider.issuer())), &pending, now).await
}

#[tokio::test]
async fn a_login_gives_issuer_and_subject() {
    let provider = Provider::start().await;
    let upstreams = provider.upstreams();
    let person = log_in(&provider, upstream(&upstreams)).await.unwrap();
    assert_eq!(person.subject, "alice");
    assert_eq!(person.issuer, provider.issuer());
    assert!(!format!("{person:?}").contains("alice"), "debug output keeps the subject to itself");
}

#[tokio::test]
async fn the_request_uses_code_pkce_s256_state_and_nonce_and_asks_for_no_profile() {
    let provider = Provider::start().await;
    let upstreams = provider.upstreams();
    let (url, _) = upstream(&upstreams).begin("/account", now()).await.unwrap();
    let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(query["response_type"], "code");
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["scope"], "openid");
    assert_eq!(query["redirect_uri"], "https://didp.example/login/test/callback");
    assert!(query["state"].len() >= 22 && query["nonce"].len() >= 22);
}

/// Checklist 27: nonce, audience, issuer, algorithm, times.
#[tokio::test]
async fn an_id_token_with_a_wrong_claim_is_refused() {
    let now = now();
    let lies: Vec<(&str, serde_json::Value)> = vec![
        ("nonce", "another".into()),
        ("nonce", serde_json::Value::Null),
        ("aud", "another-client".into()),
        ("aud", serde_json::json!(["didp", "another-client"])),
        ("azp", "another-client".into()),
        ("iss", "https://another.example".into()),
        ("exp", (now - 61).into()),
        ("iat", (now + 120).into()),
        ("sub", "".into()),
        ("sub", "x".repeat(256).into()),
        ("sub", serde_json::Value::Null),
    ];
    for (claim, value) in lies {
        let provider = Provider::start().await;
        provider.lie(claim, value.clone());
        let upstreams = provider.upstreams();
        let result = log_in(&provider, upstream(&upstreams)).await;
        assert!(matches!(result, Err(UpstreamError::Refused(_))), "{claim} = {value}: {result:?}");
    }
}

/// Checklist 27: only the provider's private key signs; `none` and a shared secret never do.
#[tokio::test]
async fn an_id_token_with_another_algorithm_or_key_is_refused() {
    for signing in [
        Signing::None,
        Signing::SharedSecret,
        Signing::PublicKeyAsSecret,
        Signing::ForeignKey,
        Signing::Broken,
    ] {
        let provider = Provider::start().await;
        provider.sign(signing);
        let upstreams = provider.upstreams();
        let result = log_in(&provider, upstream(&upstreams)).await;
        assert!(matches!(result, Err(UpstreamError::Refused(_))), "{signing:?}: {result:?}");
    }
}

#[tokio::test]
async fn a_clock_that_is_a_minute_off_is_tolerated() {
    let provider = Provider::start().await;
    let now = now();
    provider.lie("iat", (now + 30).into());
    provider.lie("exp", (now - 30).into());
    let upstreams = provider.upstreams();
    assert!(log_in(&provider, upstream(&upstreams)).await.is_ok());
}

#[tokio::test]
async fn rotated_keys_are_fetched_once() {
    let provider = Provider::start().await;
    let upstreams = provider.upstreams();
    log_in(&provider, upstream(&upstreams)).await.unwrap();
    assert_eq!(provider.key_requests(), 1);
    provider.rotate();
    log_in(&provider, upstream(&upstreams)).await.unwrap();
    assert_eq!(provider.key_requests(), 2);
    log_in(&provider, upstream(&upstreams)).await.unwrap();
    assert_eq!(provider.key_requests(), 2, "a known key needs no request");
}

/// Checklist 25: a callback with a wrong `iss` fails, and so does one without, since this provider announces it.
#[tokio::test]
async fn a_wrong_or_missing_iss_is_refused_before_the_code_is_sent() {
    for iss in [Some("https://another.example"), None] {
        let provider = Provider::start().await;
        let upstreams = provider.upstreams();
        let now = now();
        let (url, pending) = upstream(&upstreams).begin("/", now).await.unwrap();
        let (code, state) = provider.grant(&url);
        let result = upstream(&upstreams).finish(&callback(&code, &state, iss), &pending, now).await;
        assert!(matches!(result, Err(UpstreamError::Refused(_))), "{iss:?}");
        assert_eq!(provider.token_requests(), 0);
    }
}

/// Checklist 25: each provider has its own redirect URI; what began at one cannot end at another.
#[tokio::test]
async fn a_login_begun_at_one_provider_does_not_end_at_another() {
    let provider = Provider::start().await;
    let plain = Plain::start(serde_json::json!({ "id": 7 })).await;
    let openid = provider.upstreams();
    let other = plain.upstreams("id");
    let now = now();
    let (url, pending) = upstream(&openid).begin("/", now).await.unwrap();
    let (code, state) = provider.grant(&url);
    let result = upstream(&other).finish(&callback(&code, &state, None), &pending, now).await;
    assert_eq!(result, Err(UpstreamError::Refused("state of another login")));
}

/// Checklist 26: another browser has another pending login.
#[tokio::test]
async fn a_flow_begun_in_one_browser_cannot_end_in_another() {
    let provider = Provider::start().await;
    let upstreams = provider.upstreams();
    let now = now();
    let (url, _attacker) = upstream(&upstreams).begin("/", now).await.unwrap();
    let (_, victim) = upstream(&upstreams).begin("/", now).await.unwrap();
    let (code, state) = provider.grant(&url);
    let result =
        upstream(&upstreams).finish(&callback(&code, &state, Some(&provider.issuer())), &victim, now).await;
    assert_eq!(result, Err(UpstreamError::Refused("state of another login")));
    assert_eq!(provider.token_requests(), 0);
}

#[tokio::test]
async fn a_login_that_took_too_long_is_refused() {
    let provider = Provider::start().await;
    let upstreams = provider.upstreams();
    let begun = now();
    let (url, pending) = upstream(&upstreams).begin("/", begun).await.unwrap();
    let (code, state) = provider.grant(&url);
    let late = begun + super::pending::LIFETIME + 1;
    let result =
        upstream(&upstreams).finish(&callback(&code, &state, Some(&provider.issuer())), &pending, late).await;
    assert!(matches!(result, Err(UpstreamError::Refused(_))));
}

#[tokio::test]
async fn saying_no_at_the_provider_is_not_an_error_of_ours() {
    let provider = Provider::start().await;
    let upstreams = provider.upstreams();
    let now = now();
    let (url, pending) = upstream(&upstreams).begin("/", now).await.unwrap();
    let (_, state) = provider.grant(&url);
    let mut denied = callback("", &state, Some(&provider.issuer()));
    denied.code = None;
    denied.error = Some("access_denied".into());
    assert_eq!(upstream(&upstreams).finish(&denied, &pending, now).await, Err(UpstreamError::Denied));
}

#[tokio::test]
async fn a_provider_that_comes_back_is_found_without_a_restart() {
    let provider = Provider::start().await;
    let upstreams = provider.upstreams();
    provider.away(true);
    let now = now();
    let away = upstream(&upstreams).begin("/", now).await;
    assert_eq!(away.err(), Some(UpstreamError::Away("discovery")));
    provider.away(false);
    let at_once = upstream(&upstreams).begin("/", now).await;
    assert_eq!(at_once.err(), Some(UpstreamError::Away("discovery")), "not asked again at once");
    assert!(upstream(&upstreams).begin("/", now + 20).await.is_ok());
}

#[tokio::test]
async fn answers_without_bound_and_redirects_are_not_followed() {
    for misbehaviour in [provider::Misbehaviour::Endless, provider::Misbehaviour::Redirect] {
        let provider = Provider::start().await;
        let upstreams = provider.upstreams();
        let now = now();
        let (url, pending) = upstream(&upstreams).begin("/", now).await.unwrap();
        let (code, state) = provider.grant(&url);
        provider.misbehave(misbehaviour);
        let result = upstream(&upstreams)
            .finish(&callback(&code, &state, Some(&provider.issuer())), &pending, now)
            .await;
        assert!(result.is_err(), "{misbehaviour:?}");
        assert_eq!(provider.strays(), 0, "the redirect's target was not asked");
    }
}

#[tokio::test]
async fn a_plain_oauth2_provider_names_the_person_by_the_configured_field() {
    for (field, user, subject) in [
        ("id", serde_json::json!({ "id": 583_231, "login": "octo", "email": "o@example.org" }), "583231"),
        ("uuid", serde_json::json!({ "uuid": "a-b-c", "id": 1 }), "a-b-c"),
    ] {
        let plain = Plain::start(user).await;
        let upstreams = plain.upstreams(field);
        let now = now();
        let (url, pending) = upstream(&upstreams).begin("/", now).await.unwrap();
        let (code, state) = plain.grant(&url);
        let person =
            upstream(&upstreams).finish(&callback(&code, &state, None), &pending, now).await.unwrap();
        assert_eq!(person.subject, subject);
        assert_eq!(person.issuer, plain.origin());
    }
}

#[tokio::test]
async fn a_plain_oauth2_provider_that_names_nobody_logs_nobody_in() {
    for user in [
        serde_json::json!({}),
        serde_json::json!({ "id": null }),
        serde_json::json!({ "id": 1.5 }),
        serde_json::json!({ "id": ["x"] }),
        serde_json::json!({ "id": "" }),
        serde_json::json!("id"),
    ] {
        let plain = Plain::start(user.clone()).await;
        let upstreams = plain.upstreams("id");
        let now = now();
        let (url, pending) = upstream(&upstreams).begin("/", now).await.unwrap();
        let (code, state) = plain.grant(&url);
        let result = upstream(&upstreams).finish(&callback(&code, &state, None), &pending, now).await;
        assert!(matches!(result, Err(UpstreamError::Refused(_))), "{user}");
    }
}

#[tokio::test]
async fn a_code_of_another_login_fails_pkce_at_the_provider() {
    let plain = Plain::start(serde_json::json!({ "id": 1 })).await;
    let upstreams = plain.upstreams("id");
    let now = now();
    let (theirs, _) = upstream(&upstreams).begin("/", now).await.unwrap();
    let (ours, pending) = upstream(&upstreams).begin("/", now).await.unwrap();
    let (injected, _) = plain.grant(&theirs);
    let (_, state) = plain.grant(&ours);
    let result = upstream(&upstreams).finish(&callback(&injected, &state, None), &pending, now).await;
    assert_eq!(result, Err(UpstreamError::Refused("the provider refused the code")));
}

#[test]
fn a_callback_with_a_parameter_twice_does_not_parse() {
    assert!(serde_urlencoded::from_str::<Callback>("code=a&state=b&code=c").is_err());
    assert!(serde_urlencoded::from_str::<Callback>("code=a&state=b&session_state=ignored").is_ok());
}

#[test]
fn two_providers_with_one_id_are_refused() {
    let settings = provider::settings(serde_json::json!({ "issuer": "https://a.example" }));
    let twice = [settings.clone(), settings];
    let result = Upstreams::new(&twice, &"https://didp.example".parse().unwrap());
    assert!(result.err().unwrap().to_string().contains("twice"));
}

#[test]
fn a_pending_login_travels_sealed() {
    let pending = Pending::new("test", "s", "n", "v", "/next", now());
    let sealed = pending.seal(&service::secret::Key::random());
    assert!(sealed.len() < 1000 && sealed.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
}
