//! The factory between a DIdP that comes late, devices on its floor and a browser.

#![allow(clippy::unwrap_used, reason = "what these expect is what they test")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use factory::{Config, Listeners};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use service::Shutdown;
use service::net::{Admission, Listener};

/// What the pretended DIdP and devices saw.
#[derive(Default)]
struct Seen {
    down: bool,
    registrations: Vec<(String, String, Value)>,
    made: usize,
}

type World = Arc<Mutex<Seen>>;

struct Stack {
    _dir: tempfile::TempDir,
    world: World,
    page: String,
    floor: String,
    shutdown: Shutdown,
    http: reqwest::Client,
}

async fn register(State(world): State<World>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    let mut seen = world.lock().unwrap();
    if seen.down {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let text = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
    seen.registrations.push((text("authorization"), text("idempotency-key"), body));
    let answer = json!({
        "client_id": text("idempotency-key"), "client_secret": "only-for-the-device", "registration_access_token": "nor-this",
        "user_registration_uri": format!("http://didp.localhost:8080/r/{}", text("idempotency-key")),
        "mqtt": {"host": "didp.localhost", "port": 8884, "spki_sha256": ["x"]},
    });
    (StatusCode::CREATED, Json(answer)).into_response()
}

async fn make(State(world): State<World>) -> StatusCode {
    world.lock().unwrap().made += 1;
    StatusCode::CREATED
}

async fn serve(router: Router, shutdown: &Shutdown) -> SocketAddr {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(service::http::serve(listener, router, Admission::new(64, 64), shutdown.clone()));
    address
}

fn config(dir: &Path, peers: SocketAddr) -> Config {
    let text = format!(
        r#"
listen = "127.0.0.1:0"
floor_listen = "127.0.0.1:0"
directory = "ledger"
public_url = "http://factory.localhost:8095"
panel_url = "http://device.localhost:8096"
tpa_url = "http://tpa.localhost:8090"
account_url = "http://didp.localhost:8080/account"
didp = "http://{peers}"
initial_access_token_file = "token"
device_floor = "http://{peers}"
"#
    );
    std::fs::write(dir.join("factory.toml"), text).unwrap();
    std::fs::write(dir.join("token"), "initial\n").unwrap();
    Config::load(&dir.join("factory.toml")).unwrap()
}

async fn stack() -> Stack {
    let dir = tempfile::tempdir().unwrap();
    let (world, shutdown) = (World::default(), Shutdown::new());
    let router = Router::new().route("/register", post(register)).route("/make", post(make));
    let peers = serve(router.with_state(Arc::clone(&world)), &shutdown).await;
    let config = config(dir.path(), peers);
    let page = Listener::bind("127.0.0.1:0").await.unwrap();
    let floor = Listener::bind("127.0.0.1:0").await.unwrap();
    let urls = [&page, &floor].map(|listener| format!("http://{}", listener.local_addr().unwrap()));
    let [page_url, floor_url] = urls;
    tokio::spawn(factory::run(config, Listeners { page, floor }, shutdown.clone()));
    let http =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    Stack { _dir: dir, world, page: page_url, floor: floor_url, shutdown, http }
}

impl Stack {
    async fn flash(&self, body: Value) -> (StatusCode, Value) {
        let answer = self.http.post(format!("{}/flash", self.floor)).json(&body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
        let answer = self.http.get(format!("{}{path}", self.page)).send().await.unwrap();
        (answer.status(), answer.headers().clone(), answer.bytes().await.unwrap().to_vec())
    }

    async fn text(&self, path: &str) -> String {
        String::from_utf8(self.get(path).await.2).unwrap()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

#[tokio::test]
async fn a_device_gets_its_credentials_and_the_factory_forgets_them() {
    let stack = stack().await;
    let asked = json!({"hardware_id": "02-aa", "model": "T1"});
    stack.world.lock().unwrap().down = true;
    assert_eq!(stack.flash(asked.clone()).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(stack.text("/devices.json").await, "[]");
    stack.world.lock().unwrap().down = false;

    let (status, answer) = stack.flash(asked.clone()).await;
    assert_eq!((status, &answer["client_secret"]), (StatusCode::OK, &json!("only-for-the-device")));
    let members: Vec<_> = answer.as_object().unwrap().keys().collect();
    assert_eq!(
        members,
        ["client_id", "client_secret", "mqtt"],
        "a device gets no printed code and no key to its registration"
    );
    // The reply may be lost on the floor: the same again, and no second client.
    assert_eq!(stack.flash(asked.clone()).await, (StatusCode::OK, answer));
    {
        let seen = stack.world.lock().unwrap();
        let [(authorization, _, metadata)] = &seen.registrations[..] else { panic!("one registration") };
        assert_eq!(authorization, "Bearer initial");
        assert_eq!(metadata["device"]["confirm"], "code");
    }
    let done = stack.http.post(format!("{}/flash/done", stack.floor)).json(&json!({"hardware_id": "02-aa"}));
    assert_eq!(done.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(stack.flash(asked).await.0, StatusCode::CONFLICT);

    let devices: Value = serde_json::from_str(&stack.text("/devices.json").await).unwrap();
    assert_eq!((&devices[0]["n"], &devices[0]["flashed"]), (&json!(1), &json!(true)));
    for path in ["/", "/line", "/devices.json", "/label/1.svg"] {
        let text = stack.text(path).await;
        assert!(
            !text.contains("only-for-the-device")
                && !text.contains("nor-this")
                && !text.contains("initial\n"),
            "{path}"
        );
    }
    let ledger = std::fs::read_to_string(stack._dir.path().join("ledger/devices.json")).unwrap();
    assert!(!ledger.contains("only-for-the-device") && !ledger.contains("nor-this"));
}

#[tokio::test]
async fn the_floor_takes_no_nonsense() {
    let stack = stack().await;
    for bad in [
        json!({}),
        json!({"hardware_id": "", "model": "T1"}),
        json!({"hardware_id": "../x", "model": "T1"}),
        json!({"hardware_id": "x".repeat(65), "model": "T1"}),
        json!({"hardware_id": "02-aa", "model": "T2"}),
        json!({"hardware_id": "02-aa", "model": "T1", "more": 1}),
    ] {
        let (status, answer) = stack.flash(bad.clone()).await;
        assert!(status.is_client_error() && answer["error"].is_string(), "{bad} gives {status}");
    }
    let large = json!({"hardware_id": "02-aa", "model": "x".repeat(5000)});
    assert!(stack.flash(large).await.0.is_client_error());
    assert!(stack.world.lock().unwrap().registrations.is_empty());
    // The floor's doors are not on the page's side, and the other way round.
    for path in ["/flash", "/flash/done"] {
        let answer = stack.http.post(format!("{}{path}", stack.page)).header("sec-fetch-site", "same-origin");
        assert_eq!(answer.send().await.unwrap().status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn the_page_tells_the_story_in_order_with_links_from_the_configuration() {
    let stack = stack().await;
    let (status, headers, body) = stack.get("/").await;
    assert_eq!(status, StatusCode::OK);
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
    let page = String::from_utf8(body).unwrap();
    let order =
        ["Scan the label", "device.localhost:8096", "tpa.localhost:8090", "didp.localhost:8080/account"];
    let places: Vec<_> =
        order.iter().map(|text| page.find(text).unwrap_or_else(|| panic!("{text}"))).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(!page.contains("<script>") && !page.contains("style="), "the policy allows neither");
}

#[tokio::test]
async fn labels_are_drawn_for_devices_that_there_are() {
    let stack = stack().await;
    stack.flash(json!({"hardware_id": "02-aa", "model": "T1"})).await;
    for (path, kind) in
        [("/label/1.svg", "image/svg+xml"), ("/label/1.png", "image/png"), ("/qr/1.svg", "image/svg+xml")]
    {
        let (status, headers, _) = stack.get(path).await;
        assert_eq!((status, headers["content-type"].to_str().unwrap()), (StatusCode::OK, kind), "{path}");
    }
    for path in ["/label/2.svg", "/label/1.gif", "/label/x.svg", "/label/1"] {
        assert_eq!(stack.get(path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn only_the_own_page_orders_one_more() {
    let stack = stack().await;
    let order = |site: &'static str| {
        stack.http.post(format!("{}/make", stack.page)).header("sec-fetch-site", site).send()
    };
    assert_eq!(order("cross-site").await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(stack.world.lock().unwrap().made, 0);
    assert_eq!(order("same-origin").await.unwrap().status(), StatusCode::SEE_OTHER);
    assert_eq!(stack.world.lock().unwrap().made, 1);
}
