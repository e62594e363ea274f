//! The whole system as child processes on free ports of this machine: DIdP, gateway, launcher, the PCMs that it starts, and a
//! provider to log in with. Configurations and secrets are `testkit`'s, as an operator would write them.
//!
//! What an owner does before anything can be measured is [`provision`]'s.

mod containers;
pub mod provision;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use service::net::{Admission, Listener};
use service::{Clock, Shutdown};
use testkit::config::{Deployment, Ports};
use testkit::openid::Person;
use testkit::setup::Setup;
use toml::{Table, Value};

use crate::brokers::Programs;
use crate::child::Process;
use crate::engine::Stop;
use crate::meter::Meter;
use crate::process;

/// How long the parts may take to be ready.
const START: Duration = Duration::from_secs(30);

/// What PCMs run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// Sandboxed processes.
    Process,
    /// Containers without a network.
    Docker,
}

impl Runtime {
    /// Its name in configurations and results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Runtime::Process => "process",
            Runtime::Docker => "docker",
        }
    }
}

/// How a stack is set up; everything else is as in any deployment, but for limits that would refuse the load of one machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// What PCMs run as.
    pub runtime: Runtime,
    /// The PCM's image, for containers.
    pub image: String,
    /// Started PCMs that wait for an owner; the launcher's own default if missing.
    pub pool: Option<u32>,
    /// PBKDF2 iterations of client secrets; the DIdP's own default if missing.
    pub iterations: Option<u32>,
    /// People who may become owners.
    pub people: usize,
    /// Gateways that the DIdP knows; only the first one runs.
    pub gateways: usize,
    /// Devices that the store is filled with before the DIdP starts.
    pub seed: Option<Seed>,
    /// Name under which others reach the stack.
    pub host: String,
    /// Address that it listens on.
    pub bind: IpAddr,
}

/// What `didp/examples/seed.rs` is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// Devices in the store.
    pub devices: u64,
    /// Of how many of them the credentials are told.
    pub tell: u64,
}

