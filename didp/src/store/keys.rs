//! How many rows still stand under a key: what must not be lost with it. Looks at every row; for an operator only.

use super::Conn;
use super::sql::query_scalar;
use crate::keys::Purpose;

/// Columns with keyed hashes of a purpose; the first byte is the key's number.
fn columns(purpose: Purpose) -> &'static [&'static str] {
    match purpose {
        Purpose::User => &["SELECT count(*) FROM identities WHERE substr(user_key, 1, 1) = $1"],
        Purpose::RegistrationCode => &[
            "SELECT count(*) FROM devices WHERE substr(code, 1, 1) = $1",
            "SELECT count(*) FROM transfers WHERE substr(code, 1, 1) = $1",
        ],
        Purpose::Token => &[
            "SELECT count(*) FROM tokens WHERE substr(handle, 1, 1) = $1",
            "SELECT count(*) FROM tokens WHERE substr(access, 1, 1) = $1",
            "SELECT count(*) FROM clients WHERE substr(registration_token, 1, 1) = $1",
            "SELECT count(*) FROM clients WHERE substr(idempotency, 1, 1) = $1",
            "SELECT count(*) FROM registrar_tokens WHERE substr(token, 1, 1) = $1",
            "SELECT count(*) FROM gateways WHERE substr(secret, 1, 1) = $1",
            "SELECT count(*) FROM gateways WHERE substr(former, 1, 1) = $1",
        ],
        Purpose::Session => &[
            "SELECT count(*) FROM sessions WHERE substr(token, 1, 1) = $1",
            "SELECT count(*) FROM claims WHERE substr(ticket, 1, 1) = $1",
            "SELECT count(*) FROM claims WHERE substr(user_code, 1, 1) = $1",
        ],
        // What is derived, and cookies and forms, stand in no row.
        Purpose::ClientSecret | Purpose::Pages => &[],
    }
}

/// How many rows stand under the key of this number.
pub async fn standing_under(conn: &mut Conn, purpose: Purpose, id: u8) -> sqlx::Result<i64> {
    let mut rows = 0;
    for text in columns(purpose) {
        let found: i64 = query_scalar(*text).bind(&[id][..]).fetch_one(&mut *conn).await?;
        rows += found;
    }
    Ok(rows)
}
