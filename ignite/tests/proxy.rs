//! PROXY protocol version 2 on every listener: from whom it is taken, and what the address in it counts for.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use common::client::{Client, bearer};
use common::{Stack, app_detail, until};
use ignite::Listeners;
use mqtt_wire::Version;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// The load balancer that the gateway trusts; tests connect from other addresses of the loopback network as well.
const BALANCER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SOMEBODY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);

/// A gateway that takes headers from [`BALANCER`], with and without TLS.
async fn stack(change: impl FnOnce(&mut ignite::Config)) -> Stack {
    let trusted: service::proxy::Trusted = [IpAddr::from(BALANCER).into()].into_iter().collect();
    let http = trusted.clone();
    Stack::with_listeners(change, |mqtt, other| (mqtt.with_proxies(trusted), other.with_proxies(http))).await
}

async fn from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// The header for a client at `address`, with one type-length-value behind it.
fn header(address: [u8; 4]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12".to_vec();
    bytes.extend(address);
    bytes.extend([10, 0, 0, 1, 0xC0, 0, 0x07, 0x5B]);
    bytes.extend([0x05, 0, 3, b'i', b'd', b'1']);
    bytes
}

/// What health checks begin with: the load balancer speaks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

async fn passed_on(stack: &Stack, header: &[u8]) -> TcpStream {
    let mut stream = from(BALANCER, stack.mqtt).await;
    stream.write_all(header).await.unwrap();
    stream
}

/// Nothing is said, and the connection ends.
async fn assert_ended(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(common::DEADLINE, stream.read_to_end(&mut rest)).await.expect("in time");
    assert!(ended.is_err() || rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn limits_count_the_address_in_the_header_and_not_the_load_balancers() {
    let stack = stack(|config| config.limits.connections_per_address = 1).await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let mut first = Client::over(passed_on(&stack, &header([192, 0, 2, 1])).await);
    first.log_in(Version::V5, "one", &token).await;
    assert_ended(passed_on(&stack, &header([192, 0, 2, 1])).await).await;
    let mut other = Client::over(passed_on(&stack, &header([192, 0, 2, 2])).await);
    other.log_in(Version::V5, "two", &token).await;
    // Its own address counts where it names none.
    let mut own = Client::over(passed_on(&stack, LOCAL).await);
    own.log_in(Version::V5, "three", &token).await;
    assert_ended(passed_on(&stack, LOCAL).await).await;
    first.ping().await;
    first.disconnect().await;
    // The place is free again when the session is gone.
    until("the address has a place again", async || {
        let mut client = Client::over(passed_on(&stack, &header([192, 0, 2, 1])).await);
        client.version = Version::V5;
        let packet = mqtt_wire::Packet::Connect(bearer(Version::V5, "four", &token)).to_vec(Version::V5);
        client.try_send_raw(&packet).await && client.frame().await.is_some()
    })
    .await;
}

#[tokio::test]
async fn failed_tokens_count_for_the_address_in_the_header() {
    let stack = stack(|config| config.limits.failed_tokens_per_address = 1).await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    for (address, expected) in [([192, 0, 2, 1], 0x87), ([192, 0, 2, 1], 0x9F), ([192, 0, 2, 2], 0x87)] {
        let mut client = Client::over(passed_on(&stack, &header(address)).await);
        assert_eq!(client.connect(bearer(Version::V5, "c", "demo.wrong")).await, expected);
    }
    let mut good = Client::over(passed_on(&stack, &header([192, 0, 2, 3])).await);
    good.log_in(Version::V5, "good", &token).await;
}

#[tokio::test]
async fn without_a_header_the_load_balancer_is_not_served_and_with_one_nobody_else_is() {
    let stack = stack(|_| {}).await;
    let token = stack.didp.add_device("owner", "s1", "label1");
    let connect = mqtt_wire::Packet::Connect(bearer(Version::V5, "c", &token)).to_vec(Version::V5);
    for (source, bytes) in [
        (BALANCER, connect.clone()),
        (BALANCER, [b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(), connect.clone()].concat()),
        (SOMEBODY, [header([192, 0, 2, 1]), connect.clone()].concat()),
    ] {
        let mut stream = from(source, stack.mqtt).await;
        stream.write_all(&bytes).await.unwrap();
        assert_ended(stream).await;
    }
    assert!(stack.didp.facts().asked.is_empty(), "no token was looked at");
    let mut direct = Client::over(from(SOMEBODY, stack.mqtt).await);
    direct.log_in(Version::V5, "direct", &token).await;
}

#[tokio::test]
async fn the_http_listener_takes_the_header_too() {
    let stack = stack(|config| config.limits.failed_tokens_per_address = 1).await;
    let token = stack.didp.add_app("owner", "s1", json!([app_detail("label1", &["read"])]));
    let ask = async |header: &[u8], token: &str| {
        let mut stream = from(BALANCER, stack.http).await;
        stream.write_all(header).await.unwrap();
        let request = format!(
            "GET /v1/devices HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok())
    };
    assert_eq!(ask(&header([192, 0, 2, 1]), &token).await, Some(200));
    assert_eq!(ask(&header([192, 0, 2, 1]), "demo.wrong").await, Some(401));
    assert_eq!(ask(&header([192, 0, 2, 1]), "demo.wrong").await, Some(429));
    assert_eq!(ask(&header([192, 0, 2, 2]), "demo.wrong").await, Some(401));
    // From anybody else it is no HTTP.
    let mut stream = from(SOMEBODY, stack.http).await;
    stream.write_all(&header([192, 0, 2, 1])).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

/// The header comes before TLS, on listeners bound as the configuration says.
#[tokio::test]
async fn the_header_comes_before_tls_on_configured_listeners() {
    let files = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| files.path().join(name));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let stack = Stack::start().await;
    let listen = r#"
        [listen]
        mqtts = "127.0.0.1:0"
        proxies = ["127.0.0.2"]
        [tls]
    "#;
    let text = format!("{listen}\ncert = {cert:?}\nkey = {key:?}\n");
    let text = format!("{}{text}", common::toml(stack.dir.path(), &stack.didp));
    let (config, source) =
        service::config::parse::<ignite::Config>(std::path::Path::new("test.toml"), &text, |_| None).unwrap();
    config.validate(&source).unwrap();
    let listeners = Listeners::bind(&config).await.unwrap();
    let address = listeners.mqtt[0].local_addr().unwrap();
    tokio::spawn(ignite::run(config, listeners, stack.clock.clone(), stack.shutdown.clone()));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let trust = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(trust));
    let name = ServerName::try_from("localhost").unwrap();
    let token = stack.didp.add_device("owner", "s1", "label1");
    let mut stream = from(BALANCER, address).await;
    stream.write_all(&header([192, 0, 2, 1])).await.unwrap();
    let mut client = Client::over(connector.connect(name.clone(), stream).await.unwrap());
    client.log_in(Version::V5, "c", &token).await;
    let mut inside_out = from(SOMEBODY, address).await;
    inside_out.write_all(&header([192, 0, 2, 1])).await.unwrap();
    assert!(connector.connect(name, inside_out).await.is_err());
}
