//! A manufacturer's devices by model and batch, and the withdrawal of printed codes. Who owns a device is counted here and told
//! nowhere.

use super::Conn;
use super::sql::{from_row, query, query_as};

/// Devices of one model and batch.
#[derive(Debug, Clone)]
pub struct BatchRow {
    /// What people call the model.
    pub model: String,
    /// The production batch; empty if none was named.
    pub batch: String,
    /// Devices.
    pub registered: i64,
    /// Devices whose printed code was withdrawn.
    pub withdrawn: i64,
    /// Devices that have an owner.
    pub owned: i64,
}

from_row!(BatchRow { model, batch, registered, withdrawn, owned });

/// One device, as its manufacturer may see it.
#[derive(Debug, Clone)]
pub struct MadeRow {
    /// Its client_id.
    pub client_id: String,
    /// What people call the model.
    pub model: String,
    /// The production batch; empty if none was named.
    pub batch: String,
    /// Its printed code was withdrawn.
    pub withdrawn: bool,
    /// Unix seconds.
    pub created_at: i64,
}

from_row!(MadeRow { client_id, model, batch, withdrawn, created_at });

/// Counts of a manufacturer's devices.
pub async fn counts(conn: &mut Conn, registrar: &str) -> sqlx::Result<Vec<BatchRow>> {
    query_as(
        "SELECT c.name AS model, coalesce(d.batch, '') AS batch, count(*) AS registered,
             count(CASE WHEN d.withdrawn THEN 1 END) AS withdrawn, count(o.device) AS owned
         FROM clients c JOIN devices d ON d.client_id = c.client_id
         LEFT JOIN ownerships o ON o.device = d.client_id AND o.state <> 'pending'
         WHERE c.registrar = $1 GROUP BY c.name, coalesce(d.batch, '') ORDER BY 1, 2",
    )
    .bind(registrar)
    .fetch_all(conn)
    .await
}

/// Devices of one model and batch after a client_id, by client_id.
pub async fn made(
    conn: &mut Conn,
    registrar: &str,
    model: &str,
    batch: &str,
    after: &str,
    limit: i64,
) -> sqlx::Result<Vec<MadeRow>> {
    query_as(
        "SELECT c.client_id, c.name AS model, coalesce(d.batch, '') AS batch, d.withdrawn, c.created_at
         FROM clients c JOIN devices d ON d.client_id = c.client_id
         WHERE c.registrar = $1 AND c.name = $2 AND coalesce(d.batch, '') = $3 AND c.client_id > $4
         ORDER BY c.client_id LIMIT $5",
    )
    .bind(registrar)
    .bind(model)
    .bind(batch)
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// One device of a manufacturer.
pub async fn one(conn: &mut Conn, registrar: &str, client_id: &str) -> sqlx::Result<Option<MadeRow>> {
    query_as(
        "SELECT c.client_id, c.name AS model, coalesce(d.batch, '') AS batch, d.withdrawn, c.created_at
         FROM clients c JOIN devices d ON d.client_id = c.client_id WHERE c.registrar = $1 AND c.client_id = $2",
    )
    .bind(registrar)
    .bind(client_id)
    .fetch_optional(conn)
    .await
}

/// Withdraws the printed codes of a model and batch, or brings them back; how many devices that concerns.
pub async fn withdraw_batch(
    conn: &mut Conn,
    registrar: &str,
    model: &str,
    batch: &str,
    withdrawn: bool,
) -> sqlx::Result<u64> {
    query(
        "UPDATE devices SET withdrawn = $1 WHERE coalesce(batch, '') = $2
         AND client_id IN (SELECT client_id FROM clients WHERE registrar = $3 AND name = $4)",
    )
    .bind(withdrawn)
    .bind(batch)
    .bind(registrar)
    .bind(model)
    .execute(conn)
    .await
}

/// Withdraws the printed code of one device, or brings it back; false if it is not this manufacturer's.
pub async fn withdraw(
    conn: &mut Conn,
    registrar: &str,
    client_id: &str,
    withdrawn: bool,
) -> sqlx::Result<bool> {
    let done = query(
        "UPDATE devices SET withdrawn = $1 WHERE client_id = $2
         AND EXISTS (SELECT 1 FROM clients c WHERE c.client_id = $2 AND c.registrar = $3)",
    )
    .bind(withdrawn)
    .bind(client_id)
    .bind(registrar)
    .execute(conn)
    .await?;
    Ok(done > 0)
}
