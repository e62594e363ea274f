//! Handing a device over: a release, after which only a fresh code claims the device, once, for a while. Whoever photographed the
//! label, or had the device before, cannot claim it meanwhile, even at its button; a long press on the device ends that too.

use service::secret;
use zeroize::Zeroizing;

use crate::audit::By;
use crate::flows::account::NoticeKind;
use crate::flows::change::Change;
use crate::flows::login::Session;
use crate::flows::{Refusal, ownership};
use crate::keys::Purpose;
use crate::state::App;
use crate::store::{ownerships, transfers};

/// A device on its way to somebody else.
pub struct Handover {
    /// The device, as its former owner called it.
    pub title: String,
    /// The address for the next owner; it holds the code, which is told this once.
    pub address: Zeroizing<String>,
    /// When the printed code works again, Unix seconds.
    pub until: i64,
}

/// Releases a device for whoever gets the code; none if it is not this owner's.
///
/// # Errors
/// The store cannot answer.
pub async fn begin(app: &App, session: &Session, id: &str) -> Result<Option<Handover>, Refusal> {
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    let Some(owned) = ownerships::of_user_by_id(change.conn(), session.user, id).await? else {
        return Ok(None);
    };
    let title = ownership::title(&mut change, &owned).await?;
    ownership::end(app, &mut change, &owned, NoticeKind::HandedOver, By::Owner).await?;
    let code = Zeroizing::new(secret::random_token::<16>());
    let hash = app.keys.mac(Purpose::RegistrationCode, &[code.as_bytes()]);
    let until = now + app.config.lifetimes.transfer;
    transfers::put(change.conn(), &owned.device, hash.as_bytes(), until).await?;
    change.commit(app).await?;
    Ok(Some(Handover { title, address: Zeroizing::new(app.url(&format!("/r/{}", *code))), until }))
}
