//! The secrets of a fresh deployment: who finds which key, certificate and credential where.
//!
//! [`Setup::write`] lays out one directory per participant, so that each process or container can be given its own and no
//! other. What exists is kept: running it again after an update, or with another host name, changes nothing but the server
//! certificates that lack the new name. How the files reach their readers (volumes, paths in configurations) is left to
//! the caller; so is every value that is not a secret.
//!
//! A secret file holds one line: 32 random bytes, base64url without padding. Only the gateway's master key is the 32 bytes
//! themselves.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, date_time_ymd,
};
use sha2::{Digest as _, Sha256};

/// The participants that get a directory, in the order in which they are written.
pub const PARTICIPANTS: [&str; 9] =
    ["ca", "public", "didp", "ignite", "launcher", "factory", "tpa", "idp", "device"];

/// Who serves TLS and therefore gets `tls.crt` and `tls.key`.
const TLS_SERVERS: [&str; 2] = ["didp", "ignite"];

/// Names that every server certificate carries besides the host that was asked for.
const USUAL_NAMES: [&str; 9] = [
    "localhost",
    "didp.localhost",
    "ignite.localhost",
    "idp.localhost",
    "tpa.localhost",
    "factory.localhost",
    "device.localhost",
    "127.0.0.1",
    "::1",
];

/// Secrets of one participant, and with whom each is shared.
const SECRETS: [(&str, &str); 6] = [
    ("ignite/gateway.secret", "didp/gateway-ignite.secret"),
    ("factory/initial-access-token", "didp/initial-access-token-factory"),
    ("tpa/initial-access-token", "didp/initial-access-token-tpa"),
    ("idp/client-oidc.secret", "didp/upstream-oidc.secret"),
    ("idp/client-github.secret", "didp/upstream-github.secret"),
    ("idp/cookie.key", ""),
];

