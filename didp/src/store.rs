//! The database: SQLite of this process alone, or PostgreSQL that several DIdPs share. One file a subject; every query stands
//! there once, for both.
//!
//! **Writing.** [`Store::write`] gives a transaction that no other write runs beside, on either database: what a flow reads in it
//! stays true until it commits. On SQLite writers take [`turns`]; on PostgreSQL they hold a lock. [`Store::write_beside`] is for
//! the few flows of which thousands a second are expected: on PostgreSQL those run beside each other, so each locks the rows
//! that it decides on. Every commit is durable before it is told.
//!
//! **Reading.** Readers have connections of their own and see the last commit. What may be written, and what belongs into one
//! transaction, is decided by the flows.

pub mod batches;
pub mod claims;
pub mod clients;
pub mod events;
mod file;
pub mod grants;
pub mod judgement;
pub mod keys;
pub mod notices;
pub mod ownerships;
mod pool;
pub mod registry;
pub mod replicas;
pub mod requests;
pub mod sessions;
pub mod sql;
pub mod sweep;
pub mod tokens;
pub mod transfers;
mod turns;
pub mod users;

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Mutex;

pub use pool::Loan;
pub use sql::Conn;

use self::file::File;
use self::pool::{Opener, PATIENCE, Pool};
use self::sql::query;
use self::turns::{Turn, Turns};
use crate::config::Database;

/// How long a look at whether the database can be written is good.
const READY: Duration = Duration::from_secs(1);
/// Connections for reading a SQLite file.
const READERS: usize = 4;
/// Connections to PostgreSQL.
const SESSIONS: usize = 12;

/// The database; clones share the connections.
#[derive(Clone)]
pub struct Store {
    backend: Backend,
    /// When it was last tried whether the database can be written, and what came of it.
    ready: Arc<Mutex<Option<(Instant, bool)>>>,
}

#[derive(Clone)]
enum Backend {
    Sqlite { turns: Turns, readers: Arc<Pool> },
    Postgres { sessions: Arc<Pool>, options: Box<PgConnectOptions> },
}

/// A write transaction; dropping it without a commit leaves nothing.
pub struct Tx(Write);

enum Write {
    Sqlite(Turn),
    /// Empty when it is over.
    Postgres(Option<Loan>),
}

/// A read transaction: everything in it is of one moment.
pub struct Snapshot(Option<Loan>);

impl Store {
    /// Opens the database and brings its tables up to date. A file that is missing is made.
    ///
    /// # Errors
    /// The database cannot be opened, or is of a newer version. No secret stands in the error.
    pub async fn open(database: &Database, password: Option<&str>) -> anyhow::Result<Self> {
        let backend = match database {
            Database::File(file) => {
                sqlite(file).await.with_context(|| format!("database {}", file.display()))?
            }
            Database::Postgres(address) => {
                let options = address.options(password)?;
                postgres(options).await.with_context(|| format!("database {address}"))?
            }
        };
        Ok(Self { backend, ready: Arc::default() })
    }

    /// Begins a write that no other one runs beside; waits for those before it.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn write(&self) -> sqlx::Result<Tx> {
        self.begin("BEGIN; SELECT pg_advisory_xact_lock(1145652048)").await
    }

    /// Begins a write beside which others of this kind may run. Whoever uses it locks the rows that it decides on, or decides
    /// in one statement.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn write_beside(&self) -> sqlx::Result<Tx> {
        self.begin("BEGIN; SELECT pg_advisory_xact_lock_shared(1145652048)").await
    }

    async fn begin(&self, in_postgres: &'static str) -> sqlx::Result<Tx> {
        Ok(Tx(match &self.backend {
            Backend::Sqlite { turns, .. } => Write::Sqlite(turns.begin().await?),
            Backend::Postgres { sessions, .. } => {
                let mut loan = sessions.lend().await?;
                let begun = loan.script(in_postgres).await;
                // Dropping it undoes what may have begun.
                let tx = Write::Postgres(Some(loan));
                begun?;
                tx
            }
        }))
    }

    /// A connection for reading.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn read(&self) -> sqlx::Result<Loan> {
        match &self.backend {
            Backend::Sqlite { readers, .. } => readers.lend().await,
            Backend::Postgres { sessions, .. } => sessions.lend().await,
        }
    }

    /// A view of one moment, for reads that must fit together.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn snapshot(&self) -> sqlx::Result<Snapshot> {
        let mut loan = self.read().await?;
        match &self.backend {
            Backend::Sqlite { .. } => loan.script("BEGIN").await?,
            Backend::Postgres { .. } => {
                loan.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            }
        }
        Ok(Snapshot(Some(loan)))
    }

    /// True if other DIdPs may use the same database.
    pub fn is_shared(&self) -> bool {
        match self.backend {
            Backend::Sqlite { .. } => false,
            Backend::Postgres { .. } => true,
        }
    }

    /// The number of this DIdP among those that share the database; 0 if it has it for itself.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn join(&self) -> sqlx::Result<i64> {
        if self.is_shared() { replicas::join(&mut *self.read().await?).await } else { Ok(0) }
    }

    /// What others tell on a channel, from now on. Never answers if the database is not shared.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn listener(&self, channel: &str) -> sqlx::Result<PgListener> {
        let Backend::Postgres { options, .. } = &self.backend else { return std::future::pending().await };
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(PATIENCE);
        let mut listener = PgListener::connect_with(&pool.connect_lazy_with((**options).clone())).await?;
        listener.listen(channel).await?;
        Ok(listener)
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
        let ready = match self.write_beside().await {
            Ok(tx) => tx.rollback().await.is_ok(),
            Err(_) => false,
        };
        *last = Some((Instant::now(), ready));
        ready
    }

    /// Closes all connections; SQLite folds its log into the file.
    pub async fn close(&self) {
        match &self.backend {
            Backend::Sqlite { turns, readers } => {
                readers.close().await;
                turns.close().await;
            }
            Backend::Postgres { sessions, .. } => sessions.close().await,
        }
    }
}

