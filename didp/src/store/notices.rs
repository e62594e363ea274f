//! What an owner sees of the past: claims, consents, withdrawals, theft alarms. No device data, no addresses.

use sqlx::FromRow;

use super::Conn;

/// One entry.
#[derive(Debug, Clone, FromRow)]
pub struct Notice {
    /// Unix seconds.
    pub at: i64,
    /// Name of the kind, as [`crate::flows::account::NoticeKind`] writes it.
    pub kind: String,
    /// What it concerns, as a person calls it.
    pub subject: String,
}

/// Adds an entry.
pub async fn insert(conn: &mut Conn, user: i64, at: i64, kind: &str, subject: &str) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO notices (user_id, at, kind, subject) VALUES (?, ?, ?, ?)")
        .bind(user)
        .bind(at)
        .bind(kind)
        .bind(subject)
        .execute(conn)
        .await?;
    Ok(())
}

/// The latest entries, newest first.
pub async fn of_user(conn: &mut Conn, user: i64, since: i64) -> sqlx::Result<Vec<Notice>> {
    sqlx::query_as(
        "SELECT at, kind, subject FROM notices WHERE user_id = ? AND at >= ? ORDER BY at DESC, id DESC LIMIT 200",
    )
    .bind(user)
    .bind(since)
    .fetch_all(conn)
    .await
}