/// Cookie keys: nobody else's business, but no password either.
const SESSION_KEYS: [&str; 2] = ["factory/session.key", "tpa/session.key"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What to write, where, and for whom.
#[derive(Debug, Clone)]
pub struct Setup {
    out: PathBuf,
    host: String,
    owners: BTreeMap<String, (u32, u32)>,
}

impl Setup {
    /// A setup below `out` for servers that are reached as `host` (a DNS name or an IP address).
    #[must_use]
    pub fn new(out: impl Into<PathBuf>, host: impl Into<String>) -> Self {
        Self { out: out.into(), host: host.into(), owners: BTreeMap::new() }
    }

    /// Files of `participant` (one of [`PARTICIPANTS`]) will belong to this user and group; without it they belong to
    /// whoever runs this.
    #[must_use]
    pub fn owner(mut self, participant: impl Into<String>, uid: u32, gid: u32) -> Self {
        self.owners.insert(participant.into(), (uid, gid));
        self
    }

    /// Writes what is missing.
    ///
    /// # Errors
    /// A file that cannot be read or written, an unknown participant in [`Setup::owner`], or two copies of a shared secret
    /// that differ.
    pub fn write(&self) -> anyhow::Result<Secrets> {
        for name in self.owners.keys() {
            ensure!(PARTICIPANTS.contains(&name.as_str()), "no participant is called `{name}`");
        }
        for participant in PARTICIPANTS {
            let dir = self.out.join(participant);
            fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
            let mode = if participant == "public" { 0o755 } else { 0o700 };
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode))
                .with_context(|| format!("set the mode of {}", dir.display()))?;
            self.give(participant, &dir)?;
        }
        for (name, copy) in SECRETS {
            self.shared_secret(name, copy)?;
        }
        for name in SESSION_KEYS {
            self.keep_or(name, || Ok(random_line()))?;
        }
        self.keep_or("idp/signing-key.pem", || Ok(KeyPair::generate()?.serialize_pem()))?;
        for key in didp::keys::init(&self.out.join("didp/keys")).context("write didp/keys")? {
            self.give("didp", &key)?;
        }
        self.give("didp", &self.out.join("didp/keys"))?;
        if !self.out.join("ignite/master.key").exists() {
            self.put("ignite/master.key", &rand::random::<[u8; 32]>())?;
        }
        self.certificates()?;
        Ok(Secrets { root: self.out.clone() })
    }

    fn certificates(&self) -> anyhow::Result<()> {
        let (ca_params, ca_key, ca_pem) = self.authority("ca", "OAuthing development CA")?;
        let (_, backup_key, _) = self.authority("backup-ca", "OAuthing development CA (backup)")?;
        self.keep_or("public/ca.crt", || Ok(ca_pem.clone()))?;
        let pins = format!("{}\n{}\n", pin(&ca_key), pin(&backup_key));
        self.keep_or("public/pins", || Ok(pins.clone()))?;
        self.keep_or("didp/pins", || Ok(pins))?;

        let names = self.names();
        let issuer = Issuer::new(ca_params, ca_key);
        for server in TLS_SERVERS {
            // The list of names lies with the CA: certificates that somebody brought along have none and are left alone.
            let list = format!("ca/{server}.names");
            let certificate = format!("{server}/tls.crt");
            let ours = fs::read_to_string(self.out.join(&list)).ok();
            let covered = ours.as_ref().is_some_and(|ours| ours.lines().any(|name| name == self.host));
            if self.out.join(&certificate).exists() && (ours.is_none() || covered) {
                continue;
            }
            let key = KeyPair::generate()?;
            let leaf = leaf_params(server, &names)?.signed_by(&key, &issuer)?;
            self.put(&format!("{server}/tls.key"), key.serialize_pem().as_bytes())?;
            self.put(&certificate, format!("{}{ca_pem}", leaf.pem()).as_bytes())?;
            self.put(&list, names.join("\n").as_bytes())?;
        }
        Ok(())
    }

    /// The kept or new CA below `ca/` whose files begin with `stem`.
    fn authority(&self, stem: &str, name: &str) -> anyhow::Result<(CertificateParams, KeyPair, String)> {
        let params = authority_params(name)?;
        let key_pem = self.keep_or(&format!("ca/{stem}.key"), || Ok(KeyPair::generate()?.serialize_pem()))?;
        let key = KeyPair::from_pem(&key_pem).with_context(|| format!("ca/{stem}.key"))?;
        let pem = self.keep_or(&format!("ca/{stem}.crt"), || Ok(params.self_signed(&key)?.pem()))?;
        Ok((params, key, pem))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = USUAL_NAMES.iter().map(ToString::to_string).collect();
        if !names.contains(&self.host) {
            names.push(self.host.clone());
        }
        names
    }

    /// A secret in `name` and, if `copy` is not empty, the same one there.
    fn shared_secret(&self, name: &str, copy: &str) -> anyhow::Result<()> {
        if copy.is_empty() {
            return self.keep_or(name, || Ok(random_line())).map(drop);
        }
        // Either copy may be the one that survived.
        let kept = self.read(copy)?;
        let first = self.keep_or(name, || Ok(kept.unwrap_or_else(random_line)))?;
        let second = self.keep_or(copy, || Ok(first.clone()))?;
        ensure!(first.trim() == second.trim(), "{name} and {copy} should hold the same secret, but differ");
        Ok(())
    }

    /// What is in the file `name`, after writing `make()` there if there was none.
    fn keep_or(&self, name: &str, make: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
        if let Some(kept) = self.read(name)? {
            return Ok(kept);
        }
        let text = make()?;
        self.put(name, format!("{}\n", text.trim_end()).as_bytes())?;
        Ok(text)
    }

    fn read(&self, name: &str) -> anyhow::Result<Option<String>> {
        match fs::read_to_string(self.out.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {name}")),
        }
    }

    /// Writes a whole file or none, so that an interrupted run leaves no half secret that the next one would keep.
    fn put(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.out.join(name);
        let half = self.out.join(format!("{name}.new"));
        let participant = name.split('/').next().unwrap_or_default();
        let mode = if participant == "public" { 0o644 } else { 0o600 };
        let wrote = || -> std::io::Result<()> {
            match fs::remove_file(&half) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&half)?;
            file.write_all(content)?;
            file.sync_all()?;
            Ok(())
        };
        wrote().with_context(|| format!("write {name}"))?;
        self.give(participant, &half)?;
        fs::rename(&half, &path).with_context(|| format!("write {name}"))
    }

    fn give(&self, participant: &str, path: &Path) -> anyhow::Result<()> {
        if let Some((uid, gid)) = self.owners.get(participant) {
            chown(path, Some(*uid), Some(*gid))
                .with_context(|| format!("change the owner of {}", path.display()))?;
        }
        Ok(())
    }
}

