//! Consent as a pure table: who may publish what, who may read what, and what may be kept at all.
//!
//! Topics of a personal broker: a device's values are `d/<label>/<channel>`, commands for it `c/<label>/<channel>`.

use std::collections::BTreeMap;
use std::rc::Rc;

/// What one grant allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// A device: publishes below `d/<label>/`, is commanded below `c/<label>/`.
    Device {
        /// The device's label.
        label: Box<str>,
    },
    /// An app, by device label.
    App(BTreeMap<Box<str>, Channels>),
}

/// What an app may do with one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Channels it may read.
    pub read: Vec<Box<str>>,
    /// Channels it may command.
    pub command: Vec<Box<str>>,
}

/// All current grants of one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    by_sid: BTreeMap<Rc<str>, Access>,
}

/// Which way a topic goes.
enum Topic<'a> {
    Value { label: &'a str, channel: &'a str },
    Command { label: &'a str, channel: &'a str },
}

fn parse(topic: &str) -> Option<Topic<'_>> {
    let (kind, rest) = topic.split_once('/')?;
    let (label, channel) = rest.split_once('/')?;
    if label.is_empty() || channel.is_empty() {
        return None;
    }
    match kind {
        "d" => Some(Topic::Value { label, channel }),
        "c" => Some(Topic::Command { label, channel }),
        _ => None,
    }
}

fn lists(channels: &[Box<str>], channel: &str) -> bool {
    channels.iter().any(|listed| **listed == *channel)
}

impl Access {
    fn may_publish(&self, topic: &str) -> bool {
        match (self, parse(topic)) {
            (Access::Device { label: own }, Some(Topic::Value { label, .. })) => **own == *label,
            (Access::App(rules), Some(Topic::Command { label, channel })) => {
                rules.get(label).is_some_and(|rule| lists(&rule.command, channel))
            }
            _ => false,
        }
    }

    fn may_read(&self, topic: &str) -> bool {
        match (self, parse(topic)) {
            (Access::Device { label: own }, Some(Topic::Command { label, .. })) => **own == *label,
            (Access::App(rules), Some(Topic::Value { label, channel })) => {
                rules.get(label).is_some_and(|rule| lists(&rule.read, channel))
            }
            _ => false,
        }
    }

    /// `filter` without a `$share` prefix. Apps may ask for anything: they receive only what they may read.
    fn may_subscribe(&self, filter: &str) -> bool {
        match self {
            Access::App(_) => true,
            // Its commands and its shadow; with the wildcard both, since it may read nothing else there.
            Access::Device { label } => ["c/", "s/", "+/"]
                .iter()
                .find_map(|tree| filter.strip_prefix(tree))
                .and_then(|rest| rest.strip_prefix(&**label))
                .is_some_and(|rest| rest.starts_with('/')),
        }
    }
}

impl Grants {
    /// A table of these grants; a grant id that comes twice counts as its last one.
    pub fn new(grants: impl IntoIterator<Item = (Rc<str>, Access)>) -> Grants {
        Grants { by_sid: grants.into_iter().collect() }
    }

    /// The table's own copy of a grant id, if it is a current one.
    pub fn sid(&self, sid: &str) -> Option<Rc<str>> {
        self.by_sid.get_key_value(sid).map(|(own, _)| Rc::clone(own))
    }

    fn access(&self, sid: Option<&Rc<str>>) -> Option<&Access> {
        self.by_sid.get(sid?)
    }
}

/// Whether and how the broker asks for consent.
#[derive(Clone, Debug)]
pub enum Policy {
    /// A plain broker: everybody may do everything.
    Open,
    /// Nothing is allowed that is not granted; `None` until the first grants arrive.
    Granted(Option<Grants>),
}

impl Policy {
    fn granted<T>(&self, open: T, closed: T, ask: impl FnOnce(&Grants) -> T) -> T {
        match self {
            Policy::Open => open,
            Policy::Granted(None) => closed,
            Policy::Granted(Some(grants)) => ask(grants),
        }
    }

    /// Whether a session under this grant may publish to the topic.
    pub fn may_publish(&self, sid: Option<&Rc<str>>, topic: &str) -> bool {
        self.granted(true, false, |grants| grants.access(sid).is_some_and(|access| access.may_publish(topic)))
    }

    /// Whether a session under this grant may receive what is published to the topic.
    pub fn may_read(&self, sid: Option<&Rc<str>>, topic: &str) -> bool {
        self.granted(true, false, |grants| grants.access(sid).is_some_and(|access| access.may_read(topic)))
    }

