//! The launcher with the `process` runtime, over its socket. The PCM is a stand-in: this test program, started again.

#![allow(clippy::unwrap_used, reason = "what these expect is what they test")]

use std::io::{Read as _, Write as _};
use std::os::fd::FromRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use ignite::config::LauncherConfig;
use ignite::launcher::client::{ClientError, LauncherClient};
use ignite::launcher::wire::{ErrorKind, PcmName, Ready};
use service::Shutdown;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

/// What the launcher starts: answers a byte with what a test wants to know, and ends a connection that says nothing.
#[test]
#[ignore = "is the PCM that the other tests start"]
#[allow(unsafe_code)]
fn stand_in_pcm() {
    // SAFETY: the launcher put a listener there, and nothing else in this process uses it.
    let listener = unsafe { UnixListener::from_raw_fd(3) };
    listener.set_nonblocking(false).unwrap();
    let mut name = None;
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            continue;
        }
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let session = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let session =
            session.rsplit(") ").next().unwrap_or_default().split(' ').nth(3).unwrap_or_default().to_owned();
        let fds = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let answer = match byte[0] {
            b'O' => answer_the_launcher(&mut stream, &mut name),
            b'l' => std::fs::read_to_string("/proc/self/limits").unwrap_or_default(),
            b'p' => std::process::id().to_string(),
            b'e' => std::env::vars().count().to_string(),
            b'f' => fds.to_string(),
            b's' => (session == std::process::id().to_string()).to_string(),
            b'n' => name.clone().unwrap_or_default(),
            b'x' => std::process::exit(0),
            _ => status,
        };
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

/// The first byte of the launcher's preamble is read. Without state and without MQTT nobody ever needs it.
fn answer_the_launcher(stream: &mut std::os::unix::net::UnixStream, name: &mut Option<String>) -> String {
    let mut line = Vec::new();
    std::io::BufRead::read_until(&mut std::io::BufReader::new(&*stream), b'\n', &mut line).unwrap();
    let start = 7 + u32::from_be_bytes(line[3..7].try_into().unwrap()) as usize;
    let request: pcm_wire::Request = serde_json::from_slice(&line[start..]).unwrap();
    let answer = match request.verb {
        pcm_wire::Verb::Identity(identity) => {
            *name = Some(identity.name);
            pcm_wire::Answer::Ok {}
        }
        pcm_wire::Verb::Whose {} => pcm_wire::Answer::Whose { name: name.clone() },
        other => panic!("{other:?}"),
    };
    serde_json::to_string(&pcm_wire::Reply { id: request.id, answer }).unwrap() + "\n"
}

fn stand_in() -> serde_json::Value {
    let own = std::env::current_exe().unwrap();
    serde_json::json!([
        "/bin/sh",
        "-c",
        "exec \"$0\" --ignored --exact stand_in_pcm --nocapture >/dev/null",
        own
    ])
}

