//! The launcher: starts and ends PCMs for the gateway, and is the only one that may hold the container engine's socket.
//!
//! `server` takes typed verbs (`wire`) from one user only and hands them to a [`Launcher`]. What it does with them is `claim`'s:
//! a PCM that runs already, one of the `pool`, or a new one. `reconcile` compares what is there with what should be, and stops
//! who is not needed. All of them work on slots (`slots`); what runs in one is `docker`'s (after `spec`, which is pure) or
//! `process`'s. There is no falling back from one to the other. What a PCM keeps over its own end lies in `state`, and goes only
//! when the gateway says so. The launcher speaks to a PCM by `talk`.
//! The gateway's side is [`client`]. What a PCM may do and for whom is none of the launcher's business.

mod claim;
pub mod client;
mod docker;
mod groups;
mod network;
mod pool;
mod probe;
mod process;
mod reconcile;
mod server;
mod slots;
mod spec;
mod state;
mod syscalls;
mod talk;
pub mod wire;

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Context as _;
use service::Shutdown;
use tokio::sync::{Notify, OwnedMutexGuard, Semaphore};

use crate::config::{LauncherConfig, Runtime};
use slots::{Slot, Slots};
use state::States;
use wire::{Answer, Counts, ErrorKind, PcmName, Process, Verb};

/// Longest path of the directory: a socket's path must fit into 108 bytes with a PCM's name in it.
const LONGEST_DIR: usize = 60;
/// PCMs that are started at once; more only make the engine slower for each.
const STARTS_AT_ONCE: usize = 8;

