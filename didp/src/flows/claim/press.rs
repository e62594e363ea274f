//! Devices that have a button and nothing to show: whoever has the printed code could answer, so a claim is given only after
//! a time of silence, and a second person's answer until then cancels it for both.

use super::{Judged, grant};
use crate::flows::change::Change;
use crate::flows::login::Session;
use crate::flows::{Refusal, ownership};
use crate::peers;
use crate::state::App;
use crate::store::claims::{self, Claim};

/// True if this answer makes two people want the device: another one took it, or waits for it.
pub(super) async fn is_contested(
    app: &App,
    change: &mut Change,
    session: &Session,
    claim: &Claim,
) -> Result<bool, Refusal> {
    let taken_by_another = claim.state != "open" && claim.user_id != Some(session.user);
    let now = app.clock.now();
    Ok(taken_by_another || claims::others_waiting(change.conn(), &claim.device, session.user, now).await? > 0)
}

/// Cancels the claim, unless the device was given already.
pub(super) async fn contest(app: &App, change: &mut Change, claim: Claim) -> Result<Judged, Refusal> {
    if !matches!(claim.state.as_str(), "open" | "taken") {
        return Ok(Judged::NoMatch);
    }
    ownership::roll_back(app, change, &claim, "contested").await?;
    claims::forget_waiting(change.conn(), &claim.device).await?;
    Ok(Judged::Contested(claim))
}

/// Gives the devices whose owners consented and that nobody else asked for until now.
pub(crate) async fn settle(app: &App, limit: i64) -> Result<(), Refusal> {
    let now = app.clock.now();
    let due = claims::settled(&mut *app.store.read().await?, now, limit).await?;
    for id in due {
        let mut change = Change::begin(app).await?;
        let Some(claim) = claims::get(change.conn(), id).await?.filter(|claim| claim.state == "taken") else {
            continue;
        };
        let Some(user) = claim.user_id else { continue };
        if peers::holds(app, &claim.device, claim.connection) {
            grant(app, change, &claim, user, claim.chosen_name.as_deref()).await?;
        } else {
            ownership::roll_back(app, &mut change, &claim, "gone").await?;
            change.commit(app).await?;
        }
    }
    Ok(())
}
