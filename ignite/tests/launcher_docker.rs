//! The launcher with the `docker` runtime against a real engine and the real image. `cargo xtask test --only launcher` builds
//! the image and runs this; it needs the right to give directories to other users.

#![allow(clippy::unwrap_used, reason = "what these expect is what they test")]

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, RemoveContainerOptionsBuilder,
};
use ignite::launcher::client::{ClientError, LauncherClient};
use ignite::launcher::wire::{ErrorKind, PcmName};
use service::Shutdown;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

fn image() -> String {
    std::env::var("OAUTHING_PCM_IMAGE").unwrap_or_else(|_| "oauthing-pcm".to_owned())
}

/// A launcher, its engine, and the names that a test uses, which no other test has.
struct Bench {
    dir: TempDir,
    docker: Docker,
    client: LauncherClient,
    names: Vec<PcmName>,
    running: Option<(Shutdown, JoinHandle<anyhow::Result<()>>)>,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let docker = Docker::connect_with_unix_defaults().unwrap().negotiate_version().await.unwrap();
        let random: u128 = rand::random();
        let names =
            (0..3).map(|n| PcmName::new(format!("pcm-{:032x}", random.wrapping_add(n))).unwrap()).collect();
        let client = LauncherClient::new(&dir.path().join("run/launcher.sock"));
        Self { dir, docker, client, names, running: None }
    }

    async fn start(&mut self, capacity: usize) {
        self.start_of(&image(), capacity).await;
    }

    /// With another image than the PCM's.
    async fn start_of(&mut self, image: &str, capacity: usize) {
        let run = self.dir.path().join("run");
        let config = serde_json::json!({
            "runtime": "docker", "dir": run, "socket": run.join("launcher.sock"), "image": image, "capacity": capacity,
            "pool": 0, "owner_memory_mib": 48, "owner_disk_mib": 8,
            "state_dir": self.dir.path().join("state"),
        });
        let shutdown = Shutdown::new();
        let task =
            tokio::spawn(ignite::launcher::run(serde_json::from_value(config).unwrap(), shutdown.clone()));
        let up = async {
            while self.client.list().await.is_err() {
                assert!(!task.is_finished(), "the launcher ended");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, up).await.expect("the launcher listens");
        self.running = Some((shutdown, task));
    }

    async fn stop(&mut self) {
        if let Some((shutdown, task)) = self.running.take() {
            shutdown.begin();
            timeout(DEADLINE, task).await.unwrap().unwrap().unwrap();
        }
    }

    fn state(&self, name: &PcmName) -> PathBuf {
        self.dir.path().join("state").join(name.as_str())
    }

    async fn inspect(&self, name: &PcmName) -> Option<ContainerInspectResponse> {
        self.docker.inspect_container(name.as_str(), None::<InspectContainerOptions>).await.ok()
    }

    async fn id(&self, name: &PcmName) -> String {
        self.inspect(name).await.unwrap().id.unwrap()
    }

    /// A container under the name of a PCM that the launcher did not make.
    async fn put(&self, name: &PcmName, labels: HashMap<String, String>) -> String {
        let options = CreateContainerOptionsBuilder::default().name(name.as_str()).build();
        let body = ContainerCreateBody { image: Some(image()), labels: Some(labels), ..Default::default() };
        self.docker.create_container(Some(options), body).await.unwrap().id
    }

    async fn finish(mut self) {
        self.stop().await;
        for name in &self.names {
            let options = RemoveContainerOptionsBuilder::default().force(true).build();
            let _ = self.docker.remove_container(name.as_str(), Some(options)).await;
        }
    }
}

fn kind(error: ClientError) -> Option<ErrorKind> {
    match error {
        ClientError::Refused { kind, .. } => Some(kind),
        _ => None,
    }
}

