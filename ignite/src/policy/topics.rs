//! Topic translation between a client's names and the PCM's (design §7), both ways, and what of it is granted.
//!
//! | who | client's side | PCM's side |
//! |---|---|---|
//! | device publishes | `d/<channel>` | `d/<label>/<channel>` |
//! | device receives | `c/<channel>` | `c/<label>/<channel>` |
//! | app receives | `d/<handle>/<channel>` | `d/<label>/<channel>` |
//! | app publishes | `c/<handle>/<channel>` | `c/<label>/<channel>` |
//!
//! `None` always means "not granted"; nobody is told whether something exists that they may not see.

use mqtt_wire::topic::matches;
use oauth_wire::Channel;

use super::grant::{AppRole, DeviceRole, Grant, Role, SharedDevice};

/// Most levels that a channel name has.
const CHANNEL_LEVELS: usize = 4;

impl Grant {
    /// Where a client's PUBLISH to `topic` goes at the PCM.
    pub fn publish_up(&self, topic: &str) -> Option<String> {
        match &self.role {
            Role::Device(device) => {
                let channel = topic.strip_prefix("d/").filter(|channel| Channel::is_valid_name(channel))?;
                device.publish.then(|| format!("d/{}/{channel}", device.label))
            }
            Role::App(app) => {
                let (device, channel) = app.addressed(topic, "c/")?;
                device.may_command(channel).then(|| format!("c/{}/{channel}", device.label))
            }
        }
    }

    /// What a Response Topic in a PUBLISH to `topic` becomes: it must lie in the addressed device's own `d/`.
    pub fn response_up(&self, topic: &str, response: &str) -> Option<String> {
        match &self.role {
            Role::Device(device) => {
                let channel =
                    response.strip_prefix("d/").filter(|channel| Channel::is_valid_name(channel))?;
                Some(format!("d/{}/{channel}", device.label))
            }
            Role::App(app) => {
                let (addressed, _) = app.addressed(topic, "c/")?;
                let (answering, channel) = app.addressed(response, "d/")?;
                (addressed.label == answering.label).then(|| format!("d/{}/{channel}", answering.label))
            }
        }
    }

    /// What a topic filter (without a `$share` prefix) becomes at the PCM; `None` if it can match nothing granted.
    pub fn filter_up(&self, filter: &str) -> Option<String> {
        match &self.role {
            Role::Device(device) => device.filter_up(filter),
            Role::App(app) => app.filter_up(filter),
        }
    }

    /// What a filter was at the PCM, granted or not: an UNSUBSCRIBE must work after the grant was narrowed. `None` only for
    /// what can never have been subscribed.
    pub fn unsubscribe_up(&self, filter: &str) -> Option<String> {
        match &self.role {
            Role::Device(device) => device.translate_filter(filter),
            Role::App(app) => app.translate_filter(filter),
        }
    }

    /// The client's name of a message that the PCM delivers on `topic`; `None` if the client may not have it.
    pub fn deliver_down(&self, topic: &str) -> Option<String> {
        match &self.role {
            Role::Device(device) => {
                let channel = strip_label(topic, "c/", &device.label)?;
                (device.subscribe && Channel::is_valid_name(channel)).then(|| format!("c/{channel}"))
            }
            Role::App(app) => {
                let (label, channel) = topic.strip_prefix("d/")?.split_once('/')?;
                let device = app.by_label(label)?;
                device.may_read(channel).then(|| format!("d/{}/{channel}", device.handle))
            }
        }
    }

    /// True if a message that was delivered on the client's `topic` would be delivered now, too.
    pub fn may_still_receive(&self, topic: &str) -> bool {
        match &self.role {
            Role::Device(device) => device.subscribe && topic.starts_with("c/"),
            Role::App(app) => {
                app.addressed(topic, "d/").is_some_and(|(device, channel)| device.may_read(channel))
            }
        }
    }

