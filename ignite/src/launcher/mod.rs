//! The launcher: starts and ends PCMs for the gateway, and is the only one that may hold the container engine's socket.
//!
//! `server` takes typed verbs (`wire`) from one user only and hands them to a [`Launcher`]; that sees to it that a name
//! is worked on by one request at a time, that no more PCMs run than allowed, and that dead ones are swept away. How a PCM
//! is started is `docker`'s (after `spec`, which is pure) or `process`'s. There is no falling back from one to the other. What a
//! PCM keeps over its own end lies in `state`, and goes only when the gateway says so.
//! The gateway's side is [`client`]. What a PCM may do and for whom is none of the launcher's business.

pub mod client;
mod docker;
mod probe;
mod process;
mod server;
mod spec;
mod state;
pub mod wire;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use service::Shutdown;
use tokio::sync::OwnedMutexGuard;

use crate::config::{LauncherConfig, Runtime};
use state::States;
use wire::{Answer, ErrorKind, PcmName, Ready, Verb};

/// Time between two looks for PCMs that have ended.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Longest path of the directory: a socket's path must fit into 108 bytes with a PCM's name in it.
const LONGEST_DIR: usize = 60;

/// Serves the launcher's socket until `shutdown`. Processes end with it; containers are left running if their gateway is.
///
/// # Errors
/// The engine, the directory or the socket cannot be used, or another launcher has it.
pub async fn run(config: LauncherConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    check(&config).map_err(anyhow::Error::msg)?;
    let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let peer_uid = config.peer_uid.unwrap_or(own.0);
    let peer_gid = config.peer_gid.unwrap_or(own.1);
    let states = config.state_dir.as_deref().map(States::new).transpose()?.map(Arc::new);
    let engine = match config.runtime {
        Runtime::Docker => {
            let containers = docker::Containers::connect(&config, peer_uid, peer_gid, states.clone());
            Engine::Docker(Box::new(containers.await?))
        }
        Runtime::Process => Engine::Process(process::Processes::new(&config, peer_uid, states.clone())?),
    };
    let listener = server::bind(&config.socket, peer_gid)
        .with_context(|| format!("listen on the launcher's socket {}", config.socket.display()))?;
    let launcher = Arc::new(Launcher {
        engine,
        states,
        capacity: config.capacity,
        flights: Mutex::default(),
        known: Mutex::default(),
    });
    launcher
        .sweep()
        .await
        .map_err(|failure| anyhow::anyhow!("look for PCMs that are there already: {failure}"))?;
    let running = launcher.known().len();
    tracing::info!(event = "launcher_ready", running, capacity = config.capacity, "the launcher is ready");
    // The launcher's own user may look too, for the health check; who is that user could do anything here anyway.
    server::serve(listener, Arc::clone(&launcher), [peer_uid, own.0], SWEEP_EVERY, shutdown.token().clone())
        .await;
    if let Engine::Docker(containers) = &launcher.engine
        && let Err(failure) = containers.end().await
    {
        tracing::warn!(event = "pcms_stay", %failure, "PCMs that nobody uses any more could not be removed");
    }
    // A socket file that stays is no harm, it is replaced at the next start.
    let _ = std::fs::remove_file(&config.socket);
    Ok(())
}

/// What can be wrong with the configuration, without starting anything.
///
/// # Errors
/// A sentence that names the key.
pub fn check(config: &LauncherConfig) -> Result<(), String> {
    if !config.dir.is_absolute() || !config.socket.is_absolute() {
        return Err("launcher.dir and launcher.socket must be absolute paths".into());
    }
    if config.dir.as_os_str().len() > LONGEST_DIR {
        return Err(format!(
            "launcher.dir is longer than {LONGEST_DIR} bytes, too long for a Unix socket below it"
        ));
    }
    if let Some(state_dir) = &config.state_dir {
        if !state_dir.is_absolute() {
            return Err("launcher.state_dir must be an absolute path".into());
        }
        if state_dir.starts_with(&config.dir) || config.dir.starts_with(state_dir) {
            return Err("launcher.state_dir and launcher.dir must not lie in each other".into());
        }
    }
    if config.capacity == 0 {
        return Err("launcher.capacity must be at least 1".into());
    }
    match config.runtime {
        Runtime::Docker if config.image.is_empty() => Err("launcher.image names no image".into()),
        Runtime::Process if config.pcm_command.is_empty() => {
            Err("launcher.pcm_command names no program, which runtime = \"process\" needs".into())
        }
        _ => Ok(()),
    }
}

