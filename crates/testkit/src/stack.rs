//! A whole stack in this process on free ports: DIdP, gateway, launcher and a provider, with a clock that the test moves.
//!
//! Only the PCMs are processes of their own, as they are in the `process` runtime. Everything is the real thing, started
//! through the same `run` functions and configurations as the programs.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ignite::launcher::client::LauncherClient;
use oauth_wire::TokenResponse;
use service::net::{Admission, Listener};
use service::{Clock, Shutdown};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::app::{App, Asked};
use crate::config::{Deployment, Ports, UPSTREAM, UPSTREAM_CLIENT};
use crate::device::{self, Device};
use crate::mqtt::{Door, PATIENCE};
use crate::openid::{self, Person};
use crate::owner::{Consent, Owner};
use crate::setup::{Secrets, Setup};

/// The host of every address in a stack. A name, so that certificates are checked for one.
const HOST: &str = "localhost";

/// A running stack. Dropping it ends what it started; [`Stack::stop`] also waits and complains.
pub struct Stack {
    /// The time that all parts believe in.
    pub clock: Clock,
    deployment: Deployment,
    didp: Running,
    ignite: Running,
    launcher: Running,
    provider: Running,
    // Last, so that files go after their users.
    _dir: TempDir,
}

/// A part that runs, and how to end it.
struct Running {
    name: &'static str,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start<F>(name: &'static str, part: impl FnOnce(Shutdown) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let shutdown = Shutdown::new();
        let task = tokio::spawn(part(shutdown.clone()));
        Self { name, shutdown, task }
    }

    async fn stop(&mut self) -> anyhow::Result<()> {
        self.shutdown.begin();
        let ended = tokio::time::timeout(PATIENCE, &mut self.task).await;
        ended
            .with_context(|| format!("{} does not stop", self.name))?
            .context(self.name)?
            .context(self.name)?;
        ensure!(self.shutdown.drain(PATIENCE).await, "{} leaves connections behind", self.name);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.begin();
        self.task.abort();
    }
}

impl Stack {
    /// Starts everything and waits until the DIdP and the gateway say that they are ready.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start() -> anyhow::Result<Self> {
        service::tls::install_provider();
        service::telemetry::init("testkit");
        let dir = tempfile::Builder::new().prefix("oa").tempdir().context("temporary folder")?;
        let secrets = Setup::new(dir.path().join("secrets"), HOST).write()?;
        let clock = Clock::system();
        let bound = Bound::any().await?;
        let deployment = Deployment {
            host: HOST.to_owned(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ports: bound.ports()?,
            secrets,
            data: dir.path().to_owned(),
            run: dir.path().to_owned(),
            pcm: vec![pcm_program()?],
        };
        let provider = start_provider(&deployment, bound.idp, clock.clone())?;
        let launcher = start_launcher(&deployment)?;
        let didp = start_didp(&deployment, bound.didp, clock.clone())?;
        let ignite = start_ignite(&deployment, bound.ignite, clock.clone())?;
        let stack = Self { clock, deployment, didp, ignite, launcher, provider, _dir: dir };
        stack.ready().await?;
        Ok(stack)
    }