struct Running {
    dir: TempDir,
    client: LauncherClient,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

fn config(dir: &Path, command: serde_json::Value, capacity: usize) -> LauncherConfig {
    serde_json::from_value(serde_json::json!({
        "runtime": "process", "socket": dir.join("launcher.sock"), "dir": dir.join("run"),
        "pcm_command": command, "capacity": capacity, "pool": 0,
    }))
    .unwrap()
}

async fn start(command: serde_json::Value, capacity: usize) -> Running {
    start_in(tempfile::tempdir().unwrap(), command, capacity).await
}

async fn start_in(dir: TempDir, command: serde_json::Value, capacity: usize) -> Running {
    let config = config(dir.path(), command, capacity);
    start_with(dir, config).await
}

async fn start_with(dir: TempDir, config: LauncherConfig) -> Running {
    let shutdown = Shutdown::new();
    let task = tokio::spawn(ignite::launcher::run(config, shutdown.clone()));
    let client = LauncherClient::new(&dir.path().join("launcher.sock"));
    let up = async {
        while client.list().await.is_err() {
            assert!(!task.is_finished(), "the launcher ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, up).await.expect("the launcher listens");
    Running { dir, client, shutdown, task }
}

impl Running {
    async fn stop(self) -> TempDir {
        self.shutdown.begin();
        timeout(DEADLINE, self.task).await.unwrap().unwrap().unwrap();
        self.dir
    }

    /// Sends lines as they are and returns the answers up to the end.
    async fn say(&self, lines: &[u8]) -> Vec<String> {
        let mut stream = UnixStream::connect(self.dir.path().join("launcher.sock")).await.unwrap();
        stream.write_all(lines).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answers = Vec::new();
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = timeout(DEADLINE, lines.next_line()).await.unwrap() {
            answers.push(line);
        }
        answers
    }
}

/// With a directory for state, and a launcher that was here before.
async fn start_lasting(dir: TempDir) -> Running {
    let mut config = config(dir.path(), stand_in(), 10);
    config.state_dir = Some(dir.path().join("state"));
    start_with(dir, config).await
}

fn name(number: u8) -> PcmName {
    PcmName::new(format!("pcm-{number:032x}")).unwrap()
}

async fn ask(ready: &Ready, question: u8) -> String {
    let mut stream = ready.connect().await.unwrap();
    stream.write_all(&[question]).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

async fn wait_until_gone(pid: &str) {
    let proc = format!("/proc/{pid}");
    let gone = async {
        while Path::new(&proc).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, gone).await.expect("the process ends");
}

#[tokio::test]
async fn a_pcm_is_started_once_found_again_and_removed() {
    let launcher = start(stand_in(), 10).await;
    let first = launcher.client.ensure(&name(1)).await.unwrap();
    assert!(first.fresh);
    let pid = ask(&first, b'p').await;
    let again = launcher.client.ensure(&name(1)).await.unwrap();
    assert!(!again.fresh);
    assert_eq!(ask(&again, b'p').await, pid);
    let other = launcher.client.ensure(&name(2)).await.unwrap();
    assert_ne!(ask(&other, b'p').await, pid);
    assert_eq!(launcher.client.list().await.unwrap(), [name(1), name(2)]);

    launcher.client.remove(&name(1)).await.unwrap();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!first.socket.parent().unwrap().exists());
    assert_eq!(launcher.client.list().await.unwrap(), [name(2)]);
    launcher.client.remove(&name(1)).await.unwrap();
    launcher.stop().await;
}

#[tokio::test]
async fn a_pcm_gets_nothing_of_the_launcher_but_its_listener() {
    let launcher = start(stand_in(), 10).await;
    let ready = launcher.client.ensure(&name(1)).await.unwrap();
    // The shell that stands between sets PWD and the like; none of this process's variables is there.
    let variables: usize = ask(&ready, b'e').await.parse().unwrap();
    assert!(variables <= 4 && variables < std::env::vars().count(), "{variables} variables");
    // 0, 1, 2, the listener, this connection, and the directory being read.
    assert_eq!(ask(&ready, b'f').await, "6");
    assert_eq!(ask(&ready, b's').await, "true");
    launcher.stop().await;
}

#[tokio::test]
async fn many_requests_for_one_name_start_one_pcm() {
    let launcher = start(stand_in(), 1).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let client = launcher.client.clone();
        calls.spawn(async move { client.ensure(&name(1)).await.unwrap() });
    }
    let ready = calls.join_all().await;
    assert_eq!(ready.iter().filter(|ready| ready.fresh).count(), 1);
    launcher.stop().await;
}

#[tokio::test]
async fn a_dead_pcm_is_replaced_and_frees_its_place() {
    let launcher = start(stand_in(), 1).await;
    let first = launcher.client.ensure(&name(1)).await.unwrap();
    let pid = ask(&first, b'p').await;
    ask(&first, b'x').await;
    let second = launcher.client.ensure(&name(1)).await.unwrap();
    assert!(second.fresh);
    assert_ne!(ask(&second, b'p').await, pid);

    let refused = launcher.client.ensure(&name(2)).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { kind: ErrorKind::Capacity, .. }), "{refused}");
    ask(&second, b'x').await;
    let freed = async {
        while launcher.client.ensure(&name(2)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, freed).await.expect("the dead one's place is free");
    launcher.stop().await;
}

#[tokio::test]
async fn what_a_pcm_keeps_outlives_it_and_goes_when_it_is_removed() {
    let launcher = start_lasting(tempfile::tempdir().unwrap()).await;
    let state = |number| launcher.dir.path().join("state").join(name(number).as_str());
    let (one, two) = (state(1), state(2));
    let first = launcher.client.ensure(&name(1)).await.unwrap();
    launcher.client.ensure(&name(2)).await.unwrap();
    let limits = ask(&first, b'l').await;
    let longest = limits.lines().find(|line| line.starts_with("Max file size")).unwrap();
    assert_eq!(longest.split_whitespace().nth(3), Some((16 << 20).to_string().as_str()), "{longest}");
    for kept in [&one, &two] {
        assert_eq!(std::fs::metadata(kept).unwrap().permissions().mode() & 0o7777, 0o700);
        std::fs::write(kept.join("a"), "kept").unwrap();
    }
    ask(&first, b'x').await;
    assert!(launcher.client.ensure(&name(1)).await.unwrap().fresh);
    assert!(one.join("a").exists(), "a dead PCM's state is the next one's");
    launcher.client.remove(&name(1)).await.unwrap();
    assert!(!one.exists() && two.join("a").exists());

    // A launcher that starts sweeps what dead PCMs left, and that is no part of it.
    let next = start_lasting(launcher.stop().await).await;
    assert!(two.join("a").exists());
    assert_eq!(next.client.list().await.unwrap(), []);
    // An owner goes whose PCM does not run.
    next.client.remove(&name(2)).await.unwrap();
    assert!(!two.exists());
    next.stop().await;
}

#[tokio::test]
async fn a_pcm_that_does_not_start_keeps_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), serde_json::json!(["/bin/false"]), 1);
    config.state_dir = Some(dir.path().join("state"));
    let launcher = start_with(dir, config).await;
    let kept = launcher.dir.path().join("state").join(name(1).as_str()).join("a");
    std::fs::create_dir(kept.parent().unwrap()).unwrap();
    std::fs::write(&kept, "kept").unwrap();
    launcher.client.ensure(&name(1)).await.unwrap_err();
    assert!(kept.exists());
    launcher.stop().await;
}

