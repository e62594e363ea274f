//! Claiming a device: the window that a press opens, the owner's answer, the consent, and the device's report.
//!
//! A photograph of the printed code is worth nothing: a claim needs a press on the device within two minutes and the digits
//! that the device shows at that moment. Opening the page changes nothing; the first right answer takes the device. Unknown,
//! owned and unpressed codes, wrong digits and too many tries all look the same, and each costs one commit. What the consent
//! made is undone unless the device reports in time. What is special about devices without a display is in [`press`], how a claim stands for whoever holds its ticket in [`standing`].

mod press;
mod standing;

use oauth_wire::{OAuthErrorCode, Scope};
use service::secret;
use zeroize::Zeroizing;

use crate::audit::{Audit, By};
use crate::flows::account::NoticeKind;
use crate::flows::change::Change;
use crate::flows::login::Session;
use crate::flows::ownership::{self, AFTERGLOW};
use crate::flows::{Refusal, refuse};
use crate::hub::ClaimMessage;
use crate::keys::Purpose;
use crate::peers;
use crate::state::App;
use crate::store::claims::{self, Claim, Taking};
use crate::store::grants::{self, Grant};
use crate::store::ownerships::{self, Ownership};
use crate::store::{clients, tokens, transfers, users};

pub(crate) use press::settle;
pub use standing::{ClaimState, ClaimView, describe, wait};
use standing::{state_of, taken};

/// Wrong answers that one login may give for a code in the length of a window, whatever the code is.
const TRIES_PER_LOGIN: i64 = 3;
/// Codes for which one login may have wrong answers counted at once; it bounds what is kept, and harvesting.
const CODES_PER_LOGIN: i64 = 64;
/// Wrong answers that a window takes before it closes.
const TRIES_PER_WINDOW: i64 = 10;

/// What the device is told when its window opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Seconds.
    pub expires_in: i64,
    /// Four digits to show; none for a device that has a button only.
    pub user_code: Option<String>,
}

/// What an answer of the owner led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The device is reserved for this login; the ticket names the claim on the pages that follow.
    Matched {
        /// 43 characters.
        ticket: String,
    },
    /// Unknown, owned, not pressed, wrong digits, or too many tries; which one is not said.
    NoMatch,
    /// Two logins at once want a device without a display; both were cancelled.
    Contested,
}

/// The device's button was pressed: opens the window for its connection. What was open or half-done before is undone.
///
/// # Errors
/// `access_denied` for a device that has an owner, or while several logins wait for a press that cannot tell them apart;
/// `invalid_request` for a challenge that is none.
pub async fn open_window(
    app: &App,
    client_id: &str,
    connection: i64,
    challenge: &str,
) -> Result<Window, Refusal> {
    if !is_challenge(challenge) {
        return refuse(OAuthErrorCode::InvalidRequest, "code_challenge must be base64url of a SHA-256");
    }
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    let Some(device) = clients::device(change.conn(), client_id).await? else {
        return refuse(OAuthErrorCode::UnauthorizedClient, "not a device");
    };
    if let Some(before) = claims::alive(change.conn(), client_id).await? {
        ownership::roll_back(app, &mut change, &before, "gone").await?;
    }
    let owned = ownerships::of_device(change.conn(), client_id).await?;
    if owned.is_some_and(|owned| owned.state != "suspended") {
        return refuse(OAuthErrorCode::AccessDenied, "the device has an owner");
    }
    let press = device.confirm == "press";
    if press && claims::others_waiting(change.conn(), client_id, 0, now).await? > 1 {
        claims::forget_waiting(change.conn(), client_id).await?;
        change.commit(app).await?;
        Audit::ClaimContested { client: client_id.to_owned() }.record();
        return refuse(OAuthErrorCode::AccessDenied, "several logins wait for this device");
    }
    let expires_in = app.config.lifetimes.claim_window;
    let opened =
        claims::open(change.conn(), client_id, connection, &device.confirm, challenge, now + expires_in)
            .await?;
    let mut user_code = None;
    if !press {
        // 64 bits make the remainder's bias immeasurable.
        let digits = format!("{:04}", u64::from_be_bytes(secret::random_bytes()) % 10_000);
        let hash = user_code_mac(app, opened, &digits);
        claims::set_user_code(change.conn(), opened, hash.as_bytes()).await?;
        user_code = Some(digits);
    }
    change.commit(app).await?;
    tracing::info!(event = "claim_window_open");
    Ok(Window { expires_in, user_code })
}

