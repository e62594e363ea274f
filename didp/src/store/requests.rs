//! Requests of apps that wait: pushed authorization requests (RFC 9126), device authorizations (RFC 8628); and which client
//! assertions were used (RFC 7523). Only keyed hashes of what is secret.

use super::Conn;
use super::sql::{from_row, query, query_as, query_scalar};

/// A device authorization.
#[derive(Debug, Clone)]
pub struct DeviceAuthorization {
    /// Its number.
    pub id: i64,
    /// Keyed hash of the device_code.
    pub code: Vec<u8>,
    /// The app.
    pub client_id: String,
    /// What it asks for, as a form.
    pub parameters: String,
    /// `open`, `allowed` or `declined`.
    pub state: String,
    /// Unix seconds.
    pub expires_at: i64,
}

from_row!(DeviceAuthorization { id, code, client_id, parameters, state, expires_at });

/// Keeps a pushed authorization request.
pub async fn push(
    conn: &mut Conn,
    handle: &[u8],
    client_id: &str,
    parameters: &str,
    expires_at: i64,
) -> sqlx::Result<()> {
    query("INSERT INTO pushed_requests (handle, client_id, parameters, expires_at) VALUES ($1, $2, $3, $4)")
        .bind(handle)
        .bind(client_id)
        .bind(parameters)
        .bind(expires_at)
        .execute(conn)
        .await?;
    Ok(())
}

/// The parameters that this client pushed under this handle, as a form.
pub async fn pushed(
    conn: &mut Conn,
    handle: &[u8],
    client_id: &str,
    now: i64,
) -> sqlx::Result<Option<String>> {
    query_scalar(
        "SELECT parameters FROM pushed_requests WHERE handle = $1 AND client_id = $2 AND expires_at > $3",
    )
    .bind(handle)
    .bind(client_id)
    .bind(now)
    .fetch_optional(conn)
    .await
}

/// Forgets a pushed request; false if somebody else did before.
pub async fn spend(conn: &mut Conn, handle: &[u8]) -> sqlx::Result<bool> {
    Ok(query("DELETE FROM pushed_requests WHERE handle = $1").bind(handle).execute(conn).await? > 0)
}

/// Keeps a device authorization; false if its user code is taken.
pub async fn begin(
    conn: &mut Conn,
    code: &[u8],
    user_code: &[u8],
    client_id: &str,
    parameters: &str,
    expires_at: i64,
) -> sqlx::Result<bool> {
    let done = query(
        "INSERT INTO device_authorizations (code, user_code, client_id, parameters, state, expires_at)
         VALUES ($1, $2, $3, $4, 'open', $5) ON CONFLICT DO NOTHING",
    )
    .bind(code)
    .bind(user_code)
    .bind(client_id)
    .bind(parameters)
    .bind(expires_at)
    .execute(conn)
    .await?;
    Ok(done > 0)
}

/// The device authorization with this device_code.
pub async fn by_code(conn: &mut Conn, code: &[u8]) -> sqlx::Result<Option<DeviceAuthorization>> {
    query_as(
        "SELECT id, code, client_id, parameters, state, expires_at FROM device_authorizations WHERE code = $1",
    )
    .bind(code)
    .fetch_optional(conn)
    .await
}

/// The open device authorization with this user code.
pub async fn by_user_code(
    conn: &mut Conn,
    user_code: &[u8],
    now: i64,
) -> sqlx::Result<Option<DeviceAuthorization>> {
    query_as(
        "SELECT id, code, client_id, parameters, state, expires_at FROM device_authorizations
         WHERE user_code = $1 AND state = 'open' AND expires_at > $2",
    )
    .bind(user_code)
    .bind(now)
    .fetch_optional(conn)
    .await
}

/// Decides an open device authorization; false if it is not open any more.
pub async fn decide(conn: &mut Conn, id: i64, state: &str) -> sqlx::Result<bool> {
    let done = query("UPDATE device_authorizations SET state = $1 WHERE id = $2 AND state = 'open'")
        .bind(state)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(done > 0)
}

/// Notes that an assertion was used; false if it was before.
pub async fn use_assertion(conn: &mut Conn, id: &[u8], expires_at: i64) -> sqlx::Result<bool> {
    let done = query("INSERT INTO used_assertions (id, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(id)
        .bind(expires_at)
        .execute(conn)
        .await?;
    Ok(done > 0)
}
