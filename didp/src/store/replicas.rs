//! What several DIdPs on one PostgreSQL keep of each other: who is alive, and which device is connected where.

use super::Conn;
use super::sql::{query, query_as, query_scalar};

/// The channel of LISTEN and NOTIFY.
pub const CHANNEL: &str = "didp";

/// Connections of one replica have numbers from its own number times this.
pub const CONNECTIONS: i64 = 1 << 32;

/// Adds a replica; its number, which no other one ever has.
pub async fn join(conn: &mut Conn) -> sqlx::Result<i64> {
    query_scalar("INSERT INTO replicas DEFAULT VALUES RETURNING id").fetch_one(conn).await
}

/// Says that a replica lives; false if it was thought dead, and is there again only now.
pub async fn beat(conn: &mut Conn, replica: i64) -> sqlx::Result<bool> {
    let beat = "UPDATE replicas SET beat_at = clock_timestamp() WHERE id = $1";
    if query(beat).bind(replica).execute(conn).await? > 0 {
        return Ok(true);
    }
    query("INSERT INTO replicas (id) VALUES ($1) ON CONFLICT DO NOTHING").bind(replica).execute(conn).await?;
    Ok(false)
}

/// Every replica, and whether it lives: one that did not say so for five seconds counts as dead.
pub async fn all(conn: &mut Conn) -> sqlx::Result<Vec<(i64, bool)>> {
    query_as("SELECT id, beat_at > clock_timestamp() - interval '5 seconds' FROM replicas")
        .fetch_all(conn)
        .await
}

/// Takes a replica away, and where devices were connected to it.
pub async fn remove(conn: &mut Conn, replica: i64) -> sqlx::Result<()> {
    query("DELETE FROM presence WHERE connection >= $1 AND connection < $2")
        .bind(replica * CONNECTIONS)
        .bind((replica + 1) * CONNECTIONS)
        .execute(conn)
        .await?;
    query("DELETE FROM replicas WHERE id = $1").bind(replica).execute(conn).await?;
    Ok(())
}

/// Notes where devices are connected now: a JSON array of arrays of client_id and connection.
pub async fn arrived(conn: &mut Conn, devices: &str) -> sqlx::Result<()> {
    query(
        "INSERT INTO presence (device, connection)
         SELECT DISTINCT ON (one ->> 0) one ->> 0, CAST(one ->> 1 AS BIGINT)
         FROM json_array_elements(CAST($1 AS JSON)) WITH ORDINALITY AS list (one, place)
         ORDER BY one ->> 0, place DESC
         ON CONFLICT (device) DO UPDATE SET connection = excluded.connection",
    )
    .bind(devices)
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes which connections are gone: a list as above.
pub async fn left(conn: &mut Conn, devices: &str) -> sqlx::Result<()> {
    query(
        "DELETE FROM presence p USING json_array_elements(CAST($1 AS JSON)) AS list (one)
         WHERE p.device = one ->> 0 AND p.connection = CAST(one ->> 1 AS BIGINT)",
    )
    .bind(devices)
    .execute(conn)
    .await?;
    Ok(())
}

/// Those of an owner's devices that are connected somewhere.
pub async fn present(conn: &mut Conn, user: i64) -> sqlx::Result<Vec<String>> {
    query_scalar(
        "SELECT p.device FROM presence p JOIN ownerships o ON o.device = p.device WHERE o.user_id = $1",
    )
    .bind(user)
    .fetch_all(conn)
    .await
}

/// Tells every replica something, with the commit.
pub async fn notify(conn: &mut Conn, message: &str) -> sqlx::Result<()> {
    query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(message).execute(conn).await?;
    Ok(())
}
