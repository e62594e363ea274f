//! A server's certificate that is read again when its files change, so that a renewal needs no restart.
//!
//! There is no watcher and no signal: a handshake that finds the last look too long ago looks at the files' size, time and
//! inode. Connections that are open keep what they have. Whatever cannot be used leaves the certificate before it in force, and
//! is said in the log at each look until it is mended.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::tls::{certificates, invalid};

/// Least time between two looks at the files.
pub const LOOK: Duration = Duration::from_secs(10);

/// Serves the certificate of two PEM files, as they are now.
#[derive(Debug)]
pub struct FromFiles {
    chain: PathBuf,
    key: PathBuf,
    every: Duration,
    provider: Arc<CryptoProvider>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    served: Arc<CertifiedKey>,
    seen: Seen,
    looked: Instant,
}

/// What tells one version of the two files from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen([(u64, u64, i64, i64); 2]);

impl Seen {
    fn of(chain: &Path, key: &Path) -> io::Result<Self> {
        let facts = |of: Metadata| (of.ino(), of.len(), of.mtime(), of.mtime_nsec());
        Ok(Self([facts(std::fs::metadata(chain)?), facts(std::fs::metadata(key)?)]))
    }
}

impl FromFiles {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// A file that cannot be read or is not what it should be; the error names the file.
    pub fn open(
        chain: &Path,
        key: &Path,
        provider: Arc<CryptoProvider>,
        every: Duration,
    ) -> io::Result<Self> {
        // Looked at before it is read: a change in between is found at the next look.
        let seen = Seen::of(chain, key).map_err(|error| invalid("certificate or key of", chain, error))?;
        let served = Arc::new(read(chain, key, &provider)?);
        let state = Mutex::new(State { served, seen, looked: Instant::now() });
        Ok(Self { chain: chain.to_owned(), key: key.to_owned(), every, provider, state })
    }

    /// What to serve at `now`.
    fn current(&self, now: Instant) -> Arc<CertifiedKey> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if now.duration_since(state.looked) >= self.every {
            state.looked = now;
            match self.changed(state.seen) {
                Ok(None) => {}
                Ok(Some((seen, served))) => {
                    state.seen = seen;
                    state.served = served;
                    tracing::info!(event = "certificate_renewed", file = %self.chain.display());
                }
                Err(error) => tracing::error!(event = "certificate_not_renewed", %error),
            }
        }
        Arc::clone(&state.served)
    }

    fn changed(&self, before: Seen) -> io::Result<Option<(Seen, Arc<CertifiedKey>)>> {
        let seen = Seen::of(&self.chain, &self.key)
            .map_err(|error| invalid("certificate or key of", &self.chain, error))?;
        if seen == before {
            return Ok(None);
        }
        Ok(Some((seen, Arc::new(read(&self.chain, &self.key, &self.provider)?))))
    }
}

impl ResolvesServerCert for FromFiles {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current(Instant::now()))
    }
}

/// The key pair of two files. A key of another certificate is refused: a renewal that is half done must not be served.
fn read(chain: &Path, key: &Path, provider: &CryptoProvider) -> io::Result<CertifiedKey> {
    let certificates = certificates(chain)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| invalid("private key", key, error))?;
    CertifiedKey::from_der(certificates, private, provider)
        .map_err(|error| invalid("key pair of", chain, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(dir: &Path, key_of_another: bool) -> Vec<u8> {
        let made = rcgen::generate_simple_self_signed(vec!["didp.localhost".to_owned()]).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let key = if key_of_another { other.serialize_pem() } else { made.signing_key.serialize_pem() };
        // As renewing programs do it: a new file takes the old one's place.
        for (name, text) in [("tls.crt", made.cert.pem()), ("tls.key", key)] {
            let new = dir.join(format!("{name}.new"));
            fs::write(&new, text).unwrap();
            fs::rename(new, dir.join(name)).unwrap();
        }
        made.cert.der().to_vec()
    }

    fn served(from: &FromFiles, at: Instant) -> Vec<u8> {
        from.current(at).cert[0].to_vec()
    }

    #[test]
    fn a_renewed_certificate_is_served_and_a_bad_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let first = write(dir.path(), false);
        let (chain, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let from = FromFiles::open(&chain, &key, provider, LOOK).unwrap();
        let start = Instant::now();

        let second = write(dir.path(), false);
        assert_eq!(served(&from, start), first, "looked too early");
        assert_eq!(served(&from, start + LOOK), second);

        write(dir.path(), true);
        assert_eq!(served(&from, start + LOOK * 2), second, "a key of another certificate was taken");
        fs::write(&chain, "no certificate").unwrap();
        assert_eq!(served(&from, start + LOOK * 3), second);
        fs::remove_file(&chain).unwrap();
        assert_eq!(served(&from, start + LOOK * 4), second);

        let last = write(dir.path(), false);
        assert_eq!(served(&from, start + LOOK * 5), last);
    }
}
