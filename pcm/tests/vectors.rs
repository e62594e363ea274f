//! The packet sequences of `../shared/mqtt-vectors` (see its README) against `pcm --listen`.

mod common;

use common::{Client, Pcm, message};
use mqtt_wire::{Filters, Packet, PacketType, Properties, QoS, Subscribe, Subscription, Version};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;

/// Sequences in the folder.
const ALL: usize = 1_483;

/// Sequences in which a client sends SUBACK or UNSUBACK with reserved flags. The files want 0x81 for the flags; here, as
/// for every other packet that only a server sends, the packet as such is the protocol error 0x82 (§4.13, §2.1.2).
const OWN_CODE: [&str; 8] = ["91", "92", "94", "98", "B1", "B2", "B4", "B8"];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|one| !one.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hexadecimal"))
        .collect()
}

/// Sends and expects as the sequence says; the sentence is what went wrong.
fn play(address: SocketAddr, test: &Value) -> Result<(), String> {
    let version = match test["ver"].as_u64().unwrap_or(4) {
        3 => Version::V31,
        4 => Version::V311,
        _ => Version::V5,
    };
    let mut client = Client::tcp(address);
    client.version = version;
    if test["connect"].as_bool().unwrap_or(true) {
        client.connect("conformance", version);
    }
    for step in test["msgs"].as_array().expect("msgs") {
        let payload = step["payload"].as_str().unwrap_or_default();
        match step["type"].as_str() {
            Some("send") => client.raw(&bytes(payload)),
            Some("publish") => {
                publish(address, step["topic"].as_str().unwrap_or_default(), payload, step["qos"].as_u64());
            }
            _ => {
                let expected = bytes(payload);
                let frame = client.receive().ok_or_else(|| format!("closed instead of {expected:02X?}"))?;
                let is_connack =
                    expected.first().and_then(|first| PacketType::of(*first)) == Some(PacketType::ConnAck);
                let same = if is_connack {
                    frame[0] == expected[0] && frame.get(3) == expected.get(3)
                } else {
                    frame == expected
                };
                if !same {
                    return Err(format!("{frame:02X?} instead of {expected:02X?}"));
                }
            }
        }
    }
    if test["expect_disconnect"].as_bool().unwrap_or(true) {
        return match client.receive() {
            None => Ok(()),
            Some(frame) => Err(format!("{frame:02X?} instead of closing")),
        };
    }
    client.raw(&[0xC0, 0]);
    match client.receive() {
        Some(frame) if frame == [0xD0, 0] => Ok(()),
        other => Err(format!("{other:02X?} instead of staying alive")),
    }
}

fn publish(address: SocketAddr, topic: &str, payload: &str, qos: Option<u64>) {
    let mut client = Client::tcp(address);
    client.connect("conformance-publisher", Version::V311);
    let qos = QoS::from_bits(qos.unwrap_or(0) as u8).expect("a QoS");
    client.send(&Packet::Publish(message(topic, payload, qos, 1)));
    match qos {
        QoS::AtMostOnce => client.nothing_else(),
        QoS::AtLeastOnce => assert_eq!(client.receive().as_deref(), Some(&[0x40, 2, 0, 1][..])),
        QoS::ExactlyOnce => {
            assert_eq!(client.receive().as_deref(), Some(&[0x50, 2, 0, 1][..]));
            client.raw(&[0x62, 2, 0, 1]);
            assert_eq!(client.receive().as_deref(), Some(&[0x70, 2, 0, 1][..]));
        }
    }
}

/// A new client can connect, publish and receive.
fn is_alive(address: SocketAddr) {
    let mut client = Client::tcp(address);
    client.connect("conformance-liveness", Version::V5);
    let list = [Subscription::new("liveness/check", QoS::AtLeastOnce)];
    let subscribe = Subscribe { packet_id: 1, properties: Properties::EMPTY, filters: Filters::list(&list) };
    client.send(&Packet::Subscribe(subscribe));
    assert_eq!(client.receive().expect("a SUBACK")[0], 0x90);
    client.send(&Packet::Publish(message("liveness/check", "1", QoS::AtMostOnce, 0)));
    let frame = client.receive().expect("the message");
    let packet = Packet::decode(&frame, Version::V5);
    assert!(matches!(packet, Ok(Packet::Publish(publish)) if publish.payload == b"1"), "{packet:?}");
}

#[test]
fn vectors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/mqtt-vectors");
    if !folder.is_dir() {
        println!(
            "SKIPPED vectors: needs the packet sequences in ../shared/mqtt-vectors beside the workspace"
        );
        return;
    }
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    let (_pcm, address) = Pcm::plain(&["--sandbox"]);
    let (mut played, mut own) = (0, 0);
    let mut wrong = Vec::new();
    for file in files {
        let groups: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for group in groups.as_array().expect("groups") {
            for test in group["tests"].as_array().into_iter().flatten() {
                played += 1;
                let name = test["name"].as_str().unwrap_or_default();
                match play(address, test) {
                    Ok(()) => {}
                    Err(what)
                        if test["ver"] == 5
                            && OWN_CODE.contains(&name)
                            && what.starts_with("[E0, 01, 82]") =>
                    {
                        own += 1;
                    }
                    Err(what) => wrong
                        .push(format!("{} / {name}: {what}", group["group"].as_str().unwrap_or_default())),
                }
            }
            is_alive(address);
        }
    }
    println!(
        "{played} sequences: {} as expected, {own} with the standard's own code",
        played - own - wrong.len()
    );
    assert!(wrong.is_empty(), "{} of {played} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!((played, own), (ALL, OWN_CODE.len()));
}
