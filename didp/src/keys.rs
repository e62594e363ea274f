//! Keyed hashes of everything that is looked up by a secret: one key for each purpose, each with a key id.
//!
//! A keys directory holds files named `<purpose>.<id>.key` (43 base64url characters). The highest id of a purpose
//! writes; all are tried for reading, so that a new key can be added without logging anybody out. Values that are used go over to
//! the key that writes. One named `<purpose>.<id>.standby.key` only reads: where several DIdPs run, each must be able to read
//! what another one writes, so a new key is on standby everywhere before it writes anywhere. The keys never stand in the
//! database, so a stolen database cannot be searched for a guessed value.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use service::secret::Key;

/// What a key is for. A value hashed for one purpose says nothing about the same value hashed for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Upstream issuer and subject of an owner.
    User,
    /// Registration codes, as printed on devices.
    RegistrationCode,
    /// Access tokens, refresh tokens, authorization codes, registration access tokens.
    Token,
    /// Browser sessions, claim tickets, the four digits of a claim window.
    Session,
    /// Derivation of renewed client secrets, and of secrets that a repeated registration must give again.
    ClientSecret,
    /// Cookies and forms of the pages.
    Pages,
}

impl Purpose {
    /// Every purpose.
    pub const ALL: [Purpose; 6] =
        [Self::User, Self::RegistrationCode, Self::Token, Self::Session, Self::ClientSecret, Self::Pages];

    /// The name in the key's file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::RegistrationCode => "registration-code",
            Self::Token => "token",
            Self::Session => "session",
            Self::ClientSecret => "client-secret",
            Self::Pages => "pages",
        }
    }
}

/// A keyed hash as the database holds it: key id, then HMAC-SHA256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mac(Vec<u8>);

impl Mac {
    /// The bytes to store or to look up.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// All keys of a DIdP.
#[derive(Clone)]
pub struct Keyring {
    /// For each purpose whether a key may write, its number, and the key; the one that writes is the first.
    purposes: [Vec<(bool, u8, Key)>; Purpose::ALL.len()],
}

impl Keyring {
    /// Reads a keys directory.
    ///
    /// # Errors
    /// A purpose without a key, a file that is no key, a name that is not `<purpose>.<1..255>.key`.
    pub fn load(dir: &Path) -> io::Result<Self> {
        let named = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        let mut ring = Self { purposes: Default::default() };
        for entry in fs::read_dir(dir).map_err(|error| named(dir, error))? {
            let path = entry?.path();
            let Some((purpose, id, writes)) =
                path.file_name().and_then(|name| name.to_str()).and_then(parse_name)
            else {
                let what = "is not named <purpose>.<1..255>.key or <purpose>.<1..255>.standby.key";
                let error = io::Error::new(io::ErrorKind::InvalidData, what);
                return Err(named(&path, error));
            };
            let key = Key::read(&path).map_err(|error| named(&path, error))?;
            let keys = &mut ring.purposes[purpose as usize];
            if keys.iter().any(|(_, other, _)| *other == id) {
                let error = io::Error::new(io::ErrorKind::InvalidData, "another file has this number");
                return Err(named(&path, error));
            }
            keys.push((writes, id, key));
        }
        for purpose in Purpose::ALL {
            let keys = &mut ring.purposes[purpose as usize];
            if !keys.iter().any(|(writes, ..)| *writes) {
                let missing = dir.join(format!("{}.1.key", purpose.name()));
                let error = io::Error::new(io::ErrorKind::NotFound, "missing; `didp keys init` makes it");
                return Err(named(&missing, error));
            }
            keys.sort_by_key(|(writes, id, _)| std::cmp::Reverse((*writes, *id)));
        }
        Ok(ring)
    }

    /// A keyring of fresh random keys, for tests.
    pub fn random() -> Self {
        Self { purposes: std::array::from_fn(|_| vec![(true, 1, Key::random())]) }
    }

    /// The key that writes for `purpose`.
    pub fn key(&self, purpose: Purpose) -> &Key {
        &self.purposes[purpose as usize][0].2
    }

