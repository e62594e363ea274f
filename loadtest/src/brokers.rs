//! The three brokers, each as a child process on a free port, with nothing but TCP; Mosquitto also with TLS.
//!
//! Mosquitto gets a password file, as any real deployment has one; rumqttd its table of users; the PCM's plain listener is
//! anonymous, because its real clients come through a gateway that has checked them. None writes anything to disk.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::child::Process;
use crate::meter::Meter;
use crate::process;

/// How long a broker may take to listen.
const START: Duration = Duration::from_secs(10);

const USER: &str = "load";
const PASSWORD: &str = "load";

/// What is measured.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// This project.
    Oauthing,
    /// Eclipse Mosquitto.
    Mosquitto,
    /// rumqttd.
    Rumqttd,
}

impl System {
    /// Its name in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            System::Oauthing => "oauthing",
            System::Mosquitto => "mosquitto",
            System::Rumqttd => "rumqttd",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Ours.
    pub pcm: PathBuf,
    /// Debian's.
    pub mosquitto: PathBuf,
    /// The baseline's small program.
    pub rumqttd: PathBuf,
    /// The DIdP.
    pub didp: PathBuf,
    /// Gateway and launcher.
    pub ignite: PathBuf,
    /// The DIdP's example that fills a store.
    pub seed: PathBuf,
}

impl Programs {
    /// The usual places: beside this program, and where the distribution puts them.
    ///
    /// # Errors
    /// This program does not know where it is.
    pub fn usual() -> anyhow::Result<Programs> {
        let own = std::env::current_exe().context("the path of this program")?;
        Ok(Programs::below(own.parent().unwrap_or(Path::new("."))))
    }

    /// The project's programs in this folder.
    #[must_use]
    pub fn below(folder: &Path) -> Programs {
        let target = folder.parent().unwrap_or(folder);
        Programs {
            pcm: folder.join("pcm"),
            mosquitto: PathBuf::from("/usr/sbin/mosquitto"),
            rumqttd: target.join("rumqttd/release/rumqttd-baseline"),
            didp: folder.join("didp"),
            ignite: folder.join("ignite"),
            seed: folder.join("examples/seed"),
        }
    }

    /// Whether the programs of the whole system are there.
    ///
    /// # Errors
    /// One is not, with what to do about it.
    pub fn ensure_stack(&self) -> anyhow::Result<()> {
        for program in [&self.didp, &self.ignite, &self.pcm] {
            process::ensure_program(program, "build it: cargo build --release -p didp -p ignite -p pcm")?;
        }
        Ok(())
    }

    /// Whether the program of a system is there.
    ///
    /// # Errors
    /// It is not, with what to do about it.
    pub fn ensure(&self, system: System) -> anyhow::Result<()> {
        match system {
            System::Oauthing => process::ensure_program(&self.pcm, "build it: cargo build --release -p pcm"),
            System::Mosquitto => {
                process::ensure_program(&self.mosquitto, "install Debian's package mosquitto")
            }
            System::Rumqttd => process::ensure_program(
                &self.rumqttd,
                "build it: cargo build --release --manifest-path loadtest/rumqttd/Cargo.toml --target-dir target/rumqttd",
            ),
        }
    }

    /// What a system's program says of its version.
    #[must_use]
    pub fn version(&self, system: System) -> Option<String> {
        let (program, argument) = match system {
            System::Oauthing => (&self.pcm, "--version"),
            System::Mosquitto => (&self.mosquitto, "-h"),
            System::Rumqttd => return Some("rumqttd 0.20.0".to_owned()),
        };
        let output = Command::new(program).arg(argument).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        let line = String::from_utf8_lossy(&text).lines().next()?.trim().to_owned();
        Some(line.replace("pcm: ", "pcm "))
    }
}

/// A broker that listens.
#[derive(Debug)]
pub struct Broker {
    /// Which.
    pub system: System,
    /// Where.
    pub address: SocketAddr,
    process: Process,
    _dir: tempfile::TempDir,
}

