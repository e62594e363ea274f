//! A login under way, as the browser that began it keeps it: a signed cookie, one a login, so that several tabs do not
//! disturb each other. The cookie's name derives from the state; a callback whose state fits no cookie is refused.
//! Setting and clearing the cookie is left to the pages.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// How long a person may take at the provider.
pub const LIFETIME: Duration = Duration::from_secs(600);

/// What must come back unchanged for a login to finish.
#[derive(Clone, Serialize, Deserialize)]
pub struct Pending {
    #[serde(rename = "u")]
    upstream: String,
    #[serde(rename = "s")]
    state: String,
    #[serde(rename = "n")]
    nonce: String,
    #[serde(rename = "v")]
    verifier: String,
    #[serde(rename = "r")]
    next: String,
    #[serde(rename = "x")]
    expires: u64,
}

impl Pending {
    /// A login that begins now. `verifier` is the PKCE verifier; `nonce` is empty where the protocol has none.
    pub(super) fn new(
        upstream: &str,
        state: &str,
        nonce: &str,
        verifier: &str,
        next: &str,
        now: SystemTime,
    ) -> Self {
        Pending {
            upstream: upstream.to_owned(),
            state: state.to_owned(),
            nonce: nonce.to_owned(),
            verifier: verifier.to_owned(),
            next: next.to_owned(),
            expires: unix(now) + LIFETIME.as_secs(),
        }
    }

    /// The tail of the cookie's name that belongs to this state: 11 characters that are fit for a name, whatever came in.
    pub fn tag(state: &str) -> String {
        use sha2::Digest as _;
        URL_SAFE_NO_PAD.encode(&Sha256::digest(state.as_bytes())[..8])
    }

    /// The tail of this login's cookie name.
    pub fn own_tag(&self) -> String {
        Pending::tag(&self.state)
    }

    /// Where the person wanted to go.
    pub fn next(&self) -> &str {
        &self.next
    }

    /// The cookie's value: the content and its HMAC under `key`.
    pub fn seal(&self, key: &[u8; 32]) -> String {
        let content = serde_json::to_vec(self).expect("strings and a number always serialize");
        let content = URL_SAFE_NO_PAD.encode(content);
        let mac = URL_SAFE_NO_PAD.encode(mac(key, &content).finalize().into_bytes());
        format!("{content}.{mac}")
    }

    /// Reads a cookie's value back; `None` if it was not sealed with `key`.
    pub fn open(value: &str, key: &[u8; 32]) -> Option<Pending> {
        let (content, tag) = value.split_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        mac(key, content).verify_slice(&tag).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(content).ok()?).ok()
    }

    /// Whether this is the login that `state` names at `upstream`, and still in time.
    pub(super) fn is_for(&self, upstream: &str, state: &str, now: SystemTime) -> bool {
        let same = self.state.as_bytes().ct_eq(state.as_bytes());
        bool::from(same) && self.upstream == upstream && unix(now) < self.expires
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    pub(super) fn verifier(&self) -> &str {
        &self.verifier
    }
}

fn mac(key: &[u8; 32], content: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(b"pending login\0");
    mac.update(content.as_bytes());
    mac
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn pending(now: SystemTime) -> Pending {
        Pending::new("github", "the state", "the nonce", "the verifier", "/r/abc", now)
    }

    #[test]
    fn a_sealed_login_opens_with_its_key_only() {
        let sealed = pending(UNIX_EPOCH).seal(&KEY);
        assert_eq!(Pending::open(&sealed, &KEY).unwrap().next(), "/r/abc");
        assert!(Pending::open(&sealed, &[8; 32]).is_none());
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let sealed = pending(UNIX_EPOCH).seal(&KEY);
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Pending::open(&changed, &KEY).is_none(), "at {at}");
        }
        for junk in ["", ".", "a.b", "no dot"] {
            assert!(Pending::open(junk, &KEY).is_none());
        }
    }

    #[test]
    fn a_login_fits_its_own_state_and_provider_and_time() {
        let begun = UNIX_EPOCH + Duration::from_secs(1_000);
        let pending = pending(begun);
        assert!(pending.is_for("github", "the state", begun));
        assert!(!pending.is_for("google", "the state", begun));
        assert!(!pending.is_for("github", "another state", begun));
        assert!(!pending.is_for("github", "the state", begun + LIFETIME));
    }
}
