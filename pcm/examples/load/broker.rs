//! A broker as a process: starting it, and what it cost.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A broker that listens; it ends with this value.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    /// Its configuration, if it has one.
    _configuration: Option<tempfile::TempDir>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Running {
    /// A plain broker of this project.
    pub(crate) fn pcm(path: &str) -> Option<Running> {
        let mut command = Command::new(path);
        command.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take()?).read_line(&mut line).unwrap();
        let address = line.trim().parse().unwrap();
        Some(Running { child, address, _configuration: None })
    }

    /// Mosquitto with nothing that slows it down: no persistence, no log, no limits on queues.
    pub(crate) fn mosquitto(path: &str) -> Option<Running> {
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mosquitto.conf");
        let mut configuration = std::fs::File::create(&file).unwrap();
        writeln!(
            configuration,
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest none\nset_tcp_nodelay true\n\
             max_inflight_messages 0\nmax_queued_messages 0"
        )
        .unwrap();
        drop(configuration);
        let mut command = Command::new(path);
        let child = command.arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let running = Running { child, address, _configuration: Some(directory) };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "{path} does not listen");
            std::thread::yield_now();
        }
        Some(running)
    }

    /// Its process id.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Processor time that it has used so far, in the kernel too.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/schedstat", self.process())).unwrap();
        Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
    }
}
