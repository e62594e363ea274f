//! The app against a stand-in for the DIdP: registration, code flow, renewal, withdrawal, restart.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stand_in;

use std::path::Path;

use reqwest::header::{CONTENT_SECURITY_POLICY, LOCATION, ORIGIN, SET_COOKIE};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use service::net::Listener;
use service::{Clock, Shutdown};
use stand_in::Didp;
use url::Url;

struct Tpa {
    url: String,
    clock: Clock,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<()>,
    directory: tempfile::TempDir,
}

impl Tpa {
    async fn start(didp: &Didp) -> Self {
        let directory = tempfile::tempdir().unwrap();
        install_library(directory.path());
        Self::start_in(didp, directory, "127.0.0.1:0").await
    }

    async fn start_in(didp: &Didp, directory: tempfile::TempDir, address: &str) -> Self {
        let listener = Listener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = tpa::Config {
            listen: address.to_owned(),
            public_url: Url::parse(&url).unwrap(),
            issuer: didp.issuer.clone(),
            directory: directory.path().join("data"),
            web: directory.path().to_owned(),
            channels: vec!["temperature".to_owned(), "heater".to_owned()],
            view: None,
        };
        let (clock, shutdown) = (Clock::system(), Shutdown::new());
        let run = tpa::run(config, listener, clock.clone(), shutdown.clone());
        let task = tokio::spawn(async move { run.await.unwrap() });
        Self { url, clock, shutdown, task, directory }
    }

    /// Stops, and starts again at the same address with the same directory.
    async fn restart(self, didp: &Didp) -> Self {
        self.shutdown.begin();
        self.task.await.unwrap();
        let address = self.url.trim_start_matches("http://").to_owned();
        Self::start_in(didp, self.directory, &address).await
    }

    /// A browser that has come as far as the DIdP: its request there.
    async fn to_didp(&self, browser: &Client, didp: &Didp) -> Url {
        didp.registered().await;
        loop {
            let answer = self.get(browser, "/connect").await;
            // The answer to the registration may still be on its way to the app.
            if answer.status() == StatusCode::SEE_OTHER {
                return location(&answer);
            }
            tokio::task::yield_now().await;
        }
    }

    /// The whole code flow; ends at the diary.
    async fn connect(&self, browser: &Client, didp: &Didp) {
        let request = self.to_didp(browser, didp).await;
        let answer = browser.get(didp.consent(&request)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        assert_eq!(answer.headers()[LOCATION], "/diary");
    }

    async fn get(&self, browser: &Client, path: &str) -> Response {
        browser.get(format!("{}{path}", self.url)).send().await.unwrap()
    }

    async fn token(&self, browser: &Client, request: Value) -> (StatusCode, Value) {
        let answer = browser.post(format!("{}/api/token", self.url)).header(ORIGIN, &self.url).json(&request);
        let answer = answer.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }
}

fn install_library(web: &Path) {
    let folder = web.join("node_modules/mqtt/dist");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("mqtt.esm.js"), "export const connect = 0;").unwrap();
}

