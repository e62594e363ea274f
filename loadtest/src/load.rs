//! One load on one system: connect, warm up, measure, drain; and what it cost both sides.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Outcome, Plan, Stop, Target};
use crate::meter::{Meter, Reading};
use crate::process;
use crate::results::{Row, float};

/// Between reading the processes' CPU time and the start of what is measured, so that the reading disturbs nothing that counts.
const SETTLE: Duration = Duration::from_millis(100);

/// How long what is under way may take to arrive when the load stops.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Where a load goes. It travels to drivers as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Name or address; with TLS the certificate must be for it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// PEM of the authority to trust; without it the load is plain TCP.
    pub authority: Option<String>,
}

impl Place {
    /// Plain TCP to an address.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Place {
        Place { host: address.ip().to_string(), port: address.port(), authority: None }
    }

    /// What an engine needs. TLS sessions are never resumed: each connect pays for its own handshake.
    ///
    /// # Errors
    /// The name has no address, or one that loads must not go to; the authority is none.
    pub fn target(&self) -> anyhow::Result<Target> {
        let addresses = (self.host.as_str(), self.port).to_socket_addrs();
        let address = addresses
            .with_context(|| format!("the address of {}", self.host))?
            .min_by_key(|address| !address.is_ipv4())
            .with_context(|| format!("{} has no address", self.host))?;
        ensure!(
            is_own(address),
            "{address} is neither this machine nor a private network: loads never go elsewhere"
        );
        let Some(pem) = &self.authority else { return Ok(Target::plain(address)) };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.context("the authority's certificate")?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let name = ServerName::try_from(self.host.clone())?;
        Ok(Target { address, tls: Some((Arc::new(config), name)) })
    }
}

/// Whether an address is this machine's loopback or of a network that nobody routes to the world.
fn is_own(address: SocketAddr) -> bool {
    match address {
        SocketAddr::V4(address) => {
            let ip = address.ip();
            ip.is_loopback() || ip.is_private() || ip.is_link_local()
        }
        SocketAddr::V6(address) => {
            let ip = address.ip();
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
    }
}

/// How long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// Before anything counts.
    pub warm_up: Duration,
    /// What counts.
    pub time: Duration,
}

/// Longest warm-up and longest measurement.
pub const LONGEST: Duration = Duration::from_secs(3600);

impl Phases {
    /// Whether they are within bounds.
    ///
    /// # Errors
    /// They are not.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.warm_up <= LONGEST && self.time <= LONGEST, "a run may take an hour at most");
        Ok(())
    }
}

/// What a load did and what it cost.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Latencies and counts.
    pub outcome: Outcome,
    /// How long each connect took, in nanoseconds.
    pub connects: Histogram<u64>,
    /// CPU time of the system by part, over a little more than what counts.
    pub cpu: Reading,
    /// CPU time of the load side in the same time.
    pub load_cpu: f64,
    /// Copies received in the time of `cpu`.
    pub received: u64,
}

impl Measured {
    /// Latencies, rates, CPU times and losses, as every row has them.
    pub fn describe(&self, row: &mut Row) {
        let received = float(self.outcome.counts.received);
        row.latency("", &self.outcome.latency)
            .metric("per_second", received / self.outcome.seconds)
            .metric("per_core_second", float(self.received) / self.cpu.total())
            .metric("load_cpu_seconds", self.load_cpu)
            .metric("seconds", self.outcome.seconds)
            .count("lost", self.outcome.counts.lost)
            .count("disordered", self.outcome.counts.disordered);
        self.cpu.describe(row);
    }
}

/// Drives `plan` with this process's own engine. `meter` is asked for the system's processes once everybody is connected.
///
/// # Errors
/// Somebody does not get connected, a connection ends, nothing arrives, or somebody stopped it.
pub fn drive(
    place: &Place,
    plan: Plan,
    phases: Phases,
    stop: &Stop,
    meter: &mut dyn FnMut() -> anyhow::Result<Meter>,
) -> anyhow::Result<Measured> {
    let mut engine = Engine::new(place.target()?, plan)?;
    let connects = engine.connect(stop)?;
    engine.drive(phases.warm_up, stop)?;
    let meter = meter()?;
    let own = std::process::id();
    let (before, load_before) = (meter.read()?, process::cpu_seconds(own)?);
    let received_before = engine.received();
    engine.drive(SETTLE, stop)?;
    engine.mark();
    engine.drive(phases.time, stop)?;
    let mut outcome = engine.outcome();
    let (after, load_after) = (meter.read()?, process::cpu_seconds(own)?);
    let received = engine.received() - received_before;
    engine.drain(DRAIN)?;
    outcome.counts.lost = engine.outcome().counts.lost;
    engine.disconnect();
    ensure!(!stop.is_set(), "stopped");
    check(&outcome)?;
    Ok(Measured {
        outcome,
        connects,
        cpu: after.since(&before),
        load_cpu: load_after - load_before,
        received,
    })
}

/// Whether a run gave numbers that mean something.
///
/// # Errors
/// It did not.
pub fn check(outcome: &Outcome) -> anyhow::Result<()> {
    if let (ended @ 1.., reason) = &outcome.ended {
        anyhow::bail!("{ended} connections ended; the first: {}", reason.as_deref().unwrap_or("no reason"));
    }
    ensure!(outcome.counts.received > 0, "nothing arrived");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn loads_stay_on_own_ground() {
        for host in ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.4", "172.20.0.2", "fd00::1", "localhost"] {
            let place = Place { host: host.to_owned(), port: 1883, authority: None };
            assert!(place.target().is_ok(), "{host}");
        }
        for host in ["192.0.2.1", "8.8.8.8", "2001:db8::1", "172.32.0.1"] {
            let place = Place { host: host.to_owned(), port: 1883, authority: None };
            assert!(place.target().is_err(), "{host}");
        }
    }
}
