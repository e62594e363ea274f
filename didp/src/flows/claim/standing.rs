//! How a claim stands for the login that holds its ticket, now and when it changes.

use std::time::Duration;

use oauth_wire::{Channel, OAuthErrorCode};

use crate::flows::change::Change;
use crate::flows::login::Session;
use crate::flows::{Refusal, details, refuse};
use crate::keys::{Mac, Purpose};
use crate::peers;
use crate::state::App;
use crate::store::claims::{self, Claim};
use crate::store::clients;

/// How long a page waits for a change before it is told that there was none.
const LONG_POLL: Duration = Duration::from_secs(20);

/// How a claim stands, for the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimState {
    /// The owner has yet to decide.
    Deciding,
    /// The device has yet to report.
    Waiting,
    /// The device reported: it is the owner's.
    Done {
        /// Id of the device on the account pages.
        device: String,
    },
    /// The device's connection went away.
    Gone,
    /// The time ran out.
    Expired,
    /// The owner declined.
    Declined,
    /// A second login wanted a device without a display; both were cancelled.
    Contested,
}

/// A claim, for the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimView {
    /// What people call the model.
    pub model: String,
    /// What it can tell and do.
    pub channels: Vec<Channel>,
    /// How the claim stands.
    pub state: ClaimState,
}

/// How the claim of this ticket stands; none if it is not this login's, unknown, or long over.
///
/// # Errors
/// The store cannot answer.
pub async fn describe(app: &App, session: &Session, ticket: &str) -> Result<Option<ClaimView>, Refusal> {
    let mut conn = app.store.read().await?;
    let mut claim = None;
    for candidate in ticket_macs(app, ticket) {
        claim = claims::by_ticket(&mut conn, candidate.as_bytes()).await?;
        if claim.is_some() {
            break;
        }
    }
    let Some(claim) = claim.filter(|claim| belongs(claim, session)) else { return Ok(None) };
    let Some(device) = clients::device(&mut conn, &claim.device).await? else { return Ok(None) };
    Ok(Some(ClaimView {
        state: state_of(app, &claim),
        model: device.model,
        channels: details::channels(&device.channels),
    }))
}

/// As [`describe`], but answers only when the state is another than `seen`, or after a while.
///
/// # Errors
/// The store cannot answer.
pub async fn wait(
    app: &App,
    session: &Session,
    ticket: &str,
    seen: &ClaimState,
) -> Result<Option<ClaimView>, Refusal> {
    let mut changes = app.claims.subscribe();
    let end = tokio::time::Instant::now() + LONG_POLL;
    loop {
        let view = describe(app, session, ticket).await?;
        if view.as_ref().is_none_or(|view| view.state != *seen) {
            return Ok(view);
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(end) => return Ok(view),
            () = app.shutdown.begun() => return Ok(view),
        }
    }
}

/// The claim of this ticket, if it is this login's.
///
/// # Errors
/// `access_denied` if it is not; the store cannot answer.
pub(super) async fn taken(
    app: &App,
    change: &mut Change,
    session: &Session,
    ticket: &str,
) -> Result<Claim, Refusal> {
    for candidate in ticket_macs(app, ticket) {
        if let Some(claim) = claims::by_ticket(change.conn(), candidate.as_bytes()).await?
            && belongs(&claim, session)
        {
            return Ok(claim);
        }
    }
    refuse(OAuthErrorCode::AccessDenied, "no such claim")
}

fn belongs(claim: &Claim, session: &Session) -> bool {
    claim.session_id == Some(session.id) && claim.user_id == Some(session.user)
}

/// How a claim stands now.
pub(super) fn state_of(app: &App, claim: &Claim) -> ClaimState {
    let over = claim.deadline <= app.clock.now();
    match claim.state.as_str() {
        "taken" if over => ClaimState::Expired,
        "taken" if !peers::holds(app, &claim.device, claim.connection) => ClaimState::Gone,
        "taken" if claim.accepted => ClaimState::Waiting,
        "taken" => ClaimState::Deciding,
        "granted" | "redeemed" if over => ClaimState::Expired,
        "granted" | "redeemed" => ClaimState::Waiting,
        "done" => ClaimState::Done { device: claim.ownership.clone().unwrap_or_default() },
        "declined" => ClaimState::Declined,
        "contested" => ClaimState::Contested,
        "gone" => ClaimState::Gone,
        _ => ClaimState::Expired,
    }
}

/// The hashes under which a ticket may be known.
fn ticket_macs(app: &App, ticket: &str) -> Vec<Mac> {
    app.keys.candidates(Purpose::Session, &[b"ticket ", ticket.as_bytes()])
}
