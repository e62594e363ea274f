//! The check of the check: a mark is planted in every form in every kind of place, and has to be found by the same means.

use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};

use crate::cast::Network;
use crate::deployment::Deployment;
use crate::form::{self, Form};
use crate::ledger::Ledger;
use crate::listen::Ears;
use crate::look;
use crate::matrix::{Kind, Mark, PLACES, Party, Place};
use crate::memory;
use crate::search::Searcher;
use crate::shell;

/// `privacy hold`: reads standard input and keeps it.
///
/// # Errors
/// Standard input cannot be read.
pub fn hold() -> anyhow::Result<()> {
    let mut held = Vec::new();
    std::io::stdin().read_to_end(&mut held)?;
    println!("{}", held.len());
    loop {
        std::thread::park();
        std::hint::black_box(&held);
    }
}

/// Plants and looks: how many were found.
///
/// # Errors
/// One was not.
pub async fn check(deployment: &Deployment, from: IpAddr) -> anyhow::Result<String> {
    let value = service::secret::random_token::<24>();
    let marks = vec![Mark::new(Kind::Profile, "a planted mark", value.as_str(), [])];
    let searcher = Searcher::new(&marks)?;
    let patterns = form::patterns(value.as_bytes());
    let all = patterns.iter().flat_map(|(_, bytes)| [bytes.as_slice(), b"\n"]).flatten().copied();
    let all: Vec<u8> = all.collect();
    let text: Vec<u8> = patterns
        .iter()
        .filter(|(_, bytes)| bytes.iter().all(u8::is_ascii_graphic))
        .flat_map(|(_, bytes)| [bytes.as_slice(), b"\n"])
        .flatten()
        .copied()
        .collect();
    let mut ledger = Ledger::default();
    let party = Party::Pcm;

    let folder = deployment.volume("state-tpa")?.join("planted");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("leak"), &all)?;
    ledger.search_folder(&searcher, party, Place::Storage, &folder)?;

    let log = deployment.dir().join("planted");
    std::fs::write(&log, &text)?;
    let mount = format!("{}:/planted:ro", log.display());
    let name = "oauthing-privacy-planted";
    let image = deployment.image("tpa");
    let run = [
        "run",
        "--name",
        name,
        "--network",
        "none",
        "-v",
        &mount,
        "--user",
        "0",
        "--entrypoint",
        "cat",
        &image,
        "/planted",
    ];
    shell::output("docker", &run)?;
    let logged = look::log(name, party, &searcher, &mut ledger);
    shell::output("docker", &["rm", "-f", name])?;
    logged?;

    // Metrics and traces both come over HTTP as text.
    for place in [Place::Metrics, Place::Traces] {
        let said = serve(&text).await?;
        ledger.search(&searcher, party, place, "served", said.as_bytes());
    }

    let mut ears = Ears::on(&deployment.bridges, deployment.dir())?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("hold")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start `privacy hold`")?;
    ears.follow(child.id(), Party::Ignite, deployment.dir())?;
    child.stdin.take().context("no standard input")?.write_all(&all)?;
    let mut told = [0; 1];
    child.stdout.as_mut().context("no standard output")?.read_exact(&mut told)?;
    let held = memory::search(&mut ledger, &searcher, party, child.id());
    child.kill()?;
    child.wait()?;
    held?;

    let network = Network::new(deployment.names()?);
    let target = network.address("ignite.localhost")?;
    say(from, target, 1883, &all).await?;
    say(from, target, 8083, &masked(&all)).await?;
    let heard = ears.stop()?;
    let mut wire = Ledger::default();
    look::heard(&heard, &deployment.containers()?, &[(from, party)], &marks, &mut wire)?;
    ledger.found.extend(wire.found.into_iter().filter(|((at, ..), _)| *at == party));

    let mut missed = Vec::new();
    let mut found = 0;
    for place in PLACES {
        for (form, bytes) in &patterns {
            // A log and a metric are text: bytes that are none do not get there as they are.
            let textual = matches!(place, Place::Log | Place::Metrics | Place::Traces);
            if textual && !bytes.iter().all(u8::is_ascii_graphic) {
                continue;
            }
            if has(&ledger, party, place, *form) {
                found += 1;
            } else {
                missed.push(format!("{form} in {place:?}"));
            }
        }
    }
    ensure!(
        heard.calls.iter().any(|(_, bytes)| searcher.search(bytes).len() > 20),
        "what was read from a pipe was not heard"
    );
    ensure!(missed.is_empty(), "planted and not found: {}", missed.join(", "));
    Ok(format!("Planted leaks: {found} of {found} were found, in {} places.", PLACES.len()))
}

fn has(ledger: &Ledger, party: Party, place: Place, form: Form) -> bool {
    ledger.found.get(&(party, place, 0)).is_some_and(|found| found.forms.contains_key(&form))
}

async fn serve(text: &[u8]) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let answer = [b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", text].concat();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).await?;
        stream.write_all(&answer).await?;
        stream.shutdown().await
    });
    let said =
        look::scrape(&reqwest::Client::builder().no_proxy().build()?, &format!("http://{address}/metrics"))
            .await?;
    serving.await??;
    Ok(said)
}

async fn say(from: IpAddr, to: IpAddr, port: u16, bytes: &[u8]) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect((to, port).into()).await?;
    stream.write_all(bytes).await?;
    // The other side hangs up on what it does not understand; what was sent was heard by then.
    let _ = stream.read(&mut [0; 256]).await;
    Ok(())
}

/// A client's WebSocket connection with these bytes in one frame.
fn masked(bytes: &[u8]) -> Vec<u8> {
    let mask = [7, 77, 177, 17];
    let mut said = b"GET /nothing HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n".to_vec();
    said.extend([0x82, 0xff]);
    said.extend((bytes.len() as u64).to_be_bytes());
    said.extend(mask);
    said.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    said
}
