//! OAuth clients: devices and apps alike, with what registration knows of a device.

use sqlx::AssertSqlSafe;

use super::Conn;
use super::sql::{from_row, query, query_as, query_scalar};

/// A registered client.
#[derive(Debug, Clone)]
pub struct Client {
    /// Chosen by the server.
    pub client_id: String,
    /// `device` or `app`.
    pub kind: String,
    /// `client_secret_basic`, `client_secret_post` or `none`.
    pub auth_method: String,
    /// PHC string; none for a public client.
    pub secret: Option<String>,
    /// PHC string of the secret that a claim gave; takes the other's place when it is first used.
    pub renewed_secret: Option<String>,
    /// What a person calls it: the app, or the model of the device.
    pub name: String,
    /// What was registered, as JSON.
    pub metadata: String,
    /// Who registered it; none if it was done without a token.
    pub registrar: Option<String>,
    /// It may neither log in nor be claimed.
    pub disabled: bool,
    /// Unix seconds.
    pub created_at: i64,
}

from_row!(Client {
    client_id,
    kind,
    auth_method,
    secret,
    renewed_secret,
    name,
    metadata,
    registrar,
    disabled,
    created_at
});

impl Client {
    /// True for a device.
    pub fn is_device(&self) -> bool {
        self.kind == "device"
    }

    /// True for a client without a secret.
    pub fn is_public(&self) -> bool {
        self.auth_method == "none"
    }
}

/// What registration knows of a device.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its client_id.
    pub client_id: String,
    /// What people call the model.
    pub model: String,
    /// `code` or `press`.
    pub confirm: String,
    /// JSON array of channels.
    pub channels: String,
}

from_row!(Device { client_id, model, confirm, channels });

/// A client to be inserted.
pub struct NewClient<'a> {
    /// As in [`Client`].
    pub client_id: &'a str,
    /// As in [`Client`].
    pub kind: &'a str,
    /// As in [`Client`].
    pub auth_method: &'a str,
    /// As in [`Client`].
    pub secret: Option<&'a str>,
    /// As in [`Client`].
    pub name: &'a str,
    /// As in [`Client`].
    pub metadata: &'a str,
    /// As in [`Client`].
    pub registrar: Option<&'a str>,
    /// Keyed hash of the registration access token.
    pub registration_token: &'a [u8],
    /// Keyed hash of registrar, key and request, if a key was sent.
    pub idempotency: Option<&'a [u8]>,
    /// Unix seconds.
    pub created_at: i64,
}

