//! The line of a grant: codes and pairs of tokens, each fresh, current or dead. Only keyed hashes are kept.
//!
//! Alive in a grant are at most one current node and its fresh children; [`crate::flows::token`] says why.

use sqlx::AssertSqlSafe;

use super::Conn;
use super::grants::Grant;
use super::sql::{from_row, query, query_as, query_scalar};

/// One node of a line.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its number.
    pub id: i64,
    /// The grant.
    pub grant_id: i64,
    /// `fresh`, `current` or `dead`.
    pub state: String,
    /// End of the access token, Unix seconds; none for a code.
    pub access_expires: Option<i64>,
    /// A code's PKCE challenge; none for a pair of tokens.
    pub challenge: Option<String>,
    /// A code's redirect URI; none for a device's.
    pub redirect_uri: Option<String>,
    /// When its handle was first presented, Unix seconds.
    pub presented_at: Option<i64>,
    /// End of the code or of the refresh token, Unix seconds.
    pub expires_at: i64,
}

from_row!(Node { id, grant_id, state, access_expires, challenge, redirect_uri, presented_at, expires_at });

/// A node to be inserted.
pub struct NewNode<'a> {
    /// The grant.
    pub grant_id: i64,
    /// The node that was presented for it; none for a code.
    pub parent: Option<i64>,
    /// `current` for a code, `fresh` for a pair.
    pub state: &'a str,
    /// Keyed hash of the code or of the refresh token.
    pub handle: &'a [u8],
    /// Keyed hash and end of the access token.
    pub access: Option<(&'a [u8], i64)>,
    /// A code's PKCE challenge.
    pub challenge: Option<&'a str>,
    /// A code's redirect URI.
    pub redirect_uri: Option<&'a str>,
    /// End of the code or of the refresh token.
    pub expires_at: i64,
}

struct NodeOfGrant {
    grant: Grant,
    node_id: i64,
    node_state: String,
    access_expires: Option<i64>,
    challenge: Option<String>,
    redirect_uri: Option<String>,
    presented_at: Option<i64>,
    node_expires: i64,
}

from_row!(NodeOfGrant { node_id, node_state, access_expires, challenge, redirect_uri, presented_at, node_expires; grant });

const NODE: &str = "id, grant_id, state, access_expires, challenge, redirect_uri, presented_at, expires_at";

/// Inserts a node.
pub async fn insert(conn: &mut Conn, node: &NewNode<'_>) -> sqlx::Result<()> {
    query(
        "INSERT INTO tokens (grant_id, parent, state, handle, access, access_expires, challenge, redirect_uri, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(node.grant_id)
    .bind(node.parent)
    .bind(node.state)
    .bind(node.handle)
    .bind(node.access.map(|(hash, _)| hash))
    .bind(node.access.map(|(_, expires)| expires))
    .bind(node.challenge)
    .bind(node.redirect_uri)
    .bind(node.expires_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// The node whose code or refresh token has this hash.
pub async fn by_handle(conn: &mut Conn, handle: &[u8]) -> sqlx::Result<Option<Node>> {
    let sql = format!("SELECT {NODE} FROM tokens WHERE handle = $1");
    query_as(AssertSqlSafe(sql)).bind(handle).fetch_optional(conn).await
}

/// The node of a code or refresh token, with its grant.
pub async fn with_grant(conn: &mut Conn, handle: &[u8]) -> sqlx::Result<Option<(Node, Grant)>> {
    let found: Option<NodeOfGrant> = query_as(
        "SELECT g.*, t.id AS node_id, t.state AS node_state, t.access_expires, t.challenge, t.redirect_uri, t.presented_at,
             t.expires_at AS node_expires
         FROM tokens t JOIN grants g ON g.id = t.grant_id WHERE t.handle = $1",
    )
    .bind(handle)
    .fetch_optional(conn)
    .await?;
    Ok(found.map(|found| {
        let node = Node {
            id: found.node_id,
            grant_id: found.grant.id,
            state: found.node_state,
            access_expires: found.access_expires,
            challenge: found.challenge,
            redirect_uri: found.redirect_uri,
            presented_at: found.presented_at,
            expires_at: found.node_expires,
        };
        (node, found.grant)
    }))
}

/// The node whose access token has this hash.
pub async fn by_access(conn: &mut Conn, access: &[u8]) -> sqlx::Result<Option<Node>> {
    let sql = format!("SELECT {NODE} FROM tokens WHERE access = $1");
    query_as(AssertSqlSafe(sql)).bind(access).fetch_optional(conn).await
}

/// Writes the hash of a code or refresh token anew, under the newest key.
pub async fn rewrap(conn: &mut Conn, id: i64, handle: &[u8]) -> sqlx::Result<()> {
    query("UPDATE tokens SET handle = $1 WHERE id = $2").bind(handle).bind(id).execute(conn).await?;
    Ok(())
}

/// Makes a fresh node the current one and kills every other of its grant; false if it was not fresh any more.
pub async fn take_over(conn: &mut Conn, node: &Node) -> sqlx::Result<bool> {
    let won = query("UPDATE tokens SET state = 'current' WHERE id = $1 AND state = 'fresh'")
        .bind(node.id)
        .execute(&mut *conn)
        .await?
        > 0;
    if won {
        query("UPDATE tokens SET state = 'dead' WHERE grant_id = $1 AND id <> $2 AND state <> 'dead'")
            .bind(node.grant_id)
            .bind(node.id)
            .execute(conn)
            .await?;
    }
    Ok(won)
}

/// Kills one node.
pub async fn kill(conn: &mut Conn, id: i64) -> sqlx::Result<()> {
    query("UPDATE tokens SET state = 'dead' WHERE id = $1").bind(id).execute(conn).await?;
    Ok(())
}

/// Kills one access token; its refresh token lives.
pub async fn kill_access(conn: &mut Conn, id: i64) -> sqlx::Result<()> {
    query("UPDATE tokens SET access = NULL WHERE id = $1").bind(id).execute(conn).await?;
    Ok(())
}

/// Notes when a handle was first presented.
pub async fn note_presented(conn: &mut Conn, id: i64, now: i64) -> sqlx::Result<()> {
    query("UPDATE tokens SET presented_at = $1 WHERE id = $2 AND presented_at IS NULL")
        .bind(now)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Fresh nodes of a grant, oldest first.
pub async fn fresh(conn: &mut Conn, grant: i64) -> sqlx::Result<Vec<i64>> {
    query_scalar(
        "SELECT id FROM tokens WHERE grant_id = $1 AND state <> 'dead' AND state = 'fresh' ORDER BY id",
    )
    .bind(grant)
    .fetch_all(conn)
    .await
}