/// How PCMs are run.
enum Engine {
    Docker(Box<docker::Containers>),
    Process(process::Processes),
}

impl Engine {
    async fn ensure(&self, name: &PcmName) -> Result<Ready, Failure> {
        match self {
            Engine::Docker(containers) => containers.ensure(name).await,
            Engine::Process(processes) => processes.ensure(name).await,
        }
    }

    /// Ends the PCM; what it keeps stays.
    async fn discard(&self, name: &PcmName) -> Result<(), Failure> {
        match self {
            Engine::Docker(containers) => containers.discard(name).await,
            Engine::Process(processes) => processes.discard(name).await,
        }
    }

    async fn remove_dead(&self, name: &PcmName) -> Result<(), Failure> {
        match self {
            Engine::Docker(containers) => containers.remove_dead(name).await,
            Engine::Process(processes) => processes.remove_dead(name).await,
        }
    }

    async fn list(&self) -> Result<Vec<Listed>, Failure> {
        match self {
            Engine::Docker(containers) => containers.list().await,
            Engine::Process(processes) => processes.list(),
        }
    }
}

/// A PCM or what is left of one.
struct Listed {
    name: PcmName,
    running: bool,
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("as many PCMs run as the configuration allows")]
    Capacity,
    #[error("{0}")]
    Engine(String),
    #[error("{0}")]
    BadRequest(String),
}

impl Failure {
    fn engine(message: &str) -> Self {
        Failure::Engine(message.to_owned())
    }

    /// The answer on the wire, logged as loudly as it deserves.
    fn answer(self) -> Answer {
        let message = self.to_string();
        let kind = match self {
            Failure::Capacity => {
                tracing::warn!(event = "launcher_refused", "{message}");
                ErrorKind::Capacity
            }
            Failure::Engine(_) => {
                tracing::error!(event = "launch_failed", "{message}");
                ErrorKind::Engine
            }
            Failure::BadRequest(_) => {
                tracing::warn!(event = "launcher_refused", "{message}");
                ErrorKind::BadRequest
            }
        };
        Answer::Error { kind, message }
    }
}

/// The rules that hold for both runtimes.
struct Launcher {
    engine: Engine,
    /// What PCMs keep, if they keep anything.
    states: Option<Arc<States>>,
    capacity: usize,
    flights: Mutex<HashMap<PcmName, Arc<tokio::sync::Mutex<()>>>>,
    /// PCMs that run or are being started.
    known: Mutex<HashSet<PcmName>>,
}

impl Launcher {
    async fn answer(&self, verb: Verb) -> Answer {
        let done = match verb {
            Verb::Ensure { name } => self.ensure(&name).await.map(Answer::Ready),
            Verb::Remove { name } => self.remove(&name).await.map(|()| Answer::Removed {}),
            Verb::List {} => self.list().await.map(|names| Answer::Pcms { names }),
        };
        done.unwrap_or_else(Failure::answer)
    }

    async fn ensure(&self, name: &PcmName) -> Result<Ready, Failure> {
        let _flight = self.enter(name).await;
        if !self.reserve(name) {
            self.sweep_except(Some(name)).await?;
            if !self.reserve(name) {
                return Err(Failure::Capacity);
            }
        }
        let started = std::time::Instant::now();
        match self.engine.ensure(name).await {
            Ok(ready) => {
                tracing::info!(event = "pcm_ready", %name, fresh = ready.fresh, ms = started.elapsed().as_millis() as u64, "PCM ready");
                Ok(ready)
            }
            Err(failure) => {
                self.known().remove(name);
                Err(failure)
            }
        }
    }

    async fn remove(&self, name: &PcmName) -> Result<(), Failure> {
        let _flight = self.enter(name).await;
        self.engine.discard(name).await?;
        if let Some(states) = &self.states {
            states
                .erase(name)
                .map_err(|error| Failure::Engine(format!("remove what the PCM kept: {error}")))?;
        }
        self.known().remove(name);
        tracing::info!(event = "pcm_removed", %name, "PCM removed");
        Ok(())
    }