/// Serves the launcher's socket until `shutdown`. Processes end with it; containers are left running if their gateway is.
///
/// # Errors
/// The engine, the directory or the socket cannot be used, or another launcher has it.
pub async fn run(config: LauncherConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    check(&config).map_err(anyhow::Error::msg)?;
    let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let peer_uid = config.peer_uid.unwrap_or(own.0);
    let peer_gid = config.peer_gid.unwrap_or(own.1);
    let states = config.state_dir.as_deref().map(States::new).transpose()?;
    std::fs::create_dir_all(&config.dir).with_context(|| format!("create {}", config.dir.display()))?;
    let listener = server::bind(&config.socket, peer_gid)
        .with_context(|| format!("listen on the launcher's socket {}", config.socket.display()))?;
    let with_users = matches!(config.runtime, Runtime::Docker).then_some(peer_gid);
    let slots = Slots::open(&config.dir, with_users)?;
    let engine = match config.runtime {
        Runtime::Docker => {
            Engine::Docker(Box::new(docker::Containers::connect(&config, peer_uid, own.0).await?))
        }
        Runtime::Process => Engine::Process(process::Processes::new(&config, peer_uid)?),
    };
    let launcher = Arc::new(Launcher {
        engine,
        slots,
        states,
        config,
        flights: Mutex::default(),
        known: Mutex::default(),
        pool: Mutex::default(),
        at_work: Mutex::default(),
        starts: Semaphore::new(STARTS_AT_ONCE),
        cold_starts: AtomicUsize::new(0),
        reconciling: tokio::sync::Mutex::default(),
        changed: Notify::new(),
        taken: Notify::new(),
        unnamed: Mutex::default(),
        to_name: Notify::new(),
    });
    launcher
        .take_over()
        .await
        .map_err(|failure| anyhow::anyhow!("look for PCMs that are there already: {failure}"))?;
    tracing::info!(
        event = "launcher_ready",
        running = launcher.known().len(),
        pool = launcher.pool().len(),
        capacity = launcher.config.capacity,
        "the launcher is ready"
    );
    let token = shutdown.token().clone();
    let background = [
        tokio::spawn(pool::keep_filled(Arc::clone(&launcher), token.clone())),
        tokio::spawn(reconcile::keep_true(Arc::clone(&launcher), token.clone())),
    ];
    // The launcher's own user may look too, for the health check; who is that user could do anything here anyway.
    server::serve(listener, Arc::clone(&launcher), [peer_uid, own.0], token).await;
    for task in background {
        // Either has heard of the end itself, and what it was at is finished or undone.
        let _ = task.await;
    }
    if let Engine::Docker(containers) = &launcher.engine {
        match containers.is_unused().await {
            Ok(true) => launcher.end_all().await,
            Ok(false) => {}
            Err(failure) => {
                tracing::warn!(event = "pcms_stay", %failure, "whether PCMs are still used could not be found out");
            }
        }
    }
    // A socket file that stays is no harm, it is replaced at the next start.
    let _ = std::fs::remove_file(&launcher.config.socket);
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
    if !(8..=1 << 20).contains(&config.owner_memory_mib) {
        return Err("launcher.owner_memory_mib must be from 8 to 1048576".into());
    }
    if !(1..=1 << 20).contains(&config.owner_disk_mib) {
        return Err("launcher.owner_disk_mib must be from 1 to 1048576".into());
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
    /// Starts something in a slot whose directory is there; `name` is what its container is called.
    async fn start(&self, slots: &Slots, slot: Slot, name: &str) -> Result<Started, Failure> {
        match self {
            Engine::Docker(containers) => containers.start(slot, name).await,
            Engine::Process(processes) => {
                processes.start(slot, &slots.pool_socket(slot)).await.map(Started::Running)
            }
        }
    }

    /// Calls a container by the name of a PCM; false if another one has the name.
    async fn rename(&self, body: &mut Body, name: &PcmName) -> Result<bool, Failure> {
        let Engine::Docker(containers) = self else { return Ok(true) };
        let renamed = containers.rename(&body.container, name.as_str()).await?;
        if renamed {
            name.as_str().clone_into(&mut body.container);
        }
        Ok(renamed)
    }

    /// Ends what runs there.
    async fn end(&self, container: &str, slot: Option<Slot>) -> Result<(), Failure> {
        match (self, slot) {
            (Engine::Docker(containers), _) => containers.end(container).await,
            (Engine::Process(processes), Some(slot)) => {
                processes.end(slot).await;
                Ok(())
            }
            (Engine::Process(_), None) => Ok(()),
        }
    }

    async fn list(&self) -> Result<Vec<Seen>, Failure> {
        match self {
            Engine::Docker(containers) => containers.list().await,
            Engine::Process(processes) => Ok(processes.list()),
        }
    }

    /// Whether it runs, as far as can be told without asking anybody.
    fn seems_to_run(&self, slot: Slot) -> bool {
        match self {
            Engine::Docker(_) => true,
            Engine::Process(processes) => processes.runs(slot),
        }
    }

    /// The user that listens in a slot.
    fn user(&self, slot: Slot) -> u32 {
        match self {
            Engine::Docker(_) => slot.user(),
            Engine::Process(processes) => processes.user(),
        }
    }
}

/// What runs in a slot.
#[derive(Clone, Debug)]
struct Body {
    slot: Slot,
    pid: u32,
    /// What its container is called.
    container: String,
    /// With which others it shares a shim.
    group: Option<String>,
    /// Made from another image or other settings than those that hold now.
    outdated: bool,
}

/// What came of starting.
enum Started {
    Running(Body),
    /// There is a container of that name.
    Taken,
}

/// What an engine says it has.
#[derive(Clone, Debug)]
struct Seen {
    container: String,
    slot: Option<Slot>,
    running: bool,
    outdated: bool,
    pid: u32,
    group: Option<String>,
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("as many PCMs run as the configuration allows")]
    Capacity,
    #[error("the host has too little memory left for another PCM")]
    Memory,
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
            Failure::Capacity | Failure::Memory => {
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
    slots: Slots,
    /// What PCMs keep, if they keep anything.
    states: Option<States>,
    config: LauncherConfig,
    flights: Mutex<HashMap<PcmName, Arc<tokio::sync::Mutex<()>>>>,
    /// Owners' PCMs; without a body where one is being brought up, which has its place already.
    known: Mutex<HashMap<PcmName, Option<Body>>>,
    /// PCMs that run and are nobody's yet, oldest first.
    pool: Mutex<VecDeque<Body>>,
    /// Slots that are in neither, because somebody is at work on them.
    at_work: Mutex<HashSet<Slot>>,
    starts: Semaphore,
    /// Owners who wait for a start.
    cold_starts: AtomicUsize,
    /// Held while it is looked what is there; when that was last.
    reconciling: tokio::sync::Mutex<Option<Instant>>,
    /// Something may have ended.
    changed: Notify,
    /// The pool may lack something.
    taken: Notify,
    /// Owners whose container the engine was too slow to rename.
    unnamed: Mutex<Vec<PcmName>>,
    to_name: Notify,
}

impl Launcher {
    async fn answer(&self, verb: Verb) -> Answer {
        let done = match verb {
            Verb::Ensure { name } => self.ensure(&name).await.map(Answer::Ready),
            Verb::Remove { name } => self.remove(&name).await.map(|()| Answer::Removed {}),
            Verb::List {} => Ok(Answer::Pcms { names: self.names() }),
            Verb::Counts {} => Ok(Answer::Counts(self.counts())),
            Verb::Processes {} => Ok(Answer::Processes { pcms: self.processes() }),
        };
        done.unwrap_or_else(Failure::answer)
    }

    async fn remove(&self, name: &PcmName) -> Result<(), Failure> {
        let _flight = self.enter(name).await;
        let body = self.body(name);
        self.clear(name, body.as_ref()).await?;
        self.known().remove(name);
        if let Some(states) = &self.states {
            states
                .erase(name)
                .map_err(|error| Failure::Engine(format!("remove what the PCM kept: {error}")))?;
        }
        tracing::info!(event = "pcm_removed", %name, "PCM removed");
        Ok(())
    }

    /// Ends everything that has this name, whether it was known or not, and removes its directory.
    async fn clear(&self, name: &PcmName, body: Option<&Body>) -> Result<(), Failure> {
        let io = |error| Failure::Engine(format!("remove the PCM's directory: {error}"));
        if let Some(body) = body {
            self.engine.end(&body.container, Some(body.slot)).await?;
        }
        if body.is_none_or(|body| body.container != name.as_str()) {
            self.engine.end(name.as_str(), None).await?;
        }
        if body.is_none()
            && let (Engine::Docker(_), Some(slot)) = (&self.engine, self.slots.slot_of(name).map_err(io)?)
        {
            // Claimed by a launcher that died before it could give the container its name.
            self.engine.end(&slot.container(), Some(slot)).await?;
        }
        let gone = self.slots.put_away(name).map_err(io)?;
        gone.map_or(Ok(()), std::fs::remove_dir_all).map_err(io)
    }

    /// Ends all PCMs; what they keep stays.
    async fn end_all(&self) {
        tracing::info!(event = "pcms_end", "the services that use PCMs are down, so the PCMs are removed");
        let known: Vec<(PcmName, Option<Body>)> = self.known().drain().collect();
        let known = futures_util::stream::iter(known);
        let failed = |failure: Failure| {
            tracing::warn!(event = "pcm_stays", %failure, "a PCM that nobody uses any more could not be removed");
        };
        futures_util::StreamExt::for_each_concurrent(known, STARTS_AT_ONCE, async |(name, body)| {
            self.clear(&name, body.as_ref()).await.unwrap_or_else(failed);
        })
        .await;
        let pool: Vec<Body> = self.pool().drain(..).collect();
        let pool = futures_util::stream::iter(pool);
        futures_util::StreamExt::for_each_concurrent(pool, STARTS_AT_ONCE, async |body| {
            self.give_up(&body).await.unwrap_or_else(failed);
        })
        .await;
    }

    /// Ends a PCM that is nobody's.
    async fn give_up(&self, body: &Body) -> Result<(), Failure> {
        self.engine.end(&body.container, Some(body.slot)).await?;
        self.slots
            .remove(body.slot, None)
            .map_err(|error| Failure::Engine(format!("remove the directory of a slot: {error}")))
    }

    fn names(&self) -> Vec<PcmName> {
        let known = self.known();
        let runs =
            |body: &Option<Body>| body.as_ref().is_some_and(|body| self.engine.seems_to_run(body.slot));
        let mut names: Vec<PcmName> =
            known.iter().filter(|(_, body)| runs(body)).map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    fn counts(&self) -> Counts {
        Counts {
            owned: self.known().values().flatten().count() as u64,
            pool: self.pool().len() as u64,
            starting: self.cold_starts.load(Ordering::Relaxed) as u64,
            capacity: self.config.capacity as u64,
        }
    }

    fn processes(&self) -> Vec<Process> {
        let process = |name: Option<&PcmName>, body: &Body| Process {
            name: name.cloned(),
            pid: body.pid,
            container: body.container.clone(),
            group: body.group.clone(),
        };
        let known = self.known();
        let mut pcms: Vec<Process> =
            known.iter().filter_map(|(name, body)| Some(process(Some(name), body.as_ref()?))).collect();
        pcms.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        pcms.extend(self.pool().iter().map(|body| process(None, body)));
        pcms
    }

    fn body(&self, name: &PcmName) -> Option<Body> {
        self.known().get(name).cloned().flatten()
    }

    /// Whether a slot is somebody's or will be.
    fn has(&self, slot: Slot) -> bool {
        self.at_work().contains(&slot)
            || self.pool().iter().any(|body| body.slot == slot)
            || self.known().values().flatten().any(|body| body.slot == slot)
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

    fn known(&self) -> MutexGuard<'_, HashMap<PcmName, Option<Body>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(&self) -> MutexGuard<'_, VecDeque<Body>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unnamed(&self) -> MutexGuard<'_, Vec<PcmName>> {
        self.unnamed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_work(&self) -> MutexGuard<'_, HashSet<Slot>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self, name: &PcmName) -> PathBuf {
        self.slots.socket(name)
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

/// Keeps others from taking a slot for nobody's.
struct Work<'a> {
    launcher: &'a Launcher,
    slot: Slot,
}

impl<'a> Work<'a> {
    fn on(launcher: &'a Launcher, slot: Slot) -> Self {
        launcher.at_work().insert(slot);
        Self { launcher, slot }
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.launcher.at_work().remove(&self.slot);
    }
}

/// Memory that the host has left, in bytes, if it tells.
fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
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
            (LauncherConfig { owner_memory_mib: 1, ..config() }, "launcher.owner_memory_mib"),
            (LauncherConfig { owner_disk_mib: 0, ..config() }, "launcher.owner_disk_mib"),
            (LauncherConfig { pcm_command: Vec::new(), ..config() }, "launcher.pcm_command"),
            (LauncherConfig { runtime: Runtime::Docker, image: String::new(), ..config() }, "launcher.image"),
        ];
        for (config, key) in wrong {
            assert!(check(&config).unwrap_err().contains(key), "{key}");
        }
    }

    #[test]
    fn what_memory_is_left_is_read() {
        let meminfo = "MemTotal:       24105000 kB\nMemFree:  1 kB\nMemAvailable:   22757000 kB\n";
        assert_eq!(available_memory(meminfo), Some(22_757_000 << 10));
        assert_eq!(available_memory("MemTotal: 1 kB\n"), None);
    }
}
