//! Bounded text and binary-to-text, without a heap: [`Text`], base64 (RFC 4648) both ways.
//!
//! What the text means is left to its owner; so is keeping secrets out of `Debug` output.

use core::fmt;

/// UTF-8 text of at most `N` bytes (`N` ≤ 65,535), kept in place.
#[derive(Clone)]
pub struct Text<const N: usize> {
    len: u16,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// The empty text.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; N] };

    /// `text`, or `None` if it is longer than `N` bytes.
    pub fn new(text: &str) -> Option<Self> {
        let mut new = Self::EMPTY;
        new.set(text).then_some(new)
    }

    /// Replaces the content; false, and nothing changes, if `text` is too long.
    #[must_use]
    pub fn set(&mut self, text: &str) -> bool {
        if text.len() > N {
            return false;
        }
        self.clear();
        self.push(text)
    }

    /// Appends; false, and nothing changes, if it would be too long.
    #[must_use]
    pub fn push(&mut self, text: &str) -> bool {
        let start = usize::from(self.len);
        let Some(target) = self.bytes.get_mut(start..start.saturating_add(text.len())) else { return false };
        target.copy_from_slice(text.as_bytes());
        self.len = (start + text.len()) as u16;
        true
    }

    /// Makes it empty and overwrites what was there.
    pub fn clear(&mut self) {
        self.bytes.fill(0);
        self.len = 0;
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Only whole `&str`s were ever copied in, so this never falls back.
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    /// The text's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// True if there is no text.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> PartialEq for Text<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<const N: usize> Eq for Text<N> {}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// 32 bytes as 43 characters of base64url without padding (RFC 4648 §5): a PKCE verifier or challenge.
pub fn base64url(bytes: &[u8; 32]) -> Text<43> {
    let mut out = Text::<43>::EMPTY;
    let (mut bits, mut held) = (0u32, 0u32);
    let mut place = 0;
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        held += 8;
        while held >= 6 {
            held -= 6;
            out.bytes[place] = ALPHABET[(bits >> held & 63) as usize];
            place += 1;
        }
    }
    // 256 = 42 × 6 + 4: the last character carries four bits.
    out.bytes[place] = ALPHABET[(bits << (6 - held) & 63) as usize];
    out.len = 43;
    out
}

/// 32 bytes from base64 or base64url, padded or not; `None` for anything else.
pub fn base64_decode32(text: &str) -> Option<[u8; 32]> {
    let text = text.trim_end_matches('=').as_bytes();
    if text.len() != 43 {
        return None;
    }
    let mut out = [0u8; 32];
    let (mut bits, mut held, mut place) = (0u32, 0u32, 0usize);
    for &c in text {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            *out.get_mut(place)? = (bits >> held) as u8;
            place += 1;
        }
    }
    // The two bits that are left over must be zero, so that there is one spelling only.
    (bits & 3 == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_keeps_within_its_bounds() {
        let mut text = Text::<4>::new("ab").unwrap();
        assert!(text.push("cd") && !text.push("e"));
        assert_eq!(text.as_str(), "abcd");
        assert!(!text.set("abcde") && text.set("é"));
        assert_eq!(text.as_str(), "é");
    }

    #[test]
    fn the_verifier_of_rfc_7636_appendix_b() {
        let octets = [
            116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186, 22, 212, 37, 77, 105,
            214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121,
        ];
        assert_eq!(base64url(&octets).as_str(), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    }

    proptest! {
        #[test]
        fn base64_round_trip(bytes: [u8; 32]) {
            let text = base64url(&bytes);
            prop_assert_eq!(base64_decode32(text.as_str()), Some(bytes));
            let standard = text.as_str().replace('-', "+").replace('_', "/") + "=";
            prop_assert_eq!(base64_decode32(&standard), Some(bytes));
        }

        #[test]
        fn base64_of_anything_does_not_panic(text: String) {
            let _ = base64_decode32(&text);
        }
    }
}
