//! `authorization_details` (RFC 9396) of a grant, once for gateways (with labels) and once for apps (without).

use std::collections::BTreeMap;

use oauth_wire::{Action, AuthorizationDetail, Channel, Direction, Scope, ScopeToken, View};
use serde::{Deserialize, Serialize};

use crate::flows::exactness::Exactness;
use crate::store::Conn;
use crate::store::grants::{Chosen, Grant, GrantedDevice, devices};

/// What an app asked for: the most that its owner can give it without being asked again.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Readings.
    pub read: bool,
    /// Commands.
    pub command: bool,
    /// The only channels that it asked for; none means all.
    pub channels: Option<Vec<String>>,
    /// How exactly it asked to see them.
    pub exactness: Exactness,
}

impl Asked {
    /// True if the app asked for this channel.
    pub fn asks_for(&self, channel: &Channel) -> bool {
        let kind = match channel.direction {
            Direction::Data => self.read,
            Direction::Command => self.command,
        };
        kind && self.channels.as_ref().is_none_or(|names| names.contains(&channel.name))
    }
}

/// What was asked for, as it is stored beside the bound on channels.
#[derive(Serialize, Deserialize)]
struct StoredAsked {
    read: bool,
    command: bool,
    exactness: Exactness,
    /// The scope that the owner gave at first.
    granted: String,
}

/// What was asked for, and the scope that was given at first, as it is stored.
pub(crate) fn asked_json(asked: &Asked, granted: Scope) -> String {
    let Asked { read, command, exactness, .. } = asked.clone();
    serde_json::to_string(&StoredAsked { read, command, exactness, granted: granted.to_string() })
        .unwrap_or_default()
}

/// What the app of this grant asked for. Of a grant that does not tell, what it gives.
pub(crate) fn asked(grant: &Grant) -> Asked {
    let channels = names(grant.channels.as_deref());
    let stored = grant.asked.as_deref().and_then(|json| serde_json::from_str::<StoredAsked>(json).ok());
    if let Some(StoredAsked { read, command, exactness, .. }) = stored {
        return Asked { read, command, channels, exactness };
    }
    let actions = actions(grant);
    Asked {
        read: actions.contains(&Action::Read),
        command: actions.contains(&Action::Command),
        channels,
        exactness: Exactness::default(),
    }
}

/// The scope that the owner gave at first (RFC 6749 §6: "originally granted"), whatever it is now.
pub(crate) fn first_scope(grant: &Grant) -> Scope {
    let stored = grant.asked.as_deref().and_then(|json| serde_json::from_str::<StoredAsked>(json).ok());
    let text = stored.map_or_else(|| grant.scope.clone(), |stored| stored.granted);
    text.parse().unwrap_or(Scope::EMPTY)
}

/// For whom the details are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Labels, no names.
    Gateway,
    /// Names if the owner shares them, no labels.
    App,
}

/// One object for each device of the grant.
pub(crate) async fn of_grant(
    conn: &mut Conn,
    grant: &Grant,
    audience: Audience,
) -> sqlx::Result<Vec<AuthorizationDetail>> {
    Ok(devices(conn, grant).await?.into_iter().map(|device| detail(grant, device, audience)).collect())
}

/// One device of the grant.
pub(crate) fn detail(grant: &Grant, device: GrantedDevice, audience: Audience) -> AuthorizationDetail {
    let gateway = audience == Audience::Gateway;
    let (channels, views) = chosen_channels(grant, &device);
    AuthorizationDetail {
        kind: AuthorizationDetail::TYPE.into(),
        identifier: gateway.then_some(device.label),
        title: (!grant.is_device()).then_some(device.model),
        name: if gateway || !grant.share_names { None } else { device.name },
        actions: actions(grant),
        channels,
        view: View::Raw,
        views,
        reference: (!grant.is_device()).then_some(device.reference),
    }
}

/// The channels of a granted device, and how exactly they are seen where that is not every value as it is.
fn chosen_channels(grant: &Grant, device: &GrantedDevice) -> (Vec<Channel>, BTreeMap<String, View>) {
    let all = channels(&device.channels);
    if grant.is_device() {
        return (all, BTreeMap::new());
    }
    let chosen = &device.chosen;
    let views: Option<BTreeMap<String, View>> = match chosen.views.as_deref().map(serde_json::from_str) {
        None => None,
        Some(Ok(views)) => Some(views),
        Some(Err(_)) => return (Vec::new(), BTreeMap::new()),
    };
    let (asked, readable) = (names(grant.channels.as_deref()), names(chosen.channels.as_deref()));
    let commandable = names(chosen.commands.as_deref()).or_else(|| readable.clone());
    let actions = actions(grant);
    let may = |channel: &Channel| match channel.direction {
        Direction::Data => {
            actions.contains(&Action::Read)
                && readable.as_ref().is_none_or(|names| names.contains(&channel.name))
                && views.as_ref().is_none_or(|views| views.contains_key(&channel.name))
        }
        Direction::Command => {
            actions.contains(&Action::Command)
                && commandable.as_ref().is_none_or(|names| names.contains(&channel.name))
        }
    };
    let granted: Vec<Channel> = all
        .into_iter()
        .filter(|channel| asked.as_ref().is_none_or(|names| names.contains(&channel.name)) && may(channel))
        .collect();
    let is_read = |name: &str| {
        granted.iter().any(|channel| channel.direction == Direction::Data && channel.name == name)
    };
    let views = views
        .unwrap_or_default()
        .into_iter()
        .filter(|(name, view)| !view.is_raw() && is_read(name))
        .collect();
    (granted, views)
}