    /// The client's name of a delivered message's Response Topic; `None` if it has no name there and must be left out.
    pub fn response_down(&self, response: &str) -> Option<String> {
        match &self.role {
            Role::Device(device) => {
                let channel = strip_label(response, "d/", &device.label)?;
                Channel::is_valid_name(channel).then(|| format!("d/{channel}"))
            }
            Role::App(app) => {
                let (label, channel) = response.strip_prefix("d/")?.split_once('/')?;
                let device = app.by_label(label)?;
                Channel::is_valid_name(channel).then(|| format!("d/{}/{channel}", device.handle))
            }
        }
    }
}

impl SharedDevice {
    /// True if the app may receive `channel` of this device.
    pub fn may_read(&self, channel: &str) -> bool {
        self.read.iter().any(|name| name == channel)
    }

    /// True if the app may command `channel` of this device.
    pub fn may_command(&self, channel: &str) -> bool {
        self.command.iter().any(|name| name == channel)
    }
}

impl DeviceRole {
    fn filter_up(&self, filter: &str) -> Option<String> {
        if self.subscribe { self.translate_filter(filter) } else { None }
    }

    /// Inserts the label after the first level. A device has one tree only, so that a wildcard in the first level
    /// means that tree, and the filter stays exact: nothing of another device can match it.
    fn translate_filter(&self, filter: &str) -> Option<String> {
        if filter == "#" {
            return Some(format!("c/{}/#", self.label));
        }
        let rest = filter.strip_prefix("c/").or_else(|| filter.strip_prefix("+/"))?;
        let named = rest.strip_suffix("/#").unwrap_or(if rest == "#" { "" } else { rest });
        let levels = named.split('/').filter(|_| !named.is_empty());
        let possible = levels.clone().count() <= CHANNEL_LEVELS
            && levels.clone().all(|level| level == "+" || is_level(level));
        (possible && !rest.is_empty()).then(|| format!("c/{}/{rest}", self.label))
    }
}

impl AppRole {
    /// The device and channel of `<tree><handle>/<channel>`, if the app knows that device.
    fn addressed<'t>(&self, topic: &'t str, tree: &str) -> Option<(&SharedDevice, &'t str)> {
        let (handle, channel) = topic.strip_prefix(tree)?.split_once('/')?;
        let device = self.by_handle(handle)?;
        Channel::is_valid_name(channel).then_some((device, channel))
    }

    fn filter_up(&self, filter: &str) -> Option<String> {
        let can_match = |channel: &str, device: &str| matches(filter, &format!("d/{device}/{channel}"));
        let may_match = match filter.split('/').nth(1) {
            _ if filter == "d/#" => self.may_read,
            // Whatever stands for the device matches the wildcard.
            None | Some("+" | "#") => self.readable().any(|channel| can_match(channel, "any")),
            Some(handle) => self
                .by_handle(handle)
                .is_some_and(|device| device.read.iter().any(|channel| can_match(channel, handle))),
        };
        if may_match { self.translate_filter(filter) } else { None }
    }

    /// Wildcards stay as they are, the PCM chooses by grant; a handle becomes its label.
    fn translate_filter(&self, filter: &str) -> Option<String> {
        let mut levels = filter.splitn(3, '/');
        let first = levels.next().filter(|first| matches!(*first, "d" | "+" | "#"))?;
        match (levels.next(), levels.next()) {
            (None, _) => Some(first.to_owned()),
            (Some(wildcard @ ("+" | "#")), None) => Some(format!("{first}/{wildcard}")),
            (Some("+"), Some(rest)) => Some(format!("{first}/+/{rest}")),
            (Some(handle), None) => Some(format!("{first}/{}", self.by_handle(handle)?.label)),
            (Some(handle), Some(rest)) => Some(format!("{first}/{}/{rest}", self.by_handle(handle)?.label)),
        }
    }
}

fn strip_label<'t>(topic: &'t str, tree: &str, label: &str) -> Option<&'t str> {
    topic.strip_prefix(tree)?.strip_prefix(label)?.strip_prefix('/')
}

fn is_level(level: &str) -> bool {
    !level.contains('/') && Channel::is_valid_name(level)
}
