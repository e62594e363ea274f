//! The program: command line, configuration errors, signals, and what survives a kill.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use mqtt_wire::{ReasonCode, Version};
use serde_json::{Value, json};

use crate::harness::{Mqtt, device_metadata, press, text};

const CONFIG: &str = r#"
issuer = "http://127.0.0.1:1"
tag = "test"
keys_dir = "keys"
database = "didp.sqlite"
mqtt = { host = "localhost", port = 8884 }
listen = { http = "127.0.0.1:${DIDP_TEST_PORT}", mqtt = "127.0.0.1:${DIDP_TEST_MQTT_PORT:-0}" }

[[gateway]]
client_id = "ignite"
secret_file = "gateway"
resource = "http://ignite.test"
host = "ignite.test"
port = 8883
[[manufacturer]]
id = "maker"
name = "Maker"
initial_access_token_file = "manufacturer"
"#;

fn didp(dir: &Path, port: u16, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_didp"));
    command.args(args).current_dir(dir).env("DIDP_TEST_PORT", port.to_string()).env("OAUTHING_LOG", "info");
    command
}

fn output(dir: &Path, args: &[&str]) -> Output {
    didp(dir, 1, args).output().unwrap()
}

fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in
        [("didp.toml", CONFIG), ("gateway", "secret of the gateway"), ("manufacturer", "token")]
    {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    assert!(output(dir.path(), &["keys", "init", "--dir", "keys"]).status.success());
    dir
}

#[test]
fn check_config_names_file_and_line() {
    let dir = prepared();
    let check = || output(dir.path(), &["check-config", "--config", "didp.toml"]);
    assert!(check().status.success());
    let breaking = [
        ("port = 8883", "prot = 8883", "didp.toml:14: "),
        ("issuer = \"http://127.0.0.1:1\"", "issuer = \"127.0.0.1\"", "didp.toml:2: "),
        ("secret_file = \"gateway\"", "secret_file = \"nowhere\"", "didp.toml:11: "),
        ("keys_dir = \"keys\"", "keys_dir = \"nowhere\"", "didp.toml:4: "),
        (
            "initial_access_token_file = \"manufacturer\"",
            "initial_access_token_file = \"x\"",
            "didp.toml:18: ",
        ),
    ];
    for (from, to, line) in breaking {
        std::fs::write(dir.path().join("didp.toml"), CONFIG.replace(from, to)).unwrap();
        let output = check();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(said.starts_with(line), "{said}");
    }
    assert_eq!(output(dir.path(), &["no-such-command"]).status.code(), Some(2));
}

/// A DIdP process; killed when the test ends, however it ends.
struct Running {
    child: Child,
    port: u16,
    mqtt: SocketAddr,
    /// What it said since it serves.
    said: std::sync::mpsc::Receiver<String>,
}

impl Running {
    /// Starts on a port that was free a moment ago; another one is tried if somebody took it.
    fn start(dir: &Path) -> Self {
        Self::launch(|port| didp(dir, port, &["serve"]))
    }

