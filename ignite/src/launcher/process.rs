//! The `process` runtime: a sandboxed child process a PCM, for places without Docker.
//!
//! The launcher makes the listener and hands it over as file descriptor 3; the PCM locks itself in (`--sandbox`) and
//! refuses to start where it cannot. Where PCMs keep state, each opens its own two files before. What containers give and this does not is said at start, by [`Processes::new`]. The
//! children end with the launcher, so there is never one to adopt.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::probe::Tries;
use super::state::{LONGEST_FILE, States};
use super::wire::{PcmName, Ready};
use super::{Failure, Listed};
use crate::config::LauncherConfig;

/// The descriptor that a PCM finds its listener at.
const LISTENER_FD: i32 = 3;
/// Longest time from a request to a PCM that accepts.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long a running PCM may take to answer before it counts as dead.
const ADOPT_LIMIT: Duration = Duration::from_secs(3);

/// What a child may use at most: descriptors, bytes of data, bytes of a core dump, bytes of a file.
const LIMITS: [(libc::__rlimit_resource_t, libc::rlim_t); 4] = [
    (libc::RLIMIT_NOFILE, 4096),
    (libc::RLIMIT_DATA, 256 << 20),
    (libc::RLIMIT_CORE, 0),
    (libc::RLIMIT_FSIZE, LONGEST_FILE),
];

/// The children.
pub(super) struct Processes {
    dir: PathBuf,
    command: Vec<PathBuf>,
    peer_uid: u32,
    own_uid: u32,
    states: Option<Arc<States>>,
    spawner: mpsc::Sender<Order>,
    children: Mutex<HashMap<PcmName, Child>>,
}

/// A child to start, and who wants to know.
struct Order {
    command: Command,
    started: oneshot::Sender<io::Result<Child>>,
}

impl Processes {
    /// Takes over the directory, which must not be another launcher's.
    pub(super) fn new(
        config: &LauncherConfig,
        peer_uid: u32,
        states: Option<Arc<States>>,
    ) -> anyhow::Result<Self> {
        ensure!(!config.pcm_command.is_empty(), "launcher.pcm_command names no program");
        std::fs::create_dir_all(&config.dir).with_context(|| format!("create {}", config.dir.display()))?;
        std::fs::set_permissions(&config.dir, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("set the mode of {}", config.dir.display()))?;
        let own_uid = rustix::process::getuid().as_raw();
        let (spawner, orders) = mpsc::channel();
        // A child is told to die with the thread that made it, so that thread must live as long as the launcher.
        std::thread::Builder::new()
            .name("pcm-spawner".into())
            .spawn(move || spawn_in_order(&orders))
            .context("start the thread that starts PCMs")?;
        tracing::warn!(
            event = "runtime_process",
            uid = own_uid,
            "PCMs run as processes: no own user, no own network, mount or process namespace, no memory limit by cgroup; what \
             keeps them apart is the system call filter that each puts on itself"
        );
        Ok(Self {
            dir: config.dir.clone(),
            command: config.pcm_command.clone(),
            peer_uid,
            own_uid,
            states,
            spawner,
            children: Mutex::default(),
        })
    }

    /// A running child of this name.
    pub(super) async fn ensure(&self, name: &PcmName) -> Result<Ready, Failure> {
        let ready = |fresh| Ready { name: name.clone(), socket: self.socket(name), uid: self.own_uid, fresh };
        if self.runs(name) {
            let limit = Instant::now() + ADOPT_LIMIT;
            match self.wait(name, limit).await {
                Ok(()) => return Ok(ready(false)),
                Err(error) => {
                    tracing::warn!(event = "pcm_hangs", %name, %error, "a running PCM does not answer and is replaced");
                }
            }
        }
        self.discard(name).await?;
        match self.launch(name).await {
            Ok(()) => Ok(ready(true)),
            Err(error) => {
                self.discard(name).await?;
                Err(Failure::Engine(format!("start the PCM: {error}")))
            }
        }
    }

    async fn launch(&self, name: &PcmName) -> io::Result<()> {
        let child = self.start(name).await?;
        self.children().insert(name.clone(), child);
        self.wait(name, Instant::now() + START_LIMIT).await
    }

