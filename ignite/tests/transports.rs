//! The ways in: TLS, WebSocket, clients that are not ours, and whoever does not speak MQTT at all.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::client::{Client, bearer};
use common::{DEADLINE, Stack, app_detail};
use futures_util::{SinkExt as _, StreamExt as _};
use mqtt_wire::{Packet, Properties, QoS, Version};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::{WebSocketStream, client_async};

struct Tls {
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
}

fn tls() -> Tls {
    service::tls::install_provider();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Tls { server: Arc::new(server), client: Arc::new(client) }
}

async fn secure(
    address: std::net::SocketAddr,
    config: &Arc<rustls::ClientConfig>,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
}

async fn secure_stack(server: Arc<rustls::ServerConfig>) -> Stack {
    let other = Arc::clone(&server);
    Stack::with_listeners(|_| {}, |mqtt, http| (mqtt.with_tls(server), http.with_tls(other))).await
}

async fn open_web_socket<S>(stream: S, subprotocol: &str) -> Result<WebSocketStream<S>, u16>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
    if !subprotocol.is_empty() {
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol.parse().unwrap());
    }
    match client_async(request, stream).await {
        Ok((socket, response)) => {
            assert_eq!(response.headers()["Sec-WebSocket-Protocol"], subprotocol);
            Ok(socket)
        }
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

/// Sends packets in messages cut anywhere and reads packets wherever they begin.
async fn speak_mqtt<S>(mut socket: WebSocketStream<S>, token: &str)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let connect = Packet::Connect(bearer(Version::V311, "ws", token)).to_vec(Version::V311);
    let (first, second) = connect.split_at(5);
    socket.send(Message::binary(first.to_vec())).await.unwrap();
    let mut rest = second.to_vec();
    rest.extend(Packet::PingReq.to_vec(Version::V311));
    socket.send(Message::binary(rest)).await.unwrap();
    let mut received = Vec::new();
    while received.len() < 6 {
        match timeout(DEADLINE, socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Binary(bytes) => received.extend_from_slice(&bytes),
            other => panic!("only binary messages: {other:?}"),
        }
    }
    assert_eq!(received, [0x20, 2, 0, 0, 0xD0, 0]);
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn mqtt_over_web_socket() {
    let stack = Stack::start().await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    for subprotocol in ["mqtt", "mqttv3.1"] {
        let stream = TcpStream::connect(stack.http).await.unwrap();
        speak_mqtt(open_web_socket(stream, subprotocol).await.unwrap(), &token).await;
    }
    for wrong in ["chat", ""] {
        let stream = TcpStream::connect(stack.http).await.unwrap();
        assert_eq!(open_web_socket(stream, wrong).await.err(), Some(400));
    }
    let plain = reqwest::get(format!("http://{}/mqtt", stack.http)).await.unwrap();
    assert_eq!(plain.status(), 426);
}

#[tokio::test]
async fn text_messages_end_a_web_socket() {
    let stack = Stack::start().await;
    let stream = TcpStream::connect(stack.http).await.unwrap();
    let mut socket = open_web_socket(stream, "mqtt").await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    let ended = async {
        while let Some(Ok(message)) = socket.next().await {
            assert!(message.is_close(), "nothing but a close: {message:?}");
        }
    };
    timeout(DEADLINE, ended).await.unwrap();
}

#[tokio::test]
async fn mqtt_over_tls_and_over_secure_web_socket() {
    let tls = tls();
    let server = Arc::clone(&tls.server);
    let stack = secure_stack(server).await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let mut client = Client::over(secure(stack.mqtt, &tls.client).await);
    client.log_in(Version::V5, "tls", &token).await;
    assert_eq!(client.publish_acked(1, "d/temperature", b"1").await, 0);
    client.disconnect().await;
    let stream = secure(stack.http, &tls.client).await;
    speak_mqtt(open_web_socket(stream, "mqtt").await.unwrap(), &token).await;
}

/// Checklist 38: before authentication little is kept of a message that is still being put together, and afterwards no more
/// than of a packet.
#[tokio::test]
async fn web_socket_messages_are_bounded() {
    let stack = Stack::with(|config| config.limits.connect_seconds = 600).await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let stream = TcpStream::connect(stack.http).await.unwrap();
    let mut socket = open_web_socket(stream, "mqtt").await.unwrap();
    for part in 0..4 {
        let kind = if part == 0 { Data::Binary } else { Data::Continue };
        let piece = Frame::message(vec![0x10; 30_000], OpCode::Data(kind), false);
        if socket.send(Message::Frame(piece)).await.is_err() {
            break;
        }
    }
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    timeout(DEADLINE, ended).await.unwrap();

    let stream = TcpStream::connect(stack.http).await.unwrap();
    let mut socket = open_web_socket(stream, "mqtt").await.unwrap();
    let mut answer = async |bytes: Vec<u8>| {
        let _ = socket.send(Message::binary(bytes)).await;
        match timeout(DEADLINE, socket.next()).await.unwrap() {
            Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
            _ => Vec::new(),
        }
    };
    let connect = Packet::Connect(bearer(Version::V311, "ws", &token)).to_vec(Version::V311);
    assert_eq!(answer(connect).await, [0x20, 2, 0, 0]);
    let long = vec![b'x'; 200_000];
    let publish = common::client::publish(QoS::AtLeastOnce, 7, "d/temperature", &long, Properties::EMPTY);
    assert_eq!(answer(publish.to_vec(Version::V311)).await, [0x40, 2, 0, 7]);
    let pings = Packet::PingReq.to_vec(Version::V311).repeat(130 * 1024);
    assert_eq!(answer(pings).await, [0_u8; 0], "longer than the longest packet");
}

/// Checklist 37: a peer that says nothing in TLS costs nobody else anything.
#[tokio::test]
async fn a_silent_tls_peer_does_not_hold_up_the_next_one() {
    let tls = tls();
    let stack = secure_stack(Arc::clone(&tls.server)).await;
    let _silent = TcpStream::connect(stack.mqtt).await.unwrap();
    let token = stack.didp.add_device("owner", "s1", "label1");
    let mut client = Client::over(secure(stack.mqtt, &tls.client).await);
    client.log_in(Version::V311, "tls", &token).await;
}

/// Checklist 38: what a long CONNECT takes is lent to few at a time before it is known whose it is; short ones do not wait.
#[tokio::test]
async fn long_connects_are_taken_few_at_a_time_and_short_ones_beside_them() {
    let stack = Stack::with(|config| {
        config.limits.long_connects = 1;
        config.limits.connect_seconds = 600;
    })
    .await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let last_words = vec![b'x'; 40_000];
    let will = mqtt_wire::Will { payload: &last_words, ..common::client::will("d/heater-state", &[]) };
    let connect = mqtt_wire::Connect { will: Some(will), ..bearer(Version::V5, "long", &token) };
    let bytes = Packet::Connect(connect).to_vec(Version::V5);
    let mut held = stack.connect().await;
    held.send_raw(&bytes[..20_000]).await;
    let mut short = stack.connect().await;
    short.log_in(Version::V5, "short", &token).await;
    let mut waiting = stack.connect().await;
    waiting.send_raw(&bytes).await;
    assert!(timeout(Duration::from_millis(300), waiting.connack()).await.is_err(), "there is one place");
    // Over WebSocket nobody waits for a place: of three one has it, and waits for its turn as the one above.
    let mut ends = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let stream = TcpStream::connect(stack.http).await.unwrap();
        let mut socket = open_web_socket(stream, "mqtt").await.unwrap();
        let bytes = bytes.clone();
        ends.spawn(async move {
            let _ = socket.send(Message::binary(bytes)).await;
            socket.next().await.is_some_and(|message| message.is_ok_and(|message| message.is_binary()))
        });
    }
    for _ in 0..2 {
        assert!(!timeout(DEADLINE, ends.join_next()).await.unwrap().unwrap().unwrap(), "cut off");
    }
    drop(held);
    assert_eq!(waiting.connack().await, 0);
    assert!(timeout(DEADLINE, ends.join_next()).await.unwrap().unwrap().unwrap(), "an answer");
}

