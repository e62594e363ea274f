//! An engine of a test's own, to be killed at will: `dockerd` with its own directories, socket and containerd.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::ListContainersOptionsBuilder;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

pub const DEADLINE: Duration = Duration::from_secs(60);

pub fn image() -> String {
    std::env::var("OAUTHING_PCM_IMAGE").unwrap_or_else(|_| "oauthing-pcm".to_owned())
}

pub struct Engine {
    dir: TempDir,
    child: Option<Child>,
    pub docker: Docker,
}

impl Engine {
    /// With the PCM's image in it.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = spawn(dir.path());
        let socket = dir.path().join("docker.sock");
        let there = async {
            while !socket.exists() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, there).await.expect("dockerd listens");
        let docker =
            Docker::connect_with_unix(socket.to_str().unwrap(), 30, bollard::API_DEFAULT_VERSION).unwrap();
        let mut engine = Self { dir, child: Some(child), docker };
        engine.answers().await;
        engine.docker = engine.docker.clone().negotiate_version().await.unwrap();
        let load = format!("docker save {} | docker -H unix://{} load", image(), engine.socket().display());
        let loaded = Command::new("sh").args(["-c", &load]).stdout(Stdio::null()).status().unwrap();
        assert!(loaded.success(), "{load}");
        engine
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    async fn answers(&mut self) {
        let up = async {
            while self.docker.ping().await.is_err() {
                let child = self.child.as_mut().unwrap();
                if let Some(status) = child.try_wait().unwrap() {
                    let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                    panic!("dockerd ended with {status}: {log}");
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, up).await.expect("dockerd answers");
    }

    /// As the kernel would when memory is out.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub async fn restart(&mut self) {
        self.child = Some(spawn(self.dir.path()));
        self.answers().await;
    }

    /// Makes another image of this name, with the same program in it; its id.
    pub async fn another_image(&self, name: &str) -> String {
        let docker = format!("docker -H unix://{}", self.socket().display());
        let label = rand::random::<u64>();
        let make = format!(
            "id=$({docker} create --network none {} /pcm) && \
             {docker} export $id | {docker} import --change 'LABEL made={label}' - {name} && {docker} rm $id",
            image()
        );
        let made = Command::new("sh").args(["-c", &make]).stdout(Stdio::null()).status().unwrap();
        assert!(made.success(), "{make}");
        self.docker.inspect_image(name).await.unwrap().id.unwrap()
    }

    /// Every container: its name, and whether it runs.
    pub async fn containers(&self) -> Vec<(String, bool)> {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        let described = |container: ContainerSummary| {
            let name = container.names.unwrap_or_default().remove(0);
            let runs = container.state == Some(ContainerSummaryStateEnum::RUNNING);
            (name.trim_start_matches('/').to_owned(), runs)
        };
        let mut all: Vec<_> =
            self.docker.list_containers(Some(options)).await.unwrap().into_iter().map(described).collect();
        all.sort_unstable();
        all
    }
}

fn spawn(dir: &Path) -> Child {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let log = std::fs::File::options().append(true).create(true).open(dir.join("log")).unwrap();
    // In a network namespace of its own: an engine without a bridge takes away the one that the machine's engine made.
    Command::new("unshare")
        .args([
            "--net",
            "dockerd",
            "--data-root",
            &path("data"),
            "--exec-root",
            &path("exec"),
            "--pidfile",
            &path("pid"),
        ])
        .args(["-H", &format!("unix://{}", path("docker.sock")), "--bridge=none", "--iptables=false"])
        .args(["--ip6tables=false", "--live-restore"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("unshare is installed, and so is dockerd")
}

/// The processes whose command line names something of this engine's directory, and their children: its daemons, its shims
/// and what runs under them.
fn processes(dir: &Path) -> Vec<Pid> {
    let dir = dir.to_str().unwrap();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        if !String::from_utf8_lossy(&command).contains(dir)
            || pid == i32::try_from(std::process::id()).unwrap()
        {
            continue;
        }
        let children = std::fs::read_to_string(process.path().join(format!("task/{pid}/children")));
        found.extend(
            children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()),
        );
        found.push(pid);
    }
    found.into_iter().filter_map(Pid::from_raw).collect()
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Those of ours that are already dead are what is wanted.
        for pid in processes(self.dir.path()) {
            let _ = kill_process(pid, Signal::KILL);
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let dir = self.dir.path().to_str().unwrap();
        for mount in mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|at| at.starts_with(dir))
        {
            let _ = Command::new("umount").args(["-l", mount]).status();
        }
    }
}

/// The parent of a process.
pub fn parent(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

pub fn kill_pid(pid: u32) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

pub fn lives(pid: u32) -> bool {
    // A zombie is dead; whose child it is may wait for it later.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}