/// Inserts a client.
pub async fn insert(conn: &mut Conn, client: &NewClient<'_>) -> sqlx::Result<()> {
    query(
        "INSERT INTO clients (client_id, kind, auth_method, secret, name, metadata, registrar, registration_token,
             idempotency, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(client.client_id)
    .bind(client.kind)
    .bind(client.auth_method)
    .bind(client.secret)
    .bind(client.name)
    .bind(client.metadata)
    .bind(client.registrar)
    .bind(client.registration_token)
    .bind(client.idempotency)
    .bind(client.created_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// Inserts what registration knows of a device.
pub async fn insert_device(
    conn: &mut Conn,
    client_id: &str,
    code: &[u8],
    confirm: &str,
    channels: &str,
    batch: Option<&str>,
) -> sqlx::Result<()> {
    query("INSERT INTO devices (client_id, code, confirm, channels, batch) VALUES ($1, $2, $3, $4, $5)")
        .bind(client_id)
        .bind(code)
        .bind(confirm)
        .bind(channels)
        .bind(batch)
        .execute(conn)
        .await?;
    Ok(())
}

/// The client of this id. A device whose factory secret was withdrawn, and that nobody ever claimed, counts as disabled.
pub async fn get(conn: &mut Conn, client_id: &str) -> sqlx::Result<Option<Client>> {
    query_as(
        "SELECT client_id, kind, auth_method, secret, renewed_secret, name, metadata, registrar, created_at,
             (disabled OR (registration_token IS NOT NULL AND EXISTS
                 (SELECT 1 FROM devices d WHERE d.client_id = c.client_id AND d.withdrawn))) AS disabled
         FROM clients c WHERE client_id = $1",
    )
    .bind(client_id)
    .fetch_optional(conn)
    .await
}

/// The client that was registered with this idempotency key.
pub async fn by_idempotency(conn: &mut Conn, key: &[u8]) -> sqlx::Result<Option<Client>> {
    query_as("SELECT * FROM clients WHERE idempotency = $1").bind(key).fetch_optional(conn).await
}

/// What a device can tell and do: a JSON array of channels.
pub async fn channels(conn: &mut Conn, client_id: &str) -> sqlx::Result<Option<String>> {
    query_scalar("SELECT channels FROM devices WHERE client_id = $1")
        .bind(client_id)
        .fetch_optional(conn)
        .await
}

/// Counts `more` clients for a registrar (apps that registered without a token, if it is none); how many it has now. Others that
/// register for the same one wait from here to the commit.
pub async fn count(conn: &mut Conn, registrar: Option<&str>, more: i64) -> sqlx::Result<i64> {
    query_scalar(
        "INSERT INTO registrars (id, clients) VALUES ($1, $2)
         ON CONFLICT (id) DO UPDATE SET clients = registrars.clients + excluded.clients RETURNING clients",
    )
    .bind(registrar.unwrap_or_default())
    .bind(more)
    .fetch_one(conn)
    .await
}

/// How many clients a registrar has.
pub async fn counted(conn: &mut Conn, registrar: &str) -> sqlx::Result<i64> {
    let found: Option<i64> = query_scalar("SELECT clients FROM registrars WHERE id = $1")
        .bind(registrar)
        .fetch_optional(conn)
        .await?;
    Ok(found.unwrap_or(0))
}

const UNUSED: &str = "SELECT client_id FROM clients c WHERE registrar IS NULL AND created_at <= $1
     AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.client_id = c.client_id) LIMIT $2";

/// True if an app that registered without a token until then has no grant.
pub async fn has_unused(conn: &mut Conn, until: i64) -> sqlx::Result<bool> {
    let found: Option<String> = query_scalar(UNUSED).bind(until).bind(1).fetch_optional(conn).await?;
    Ok(found.is_some())
}

/// Deletes apps that registered without a token until then and have no grant, up to `limit`.
pub async fn delete_unused(conn: &mut Conn, until: i64, limit: i64) -> sqlx::Result<()> {
    let sql = format!("DELETE FROM clients WHERE client_id IN ({UNUSED})");
    let deleted = query(AssertSqlSafe(sql)).bind(until).bind(limit).execute(conn).await?;
    count(conn, None, -i64::try_from(deleted).unwrap_or(0)).await?;
    Ok(())
}

/// True if this is the client's registration access token, and the client was never claimed.
pub async fn has_registration_token(conn: &mut Conn, client_id: &str, token: &[u8]) -> sqlx::Result<bool> {
    query_scalar("SELECT count(*) > 0 FROM clients WHERE client_id = $1 AND registration_token = $2")
        .bind(client_id)
        .bind(token)
        .fetch_one(conn)
        .await
}

/// Takes the registration access token away for good.
pub async fn end_registration(conn: &mut Conn, client_id: &str) -> sqlx::Result<()> {
    query("UPDATE clients SET registration_token = NULL WHERE client_id = $1")
        .bind(client_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Replaces the name and the metadata.
pub async fn update(conn: &mut Conn, client_id: &str, name: &str, metadata: &str) -> sqlx::Result<()> {
    query("UPDATE clients SET name = $1, metadata = $2 WHERE client_id = $3")
        .bind(name)
        .bind(metadata)
        .bind(client_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Replaces what registration knows of a device.
pub async fn update_device(
    conn: &mut Conn,
    client_id: &str,
    confirm: &str,
    channels: &str,
    batch: Option<&str>,
) -> sqlx::Result<()> {
    query("UPDATE devices SET confirm = $1, channels = $2, batch = $3 WHERE client_id = $4")
        .bind(confirm)
        .bind(channels)
        .bind(batch)
        .bind(client_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes a client with everything that hangs on it.
pub async fn delete(conn: &mut Conn, client: &Client) -> sqlx::Result<()> {
    let deleted =
        query("DELETE FROM clients WHERE client_id = $1").bind(&client.client_id).execute(conn).await?;
    if deleted > 0 {
        count(conn, client.registrar.as_deref(), -1).await?;
    }
    Ok(())
}

/// Sets the secret that a claim gave; both are valid until the new one is used.
pub async fn renew_secret(conn: &mut Conn, client_id: &str, phc: &str) -> sqlx::Result<()> {
    query("UPDATE clients SET renewed_secret = $1 WHERE client_id = $2")
        .bind(phc)
        .bind(client_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Puts `phc` in the secret's place if the row still holds `before` as secret or renewed secret; a renewed one leaves no
/// other behind.
pub async fn settle_secret(conn: &mut Conn, client_id: &str, before: &str, phc: &str) -> sqlx::Result<bool> {
    let done = query(
        "UPDATE clients SET secret = $1, renewed_secret = CASE WHEN renewed_secret = $2 THEN NULL ELSE renewed_secret END
         WHERE client_id = $3 AND (secret = $2 OR renewed_secret = $2)",
    )
    .bind(phc)
    .bind(before)
    .bind(client_id)
    .execute(conn)
    .await?;
    Ok(done > 0)
}

/// The device of this id.
pub async fn device(conn: &mut Conn, client_id: &str) -> sqlx::Result<Option<Device>> {
    query_as(
        "SELECT d.client_id, c.name AS model, d.confirm, d.channels FROM devices d JOIN clients c USING (client_id)
         WHERE d.client_id = $1 AND NOT c.disabled",
    )
    .bind(client_id)
    .fetch_optional(conn)
    .await
}

/// Writes the hash of a printed code anew, under the newest key.
pub async fn rewrap_code(conn: &mut Conn, old: &[u8], new: &[u8]) -> sqlx::Result<()> {
    query("UPDATE devices SET code = $1 WHERE code = $2").bind(new).bind(old).execute(conn).await?;
    Ok(())
}

/// Writes the hash of a registration access token anew, under the newest key.
pub async fn rewrap_registration_token(conn: &mut Conn, client_id: &str, new: &[u8]) -> sqlx::Result<()> {
    query(
        "UPDATE clients SET registration_token = $1 WHERE client_id = $2 AND registration_token IS NOT NULL",
    )
    .bind(new)
    .bind(client_id)
    .execute(conn)
    .await?;
    Ok(())
}

/// The device whose printed code has this hash, unless that was withdrawn or the device was handed over with another one.
pub async fn device_by_code(conn: &mut Conn, code: &[u8], now: i64) -> sqlx::Result<Option<Device>> {
    query_as(
        "SELECT d.client_id, c.name AS model, d.confirm, d.channels FROM devices d JOIN clients c USING (client_id)
         WHERE d.code = $1 AND NOT c.disabled AND NOT d.withdrawn
         AND NOT EXISTS (SELECT 1 FROM transfers t WHERE t.device = d.client_id AND t.until > $2)",
    )
    .bind(code)
    .bind(now)
    .fetch_optional(conn)
    .await
}
