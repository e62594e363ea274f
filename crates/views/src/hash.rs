//! The keyed hash that stands in for a field's value.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Bytes of a hash that are shown.
const SHOWN: usize = 16;

/// A grant's own key: the same value has another hash for another app, so that two apps cannot compare.
#[derive(Clone, PartialEq, Eq)]
pub struct HashKey([u8; 32]);

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HashKey").finish_non_exhaustive()
    }
}

impl HashKey {
    /// A key of these bytes.
    pub const fn new(bytes: [u8; 32]) -> HashKey {
        HashKey(bytes)
    }

    /// Reads a key as the control channel writes it: 32 bytes, base64url without padding.
    pub fn parse(text: &str) -> Option<HashKey> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(HashKey)
    }

    /// The first 16 bytes of HMAC-SHA256, base64url without padding: 22 characters.
    pub fn hash(&self, value: &[u8]) -> String {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.0).expect("a key of any length is fine");
        mac.update(value);
        let tag = mac.finalize().into_bytes();
        URL_SAFE_NO_PAD.encode(tag.get(..SHOWN).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::HashKey;

    #[test]
    fn a_key_is_32_bytes_of_base64url() {
        let text = "A".repeat(43);
        assert!(HashKey::parse(&text) == Some(HashKey::new([0; 32])));
        for wrong in ["", "AAAA", &"A".repeat(44), &format!("{}=", &text), &text.replace('A', "+")] {
            assert!(HashKey::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn each_key_has_its_own_hashes() {
        let (one, other) = (HashKey::new([1; 32]), HashKey::new([2; 32]));
        assert_eq!(one.hash(b"\"card\"").len(), 22);
        assert_eq!(one.hash(b"\"card\""), one.hash(b"\"card\""));
        assert_ne!(one.hash(b"\"card\""), other.hash(b"\"card\""));
        assert!(!format!("{one:?}").contains('1'));
    }
}
