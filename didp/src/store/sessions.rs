//! Browser sessions of owners who are logged in.

use super::Conn;
use super::sql::{query, query_as, query_scalar};

/// A new session; its number.
pub async fn insert(
    conn: &mut Conn,
    token: &[u8],
    user: i64,
    expires_at: i64,
    ends_at: i64,
) -> sqlx::Result<i64> {
    query_scalar("INSERT INTO sessions (token, user_id, expires_at, ends_at) VALUES ($1, $2, CASE WHEN $3 < $4 THEN $3 ELSE $4 END, $4) RETURNING id")
        .bind(token)
        .bind(user)
        .bind(expires_at)
        .bind(ends_at)
        .fetch_one(conn)
        .await
}

/// Number, owner, end without use and last end of a session that is alive.
pub async fn get(conn: &mut Conn, token: &[u8], now: i64) -> sqlx::Result<Option<(i64, i64, i64, i64)>> {
    query_as("SELECT id, user_id, expires_at, ends_at FROM sessions WHERE token = $1 AND expires_at > $2")
        .bind(token)
        .bind(now)
        .fetch_optional(conn)
        .await
}

/// Moves a session's end, but not beyond its last one.
pub async fn extend(conn: &mut Conn, id: i64, expires_at: i64) -> sqlx::Result<()> {
    query("UPDATE sessions SET expires_at = CASE WHEN $1 < ends_at THEN $1 ELSE ends_at END WHERE id = $2")
        .bind(expires_at)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Writes the hash of a session's token anew, under the newest key.
pub async fn rewrap(conn: &mut Conn, id: i64, token: &[u8]) -> sqlx::Result<()> {
    query("UPDATE sessions SET token = $1 WHERE id = $2").bind(token).bind(id).execute(conn).await?;
    Ok(())
}

/// Ends a session.
pub async fn delete(conn: &mut Conn, token: &[u8]) -> sqlx::Result<()> {
    query("DELETE FROM sessions WHERE token = $1").bind(token).execute(conn).await?;
    Ok(())
}

/// Number and end of each session of an owner that is alive.
pub async fn of_user(conn: &mut Conn, user: i64, now: i64) -> sqlx::Result<Vec<(i64, i64)>> {
    query_as("SELECT id, expires_at FROM sessions WHERE user_id = $1 AND expires_at > $2 ORDER BY id")
        .bind(user)
        .bind(now)
        .fetch_all(conn)
        .await
}

/// Ends every session of an owner but one.
pub async fn delete_others(conn: &mut Conn, user: i64, kept: i64) -> sqlx::Result<()> {
    query("DELETE FROM sessions WHERE user_id = $1 AND id <> $2").bind(user).bind(kept).execute(conn).await?;
    Ok(())
}
