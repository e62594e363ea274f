//! Devices that were handed over and are not claimed yet: the one code that claims them, and until when. Who handed a device to
//! whom is not kept.

use super::Conn;
use super::sql::{query, query_scalar};

/// Makes this the only code of a device until then.
pub async fn put(conn: &mut Conn, device: &str, code: &[u8], until: i64) -> sqlx::Result<()> {
    query(
        "INSERT INTO transfers (device, code, until) VALUES ($1, $2, $3)
         ON CONFLICT (device) DO UPDATE SET code = excluded.code, until = excluded.until",
    )
    .bind(device)
    .bind(code)
    .bind(until)
    .execute(conn)
    .await?;
    Ok(())
}

/// The device that this code claims now.
pub async fn device(conn: &mut Conn, code: &[u8], now: i64) -> sqlx::Result<Option<String>> {
    query_scalar("SELECT device FROM transfers WHERE code = $1 AND until > $2")
        .bind(code)
        .bind(now)
        .fetch_optional(conn)
        .await
}

/// True if only its own code claims this device now.
pub async fn is_open(conn: &mut Conn, device: &str, now: i64) -> sqlx::Result<bool> {
    let found: Option<i64> = query_scalar("SELECT until FROM transfers WHERE device = $1 AND until > $2")
        .bind(device)
        .bind(now)
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

/// Ends what [`put`] began.
pub async fn delete(conn: &mut Conn, device: &str) -> sqlx::Result<()> {
    query("DELETE FROM transfers WHERE device = $1").bind(device).execute(conn).await?;
    Ok(())
}
