//! X.509 certificates (RFC 5280) as far as trust in a pinned authority needs them: who signed what for which name.
//!
//! Only ECDSA with P-256 and SHA-256 is known. The time of validity is not looked at, because a device has no clock that it
//! could trust; pins are what ends trust. Whether a certificate is to be trusted is left to [`crate::trust`].

use core::net::IpAddr;

use der::asn1::AnyRef;
use der::{Decode as _, Reader as _, SliceReader, Tag, Tagged as _};
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::signature;

/// `AlgorithmIdentifier` of ecdsa-with-SHA256 (RFC 5758 §3.2).
const ECDSA_SHA256: [u8; 12] = [0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// What a SubjectPublicKeyInfo of a P-256 key begins with (RFC 5480 §2); the uncompressed point follows.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// Not a certificate, or one that is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl From<der::Error> for Unreadable {
    fn from(_: der::Error) -> Self {
        Self
    }
}

/// A certificate whose outer form was checked; the slices lie in what was parsed.
#[derive(Clone, Copy, Debug)]
pub struct Certificate<'a> {
    signed: &'a [u8],
    signature: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    spki: &'a [u8],
    extensions: &'a [u8],
}

/// What the extensions allow.
#[derive(Default)]
struct Uses {
    names_host: bool,
    is_authority: bool,
    may_sign_certificates: Option<bool>,
    may_serve: Option<bool>,
}

impl<'a> Certificate<'a> {
    /// Reads a certificate (RFC 5280 §4.1).
    ///
    /// # Errors
    /// Not DER, something behind its end, or a signature algorithm other than ECDSA with SHA-256.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut outer = SliceReader::new(bytes)?;
        let mut parts = inside(&mut outer, Tag::Sequence)?;
        end(&outer)?;
        let signed = parts.tlv_bytes()?;
        let algorithm = parts.tlv_bytes()?;
        let signature = AnyRef::decode(&mut parts)?;
        end(&parts)?;
        // A bit string begins with the number of bits that do not count.
        let [0, signature @ ..] = content(signature, Tag::BitString)? else { return Err(Unreadable) };

        let mut signed_reader = SliceReader::new(signed)?;
        let mut tbs = inside(&mut signed_reader, Tag::Sequence)?;
        // Only version 3 has extensions, and without extensions there is no name to check.
        if tbs.tlv_bytes()? != [0xa0, 0x03, 0x02, 0x01, 0x02] {
            return Err(Unreadable);
        }
        let _serial = tbs.tlv_bytes()?;
        if tbs.tlv_bytes()? != algorithm || algorithm != ECDSA_SHA256 {
            return Err(Unreadable);
        }
        let issuer = tbs.tlv_bytes()?;
        let _validity = tbs.tlv_bytes()?;
        let subject = tbs.tlv_bytes()?;
        let spki = tbs.tlv_bytes()?;
        let mut extensions: &[u8] = &[];
        while !tbs.is_finished() {
            let field = tbs.tlv_bytes()?;
            // [1] and [2] are unique identifiers that nobody uses; [3] holds the extensions.
            if field.first() == Some(&0xa3) {
                extensions = AnyRef::from_der(field)?.value();
            }
        }
        Ok(Self { signed, signature, issuer, subject, spki, extensions })
    }

    /// SHA-256 of the SubjectPublicKeyInfo (RFC 7469 §2.4).
    #[must_use]
    pub fn pin(&self) -> [u8; 32] {
        Sha256::digest(self.spki).into()
    }

    /// The public key, if it is one on P-256.
    ///
    /// # Errors
    /// Another kind of key, or no point of the curve.
    pub fn key(&self) -> Result<VerifyingKey, Unreadable> {
        let point = self.spki.strip_prefix(&P256_SPKI).ok_or(Unreadable)?;
        VerifyingKey::from_sec1_bytes(point).map_err(|_| Unreadable)
    }

    /// True if `authority` may issue certificates and issued this one.
    #[must_use]
    pub fn is_issued_by(&self, authority: &Certificate<'_>) -> bool {
        let Ok(uses) = authority.uses(None) else { return false };
        if !uses.is_authority || uses.may_sign_certificates == Some(false) || self.issuer != authority.subject
        {
            return false;
        }
        match (authority.key(), Signature::from_der(self.signature)) {
            (Ok(key), Ok(signature)) => signature::holds(&key, self.signed, &signature),
            _ => false,
        }
    }

    /// True if the certificate is for a server of this name or address (RFC 6125 §6.4; subjectAltName only).
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        self.uses(Some(host))
            .is_ok_and(|uses| uses.names_host && !uses.is_authority && uses.may_serve != Some(false))
    }

    fn uses(&self, host: Option<&str>) -> Result<Uses, Unreadable> {
        let mut uses = Uses::default();
        if self.extensions.is_empty() {
            return Ok(uses);
        }
        let mut outer = SliceReader::new(self.extensions)?;
        let mut list = inside(&mut outer, Tag::Sequence)?;
        while !list.is_finished() {
            let mut extension = inside(&mut list, Tag::Sequence)?;
            let id = content(AnyRef::decode(&mut extension)?, Tag::ObjectIdentifier)?;
            let mut value = AnyRef::decode(&mut extension)?;
            let critical = value.tag() == Tag::Boolean && value.value() == [0xff];
            if value.tag() == Tag::Boolean {
                value = AnyRef::decode(&mut extension)?;
            }
            let value = content(value, Tag::OctetString)?;
            match id {
                SUBJECT_ALT_NAME => uses.names_host = host.is_some_and(|host| names(value, host)),
                BASIC_CONSTRAINTS => uses.is_authority = is_authority(value)?,
                KEY_USAGE => uses.may_sign_certificates = Some(may_sign_certificates(value)?),
                EXTENDED_KEY_USAGE => uses.may_serve = Some(may_serve(value)?),
                _ if critical => return Err(Unreadable),
                _ => {}
            }
        }
        Ok(uses)
    }
}

