//! One query text for both databases. It is written with `$1`, `$2`, … which SQLite and PostgreSQL both take, and in the SQL that
//! both speak; the few places where they differ ask [`Conn::dialect`].
//!
//! The functions are named as in sqlx. What a value is (text, number, bytes) is told by the value itself, never guessed.

use std::marker::PhantomData;

use sqlx::postgres::{PgArguments, PgConnection, PgRow, Postgres};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments as _, FromRow, SqlSafeStr, SqlStr, Sqlite};

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
    Sqlite(SqliteConnection),
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
            Link::Sqlite(on) => sqlx::raw_sql(text).execute(on).await.map(drop),
            Link::Postgres(on) => sqlx::raw_sql(text).execute(on.as_mut()).await.map(drop),
        };
        self.judge(done)
    }

    pub(super) async fn close(self) {
        // What cannot be closed in good order is closed by being dropped.
        let _ = match self.link {
            Link::Sqlite(conn) => sqlx::Connection::close(conn).await,
            Link::Postgres(conn) => sqlx::Connection::close(*conn).await,
        };
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

impl From<SqliteConnection> for Conn {
    fn from(conn: SqliteConnection) -> Self {
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

/// What a row is read into; every type whose columns both databases can decode.
pub trait Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}
impl<T> Row for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

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
            Link::Sqlite(on) => sqlx::query_with::<Sqlite, _>(self.text, sqlite(&self.values)?)
                .execute(on)
                .await
                .map(|done| done.rows_affected()),
            Link::Postgres(on) => sqlx::query_with::<Postgres, _>(self.text, postgres(&self.values)?)
                .execute(on.as_mut())
                .await
                .map(|done| done.rows_affected()),
        };
        conn.judge(done)
    }
}

impl<'q, T: Row> QueryAs<'q, T> {
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
            Link::Sqlite(on) => {
                sqlx::query_as_with::<Sqlite, T, _>(text, sqlite(&values)?).fetch_optional(on).await
            }
            Link::Postgres(on) => {
                sqlx::query_as_with::<Postgres, T, _>(text, postgres(&values)?)
                    .fetch_optional(on.as_mut())
                    .await
            }
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
            Link::Sqlite(on) => {
                sqlx::query_as_with::<Sqlite, T, _>(text, sqlite(&values)?).fetch_all(on).await
            }
            Link::Postgres(on) => {
                sqlx::query_as_with::<Postgres, T, _>(text, postgres(&values)?).fetch_all(on.as_mut()).await
            }
        };
        conn.judge(done)
    }
}

impl<'q, T> QueryScalar<'q, T>
where
    (T,): Row,
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

fn sqlite(values: &[Value<'_>]) -> sqlx::Result<SqliteArguments> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
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
