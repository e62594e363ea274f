//! Several DIdPs on one PostgreSQL: what happens at one reaches devices, gateways and pages at the others, and any may die.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use didp::flows::claim::{self, Attempt, ClaimState};
use didp::flows::{account, login::Session};
use mqtt_wire::{ReasonCode, Version};
use serde_json::{Value, json};

use crate::harness::{
    Came, Device, Didp, Events, GATEWAY, Mqtt, configuration, press, redemption, refreshing, text,
};
use crate::postgres::{self, Server};

/// A DIdP in a process of its own, which can be killed.
struct Process {
    child: Child,
    http: String,
    mqtt: SocketAddr,
}

impl Process {
    /// Starts in the directory of another one, on ports that were free a moment ago.
    fn start(dir: &std::path::Path, database: &str) -> Self {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for _ in 0..20 {
            let (http, mqtt) = (free(), free());
            let listen = format!("listen = {{ http = \"{http}\", mqtt = \"{mqtt}\" }}");
            std::fs::write(dir.join("didp.toml"), configuration(&listen, database)).unwrap();
            let mut child = Command::new(env!("CARGO_BIN_EXE_didp"))
                .arg("serve")
                .current_dir(dir)
                .env("OAUTHING_LOG", "info")
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
            if lines.any(|line| line.contains("serving")) {
                // Somebody has to read what it says, as long as it lives.
                std::thread::spawn(move || lines.for_each(drop));
                return Self { child, http: format!("http://{http}"), mqtt };
            }
            let _ = child.wait();
        }
        panic!("didp did not start");
    }

