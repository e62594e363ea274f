//! Finding and deleting what is over, in small batches so that nobody waits long for the writer.

use super::Conn;
use super::grants::Grant;
use super::sql::{query, query_as};

/// Deletes up to `limit` rows of each kind that nobody can refer to any more; true if there may be more.
pub async fn delete_expired(
    conn: &mut Conn,
    limit: i64,
    now: i64,
    events: i64,
    notices: i64,
) -> sqlx::Result<bool> {
    // A dead node stays until it would have ended by itself: as long as a client may have slept, a thief must not be able to use up
    // the evidence. And for a day more, so that presenting it late is still told from a made-up one.
    const DAY: i64 = 86_400;
    let statements: [(&'static str, i64); 11] = [
        ("DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at <= $1 LIMIT $2)", now),
        ("DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires_at <= $1 LIMIT $2)", now - DAY),
        (
            "DELETE FROM claims WHERE id IN (SELECT id FROM claims WHERE deadline <= $1 AND state NOT IN
             ('open', 'taken', 'granted', 'redeemed') LIMIT $2)",
            now,
        ),
        (
            "DELETE FROM claim_waiting WHERE (device, user_id) IN
             (SELECT device, user_id FROM claim_waiting WHERE until <= $1 LIMIT $2)",
            now,
        ),
        (
            "DELETE FROM claim_tries WHERE (session_id, code) IN
             (SELECT session_id, code FROM claim_tries WHERE until <= $1 LIMIT $2)",
            now,
        ),
        (
            "DELETE FROM transfers WHERE device IN (SELECT device FROM transfers WHERE until <= $1 LIMIT $2)",
            now,
        ),
        (
            "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE at <= $1 ORDER BY seq LIMIT $2)",
            events,
        ),
        ("DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE at <= $1 LIMIT $2)", notices),
        (
            "DELETE FROM pushed_requests WHERE handle IN
             (SELECT handle FROM pushed_requests WHERE expires_at <= $1 LIMIT $2)",
            now,
        ),
        (
            "DELETE FROM device_authorizations WHERE id IN
             (SELECT id FROM device_authorizations WHERE expires_at <= $1 LIMIT $2)",
            now - DAY,
        ),
        (
            "DELETE FROM used_assertions WHERE id IN
             (SELECT id FROM used_assertions WHERE expires_at <= $1 LIMIT $2)",
            now,
        ),
    ];
    let mut more = false;
    for (statement, until) in statements {
        let done = query(statement).bind(until).bind(limit).execute(&mut *conn).await?;
        more |= done >= u64::try_from(limit).unwrap_or(u64::MAX);
    }
    Ok(more)
}

/// Grants that are over: their end has passed, or nothing that could continue their line is left. Looks only at ends that have
/// passed, so that the cost does not grow with the number of grants.
pub async fn ended_grants(conn: &mut Conn, now: i64, limit: i64) -> sqlx::Result<Vec<Grant>> {
    query_as(
        "SELECT * FROM grants WHERE expires_at IS NOT NULL AND expires_at <= $1
         UNION
         SELECT * FROM grants g WHERE g.id IN (SELECT grant_id FROM tokens WHERE state <> 'dead' AND expires_at <= $1)
         AND NOT EXISTS (SELECT 1 FROM tokens t WHERE t.grant_id = g.id AND t.state <> 'dead' AND t.expires_at > $1)
         LIMIT $2",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(conn)
    .await
}