    /// True if values of this purpose may have been written with an older key.
    pub fn has_older(&self, purpose: Purpose) -> bool {
        self.purposes[purpose as usize].len() > 1
    }

    /// All keys of a purpose, the newest first.
    pub fn keys(&self, purpose: Purpose) -> impl Iterator<Item = &Key> {
        self.purposes[purpose as usize].iter().map(|(_, _, key)| key)
    }

    /// The number of the key that writes for `purpose`.
    pub fn writes_with(&self, purpose: Purpose) -> u8 {
        self.purposes[purpose as usize][0].1
    }

    /// The keyed hash of the concatenated `parts`, to be stored.
    pub fn mac(&self, purpose: Purpose, parts: &[&[u8]]) -> Mac {
        let (_, id, key) = &self.purposes[purpose as usize][0];
        with_id(*id, key, parts)
    }

    /// The hashes under which a value may be stored, the newest key's first.
    pub fn candidates(&self, purpose: Purpose, parts: &[&[u8]]) -> Vec<Mac> {
        self.purposes[purpose as usize].iter().map(|(_, id, key)| with_id(*id, key, parts)).collect()
    }
}

fn with_id(id: u8, key: &Key, parts: &[&[u8]]) -> Mac {
    let mut bytes = Vec::with_capacity(33);
    bytes.push(id);
    bytes.extend_from_slice(&key.hmac(parts));
    Mac(bytes)
}

/// Purpose, number, and whether the key may write.
fn parse_name(name: &str) -> Option<(Purpose, u8, bool)> {
    let (purpose, id) = name.strip_suffix(".key")?.split_once('.')?;
    let (id, writes) = id.strip_suffix(STANDBY).map_or((id, true), |id| (id, false));
    let purpose = Purpose::ALL.into_iter().find(|known| known.name() == purpose)?;
    id.parse().ok().filter(|id| *id > 0).map(|id| (purpose, id, writes))
}

const STANDBY: &str = ".standby";

/// Makes a new key for `purpose` that only reads; [`promote`] lets it write.
///
/// # Errors
/// The file cannot be written, or there are 255 keys.
pub fn add_standby(dir: &Path, purpose: Purpose) -> io::Result<PathBuf> {
    let mut highest = 0;
    for entry in fs::read_dir(dir)? {
        if let Some((_, id, _)) =
            entry?.file_name().to_str().and_then(parse_name).filter(|(found, ..)| *found == purpose)
        {
            highest = highest.max(id);
        }
    }
    let next = highest.checked_add(1).ok_or(io::Error::other("there are 255 keys; retire some"))?;
    let path = dir.join(format!("{}.{next}{STANDBY}.key", purpose.name()));
    write_new(&path)?;
    Ok(path)
}

/// Lets the keys of `purpose` that are on standby write, from the next start on; their new names.
///
/// # Errors
/// A file cannot be renamed.
pub fn promote(dir: &Path, purpose: Purpose) -> io::Result<Vec<PathBuf>> {
    let mut promoted = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if let Some((found, id, false)) = entry.file_name().to_str().and_then(parse_name)
            && found == purpose
        {
            let name = dir.join(format!("{}.{id}.key", purpose.name()));
            fs::rename(entry.path(), &name)?;
            promoted.push(name);
        }
    }
    Ok(promoted)
}

fn write_new(path: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", *Key::random().to_text())?;
    file.sync_all()
}

/// Where a key stands that is not on standby.
pub fn path(dir: &Path, purpose: Purpose, id: u8) -> PathBuf {
    dir.join(format!("{}.{id}.key", purpose.name()))
}

/// The keys of a directory, in order: purpose, number, and whether it may write.
///
/// # Errors
/// The directory cannot be read.
pub fn list(dir: &Path) -> io::Result<Vec<(Purpose, u8, bool)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        found.extend(entry?.file_name().to_str().and_then(parse_name));
    }
    found.sort_by_key(|(purpose, id, _)| (*purpose as usize, *id));
    Ok(found)
}