fn inside<'a>(reader: &mut SliceReader<'a>, tag: Tag) -> Result<SliceReader<'a>, Unreadable> {
    Ok(SliceReader::new(content(AnyRef::decode(reader)?, tag)?)?)
}

fn content(any: AnyRef<'_>, tag: Tag) -> Result<&[u8], Unreadable> {
    if any.tag() == tag { Ok(any.value()) } else { Err(Unreadable) }
}

fn end(reader: &SliceReader<'_>) -> Result<(), Unreadable> {
    if reader.is_finished() { Ok(()) } else { Err(Unreadable) }
}

/// `BasicConstraints ::= SEQUENCE { cA BOOLEAN DEFAULT FALSE, … }`
fn is_authority(value: &[u8]) -> Result<bool, Unreadable> {
    let mut outer = SliceReader::new(value)?;
    let inner = content(AnyRef::decode(&mut outer)?, Tag::Sequence)?;
    Ok(inner.starts_with(&[0x01, 0x01, 0xff]))
}

/// `KeyUsage`: bit 5 is keyCertSign.
fn may_sign_certificates(value: &[u8]) -> Result<bool, Unreadable> {
    let mut outer = SliceReader::new(value)?;
    let bits = content(AnyRef::decode(&mut outer)?, Tag::BitString)?;
    Ok(bits.get(1).is_some_and(|first| first & 0x04 != 0))
}

fn may_serve(value: &[u8]) -> Result<bool, Unreadable> {
    let mut outer = SliceReader::new(value)?;
    let mut purposes = inside(&mut outer, Tag::Sequence)?;
    let mut found = false;
    while !purposes.is_finished() {
        found |= content(AnyRef::decode(&mut purposes)?, Tag::ObjectIdentifier)? == SERVER_AUTH;
    }
    Ok(found)
}

/// Whether one of the general names (RFC 5280 §4.2.1.6) is `host`.
fn names(value: &[u8], host: &str) -> bool {
    let address = host.parse::<IpAddr>().ok();
    let Ok(mut outer) = SliceReader::new(value) else { return false };
    let Ok(mut list) = inside(&mut outer, Tag::Sequence) else { return false };
    while !list.is_finished() {
        let Ok(name) = list.tlv_bytes() else { return false };
        let Ok(any) = AnyRef::from_der(name) else { return false };
        let matches = match (name[0], address) {
            (0x82, None) => is_name(any.value(), host.as_bytes()),
            (0x87, Some(IpAddr::V4(address))) => any.value() == address.octets(),
            (0x87, Some(IpAddr::V6(address))) => any.value() == address.octets(),
            _ => false,
        };
        if matches {
            return true;
        }
    }
    false
}

/// Equal but for case; `*.` stands for exactly one label at the left.
fn is_name(pattern: &[u8], host: &[u8]) -> bool {
    match pattern.strip_prefix(b"*.") {
        Some(rest) => host
            .iter()
            .position(|byte| *byte == b'.')
            .is_some_and(|dot| dot > 0 && rest.contains(&b'.') && host[dot + 1..].eq_ignore_ascii_case(rest)),
        None => !pattern.is_empty() && pattern.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_a_whole() {
        assert!(is_name(b"didp.example", b"DIDP.example"));
        assert!(is_name(b"*.oauthing.example", b"didp.oauthing.example"));
        for (pattern, host) in [
            (&b"*.oauthing.example"[..], &b"a.b.oauthing.example"[..]),
            (b"*.oauthing.example", b"oauthing.example"),
            (b"*.oauthing.example", b".oauthing.example"),
            (b"*.example", b"oauthing.example"),
            (b"didp.example", b"didp.example.evil"),
            (b"", b""),
        ] {
            assert!(!is_name(pattern, host), "{pattern:?} {host:?}");
        }
    }
}
