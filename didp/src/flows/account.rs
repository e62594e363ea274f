//! The owner's view of what is theirs: devices, apps, the past; and the owner's right to end any of it.

use std::collections::BTreeMap;

use oauth_wire::{Channel, View};
use url::Url;

use crate::flows::change::Change;
use crate::flows::details::{self, Audience};
use crate::flows::exactness::Exactness;
use crate::flows::login::Session;
use crate::flows::{Refusal, ownership};
use crate::state::App;
use crate::store::{Conn, clients, grants, notices, ownerships};

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
    /// How exactly devices are seen that are claimed later and join; none if they do not join.
    pub future: Option<Exactness>,
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
    /// For forms.
    pub id: String,
    /// The owner's name, or the model's.
    pub title: String,
    /// The channels that may be read or commanded.
    pub channels: Vec<Channel>,
    /// How exactly readings are seen, by channel name, where that is not every value as it is.
    pub views: BTreeMap<String, View>,
}

impl AppDeviceView {
    /// How exactly a channel is seen.
    pub fn view_of(&self, channel: &str) -> View {
        self.views.get(channel).cloned().unwrap_or_default()
    }
}

/// What an owner leaves an app of what it has. What it does not have, it does not get by this.
#[derive(Debug, Clone, Default)]
pub struct Narrowing {
    /// The devices of which something stays. One that is neither here nor among those that go stays as it is: it joined meanwhile.
    pub devices: Vec<KeptDevice>,
    /// The devices that go, by their ids.
    pub gone: Vec<String>,
    /// How exactly devices are seen that are claimed later; none if they do not join any more.
    pub future: Option<Exactness>,
}

/// One device that stays.
#[derive(Debug, Clone, Default)]
pub struct KeptDevice {
    /// As in [`AppDeviceView`].
    pub id: String,
    /// Names of the channels that may still be read, and how exactly from now on.
    pub read: BTreeMap<String, View>,
    /// Names of the channels that may still be commanded.
    pub command: Vec<String>,
}

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// It is as the owner wants it.
    Done,
    /// Nothing would be left: that is a withdrawal, which is asked for elsewhere.
    Nothing,
    /// No such app of this owner.
    Unknown,
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
    /// The owner changed what an app may see or do.
    AppChanged,
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
            Self::AppChanged => "app_changed",
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
            Self::AppChanged,
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
        if let Some(view) = app_view(&mut conn, grant).await? {
            apps.push(view);
        }
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

async fn app_view(conn: &mut Conn, grant: grants::Grant) -> sqlx::Result<Option<AppView>> {
    let Some(client) = clients::get(conn, &grant.client_id).await? else { return Ok(None) };
    let devices = grants::devices(conn, &grant).await?.into_iter().map(|device| {
        let title = device.name.clone().unwrap_or_else(|| device.model.clone());
        let id = device.reference.clone();
        let detail = details::detail(&grant, device, Audience::App);
        AppDeviceView { id, title, channels: detail.channels, views: detail.views }
    });
    Ok(Some(AppView {
        app_host: app_host(&client).unwrap_or_default(),
        verified: client.registrar.is_some(),
        app_name: client.name,
        devices: devices.collect(),
        future: details::future(&grant),
        shares_names: grant.share_names,
        until: grant.expires_at,
        granted_at: grant.created_at,
        id: grant.public_id,
    }))
}

