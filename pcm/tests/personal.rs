//! One owner's broker as its gateway meets it: the real process, its Unix socket, its sandbox.

mod common;

use common::control::{Control, app, device, session};
use common::{Client, PATIENCE, Pcm, message, plain_connect};
use mqtt_broker::net::Server;
use mqtt_broker::{Broker, Limits, Policy};
use mqtt_wire::{Connect, Filters, Packet, Properties, QoS, ReasonCode, Subscribe, Subscription, Version};
use pcm::door::PreambleDoor;
use pcm_wire::{Answer, Preamble, Verb};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

fn refusal(mut client: Client, connect: Connect<'_>) -> ReasonCode {
    client.version = connect.version;
    client.send(&Packet::Connect(connect));
    let frame = client.receive().expect("a CONNACK");
    let Ok(Packet::ConnAck(connack)) = Packet::decode(&frame, connect.version) else {
        panic!("{frame:02X?}")
    };
    assert_eq!(client.receive(), None, "closed after a refusal");
    connack.reason
}

fn subscribe(client: &mut Client, filter: &str) {
    let list = [Subscription::new(filter, QoS::AtLeastOnce)];
    let subscribe = Subscribe { packet_id: 1, properties: Properties::EMPTY, filters: Filters::list(&list) };
    client.send(&Packet::Subscribe(subscribe));
    assert_eq!(client.receive().as_deref(), Some(&[0x90, 4, 0, 1, 0, 1][..]));
}

fn expect_message(client: &mut Client, topic: &str, payload: &str) {
    let frame = client.receive().expect("a message");
    let Ok(Packet::Publish(publish)) = Packet::decode(&frame, client.version) else { panic!("{frame:02X?}") };
    assert_eq!((publish.topic, publish.payload), (topic, payload.as_bytes()));
}

#[test]
fn a_reading_a_command_and_a_revocation() {
    let directory = tempfile::tempdir().unwrap();
    let (mut pcm, socket) = Pcm::inherited(directory.path(), &["--sandbox"]);
    let early = refusal(session(&socket, "dev"), plain_connect("dev", Version::V5));
    assert_eq!(early, ReasonCode::SERVER_UNAVAILABLE, "no grants yet");

    let mut control = Control::open(&socket);
    control.grant(1, vec![device(), app(&["t"], &["heater"])]);
    let stranger = refusal(session(&socket, "stranger"), plain_connect("stranger", Version::V311));
    assert_eq!(stranger, ReasonCode::NOT_AUTHORIZED);
    let other_name = refusal(session(&socket, "dev"), plain_connect("another", Version::V5));
    assert_eq!(other_name, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);

    let mut thermostat = session(&socket, "dev");
    thermostat.connect("dev", Version::V311);
    let mut chart = session(&socket, "app");
    chart.connect("app", Version::V5);
    subscribe(&mut chart, "d/#");
    thermostat.raw(&[0x82, 10, 0, 1, 0, 5, b'c', b'/', b'L', b'/', b'#', 1]);
    assert_eq!(thermostat.receive().as_deref(), Some(&[0x90, 3, 0, 1, 1][..]));

    thermostat.send(&Packet::Publish(message("d/L/t", "20.5", QoS::AtLeastOnce, 2)));
    assert_eq!(thermostat.receive().as_deref(), Some(&[0x40, 2, 0, 2][..]));
    expect_message(&mut chart, "d/L/t", "20.5");
    chart.send(&Packet::Publish(message("c/L/heater", "on", QoS::AtMostOnce, 0)));
    expect_message(&mut thermostat, "c/L/heater", "on");

    let Answer::Stats(stats) = control.ask(Verb::Stats {}) else { panic!("no stats") };
    assert_eq!((stats.connections, stats.sessions, stats.retained, stats.rev), (2, 2, 0, Some(1)));

    control.grant(2, vec![device()]);
    assert_eq!(chart.last_words(), ReasonCode::NOT_AUTHORIZED);
    assert_eq!(chart.receive(), None);
    thermostat.send(&Packet::Publish(message("d/L/t", "21", QoS::AtLeastOnce, 3)));
    assert_eq!(thermostat.receive().as_deref(), Some(&[0x40, 2, 0, 3][..]));

    assert_eq!(control.ask(Verb::Drain {}), Answer::Ok {});
    assert_eq!(thermostat.receive(), None);
    assert_eq!(pcm.exit_code(), Some(0));
}

