//! Against TLS servers that are not ours (rustls): who is trusted, and that nothing is said to anybody else.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a panic is a failed test")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use device_client::{Closed, Millis, Record, Server, Status};
use device_link::{Board, Event, Link, Lost, Records};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

/// A board that is this machine.
struct Host {
    since: Instant,
    socket: Option<TcpStream>,
    sent: Vec<u8>,
}

impl Host {
    fn new() -> Self {
        Self { since: Instant::now(), socket: None, sent: Vec::new() }
    }
}

impl Board for Host {
    fn now(&mut self) -> Millis {
        self.since.elapsed().as_millis() as Millis
    }

    fn random(&mut self, out: &mut [u8]) {
        rand::fill(out);
    }

    fn dial(&mut self, _: &str, port: u16, _: Millis) -> Result<(), Lost> {
        let socket = TcpStream::connect(("127.0.0.1", port)).map_err(|_| Lost)?;
        socket.set_read_timeout(Some(Duration::from_secs(10))).map_err(|_| Lost)?;
        self.socket = Some(socket);
        Ok(())
    }

    fn is_readable(&mut self) -> bool {
        let Some(socket) = &self.socket else { return false };
        socket.set_nonblocking(true).unwrap();
        let readable =
            !matches!(socket.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        socket.set_nonblocking(false).unwrap();
        readable
    }

    fn read(&mut self, out: &mut [u8], _: Millis) -> Result<usize, Lost> {
        let read = self.socket.as_mut().ok_or(Lost)?.read(out).map_err(|_| Lost)?;
        if read == 0 { Err(Lost) } else { Ok(read) }
    }

    fn write(&mut self, bytes: &[u8], _: Millis) -> Result<usize, Lost> {
        let written = self.socket.as_mut().ok_or(Lost)?.write(bytes).map_err(|_| Lost)?;
        self.sent.extend_from_slice(&bytes[..written]);
        Ok(written)
    }

    fn hang_up(&mut self) {
        self.socket = None;
    }

    fn wait(&mut self, _: Option<Millis>, _: bool) -> Event<'_> {
        Event::Time
    }

    fn store(&mut self, _: &Record) -> bool {
        true
    }

    fn command(&mut self, _: &str, _: &[u8]) {}

    fn delta(&mut self, _: &[u8]) {}

    fn show(&mut self, _: &Status) {}
}

struct Authority {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn authority_with(change: impl FnOnce(&mut CertificateParams)) -> Authority {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    change(&mut params);
    let der = params.self_signed(&key).unwrap().der().clone();
    Authority { der, issuer: Issuer::new(params, key) }
}

fn authority() -> Authority {
    authority_with(|_| {})
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

fn leaf_with(authority: &Authority, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    change(&mut params);
    let der = params.signed_by(&key, &authority.issuer).unwrap().der().clone();
    Identity { chain: vec![der, authority.der.clone()], key }
}

fn leaf(authority: &Authority, name: &str) -> Identity {
    leaf_with(authority, name, |_| {})
}

/// A server that answers one line with itself; what it decrypted comes back when it has ended.
fn serve(identity: Identity) -> (u16, JoinHandle<Vec<u8>>) {
    serve_pieces(identity, 2048)
}

fn serve_pieces(identity: Identity, fragment: usize) -> (u16, JoinHandle<Vec<u8>>) {
    service::tls::install_provider();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
    // Not `with_single_cert`, which wants at least one certificate.
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let identity = SingleCertAndKey::from(CertifiedKey::new(identity.chain, key));
    let mut config = rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(identity));
    config.max_fragment_size = Some(fragment);
    let config = Arc::new(config);
    let task = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut stream = rustls::StreamOwned::new(rustls::ServerConnection::new(config).unwrap(), socket);
        let mut heard = Vec::new();
        let mut buffer = [0; 512];
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            heard.extend_from_slice(&buffer[..read]);
            if stream.write_all(&buffer[..read]).and_then(|()| stream.flush()).is_err() {
                break;
            }
        }
        heard
    });
    (port, task)
}

fn server(port: u16, pin: &CertificateDer<'_>) -> Server {
    let mut server = Server::new("didp.example", port).unwrap();
    let pin = device_client::text::base64_decode32(&service::tls::spki_sha256(pin).unwrap()).unwrap();
    assert!(server.pin(pin));
    server
}