#[tokio::test]
#[ignore = "needs Docker"]
async fn a_pcm_is_locked_in_and_sees_its_own_directory_only() {
    let mut bench = Bench::new().await;
    bench.start(10).await;
    let [one, two] = [&bench.names[0], &bench.names[1]];
    let ready = bench.client.ensure(one).await.unwrap();
    let other = bench.client.ensure(two).await.unwrap();
    assert!(ready.fresh && other.fresh);
    assert_ne!(ready.uid, other.uid);
    ready.connect().await.unwrap();

    let found = bench.inspect(one).await.unwrap();
    let host = found.host_config.unwrap();
    assert_eq!(host.network_mode.as_deref(), Some("none"));
    assert_eq!(host.ipc_mode.as_deref(), Some("none"));
    assert_eq!(host.readonly_rootfs, Some(true));
    assert_eq!(host.privileged, Some(false));
    assert_eq!(host.cap_add, None);
    assert_eq!(host.cap_drop, Some(vec!["ALL".to_owned()]));
    assert_eq!((host.memory, host.memory_swap), (Some(48 << 20), Some(48 << 20)));
    assert!(host.pids_limit.is_some_and(|most| (1..=64).contains(&most)));
    assert_eq!(host.log_config.unwrap().typ.as_deref(), Some("none"));
    let security = host.security_opt.unwrap();
    assert!(security.iter().any(|option| option == "no-new-privileges:true"));
    let profile = security.iter().find_map(|option| option.strip_prefix("seccomp=")).unwrap();
    let profile: serde_json::Value = serde_json::from_str(profile).expect("the profile itself, and no name");
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let networks = found.network_settings.unwrap().networks.unwrap();
    assert!(networks.values().all(|network| network.ip_address.as_deref().unwrap_or_default().is_empty()));
    let mounts: Vec<_> = found.mounts.unwrap().into_iter().filter_map(|mount| mount.source).collect();
    let slot = bench.dir.path().join("run").join(format!("pool-{:08x}", ready.uid));
    assert_eq!(
        mounts,
        [slot.to_str().unwrap()],
        "the directory that it was started in, which is the owner's now"
    );
    assert!(!slot.exists() && ready.socket.ends_with(format!("{one}/s")));

    // From inside: its program, a directory with one socket, no interface but the loopback, no right, limits of its own.
    let pid = found.state.unwrap().pid.unwrap();
    let inside = Path::new("/proc").join(pid.to_string());
    let seen = |dir: &str| -> Vec<_> {
        std::fs::read_dir(inside.join("root").join(dir)).unwrap().map(|e| e.unwrap().file_name()).collect()
    };
    assert_eq!(seen("run/pcm"), ["s"]);
    assert!(!inside.join("root/var").exists() && !inside.join("root/bin").exists());
    // The two files of its state are open, and nothing else that is a file.
    let open = std::fs::read_dir(inside.join("fd"))
        .unwrap()
        .map(|fd| std::fs::read_link(fd.unwrap().path()).unwrap());
    let mut files: Vec<PathBuf> = open.filter(|file| file.starts_with(bench.dir.path())).collect();
    files.sort_unstable();
    assert_eq!(files, ["a", "b"].map(|file| bench.state(one).join(file)));
    let root = std::fs::read_to_string(inside.join("mountinfo")).unwrap();
    let root = root.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{root}");
    let limits = std::fs::read_to_string(inside.join("limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(limit("Max file size"), (4 << 20).to_string());
    assert_eq!(limit("Max core file size"), "0");
    let everything = std::fs::read_to_string(inside.join("mountinfo")).unwrap();
    assert!(
        everything.contains(one.as_str())
            && !everything.contains(two.as_str())
            && !everything.contains(&format!("{:08x}", other.uid))
            && !everything.contains("docker.sock")
    );
    let interfaces = std::fs::read_to_string(inside.join("net/dev")).unwrap();
    assert_eq!(interfaces.lines().filter(|line| line.contains(':')).count(), 1, "{interfaces}");
    let status = std::fs::read_to_string(inside.join("status")).unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(u64::from_str_radix(&field("CapEff:"), 16), Ok(0));
    assert_eq!(u64::from_str_radix(&field("CapBnd:"), 16), Ok(0));
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    // The container's filter, the one that it waited for its owner behind, and the last one.
    assert_eq!(field("Seccomp_filters:"), "3");
    assert_eq!(field("Groups:"), ready.uid.to_string());
    assert_eq!(field("Uid:").split_whitespace().next().unwrap(), ready.uid.to_string());

    let dir = std::fs::metadata(ready.socket.parent().unwrap()).unwrap();
    assert_eq!((dir.uid(), dir.mode() & 0o7777), (ready.uid, 0o2770));
    let state = std::fs::metadata(bench.state(one)).unwrap();
    assert_eq!((state.uid(), state.mode() & 0o7777), (rustix::process::getuid().as_raw(), 0o700));
    let socket = std::fs::metadata(&ready.socket).unwrap();
    assert_eq!((socket.uid(), socket.gid(), socket.mode() & 0o7777), (ready.uid, dir.gid(), 0o660));
    bench.finish().await;
}

#[tokio::test]
#[ignore = "needs Docker"]
async fn a_pcm_outlives_the_launcher_and_is_adopted() {
    let mut bench = Bench::new().await;
    bench.start(10).await;
    let name = bench.names[0].clone();
    bench.client.ensure(&name).await.unwrap();
    let id = bench.id(&name).await;
    bench.stop().await;
    bench.start(10).await;
    assert_eq!(bench.client.list().await.unwrap(), std::slice::from_ref(&name));
    assert!(!bench.client.ensure(&name).await.unwrap().fresh);
    assert_eq!(bench.id(&name).await, id);

    bench.client.remove(&name).await.unwrap();
    assert!(bench.inspect(&name).await.is_none());
    assert!(!bench.dir.path().join("run").join(name.as_str()).exists());
    assert!(!bench.state(&name).exists());
    bench.finish().await;
}

#[tokio::test]
#[ignore = "needs Docker"]
async fn many_requests_make_one_container_and_capacity_holds() {
    let mut bench = Bench::new().await;
    bench.start(1).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (client, name) = (bench.client.clone(), bench.names[0].clone());
        calls.spawn(async move { client.ensure(&name).await.unwrap() });
    }
    assert_eq!(calls.join_all().await.iter().filter(|ready| ready.fresh).count(), 1);
    let refused = bench.client.ensure(&bench.names[1]).await.unwrap_err();
    assert_eq!(kind(refused), Some(ErrorKind::Capacity));
    assert!(bench.inspect(&bench.names[1]).await.is_none());
    bench.finish().await;
}

#[tokio::test]
#[ignore = "needs Docker"]
async fn dead_and_outdated_containers_are_replaced() {
    let mut bench = Bench::new().await;
    bench.start(10).await;
    let name = bench.names[0].clone();
    bench.client.ensure(&name).await.unwrap();
    let first = bench.id(&name).await;
    let kept = bench.state(&name).join("kept");
    std::fs::write(&kept, "by the one before").unwrap();
    bench.docker.kill_container(name.as_str(), None).await.unwrap();
    assert!(bench.client.ensure(&name).await.unwrap().fresh);
    assert_ne!(bench.id(&name).await, first);
    assert!(kept.exists());

    let outdated = bench.names[1].clone();
    let place = bench.dir.path().join("run").to_str().unwrap().to_owned();
    let ours =
        [("oauthing.pcm", "1".to_owned()), ("oauthing.place", place), ("oauthing.spec", "old".to_owned())];
    let old = bench.put(&outdated, ours.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()).await;
    assert!(bench.client.ensure(&outdated).await.unwrap().fresh);
    assert_ne!(bench.id(&outdated).await, old);

    // What died while no launcher ran is swept at the next start.
    bench.stop().await;
    bench.docker.kill_container(name.as_str(), None).await.unwrap();
    bench.start(10).await;
    assert!(bench.inspect(&name).await.is_none());
    assert_eq!(bench.client.list().await.unwrap(), [outdated]);
    // But not what it kept: that goes with its owner, whether it runs or not.
    assert!(kept.exists());
    bench.client.remove(&name).await.unwrap();
    assert!(!bench.state(&name).exists());
    bench.finish().await;
}

#[tokio::test]
#[ignore = "needs Docker"]
async fn a_link_to_another_owners_socket_is_found_out() {
    let mut bench = Bench::new().await;
    bench.start(10).await;
    let hostile = bench.client.ensure(&bench.names[0]).await.unwrap();
    let victim = bench.client.ensure(&bench.names[1]).await.unwrap();
    std::fs::remove_file(&hostile.socket).unwrap();
    std::os::unix::fs::symlink(&victim.socket, &hostile.socket).unwrap();
    assert_eq!(hostile.connect().await.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    victim.connect().await.unwrap();

    let replaced = bench.client.ensure(&bench.names[0]).await.unwrap();
    assert!(replaced.fresh);
    replaced.connect().await.unwrap();
    bench.finish().await;
}

#[tokio::test]
#[ignore = "needs Docker"]
async fn a_container_that_is_not_ours_is_never_touched() {
    let mut bench = Bench::new().await;
    let name = bench.names[0].clone();
    let elsewhere = [("oauthing.pcm", "1"), ("oauthing.place", "/another/launcher")];
    let id =
        bench.put(&name, elsewhere.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()).await;
    bench.start(10).await;
    assert_eq!(kind(bench.client.ensure(&name).await.unwrap_err()), Some(ErrorKind::Engine));
    assert_eq!(kind(bench.client.remove(&name).await.unwrap_err()), Some(ErrorKind::Engine));
    assert!(bench.client.list().await.unwrap().is_empty());
    assert_eq!(bench.id(&name).await, id);
    bench.finish().await;
}

/// Another user gets no answer, even if the file's mode let them in.
#[tokio::test]
#[ignore = "needs root"]
#[allow(unsafe_code)]
async fn the_launcher_answers_its_gateway_and_nobody_else() {
    const SOMEBODY: libc::uid_t = 12_345;
    let mut bench = Bench::new().await;
    bench.start(10).await;
    let run = bench.dir.path().join("run");
    let socket = run.join("launcher.sock");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&socket), mode(&run)), (0o660, 0o750));
    for (path, mode) in [(bench.dir.path(), 0o755), (&run, 0o755), (&socket, 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let ask = |user: Option<libc::uid_t>| {
        let (socket, (told, answer)) = (socket.clone(), tokio::sync::oneshot::channel());
        std::thread::spawn(move || {
            if let Some(user) = user {
                let same = libc::uid_t::MAX;
                // SAFETY: made as a call of the kernel's it changes this thread's user and nothing else.
                let done = unsafe { libc::syscall(libc::SYS_setresuid, same, user, same) };
                assert_eq!(done, 0);
            }
            let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
            // Whoever is turned away may learn of it while writing.
            let _ = stream.write_all(b"{\"id\":1,\"list\":{}}\n");
            let mut answer = Vec::new();
            let _ = stream.take(25).read_to_end(&mut answer);
            told.send(String::from_utf8(answer).unwrap())
        });
        timeout(DEADLINE, answer)
    };
    assert_eq!(ask(None).await.unwrap().unwrap(), r#"{"id":1,"pcms":{"names":["#);
    assert_eq!(ask(Some(SOMEBODY)).await.unwrap().unwrap(), "");
    bench.finish().await;
}

/// The program `inside/hostile.rs`, as one static file in `dir`.
fn hostile(dir: &Path) -> PathBuf {
    let program = dir.join("pcm");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inside/hostile.rs");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-C", "opt-level=s", "-C", "target-feature=+crt-static"]);
    assert!(rustc.arg("-o").arg(&program).arg(source).status().unwrap().success());
    program
}

