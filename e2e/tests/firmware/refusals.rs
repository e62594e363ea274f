//! Servers that are not the right one: they hear a greeting and nothing else.

use std::path::Path;
use std::sync::Arc;

use anyhow::ensure;
use e2e::emulator::{self, Board};
use e2e::wire;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use testkit::setup::Setup;
use testkit::stack::Stack;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::program;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_certificate_hears_nothing() -> anyhow::Result<()> {
    let Some(program) = program("thermostat") else { return Ok(()) };
    service::tls::install_provider();
    let stack = Stack::start().await?;
    // As good as ours in everything but who made it.
    let dir = tempfile::tempdir()?;
    let other = Setup::new(dir.path(), "localhost").write()?;
    let config = service::tls::server_config(&other.path("didp/tls.crt"), &other.path("didp/tls.key"))?;
    hears_nothing(&program, &stack, config).await?;
    stack.stop().await
}

/// It holds the right key, even, and does all of the handshake well, but for the certificate, of which it sends none.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_certificate_hears_nothing() -> anyhow::Result<()> {
    let Some(program) = program("thermostat") else { return Ok(()) };
    service::tls::install_provider();
    let stack = Stack::start().await?;
    let key = PrivateKeyDer::from_pem_file(stack.deployment().secrets.path("didp/tls.key"))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key)?;
    let nothing = Arc::new(SingleCertAndKey::from(CertifiedKey::new(Vec::new(), key)));
    let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_cert_resolver(nothing);
    config.max_fragment_size = Some(2048);
    hears_nothing(&program, &stack, Arc::new(config)).await?;
    stack.stop().await
}

/// A board whose DIdP is a server with this configuration says nothing but greetings and alerts.
async fn hears_nothing(program: &Path, stack: &Stack, config: Arc<ServerConfig>) -> anyhow::Result<()> {
    let device = stack.device().await?;
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let impostor = tokio::spawn(async move {
        let mut heard = Vec::new();
        // Until the test has seen enough.
        while let Ok((socket, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(socket).await {
                let _ = stream.read_to_end(&mut heard).await;
                break;
            }
        }
        heard
    });
    let mut record = emulator::record(&device)?;
    record.didp.port = port;
    let mut board = Board::new(program, &record)?;
    board.switch_on()?;
    board.hear("phase searching untrusted").await?;
    board.press().await?;
    board.hear("phase searching").await?;
    board.hear("phase searching untrusted").await?;
    let wire = board.wire()?;
    board.cut_power().await?;
    ensure!(!impostor.is_finished(), "a handshake with the impostor came to its end");
    impostor.abort();

    let records = wire::records(&wire, port);
    ensure!(records.iter().any(|(kind, _)| *kind == HANDSHAKE), "{records:?}: the board never called");
    ensure!(
        records.iter().all(|(kind, _)| matches!(*kind, ALERT | HANDSHAKE)),
        "{records:?}: something was sent"
    );
    let sent: Vec<u8> = wire
        .iter()
        .filter(|segment| segment.from_board)
        .flat_map(|segment| segment.payload.clone())
        .collect();
    for secret in [&device.client_id, &device.client_secret] {
        ensure!(
            !sent.windows(secret.len()).any(|part| part == secret.as_bytes()),
            "a credential in the clear"
        );
    }
    Ok(())
}
