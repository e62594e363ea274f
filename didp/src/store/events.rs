//! What gateways must hear: numbered, kept for some days, so that a stream can resume.

use super::Conn;
use super::sql::{from_row, query, query_as, query_scalar};

/// One stored event.
#[derive(Debug, Clone)]
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

from_row!(StoredEvent { seq, kind, sub, sid });

/// Number of the last event; 0 if there never was one.
pub async fn head(conn: &mut Conn) -> sqlx::Result<i64> {
    query_scalar("SELECT seq FROM event_head").fetch_one(conn).await
}

/// Adds an event; its number. The numbers have no gap and rise in the order of the commits, because whoever took one keeps
/// all others waiting until its commit: so a stream that has seen one has seen all before it.
pub async fn insert(
    conn: &mut Conn,
    gateway: &str,
    kind: &str,
    sub: Option<&str>,
    sid: Option<&str>,
    at: i64,
) -> sqlx::Result<i64> {
    let seq: i64 = query_scalar("UPDATE event_head SET seq = seq + 1 RETURNING seq").fetch_one(conn).await?;
    query("INSERT INTO events (seq, gateway, kind, sub, sid, at) VALUES ($1, $2, $3, $4, $5, $6)")
        .bind(seq)
        .bind(gateway)
        .bind(kind)
        .bind(sub)
        .bind(sid)
        .bind(at)
        .execute(conn)
        .await?;
    Ok(seq)
}

/// Writes the number of the last event to a pseudonym.
pub async fn mark(conn: &mut Conn, gateway: &str, sub: &str, seq: i64) -> sqlx::Result<()> {
    query("UPDATE pseudonyms SET rev = $1 WHERE gateway = $2 AND sub = $3")
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
    let oldest: Option<i64> = query_scalar("SELECT min(seq) FROM events").fetch_one(conn).await?;
    Ok(oldest.unwrap_or(head + 1) <= seq + 1)
}

/// Events for `gateway` after `seq`, oldest first, at most `limit`.
pub async fn after(conn: &mut Conn, gateway: &str, seq: i64, limit: i64) -> sqlx::Result<Vec<StoredEvent>> {
    query_as("SELECT seq, kind, sub, sid FROM events WHERE gateway = $1 AND seq > $2 ORDER BY seq LIMIT $3")
        .bind(gateway)
        .bind(seq)
        .bind(limit)
        .fetch_all(conn)
        .await
}