#[test]
fn what_is_no_preamble_is_closed_at_once_and_hurts_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let (_pcm, socket) = Pcm::inherited(directory.path(), &["--sandbox"]);
    for garbage in [&b"\x10\x0d\0\x04MQTT"[..], b"OAP1\xff\xff\xff\xff", b"OAP1\0\0\0\x02{}"] {
        let mut client = Client::unix(&socket);
        client.raw(garbage);
        assert_eq!(client.receive(), None);
    }
    let mut control = Control::open(&socket);
    control.client.raw(b"not json\n");
    assert_eq!(control.client.line(), None);
    let mut split = Control { client: Client::unix(&socket), next: 1 };
    for byte in (Preamble::Control {}).to_bytes() {
        split.client.raw(&[byte]);
    }
    split.grant(1, vec![device()]);
    let mut client = session(&socket, "dev");
    client.connect("dev", Version::V5);
    client.nothing_else();
}

#[test]
fn a_grant_that_opens_too_many_connections_shuts_out_itself_only() {
    let directory = tempfile::tempdir().unwrap();
    let (_pcm, socket) = Pcm::inherited(directory.path(), &["--sandbox"]);
    let mut control = Control::open(&socket);
    control.grant(1, vec![device(), app(&["t"], &[])]);
    let mut idle: Vec<Client> = (0..64).map(|_| session(&socket, "app")).collect();
    assert_eq!(session(&socket, "app").receive(), None, "one too many");
    session(&socket, "dev").connect("dev", Version::V5);
    idle.last_mut().unwrap().connect("app", Version::V5);
}

#[test]
fn grants_that_nobody_could_end_any_more_are_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let listener = pcm::door::bind(directory.path()).unwrap();
    let socket = directory.path().join("s");
    let server = std::thread::spawn(move || {
        let limits = Limits { unattended_ms: 10, ..Limits::PERSONAL };
        let door = PreambleDoor::new(rustix::process::getuid().as_raw());
        let mut server = Server::new(Broker::new(limits, Policy::Granted(None), 1), door)?;
        server.listen_unix(listener)?;
        server.run()
    });
    let mut control = Control::open(&socket);
    control.grant(1, vec![device(), app(&["t"], &[])]);
    let mut thermostat = session(&socket, "dev");
    thermostat.connect("dev", Version::V5);
    let mut value = message("d/L/t", "20", QoS::AtLeastOnce, 1);
    value.retain = true;
    thermostat.send(&Packet::Publish(value));
    assert_eq!(thermostat.receive().as_deref(), Some(&[0x40, 2, 0, 1][..]));
    let Answer::Stats(stats) = control.ask(Verb::Stats {}) else { panic!("no stats") };
    assert_eq!((stats.sessions, stats.retained, stats.rev), (1, 1, Some(1)));

    drop(control);
    assert_eq!(thermostat.last_words(), ReasonCode::SERVER_SHUTTING_DOWN);
    assert_eq!(thermostat.receive(), None);
    let mut control = Control::open(&socket);
    let Answer::Stats(stats) = control.ask(Verb::Stats {}) else { panic!("no stats") };
    assert_eq!((stats.sessions, stats.retained, stats.rev), (0, 0, None));
    let early = refusal(session(&socket, "dev"), plain_connect("dev", Version::V5));
    assert_eq!(early, ReasonCode::SERVER_UNAVAILABLE);
    control.grant(2, vec![device()]);
    session(&socket, "dev").connect("dev", Version::V5);
    assert_eq!(control.ask(Verb::Drain {}), Answer::Ok {});
    server.join().unwrap().unwrap();
}

#[test]
fn sigterm_drains() {
    let directory = tempfile::tempdir().unwrap();
    let (mut pcm, socket) = Pcm::inherited(directory.path(), &["--sandbox"]);
    Control::open(&socket).grant(1, vec![device()]);
    let mut client = session(&socket, "dev");
    client.connect("dev", Version::V5);
    assert_eq!(pcm.terminate(), Some(0));
    assert_eq!(client.last_words(), ReasonCode::SERVER_SHUTTING_DOWN);
    assert_eq!(client.receive(), None);
}