impl Broker {
    /// Starts one and waits until it takes connections.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(system: System, programs: &Programs) -> anyhow::Result<Broker> {
        Broker::open(system, programs, &Listen::plain())
    }

    /// Starts one that listens so, and waits until it takes connections. Only Mosquitto knows TLS here.
    ///
    /// # Errors
    /// It does not start.
    pub fn open(system: System, programs: &Programs, listen: &Listen) -> anyhow::Result<Broker> {
        programs.ensure(system)?;
        ensure!(listen.tls.is_none() || system == System::Mosquitto, "{system} has no TLS here");
        let dir = tempfile::Builder::new().prefix("oaload-").tempdir().context("temporary folder")?;
        let log = dir.path().join("log");
        let (process, address) = match system {
            System::Oauthing => {
                let mut process = Process::start(&programs.pcm, &["--listen", "127.0.0.1:0"], &log)?;
                let address = process.first_line()?.parse().context("the address that pcm prints")?;
                (process, address)
            }
            System::Mosquitto => {
                let address = free_address_on(listen.bind)?;
                let config = mosquitto_config(dir.path(), address, listen.tls.as_ref())?;
                (Process::start(&programs.mosquitto, &[Path::new("-c"), &config], &log)?, address)
            }
            System::Rumqttd => {
                let address = free_address()?;
                let mut process = Process::start(&programs.rumqttd, &[address.to_string()], &log)?;
                process.first_line()?;
                (process, address)
            }
        };
        let mut broker = Broker { system, address, process, _dir: dir };
        broker.wait().with_context(|| {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            format!("{system} does not start: {}", log.lines().last().unwrap_or_default())
        })?;
        Ok(broker)
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(self.address).is_err() {
            self.process.check()?;
            ensure!(Instant::now() < deadline, "it does not listen");
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// User name and password that it asks for.
    #[must_use]
    pub fn login(&self) -> Option<(String, String)> {
        match self.system {
            System::Oauthing => None,
            System::Mosquitto | System::Rumqttd => Some((USER.to_owned(), PASSWORD.to_owned())),
        }
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its CPU time.
    #[must_use]
    pub fn meter(&self) -> Meter {
        Meter::new(vec![("broker", vec![self.process.id()])])
    }

    /// CPU time that it has had, in seconds.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        process::cpu_seconds(self.process.id()).with_context(|| format!("{} has ended", self.system))
    }
}

/// Where and how a broker listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address.
    pub bind: IpAddr,
    /// Certificate chain and key.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl Listen {
    /// On loopback, without TLS.
    #[must_use]
    pub const fn plain() -> Listen {
        Listen { bind: IpAddr::V4(Ipv4Addr::LOCALHOST), tls: None }
    }
}

/// An address of loopback that nobody uses right now.
///
/// # Errors
/// The kernel's.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    free_address_on(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn free_address_on(bind: IpAddr) -> anyhow::Result<SocketAddr> {
    let held = TcpListener::bind((bind, 0)).context("find a free port")?;
    Ok(held.local_addr()?)
}

/// The defaults, but for limits that would drop the load's messages, and without a database on disk.
fn mosquitto_config(
    dir: &Path,
    address: SocketAddr,
    tls: Option<&(PathBuf, PathBuf)>,
) -> anyhow::Result<PathBuf> {
    let passwords = dir.join("passwords");
    let made =
        Command::new("mosquitto_passwd").args(["-c", "-b"]).arg(&passwords).args([USER, PASSWORD]).output();
    match made {
        Ok(output) if output.status.success() => {}
        Ok(output) => bail!("mosquitto_passwd: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => return Err(error).context("mosquitto_passwd (Debian's package mosquitto)"),
    }
    let config = dir.join("mosquitto.conf");
    // As root it would become the user `mosquitto`, who may not read this folder.
    let mut text = format!(
        "listener {} {}\nallow_anonymous false\npassword_file {}\nuser root\npersistence false\n\
         log_dest stderr\nlog_type error\nmax_inflight_messages 1000\nmax_queued_messages 100000\n\
         max_queued_bytes 0\nset_tcp_nodelay true\n",
        address.port(),
        address.ip(),
        passwords.display()
    );
    if let Some((certificate, key)) = tls {
        text.push_str(&format!("certfile {}\nkeyfile {}\n", certificate.display(), key.display()));
    }
    std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    Ok(config)
}
