//! What a personal broker keeps on disk: the real process, killed without warning and started again on the same files.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is to do")]

mod common;

use common::control::{Control, app, device, session};
use common::{Client, PATIENCE, Pcm, message};
use mqtt_broker::net::Server;
use mqtt_broker::{Broker, Limits, Policy};
use mqtt_wire::{
    Ack, Connect, Filters, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe, Subscription,
    Version, Will,
};
use pcm::door::PreambleDoor;
use pcm::state::State;
use pcm_wire::{Answer, Claim, Grant, Grants, Stats, Verb};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use tempfile::TempDir;

fn claim(name: &str, letter: &str) -> Verb {
    Verb::Claim(Claim { name: name.into(), key: letter.repeat(43) })
}

/// A running process with a control connection; its socket is new each time, its state directory is not.
struct Run {
    pcm: Pcm,
    control: Control,
    socket: PathBuf,
    _directory: TempDir,
}

impl Run {
    fn unclaimed_by(command: Command, state: &Path) -> Run {
        let directory = tempfile::tempdir().unwrap();
        let more = ["--sandbox", "--state-dir", state.to_str().unwrap()];
        let (pcm, socket) = Pcm::inherited_by(command, directory.path(), &more);
        let control = Control::open(&socket);
        Run { pcm, control, socket, _directory: directory }
    }

    fn unclaimed(state: &Path) -> Run {
        Run::unclaimed_by(Command::new(env!("CARGO_BIN_EXE_pcm")), state)
    }

    fn start(state: &Path, grants: Vec<Grant>) -> Run {
        let mut run = Run::unclaimed(state);
        assert_eq!(run.control.ask(claim("pcm-1", "A")), Answer::Ok {});
        run.control.grant(1, grants);
        run
    }

    /// SIGKILL, in the middle of whatever it is doing.
    fn kill(mut self) {
        self.pcm.child.kill().unwrap();
        self.pcm.child.wait().unwrap();
    }

    fn client(&self, sid: &str) -> Client {
        session(&self.socket, sid)
    }

    fn stats(&mut self) -> Stats {
        let Answer::Stats(stats) = self.control.ask(Verb::Stats {}) else { panic!("no stats") };
        stats
    }
}

fn usual() -> Vec<Grant> {
    vec![device(), app(&["t", "u"], &["h"])]
}

/// Asks for a session that lasts an hour.
fn lasting_connect(client: &mut Client, id: &str, will: Option<Will<'_>>) {
    client.version = Version::V5;
    let properties = [Property::SessionExpiryInterval(3_600)];
    let connect = Connect {
        version: Version::V5,
        clean_start: false,
        keep_alive: 60,
        properties: Properties::list(&properties),
        client_id: id,
        will,
        username: None,
        password: None,
    };
    client.send(&Packet::Connect(connect));
}

/// Connects with such a session; answers whether it was there.
fn resume(client: &mut Client, id: &str, will: Option<Will<'_>>) -> bool {
    lasting_connect(client, id, will);
    let frame = client.receive().expect("a CONNACK");
    let Ok(Packet::ConnAck(connack)) = Packet::decode(&frame, Version::V5) else { panic!("{frame:02X?}") };
    assert!(connack.reason.is_success(), "{connack:?}");
    connack.session_present
}

fn resumed(run: &Run, id: &str) -> Client {
    let mut client = run.client(id);
    assert!(resume(&mut client, id, None), "the session of {id} was kept");
    client
}

fn begun(run: &Run, id: &str) -> Client {
    let mut client = run.client(id);
    assert!(!resume(&mut client, id, None), "there is no session of {id} yet");
    client
}

fn subscribe(client: &mut Client, filter: &str) {
    let list = [Subscription::new(filter, QoS::ExactlyOnce)];
    let subscribe = Subscribe { packet_id: 1, properties: Properties::EMPTY, filters: Filters::list(&list) };
    client.send(&Packet::Subscribe(subscribe));
    assert_eq!(client.receive().as_deref(), Some(&[0x90, 4, 0, 1, 0, 2][..]));
}

