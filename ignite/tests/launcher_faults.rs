//! What the launcher makes of an engine, a shim, a PCM or a launcher that is killed at the worst moment. Each test has an
//! engine of its own. `cargo xtask test --only launcher` runs this; it needs root.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod engine;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bollard::query_parameters::RenameContainerOptionsBuilder;
use engine::{DEADLINE, Engine, image, kill_pid, lives, parent};
use ignite::launcher::client::{ClientError, LauncherClient};
use ignite::launcher::wire::{ErrorKind, PcmName, Process, Ready};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A launcher as a process of its own, that can be killed.
struct Launcher {
    dir: TempDir,
    client: LauncherClient,
    config: serde_json::Value,
    child: Option<Child>,
}

fn name(number: u32) -> PcmName {
    PcmName::new(format!("pcm-{number:032x}")).unwrap()
}

impl Launcher {
    async fn start(engine: &Engine, change: serde_json::Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let mut config = serde_json::json!({
            "runtime": "docker", "dir": run, "socket": dir.path().join("launcher.sock"), "image": image(),
            "state_dir": dir.path().join("state"), "engine": engine.socket(), "pool": 2, "group": 50,
        });
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let client = LauncherClient::new(&dir.path().join("launcher.sock"));
        let mut launcher = Self { dir, client, config, child: None };
        launcher.start_again().await;
        launcher
    }

    async fn start_again(&mut self) {
        let file = self.dir.path().join("ignite.toml");
        let master = self.dir.path().join("master.key");
        let launcher: Vec<String> =
            self.config.as_object().unwrap().iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let toml = format!(
            "resource = \"http://ignite.test\"\nmaster_key_file = {master:?}\n[launcher]\n{}\n",
            launcher.join("\n")
        );
        std::fs::write(&master, [7; 32]).unwrap();
        std::fs::write(&file, toml).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ignite"));
        command.args(["launcher", "--config"]).arg(&file).stderr(Stdio::inherit()).kill_on_drop(true);
        self.child = Some(command.spawn().unwrap());
        let up = async {
            while self.client.list().await.is_err() {
                assert!(self.child.as_mut().unwrap().try_wait().unwrap().is_none(), "the launcher ended");
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, up).await.expect("the launcher listens");
    }

    async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    async fn pool_of(&self, size: usize) {
        until("the pool is filled", async || self.pool().await.len() == size).await;
    }

    async fn pool(&self) -> Vec<Process> {
        let mut all = self.client.processes().await.unwrap();
        all.retain(|pcm| pcm.name.is_none());
        all
    }

    async fn process(&self, name: &PcmName) -> Process {
        let all = self.client.processes().await.unwrap();
        all.into_iter().find(|pcm| pcm.name.as_ref() == Some(name)).unwrap()
    }

    fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// The directories of slots, of whatever kind.
    fn directories(&self) -> BTreeSet<String> {
        let names = std::fs::read_dir(self.run()).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name != "lock").collect()
    }

    /// That nothing is there but these owners' PCMs, by their exact names, and the pool.
    async fn is_tidy(&self, engine: &Engine, owners: &[PcmName]) -> bool {
        let containers = engine.containers().await;
        let (owned, pooled): (Vec<_>, Vec<_>) =
            containers.iter().partition(|(name, _)| PcmName::new(name.clone()).is_ok());
        let mut expected: Vec<String> = owners.iter().map(PcmName::to_string).collect();
        expected.sort_unstable();
        let pool = self.pool().await;
        let directories = self.directories();
        containers.iter().all(|(_, runs)| *runs)
            && owned.iter().map(|(name, _)| name).eq(expected.iter())
            && pooled.len() == pool.len()
            && pool.iter().all(|pcm| pooled.iter().any(|(name, _)| *name == pcm.container))
            && directories.len() == containers.len()
            && expected.iter().all(|name| directories.contains(name))
    }

