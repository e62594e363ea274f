//! A SQLite file: how it is made, brought up to date and opened.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};

use super::sql::{Conn, told};

/// Begins a transaction when other processes let it, five seconds from now at the latest; a connection waits for nobody otherwise,
/// for it would hold up its thread.
pub(super) const BEGIN_PATIENTLY: &str =
    "PRAGMA busy_timeout = 5000; BEGIN IMMEDIATE; PRAGMA busy_timeout = 0;";

/// How long a reader waits while the log is put in order after a crash, the only time that it has to.
const RECOVERY: Duration = Duration::from_secs(1);
/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 256;
/// KiB of pages that a connection keeps: the upper levels of the indexes of some millions of tokens.
const CACHE: u32 = 4096;

/// A file, and what connections to it are for.
#[derive(Clone)]
pub(super) struct File {
    path: Arc<Path>,
    reads_only: bool,
}

impl File {
    /// Makes the file if it is missing, and brings its tables up to date.
    ///
    /// # Errors
    /// It cannot be written, or is of a newer version.
    pub(super) async fn make(path: &Path) -> anyhow::Result<Self> {
        // SQLite gives its companion files the mode of the database.
        OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(5))
            .pragma("secure_delete", "ON")
            .pragma("temp_store", "MEMORY")
            .disable_statement_logging();
        let mut first = options.connect().await?;
        sqlx::migrate!("./migrations/sqlite").run(&mut first).await?;
        sqlx::Connection::close(first).await?;
        Ok(Self { path: path.into(), reads_only: false })
    }

    /// The same for readers.
    pub(super) fn for_reading(&self) -> Self {
        Self { path: Arc::clone(&self.path), reads_only: true }
    }

    /// Opens a connection.
    pub(super) async fn open(&self) -> sqlx::Result<Conn> {
        let file = self.clone();
        let opened = tokio::task::spawn_blocking(move || file.connect()).await;
        opened.map_err(|_| sqlx::Error::WorkerCrashed)?.map(Conn::from).map_err(told)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let access = match self.reads_only {
            true => OpenFlags::SQLITE_OPEN_READ_ONLY,
            false => OpenFlags::SQLITE_OPEN_READ_WRITE,
        };
        // A connection is one thread's at a time, so that it needs no lock of its own.
        let conn = Connection::open_with_flags(&self.path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        conn.busy_timeout(if self.reads_only { RECOVERY } else { Duration::ZERO })?;
        // What a savepoint must be able to undo lies in a temporary file where it is much, and in a container only the database's
        // folder can be written. In memory it would be a list that each statement goes through from its start.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if !self.reads_only
            && let Some(folder) = folder.and_then(Path::to_str)
        {
            conn.pragma_update(None, "temp_store_directory", folder)?;
        }
        conn.execute_batch(&format!("PRAGMA cache_size = -{CACHE};"))?;
        // What was given up must not stay readable in free pages.
        conn.execute_batch(
            "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 67108864;",
        )?;
        Ok(conn)
    }
}