    async fn list(&self) -> Result<Vec<PcmName>, Failure> {
        let mut names: Vec<PcmName> =
            self.engine.list().await?.into_iter().filter(|pcm| pcm.running).map(|pcm| pcm.name).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Removes what dead PCMs left and takes stock of those that run.
    async fn sweep(&self) -> Result<(), Failure> {
        self.sweep_except(None).await
    }

    /// The same, but for a name that the caller is at work on.
    async fn sweep_except(&self, mine: Option<&PcmName>) -> Result<(), Failure> {
        for pcm in self.engine.list().await? {
            if mine == Some(&pcm.name) {
                continue;
            }
            if pcm.running {
                self.known().insert(pcm.name);
                continue;
            }
            // One that is being started or removed is somebody's work already.
            let Some(_flight) = self.try_enter(&pcm.name) else { continue };
            match self.engine.remove_dead(&pcm.name).await {
                Ok(()) => {
                    self.known().remove(&pcm.name);
                    tracing::info!(event = "pcm_swept", name = %pcm.name, "what a dead PCM left was removed");
                }
                Err(failure) => {
                    tracing::warn!(event = "pcm_sweep_failed", name = %pcm.name, %failure, "what a dead PCM left could not be removed");
                }
            }
        }
        Ok(())
    }

    /// Takes a place for `name`, if it has none and one is free.
    fn reserve(&self, name: &PcmName) -> bool {
        let mut known = self.known();
        if !known.contains(name) && known.len() >= self.capacity {
            return false;
        }
        known.insert(name.clone());
        true
    }

    /// Waits until nobody else works on `name`.
    async fn enter(&self, name: &PcmName) -> Flight<'_> {
        let lock = Arc::clone(self.flights().entry(name.clone()).or_default());
        Flight { launcher: self, name: name.clone(), guard: Some(lock.lock_owned().await) }
    }

    /// The same without waiting.
    fn try_enter(&self, name: &PcmName) -> Option<Flight<'_>> {
        let lock = Arc::clone(self.flights().entry(name.clone()).or_default());
        let guard = lock.try_lock_owned().ok()?;
        Some(Flight { launcher: self, name: name.clone(), guard: Some(guard) })
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<PcmName, Arc<tokio::sync::Mutex<()>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashSet<PcmName>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to work on one name.
struct Flight<'a> {
    launcher: &'a Launcher,
    name: PcmName,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.launcher.flights();
        drop(self.guard.take());
        // Whoever waits holds another reference; without one the entry has served.
        if flights.get(&self.name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            flights.remove(&self.name);
        }
    }
}

/// The names of all directories in `dir` that are a PCM's.
fn directories(dir: &Path) -> io::Result<Vec<PcmName>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        names.extend(name.to_str().and_then(|name| PcmName::new(name).ok()));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> LauncherConfig {
        let value = serde_json::json!({
            "runtime": "process", "socket": "/run/ignite/launcher.sock", "dir": "/run/ignite", "pcm_command": ["/pcm"]
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(check(&config()), Ok(()));
        let wrong = [
            (LauncherConfig { dir: "run".into(), ..config() }, "launcher.dir"),
            (LauncherConfig { socket: "s".into(), ..config() }, "launcher.socket"),
            (LauncherConfig { dir: format!("/{}", "x".repeat(60)).into(), ..config() }, "launcher.dir"),
            (LauncherConfig { state_dir: Some("state".into()), ..config() }, "launcher.state_dir"),
            (LauncherConfig { state_dir: Some("/run/ignite/x".into()), ..config() }, "launcher.state_dir"),
            (LauncherConfig { state_dir: Some("/run".into()), ..config() }, "launcher.state_dir"),
            (LauncherConfig { capacity: 0, ..config() }, "launcher.capacity"),
            (LauncherConfig { pcm_command: Vec::new(), ..config() }, "launcher.pcm_command"),
            (LauncherConfig { runtime: Runtime::Docker, image: String::new(), ..config() }, "launcher.image"),
        ];
        for (config, key) in wrong {
            assert!(check(&config).unwrap_err().contains(key), "{key}");
        }
    }
}
