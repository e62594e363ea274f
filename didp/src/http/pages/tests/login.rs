//! Logging in and out, the headers of every page, and what makes a POST believable.

use http::{StatusCode, header};
use serde_json::json;

use super::site::Site;
use crate::upstream::tests::provider::Provider;

#[tokio::test]
async fn a_login_ends_where_it_began() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let page = browser.get("/account").await;
    assert_eq!(page.location(), "/login?next=%2Faccount");
    browser.get("/login?next=%2Fr%2Fabc").await.says(StatusCode::OK, "/login/demo?next=%2Fr%2Fabc");
    assert_eq!(browser.log_in("/r/abc").await, "/r/abc");
    assert_eq!(browser.cookies.keys().collect::<Vec<_>>(), ["didp_session"], "the pending login is cleared");
    browser.get("/account").await.says(StatusCode::OK, "My devices");
    assert_eq!(browser.get("/login?next=%2Fr%2Fabc").await.location(), "/r/abc", "no second login");
}

#[tokio::test]
async fn a_login_never_leads_to_another_site() {
    let site = Site::start().await;
    for next in ["https://evil.example/", "//evil.example/r/x", "/\\evil.example", "/logout", ""] {
        assert_eq!(site.browser().log_in(next).await, "/account", "{next}");
    }
}

#[tokio::test]
async fn cookies_are_bound_to_the_host_where_the_issuer_is_https() {
    for (issuer, name, secure) in [
        ("http://didp.localhost:8080", "didp_session", false),
        ("https://didp.example", "__Host-didp_session", true),
    ] {
        let site = Site::start_at(issuer).await;
        let mut browser = site.browser();
        let callback = browser.ask_provider("demo", "/account").await;
        let page = browser.get(&callback).await;
        let set: Vec<&str> =
            page.headers.get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect();
        let session = set.iter().find(|text| text.starts_with(name)).unwrap();
        assert!(session.contains("; HttpOnly") && session.contains("; SameSite=Lax"), "{session}");
        assert!(session.contains("; Path=/") && !session.contains("Domain"), "{session}");
        assert!(set.iter().all(|text| text.contains("; Secure") == secure), "{set:?}");
    }
}

/// Checklist 26: a flow begun in one browser cannot end in another.
#[tokio::test]
async fn a_callback_in_another_browser_is_refused() {
    let site = Site::start().await;
    let callback = site.browser().ask_provider("demo", "/account").await;
    let mut victim = site.browser();
    victim.get(&callback).await.says(StatusCode::BAD_REQUEST, "could not be completed");
    assert!(victim.cookies.is_empty());
    let mut busy = site.browser();
    busy.ask_provider("demo", "/account").await;
    busy.get(&callback).await.says(StatusCode::BAD_REQUEST, "could not be completed");
    assert!(!busy.cookies.contains_key("didp_session"), "a pending login of its own does not help");
}

#[tokio::test]
async fn a_pending_login_that_was_changed_or_moved_is_refused() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let callback = browser.ask_provider("demo", "/account").await;
    let moved = callback.replace("/login/demo/", "/login/other/");
    let mut elsewhere = site.browser();
    elsewhere.cookies = browser.cookies.clone();
    elsewhere.get(&moved).await.says(StatusCode::BAD_REQUEST, "could not be completed");
    for value in browser.cookies.values_mut() {
        value.push('A');
    }
    browser.get(&callback).await.says(StatusCode::BAD_REQUEST, "could not be completed");
}

#[tokio::test]
async fn a_callback_works_once() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let callback = browser.ask_provider("demo", "/account").await;
    browser.get(&callback).await.location();
    browser.get(&callback).await.says(StatusCode::BAD_REQUEST, "could not be completed");
}

#[tokio::test]
async fn malformed_callbacks_and_unknown_providers_get_a_page() {
    let site = Site::start().await;
    let mut browser = site.browser();
    browser.get("/login/demo/callback?code=a&code=b").await.says(StatusCode::BAD_REQUEST, "malformed");
    browser.get("/login/demo/callback").await.says(StatusCode::BAD_REQUEST, "could not be completed");
    browser.get("/login/nobody").await.says(StatusCode::NOT_FOUND, "nothing here");
    browser.get("/login/nobody/callback?code=a&state=b").await.says(StatusCode::NOT_FOUND, "nothing here");
    browser.get("/login?next=/a&next=/b").await.says(StatusCode::BAD_REQUEST, "malformed");
}

#[tokio::test]
async fn saying_no_at_the_provider_gives_the_choice_again() {
    let site = Site::start().await;
    let mut browser = site.browser();
    let callback = browser.ask_provider("demo", "/r/abc").await;
    let denied = callback.replace("code=", "error=access_denied&was=");
    browser.get(&denied).await.says(StatusCode::OK, "because you said no there");
    assert!(browser.cookies.is_empty());
}

#[tokio::test]
async fn a_provider_that_is_away_is_named_and_another_can_be_chosen() {
    let site = Site::start().await;
    site.provider.away(true);
    let page = site.browser().get("/login/demo?next=%2Fr%2Fabc").await;
    page.says(StatusCode::SERVICE_UNAVAILABLE, "Demo Login does not answer");
    page.says(StatusCode::SERVICE_UNAVAILABLE, "/login/other?next=%2Fr%2Fabc");
}

#[tokio::test]
async fn a_site_without_providers_says_so() {
    let site = Site::start_with("http://localhost", Provider::start().await, json!([])).await;
    site.browser().get("/login").await.says(StatusCode::SERVICE_UNAVAILABLE, "No login is set up");
}

