//! Looks at everything that each party has now: volumes, database, memory, logs, metrics. What was said on links is searched at the end.

use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;

use crate::cast::Network;
use crate::deployment::{Container, Deployment, by_address};
use crate::ledger::Ledger;
use crate::listen::Heard;
use crate::matrix::{Mark, Party, Place};
use crate::memory;
use crate::search::Searcher;
use crate::shell;

/// Ports on which nothing but TLS is spoken.
const ENCRYPTED: [u16; 3] = [8883, 8884, 8443];

/// Listeners for Prometheus.
const METRICS: [(&str, u16, Party); 2] =
    [("didp.localhost", 9464, Party::Didp), ("ignite.localhost", 9465, Party::Ignite)];

/// Searches what all parties have at this moment for these marks.
///
/// # Errors
/// Something cannot be looked at.
pub async fn now(
    deployment: &Deployment,
    network: &Network,
    from: IpAddr,
    marks: &[Mark],
    ledger: &mut Ledger,
) -> anyhow::Result<()> {
    let searcher = Searcher::new(marks)?;
    for (name, port, party) in METRICS {
        let text = scrape(&network.client(from).build()?, &format!("http://{name}:{port}/metrics")).await?;
        ledger.search(&searcher, party, Place::Metrics, "metrics", text.as_bytes());
    }
    for container in deployment.containers()? {
        look_at(&container, &searcher, ledger).with_context(|| container.name.clone())?;
    }
    Ok(())
}

fn look_at(container: &Container, searcher: &Searcher, ledger: &mut Ledger) -> anyhow::Result<()> {
    let party = container.party;
    for (name, folder) in &container.volumes {
        // What PCMs keep lies with the launcher, encrypted; to the gateway it must be nothing.
        ledger.search_folder(searcher, party, Place::Storage, folder)?;
        if name == "state-pcm" {
            ledger.search_folder(searcher, Party::Pcm, Place::Storage, folder)?;
        }
        let database = folder.join("didp.db");
        if database.exists() {
            search_database(&database, party, searcher, ledger)?;
        }
    }
    // The engine keeps no log of PCMs.
    if party != Party::Pcm {
        log(&container.name, party, searcher, ledger)?;
    }
    shell::output("docker", &["pause", &container.name])?;
    let searched =
        container.processes.iter().try_for_each(|process| memory::search(ledger, searcher, party, *process));
    shell::output("docker", &["unpause", &container.name])?;
    searched
}

/// What a server says at that address.
///
/// # Errors
/// It does not answer, or not with success.
pub async fn scrape(client: &reqwest::Client, url: &str) -> anyhow::Result<String> {
    let answer = client.get(url).send().await.with_context(|| url.to_owned())?;
    Ok(answer.error_for_status()?.text().await?)
}

/// Searches the log of a container.
///
/// # Errors
/// The engine has none.
pub fn log(name: &str, party: Party, searcher: &Searcher, ledger: &mut Ledger) -> anyhow::Result<()> {
    let (output, error) = shell::both("docker", &["logs", name])?;
    // A device's standard output is the line to its panel, as a pipe is; its log is standard error.
    if !matches!(party, Party::Device(_)) {
        ledger.search(searcher, party, Place::Log, "standard output", output.as_bytes());
    }
    let error: Vec<_> = error.lines().map(without_clients).collect();
    ledger.search(searcher, party, Place::Log, "standard error", error.join("\n").as_bytes());
    Ok(())
}

/// A line without the client that a security event is about: naming it is the contract of `docs/security-events.md`.
fn without_clients(line: &str) -> String {
    let about = "\"client\":\"";
    match line.split_once(about) {
        Some((before, rest)) if line.contains("\"target\":\"audit\"") => {
            format!("{before}{about}{}", &rest[rest.find('"').unwrap_or(0)..])
        }
        _ => line.to_owned(),
    }
}

/// As text too: a value may lie on two pages of the file.
fn search_database(
    file: &Path,
    party: Party,
    searcher: &Searcher,
    ledger: &mut Ledger,
) -> anyhow::Result<()> {
    let dump = shell::output("sqlite3", &["-readonly", &file.display().to_string(), ".dump"])?;
    ledger.search(searcher, party, Place::Storage, "database", dump.as_bytes());
    Ok(())
}

/// Searches all that was said: each end of a link has seen it, and of an encrypted one whoever listened.
///
/// # Errors
/// A stream that was not heard as a whole.
pub fn heard(
    heard: &Heard,
    containers: &[Container],
    more: &[(IpAddr, Party)],
    marks: &[Mark],
    ledger: &mut Ledger,
) -> anyhow::Result<()> {
    let searcher = Searcher::new(marks)?;
    let mut parties = by_address(containers);
    parties.extend(more.iter().copied());
    for stream in &heard.streams {
        let what = format!("{} to {}", stream.from, stream.to);
        anyhow::ensure!(stream.missing == 0, "{} bytes of {what} were not heard", stream.missing);
        let ends: Vec<Party> =
            if ENCRYPTED.contains(&stream.from.port()) || ENCRYPTED.contains(&stream.to.port()) {
                vec![Party::Eavesdropper]
            } else {
                let ends = [stream.from, stream.to].map(|end| parties.get(&IpAddr::V4(*end.ip())).copied());
                ends.into_iter().flatten().collect()
            };
        for party in ends {
            ledger.search(&searcher, party, Place::Wire, &what, &stream.bytes);
        }
    }
    for (party, bytes) in &heard.calls {
        ledger.search(&searcher, *party, Place::Wire, "system calls", bytes);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_security_events_may_name_a_client() {
        let line =
            |target: &str| format!(r#"{{"event":"x","client":"abc","why":"abd","target":"{target}"}}"#);
        assert_eq!(without_clients(&line("audit")), line("audit").replace("abc", ""));
        assert_eq!(without_clients(&line("didp::mqtt")), line("didp::mqtt"));
    }
}
