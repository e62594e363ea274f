//! Topic translation between a client's names and the PCM's (design §7), both ways, and what of it is granted.
//!
//! | who | client's side | PCM's side |
//! |---|---|---|
//! | device publishes | `d/<channel>` | `d/<label>/<channel>` |
//! | device receives | `c/<channel>` | `c/<label>/<channel>` |
//! | app receives | `d/<handle>/<channel>` | `d/<label>/<channel>` |
//! | app publishes | `c/<handle>/<channel>` | `c/<label>/<channel>` |
//! | device publishes | `s/reported` | `s/<label>/reported` |
//! | device receives | `s/delta` | `s/<label>/delta` |
//! | app receives | `s/<handle>` | `s/<label>` |
//! | app publishes | `s/<handle>/desired` | `s/<label>/desired` |
//!
//! The last four are the device's shadow; which of its members somebody sees or sets is the PCM's to decide.
//!
//! `None` always means "not granted"; nobody is told whether something exists that they may not see.

use mqtt_wire::topic::matches;
use oauth_wire::{Channel, View};

use super::grant::{AppRole, DeviceRole, Grant, Role, SharedDevice};

/// Where a device says how things are.
const REPORTED: &str = "s/reported";
/// Where a device hears how things should be and are not.
const DELTA: &str = "s/delta";
/// Most levels that a channel name has.
const CHANNEL_LEVELS: usize = 4;

/// A topic in parts, some of the packet's, some of the grant's, so that it can be put together in a buffer that is there already:
/// a tree, somebody's name in it, and the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name<'a> {
    /// `d/`, `c/` or `s/`.
    tree: &'static str,
    /// A label or handle; may be empty.
    whose: &'a str,
    /// A channel, or what of a shadow is meant; may be empty.
    rest: &'a str,
}

impl<'a> Name<'a> {
    const fn new(tree: &'static str, whose: &'a str, rest: &'a str) -> Self {
        Self { tree, whose, rest }
    }

    /// Bytes of the whole topic; never zero.
    #[allow(clippy::len_without_is_empty, reason = "a topic is never empty")]
    pub const fn len(&self) -> usize {
        self.tree.len() + self.whose.len() + self.separator().len() + self.rest.len()
    }

    const fn separator(&self) -> &'static str {
        if self.whose.is_empty() || self.rest.is_empty() { "" } else { "/" }
    }

    /// The whole topic, put together in `buffer` in place of what was there.
    pub fn in_buffer<'b>(&self, buffer: &'b mut String) -> &'b str {
        buffer.clear();
        for part in [self.tree, self.whose, self.separator(), self.rest] {
            buffer.push_str(part);
        }
        buffer
    }
}

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{}{}", self.tree, self.whose, self.separator(), self.rest)
    }
}

impl Grant {
    /// Where a client's PUBLISH to `topic` goes at the PCM.
    pub fn publish_up<'a>(&'a self, topic: &'a str) -> Option<Name<'a>> {
        match &self.role {
            Role::Device(device) => {
                if !device.publish {
                    return None;
                }
                if topic == REPORTED {
                    return Some(Name::new("s/", &device.label, "reported"));
                }
                let channel = topic.strip_prefix("d/").filter(|channel| Channel::is_valid_name(channel))?;
                Some(Name::new("d/", &device.label, channel))
            }
            Role::App(app) => {
                if let Some(shadow) = topic.strip_prefix("s/") {
                    let device = app.by_handle(shadow.strip_suffix("/desired")?)?;
                    return (!device.command.is_empty()).then(|| Name::new("s/", &device.label, "desired"));
                }
                let (device, channel) = app.addressed(topic, "c/")?;
                device.may_command(channel).then(|| Name::new("c/", &device.label, channel))
            }
        }
    }