    async fn becomes_tidy(&self, engine: &Engine, owners: &[PcmName]) {
        let tidy = async {
            while !self.is_tidy(engine, owners).await {
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(DEADLINE, tidy).await.is_err() {
            panic!(
                "not tidy: containers {:?}, directories {:?}, launcher {:?}",
                engine.containers().await,
                self.directories(),
                self.client.processes().await
            );
        }
    }
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waiting = async {
        while !condition().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("in time: {what}"));
}

/// That it serves its gateway: grants are taken on a control connection.
async fn serves(ready: &Ready) {
    use pcm_wire::{Preamble, Request, Verb};
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let mut stream = ready.connect().await.unwrap();
    stream.write_all(&Preamble::Control {}.to_bytes()).await.unwrap();
    let mut line = serde_json::to_vec(&Request { id: 1, verb: Verb::Stats {} }).unwrap();
    line.push(b'\n');
    stream.write_all(&line).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, BufReader::new(stream).read_line(&mut answer)).await.unwrap().unwrap();
    assert!(answer.contains("stats"), "{answer}");
}

fn kind(error: ClientError) -> Option<ErrorKind> {
    match error {
        ClientError::Refused { kind, .. } => Some(kind),
        _ => None,
    }
}

#[tokio::test]
#[ignore = "needs an engine of its own"]
async fn containers_share_shims_and_a_shim_that_dies_takes_its_group_only() {
    let engine = Engine::start().await;
    let launcher = Launcher::start(&engine, serde_json::json!({ "pool": 0, "group": 4 })).await;
    let owners: Vec<PcmName> = (0..8).map(name).collect();
    for owner in &owners {
        serves(&launcher.client.ensure(owner).await.unwrap()).await;
    }
    let all = launcher.client.processes().await.unwrap();
    assert!(all.iter().all(|pcm| pcm.group.is_some()), "the engine keeps the annotation: {all:?}");
    let shims: BTreeSet<u32> = all.iter().map(|pcm| parent(pcm.pid)).collect();
    let groups: BTreeSet<_> = all.iter().map(|pcm| pcm.group.clone()).collect();
    assert_eq!(shims.len(), groups.len(), "one shim a group");
    assert!((2..=4).contains(&shims.len()), "{shims:?}");

    let victim = parent(all[0].pid);
    let (dead, alive): (Vec<&Process>, Vec<&Process>) = all.iter().partition(|pcm| parent(pcm.pid) == victim);
    kill_pid(victim);
    // The engine ends what it can no longer watch.
    for pcm in &dead {
        until("the group is dead", async || !lives(pcm.pid)).await;
    }
    for pcm in &dead {
        let owner = pcm.name.as_ref().unwrap();
        let again = launcher.client.ensure(owner).await.unwrap();
        serves(&again).await;
    }
    for pcm in &alive {
        let owner = pcm.name.as_ref().unwrap();
        assert!(!launcher.client.ensure(owner).await.unwrap().fresh);
        assert!(lives(pcm.pid));
    }
    launcher.becomes_tidy(&engine, &owners).await;
}

/// The socket of an engine that does not know the annotation: on its way it gets a name that means nothing.
async fn without_annotations(engine: PathBuf, socket: PathBuf) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
    const KNOWN: &[u8] = b"io.containerd.runc.v2.group";
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let engine = tokio::net::UnixStream::connect(&engine).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_engine, mut to_engine) = engine.into_split();
        tokio::spawn(async move { copy(&mut from_engine, &mut to_client).await });
        tokio::spawn(async move {
            // The last byte is changed: what is before it may have gone with the read before.
            let (mut bytes, mut seen) = (vec![0; 64 << 10], Vec::new());
            while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                for byte in &mut bytes[..count] {
                    seen.push(*byte);
                    if seen.ends_with(KNOWN) {
                        *byte = b'x';
                    }
                }
                seen.drain(..seen.len().saturating_sub(KNOWN.len()));
                to_engine.write_all(&bytes[..count]).await?;
            }
            to_engine.shutdown().await
        });
    }
}

