//! The program itself: its life, its configuration's faults, what its log says and does not say.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use std::path::Path;
use std::process::Stdio;

use common::client::Client;
use common::{DEADLINE, app_detail, didp, until};
use mqtt_wire::Version;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

fn ignite(role: &str, config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ignite"));
    command.args([role, "--config"]).arg(config).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn check(toml: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ignite.toml");
    std::fs::write(dir.path().join("key"), [7; 32]).unwrap();
    std::fs::write(dir.path().join("secret"), "s").unwrap();
    std::fs::write(&file, toml).unwrap();
    let output = timeout(DEADLINE, ignite("check-config", &file).output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), text.replace(&format!("{}", dir.path().display()), ""))
}

const GOOD: &str = r#"
resource = "http://ignite.test"
master_key_file = "key"
[listen]
mqtt = "127.0.0.1:1883"
[[didp]]
tag = "demo"
issuer = "http://didp.test"
client_id = "gateway"
client_secret_file = "secret"
[launcher]
runtime = "process"
socket = "launcher.sock"
dir = "run"
pcm_command = ["/pcm"]
"#;

#[tokio::test]
async fn configuration_faults_are_named_with_their_line() {
    let (good, text) = check(GOOD).await;
    assert!(good, "{text}");
    for (from, to, expected) in [
        ("resource =", "resorce =", "/ignite.toml:2: "),
        ("\"127.0.0.1:1883\"", "\"1883\"", "/ignite.toml:5: "),
        ("mqtt =", "mqtts =", "/ignite.toml:5: a TLS listener needs [tls]"),
        ("127.0.0.1:1883", "0.0.0.0:1883", "/ignite.toml:5: without TLS only loopback"),
        ("\"demo\"", "\"de.mo\"", "/ignite.toml:7: tag must be"),
        ("\"http://didp.test\"", "\"didp\"", "/ignite.toml:8: not a usable URI"),
        ("\"http://didp.test\"", "\"file:///x\"", "/ignite.toml:8: not a usable URI: must be http"),
        ("\"secret\"", "\"missing\"", "client secret"),
        ("\"key\"", "\"missing\"", "master key file"),
        ("\"process\"", "\"podman\"", "/ignite.toml:12: "),
        ("\"gateway\"", "\"${UNSET_VARIABLE}\"", "/ignite.toml:9: environment variable UNSET_VARIABLE"),
    ] {
        let (good, text) = check(&GOOD.replacen(from, to, 1)).await;
        assert!(!good && text.contains(expected), "{from} -> {to}: {text}");
    }
    let twice = GOOD.replace(
        "[launcher]",
        &format!("{}[launcher]", &GOOD[GOOD.find("[[didp]]").unwrap()..GOOD.find("[launcher]").unwrap()]),
    );
    let (good, text) = check(&twice).await;
    assert!(!good && text.contains("another [[didp]] has the tag demo"), "{text}");
}

async fn stop(mut child: Child) -> String {
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut text = String::new();
    let mut stderr = child.stderr.take().unwrap();
    timeout(DEADLINE, stderr.read_to_string(&mut text)).await.unwrap().unwrap();
    let status = timeout(DEADLINE, child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}: {text}");
    text
}

/// Checklist 42, and: no line has a token, label, sid, topic or payload.
#[tokio::test]
async fn a_whole_life_leaves_no_identifier_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let fake = didp::Didp::start().await;
    let ports: Vec<_> = (0..2).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let [mqtt, http] = [0, 1].map(|index: usize| ports[index].local_addr().unwrap());
    drop(ports);
    let file = dir.path().join("ignite.toml");
    let toml = common::toml(dir.path(), &fake);
    let listen = format!("[listen]\nmqtt = \"{mqtt}\"\nhttp = \"{http}\"\n\n[[didp]]");
    std::fs::write(&file, toml.replacen("[[didp]]", &listen, 1)).unwrap();

    let launcher = ignite("launcher", &file).spawn().unwrap();
    let gateway = ignite("serve", &file).spawn().unwrap();
    let health = async || {
        let mut check = Command::new(env!("CARGO_BIN_EXE_ignite"));
        check.args(["healthcheck", &format!("http://{http}/readyz")]).stderr(Stdio::null());
        check.status().await.unwrap().success()
    };
    until("the gateway is healthy", health).await;
    until("the launcher listens", async || dir.path().join("launcher.sock").exists()).await;

    let device = fake.add_device("marked-owner", "marked-sid-device", "marked-label");
    let app = fake.add_app("marked-owner", "marked-sid-app", json!([app_detail("marked-label", &["read"])]));
    let mut tpa = Client::over(TcpStream::connect(mqtt).await.unwrap());
    tpa.log_in(Version::V5, "marked-client", &app).await;
    tpa.subscribe(1, &["d/#", "marked/#"]).await;
    let mut thermostat = Client::over(TcpStream::connect(mqtt).await.unwrap());
    thermostat.log_in(Version::V311, "marked-client", &device).await;
    assert_eq!(thermostat.publish_acked(1, "d/temperature", b"marked-payload").await, 0);
    assert_eq!(thermostat.publish_acked(2, "marked/topic", b"marked-payload").await, 0);
    assert_eq!(tpa.message().await.payload, b"marked-payload");
    let mut unknown = Client::over(TcpStream::connect(mqtt).await.unwrap());
    assert_eq!(
        unknown.connect(common::client::bearer(Version::V5, "marked", "demo.marked-token")).await,
        0x87
    );
    fake.revoke("marked-owner", "marked-sid-app");
    tpa.expect_disconnect(0x87).await;

    let log = stop(gateway).await;
    let launcher_log = stop(launcher).await;
    thermostat.expect_end().await;
    for line in ["serving", "events_up", "session_begins", "session_ended", "connection_refused"] {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert!(launcher_log.contains("runtime_process"), "what processes do not get is said: {launcher_log}");
    for mark in ["marked", "token-of", "temperature", "127.0.0.1"] {
        assert!(!log.contains(mark), "{mark}: {log}");
        assert!(!launcher_log.contains(mark), "{mark}: {launcher_log}");
    }
}

#[tokio::test]
async fn an_unhealthy_gateway_is_said_by_the_exit_code() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut check = Command::new(env!("CARGO_BIN_EXE_ignite"));
    let status =
        check.args(["healthcheck", &format!("http://{port}/healthz")]).stderr(Stdio::null()).status();
    assert!(!timeout(DEADLINE, status).await.unwrap().unwrap().success());
}
