//! Random values, keyed hashes and comparisons that take the same time whatever they find.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use rand::TryRngCore as _;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// `N` bytes from the operating system's generator.
///
/// # Panics
/// If the operating system has no random bytes; going on without them would be worse.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).expect("the operating system must give random bytes");
    bytes
}

/// `N` random bytes as base64url without padding.
pub fn random_token<const N: usize>() -> String {
    let bytes = Zeroizing::new(random_bytes::<N>());
    encode(bytes.as_slice())
}

/// base64url without padding (RFC 4648 §5).
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads base64url without padding; `None` if it is not.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Compares in constant time; lengths may be told.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    Sha256::digest(bytes).into()
}

/// A 256-bit key, wiped when dropped, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// A key from its bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new random key.
    pub fn random() -> Self {
        Self(random_bytes())
    }

    /// Reads a key file: 43 base64url characters, white space around them allowed.
    ///
    /// # Errors
    /// The file cannot be read or holds something else.
    pub fn read(file: &Path) -> io::Result<Self> {
        let text = read_secret(file)?;
        let bytes = decode(&text).map(Zeroizing::new);
        let bytes: [u8; 32] = bytes
            .and_then(|bytes| bytes.as_slice().try_into().ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a 256-bit key in base64url"))?;
        Ok(Self(bytes))
    }

    /// The key as a key file holds it.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(encode(self.0))
    }

    /// HMAC-SHA256 (RFC 2104) over the concatenation of `parts`. Separate variable parts with a byte that they cannot hold.
    pub fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// A key that nobody has who lacks this key or `share`: HKDF-SHA256 (RFC 5869) without a salt, of both as input keying
    /// material, for one purpose.
    pub fn with_share(&self, share: &[u8], purpose: &str) -> Self {
        hkdf(&[&self.0, share], purpose)
    }

    /// A key for one purpose, derived with HKDF-Expand of one block (RFC 5869 §2.3); this key must be uniformly random.
    pub fn derive(&self, purpose: &str) -> Self {
        Self(self.hmac(&[purpose.as_bytes(), &[1]]))
    }
}

/// The first block of HKDF-SHA256 without a salt (RFC 5869 §2.2, §2.3).
fn hkdf(input: &[&[u8]], purpose: &str) -> Key {
    Key(Key([0; 32]).hmac(input)).derive(purpose)
}

/// Reads a secret file as text without white space around it.
///
/// # Errors
/// The file cannot be read, is empty or is longer than 4 kB.
pub fn read_secret(file: &Path) -> io::Result<Zeroizing<String>> {
    let text = Zeroizing::new(std::fs::read_to_string(file)?);
    let trimmed = text.trim();
    if trimmed.is_empty() || trimmed.len() > 4096 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "empty or too long for a secret"));
    }
    Ok(Zeroizing::new(trimmed.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_of_rfc_4231_case_2() {
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        // A shorter key is padded with zeros (RFC 2104 §2), so "Jefe" and its padded form give the same code.
        let code = Key::new(key).hmac(&[b"what do ya want ", b"for nothing?"]);
        assert_eq!(code[..4], [0x5b, 0xdc, 0xc1, 0x46]);
        assert_eq!(code[28..], [0x64, 0xec, 0x38, 0x43]);
    }

    #[test]
    fn hkdf_of_rfc_5869_case_3() {
        let key = hkdf(&[&[0x0b; 20], &[0x0b; 2]], "");
        assert_eq!(key.0[..4], [0x8d, 0xa4, 0xe7, 0x75]);
        assert_eq!(key.0[28..], [0x3c, 0x73, 0x8d, 0x2d]);
        let one = Key([1; 32]);
        assert_ne!(one.with_share(b"a", "x").0, one.with_share(b"b", "x").0);
        assert_ne!(one.with_share(b"a", "x").0, one.with_share(b"a", "y").0);
    }

    #[test]
    fn a_key_file_is_read_back_and_a_short_one_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let key = Key::random();
        std::fs::write(file.path(), format!("{}\n", *key.to_text())).unwrap();
        assert_eq!(Key::read(file.path()).unwrap().hmac(&[b"x"]), key.hmac(&[b"x"]));
        std::fs::write(file.path(), "c2hvcnQ").unwrap();
        assert!(Key::read(file.path()).is_err());
    }

    #[test]
    fn a_key_never_prints_itself() {
        assert_eq!(format!("{:?}", Key::random()), "Key(…)");
    }

    #[test]
    fn tokens_differ_and_have_their_length() {
        let (a, b) = (random_token::<32>(), random_token::<32>());
        assert_ne!(a, b);
        assert_eq!(a.len(), 43);
    }
}
