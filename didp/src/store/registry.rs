//! Registrars (manufacturers, app developers) and gateways that an operator added while running, beside those of the configuration
//! file. Secrets stand here as keyed hashes only. Each change moves a number that running DIdPs watch.

use super::Conn;
use super::sql::{from_row, query, query_as, query_scalar};

/// Who may register clients.
#[derive(Debug, Clone)]
pub struct RegistrarRow {
    /// Stable short name.
    pub id: String,
    /// `manufacturer` or `developer`.
    pub kind: String,
    /// What a person calls it.
    pub name: String,
    /// Clients at most.
    pub quota: i64,
    /// Its tokens are refused.
    pub disabled: bool,
    /// Unix seconds.
    pub created_at: i64,
}

from_row!(RegistrarRow { id, kind, name, quota, disabled, created_at });

/// An initial access token.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// Keyed hash.
    pub token: Vec<u8>,
    /// Whose it is.
    pub registrar: String,
    /// Unix seconds; none means never.
    pub expires_at: Option<i64>,
    /// Unix seconds.
    pub created_at: i64,
}

from_row!(TokenRow { token, registrar, expires_at, created_at });

/// A gateway.
#[derive(Debug, Clone)]
pub struct GatewayRow {
    /// Name it authenticates with.
    pub client_id: String,
    /// Keyed hash of its secret.
    pub secret: Vec<u8>,
    /// Keyed hash of the secret before the last rotation.
    pub former: Option<Vec<u8>>,
    /// How long that one is still accepted, Unix seconds.
    pub former_until: Option<i64>,
    /// Its URI as an audience.
    pub resource: String,
    /// JSON, as token responses give it.
    pub address: String,
    /// It is refused, and gets no new owners.
    pub disabled: bool,
    /// Unix seconds.
    pub created_at: i64,
}

from_row!(GatewayRow { client_id, secret, former, former_until, resource, address, disabled, created_at });

/// A number that rises with each change.
pub async fn rev(conn: &mut Conn) -> sqlx::Result<i64> {
    query_scalar("SELECT rev FROM registry WHERE one = 1").fetch_one(conn).await
}

/// Says that something was changed.
pub async fn touch(conn: &mut Conn) -> sqlx::Result<()> {
    query("UPDATE registry SET rev = rev + 1 WHERE one = 1").execute(conn).await?;
    Ok(())
}

/// Every registrar.
pub async fn registrars(conn: &mut Conn) -> sqlx::Result<Vec<RegistrarRow>> {
    query_as(
        "SELECT id, kind, name, quota, disabled, created_at FROM known_registrars ORDER BY created_at, id",
    )
    .fetch_all(conn)
    .await
}

/// Every initial access token, the newest first.
pub async fn tokens(conn: &mut Conn) -> sqlx::Result<Vec<TokenRow>> {
    query_as(
        "SELECT token, registrar, expires_at, created_at FROM registrar_tokens ORDER BY created_at DESC, token",
    )
    .fetch_all(conn)
    .await
}

/// Every gateway, the oldest first.
pub async fn gateways(conn: &mut Conn) -> sqlx::Result<Vec<GatewayRow>> {
    query_as(
        "SELECT client_id, secret, former, former_until, resource, address, disabled, created_at FROM gateways
         ORDER BY created_at, client_id",
    )
    .fetch_all(conn)
    .await
}

