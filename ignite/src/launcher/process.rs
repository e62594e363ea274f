//! The `process` runtime: a sandboxed child process a PCM, for places without Docker.
//!
//! The launcher makes the listener and hands it over as file descriptor 3; the PCM locks itself in (`--sandbox`) and
//! refuses to start where it cannot. What containers give and this does not is said at start, by [`Processes::new`]. The
//! children end with the launcher, so there is never one to adopt.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};

use anyhow::{Context as _, ensure};
use tokio::sync::oneshot;

use super::network::Network;
use super::slots::Slot;
use super::{Body, Failure, Seen};
use crate::config::LauncherConfig;

/// The descriptor that a PCM finds its listener at.
const LISTENER_FD: i32 = 3;
const OPEN_FILES: libc::rlim_t = 4096;

/// What a child may use at most.
type Limits = [(libc::__rlimit_resource_t, libc::rlim_t); 4];

/// The children.
pub(super) struct Processes {
    command: Vec<PathBuf>,
    limits: Limits,
    peer_uid: u32,
    own_uid: u32,
    network: Network,
    spawner: mpsc::Sender<Order>,
    children: Mutex<HashMap<Slot, Child>>,
}

/// A child to start, and who wants to know.
struct Order {
    command: Command,
    started: oneshot::Sender<io::Result<Child>>,
}

impl Processes {
    /// Starts the thread that starts PCMs, and says what they do not get.
    pub(super) fn new(config: &LauncherConfig, peer_uid: u32) -> anyhow::Result<Self> {
        ensure!(!config.pcm_command.is_empty(), "launcher.pcm_command names no program");
        let own_uid = rustix::process::getuid().as_raw();
        let (spawner, orders) = mpsc::channel();
        let (told, heard) = mpsc::channel();
        // A child is told to die with the thread that made it, so that thread must live as long as the launcher.
        std::thread::Builder::new()
            .name("pcm-spawner".into())
            .spawn(move || {
                let _ = told.send(Network::make(peer_uid == own_uid));
                spawn_in_order(&orders);
            })
            .context("start the thread that starts PCMs")?;
        let network = heard.recv().context("the thread that starts PCMs ended")?;
        if let Network::Host(error) = &network {
            tracing::warn!(event = "no_network_namespace", %error, "PCMs see the host's network: their filter alone keeps them from it");
        }
        tracing::warn!(
            event = "runtime_process",
            uid = own_uid,
            empty_network = !matches!(network, Network::Host(_)),
            "PCMs run as processes: no own user, no own mount or process namespace, no memory limit by cgroup; what keeps them \
             apart is the system call filter that each puts on itself"
        );
        let limits = [
            (libc::RLIMIT_NOFILE, OPEN_FILES),
            (libc::RLIMIT_DATA, config.owner_memory_mib << 20),
            (libc::RLIMIT_CORE, 0),
            (libc::RLIMIT_FSIZE, config.longest_file()),
        ];
        let command = config.pcm_command.clone();
        Ok(Self { command, limits, peer_uid, own_uid, network, spawner, children: Mutex::default() })
    }

    /// The user that PCMs run as.
    pub(super) fn user(&self) -> u32 {
        self.own_uid
    }

    /// Starts a child that listens on `socket`.
    pub(super) async fn start(&self, slot: Slot, socket: &Path) -> Result<Body, Failure> {
        let child = self.spawn(socket).await;
        let child = child.map_err(|error| Failure::Engine(format!("start the PCM: {error}")))?;
        let pid = child.id();
        self.children().insert(slot, child);
        Ok(Body { slot, pid, container: slot.directory(), group: None, outdated: false })
    }

    async fn spawn(&self, socket: &Path) -> io::Result<Child> {
        let listener = UnixListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        let command = self.command(listener.into());
        let (started, child) = oneshot::channel();
        let stopped = || io::Error::other("the launcher stops");
        self.spawner.send(Order { command, started }).map_err(|_| stopped())?;
        child.await.map_err(|_| stopped())?
    }

    /// Ends the child, if there is one.
    pub(super) async fn end(&self, slot: Slot) {
        let child = self.children().remove(&slot);
        if let Some(mut child) = child {
            // One that has ended already needs no signal; either way it is waited for, so that no zombie stays.
            let _ = child.kill();
            let _ = tokio::task::spawn_blocking(move || child.wait()).await;
        }
    }

    /// The children.
    pub(super) fn list(&self) -> Vec<Seen> {
        let mut children = self.children();
        let seen = children.iter_mut().map(|(slot, child)| Seen {
            container: slot.directory(),
            slot: Some(*slot),
            running: matches!(child.try_wait(), Ok(None)),
            outdated: false,
            pid: child.id(),
            group: None,
        });
        seen.collect()
    }

    /// Whether the child is there and has not ended.
    pub(super) fn runs(&self, slot: Slot) -> bool {
        self.children().get_mut(&slot).is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The PCM's command line: an empty environment, no standard input or output, and `listener` as descriptor 3.
    #[allow(unsafe_code)]
    fn command(&self, listener: OwnedFd) -> Command {
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .args(["--listen-fd", "3", "--peer-uid", &self.peer_uid.to_string()])
            .args(["--launcher-uid", &self.own_uid.to_string(), "--sandbox"])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let launcher = rustix::process::getpid();
        let limits = self.limits;
        let network = self.network.to_join();
        // SAFETY: between fork and exec only system calls are made, on values that were there before; nothing allocates or locks.
        unsafe {
            command.pre_exec(move || {
                check(libc::setsid())?;
                // Before the next line: another user namespace undoes it.
                for (namespace, kind) in &network {
                    check(libc::setns(*namespace, *kind))?;
                }
                check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
                if libc::getppid() != launcher.as_raw_nonzero().get() {
                    // The launcher died before the line above, so no signal would come.
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                for (resource, value) in limits {
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

    fn children(&self) -> std::sync::MutexGuard<'_, HashMap<Slot, Child>> {
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

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
