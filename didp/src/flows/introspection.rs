//! What gateways may ask: introspection (RFC 7662), an owner's grants, and the stream of events.

use std::sync::Arc;

use oauth_wire::{ActiveToken, Event, EventKind, GrantEntry, GrantList, Introspection, True};
use service::secret;

use crate::flows::change::{self, Change};
use crate::flows::clients::assertion::Assertion;
use crate::flows::details::{self, Audience};
use crate::flows::{Refusal, token};
use crate::keys::Purpose;
use crate::state::{App, Gateway};
use crate::store::grants::{self, Grant};
use crate::store::judgement::{self, Judged};
use crate::store::{events, tokens, users};

/// Events that are read at once.
const BATCH: i64 = 256;

/// The gateway that these credentials prove. A name that no gateway has takes as long as a wrong secret.
pub fn gateway(app: &App, client_id: &str, secret: &str) -> Option<Arc<Gateway>> {
    let registry = app.registry.now();
    let named = registry.gateways.iter().find(|gateway| gateway.client_id == client_id);
    let proven = named.or(registry.gateways.first())?.accepts(secret, app.clock.now());
    named.filter(|_| proven).cloned()
}

/// The gateway that an assertion proves (RFC 7523 §2.2), or why it proves none.
///
/// # Errors
/// The store cannot answer.
pub async fn gateway_by_assertion(
    app: &App,
    assertion: &str,
) -> Result<Result<Arc<Gateway>, &'static str>, Refusal> {
    let assertion = match Assertion::parse(assertion) {
        Ok(assertion) => assertion,
        Err(why) => return Ok(Err(why)),
    };
    let Some(gateway) = app.gateway(assertion.client_id()) else { return Ok(Err("unknown gateway")) };
    if gateway.disabled {
        return Ok(Err("disabled"));
    }
    Ok(crate::flows::clients::once(app, &assertion, &gateway.keys).await?.map(|()| gateway))
}

/// Judges a token for the gateway that asks. A fresh token that is accepted is thereby used (see [`token`]).
///
/// # Errors
/// The store cannot answer; an unknown, ended or foreign token is no error but inactive.
pub async fn introspect(app: &App, gateway: &Gateway, token: &str) -> Result<Introspection, Refusal> {
    for candidate in app.keys.candidates(Purpose::Token, &[token.as_bytes()]) {
        let access = candidate.as_bytes();
        let Some(judged) = judge(app, access).await? else { continue };
        if judged.state == "fresh" {
            if !use_fresh(app, gateway, access, &judged.grant).await? {
                break;
            }
            let Some(judged) = judge(app, access).await? else { break };
            return Ok(answer(app, gateway, judged));
        }
        return Ok(answer(app, gateway, judged));
    }
    Ok(Introspection::INACTIVE)
}

async fn judge(app: &App, access: &[u8]) -> Result<Option<Judged>, Refusal> {
    Ok(judgement::judge(&mut *app.store.read().await?, access).await?)
}

/// Uses a fresh token, if this gateway may. Judged again inside the transaction: it may have died, and it must not be used up by
/// a wrong gateway.
async fn use_fresh(app: &App, gateway: &Gateway, access: &[u8], grant: &Grant) -> Result<bool, Refusal> {
    let mut change = Change::of_grant(app, grant).await?;
    let Some(node) = tokens::by_access(change.conn(), access).await? else { return Ok(false) };
    let Some(grant) = grants::get(change.conn(), node.grant_id).await? else { return Ok(false) };
    if grant.gateway != gateway.client_id || !is_alive(app, &node.state, node.access_expires, &grant) {
        return Ok(false);
    }
    token::used(app, &mut change, &node, &grant).await?;
    change.commit(app).await?;
    Ok(true)
}

fn is_alive(app: &App, state: &str, access_expires: Option<i64>, grant: &Grant) -> bool {
    let now = app.clock.now();
    state != "dead"
        && access_expires.is_some_and(|end| now < end)
        && grant.expires_at.is_none_or(|end| now < end)
}