/// An image with nothing in it but a program, removed when this is dropped.
struct Image(String);

impl Image {
    fn of(program: &Path) -> Self {
        let tag = format!("oauthing-test-{:016x}", rand::random::<u64>());
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(program.parent().unwrap()).args([
            "--owner=0",
            "--group=0",
            "--mode=0555",
            "-c",
            "pcm",
        ]);
        let mut packed = tar.stdout(Stdio::piped()).spawn().unwrap();
        let mut import = Command::new("docker");
        import.args(["import", "-", &tag]).stdin(packed.stdout.take().unwrap()).stdout(Stdio::null());
        assert!(import.status().unwrap().success() && packed.wait().unwrap().success());
        Self(tag)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "--force", &self.0]).stdout(Stdio::null()).status();
    }
}

/// What it says to a letter: lines of a word and a value.
async fn told(mut stream: UnixStream, letter: u8) -> Vec<(String, String)> {
    stream.write_all(&[letter]).await.unwrap();
    let mut text = String::new();
    // Of one that dies at it nothing comes.
    let _ = timeout(DEADLINE, stream.read_to_string(&mut text)).await.unwrap();
    text.lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn all<'a>(facts: &'a [(String, String)], of: &str) -> Vec<&'a str> {
    facts.iter().filter(|(word, _)| word == of).map(|(_, value)| value.as_str()).collect()
}