/// The connection that opened a window is gone; so is the window, unless the owner already consented (then the device may
/// come back and redeem its code).
///
/// # Errors
/// The store cannot answer.
pub async fn connection_lost(app: &App, client_id: &str, connection: i64) -> Result<(), Refusal> {
    let mut change = Change::begin(app).await?;
    if let Some(claim) = claims::alive(change.conn(), client_id).await?
        && claim.connection == connection
        && matches!(claim.state.as_str(), "open" | "taken")
    {
        ownership::roll_back(app, &mut change, &claim, "gone").await?;
        change.commit(app).await?;
    }
    Ok(())
}

/// The owner answers for the device with this printed code: `typed` holds the digits that it shows, or nothing for a
/// device that has a button only.
///
/// # Errors
/// The store cannot answer.
pub async fn confirm(app: &App, session: &Session, code: &str, typed: &str) -> Result<Attempt, Refusal> {
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    let counted = app.keys.candidates(Purpose::Session, &[b"tries ", code.as_bytes()]);
    let (mut tries, mut codes) = (0, 0);
    for counted in &counted {
        let of_this = claims::tries(change.conn(), session.id, counted.as_bytes(), now).await?;
        (tries, codes) = (tries + of_this.0, of_this.1);
    }
    let counted = &counted[0];
    // Judged before anything of the device is looked at.
    if tries >= TRIES_PER_LOGIN || (tries == 0 && codes >= CODES_PER_LOGIN) {
        return Ok(Attempt::NoMatch);
    }
    let judged = judge(app, &mut change, session, code, typed).await?;
    if !matches!(judged, Judged::Taken { .. }) {
        let until = now + app.config.lifetimes.claim_window;
        // Nothing typed is no guess, but is written like one, so that time tells nothing.
        let guessed = !typed.trim().is_empty();
        claims::note_try(change.conn(), session.id, counted.as_bytes(), guessed, now, until).await?;
    }
    change.commit(app).await?;
    match judged {
        Judged::NoMatch => Ok(Attempt::NoMatch),
        Judged::Exhausted(claim) => {
            Audit::ClaimExhausted { client: claim.device.clone() }.record();
            peers::tell(app, &claim.device, claim.connection, ClaimMessage::Denied).await;
            Ok(Attempt::NoMatch)
        }
        Judged::Contested(claim) => {
            Audit::ClaimContested { client: claim.device.clone() }.record();
            peers::tell(app, &claim.device, claim.connection, ClaimMessage::Denied).await;
            Ok(Attempt::Contested)
        }
        Judged::Taken { claim, ticket } => {
            if claim.state == "open" {
                let seconds = app.config.lifetimes.claim_decision;
                let message = ClaimMessage::Taken(seconds);
                peers::tell(app, &claim.device, claim.connection, message).await;
            }
            Ok(Attempt::Matched { ticket })
        }
    }
}

/// What an answer comes to; whoever must be told is told after the commit.
enum Judged {
    NoMatch,
    /// The window took too many wrong answers and is closed.
    Exhausted(Claim),
    /// A second one wanted a device without a display; the claim is undone.
    Contested(Claim),
    /// The claim as it was before this login took it.
    Taken {
        claim: Claim,
        ticket: String,
    },
}

