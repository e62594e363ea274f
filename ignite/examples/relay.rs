//! What the relay costs a message: `relay [--owners 400] [--seconds 10] [--rate N] [--mosquitto]`, see `docs/performance.md`.
//!
//! Gateway, launcher and PCMs are the programs themselves, one PCM for each owner; the DIdP is played here. Each owner's device
//! publishes 100 bytes with QoS 0 and its app receives them, one message under way for each owner (closed loop), or `--rate`
//! messages a second of each. With `--mosquitto` the same clients speak to Mosquitto, for comparison.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on has nothing to tell")]

#[path = "others/mod.rs"]
mod others;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::StreamExt as _;
use mqtt_wire::{Filters, Packet, Properties, Publish, QoS, Subscribe, Subscription, Version, frame_len};
use others::{Running, bearer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[derive(Parser, Clone)]
struct Arguments {
    /// Owners, each with a device and an app.
    #[arg(long, default_value_t = 400)]
    owners: usize,
    /// Time that is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Messages of each owner in a second; closed loop if missing.
    #[arg(long)]
    rate: Option<f64>,
    /// Where the programs are.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Threads of the gateway; one for each processor if missing.
    #[arg(long)]
    threads: Option<usize>,
    /// Mosquitto instead of gateway and PCMs.
    #[arg(long)]
    mosquitto: bool,
    /// Waits before it begins, so that the processes can be looked at.
    #[arg(long, default_value_t = 0)]
    pause: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let servers = if arguments.mosquitto {
        mosquitto(dir.path(), port)
    } else {
        ours(&arguments, dir.path(), port).await
    };
    let pairs: Vec<Pair> = futures_util::stream::iter(0..arguments.owners)
        .map(|owner| Pair::connect(port, owner, arguments.mosquitto))
        .buffered(16)
        .collect()
        .await;
    tokio::time::sleep(Duration::from_secs(1 + arguments.pause)).await;
    eprintln!("processes: {:?}", servers.iter().map(|server| server.0.id()).collect::<Vec<_>>());
    let before = Cpu::of(&servers);
    let own = Cpu::own();
    let (begin, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let running: Vec<_> = pairs
        .into_iter()
        .enumerate()
        .map(|(number, pair)| {
            let pause = arguments.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
            let late = pause.map(|pause| pause.mul_f64(number as f64 / arguments.owners as f64));
            tokio::spawn(pair.run(Arc::clone(&stop), pause, late))
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    stop.store(true, Ordering::Relaxed);
    let (elapsed, after, own) = (begin.elapsed(), Cpu::of(&servers), Cpu::own() - own);
    let mut latencies = Vec::new();
    let mut counts = Vec::new();
    for pair in running {
        let pair = pair.await.unwrap();
        counts.push(pair.len());
        latencies.extend(pair);
    }
    latencies.sort_unstable();
    counts.sort_unstable();
    let total = latencies.len();
    let at = |part: f64| latencies[((total - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    let mean = latencies.iter().sum::<Duration>().as_secs_f64() * 1e3 / total as f64;
    println!("messages a second      {:.0}", total as f64 / elapsed.as_secs_f64());
    println!(
        "latency, ms            mean {mean:.3}, p50 {:.3}, p95 {:.3}, p99 {:.3}",
        at(0.5),
        at(0.95),
        at(0.99)
    );
    println!("slowest owner / median {:.2}", counts[0] as f64 / counts[counts.len() / 2] as f64);
    let spent = after - before;
    println!("server CPU, us/message {:.2}", spent / total as f64 * 1e6);
    for (name, part) in Cpu::parts(&servers) {
        println!("  {name:<20} {part:.2} s since its start");
    }
    println!("driver CPU, us/message {:.2}", own / total as f64 * 1e6);
}

/// Gateway, launcher, DIdP.
async fn ours(arguments: &Arguments, dir: &Path, port: SocketAddr) -> Vec<Running> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let didp = listener.local_addr().unwrap().to_string();
    tokio::spawn(others::serve(listener));
    others::write_secrets(dir);
    let pcm = std::path::absolute(arguments.programs.join("pcm")).unwrap();
    let config = dir.join("ignite.toml");
    let threads = arguments.threads.map(|threads| format!("threads = {threads}")).unwrap_or_default();
    std::fs::write(&config, others::toml(port, &didp, &pcm, &threads)).unwrap();
    let mut servers = Vec::new();
    for role in ["launcher", "serve"] {
        let mut program = Command::new(arguments.programs.join("ignite"));
        program.arg(role).arg("--config").arg(&config).env("OAUTHING_LOG", "warn");
        servers.push(Running(program.spawn().expect("build it first")));
    }
    servers
}

fn mosquitto(dir: &Path, port: SocketAddr) -> Vec<Running> {
    let config = dir.join("mosquitto.conf");
    let text = format!(
        "listener {} 127.0.0.1\nallow_anonymous true\nlog_type none\nmax_queued_messages 0\nset_tcp_nodelay true\n",
        port.port()
    );
    std::fs::write(&config, text).unwrap();
    let mut program = Command::new("mosquitto");
    program.arg("-c").arg(&config).stdout(Stdio::null());
    vec![Running(program.spawn().unwrap())]
}

/// Processor seconds.
struct Cpu;

impl Cpu {
    /// Of the servers and whatever they started.
    fn of(servers: &[Running]) -> f64 {
        Self::parts(servers).iter().map(|part| part.1).sum()
    }

    fn own() -> f64 {
        Self::of_process(std::process::id()).unwrap_or_default()
    }

    fn parts(servers: &[Running]) -> Vec<(String, f64)> {
        let roots: Vec<u32> = servers.iter().map(|server| server.0.id()).collect();
        let mut parts: Vec<(String, f64)> = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            let Some((head, tail)) = stat.rsplit_once(')') else { continue };
            let parent = tail.split_whitespace().nth(1).and_then(|parent| parent.parse().ok());
            let is_ours = roots.contains(&pid) || parent.is_some_and(|parent| roots.contains(&parent));
            let (true, Some(time)) = (is_ours, Self::of_process(pid)) else { continue };
            let role = roots
                .iter()
                .position(|root| *root == pid)
                .map_or("children".to_owned(), |at| format!("{at}"));
            let name = format!("{} {role}", head.split_once('(').map_or("", |head| head.1));
            match parts.iter_mut().find(|part| part.0 == name) {
                Some(part) => part.1 += time,
                None => parts.push((name, time)),
            }
        }
        parts
    }

    /// From `schedstat` of each thread, which counts nanoseconds.
    fn of_process(pid: u32) -> Option<f64> {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let times = threads.flatten().filter_map(|thread| {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        });
        Some(times.sum::<f64>() / 1e9)
    }
}

/// A device and an app of one owner.
struct Pair {
    device: TcpStream,
    app: TcpStream,
    message: Vec<u8>,
}

impl Pair {
    async fn connect(port: SocketAddr, owner: usize, is_mosquitto: bool) -> Self {
        let device = connected(port, 2 * owner).await;
        let mut app = connected(port, 2 * owner + 1).await;
        // The gateway makes "everything" of an owner's own; at Mosquitto the topics have to be apart.
        let own = format!("d/{owner}");
        let (filter, topic) =
            if is_mosquitto { (own.as_str(), own.as_str()) } else { ("d/#", "d/temperature") };
        let wish = [Subscription::new(filter, QoS::AtMostOnce)];
        let filters = Filters::list(&wish);
        let subscribe = Subscribe { packet_id: 1, properties: Properties::EMPTY, filters };
        app.write_all(&Packet::Subscribe(subscribe).to_vec(Version::V311)).await.unwrap();
        app.read_exact(&mut [0; 5]).await.unwrap();
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: None,
            properties: Properties::EMPTY,
            payload: &[b'x'; 100],
        };
        Self { device, app, message: Packet::Publish(publish).to_vec(Version::V311) }
    }

    async fn run(
        mut self,
        stop: Arc<AtomicBool>,
        pause: Option<Duration>,
        late: Option<Duration>,
    ) -> Vec<Duration> {
        let mut latencies = Vec::with_capacity(1 << 12);
        let mut input = vec![0; 1024];
        let mut due = Instant::now() + late.unwrap_or_default();
        while !stop.load(Ordering::Relaxed) {
            if let Some(pause) = pause {
                tokio::time::sleep_until(due.into()).await;
                due += pause;
            }
            let begin = Instant::now();
            self.device.write_all(&self.message).await.unwrap();
            let mut filled = 0;
            loop {
                let count = self.app.read(&mut input[filled..]).await.unwrap();
                assert!(count > 0, "the connection is there");
                filled += count;
                if let Ok(Some(length)) = frame_len(&input[..filled], usize::MAX)
                    && filled >= length
                {
                    break;
                }
            }
            latencies.push(begin.elapsed());
        }
        latencies
    }
}

async fn connected(port: SocketAddr, number: usize) -> TcpStream {
    let connect = bearer(Version::V311, number, 0);
    for _ in 0..500 {
        let Ok(mut stream) = TcpStream::connect(port).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        stream.set_nodelay(true).unwrap();
        stream.write_all(&connect).await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0x20, 2, 0, 0], "CONNACK");
        return stream;
    }
    panic!("nobody listens");
}
