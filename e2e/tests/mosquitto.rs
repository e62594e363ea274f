//! `mosquitto_pub`, `mosquitto_sub` and `mosquitto_rr`: a device and an app on the command line.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{Scene, Way, program, skip};
use testkit::device::Device;
use testkit::stack::Stack;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(15);

/// One of the programs, with what it needs to connect.
fn client(name: &str, stack: &Stack, way: Way, token: &str) -> anyhow::Result<Command> {
    connection(name, way, way.port(stack), stack.ca_file(), ("Bearer", token))
}

fn connection(name: &str, way: Way, port: u16, ca: PathBuf, login: (&str, &str)) -> anyhow::Result<Command> {
    // Into a pipe it would say nothing before it ends.
    let mut command = Command::new("stdbuf");
    command.arg("-oL").arg(program(name).with_context(|| format!("{name} is not installed"))?);
    command.args(["-h", "localhost", "-p", &port.to_string(), "-q", "1", "-u", login.0, "-P", login.1]);
    command.args(["-V", if way.version == 5 { "mqttv5" } else { "mqttv311" }]);
    if way.tls {
        command.arg("--cafile").arg(ca);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

/// A subscriber that is subscribed already.
struct Subscriber {
    process: Child,
    output: Lines<BufReader<ChildStdout>>,
}

impl Subscriber {
    async fn start(stack: &Stack, way: Way, token: &str, filter: &str) -> anyhow::Result<Self> {
        let mut command = client("mosquitto_sub", stack, way, token)?;
        // Without `-d` it does not tell when it is subscribed.
        command.args(["-d", "-v", "-t", filter]);
        let mut process = command.spawn()?;
        let output = BufReader::new(process.stdout.take().context("output")?).lines();
        let mut subscriber = Self { process, output };
        subscriber.line(|line| line.starts_with("Subscribed")).await?;
        Ok(subscriber)
    }

    /// The next message, as `topic payload`.
    async fn message(&mut self) -> anyhow::Result<String> {
        self.line(|line| line.starts_with("d/") || line.starts_with("c/")).await
    }

    async fn line(&mut self, wanted: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        loop {
            let line =
                timeout(PATIENCE, self.output.next_line()).await.context("mosquitto_sub says nothing")??;
            let Some(line) = line else {
                let status = self.process.wait().await?;
                anyhow::bail!("mosquitto_sub ended with {status}");
            };
            if wanted(&line) {
                return Ok(line);
            }
        }
    }
}

async fn publish(stack: &Stack, way: Way, token: &str, topic: &str, payload: &str) -> anyhow::Result<Output> {
    let mut command = client("mosquitto_pub", stack, way, token)?;
    command.args(["-t", topic, "-m", payload]);
    timeout(PATIENCE, command.output()).await.context("mosquitto_pub does not end")?.context("mosquitto_pub")
}

fn installed() -> bool {
    let there = ["mosquitto_pub", "mosquitto_sub", "mosquitto_rr"].iter().all(|name| program(name).is_some());
    if !there {
        skip("mosquitto_pub, mosquitto_sub or mosquitto_rr is missing", "mosquitto-clients");
    }
    there
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_and_commands_in_every_version() -> anyhow::Result<()> {
    if !installed() {
        return Ok(());
    }
    let scene = Scene::new().await?;
    let (stack, handle) = (&scene.stack, &scene.handle);
    let (device, app) = (scene.owned.access_token.as_str(), scene.allowed.access_token.as_str());
    for way in Way::TCP {
        let mut app_hears = Subscriber::start(stack, way, app, "d/#").await?;
        let mut device_hears = Subscriber::start(stack, way, device, "c/#").await?;
        let sent = publish(stack, way, device, "d/temperature", "21.5").await?;
        ensure!(sent.status.success(), "{way:?}: {sent:?}");
        ensure!(app_hears.message().await? == format!("d/{handle}/temperature 21.5"));
        let sent = publish(stack, way, app, &format!("c/{handle}/heater"), "true").await?;
        ensure!(sent.status.success(), "{way:?}: {sent:?}");
        ensure!(device_hears.message().await? == "c/heater true");

        // What an app may not publish never reaches anybody, whatever the client is told.
        let sent = publish(stack, way, app, &format!("d/{handle}/temperature"), "99").await?;
        let told = String::from_utf8_lossy(&sent.stderr).to_lowercase();
        ensure!(way.version == 4 || told.contains("not authorized"), "{way:?}: {told}");
        publish(stack, way, device, "d/temperature", "22.5").await?;
        ensure!(app_hears.message().await? == format!("d/{handle}/temperature 22.5"));
    }
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_and_wrong_filters_are_refused() -> anyhow::Result<()> {
    if !installed() {
        return Ok(());
    }
    let scene = Scene::new().await?;
    for way in Way::TCP {
        let sent = publish(&scene.stack, way, "demo.not-a-token", "d/temperature", "1").await?;
        ensure!(!sent.status.success(), "{way:?}: a wrong token is accepted");
        let mut command = client("mosquitto_sub", &scene.stack, way, &scene.allowed.access_token)?;
        // It gives up by itself once all its subscriptions are refused.
        command.args(["-t", "c/#"]);
        let ended = timeout(PATIENCE, command.output()).await.context("an app may hear commands")??;
        let told = String::from_utf8_lossy(&ended.stderr).to_lowercase();
        ensure!(told.contains("denied") || told.contains("not authorized"), "{way:?}: {told}");
    }
    scene.stack.stop().await
}

/// A device's refresh on the command line: `mosquitto_rr` asks on `$oauth/token` and prints the answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_over_mqtt() -> anyhow::Result<()> {
    if !installed() {
        return Ok(());
    }
    let scene = Scene::new().await?;
    let mut refresh_token = scene.owned.refresh_token.clone();
    let secret = scene.owned.client_secret.clone().context("a claim renews the secret")?;
    for way in Way::TCP {
        let answer = refresh(&scene.stack, way, &scene.device, &secret, &refresh_token).await?;
        let token = answer["access_token"].as_str().with_context(|| format!("{way:?}: {answer}"))?.to_owned();
        refresh_token = answer["refresh_token"].as_str().context("a refresh token")?.to_owned();
        let sent = publish(&scene.stack, way, &token, "d/temperature", "20").await?;
        ensure!(sent.status.success(), "{way:?}: the new token is refused: {sent:?}");
    }
    scene.stack.stop().await
}

async fn refresh(
    stack: &Stack,
    way: Way,
    device: &Device,
    secret: &str,
    refresh_token: &str,
) -> anyhow::Result<serde_json::Value> {
    let ports = stack.deployment().ports;
    let port = if way.tls { ports.didp_mqtts } else { ports.didp_mqtt };
    let mut command = connection("mosquitto_rr", way, port, stack.ca_file(), (&device.client_id, secret))?;
    let request = serde_json::json!({ "grant_type": "refresh_token", "refresh_token": refresh_token });
    command.args(["-t", "$oauth/token", "-e", "$oauth/token/response", "-m", &request.to_string()]);
    let ended = timeout(PATIENCE, command.output()).await.context("mosquitto_rr gets no answer")??;
    ensure!(ended.status.success(), "{way:?}: {ended:?}");
    Ok(serde_json::from_slice(&ended.stdout)?)
}
