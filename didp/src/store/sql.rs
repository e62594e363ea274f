//! One query text for both databases. It is written with `$1`, `$2`, … which SQLite and PostgreSQL both take, and in the SQL that
//! both speak; the few places where they differ ask [`Conn::dialect`].
//!
//! The functions are named as in sqlx. What a value is (text, number, bytes) is told by the value itself, never guessed.
//!
//! A statement for SQLite runs on the thread that asks, to its end. sqlx would give each connection a thread of its own: a question
//! and its answer cross two channels and wake two threads, several times what a lookup by key costs. What waits for the disk
//! ([`Conn::aside`]) goes to a thread where waiting disturbs nobody.

mod failure;
mod row;

use std::marker::PhantomData;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement, ToSql};
use sqlx::postgres::{PgArguments, PgConnection, Postgres};
use sqlx::{Arguments as _, SqlSafeStr, SqlStr};

pub(super) use failure::{is_busy, told};
pub(super) use row::from_row;
pub use row::{Column, FromRow, Row};

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A file of this process alone.
    Sqlite,
    /// A server that several DIdPs share.
    Postgres,
}

/// The connection that queries run on.
pub struct Conn {
    link: Link,
    /// False while a query runs and after one that may have left something unread or broke the connection.
    sound: bool,
}

enum Link {
    Sqlite(Connection),
    Postgres(Box<PgConnection>),
}

impl Conn {
    /// Which database answers.
    pub fn dialect(&self) -> Dialect {
        match self.link {
            Link::Sqlite(_) => Dialect::Sqlite,
            Link::Postgres(_) => Dialect::Postgres,
        }
    }

    /// False if the connection must not be used again.
    pub(super) fn is_sound(&self) -> bool {
        self.sound
    }

    /// Says that the connection must not be used again.
    pub(super) fn spoil(&mut self) {
        self.sound = false;
    }

    /// Runs statements that have no values, in one round trip.
    pub(super) async fn script(&mut self, text: &'static str) -> sqlx::Result<()> {
        self.sound = false;
        let done = match &mut self.link {
            Link::Sqlite(on) => on.execute_batch(text).map_err(told),
            Link::Postgres(on) => sqlx::raw_sql(text).execute(on.as_mut()).await.map(drop),
        };
        self.judge(done)
    }

    /// Runs statements of SQLite that may wait: for another process to write, or for the disk. Answers with the connection, unless
    /// it was lost.
    pub(super) async fn aside(mut self, text: &'static str) -> (Option<Self>, sqlx::Result<()>) {
        let done = tokio::task::spawn_blocking(move || {
            let done = match &self.link {
                Link::Sqlite(on) => on.execute_batch(text).map_err(told),
                Link::Postgres(_) => Err(sqlx::Error::InvalidArgument("only for SQLite".to_owned())),
            };
            let done = self.judge(done);
            (Some(self), done)
        });
        done.await.unwrap_or((None, Err(sqlx::Error::WorkerCrashed)))
    }

    pub(super) async fn close(self) {
        // What cannot be closed in good order is closed by being dropped.
        match self.link {
            Link::Sqlite(conn) => {
                let _ = tokio::task::spawn_blocking(move || drop(conn)).await;
            }
            Link::Postgres(conn) => {
                let _ = sqlx::Connection::close(*conn).await;
            }
        }
    }

    fn judge<T>(&mut self, done: sqlx::Result<T>) -> sqlx::Result<T> {
        self.sound = match &done {
            Ok(_) => true,
            // Class 57P: the server stops. Class 08: the connection is lost.
            Err(sqlx::Error::Database(error)) => {
                !error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
                    || self.dialect() == Dialect::Sqlite
            }
            Err(
                sqlx::Error::RowNotFound
                | sqlx::Error::TypeNotFound { .. }
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::ColumnIndexOutOfBounds { .. }
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_),
            ) => true,
            Err(_) => false,
        };
        done
    }
}

impl From<Connection> for Conn {
    fn from(conn: Connection) -> Self {
        Self { link: Link::Sqlite(conn), sound: true }
    }
}

impl From<PgConnection> for Conn {
    fn from(conn: PgConnection) -> Self {
        Self { link: Link::Postgres(Box::new(conn)), sound: true }
    }
}

/// A value for a placeholder.
#[derive(Debug, Clone, Copy)]
pub enum Value<'q> {
    /// BIGINT, INTEGER in SQLite.
    Number(Option<i64>),
    /// BOOLEAN, 0 or 1 in SQLite.
    Truth(bool),
    /// TEXT.
    Text(Option<&'q str>),
    /// BYTEA, BLOB in SQLite.
    Bytes(Option<&'q [u8]>),
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Number(number) => number.map_or(ValueRef::Null, ValueRef::Integer),
            Self::Truth(truth) => ValueRef::Integer(truth.into()),
            Self::Text(text) => text.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => bytes.map_or(ValueRef::Null, ValueRef::Blob),
        }))
    }
}