impl Options {
    /// For so many owners on loopback.
    #[must_use]
    pub fn new(runtime: Runtime, people: usize) -> Options {
        Options {
            runtime,
            image: "oauthing-pcm".to_owned(),
            pool: None,
            iterations: None,
            people,
            gateways: 1,
            seed: None,
            host: "localhost".to_owned(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// A running system.
pub struct Stack {
    /// Ports, secrets, addresses.
    pub deployment: Deployment,
    /// How it was set up.
    pub options: Options,
    didp: Process,
    launcher: Process,
    ignite: Process,
    provider: Shutdown,
    async_runtime: tokio::runtime::Runtime,
    programs: Programs,
    // Last, so that files go after their users.
    dir: tempfile::TempDir,
}

impl Stack {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// A program is missing, or a part does not get ready.
    pub fn start(programs: &Programs, options: Options) -> anyhow::Result<Stack> {
        programs.ensure_stack()?;
        service::tls::install_provider();
        let dir = tempfile::Builder::new().prefix("oal").tempdir().context("temporary folder")?;
        let deployment = Deployment {
            host: options.host.clone(),
            bind: options.bind,
            ports: free_ports(options.bind)?,
            secrets: Setup::new(dir.path().join("secrets"), options.host.clone()).write()?,
            data: dir.path().to_owned(),
            run: dir.path().to_owned(),
            pcm: vec![programs.pcm.clone()],
        };
        let async_runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("a runtime for the provider")?;
        let provider = start_provider(&async_runtime, &deployment, options.people)?;
        let didp_toml = write(dir.path(), "didp.toml", &didp_config(&deployment, &options)?)?;
        let ignite_toml = write(dir.path(), "ignite.toml", &ignite_config(&deployment, &options)?)?;
        if let Some(seed) = &options.seed {
            fill(programs, seed, &didp_toml, &dir.path().join("seeded.jsonl"))?;
        }
        let start = |program: &Path, role: &str, config: &Path, log: &str| {
            let config = config.to_str().context("a path that is no UTF-8")?;
            Process::serve(program, &[role, "--config", config], &dir.path().join(log))
        };
        let didp = start(&programs.didp, "serve", &didp_toml, "didp.log")?;
        let launcher = start(&programs.ignite, "launcher", &ignite_toml, "launcher.log")?;
        let ignite = start(&programs.ignite, "serve", &ignite_toml, "ignite.log")?;
        let mut stack = Stack {
            deployment,
            options,
            didp,
            launcher,
            ignite,
            provider,
            async_runtime,
            programs: programs.clone(),
            dir,
        };
        stack.ready()?;
        Ok(stack)
    }

    fn ready(&mut self) -> anyhow::Result<()> {
        let urls = [
            format!("{}/readyz", self.deployment.issuer()),
            format!("{}/healthz", self.deployment.resource()),
            format!("{}/healthz", self.deployment.upstream()),
        ];
        let deadline = Instant::now() + START;
        for url in urls {
            let http = testkit::browser::http();
            while !self
                .async_runtime
                .block_on(async { http.get(&url).send().await })
                .is_ok_and(|answer| answer.status().is_success())
            {
                self.check()?;
                ensure!(Instant::now() < deadline, "{url} does not get ready");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let socket = self.deployment.run.join("launcher.sock");
        while !socket.exists() {
            self.check()?;
            ensure!(Instant::now() < deadline, "the launcher does not get ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Fails if a part has ended, with the end of its log.
    ///
    /// # Errors
    /// It has.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let parts =
            [("didp", &mut self.didp), ("launcher", &mut self.launcher), ("ignite", &mut self.ignite)];
        for (name, process) in parts {
            process.check().with_context(|| {
                let log = std::fs::read_to_string(self.dir.path().join(format!("{name}.log")));
                let log = log.unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                format!(
                    "its log ends with\n  {}",
                    lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n  ")
                )
            })?;
        }
        Ok(())
    }

    /// Does something that waits, for example [`provision::owners`].
    pub fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.async_runtime.block_on(future)
    }

    /// The gateway's MQTT address, with or without TLS.
    #[must_use]
    pub fn gateway(&self, tls: bool) -> SocketAddr {
        let ports = &self.deployment.ports;
        SocketAddr::new(self.options.bind, if tls { ports.ignite_mqtts } else { ports.ignite_mqtt })
    }

    /// The authority that signed the servers' certificates.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.deployment.secrets.path("public/ca.crt")
    }

    /// A server certificate and its key, for a baseline that is to have the same.
    #[must_use]
    pub fn certificate(&self) -> (PathBuf, PathBuf) {
        (self.deployment.secrets.path("ignite/tls.crt"), self.deployment.secrets.path("ignite/tls.key"))
    }

    /// The processes of the PCMs that run now.
    ///
    /// # Errors
    /// The engine does not answer.
    pub fn pcms(&self) -> anyhow::Result<Vec<u32>> {
        match self.options.runtime {
            Runtime::Process => {
                let mut family = process::family(self.launcher.id());
                family.remove(0);
                Ok(family)
            }
            Runtime::Docker => containers::pids(&self.place()),
        }
    }

    /// How long the engine alone takes to create and start a container of the PCM's image.
    ///
    /// # Errors
    /// The engine's.
    pub fn bare_container(&self, number: usize) -> anyhow::Result<Duration> {
        let name = format!("oauthing-loadtest-{}-{number}", std::process::id());
        self.wait(containers::create_and_start(&self.options.image, &name))
    }

    /// Waits until so many PCMs run and no further one is being started, as when a pool is full.
    ///
    /// # Errors
    /// It does not get full in half a minute, or somebody stopped it.
    pub fn wait_for_pcms(&self, pool: usize, stop: &Stop) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        let mut before = self.pcms()?.len();
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let now = self.pcms()?.len();
            if now >= pool && now == before {
                return Ok(());
            }
            before = now;
            ensure!(!stop.is_set(), "stopped");
            ensure!(Instant::now() < deadline, "{now} PCMs run, {pool} should wait");
        }
    }

    /// Everything that serves, by part.
    ///
    /// # Errors
    /// As [`Stack::pcms`].
    pub fn meter(&self) -> anyhow::Result<Meter> {
        Ok(Meter::new(vec![
            ("didp", vec![self.didp.id()]),
            ("launcher", vec![self.launcher.id()]),
            ("ignite", vec![self.ignite.id()]),
            ("pcm", self.pcms()?),
        ]))
    }

    /// What the seeding program told: a line of JSON for each credential.
    #[must_use]
    pub fn seeded(&self) -> PathBuf {
        self.dir.path().join("seeded.jsonl")
    }

    /// The DIdP alone.
    #[must_use]
    pub fn didp_meter(&self) -> Meter {
        Meter::new(vec![("didp", vec![self.didp.id()])])
    }

    /// The DIdP's process.
    #[must_use]
    pub fn didp_id(&self) -> u32 {
        self.didp.id()
    }

    /// Process ids of DIdP, gateway and launcher.
    #[must_use]
    pub fn services(&self) -> [(&'static str, u32); 3] {
        [("didp", self.didp.id()), ("ignite", self.ignite.id()), ("launcher", self.launcher.id())]
    }

    /// The programs that it was started from.
    #[must_use]
    pub const fn programs(&self) -> &Programs {
        &self.programs
    }

    /// What a PCM's container is labelled with as its place.
    fn place(&self) -> String {
        self.deployment.run.join("pcm").to_string_lossy().into_owned()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // In the order in which they depend on each other; nobody is left to be told of a failure.
        let _ = self.ignite.stop();
        let _ = self.launcher.stop();
        let _ = self.didp.stop();
        self.provider.begin();
        if self.options.runtime == Runtime::Docker
            && let Err(error) = containers::remove(&self.place())
        {
            eprintln!("loadtest: containers of this run are left: {error:#}");
        }
    }
}

/// Fills the store of a DIdP that does not run yet.
fn fill(programs: &Programs, seed: &Seed, config: &Path, told: &Path) -> anyhow::Result<()> {
    process::ensure_program(&programs.seed, "build it: cargo build --release -p didp --example seed")?;
    let file = std::fs::File::create(told).with_context(|| format!("create {}", told.display()))?;
    let done = Command::new(&programs.seed)
        .arg("--config")
        .arg(config)
        .args(["--devices", &seed.devices.to_string(), "--tell", &seed.tell.to_string()])
        .stdin(Stdio::null())
        .stdout(file)
        .output()
        .context("start the seeding program")?;
    ensure!(done.status.success(), "the store cannot be filled: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

fn start_provider(
    runtime: &tokio::runtime::Runtime,
    deployment: &Deployment,
    people: usize,
) -> anyhow::Result<Shutdown> {
    let mut settings = testkit::stack::provider(deployment, &deployment.secrets)?;
    settings.people = (0..people).map(|number| Person::new(&person(number), "An owner")).collect();
    let router = testkit::openid::router(settings, Clock::system())?;
    let shutdown = Shutdown::new();
    let address = SocketAddr::new(deployment.bind, deployment.ports.idp);
    let listener =
        runtime.block_on(Listener::bind(&address.to_string())).context("listen for the provider")?;
    runtime.spawn(service::http::serve(listener, router, Admission::new(1024, 1024), shutdown.clone()));
    Ok(shutdown)
}

/// What the owner of that number is called at the provider.
fn person(number: usize) -> String {
    format!("owner{number}")
}

fn write(dir: &Path, name: &str, table: &Table) -> anyhow::Result<PathBuf> {
    let path = dir.join(name);
    let text = toml::to_string(table).with_context(|| name.to_owned())?;
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// The table of that name, made if it is missing.
fn table<'a>(all: &'a mut Table, name: &str) -> anyhow::Result<&'a mut Table> {
    all.entry(name).or_insert_with(|| Value::Table(Table::new())).as_table_mut().context("no table")
}

fn didp_config(deployment: &Deployment, options: &Options) -> anyhow::Result<Table> {
    let mut all: Table = deployment.didp_toml().parse().context("didp.toml")?;
    let limits = table(&mut all, "limits")?;
    limits.insert("connections".to_owned(), 60_000.into());
    limits.insert("connections_per_address".to_owned(), 60_000.into());
    // All owners' apps are one client here, and logins that are under way count as failures until they succeed.
    limits.insert("failures_per_client".to_owned(), 100_000.into());
    limits.insert("failures_per_address".to_owned(), 100_000.into());
    if let Some(iterations) = options.iterations {
        limits.insert("hash_iterations".to_owned(), iterations.into());
    }
    for list in ["manufacturer", "developer"] {
        for one in all.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(one) = one.as_table_mut() {
                one.insert("quota".to_owned(), 100_000_000.into());
            }
        }
    }
    let gateways = all.get_mut("gateway").and_then(Value::as_array_mut).context("no gateway")?;
    let first = gateways.first().and_then(Value::as_table).context("no gateway")?.clone();
    for number in 1..options.gateways {
        let mut another = first.clone();
        another.insert("client_id".to_owned(), gateway_id(number).into());
        another.insert("resource".to_owned(), format!("http://gateway{number}.localhost").into());
        gateways.push(Value::Table(another));
    }
    Ok(all)
}

/// The client id of a gateway; the first one is the one that runs.
#[must_use]
pub fn gateway_id(number: usize) -> String {
    if number == 0 { "ignite".to_owned() } else { format!("ignite{number}") }
}

fn ignite_config(deployment: &Deployment, options: &Options) -> anyhow::Result<Table> {
    let mut all: Table = deployment.ignite_toml().parse().context("ignite.toml")?;
    let launcher = table(&mut all, "launcher")?;
    launcher.insert("runtime".to_owned(), options.runtime.name().into());
    launcher.insert("capacity".to_owned(), 10_000.into());
    if options.runtime == Runtime::Docker {
        launcher.insert("image".to_owned(), options.image.clone().into());
        launcher.remove("pcm_command");
    }
    if let Some(pool) = options.pool {
        launcher.insert("pool".to_owned(), pool.into());
    }
    let limits = table(&mut all, "limits")?;
    limits.insert("connections".to_owned(), 60_000.into());
    limits.insert("connections_per_address".to_owned(), 60_000.into());
    Ok(all)
}

/// Ports that nobody uses right now.
fn free_ports(bind: IpAddr) -> anyhow::Result<Ports> {
    // All are held at once, so that none is given twice; the children bind them a moment later.
    let held: Vec<TcpListener> =
        (0..8).map(|_| TcpListener::bind((bind, 0))).collect::<Result<_, _>>().context("find free ports")?;
    let mut numbers = held.iter().map(|listener| listener.local_addr().map(|address| address.port()));
    let mut port = || numbers.next().unwrap_or_else(|| Err(std::io::ErrorKind::AddrNotAvailable.into()));
    Ok(Ports {
        didp_http: port()?,
        didp_mqtt: port()?,
        didp_mqtts: port()?,
        ignite_mqtt: port()?,
        ignite_mqtts: port()?,
        ignite_http: port()?,
        ignite_https: port()?,
        idp: port()?,
    })
}
