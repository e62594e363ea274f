//! The database: SQLite in WAL mode with durable commits. One file a subject.
//!
//! Writers share one connection and take turns before they begin, so that no transaction ever meets a lock; readers have
//! connections of their own and always see the last commit. What may be written, and what belongs into one transaction,
//! is decided by the flows.

pub mod claims;
pub mod clients;
pub mod events;
pub mod grants;
pub mod notices;
pub mod ownerships;
pub mod sessions;
pub mod sweep;
pub mod tokens;
pub mod transfers;
pub mod users;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Sqlite, SqliteConnection, Transaction};
use tokio::sync::Mutex;

/// How long a look at whether the database can be written is good.
const READY: Duration = Duration::from_secs(1);

/// A write transaction; dropping it without a commit leaves nothing.
pub type Tx = Transaction<'static, Sqlite>;

/// The connection that queries run on: a transaction's or a reader's.
pub type Conn = SqliteConnection;

/// The database; clones share the connections.
#[derive(Clone)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
    /// When it was last tried whether the database can be written, and what came of it.
    ready: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Store {
    /// Opens the file, makes it if it is missing, and brings its tables up to date.
    ///
    /// # Errors
    /// The file cannot be opened, or is of a newer version.
    pub async fn open(file: &Path) -> anyhow::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("journal_size_limit", "67108864")
            // What was given up must not stay readable in free pages.
            .pragma("secure_delete", "ON")
            .disable_statement_logging();
        let named = || format!("database {}", file.display());
        // SQLite gives its companion files the mode of the database.
        std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file).with_context(named)?;
        let pool =
            || SqlitePoolOptions::new().acquire_timeout(Duration::from_secs(10)).test_before_acquire(false);
        let writer = pool().max_connections(1).connect_with(options.clone()).await.with_context(named)?;
        sqlx::migrate!("./migrations").run(&writer).await.with_context(named)?;
        let readers =
            pool().max_connections(4).connect_with(options.read_only(true)).await.with_context(named)?;
        Ok(Self { writer, readers, ready: Arc::default() })
    }

    /// Begins a write; waits for the one before it.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn write(&self) -> sqlx::Result<Tx> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    /// A connection for reading.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn read(&self) -> sqlx::Result<PoolConnection<Sqlite>> {
        self.readers.acquire().await
    }

    /// Sequence number of the last event.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn events_head(&self) -> sqlx::Result<i64> {
        events::head(&mut *self.read().await?).await
    }

    /// True if the database answers and can be written. Tried once a second at most, whoever asks: anybody may.
    pub async fn is_ready(&self) -> bool {
        let mut last = self.ready.lock().await;
        if let Some((at, ready)) = *last
            && at.elapsed() < READY
        {
            return ready;
        }
        let ready = match self.write().await {
            Ok(tx) => tx.rollback().await.is_ok(),
            Err(_) => false,
        };
        *last = Some((Instant::now(), ready));
        ready
    }

    /// Closes all connections, folding the write-ahead log into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
