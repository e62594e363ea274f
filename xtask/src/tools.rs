//! What a suite needs of the machine: how to find out whether it is there, and what to install if it is not.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::step::{Run, root};

/// Something that a machine has or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    /// rustfmt.
    Rustfmt,
    /// clippy.
    Clippy,
    /// An engine that answers, with Compose v2 and BuildKit.
    Docker,
    /// The engine's daemon, as root: tests start their own to kill it.
    Dockerd,
    /// Node.js 20 or newer with npm.
    Node,
    /// Chromium.
    Chromium,
    /// A program that reads QR codes and is not ours.
    Zbar,
    /// A PostgreSQL server where Debian puts it.
    Postgres,
    /// `mosquitto_pub` and `mosquitto_sub`.
    MosquittoClients,
    /// Python 3 with venv, for paho-mqtt.
    PythonVenv,
    /// curl.
    Curl,
    /// SQLite's command line.
    Sqlite,
    /// OpenSSL's command line.
    Openssl,
    /// Prometheus' tool that plays alarms.
    Promtool,
    /// `mosquitto`, the broker.
    Mosquitto,
    /// Compiler, assembler and emulator for the LX106.
    Lx106,
    /// Means to look at other processes and their lines, and the right to.
    Capture,
    /// cargo-deny.
    CargoDeny,
}

impl Tool {
    /// Whether it can be used.
    pub(crate) fn is_there(self) -> bool {
        match self {
            Tool::Rustfmt => succeeds("cargo", &["fmt", "--version"]),
            Tool::Clippy => succeeds("cargo", &["clippy", "--version"]),
            Tool::Docker => {
                succeeds("docker", &["version"])
                    && succeeds("docker", &["compose", "version"])
                    && succeeds("docker", &["buildx", "version"])
            }
            Tool::Dockerd => succeeds("dockerd", &["--version"]) && succeeds("containerd", &["--version"]),
            Tool::Node => succeeds("node", &["--version"]) && succeeds("npm", &["--version"]),
            Tool::Chromium => chromium().is_some(),
            Tool::Postgres => {
                std::fs::read_dir("/usr/lib/postgresql").is_ok_and(|mut found| found.next().is_some())
            }
            Tool::Zbar => succeeds("zbarimg", &["--version"]),
            Tool::MosquittoClients => on_path("mosquitto_pub") && on_path("mosquitto_sub"),
            Tool::PythonVenv => succeeds("python3", &["-c", "import venv, ensurepip"]),
            Tool::Curl => on_path("curl"),
            Tool::Sqlite => on_path("sqlite3"),
            Tool::Openssl => succeeds("openssl", &["version"]),
            Tool::Promtool => succeeds("promtool", &["--version"]),
            Tool::Mosquitto => on_path("mosquitto") || PathBuf::from("/usr/sbin/mosquitto").exists(),
            Tool::Lx106 => {
                on_path("xtensa-lx106-elf-gcc")
                    && on_path("patch")
                    && on_path("qemu-system-xtensa")
                    && PathBuf::from("/usr/lib/xtensa-lx106-elf/picolibc.specs").exists()
                    && Command::new("/usr/bin/rustc")
                        .args(["--print", "sysroot"])
                        .output()
                        .ok()
                        .and_then(|output| String::from_utf8(output.stdout).ok())
                        .is_some_and(|root| {
                            PathBuf::from(root.trim()).join("lib/rustlib/src/rust/library").exists()
                        })
            }
            Tool::Capture => {
                let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
                is_root && on_path("tcpdump") && on_path("strace") && on_path("ip")
            }
            Tool::CargoDeny => succeeds("cargo", &["deny", "--version"]),
        }
    }

    /// What to install, as Debian calls it where Debian has it.
    pub(crate) fn install(self) -> &'static str {
        match self {
            Tool::Rustfmt => "rustup component add rustfmt",
            Tool::Clippy => "rustup component add clippy",
            Tool::Docker => {
                "Docker Engine 24 or newer with the Compose v2 and buildx plugins, and the right to use it"
            }
            Tool::Dockerd => "dockerd and containerd on this machine, and root",
            Tool::Node => "nodejs (20 or newer) and npm",
            Tool::Chromium => "chromium",
            Tool::Postgres => "postgresql",
            Tool::Zbar => "zbar-tools",
            Tool::MosquittoClients => "mosquitto-clients",
            Tool::PythonVenv => "python3-venv",
            Tool::Curl => "curl",
            Tool::Sqlite => "sqlite3",
            Tool::Openssl => "openssl",
            Tool::Promtool => "prometheus (which brings promtool)",
            Tool::Mosquitto => "mosquitto",
            Tool::Lx106 => {
                "patch rustc-web cargo-web rust-web-src gcc-xtensa-lx106 binutils-xtensa-lx106 picolibc-xtensa-lx106-elf \
                 qemu-system-misc qemu-system-data"
            }
            Tool::Capture => "tcpdump strace iproute2, and root",
            Tool::CargoDeny => "cargo install --locked cargo-deny",
        }
    }
}

/// Chromium's path, under the names that distributions give it.
pub(crate) fn chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(find)
}

/// Whether cargo-nextest is there; `cargo test` does without it.
pub(crate) fn has_nextest() -> bool {
    succeeds("cargo", &["nextest", "--version"])
}

fn on_path(program: &str) -> bool {
    find(program).is_some()
}

fn find(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|dir| dir.join(program)).find(|path| path.is_file())
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Python with a package of PyPI, in an environment of its own below `target`.
///
/// # Errors
/// It cannot be made.
pub(crate) fn python_with(name: &str, package: &str, module: &str) -> anyhow::Result<PathBuf> {
    let venv = root().join("target").join(name);
    let python = venv.join("bin/python");
    let there = || Run::new(&python, &["-c", &format!("import {module}")]).output().is_ok();
    if !python.exists() || !there() {
        let dir = venv.to_str().context("the workspace's path is no UTF-8")?;
        Run::new("python3", &["-m", "venv", dir]).go()?;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package];
        Run::new(&python, &install).go()?;
    }
    Ok(python)
}
