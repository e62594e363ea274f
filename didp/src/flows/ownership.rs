//! How an ownership becomes complete, and how it ends.

use service::secret;

use crate::audit::{Audit, By};
use crate::flows::Refusal;
use crate::flows::account::NoticeKind;
use crate::flows::change::Change;
use crate::flows::details;
use crate::state::App;
use crate::store::claims::{self, Claim};
use crate::store::ownerships::{self, Ownership};
use crate::store::{clients, grants, notices, transfers};

/// How long a page can still show how a claim ended.
pub(crate) const AFTERGLOW: i64 = 600;

/// The device has stored its record: the claim is complete. Its grant becomes visible to the gateway, and it joins the
/// apps that the owner allowed to see later devices. Repeating it changes nothing.
pub(crate) async fn complete(app: &App, change: &mut Change, device: &str) -> Result<(), Refusal> {
    let now = app.clock.now();
    let Some(owned) = ownerships::of_device(change.conn(), device).await? else { return Ok(()) };
    let Some(grant) = grants::of_device(change.conn(), device).await? else { return Ok(()) };
    if !grants::activate(change.conn(), grant.id).await? {
        return Ok(());
    }
    if let Some(claim) = claims::alive(change.conn(), device).await? {
        claims::advance(change.conn(), claim.id, &claim.state, "done", now + AFTERGLOW).await?;
        change.claim_changed();
    }
    ownerships::set_state(change.conn(), device, "active").await?;
    // The code of a handover is good once.
    transfers::delete(change.conn(), device).await?;
    let mut gateways = vec![grant.gateway.clone()];
    let channels = details::channels(&clients::channels(change.conn(), device).await?.unwrap_or_default());
    for app in grants::joining(change.conn(), owned.user_id).await? {
        // How exactly it may be seen cannot be read: then it is not seen.
        let Some(chosen) = details::joining(&app, &channels) else { continue };
        grants::add_device(change.conn(), app.id, device, &secret::random_token::<16>(), &chosen).await?;
        if !gateways.contains(&app.gateway) {
            gateways.push(app.gateway);
        }
    }
    notice(change, &owned, NoticeKind::Claimed, now).await?;
    for gateway in gateways {
        change.changed(owned.user_id, &gateway, now).await?;
    }
    change.note(Audit::DeviceClaimed { client: device.to_owned() });
    Ok(())
}

/// Undoes a claim that did not become complete: nothing of it is left but the page's last word.
pub(crate) async fn roll_back(
    app: &App,
    change: &mut Change,
    claim: &Claim,
    outcome: &str,
) -> Result<(), Refusal> {
    let now = app.clock.now();
    claims::advance(change.conn(), claim.id, &claim.state, outcome, now + AFTERGLOW).await?;
    change.claim_changed();
    if let Some(grant) = claim.grant_id
        && let Some(grant) = grants::get(change.conn(), grant).await?
        && grant.state == "pending"
    {
        change.end_grant(&grant, now).await?;
    }
    if let Some(owned) = ownerships::of_device(change.conn(), &claim.device).await?
        && owned.state == "pending"
    {
        ownerships::delete(change.conn(), &claim.device).await?;
    }
    Ok(())
}

/// Ends an ownership: tokens, label and the device's place in every app's grant go; the printed code can be claimed again.
pub(crate) async fn end(
    app: &App,
    change: &mut Change,
    owned: &Ownership,
    why: NoticeKind,
    by: By,
) -> Result<(), Refusal> {
    let now = app.clock.now();
    if let Some(claim) = claims::alive(change.conn(), &owned.device).await? {
        claims::advance(change.conn(), claim.id, &claim.state, "gone", now + AFTERGLOW).await?;
        change.claim_changed();
    }
    let mut gateways: Vec<String> =
        grants::of_user_with_device(change.conn(), owned.user_id, &owned.device).await?;
    let own = grants::of_device(change.conn(), &owned.device).await?;
    grants::remove_device(change.conn(), &owned.device).await?;
    if let Some(grant) = own {
        change.end_grant(&grant, now).await?;
    }
    if owned.state != "pending" {
        notice(change, owned, why, now).await?;
        change.note(Audit::DeviceReleased { client: owned.device.clone(), by });
    }
    ownerships::delete(change.conn(), &owned.device).await?;
    gateways.dedup();
    for gateway in gateways {
        change.changed(owned.user_id, &gateway, now).await?;
    }
    Ok(())
}

/// Ends a device's tokens but not its ownership: only the same owner can bring it back.
pub(crate) async fn suspend(
    app: &App,
    change: &mut Change,
    grant: &grants::Grant,
    by: By,
) -> Result<(), Refusal> {
    let now = app.clock.now();
    change.end_grant(grant, now).await?;
    let Some(owned) = ownerships::of_device(change.conn(), &grant.client_id).await? else { return Ok(()) };
    if let Some(claim) = claims::alive(change.conn(), &grant.client_id).await? {
        roll_back(app, change, &claim, "gone").await?;
    }
    if owned.state == "active" {
        ownerships::set_state(change.conn(), &owned.device, "suspended").await?;
        let kind = if by == By::Replay { NoticeKind::TheftAlarm } else { NoticeKind::DeviceSuspended };
        notice(change, &owned, kind, now).await?;
        change.note(Audit::DeviceSuspended { client: owned.device, by });
    }
    Ok(())
}

/// A name as it is kept: trimmed, without control characters, 60 characters at most; none if nothing is left.
pub(crate) fn display_name(text: &str) -> Option<String> {
    let kept: String = text.trim().chars().filter(|c| !c.is_control()).take(60).collect();
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

/// What a person calls the device: the owner's name for it, or its model.
pub(crate) async fn title(change: &mut Change, owned: &Ownership) -> Result<String, Refusal> {
    Ok(match &owned.name {
        Some(name) => name.clone(),
        None => {
            let client = clients::get(change.conn(), &owned.device).await?;
            client.map(|client| client.name).unwrap_or_default()
        }
    })
}

async fn notice(change: &mut Change, owned: &Ownership, kind: NoticeKind, now: i64) -> Result<(), Refusal> {
    let subject = title(change, owned).await?;
    notices::insert(change.conn(), owned.user_id, now, kind.name(), &subject).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(display_name("  Kitchen\u{7} "), Some("Kitchen".into()));
        assert_eq!(display_name(" \n "), None);
        assert_eq!(display_name(&"ä".repeat(100)).unwrap().chars().count(), 60);
    }
}
