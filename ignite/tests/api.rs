//! The HTTP API: the same grants, the same policy, JSON errors.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use common::{DEADLINE, Stack, app_detail, until};
use mqtt_wire::{Packet, Properties, Publish, QoS, Version};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

struct Api<'s> {
    stack: &'s Stack,
    http: Client,
}

impl Api<'_> {
    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("http://{}{path}", self.stack.http))
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("http://{}{path}", self.stack.http))
    }

    async fn handle(&self, token: &str) -> String {
        let devices: Value =
            self.get("/v1/devices").bearer_auth(token).send().await.unwrap().json().await.unwrap();
        devices[0]["handle"].as_str().unwrap().to_owned()
    }
}

fn api(stack: &Stack) -> Api<'_> {
    Api { stack, http: Client::builder().no_proxy().build().unwrap() }
}

async fn problem(request: RequestBuilder) -> (StatusCode, String, String) {
    let answer = request.send().await.unwrap();
    let challenge = answer.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    (status, body["error"].as_str().unwrap().to_owned(), challenge.unwrap_or_default())
}

async fn device(stack: &Stack, label: &str) -> common::client::Client {
    let token = stack.didp.add_device("owner", &format!("s-{label}"), label);
    stack.didp.say("changed", "sub", "owner");
    let mut device = stack.connect().await;
    device.log_in(Version::V5, label, &token).await;
    device
}

async fn retain(device: &mut common::client::Client, payload: &[u8]) {
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "d/temperature",
        packet_id: Some(1),
        properties: Properties::EMPTY,
        payload,
    };
    device.send(&Packet::Publish(publish)).await;
    assert_eq!(device.puback(1).await, 0);
}

#[tokio::test]
async fn devices_are_listed_by_handle_without_label_or_name() {
    let stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let answer = api(&stack).get("/v1/devices").bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let text = answer.text().await.unwrap();
    assert!(!text.contains("\"label1\""), "{text}");
    let devices: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(devices[0]["ref"], "ref-label1");
    assert_eq!(devices[0]["title"], "Thermostat");
    assert_eq!(devices[0]["handle"].as_str().unwrap().len(), 22);
    let channels: Vec<_> =
        devices[0]["channels"].as_array().unwrap().iter().map(|channel| channel["name"].clone()).collect();
    assert_eq!(channels, ["temperature", "heater-state"], "a command that is not granted is not there");
    assert_eq!(devices[0]["view"], json!({"kind": "raw"}));
    assert_eq!(devices[0].get("views"), None);
}

#[tokio::test]
async fn an_app_is_told_how_exact_its_readings_are() {
    let stack = Stack::start().await;
    let mut detail = app_detail("label1", &["read"]);
    detail["view"] = json!({"kind": "coarsening", "round": 0.5});
    detail["views"] = json!({"temperature": {"kind": "summary", "window_s": 60}, "heater": {"kind": "raw"}});
    let token = stack.didp.add_app("owner", "s-app", json!([detail]));
    let devices: Value =
        api(&stack).get("/v1/devices").bearer_auth(&token).send().await.unwrap().json().await.unwrap();
    assert_eq!(devices[0]["view"], json!({"kind": "coarsening", "round": 0.5}));
    let summary =
        json!({"kind": "summary", "window_s": 60, "min_samples": 5, "statistics": ["count", "mean", "std"]});
    assert_eq!(devices[0]["views"], json!({"temperature": summary}), "what it may not read has no view");
}

#[tokio::test]
async fn the_last_value_is_the_retained_one() {
    let stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let mut device = device(&stack, "label1").await;
    let api = api(&stack);
    let path = format!("/v1/d/{}/temperature", api.handle(&token).await);
    let (status, error, _) = problem(api.get(&path).bearer_auth(&token)).await;
    assert_eq!((status, error.as_str()), (StatusCode::NOT_FOUND, "not_found"));
    for (payload, content_type) in [
        (&b"21.5"[..], "application/json"),
        (b"<script>alert(1)</script>", "text/plain; charset=utf-8"),
        (b"\xff\xfe", "application/octet-stream"),
    ] {
        retain(&mut device, payload).await;
        let answer = api.get(&path).bearer_auth(&token).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], content_type);
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert_eq!(answer.bytes().await.unwrap(), payload);
    }
}

