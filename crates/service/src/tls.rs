//! TLS settings from PEM files, and trust by pinned public keys.

use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::certificate::{self, FromFiles};

/// Makes ring the process's provider; call it once in `main`, before any TLS.
pub fn install_provider() {
    // A second call in one process (tests) finds the same provider already there.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default()
        .cloned()
        .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}

pub(crate) fn invalid(what: &str, file: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} {}: {error}", file.display()))
}

/// Certificates of a PEM file, in its order.
///
/// # Errors
/// Not readable, not PEM, or none in it.
pub fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|error| invalid("certificates in", file, error))?
        .collect();
    let found = found.map_err(|error| invalid("certificates in", file, error))?;
    if found.is_empty() { Err(invalid("certificates in", file, "none")) } else { Ok(found) }
}

/// Longest plaintext that a server of ours puts into one TLS record. A device has to hold a whole record before it can check it,
/// and rustls cannot negotiate the length (RFC 6066 §4); for everybody else it costs one byte in a hundred.
pub const MAX_FRAGMENT: usize = 2048;

/// Server settings from a certificate chain (leaf first; include the CA that clients pin) and its key. The files are read again
/// when they change (see [`FromFiles`]).
///
/// # Errors
/// A file that cannot be read or is not what it should be; the error names the file.
pub fn server_config(chain: &Path, key: &Path) -> io::Result<Arc<rustls::ServerConfig>> {
    server(chain, key, None)
}

/// [`server_config`] that also takes a client's certificate, if it sends one that the authorities of `clients` issued. Who needs one
/// asks [`Stream::is_proven`](crate::net::Stream::is_proven).
///
/// # Errors
/// As [`server_config`], and a file of authorities that holds no usable certificate.
pub fn mutual_server_config(
    chain: &Path,
    key: &Path,
    clients: &Path,
) -> io::Result<Arc<rustls::ServerConfig>> {
    server(chain, key, Some(clients))
}

fn server(chain: &Path, key: &Path, clients: Option<&Path>) -> io::Result<Arc<rustls::ServerConfig>> {
    let provider = provider();
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid("TLS for", chain, error))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let roots = Arc::new(authorities(file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| invalid("authorities of clients in", file, error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let resolver = FromFiles::open(chain, key, provider, certificate::LOOK)?;
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.max_fragment_size = Some(MAX_FRAGMENT);
    Ok(Arc::new(config))
}

fn authorities(file: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| invalid("authority in", file, error))?;
    }
    Ok(roots)
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo in base64 (RFC 7469 §2.4), as registration and token answers give it.
///
/// # Errors
/// The certificate cannot be parsed.
pub fn spki_sha256(certificate: &CertificateDer<'_>) -> io::Result<String> {
    pin_of(certificate)
        .map(|pin| STANDARD.encode(pin))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an X.509 certificate"))
}

fn pin_of(certificate: &[u8]) -> Option<[u8; 32]> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(crate::secret::sha256(parsed.tbs_certificate.subject_pki.raw))
}

/// Client settings that trust only pinned keys (see [`PinVerifier`]).
///
/// # Errors
/// A pin that is not 32 bytes in base64, or no pin at all.
pub fn pinned_client_config(pins: &[String]) -> io::Result<Arc<rustls::ClientConfig>> {
    let verifier = PinVerifier::new(pins)?;
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Client settings that trust the authorities of a PEM file.
///
/// # Errors
/// The file holds no usable certificate.
pub fn client_config(authorities: &Path) -> io::Result<Arc<rustls::ClientConfig>> {
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?
        .with_root_certificates(self::authorities(authorities)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Trusts a server whose own key is pinned, or whose certificate for the right name was issued by a pinned authority
/// that the server sent along.
#[derive(Debug)]
pub struct PinVerifier {
    pins: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl PinVerifier {
    /// From pins as [`spki_sha256`] gives them.
    ///
    /// # Errors
    /// A pin that is not 32 bytes in base64, or no pin at all.
    pub fn new(pins: &[String]) -> io::Result<Self> {
        let pins: Option<Vec<[u8; 32]>> =
            pins.iter().map(|pin| STANDARD.decode(pin).ok()?.try_into().ok()).collect();
        match pins {
            Some(pins) if !pins.is_empty() => Ok(Self { pins, provider: provider() }),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "pins must be base64 of 32 bytes, at least one",
            )),
        }
    }

    fn is_pinned(&self, certificate: &[u8]) -> bool {
        pin_of(certificate).is_some_and(|found| self.pins.contains(&found))
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.is_pinned(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority =
            intermediates.iter().find(|certificate| self.is_pinned(certificate)).ok_or_else(unknown)?;
        let anchor = webpki::anchor_from_trusted_cert(authority).map_err(|_| unknown())?;
        let leaf = webpki::EndEntityCert::try_from(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        leaf.verify_for_usage(
            self.provider.signature_verification_algorithms.all,
            &[anchor],
            intermediates,
            now,
            webpki::KeyUsage::server_auth(),
            None,
            None,
        )
        .map_err(|_| unknown())?;
        leaf.verify_is_valid_for_subject_name(server_name)
            .map_err(|_| Error::InvalidCertificate(CertificateError::NotValidForName))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    struct Authority {
        der: CertificateDer<'static>,
        issuer: Issuer<'static, KeyPair>,
    }

    fn authority() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().clone();
        Authority { der, issuer: Issuer::new(params, key) }
    }

    fn leaf(authority: &Authority, name: &str) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.signed_by(&key, &authority.issuer).unwrap().der().clone()
    }

    fn verify(
        pin: &CertificateDer<'_>,
        leaf: &CertificateDer<'_>,
        sent: &[CertificateDer<'_>],
        name: &str,
    ) -> bool {
        let verifier = PinVerifier::new(&[spki_sha256(pin).unwrap()]).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(leaf, sent, &name, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn a_pinned_authority_vouches_for_the_right_name_only() {
        let ours = authority();
        let certificate = leaf(&ours, "didp.localhost");
        let sent = [ours.der.clone()];
        assert!(verify(&ours.der, &certificate, &sent, "didp.localhost"));
        assert!(!verify(&ours.der, &certificate, &sent, "ignite.localhost"));
        assert!(!verify(&ours.der, &certificate, &[], "didp.localhost"), "the authority was not sent");
    }

    #[test]
    fn sending_a_pinned_authority_along_does_not_help_a_foreign_leaf() {
        let (ours, theirs) = (authority(), authority());
        let foreign = leaf(&theirs, "didp.localhost");
        assert!(!verify(&ours.der, &foreign, &[theirs.der.clone(), ours.der.clone()], "didp.localhost"));
    }

    #[test]
    fn a_pinned_leaf_is_enough() {
        let certificate = leaf(&authority(), "didp.localhost");
        assert!(verify(&certificate, &certificate, &[], "didp.localhost"));
    }

    #[test]
    fn pins_must_be_pins() {
        assert!(PinVerifier::new(&[]).is_err());
        assert!(PinVerifier::new(&["c2hvcnQ=".to_owned()]).is_err());
    }
}