async fn judge(
    app: &App,
    change: &mut Change,
    session: &Session,
    code: &str,
    typed: &str,
) -> Result<Judged, Refusal> {
    let now = app.clock.now();
    let mut device = None;
    let candidates = app.keys.candidates(Purpose::RegistrationCode, &[code.as_bytes()]);
    for candidate in &candidates {
        device = match transfers::device(change.conn(), candidate.as_bytes(), now).await? {
            Some(handed_over) => clients::device(change.conn(), &handed_over).await?,
            None => clients::device_by_code(change.conn(), candidate.as_bytes(), now).await?,
        };
        if device.is_some() {
            break;
        }
    }
    let Some(device) = device else { return Ok(Judged::NoMatch) };
    for older in &candidates[1..] {
        clients::rewrap_code(change.conn(), older.as_bytes(), candidates[0].as_bytes()).await?;
    }
    let owned = ownerships::of_device(change.conn(), &device.client_id).await?;
    if owned.is_some_and(|owned| owned.state != "suspended" || owned.user_id != session.user) {
        return Ok(Judged::NoMatch);
    }
    let claim = claims::alive(change.conn(), &device.client_id)
        .await?
        .filter(|claim| claim.deadline > now && peers::holds(app, &claim.device, claim.connection));
    let Some(claim) = claim else {
        if device.confirm == "press" {
            let until = now + app.config.lifetimes.claim_window;
            claims::wait(change.conn(), &device.client_id, session.user, until).await?;
        }
        return Ok(Judged::NoMatch);
    };
    if claim.confirm == "press" {
        if press::is_contested(app, change, session, &claim).await? {
            return press::contest(app, change, claim).await;
        }
    } else if !is_right(app, &claim, typed) {
        return wrong_digits(app, change, claim, typed).await;
    }
    let ticket = secret::random_token::<32>();
    let hash = app.keys.mac(Purpose::Session, &[b"ticket ", ticket.as_bytes()]);
    let lifetimes = &app.config.lifetimes;
    let taking = Taking {
        session: session.id,
        user: session.user,
        ticket: hash.as_bytes(),
        deadline: now + lifetimes.claim_decision,
        settles_at: (claim.confirm == "press").then_some(now + lifetimes.press_settle_seconds),
    };
    if !claims::take(change.conn(), claim.id, &taking).await? {
        return Ok(Judged::NoMatch);
    }
    change.claim_changed();
    Ok(Judged::Taken { claim, ticket })
}

async fn wrong_digits(app: &App, change: &mut Change, claim: Claim, typed: &str) -> Result<Judged, Refusal> {
    // Once the device is taken, digits count for nothing: they must not become a way to push out who was first. Nothing typed
    // is no guess.
    if claim.state != "open" || typed.trim().is_empty() {
        return Ok(Judged::NoMatch);
    }
    claims::count_wrong(change.conn(), claim.id).await?;
    if claim.tries + 1 < TRIES_PER_WINDOW {
        return Ok(Judged::NoMatch);
    }
    ownership::roll_back(app, change, &claim, "exhausted").await?;
    Ok(Judged::Exhausted(claim))
}

/// The owner consents: the device is theirs if it redeems its code and reports in time. A device without a display gets its
/// code only when nobody else asked for it for a while. Answers how the claim stands.
///
/// # Errors
/// `access_denied` if the claim is not this login's; the store cannot answer.
pub async fn accept(
    app: &App,
    session: &Session,
    ticket: &str,
    name: Option<&str>,
) -> Result<ClaimState, Refusal> {
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    let claim = taken(app, &mut change, session, ticket).await?;
    let state = state_of(app, &claim);
    if state != ClaimState::Deciding {
        return Ok(state);
    }
    let name = name.and_then(ownership::display_name);
    if claim.settles_at.is_some_and(|at| now < at) {
        claims::note_accepted(change.conn(), claim.id, name.as_deref()).await?;
        change.claim_changed();
        change.commit(app).await?;
        return Ok(ClaimState::Waiting);
    }
    grant(app, change, &claim, session.user, name.as_deref()).await
}