fn answer(app: &App, gateway: &Gateway, judged: Judged) -> Introspection {
    let Judged { state, access_expires, grant, disabled, pseudonym, devices } = judged;
    let alive = is_alive(app, &state, access_expires, &grant) && state == "current" && !disabled;
    let Some((sub, state_share, rev)) = pseudonym.filter(|_| alive && grant.gateway == gateway.client_id)
    else {
        return Introspection::INACTIVE;
    };
    let authorization_details: Vec<_> =
        devices.into_iter().map(|device| details::detail(&grant, device, Audience::Gateway)).collect();
    let label = match grant.is_device() {
        true => authorization_details.first().and_then(|detail| detail.identifier.clone()),
        false => None,
    };
    if grant.is_device() && label.is_none() {
        return Introspection::INACTIVE;
    }
    Introspection::Active(Box::new(ActiveToken {
        active: True,
        iss: app.issuer_text().to_owned(),
        sub,
        aud: gateway.resource.clone(),
        exp: access_expires.unwrap_or(0).min(grant.expires_at.unwrap_or(i64::MAX)),
        scope: grant.scope.parse().unwrap_or(oauth_wire::Scope::EMPTY),
        authorization_details,
        sid: grant.sid,
        rev,
        label,
        state_share: secret::encode(&state_share),
    }))
}

/// Every current grant of the owner with this pseudonym; an empty list for one that is unknown at this gateway.
///
/// # Errors
/// The store cannot answer.
pub async fn grants_of(app: &App, gateway: &Gateway, sub: &str) -> Result<GrantList, Refusal> {
    let mut list = GrantList { sub: sub.to_owned(), rev: 0, grants: Vec::new(), state_share: None };
    // One read transaction: what is granted and its `rev` must be of the same moment.
    let mut snapshot = app.store.snapshot().await?;
    let Some(user) = users::by_pseudonym(&mut snapshot, &gateway.client_id, sub).await? else {
        return Ok(list);
    };
    let Some(pseudonym) = users::pseudonym(&mut snapshot, user, &gateway.client_id).await? else {
        return Ok(list);
    };
    list.rev = pseudonym.rev;
    list.state_share = Some(secret::encode(&pseudonym.state_share));
    for grant in grants::of_user_at(&mut snapshot, user, &gateway.client_id, app.clock.now()).await? {
        list.grants.push(GrantEntry {
            authorization_details: details::of_grant(&mut snapshot, &grant, Audience::Gateway).await?,
            sid: grant.sid,
            rev: pseudonym.rev,
            exp: grant.expires_at,
        });
    }
    snapshot.end().await?;
    Ok(list)
}

/// Where a stream of events stands.
#[derive(Debug, Clone, Copy)]
pub struct Position(i64);

/// Begins a stream: where it stands, and what to say first, if anything.
///
/// # Errors
/// The store cannot answer.
pub async fn begin_stream(
    app: &App,
    resume_after: Option<i64>,
) -> Result<(Position, Option<Event>), Refusal> {
    let mut conn = app.store.read().await?;
    if let Some(seq) = resume_after
        && events::reaches_back_to(&mut conn, seq).await?
    {
        return Ok((Position(seq), None));
    }
    let head = events::head(&mut conn).await?;
    let kind = if resume_after.is_some() { EventKind::Gap } else { EventKind::Head };
    Ok((Position(head), Some(Event { seq: head, sid: None, sub: None, kind })))
}

/// The next events for this gateway; waits until there are some.
///
/// # Errors
/// The store cannot answer.
pub async fn next_events(
    app: &App,
    gateway: &Gateway,
    position: &mut Position,
) -> Result<Vec<Event>, Refusal> {
    let mut heads = app.events.subscribe();
    loop {
        let head = *heads.borrow_and_update();
        let stored =
            events::after(&mut *app.store.read().await?, &gateway.client_id, position.0, BATCH).await?;
        let full = i64::try_from(stored.len()).unwrap_or(BATCH) >= BATCH;
        position.0 = stored.last().map_or(position.0, |event| event.seq);
        if !full {
            // Others' events lie in between; the stream has seen all up to the head that it looked at.
            position.0 = position.0.max(head);
        }
        let events: Vec<Event> = stored
            .into_iter()
            .filter_map(|event| {
                Some(Event {
                    seq: event.seq,
                    sid: event.sid,
                    sub: event.sub,
                    kind: change::kind_of(&event.kind)?,
                })
            })
            .collect();
        if !events.is_empty() {
            return Ok(events);
        }
        if !full && heads.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