#[tokio::test]
async fn pcms_end_with_the_launcher_and_leave_nothing_for_the_next() {
    let launcher = start(stand_in(), 10).await;
    let ready = launcher.client.ensure(&name(1)).await.unwrap();
    let pid = ask(&ready, b'p').await;
    let dir = launcher.stop().await;
    wait_until_gone(&pid).await;
    assert!(ready.socket.exists(), "a file that nobody listens on stays until the next start");

    let next = start_in(dir, stand_in(), 10).await;
    assert!(!ready.socket.exists());
    assert!(next.client.ensure(&name(1)).await.unwrap().fresh);
    next.stop().await;
}

#[tokio::test]
async fn a_pcm_that_does_not_start_is_an_error_and_leaves_nothing() {
    for command in [serde_json::json!(["/bin/false"]), serde_json::json!(["/nowhere/pcm"])] {
        let launcher = start(command, 1).await;
        let error = launcher.client.ensure(&name(1)).await.unwrap_err();
        assert!(matches!(error, ClientError::Refused { kind: ErrorKind::Engine, .. }), "{error}");
        assert!(!launcher.dir.path().join("run").join(name(1).as_str()).exists());
        // The place is free again: the answer is not "capacity".
        let error = launcher.client.ensure(&name(2)).await.unwrap_err();
        assert!(matches!(error, ClientError::Refused { kind: ErrorKind::Engine, .. }), "{error}");
        launcher.stop().await;
    }
}

#[tokio::test]
async fn what_is_no_request_gets_an_answer_and_harms_nobody() {
    let launcher = start(stand_in(), 1).await;
    let traversal = br#"{"id":7,"ensure":{"name":"../../../../etc"}}"#;
    let mut lines = traversal.to_vec();
    lines.extend_from_slice(b"\nnonsense\n{\"id\":8,\"exec\":{}}\n{\"id\":9,\"list\":{}}\n");
    let answers = launcher.say(&lines).await;
    assert_eq!(answers.len(), 4, "{answers:?}");
    for (answer, id) in answers.iter().zip([7, 0, 8]) {
        let begin = format!(r#"{{"id":{id},"error":{{"kind":"bad_request""#);
        assert!(answer.starts_with(&begin), "{answer}");
    }
    assert_eq!(answers[3], r#"{"id":9,"pcms":{"names":[]}}"#);

    let answers = launcher.say(&vec![b'x'; 5000]).await;
    assert!(answers.len() <= 1 && answers.iter().all(|answer| answer.contains("bad_request")), "{answers:?}");
    assert!(launcher.say(b"{\"id\":1,").await[0].contains("bad_request"));
    assert!(launcher.client.list().await.is_ok());
    launcher.stop().await;
}

#[tokio::test]
async fn a_second_launcher_on_the_same_socket_refuses_to_start() {
    let launcher = start(stand_in(), 1).await;
    let second = ignite::launcher::run(config(launcher.dir.path(), stand_in(), 1), Shutdown::new()).await;
    assert!(format!("{:#}", second.unwrap_err()).contains("another launcher"));
    assert!(launcher.client.list().await.is_ok());
    launcher.stop().await;
}

async fn start_pooled(pool: usize, capacity: usize) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), stand_in(), capacity);
    config.pool = pool;
    start_with(dir, config).await
}

