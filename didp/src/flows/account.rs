//! The owner's view of what is theirs, and the owner's right to end any of it: devices here, what [`apps`] may do, the [`past`],
//! the [`export`] of everything, and its [`erasure`].

pub mod apps;
pub mod erasure;
pub mod export;
pub mod past;

use oauth_wire::Channel;
use url::Url;

use crate::audit::{Audit, By};
use crate::flows::change::Change;
use crate::flows::details;
use crate::flows::login::Session;
use crate::flows::{Refusal, ownership};
use crate::peers;
use crate::state::App;
use crate::store::{clients, grants, notices, ownerships, sessions};

pub use apps::{AppDeviceView, AppView, Changed, withdraw};
pub use past::{NoticeKind, NoticeView};

/// How long after a claim it can be undone as a mistake, in seconds.
pub const UNDO: i64 = 86_400;

/// Everything on the owner's first page.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Devices, in the order in which they were claimed.
    pub devices: Vec<DeviceView>,
    /// Apps, the newest consent first.
    pub apps: Vec<AppView>,
    /// What happened lately, the newest first; logins are left out.
    pub notices: Vec<NoticeView>,
    /// Other browsers in which the owner is logged in.
    pub other_logins: usize,
}

/// One device.
#[derive(Debug, Clone)]
pub struct DeviceView {
    /// For links.
    pub id: String,
    /// What the owner calls it.
    pub name: Option<String>,
    /// What people call the model.
    pub model: String,
    /// Connected to this DIdP now.
    pub online: bool,
    /// A theft alarm ended its tokens; claiming it again brings it back.
    pub suspended: bool,
    /// Unix seconds.
    pub claimed_at: i64,
    /// It was claimed so lately that this may have been a mistake.
    pub is_fresh: bool,
    /// What it can tell and do.
    pub channels: Vec<Channel>,
}

/// Everything of this owner.
///
/// # Errors
/// The store cannot answer.
pub async fn overview(app: &App, session: &Session) -> Result<Overview, Refusal> {
    let now = app.clock.now();
    let mut conn = app.store.read().await?;
    let owned = ownerships::of_user(&mut conn, session.user).await?;
    let ids: Vec<String> = owned.iter().map(|row| row.ownership.device.clone()).collect();
    let online = peers::online(app, &mut conn, session.user, &ids).await?;
    let devices = owned
        .into_iter()
        .map(|row| DeviceView {
            online: online.contains(&row.ownership.device),
            suspended: row.ownership.state == "suspended",
            id: row.ownership.id,
            name: row.ownership.name,
            model: row.model,
            claimed_at: row.ownership.since,
            is_fresh: now - row.ownership.since < UNDO,
            channels: details::channels(&row.channels),
        })
        .collect();
    let mut allowed = Vec::new();
    for grant in grants::apps_of_user(&mut conn, session.user, now).await? {
        if let Some(view) = apps::view(&mut conn, grant).await? {
            allowed.push(view);
        }
    }
    let since = now - app.config.lifetimes.notices;
    let notices = notices::lately(&mut conn, session.user, since, NoticeKind::LoggedIn.name(), 200).await?;
    let browsers = sessions::of_user(&mut conn, session.user, now).await?;
    Ok(Overview {
        devices,
        apps: allowed,
        notices: notices.into_iter().filter_map(past::view).collect(),
        other_logins: browsers.iter().filter(|(id, _)| *id != session.id).count(),
    })
}

/// Gives up a device: its tokens, label and everything stored for it go, and its printed code can be claimed again.
/// False if it is not this owner's.
///
/// # Errors
/// The store cannot answer.
pub async fn release(app: &App, session: &Session, id: &str) -> Result<bool, Refusal> {
    let mut change = Change::begin(app).await?;
    let Some(owned) = ownerships::of_user_by_id(change.conn(), session.user, id).await? else {
        return Ok(false);
    };
    ownership::end(app, &mut change, &owned, NoticeKind::Released, By::Owner).await?;
    change.commit(app).await?;
    Ok(true)
}

/// Takes back a claim of the wrong device; for [`UNDO`] seconds. False if it is not this owner's, or was longer ago.
///
/// # Errors
/// The store cannot answer.
pub async fn undo_claim(app: &App, session: &Session, id: &str) -> Result<bool, Refusal> {
    let mut change = Change::begin(app).await?;
    let owned = ownerships::of_user_by_id(change.conn(), session.user, id).await?;
    let Some(owned) = owned.filter(|owned| app.clock.now() - owned.since < UNDO) else { return Ok(false) };
    ownership::end(app, &mut change, &owned, NoticeKind::ClaimUndone, By::Owner).await?;
    change.commit(app).await?;
    Ok(true)
}

/// Ends every login of this owner but this one.
///
/// # Errors
/// The store cannot answer.
pub async fn log_out_elsewhere(app: &App, session: &Session) -> Result<(), Refusal> {
    let mut tx = app.store.write().await?;
    sessions::delete_others(&mut tx, session.user, session.id).await?;
    let kind = NoticeKind::LoggedOutElsewhere.name();
    notices::insert(&mut tx, session.user, app.clock.now(), kind, "").await?;
    tx.commit().await?;
    Audit::OwnerSignedOutElsewhere.record();
    Ok(())
}

/// Names a device, or takes its name away. False if it is not this owner's.
///
/// # Errors
/// The store cannot answer.
pub async fn rename(app: &App, session: &Session, id: &str, name: Option<&str>) -> Result<bool, Refusal> {
    let mut tx = app.store.write().await?;
    let Some(owned) = ownerships::of_user_by_id(&mut tx, session.user, id).await? else { return Ok(false) };
    let name = name.and_then(ownership::display_name);
    ownerships::rename(&mut tx, &owned.device, name.as_deref()).await?;
    tx.commit().await?;
    Ok(true)
}

/// Host of an app's first redirect URI.
pub(crate) fn app_host(client: &clients::Client) -> Option<String> {
    let uri = crate::flows::registration::redirect_uris(client).into_iter().next()?;
    host_of(&Url::parse(&uri).ok()?)
}

/// The host of a URL with its port, as a person reads it; the scheme where there is no host.
pub(crate) fn host_of(uri: &Url) -> Option<String> {
    let host = uri.host_str()?;
    Some(match uri.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}
