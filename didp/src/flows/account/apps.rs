//! What an owner allows apps: looking at it, narrowing and extending it, withdrawing it. What an app never asked for cannot be
//! given to it here; it has to ask again.

use std::collections::BTreeMap;

use oauth_wire::{Channel, Direction, Scope, ScopeToken, View};
use service::secret;

use super::app_host;
use super::past::NoticeKind;
use crate::audit::{Audit, By};
use crate::flows::Refusal;
use crate::flows::authorize::{Choice, ChosenDevice, stored};
use crate::flows::change::Change;
use crate::flows::details::{self, Asked, Audience};
use crate::flows::exactness::Exactness;
use crate::flows::login::Session;
use crate::state::App;
use crate::store::{Conn, clients, grants, notices, ownerships};

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
    /// What it asked for.
    pub asked: Asked,
    /// It may see readings.
    pub reads: bool,
    /// It may send commands.
    pub commands: bool,
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
    /// The device's id on the owner's pages.
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

/// One app of this owner, by its id.
///
/// # Errors
/// The store cannot answer.
pub async fn app(app: &App, session: &Session, id: &str) -> Result<Option<AppView>, Refusal> {
    let mut conn = app.store.read().await?;
    match grants::app_of_user(&mut conn, session.user, id).await? {
        Some(grant) => Ok(view(&mut conn, grant).await?),
        None => Ok(None),
    }
}

/// What a grant comes to; none if its app is gone.
pub(super) async fn view(conn: &mut Conn, grant: grants::Grant) -> sqlx::Result<Option<AppView>> {
    let Some(client) = clients::get(conn, &grant.client_id).await? else { return Ok(None) };
    let devices = grants::devices(conn, &grant).await?.into_iter().map(|device| {
        let title = device.name.clone().unwrap_or_else(|| device.model.clone());
        let id = device.ownership.clone();
        let detail = details::detail(&grant, device, Audience::App);
        AppDeviceView { id, title, channels: detail.channels, views: detail.views }
    });
    let scope = grant.scope.parse().unwrap_or(Scope::EMPTY);
    Ok(Some(AppView {
        app_host: app_host(&client).unwrap_or_default(),
        verified: client.registrar.is_some(),
        app_name: client.name,
        asked: details::asked(&grant),
        reads: scope.contains(ScopeToken::DataSubscribe),
        commands: scope.contains(ScopeToken::CommandPublish),
        devices: devices.collect(),
        future: details::future(&grant),
        shares_names: grant.share_names,
        until: grant.expires_at,
        granted_at: grant.created_at,
        id: grant.public_id,
    }))
}

/// Withdraws a consent: the app's tokens are dead and its gateway is told. False if it is not this owner's.
///
/// # Errors
/// The store cannot answer.
pub async fn withdraw(app: &App, session: &Session, id: &str) -> Result<bool, Refusal> {
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    let Some(grant) = grants::app_of_user(change.conn(), session.user, id).await? else { return Ok(false) };
    end_app(&mut change, &grant, By::Owner, now).await?;
    change.commit(app).await?;
    Ok(true)
}

/// Replaces the terms of a consent, as far as the app asked for them. Of the devices only those in `shown` are touched: others
/// joined meanwhile. Its gateway is told by the same commit; its tokens and sessions go on.
///
/// # Errors
/// The store cannot answer.
pub async fn change(
    app: &App,
    session: &Session,
    id: &str,
    shown: &[String],
    choice: &Choice,
) -> Result<Changed, Refusal> {
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    let Some(before) = grants::app_of_user(change.conn(), session.user, id).await? else {
        return Ok(Changed::Unknown);
    };
    let asked = details::asked(&before);
    let scope = scope(&asked, choice);
    let held: Vec<String> =
        grants::devices(change.conn(), &before).await?.into_iter().map(|device| device.device).collect();
    let mut left = choice.future;
    for owned in ownerships::of_user(change.conn(), session.user).await? {
        let (device, ownership) = (owned.ownership.device, owned.ownership.id);
        let is_held = held.contains(&device);
        if !shown.contains(&ownership) {
            left |= is_held;
            continue;
        }
        let chosen = choice.devices.iter().find(|chosen| chosen.id == ownership);
        match chosen.and_then(|chosen| agreed(&asked, choice, chosen, &details::channels(&owned.channels))) {
            Some(chosen) if is_held => grants::choose(change.conn(), before.id, &device, &chosen).await?,
            Some(chosen) => {
                let reference = secret::random_token::<16>();
                grants::add_device(change.conn(), before.id, &device, &reference, &chosen).await?;
            }
            None => {
                grants::drop_device(change.conn(), before.id, &device).await?;
                continue;
            }
        }
        left = true;
    }
    if !left || scope.is_empty() || choice.until.is_some_and(|until| until <= now) {
        return Ok(Changed::Nothing);
    }
    let lifetimes = &app.config.lifetimes;
    let tokens_end = (now + lifetimes.app_refresh_idle)
        .min(before.created_at + lifetimes.app_refresh_absolute)
        .min(choice.until.unwrap_or(i64::MAX));
    let after = grants::Grant {
        scope: scope.to_string(),
        future: choice.future,
        future_view: choice.future.then(|| details::exactness_json(&choice.future_exactness)),
        share_names: choice.share_names,
        expires_at: choice.until,
        ..before
    };
    grants::set_terms(change.conn(), &after, tokens_end).await?;
    if let Some(client) = clients::get(change.conn(), &after.client_id).await? {
        let kind = NoticeKind::AppChanged.name();
        notices::insert(change.conn(), session.user, now, kind, &client.name).await?;
    }
    change.changed(session.user, &after.gateway, now).await?;
    change.note(Audit::AppChanged { client: after.client_id });
    change.commit(app).await?;
    Ok(Changed::Done)
}