/// One app of this owner, by its id.
///
/// # Errors
/// The store cannot answer.
pub async fn app(app: &App, session: &Session, id: &str) -> Result<Option<AppView>, Refusal> {
    let mut conn = app.store.read().await?;
    match grants::app_of_user(&mut conn, session.user, id).await? {
        Some(grant) => Ok(app_view(&mut conn, grant).await?),
        None => Ok(None),
    }
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

/// Changes how exactly an app sees what it may see, and takes away what does not stay. Its gateway is told by the same commit;
/// its tokens and sessions go on.
///
/// # Errors
/// The store cannot answer.
pub async fn change_app(
    app: &App,
    session: &Session,
    id: &str,
    narrowing: &Narrowing,
) -> Result<Changed, Refusal> {
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    let Some(grant) = grants::app_of_user(change.conn(), session.user, id).await? else {
        return Ok(Changed::Unknown);
    };
    let future = details::future(&grant).and(narrowing.future.as_ref());
    let mut left = future.is_some();
    for device in grants::devices(change.conn(), &grant).await? {
        let client_id = device.device.clone();
        let kept = narrowing.devices.iter().find(|kept| kept.id == device.reference);
        if kept.is_none() && !narrowing.gone.contains(&device.reference) {
            left = true;
            continue;
        }
        match kept.and_then(|kept| narrowed(&grant, device, kept)) {
            Some(chosen) => {
                grants::choose(change.conn(), grant.id, &client_id, &chosen).await?;
                left = true;
            }
            None => grants::drop_device(change.conn(), grant.id, &client_id).await?,
        }
    }
    if !left {
        return Ok(Changed::Nothing);
    }
    let future_view = future.map(details::exactness_json);
    grants::set_future(change.conn(), grant.id, future.is_some(), future_view.as_deref()).await?;
    if let Some(client) = clients::get(change.conn(), &grant.client_id).await? {
        let kind = NoticeKind::AppChanged.name();
        notices::insert(change.conn(), session.user, now, kind, &client.name).await?;
    }
    change.changed(session.user, &grant.gateway, now).await?;
    change.commit(app).await?;
    tracing::info!(event = "app_changed", by = "owner");
    Ok(Changed::Done)
}

/// What is stored of a device after a narrowing: of what the app has, what stays; `None` if that is nothing.
fn narrowed(
    grant: &grants::Grant,
    device: grants::GrantedDevice,
    kept: &KeptDevice,
) -> Option<grants::Chosen> {
    let detail = details::detail(grant, device, Audience::App);
    let read: BTreeMap<String, View> =
        detail.readable().filter_map(|name| Some((name.to_owned(), kept.read.get(name)?.clone()))).collect();
    let command: Vec<String> = detail
        .commandable()
        .filter(|name| kept.command.iter().any(|one| one == name))
        .map(str::to_owned)
        .collect();
    if read.is_empty() && command.is_empty() {
        return None;
    }
    let names: Vec<String> = read.keys().cloned().collect();
    Some(grants::Chosen {
        channels: Some(details::names_json(&names)),
        commands: Some(details::names_json(&command)),
        views: Some(details::views_json(&read)),
    })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn device(chosen: grants::Chosen) -> grants::GrantedDevice {
        grants::GrantedDevice {
            device: "d".into(),
            reference: "r".into(),
            chosen,
            label: "l".into(),
            name: None,
            model: "m".into(),
            channels: r#"[{"name":"a","direction":"data"},{"name":"b","direction":"data"},
                {"name":"a","direction":"command"},{"name":"c","direction":"command"}]"#
                .into(),
        }
    }

    fn grant(scope: &str, channels: Option<&str>) -> grants::Grant {
        grants::Grant {
            id: 1,
            public_id: "p".into(),
            sid: "s".into(),
            user_id: 1,
            client_id: "c".into(),
            gateway: "g".into(),
            kind: "app".into(),
            state: "active".into(),
            scope: scope.into(),
            future: false,
            share_names: false,
            channels: channels.map(str::to_owned),
            created_at: 0,
            expires_at: None,
            future_view: None,
        }
    }

    fn names() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[a-d]", 0..4)
    }

    fn list(names: &[String]) -> Option<String> {
        Some(details::names_json(names))
    }

    proptest! {
        /// Whatever an owner's form says, an app has nothing afterwards that it did not have before.
        #[test]
        fn a_narrowing_never_widens(
            readable in proptest::option::of(names()),
            commandable in proptest::option::of(names()),
            asked in proptest::option::of(names()),
            scope in prop_oneof![
                Just("data:subscribe"), Just("command:publish"), Just("data:subscribe command:publish")
            ],
            kept_read in names(),
            kept_command in names(),
        ) {
            let grant = grant(scope, asked.as_deref().map(details::names_json).as_deref());
            let chosen = grants::Chosen {
                channels: readable.as_deref().and_then(list),
                commands: commandable.as_deref().and_then(list),
                views: None,
            };
            let kept = KeptDevice {
                id: "r".into(),
                read: kept_read.into_iter().map(|name| (name, View::Raw)).collect(),
                command: kept_command,
            };
            let before = details::detail(&grant, device(chosen.clone()), Audience::Gateway);
            if let Some(after) = narrowed(&grant, device(chosen), &kept) {
                let after = details::detail(&grant, device(after), Audience::Gateway);
                prop_assert!(!after.channels.is_empty());
                prop_assert!(after.channels.iter().all(|channel| before.channels.contains(channel)));
                prop_assert!(after.readable().all(|name| kept.read.contains_key(name)));
                prop_assert!(after.commandable().all(|name| kept.command.iter().any(|one| one == name)));
            }
        }
    }
}