/// Makes what the consent gives, and sends the device its code.
async fn grant(
    app: &App,
    mut change: Change,
    claim: &Claim,
    user: i64,
    name: Option<&str>,
) -> Result<ClaimState, Refusal> {
    let now = app.clock.now();
    let owned = match ownerships::of_device(change.conn(), &claim.device).await? {
        // A suspended device comes back to its owner under the label that it had.
        Some(owned) if owned.user_id == user && owned.state == "suspended" => owned,
        Some(_) => return Ok(ClaimState::Gone),
        None => {
            let owned = Ownership {
                device: claim.device.clone(),
                id: secret::random_token::<8>(),
                user_id: user,
                label: secret::random_token::<8>(),
                name: name.map(str::to_owned),
                state: "pending".into(),
                since: now,
            };
            ownerships::insert(change.conn(), &owned).await?;
            owned
        }
    };
    let gateway = home_gateway(app, &mut change, user).await?;
    let grant = Grant {
        id: 0,
        public_id: secret::random_token::<8>(),
        sid: secret::random_token::<16>(),
        user_id: user,
        client_id: claim.device.clone(),
        gateway,
        kind: "device".into(),
        state: "pending".into(),
        scope: Scope::DEVICE.to_string(),
        future: false,
        share_names: false,
        channels: None,
        created_at: now,
        expires_at: None,
        future_view: None,
        asked: None,
    };
    let grant = grants::insert(change.conn(), &grant).await?;
    let (reference, whole) = (secret::random_token::<16>(), grants::Chosen::default());
    grants::add_device(change.conn(), grant, &claim.device, &reference, &whole).await?;
    let code = Zeroizing::new(secret::random_token::<32>());
    let handle = app.keys.mac(Purpose::Token, &[code.as_bytes()]);
    let code_ends = now + app.config.lifetimes.authorization_code;
    let node = tokens::NewNode {
        grant_id: grant,
        parent: None,
        state: "current",
        handle: handle.as_bytes(),
        access: None,
        challenge: Some(&claim.challenge),
        redirect_uri: None,
        expires_at: code_ends,
    };
    tokens::insert(change.conn(), &node).await?;
    claims::note_grant(change.conn(), claim.id, grant, &owned.id).await?;
    claims::advance(change.conn(), claim.id, "taken", "granted", code_ends).await?;
    claims::forget_waiting(change.conn(), &claim.device).await?;
    change.claim_changed();
    change.commit(app).await?;
    if peers::tell(app, &claim.device, claim.connection, ClaimMessage::Granted(code)).await {
        return Ok(ClaimState::Waiting);
    }
    let mut change = Change::begin(app).await?;
    if let Some(claim) = claims::get(change.conn(), claim.id).await? {
        ownership::roll_back(app, &mut change, &claim, "gone").await?;
    }
    change.commit(app).await?;
    Ok(ClaimState::Gone)
}

/// The owner declines: nothing is left of the claim, and the device is told.
///
/// # Errors
/// `access_denied` if the claim is not this login's; the store cannot answer.
pub async fn decline(app: &App, session: &Session, ticket: &str) -> Result<ClaimState, Refusal> {
    let mut change = Change::begin(app).await?;
    let claim = taken(app, &mut change, session, ticket).await?;
    let state = state_of(app, &claim);
    if state != ClaimState::Deciding {
        return Ok(state);
    }
    ownership::roll_back(app, &mut change, &claim, "declined").await?;
    change.commit(app).await?;
    peers::tell(app, &claim.device, claim.connection, ClaimMessage::Denied).await;
    Ok(ClaimState::Declined)
}

/// The device reports that it stored its record. Repeating the report is fine.
///
/// # Errors
/// `expired_token` if the claim is over and nothing is owned.
pub async fn done(app: &App, client_id: &str) -> Result<(), Refusal> {
    let mut change = Change::begin(app).await?;
    if grants::of_device(change.conn(), client_id).await?.is_none() {
        return refuse(OAuthErrorCode::ExpiredToken, "the claim is over");
    }
    let claim = claims::alive(change.conn(), client_id).await?;
    if claim.is_some_and(|claim| claim.state == "granted") {
        return refuse(OAuthErrorCode::InvalidRequest, "the code was not redeemed");
    }
    ownership::complete(app, &mut change, client_id).await?;
    change.commit(app).await
}

