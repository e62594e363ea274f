//! Writing to SQLite: one connection, one writer at a time, and one durable commit for all who wait at that moment.
//!
//! A write is a savepoint in a transaction that writers share. Whoever ends the first write of such a group sends a closer to
//! the end of the queue of writers; when its turn comes, it commits for all before it, and only then are they told. So nothing
//! is acknowledged before it is durable, a lone writer waits for nobody, and under load one `fsync` serves as many writers as
//! came while the one before it ran. A write that is given up is rolled back to its savepoint and disturbs nobody.
//!
//! A failure that takes the whole transaction (a full disk) fails every write of the group.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use super::file;
use super::pool::{Opener, PATIENCE};
use super::sql::{Conn, is_busy, query};

/// What the members of a group are told: nothing, or why none of their writes is there.
type Outcome = Result<(), String>;

/// The queue of writers.
#[derive(Clone)]
pub(super) struct Turns {
    writer: Arc<Mutex<Writer>>,
}

struct Writer {
    opener: Opener,
    conn: Option<Conn>,
    /// Those whose writes are done and wait for the commit. Not empty: a closer is on its way.
    group: Vec<oneshot::Sender<Outcome>>,
    /// A transaction is open.
    begun: bool,
    closed: bool,
}

/// The right to write, until it is ended.
pub(super) struct Turn {
    writer: Option<OwnedMutexGuard<Writer>>,
    turns: Turns,
}

impl Turns {
    pub(super) fn new(opener: Opener, conn: Conn) -> Self {
        let writer = Writer { opener, conn: Some(conn), group: Vec::new(), begun: false, closed: false };
        Self { writer: Arc::new(Mutex::new(writer)) }
    }

    /// Waits for the writers before this one and begins.
    pub(super) async fn begin(&self) -> sqlx::Result<Turn> {
        let waiting = tokio::time::timeout(PATIENCE, Arc::clone(&self.writer).lock_owned());
        let mut writer = waiting.await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        writer.begin().await?;
        Ok(Turn { writer: Some(writer), turns: self.clone() })
    }

    /// Folds the log into the file, unless somebody reads or writes.
    pub(super) async fn close(&self) {
        let mut writer = self.writer.lock().await;
        writer.commit().await;
        writer.closed = true;
        if let Some(conn) = writer.conn.take() {
            conn.close().await;
        }
    }
}

impl Writer {
    async fn begin(&mut self) -> sqlx::Result<()> {
        if self.closed {
            return Err(sqlx::Error::PoolClosed);
        }
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.opener.open().await?,
        };
        if !self.begun {
            conn = begun(conn).await?;
            self.begun = true;
        }
        let marked = query("SAVEPOINT turn").execute(&mut conn).await;
        self.conn = Some(conn);
        if let Err(error) = marked {
            self.fail(&error);
            return Err(error);
        }
        Ok(())
    }

    /// Ends the savepoint, keeping or undoing what was written since.
    async fn end(&mut self, keep: bool) -> sqlx::Result<()> {
        let Some(conn) = self.conn.as_mut().filter(|conn| conn.is_sound()) else {
            return Err(sqlx::Error::WorkerCrashed);
        };
        if !keep {
            query("ROLLBACK TO turn").execute(conn).await?;
        }
        query("RELEASE turn").execute(conn).await?;
        Ok(())
    }

    /// Commits for the group and tells it.
    async fn commit(&mut self) {
        if !std::mem::take(&mut self.begun) {
            return;
        }
        // Nobody may be left waiting for an outcome.
        let Some(conn) = self.conn.take() else { return self.fail(&sqlx::Error::WorkerCrashed) };
        let end = if self.group.is_empty() { "ROLLBACK" } else { "COMMIT" };
        let (conn, done) = conn.aside(end).await;
        self.conn = conn;
        match done {
            Ok(()) => self.tell(&Ok(())),
            Err(error) => self.fail(&error),
        }
    }

    /// Gives up the whole transaction.
    fn fail(&mut self, error: &sqlx::Error) {
        tracing::error!(event = "commit_failed", writes = self.group.len(), %error);
        self.begun = false;
        self.tell(&Err(error.to_string()));
        // A fresh connection has no transaction, whatever became of the old one.
        self.conn = None;
    }

    fn tell(&mut self, outcome: &Outcome) {
        for member in self.group.drain(..) {
            // Whoever went away needs no answer.
            let _ = member.send(outcome.clone());
        }
    }
}

/// Begins a transaction; waits for another process that writes (`didp client …`).
async fn begun(mut conn: Conn) -> sqlx::Result<Conn> {
    match query("BEGIN IMMEDIATE").execute(&mut conn).await {
        Ok(_) => Ok(conn),
        Err(error) if is_busy(&error) => match conn.aside(file::BEGIN_PATIENTLY).await {
            (Some(conn), Ok(())) => Ok(conn),
            (_, Err(error)) => Err(error),
            (None, Ok(())) => Err(sqlx::Error::WorkerCrashed),
        },
        Err(error) => Err(error),
    }
}

impl Turn {
    pub(super) fn conn(&self) -> &Conn {
        let conn = self.writer.as_ref().and_then(|writer| writer.conn.as_ref());
        conn.expect("a turn has the connection until it is ended")
    }

    pub(super) fn conn_mut(&mut self) -> &mut Conn {
        let conn = self.writer.as_mut().and_then(|writer| writer.conn.as_mut());
        conn.expect("a turn has the connection until it is ended")
    }

    /// Keeps what was written; returns when it is durable.
    pub(super) async fn commit(&mut self) -> sqlx::Result<()> {
        let Some(mut writer) = self.writer.take() else { return Err(sqlx::Error::WorkerCrashed) };
        if let Err(error) = writer.end(true).await {
            writer.fail(&error);
            return Err(error);
        }
        let (told, outcome) = oneshot::channel();
        writer.group.push(told);
        if writer.group.len() == 1 {
            let queue = Arc::clone(&self.turns.writer);
            // A task of its own: it goes on if this caller gives up.
            tokio::spawn(async move { queue.lock_owned().await.commit().await });
        }
        drop(writer);
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(sqlx::Error::Io(std::io::Error::other(why))),
            Err(_) => Err(sqlx::Error::WorkerCrashed),
        }
    }

    /// Undoes what was written.
    pub(super) async fn rollback(&mut self) -> sqlx::Result<()> {
        match self.writer.take() {
            Some(writer) => give_up(writer).await,
            None => Ok(()),
        }
    }
}

async fn give_up(mut writer: OwnedMutexGuard<Writer>) -> sqlx::Result<()> {
    match writer.end(false).await {
        Ok(()) if writer.group.is_empty() => writer.commit().await,
        Ok(()) => {}
        Err(error) => {
            writer.fail(&error);
            return Err(error);
        }
    }
    Ok(())
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Without a runtime the process is at its end, and the database undoes it by itself.
        if let Some(writer) = self.writer.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(give_up(writer));
        }
    }
}
