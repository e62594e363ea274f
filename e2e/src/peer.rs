//! An MQTT client of another language, driven by JSON lines: one command in, one answer out, messages in between.

use std::collections::VecDeque;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use testkit::stack::Stack;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long a peer may take for anything.
const PATIENCE: Duration = Duration::from_secs(15);

/// A way to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is what it is called")]
pub struct Way {
    pub version: u8,
    pub tls: bool,
    pub websocket: bool,
}

impl Way {
    /// MQTT 3.1.1 and 5, with and without TLS.
    pub const TCP: [Way; 4] = [
        Way { version: 4, tls: false, websocket: false },
        Way { version: 4, tls: true, websocket: false },
        Way { version: 5, tls: false, websocket: false },
        Way { version: 5, tls: true, websocket: false },
    ];

    /// The same over WebSocket.
    pub const WEBSOCKET: [Way; 4] = [
        Way { version: 4, tls: false, websocket: true },
        Way { version: 4, tls: true, websocket: true },
        Way { version: 5, tls: false, websocket: true },
        Way { version: 5, tls: true, websocket: true },
    ];

    /// Where the gateway listens for it.
    #[must_use]
    pub fn port(self, stack: &Stack) -> u16 {
        let ports = stack.deployment().ports;
        match (self.websocket, self.tls) {
            (false, false) => ports.ignite_mqtt,
            (false, true) => ports.ignite_mqtts,
            (true, false) => ports.ignite_http,
            (true, true) => ports.ignite_https,
        }
    }
}

/// A client process. It dies with this.
pub struct Peer {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    messages: VecDeque<(String, String)>,
    method: Option<&'static str>,
}

impl Peer {
    /// Starts a driver.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut driver: Command) -> anyhow::Result<Self> {
        let driver = driver.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = driver.spawn().context("start the client")?;
        let input = process.stdin.take().context("the client's input")?;
        let output = process.stdout.take().context("the client's output")?;
        Ok(Self {
            _process: process,
            input,
            output: BufReader::new(output).lines(),
            messages: VecDeque::new(),
            method: None,
        })
    }

    /// Connects: the CONNACK's code.
    ///
    /// # Errors
    /// No answer.
    pub async fn connect(
        &mut self,
        host: &str,
        port: u16,
        way: Way,
        ca: &std::path::Path,
        login: (&str, &str),
    ) -> anyhow::Result<u64> {
        let command = json!({
            "do": "connect", "host": host, "port": port, "version": way.version, "websocket": way.websocket,
            "ca": way.tls.then(|| ca.to_string_lossy()), "username": login.0, "password": login.1,
            "method": self.method,
        });
        self.ask(&command).await
    }

    /// From now on connects with this authentication method (MQTT 5 §4.12).
    #[must_use]
    pub fn with_method(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    /// Re-authenticates with another token: the code of the AUTH that comes back, or of the DISCONNECT.
    ///
    /// # Errors
    /// No answer.
    pub async fn reauthenticate(&mut self, token: &str) -> anyhow::Result<u64> {
        self.ask(&json!({ "do": "reauthenticate", "method": self.method, "token": token })).await
    }

    /// Subscribes: the SUBACK's code.
    ///
    /// # Errors
    /// No answer.
    pub async fn subscribe(&mut self, filter: &str) -> anyhow::Result<u64> {
        self.ask(&json!({ "do": "subscribe", "filter": filter })).await
    }

    /// Publishes with QoS 1: the PUBACK's code (3.1.1: 0).
    ///
    /// # Errors
    /// No answer.
    pub async fn publish(&mut self, topic: &str, payload: &str) -> anyhow::Result<u64> {
        self.ask(&json!({ "do": "publish", "topic": topic, "payload": payload })).await
    }

    /// The next message: topic and payload.
    ///
    /// # Errors
    /// None comes.
    pub async fn message(&mut self) -> anyhow::Result<(String, String)> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Ok(message);
            }
            if let Some(answer) = self.line().await? {
                bail!("{answer} instead of a message");
            }
        }
    }

    async fn ask(&mut self, command: &Value) -> anyhow::Result<u64> {
        self.input.write_all(format!("{command}\n").as_bytes()).await.context("the client is gone")?;
        loop {
            if let Some(answer) = self.line().await? {
                return answer["code"]
                    .as_u64()
                    .with_context(|| format!("{command} is answered with {answer}"));
            }
        }
    }

    /// Takes a line; messages are put aside.
    async fn line(&mut self) -> anyhow::Result<Option<Value>> {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line())
            .await
            .context("the client says nothing")??;
        let line: Value = serde_json::from_str(&line.context("the client ended")?)?;
        let Some(message) = line.get("message") else { return Ok(Some(line)) };
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        self.messages.push_back((text("topic"), text("payload")));
        Ok(None)
    }
}
