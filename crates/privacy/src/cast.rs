//! The players that are no service of the deployment: browsers, connections of apps, and the hands on the devices' buttons.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use device::{Phase, State};
use reqwest::cookie::{CookieStore as _, Jar};
use serde_json::{Value, json};
use testkit::browser::Browser;
use testkit::mqtt::Door;
use testkit::owner::Owner;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};
use url::Url;

use crate::people::Person;
use crate::shell;

/// Base of the DIdP's pages.
pub const DIDP: &str = "http://didp.localhost:8080";

/// Base of the gateway's HTTP API.
pub const GATEWAY: &str = "http://ignite.localhost:8083";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where names lead, and so how everybody connects.
#[derive(Clone)]
pub struct Network {
    names: Vec<(&'static str, IpAddr)>,
}

impl Network {
    /// With these names.
    #[must_use]
    pub fn new(names: Vec<(&'static str, IpAddr)>) -> Self {
        Self { names }
    }

    /// Settings of a client that connects from that address.
    pub fn client(&self, from: IpAddr) -> reqwest::ClientBuilder {
        let client = reqwest::Client::builder().no_proxy().local_address(from);
        // With port 0 the address's own port is used.
        self.names.iter().fold(client, |client, (name, at)| client.resolve(name, SocketAddr::new(*at, 0)))
    }

    /// The way to a server from that address.
    ///
    /// # Errors
    /// There is no such name.
    pub fn door(&self, name: &str, port: u16, from: IpAddr) -> anyhow::Result<Door> {
        Ok(Door::new(name, port).at(self.address(name)?).from(from))
    }

    /// Where a name leads.
    ///
    /// # Errors
    /// There is no such name.
    pub fn address(&self, name: &str) -> anyhow::Result<IpAddr> {
        let found = self.names.iter().find(|(known, _)| *known == name);
        Ok(found.with_context(|| format!("{name} is unknown"))?.1)
    }
}

/// An owner with a browser of their own.
pub struct Player {
    /// The browser.
    pub owner: Owner,
    jar: Arc<Jar>,
}

impl Player {
    /// A browser at that address.
    ///
    /// # Errors
    /// No TLS provider.
    pub fn new(network: &Network, person: &Person, from: IpAddr) -> anyhow::Result<Self> {
        let jar = Arc::new(Jar::default());
        let browser = Browser::on(network.client(from).cookie_provider(Arc::clone(&jar)))?;
        Ok(Self { owner: Owner::with(browser, DIDP, person.upstream, &person.key), jar })
    }

    /// Values of this browser's cookies at the DIdP that are long enough to be secret.
    ///
    /// # Errors
    /// Never.
    pub fn cookies(&self) -> anyhow::Result<Vec<String>> {
        let cookies = self.jar.cookies(&Url::parse(DIDP)?);
        let line = cookies.as_ref().and_then(|line| line.to_str().ok()).unwrap_or_default();
        let values = line.split("; ").filter_map(|pair| pair.split_once('='));
        Ok(values.map(|(_, value)| value.to_owned()).filter(|value| value.len() >= 40).collect())
    }

    /// What the page of an app asks its own server for: the access token, where the app is at that origin.
    ///
    /// # Errors
    /// It is not given one.
    pub async fn token(&self, app: &str) -> anyhow::Result<String> {
        let request = self.owner.browser().client().post(format!("{app}/api/token"));
        let answer = request.header("Origin", app).json(&json!({})).send().await?;
        let status = answer.status();
        let answer: Value = answer.json().await?;
        ensure!(status.is_success(), "{app} gives no token: {status} {answer}");
        Ok(answer["access_token"].as_str().context("no token")?.to_owned())
    }
}

/// A device in its container, and somebody at its button.
pub struct Thing {
    /// Kept so that it ends with this.
    _attached: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    received: VecDeque<String>,
}

impl Thing {
    /// Takes hold of the device in that container, once it is at the DIdP and waits for a press.
    ///
    /// # Errors
    /// It does not come so far.
    pub async fn take(container: &str) -> anyhow::Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        while !shell::output("docker", &["logs", container])?.contains("\"phase\":\"ready\"") {
            ensure!(Instant::now() < deadline, "{container} does not reach the DIdP");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut attached = Command::new("docker")
            .args(["attach", "--sig-proxy=false", container])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start docker attach")?;
        let input = attached.stdin.take().context("no standard input")?;
        let lines = BufReader::new(attached.stdout.take().context("no standard output")?).lines();
        Ok(Self { _attached: attached, input, lines, received: VecDeque::new() })
    }

    async fn touch(&mut self, touch: Value) -> anyhow::Result<()> {
        Ok(self.input.write_all(format!("{touch}\n").as_bytes()).await?)
    }

    async fn next(&mut self) -> anyhow::Result<Option<State>> {
        let line = self.lines.next_line().await?.context("the device ended")?;
        let line: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
        if let Some(payload) = line["received"]["payload"].as_str() {
            self.received.push_back(payload.to_owned());
        }
        Ok(serde_json::from_value(line["state"].clone()).ok())
    }

    async fn until<T>(&mut self, wanted: impl Fn(&State) -> Option<T>) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = timeout_at(deadline, self.next()).await.context("the device takes too long")??;
            if let Some(wanted) = state.as_ref().and_then(&wanted) {
                return Ok(wanted);
            }
        }
    }

    /// Presses the button: what the display shows then.
    ///
    /// # Errors
    /// No window opens.
    pub async fn press(&mut self) -> anyhow::Result<String> {
        self.touch(json!({"do": "press"})).await?;
        self.until(|state| state.code.clone()).await
    }

    /// Waits until it is at its owner's gateway.
    ///
    /// # Errors
    /// It does not get there.
    pub async fn runs(&mut self) -> anyhow::Result<()> {
        self.until(|state| (state.phase == Phase::Running).then_some(())).await
    }

    /// Waits until it has no owner any more.
    ///
    /// # Errors
    /// It does not come so far.
    pub async fn is_released(&mut self) -> anyhow::Result<()> {
        self.until(|state| (state.phase == Phase::Ready).then_some(())).await
    }

    /// Gives up its owner by a long press.
    ///
    /// # Errors
    /// It does not come so far.
    pub async fn hold(&mut self) -> anyhow::Result<()> {
        self.touch(json!({"do": "long_press"})).await?;
        self.is_released().await
    }

    /// Publishes a value.
    ///
    /// # Errors
    /// It is gone.
    pub async fn publish(&mut self, channel: &str, payload: &str) -> anyhow::Result<()> {
        self.touch(json!({"do": "publish", "channel": channel, "payload": payload})).await
    }

    /// Waits for a command that contains this.
    ///
    /// # Errors
    /// None comes.
    pub async fn command(&mut self, part: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(received) = self.received.pop_front() {
                if received.contains(part) {
                    return Ok(());
                }
            }
            if timeout_at(deadline, self.next()).await.is_err() {
                bail!("no command with {part} came");
            }
        }
    }
}
