//! Grants: what one owner allows one client at one gateway. Deleting one takes its whole line of tokens along.

use super::Conn;
use super::sql::{Dialect, from_row, query, query_as, query_scalar};

/// One grant.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Its number; 0 before it is inserted.
    pub id: i64,
    /// For links on the owner's pages.
    pub public_id: String,
    /// Its random name at the gateway.
    pub sid: String,
    /// The owner.
    pub user_id: i64,
    /// The client.
    pub client_id: String,
    /// The gateway's client_id.
    pub gateway: String,
    /// `device` or `app`.
    pub kind: String,
    /// `pending` until its code was redeemed (app) or its claim is complete (device); then `active`.
    pub state: String,
    /// Granted scopes.
    pub scope: String,
    /// Devices that the owner claims later join.
    pub future: bool,
    /// The app is told the owner's names of devices.
    pub share_names: bool,
    /// JSON array of channel names that bounds every device; none means all.
    pub channels: Option<String>,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds; none means no end.
    pub expires_at: Option<i64>,
    /// JSON: how exactly devices that join are seen; none means every value as it is.
    pub future_view: Option<String>,
    /// JSON: what the app asked for; none means what it was given.
    pub asked: Option<String>,
}

from_row!(Grant {
    id,
    public_id,
    sid,
    user_id,
    client_id,
    gateway,
    kind,
    state,
    scope,
    future,
    share_names,
    channels,
    created_at,
    expires_at,
    future_view,
    asked
});

impl Grant {
    /// True for a device's own grant.
    pub fn is_device(&self) -> bool {
        self.kind == "device"
    }
}

/// What an owner chose of one device. Lists and objects are JSON.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    /// Names of the channels that may be read, and commanded if `commands` is missing; none means all.
    pub channels: Option<String>,
    /// Names of the channels that may be commanded.
    pub commands: Option<String>,
    /// A view for each channel that may be read; none means every value as it is.
    pub views: Option<String>,
}

from_row!(Chosen { channels as "chosen", commands, views });

/// One device in a grant, with what the answers need of it.
#[derive(Debug, Clone)]
pub struct GrantedDevice {
    /// The device's client_id.
    pub device: String,
    /// Its id on the owner's pages.
    pub ownership: String,
    /// Random for this grant and device.
    pub reference: String,
    /// What of it was chosen.
    pub chosen: Chosen,
    /// The device's label.
    pub label: String,
    /// What the owner calls it.
    pub name: Option<String>,
    /// What people call the model.
    pub model: String,
    /// JSON array of the device's channels.
    pub channels: String,
}

from_row!(GrantedDevice { device, ownership, reference, label, name, model, channels; chosen });

/// Inserts a grant; its number.
pub async fn insert(conn: &mut Conn, grant: &Grant) -> sqlx::Result<i64> {
    query_scalar(
        "INSERT INTO grants (public_id, sid, user_id, client_id, gateway, kind, state, scope, future, share_names,
             channels, created_at, expires_at, future_view, asked)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) RETURNING id",
    )
    .bind(&grant.public_id)
    .bind(&grant.sid)
    .bind(grant.user_id)
    .bind(&grant.client_id)
    .bind(&grant.gateway)
    .bind(&grant.kind)
    .bind(&grant.state)
    .bind(&grant.scope)
    .bind(grant.future)
    .bind(grant.share_names)
    .bind(&grant.channels)
    .bind(grant.created_at)
    .bind(grant.expires_at)
    .bind(&grant.future_view)
    .bind(&grant.asked)
    .fetch_one(conn)
    .await
}

/// The grant of this number.
pub async fn get(conn: &mut Conn, id: i64) -> sqlx::Result<Option<Grant>> {
    query_as("SELECT * FROM grants WHERE id = $1").bind(id).fetch_optional(conn).await
}

/// Keeps others that write beside this one off the grant until the commit.
pub async fn lock(conn: &mut Conn, id: i64) -> sqlx::Result<()> {
    match conn.dialect() {
        // Nobody writes beside it.
        Dialect::Sqlite => Ok(()),
        Dialect::Postgres => query("SELECT 1 FROM grants WHERE id = $1 FOR NO KEY UPDATE")
            .bind(id)
            .execute(conn)
            .await
            .map(drop),
    }
}

/// The device's own grant.
pub async fn of_device(conn: &mut Conn, device: &str) -> sqlx::Result<Option<Grant>> {
    query_as("SELECT * FROM grants WHERE client_id = $1 AND kind = 'device'")
        .bind(device)
        .fetch_optional(conn)
        .await
}

/// An app's grant of this owner by its page id.
pub async fn app_of_user(conn: &mut Conn, user: i64, public_id: &str) -> sqlx::Result<Option<Grant>> {
    query_as(
        "SELECT * FROM grants WHERE user_id = $1 AND public_id = $2 AND kind = 'app' AND state = 'active'",
    )
    .bind(user)
    .bind(public_id)
    .fetch_optional(conn)
    .await
}

/// An owner's current grants at one gateway, devices' and apps' alike.
pub async fn of_user_at(conn: &mut Conn, user: i64, gateway: &str, now: i64) -> sqlx::Result<Vec<Grant>> {
    query_as(
        "SELECT * FROM grants WHERE user_id = $1 AND gateway = $2 AND state = 'active'
         AND (expires_at IS NULL OR expires_at > $3) ORDER BY id",
    )
    .bind(user)
    .bind(gateway)
    .bind(now)
    .fetch_all(conn)
    .await
}

