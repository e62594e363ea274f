//! Claim windows, one alive for each device at most, and what became of them.

use sqlx::AssertSqlSafe;

use super::Conn;
use super::replicas::CONNECTIONS;
use super::sql::{from_row, query, query_as, query_scalar};

/// One window.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its number.
    pub id: i64,
    /// The device's client_id.
    pub device: String,
    /// The device's connection that opened it.
    pub connection: i64,
    /// See the schema.
    pub state: String,
    /// `code` or `press`.
    pub confirm: String,
    /// Keyed hash of the digits that the device shows.
    pub user_code: Option<Vec<u8>>,
    /// The device's PKCE challenge.
    pub challenge: String,
    /// Wrong answers so far.
    pub tries: i64,
    /// The login that took it.
    pub session_id: Option<i64>,
    /// The owner who took it.
    pub user_id: Option<i64>,
    /// The grant that the consent made.
    pub grant_id: Option<i64>,
    /// Page id of the ownership that the consent made.
    pub ownership: Option<String>,
    /// End of the present state, Unix seconds.
    pub deadline: i64,
    /// Before this time another person's answer cancels the claim; none for a device that shows digits.
    pub settles_at: Option<i64>,
    /// The owner consented, but the claim has yet to settle.
    pub accepted: bool,
    /// The name that the owner chose with it.
    pub chosen_name: Option<String>,
}

from_row!(Claim {
    id,
    device,
    connection,
    state,
    confirm,
    user_code,
    challenge,
    tries,
    session_id,
    user_id,
    grant_id,
    ownership,
    deadline,
    settles_at,
    accepted,
    chosen_name
});

/// Who takes a window.
pub struct Taking<'a> {
    /// The login.
    pub session: i64,
    /// Its owner.
    pub user: i64,
    /// Keyed hash of the ticket.
    pub ticket: &'a [u8],
    /// As in [`Claim`]; holds for a window that was open.
    pub deadline: i64,
    /// As in [`Claim`]; holds for a window that was open.
    pub settles_at: Option<i64>,
}

const CLAIM: &str = "id, device, connection, state, confirm, user_code, challenge, tries, session_id, user_id, grant_id, \
                     ownership, deadline, settles_at, accepted, chosen_name";

/// Opens a window; its number. Fails if another one of the device is alive.
pub async fn open(
    conn: &mut Conn,
    device: &str,
    connection: i64,
    confirm: &str,
    challenge: &str,
    deadline: i64,
) -> sqlx::Result<i64> {
    query_scalar(
        "INSERT INTO claims (device, connection, state, confirm, challenge, deadline) VALUES ($1, $2, 'open', $3, $4, $5)
         RETURNING id",
    )
    .bind(device)
    .bind(connection)
    .bind(confirm)
    .bind(challenge)
    .bind(deadline)
    .fetch_one(conn)
    .await
}

/// Sets the digits; they are hashed together with the window's number, so they are known only after it is open.
pub async fn set_user_code(conn: &mut Conn, id: i64, user_code: &[u8]) -> sqlx::Result<()> {
    query("UPDATE claims SET user_code = $1 WHERE id = $2").bind(user_code).bind(id).execute(conn).await?;
    Ok(())
}

/// The window of this number.
pub async fn get(conn: &mut Conn, id: i64) -> sqlx::Result<Option<Claim>> {
    let sql = format!("SELECT {CLAIM} FROM claims WHERE id = $1");
    query_as(AssertSqlSafe(sql)).bind(id).fetch_optional(conn).await
}

/// The device's window that is alive.
pub async fn alive(conn: &mut Conn, device: &str) -> sqlx::Result<Option<Claim>> {
    let sql = format!(
        "SELECT {CLAIM} FROM claims WHERE device = $1 AND state IN ('open', 'taken', 'granted', 'redeemed')"
    );
    query_as(AssertSqlSafe(sql)).bind(device).fetch_optional(conn).await
}

/// The window that this ticket names.
pub async fn by_ticket(conn: &mut Conn, ticket: &[u8]) -> sqlx::Result<Option<Claim>> {
    let sql = format!("SELECT {CLAIM} FROM claims WHERE ticket = $1");
    query_as(AssertSqlSafe(sql)).bind(ticket).fetch_optional(conn).await
}

/// Gives an open window (or one that this login took before) to a login; false if another one was faster.
pub async fn take(conn: &mut Conn, id: i64, taking: &Taking<'_>) -> sqlx::Result<bool> {
    let done = query(
        "UPDATE claims SET deadline = CASE state WHEN 'open' THEN $1 ELSE deadline END,
             settles_at = CASE state WHEN 'open' THEN $6 ELSE settles_at END,
             state = 'taken', session_id = $2, user_id = $3, ticket = $4
         WHERE id = $5 AND (state = 'open' OR (state = 'taken' AND session_id = $2))",
    )
    .bind(taking.deadline)
    .bind(taking.session)
    .bind(taking.user)
    .bind(taking.ticket)
    .bind(id)
    .bind(taking.settles_at)
    .execute(conn)
    .await?;
    Ok(done > 0)
}

