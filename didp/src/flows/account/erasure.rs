//! Deleting an account: nothing of the owner stays, and every gateway is told, which stops the owner's PCM and deletes what it
//! kept. The devices have no owner then; what the owner's claim gave them is worth nothing any more.

use crate::audit::Audit;
use crate::flows::change::Change;
use crate::flows::login::Session;
use crate::flows::{Refusal, ownership};
use crate::hub::ClaimMessage;
use crate::peers;
use crate::state::App;
use crate::store::{claims, users};

/// Deletes the account of this session for good.
///
/// # Errors
/// The store cannot answer; then nothing was deleted.
pub async fn erase(app: &App, session: &Session) -> Result<(), Refusal> {
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    let under_way = claims::alive_of_user(change.conn(), session.user).await?;
    for claim in &under_way {
        ownership::roll_back(app, &mut change, claim, "declined").await?;
    }
    for (gateway, sub) in users::pseudonyms(change.conn(), session.user).await? {
        change.erased(&gateway, &sub, now).await?;
    }
    claims::forget_user(change.conn(), session.user).await?;
    users::delete(change.conn(), session.user).await?;
    change.commit(app).await?;
    for claim in &under_way {
        peers::tell(app, &claim.device, claim.connection, ClaimMessage::Denied).await;
    }
    Audit::AccountErased.record();
    Ok(())
}
