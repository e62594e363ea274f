//! One connection that never waits: what it cannot write at once ends it, what has come is answered.

use mqtt_wire::{Ack, Packet, PacketType, QoS, ReasonCode, Version, frame_len};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

pub(crate) struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    pub(crate) sid: String,
    pub(crate) version: Version,
    last_id: u16,
    pub(crate) over: bool,
    /// The last DISCONNECT that came.
    pub(crate) reason: Option<ReasonCode>,
    pub(crate) messages: u64,
}

impl Client {
    pub(crate) fn open(socket: &Path, sid: &str, version: Version) -> Client {
        let stream = UnixStream::connect(socket).expect("the broker listens");
        stream.set_nonblocking(true).expect("a socket");
        Client {
            stream,
            input: Vec::new(),
            sid: sid.to_owned(),
            version,
            last_id: 0,
            over: false,
            reason: None,
            messages: 0,
        }
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.over |= self.stream.write_all(bytes).is_err();
    }

    pub(crate) fn send(&mut self, packet: &Packet<'_>) {
        self.raw(&packet.to_vec(self.version));
    }

    pub(crate) fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id % 30_000 + 1;
        self.last_id
    }

    /// Reads what has come. A message that `ignores` chooses stays without acknowledgement.
    pub(crate) fn read(&mut self, mut ignores: impl FnMut() -> bool) {
        let mut chunk = [0; 16 << 10];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.over = true,
                Ok(count) => {
                    self.input.extend_from_slice(&chunk[..count]);
                    if count == chunk.len() {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.over = true,
            }
            break;
        }
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while let Some(length) = frame_len(rest, usize::MAX).expect("the broker sends packets") {
            let Some((frame, after)) = rest.split_at_checked(length) else { break };
            rest = after;
            self.answer(frame, &mut ignores);
        }
        self.input = rest.to_vec();
    }

    fn answer(&mut self, frame: &[u8], ignores: &mut impl FnMut() -> bool) {
        let packet = Packet::decode(frame, self.version).expect("the broker sends packets");
        let ack = |id| Ack::new(id, ReasonCode::SUCCESS);
        match packet {
            Packet::Publish(publish) => {
                self.messages += 1;
                match (publish.qos, publish.packet_id.filter(|_| !ignores())) {
                    (QoS::AtLeastOnce, Some(id)) => self.send(&Packet::PubAck(ack(id))),
                    (QoS::ExactlyOnce, Some(id)) => self.send(&Packet::PubRec(ack(id))),
                    _ => {}
                }
            }
            Packet::PubRec(rec) if rec.reason.is_success() => self.send(&Packet::PubRel(ack(rec.packet_id))),
            Packet::PubRel(rel) => self.send(&Packet::PubComp(ack(rel.packet_id))),
            Packet::Disconnect(disconnect) => self.reason = Some(disconnect.reason),
            Packet::ConnAck(connack) => self.over |= !connack.reason.is_success(),
            other => assert!(other.kind() != PacketType::Connect, "only clients send these"),
        }
    }
}
