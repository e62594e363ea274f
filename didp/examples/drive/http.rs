//! Requests over keep-alive HTTP connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Arguments, Times, micros, text};

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Introspect,
    Register,
    Refresh,
}

struct Job {
    api: Api,
    lines: Vec<Value>,
    gateways: Vec<(String, String)>,
    head: String,
    body: String,
}

/// Sends what the arguments say for as long as they say, and tells how it went.
pub(super) async fn run(arguments: &Arguments, api: Api) -> anyhow::Result<()> {
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
        api,
        lines: arguments.lines(api == Api::Refresh)?,
        gateways: gateways.collect::<anyhow::Result<_>>()?,
        head,
        body,
    });
    let times = Times::default();
    let began = Instant::now();
    let end = began + Duration::from_secs(arguments.seconds);
    let mut drivers = tokio::task::JoinSet::new();
    for number in 0..arguments.connections {
        let stream = TcpStream::connect(&arguments.address).await?;
        stream.set_nodelay(true)?;
        drivers.spawn(drive(Arc::clone(&job), stream, number, arguments.connections, end, times.clone()));
    }
    while let Some(done) = drivers.join_next().await {
        done??;
    }
    times.tell(began.elapsed(), if api == Api::Register { arguments.batch } else { 1 })
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
    times: Times,
) -> anyhow::Result<()> {
    let mut mine: Vec<Value> = job.lines.iter().skip(number).step_by(of).cloned().collect();
    let (mut taken, mut turn) = (Vec::new(), 0);
    let mut buffer = Vec::with_capacity(1 << 20);
    while Instant::now() < end {
        let index = if mine.is_empty() { 0 } else { turn % mine.len() };
        turn += 1;
        let line = mine.get(index).unwrap_or(&Value::Null);
        let request = match job.api {
            Api::Register => {
                format!("{}Content-Length: {}\r\n\r\n{}", job.head, job.body.len(), job.body)
            }
            Api::Refresh => {
                let basic = basic(text(line, "client_id"), text(line, "client_secret"));
                let token = text(line, "refresh_token");
                form("/token", &basic, &format!("grant_type=refresh_token&refresh_token={token}"))
            }
            Api::Introspect => {
                let gateway = job.gateways.iter().find(|(name, _)| line["gateway"] == name.as_str());
                let (_, basic) = gateway.context("no secret of this gateway")?;
                form("/introspect", basic, &format!("token={}", text(line, "access_token")))
            }
        };
        let sent = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        let body = receive(&mut stream, &mut buffer).await?;
        taken.push(micros(sent));
        match job.api {
            Api::Refresh => {
                let answer: Value = serde_json::from_slice(body)?;
                mine[index]["refresh_token"] = answer["refresh_token"].clone();
            }
            Api::Introspect => ensure!(body.starts_with(b"{\"active\":true"), "inactive"),
            Api::Register => {}
        }
    }
    times.add(taken);
    Ok(())
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