macro_rules! values {
    ($($from:ty, $value:ident => $to:expr;)*) => {
        $(impl<'q> From<$from> for Value<'q> {
            fn from($value: $from) -> Self {
                $to
            }
        })*
    };
}

values! {
    i64, value => Value::Number(Some(value));
    Option<i64>, value => Value::Number(value);
    bool, value => Value::Truth(value);
    &'q str, value => Value::Text(Some(value));
    Option<&'q str>, value => Value::Text(value);
    &'q String, value => Value::Text(Some(value));
    &'q Option<String>, value => Value::Text(value.as_deref());
    &'q [u8], value => Value::Bytes(Some(value));
    Option<&'q [u8]>, value => Value::Bytes(value);
    &'q Vec<u8>, value => Value::Bytes(Some(value));
}

/// A statement with its values.
#[must_use]
pub struct Query<'q> {
    text: SqlStr,
    values: Vec<Value<'q>>,
}

/// A statement whose rows are read into `T`.
#[must_use]
pub struct QueryAs<'q, T> {
    query: Query<'q>,
    row: PhantomData<fn() -> T>,
}

/// A statement whose rows have one column that is read into `T`.
#[must_use]
pub struct QueryScalar<'q, T> {
    query: QueryAs<'q, (T,)>,
}

/// A statement.
pub fn query<'q>(text: impl SqlSafeStr) -> Query<'q> {
    Query { text: text.into_sql_str(), values: Vec::new() }
}

/// A statement whose rows are read into `T`.
pub fn query_as<'q, T>(text: impl SqlSafeStr) -> QueryAs<'q, T> {
    QueryAs { query: query(text), row: PhantomData }
}

/// A statement whose rows have one column that is read into `T`.
pub fn query_scalar<'q, T>(text: impl SqlSafeStr) -> QueryScalar<'q, T> {
    QueryScalar { query: query_as(text) }
}

impl<'q> Query<'q> {
    /// The value of the next placeholder.
    pub fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it; how many rows were changed.
    ///
    /// # Errors
    /// The database cannot answer, or a constraint forbids it.
    pub async fn execute(self, conn: &mut Conn) -> sqlx::Result<u64> {
        conn.sound = false;
        let done = match &mut conn.link {
            Link::Sqlite(on) => execute(on, self.text.as_str(), &self.values).map_err(told),
            Link::Postgres(on) => sqlx::query_with::<Postgres, _>(self.text, postgres(&self.values)?)
                .execute(on.as_mut())
                .await
                .map(|done| done.rows_affected()),
        };
        conn.judge(done)
    }
}

impl<'q, T: FromRow> QueryAs<'q, T> {
    /// The value of the next placeholder.
    pub fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.query = self.query.bind(value);
        self
    }

    /// The first row, if there is one.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn fetch_optional(self, conn: &mut Conn) -> sqlx::Result<Option<T>> {
        conn.sound = false;
        let Query { text, values } = self.query;
        let done = match &mut conn.link {
            Link::Sqlite(on) => fetch(on, text.as_str(), &values, 1).map(|mut rows| rows.pop()),
            Link::Postgres(on) => sqlx::query_with::<Postgres, _>(text, postgres(&values)?)
                .fetch_optional(on.as_mut())
                .await
                .and_then(|row| row.as_ref().map(|row| T::from_row(&mut Row::of_postgres(row))).transpose()),
        };
        conn.judge(done)
    }

    /// The first row.
    ///
    /// # Errors
    /// There is none, or the database cannot answer.
    pub async fn fetch_one(self, conn: &mut Conn) -> sqlx::Result<T> {
        self.fetch_optional(conn).await?.ok_or(sqlx::Error::RowNotFound)
    }

    /// All rows.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn fetch_all(self, conn: &mut Conn) -> sqlx::Result<Vec<T>> {
        conn.sound = false;
        let Query { text, values } = self.query;
        let done = match &mut conn.link {
            Link::Sqlite(on) => fetch(on, text.as_str(), &values, usize::MAX),
            Link::Postgres(on) => sqlx::query_with::<Postgres, _>(text, postgres(&values)?)
                .fetch_all(on.as_mut())
                .await
                .and_then(|rows| rows.iter().map(|row| T::from_row(&mut Row::of_postgres(row))).collect()),
        };
        conn.judge(done)
    }
}