/// Makes the directory and the first key of each purpose that has none; tells which files it made.
///
/// # Errors
/// The directory or a file cannot be written. What exists is never touched.
pub fn init(dir: &Path) -> io::Result<Vec<PathBuf>> {
    if !dir.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let mut present = [false; Purpose::ALL.len()];
    for entry in fs::read_dir(dir)? {
        if let Some((purpose, _, true)) = entry?.file_name().to_str().and_then(parse_name) {
            present[purpose as usize] = true;
        }
    }
    let mut made = Vec::new();
    for purpose in Purpose::ALL.into_iter().filter(|purpose| !present[*purpose as usize]) {
        let path = dir.join(format!("{}.1.key", purpose.name()));
        write_new(&path)?;
        made.push(path);
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn init_makes_what_is_missing_and_touches_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("keys");
        assert_eq!(init(&dir).unwrap().len(), Purpose::ALL.len());
        for entry in fs::read_dir(&dir).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        let before = Keyring::load(&dir).unwrap().mac(Purpose::Token, &[b"x"]);
        fs::remove_file(dir.join("user.1.key")).unwrap();
        assert!(Keyring::load(&dir).is_err_and(|error| error.to_string().contains("user.1.key")));
        assert_eq!(init(&dir).unwrap(), [dir.join("user.1.key")]);
        assert_eq!(Keyring::load(&dir).unwrap().mac(Purpose::Token, &[b"x"]), before);
    }

    #[test]
    fn a_newer_key_writes_and_the_older_one_still_reads() {
        let root = tempfile::tempdir().unwrap();
        init(root.path()).unwrap();
        let old = Keyring::load(root.path()).unwrap().mac(Purpose::User, &[b"value"]);
        fs::write(root.path().join("user.2.key"), &*Key::random().to_text()).unwrap();
        let ring = Keyring::load(root.path()).unwrap();
        assert_ne!(ring.mac(Purpose::User, &[b"value"]), old);
        let candidates = ring.candidates(Purpose::User, &[b"value"]);
        assert_eq!(candidates[0], ring.mac(Purpose::User, &[b"value"]));
        assert_eq!(candidates[1], old);
    }

    #[test]
    fn a_key_on_standby_reads_only_and_writes_when_it_is_promoted() {
        let root = tempfile::tempdir().unwrap();
        init(root.path()).unwrap();
        let before = Keyring::load(root.path()).unwrap();
        let old = before.mac(Purpose::Token, &[b"value"]);
        let path = add_standby(root.path(), Purpose::Token).unwrap();
        assert!(path.ends_with("token.2.standby.key"));
        let standby = Keyring::load(root.path()).unwrap();
        assert_eq!(standby.mac(Purpose::Token, &[b"value"]), old, "it does not write");
        assert_eq!(promote(root.path(), Purpose::Token).unwrap(), [root.path().join("token.2.key")]);
        let new = Keyring::load(root.path()).unwrap().mac(Purpose::Token, &[b"value"]);
        assert_ne!(new, old);
        assert!(standby.candidates(Purpose::Token, &[b"value"]).contains(&new), "a replica reads it already");
        assert!(!before.candidates(Purpose::Token, &[b"value"]).contains(&new));
        assert!(add_standby(root.path(), Purpose::Token).unwrap().ends_with("token.3.standby.key"));
    }

    #[test]
    fn purposes_are_apart() {
        let ring = Keyring::random();
        assert_ne!(ring.mac(Purpose::Token, &[b"x"]), ring.mac(Purpose::Session, &[b"x"]));
    }

    #[test]
    fn a_stranger_in_the_directory_is_named() {
        let root = tempfile::tempdir().unwrap();
        init(root.path()).unwrap();
        fs::write(root.path().join("notes.txt"), "x").unwrap();
        assert!(Keyring::load(root.path()).is_err_and(|error| error.to_string().contains("notes.txt")));
    }
}