    /// Starts with a disk on which no file can grow beyond 2 MB.
    fn start_on_small_disk(dir: &Path) -> Self {
        Self::launch(|port| {
            let didp = didp(dir, port, &["serve"]);
            let mut shell = Command::new("sh");
            shell.args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" serve"]).arg(didp.get_program());
            shell.current_dir(dir).env("DIDP_TEST_PORT", port.to_string()).env("OAUTHING_LOG", "info");
            shell
        })
    }

    fn launch(command: impl Fn(u16) -> Command) -> Self {
        for _ in 0..20 {
            // Both are held until both are known, so that they differ.
            let both = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
            let [port, mqtt] = both.map(|listener| listener.local_addr().unwrap());
            let port = port.port();
            let mut command = command(port);
            command.env("DIDP_TEST_MQTT_PORT", mqtt.port().to_string()).env("OAUTHING_LOG_FORMAT", "json");
            let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
            let told = lines.find(|line| line.contains("serving") || line.contains("cannot listen"));
            if told.is_some_and(|line| line.contains("serving")) {
                // Somebody has to read what it says, as long as it lives.
                let (say, said) = std::sync::mpsc::channel();
                std::thread::spawn(move || {
                    for line in lines {
                        let _ = say.send(line);
                    }
                });
                return Self { child, port, mqtt, said };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("didp did not start");
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The next security event; other lines go to `others`.
    fn event(&self, others: &mut Vec<String>) -> Value {
        loop {
            let line = self.said.recv_timeout(std::time::Duration::from_secs(20)).expect("a security event");
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["target"] == "audit" {
                return event;
            }
            others.push(line);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_was_answered_survives_kill_9_and_sigterm_ends_with_0() {
    let dir = prepared();
    let first = Running::start(dir.path());
    let http = reqwest::Client::new();
    let request = http.post(first.url("/register")).bearer_auth("token").json(&device_metadata("code"));
    let device: Value = request.send().await.unwrap().json().await.unwrap();
    drop(first);

    let mut second = Running::start(dir.path());
    let health = output(dir.path(), &["healthcheck", &second.url("/readyz")]);
    assert!(health.status.success());
    let management = format!("/register/{}", text(&device["client_id"]));
    let token = text(&device["registration_access_token"]);
    let read = http.get(second.url(&management)).bearer_auth(token).send().await.unwrap();
    assert_eq!(read.status(), 200);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.path().join("didp.sqlite")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);

    let pid = second.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(second.child.wait().unwrap().code(), Some(0));
    let url = second.url("/readyz");
    assert_eq!(output(dir.path(), &["healthcheck", &url]).status.code(), Some(1));
}

#[tokio::test]
async fn a_full_disk_is_said_and_loses_nothing_that_was_acknowledged() {
    let dir = prepared();
    let small = Running::start_on_small_disk(dir.path());
    let http = reqwest::Client::new();
    let mut acknowledged = Vec::new();
    let batch = Value::from(vec![device_metadata("code"); 50]);
    let refused = loop {
        // Several at once, so that they share commits.
        let request = || http.post(small.url("/register/batch")).bearer_auth("token").json(&batch).send();
        let (one, other) = tokio::join!(request(), request());
        let answers = [one.unwrap(), other.unwrap()];
        let mut refused = None;
        for answer in answers {
            match answer.status().as_u16() {
                201 => acknowledged.extend(answer.json::<Vec<Value>>().await.unwrap()),
                _ => refused = Some(answer),
            }
        }
        if let Some(refused) = refused {
            break refused;
        }
        assert!(acknowledged.len() < 100_000, "the disk is never full");
    };
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "1");
    assert_eq!(refused.json::<Value>().await.unwrap()["error"], "temporarily_unavailable");
    assert!(!acknowledged.is_empty());
    // What is left is too little for one more registration, and then for a press.
    let one = || http.post(small.url("/register")).bearer_auth("token").json(&device_metadata("code")).send();
    loop {
        let answer = one().await.unwrap();
        if answer.status() != 201 {
            break;
        }
        acknowledged.push(answer.json().await.unwrap());
    }
    let login = async |didp: &Running, device: &Value| {
        let (user, password) = (text(&device["client_id"]), text(&device["client_secret"]));
        Mqtt::login(didp.mqtt, Version::V5, &user, &password).await
    };
    let mut mqtt = login(&small, &acknowledged[0]).await.expect("who a device is can still be read");
    let mut presses = 0;
    loop {
        let answer = mqtt.ask("claim", &press("v")).await;
        if answer["error"] == "temporarily_unavailable" {
            break;
        }
        presses += 1;
        assert!(answer["status"] == "window_open" && presses < 25, "{answer}");
    }
    let read = async |didp: &Running, device: &Value| {
        let path = format!("/register/{}", text(&device["client_id"]));
        let token = text(&device["registration_access_token"]);
        http.get(didp.url(&path)).bearer_auth(token).send().await.unwrap().status()
    };
    assert_eq!(read(&small, &acknowledged[0]).await, 200, "reading goes on");
    drop(small);

    let didp = Running::start(dir.path());
    for device in &acknowledged {
        assert_eq!(read(&didp, device).await, 200);
    }
    let mut mqtt = login(&didp, &acknowledged[0]).await.unwrap();
    assert_eq!(mqtt.ask("claim", &press("v")).await["status"], "window_open");
    let again = http.post(didp.url("/register/batch")).bearer_auth("token").json(&batch);
    assert_eq!(again.send().await.unwrap().status(), 201);
}

/// What an operator does beside a DIdP that runs, for a manufacturer whose batch leaked or whose unit is broken.
#[tokio::test]
async fn a_batch_is_withdrawn_and_a_unit_replaced_by_command() {
    let dir = prepared();
    let didp = Running::start(dir.path());
    let mut metadata = device_metadata("code");
    metadata["device"]["batch"] = json!("2026-11");
    let batch = Value::from(vec![metadata; 25]);
    let request = reqwest::Client::new().post(didp.url("/register/batch")).bearer_auth("token").json(&batch);
    let devices: Vec<Value> = request.send().await.unwrap().json().await.unwrap();
    let command = |args: &[&str]| {
        let output = output(dir.path(), args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let login = async |device: &Value| {
        let (user, password) = (text(&device["client_id"]), text(&device["client_secret"]));
        Mqtt::login(didp.mqtt, Version::V5, &user, &password).await.err()
    };
    let of = ["maker", "--model", "Thermostat T1", "--batch", "2026-11"];
    assert_eq!(command(&[&["manufacturer", "withdraw"], &of[..]].concat()), "25 devices withdrawn\n");
    assert_eq!(login(&devices[0]).await, Some(ReasonCode::BAD_USER_NAME_OR_PASSWORD));
    let told: Value =
        serde_json::from_str(&command(&["manufacturer", "batches", "maker", "--json"])).unwrap();
    let expected = json!({"batch": "2026-11", "registered": 25, "owned_at_least": null, "withdrawn": "all"});
    assert_eq!(told, json!([{"model": "Thermostat T1", "batches": [expected]}]));
    assert!(command(&["manufacturer", "batches", "maker"]).contains("2026-11"));
    let restored = command(&[&["manufacturer", "restore"], &of[..], &["--json"]].concat());
    assert_eq!(serde_json::from_str::<Value>(&restored).unwrap(), json!({"devices": 25}));
    assert_eq!(login(&devices[0]).await, None);

    let broken = text(&devices[0]["client_id"]);
    assert_eq!(command(&["client", "replace", &broken, "--answer-file", "new.json"]), "");
    let file = dir.path().join("new.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let new: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(new["device"]["batch"], "2026-11");
    assert_eq!(login(&new).await, None);
    assert_eq!(login(&devices[0]).await, Some(ReasonCode::BAD_USER_NAME_OR_PASSWORD));
    command(&["client", "restore", &broken]);
    assert_eq!(login(&devices[0]).await, None);
    for wrong in [["developer", "withdraw"], ["manufacturer", "withdraw"]] {
        let of = ["another", "--model", "Thermostat T1"];
        assert_eq!(output(dir.path(), &[&wrong[..], &of[..]].concat()).status.code(), Some(1));
    }
    assert_eq!(output(dir.path(), &["client", "replace", "nobody"]).status.code(), Some(1));
}

/// Whatever comes in batches, the process keeps little of it: the bar is 60 MB with a million devices, of which a page cache has its
/// fixed part; here it is all that several times its size in large requests leaves behind.
#[cfg(target_env = "gnu")]
#[tokio::test]
async fn large_batches_leave_little_memory_behind() {
    let dir = prepared();
    let cheap = format!("limits = {{ hash_iterations = 1 }}\n{CONFIG}");
    std::fs::write(dir.path().join("didp.toml"), cheap).unwrap();
    let didp = Running::start(dir.path());
    let http = reqwest::Client::new();
    let batch = Value::from(vec![device_metadata("code"); 1_000]).to_string();
    let register = async || {
        let request = http.post(didp.url("/register/batch")).bearer_auth("token");
        let request = request.header("content-type", "application/json").body(batch.clone());
        assert_eq!(request.send().await.unwrap().status(), 201);
    };
    for _ in 0..4 {
        futures_util::future::join_all((0..4).map(|_| register())).await;
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", didp.child.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kilobytes: u32 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 60_000, "{kilobytes} kB");
}

/// The log of security events is a contract (docs/security-events.md): these names, these members, and nothing that was sent.
#[tokio::test]
async fn security_events_have_a_stable_schema_and_hold_no_secret_and_no_address() {
    let dir = prepared();
    let running = Running::start(dir.path());
    let http = reqwest::Client::new();
    let register = |token: &'static str| {
        http.post(running.url("/register")).bearer_auth(token).json(&device_metadata("code")).send()
    };
    assert_eq!(register("guessed-token").await.unwrap().status(), 401);
    let device: Value = register("token").await.unwrap().json().await.unwrap();
    let client = text(&device["client_id"]);
    for (user, password) in [(client.as_str(), "guessed-secret"), ("guessed-client", "guessed-secret")] {
        let form = [("grant_type", "refresh_token"), ("refresh_token", "guessed-refresh")];
        let request = http.post(running.url("/token")).basic_auth(user, Some(password)).form(&form);
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    let form = [("token", "guessed-access")];
    let request =
        http.post(running.url("/introspect")).basic_auth("ignite", Some("guessed-secret")).form(&form);
    assert_eq!(request.send().await.unwrap().status(), 401);
    let management = running.url(&format!("/register/{client}"));
    let token = text(&device["registration_access_token"]);
    assert_eq!(http.delete(management).bearer_auth(token).send().await.unwrap().status(), 204);

    let mut others = Vec::new();
    let expected = [
        json!({"level": "WARN", "event": "registration_refused", "why": "not a valid initial access token"}),
        json!({"level": "INFO", "event": "clients_registered", "registrar": "maker", "count": 1}),
        json!({"level": "WARN", "event": "client_refused", "via": "http", "client": client, "why": "wrong secret"}),
        json!({"level": "WARN", "event": "client_refused", "via": "http", "why": "unknown client"}),
        json!({"level": "WARN", "event": "gateway_refused", "why": "wrong credentials"}),
        json!({"level": "INFO", "event": "client_deleted", "client": client}),
    ];
    for wanted in expected {
        let mut event = running.event(&mut others);
        others.push(event.to_string());
        let object = event.as_object_mut().unwrap();
        assert!(object.remove("timestamp").is_some() && object.remove("target").is_some());
        assert_eq!(event, wanted);
    }
    for line in others {
        let holds = |what: &str| line.contains(what);
        assert!(
            !holds("guessed") && !holds("127.0.0.1:5") && !holds(&text(&device["client_secret"])),
            "{line}"
        );
    }
}
