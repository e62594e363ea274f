//! Consent as a pure table: who may publish what, who may read what, and what may be kept at all.
//!
//! Topics of a personal broker: a device's values are `d/<label>/<channel>`, commands for it `c/<label>/<channel>`. Values
//! have a [`View`] for each grant that may read them; commands go as they are. The device's shadow is below `s/<label>`.

use std::collections::BTreeMap;
use std::rc::Rc;
use views::{HashKey, View};

/// What one grant allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// A device: publishes below `d/<label>/` and to `s/<label>/reported`, is commanded below `c/<label>/` and by
    /// `s/<label>/delta`.
    Device {
        /// The device's label.
        label: Box<str>,
    },
    /// An app.
    App {
        /// What it may do, by device label.
        devices: BTreeMap<Box<str>, Channels>,
        /// Hashes the fields that a view hides; without one such fields are left out.
        key: Option<HashKey>,
    },
}

/// What an app may do with one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Channels it may read.
    pub read: Vec<Readable>,
    /// Channels it may command.
    pub command: Vec<Box<str>>,
}

/// A channel that an app may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readable {
    /// Its name.
    pub channel: Box<str>,
    /// How coarse the app sees it; `None` is raw, as the device sent it.
    pub view: Option<Rc<View>>,
}

/// All current grants of one owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    by_sid: BTreeMap<Rc<str>, Access>,
    /// Whether any channel of any grant has a view that is not raw.
    has_views: bool,
}

/// How a grant sees a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight<'a> {
    /// It may not read it.
    Blind,
    /// As it was published.
    Raw,
    /// Through a view that is not raw.
    Through(&'a Rc<View>),
}

static RAW: View = View::Raw;

/// Which way a topic goes.
enum Topic<'a> {
    Value { label: &'a str, channel: &'a str },
    Command { label: &'a str, channel: &'a str },
    Shadow { label: &'a str, part: Part },
}

/// Topics of a device's shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// `s/<label>`: what an app sees.
    Document,
    /// `s/<label>/reported`: the device writes.
    Reported,
    /// `s/<label>/desired`: an app writes.
    Desired,
    /// `s/<label>/delta`: what the device has still to do.
    Delta,
}

fn parse(topic: &str) -> Option<Topic<'_>> {
    let (kind, rest) = topic.split_once('/')?;
    if kind == "s" {
        let (label, part) = match rest.split_once('/') {
            None => (rest, Part::Document),
            Some((label, "reported")) => (label, Part::Reported),
            Some((label, "desired")) => (label, Part::Desired),
            Some((label, "delta")) => (label, Part::Delta),
            Some(_) => return None,
        };
        return (!label.is_empty()).then_some(Topic::Shadow { label, part });
    }
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

/// The device and the part of its shadow that a topic names, if it names one.
pub(crate) fn shadow_topic(topic: &str) -> Option<(&str, Part)> {
    match parse(topic)? {
        Topic::Shadow { label, part } => Some((label, part)),
        Topic::Value { .. } | Topic::Command { .. } => None,
    }
}

/// The device and the channel whose values a topic carries, if it carries any.
pub(crate) fn value_topic(topic: &str) -> Option<(&str, &str)> {
    match parse(topic)? {
        Topic::Value { label, channel } => Some((label, channel)),
        Topic::Shadow { .. } | Topic::Command { .. } => None,
    }
}

fn lists(channels: &[Box<str>], channel: &str) -> bool {
    channels.iter().any(|listed| **listed == *channel)
}

impl Channels {
    /// Lets the app read a channel. Of two views of the same channel the first that is not raw counts.
    pub fn allow_reading(&mut self, channel: &str, view: &View) {
        let known = self.read.iter_mut().find(|readable| *readable.channel == *channel);
        let view = (!view.is_raw()).then(|| Rc::new(view.clone()));
        match known {
            Some(Readable { view: known @ None, .. }) => *known = view,
            Some(_) => {}
            None => self.read.push(Readable { channel: channel.into(), view }),
        }
    }

    fn is_empty(&self) -> bool {
        self.read.is_empty() && self.command.is_empty()
    }

    pub(crate) fn may_command(&self, channel: &str) -> bool {
        lists(&self.command, channel)
    }

    pub(crate) fn sight(&self, channel: &str) -> Sight<'_> {
        match self.read.iter().find(|readable| *readable.channel == *channel) {
            None => Sight::Blind,
            Some(Readable { view: None, .. }) => Sight::Raw,
            Some(Readable { view: Some(view), .. }) => Sight::Through(view),
        }
    }
}

impl Access {
    fn may_publish(&self, topic: &str) -> bool {
        match (self, parse(topic)) {
            (Access::Device { label: own }, Some(Topic::Value { label, .. })) => **own == *label,
            (Access::App { devices, .. }, Some(Topic::Command { label, channel })) => {
                devices.get(label).is_some_and(|channels| channels.may_command(channel))
            }
            (Access::Device { label: own }, Some(Topic::Shadow { label, part: Part::Reported })) => {
                **own == *label
            }
            (Access::App { devices, .. }, Some(Topic::Shadow { label, part: Part::Desired })) => {
                devices.get(label).is_some_and(|channels| !channels.command.is_empty())
            }
            _ => false,
        }
    }