#[tokio::test]
async fn logins_that_were_begun_do_not_pile_up_in_the_browser() {
    let site = Site::start().await;
    let mut browser = site.browser();
    for _ in 0..12 {
        browser.ask_provider("demo", "/account").await;
    }
    assert!(browser.cookies.len() <= 5, "{}", browser.cookies.len());
    assert_eq!(browser.log_in("/account").await, "/account");
}

#[tokio::test]
async fn a_new_login_ends_the_session_before_it() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let mut copy = site.browser();
    copy.cookies = browser.cookies.clone();
    browser.log_in("/account").await;
    assert_eq!(copy.get("/account").await.location(), "/login?next=%2Faccount");
    browser.get("/account").await.says(StatusCode::OK, "My devices");
}

#[tokio::test]
async fn logging_out_ends_the_session_here_and_everywhere() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let mut copy = site.browser();
    copy.cookies = browser.cookies.clone();
    browser.post_raw("/logout", &[], &[]).await.says(StatusCode::FORBIDDEN, "try that again");
    browser.get("/account").await.says(StatusCode::OK, "My devices");
    assert_eq!(browser.post("/logout", &[]).await.location(), "/login");
    assert!(browser.cookies.is_empty());
    assert_eq!(copy.get("/account").await.location(), "/login?next=%2Faccount");
}

#[tokio::test]
async fn an_idle_session_ends() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    site.app.clock.advance(site.app.config.lifetimes.browser_session + 1);
    assert_eq!(browser.get("/account").await.location(), "/login?next=%2Faccount");
}

/// Checklist 14: a POST counts only with the token of this session, from this site.
#[tokio::test]
async fn posts_from_elsewhere_are_refused() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    let good = browser.csrf().await;
    let others = site.owner().await.csrf().await;
    assert_ne!(good, others);
    let cases: [(&str, &[(&str, &str)]); 6] = [
        ("", &[]),
        ("wrong", &[]),
        (&others, &[]),
        (&good, &[("origin", "https://evil.example")]),
        (&good, &[("origin", "http://didp.localhost:8081")]),
        (&good, &[("sec-fetch-site", "cross-site")]),
    ];
    for path in
        ["/r/abc", "/claim/abc", "/authorize", "/account/devices/x/release", "/account/devices/x/name"]
            .into_iter()
            .chain(["/account/apps/x/withdraw", "/logout"])
    {
        for (csrf, headers) in cases {
            let page = browser.post_raw(path, &[("csrf", csrf)], headers).await;
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{path} {csrf} {headers:?}");
        }
        let page = browser.post_raw(path, &[("csrf", &good), ("csrf", &good)], &[]).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{path}: the token twice");
    }
    let own = [("origin", "http://didp.localhost:8080"), ("sec-fetch-site", "same-origin")];
    browser.post_raw("/logout", &[("csrf", &good)], &own).await.location();
}

#[tokio::test]
async fn posts_without_a_session_lead_to_the_login() {
    let site = Site::start().await;
    for (path, next) in [
        ("/r/abc", "%2Fr%2Fabc"),
        ("/claim/abc", "%2Fclaim%2Fabc"),
        ("/authorize", "%2Faccount"),
        ("/account/devices/x/release", "%2Faccount"),
        ("/account/apps/x/withdraw", "%2Faccount"),
    ] {
        let page = site.browser().post_raw(path, &[("csrf", "x")], &[]).await;
        assert_eq!(page.location(), format!("/login?next={next}"), "{path}");
    }
}

/// Checklist 14: framing, referrer, policy, caching, on pages and errors alike.
#[tokio::test]
async fn every_page_carries_the_headers() {
    let site = Site::start().await;
    let mut browser = site.owner().await;
    for path in
        ["/account", "/login", "/r/abc", "/claim/abc", "/authorize", "/login/nobody", "/assets/nothing"]
    {
        let page = browser.get(path).await;
        let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");
        assert_eq!(page.headers[header::REFERRER_POLICY], "no-referrer", "{path}");
        assert_eq!(page.headers[header::CACHE_CONTROL], "no-store", "{path}");
        assert_eq!(page.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert!(!page.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "{path}");
    }
}

#[tokio::test]
async fn assets_may_be_kept_and_say_what_they_are() {
    let site = Site::start().await;
    for (file, kind) in
        [("style.css", "text/css"), ("waiting.js", "text/javascript"), ("icon.svg", "image/svg+xml")]
    {
        let page = site.browser().get(&format!("/assets/{file}?v")).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.headers[header::CONTENT_TYPE].to_str().unwrap().starts_with(kind));
        assert!(page.headers[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
    }
}

#[tokio::test]
async fn nothing_of_the_profile_reaches_the_database() {
    let site = Site::start().await;
    site.owner().await;
    let mut conn = site.app.store.read().await.unwrap();
    let tables: Vec<String> =
        crate::store::sql::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'")
            .fetch_all(&mut conn)
            .await
            .unwrap();
    assert!(tables.iter().any(|table| table == "users"));
    drop(conn);
    let file = site.app.config.database.file().unwrap();
    for name in [file.to_owned(), file.with_extension("sqlite-wal")] {
        let Ok(bytes) = std::fs::read(&name) else { continue };
        for mark in ["alice", "Alice Example", "alice@example.org"] {
            assert!(!bytes.windows(mark.len()).any(|window| window == mark.as_bytes()), "{mark} in {name:?}");
        }
    }
}
