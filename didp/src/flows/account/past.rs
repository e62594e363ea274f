//! What an owner can look back on for ninety days: consents, claims, their ends, theft alarms, logins. No device data, no
//! addresses.

use crate::flows::Refusal;
use crate::flows::login::Session;
use crate::state::App;
use crate::store::notices::{self, Notice};

/// Entries on one page of the past.
pub const PAGE: usize = 50;

/// One entry of the past.
#[derive(Debug, Clone)]
pub struct NoticeView {
    /// Unix seconds.
    pub at: i64,
    /// What happened.
    pub kind: NoticeKind,
    /// The device or app, as a person calls it; of a login the provider.
    pub subject: String,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// A refresh token or code was used after its end: somebody else may have had it. The tokens are dead.
    TheftAlarm,
    /// A device was claimed.
    Claimed,
    /// A claim was taken back soon after: it was the wrong device.
    ClaimUndone,
    /// A device was given up, on the page or by the device itself.
    Released,
    /// A device was given up with a code for who gets it.
    HandedOver,
    /// An app got access.
    AppAllowed,
    /// An app's access ended: withdrawn here, given back by the app, or over.
    AppWithdrawn,
    /// The owner changed what an app may see or do.
    AppChanged,
    /// A device's tokens ended without an alarm: given back by the device, or not renewed in time.
    DeviceSuspended,
    /// Somebody logged in as this owner.
    LoggedIn,
    /// All other logins were ended.
    LoggedOutElsewhere,
    /// Everything that is kept was downloaded.
    Exported,
    /// The owner can log in at another provider as well.
    LoginAdded,
    /// The owner cannot log in there any more.
    LoginRemoved,
}

impl NoticeKind {
    /// Every kind.
    pub const ALL: [NoticeKind; 14] = [
        Self::TheftAlarm,
        Self::Claimed,
        Self::ClaimUndone,
        Self::Released,
        Self::HandedOver,
        Self::AppAllowed,
        Self::AppWithdrawn,
        Self::AppChanged,
        Self::DeviceSuspended,
        Self::LoggedIn,
        Self::LoggedOutElsewhere,
        Self::Exported,
        Self::LoginAdded,
        Self::LoginRemoved,
    ];

    /// The name in the database and in exports.
    pub fn name(self) -> &'static str {
        match self {
            Self::TheftAlarm => "theft_alarm",
            Self::Claimed => "claimed",
            Self::ClaimUndone => "claim_undone",
            Self::Released => "released",
            Self::HandedOver => "handed_over",
            Self::AppAllowed => "app_allowed",
            Self::AppWithdrawn => "app_withdrawn",
            Self::AppChanged => "app_changed",
            Self::DeviceSuspended => "device_suspended",
            Self::LoggedIn => "logged_in",
            Self::LoggedOutElsewhere => "logged_out_elsewhere",
            Self::Exported => "exported",
            Self::LoginAdded => "login_added",
            Self::LoginRemoved => "login_removed",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A page of the past, the newest first.
#[derive(Debug, Clone)]
pub struct Past {
    /// At most [`PAGE`] entries.
    pub notices: Vec<NoticeView>,
    /// Where the next page begins, if there is one.
    pub older: Option<i64>,
}

/// The past of this owner before an entry, or up to now.
///
/// # Errors
/// The store cannot answer.
pub async fn past(app: &App, session: &Session, before: Option<i64>) -> Result<Past, Refusal> {
    let since = app.clock.now() - app.config.lifetimes.notices;
    let mut conn = app.store.read().await?;
    let limit = i64::try_from(PAGE).unwrap_or(i64::MAX) + 1;
    let mut found =
        notices::before(&mut conn, session.user, since, before.unwrap_or(i64::MAX), limit).await?;
    let more = found.len() > PAGE;
    found.truncate(PAGE);
    let older = if more { found.last().map(|notice| notice.id) } else { None };
    Ok(Past { notices: found.into_iter().filter_map(view).collect(), older })
}

/// Notes that somebody logged in as this owner with that provider.
///
/// # Errors
/// The store cannot answer.
pub async fn note_login(app: &App, session: &Session, provider: &str) -> Result<(), Refusal> {
    let mut tx = app.store.write().await?;
    let kind = NoticeKind::LoggedIn.name();
    notices::insert(&mut tx, session.user, app.clock.now(), kind, provider).await?;
    tx.commit().await?;
    Ok(())
}

/// An entry as it is shown; none for one that a later version wrote.
pub(super) fn view(notice: Notice) -> Option<NoticeView> {
    Some(NoticeView { at: notice.at, kind: NoticeKind::of(&notice.kind)?, subject: notice.subject })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back() {
        for kind in NoticeKind::ALL {
            assert_eq!(NoticeKind::of(kind.name()), Some(kind));
        }
        assert_eq!(NoticeKind::of("something new"), None);
    }
}
