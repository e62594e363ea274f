//! A `pcm` process and a raw MQTT client for it.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is to do")]

pub mod control;

use mqtt_wire::{Connect, Packet, Properties, Publish, QoS, ReasonCode, Version, frame_len};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a busy machine, short enough to fail by.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct Pcm {
    pub child: Child,
}

impl Drop for Pcm {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Pcm {
    /// `pcm --listen 127.0.0.1:0`.
    pub fn plain(more: &[&str]) -> (Pcm, SocketAddr) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pcm"));
        command.args(["--listen", "127.0.0.1:0"]).args(more).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().parse().unwrap();
        (Pcm { child }, address)
    }

    /// `pcm --listen-fd 0` with a listener in a new directory, for this user.
    pub fn inherited(directory: &std::path::Path, more: &[&str]) -> (Pcm, std::path::PathBuf) {
        Pcm::inherited_by(Command::new(env!("CARGO_BIN_EXE_pcm")), directory, more)
    }

    /// The same as the last arguments of another command.
    pub fn inherited_by(
        mut command: Command,
        directory: &std::path::Path,
        more: &[&str],
    ) -> (Pcm, std::path::PathBuf) {
        let path = directory.join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let uid = rustix::process::getuid().as_raw().to_string();
        command.args(["--listen-fd", "0", "--peer-uid", &uid]).args(more);
        let child =
            command.stdin(Stdio::from(OwnedFd::from(listener))).stderr(Stdio::null()).spawn().unwrap();
        (Pcm { child }, path)
    }

    /// Sends SIGTERM and waits for the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.exit_code()
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "still running");
            std::thread::yield_now();
        }
    }
}

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// A client that sends and receives packets as they are.
pub struct Client {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    pub version: Version,
}

impl Client {
    pub fn tcp(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: Box::new(stream), buffer: Vec::new(), version: Version::V311 }
    }

    pub fn unix(path: &std::path::Path) -> Client {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { stream: Box::new(stream), buffer: Vec::new(), version: Version::V5 }
    }

    pub fn connect(&mut self, client_id: &str, version: Version) {
        self.version = version;
        let connect = plain_connect(client_id, version);
        self.send(&Packet::Connect(connect));
        let frame = self.receive().expect("a CONNACK");
        let Ok(Packet::ConnAck(connack)) = Packet::decode(&frame, version) else { panic!("{frame:02X?}") };
        assert!(connack.reason.is_success(), "{connack:?}");
    }

    pub fn send(&mut self, packet: &Packet<'_>) {
        self.raw(&packet.to_vec(self.version));
    }

    /// A peer that has closed already is found out when reading.
    pub fn raw(&mut self, bytes: &[u8]) {
        let _found_out_when_reading = self.stream.write_all(bytes);
    }

    /// The next packet, or `None` at the end of the connection.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(length) = frame_len(&self.buffer, usize::MAX).unwrap()
                && self.buffer.len() >= length
            {
                return Some(self.buffer.drain(..length).collect());
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Reads a line of a control connection.
    pub fn line(&mut self) -> Option<String> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap());
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// The code of a DISCONNECT, which comes next and with an explanation.
    pub fn last_words(&mut self) -> ReasonCode {
        let frame = self.receive().expect("a DISCONNECT");
        match Packet::decode(&frame, self.version) {
            Ok(Packet::Disconnect(last)) if last.properties.reason_string().is_some() => last.reason,
            other => panic!("{other:?}"),
        }
    }

    /// Nothing has come that is not the answer to a ping sent now: whatever was published before would have come first.
    pub fn nothing_else(&mut self) {
        self.send(&Packet::PingReq);
        let frame = self.receive().expect("still connected");
        assert_eq!(frame, [0xD0, 0], "nothing was to come");
    }
}

pub fn plain_connect(client_id: &str, version: Version) -> Connect<'_> {
    Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        properties: Properties::EMPTY,
        client_id,
        will: None,
        username: None,
        password: None,
    }
}

pub fn message<'a>(topic: &'a str, payload: &'a str, qos: QoS, packet_id: u16) -> Publish<'a> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: (qos != QoS::AtMostOnce).then_some(packet_id),
        properties: Properties::EMPTY,
        payload: payload.as_bytes(),
    }
}