/// The device gives up its ownership. Repeating it is fine.
///
/// # Errors
/// The store cannot answer.
pub async fn reset(app: &App, client_id: &str) -> Result<(), Refusal> {
    let mut change = Change::begin(app).await?;
    if let Some(owned) = ownerships::of_device(change.conn(), client_id).await? {
        ownership::end(app, &mut change, &owned, NoticeKind::Released, By::Client).await?;
    } else if let Some(claim) = claims::alive(change.conn(), client_id).await? {
        ownership::roll_back(app, &mut change, &claim, "gone").await?;
    }
    // Whoever holds the device does not need the code of a handover that went wrong.
    transfers::delete(change.conn(), client_id).await?;
    change.commit(app).await
}

/// Undoes claims whose time is over and tells their devices; how many.
pub(crate) async fn expire(app: &App, limit: i64) -> Result<usize, Refusal> {
    let mut change = Change::begin(app).await?;
    let overdue = claims::overdue(change.conn(), app.clock.now(), limit).await?;
    for claim in &overdue {
        ownership::roll_back(app, &mut change, claim, "expired").await?;
    }
    change.commit(app).await?;
    for claim in &overdue {
        peers::tell(app, &claim.device, claim.connection, ClaimMessage::Expired).await;
    }
    Ok(overdue.len())
}

/// The gateway that this owner's devices and apps are sent to; gives the owner a pseudonym there.
pub(crate) async fn home_gateway(app: &App, change: &mut Change, user: i64) -> Result<String, Refusal> {
    let known = users::home_gateway(change.conn(), user).await?;
    let gateway = match known.filter(|name| app.gateway(name).is_some()) {
        Some(gateway) => gateway,
        None => match app.home_gateway() {
            Some(gateway) => gateway.client_id.clone(),
            None => return refuse(OAuthErrorCode::TemporarilyUnavailable, "no gateway takes new owners"),
        },
    };
    let (sub, share) = (secret::random_token::<16>(), secret::random_bytes::<32>());
    users::ensure_pseudonym(change.conn(), user, &gateway, &sub, &share).await?;
    Ok(gateway)
}

fn user_code_mac(app: &App, claim: i64, digits: &str) -> crate::keys::Mac {
    app.keys.mac(Purpose::Session, &[b"user code ", &claim.to_be_bytes(), digits.as_bytes()])
}

fn is_right(app: &App, claim: &Claim, typed: &str) -> bool {
    let digits: String = typed.chars().filter(|c| !c.is_whitespace()).collect();
    let parts: [&[u8]; 3] = [b"user code ", &claim.id.to_be_bytes(), digits.as_bytes()];
    claim.user_code.as_deref().is_some_and(|expected| {
        app.keys
            .candidates(Purpose::Session, &parts)
            .iter()
            .any(|mac| secret::equal(mac.as_bytes(), expected))
    })
}

/// True for 43 base64url characters of 32 bytes (RFC 7636 §4.2).
pub(crate) fn is_challenge(text: &str) -> bool {
    secret::decode(text).is_some_and(|bytes| bytes.len() == 32)
}

/// Ends the windows of devices that were connected to a replica that is gone; at start, to this one before it stopped.
pub(crate) async fn end_unserved(app: &App, replica: i64) -> Result<(), Refusal> {
    let mut change = Change::begin(app).await?;
    claims::end_unserved(change.conn(), replica, app.clock.now() + AFTERGLOW).await?;
    change.claim_changed();
    change.commit(app).await
}

/// A code that another replica sent came when the device was just gone: nothing is left of the claim.
pub(crate) async fn undelivered(app: &App, client_id: &str, connection: i64) -> Result<(), Refusal> {
    let mut change = Change::begin(app).await?;
    if let Some(claim) = claims::alive(change.conn(), client_id).await?
        && claim.connection == connection
        && claim.state == "granted"
    {
        ownership::roll_back(app, &mut change, &claim, "gone").await?;
        change.commit(app).await?;
    }
    Ok(())
}
