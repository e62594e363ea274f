//! Who owns which device. A device has one owner or none; the primary key is the compare-and-swap.

use super::Conn;
use super::sql::{from_row, query, query_as};

/// One device of one owner.
#[derive(Debug, Clone)]
pub struct Ownership {
    /// The device's client_id.
    pub device: String,
    /// For links on the owner's pages.
    pub id: String,
    /// The owner.
    pub user_id: i64,
    /// The device's name towards gateways; never changes while this ownership lasts.
    pub label: String,
    /// What the owner calls it.
    pub name: Option<String>,
    /// `pending` until the device reported done, `active`, or `suspended` after a theft alarm.
    pub state: String,
    /// Unix seconds.
    pub since: i64,
}

from_row!(Ownership { device, id, user_id, label, name, state, since });

/// An ownership with the registered facts of its device.
#[derive(Debug, Clone)]
pub struct OwnedRow {
    /// The ownership.
    pub ownership: Ownership,
    /// What people call the model.
    pub model: String,
    /// JSON array of channels.
    pub channels: String,
}

from_row!(OwnedRow { model, channels; ownership });

/// Inserts; fails on a device that has an owner.
pub async fn insert(conn: &mut Conn, ownership: &Ownership) -> sqlx::Result<()> {
    query("INSERT INTO ownerships (device, id, user_id, label, name, state, since) VALUES ($1, $2, $3, $4, $5, $6, $7)")
        .bind(&ownership.device)
        .bind(&ownership.id)
        .bind(ownership.user_id)
        .bind(&ownership.label)
        .bind(&ownership.name)
        .bind(&ownership.state)
        .bind(ownership.since)
        .execute(conn)
        .await?;
    Ok(())
}

/// The ownership of a device.
pub async fn of_device(conn: &mut Conn, device: &str) -> sqlx::Result<Option<Ownership>> {
    query_as("SELECT * FROM ownerships WHERE device = $1").bind(device).fetch_optional(conn).await
}

/// A device of this owner by its page id, unless its claim is still under way.
pub async fn of_user_by_id(conn: &mut Conn, user: i64, id: &str) -> sqlx::Result<Option<Ownership>> {
    query_as("SELECT * FROM ownerships WHERE user_id = $1 AND id = $2 AND state <> 'pending'")
        .bind(user)
        .bind(id)
        .fetch_optional(conn)
        .await
}

/// All devices of an owner whose claims are complete.
pub async fn of_user(conn: &mut Conn, user: i64) -> sqlx::Result<Vec<OwnedRow>> {
    query_as(
        "SELECT o.*, c.name AS model, d.channels FROM ownerships o JOIN clients c ON c.client_id = o.device
         JOIN devices d ON d.client_id = o.device WHERE o.user_id = $1 AND o.state <> 'pending' ORDER BY o.since, o.id",
    )
    .bind(user)
    .fetch_all(conn)
    .await
}

/// Sets the state.
pub async fn set_state(conn: &mut Conn, device: &str, state: &str) -> sqlx::Result<()> {
    query("UPDATE ownerships SET state = $1 WHERE device = $2")
        .bind(state)
        .bind(device)
        .execute(conn)
        .await?;
    Ok(())
}

/// Sets the owner's name for the device.
pub async fn rename(conn: &mut Conn, device: &str, name: Option<&str>) -> sqlx::Result<()> {
    query("UPDATE ownerships SET name = $1 WHERE device = $2").bind(name).bind(device).execute(conn).await?;
    Ok(())
}

/// Ends the ownership.
pub async fn delete(conn: &mut Conn, device: &str) -> sqlx::Result<()> {
    query("DELETE FROM ownerships WHERE device = $1").bind(device).execute(conn).await?;
    Ok(())
}
