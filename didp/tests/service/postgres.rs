//! PostgreSQL servers of the tests' own: each in a temporary directory, on a Unix socket, run by an account that is not root.
//!
//! A server hangs on a pipe to the test process, so it ends with it, however that ends, and takes its directory along.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where Debian has the server's programs, whatever their version.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.flatten().map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").exists())
}

/// True if this machine has PostgreSQL; if not, says which test is skipped. A run that was asked for PostgreSQL fails instead.
pub(crate) fn is_there_for(test: &str) -> bool {
    let there = programs().is_some();
    if !there {
        assert!(std::env::var_os(WANTED).is_none(), "{WANTED} is set, but PostgreSQL is not installed");
        println!("SKIPPED {test}: PostgreSQL is not installed (apt-get install postgresql)");
    }
    there
}

/// Set to `postgres`, the service tests run on PostgreSQL instead of SQLite.
const WANTED: &str = "DIDP_TEST_DATABASE";

/// An empty database if the tests were asked to run on PostgreSQL; its URL.
pub(crate) fn wanted() -> Option<String> {
    static SHARED: OnceLock<Server> = OnceLock::new();
    let wanted = std::env::var(WANTED).ok()?;
    assert_eq!(wanted, "postgres", "{WANTED} is another database than postgres");
    assert!(is_there_for("everything"));
    Some(SHARED.get_or_init(Server::start).database())
}

/// Everything that a database holds, as text.
pub(crate) fn dump(url: &str) -> Vec<u8> {
    let dump = Command::new(programs().unwrap().join("pg_dump")).arg(url).output().unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    dump.stdout
}

/// A server.
pub(crate) struct Server {
    dir: PathBuf,
    bin: PathBuf,
    databases: AtomicUsize,
    /// Keeps the server alive by the pipe to its standard input.
    keeper: Child,
}

/// Runs the server until nobody holds the other end of standard input any more.
const KEEP: &str = r#"
setpriv --reuid=postgres --regid=postgres --clear-groups "$0/postgres" -D "$1/data" -k "$1" -c listen_addresses= -c fsync=off -c full_page_writes=off -c max_connections=200 \
    -c log_min_messages=fatal </dev/null >"$1/log" 2>&1 &
read -r _
kill -INT $! 2>/dev/null; wait; rm -rf "$1"
"#;

impl Server {
    /// Makes a cluster and starts it.
    pub(crate) fn start() -> Self {
        let bin = programs().unwrap();
        // The path of a socket must be short, and the server's account must be able to get there.
        let dir = tempfile::Builder::new().prefix("didp-pg-").tempdir_in("/tmp").unwrap().keep();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).unwrap();
        let mut initdb = as_postgres();
        initdb.arg(bin.join("initdb")).args([
            "--no-sync",
            "--auth=trust",
            "--username=didp",
            "--encoding=UTF8",
        ]);
        let made = initdb.arg("-D").arg(dir.join("data")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let keeper = launch(&bin, &dir);
        let server = Self { dir, bin, databases: AtomicUsize::new(0), keeper };
        server.wait();
        server
    }

    /// Makes an empty database; its URL.
    pub(crate) fn database(&self) -> String {
        let name = format!("didp{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let url = |name: &str| format!("postgres://didp@localhost/{name}?host={}", self.dir.display());
        let mut psql = Command::new(self.bin.join("psql"));
        let create = format!("CREATE DATABASE {name}");
        let made = psql.args(["-q", "-c", &create, &url("postgres")]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        url(&name)
    }

    /// Kills it as a power cut would: all its processes at once.
    pub(crate) fn kill(&mut self) {
        let pid = std::fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", pid]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        let all = std::iter::once(pid).chain(children.split_whitespace());
        // One of them may have ended by itself.
        let _ = Command::new("kill").arg("-KILL").args(all).stderr(Stdio::null()).status().unwrap();
        // The script that keeps it learns of its end only when it asks, so the lock files are ours to take away.
        for lock in ["data/postmaster.pid", ".s.PGSQL.5432.lock", ".s.PGSQL.5432"] {
            let _ = std::fs::remove_file(self.dir.join(lock));
        }
    }

    /// Starts it again after [`Server::kill`].
    pub(crate) fn restart(&mut self) {
        let older = std::mem::replace(&mut self.keeper, launch(&self.bin, &self.dir));
        // The older script must not clear the directory away now: it is told nothing, and ends with this process.
        std::mem::forget(older);
        self.wait();
    }

    fn wait(&self) {
        let ready = || {
            let mut pg_isready = Command::new(self.bin.join("pg_isready"));
            let status = pg_isready.args(["-q", "-h"]).arg(&self.dir).status().unwrap();
            status.success()
        };
        for _ in 0..600 {
            if ready() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let mut log = String::new();
        let _ = std::fs::File::open(self.dir.join("log")).and_then(|mut file| file.read_to_string(&mut log));
        panic!("PostgreSQL does not answer: {log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn launch(bin: &std::path::Path, dir: &std::path::Path) -> Child {
    let mut keeper = Command::new("sh");
    keeper.args(["-c", KEEP]).arg(bin).arg(dir).stdin(Stdio::piped()).spawn().unwrap()
}

/// A command that runs its arguments as an account that PostgreSQL accepts.
fn as_postgres() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command.current_dir("/");
    command
}