/// Checklist 37.
#[tokio::test]
async fn connect_has_a_time_limit() {
    let stack = Stack::with(|config| config.limits.connect_seconds = 1).await;
    let mut silent = stack.connect().await;
    let mut slow = stack.connect().await;
    slow.send_raw(&[0x10, 30, 0, 4]).await;
    silent.expect_end().await;
    slow.expect_end().await;
}

/// A packet that was begun must end in time, however it is drawn out; who only pauses between packets has all the time.
#[tokio::test]
async fn a_packet_once_begun_must_end_and_nobody_is_hurried_between_packets() {
    let stack = Stack::with(|config| config.limits.packet_seconds = 1).await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let mut drawn = stack.connect().await;
    let connect = |id| mqtt_wire::Connect { keep_alive: 0, ..bearer(Version::V5, id, &token) };
    assert_eq!(drawn.connect(connect("drawn")).await, 0);
    let mut slow = stack.connect().await;
    assert_eq!(slow.connect(connect("slow")).await, 0);
    let publish = |id| {
        let payload = [b'x'; 100];
        common::client::publish(QoS::AtLeastOnce, id, "d/temperature", &payload, Properties::EMPTY)
            .to_vec(Version::V5)
    };
    let began = std::time::Instant::now();
    for byte in publish(1) {
        if !drawn.try_send_raw(&[byte]).await || began.elapsed() > Duration::from_millis(1_500) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drawn.expect_disconnect(0x8D).await;
    assert!((1..3).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    // Each comes in two halves that are not a second apart, with its neighbours' halves; all of them take longer.
    let packets = [1, 2, 3, 4].map(publish).concat();
    let length = packets.len() / 4;
    let (first, rest) = packets.split_at(length / 2);
    for part in std::iter::once(first).chain(rest.chunks(length)) {
        slow.send_raw(part).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    for id in [1, 2, 3, 4] {
        assert_eq!(slow.puback(id).await, 0);
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    slow.ping().await;
}

/// The same where the packet hides in a WebSocket message that never ends; who only pings has all the time.
#[tokio::test]
async fn a_web_socket_message_once_begun_must_end() {
    let stack = Stack::with(|config| config.limits.packet_seconds = 1).await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let open = async |id: &str| {
        let stream = TcpStream::connect(stack.http).await.unwrap();
        let mut socket = open_web_socket(stream, "mqtt").await.unwrap();
        let connect = mqtt_wire::Connect { keep_alive: 0, ..bearer(Version::V311, id, &token) };
        socket.send(Message::binary(Packet::Connect(connect).to_vec(Version::V311))).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().is_binary());
        socket
    };
    let (mut drawn, mut quiet) = (open("drawn").await, open("quiet").await);
    let began = std::time::Instant::now();
    let part = Frame::message(vec![0x30, 100, 0, 1], OpCode::Data(Data::Binary), false);
    drawn.send(Message::Frame(part)).await.unwrap();
    let ended = async { while let Some(Ok(_)) = drawn.next().await {} };
    timeout(DEADLINE, ended).await.unwrap();
    assert!((1..4).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    quiet.send(Message::Ping("x".into())).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    quiet.send(Message::binary(Packet::PingReq.to_vec(Version::V311))).await.unwrap();
    loop {
        match timeout(DEADLINE, quiet.next()).await.unwrap().unwrap().unwrap() {
            Message::Binary(bytes) => break assert_eq!(bytes.as_ref(), [0xD0, 0]),
            other => assert!(other.is_pong(), "{other:?}"),
        }
    }
}

/// Checklist 36.
#[tokio::test]
async fn malformed_bytes_end_that_connection_only() {
    let stack = Stack::start().await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let mut good = stack.connect().await;
    good.log_in(Version::V5, "good", &token).await;

    // Before authentication: MQTT 5 has an answer to what claims to be MQTT 5, 3.1.1 none.
    let mut bad = stack.connect().await;
    bad.send_raw(b"\x10\x10\0\x04MQTT\x05\x03\0\0\0\0\x03abc").await;
    assert_eq!(bad.connack().await, 0x81);
    bad.expect_end().await;
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        b"\x10\x0d\0\x04MQTT\x04\x03\0\0\0\x01a",
        b"\xff\xff\xff\xff\xff",
        b"\xc0\x00",
    ] {
        let mut bad = stack.connect().await;
        bad.send_raw(bytes).await;
        bad.expect_end().await;
    }
    let mut old = stack.connect().await;
    old.send_raw(b"\x10\x0d\0\x04MQTT\x02\x02\0\0\0\x01a").await;
    old.version = Version::V311;
    assert_eq!(old.connack().await, 1, "unacceptable protocol version");
    old.expect_end().await;
    let mut new = stack.connect().await;
    new.send_raw(b"\x10\x0d\0\x04MQTT\x06\x02\0\0\0\x01a").await;
    assert_eq!(new.connack().await, 0x84);
    new.expect_end().await;

    // After it.
    let mut bad = stack.connect().await;
    bad.log_in(Version::V5, "bad", &token).await;
    bad.send_raw(&[0x82, 2, 0, 0]).await;
    bad.expect(|packet| assert!(matches!(packet, Packet::Disconnect(_)))).await;
    bad.expect_end().await;
    let mut bad = stack.connect().await;
    bad.log_in(Version::V5, "bad", &token).await;
    bad.send(&Packet::Connect(bearer(Version::V5, "bad", &token))).await;
    bad.expect_disconnect(0x82).await;
    good.ping().await;
}

/// Checklist 38.
#[tokio::test]
async fn too_long_packets_and_too_many_connections_are_refused() {
    let stack = Stack::with(|config| {
        config.limits.packet_bytes = 1_024;
        config.limits.connections_per_address = 4;
    })
    .await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let mut client = stack.connect().await;
    client.log_in(Version::V5, "c", &token).await;
    client.publish(QoS::AtMostOnce, 0, "d/temperature", &[b'x'; 2_000]).await;
    client.expect_disconnect(0x95).await;
    let mut held = Vec::new();
    loop {
        let mut next = TcpStream::connect(stack.mqtt).await.unwrap();
        match timeout(Duration::from_millis(200), next.read_u8()).await {
            Err(_) => held.push(next),
            Ok(_) => break,
        }
        assert!(held.len() <= 4, "a connection is refused");
    }
}

/// A socket that is closed while more comes in is reset, and a client that is still writing never reads why.
#[tokio::test]
async fn a_client_that_is_still_writing_gets_its_answer() {
    let stack = Stack::start().await;
    let mut stream = TcpStream::connect(stack.mqtt).await.unwrap();
    let connect = Packet::Connect(bearer(Version::V5, "c", "demo.unknown")).to_vec(Version::V5);
    stream.write_all(&connect).await.unwrap();
    stream.readable().await.unwrap();
    for _ in 0..20 {
        stream.write_all(&[0x30; 10_000]).await.expect("the gateway takes it");
        tokio::task::yield_now().await;
    }
    let mut client = Client::over(stream);
    assert_eq!(client.connack().await, 0x87);
}

/// What somebody asks without reading the answers is not kept for them: they are not read from any more, and cut off.
#[tokio::test]
async fn who_reads_no_answers_is_not_read_from() {
    // More than the kernel keeps for both sides.
    const MUCH: usize = 128 << 20;
    let stack = Stack::with(|config| {
        config.limits.packets_per_second = u32::MAX;
        config.limits.write_seconds = 1;
    })
    .await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut client = Client::over(socket.connect(stack.mqtt).await.unwrap());
    client.log_in(Version::V311, "c", &token).await;
    let requests = Packet::PingReq.to_vec(Version::V311).repeat(16 * 1024);
    let mut sent = 0;
    let asking = async {
        while sent < MUCH && client.try_send_raw(&requests).await {
            sent += requests.len();
        }
    };
    timeout(DEADLINE, asking).await.expect("it is cut off");
    assert!(sent < MUCH, "{sent}");
}

/// A second client with the same id under the same grant takes over; under another grant it does not (checklist 41).
#[tokio::test]
async fn a_client_id_takes_over_within_its_grant_only() {
    let stack = Stack::start().await;
    let one = stack.didp.add_app("owner", "s1", json!([app_detail("label1", &["read"])]));
    let two = stack.didp.add_app("owner", "s2", json!([app_detail("label1", &["read"])]));
    let mut first = stack.connect().await;
    first.log_in(Version::V5, "same", &one).await;
    let mut other = stack.connect().await;
    other.log_in(Version::V5, "same", &two).await;
    first.ping().await;
    let mut second = stack.connect().await;
    second.log_in(Version::V5, "same", &one).await;
    first.expect_disconnect(0x8E).await;
    other.ping().await;
    second.ping().await;
}

#[tokio::test]
async fn a_stop_is_said_to_clients_and_is_quick() {
    let stack = Stack::start().await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let mut five = stack.connect().await;
    five.log_in(Version::V5, "five", &token).await;
    let mut three = stack.connect().await;
    three.log_in(Version::V311, "three", &token).await;
    let mut waiting = stack.connect().await;
    waiting.send_raw(&[0x10]).await;
    stack.shutdown.begin();
    five.expect_disconnect(0x8B).await;
    three.expect_end().await;
    waiting.expect_end().await;
    assert!(stack.shutdown.drain(DEADLINE).await);
}

/// A PCM that dies ends its sessions; the next CONNECT brings up another.
#[tokio::test]
async fn a_dead_pcm_is_ensured_again() {
    let stack = Stack::start().await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let mut client = stack.connect().await;
    client.log_in(Version::V5, "c", &token).await;
    let name = stack.launcher.list().await.unwrap().remove(0);
    stack.launcher.remove(&name).await.unwrap();
    client.expect(|packet| assert!(matches!(packet, Packet::Disconnect(_)))).await;
    client.expect_end().await;
    let mut again = stack.connect().await;
    again.log_in(Version::V5, "c", &token).await;
    assert_eq!(again.publish_acked(1, "d/temperature", b"1").await, 0);
}

/// Many at once for one owner: one PCM is started.
#[tokio::test]
async fn launching_is_single_flight_and_owners_are_apart() {
    let stack = Stack::start().await;
    let tokens: Vec<_> = (0..8)
        .map(|number| {
            let owner = if number % 2 == 0 { "even" } else { "odd" };
            stack.didp.add_device(owner, &format!("s{number}"), &format!("label{number}"))
        })
        .collect();
    let mut tasks = Vec::new();
    for token in tokens {
        let mut client = stack.connect().await;
        tasks.push(tokio::spawn(async move {
            client.log_in(Version::V311, "c", &token).await;
            client
        }));
    }
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await.unwrap());
    }
    assert_eq!(stack.pcms().await, 2);
}

#[tokio::test]
async fn rumqttc_speaks_v311_and_v5() {
    let stack = Stack::start().await;
    let device = stack.didp.add_device("owner", "s-device", "label1");
    let app = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read"])]));

    let mut options = rumqttc::v5::MqttOptions::new("app", "127.0.0.1", stack.mqtt.port());
    options.set_credentials("Bearer", &app);
    let (client, mut events) = rumqttc::v5::AsyncClient::new(options, 10);
    client.subscribe("d/+/temperature", rumqttc::v5::mqttbytes::QoS::ExactlyOnce).await.unwrap();
    let subscribed = async {
        use rumqttc::v5::{Event, Incoming};
        while !matches!(events.poll().await.unwrap(), Event::Incoming(Incoming::SubAck(_))) {}
    };
    timeout(DEADLINE, subscribed).await.unwrap();

    let mut options = rumqttc::MqttOptions::new("thermostat", "127.0.0.1", stack.mqtt.port());
    options.set_credentials("Bearer", &device);
    let (thermostat, mut polled) = rumqttc::AsyncClient::new(options, 10);
    thermostat.publish("d/temperature", rumqttc::QoS::ExactlyOnce, false, "21.5").await.unwrap();
    let polling = tokio::spawn(async move { while polled.poll().await.is_ok() {} });

    let reading = async {
        use rumqttc::v5::{Event, Incoming};
        loop {
            if let Event::Incoming(Incoming::Publish(publish)) = events.poll().await.unwrap() {
                return publish.payload;
            }
        }
    };
    assert_eq!(timeout(DEADLINE, reading).await.unwrap(), "21.5");
    polling.abort();
}

#[tokio::test]
async fn keep_alive_is_watched() {
    let stack = Stack::start().await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let mut client = stack.connect().await;
    let connect = mqtt_wire::Connect { keep_alive: 1, ..bearer(Version::V5, "c", &token) };
    assert_eq!(client.connect(connect).await, 0);
    client.expect_disconnect(0x8D).await;
}

/// A half-open HTTP request is not waited for.
#[tokio::test]
async fn the_http_listener_answers_others_meanwhile() {
    let stack = Stack::start().await;
    let mut slow = TcpStream::connect(stack.http).await.unwrap();
    slow.write_all(b"GET /healthz HT").await.unwrap();
    let answer = reqwest::get(format!("http://{}/healthz", stack.http)).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ok\n");
}