    /// Ends everything in good order.
    ///
    /// # Errors
    /// A part fails or does not end in time.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.ignite.stop().await?;
        self.launcher.stop().await?;
        self.didp.stop().await?;
        self.provider.stop().await
    }

    /// Ends the DIdP and starts it again with what it had stored.
    ///
    /// # Errors
    /// It does not end, or does not start again.
    pub async fn restart_didp(&mut self) -> anyhow::Result<()> {
        self.didp.stop().await?;
        let listeners = DidpListeners::bind(&self.deployment).await?;
        self.didp = start_didp(&self.deployment, listeners, self.clock.clone())?;
        self.ready().await
    }

    /// Ends the provider, so that another one can take its address: it finds its secrets in `idp`.
    ///
    /// # Errors
    /// It does not end.
    pub async fn end_provider(&mut self) -> anyhow::Result<()> {
        self.provider.stop().await?;
        self.provider = Running::start("no provider", |shutdown| async move {
            shutdown.begun().await;
            Ok(())
        });
        Ok(())
    }

    /// Ends the gateway and starts it again; PCMs go on.
    ///
    /// # Errors
    /// It does not end, or does not start again.
    pub async fn restart_ignite(&mut self) -> anyhow::Result<()> {
        self.ignite.stop().await?;
        let listeners = IgniteListeners::bind(&self.deployment).await?;
        self.ignite = start_ignite(&self.deployment, listeners, self.clock.clone())?;
        self.ready().await
    }

    /// Ends the launcher and with it all PCMs, and starts it again.
    ///
    /// # Errors
    /// It does not end, or does not start again.
    pub async fn restart_launcher(&mut self) -> anyhow::Result<()> {
        self.launcher.stop().await?;
        self.launcher = start_launcher(&self.deployment)?;
        self.ready().await
    }

    /// The processes of the owners' PCMs of this stack, by number; those in the pool are nobody's.
    ///
    /// # Errors
    /// The launcher does not say which there are.
    pub async fn pcms(&self) -> anyhow::Result<Vec<rustix::process::Pid>> {
        let launcher = LauncherClient::new(&self.deployment.run.join("launcher.sock"));
        let pcms = launcher.processes().await.context("ask the launcher for the PCMs")?;
        let owned = pcms.iter().filter(|pcm| pcm.name.is_some());
        let pid = |pid| i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        owned.map(|pcm| pid(pcm.pid).context("a PCM without a process")).collect()
    }

    /// Kills every owner's PCM of this stack with SIGKILL; answers how many there were.
    ///
    /// # Errors
    /// The launcher does not say which there are.
    pub async fn kill_pcms(&self) -> anyhow::Result<usize> {
        let kill = |pid: &rustix::process::Pid| {
            // One that has ended meanwhile is dead all the same.
            rustix::process::kill_process(*pid, rustix::process::Signal::KILL).is_ok()
        };
        Ok(self.pcms().await?.iter().filter(|pid| kill(pid)).count())
    }

    async fn ready(&self) -> anyhow::Result<()> {
        for part in [&self.didp, &self.ignite, &self.launcher, &self.provider] {
            ensure!(!part.task.is_finished(), "{} ended at once", part.name);
        }
        answers(&format!("{}/readyz", self.issuer())).await?;
        answers(&format!("{}/healthz", self.deployment.resource())).await
    }

    /// The DIdP's issuer identifier.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.deployment.issuer()
    }

    /// Base of the gateway's HTTP API.
    #[must_use]
    pub fn gateway(&self) -> String {
        self.deployment.resource()
    }

    /// Ports, secrets, configurations.
    #[must_use]
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// A person with an account at the provider; `ann` and `bob` have one.
    ///
    /// # Errors
    /// As [`Owner::new`].
    pub fn owner(&self, person: &str) -> anyhow::Result<Owner> {
        Owner::new(&self.issuer(), UPSTREAM, person)
    }

    /// Registers an app with a developer's token.
    ///
    /// # Errors
    /// As [`App::register`].
    pub async fn app(&self, name: &str) -> anyhow::Result<App> {
        let token = self.deployment.secrets.read("tpa/initial-access-token")?;
        App::register(&self.issuer(), name, Some(&token)).await
    }

    /// Makes a thermostat.
    ///
    /// # Errors
    /// As [`device::register`].
    pub async fn device(&self) -> anyhow::Result<Device> {
        let token = self.deployment.secrets.read("factory/initial-access-token")?;
        device::register(&self.issuer(), &token, &device::thermostat()).await
    }

    /// Makes a thermostat and lets `owner` claim it under that name; gives its tokens too.
    ///
    /// # Errors
    /// Any step fails.
    pub async fn claimed(&self, owner: &Owner, name: &str) -> anyhow::Result<(Device, TokenResponse)> {
        let device = self.device().await?;
        let tokens = claim(owner, &device, name).await?;
        Ok((device, tokens))
    }

    /// Lets `owner` allow `app` so, and redeems the code.
    ///
    /// # Errors
    /// Any step fails.
    pub async fn allowed(
        &self,
        owner: &Owner,
        app: &App,
        consent: &Consent,
    ) -> anyhow::Result<TokenResponse> {
        let asked: Asked = app.ask();
        let back = owner.consent(&asked.url, consent).await?;
        app.redeem(&asked, &back).await
    }

    /// The gateway over TCP.
    #[must_use]
    pub fn mqtt(&self) -> Door {
        Door::new(HOST, self.deployment.ports.ignite_mqtt)
    }

    /// The gateway over TLS, with the development CA as the root.
    ///
    /// # Errors
    /// The CA's file cannot be read.
    pub fn mqtts(&self) -> anyhow::Result<Door> {
        Ok(Door::new(HOST, self.deployment.ports.ignite_mqtts).tls(self.trust()?))
    }

    /// The gateway over WebSocket.
    #[must_use]
    pub fn ws(&self) -> Door {
        Door::new(HOST, self.deployment.ports.ignite_http).websocket()
    }

    /// The gateway over WebSocket with TLS.
    ///
    /// # Errors
    /// The CA's file cannot be read.
    pub fn wss(&self) -> anyhow::Result<Door> {
        Ok(Door::new(HOST, self.deployment.ports.ignite_https).tls(self.trust()?).websocket())
    }

    fn trust(&self) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        Ok(service::tls::client_config(&self.ca_file())?)
    }

    /// The development CA's certificate, for clients that want a file.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.deployment.secrets.path("public/ca.crt")
    }
}