#[tokio::test]
async fn a_command_reaches_the_device() {
    let stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read", "command"])]));
    let mut device = device(&stack, "label1").await;
    device.subscribe(1, &["c/#"]).await;
    let api = api(&stack);
    let handle = api.handle(&token).await;
    let answer = api.post(&format!("/v1/c/{handle}/heater")).bearer_auth(&token).body("true").send().await;
    assert_eq!(answer.unwrap().status(), StatusCode::ACCEPTED);
    let command = device.message().await;
    assert_eq!((command.topic.as_str(), command.payload.as_slice()), ("c/heater", &b"true"[..]));
    let denied = api.post(&format!("/v1/c/{handle}/temperature")).bearer_auth(&token).body("1");
    let (status, error, challenge) = problem(denied).await;
    assert_eq!((status, error.as_str()), (StatusCode::FORBIDDEN, "insufficient_scope"));
    assert!(challenge.contains("insufficient_scope"));
    let long = api.post(&format!("/v1/c/{handle}/heater")).bearer_auth(&token).body(vec![b'x'; 70_000]);
    assert_eq!(problem(long).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn events_stream_until_the_grant_is_revoked() {
    let stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let mut device = device(&stack, "label1").await;
    let api = api(&stack);
    let mut answer = api.get("/v1/events?filter=d/%23").bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(device.publish_acked(1, "d/temperature", b"21.5").await, 0);
    let chunk = timeout(DEADLINE, answer.chunk()).await.unwrap().unwrap().unwrap();
    let text = std::str::from_utf8(&chunk).unwrap();
    let (id, data) = text.split_once('\n').unwrap();
    assert_eq!(id.strip_prefix("id: ").map(str::len), Some(22));
    let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap().trim_end()).unwrap();
    assert_eq!(event["payload"], json!(21.5));
    assert!(event["topic"].as_str().unwrap().ends_with("/temperature"));
    stack.didp.revoke("owner", "s-app");
    assert!(timeout(DEADLINE, answer.chunk()).await.unwrap().unwrap().is_none(), "the stream ends");
}

/// An event stream that was lost goes on where it was, with `Last-Event-ID`; under another grant there is nothing to go on with.
#[tokio::test]
async fn a_lost_event_stream_is_gone_on_with() {
    let stack = Stack::start().await;
    let [token, other] = ["s-app", "s-other"]
        .map(|sid| stack.didp.add_app("owner", sid, json!([app_detail("label1", &["read"])])));
    let mut device = device(&stack, "label1").await;
    let api = api(&stack);
    let open = async |token: &str, last: Option<&str>| {
        let mut request = api.get("/v1/events").bearer_auth(token);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.send().await.unwrap()
    };
    // The id and the payload of the next event; events may come in one chunk.
    let mut rest = String::new();
    let mut next = async |answer: &mut reqwest::Response| {
        while !rest.contains("\n\n") {
            let chunk = timeout(DEADLINE, answer.chunk()).await.unwrap().unwrap().unwrap();
            rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        let (event, more) = rest.split_once("\n\n").unwrap();
        let (id, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        let event = (id.strip_prefix("id: ").unwrap().to_owned(), data["payload"].as_u64().unwrap());
        rest = more.to_owned();
        event
    };
    let mut answer = open(&token, None).await;
    assert_eq!(device.publish_acked(1, "d/temperature", b"1").await, 0);
    let (id, payload) = next(&mut answer).await;
    assert_eq!(payload, 1);
    drop(answer);
    until("the loss is seen", async || {
        let ready = reqwest::get(format!("http://{}/readyz", stack.http)).await.unwrap();
        ready.json::<Value>().await.unwrap()["sessions"] == 1
    })
    .await;
    for payload in [&b"2"[..], b"3"] {
        assert_eq!(device.publish_acked(2, "d/temperature", payload).await, 0);
    }
    let mut foreign = open(&other, Some(&id)).await;
    let mut answer = open(&token, Some(&id)).await;
    // The first one may come twice: whether it was written before the loss cannot be known.
    let mut payloads = vec![next(&mut answer).await];
    while payloads.last().is_none_or(|last| last.1 != 3) {
        payloads.push(next(&mut answer).await);
    }
    assert!(payloads.iter().all(|(name, _)| *name == id));
    let numbers: Vec<u64> = payloads.iter().map(|event| event.1).filter(|number| *number != 1).collect();
    assert_eq!(numbers, [2, 3]);
    assert_eq!(device.publish_acked(4, "d/temperature", b"4").await, 0);
    assert_eq!((next(&mut answer).await.1, next(&mut foreign).await.1), (4, 4));
    assert_eq!(
        problem(api.get("/v1/events").bearer_auth(&token).header("last-event-id", "a/b")).await.0,
        400
    );
}

/// Checklist 16, and RFC 6750 §3.1.
#[tokio::test]
async fn tokens_come_in_the_header_and_nowhere_else() {
    let stack = Stack::start().await;
    let app = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let api = api(&stack);
    let none = problem(api.get("/v1/devices")).await;
    assert_eq!((none.0, none.2.as_str()), (StatusCode::UNAUTHORIZED, "Bearer"));
    let basic = problem(api.get("/v1/devices").basic_auth("Bearer", Some(&app))).await;
    assert_eq!(basic.0, StatusCode::UNAUTHORIZED);
    let in_url = problem(api.get(&format!("/v1/devices?access_token={app}")).bearer_auth(&app)).await;
    assert_eq!((in_url.0, in_url.1.as_str()), (StatusCode::BAD_REQUEST, "invalid_request"));
    for wrong in ["demo.unknown", "other.token", "nonsense"] {
        for path in ["/v1/devices", "/v1/events", "/v1/d/AAAAAAAAAAAAAAAAAAAAAA/temperature"] {
            let (status, error, challenge) = problem(api.get(path).bearer_auth(wrong)).await;
            assert_eq!(
                (status, error.as_str()),
                (StatusCode::UNAUTHORIZED, "invalid_token"),
                "{wrong} {path}"
            );
            assert!(challenge.contains("invalid_token"));
        }
    }
    let of_device = problem(api.get("/v1/devices").bearer_auth(&device)).await;
    assert_eq!(of_device.0, StatusCode::FORBIDDEN);
    stack.didp.set_down(true);
    let unknown = problem(api.get("/v1/devices").bearer_auth(&app)).await;
    assert_eq!((unknown.0, unknown.1.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable"));
}

#[tokio::test]
async fn what_is_not_granted_is_forbidden_and_what_is_no_topic_is_not_found() {
    let stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let api = api(&stack);
    let handle = api.handle(&token).await;
    let status = async |path: String| problem(api.get(&path).bearer_auth(&token)).await.0;
    assert_eq!(status(format!("/v1/d/{handle}/pressure")).await, StatusCode::FORBIDDEN);
    assert_eq!(status("/v1/d/label1/temperature".to_owned()).await, StatusCode::FORBIDDEN);
    assert_eq!(status(format!("/v1/d/{handle}/%23")).await, StatusCode::NOT_FOUND);
    assert_eq!(status(format!("/v1/d/{handle}/a%2Fb%2Fc%2Fd%2Fe")).await, StatusCode::NOT_FOUND);
    assert_eq!(status("/v1/events?filter=c/%23".to_owned()).await, StatusCode::FORBIDDEN);
    assert_eq!(status("/v1/events?filter=a%23".to_owned()).await, StatusCode::BAD_REQUEST);
    assert_eq!(status("/v2/devices".to_owned()).await, StatusCode::NOT_FOUND);
    until("no session is left", async || {
        let ready: Value = api.get("/readyz").send().await.unwrap().json().await.unwrap();
        ready["sessions"] == 0
    })
    .await;
}

#[tokio::test]
async fn pages_may_ask_from_anywhere_without_cookies() {
    let stack = Stack::start().await;
    let token = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));
    let api = api(&stack);
    let preflight = api
        .http
        .request(reqwest::Method::OPTIONS, format!("http://{}/v1/devices", stack.http))
        .header("Origin", "http://app.test")
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "authorization")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert_eq!(preflight.headers()["access-control-allow-origin"], "*");
    let allowed = |name: &str| preflight.headers()[name].to_str().unwrap().to_owned();
    for header in ["Authorization", "If-Match"] {
        assert!(allowed("access-control-allow-headers").contains(header));
    }
    assert!(allowed("access-control-allow-methods").contains("PATCH"));
    assert!(!preflight.headers().contains_key("access-control-allow-credentials"));
    for token in [token.as_str(), "demo.unknown"] {
        let request = api.get("/v1/devices").bearer_auth(token).header("Origin", "http://app.test");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["access-control-allow-origin"], "*", "errors can be read, too");
    }
}

#[tokio::test]
async fn configured_origins_are_the_only_ones() {
    let stack = Stack::with(|config| config.cors_origins = vec!["http://app.test".to_owned()]).await;
    let api = api(&stack);
    for (origin, allowed) in [("http://app.test", true), ("http://evil.test", false)] {
        let answer = api.get("/v1/devices").header("Origin", origin).send().await.unwrap();
        assert_eq!(answer.headers().contains_key("access-control-allow-origin"), allowed, "{origin}");
    }
}