/// The processes that are nobody's, once there are so many.
async fn pool_of(launcher: &Running, size: usize) -> Vec<u32> {
    let filled = async {
        loop {
            let all = launcher.client.processes().await.unwrap();
            let pool: Vec<u32> = all.iter().filter(|pcm| pcm.name.is_none()).map(|pcm| pcm.pid).collect();
            if pool.len() == size {
                return pool;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, filled).await.expect("the pool is filled")
}

#[tokio::test]
async fn the_pool_is_claimed_and_filled_again_and_nobody_gets_a_used_one() {
    let launcher = start_pooled(2, 10).await;
    let waiting = pool_of(&launcher, 2).await;
    let one = launcher.client.ensure(&name(1)).await.unwrap();
    let pid: u32 = ask(&one, b'p').await.parse().unwrap();
    assert!(one.fresh && waiting.contains(&pid));
    // It was told whose it is, and lies under that name.
    assert_eq!(ask(&one, b'n').await, name(1).as_str());
    assert_eq!(one.socket, launcher.dir.path().join("run").join(name(1).as_str()).join("s"));
    let next = pool_of(&launcher, 2).await;
    assert!(!next.contains(&pid));
    launcher.client.remove(&name(1)).await.unwrap();
    wait_until_gone(&pid.to_string()).await;
    let two = launcher.client.ensure(&name(2)).await.unwrap();
    assert_ne!(ask(&two, b'p').await, pid.to_string());
    assert_eq!(ask(&two, b'n').await, name(2).as_str());
    launcher.stop().await;
}

#[tokio::test]
async fn the_pool_takes_no_owners_place() {
    let launcher = start_pooled(3, 2).await;
    pool_of(&launcher, 2).await;
    let one = launcher.client.ensure(&name(1)).await.unwrap();
    pool_of(&launcher, 1).await;
    launcher.client.ensure(&name(2)).await.unwrap();
    pool_of(&launcher, 0).await;
    let refused = launcher.client.ensure(&name(3)).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { kind: ErrorKind::Capacity, .. }), "{refused}");
    assert!(!launcher.client.ensure(&name(1)).await.unwrap().fresh);
    ask(&one, b'x').await;
    launcher.stop().await;
}

#[tokio::test]
async fn one_that_died_in_the_pool_is_nobodys() {
    let launcher = start_pooled(1, 10).await;
    let pool = pool_of(&launcher, 1).await;
    let pid = rustix::process::Pid::from_raw(pool[0].try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let ready = launcher.client.ensure(&name(1)).await.unwrap();
    assert_ne!(ask(&ready, b'p').await, pool[0].to_string());
    launcher.stop().await;
}

#[tokio::test]
async fn a_host_without_memory_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), stand_in(), 10);
    config.reserve_memory_mib = 1 << 30;
    config.pool = 1;
    let launcher = start_with(dir, config).await;
    let refused = launcher.client.ensure(&name(1)).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { kind: ErrorKind::Capacity, .. }), "{refused}");
    assert_eq!(launcher.client.processes().await.unwrap(), []);
    launcher.stop().await;
}

#[tokio::test]
async fn a_second_launcher_in_the_same_directory_refuses_to_start() {
    let launcher = start(stand_in(), 1).await;
    let mut config = config(launcher.dir.path(), stand_in(), 1);
    config.socket = launcher.dir.path().join("other.sock");
    let second = ignite::launcher::run(config, Shutdown::new()).await;
    assert!(format!("{:#}", second.unwrap_err()).contains("another launcher works in"));
    launcher.stop().await;
}