#[tokio::test]
#[ignore = "needs an engine of its own"]
async fn where_the_annotation_is_dropped_each_has_a_shim_of_its_own() {
    let engine = Engine::start().await;
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    tokio::spawn(without_annotations(engine.socket(), socket.clone()));
    until("the way is there", async || socket.exists()).await;
    let launcher = Launcher::start(&engine, serde_json::json!({ "pool": 1, "engine": socket })).await;
    for owner in [1, 2] {
        serves(&launcher.client.ensure(&name(owner)).await.unwrap()).await;
    }
    launcher.pool_of(1).await;
    let all = launcher.client.processes().await.unwrap();
    let shims: BTreeSet<u32> = all.iter().map(|pcm| parent(pcm.pid)).collect();
    assert_eq!((all.len(), shims.len()), (3, 3));
    assert!(all.iter().all(|pcm| pcm.group.is_none()), "read back: {all:?}");
}

#[tokio::test]
#[ignore = "needs an engine of its own"]
async fn without_its_engine_the_pool_still_serves_and_names_come_later() {
    let mut engine = Engine::start().await;
    let launcher = Launcher::start(&engine, serde_json::json!({})).await;
    launcher.pool_of(2).await;
    let before = launcher.client.ensure(&name(1)).await.unwrap();
    launcher.pool_of(2).await;
    let process = launcher.process(&name(1)).await;
    engine.kill();
    // Who runs is served, who comes gets one of the pool, and beyond that it is said.
    assert!(!launcher.client.ensure(&name(1)).await.unwrap().fresh);
    serves(&before).await;
    for owner in [2, 3] {
        serves(&launcher.client.ensure(&name(owner)).await.unwrap()).await;
    }
    assert_eq!(kind(launcher.client.ensure(&name(4)).await.unwrap_err()), Some(ErrorKind::Engine));

    engine.restart().await;
    assert!(lives(process.pid), "live-restore");
    launcher.becomes_tidy(&engine, &[1, 2, 3].map(name)).await;
    serves(&before).await;
    serves(&launcher.client.ensure(&name(4)).await.unwrap()).await;
    launcher.becomes_tidy(&engine, &[1, 2, 3, 4].map(name)).await;
}

#[tokio::test]
#[ignore = "needs an engine of its own"]
async fn a_launcher_killed_at_any_step_of_a_claim_leaves_nothing_undone() {
    let engine = Engine::start().await;
    let mut launcher = Launcher::start(&engine, serde_json::json!({ "pool": 4 })).await;
    launcher.pool_of(4).await;
    launcher.client.ensure(&name(1)).await.unwrap();
    launcher.pool_of(4).await;
    let claimed = launcher.process(&name(1)).await;
    let pool = launcher.pool().await;
    launcher.kill().await;

    let rename = async |from: &str, to: &str| {
        let options = RenameContainerOptionsBuilder::default().name(to).build();
        engine.docker.rename_container(from, options).await.unwrap();
    };
    let directory = |container: &str| container.strip_prefix("pcm-").unwrap().to_owned();
    // The directory was claimed, and nothing else.
    std::fs::rename(
        launcher.run().join(directory(&pool[0].container)),
        launcher.run().join(name(2).as_str()),
    )
    .unwrap();
    // It knows whose it is, and has not its name.
    rename(name(1).as_str(), "pcm-pool-7fffffff").await;
    rename("pcm-pool-7fffffff", &format!("pcm-pool-{:08x}", user_of(&launcher.run().join(name(1).as_str()))))
        .await;
    // Started for an owner, and not claimed yet.
    rename(&pool[1].container, name(3).as_str()).await;
    // A slot was made, and nothing else; one was being removed.
    std::fs::create_dir(launcher.run().join("pool-41234567")).unwrap();
    std::fs::create_dir(launcher.run().join(format!("gone-{}-00000001", name(4)))).unwrap();
    // A container has lost its directory.
    std::fs::remove_dir_all(launcher.run().join(directory(&pool[2].container))).unwrap();

    launcher.start_again().await;
    let names = launcher.client.list().await.unwrap();
    assert_eq!(names, [name(1), name(2)]);
    assert_eq!(launcher.process(&name(1)).await.pid, claimed.pid);
    assert_eq!(launcher.process(&name(2)).await.pid, pool[0].pid);
    for owner in [1, 2] {
        let ready = launcher.client.ensure(&name(owner)).await.unwrap();
        assert!(!ready.fresh);
        serves(&ready).await;
    }
    launcher.becomes_tidy(&engine, &[1, 2].map(name)).await;
    assert!(launcher.pool().await.iter().any(|pcm| pcm.pid == pool[3].pid), "one of the pool is kept");
}

