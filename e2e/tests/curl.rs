//! curl as an app of the HTTP API: every route, and an event stream that ends with its grant.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{Scene, Way, program, skip};
use mqtt_wire::QoS;
use serde_json::{Value, json};
use testkit::mqtt::Options;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(15);

/// curl, asking the gateway over TLS with a token; none if it is not installed.
fn curl(scene: &Scene, token: &str, path: &str) -> Option<Command> {
    // Into a pipe it would keep the head of an answer to itself until something follows.
    let mut command = Command::new("stdbuf");
    command.arg("-oL").arg(program("curl")?);
    let port = Way { version: 5, tls: true, websocket: true }.port(&scene.stack);
    command.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "60", "--cacert"]);
    command.arg(scene.stack.ca_file()).arg("--header").arg(format!("Authorization: Bearer {token}"));
    command.arg(format!("https://localhost:{port}{path}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Some(command)
}

/// The status and the body of what it is answered.
async fn answer(mut command: Command) -> anyhow::Result<(u16, Vec<u8>)> {
    command.args(["--write-out", "%{stderr}%{http_code}"]);
    let output = timeout(PATIENCE, command.output()).await.context("curl does not end")??;
    let status = String::from_utf8_lossy(&output.stderr).trim().parse();
    Ok((status.with_context(|| format!("{output:?}"))?, output.stdout))
}

/// An event stream that curl reads.
struct Events {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Events {
    /// It is subscribed once the answer has begun.
    async fn open(mut command: Command) -> anyhow::Result<Self> {
        let mut process = command.args(["--no-buffer", "--include"]).spawn().context("start curl")?;
        let mut lines = BufReader::new(process.stdout.take().context("output")?).lines();
        let first = timeout(PATIENCE, lines.next_line()).await.context("no answer")??;
        let first = first.context("curl ended")?;
        ensure!(first.contains(" 200"), "{first}");
        while lines.next_line().await?.is_some_and(|line| !line.is_empty()) {}
        Ok(Self { process, lines })
    }

    /// The next event's name and what it says.
    async fn next(&mut self) -> anyhow::Result<(String, Value)> {
        let mut name = String::new();
        loop {
            let line = timeout(PATIENCE, self.lines.next_line()).await.context("no event comes")??;
            let line = line.context("the stream ended")?;
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                return Ok((name, serde_json::from_str(data)?));
            }
        }
    }

    /// Waits for the end, and for nothing before it.
    async fn ends(mut self, limit: Duration) -> anyhow::Result<()> {
        let ended = async {
            while let Some(line) = self.lines.next_line().await? {
                ensure!(line.is_empty() || line.starts_with(':'), "{line}");
            }
            let status = self.process.wait().await?;
            ensure!(status.success(), "curl takes it for a broken connection: {status}");
            Ok(())
        };
        timeout(limit, ended).await.context("the stream goes on")?
    }
}

fn installed() -> bool {
    let there = program("curl").is_some();
    if !there {
        skip("curl is missing", "curl");
    }
    there
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_api() -> anyhow::Result<()> {
    if !installed() {
        return Ok(());
    }
    let scene = Scene::new().await?;
    let token = scene.allowed.access_token.as_str();
    let ask = |path: &str| curl(&scene, token, path).context("curl");
    let handle = &scene.handle;
    let mut thermostat =
        Options::new(&scene.stack.mqtt()).bearer(&scene.owned.access_token).connect().await?;
    for filter in ["c/#", "s/delta"] {
        ensure!(thermostat.subscribe(filter, QoS::AtLeastOnce).await?.is_success());
    }

    let (status, body) = answer(ask("/v1/devices")?).await?;
    let devices: Value = serde_json::from_slice(&body)?;
    ensure!(status == 200 && devices[0]["handle"] == json!(handle), "{status} {devices}");

    let last = format!("/v1/d/{handle}/temperature");
    ensure!(answer(ask(&last)?).await?.0 == 404, "there is no value yet");
    thermostat.retain("d/temperature", "21.5", QoS::AtLeastOnce).await?;
    let (status, body) = answer(ask(&last)?).await?;
    ensure!(status == 200 && body == b"21.5", "{status} {body:?}");

    let mut post = ask(&format!("/v1/c/{handle}/heater"))?;
    post.args(["--data-binary", "true"]);
    ensure!(answer(post).await?.0 == 202);
    let command = thermostat.message().await?;
    ensure!((command.topic.as_str(), command.text().as_str()) == ("c/heater", "true"), "{command:?}");

    let shadow = format!("/v1/s/{handle}");
    let mut patch = ask(&shadow)?;
    patch.args(["--request", "PATCH", "--header", "Content-Type: application/merge-patch+json"]);
    patch.args(["--data-binary", r#"{"heater": false}"#]);
    ensure!(answer(patch).await?.0 == 200);
    ensure!(thermostat.message().await?.text() == r#"{"heater":false}"#);
    let (status, body) = answer(ask(&shadow)?).await?;
    let document: Value = serde_json::from_slice(&body)?;
    ensure!(status == 200 && document["desired"] == json!({"heater": false}), "{status} {document}");

    for (token, path, expected) in [
        ("demo.not-a-token", "/v1/devices", 401),
        (scene.owned.access_token.as_str(), "/v1/devices", 403),
        (token, "/v1/events?filter=c/%23", 403),
        (token, &format!("/v1/d/{handle}/pressure"), 403),
        (token, "/v1/nothing", 404),
        (token, "/v1/devices?access_token=x", 400),
    ] {
        let (status, body) = answer(curl(&scene, token, path).context("curl")?).await?;
        let problem: Value = serde_json::from_slice(&body)?;
        ensure!(status == expected && problem["error"].is_string(), "{path}: {status} {problem}");
    }
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_that_is_lost_resumed_and_ended_by_the_owner() -> anyhow::Result<()> {
    if !installed() {
        return Ok(());
    }
    let scene = Scene::new().await?;
    let ask = async |last: Option<&str>| {
        let mut command = curl(&scene, &scene.allowed.access_token, "/v1/events").context("curl")?;
        if let Some(last) = last {
            command.args(["--header", &format!("Last-Event-ID: {last}")]);
        }
        Events::open(command).await
    };
    let mut thermostat =
        Options::new(&scene.stack.mqtt()).bearer(&scene.owned.access_token).connect().await?;
    let mut events = ask(None).await?;
    thermostat.publish("d/temperature", "1", QoS::AtLeastOnce).await?;
    let (name, event) = events.next().await?;
    ensure!(event["topic"] == json!(format!("d/{}/temperature", scene.handle)), "{event}");
    ensure!((&event["payload"], &event["retained"]) == (&json!(1), &json!(false)), "{event}");

    events.process.kill().await?;
    thermostat.publish("d/temperature", "2", QoS::AtLeastOnce).await?;
    let mut events = ask(Some(&name)).await?;
    // Whether the first one was written before the loss cannot be known.
    let mut next = events.next().await?;
    if next.1["payload"] == json!(1) {
        next = events.next().await?;
    }
    ensure!((&next.0, &next.1["payload"]) == (&name, &json!(2)), "{next:?}");

    scene.ann.withdraw("Heating Diary").await?;
    events.ends(Duration::from_secs(2)).await?;
    scene.stack.stop().await
}
