//! A login under way, as the browser that began it keeps it: a signed cookie, one a login, so that several tabs do not
//! disturb each other. The cookie's name derives from the state; a callback whose state fits no cookie is refused.
//! Setting and clearing the cookie is left to the pages.

use serde::{Deserialize, Serialize};
use service::secret::{self, Key};

/// How long a person may take at the provider, in seconds.
pub const LIFETIME: i64 = 600;

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
    expires: i64,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    purpose: Option<Purpose>,
}

/// What a login is for, beside logging in. Each names the session that it was asked in; it ends in no other.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The owner wants to log in there as well.
    #[serde(rename = "l")]
    Link(String),
    /// The owner does not want to log in there any more.
    #[serde(rename = "u")]
    Unlink(String),
}

impl Pending {
    /// A login that begins now. `verifier` is the PKCE verifier; `nonce` is empty where the protocol has none.
    pub(super) fn new(
        upstream: &str,
        state: &str,
        nonce: &str,
        verifier: &str,
        next: &str,
        now: i64,
    ) -> Self {
        Pending {
            upstream: upstream.to_owned(),
            state: state.to_owned(),
            nonce: nonce.to_owned(),
            verifier: verifier.to_owned(),
            next: next.to_owned(),
            expires: now.saturating_add(LIFETIME),
            purpose: None,
        }
    }

    /// The same login for another purpose.
    #[must_use]
    pub fn with_purpose(mut self, purpose: Purpose) -> Self {
        self.purpose = Some(purpose);
        self
    }

    /// What it is for; none is to log in.
    pub fn purpose(&self) -> Option<&Purpose> {
        self.purpose.as_ref()
    }

    /// The tail of the cookie's name that belongs to this state: 11 characters that are fit for a name, whatever came in.
    pub fn tag(state: &str) -> String {
        secret::encode(&secret::sha256(state.as_bytes())[..8])
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
    pub fn seal(&self, key: &Key) -> String {
        let content = serde_json::to_vec(self).expect("strings and a number always serialize");
        let content = secret::encode(content);
        let mac = secret::encode(mac(key, &content));
        format!("{content}.{mac}")
    }

    /// Reads a cookie's value back; `None` if it was not sealed with `key`.
    pub fn open(value: &str, key: &Key) -> Option<Pending> {
        let (content, tag) = value.split_once('.')?;
        if !secret::equal(&mac(key, content), &secret::decode(tag)?) {
            return None;
        }
        serde_json::from_slice(&secret::decode(content)?).ok()
    }

    /// Whether this is the login that `state` names at `upstream`, and still in time.
    pub(super) fn is_for(&self, upstream: &str, state: &str, now: i64) -> bool {
        secret::equal(self.state.as_bytes(), state.as_bytes())
            && self.upstream == upstream
            && now < self.expires
    }

    pub(super) fn nonce(&self) -> &str {
        &self.nonce
    }

    pub(super) fn verifier(&self) -> &str {
        &self.verifier
    }
}

fn mac(key: &Key, content: &str) -> [u8; 32] {
    key.hmac(&[b"pending login\0", content.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(now: i64) -> Pending {
        Pending::new("github", "the state", "the nonce", "the verifier", "/r/abc", now)
    }

    #[test]
    fn a_sealed_login_opens_with_its_key_only() {
        let key = Key::random();
        let sealed = pending(0).seal(&key);
        assert_eq!(Pending::open(&sealed, &key).unwrap().next(), "/r/abc");
        assert!(Pending::open(&sealed, &Key::random()).is_none());
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let key = Key::random();
        let sealed = pending(0).seal(&key);
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Pending::open(&changed, &key).is_none(), "at {at}");
        }
        for junk in ["", ".", "a.b", "no dot"] {
            assert!(Pending::open(junk, &key).is_none());
        }
    }

    #[test]
    fn a_login_fits_its_own_state_and_provider_and_time() {
        let begun = 1_000;
        let pending = pending(begun);
        assert!(pending.is_for("github", "the state", begun));
        assert!(!pending.is_for("google", "the state", begun));
        assert!(!pending.is_for("github", "another state", begun));
        assert!(!pending.is_for("github", "the state", begun + LIFETIME));
    }
}
