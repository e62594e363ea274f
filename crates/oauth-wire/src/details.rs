//! `authorization_details` (RFC 9396) of type `mqtt`: which device, which channels, reading or commanding, how coarse.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
pub use views::{Coarsening, Filter, Statistic, Summary, View, WINDOWS_S};

/// What a grant lets its holder do with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// An app receives readings.
    Read,
    /// An app sends commands.
    Command,
    /// A device publishes its own readings.
    Publish,
    /// A device receives its own commands.
    Subscribe,
}

/// Which way a channel's messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the device: `d/<channel>`.
    Data,
    /// To the device: `c/<channel>`.
    Command,
}

/// A channel as the manufacturer described it at registration, so that a consent page can speak plain words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// One to four topic levels of letters, digits, `-` and `_`.
    pub name: String,
    /// Data or command.
    pub direction: Direction,
    /// What a person calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Unit of measurement, for example `°C`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// JSON type of the values: `number`, `boolean`, `string`, `object`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub value_type: Option<String>,
}

impl Channel {
    /// Longest channel name, in bytes.
    pub const MAX_NAME: usize = 64;

    /// True for one to four levels of ASCII letters, digits, `-` and `_`, 64 bytes at most.
    pub fn is_valid_name(name: &str) -> bool {
        name.len() <= Self::MAX_NAME
            && (1..=4).contains(&name.split('/').count())
            && name.split('/').all(|level| {
                !level.is_empty()
                    && level.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            })
    }
}

/// One granted object: what may be done with one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationDetail {
    /// Always `mqtt`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The device's label. Present towards gateways only, never towards an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// The model's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The name that the owner gave the device. Present towards an app only, and only if the owner ticked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What may be done.
    pub actions: Vec<Action>,
    /// The channels it may be done with.
    pub channels: Vec<Channel>,
    /// How coarse readings are, where `views` does not say otherwise.
    #[serde(default)]
    pub view: View,
    /// How coarse the readings of single channels are, by channel name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub views: BTreeMap<String, View>,
    /// Random per grant and device: lets an app join what the DIdP and IGNITE tell it, without a label.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl AuthorizationDetail {
    /// The one type that exists here.
    pub const TYPE: &'static str = "mqtt";

    /// Names of the data channels that may be read; empty unless `read` is among the actions.
    pub fn readable(&self) -> impl Iterator<Item = &str> {
        self.channels_for(Action::Read, Direction::Data)
    }

    /// Names of the command channels that may be commanded; empty unless `command` is among the actions.
    pub fn commandable(&self) -> impl Iterator<Item = &str> {
        self.channels_for(Action::Command, Direction::Command)
    }

    /// True if this is a device's own grant.
    pub fn is_device(&self) -> bool {
        self.actions.contains(&Action::Publish)
    }

    fn channels_for(&self, action: Action, direction: Direction) -> impl Iterator<Item = &str> {
        let granted = self.actions.contains(&action);
        self.channels.iter().filter(move |c| granted && c.direction == direction).map(|c| c.name.as_str())
    }
}

/// What an app may ask for; everything is optional, the owner decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationRequest {
    /// Must be `mqtt`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `read`, `command`; all that the scopes allow if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actions: Option<Vec<Action>>,
    /// Channel names; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<String>>,
    /// The coarsest view that the app can work with; the owner may choose another. Every value if absent. A channel that several
    /// objects are about has the view of the first one that names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_names() {
        for good in ["temperature", "a/b/c/d", "x-1_y"] {
            assert!(Channel::is_valid_name(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/b/c/d/e", "a+b", "#", "$x", "é", "a b", &"x".repeat(65)] {
            assert!(!Channel::is_valid_name(bad), "{bad}");
        }
    }

    #[test]
    fn reading_and_commanding_are_apart() {
        let detail: AuthorizationDetail = serde_json::from_str(
            r#"{"type":"mqtt","identifier":"L","actions":["read"],"channels":[
                {"name":"temperature","direction":"data"},{"name":"heater","direction":"command"}],
                "view":{"kind":"raw"}}"#,
        )
        .unwrap();
        assert_eq!(detail.readable().collect::<Vec<_>>(), ["temperature"]);
        assert_eq!(detail.commandable().count(), 0);
        assert!(!detail.is_device());
    }

    #[test]
    fn an_unknown_view_is_refused_not_taken_as_raw() {
        let text = r#"{"type":"mqtt","actions":["read"],"channels":[],"view":{"kind":"blurred"}}"#;
        assert!(serde_json::from_str::<AuthorizationDetail>(text).is_err());
    }
}