/// Notes that the owner consented, until the claim settles.
pub async fn note_accepted(conn: &mut Conn, id: i64, name: Option<&str>) -> sqlx::Result<()> {
    query("UPDATE claims SET accepted = TRUE, chosen_name = $1 WHERE id = $2 AND state = 'taken'")
        .bind(name)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Numbers of the claims that were consented to and have settled.
pub async fn settled(conn: &mut Conn, now: i64, limit: i64) -> sqlx::Result<Vec<i64>> {
    query_scalar(
        "SELECT id FROM claims WHERE accepted = TRUE AND state = 'taken' AND settles_at <= $1 AND deadline > $1 LIMIT $2",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(conn)
    .await
}

/// Moves a window from one state to the next; false if it was not in the first.
pub async fn advance(conn: &mut Conn, id: i64, from: &str, to: &str, deadline: i64) -> sqlx::Result<bool> {
    let done =
        query("UPDATE claims SET state = $1, deadline = $2, chosen_name = NULL WHERE id = $3 AND state = $4")
            .bind(to)
            .bind(deadline)
            .bind(id)
            .bind(from)
            .execute(conn)
            .await?;
    Ok(done > 0)
}

/// Notes what a consent made.
pub async fn note_grant(conn: &mut Conn, id: i64, grant: i64, ownership: &str) -> sqlx::Result<()> {
    query("UPDATE claims SET grant_id = $1, ownership = $2 WHERE id = $3")
        .bind(grant)
        .bind(ownership)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(())
}

/// How often this login answered wrongly for this code, and for how many codes, as far as it still counts.
pub async fn tries(conn: &mut Conn, session: i64, code: &[u8], now: i64) -> sqlx::Result<(i64, i64)> {
    query_as(
        "SELECT CAST(coalesce(sum(tries) FILTER (WHERE code = $2), 0) AS BIGINT), count(*) FROM claim_tries WHERE session_id = $1 AND until > $3",
    )
    .bind(session)
    .bind(code)
    .bind(now)
    .fetch_one(conn)
    .await
}

/// Notes a login's answer for a code; a wrong guess counts until `until`, and those before with it.
pub async fn note_try(
    conn: &mut Conn,
    session: i64,
    code: &[u8],
    guessed: bool,
    now: i64,
    until: i64,
) -> sqlx::Result<()> {
    query(
        "INSERT INTO claim_tries (session_id, code, tries, until) VALUES ($1, $2, $5, $4)
         ON CONFLICT (session_id, code) DO UPDATE SET tries = CASE WHEN claim_tries.until > $3 THEN claim_tries.tries + $5 ELSE $5 END, until = $4",
    )
    .bind(session)
    .bind(code)
    .bind(now)
    .bind(until)
    .bind(i64::from(guessed))
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts a wrong answer for the window.
pub async fn count_wrong(conn: &mut Conn, id: i64) -> sqlx::Result<()> {
    query("UPDATE claims SET tries = tries + 1 WHERE id = $1").bind(id).execute(conn).await?;
    Ok(())
}

/// Notes that a person waits for the press on this device.
pub async fn wait(conn: &mut Conn, device: &str, user: i64, until: i64) -> sqlx::Result<()> {
    query(
        "INSERT INTO claim_waiting (device, user_id, until) VALUES ($1, $2, $3)
         ON CONFLICT (device, user_id) DO UPDATE SET until = excluded.until",
    )
    .bind(device)
    .bind(user)
    .bind(until)
    .execute(conn)
    .await?;
    Ok(())
}

/// How many people other than `user` wait for the press on this device.
pub async fn others_waiting(conn: &mut Conn, device: &str, user: i64, now: i64) -> sqlx::Result<i64> {
    query_scalar("SELECT count(*) FROM claim_waiting WHERE device = $1 AND user_id <> $2 AND until > $3")
        .bind(device)
        .bind(user)
        .bind(now)
        .fetch_one(conn)
        .await
}

/// Nobody waits for this device any more.
pub async fn forget_waiting(conn: &mut Conn, device: &str) -> sqlx::Result<()> {
    query("DELETE FROM claim_waiting WHERE device = $1").bind(device).execute(conn).await?;
    Ok(())
}

/// Windows whose present state is over.
pub async fn overdue(conn: &mut Conn, now: i64, limit: i64) -> sqlx::Result<Vec<Claim>> {
    let sql = format!(
        "SELECT {CLAIM} FROM claims WHERE deadline <= $1 AND state IN ('open', 'taken', 'granted', 'redeemed') LIMIT $2"
    );
    query_as(AssertSqlSafe(sql)).bind(now).bind(limit).fetch_all(conn).await
}

/// Ends windows that no connection can serve any more: those of a replica that is gone.
pub async fn end_unserved(conn: &mut Conn, replica: i64, deadline: i64) -> sqlx::Result<()> {
    query(
        "UPDATE claims SET state = 'gone', deadline = $1, chosen_name = NULL
         WHERE state IN ('open', 'taken') AND connection >= $2 AND connection < $3",
    )
    .bind(deadline)
    .bind(replica * CONNECTIONS)
    .bind((replica + 1) * CONNECTIONS)
    .execute(conn)
    .await?;
    Ok(())
}

/// What this owner has under way.
pub async fn alive_of_user(conn: &mut Conn, user: i64) -> sqlx::Result<Vec<Claim>> {
    query_as(
        "SELECT * FROM claims WHERE user_id = $1 AND state IN ('open', 'taken', 'granted', 'redeemed') ORDER BY id",
    )
    .bind(user)
    .fetch_all(conn)
    .await
}

/// Forgets that this owner ever claimed anything.
pub async fn forget_user(conn: &mut Conn, user: i64) -> sqlx::Result<()> {
    query("DELETE FROM claims WHERE user_id = $1").bind(user).execute(conn).await?;
    Ok(())
}
