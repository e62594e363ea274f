//! A thermostat between a factory and a DIdP that are pretended, over real sockets: flashing, pins, and a press.

#![allow(clippy::unwrap_used, reason = "what these expect is what they test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use device::{Phase, Settings, State, Thermostat};
use http::StatusCode;
use mqtt_wire::{ConnAck, Packet, Properties, Publish, QoS, ReasonCode, Version, frame_len};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use service::Shutdown;
use service::net::{Admission, Listener, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const DEADLINE: Duration = Duration::from_secs(20);

/// A certificate for `localhost` in two files, its TLS settings and its pin.
fn certificate(dir: &std::path::Path) -> (Arc<rustls::ServerConfig>, String) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(dir.join("tls.crt"), certificate.pem()).unwrap();
    std::fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    let config = service::tls::server_config(&dir.join("tls.crt"), &dir.join("tls.key")).unwrap();
    (config, service::tls::spki_sha256(certificate.der()).unwrap())
}

/// A DIdP that accepts one login, opens a window when it is asked, and counts the bytes that it got after the handshake.
async fn didp(tls: Arc<rustls::ServerConfig>, heard: Arc<AtomicUsize>, shutdown: &Shutdown) -> SocketAddr {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().with_tls(tls);
    let address = listener.local_addr().unwrap();
    let session = move |mut stream: Stream, _| {
        let heard = Arc::clone(&heard);
        async move {
            let (mut bytes, mut buffer) = (Vec::new(), [0; 1024]);
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                heard.fetch_add(n, Ordering::SeqCst);
                bytes.extend_from_slice(&buffer[..n]);
                while let Some(len) = frame_len(&bytes, 4096).unwrap().filter(|len| *len <= bytes.len()) {
                    let frame: Vec<u8> = bytes.drain(..len).collect();
                    let mut out = [0; 1024];
                    let answer = match Packet::decode(&frame, Version::V311).unwrap() {
                        Packet::Connect(connect) => {
                            assert_eq!(
                                (connect.username, connect.password),
                                (Some("the-id"), Some(&b"the-secret"[..]))
                            );
                            let (reason, properties) = (ReasonCode::SUCCESS, Properties::EMPTY);
                            Packet::ConnAck(ConnAck { session_present: false, reason, properties })
                        }
                        Packet::Publish(publish) => {
                            assert_eq!(publish.topic, "$oauth/claim");
                            Packet::Publish(Publish {
                                dup: false,
                                qos: QoS::AtMostOnce,
                                retain: false,
                                topic: "$oauth/claim/response",
                                packet_id: None,
                                properties: Properties::EMPTY,
                                payload: br#"{"status":"window_open","expires_in":120,"user_code":"0427"}"#,
                            })
                        }
                        _ => continue,
                    };
                    let len = answer.encode(Version::V311, &mut out).unwrap();
                    stream.write_all(&out[..len]).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
        }
    };
    tokio::spawn(service::net::accept(listener, Admission::new(8, 8), shutdown.clone(), session));
    address
}

fn registration(port: u16, pin: &str) -> Value {
    json!({"client_id": "the-id", "client_secret": "the-secret", "mqtt": {"host": "localhost", "port": port, "spki_sha256": [pin]}})
}

async fn until(thermostat: &Thermostat, wanted: impl FnMut(&State) -> bool) -> State {
    let mut state = thermostat.state();
    let seen = tokio::time::timeout(DEADLINE, state.wait_for(wanted)).await;
    seen.unwrap_or_else(|_| panic!("still {:?}", thermostat.state().borrow().phase)).unwrap().clone()
}

#[tokio::test]
async fn flashed_on_the_floor_it_waits_for_a_press_and_shows_the_code() {
    service::tls::install_provider();
    let (dir, shutdown) = (tempfile::tempdir().unwrap(), Shutdown::new());
    let (tls, pin) = certificate(dir.path());
    let didp = didp(tls, Arc::default(), &shutdown).await;

    // A factory that is not ready the first time, and that does not hear the first acknowledgement.
    let (asked, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, told) = (Arc::clone(&asked), Arc::clone(&done));
    let answer = registration(didp.port(), &pin);
    let floor = Router::new()
        .route(
            "/flash",
            post(async move |Json(body): Json<Value>| {
                assert_eq!(body["model"], "T1");
                let ready = count.fetch_add(1, Ordering::SeqCst) > 0;
                if ready { Ok(Json(answer)) } else { Err(StatusCode::SERVICE_UNAVAILABLE) }
            }),
        )
        .route(
            "/flash/done",
            post(async move || match told.fetch_add(1, Ordering::SeqCst) {
                0 => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::NO_CONTENT,
            }),
        );
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let factory = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(service::http::serve(listener, floor, Admission::new(8, 8), shutdown.clone()));

    let settings = Settings { factory: Some(factory), ..Settings::new(dir.path().join("thermostat-1")) };
    let thermostat = Thermostat::start(settings.clone());
    assert_eq!(thermostat.state().borrow().phase, Phase::Blank);
    until(&thermostat, |state| state.phase == Phase::Ready).await;
    thermostat.press();
    let state = until(&thermostat, |state| state.code.is_some()).await;
    assert_eq!((state.code.as_deref(), state.phase), (Some("0427"), Phase::Claimable));
    let mark = settings.dir.join("flash-unacknowledged");
    tokio::time::timeout(DEADLINE, async {
        while mark.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    thermostat.stop().await;

    // After a power cut it needs the factory no more.
    let asked_before = asked.load(Ordering::SeqCst);
    let again = Thermostat::start(settings);
    until(&again, |state| state.phase == Phase::Ready).await;
    assert_eq!(asked.load(Ordering::SeqCst), asked_before);
    again.stop().await;
    shutdown.begin();
}

/// Checklist 43: the device sends no credential before the server's certificate is checked.
#[tokio::test]
async fn a_server_with_another_key_gets_not_one_byte() {
    service::tls::install_provider();
    let (dir, shutdown) = (tempfile::tempdir().unwrap(), Shutdown::new());
    let (tls, _) = certificate(dir.path());
    let (_, other_pin) = certificate(dir.path());
    let heard = Arc::new(AtomicUsize::new(0));
    let didp = didp(tls, Arc::clone(&heard), &shutdown).await;
    let folder = dir.path().join("thermostat-1");
    device::credentials::install(&folder, &registration(didp.port(), &other_pin)).unwrap();
    let thermostat = Thermostat::start(Settings::new(folder));
    let state = until(&thermostat, |state| state.notice.is_some()).await;
    assert!(state.notice.unwrap().contains("certificate"));
    assert_eq!(heard.load(Ordering::SeqCst), 0);
    thermostat.stop().await;
    shutdown.begin();
}
