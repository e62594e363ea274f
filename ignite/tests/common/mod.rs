//! A gateway with a real launcher and real PCMs (the `process` runtime), and a DIdP that the test controls.

#![allow(dead_code, reason = "each test program uses its own part")]

pub mod client;
pub mod didp;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use ignite::launcher::client::LauncherClient;
use ignite::{Config, Listeners};
use serde_json::json;
use service::net::Listener;
use service::{Clock, Shutdown};
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use client::Client;
use didp::Didp;

/// Nothing in a test takes as long as this unless it is broken.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// The audience of all tokens here.
pub const RESOURCE: &str = "http://ignite.test";

/// A running gateway.
pub struct Stack {
    pub didp: Didp,
    pub clock: Clock,
    pub shutdown: Shutdown,
    pub mqtt: SocketAddr,
    pub http: SocketAddr,
    pub metrics: SocketAddr,
    pub dir: TempDir,
    pub launcher: LauncherClient,
    launcher_shutdown: Shutdown,
    config: Config,
}

impl Stack {
    /// Starts everything.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts everything with a changed configuration of the gateway.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::with_listeners(change, |mqtt, http| (mqtt, http)).await
    }

    /// Starts everything with another DIdP beside the first.
    pub async fn beside(other: &Didp) -> Self {
        Self::with(|config| {
            let text = toml(config.master_key_file.parent().unwrap(), other);
            let read = service::config::parse::<Config>(Path::new("other.toml"), &text, |_| None).unwrap().0;
            config.didp.extend(read.didp);
        })
        .await
    }

    /// Starts everything on changed listeners.
    pub async fn with_listeners(
        change: impl FnOnce(&mut Config),
        listen: impl FnOnce(Listener, Listener) -> (Listener, Listener),
    ) -> Self {
        service::tls::install_provider();
        service::telemetry::init("test");
        let dir = tempfile::tempdir().unwrap();
        let didp = Didp::start().await;
        let mut config = config(dir.path(), &didp);
        change(&mut config);

        let launcher_shutdown = Shutdown::new();
        tokio::spawn(ignite::launcher::run(config.launcher.clone(), launcher_shutdown.clone()));
        let launcher = LauncherClient::new(&config.launcher.socket);
        until("the launcher listens", async || launcher.list().await.is_ok()).await;

        let mqtt = Listener::bind("127.0.0.1:0").await.unwrap();
        let http = Listener::bind("127.0.0.1:0").await.unwrap();
        let addresses = (mqtt.local_addr().unwrap(), http.local_addr().unwrap());
        let (mqtt, http) = listen(mqtt, http);
        let secure = http.is_tls();
        let (clock, shutdown) = (Clock::system(), Shutdown::new());
        let again = config.clone();
        let metrics = Listener::bind("127.0.0.1:0").await.unwrap();
        let metrics_at = metrics.local_addr().unwrap();
        let listeners = Listeners { mqtt: vec![mqtt], http: vec![http], metrics: Some(metrics) };
        tokio::spawn(ignite::run(config, listeners, clock.clone(), shutdown.clone()));
        let stack = Self {
            didp,
            clock,
            shutdown,
            mqtt: addresses.0,
            http: addresses.1,
            metrics: metrics_at,
            dir,
            launcher,
            launcher_shutdown,
            config: again,
        };
        let ready =
            async || if secure { !stack.didp.facts().streams.is_empty() } else { stack.is_ready().await };
        until("the gateway is ready", ready).await;
        stack
    }

    /// Stops the gateway and starts it again, with the launcher, the PCMs and the DIdP going on.
    pub async fn restart(&mut self) {
        self.shutdown.begin();
        assert!(self.shutdown.drain(DEADLINE).await);
        self.shutdown = Shutdown::new();
        let mqtt = Listener::bind(&self.mqtt.to_string()).await.unwrap();
        let http = Listener::bind(&self.http.to_string()).await.unwrap();
        let listeners = Listeners { mqtt: vec![mqtt], http: vec![http], metrics: None };
        tokio::spawn(ignite::run(self.config.clone(), listeners, self.clock.clone(), self.shutdown.clone()));
        until("the gateway is ready", async || self.is_ready().await).await;
    }

    /// From here on the gateway is a process of its own, with the same launcher, PCMs and DIdP.
    pub async fn apart(&self) -> Program {
        self.shutdown.begin();
        assert!(self.shutdown.drain(DEADLINE).await);
        let file = self.dir.path().join("ignite.toml");
        let listen = format!("[listen]\nmqtt = \"{}\"\nhttp = \"{}\"\n", self.mqtt, self.http);
        std::fs::write(&file, toml(self.dir.path(), &self.didp) + &listen).unwrap();
        let program = Program { file, child: None };
        program.start(self).await
    }

    /// Stops the launcher, and with it its PCMs.
    pub fn stop_launcher(&self) {
        self.launcher_shutdown.begin();
    }

    /// Starts another launcher where the one was that was stopped.
    pub async fn start_launcher(&mut self) {
        until("the launcher is gone", async || self.launcher.list().await.is_err()).await;
        self.launcher_shutdown = Shutdown::new();
        tokio::spawn(ignite::launcher::run(self.config.launcher.clone(), self.launcher_shutdown.clone()));
        until("the launcher listens", async || self.launcher.list().await.is_ok()).await;
    }

    pub async fn is_ready(&self) -> bool {
        let answer = reqwest::get(format!("http://{}/readyz", self.http)).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// A raw connection to the MQTT listener.
    pub async fn connect(&self) -> Client {
        let stream = tokio::net::TcpStream::connect(self.mqtt).await.unwrap();
        // Two small packets in a row would wait for the peer's delayed acknowledgement.
        stream.set_nodelay(true).unwrap();
        Client::over(stream)
    }

    /// The directories of what PCMs keep.
    pub fn kept(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.dir.path().join("state")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Kills every owner's PCM of this stack, as the kernel would; answers how many.
    pub async fn kill_pcms(&self) -> usize {
        let pcms = self.launcher.processes().await.unwrap();
        let owned = pcms.iter().filter(|pcm| pcm.name.is_some());
        owned
            .filter(|pcm| {
                let pid = rustix::process::Pid::from_raw(pcm.pid.try_into().unwrap()).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
            })
            .count()
    }

    /// Processes of this stack's PCMs.
    pub async fn pcms(&self) -> usize {
        self.launcher.list().await.unwrap().len()
    }
}

/// A gateway that can be killed.
pub struct Program {
    file: PathBuf,
    child: Option<tokio::process::Child>,
}

impl Program {
    /// Starts it, again after [`Self::kill`].
    pub async fn start(mut self, stack: &Stack) -> Self {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ignite"));
        command.arg("serve").arg("--config").arg(&self.file).kill_on_drop(true);
        self.child = Some(command.spawn().unwrap());
        until("the gateway is ready", async || stack.is_ready().await).await;
        self
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.shutdown.begin();
        self.launcher_shutdown.begin();
    }
}

fn config(dir: &Path, didp: &Didp) -> Config {
    service::config::parse::<Config>(Path::new("test.toml"), &toml(dir, didp), |_| None).unwrap().0
}

/// The configuration of a gateway and its launcher in `dir`, without listeners; the files that it names are written.
pub fn toml(dir: &Path, didp: &Didp) -> String {
    std::fs::write(dir.join("master.key"), [42; 32]).unwrap();
    std::fs::write(dir.join("gateway.secret"), didp::SECRET).unwrap();
    format!(
        r#"
resource = "{RESOURCE}"
master_key_file = "{dir}/master.key"

{didp}
[launcher]
runtime = "process"
socket = "{dir}/launcher.sock"
dir = "{dir}/run"
state_dir = "{dir}/state"
pool = 1
pcm_command = ["{pcm}"]
"#,
        dir = dir.display(),
        didp = didp_section(dir, didp),
        pcm = pcm().display(),
    )
}

/// The configuration's part about one DIdP.
pub fn didp_section(dir: &Path, didp: &Didp) -> String {
    format!(
        r#"
[[didp]]
tag = "{tag}"
issuer = "{issuer}"
introspection_url = "http://{address}"
client_id = "{client}"
client_secret_file = "{dir}/gateway.secret"
"#,
        tag = didp.tag,
        issuer = didp.issuer,
        address = didp.address,
        client = didp::CLIENT,
        dir = dir.display(),
    )
}

/// The PCM's program, built if it is not there.
fn pcm() -> &'static Path {
    static PCM: OnceLock<PathBuf> = OnceLock::new();
    PCM.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let path = own.parent().and_then(Path::parent).unwrap().join("pcm");
        if !path.exists() {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let built = Command::new(cargo).args(["build", "--quiet", "-p", "pcm"]).status().unwrap();
            assert!(built.success(), "the PCM can be built");
        }
        path
    })
}

/// Waits for a condition, with the deadline.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

/// How long something takes.
pub async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let begin = Instant::now();
    let value = future.await;
    (value, begin.elapsed())
}

/// A device with these channels, as an `authorization_details` object.
pub fn device_detail(label: &str) -> serde_json::Value {
    json!({"type": "mqtt", "identifier": label, "actions": ["publish", "subscribe"], "channels": channels()})
}

/// An app's object for a device.
pub fn app_detail(label: &str, actions: &[&str]) -> serde_json::Value {
    json!({"type": "mqtt", "identifier": label, "title": "Thermostat", "actions": actions,
        "channels": channels(), "view": {"kind": "raw"}, "ref": format!("ref-{label}")})
}

fn channels() -> serde_json::Value {
    json!([
        {"name": "temperature", "direction": "data", "title": "Temperature", "unit": "°C", "type": "number"},
        {"name": "heater", "direction": "command", "type": "boolean"},
        {"name": "heater-state", "direction": "data", "type": "boolean"}
    ])
}