/// An owner's current grants to apps, newest first.
pub async fn apps_of_user(conn: &mut Conn, user: i64, now: i64) -> sqlx::Result<Vec<Grant>> {
    query_as(
        "SELECT * FROM grants WHERE user_id = $1 AND kind = 'app' AND state = 'active'
         AND (expires_at IS NULL OR expires_at > $2) ORDER BY id DESC",
    )
    .bind(user)
    .bind(now)
    .fetch_all(conn)
    .await
}

/// An owner's grants to apps that later devices join.
pub async fn joining(conn: &mut Conn, user: i64) -> sqlx::Result<Vec<Grant>> {
    query_as("SELECT * FROM grants WHERE user_id = $1 AND kind = 'app' AND future")
        .bind(user)
        .fetch_all(conn)
        .await
}

/// Marks a grant as active; false if it was already.
pub async fn activate(conn: &mut Conn, id: i64) -> sqlx::Result<bool> {
    let done = query("UPDATE grants SET state = 'active' WHERE id = $1 AND state = 'pending'")
        .bind(id)
        .execute(conn)
        .await?;
    Ok(done > 0)
}

/// Ends a grant with its tokens.
pub async fn delete(conn: &mut Conn, id: i64) -> sqlx::Result<()> {
    query("DELETE FROM grants WHERE id = $1").bind(id).execute(conn).await?;
    Ok(())
}

/// Adds a device to a grant, unless it is in it.
pub async fn add_device(
    conn: &mut Conn,
    grant: i64,
    device: &str,
    reference: &str,
    chosen: &Chosen,
) -> sqlx::Result<()> {
    query(
        "INSERT INTO grant_devices (grant_id, device, reference, channels, commands, views)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (grant_id, device) DO NOTHING",
    )
    .bind(grant)
    .bind(device)
    .bind(reference)
    .bind(&chosen.channels)
    .bind(&chosen.commands)
    .bind(&chosen.views)
    .execute(conn)
    .await?;
    Ok(())
}

/// Replaces what was chosen of a device that is in a grant.
pub async fn choose(conn: &mut Conn, grant: i64, device: &str, chosen: &Chosen) -> sqlx::Result<()> {
    query(
        "UPDATE grant_devices SET channels = $1, commands = $2, views = $3 WHERE grant_id = $4 AND device = $5",
    )
    .bind(&chosen.channels)
    .bind(&chosen.commands)
    .bind(&chosen.views)
    .bind(grant)
    .bind(device)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a device out of one grant.
pub async fn drop_device(conn: &mut Conn, grant: i64, device: &str) -> sqlx::Result<()> {
    query("DELETE FROM grant_devices WHERE grant_id = $1 AND device = $2")
        .bind(grant)
        .bind(device)
        .execute(conn)
        .await?;
    Ok(())
}

/// Replaces the terms of a grant, but not what was chosen of its devices: scope, devices that join, names, end. Tokens that were
/// to end with it end at `tokens_end` then.
pub async fn set_terms(conn: &mut Conn, grant: &Grant, tokens_end: i64) -> sqlx::Result<()> {
    query(
        "UPDATE tokens SET expires_at = $1 WHERE grant_id = $2 AND state <> 'dead' AND challenge IS NULL
         AND expires_at = (SELECT expires_at FROM grants WHERE id = $2)",
    )
    .bind(tokens_end)
    .bind(grant.id)
    .execute(&mut *conn)
    .await?;
    query(
        "UPDATE grants SET scope = $1, future = $2, future_view = $3, share_names = $4, expires_at = $5 WHERE id = $6",
    )
    .bind(&grant.scope)
    .bind(grant.future)
    .bind(&grant.future_view)
    .bind(grant.share_names)
    .bind(grant.expires_at)
    .bind(grant.id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a device out of every grant.
pub async fn remove_device(conn: &mut Conn, device: &str) -> sqlx::Result<()> {
    query("DELETE FROM grant_devices WHERE device = $1").bind(device).execute(conn).await?;
    Ok(())
}

/// The devices of a grant whose claims are complete (of a device's own grant: the device itself, always).
pub async fn devices(conn: &mut Conn, grant: &Grant) -> sqlx::Result<Vec<GrantedDevice>> {
    query_as(
        "SELECT g.device, g.reference, g.channels AS chosen, g.commands, g.views, o.id AS ownership, o.label, o.name, c.name AS model, d.channels
         FROM grant_devices g JOIN ownerships o ON o.device = g.device AND o.user_id = $1
         JOIN clients c ON c.client_id = g.device JOIN devices d ON d.client_id = g.device
         WHERE g.grant_id = $2 AND (o.state <> 'pending' OR $3) ORDER BY o.since, o.label",
    )
    .bind(grant.user_id)
    .bind(grant.id)
    .bind(grant.is_device())
    .fetch_all(conn)
    .await
}

/// Gateways at which a device stands in grants of its owner.
pub async fn of_user_with_device(conn: &mut Conn, user: i64, device: &str) -> sqlx::Result<Vec<String>> {
    query_scalar(
        "SELECT DISTINCT g.gateway FROM grants g JOIN grant_devices d ON d.grant_id = g.id
         WHERE g.user_id = $1 AND d.device = $2 ORDER BY g.gateway",
    )
    .bind(user)
    .bind(device)
    .fetch_all(conn)
    .await
}

/// Every grant to this client.
pub async fn of_client(conn: &mut Conn, client_id: &str) -> sqlx::Result<Vec<Grant>> {
    query_as("SELECT * FROM grants WHERE client_id = $1").bind(client_id).fetch_all(conn).await
}
