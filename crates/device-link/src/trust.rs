//! Whether a TLS server is the one that the pins mean (design §5): asked once in each handshake.
//!
//! A server is trusted if its own key is pinned, or if an authority whose key is pinned, and which the server sent along,
//! issued its certificate for the right name; and if it then proves by its signature that it holds the key. The same rules as
//! `service::tls::PinVerifier`, except that the pinned authority must be the issuer itself.

use device_client::Server;
use embedded_tls::blocking::{
    Aes128GcmSha256, CertificateEntryRef, CertificateRef, CertificateVerifyRef, TlsVerifier,
};
use embedded_tls::{SignatureScheme, TlsError};
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::certificate::Certificate;
use crate::signature;

/// What a server's signature covers before the transcript's hash (RFC 8446 §4.4.3).
const CONTEXT: &[u8; 34] = b"TLS 1.3, server CertificateVerify\0";

/// How far a handshake has come.
enum Stage {
    Nothing,
    /// A trusted certificate was shown; its key has to sign the transcript.
    Shown {
        key: VerifyingKey,
        transcript: Sha256,
    },
    Proved,
    Refused,
}

/// A certificate that a pinned authority was found to have issued for a host.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// SHA-256 of host and certificate.
    what: [u8; 32],
    authority: [u8; 32],
}

/// Certificates that were found good since the power came: checking one again is a quarter of a second of arithmetic on this chip. It has two
/// servers, so there is room for two.
#[derive(Default)]
pub struct Known {
    seen: [Seen; 2],
    next: usize,
}

impl Known {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { seen: [Seen { what: [0; 32], authority: [0; 32] }; 2], next: 0 }
    }

    /// The pin of the authority is asked for each time: pins change.
    fn holds(&self, what: &[u8; 32], server: &Server) -> bool {
        self.seen.iter().any(|seen| seen.what == *what && server.pins().contains(&seen.authority))
    }

    fn add(&mut self, what: [u8; 32], authority: [u8; 32]) {
        self.seen[self.next] = Seen { what, authority };
        self.next = (self.next + 1) % self.seen.len();
    }
}

/// The judgement about one handshake.
pub struct Trust<'s> {
    server: &'s Server,
    known: &'s mut Known,
    stage: Stage,
}

impl<'s> Trust<'s> {
    /// Nothing is known yet about who claims to be `server`, except what `known` remembers.
    #[must_use]
    pub fn new(server: &'s Server, known: &'s mut Known) -> Self {
        Self { server, known, stage: Stage::Nothing }
    }

    /// True once a trusted certificate was shown and its key has signed. A handshake can be brought to its end without
    /// either, so this must be asked before anything is sent.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        matches!(self.stage, Stage::Proved)
    }

    /// True if a certificate or a signature was not what it should be.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self.stage, Stage::Refused)
    }

    fn is_pinned(&self, certificate: &Certificate<'_>) -> bool {
        self.server.pins().contains(&certificate.pin())
    }

    /// The key of the chain's first certificate, if the chain is one to trust.
    #[must_use]
    pub fn key_of<'c>(&mut self, mut chain: impl Iterator<Item = &'c [u8]>) -> Option<VerifyingKey> {
        let der = chain.next()?;
        let leaf = Certificate::parse(der).ok()?;
        if !self.is_pinned(&leaf) {
            let host = self.server.host.as_str();
            let what = Sha256::new().chain_update(host).chain_update([0]).chain_update(der).finalize().into();
            if !self.known.holds(&what, self.server) {
                if !leaf.is_for(host) {
                    return None;
                }
                // What cannot be read cannot be the pinned authority.
                let mut authorities = chain.filter_map(|der| Certificate::parse(der).ok());
                let issuer = authorities
                    .find(|authority| self.is_pinned(authority) && leaf.is_issued_by(authority))?;
                self.known.add(what, issuer.pin());
            }
        }
        leaf.key().ok()
    }
}

impl TlsVerifier<Aes128GcmSha256> for Trust<'_> {
    fn set_hostname_verification(&mut self, _: &str) -> Result<(), TlsError> {
        Ok(())
    }

    fn verify_certificate(&mut self, transcript: &Sha256, chain: CertificateRef<'_>) -> Result<(), TlsError> {
        let key = match self.stage {
            Stage::Nothing => self.key_of(chain.entries.iter().map(|entry| match entry {
                CertificateEntryRef::X509(der) | CertificateEntryRef::RawPublicKey(der) => *der,
            })),
            Stage::Shown { .. } | Stage::Proved | Stage::Refused => None,
        };
        let Some(key) = key else {
            self.stage = Stage::Refused;
            return Err(TlsError::InvalidCertificate);
        };
        self.stage = Stage::Shown { key, transcript: transcript.clone() };
        Ok(())
    }

    fn verify_signature(&mut self, proof: CertificateVerifyRef<'_>) -> Result<(), TlsError> {
        let Stage::Shown { key, transcript } = core::mem::replace(&mut self.stage, Stage::Refused) else {
            return Err(TlsError::InvalidSignature);
        };
        let mut message = [b' '; 64 + CONTEXT.len() + 32];
        message[64..64 + CONTEXT.len()].copy_from_slice(CONTEXT);
        message[64 + CONTEXT.len()..].copy_from_slice(&transcript.finalize());
        let signed = proof.signature_scheme == SignatureScheme::EcdsaSecp256r1Sha256
            && Signature::from_der(proof.signature)
                .is_ok_and(|signature| signature::holds(&key, &message, &signature));
        if !signed {
            return Err(TlsError::InvalidSignature);
        }
        self.stage = Stage::Proved;
        Ok(())
    }
}