/// An app with a session that has subscribed and left.
fn absent_reader(run: &Run) {
    let mut reader = begun(run, "app");
    subscribe(&mut reader, "d/#");
    reader.send(&Packet::Disconnect(mqtt_wire::Disconnect::new(ReasonCode::SUCCESS)));
    assert_eq!(reader.receive(), None);
}

/// The answer to a publication, if the connection lasts so long.
fn answer(client: &mut Client) -> Option<(u8, u16, ReasonCode)> {
    let frame = client.receive()?;
    match Packet::decode(&frame, client.version) {
        Ok(Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack)) => {
            Some((frame[0] >> 4, ack.packet_id, ack.reason))
        }
        other => panic!("{other:?}"),
    }
}

const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;

fn publish(client: &mut Client, topic: &str, payload: &str, qos: QoS, id: u16, retain: bool) {
    client.send(&Packet::Publish(Publish { retain, ..message(topic, payload, qos, id) }));
    let kind = if qos == QoS::ExactlyOnce { PUBREC } else { PUBACK };
    let (answered, to, reason) = answer(client).expect("an answer");
    assert!((answered, to) == (kind, id) && reason.is_success(), "{answered} {to} {reason:?}");
}

#[derive(Debug, PartialEq)]
struct Seen {
    topic: String,
    payload: String,
    id: u16,
    dup: bool,
}

fn next(client: &mut Client) -> Option<Seen> {
    let frame = client.receive()?;
    let Ok(Packet::Publish(publish)) = Packet::decode(&frame, client.version) else { panic!("{frame:02X?}") };
    Some(Seen {
        topic: publish.topic.to_owned(),
        payload: String::from_utf8_lossy(publish.payload).into_owned(),
        id: publish.packet_id.unwrap_or(0),
        dup: publish.dup,
    })
}

fn seen(client: &mut Client) -> Seen {
    next(client).expect("a message")
}

#[test]
fn what_waits_and_what_flies_comes_after_a_kill_with_its_identifier() {
    let state = tempfile::tempdir().unwrap();
    let run = Run::start(state.path(), usual());
    absent_reader(&run);
    let mut thermostat = begun(&run, "dev");
    publish(&mut thermostat, "d/L/t", "1", QoS::AtLeastOnce, 1, false);
    publish(&mut thermostat, "d/L/u", "2", QoS::AtLeastOnce, 2, false);
    run.kill();

    let run = Run::start(state.path(), usual());
    let mut reader = resumed(&run, "app");
    let (first, second) = (seen(&mut reader), seen(&mut reader));
    assert_eq!((&*first.payload, first.dup, &*second.payload, second.dup), ("1", false, "2", false));
    reader.send(&Packet::PubAck(Ack::new(first.id, ReasonCode::SUCCESS)));
    reader.nothing_else();
    run.kill();

    let run = Run::start(state.path(), usual());
    let mut reader = resumed(&run, "app");
    assert_eq!(seen(&mut reader), Seen { dup: true, ..second });
    reader.nothing_else();
}

#[test]
fn a_qos_2_delivery_goes_on_where_it_was() {
    let state = tempfile::tempdir().unwrap();
    let run = Run::start(state.path(), usual());
    let mut reader = begun(&run, "app");
    subscribe(&mut reader, "d/#");
    let mut thermostat = begun(&run, "dev");
    publish(&mut thermostat, "d/L/t", "1", QoS::ExactlyOnce, 1, false);
    publish(&mut thermostat, "d/L/t", "2", QoS::ExactlyOnce, 2, false);
    let (first, second) = (seen(&mut reader), seen(&mut reader));
    reader.send(&Packet::PubRec(Ack::new(first.id, ReasonCode::SUCCESS)));
    assert_eq!(answer(&mut reader).map(|(kind, id, _)| (kind, id)), Some((PUBREL, first.id)));
    run.kill();

    let run = Run::start(state.path(), usual());
    let mut reader = resumed(&run, "app");
    assert_eq!(
        answer(&mut reader).map(|(kind, id, _)| (kind, id)),
        Some((PUBREL, first.id)),
        "not the message"
    );
    assert_eq!(seen(&mut reader), Seen { dup: true, ..second });
    reader.send(&Packet::PubComp(Ack::new(first.id, ReasonCode::SUCCESS)));
    reader.nothing_else();
}

