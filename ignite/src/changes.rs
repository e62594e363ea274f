//! What a change at a DIdP does here: to the owner's PCM, to the sessions that run.
//!
//! A change is final within a second: sessions are ended first, and whatever cannot be checked or handed on ends the
//! sessions that depend on it. Reading the events is `didp::events`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use oauth_wire::{Event, EventKind};
use tokio::time::{interval, sleep};

use crate::cause::Cause;
use crate::didp::Didp;
use crate::gateway::Gateway;
use crate::live::{Live, OwnerId};

/// Introspections at once.
const AT_ONCE: usize = 16;
/// First and longest wait before grants are handed on, or an owner is erased, once more.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How often is looked whether a grant has ended.
const TICK: Duration = Duration::from_secs(1);

/// Deals with one event. What needs requests goes on in a task of its own, so that one slow owner does not keep the next
/// one's revocation waiting.
pub(crate) fn react(gateway: &Arc<Gateway>, didp: &Arc<Didp>, event: &Event) {
    match (event.kind, &event.sid, &event.sub) {
        (EventKind::Revoked, Some(sid), _) => {
            for live in gateway.sessions.of_grant(&didp.issuer, sid) {
                live.end(Cause::Revoked);
            }
        }
        (EventKind::Changed, _, Some(sub)) => {
            let owner = OwnerId { iss: didp.issuer.clone(), sub: sub.clone() };
            let (gateway, didp) = (Arc::clone(gateway), Arc::clone(didp));
            gateway.shutdown.clone().spawn(async move { changed(&gateway, &didp, &owner).await });
        }
        (EventKind::Erased, _, Some(sub)) => {
            let owner = OwnerId { iss: didp.issuer.clone(), sub: sub.clone() };
            for live in gateway.sessions.of_owner(&owner) {
                live.end(Cause::Revoked);
            }
            let gateway = Arc::clone(gateway);
            gateway.shutdown.clone().spawn(async move {
                tokio::select! {
                    () = gateway.shutdown.begun() => {}
                    () = erase_until_done(&gateway, &owner) => {}
                }
            });
        }
        (EventKind::Head | EventKind::Gap, _, _) => {}
        (EventKind::Changed | EventKind::Revoked | EventKind::Erased, _, _) => {
            tracing::warn!(event = "event_without_subject", issuer = didp.issuer);
        }
    }
}

/// The grants of one owner changed: the PCM gets the new ones, every session is asked about again. What cannot be done ends
/// the sessions: they may be what the change was about.
async fn changed(gateway: &Arc<Gateway>, didp: &Arc<Didp>, owner: &OwnerId) {
    let handing_on = async {
        if let Err(cause) = gateway.owners.refresh(gateway, didp, owner).await {
            not_handed_on(gateway, didp, owner, cause);
        }
    };
    let checking = stream::iter(gateway.sessions.of_owner(owner))
        .for_each_concurrent(AT_ONCE, |live| check_or_end(Arc::clone(gateway), live));
    tokio::join!(handing_on, checking);
}

/// The PCM may have grants that are gone: the owner's sessions end, no others begin, and it is told until it was told.
fn not_handed_on(gateway: &Arc<Gateway>, didp: &Arc<Didp>, owner: &OwnerId, cause: Cause) {
    cause.log("grants_not_handed_on", "");
    let is_first = gateway.owners.set_overdue(owner);
    for live in gateway.sessions.of_owner(owner) {
        live.end(Cause::Unchecked);
    }
    if !is_first {
        return;
    }
    let (gateway, didp, owner) = (Arc::clone(gateway), Arc::clone(didp), owner.clone());
    gateway.shutdown.clone().spawn(async move {
        tokio::select! {
            () = gateway.shutdown.begun() => {}
            () = hand_on_until_done(&gateway, &didp, &owner) => {}
        }
    });
}

async fn hand_on_until_done(gateway: &Gateway, didp: &Didp, owner: &OwnerId) {
    let mut wait = RETRY.0;
    loop {
        sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
        // A session, or a later change, may have done it meanwhile.
        if !gateway.owners.is_overdue(owner) || gateway.owners.refresh(gateway, didp, owner).await.is_ok() {
            return;
        }
    }
}

