//! What an owner sees of the past: claims, consents, withdrawals, theft alarms. No device data, no addresses.

use super::Conn;
use super::sql::{from_row, query, query_as};

/// One entry.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Rises with time.
    pub id: i64,
    /// Unix seconds.
    pub at: i64,
    /// Name of the kind, as [`crate::flows::account::NoticeKind`] writes it.
    pub kind: String,
    /// What it concerns, as a person calls it.
    pub subject: String,
}

from_row!(Notice { id, at, kind, subject });

/// Adds an entry.
pub async fn insert(conn: &mut Conn, user: i64, at: i64, kind: &str, subject: &str) -> sqlx::Result<()> {
    query("INSERT INTO notices (user_id, at, kind, subject) VALUES ($1, $2, $3, $4)")
        .bind(user)
        .bind(at)
        .bind(kind)
        .bind(subject)
        .execute(conn)
        .await?;
    Ok(())
}

/// Entries since then and before one of them, newest first.
pub async fn before(
    conn: &mut Conn,
    user: i64,
    since: i64,
    before: i64,
    limit: i64,
) -> sqlx::Result<Vec<Notice>> {
    query_as(
        "SELECT id, at, kind, subject FROM notices WHERE user_id = $1 AND at >= $2 AND id < $3 ORDER BY id DESC LIMIT $4",
    )
    .bind(user)
    .bind(since)
    .bind(before)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// The latest entries since then, newest first, without those of one kind.
pub async fn lately(
    conn: &mut Conn,
    user: i64,
    since: i64,
    without: &str,
    limit: i64,
) -> sqlx::Result<Vec<Notice>> {
    query_as(
        "SELECT id, at, kind, subject FROM notices WHERE user_id = $1 AND at >= $2 AND kind <> $3
         ORDER BY id DESC LIMIT $4",
    )
    .bind(user)
    .bind(since)
    .bind(without)
    .bind(limit)
    .fetch_all(conn)
    .await
}