/// How exactly devices are seen that join a grant; `None` if they do not join, or if that cannot be read.
pub(crate) fn future(grant: &Grant) -> Option<Exactness> {
    match grant.future_view.as_deref() {
        _ if !grant.future => None,
        None => Some(Exactness::default()),
        Some(json) => serde_json::from_str(json).ok(),
    }
}

/// What an app gets of a device with these channels that joins its grant; `None` if it cannot be read how exactly.
pub(crate) fn joining(grant: &Grant, channels: &[Channel]) -> Option<Chosen> {
    let exactness = future(grant)?;
    let views = channels
        .iter()
        .filter(|channel| channel.direction == Direction::Data)
        .map(|channel| (channel.name.clone(), exactness.of(channel)))
        .collect();
    Some(Chosen { views: Some(views_json(&views)), ..Chosen::default() })
}

/// A list of names as it is stored.
pub(crate) fn names_json(names: &[String]) -> String {
    serde_json::Value::from(names).to_string()
}

/// What is said of devices that join, as it is stored.
pub(crate) fn exactness_json(exactness: &Exactness) -> String {
    serde_json::to_string(exactness).unwrap_or_default()
}

/// Views as they are stored.
pub(crate) fn views_json(views: &BTreeMap<String, View>) -> String {
    // Strings and checked numbers always have a JSON form.
    serde_json::to_string(views).unwrap_or_default()
}

pub(crate) fn actions(grant: &Grant) -> Vec<Action> {
    let scope = grant.scope.parse().unwrap_or(Scope::EMPTY);
    [
        (ScopeToken::DataPublish, Action::Publish),
        (ScopeToken::CommandSubscribe, Action::Subscribe),
        (ScopeToken::DataSubscribe, Action::Read),
        (ScopeToken::CommandPublish, Action::Command),
    ]
    .into_iter()
    .filter(|(token, _)| scope.contains(*token))
    .map(|(_, action)| action)
    .collect()
}

/// Channels as registration stored them. They were checked then; a row that cannot be read grants nothing.
pub(crate) fn channels(json: &str) -> Vec<Channel> {
    serde_json::from_str(json).unwrap_or_default()
}

