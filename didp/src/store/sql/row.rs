//! Rows of either database, and what is read out of them.

use rusqlite::types::FromSql;
use sqlx::Row as _;
use sqlx::postgres::{PgRow, Postgres};

use super::told;

/// What a column can be read as.
pub trait Column: FromSql + for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres> {}
impl<T> Column for T where T: FromSql + for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres> {}

/// A row of an answer.
pub struct Row<'r> {
    of: Of<'r>,
    /// Where the next column stands, most likely: columns are mostly asked for in their order.
    next: usize,
}

enum Of<'r> {
    Sqlite(&'r rusqlite::Row<'r>),
    Postgres(&'r PgRow),
}

impl<'r> Row<'r> {
    pub(super) fn of_sqlite(row: &'r rusqlite::Row<'r>) -> Self {
        Self { of: Of::Sqlite(row), next: 0 }
    }

    pub(super) fn of_postgres(row: &'r PgRow) -> Self {
        Self { of: Of::Postgres(row), next: 0 }
    }

    /// The value of the column of this name.
    ///
    /// # Errors
    /// There is none, or it is something else.
    pub fn named<T: Column>(&mut self, name: &str) -> sqlx::Result<T> {
        match self.of {
            Of::Postgres(row) => row.try_get(name),
            Of::Sqlite(row) => {
                let statement = row.as_ref();
                let at = match statement.column_name(self.next) {
                    Ok(next) if next == name => self.next,
                    _ => statement.column_index(name).map_err(told)?,
                };
                self.next = at + 1;
                row.get(at).map_err(told)
            }
        }
    }

    /// The value of the column at this place, from 0.
    ///
    /// # Errors
    /// There is none, or it is something else.
    pub fn at<T: Column>(&mut self, place: usize) -> sqlx::Result<T> {
        match self.of {
            Of::Postgres(row) => row.try_get(place),
            Of::Sqlite(row) => row.get(place).map_err(told),
        }
    }
}

/// What a row is read into.
pub trait FromRow: Sized + Send + Unpin {
    /// Reads it.
    ///
    /// # Errors
    /// A column is missing, or is something else.
    fn from_row(row: &mut Row<'_>) -> sqlx::Result<Self>;
}

/// How structures are read: each field from the column of its name, or of the one that stands beside it; behind the semicolon, what
/// is itself read from columns of the same row.
macro_rules! from_row {
    ($structure:ident { $($field:ident $(as $column:literal)?),* $(; $($part:ident),+)? }) => {
        impl $crate::store::sql::FromRow for $structure {
            fn from_row(row: &mut $crate::store::sql::Row<'_>) -> sqlx::Result<Self> {
                Ok(Self {
                    $($field: row.named($crate::store::sql::from_row!(@ $field $($column)?))?,)*
                    $($($part: $crate::store::sql::FromRow::from_row(row)?,)+)?
                })
            }
        }
    };
    (@ $field:ident) => { stringify!($field) };
    (@ $field:ident $column:literal) => { $column };
}
pub(in crate::store) use from_row;

macro_rules! tuples {
    ($(($($column:ident $place:literal),+);)+) => {
        $(impl<$($column: Column + Send + Unpin),+> FromRow for ($($column,)+) {
            fn from_row(row: &mut Row<'_>) -> sqlx::Result<Self> {
                Ok(($(row.at::<$column>($place)?,)+))
            }
        })+
    };
}

tuples! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
}