fn user_of(path: &Path) -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).unwrap().uid()
}

/// The same by chance: whatever it was at, the next launcher finds its way.
#[tokio::test]
#[ignore = "needs an engine of its own"]
async fn a_launcher_killed_at_any_moment_leaves_no_orphan() {
    let engine = Engine::start().await;
    let mut launcher = Launcher::start(&engine, serde_json::json!({ "pool": 3 })).await;
    let mut number = 0;
    for round in 0..6_u64 {
        launcher.pool_of(3).await;
        let mut calls = JoinSet::new();
        for _ in 0..6 {
            number += 1;
            let (client, owner) = (launcher.client.clone(), name(number));
            calls.spawn(async move { client.ensure(&owner).await.is_ok() });
        }
        sleep(Duration::from_millis(3 + 23 * round)).await;
        launcher.kill().await;
        while calls.join_next().await.is_some() {}
        launcher.start_again().await;
        let known = launcher.client.list().await.unwrap();
        launcher.becomes_tidy(&engine, &known).await;
        for owner in &known {
            serves(&launcher.client.ensure(owner).await.unwrap()).await;
        }
        for owner in &known {
            launcher.client.remove(owner).await.unwrap();
        }
    }
    launcher.becomes_tidy(&engine, &[]).await;
}

/// What a claim stands on, killed in the middle of some: the engine, shims with their groups, PCMs.
#[tokio::test]
#[ignore = "needs an engine of its own"]
async fn whatever_dies_under_a_claim_nobody_is_left_without_and_nothing_is_left_over() {
    let mut engine = Engine::start().await;
    let launcher = Launcher::start(&engine, serde_json::json!({ "pool": 3, "group": 4 })).await;
    for round in 0..6_u32 {
        launcher.pool_of(3).await;
        let before = launcher.client.processes().await.unwrap();
        let owners: Vec<PcmName> = (0..6).map(|n| name(10 * round + n)).collect();
        let mut calls = JoinSet::new();
        for owner in owners.clone() {
            let client = launcher.client.clone();
            calls.spawn(async move { client.ensure(&owner).await.is_ok() });
        }
        sleep(Duration::from_millis(2 + 17 * u64::from(round))).await;
        match round % 3 {
            0 => engine.kill(),
            1 => kill_pid(parent(before[0].pid)),
            _ => before.iter().for_each(|pcm| kill_pid(pcm.pid)),
        }
        while calls.join_next().await.is_some() {}
        if round % 3 == 0 {
            engine.restart().await;
        }
        for owner in &owners {
            // Who is refused at such a moment comes again.
            until("everybody is served", async || match launcher.client.ensure(owner).await {
                Ok(ready) => {
                    serves(&ready).await;
                    true
                }
                Err(_) => false,
            })
            .await;
        }
        launcher.becomes_tidy(&engine, &owners).await;
        for owner in &owners {
            launcher.client.remove(owner).await.unwrap();
        }
    }
    launcher.becomes_tidy(&engine, &[]).await;
}