/// A directory that [`Setup::write`] filled.
#[derive(Debug, Clone)]
pub struct Secrets {
    root: PathBuf,
}

impl Secrets {
    /// The path of one file, for example `didp/tls.crt`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The content of one file without its line end.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(&self, name: &str) -> anyhow::Result<String> {
        let text = fs::read_to_string(self.path(name)).with_context(|| format!("read {name}"))?;
        Ok(text.trim().to_owned())
    }

    /// Pins of the servers' certificates: base64 of SHA-256 of a SubjectPublicKeyInfo, of the CA in use and its backup.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn pins(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.read("public/pins")?.lines().map(ToOwned::to_owned).collect())
    }
}

fn authority_params(name: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid_for(&mut params, 20 * 365)?;
    Ok(params)
}

fn leaf_params(server: &str, names: &[String]) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, format!("{server} of an OAuthing development setup"));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, 2 * 365)?;
    Ok(params)
}

/// Makes `params` valid from yesterday, because clocks differ, for so many days.
fn valid_for(params: &mut CertificateParams, days: u32) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(DAY);
    params.not_after = params.not_before + DAY * days;
    Ok(())
}

fn pin(key: &KeyPair) -> String {
    STANDARD.encode(Sha256::digest(key.subject_public_key_info()))
}

fn random_line() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All files below `root` with their content.
    fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut open = vec![root.to_owned()];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                files.insert(path.clone(), fs::read(path).unwrap());
            }
        }
        files
    }

    #[test]
    fn a_second_run_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        Setup::new(dir.path(), "localhost").write().unwrap();
        let before = tree(dir.path());
        Setup::new(dir.path(), "localhost").write().unwrap();
        assert_eq!(before, tree(dir.path()));
    }

    #[test]
    fn a_new_host_changes_the_server_certificates_only() {
        let dir = tempfile::tempdir().unwrap();
        Setup::new(dir.path(), "localhost").write().unwrap();
        let before = tree(dir.path());
        Setup::new(dir.path(), "192.0.2.7").write().unwrap();
        let after = tree(dir.path());
        let changed: Vec<_> = before
            .iter()
            .filter(|(path, text)| after.get(*path) != Some(text))
            .map(|(path, _)| path.strip_prefix(dir.path()).unwrap().display().to_string())
            .collect();
        let expected = [
            "ca/didp.names",
            "ca/ignite.names",
            "didp/tls.crt",
            "didp/tls.key",
            "ignite/tls.crt",
            "ignite/tls.key",
        ];
        assert_eq!(changed, expected);
    }

    #[test]
    fn nobody_but_its_participant_reads_a_secret_and_shared_ones_agree() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Setup::new(dir.path(), "localhost").write().unwrap();
        for path in tree(dir.path()).keys() {
            let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
            let public = path.starts_with(dir.path().join("public"));
            assert_eq!(mode, if public { 0o644 } else { 0o600 }, "{}", path.display());
        }
        let ours = secrets.read("ignite/gateway.secret").unwrap();
        assert_eq!(ours, secrets.read("didp/gateway-ignite.secret").unwrap());
        assert_eq!(URL_SAFE_NO_PAD.decode(ours).unwrap().len(), 32);
        assert_eq!(secrets.pins().unwrap().len(), 2);
    }

    #[test]
    fn a_secret_that_only_one_side_kept_is_given_to_the_other_again() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = Setup::new(dir.path(), "localhost").write().unwrap();
        let kept = secrets.read("ignite/gateway.secret").unwrap();
        fs::remove_file(secrets.path("ignite/gateway.secret")).unwrap();
        Setup::new(dir.path(), "localhost").write().unwrap();
        assert_eq!(secrets.read("ignite/gateway.secret").unwrap(), kept);

        fs::write(secrets.path("ignite/gateway.secret"), "another").unwrap();
        assert!(Setup::new(dir.path(), "localhost").write().is_err());
    }
}
