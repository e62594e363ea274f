//! Owners: a keyed hash of who they are upstream, and their pseudonyms at gateways. Nothing else is known of them.

use super::Conn;
use super::sql::{from_row, query, query_as, query_scalar};

/// What a gateway knows of an owner.
#[derive(Debug, Clone)]
pub struct Pseudonym {
    /// Random, one for each owner and gateway.
    pub sub: String,
    /// The DIdP's share of the key of what the owner's PCM keeps.
    pub state_share: Vec<u8>,
    /// Sequence number of the last event that concerns this owner there.
    pub rev: i64,
}

from_row!(Pseudonym { sub, state_share, rev });

/// The owner with this user key.
pub async fn by_key(conn: &mut Conn, user_key: &[u8]) -> sqlx::Result<Option<i64>> {
    query_scalar("SELECT user_id FROM identities WHERE user_key = $1")
        .bind(user_key)
        .fetch_optional(conn)
        .await
}

/// A new owner with this user key.
pub async fn insert(conn: &mut Conn, user_key: &[u8], now: i64) -> sqlx::Result<i64> {
    let user: i64 = query_scalar("INSERT INTO users (created_at) VALUES ($1) RETURNING id")
        .bind(now)
        .fetch_one(&mut *conn)
        .await?;
    query("INSERT INTO identities (user_key, user_id) VALUES ($1, $2)")
        .bind(user_key)
        .bind(user)
        .execute(conn)
        .await?;
    Ok(user)
}

/// Another user key of the same owner.
pub async fn add_identity(conn: &mut Conn, user_key: &[u8], user: i64) -> sqlx::Result<()> {
    query("INSERT INTO identities (user_key, user_id) VALUES ($1, $2)")
        .bind(user_key)
        .bind(user)
        .execute(conn)
        .await?;
    Ok(())
}

/// Takes one user key away.
pub async fn drop_identity(conn: &mut Conn, user_key: &[u8]) -> sqlx::Result<()> {
    query("DELETE FROM identities WHERE user_key = $1").bind(user_key).execute(conn).await?;
    Ok(())
}

/// How many user keys the owner has.
pub async fn identities(conn: &mut Conn, user: i64) -> sqlx::Result<i64> {
    query_scalar("SELECT count(*) FROM identities WHERE user_id = $1").bind(user).fetch_one(conn).await
}

/// Writes a user key anew, under the newest key.
pub async fn rewrap(conn: &mut Conn, old: &[u8], new: &[u8]) -> sqlx::Result<()> {
    query("UPDATE identities SET user_key = $1 WHERE user_key = $2")
        .bind(new)
        .bind(old)
        .execute(conn)
        .await?;
    Ok(())
}

/// What `gateway` knows of the owner.
pub async fn pseudonym(conn: &mut Conn, user: i64, gateway: &str) -> sqlx::Result<Option<Pseudonym>> {
    query_as("SELECT sub, state_share, rev FROM pseudonyms WHERE user_id = $1 AND gateway = $2")
        .bind(user)
        .bind(gateway)
        .fetch_optional(conn)
        .await
}

/// Gives the owner a pseudonym at `gateway`, unless there is one.
pub async fn ensure_pseudonym(
    conn: &mut Conn,
    user: i64,
    gateway: &str,
    sub: &str,
    state_share: &[u8],
) -> sqlx::Result<()> {
    query("INSERT INTO pseudonyms (user_id, gateway, sub, state_share) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING")
        .bind(user)
        .bind(gateway)
        .bind(sub)
        .bind(state_share)
        .execute(conn)
        .await?;
    Ok(())
}

/// The gateway that the owner has a pseudonym at, if any.
pub async fn home_gateway(conn: &mut Conn, user: i64) -> sqlx::Result<Option<String>> {
    query_scalar("SELECT gateway FROM pseudonyms WHERE user_id = $1 ORDER BY gateway LIMIT 1")
        .bind(user)
        .fetch_optional(conn)
        .await
}

/// The owner behind a pseudonym at `gateway`.
pub async fn by_pseudonym(conn: &mut Conn, gateway: &str, sub: &str) -> sqlx::Result<Option<i64>> {
    query_scalar("SELECT user_id FROM pseudonyms WHERE gateway = $1 AND sub = $2")
        .bind(gateway)
        .bind(sub)
        .fetch_optional(conn)
        .await
}

/// Gateway and pseudonym, wherever the owner has one.
pub async fn pseudonyms(conn: &mut Conn, user: i64) -> sqlx::Result<Vec<(String, String)>> {
    query_as("SELECT gateway, sub FROM pseudonyms WHERE user_id = $1 ORDER BY gateway")
        .bind(user)
        .fetch_all(conn)
        .await
}

/// When the owner came, Unix seconds.
pub async fn created_at(conn: &mut Conn, user: i64) -> sqlx::Result<i64> {
    query_scalar("SELECT created_at FROM users WHERE id = $1").bind(user).fetch_one(conn).await
}

/// How many logins lead to this owner.
pub async fn count_identities(conn: &mut Conn, user: i64) -> sqlx::Result<i64> {
    query_scalar("SELECT count(*) FROM identities WHERE user_id = $1").bind(user).fetch_one(conn).await
}

/// Deletes the owner with everything that hangs on them.
pub async fn delete(conn: &mut Conn, user: i64) -> sqlx::Result<()> {
    query("DELETE FROM users WHERE id = $1").bind(user).execute(conn).await?;
    Ok(())
}
