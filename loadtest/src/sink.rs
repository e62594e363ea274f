//! The null sink: takes connections, hands each PUBLISH on to whoever subscribed its very topic, and does nothing else that a broker
//! does. What the harness reaches against it is what the harness can reach.
//!
//! QoS 0, MQTT 3.1.1, no wildcards, one receiver a topic. Runs as `loadtest sink`, as a process of its own like every system under test.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Ipv4Addr;

use anyhow::Context as _;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use mqtt_wire::{Packet, Version, frame_len};

const LISTENER: Token = Token(usize::MAX);
const LONGEST: usize = 1 << 20;

struct Connection {
    socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// Listens on a free port of loopback, prints the address, and serves until the process ends.
///
/// # Errors
/// The kernel's.
pub fn run() -> anyhow::Result<()> {
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into()).context("listen on loopback")?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("{}", listener.local_addr()?);
    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut receivers: HashMap<String, usize> = HashMap::new();
    let mut buffer = vec![0; 256 << 10];
    let mut touched = Vec::new();
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled.context("epoll")?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    socket.set_nodelay(true)?;
                    let token = Token(connections.len());
                    poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
                    connections.push(Some(Connection { socket, input: Vec::new(), output: Vec::new() }));
                }
                continue;
            }
            let Token(number) = event.token();
            touched.push(number);
            if !take(&mut connections, number, &mut receivers, &mut buffer, &mut touched)
                && let Some(gone) = connections.get_mut(number)
            {
                *gone = None;
            }
        }
        for number in touched.drain(..) {
            if let Some(Some(connection)) = connections.get_mut(number)
                && !flush(connection)
            {
                connections[number] = None;
            }
        }
    }
}

/// Reads and hands on; false when the connection is over.
fn take(
    connections: &mut [Option<Connection>],
    number: usize,
    receivers: &mut HashMap<String, usize>,
    buffer: &mut [u8],
    touched: &mut Vec<usize>,
) -> bool {
    let Some(Some(connection)) = connections.get_mut(number) else { return true };
    loop {
        match connection.socket.read(buffer) {
            Ok(0) => return false,
            Ok(length) => {
                connection.input.extend_from_slice(buffer.get(..length).unwrap_or_default());
                if length < buffer.len() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    let input = std::mem::take(&mut connection.input);
    let mut used = 0;
    while let Ok(Some(length)) = frame_len(input.get(used..).unwrap_or_default(), LONGEST) {
        let Some(frame) = input.get(used..used + length) else { break };
        used += length;
        let Ok(packet) = Packet::decode(frame, Version::V311) else { return false };
        let (to, bytes): (usize, &[u8]) = match &packet {
            Packet::Connect(_) => (number, &[0x20, 2, 0, 0]),
            Packet::PingReq => (number, &[0xD0, 0]),
            Packet::Publish(publish) => match receivers.get(publish.topic) {
                Some(receiver) => (*receiver, frame),
                None => continue,
            },
            Packet::Subscribe(subscribe) => {
                for subscription in subscribe.filters.iter() {
                    receivers.insert(subscription.filter.to_owned(), number);
                }
                let [high, low] = subscribe.packet_id.to_be_bytes();
                let mut answer = vec![0x90, 2, high, low];
                answer.extend(subscribe.filters.iter().map(|_| 0));
                answer[1] = u8::try_from(answer.len() - 2).unwrap_or(2);
                if let Some(Some(connection)) = connections.get_mut(number) {
                    connection.output.extend_from_slice(&answer);
                }
                continue;
            }
            _ => continue,
        };
        if let Some(Some(connection)) = connections.get_mut(to) {
            connection.output.extend_from_slice(bytes);
            touched.push(to);
        }
    }
    if let Some(Some(connection)) = connections.get_mut(number) {
        connection.input = input.get(used..).unwrap_or_default().to_vec();
    }
    true
}

/// Writes what the socket takes; false when the connection is over.
fn flush(connection: &mut Connection) -> bool {
    let mut written = 0;
    while written < connection.output.len() {
        match connection.socket.write(connection.output.get(written..).unwrap_or_default()) {
            Ok(0) => return false,
            Ok(length) => written += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    connection.output.drain(..written);
    true
}