    fn sight(&self, topic: &str) -> Sight<'_> {
        match (self, parse(topic)) {
            (Access::Device { label: own }, Some(Topic::Command { label, .. })) if **own == *label => {
                Sight::Raw
            }
            (Access::App { devices, .. }, Some(Topic::Value { label, channel })) => {
                devices.get(label).map_or(Sight::Blind, |channels| channels.sight(channel))
            }
            (Access::Device { label: own }, Some(Topic::Shadow { label, part: Part::Delta }))
                if **own == *label =>
            {
                Sight::Raw
            }
            // What of the document it may see is decided member by member.
            (Access::App { devices, .. }, Some(Topic::Shadow { label, part: Part::Document }))
                if devices.get(label).is_some_and(|channels| !channels.is_empty()) =>
            {
                Sight::Raw
            }
            _ => Sight::Blind,
        }
    }

    fn may_read(&self, topic: &str) -> bool {
        self.sight(topic) != Sight::Blind
    }

    /// Whether what is published to the topic may reach it, as it is or in a shadow.
    fn is_reached_by(&self, topic: &str) -> bool {
        match (self, parse(topic)) {
            (Access::App { devices, .. }, Some(Topic::Shadow { label, part: Part::Reported })) => {
                devices.get(label).is_some_and(|channels| !channels.is_empty())
            }
            (Access::Device { label: own }, Some(Topic::Shadow { label, part: Part::Desired })) => {
                **own == *label
            }
            _ => self.may_read(topic),
        }
    }

    fn has_views(&self) -> bool {
        match self {
            Access::Device { .. } => false,
            Access::App { devices, .. } => {
                devices.values().flat_map(|channels| &channels.read).any(|readable| readable.view.is_some())
            }
        }
    }

    /// `filter` without a `$share` prefix. Apps may ask for anything: they receive only what they may read.
    fn may_subscribe(&self, filter: &str) -> bool {
        match self {
            Access::App { .. } => true,
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
        let by_sid: BTreeMap<Rc<str>, Access> = grants.into_iter().collect();
        let has_views = by_sid.values().any(Access::has_views);
        Grants { by_sid, has_views }
    }

    /// The table's own copy of a grant id, if it is a current one.
    pub fn sid(&self, sid: &str) -> Option<Rc<str>> {
        self.by_sid.get_key_value(sid).map(|(own, _)| Rc::clone(own))
    }

    pub(crate) fn access(&self, sid: Option<&Rc<str>>) -> Option<&Access> {
        self.by_sid.get(sid?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Rc<str>, &Access)> {
        self.by_sid.iter()
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

    /// How a session under this grant sees what is published to the topic; `None` if it may not read it.
    pub fn view(&self, sid: Option<&Rc<str>>, topic: &str) -> Option<&View> {
        match self.sight(sid, topic) {
            Sight::Blind => None,
            Sight::Raw => Some(&RAW),
            Sight::Through(view) => Some(view),
        }
    }

    pub(crate) fn sight(&self, sid: Option<&Rc<str>>, topic: &str) -> Sight<'_> {
        match self {
            Policy::Open => Sight::Raw,
            Policy::Granted(None) => Sight::Blind,
            Policy::Granted(Some(grants)) => {
                grants.access(sid).map_or(Sight::Blind, |access| access.sight(topic))
            }
        }
    }

    /// The key of the fields that this grant's views hash.
    pub fn hash_key(&self, sid: Option<&Rc<str>>) -> Option<&HashKey> {
        match self.grants()?.access(sid)? {
            Access::Device { .. } => None,
            Access::App { key, .. } => key.as_ref(),
        }
    }

    /// Whether any view of any grant is not raw: otherwise [`Self::view`] need not be asked.
    pub const fn has_views(&self) -> bool {
        match self.grants() {
            Some(grants) => grants.has_views,
            None => false,
        }
    }

    /// Whether the grant sees the topic in this policy as it did in an `earlier` one. What it was not allowed to see then
    /// and is allowed to see now is the same: nothing is stored of it.
    pub(crate) fn sees_as_in(&self, earlier: &Policy, sid: Option<&Rc<str>>, topic: &str) -> bool {
        if !self.has_views() && !earlier.has_views() {
            return self.sight(sid, topic) != Sight::Blind;
        }
        match (earlier.sight(sid, topic), self.sight(sid, topic)) {
            (_, Sight::Blind) => false,
            (Sight::Blind, _) | (Sight::Raw, Sight::Raw) => true,
            (Sight::Through(before), Sight::Through(after)) => {
                before == after && (!after.hashes() || earlier.hash_key(sid) == self.hash_key(sid))
            }
            (Sight::Raw, Sight::Through(_)) | (Sight::Through(_), Sight::Raw) => false,
        }
    }

    /// Whether a session under this grant may have the subscription (without its `$share` prefix).
    pub fn may_subscribe(&self, sid: Option<&Rc<str>>, filter: &str) -> bool {
        self.granted(true, false, |grants| {
            grants.access(sid).is_some_and(|access| access.may_subscribe(filter))
        })
    }

    /// Whether any grant may read the topic: otherwise what is published to it must not be kept.
    pub fn has_reader(&self, topic: &str) -> bool {
        self.granted(true, false, |grants| grants.by_sid.values().any(|access| access.is_reached_by(topic)))
    }

    /// Whether any grant may publish to the topic: without one, what was published there has lost its source.
    pub fn has_publisher(&self, topic: &str) -> bool {
        self.granted(true, false, |grants| grants.by_sid.values().any(|access| access.may_publish(topic)))
    }

    /// The grants that may read the topic now as it is published; empty for an open broker, which does not ask.
    pub(crate) fn raw_readers(&self, topic: &str) -> Vec<Rc<str>> {
        self.granted(Vec::new(), Vec::new(), |grants| {
            let readers = grants.by_sid.iter().filter(|(_, access)| access.sight(topic) == Sight::Raw);
            readers.map(|(sid, _)| Rc::clone(sid)).collect()
        })
    }

    /// The grants that may read the topic now through a view, each with its view.
    pub(crate) fn viewers<'a>(&'a self, topic: &'a str) -> impl Iterator<Item = (&'a Rc<str>, &'a Rc<View>)> {
        let grants = self.grants().filter(|grants| grants.has_views);
        grants.into_iter().flat_map(|grants| &grants.by_sid).filter_map(move |(sid, access)| {
            match access.sight(topic) {
                Sight::Through(view) => Some((sid, view)),
                Sight::Blind | Sight::Raw => None,
            }
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
    use std::rc::Rc;
    use views::{Coarsening, HashKey, View};

    fn app(channels: Channels, key: Option<HashKey>) -> Access {
        Access::App { devices: [("L".into(), channels)].into(), key }
    }

    fn policy() -> (Policy, Rc<str>, Rc<str>) {
        let (device, sid): (Rc<str>, Rc<str>) = ("dev".into(), "app".into());
        let mut channels = Channels { command: vec!["heater".into()], ..Channels::default() };
        channels.allow_reading("t", &View::Raw);
        channels.allow_reading("a/b", &View::Raw);
        let grants = Grants::new([
            (Rc::clone(&device), Access::Device { label: "L".into() }),
            (Rc::clone(&sid), app(channels, None)),
        ]);
        (Policy::Granted(Some(grants)), device, sid)
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
            ("s/L/reported", true),
            ("s/M/reported", false),
            ("s/L", false),
            ("s/L/desired", false),
            ("s/L/delta", false),
            ("s/L/other", false),
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
            ("s/L/#", true),
            ("s/L", false),
            ("s/+/delta", false),
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
            ("s/L", true, false),
            ("s/L/desired", false, true),
            ("s/L/reported", false, false),
            ("s/L/delta", false, false),
            ("s/M", false, false),
            ("s/M/desired", false, false),
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
    fn hashing(name: &str) -> View {
        View::Coarsening(Coarsening { hash: vec![name.into()], ..Coarsening::default() })
    }

    #[test]
    fn of_two_views_of_a_channel_raw_is_not_taken() {
        for (first, second) in
            [(View::Raw, hashing("a")), (hashing("a"), View::Raw), (hashing("a"), hashing("b"))]
        {
            let mut channels = Channels::default();
            channels.allow_reading("t", &first);
            channels.allow_reading("t", &second);
            let policy = Policy::Granted(Some(Grants::new([("app".into(), app(channels, None))])));
            assert_eq!(policy.view(Some(&"app".into()), "d/L/t"), Some(&hashing("a")));
            assert_eq!(policy.view(Some(&"app".into()), "d/L/u"), None);
            assert!(policy.has_views() && policy.raw_readers("d/L/t").is_empty());
            assert_eq!(policy.viewers("d/L/t").count(), 1);
        }
    }

    #[test]
    fn another_view_or_another_key_is_another_sight() {
        let policy = |view: &View, key: u8| {
            let mut channels = Channels::default();
            channels.allow_reading("t", view);
            Policy::Granted(Some(Grants::new([("app".into(), app(channels, Some(HashKey::new([key; 32]))))])))
        };
        let raw = policy(&View::Raw, 1);
        let (one, other) = (policy(&hashing("a"), 1), policy(&hashing("a"), 2));
        let same = |one: &Policy, other: &Policy| other.sees_as_in(one, Some(&"app".into()), "d/L/t");
        assert!(same(&raw, &raw) && same(&one, &one) && same(&raw, &policy(&View::Raw, 2)));
        assert!(!same(&one, &other) && !same(&raw, &one) && !same(&one, &raw));
        assert!(!same(&one, &policy(&hashing("b"), 1)));
        assert!(!same(&one, &Policy::Granted(None)));
    }
}
