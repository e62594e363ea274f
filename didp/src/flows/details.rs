//! `authorization_details` (RFC 9396) of a grant, once for gateways (with labels) and once for apps (without).

use oauth_wire::{Action, AuthorizationDetail, Channel, Direction, Scope, ScopeToken, View};

use crate::store::Conn;
use crate::store::grants::{Grant, GrantedDevice, devices};

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

fn detail(grant: &Grant, device: GrantedDevice, audience: Audience) -> AuthorizationDetail {
    let gateway = audience == Audience::Gateway;
    let bounds = [names(grant.channels.as_deref()), names(device.chosen.as_deref())];
    let actions = actions(grant);
    let channels = channels(&device.channels)
        .into_iter()
        .filter(|channel| bounds.iter().flatten().all(|allowed| allowed.contains(&channel.name)))
        .filter(|channel| {
            grant.is_device()
                || actions.contains(match channel.direction {
                    Direction::Data => &Action::Read,
                    Direction::Command => &Action::Command,
                })
        })
        .collect();
    AuthorizationDetail {
        kind: AuthorizationDetail::TYPE.into(),
        identifier: gateway.then_some(device.label),
        title: (!grant.is_device()).then_some(device.model),
        name: if gateway || !grant.share_names { None } else { device.name },
        actions,
        channels,
        view: View::Raw,
        views: std::collections::BTreeMap::new(),
        reference: (!grant.is_device()).then_some(device.reference),
    }
}

fn actions(grant: &Grant) -> Vec<Action> {
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
        }
    }

    fn device(chosen: Option<&str>) -> GrantedDevice {
        GrantedDevice {
            device: "secret-client-id".into(),
            reference: "ref".into(),
            chosen: chosen.map(str::to_owned),
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
    fn a_devices_own_detail_is_bare() {
        let own = detail(&grant("device", "data:publish command:subscribe"), device(None), Audience::Gateway);
        assert_eq!(own.actions, [Action::Publish, Action::Subscribe]);
        assert_eq!(own.channels.len(), 3);
        assert_eq!((own.title, own.reference, own.identifier.as_deref()), (None, None, Some("label")));
    }
}