    /// Whether a session under this grant may have the subscription (without its `$share` prefix).
    pub fn may_subscribe(&self, sid: Option<&Rc<str>>, filter: &str) -> bool {
        self.granted(true, false, |grants| {
            grants.access(sid).is_some_and(|access| access.may_subscribe(filter))
        })
    }

    /// Whether any grant may read the topic: otherwise what is published to it must not be kept.
    pub fn has_reader(&self, topic: &str) -> bool {
        self.granted(true, false, |grants| grants.by_sid.values().any(|access| access.may_read(topic)))
    }

    /// Whether any grant may publish to the topic: without one, what was published there has lost its source.
    pub fn has_publisher(&self, topic: &str) -> bool {
        self.granted(true, false, |grants| grants.by_sid.values().any(|access| access.may_publish(topic)))
    }

    /// The grants that may read the topic now; empty for an open broker, which does not ask.
    pub fn readers(&self, topic: &str) -> Vec<Rc<str>> {
        self.granted(Vec::new(), Vec::new(), |grants| {
            let readers = grants.by_sid.iter().filter(|(_, access)| access.may_read(topic));
            readers.map(|(sid, _)| Rc::clone(sid)).collect()
        })
    }

    /// Whether sessions need a grant.
    pub const fn is_granted(&self) -> bool {
        matches!(self, Policy::Granted(_))
    }

    /// The grants in force.
    pub const fn grants(&self) -> Option<&Grants> {
        match self {
            Policy::Open | Policy::Granted(None) => None,
            Policy::Granted(Some(grants)) => Some(grants),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Access, Channels, Grants, Policy};
    use std::collections::BTreeMap;
    use std::rc::Rc;

    fn policy() -> (Policy, Rc<str>, Rc<str>) {
        let (device, app): (Rc<str>, Rc<str>) = ("dev".into(), "app".into());
        let channels = Channels { read: vec!["t".into(), "a/b".into()], command: vec!["heater".into()] };
        let grants = Grants::new([
            (Rc::clone(&device), Access::Device { label: "L".into() }),
            (Rc::clone(&app), Access::App(BTreeMap::from([("L".into(), channels)]))),
        ]);
        (Policy::Granted(Some(grants)), device, app)
    }

    #[test]
    fn a_device_speaks_below_its_label_only() {
        let (policy, device, _) = policy();
        for (topic, allowed) in [
            ("d/L/t", true),
            ("d/L/x/y", true),
            ("d/M/t", false),
            ("c/L/t", false),
            ("d/L", false),
            ("d/L/", false),
            ("d/LL/t", false),
            ("x", false),
        ] {
            assert_eq!(policy.may_publish(Some(&device), topic), allowed, "{topic}");
        }
        for (filter, allowed) in [
            ("c/L/#", true),
            ("c/L/heater", true),
            ("s/L/delta", true),
            ("+/L/#", true),
            ("s/M/delta", false),
            ("+/+/heater", false),
            ("c/+/heater", false),
            ("#", false),
            ("c/#", false),
            ("d/L/t", false),
            ("c/LL/#", false),
            ("c/L", false),
        ] {
            assert_eq!(policy.may_subscribe(Some(&device), filter), allowed, "{filter}");
        }
        assert!(policy.may_read(Some(&device), "c/L/heater"));
        assert!(!policy.may_read(Some(&device), "d/L/t"));
    }

    #[test]
    fn an_app_gets_the_listed_channels_only() {
        let (policy, _, app) = policy();
        for (topic, read, command) in [
            ("d/L/t", true, false),
            ("d/L/a/b", true, false),
            ("d/L/a", false, false),
            ("d/L/t/x", false, false),
            ("d/M/t", false, false),
            ("c/L/heater", false, true),
            ("c/L/t", false, false),
        ] {
            assert_eq!(policy.may_read(Some(&app), topic), read, "{topic}");
            assert_eq!(policy.may_publish(Some(&app), topic), command, "{topic}");
        }
        assert!(policy.has_reader("d/L/t"));
        assert!(!policy.has_reader("d/L/secret"));
        assert!(policy.has_reader("c/L/anything"), "the device reads its commands");
        assert!(policy.has_publisher("d/L/anything") && !policy.has_publisher("d/M/t"));
    }

    #[test]
    fn unknown_grants_and_no_grants_allow_nothing() {
        let (policy, ..) = policy();
        let stranger: Rc<str> = "x".into();
        for policy in [policy, Policy::Granted(None)] {
            assert!(!policy.may_publish(Some(&stranger), "d/L/t"));
            assert!(!policy.may_read(Some(&stranger), "d/L/t"));
            assert!(!policy.may_subscribe(Some(&stranger), "#"));
            assert!(!policy.may_publish(None, "d/L/t"));
        }
        assert!(Policy::Open.may_publish(None, "anything"));
    }
}