/// A stored list of names. One that cannot be read allows nothing, where a missing one allows all.
fn names(json: Option<&str>) -> Option<Vec<String>> {
    json.map(|json| serde_json::from_str(json).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(kind: &str, scope: &str) -> Grant {
        Grant {
            id: 1,
            public_id: "p".into(),
            sid: "s".into(),
            user_id: 1,
            client_id: "c".into(),
            gateway: "g".into(),
            kind: kind.into(),
            state: "active".into(),
            scope: scope.into(),
            future: false,
            share_names: false,
            channels: None,
            created_at: 0,
            expires_at: None,
            future_view: None,
            asked: None,
        }
    }

    fn device(channels: Option<&str>) -> GrantedDevice {
        choosing(Chosen { channels: channels.map(str::to_owned), ..Chosen::default() })
    }

    fn choosing(chosen: Chosen) -> GrantedDevice {
        GrantedDevice {
            device: "secret-client-id".into(),
            ownership: "page-id".into(),
            reference: "ref".into(),
            chosen,
            label: "label".into(),
            name: Some("Kitchen".into()),
            model: "Thermostat".into(),
            channels: r#"[{"name":"temperature","direction":"data"},{"name":"humidity","direction":"data"},
                {"name":"heater","direction":"command"}]"#
                .into(),
        }
    }

    fn channel_names(detail: &AuthorizationDetail) -> Vec<&str> {
        detail.channels.iter().map(|channel| channel.name.as_str()).collect()
    }

    #[test]
    fn what_was_asked_for_bounds_what_can_be_given() {
        let mut given = grant("app", "data:subscribe");
        given.channels = Some(r#"["temperature"]"#.into());
        let only_given = asked(&given);
        assert_eq!((only_given.read, only_given.command), (true, false));
        let asked_for = Asked { command: true, ..only_given };
        given.asked = Some(asked_json(&asked_for, "data:subscribe".parse().unwrap()));
        assert_eq!(asked(&given), asked_for);
        given.scope = "data:subscribe command:publish".into();
        assert_eq!(first_scope(&given).to_string(), "data:subscribe");
        let wanted: Vec<_> = channels(&device(None).channels)
            .into_iter()
            .filter(|channel| asked_for.asks_for(channel))
            .map(|channel| channel.name)
            .collect();
        assert_eq!(wanted, ["temperature"]);
    }

    #[test]
    fn a_gateway_sees_labels_and_no_names_and_an_app_the_reverse() {
        let mut grant = grant("app", "data:subscribe command:publish");
        grant.share_names = true;
        let gateway = detail(&grant, device(None), Audience::Gateway);
        assert_eq!((gateway.identifier.as_deref(), gateway.name.as_deref()), (Some("label"), None));
        let app = detail(&grant, device(None), Audience::App);
        assert_eq!((app.identifier.as_deref(), app.name.as_deref()), (None, Some("Kitchen")));
        grant.share_names = false;
        assert_eq!(detail(&grant, device(None), Audience::App).name, None);
    }

    #[test]
    fn reading_alone_lists_no_command_channel() {
        let reading = detail(&grant("app", "data:subscribe"), device(None), Audience::Gateway);
        assert_eq!(channel_names(&reading), ["temperature", "humidity"]);
        assert_eq!(reading.actions, [Action::Read]);
    }

    #[test]
    fn both_bounds_on_channels_hold() {
        let mut grant = grant("app", "data:subscribe command:publish");
        grant.channels = Some(r#"["temperature","heater"]"#.into());
        let bounded = detail(&grant, device(Some(r#"["humidity","heater"]"#)), Audience::Gateway);
        assert_eq!(channel_names(&bounded), ["heater"]);
        let unreadable = detail(&grant, device(Some("nonsense")), Audience::Gateway);
        assert!(unreadable.channels.is_empty());
    }

    #[test]
    fn reading_and_commanding_have_bounds_of_their_own() {
        let both = r#"[{"name":"heater","direction":"data"},{"name":"heater","direction":"command"}]"#;
        let list = |names: &str| Some(names.to_owned());
        let told = |chosen: Chosen| {
            let device = GrantedDevice { channels: both.into(), ..choosing(chosen) };
            let detail = detail(&grant("app", "data:subscribe command:publish"), device, Audience::App);
            (detail.readable().count(), detail.commandable().count())
        };
        let none = Chosen::default();
        assert_eq!(
            told(Chosen { channels: list("[]"), commands: list(r#"["heater"]"#), ..none.clone() }),
            (0, 1)
        );
        assert_eq!(
            told(Chosen { channels: list(r#"["heater"]"#), commands: list("[]"), ..none.clone() }),
            (1, 0)
        );
        assert_eq!(told(Chosen { channels: list(r#"["heater"]"#), ..none.clone() }), (1, 1));
        assert_eq!(told(Chosen { commands: list("nonsense"), ..none }), (1, 0));
    }

    #[test]
    fn views_are_told_to_both_and_what_has_none_is_not_readable() {
        let views = r#"{"temperature":{"kind":"coarsening","round":1.0},"humidity":{"kind":"raw"},"heater":{"kind":"raw"}}"#;
        let device = |views: &str| choosing(Chosen { views: Some(views.into()), ..Chosen::default() });
        let grant = grant("app", "data:subscribe command:publish");
        for audience in [Audience::Gateway, Audience::App] {
            let told = detail(&grant, device(views), audience);
            assert_eq!(channel_names(&told), ["temperature", "humidity", "heater"]);
            assert!(told.view.is_raw());
            assert_eq!(told.views.keys().collect::<Vec<_>>(), ["temperature"]);
        }
        let only = detail(&grant, device(r#"{"humidity":{"kind":"raw"}}"#), Audience::Gateway);
        assert_eq!(channel_names(&only), ["humidity", "heater"]);
        for unreadable in
            ["", "nonsense", "[]", r#"{"temperature":{"kind":"blurred"}}"#, r#"{"temperature":{}}"#]
        {
            let told = detail(&grant, device(unreadable), Audience::Gateway);
            assert!(told.channels.is_empty() && told.views.is_empty(), "{unreadable}");
        }
    }

    #[test]
    fn a_device_that_joins_is_seen_as_exactly_as_was_said() {
        let mut grant = Grant { future: true, ..grant("app", "data:subscribe") };
        let channels = channels(&device(None).channels);
        let views = |grant: &Grant| joining(grant, &channels).map(|chosen| chosen.views.unwrap_or_default());
        assert_eq!(views(&grant).unwrap(), r#"{"humidity":{"kind":"raw"},"temperature":{"kind":"raw"}}"#);
        grant.future_view =
            Some(r#"{"view":{"kind":"raw"},"views":{"humidity":{"kind":"filter","interval_s":60}}}"#.into());
        assert!(views(&grant).unwrap().contains(r#""humidity":{"kind":"filter","interval_s":60}"#));
        grant.future_view = Some("nonsense".into());
        assert_eq!(views(&grant), None);
    }

    #[test]
    fn a_devices_own_detail_is_bare() {
        let own = detail(&grant("device", "data:publish command:subscribe"), device(None), Audience::Gateway);
        assert_eq!(own.actions, [Action::Publish, Action::Subscribe]);
        assert_eq!(own.channels.len(), 3);
        assert_eq!((own.title, own.reference, own.identifier.as_deref()), (None, None, Some("label")));
    }
}
