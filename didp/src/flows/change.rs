//! A write with its consequences: events for gateways stand in the same transaction, and whoever waits (event streams,
//! claim pages) is woken only after the commit.

use oauth_wire::EventKind;

use crate::audit::Audit;
use crate::flows::Refusal;
use crate::peers;
use crate::state::App;
use crate::store::{Conn, Tx, events, grants, replicas, users};

/// A write transaction that remembers whom to wake.
pub(crate) struct Change {
    tx: Tx,
    seq: Option<i64>,
    claims: bool,
    audit: Vec<Audit>,
}

impl Change {
    /// Begins a write.
    pub(crate) async fn begin(app: &App) -> Result<Self, Refusal> {
        Ok(Self { tx: app.store.write().await?, seq: None, claims: false, audit: Vec::new() })
    }

    /// Begins a write that concerns one grant and its tokens. Others of its kind may run beside it, on other grants; not so one
    /// that may make a claim complete, which concerns more.
    pub(crate) async fn of_grant(app: &App, grant: &grants::Grant) -> Result<Self, Refusal> {
        if grant.state == "pending" {
            return Self::begin(app).await;
        }
        let mut tx = app.store.write_beside().await?;
        grants::lock(&mut tx, grant.id).await?;
        Ok(Self { tx, seq: None, claims: false, audit: Vec::new() })
    }

    /// The connection for the stores' functions.
    pub(crate) fn conn(&mut self) -> &mut Conn {
        &mut self.tx
    }

    /// A security event; it is logged once it is committed.
    pub(crate) fn note(&mut self, event: Audit) {
        self.audit.push(event);
    }

    /// A claim's state changes: pages that wait will look again.
    pub(crate) fn claim_changed(&mut self) {
        self.claims = true;
    }

    /// Tells the gateway that this owner's grants changed.
    pub(crate) async fn changed(&mut self, user: i64, gateway: &str, now: i64) -> Result<(), Refusal> {
        if let Some(pseudonym) = users::pseudonym(self.conn(), user, gateway).await? {
            self.emit(gateway, EventKind::Changed, Some(&pseudonym.sub), None, &pseudonym.sub, now).await?;
        }
        Ok(())
    }

    /// Tells the gateway that this owner is gone.
    pub(crate) async fn erased(&mut self, gateway: &str, sub: &str, now: i64) -> Result<(), Refusal> {
        self.emit(gateway, EventKind::Erased, Some(sub), None, sub, now).await
    }

    /// Ends a grant, its tokens with it, and tells its gateway.
    pub(crate) async fn end_grant(&mut self, grant: &grants::Grant, now: i64) -> Result<(), Refusal> {
        grants::delete(self.conn(), grant.id).await?;
        // A grant that never became active is unknown to its gateway, and stays so.
        if grant.state == "active"
            && let Some(pseudonym) = users::pseudonym(self.conn(), grant.user_id, &grant.gateway).await?
        {
            let sub = pseudonym.sub.as_str();
            self.emit(&grant.gateway, EventKind::Revoked, None, Some(&grant.sid), sub, now).await?;
            self.emit(&grant.gateway, EventKind::Changed, Some(sub), None, sub, now).await?;
        }
        Ok(())
    }

    async fn emit(
        &mut self,
        gateway: &str,
        kind: EventKind,
        sub: Option<&str>,
        sid: Option<&str>,
        concerns: &str,
        now: i64,
    ) -> Result<(), Refusal> {
        let conn: &mut Conn = &mut self.tx;
        let seq = events::insert(conn, gateway, kind_name(kind), sub, sid, now).await?;
        events::mark(conn, gateway, concerns, seq).await?;
        self.seq = Some(seq);
        Ok(())
    }

    /// Commits, then wakes whoever waits for what changed.
    pub(crate) async fn commit(mut self, app: &App) -> Result<(), Refusal> {
        if app.store.is_shared() {
            for news in peers::news(self.seq, self.claims) {
                replicas::notify(&mut self.tx, &news).await?;
            }
        }
        self.tx.commit().await?;
        self.audit.into_iter().for_each(Audit::record);
        if let Some(seq) = self.seq {
            app.raise_events(seq);
        }
        if self.claims {
            app.claims.send_modify(|turn| *turn = turn.wrapping_add(1));
        }
        Ok(())
    }
}

/// An event's name in the database and on the wire.
pub(crate) fn kind_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Head => "head",
        EventKind::Gap => "gap",
        EventKind::Changed => "changed",
        EventKind::Revoked => "revoked",
        EventKind::Erased => "erased",
    }
}

/// The event kind of this name, if it is one that is stored.
pub(crate) fn kind_of(name: &str) -> Option<EventKind> {
    match name {
        "changed" => Some(EventKind::Changed),
        "revoked" => Some(EventKind::Revoked),
        "erased" => Some(EventKind::Erased),
        _ => None,
    }
}
