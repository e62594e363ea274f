//! The forms in which a mark may lie somewhere: as it is, encoded, or hashed without a key.
//!
//! A value that is base64url itself (identifiers, secrets, tokens) is looked for as text and as the bytes that it stands for. Of a hash
//! the first eight bytes are enough, so that a shortened one is found too. Keyed hashes are no forms: they are what is promised.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Bytes of a hash that are looked for.
const HASH_PREFIX: usize = 8;

/// Shorter patterns are found by chance.
const SHORTEST: usize = 7;

/// Longest pattern; of a longer one its beginning is looked for.
pub const LONGEST: usize = 96;

/// What was done to a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Digest {
    /// Nothing: the mark itself.
    None,
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// How bytes are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// As they are.
    Plain,
    /// Two bytes a character, as JavaScript engines keep some strings.
    Utf16,
    /// Base64, in a longer text at any alignment, in either alphabet.
    Base64,
    /// Two digits a byte.
    Hex,
    /// Percent-encoding (RFC 3986 §2.1), or a form's (`+` for a space).
    Url,
}

/// One form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Form {
    /// Hash before encoding.
    pub digest: Digest,
    /// Encoding.
    pub encoding: Encoding,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.digest, self.encoding) {
            (Digest::None, encoding) => write!(f, "{encoding:?}"),
            (digest, encoding) => write!(f, "{digest:?} as {encoding:?}"),
        }
    }
}

/// All hashes.
pub const DIGESTS: [Digest; 6] =
    [Digest::Md5, Digest::Sha1, Digest::Sha224, Digest::Sha256, Digest::Sha384, Digest::Sha512];

/// Every pattern of `value` with its form; no pattern twice, none shorter than seven bytes.
pub fn patterns(value: &[u8]) -> Vec<(Form, Vec<u8>)> {
    let mut all: Vec<(Form, Vec<u8>)> = Vec::new();
    let mut add = |digest, encoding, mut bytes: Vec<u8>| {
        bytes.truncate(LONGEST);
        // What is a part of the value itself is found with it.
        let is_part =
            encoding != Encoding::Plain && value.windows(bytes.len().max(1)).any(|part| part == bytes);
        if bytes.len() >= SHORTEST && !is_part && all.iter().all(|(_, known)| *known != bytes) {
            all.push((Form { digest, encoding }, bytes));
        }
    };
    let decoded = URL_SAFE_NO_PAD.decode(value).ok().filter(|bytes| bytes.len() >= SHORTEST);
    for base in [Some(value.to_vec()), decoded].into_iter().flatten() {
        encodings(Digest::None, &base, &mut add);
        for digest in DIGESTS {
            let mut hash = hashed(digest, &base);
            hash.truncate(HASH_PREFIX);
            encodings(digest, &hash, &mut add);
        }
    }
    all
}

fn encodings(digest: Digest, bytes: &[u8], add: &mut impl FnMut(Digest, Encoding, Vec<u8>)) {
    add(digest, Encoding::Plain, bytes.to_vec());
    for alignment in 0..3 {
        add(digest, Encoding::Base64, base64_within(&STANDARD_NO_PAD, bytes, alignment));
        add(digest, Encoding::Base64, base64_within(&URL_SAFE_NO_PAD, bytes, alignment));
    }
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    add(digest, Encoding::Hex, hex.to_ascii_uppercase().into_bytes());
    add(digest, Encoding::Hex, hex.into_bytes());
    if digest != Digest::None {
        return;
    }
    add(digest, Encoding::Utf16, bytes.iter().flat_map(|byte| [*byte, 0]).collect());
    for upper in [true, false] {
        add(digest, Encoding::Url, percent(bytes, upper, false));
        add(digest, Encoding::Url, percent(bytes, upper, true));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        add(
            digest,
            Encoding::Url,
            url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().into(),
        );
    }
}

/// The characters of base64 that depend on `bytes` alone, if `alignment` other bytes come before them in a group of three.
fn base64_within(engine: &impl base64::Engine, bytes: &[u8], alignment: usize) -> Vec<u8> {
    let padded: Vec<u8> = std::iter::repeat_n(0, alignment).chain(bytes.iter().copied()).collect();
    let mut text = engine.encode(&padded).into_bytes();
    if !padded.len().is_multiple_of(3) {
        text.pop();
    }
    let foreign = [0, 2, 3][alignment];
    text.split_off(foreign.min(text.len()))
}

fn percent(bytes: &[u8], upper: bool, every: bool) -> Vec<u8> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut text = String::new();
    for byte in bytes {
        match *byte {
            byte if unreserved(byte) && !every => text.push(char::from(byte)),
            byte if upper => text.push_str(&format!("%{byte:02X}")),
            byte => text.push_str(&format!("%{byte:02x}")),
        }
    }
    text.into_bytes()
}

