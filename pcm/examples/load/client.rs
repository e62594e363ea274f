//! One MQTT 3.1.1 client: blocking until its load begins, then never.

use super::Load;
use mio::net::TcpStream;
use mqtt_wire::{
    Connect, Filters, Packet, Properties, Publish, QoS, Subscribe, Subscription, Version, frame_len,
};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

pub(crate) struct Client {
    blocking: Option<std::net::TcpStream>,
    stream: Option<TcpStream>,
    input: Vec<u8>,
    filled: usize,
    output: Vec<u8>,
}

/// What was read.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) messages: usize,
    /// Own messages that the broker has done with.
    pub(crate) finished: usize,
}

const VERSION: Version = Version::V311;

/// A PUBLISH whose packet identifier [`Client::publish`] fills in.
pub(crate) fn publish(topic: &str, load: &Load) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        qos: QoS::from_bits(load.qos).unwrap(),
        retain: load.retain,
        topic,
        packet_id: Some(1),
        properties: Properties::EMPTY,
        payload: &vec![b'x'; load.payload],
    };
    Packet::Publish(publish).to_vec(VERSION)
}

/// Where the packet identifier of a PUBLISH is.
fn identifier_at(frame: &[u8]) -> usize {
    let header = 1 + frame[1..].iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    header + 2 + usize::from(u16::from_be_bytes([frame[header], frame[header + 1]]))
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, name: &str) -> Client {
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Client {
            blocking: Some(stream),
            stream: None,
            input: vec![0; 64 << 10],
            filled: 0,
            output: Vec::new(),
        };
        client.ask(&Packet::Connect(Connect {
            version: VERSION,
            clean_start: true,
            keep_alive: 0,
            properties: Properties::EMPTY,
            client_id: name,
            will: None,
            username: None,
            password: None,
        }));
        client
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) {
        let list = [Subscription::new(filter, QoS::from_bits(qos).unwrap())];
        self.ask(&Packet::Subscribe(Subscribe {
            packet_id: 1,
            properties: Properties::EMPTY,
            filters: Filters::list(&list),
        }));
    }

    fn ask(&mut self, packet: &Packet<'_>) {
        let stream = self.blocking.as_mut().unwrap();
        stream.write_all(&packet.to_vec(VERSION)).unwrap();
        let mut head = [0; 2];
        stream.read_exact(&mut head).unwrap();
        let mut rest = vec![0; usize::from(head[1])];
        stream.read_exact(&mut rest).unwrap();
    }

    /// Does not block from here on.
    pub(crate) fn begin(&mut self) -> &mut TcpStream {
        let stream = self.blocking.take().unwrap();
        stream.set_nonblocking(true).unwrap();
        self.stream.insert(TcpStream::from_std(stream))
    }

    pub(crate) fn publish(&mut self, frame: &[u8], qos: u8, number: usize) {
        let start = self.output.len();
        self.output.extend_from_slice(frame);
        if qos > 0 {
            let at = start + identifier_at(frame);
            let id = u16::try_from(number % 65_535).unwrap() + 1;
            self.output[at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
    }

    /// Reads what there is and answers it.
    pub(crate) fn read(&mut self) -> Counted {
        let mut counted = Counted::default();
        loop {
            match self.stream.as_mut().unwrap().read(&mut self.input[self.filled..]) {
                Ok(0) => panic!("the broker closed the connection"),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
            let full = self.filled == self.input.len();
            let mut used = 0;
            while let Some(length) = frame_len(&self.input[used..self.filled], usize::MAX).unwrap()
                && used + length <= self.filled
            {
                let frame = &self.input[used..used + length];
                let id = |at: usize| [frame[at], frame[at + 1]];
                let answer = match frame[0] >> 4 {
                    3 => {
                        counted.messages += 1;
                        match (frame[0] >> 1) & 3 {
                            0 => None,
                            1 => Some((0x40, id(identifier_at(frame)))),
                            _ => Some((0x50, id(identifier_at(frame)))),
                        }
                    }
                    5 => Some((0x62, id(2))),
                    6 => Some((0x70, id(2))),
                    _ => {
                        counted.finished += 1;
                        None
                    }
                };
                if let Some((kind, [high, low])) = answer {
                    self.output.extend_from_slice(&[kind, 2, high, low]);
                }
                used += length;
            }
            self.input.copy_within(used..self.filled, 0);
            self.filled -= used;
            if !full {
                break;
            }
        }
        self.flush();
        counted
    }

    pub(crate) fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.as_mut().unwrap().write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