    async fn connect(&self, device: &Device) -> Mqtt {
        Mqtt::login(self.mqtt, Version::V5, &device.client_id, &device.secret).await.unwrap()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One in this process, one in another, on the same database.
async fn two(test: &str) -> Option<(Server, Didp, Process)> {
    if !postgres::is_there_for(test) {
        return None;
    }
    let server = Server::start();
    let database = server.database();
    let here = Didp::start_on(&database, None).await;
    let there = Process::start(here.dir(), &database);
    // Each knows that the other lives after its next sign of life.
    here.until(async || here.app.peers.others() == 1).await;
    Some((server, here, there))
}

/// The device opens a window where it is connected; the owner answers `here`.
async fn matched(here: &Didp, owner: &Session, device: &Device, mqtt: &mut Mqtt) -> String {
    let window = mqtt.ask("claim", &press(&device.verifier)).await;
    let typed = window["user_code"].as_str().unwrap();
    match claim::confirm(&here.app, owner, &device.code, typed).await.unwrap() {
        Attempt::Matched { ticket } => ticket,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn claims_and_revocations_reach_another_replica_and_the_device_survives_its_death() {
    let Some((_server, here, there)) = two("replicas, the device's is killed").await else { return };
    let anna = here.owner("anna").await;
    let mut device = here.device("code").await;
    let mut mqtt = there.connect(&device).await;
    let ticket = matched(&here, &anna, &device, &mut mqtt).await;
    assert_eq!(mqtt.message().await.1, json!({"status": "window_open", "expires_in": 300}));
    let state = claim::accept(&here.app, &anna, &ticket, None).await.unwrap();
    assert_eq!(state, ClaimState::Waiting);
    let granted = mqtt.message().await.1;
    let tokens = mqtt.ask("token", &redemption(&text(&granted["code"]), &device.verifier)).await;
    device.secret = text(&tokens["client_secret"]);

    // The page waits here; the report comes there.
    let page = claim::wait(&here.app, &anna, &ticket, &ClaimState::Waiting);
    let nothing = json!({});
    let (view, done) = tokio::join!(page, mqtt.ask("claim/done", &nothing));
    assert_eq!(done, json!({}));
    assert!(matches!(view.unwrap().unwrap().state, ClaimState::Done { .. }));
    let overview = account::overview(&here.app, &anna).await.unwrap();
    here.until(async || account::overview(&here.app, &anna).await.unwrap().devices[0].online).await;

    // A gateway listens there; a withdrawal happens here.
    let mut events = Events::open_at(&there.http, None).await;
    let head = events.next().await["seq"].as_i64().unwrap();
    let (_, app_tokens) = here.allowed(&anna, "none").await;
    let mut seen = Vec::new();
    let apps = account::overview(&here.app, &anna).await.unwrap().apps;
    seen.push(events.next().await);
    let withdrawn = Instant::now();
    assert!(account::withdraw(&here.app, &anna, &apps[0].id).await.unwrap());
    while seen.last().unwrap()["kind"] != "revoked" {
        seen.push(events.next().await);
    }
    assert!(withdrawn.elapsed() < Duration::from_secs(1), "{:?}", withdrawn.elapsed());
    assert!(!here.is_active(&text(&app_tokens["access_token"])).await);
    seen.push(events.next().await);
    let numbers: Vec<i64> = seen.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    let expected: Vec<i64> = (head + 1..=head + 3).collect();
    assert_eq!(numbers, expected, "no gap, in order");

    // The replica dies; device and gateway go on here, where they stopped.
    there.kill();
    assert_eq!(mqtt.next().await, Came::Closed);
    let mut mqtt = here.connect(&device).await;
    let refreshed = mqtt.ask("token", &refreshing(&tokens)).await;
    assert!(here.is_active(&text(&refreshed["access_token"])).await);
    let mut events = Events::open(&here, Some(head + 3)).await;
    assert!(account::release(&here.app, &anna, &overview.devices[0].id).await.unwrap());
    assert_eq!(events.next().await["seq"], head + 4);
}

#[tokio::test]
async fn what_a_dead_replica_left_is_ended_by_the_others() {
    let Some((_server, here, there)) = two("replicas, a window's is killed").await else { return };
    let anna = here.owner("anna").await;
    let device = here.device("code").await;
    let mut mqtt = there.connect(&device).await;
    let ticket = matched(&here, &anna, &device, &mut mqtt).await;
    there.kill();
    let page = claim::wait(&here.app, &anna, &ticket, &ClaimState::Deciding).await.unwrap().unwrap();
    assert_eq!(page.state, ClaimState::Gone);
    here.until(async || here.app.peers.others() == 0).await;
    let mut mqtt = here.connect(&device).await;
    let ticket = matched(&here, &anna, &device, &mut mqtt).await;
    assert_eq!(claim::accept(&here.app, &anna, &ticket, None).await.unwrap(), ClaimState::Waiting);
}

#[tokio::test]
async fn the_replica_where_the_owner_acted_may_die_too() {
    let Some((_server, here, there)) = two("replicas, the owner's is killed").await else { return };
    let anna = here.owner("anna").await;
    let (device, mut mqtt, tokens) = here.claimed(&anna).await;
    // The owner's session and the gateway's question are as good at the other one.
    let refused = reqwest::Client::new()
        .post(format!("{}/introspect", there.http))
        .basic_auth(GATEWAY.0, Some(GATEWAY.1))
        .form(&[("token", text(&tokens["access_token"]))]);
    let answer: Value = refused.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["active"], true);
    // The same device connects there: the older connection here is told to go.
    let newer = there.connect(&device).await;
    assert_eq!(mqtt.next().await, Came::Goodbye(ReasonCode::SESSION_TAKEN_OVER));
    drop(newer);
    there.kill();
    let mut mqtt = here.connect(&device).await;
    assert!(mqtt.ask("token", &refreshing(&tokens)).await["access_token"].is_string());
}

#[tokio::test]
async fn of_two_siblings_that_are_used_at_two_replicas_at_once_one_lives() {
    if !postgres::is_there_for("replicas, races") {
        return;
    }
    let server = Server::start();
    let database = server.database();
    let one = Didp::start_on(&database, None).await;
    let other = Didp::start_on(&database, Some(one.dir())).await;
    let anna = one.owner("anna").await;
    let (client, mut tokens) = one.allowed(&anna, "client_secret_basic").await;
    for round in 0..20 {
        let parent = text(&tokens["refresh_token"]);
        let ((_, a), (_, b)) = tokio::join!(one.refresh(&client, &parent), other.refresh(&client, &parent));
        let (a_token, b_token) = (text(&a["access_token"]), text(&b["access_token"]));
        let (a_lives, b_lives) = tokio::join!(one.is_active(&a_token), other.is_active(&b_token));
        assert!(a_lives != b_lives, "round {round}: {a_lives} {b_lives}");
        assert_eq!(other.is_active(&a_token).await, a_lives);
        assert_eq!(one.is_active(&b_token).await, b_lives);
        tokens = if a_lives { a } else { b };
    }
}

#[tokio::test]
async fn a_lost_database_is_said_and_loses_nothing_that_was_acknowledged() {
    if !postgres::is_there_for("a lost database") {
        return;
    }
    let mut server = Server::start();
    let didp = Didp::start_on(&server.database(), None).await;
    let anna = didp.owner("anna").await;
    let (device, mut mqtt, tokens) = didp.claimed(&anna).await;
    let tokens = mqtt.ask("token", &refreshing(&tokens)).await;
    server.kill();
    let (status, answer) = didp.form("/introspect", Some(GATEWAY), &[("token", "x")]).await;
    assert_eq!((status, &answer["error"]), (503, &json!("temporarily_unavailable")));
    assert_eq!(mqtt.ask("token", &refreshing(&tokens)).await["error"], "temporarily_unavailable");
    let refused = Mqtt::login(didp.mqtt_address(), Version::V5, &device.client_id, &device.secret).await;
    assert_eq!(refused.err(), Some(ReasonCode::SERVER_UNAVAILABLE));
    assert_eq!(didp.http.get(didp.url("/readyz")).send().await.unwrap().status(), 503);
    server.restart();
    didp.until(async || didp.http.get(didp.url("/readyz")).send().await.unwrap().status() == 204).await;
    assert!(didp.is_active(&text(&tokens["access_token"])).await);
    assert!(mqtt.ask("token", &refreshing(&tokens)).await["access_token"].is_string());
}