#[test]
fn another_user_is_not_let_in() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let nobody = (rustix::process::getuid().as_raw() + 1).to_string();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pcm"));
    command
        .arg("--dir")
        .arg(directory.path())
        .args(["--peer-uid", &nobody])
        .stderr(std::process::Stdio::null());
    let _pcm = Pcm { child: command.spawn().unwrap() };
    let deadline = Instant::now() + PATIENCE;
    while std::os::unix::net::UnixStream::connect(&socket).is_err() {
        assert!(Instant::now() < deadline, "it does not listen");
        std::thread::yield_now();
    }
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    let mut client = Client::unix(&socket);
    client.raw(&Preamble::Control {}.to_bytes());
    assert_eq!(client.receive(), None);
}

/// A gateway in another container has no process id in the broker's namespace; its user id is known all the same.
#[test]
fn a_peer_from_another_process_namespace_is_known_by_its_user() {
    let unshare = || std::process::Command::new("unshare");
    let allowed = unshare().args(["--pid", "--fork", "true"]).status().is_ok_and(|status| status.success());
    if !allowed {
        println!(
            "SKIPPED a_peer_from_another_process_namespace: needs unshare(1) (Debian: util-linux) and its privilege"
        );
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = unshare();
    command.args(["--pid", "--fork", "--kill-child", env!("CARGO_BIN_EXE_pcm")]);
    let (_pcm, socket) = Pcm::inherited_by(command, directory.path(), &["--sandbox"]);
    Control::open(&socket).grant(1, vec![device()]);
}

#[test]
fn the_process_is_locked_in_and_not_dumpable() {
    let directory = tempfile::tempdir().unwrap();
    let (pcm, socket) = Pcm::inherited(directory.path(), &["--sandbox"]);
    // Once it answers, it is locked in.
    Control::open(&socket).grant(1, Vec::new());
    let process = format!("/proc/{}", pcm.child.id());
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "Threads:\t1"] {
        assert!(status.lines().any(|one| one == line), "{line} in\n{status}");
    }
    if !rustix::process::getuid().is_root() {
        let memory = std::fs::File::open(format!("{process}/mem"));
        assert!(memory.is_err(), "memory of a process that is not dumpable");
    }
}

/// Where it cannot lock itself in, it does not serve.
#[test]
#[allow(unsafe_code)]
fn without_its_lock_it_does_not_start() {
    use seccompiler::{SeccompAction, SeccompFilter};
    use std::os::unix::process::CommandExt as _;
    let lock = [(libc::SYS_seccomp, Vec::new())].into_iter().collect();
    let denied = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(lock, SeccompAction::Allow, denied, arch).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    let start = |sandbox: &[&str], is_denied: bool| {
        let directory = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pcm"));
        command.arg("--dir").arg(directory.path()).args(["--peer-uid", "0"]).args(sandbox);
        command.stderr(std::process::Stdio::null());
        let program = program.clone();
        // SAFETY: between fork and exec only a system call is made, on memory that is there.
        unsafe {
            command.pre_exec(move || match is_denied {
                true => seccompiler::apply_filter(&program).map_err(std::io::Error::other),
                false => Ok(()),
            });
        }
        let mut pcm = Pcm { child: command.spawn().unwrap() };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(ended) = pcm.child.try_wait().unwrap() {
                return Some(ended.success());
            }
            if let Ok(mut client) = std::os::unix::net::UnixStream::connect(directory.path().join("s"))
                && client.shutdown(std::net::Shutdown::Write).is_ok()
                && std::io::Read::read(&mut client, &mut [0]).is_ok()
            {
                return None;
            }
            assert!(Instant::now() < deadline, "it neither serves nor ends");
            std::thread::yield_now();
        }
    };
    assert_eq!(start(&["--sandbox"], true), Some(false));
    // That is for the lock alone: without it, or with it allowed, it serves.
    assert_eq!(start(&[], true), None);
    assert_eq!(start(&["--sandbox"], false), None);
}

#[test]
fn what_is_no_unix_listener_is_refused() {
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_pcm"))
        .args(["--listen-fd", "0", "--peer-uid", "1"])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}
