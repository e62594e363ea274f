//! A DIdP as gateways see it, held in memory and controlled by the test.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use serde_json::{Value, json};
use tokio::sync::watch;

pub const ISSUER: &str = "http://didp.test";
pub const CLIENT: &str = "gateway";
pub const SECRET: &str = "gateway-secret";

/// What a test sees and sets.
#[derive(Default)]
pub struct Facts {
    /// Introspection answers by token; all others are inactive.
    pub tokens: HashMap<String, Value>,
    /// Grants by owner.
    pub grants: HashMap<String, Vec<Value>>,
    /// All events so far.
    pub events: Vec<Value>,
    /// Every request is answered with 503, streams end.
    pub down: bool,
    /// Streams end and none begins; everything else is answered.
    pub streams_fail: bool,
    /// Requests are taken and never answered.
    pub hangs: bool,
    /// The next token that is asked about dies when its answer is made, before it arrives; its grant stays.
    pub revoke_next: bool,
    /// Questions about grants are answered once this is false again.
    pub grants_wait: bool,
    /// Tokens that were asked about.
    pub asked: Vec<String>,
    /// How long a question about a token takes.
    pub takes: Duration,
    /// Questions about tokens that are under way, and the most that ever were.
    pub under_way: (usize, usize),
    /// Questions about grants are answered with 503.
    pub grants_fail: bool,
    /// How often grants were asked for.
    pub grant_requests: usize,
    /// How often that was answered.
    pub grant_answers: usize,
    /// `Last-Event-ID` of each stream that began.
    pub streams: Vec<Option<String>>,
}

impl Facts {
    fn rev(&self, sub: &str) -> i64 {
        let of_sub = |event: &&Value| event["sub"] == sub;
        self.events.iter().rev().find(of_sub).and_then(|event| event["seq"].as_i64()).unwrap_or(0)
    }
}

/// The DIdP.
pub struct Didp {
    pub address: SocketAddr,
    /// What its tokens begin with.
    pub tag: &'static str,
    pub issuer: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    facts: Mutex<Facts>,
    changed: watch::Sender<()>,
}

impl Didp {
    pub async fn start() -> Self {
        Self::start_as("demo", ISSUER).await
    }

    pub async fn start_as(tag: &'static str, issuer: &'static str) -> Self {
        let shared = Arc::new(Shared { facts: Mutex::default(), changed: watch::Sender::new(()) });
        let router = Router::new()
            .route("/introspect", post(introspect))
            .route("/introspect/grants", post(grants))
            .route("/introspect/events", get(events))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = service::Shutdown::new();
        let admission = service::net::Admission::new(1_000, 1_000);
        drop(listener);
        let listener = service::net::Listener::bind(&address.to_string()).await.unwrap();
        tokio::spawn(service::http::serve(listener, router, admission, shutdown));
        Self { address, tag, issuer, shared }
    }

    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.shared.facts.lock().unwrap()
    }

    /// A device of `owner`, connected as `sid`; its token.
    pub fn add_device(&self, owner: &str, sid: &str, label: &str) -> String {
        let scope = "data:publish command:subscribe";
        self.add(owner, sid, Some(label), scope, json!([super::device_detail(label)]))
    }

    /// An app of `owner` with these objects; its token.
    pub fn add_app(&self, owner: &str, sid: &str, details: Value) -> String {
        self.add(owner, sid, None, "data:subscribe command:publish", details)
    }

    fn add(&self, owner: &str, sid: &str, label: Option<&str>, scope: &str, details: Value) -> String {
        let token = format!("{}.token-of-{sid}-{}", self.tag, self.facts().tokens.len());
        let mut answer = json!({
            "active": true, "iss": self.issuer, "sub": owner, "aud": super::RESOURCE, "exp": now() + 3600,
            "scope": scope, "authorization_details": details, "sid": sid, "rev": 0, "state_share": "c2hhcmU",
        });
        if let Some(label) = label {
            answer["label"] = json!(label);
        }
        let mut facts = self.facts();
        facts.tokens.insert(token.clone(), answer);
        let grants = facts.grants.entry(owner.to_owned()).or_default();
        grants.retain(|grant| grant["sid"] != sid);
        grants.push(json!({"sid": sid, "authorization_details": details, "rev": 0}));
        token
    }

    /// Another token of the same grant.
    pub fn another_token(&self, token: &str) -> String {
        let mut facts = self.facts();
        let answer = facts.tokens[token].clone();
        let other = format!("{token}-next");
        facts.tokens.insert(other.clone(), answer);
        other
    }

    /// Kills a token without a word.
    pub fn kill(&self, token: &str) {
        self.facts().tokens.remove(token);
    }

    /// Says that something happened.
    pub fn say(&self, kind: &str, name: &str, value: &str) {
        let mut facts = self.facts();
        let seq = facts.events.len() + 1;
        facts.events.push(json!({"seq": seq, name: value, "kind": kind}));
        drop(facts);
        self.shared.changed.send_replace(());
    }

    /// Revokes a grant: its tokens die, its owner's grants change.
    pub fn revoke(&self, owner: &str, sid: &str) {
        let mut facts = self.facts();
        facts.tokens.retain(|_, answer| answer["sid"] != sid);
        if let Some(grants) = facts.grants.get_mut(owner) {
            grants.retain(|grant| grant["sid"] != sid);
        }
        drop(facts);
        self.say("changed", "sub", owner);
        self.say("revoked", "sid", sid);
    }

    /// Replaces what a grant covers.
    pub fn narrow(&self, owner: &str, sid: &str, details: Value) {
        let mut facts = self.facts();
        for answer in facts.tokens.values_mut().filter(|answer| answer["sid"] == sid) {
            answer["authorization_details"] = details.clone();
        }
        for grant in facts.grants.get_mut(owner).unwrap().iter_mut().filter(|grant| grant["sid"] == sid) {
            grant["authorization_details"] = details.clone();
        }
        drop(facts);
        self.say("changed", "sub", owner);
    }

    /// Answers questions about grants, or lets them wait.
    pub fn set_grants_wait(&self, wait: bool) {
        self.facts().grants_wait = wait;
        self.shared.changed.send_replace(());
    }

    /// Ends the streams, or lets them begin again.
    pub fn set_streams_fail(&self, fail: bool) {
        self.facts().streams_fail = fail;
        self.shared.changed.send_replace(());
    }

    /// Lets a token end so many seconds from now.
    pub fn set_end(&self, token: &str, seconds: i64) {
        self.facts().tokens.get_mut(token).unwrap()["exp"] = json!(now() + seconds);
    }

    /// Goes away or comes back.
    pub fn set_down(&self, down: bool) {
        self.facts().down = down;
        self.shared.changed.send_replace(());
    }
}

