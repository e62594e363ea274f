//! What an idle connection costs the gateway in memory: `idle [--connections 20000] [--gateway PATH]`, see `docs/performance.md`.
//!
//! The gateway is the program itself. Everything else that a session needs, DIdP, launcher and PCMs, is played by a second process,
//! so that only the gateway's memory is the gateway's; the clients are in this one. Each owner has two connections, a device and an
//! app that may read and command it. As root, since more file descriptors are needed than most systems grant.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has nothing to tell")]

#[path = "others/mod.rs"]
mod others;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Parser;
use futures_util::StreamExt as _;
use ignite::launcher::wire::{Answer, Ready, Request, Verb};
use mqtt_wire::{Version, frame_len};
use others::{Running, bearer};
use pcm_wire::Preamble;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

#[derive(Parser)]
struct Arguments {
    /// How many connections.
    #[arg(long, default_value_t = 20_000)]
    connections: usize,
    /// The gateway's program.
    #[arg(long, default_value = "target/release/ignite")]
    gateway: PathBuf,
    /// Seconds of keep alive that the clients ask for; they are measured before the first is due.
    #[arg(long, default_value_t = 3_600)]
    keep_alive: u16,
    /// Plays the other parties in this directory.
    #[arg(long, hide = true)]
    others: Option<PathBuf>,
}

/// CONNECTs under way at once.
const AT_ONCE: usize = 64;

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    match &arguments.others {
        Some(dir) => play_the_others(dir).await,
        None => measure(&arguments).await,
    }
}

async fn measure(arguments: &Arguments) {
    // The gateway has two for each connection, and one for each owner.
    let files = arguments.connections as u64 * 5 / 2 + 500;
    let granted = getrlimit(Resource::Nofile).maximum;
    if granted.is_some_and(|granted| granted < files) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: Some(files) }).unwrap_or_else(
            |error| panic!("{files} file descriptors a process are needed, {granted:?} granted: {error}"),
        );
    } else {
        setrlimit(Resource::Nofile, Rlimit { current: granted, maximum: granted }).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let mut others = Command::new(std::env::current_exe().unwrap());
    others.arg("--others").arg(dir.path()).stdout(Stdio::piped());
    let mut others = Running(others.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(others.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let didp = line.trim();

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = dir.path().join("ignite.toml");
    others::write_secrets(dir.path());
    let text = others::toml(port, didp, Path::new("/none"), "");
    std::fs::write(&config, text).unwrap();
    let mut gateway = Command::new(&arguments.gateway);
    gateway.arg("serve").arg("--config").arg(&config).env("OAUTHING_LOG", "warn");
    let gateway = Running(gateway.spawn().expect("the gateway's program; build it first"));
    let pid = gateway.0.id();

    // A few come before the first reading, so that what is there once does not count for each.
    let warm = 100;
    let connect = |number: usize| session(port, number, arguments.keep_alive);
    let mut clients: Vec<TcpStream> =
        futures_util::stream::iter(0..warm).map(connect).buffered(1).collect().await;
    let before = Reading::now(pid);
    let more: Vec<TcpStream> = futures_util::stream::iter(warm..arguments.connections)
        .map(connect)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    clients.extend(more);
    // Buffers of the last handshakes go back.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = Reading::now(pid);
    let count = clients.len() - warm;
    let each = |of: fn(&Reading) -> u64| (of(&after).saturating_sub(of(&before))) / count as u64;
    println!("connections           {}", clients.len());
    println!("gateway RSS, kB       {} -> {}", before.rss / 1024, after.rss / 1024);
    println!("RSS each, bytes       {}", each(|reading| reading.rss));
    println!(
        "kernel slab each      {} bytes, all four ends of both connections, whole system",
        each(|reading| reading.slab)
    );
    println!("socket buffers each   {} bytes, as above", each(|reading| reading.sockets));
    let mut answering = 0;
    let step = clients.len() / 100;
    for client in clients.iter_mut().step_by(step) {
        client.write_all(&[0xC0, 0]).await.unwrap();
        let mut answer = [0; 2];
        client.read_exact(&mut answer).await.unwrap();
        answering += usize::from(answer == [0xD0, 0]);
    }
    println!("of 100 asked, answer  {answering}");
}

/// Bytes.
struct Reading {
    rss: u64,
    slab: u64,
    sockets: u64,
}

impl Reading {
    fn now(pid: u32) -> Self {
        let sockets = std::fs::read_to_string("/proc/net/sockstat").unwrap();
        let pages = sockets.lines().find(|line| line.starts_with("TCP:")).unwrap();
        let pages = pages.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        Self {
            rss: field(Path::new(&format!("/proc/{pid}/status")), "VmRSS:"),
            slab: field(Path::new("/proc/meminfo"), "Slab:"),
            sockets: pages * 4096,
        }
    }
}

fn field(file: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// One connection after its CONNACK.
async fn session(port: std::net::SocketAddr, number: usize, keep_alive: u16) -> TcpStream {
    let connect = bearer(Version::V311, number, keep_alive);
    // The gateway may still be starting.
    for _ in 0..500 {
        let Ok(mut stream) = TcpStream::connect(port).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        stream.write_all(&connect).await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0x20, 2, 0, 0], "CONNACK");
        return stream;
    }
    panic!("the gateway does not listen");
}

/// DIdP, launcher and all PCMs. Says on standard output where the DIdP is.
async fn play_the_others(dir: &Path) {
    let launcher = UnixListener::bind(dir.join("launcher.sock")).unwrap();
    let pcm = dir.join("pcm.sock");
    let pcms = UnixListener::bind(&pcm).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = launcher.accept().await {
            tokio::spawn(launch(stream, pcm.clone()));
        }
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = pcms.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    std::io::stdout().flush().unwrap();
    others::serve(listener).await;
}

async fn launch(stream: UnixStream, socket: PathBuf) {
    let (reading, mut writing) = stream.into_split();
    let mut lines = tokio::io::BufReader::new(reading).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let request: Request = serde_json::from_str(&line).unwrap();
        let answer = match request.verb {
            Verb::Ensure { name } => {
                let uid = rustix::process::getuid().as_raw();
                Answer::Ready(Ready { name, socket: socket.clone(), uid, fresh: true })
            }
            _ => Answer::Pcms { names: Vec::new() },
        };
        let mut reply =
            serde_json::to_vec(&ignite::launcher::wire::Reply { id: request.id, answer }).unwrap();
        reply.push(b'\n');
        writing.write_all(&reply).await.unwrap();
    }
}

/// A PCM's end of one connection: says yes to everything and holds it.
async fn serve(mut stream: UnixStream) {
    let mut input = Vec::new();
    let is_control = loop {
        if let Some((preamble, length)) = Preamble::parse(&input).unwrap() {
            input.drain(..length);
            break matches!(preamble, Preamble::Control {});
        }
        if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
            return;
        }
    };
    loop {
        if is_control {
            while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
                let request: Value = serde_json::from_slice(&input[..end]).unwrap();
                input.drain(..=end);
                let reply = format!("{}\n", json!({"id": request["id"], "ok": {}}));
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        } else if let Ok(Some(length)) = frame_len(&input, usize::MAX)
            && input.len() >= length
        {
            let is_connect = input[0] >> 4 == 1;
            input.drain(..length);
            if is_connect {
                stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
            }
        }
        if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
            return;
        }
        input.shrink_to(256);
    }
}
