//! What gateways must hear: numbered, kept for some days, so that a stream can resume.

use sqlx::FromRow;

use super::Conn;

/// One stored event.
#[derive(Debug, Clone, FromRow)]
pub struct StoredEvent {
    /// Its number; rises with each event of this DIdP.
    pub seq: i64,
    /// `changed`, `revoked` or `erased`.
    pub kind: String,
    /// The owner that it concerns.
    pub sub: Option<String>,
    /// The grant that it concerns.
    pub sid: Option<String>,
}

/// Number of the last event; 0 if there never was one.
pub async fn head(conn: &mut Conn) -> sqlx::Result<i64> {
    // The autoincrement counter stands even when the sweeper has taken all rows.
    let head: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        .fetch_optional(conn)
        .await?;
    Ok(head.unwrap_or(0))
}

/// Adds an event and writes its number to the owner's pseudonym; the number.
pub async fn insert(
    conn: &mut Conn,
    gateway: &str,
    kind: &str,
    sub: Option<&str>,
    sid: Option<&str>,
    at: i64,
) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "INSERT INTO events (gateway, kind, sub, sid, at) VALUES (?, ?, ?, ?, ?) RETURNING seq",
    )
    .bind(gateway)
    .bind(kind)
    .bind(sub)
    .bind(sid)
    .bind(at)
    .fetch_one(conn)
    .await
}

/// Writes the number of the last event to a pseudonym.
pub async fn mark(conn: &mut Conn, gateway: &str, sub: &str, seq: i64) -> sqlx::Result<()> {
    sqlx::query("UPDATE pseudonyms SET rev = ? WHERE gateway = ? AND sub = ?")
        .bind(seq)
        .bind(gateway)
        .bind(sub)
        .execute(conn)
        .await?;
    Ok(())
}

/// True if every event after `seq` is still there.
pub async fn reaches_back_to(conn: &mut Conn, seq: i64) -> sqlx::Result<bool> {
    let head = head(conn).await?;
    if seq < 0 || seq > head {
        return Ok(false);
    }
    let oldest: Option<i64> = sqlx::query_scalar("SELECT min(seq) FROM events").fetch_one(conn).await?;
    Ok(oldest.unwrap_or(head + 1) <= seq + 1)
}

/// Events for `gateway` after `seq`, oldest first, at most `limit`.
pub async fn after(conn: &mut Conn, gateway: &str, seq: i64, limit: i64) -> sqlx::Result<Vec<StoredEvent>> {
    sqlx::query_as(
        "SELECT seq, kind, sub, sid FROM events WHERE gateway = ? AND seq > ? ORDER BY seq LIMIT ?",
    )
    .bind(gateway)
    .bind(seq)
    .bind(limit)
    .fetch_all(conn)
    .await
}