pub fn now() -> i64 {
    service::Clock::system().now()
}

fn refused(headers: &HeaderMap, facts: &Facts) -> Option<Response> {
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("{CLIENT}:{SECRET}"));
    let given = headers.get("authorization").and_then(|value| value.to_str().ok());
    if given != Some(format!("Basic {expected}").as_str()) {
        return Some(StatusCode::UNAUTHORIZED.into_response());
    }
    facts.down.then(|| StatusCode::SERVICE_UNAVAILABLE.into_response())
}

async fn introspect(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let takes = {
        let mut facts = shared.facts.lock().unwrap();
        facts.under_way.0 += 1;
        facts.under_way.1 = facts.under_way.1.max(facts.under_way.0);
        facts.takes
    };
    tokio::time::sleep(takes).await;
    shared.facts.lock().unwrap().under_way.0 -= 1;
    let (answer, revoked) = introspection(&shared, &headers, &form);
    if shared.facts.lock().unwrap().hangs {
        return std::future::pending().await;
    }
    if let Some(owner) = revoked {
        let address = ([127, 0, 0, 1], 0).into();
        let didp = Didp { address, tag: "demo", issuer: ISSUER, shared: Arc::clone(&shared) };
        didp.kill(&form["token"]);
        didp.say("changed", "sub", &owner);
        // The event overtakes the answer.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    answer
}

fn introspection(
    shared: &Shared,
    headers: &HeaderMap,
    form: &HashMap<String, String>,
) -> (Response, Option<String>) {
    let mut facts = shared.facts.lock().unwrap();
    facts.asked.push(form["token"].clone());
    if let Some(refused) = refused(headers, &facts) {
        return (refused, None);
    }
    let Some(answer) = facts.tokens.get(&form["token"]) else {
        return (Json(json!({"active": false})).into_response(), None);
    };
    let mut answer = answer.clone();
    let owner = answer["sub"].as_str().unwrap().to_owned();
    answer["rev"] = json!(facts.rev(&owner));
    let revoked = std::mem::take(&mut facts.revoke_next).then_some(owner);
    (Json(answer).into_response(), revoked)
}

async fn grants(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Form(form): Form<HashMap<String, String>>,
) -> Response {
    let mut changed = shared.changed.subscribe();
    shared.facts.lock().unwrap().grant_requests += 1;
    while shared.facts.lock().unwrap().grants_wait {
        changed.changed().await.unwrap();
    }
    let mut facts = shared.facts.lock().unwrap();
    if let Some(refused) = refused(&headers, &facts) {
        return refused;
    }
    if facts.grants_fail {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    facts.grant_answers += 1;
    let sub = &form["sub"];
    let grants = facts.grants.get(sub).cloned().unwrap_or_default();
    Json(json!({"sub": sub, "rev": facts.rev(sub), "grants": grants})).into_response()
}

async fn events(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let (first, mut at) = {
        let mut facts = shared.facts.lock().unwrap();
        let last = headers.get("last-event-id").map(|id| id.to_str().unwrap().to_owned());
        facts.streams.push(last.clone());
        if let Some(refused) = refused(&headers, &facts) {
            return refused;
        }
        if facts.streams_fail {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let head = facts.events.len();
        match last {
            None => (format!("id: {head}\ndata: {{\"seq\":{head},\"kind\":\"head\"}}\n\n"), head),
            Some(id) => (String::new(), id.parse::<usize>().unwrap()),
        }
    };
    let mut changed = shared.changed.subscribe();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<String, Infallible>>(16);
    tokio::spawn(async move {
        let _ = sender.send(Ok(first)).await;
        loop {
            let new: Vec<Value> = {
                let facts = shared.facts.lock().unwrap();
                if facts.down || facts.streams_fail {
                    return;
                }
                facts.events[at.min(facts.events.len())..].to_vec()
            };
            for event in new {
                at += 1;
                if sender.send(Ok(format!("id: {at}\ndata: {event}\n\n"))).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep(Duration::from_secs(5)) => {
                    if sender.send(Ok(":\n\n".to_owned())).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver)).into_response()
}