    async fn start(&self, name: &PcmName) -> io::Result<Child> {
        let dir = self.dir.join(name.as_str());
        std::fs::create_dir(&dir)?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        let listener = UnixListener::bind(self.socket(name))?;
        listener.set_nonblocking(true)?;
        let state = self.states.as_ref().map(|states| states.prepare(name, None)).transpose()?;
        let command = command(&self.command, self.peer_uid, state.as_deref(), listener.into());
        let (started, child) = oneshot::channel();
        let stopped = || io::Error::other("the launcher stops");
        self.spawner.send(Order { command, started }).map_err(|_| stopped())?;
        child.await.map_err(|_| stopped())?
    }

    /// Waits until the child accepts.
    async fn wait(&self, name: &PcmName, deadline: Instant) -> io::Result<()> {
        let socket = self.socket(name);
        let mut tries = Tries::new(&socket, self.own_uid, deadline);
        while !tries.next().await? {
            self.alive(name)?;
        }
        Ok(())
    }

    /// Ends the child, if there is one, and removes the directory of its socket.
    pub(super) async fn discard(&self, name: &PcmName) -> Result<(), Failure> {
        let child = self.children().remove(name);
        if let Some(mut child) = child {
            // One that has ended already needs no signal; either way it is waited for, so that no zombie stays.
            let _ = child.kill();
            let _ = tokio::task::spawn_blocking(move || child.wait()).await;
        }
        match std::fs::remove_dir_all(self.dir.join(name.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::Engine(format!("remove the PCM's directory: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Removes what is left of a PCM that runs no more; leaves a running one alone.
    pub(super) async fn remove_dead(&self, name: &PcmName) -> Result<(), Failure> {
        if self.runs(name) { Ok(()) } else { self.discard(name).await }
    }

    /// The children, and directories that a former launcher left.
    pub(super) fn list(&self) -> Result<Vec<Listed>, Failure> {
        let names: Vec<PcmName> = self.children().keys().cloned().collect();
        let mut listed: Vec<Listed> =
            names.into_iter().map(|name| Listed { running: self.runs(&name), name }).collect();
        for name in super::directories(&self.dir)
            .map_err(|error| Failure::Engine(format!("list directories: {error}")))?
        {
            if listed.iter().all(|known| known.name != name) {
                listed.push(Listed { name, running: false });
            }
        }
        Ok(listed)
    }

    fn runs(&self, name: &PcmName) -> bool {
        self.alive(name).is_ok()
    }

    fn alive(&self, name: &PcmName) -> io::Result<()> {
        let mut children = self.children();
        let child = children.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!("the PCM ended ({status})"))),
        }
    }

    fn socket(&self, name: &PcmName) -> PathBuf {
        self.dir.join(name.as_str()).join("s")
    }

    fn children(&self) -> std::sync::MutexGuard<'_, HashMap<PcmName, Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, mut child) in self.children().drain() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn_in_order(orders: &mpsc::Receiver<Order>) {
    while let Ok(Order { mut command, started }) = orders.recv() {
        let child = command.spawn();
        // The listener goes with it: once the child is dead nobody must hold its queue open.
        drop(command);
        if let Err(Ok(mut child)) = started.send(child) {
            // Nobody waits for it any more.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The PCM's command line: an empty environment, no standard input or output, and `listener` as descriptor 3.
#[allow(unsafe_code)]
fn command(program: &[PathBuf], peer_uid: u32, state: Option<&Path>, listener: OwnedFd) -> Command {
    let mut command = Command::new(&program[0]);
    command
        .args(&program[1..])
        .args(["--listen-fd", "3", "--peer-uid", &peer_uid.to_string(), "--sandbox"])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if let Some(state) = state {
        command.arg("--state-dir").arg(state);
    }
    let launcher = rustix::process::getpid();
    // SAFETY: between fork and exec only system calls are made, on values that were there before; nothing allocates or locks.
    unsafe {
        command.pre_exec(move || {
            check(libc::setsid())?;
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            if libc::getppid() != launcher.as_raw_nonzero().get() {
                // The launcher died before the line above, so no signal would come.
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            for (resource, value) in LIMITS {
                check(libc::setrlimit(resource, &libc::rlimit { rlim_cur: value, rlim_max: value }))?;
            }
            // A file that is full is an error for the one who writes it, and no death: the log may be one, too.
            if libc::signal(libc::SIGXFSZ, libc::SIG_IGN) == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
            let first_other = LISTENER_FD as libc::c_uint + 1;
            check(libc::close_range(
                first_other,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
            ))?;
            if listener.as_raw_fd() == LISTENER_FD {
                check(libc::fcntl(LISTENER_FD, libc::F_SETFD, 0))
            } else {
                check(libc::dup2(listener.as_raw_fd(), LISTENER_FD))
            }
        });
    }
    command
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