/// The kinds of access that the app asked for and the owner chose.
fn scope(asked: &Asked, choice: &Choice) -> Scope {
    let mut scope = Scope::EMPTY;
    if asked.read && choice.read {
        scope = scope.with(ScopeToken::DataSubscribe);
    }
    if asked.command && choice.command {
        scope = scope.with(ScopeToken::CommandPublish);
    }
    scope
}

/// What is stored of a device: of what the owner chose, what the app asked for; `None` if that is nothing.
fn agreed(
    asked: &Asked,
    choice: &Choice,
    chosen: &ChosenDevice,
    channels: &[Channel],
) -> Option<grants::Chosen> {
    let within = |direction: Direction, on: bool, chosen: &Option<Vec<String>>| -> Vec<String> {
        channels
            .iter()
            .filter(|channel| on && channel.direction == direction && asked.asks_for(channel))
            .filter(|channel| chosen.as_ref().is_none_or(|names| names.contains(&channel.name)))
            .map(|channel| channel.name.clone())
            .collect()
    };
    let read = within(Direction::Data, choice.read, &chosen.read);
    let command = within(Direction::Command, choice.command, &chosen.command);
    if read.is_empty() && command.is_empty() {
        return None;
    }
    let chosen = ChosenDevice { read: Some(read), command: Some(command), ..chosen.clone() };
    Some(stored(asked, &chosen, channels))
}

/// Ends an app's grant and notes why.
pub(crate) async fn end_app(
    change: &mut Change,
    grant: &grants::Grant,
    by: By,
    now: i64,
) -> Result<(), Refusal> {
    if grant.state == "active" {
        let name = clients::get(change.conn(), &grant.client_id).await?.map(|client| client.name);
        let kind = if by == By::Replay { NoticeKind::TheftAlarm } else { NoticeKind::AppWithdrawn };
        notices::insert(change.conn(), grant.user_id, now, kind.name(), name.as_deref().unwrap_or(""))
            .await?;
        change.note(Audit::AppEnded { client: grant.client_id.clone(), by });
    }
    change.end_grant(grant, now).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHANNELS: &str = r#"[{"name":"a","direction":"data"},{"name":"b","direction":"data"},
        {"name":"a","direction":"command"},{"name":"c","direction":"command"}]"#;

    fn names() -> impl Strategy<Value = Option<Vec<String>>> {
        proptest::option::of(proptest::collection::vec("[a-d]", 0..4))
    }

    fn grant(asked: &Asked, scope: Scope) -> grants::Grant {
        grants::Grant {
            id: 1,
            public_id: "p".into(),
            sid: "s".into(),
            user_id: 1,
            client_id: "c".into(),
            gateway: "g".into(),
            kind: "app".into(),
            state: "active".into(),
            scope: scope.to_string(),
            future: false,
            share_names: false,
            channels: asked.channels.as_deref().map(details::names_json),
            created_at: 0,
            expires_at: None,
            future_view: None,
            asked: Some(details::asked_json(asked, scope)),
        }
    }

    proptest! {
        /// Whatever an owner's form says, an app has nothing afterwards that it did not ask for, and nothing that was not ticked.
        #[test]
        fn terms_stay_within_what_was_asked_and_ticked(
            asks_read: bool, asks_command: bool, asked_channels in names(),
            read: bool, command: bool, ticked_read in names(), ticked_command in names(),
        ) {
            let channels = details::channels(CHANNELS);
            let asked = Asked {
                read: asks_read,
                command: asks_command,
                channels: asked_channels,
                exactness: Exactness::default(),
            };
            let choice = Choice { read, command, ..Choice::default() };
            let ticked = ChosenDevice {
                id: "o".into(),
                read: ticked_read.clone(),
                command: ticked_command.clone(),
                ..ChosenDevice::default()
            };
            let given = agreed(&asked, &choice, &ticked, &channels);
            let expected: Vec<Channel> = channels
                .iter()
                .filter(|channel| asked.asks_for(channel))
                .filter(|channel| match channel.direction {
                    Direction::Data => read && ticked_read.as_ref().is_none_or(|t| t.contains(&channel.name)),
                    Direction::Command => {
                        command && ticked_command.as_ref().is_none_or(|t| t.contains(&channel.name))
                    }
                })
                .cloned()
                .collect();
            prop_assert_eq!(given.is_some(), !expected.is_empty());
            if let Some(chosen) = given {
                let device = grants::GrantedDevice {
                    device: "d".into(),
                    ownership: "o".into(),
                    reference: "r".into(),
                    chosen,
                    label: "l".into(),
                    name: None,
                    model: "m".into(),
                    channels: CHANNELS.into(),
                };
                let told = details::detail(&grant(&asked, scope(&asked, &choice)), device, Audience::Gateway);
                prop_assert_eq!(told.channels, expected);
            }
        }
    }
}