fn browser() -> Client {
    Client::builder().cookie_store(true).redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

fn location(answer: &Response) -> Url {
    Url::parse(answer.headers()[LOCATION].to_str().unwrap()).unwrap()
}

fn with_query(url: &Url, change: impl Fn(&str, &str) -> Option<String>) -> Url {
    let mut changed = url.clone();
    let pairs: Vec<_> = url
        .query_pairs()
        .filter_map(|(name, value)| Some((name.to_string(), change(&name, &value)?)))
        .collect();
    changed.query_pairs_mut().clear().extend_pairs(pairs);
    changed
}

#[tokio::test]
async fn registers_once_and_asks_with_pkce_for_what_it_needs() {
    let didp = Didp::start().await;
    let tpa = Tpa::start(&didp).await;
    let request = tpa.to_didp(&browser(), &didp).await;
    let query: std::collections::HashMap<_, _> = request.query_pairs().into_owned().collect();
    assert_eq!(query["response_type"], "code");
    assert_eq!(query["client_id"], "client-1");
    assert_eq!(query["redirect_uri"], format!("{}/callback", tpa.url));
    assert_eq!(query["code_challenge_method"], "S256");
    assert_eq!(query["scope"], "data:subscribe command:publish");
    let details: Value = serde_json::from_str(&query["authorization_details"]).unwrap();
    assert_eq!(
        details,
        json!([{"type": "mqtt", "actions": ["read", "command"], "channels": ["temperature", "heater"]}])
    );
    let registration = didp.registrations().pop().unwrap();
    assert_eq!(registration["redirect_uris"], json!([format!("{}/callback", tpa.url)]));
    assert_eq!(registration["token_endpoint_auth_method"], "client_secret_basic");

    let tpa = tpa.restart(&didp).await;
    tpa.to_didp(&browser(), &didp).await;
    assert_eq!(didp.registrations().len(), 1, "a restart uses the registration that is there");
}

#[tokio::test]
async fn registers_again_if_the_didp_forgot_it() {
    let didp = Didp::start().await;
    let tpa = Tpa::start(&didp).await;
    tpa.to_didp(&browser(), &didp).await;
    didp.forget_clients();
    let tpa = tpa.restart(&didp).await;
    let request = tpa.to_didp(&browser(), &didp).await;
    assert!(request.as_str().contains("client_id=client-2"), "{request}");
}

#[tokio::test]
async fn waits_for_a_didp_that_is_not_there_yet() {
    let didp = Didp::start_away().await;
    let tpa = Tpa::start(&didp).await;
    let page = tpa.get(&browser(), "/").await;
    assert_eq!(page.status(), StatusCode::OK);
    assert!(page.text().await.unwrap().contains("does not answer yet"));
    assert_eq!(tpa.get(&browser(), "/connect").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(tpa.get(&browser(), "/healthz").await.status(), StatusCode::OK);
    didp.come_back();
    tpa.connect(&browser(), &didp).await;
}

#[tokio::test]
async fn the_page_gets_a_token_and_may_reach_the_gateway_only() {
    let didp = Didp::start().await;
    let tpa = Tpa::start(&didp).await;
    let alice = browser();
    tpa.connect(&alice, &didp).await;
    let page = tpa.get(&alice, "/diary").await;
    let policy = page.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(
        policy.contains("connect-src 'self' ws://gateway.example:8083 http://gateway.example:8083;"),
        "{policy}"
    );
    let (status, access) = tpa.token(&alice, json!({})).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(access["access_token"], "access-1");
    assert_eq!(
        access["devices"],
        json!([{"title": "Thermostat", "name": null, "actions": ["read"], "ref": "r1"}])
    );
    assert!(access.get("refresh_token").is_none());

    let (status, answer) = tpa.token(&browser(), json!({})).await;
    assert_eq!((status, &answer["state"]), (StatusCode::NOT_FOUND, &json!("not_connected")));
    assert_eq!(tpa.get(&browser(), "/diary").await.headers()[LOCATION], "/");
}

#[tokio::test]
async fn a_token_is_renewed_after_half_of_its_life_and_survives_a_restart() {
    let didp = Didp::start().await;
    let tpa = Tpa::start(&didp).await;
    let alice = browser();
    tpa.connect(&alice, &didp).await;
    tpa.clock.advance(stand_in::LIFE / 2 - 5);
    assert_eq!(tpa.token(&alice, json!({})).await.1["access_token"], "access-1");
    tpa.clock.advance(10);
    // Two tabs at once: one renewal.
    let (one, two) = tokio::join!(tpa.token(&alice, json!({})), tpa.token(&alice, json!({})));
    assert_eq!((&one.1["access_token"], &two.1["access_token"]), (&json!("access-2"), &json!("access-2")));
    assert_eq!(one.1["generation"], 2);

    let tpa = tpa.restart(&didp).await;
    didp.registered().await;
    assert_eq!(tpa.token(&alice, json!({})).await.1["access_token"], "access-2");
    assert_eq!(didp.refreshed(), ["refresh-1"]);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_a_withdrawn_grant_forgotten() {
    let didp = Didp::start().await;
    let tpa = Tpa::start(&didp).await;
    let alice = browser();
    tpa.connect(&alice, &didp).await;
    assert_eq!(tpa.token(&alice, json!({"refused": 1})).await.1["access_token"], "access-2");
    assert_eq!(
        tpa.token(&alice, json!({"refused": 1})).await.1["access_token"],
        "access-2",
        "an older one than ours"
    );
    didp.withdraw();
    let (status, answer) = tpa.token(&alice, json!({"refused": 2})).await;
    assert_eq!((status, &answer["state"]), (StatusCode::GONE, &json!("withdrawn")));
    let (status, _) = tpa.token(&alice, json!({})).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let kept = std::fs::read_to_string(tpa.directory.path().join("data/grants.json")).unwrap();
    assert_eq!(kept, "{}");
}

#[tokio::test]
async fn while_the_didp_is_away_a_good_token_serves_on() {
    let didp = Didp::start().await;
    let tpa = Tpa::start(&didp).await;
    let alice = browser();
    tpa.connect(&alice, &didp).await;
    didp.go_away();
    tpa.clock.advance(stand_in::LIFE * 3 / 4);
    assert_eq!(tpa.token(&alice, json!({})).await.1["access_token"], "access-1");
    tpa.clock.advance(stand_in::LIFE);
    let (status, answer) = tpa.token(&alice, json!({})).await;
    assert_eq!((status, &answer["state"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("provider_away")));
    didp.come_back();
    assert_eq!(tpa.token(&alice, json!({})).await.1["access_token"], "access-2");
}

#[tokio::test]
async fn declining_is_said_and_leaves_nothing() {
    let didp = Didp::start().await;
    let tpa = Tpa::start(&didp).await;
    let alice = browser();
    let request = tpa.to_didp(&alice, &didp).await;
    let answer = alice.get(didp.refusal(&request, "access_denied")).send().await.unwrap();
    assert!(answer.text().await.unwrap().contains("You declined"));
    assert_eq!(tpa.token(&alice, json!({})).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_callback_must_be_of_this_browser_this_issuer_and_new() {
    let didp = Didp::start().await;
    let tpa = Tpa::start(&didp).await;
    let ended = async |browser: &Client, url: Url| {
        let answer = browser.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert!(answer.headers().get(SET_COOKIE).is_none());
    };
    let alice = browser();
    let wrong_issuer = with_query(&didp.consent(&tpa.to_didp(&alice, &didp).await), |name, value| {
        Some(if name == "iss" { "http://other.example".to_owned() } else { value.to_owned() })
    });
    ended(&alice, wrong_issuer).await;
    let no_issuer = with_query(&didp.consent(&tpa.to_didp(&alice, &didp).await), |name, value| {
        (name != "iss").then(|| value.to_owned())
    });
    ended(&alice, no_issuer).await;
    let wrong_state = with_query(&didp.consent(&tpa.to_didp(&alice, &didp).await), |name, value| {
        Some(if name == "state" { "guessed".to_owned() } else { value.to_owned() })
    });
    ended(&alice, wrong_state).await;
    let request = tpa.to_didp(&alice, &didp).await;
    let mallory = browser();
    tpa.to_didp(&mallory, &didp).await;
    ended(&mallory, didp.consent(&request)).await;
    ended(&browser(), didp.consent(&request)).await;
    ended(&alice, Url::parse(&format!("{}/callback?code=a&code=b", tpa.url)).unwrap()).await;
    assert!(didp.redeemed().is_empty(), "no code was redeemed for any of these");

    let again = didp.consent(&tpa.to_didp(&alice, &didp).await);
    assert_eq!(alice.get(again.clone()).send().await.unwrap().status(), StatusCode::SEE_OTHER);
    ended(&alice, again).await;
}

#[tokio::test]
async fn disconnecting_gives_the_grant_back() {
    let didp = Didp::start().await;
    let tpa = Tpa::start(&didp).await;
    let alice = browser();
    tpa.connect(&alice, &didp).await;
    let post = |origin: &str| alice.post(format!("{}/disconnect", tpa.url)).header(ORIGIN, origin).send();
    assert_eq!(post("http://elsewhere.example").await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(tpa.token(&alice, json!({})).await.0, StatusCode::OK);
    assert_eq!(post(&tpa.url).await.unwrap().headers()[LOCATION], "/?bye");
    assert_eq!(didp.revoked(), ["refresh-1"]);
    assert_eq!(tpa.token(&alice, json!({})).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn without_the_library_the_page_says_what_to_run() {
    let didp = Didp::start().await;
    let tpa = Tpa::start_in(&didp, tempfile::tempdir().unwrap(), "127.0.0.1:0").await;
    let page = tpa.get(&browser(), "/").await;
    assert_eq!(page.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.text().await.unwrap().contains("npm ci --ignore-scripts"));
    assert_eq!(tpa.get(&browser(), "/assets/mqtt.js").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn other_requests_get_an_answer_and_nothing_else() {
    let didp = Didp::start().await;
    let tpa = Tpa::start(&didp).await;
    let alice = browser();
    tpa.connect(&alice, &didp).await;
    for path in ["/nothing", "/assets/nothing.js", "/assets/..%2Ftpa.toml"] {
        let answer = tpa.get(&alice, path).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        assert!(answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("default-src 'none'"));
    }
    for name in
        ["app.js", "card.js", "chart.js", "gateway.js", "readings.js", "mqtt.js", "style.css", "icon.svg"]
    {
        assert_eq!(tpa.get(&alice, &format!("/assets/{name}")).await.status(), StatusCode::OK, "{name}");
    }
    let token = |body: &'static str, kind: &'static str, origin: &str| {
        let request = alice.post(format!("{}/api/token", tpa.url)).header(ORIGIN, origin);
        request.header("content-type", kind).body(body).send()
    };
    let json = "application/json";
    assert_eq!(token("{}", json, "http://elsewhere.example").await.unwrap().status(), StatusCode::FORBIDDEN);
    assert!(token("{", json, &tpa.url).await.unwrap().status().is_client_error());
    assert!(token("{}", "text/plain", &tpa.url).await.unwrap().status().is_client_error());
    assert!(token(r#"{"refused": "x"}"#, json, &tpa.url).await.unwrap().status().is_client_error());
    let long = alice.post(format!("{}/api/token", tpa.url)).header(ORIGIN, &tpa.url).json(&"x".repeat(5000));
    assert_eq!(long.send().await.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
}