/// The hash of `bytes`, whole.
pub fn hashed(digest: Digest, bytes: &[u8]) -> Vec<u8> {
    use md5::Digest as _;
    use sha1::Digest as _;
    match digest {
        Digest::None => bytes.to_vec(),
        Digest::Md5 => md5::Md5::digest(bytes).to_vec(),
        Digest::Sha1 => sha1::Sha1::digest(bytes).to_vec(),
        Digest::Sha224 => sha2::Sha224::digest(bytes).to_vec(),
        Digest::Sha256 => sha2::Sha256::digest(bytes).to_vec(),
        Digest::Sha384 => sha2::Sha384::digest(bytes).to_vec(),
        Digest::Sha512 => sha2::Sha512::digest(bytes).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const MARK: &[u8] = b"ada mark@example.org";

    fn is_found(mark: &[u8], text: &[u8], form: Form) -> bool {
        patterns(mark)
            .iter()
            .any(|(known, bytes)| *known == form && text.windows(bytes.len()).any(|window| window == bytes))
    }

    fn plain(encoding: Encoding) -> Form {
        Form { digest: Digest::None, encoding }
    }

    #[test]
    fn base64_is_found_at_every_alignment_and_in_both_alphabets() {
        for before in 0..7 {
            for after in 0..4 {
                let text = [&b"xyzxyzx"[..before], MARK, &b"abcd"[..after]].concat();
                assert!(
                    is_found(MARK, STANDARD.encode(&text).as_bytes(), plain(Encoding::Base64)),
                    "{before} {after}"
                );
                let url = URL_SAFE_NO_PAD.encode(&text);
                assert!(is_found(MARK, url.as_bytes(), plain(Encoding::Base64)), "{before} {after}");
            }
        }
        let odd = [0xfb, 0xff, 0xfe, 0xfb, 0xef, 0xbe, 0xff, 0xff];
        assert!(is_found(&odd, STANDARD.encode(odd).as_bytes(), plain(Encoding::Base64)));
        assert!(is_found(&odd, URL_SAFE_NO_PAD.encode(odd).as_bytes(), plain(Encoding::Base64)));
    }

    #[test]
    fn hex_url_forms_and_wide_characters_are_found() {
        let hex: String = MARK.iter().map(|byte| format!("{byte:02X}")).collect();
        assert!(is_found(MARK, hex.as_bytes(), plain(Encoding::Hex)));
        assert!(is_found(MARK, hex.to_lowercase().as_bytes(), plain(Encoding::Hex)));
        for text in
            ["?q=ada+mark%40example.org&x", "?q=ada%20mark%40example.org", "ada%20mark%40example%2eorg"]
        {
            let found = is_found(MARK, text.as_bytes(), plain(Encoding::Url));
            assert_eq!(found, !text.contains("%2e"), "{text}");
        }
        let every: String = MARK.iter().map(|byte| format!("%{byte:02x}")).collect();
        assert!(is_found(MARK, every.as_bytes(), plain(Encoding::Url)));
        let wide: Vec<u8> = MARK.iter().flat_map(|byte| [*byte, 0]).collect();
        assert!(is_found(MARK, &wide, plain(Encoding::Utf16)));
    }

    #[test]
    fn every_hash_is_found_raw_hex_and_base64_and_shortened() {
        for digest in DIGESTS {
            let hash = hashed(digest, MARK);
            let raw = Form { digest, encoding: Encoding::Plain };
            assert!(is_found(MARK, &hash, raw) && is_found(MARK, &hash[..8], raw), "{digest:?}");
            let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(is_found(MARK, hex.as_bytes(), Form { digest, encoding: Encoding::Hex }));
            let text = URL_SAFE_NO_PAD.encode(&hash);
            assert!(is_found(MARK, text.as_bytes(), Form { digest, encoding: Encoding::Base64 }));
        }
        // RFC 1321 A.5, FIPS 180-2: the hashes are what they are called.
        assert_eq!(hashed(Digest::Md5, b"abc")[..4], [0x90, 0x01, 0x50, 0x98]);
        assert_eq!(hashed(Digest::Sha1, b"abc")[..4], [0xa9, 0x99, 0x3e, 0x36]);
        assert_eq!(hashed(Digest::Sha256, b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[test]
    fn what_base64url_stands_for_is_looked_for_too() {
        let bytes = *b"\x01\x02\x03\x04\xff\xfe\xfd\xfc\x10\x11\x12\x13\x14\x15\x16\x17";
        let token = URL_SAFE_NO_PAD.encode(bytes);
        assert!(is_found(token.as_bytes(), &bytes, plain(Encoding::Plain)));
        let hash = hashed(Digest::Sha256, &bytes);
        assert!(is_found(
            token.as_bytes(),
            &hash,
            Form { digest: Digest::Sha256, encoding: Encoding::Plain }
        ));
    }

    #[test]
    fn a_keyed_hash_and_another_value_are_no_forms() {
        let all = patterns(MARK);
        let other = hashed(Digest::Sha256, b"another mark@example.org");
        assert!(all.iter().all(|(_, bytes)| !other.windows(bytes.len()).any(|window| window == bytes)));
        assert!(all.iter().all(|(_, bytes)| (SHORTEST..=LONGEST).contains(&bytes.len())));
    }
}
