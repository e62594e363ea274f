//! The owner's view of what is theirs: devices, apps, the past; and the owner's right to end any of it.

use oauth_wire::Channel;
use oauth_wire::Direction;
use url::Url;

use crate::flows::change::Change;
use crate::flows::details::{self, Audience};
use crate::flows::login::Session;
use crate::flows::{Refusal, ownership};
use crate::state::App;
use crate::store::{clients, grants, notices, ownerships};

/// Everything on the owner's first page.
#[derive(Debug, Clone)]
pub struct Overview {
    /// Devices, in the order in which they were claimed.
    pub devices: Vec<DeviceView>,
    /// Apps, the newest consent first.
    pub apps: Vec<AppView>,
    /// What happened, the newest first.
    pub notices: Vec<NoticeView>,
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
    /// What it can tell and do.
    pub channels: Vec<Channel>,
}

/// One consent.
#[derive(Debug, Clone)]
pub struct AppView {
    /// For links.
    pub id: String,
    /// The app's name, as it was registered.
    pub app_name: String,
    /// Host of its redirect URI.
    pub app_host: String,
    /// It was registered with a token.
    pub verified: bool,
    /// What it may see and do, device by device.
    pub devices: Vec<AppDeviceView>,
    /// Devices that are claimed later join.
    pub future: bool,
    /// It is told the owner's names of devices.
    pub shares_names: bool,
    /// Unix seconds; none means until withdrawn.
    pub until: Option<i64>,
    /// Unix seconds.
    pub granted_at: i64,
}

/// One device of a consent.
#[derive(Debug, Clone)]
pub struct AppDeviceView {
    /// The owner's name, or the model's.
    pub title: String,
    /// Titles of the channels that may be read.
    pub read: Vec<String>,
    /// Titles of the channels that may be commanded.
    pub command: Vec<String>,
}

/// One entry of the past.
#[derive(Debug, Clone)]
pub struct NoticeView {
    /// Unix seconds.
    pub at: i64,
    /// What happened.
    pub kind: NoticeKind,
    /// The device or app, as a person calls it.
    pub subject: String,
}

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// A refresh token or code was used after its end: somebody else may have had it. The tokens are dead.
    TheftAlarm,
    /// A device was claimed.
    Claimed,
    /// A device was given up, on the page or by the device itself.
    Released,
    /// An app got access.
    AppAllowed,
    /// An app's access ended: withdrawn here, given back by the app, or over.
    AppWithdrawn,
    /// A device's tokens ended without an alarm: given back by the device, or not renewed in time.
    DeviceSuspended,
}

impl NoticeKind {
    /// The name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::TheftAlarm => "theft_alarm",
            Self::Claimed => "claimed",
            Self::Released => "released",
            Self::AppAllowed => "app_allowed",
            Self::AppWithdrawn => "app_withdrawn",
            Self::DeviceSuspended => "device_suspended",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [
            Self::TheftAlarm,
            Self::Claimed,
            Self::Released,
            Self::AppAllowed,
            Self::AppWithdrawn,
            Self::DeviceSuspended,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
    }
}

/// Everything of this owner.
///
/// # Errors
/// The store cannot answer.
pub async fn overview(app: &App, session: &Session) -> Result<Overview, Refusal> {
    let now = app.clock.now();
    let mut conn = app.store.read().await?;
    let devices = ownerships::of_user(&mut conn, session.user)
        .await?
        .into_iter()
        .map(|row| DeviceView {
            online: app.hub.is_online(&row.ownership.device),
            suspended: row.ownership.state == "suspended",
            id: row.ownership.id,
            name: row.ownership.name,
            model: row.model,
            claimed_at: row.ownership.since,
            channels: details::channels(&row.channels),
        })
        .collect();
    let mut apps = Vec::new();
    for grant in grants::apps_of_user(&mut conn, session.user, now).await? {
        let Some(client) = clients::get(&mut conn, &grant.client_id).await? else { continue };
        let titles: Vec<String> = grants::devices(&mut conn, &grant)
            .await?
            .into_iter()
            .map(|device| device.name.unwrap_or(device.model))
            .collect();
        let details = details::of_grant(&mut conn, &grant, Audience::App).await?;
        apps.push(AppView {
            app_host: app_host(&client).unwrap_or_default(),
            verified: client.registrar.is_some(),
            app_name: client.name,
            devices: titles
                .into_iter()
                .zip(details)
                .map(|(title, detail)| AppDeviceView {
                    title,
                    read: titles_of(&detail.channels, Direction::Data),
                    command: titles_of(&detail.channels, Direction::Command),
                })
                .collect(),
            id: grant.public_id,
            future: grant.future,
            shares_names: grant.share_names,
            until: grant.expires_at,
            granted_at: grant.created_at,
        });
    }
    let since = now - app.config.lifetimes.notices;
    let notices = notices::of_user(&mut conn, session.user, since)
        .await?
        .into_iter()
        .filter_map(|notice| {
            Some(NoticeView { at: notice.at, kind: NoticeKind::of(&notice.kind)?, subject: notice.subject })
        })
        .collect();
    Ok(Overview { devices, apps, notices })
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
    ownership::end(app, &mut change, &owned).await?;
    change.commit(app).await?;
    tracing::info!(event = "device_released", by = "owner");
    Ok(true)
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

/// Withdraws a consent: the app's tokens are dead and its gateway is told. False if it is not this owner's.
///
/// # Errors
/// The store cannot answer.
pub async fn withdraw(app: &App, session: &Session, id: &str) -> Result<bool, Refusal> {
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    let Some(grant) = grants::app_of_user(change.conn(), session.user, id).await? else { return Ok(false) };
    end_app(&mut change, &grant, NoticeKind::AppWithdrawn, now).await?;
    change.commit(app).await?;
    tracing::info!(event = "app_withdrawn", by = "owner");
    Ok(true)
}

/// Ends an app's grant and notes why.
pub(crate) async fn end_app(
    change: &mut Change,
    grant: &grants::Grant,
    why: NoticeKind,
    now: i64,
) -> Result<(), Refusal> {
    if grant.state == "active" {
        let name = clients::get(change.conn(), &grant.client_id).await?.map(|client| client.name);
        notices::insert(change.conn(), grant.user_id, now, why.name(), name.as_deref().unwrap_or("")).await?;
    }
    change.end_grant(grant, now).await
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

fn titles_of(channels: &[Channel], direction: Direction) -> Vec<String> {
    channels
        .iter()
        .filter(|channel| channel.direction == direction)
        .map(|channel| channel.title.clone().unwrap_or_else(|| channel.name.clone()))
        .collect()
}