/// Whoever was erased is not to be found any more once the launcher can be, however long that takes.
async fn erase_until_done(gateway: &Gateway, owner: &OwnerId) {
    let mut wait = RETRY.0;
    while gateway.owners.erase(gateway, owner).await.is_err() {
        sleep(wait).await;
        wait = (wait * 2).min(RETRY.1);
    }
}

/// Ends grants and silent sessions when their time is over, whether their DIdP can be reached or not, until the gateway stops.
pub(crate) async fn end_in_time(gateway: Arc<Gateway>) {
    let mut tick = interval(TICK);
    loop {
        tokio::select! {
            () = gateway.shutdown.begun() => return,
            _ = tick.tick() => {}
        }
        let now = gateway.clock.now();
        gateway.sessions.end_with_tokens(now);
        for owner in gateway.owners.due(now) {
            let gateway = Arc::clone(&gateway);
            gateway.shutdown.clone().spawn(async move {
                let ending = gateway.owners.end_grants(&gateway, &owner).await;
                let didp = gateway.didps.values().find(|didp| didp.issuer == owner.iss);
                if let (Err(cause), Some(didp)) = (ending, didp) {
                    not_handed_on(&gateway, didp, &owner, cause);
                }
            });
        }
    }
}

async fn check_or_end(gateway: Arc<Gateway>, live: Arc<Live>) {
    if introspect_again(&gateway, &live).await.is_err() {
        live.end(Cause::Unchecked);
    }
}

/// Asks again about everything that lives under one issuer, and hands every linked PCM its owner's current grants; true if
/// all of it was done.
///
/// While a DIdP is away nothing is known about its tokens. Their sessions go on until the tokens end, as they would without
/// a revocation; the log and `/readyz` say that revocations do not come in. The first question that gets no answer is the
/// last one, so that a hanging DIdP does not cost a time limit a session.
pub(crate) async fn check_all(gateway: &Arc<Gateway>, didp: &Arc<Didp>) -> bool {
    let away = Arc::new(AtomicBool::new(false));
    let handing_on = stream::iter(gateway.owners.linked(&didp.issuer))
        .for_each_concurrent(AT_ONCE, |owner| {
            hand_on(Arc::clone(gateway), Arc::clone(didp), owner, Arc::clone(&away))
        });
    let checking = stream::iter(gateway.sessions.of_issuer(&didp.issuer))
        .for_each_concurrent(AT_ONCE, |live| check_if_possible(Arc::clone(gateway), live, Arc::clone(&away)));
    tokio::join!(handing_on, checking);
    !away.load(Ordering::Relaxed)
}

async fn hand_on(gateway: Arc<Gateway>, didp: Arc<Didp>, owner: OwnerId, away: Arc<AtomicBool>) {
    if away.load(Ordering::Relaxed) {
        return;
    }
    match gateway.owners.refresh(&gateway, &didp, &owner).await {
        Ok(()) => {}
        Err(Cause::DidpUnavailable) => away.store(true, Ordering::Relaxed),
        Err(cause) => not_handed_on(&gateway, &didp, &owner, cause),
    }
}

async fn check_if_possible(gateway: Arc<Gateway>, live: Arc<Live>, away: Arc<AtomicBool>) {
    if !away.load(Ordering::Relaxed) && introspect_again(&gateway, &live).await.is_err() {
        away.store(true, Ordering::Relaxed);
    }
}

/// Asks about one session's token: an inactive one ends it, a narrowed grant replaces the old one.
///
/// # Errors
/// The DIdP could not be asked; the session is as it was.
pub(crate) async fn introspect_again(gateway: &Gateway, live: &Live) -> Result<(), Cause> {
    let token = live.token.lock().await;
    match gateway.introspect(&token).await {
        Ok(grant) if grant.sid == live.sid && OwnerId::of(&grant) == live.owner => live.go_on(grant),
        Ok(_) => live.end(Cause::Revoked),
        Err(Cause::DidpUnavailable) => return Err(Cause::DidpUnavailable),
        Err(_) => live.end(Cause::Revoked),
    }
    Ok(())
}