#[tokio::test]
async fn what_a_launcher_left_half_done_is_gone_at_the_next_start() {
    let dir = start(stand_in(), 1).await.stop().await;
    let left = ["pool-41234567", "gone-pcm-1-00000001", "pcm-00000000000000000000000000000001"];
    for directory in left {
        std::fs::create_dir(dir.path().join("run").join(directory)).unwrap();
    }
    std::fs::create_dir(dir.path().join("run/not-ours")).unwrap();
    let next = start_in(dir, stand_in(), 1).await;
    for directory in left {
        assert!(!next.dir.path().join("run").join(directory).exists(), "{directory}");
    }
    assert!(next.dir.path().join("run/not-ours").exists());
    next.stop().await;
}

/// Nobody's user may not leave the host's network as root may; where the system lets anybody make a user namespace, PCMs
/// see an empty one all the same.
#[tokio::test]
async fn pcms_see_an_empty_network_whoever_starts_them() {
    const NOBODY: u32 = 65534;
    let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let is_empty = |pid: u32| {
        let devices = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap();
        devices.lines().filter(|line| line.contains(':')).count() == 1
    };
    if !rustix::process::getuid().is_root() {
        let launcher = start_pooled(2, 10).await;
        let pids = pool_of(&launcher, 2).await;
        assert!(pids.iter().all(|pid| is_empty(*pid)));
        launcher.stop().await;
        return;
    }
    let own = namespace(std::process::id());
    let launcher = start_pooled(2, 10).await;
    let pids = pool_of(&launcher, 2).await;
    assert!(pids.iter().all(|pid| namespace(*pid) != own && is_empty(*pid)));
    assert_eq!(namespace(pids[0]), namespace(pids[1]), "one for all");
    launcher.stop().await;

    // The same as nobody, from copies that nobody may execute.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = |from: &Path, name: &str| {
        let to = dir.path().join(name);
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).unwrap();
        to
    };
    let ignite = copy(Path::new(env!("CARGO_BIN_EXE_ignite")), "ignite");
    let pcm = copy(&std::env::current_exe().unwrap(), "pcm");
    let work = dir.path().join("work");
    std::fs::create_dir(&work).unwrap();
    std::os::unix::fs::chown(&work, Some(NOBODY), Some(NOBODY)).unwrap();
    let file = dir.path().join("ignite.toml");
    let command = format!(
        "[\"/bin/sh\", \"-c\", \"exec {} --ignored --exact stand_in_pcm >/dev/null\"]",
        pcm.display()
    );
    let toml = format!(
        "resource = \"http://ignite.test\"\nmaster_key_file = \"{work}/key\"\n[launcher]\nruntime = \"process\"\n\
         socket = \"{work}/l.sock\"\ndir = \"{work}/run\"\npcm_command = {command}\npool = 2\n",
        work = work.display(),
    );
    std::fs::write(&file, toml).unwrap();
    let mut child = tokio::process::Command::new(ignite);
    child.args(["launcher", "--config"]).arg(&file).uid(NOBODY).gid(NOBODY).kill_on_drop(true);
    let child = child.spawn().unwrap();
    // Its socket is for its own user, so what it has started is looked up.
    let started = |launcher: u32| -> Vec<u32> {
        let threads = std::fs::read_dir(format!("/proc/{launcher}/task")).unwrap();
        let children = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("children")));
        let children: String = children.map(Result::unwrap_or_default).collect();
        let is_pcm = |pid: &u32| {
            let program = std::fs::read_link(format!("/proc/{pid}/exe"));
            program.is_ok_and(|program| program == pcm)
        };
        children.split_whitespace().map(|pid| pid.parse().unwrap()).filter(is_pcm).collect()
    };
    let launcher = child.id().unwrap();
    let filled = async {
        loop {
            let pids = started(launcher);
            if pids.len() == 2 {
                return pids;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let pids = timeout(DEADLINE, filled).await.expect("nobody's pool is filled");
    assert!(pids.iter().all(|pid| namespace(*pid) != own && is_empty(*pid)));
    assert_eq!(namespace(pids[0]), namespace(pids[1]), "one for all");
    drop(child);
}