impl<'q, T> QueryScalar<'q, T>
where
    (T,): FromRow,
{
    /// The value of the next placeholder.
    pub fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.query = self.query.bind(value);
        self
    }

    /// The value of the first row, if there is one.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn fetch_optional(self, conn: &mut Conn) -> sqlx::Result<Option<T>> {
        Ok(self.query.fetch_optional(conn).await?.map(|(value,)| value))
    }

    /// The value of the first row.
    ///
    /// # Errors
    /// There is none, or the database cannot answer.
    pub async fn fetch_one(self, conn: &mut Conn) -> sqlx::Result<T> {
        Ok(self.query.fetch_one(conn).await?.0)
    }

    /// The values of all rows.
    ///
    /// # Errors
    /// The database cannot answer.
    pub async fn fetch_all(self, conn: &mut Conn) -> sqlx::Result<Vec<T>> {
        Ok(self.query.fetch_all(conn).await?.into_iter().map(|(value,)| value).collect())
    }
}

fn execute(on: &Connection, text: &str, values: &[Value<'_>]) -> rusqlite::Result<u64> {
    let mut statement = on.prepare_cached(text)?;
    bind(&mut statement, values)?;
    if statement.column_count() == 0 {
        return Ok(statement.raw_execute()? as u64);
    }
    // A statement that also answers (RETURNING) runs only as far as its rows are taken.
    let mut rows = statement.raw_query();
    let mut count = 0;
    while rows.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// At most `limit` rows.
fn fetch<T: FromRow>(
    on: &Connection,
    text: &str,
    values: &[Value<'_>],
    limit: usize,
) -> sqlx::Result<Vec<T>> {
    let mut statement = on.prepare_cached(text).map_err(told)?;
    bind(&mut statement, values).map_err(told)?;
    let mut rows = statement.raw_query();
    let mut read = Vec::new();
    // All are taken: a statement that writes and answers (RETURNING) is done only then.
    while let Some(row) = rows.next().map_err(told)? {
        if read.len() < limit {
            read.push(T::from_row(&mut Row::of_sqlite(row))?);
        }
    }
    Ok(read)
}

/// `$7` is the seventh value, wherever it stands; SQLite takes it for a name and numbers names as they come.
fn bind(statement: &mut Statement<'_>, values: &[Value<'_>]) -> rusqlite::Result<()> {
    for at in 1..=statement.parameter_count() {
        let number =
            statement.parameter_name(at).and_then(|name| name.strip_prefix('$')?.parse::<usize>().ok());
        let value = number.and_then(|number| values.get(number.checked_sub(1)?));
        let value = *value.ok_or(rusqlite::Error::InvalidParameterCount(values.len(), at))?;
        statement.raw_bind_parameter(at, value)?;
    }
    Ok(())
}

fn postgres(values: &[Value<'_>]) -> sqlx::Result<PgArguments> {
    let mut arguments = PgArguments::default();
    for value in values {
        match *value {
            Value::Number(number) => arguments.add(number),
            Value::Truth(truth) => arguments.add(truth),
            Value::Text(text) => arguments.add(text),
            Value::Bytes(bytes) => arguments.add(bytes),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_placeholder_is_its_number_not_its_place() {
        let mut conn = Conn::from(Connection::open_in_memory().unwrap());
        let read: (i64, String, Option<i64>, Vec<u8>) = query_as("SELECT $2, $1, $4, $3")
            .bind("text")
            .bind(7_i64)
            .bind(&b"bytes"[..])
            .bind(None::<i64>)
            .fetch_one(&mut conn)
            .await
            .unwrap();
        assert_eq!(read, (7, "text".to_owned(), None, b"bytes".to_vec()));
        assert!(query("SELECT $2").bind(1_i64).execute(&mut conn).await.is_err(), "a value is missing");
        assert!(conn.is_sound());
    }

    #[tokio::test]
    async fn what_answers_is_also_carried_out_to_its_end() {
        let mut conn = Conn::from(Connection::open_in_memory().unwrap());
        conn.script("CREATE TABLE t (a INTEGER UNIQUE); INSERT INTO t VALUES (1), (2), (3)").await.unwrap();
        let one: i64 =
            query_scalar("UPDATE t SET a = a + 10 RETURNING a").fetch_one(&mut conn).await.unwrap();
        assert_eq!(one, 11);
        let all: Vec<i64> = query_scalar("SELECT a FROM t ORDER BY a").fetch_all(&mut conn).await.unwrap();
        assert_eq!(all, [11, 12, 13]);
        assert_eq!(query("DELETE FROM t WHERE a > 11 RETURNING a").execute(&mut conn).await.unwrap(), 2);
        let twice = query("INSERT INTO t VALUES (11)").execute(&mut conn).await.unwrap_err();
        assert!(twice.as_database_error().is_some_and(|error| error.is_unique_violation()), "{twice}");
    }
}