/// Opens, exchanges a line, closes; what the server heard.
fn talk(identity: Identity, pin: &CertificateDer<'_>, records: &mut Records) -> Result<Vec<u8>, Closed> {
    let (port, task) = serve(identity);
    let mut host = Host::new();
    let link = Link::new(&mut host);
    let opened = link.open(&server(port, pin), records);
    let talked = opened.map(|mut open| {
        assert_eq!(open.send(b"hello"), Ok(5));
        let mut answer = Vec::new();
        while answer.len() < 5 {
            while !link.board().is_readable() {}
            open.fill().unwrap();
            open.offer(|bytes| {
                answer.extend_from_slice(bytes);
                bytes.len()
            })
            .unwrap();
        }
        assert_eq!(answer, b"hello");
        open.close();
    });
    host.socket = None;
    let heard = task.join().unwrap();
    if talked.is_err() {
        assert!(heard.is_empty());
        // One ClientHello in the clear, and at most an alert: no record that could hold anything else.
        let mut rest = &host.sent[..];
        while let [kind, _, _, high, low, after @ ..] = rest {
            assert!(matches!(kind, 21 | 22), "a record of type {kind} went out");
            rest = &after[usize::from(u16::from_be_bytes([*high, *low]))..];
        }
    }
    talked.map(|()| heard)
}

fn once(identity: Identity, pin: &CertificateDer<'_>) -> Result<Vec<u8>, Closed> {
    talk(identity, pin, &mut Records::new())
}

#[test]
fn a_pinned_authority_vouches_for_the_right_name() {
    let ours = authority();
    let pin = ours.der.clone();
    assert_eq!(once(leaf(&ours, "didp.example"), &pin), Ok(b"hello".to_vec()));
    assert_eq!(once(leaf(&ours, "ignite.example"), &pin), Err(Closed::Untrusted));
}

#[test]
fn a_pinned_key_is_enough_whatever_it_is_called() {
    let identity = leaf(&authority(), "elsewhere.example");
    let pin = identity.chain[0].clone();
    assert_eq!(once(identity, &pin), Ok(b"hello".to_vec()));
}

#[test]
fn somebody_elses_certificate_gets_nothing() {
    let (ours, theirs) = (authority(), authority());
    assert_eq!(once(leaf(&theirs, "didp.example"), &ours.der), Err(Closed::Untrusted));
    // Sending the pinned authority along does not help.
    let mut foreign = leaf(&theirs, "didp.example");
    foreign.chain.push(ours.der.clone());
    assert_eq!(once(foreign, &ours.der), Err(Closed::Untrusted));
    // Nor does it to have been issued by something that only a server may use.
    let server = leaf(&ours, "didp.example");
    let issuer = Issuer::new(CertificateParams::new(vec!["didp.example".to_owned()]).unwrap(), server.key);
    let below = leaf(&Authority { der: server.chain[0].clone(), issuer }, "didp.example");
    assert_eq!(once(below, &server.chain[0]), Err(Closed::Untrusted));
}

#[test]
fn an_authority_must_be_one_and_a_server_too() {
    for change in [
        (|params: &mut CertificateParams| params.is_ca = IsCa::NoCa) as fn(&mut CertificateParams),
        |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature],
    ] {
        let weak = authority_with(change);
        assert_eq!(once(leaf(&weak, "didp.example"), &weak.der), Err(Closed::Untrusted));
    }
    let ours = authority();
    let client = leaf_with(&ours, "didp.example", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_eq!(once(client, &ours.der), Err(Closed::Untrusted));
}

#[test]
fn a_certificate_that_was_found_good_is_remembered_as_long_as_its_authority_is_pinned() {
    let (ours, theirs) = (authority(), authority());
    let mut records = Records::new();
    let identity = leaf(&ours, "didp.example");
    let again = || Identity {
        // Without the authority: what is remembered is what counts.
        chain: vec![identity.chain[0].clone()],
        key: KeyPair::try_from(identity.key.serialize_der()).unwrap(),
    };
    assert_eq!(talk(again(), &ours.der, &mut records), Err(Closed::Untrusted));
    let whole = Identity { chain: identity.chain.clone(), ..again() };
    assert!(talk(whole, &ours.der, &mut records).is_ok());
    assert!(talk(again(), &ours.der, &mut records).is_ok());
    assert_eq!(
        talk(again(), &theirs.der, &mut records),
        Err(Closed::Untrusted),
        "another authority is pinned now"
    );
}

#[test]
fn a_server_that_sends_an_empty_list_of_certificates_is_not_trusted() {
    let ours = authority();
    let mut identity = leaf(&ours, "didp.example");
    identity.chain.clear();
    assert_eq!(once(identity, &ours.der), Err(Closed::Untrusted));
}

#[test]
fn a_server_that_says_nothing_sensible_is_lost() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        &[22, 3, 3, 0, 4, 2, 0, 0, 0],
        &[23, 3, 3, 0, 16],
        &[21, 3, 3, 0, 2, 2, 40],
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = answer.to_vec();
        let task = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let _ = socket.read(&mut [0; 512]);
            let _ = socket.write_all(&answer);
        });
        let mut host = Host::new();
        let ours = authority();
        let opened = Link::new(&mut host).open(&server(port, &ours.der), &mut Records::new()).map(|_| ());
        assert_eq!(opened, Err(Closed::Lost));
        task.join().unwrap();
    }
}
