//! Two JSON files in the app's own directory: `client.json` (what registration answered) and `grants.json`. Each is replaced
//! as a whole: a crash leaves the old one or the new one, never half of it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The directory or a file in it cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct StoreError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// Opens the directory, made with mode 0700 if missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| StoreError { path: directory.to_owned(), source })?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Reads `name`; `None` if there is none yet. Blocks for the length of a small read.
    ///
    /// # Errors
    /// It cannot be read or is not what it should be: nobody else writes here, so it is not guessed around.
    pub fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let path = self.directory.join(name);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError { path, source }),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| StoreError { path, source: error.into() })
    }

    /// Replaces `name` (mode 0600) and waits until it is on the disk.
    ///
    /// # Errors
    /// It cannot be written; the old content is still there.
    pub async fn write<T>(self: &Arc<Self>, name: &str, value: T) -> Result<(), StoreError>
    where
        T: Serialize + Send + 'static,
    {
        let path = self.directory.join(name);
        let (this, target) = (Arc::clone(self), path.clone());
        let written = tokio::task::spawn_blocking(move || this.replace(&target, &value)).await;
        written.map_err(io::Error::other).flatten().map_err(|source| StoreError { path, source })
    }

    fn replace<T: Serialize>(&self, path: &Path, value: &T) -> io::Result<()> {
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(value)?)?;
        file.sync_all()?;
        std::fs::rename(&draft, path)?;
        File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn reads_what_it_wrote_and_keeps_it_private() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("a/b");
        let store = Arc::new(Store::open(&directory).unwrap());
        assert_eq!(store.read::<Vec<u8>>("x.json").unwrap(), None);
        store.write("x.json", vec![1, 2]).await.unwrap();
        store.write("x.json", vec![3]).await.unwrap();
        assert_eq!(Store::open(&directory).unwrap().read::<Vec<u8>>("x.json").unwrap(), Some(vec![3]));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("x.json")), 0o600);
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        std::fs::write(folder.path().join("x.json"), "{").unwrap();
        let error = store.read::<Vec<u8>>("x.json").unwrap_err();
        assert!(error.to_string().contains("x.json"), "{error}");
    }
}