/// Whoever takes over a PCM, before its own last sandbox: what the container alone leaves them.
#[tokio::test]
#[ignore = "needs Docker"]
async fn a_hostile_pcm_finds_no_way_out_and_nobody_else() {
    let place = tempfile::tempdir().unwrap();
    let program = hostile(place.path());
    let image = Image::of(&program);
    let mut bench = Bench::new().await;
    bench.start_of(&image.0, 10).await;
    let [one, two] = [&bench.names[0], &bench.names[1]];
    let ready = bench.client.ensure(one).await.unwrap();
    let other = bench.client.ensure(two).await.unwrap();

    // Outside nothing forbids it: what is tried can succeed.
    let mut outside = Command::new(&program).arg("--dir").arg(place.path()).spawn().unwrap();
    let socket = place.path().join("s");
    while UnixStream::connect(&socket).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let possible = told(UnixStream::connect(&socket).await.unwrap(), b'h').await;
    outside.kill().unwrap();
    outside.wait().unwrap();
    assert!(possible.len() > 10 && possible.iter().all(|(_, error)| error == "0"), "{possible:?}");

    let tried = told(ready.connect().await.unwrap(), b'a').await;
    assert!(possible.iter().all(|(call, _)| !all(&tried, call).is_empty()) && tried.len() > 50);
    // A number of another architecture is no call at all (ENOSYS).
    let open: Vec<_> = tried.iter().filter(|(_, error)| !["1", "38"].contains(&error.as_str())).collect();
    assert!(open.is_empty(), "not denied: {open:?}");

    let writable = told(ready.connect().await.unwrap(), b'w').await;
    assert_eq!(all(&writable, "longest"), ["4"], "MiB, and no more");
    let open: Vec<_> = writable.iter().filter(|(_, error)| error == "0").collect();
    assert!(open.is_empty() && writable.len() > 10, "written to: {writable:?}");

    let seen = told(ready.connect().await.unwrap(), b'l').await;
    assert_eq!(all(&seen, "socket"), ["/run/pcm/s"]);
    assert_eq!(all(&seen, "process"), ["1"]);
    // The engine puts names for resolving into /etc.
    let elsewhere = |folder: &&&str| !["/run", "/dev", "/etc"].iter().any(|known| folder.starts_with(known));
    assert_eq!(all(&seen, "folder").iter().find(elsewhere), None);
    assert!(all(&seen, "read").iter().all(|read| read.ends_with(" 0")), "{:?}", all(&seen, "read"));
    let mut variables = all(&seen, "variable");
    variables.sort_unstable();
    assert_eq!(variables, ["HOME", "HOSTNAME", "PATH"], "what the engine sets for everybody");
    // Nothing to read from, two pipes that the engine throws away, its listener, this connection, the directory being read.
    let mut descriptors = all(&seen, "open");
    descriptors.sort_unstable();
    assert_eq!(descriptors, ["/dev/null", "/proc/1/fd", "pipe", "pipe", "socket", "socket"]);
    let status = all(&seen, "/proc/self/status");
    let field = |name: &str| status.iter().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    for (name, value) in [("NoNewPrivs:", "1"), ("Seccomp:", "2"), ("Seccomp_filters:", "1"), ("NSpid:", "1")]
    {
        assert_eq!(field(name), value, "{name}");
    }
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(field(name), 16), Ok(0), "{name}");
    }
    assert_eq!(field("Uid:").split_whitespace().next(), Some(ready.uid.to_string().as_str()));
    assert_eq!(
        all(&seen, "/proc/net/dev").iter().filter(|line| line.contains(':')).count(),
        1,
        "the loopback"
    );
    assert_eq!(all(&seen, "/proc/net/route").len(), 1, "a heading");
    assert_eq!(all(&seen, "/proc/net/unix").iter().filter(|line| line.contains('/')).count(), 1, "its own");
    for secret in [two.as_str(), &format!("{:08x}", other.uid), "docker.sock", "containerd.sock"] {
        assert!(seen.iter().all(|(_, value)| !value.contains(secret)), "{secret}");
    }

    // More memory than an owner's part is nobody's but the end of who wants it.
    assert_eq!(told(ready.connect().await.unwrap(), b'm').await, []);
    let ended = async {
        loop {
            let state = bench.inspect(one).await.unwrap().state.unwrap();
            if state.running == Some(false) {
                return state.oom_killed;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert_eq!(timeout(DEADLINE, ended).await.unwrap(), Some(true));
    assert_eq!(all(&told(other.connect().await.unwrap(), b'l').await, "socket"), ["/run/pcm/s"]);

    // Whoever calls by numbers of another architecture is killed, or denied it where the kernel has none.
    for (letter, way) in [(b'g', "old-gate"), (b'x', "other-abi")] {
        let ready = bench.client.ensure(one).await.unwrap();
        let knocked = told(ready.connect().await.unwrap(), letter).await;
        assert!(all(&knocked, way).iter().all(|error| *error != "0"), "{knocked:?}");
    }
    bench.finish().await;
}
