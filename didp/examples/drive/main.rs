//! Drives one API of a running DIdP over keep-alive connections and says how many answers a second came, and how late:
//!
//! ```text
//! cargo run --release -p didp --example drive -- introspect --credentials credentials.jsonl --secret ignite=…
//! cargo run --release -p didp --example drive -- register --token … [--batch 500]
//! cargo run --release -p didp --example drive -- refresh --credentials credentials.jsonl
//! ```
//!
//! One thread, plain sockets, each connection waits for its answer: what the client costs is little. `loadtest run` measures the
//! same with the paper's methods; this is for a quick look.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[derive(Parser)]
struct Arguments {
    what: What,
    /// What `seed` wrote.
    #[arg(long)]
    credentials: Option<PathBuf>,
    /// `name=secret` of a gateway; several are taken in turn.
    #[arg(long)]
    secret: Vec<String>,
    /// An initial access token.
    #[arg(long, default_value = "")]
    token: String,
    /// Devices in one registration.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    #[arg(long, default_value = "127.0.0.1:8080")]
    address: String,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Introspect,
    Register,
    Refresh,
}

struct Job {
    what: What,
    lines: Vec<Value>,
    gateways: Vec<(String, String)>,
    head: String,
    body: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let lines = match &arguments.credentials {
        Some(file) => {
            std::fs::read_to_string(file)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?
        }
        None => Vec::new(),
    };
    let gateways = arguments.secret.iter().map(|pair| {
        let (name, secret) = pair.split_once('=').context("--secret name=secret")?;
        Ok((name.to_owned(), basic(name, secret)))
    });
    let one = json!({
        "client_name": "Thermostat T1", "token_endpoint_auth_method": "client_secret_basic",
        "device": {"confirm": "code", "channels": [
            {"name": "temperature", "direction": "data", "title": "Temperature", "unit": "°C", "type": "number"},
            {"name": "humidity", "direction": "data", "title": "Humidity", "unit": "%", "type": "number"},
            {"name": "setpoint", "direction": "command", "title": "Set point", "unit": "°C", "type": "number"},
        ]},
    });
    let (path, body) = match arguments.batch {
        1 => ("/register", one.to_string()),
        many => ("/register/batch", Value::from(vec![one; many]).to_string()),
    };
    let token = &arguments.token;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: didp\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    );
    let job = Arc::new(Job {
        what: arguments.what,
        lines,
        gateways: gateways.collect::<anyhow::Result<_>>()?,
        head,
        body,
    });
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let times = Arc::new(Mutex::new(Vec::new()));
    let began = Instant::now();
    let mut drivers = tokio::task::JoinSet::new();
    for number in 0..arguments.connections {
        let (job, times) = (Arc::clone(&job), Arc::clone(&times));
        let stream = TcpStream::connect(&arguments.address).await?;
        stream.set_nodelay(true)?;
        drivers.spawn(drive(job, stream, number, arguments.connections, end, times));
    }
    while let Some(done) = drivers.join_next().await {
        done??;
    }
    let took = began.elapsed().as_secs_f64();
    let mut times = std::mem::take(&mut *times.lock().map_err(|_| anyhow::anyhow!("a driver failed"))?);
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
    let each = if arguments.what == What::Register { arguments.batch } else { 1 };
    println!(
        "{:.0}/s over {took:.1} s ({} requests); ms: p50 {:.2}, p99 {:.2}, p99.9 {:.2}, most {:.2}",
        (times.len() * each) as f64 / took,
        times.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    Ok(())
}

fn basic(name: &str, secret: &str) -> String {
    STANDARD.encode(format!("{name}:{}", secret.replace(' ', "+")))
}

async fn drive(
    job: Arc<Job>,
    mut stream: TcpStream,
    number: usize,
    of: usize,
    end: Instant,
    times: Arc<Mutex<Vec<u32>>>,
) -> anyhow::Result<()> {
    let mut mine: Vec<Value> = job
        .lines
        .iter()
        .filter(|line| job.what == What::Introspect || line["kind"] == "device")
        .skip(number)
        .step_by(of)
        .cloned()
        .collect();
    let (mut taken, mut turn) = (Vec::new(), 0);
    let mut buffer = Vec::with_capacity(1 << 20);
    while Instant::now() < end {
        let index = if mine.is_empty() { 0 } else { turn % mine.len() };
        turn += 1;
        let request = match job.what {
            What::Register => {
                format!("{}Content-Length: {}\r\n\r\n{}", job.head, job.body.len(), job.body)
            }
            What::Introspect => {
                let line = &mine[index];
                let gateway = job.gateways.iter().find(|(name, _)| line["gateway"] == name.as_str());
                let (_, basic) = gateway.context("no secret of this gateway")?;
                form("/introspect", basic, &format!("token={}", text(line, "access_token")))
            }
            What::Refresh => {
                let line = &mine[index];
                let basic = basic(text(line, "client_id"), text(line, "client_secret"));
                let token = text(line, "refresh_token");
                form("/token", &basic, &format!("grant_type=refresh_token&refresh_token={token}"))
            }
        };
        let sent = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        let body = receive(&mut stream, &mut buffer).await?;
        taken.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        match job.what {
            What::Introspect => ensure!(body.starts_with(b"{\"active\":true"), "inactive"),
            What::Refresh => {
                let answer: Value = serde_json::from_slice(body)?;
                mine[index]["refresh_token"] = answer["refresh_token"].clone();
            }
            What::Register => {}
        }
    }
    times.lock().map_err(|_| anyhow::anyhow!("a driver failed"))?.append(&mut taken);
    Ok(())
}

fn text<'a>(line: &'a Value, name: &str) -> &'a str {
    line[name].as_str().unwrap_or_default()
}

fn form(path: &str, basic: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: didp\r\nAuthorization: Basic {basic}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The body of the next answer, which must be a good one.
async fn receive<'a>(stream: &mut TcpStream, buffer: &'a mut Vec<u8>) -> anyhow::Result<&'a [u8]> {
    buffer.clear();
    loop {
        ensure!(stream.read_buf(buffer).await? > 0, "the connection was closed");
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head])?;
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let whole = head + 4 + length.context("an answer without a length")?;
        if buffer.len() >= whole {
            ensure!(text.starts_with("HTTP/1.1 2"), "{text}\n{}", String::from_utf8_lossy(&buffer[head..]));
            return Ok(&buffer[head + 4..whole]);
        }
    }
}