    /// What a Response Topic in a PUBLISH to `topic` becomes: it must lie in the addressed device's own `d/`.
    pub fn response_up<'a>(&'a self, topic: &str, response: &'a str) -> Option<Name<'a>> {
        match &self.role {
            Role::Device(device) => {
                let channel =
                    response.strip_prefix("d/").filter(|channel| Channel::is_valid_name(channel))?;
                Some(Name::new("d/", &device.label, channel))
            }
            Role::App(app) => {
                let (addressed, _) = app.addressed(topic, "c/")?;
                let (answering, channel) = app.addressed(response, "d/")?;
                (addressed.label == answering.label).then(|| Name::new("d/", &answering.label, channel))
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
    pub fn deliver_down<'a>(&'a self, topic: &'a str) -> Option<Name<'a>> {
        match &self.role {
            Role::Device(device) => {
                if !device.subscribe {
                    return None;
                }
                if strip_label(topic, "s/", &device.label) == Some("delta") {
                    return Some(Name::new("s/", "", "delta"));
                }
                let channel = strip_label(topic, "c/", &device.label)?;
                Channel::is_valid_name(channel).then(|| Name::new("c/", "", channel))
            }
            Role::App(app) => {
                if let Some(label) = topic.strip_prefix("s/") {
                    let device = app.by_label(label).filter(|device| device.shadow)?;
                    return Some(Name::new("s/", &device.handle, ""));
                }
                let (label, channel) = topic.strip_prefix("d/")?.split_once('/')?;
                let device = app.by_label(label)?;
                device.may_read(channel).then(|| Name::new("d/", &device.handle, channel))
            }
        }
    }

    /// True if a message that was delivered on the client's `topic` under the grant `before` would be delivered now, too, and
    /// as exact as it was. A shadow's document is followed by the one that replaces it.
    pub fn may_still_receive(&self, before: &Grant, topic: &str) -> bool {
        match (&self.role, &before.role) {
            (Role::Device(device), _) => device.subscribe && (topic.starts_with("c/") || topic == DELTA),
            (Role::App(app), Role::App(before)) => match topic.strip_prefix("s/") {
                Some(handle) => app.by_handle(handle).is_some_and(|device| device.shadow),
                None => app.addressed(topic, "d/").is_some_and(|(device, channel)| {
                    let was = before.by_handle(&device.handle);
                    device.may_read(channel)
                        && was.is_some_and(|was| was.view_of(channel) == device.view_of(channel))
                }),
            },
            (Role::App(_), Role::Device(_)) => false,
        }
    }

    /// The client's name of a delivered message's Response Topic; `None` if it has no name there and must be left out.
    pub fn response_down<'a>(&'a self, response: &'a str) -> Option<Name<'a>> {
        match &self.role {
            Role::Device(device) => {
                let channel = strip_label(response, "d/", &device.label)?;
                Channel::is_valid_name(channel).then(|| Name::new("d/", "", channel))
            }
            Role::App(app) => {
                let (label, channel) = response.strip_prefix("d/")?.split_once('/')?;
                let device = app.by_label(label)?;
                Channel::is_valid_name(channel).then(|| Name::new("d/", &device.handle, channel))
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

    /// How coarse readings of `channel` are.
    pub fn view_of(&self, channel: &str) -> &View {
        self.views.get(channel).unwrap_or(&self.view)
    }
}

impl DeviceRole {
    fn filter_up(&self, filter: &str) -> Option<String> {
        if self.subscribe { self.translate_filter(filter) } else { None }
    }

    /// Inserts the label after the first level, so that nothing of another device can match. A wildcard in the first level stays
    /// one only where a device's commands and its shadow's delta both match.
    fn translate_filter(&self, filter: &str) -> Option<String> {
        let (first, rest) = if filter == "#" { ("+", "#") } else { filter.split_once('/')? };
        let tree = match (first, may_be_command(rest), matches(rest, "delta")) {
            ("+", true, true) => "+",
            ("c" | "+", true, _) => "c",
            ("s" | "+", _, true) => "s",
            _ => return None,
        };
        Some(format!("{tree}/{}/{rest}", self.label))
    }
}

/// Whether `filter` can match the name of a channel.
fn may_be_command(filter: &str) -> bool {
    let named = filter.strip_suffix("/#").unwrap_or(if filter == "#" { "" } else { filter });
    let mut levels = named.split('/').filter(|_| !named.is_empty());
    !filter.is_empty()
        && levels.clone().count() <= CHANNEL_LEVELS
        && levels.all(|level| level == "+" || is_level(level))
}

impl AppRole {
    /// The device and channel of `<tree><handle>/<channel>`, if the app knows that device.
    fn addressed<'t>(&self, topic: &'t str, tree: &str) -> Option<(&SharedDevice, &'t str)> {
        let (handle, channel) = topic.strip_prefix(tree)?.split_once('/')?;
        let device = self.by_handle(handle)?;
        Channel::is_valid_name(channel).then_some((device, channel))
    }

    fn filter_up(&self, filter: &str) -> Option<String> {
        let reading = |channel: &str, device: &str| matches(filter, &format!("d/{device}/{channel}"));
        let shadow = |device: &str| matches(filter, &format!("s/{device}"));
        let may_match = match filter.split('/').nth(1) {
            _ if matches!(filter, "d/#" | "s/#" | "s/+") => self.may_read,
            // Whatever stands for the device matches the wildcard.
            None | Some("+" | "#") => {
                self.readable().any(|channel| reading(channel, "any")) || self.has_shadows() && shadow("any")
            }
            Some(handle) => self.by_handle(handle).is_some_and(|device| {
                device.read.iter().any(|channel| reading(channel, handle)) || device.shadow && shadow(handle)
            }),
        };
        if may_match { self.translate_filter(filter) } else { None }
    }

    /// Wildcards stay as they are, the PCM chooses by grant; a handle becomes its label.
    fn translate_filter(&self, filter: &str) -> Option<String> {
        let mut levels = filter.splitn(3, '/');
        let first = levels.next().filter(|first| matches!(*first, "d" | "s" | "+" | "#"))?;
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