/// Adds a registrar; false if the id is taken.
pub async fn add_registrar(conn: &mut Conn, row: &RegistrarRow) -> sqlx::Result<bool> {
    let done = query(
        "INSERT INTO known_registrars (id, kind, name, quota, disabled, created_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(&row.id)
    .bind(&row.kind)
    .bind(&row.name)
    .bind(row.quota)
    .bind(row.disabled)
    .bind(row.created_at)
    .execute(conn)
    .await?;
    Ok(done > 0)
}

/// Adds an initial access token.
pub async fn add_token(conn: &mut Conn, row: &TokenRow) -> sqlx::Result<()> {
    query("INSERT INTO registrar_tokens (token, registrar, expires_at, created_at) VALUES ($1, $2, $3, $4)")
        .bind(&row.token)
        .bind(&row.registrar)
        .bind(row.expires_at)
        .bind(row.created_at)
        .execute(conn)
        .await?;
    Ok(())
}

/// Lets no token of a registrar live longer than that, and forgets those that are dead.
pub async fn end_tokens(conn: &mut Conn, registrar: &str, until: i64, now: i64) -> sqlx::Result<()> {
    query(
        "UPDATE registrar_tokens SET expires_at = $1 WHERE registrar = $2 AND (expires_at IS NULL OR expires_at > $1)",
    )
    .bind(until)
    .bind(registrar)
    .execute(&mut *conn)
    .await?;
    query("DELETE FROM registrar_tokens WHERE registrar = $1 AND expires_at <= $2")
        .bind(registrar)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// Disables or enables a registrar; false if there is none.
pub async fn disable_registrar(conn: &mut Conn, id: &str, disabled: bool) -> sqlx::Result<bool> {
    let done = query("UPDATE known_registrars SET disabled = $1 WHERE id = $2")
        .bind(disabled)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(done > 0)
}

/// Adds a gateway; false if its id or resource is taken.
pub async fn add_gateway(conn: &mut Conn, row: &GatewayRow) -> sqlx::Result<bool> {
    let done = query(
        "INSERT INTO gateways (client_id, secret, resource, address, disabled, created_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
    )
    .bind(&row.client_id)
    .bind(&row.secret)
    .bind(&row.resource)
    .bind(&row.address)
    .bind(row.disabled)
    .bind(row.created_at)
    .execute(conn)
    .await?;
    Ok(done > 0)
}

/// Gives a gateway another secret; the one before is good until then. False if there is none.
pub async fn rotate_gateway(
    conn: &mut Conn,
    client_id: &str,
    secret: &[u8],
    former_until: i64,
) -> sqlx::Result<bool> {
    let done =
        query("UPDATE gateways SET former = secret, former_until = $1, secret = $2 WHERE client_id = $3")
            .bind(former_until)
            .bind(secret)
            .bind(client_id)
            .execute(conn)
            .await?;
    Ok(done > 0)
}

/// Disables or enables a gateway; false if there is none.
pub async fn disable_gateway(conn: &mut Conn, client_id: &str, disabled: bool) -> sqlx::Result<bool> {
    let done = query("UPDATE gateways SET disabled = $1 WHERE client_id = $2")
        .bind(disabled)
        .bind(client_id)
        .execute(conn)
        .await?;
    Ok(done > 0)
}

/// A client as an operator sees it: nothing of whose it is.
#[derive(Debug, Clone)]
pub struct ClientRow {
    /// Chosen by the server.
    pub client_id: String,
    /// `device` or `app`.
    pub kind: String,
    /// What a person calls it.
    pub name: String,
    /// Who registered it; none if it was done without a token.
    pub registrar: Option<String>,
    /// It may neither log in nor be claimed.
    pub disabled: bool,
    /// Unix seconds.
    pub created_at: i64,
}

from_row!(ClientRow { client_id, kind, name, registrar, disabled, created_at });

/// Clients of a kind, of a registrar, or all, by client_id, after one of them.
pub async fn clients(
    conn: &mut Conn,
    kind: Option<&str>,
    registrar: Option<&str>,
    after: &str,
    limit: i64,
) -> sqlx::Result<Vec<ClientRow>> {
    query_as(
        "SELECT client_id, kind, name, registrar, disabled, created_at FROM clients
         WHERE client_id > $1 AND (kind = $2 OR $2 = '') AND (registrar = $3 OR $3 = '')
         ORDER BY client_id LIMIT $4",
    )
    .bind(after)
    .bind(kind.unwrap_or(""))
    .bind(registrar.unwrap_or(""))
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Disables or enables a client; false if there is none.
pub async fn disable_client(conn: &mut Conn, client_id: &str, disabled: bool) -> sqlx::Result<bool> {
    let done = query("UPDATE clients SET disabled = $1 WHERE client_id = $2")
        .bind(disabled)
        .bind(client_id)
        .execute(conn)
        .await?;
    Ok(done > 0)
}

/// How many rows there are of what an operator counts, in the order of [`COUNTED`].
pub async fn counts(conn: &mut Conn) -> sqlx::Result<Vec<(&'static str, i64)>> {
    let mut counts = Vec::with_capacity(COUNTED.len());
    for (name, text) in COUNTED {
        counts.push((name, query_scalar(text).fetch_one(&mut *conn).await?));
    }
    Ok(counts)
}

/// What an operator counts.
pub const COUNTED: [(&str, &str); 9] = [
    ("devices", "SELECT count(*) FROM clients WHERE kind = 'device'"),
    ("devices_owned", "SELECT count(*) FROM ownerships WHERE state = 'active'"),
    ("devices_suspended", "SELECT count(*) FROM ownerships WHERE state = 'suspended'"),
    ("apps", "SELECT count(*) FROM clients WHERE kind = 'app'"),
    ("apps_unverified", "SELECT count(*) FROM clients WHERE kind = 'app' AND registrar IS NULL"),
    ("clients_disabled", "SELECT count(*) FROM clients WHERE disabled"),
    ("owners", "SELECT count(*) FROM users"),
    ("app_grants", "SELECT count(*) FROM grants WHERE kind = 'app' AND state = 'active'"),
    ("browser_sessions", "SELECT count(*) FROM sessions"),
];