/// The whole claim: the device waits, somebody presses, the owner types, both finish.
///
/// # Errors
/// Any step fails.
pub async fn claim(owner: &Owner, device: &Device, name: &str) -> anyhow::Result<TokenResponse> {
    let mut waiting = device.wait().await?;
    let digits = waiting.press().await?;
    let (tokens, page) =
        tokio::join!(waiting.finish(), owner.claim(&device.user_registration_uri, &digits, name));
    // If the device failed, the page only tells that it never came.
    let tokens = tokens.context("the device")?;
    page.context("the owner's page")?;
    Ok(tokens)
}

/// Waits until the URL answers with success.
async fn answers(url: &str) -> anyhow::Result<()> {
    let http = crate::browser::http();
    let asked = async {
        loop {
            match http.get(url).send().await {
                Ok(answer) if answer.status().is_success() => return,
                // Not there yet, or not ready: there is nothing to wait on but the answer itself.
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.with_context(|| format!("{url} does not get ready"))
}

fn start_provider(deployment: &Deployment, listener: Listener, clock: Clock) -> anyhow::Result<Running> {
    let settings = provider(deployment, &deployment.secrets)?;
    let router = openid::router(settings, clock)?;
    Ok(Running::start("provider", move |shutdown| async move {
        service::http::serve(listener, router, Admission::new(64, 64), shutdown).await;
        Ok(())
    }))
}

/// Settings of the provider that a deployment's DIdP knows, with the people `ann` and `bob`.
///
/// # Errors
/// A secret cannot be read.
pub fn provider(deployment: &Deployment, secrets: &Secrets) -> anyhow::Result<openid::Settings> {
    Ok(openid::Settings {
        issuer: deployment.upstream(),
        client_id: UPSTREAM_CLIENT.to_owned(),
        client_secret: secrets.read("idp/client-oidc.secret")?,
        redirect_base: format!("{}/login/", deployment.issuer()),
        signing_key_pem: secrets.read("idp/signing-key.pem")?,
        people: vec![Person::new("ann", "Ann Archer"), Person::new("bob", "Bob Baker")],
    })
}

fn start_launcher(deployment: &Deployment) -> anyhow::Result<Running> {
    let config = ignite_config(deployment)?;
    Ok(Running::start("launcher", move |shutdown| ignite::launcher::run(config.launcher, shutdown)))
}

fn start_ignite(deployment: &Deployment, bound: IgniteListeners, clock: Clock) -> anyhow::Result<Running> {
    let config = ignite_config(deployment)?;
    let secret = |name: &str| deployment.secrets.path(name);
    let tls = service::tls::server_config(&secret("ignite/tls.crt"), &secret("ignite/tls.key"))?;
    let listeners = ignite::Listeners {
        mqtt: vec![bound.mqtt, bound.mqtts.with_tls(Arc::clone(&tls))],
        http: vec![bound.http, bound.https.with_tls(tls)],
        ..ignite::Listeners::default()
    };
    Ok(Running::start("ignite", move |shutdown| ignite::run(config, listeners, clock, shutdown)))
}

fn ignite_config(deployment: &Deployment) -> anyhow::Result<ignite::Config> {
    let (config, source) = service::config::parse::<ignite::Config>(
        Path::new("ignite.toml"),
        &deployment.ignite_toml(),
        |_| None,
    )?;
    config.validate(&source)?;
    Ok(config)
}

fn start_didp(deployment: &Deployment, bound: DidpListeners, clock: Clock) -> anyhow::Result<Running> {
    let text = deployment.didp_toml();
    let (config, _) = service::config::parse::<didp::Config>(Path::new("didp.toml"), &text, |_| None)?;
    let secret = |name: &str| deployment.secrets.path(name);
    let tls = service::tls::server_config(&secret("didp/tls.crt"), &secret("didp/tls.key"))?;
    let listeners = didp::Listeners {
        http: Some(bound.http),
        mqtt: Some(bound.mqtt),
        mqtts: Some(bound.mqtts.with_tls(tls)),
        ..didp::Listeners::default()
    };
    // On a thread of its own: rustc does not see from here that the DIdP's future may move between threads (rust-lang/rust#110338).
    // And on a runtime of its own: a test that fails takes its runtime away at once, and would wait for this thread, which waits for
    // tasks that are gone with the runtime.
    Ok(Running::start("didp", move |shutdown| async move {
        let (ended, outcome) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("didp".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            let served = runtime
                .context("a runtime")
                .and_then(|runtime| runtime.block_on(didp::run(config, listeners, clock, shutdown)));
            // Nobody hears it if the test has ended meanwhile.
            let _ = ended.send(served);
        })?;
        outcome.await.context("its thread ended")?
    }))
}

struct Bound {
    didp: DidpListeners,
    ignite: IgniteListeners,
    idp: Listener,
}

struct DidpListeners {
    http: Listener,
    mqtt: Listener,
    mqtts: Listener,
}

struct IgniteListeners {
    mqtt: Listener,
    mqtts: Listener,
    http: Listener,
    https: Listener,
}

async fn bind(port: u16) -> std::io::Result<Listener> {
    Listener::bind(&format!("127.0.0.1:{port}")).await
}

impl DidpListeners {
    async fn bind(deployment: &Deployment) -> std::io::Result<Self> {
        let ports = &deployment.ports;
        Ok(Self {
            http: bind(ports.didp_http).await?,
            mqtt: bind(ports.didp_mqtt).await?,
            mqtts: bind(ports.didp_mqtts).await?,
        })
    }
}

impl IgniteListeners {
    async fn bind(deployment: &Deployment) -> std::io::Result<Self> {
        let ports = &deployment.ports;
        Ok(Self {
            mqtt: bind(ports.ignite_mqtt).await?,
            mqtts: bind(ports.ignite_mqtts).await?,
            http: bind(ports.ignite_http).await?,
            https: bind(ports.ignite_https).await?,
        })
    }
}

impl Bound {
    async fn any() -> std::io::Result<Self> {
        Ok(Self {
            didp: DidpListeners { http: bind(0).await?, mqtt: bind(0).await?, mqtts: bind(0).await? },
            ignite: IgniteListeners {
                mqtt: bind(0).await?,
                mqtts: bind(0).await?,
                http: bind(0).await?,
                https: bind(0).await?,
            },
            idp: bind(0).await?,
        })
    }

    fn ports(&self) -> std::io::Result<Ports> {
        let port = |listener: &Listener| Ok::<_, std::io::Error>(listener.local_addr()?.port());
        Ok(Ports {
            didp_http: port(&self.didp.http)?,
            didp_mqtt: port(&self.didp.mqtt)?,
            didp_mqtts: port(&self.didp.mqtts)?,
            ignite_mqtt: port(&self.ignite.mqtt)?,
            ignite_mqtts: port(&self.ignite.mqtts)?,
            ignite_http: port(&self.ignite.http)?,
            ignite_https: port(&self.ignite.https)?,
            idp: port(&self.idp)?,
        })
    }
}

/// The `pcm` program of this build: beside this program, or built now.
fn pcm_program() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("the path of this program")?;
    // Tests lie in `deps` below the folder that programs are in.
    let folders = this.ancestors().skip(1).take(2);
    let found = || folders.clone().map(|folder| folder.join("pcm")).find(|program| program.is_file());
    if let Some(program) = found() {
        return Ok(program);
    }
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "pcm"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    ensure!(build.status().context("run cargo")?.success(), "the pcm program could not be built");
    found().context("the pcm program is not beside this one, though it was built")
}
