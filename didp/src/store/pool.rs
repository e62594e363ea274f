//! Connections that are lent out one by one and taken back, opened only when they are needed.
//!
//! sqlx's own pool asks each connection that comes back whether it is well, a round trip a request. Here the query that failed
//! says it; then all that lie idle go too, for they most likely share its fate.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::file::File;
use super::sql::Conn;

/// How long a request waits for a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How a connection is opened.
#[derive(Clone)]
pub(super) enum Opener {
    Sqlite(File),
    Postgres(Box<PgConnectOptions>),
}

impl Opener {
    pub(super) async fn open(&self) -> sqlx::Result<Conn> {
        Ok(match self {
            Self::Sqlite(file) => file.open().await?,
            Self::Postgres(options) => options.connect().await?.into(),
        })
    }
}

/// Idle connections, and room for more.
pub(super) struct Pool {
    opener: Opener,
    idle: Mutex<Vec<Conn>>,
    room: Arc<Semaphore>,
}

/// A connection on loan.
pub struct Loan {
    conn: Option<Conn>,
    pool: Arc<Pool>,
    _room: OwnedSemaphorePermit,
}

impl Pool {
    /// A pool of `size` connections at most; none is opened yet.
    pub(super) fn new(opener: Opener, size: usize) -> Arc<Self> {
        Arc::new(Self { opener, idle: Mutex::default(), room: Arc::new(Semaphore::new(size)) })
    }

    /// A connection; waits for one to come back if all are lent out.
    pub(super) async fn lend(self: &Arc<Self>) -> sqlx::Result<Loan> {
        let room = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(room) => room,
            Err(_) => tokio::time::timeout(PATIENCE, Arc::clone(&self.room).acquire_owned())
                .await
                .map_err(|_| sqlx::Error::PoolTimedOut)?
                .map_err(|_| sqlx::Error::PoolClosed)?,
        };
        let idle = self.idle().pop();
        let conn = match idle {
            Some(conn) => conn,
            None => tokio::time::timeout(PATIENCE, self.opener.open())
                .await
                .map_err(|_| sqlx::Error::PoolTimedOut)??,
        };
        Ok(Loan { conn: Some(conn), pool: Arc::clone(self), _room: room })
    }

    /// Closes what is idle; nothing is lent any more.
    pub(super) async fn close(&self) {
        self.room.close();
        let idle = std::mem::take(&mut *self.idle());
        for conn in idle {
            conn.close().await;
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Conn>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Deref for Loan {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.conn.as_ref().expect("a loan has its connection until it is dropped")
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn.as_mut().expect("a loan has its connection until it is dropped")
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        let mut idle = self.pool.idle();
        if !conn.is_sound() {
            idle.clear();
        } else if !self.pool.room.is_closed() {
            idle.push(conn);
        }
    }
}