async fn sqlite(path: &Path) -> anyhow::Result<Backend> {
    let writer = File::make(path).await?;
    let conn = writer.open().await?;
    let reader = writer.for_reading();
    Ok(Backend::Sqlite {
        turns: Turns::new(Opener::Sqlite(writer), conn),
        readers: Pool::new(Opener::Sqlite(reader), READERS),
    })
}

async fn postgres(options: PgConnectOptions) -> anyhow::Result<Backend> {
    let options = options
        .application_name("didp")
        .statement_cache_capacity(256)
        // A replica that hangs must not hold the others up for good; one whose host died is found out.
        .options([
            ("lock_timeout", "10s"),
            ("statement_timeout", "20s"),
            ("idle_in_transaction_session_timeout", "20s"),
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ])
        .disable_statement_logging();
    let mut first = options.connect().await?;
    sqlx::migrate!("./migrations/postgres").run(&mut first).await?;
    sqlx::Connection::close(first).await?;
    let opener = Opener::Postgres(Box::new(options.clone()));
    Ok(Backend::Postgres { sessions: Pool::new(opener, SESSIONS), options: Box::new(options) })
}

impl Tx {
    /// Keeps what was written; returns when it is durable.
    ///
    /// # Errors
    /// The database cannot answer; then nothing may be acknowledged.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        match &mut self.0 {
            Write::Postgres(loan) => match loan.take() {
                Some(loan) => end(loan, "COMMIT").await,
                None => Err(sqlx::Error::WorkerCrashed),
            },
            Write::Sqlite(turn) => turn.commit().await,
        }
    }

    /// Undoes what was written.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn rollback(mut self) -> sqlx::Result<()> {
        match &mut self.0 {
            Write::Postgres(loan) => match loan.take() {
                Some(loan) => end(loan, "ROLLBACK").await,
                None => Err(sqlx::Error::WorkerCrashed),
            },
            Write::Sqlite(turn) => turn.rollback().await,
        }
    }
}

/// Ends a transaction. A connection of which it is not known how its transaction ended is not used again.
async fn end(mut loan: Loan, statement: &'static str) -> sqlx::Result<()> {
    let done = query(statement).execute(&mut loan).await;
    if done.is_err() {
        loan.spoil();
    }
    done.map(drop)
}

impl Deref for Tx {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        match &self.0 {
            Write::Sqlite(turn) => turn.conn(),
            Write::Postgres(loan) => {
                loan.as_ref().expect("a transaction has its connection until it is over")
            }
        }
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Conn {
        match &mut self.0 {
            Write::Sqlite(turn) => turn.conn_mut(),
            Write::Postgres(loan) => {
                loan.as_mut().expect("a transaction has its connection until it is over")
            }
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let Write::Postgres(loan) = &mut self.0
            && let Some(loan) = loan.take()
        {
            give_up(loan);
        }
    }
}

impl Snapshot {
    /// Ends it.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn end(mut self) -> sqlx::Result<()> {
        match self.0.take() {
            Some(loan) => end(loan, "COMMIT").await,
            None => Ok(()),
        }
    }
}

impl Deref for Snapshot {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.0.as_ref().expect("a snapshot has its connection until it is over")
    }
}

impl DerefMut for Snapshot {
    fn deref_mut(&mut self) -> &mut Conn {
        self.0.as_mut().expect("a snapshot has its connection until it is over")
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Some(loan) = self.0.take() {
            give_up(loan);
        }
    }
}

/// Undoes a transaction in a task of its own. Where that cannot be, closing the connection does it.
fn give_up(mut loan: Loan) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) if loan.is_sound() => {
            runtime.spawn(end(loan, "ROLLBACK"));
        }
        _ => loan.spoil(),
    }
}
