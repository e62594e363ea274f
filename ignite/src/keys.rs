//! Everything derived from the gateway's master key: PCM names, PCM client ids, devices' handles, the keys that a PCM gets.
//!
//! One key a purpose, by HKDF-SHA256 with the purpose as info string, so that no value of one purpose says
//! anything about another's. Gateways of a cluster share the master key and so agree on all names.

use std::io;
use std::path::Path;

use service::secret::{self, Key};
use zeroize::Zeroizing;

/// The gateway's keys, one a purpose.
pub struct Keys {
    pcm_name: Key,
    client_id: Key,
    handle: Key,
    group: Key,
    view_hash: Key,
    pcm_state: Key,
}

impl Keys {
    /// Derives the keys from the master key.
    pub fn derive(master: &Key) -> Self {
        Self {
            pcm_name: master.derive("pcm-name"),
            client_id: master.derive("client-id"),
            handle: master.derive("handle"),
            group: master.derive("group"),
            view_hash: master.derive("view-hash"),
            pcm_state: master.derive("pcm-state"),
        }
    }

    /// Reads the master key file (32 bytes, or the same as 43 base64url characters) and derives the keys.
    ///
    /// # Errors
    /// The file cannot be read or holds no key.
    pub fn load(path: &Path) -> io::Result<Self> {
        let bytes = Zeroizing::new(std::fs::read(path)?);
        let master = match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(master) => Key::new(master),
            Err(_) => Key::read(path)?,
        };
        Ok(Self::derive(&master))
    }

    /// Name of the PCM of one owner: `pcm-` and 32 hex digits.
    pub fn pcm_name(&self, iss: &str, sub: &str) -> String {
        let mac = self.pcm_name.hmac(&[iss.as_bytes(), b"\0", sub.as_bytes()]);
        let mut name = String::with_capacity(36);
        name.push_str("pcm-");
        for byte in &mac[..16] {
            for digit in [byte >> 4, byte & 15] {
                name.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
            }
        }
        name
    }

    /// The client id that the PCM sees for a client's own one: bound to the grant, so that no client can take
    /// over a session of another grant by guessing its id.
    pub fn client_id(&self, iss: &str, sid: &str, client_id: &str) -> String {
        let parts = [iss.as_bytes(), b"\0", sid.as_bytes(), b"\0", client_id.as_bytes()];
        secret::encode(&self.client_id.hmac(&parts)[..16])
    }

    /// The name under which an app of grant `sid` sees the device with `label`.
    pub fn handle(&self, sid: &str, label: &str) -> String {
        secret::encode(&self.handle.hmac(&[sid.as_bytes(), b"\0", label.as_bytes()])[..16])
    }

    /// The shared subscription group that a grant's `$share/<group>` becomes at the PCM.
    pub fn group(&self, sid: &str, group: &str) -> String {
        secret::encode(&self.group.hmac(&[sid.as_bytes(), b"\0", group.as_bytes()])[..16])
    }

    /// The key by which a PCM hashes fields for the grant `sid`, 32 bytes in base64url: no two grants can compare hashes.
    pub fn view_hash(&self, sid: &str) -> String {
        secret::encode(self.view_hash.hmac(&[sid.as_bytes()]))
    }

    /// The key of what the PCM `name` keeps on disk, 32 bytes in base64url. Half of what it is made of is the DIdP's `share`: without
    /// it, or without this gateway's master key, the files say nothing.
    pub fn pcm_state(&self, share: &[u8], name: &str) -> Zeroizing<String> {
        self.pcm_state.with_share(share, name).to_text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_grants_see_unrelated_handles_of_one_device() {
        let keys = Keys::derive(&Key::new([7; 32]));
        assert_ne!(keys.handle("sid-1", "label"), keys.handle("sid-2", "label"));
        assert_eq!(keys.handle("sid-1", "label").len(), 22);
        assert_eq!(keys.handle("sid-1", "label"), Keys::derive(&Key::new([7; 32])).handle("sid-1", "label"));
    }

    #[test]
    fn names_depend_on_issuer_and_key_and_parts_do_not_run_together() {
        let keys = Keys::derive(&Key::new([7; 32]));
        let name = keys.pcm_name("https://a", "sub");
        assert!(name.len() == 36 && name.starts_with("pcm-"));
        assert_ne!(name, keys.pcm_name("https://b", "sub"));
        assert_ne!(name, Keys::derive(&Key::new([8; 32])).pcm_name("https://a", "sub"));
        assert_ne!(keys.client_id("i", "ab", "c"), keys.client_id("i", "a", "bc"));
    }

    #[test]
    fn a_pcms_keys_are_its_own_and_its_grants_own() {
        let keys = Keys::derive(&Key::new([7; 32]));
        assert_ne!(keys.view_hash("sid-1"), keys.view_hash("sid-2"));
        assert_eq!(keys.view_hash("sid-1").len(), 43);
        let state = keys.pcm_state(b"share", "pcm-1");
        assert_eq!((state.len(), &state), (43, &keys.pcm_state(b"share", "pcm-1")));
        assert_ne!(state, keys.pcm_state(b"another", "pcm-1"));
        assert_ne!(state, keys.pcm_state(b"share", "pcm-2"));
        assert_ne!(state, Keys::derive(&Key::new([8; 32])).pcm_state(b"share", "pcm-1"));
    }
}