#[test]
fn a_qos_2_message_that_was_taken_is_not_taken_again() {
    let state = tempfile::tempdir().unwrap();
    let run = Run::start(state.path(), usual());
    absent_reader(&run);
    let mut thermostat = begun(&run, "dev");
    publish(&mut thermostat, "d/L/t", "once", QoS::ExactlyOnce, 9, false);
    run.kill();

    let run = Run::start(state.path(), usual());
    let mut thermostat = resumed(&run, "dev");
    publish(&mut thermostat, "d/L/t", "once", QoS::ExactlyOnce, 9, false);
    thermostat.send(&Packet::PubRel(Ack::new(9, ReasonCode::SUCCESS)));
    assert_eq!(answer(&mut thermostat).map(|(kind, id, _)| (kind, id)), Some((PUBCOMP, 9)));
    run.kill();

    let run = Run::start(state.path(), usual());
    publish(&mut resumed(&run, "dev"), "d/L/t", "another", QoS::ExactlyOnce, 9, false);
    let mut reader = resumed(&run, "app");
    assert_eq!(seen(&mut reader).payload, "once");
    assert_eq!(seen(&mut reader).payload, "another");
    reader.nothing_else();
}

#[test]
fn retained_values_and_shadows_are_kept_as_far_as_the_grants_of_afterwards_go() {
    let state = tempfile::tempdir().unwrap();
    let run = Run::start(state.path(), usual());
    let mut thermostat = begun(&run, "dev");
    publish(&mut thermostat, "d/L/t", "20", QoS::AtLeastOnce, 1, true);
    publish(&mut thermostat, "d/L/u", "55", QoS::AtLeastOnce, 2, true);
    publish(&mut thermostat, "s/L/reported", r#"{"u":7}"#, QoS::AtLeastOnce, 3, false);
    publish(&mut begun(&run, "app"), "s/L/desired", r#"{"h":true}"#, QoS::AtLeastOnce, 3, false);
    run.kill();

    let run = Run::start(state.path(), usual());
    let mut reader = resumed(&run, "app");
    subscribe(&mut reader, "#");
    assert_eq!((seen(&mut reader).payload, seen(&mut reader).payload), ("20".into(), "55".into()));
    let document = seen(&mut reader);
    assert_eq!(document.topic, "s/L");
    for part in [r#""u":7"#, r#""h":true"#] {
        assert!(document.payload.contains(part), "{document:?}");
    }
    run.kill();

    // Narrowed while nobody ran, then widened again: what was not covered meanwhile is gone for good.
    let mut run = Run::start(state.path(), vec![device(), app(&["u"], &[])]);
    assert_eq!(run.stats().retained, 1);
    run.control.grant(2, usual());
    run.kill();
    let mut run = Run::start(state.path(), usual());
    assert_eq!(run.stats().retained, 1);
    let mut reader = resumed(&run, "app");
    reader.send(&Packet::PingReq);
    let mut payloads = Vec::new();
    while let Some(frame) = reader.receive().filter(|frame| frame[0] != 0xD0) {
        let Ok(Packet::Publish(publish)) = Packet::decode(&frame, Version::V5) else { continue };
        payloads.push(String::from_utf8_lossy(publish.payload).into_owned());
    }
    assert!(!payloads.iter().any(|payload| payload == "20"), "not sent again: {payloads:?}");
    assert!(payloads.iter().all(|payload| !payload.contains(r#""h":true"#)), "{payloads:?}");
    let before = run.stats().journal_bytes;
    run.control.grant(3, vec![device()]);
    let after = run.stats();
    assert!(after.retained == 0 && after.journal_bytes < before, "{before} {after:?}");
    run.kill();
    let mut run = Run::start(state.path(), usual());
    let stats = run.stats();
    assert_eq!((stats.retained, stats.sessions), (0, 1), "of the app nothing is left");
}

#[test]
fn wills_are_due_after_a_kill_as_after_any_lost_connection() {
    let state = tempfile::tempdir().unwrap();
    let run = Run::start(state.path(), usual());
    absent_reader(&run);
    let will = |topic, payload| Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties::EMPTY,
        topic,
        payload,
    };
    let mut lasting = run.client("dev");
    resume(&mut lasting, "dev", Some(will("d/L/t", b"gone")));
    run.kill();
    let run = Run::start(state.path(), usual());
    assert_eq!(seen(&mut resumed(&run, "app")).payload, "gone");

    // A session that ends with its connection has one as well.
    let mut fleeting = run.client("dev");
    fleeting.version = Version::V5;
    let connect =
        Connect { will: Some(will("d/L/u", b"gone too")), ..common::plain_connect("dev", Version::V5) };
    fleeting.send(&Packet::Connect(connect));
    fleeting.receive().expect("a CONNACK");
    run.kill();
    let mut run = Run::start(state.path(), usual());
    let mut reader = resumed(&run, "app");
    assert_eq!(seen(&mut reader).payload, "gone");
    assert_eq!(seen(&mut reader).payload, "gone too");
    reader.nothing_else();
    assert_eq!(run.stats().sessions, 1);
}

#[test]
fn files_of_another_key_or_name_are_refused_and_untouched() {
    let state = tempfile::tempdir().unwrap();
    let run = Run::start(state.path(), usual());
    publish(&mut begun(&run, "dev"), "d/L/t", "a value of this owner", QoS::AtLeastOnce, 1, true);
    run.kill();
    let files = || ["a", "b"].map(|name| std::fs::read(state.path().join(name)).unwrap());
    let before = files();
    assert!(!before.concat().windows(7).any(|part| part == b"a value"), "encrypted");

    let mut run = Run::unclaimed(state.path());
    let Answer::Error(text) = run.control.ask(Verb::Grants(Grants { rev: 1, grants: usual() })) else {
        panic!("grants without a claim")
    };
    assert!(text.contains("not claimed"), "{text}");
    for wrong in [claim("pcm-1", "B"), claim("pcm-2", "A"), claim("pcm-1", "=")] {
        let Answer::Error(text) = run.control.ask(wrong) else { panic!("claimed") };
        assert!(text.contains("key"), "{text}");
    }
    assert_eq!(files(), before);
    assert_eq!(run.control.ask(claim("pcm-1", "A")), Answer::Ok {});
    assert_eq!(run.control.ask(claim("pcm-1", "A")), Answer::Ok {}, "the same again");
    assert!(matches!(run.control.ask(claim("pcm-1", "B")), Answer::Error(_)));
    assert_eq!(files(), before, "a claim only reads");
    run.control.grant(1, usual());
    assert_eq!(run.stats().retained, 1);
}

#[test]
fn before_a_torn_tail_everything_is_kept() {
    let state = tempfile::tempdir().unwrap();
    let run = Run::start(state.path(), usual());
    absent_reader(&run);
    let mut thermostat = begun(&run, "dev");
    publish(&mut thermostat, "d/L/t", "whole", QoS::AtLeastOnce, 1, false);
    publish(&mut thermostat, "d/L/t", "torn", QoS::AtLeastOnce, 2, false);
    run.kill();
    for name in ["a", "b"] {
        let path = state.path().join(name);
        let bytes = std::fs::read(&path).unwrap();
        if !bytes.is_empty() {
            std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        }
    }
    let run = Run::start(state.path(), usual());
    let mut reader = resumed(&run, "app");
    assert_eq!(seen(&mut reader).payload, "whole");
    reader.nothing_else();
}

#[test]
fn a_value_without_consent_is_not_written() {
    let state = tempfile::tempdir().unwrap();
    let mut run = Run::start(state.path(), usual());
    absent_reader(&run);
    let mut thermostat = begun(&run, "dev");
    let before = run.stats().journal_bytes;
    publish(&mut thermostat, "d/L/secret", "nobody reads this", QoS::AtLeastOnce, 1, true);
    assert_eq!(run.stats().journal_bytes, before);
    publish(&mut thermostat, "d/L/t", "somebody reads this", QoS::AtLeastOnce, 1, true);
    assert!(run.stats().journal_bytes > before);
}

#[test]
fn a_hundred_random_kills_lose_nothing_that_was_acknowledged() {
    let state = tempfile::tempdir().unwrap();
    let run = Run::start(state.path(), usual());
    absent_reader(&run);
    run.kill();
    let mut value = 0u32;
    let mut acknowledged = Vec::new();
    for round in 0..100u64 {
        let run = Run::start(state.path(), usual());
        let mut thermostat = run.client("dev");
        resume(&mut thermostat, "dev", None);
        // More is sent than answered: the kill comes while some are on their way.
        let first = value;
        for id in 1..=12 {
            let text = value.to_string();
            thermostat.send(&Packet::Publish(message("d/L/t", &text, QoS::AtLeastOnce, id)));
            value += 1;
        }
        for id in 1..=(RandomState::new().hash_one(round) % 8) as u16 {
            assert_eq!(answer(&mut thermostat), Some((PUBACK, id, ReasonCode::SUCCESS)));
            acknowledged.push(first + u32::from(id) - 1);
        }
        run.kill();
        if round % 10 == 9 {
            let run = Run::start(state.path(), usual());
            let values = drained(&mut resumed(&run, "app"));
            assert!(values.is_sorted_by(|one, other| one < other), "in order, each once: {values:?}");
            let lost: Vec<_> = acknowledged.drain(..).filter(|value| !values.contains(value)).collect();
            assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
            run.kill();
        }
    }
    let run = Run::start(state.path(), usual());
    resumed(&run, "app").nothing_else();
}

/// Takes and acknowledges whatever waits, until nothing does; numbers all of them.
fn drained(client: &mut Client) -> Vec<u32> {
    let mut values = Vec::new();
    loop {
        let before = values.len();
        client.send(&Packet::PingReq);
        while let Some(frame) = client.receive().filter(|frame| frame[0] != 0xD0) {
            let Ok(Packet::Publish(publish)) = Packet::decode(&frame, client.version) else {
                panic!("{frame:?}")
            };
            values.push(std::str::from_utf8(publish.payload).unwrap().parse().unwrap());
            client.send(&Packet::PubAck(Ack::new(publish.packet_id.unwrap(), ReasonCode::SUCCESS)));
        }
        if values.len() == before {
            return values;
        }
    }
}

#[test]
fn when_nothing_can_be_stored_nothing_is_acknowledged_and_qos_0_goes_on() {
    let state = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    // Blocks of 512 bytes: 100 KiB a file.
    command.args(["-c", r#"ulimit -f 200; exec "$0" "$@""#, env!("CARGO_BIN_EXE_pcm")]);
    let mut run = Run::unclaimed_by(command, state.path());
    assert_eq!(run.control.ask(claim("pcm-1", "A")), Answer::Ok {});
    let mut grants = usual();
    let Grant::App { rules, .. } = app(&["u"], &[]) else { panic!() };
    grants.push(Grant::App { sid: "other".into(), rules, key: None });
    run.control.grant(1, grants.clone());
    absent_reader(&run);
    let mut thermostat = begun(&run, "dev");
    let long = "x".repeat(2_000);
    let mut kept = 0;
    let cut = loop {
        thermostat.send(&Packet::Publish(message("d/L/t", &long, QoS::AtLeastOnce, 1)));
        match answer(&mut thermostat) {
            Some((PUBACK, 1, reason)) if reason.is_success() => kept += 1,
            other => break other,
        }
    };
    assert_eq!(cut, None, "cut, without an answer");
    assert!((30..50).contains(&kept), "{kept}");

    let mut thermostat = run.client("dev");
    thermostat.connect("dev", Version::V5);
    thermostat.send(&Packet::Publish(message("d/L/t", &long, QoS::AtLeastOnce, 2)));
    assert_eq!(answer(&mut thermostat), Some((PUBACK, 2, ReasonCode::QUOTA_EXCEEDED)));
    thermostat.send(&Packet::Publish(message("d/L/t", &long, QoS::ExactlyOnce, 3)));
    assert_eq!(answer(&mut thermostat), Some((PUBREC, 3, ReasonCode::QUOTA_EXCEEDED)));
    let value = Publish { retain: true, ..message("d/L/u", &long, QoS::AtLeastOnce, 4) };
    thermostat.send(&Packet::Publish(value));
    assert_eq!(answer(&mut thermostat), Some((PUBACK, 4, ReasonCode::QUOTA_EXCEEDED)));
    let mut command = run.client("other");
    command.connect("other", Version::V5);
    subscribe(&mut command, "d/#");
    thermostat.send(&Packet::Publish(message("d/L/u", "now", QoS::AtMostOnce, 0)));
    assert_eq!(seen(&mut command).payload, "now", "QoS 0 goes on");
    let mut old = run.client("dev");
    old.connect("dev", Version::V311);
    old.send(&Packet::Publish(message("d/L/t", &long, QoS::AtLeastOnce, 2)));
    assert_eq!(old.receive(), None, "3.1.1 cannot say no: cut");

    // The reader comes and takes what waits; it may be cut off meanwhile, and takes what then waits again.
    let deadline = Instant::now() + PATIENCE;
    let mut thermostat = loop {
        assert!(Instant::now() < deadline, "still nothing can be stored");
        let mut reader = run.client("app");
        lasting_connect(&mut reader, "app", None);
        reader.send(&Packet::PingReq);
        while let Some(frame) = reader.receive().filter(|frame| frame[0] != 0xD0) {
            if let Ok(Packet::Publish(publish)) = Packet::decode(&frame, Version::V5) {
                let id = publish.packet_id.unwrap_or(0);
                reader.send(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS)));
            }
        }
        let mut thermostat = run.client("dev");
        thermostat.connect("dev", Version::V5);
        thermostat.send(&Packet::Publish(message("d/L/t", "again", QoS::AtLeastOnce, 3)));
        if answer(&mut thermostat).is_some_and(|(_, _, reason)| reason.is_success()) {
            break thermostat;
        }
        std::thread::yield_now();
    };
    thermostat.nothing_else();
    run.kill();
    let run = Run::start(state.path(), grants);
    let mut reader = resumed(&run, "app");
    assert_eq!(seen(&mut reader).payload, "again");
}

#[test]
fn without_control_for_long_memory_and_key_are_forgotten_and_the_files_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let state = tempfile::tempdir().unwrap();
    let listener = pcm::door::bind(directory.path()).unwrap();
    let socket = directory.path().join("s");
    let place = state.path().to_owned();
    let server = std::thread::spawn(move || {
        let limits = Limits { unattended_ms: 10, ..Limits::PERSONAL };
        let state = State::open(&place, true)?;
        let door = PreambleDoor::new(rustix::process::getuid().as_raw()).with_state(state);
        let mut server = Server::new(Broker::new(limits, Policy::Granted(None), 1), door)?;
        server.listen_unix(listener)?;
        server.run()
    });
    let mut control = Control::open(&socket);
    assert_eq!(control.ask(claim("pcm-1", "A")), Answer::Ok {});
    control.grant(1, usual());
    let mut thermostat = session(&socket, "dev");
    resume(&mut thermostat, "dev", None);
    publish(&mut thermostat, "d/L/t", "20", QoS::AtLeastOnce, 1, true);
    drop(control);
    assert_eq!(thermostat.last_words(), ReasonCode::SERVER_SHUTTING_DOWN);
    assert_eq!(thermostat.receive(), None);

    let mut control = Control::open(&socket);
    let Answer::Stats(stats) = control.ask(Verb::Stats {}) else { panic!("no stats") };
    assert_eq!((stats.sessions, stats.retained, stats.journal_bytes), (0, 0, 0));
    assert!(matches!(control.ask(Verb::Grants(Grants { rev: 1, grants: usual() })), Answer::Error(_)));
    assert!(matches!(control.ask(claim("pcm-1", "B")), Answer::Error(_)));
    assert_eq!(control.ask(claim("pcm-1", "A")), Answer::Ok {});
    control.grant(1, usual());
    let Answer::Stats(stats) = control.ask(Verb::Stats {}) else { panic!("no stats") };
    assert_eq!((stats.sessions, stats.retained), (1, 1));
    assert_eq!(control.ask(Verb::Drain {}), Answer::Ok {});
    server.join().unwrap().unwrap();
}

#[test]
fn two_processes_never_have_the_same_files() {
    let state = tempfile::tempdir().unwrap();
    let run = Run::start(state.path(), usual());
    let directory = tempfile::tempdir().unwrap();
    let more = ["--state-dir", state.path().to_str().unwrap()];
    let (mut second, _) = Pcm::inherited(directory.path(), &more);
    assert_eq!(second.exit_code(), Some(1));
    begun(&run, "dev").nothing_else();
}