#[tokio::test]
#[ignore = "needs an engine of its own"]
async fn two_launchers_do_not_get_into_each_others_way() {
    let engine = Engine::start().await;
    let first = Launcher::start(&engine, serde_json::json!({ "pool": 0 })).await;
    // In the same place there can be only one.
    let config = first.dir.path().join("second.toml");
    let toml = std::fs::read_to_string(first.dir.path().join("ignite.toml")).unwrap();
    std::fs::write(&config, toml.replace("launcher.sock", "second.sock")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ignite"));
    let refused = command.args(["launcher", "--config"]).arg(&config).output();
    let refused = timeout(DEADLINE, refused).await.unwrap().unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another launcher works in"));

    // In two places of one engine they race for the name: one gets it, and what it has is never touched by the other.
    let second = Launcher::start(&engine, serde_json::json!({ "pool": 1 })).await;
    second.pool_of(1).await;
    let (owner, other) = (name(1), name(1));
    let (one, two) = tokio::join!(first.client.ensure(&owner), second.client.ensure(&other));
    // A slow engine may answer the one of the pool late; it does not keep what it may not have.
    let has = async |launcher: &Launcher| launcher.client.list().await.unwrap().contains(&name(1));
    let owners = async || [has(&first).await, has(&second).await].into_iter().filter(|has| *has).count();
    until("one has it", async || owners().await == 1).await;
    assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
    let (winner, loser) = if has(&first).await { (&first, &second) } else { (&second, &first) };
    serves(&winner.client.ensure(&name(1)).await.unwrap()).await;
    let pid = winner.process(&name(1)).await.pid;
    assert_eq!(kind(loser.client.ensure(&name(1)).await.unwrap_err()), Some(ErrorKind::Engine));
    assert_eq!(kind(loser.client.remove(&name(1)).await.unwrap_err()), Some(ErrorKind::Engine));
    assert!(lives(pid));
    assert_eq!(loser.client.list().await.unwrap(), []);
}

#[tokio::test]
#[ignore = "needs an engine of its own"]
async fn a_stuck_container_holds_up_nobody_else() {
    let engine = Engine::start().await;
    let launcher = Launcher::start(&engine, serde_json::json!({ "idle_seconds": 1 })).await;
    launcher.client.ensure(&name(1)).await.unwrap();
    launcher.client.ensure(&name(2)).await.unwrap();
    let stuck = launcher.process(&name(1)).await.pid;
    let raw = rustix::process::Pid::from_raw(stuck.try_into().unwrap()).unwrap();
    rustix::process::kill_process(raw, rustix::process::Signal::STOP).unwrap();
    // It is asked whether it is idle, does not answer, and the other one is stopped all the same.
    until("the idle one is stopped", async || !launcher.client.list().await.unwrap().contains(&name(2)))
        .await;
    assert!(launcher.client.list().await.unwrap().contains(&name(1)));
    serves(&launcher.client.ensure(&name(3)).await.unwrap()).await;
    // Who needs the stuck one gets a new one.
    serves(&launcher.client.ensure(&name(1)).await.unwrap()).await;
    assert_ne!(launcher.process(&name(1)).await.pid, stuck);
}

#[tokio::test]
#[ignore = "needs an engine of its own"]
async fn a_full_disk_is_an_error_and_no_end() {
    let engine = Engine::start().await;
    let small = tempfile::tempdir().unwrap();
    let mount =
        |arguments: &[&str]| std::process::Command::new("mount").args(arguments).status().unwrap().success();
    let at = small.path().to_str().unwrap();
    assert!(mount(&["-t", "tmpfs", "-o", "nr_inodes=12,size=64k", "tmpfs", at]));
    let change = serde_json::json!({ "pool": 0, "state_dir": small.path().join("state") });
    let launcher = Launcher::start(&engine, change).await;
    let hog: Vec<PathBuf> = (0..10).map(|n| small.path().join(format!("hog{n}"))).collect();
    for path in &hog {
        // The last ones find no room, which is the point.
        let _ = std::fs::File::create(path);
    }
    assert_eq!(kind(launcher.client.ensure(&name(1)).await.unwrap_err()), Some(ErrorKind::Engine));
    launcher.becomes_tidy(&engine, &[]).await;
    for path in &hog {
        let _ = std::fs::remove_file(path);
    }
    serves(&launcher.client.ensure(&name(1)).await.unwrap()).await;
    launcher.becomes_tidy(&engine, &[name(1)]).await;
    drop(launcher);
    drop(engine);
    assert!(std::process::Command::new("umount").args(["-l", at]).status().unwrap().success());
}
