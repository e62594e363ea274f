//! The state of one device: reported, desired, versions, and the documents made of them.

use crate::patch::{Desire, MAX_BYTES, Refused, difference, merge, prune, size};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What one device reported and what is desired of it, as far as somebody may see it.
///
/// Whoever sees a part of it goes by an id (the grant's). A version counts, for one viewer, the changes of the desired
/// members that it could see: nobody learns of changes elsewhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shadow {
    pub(crate) reported: BTreeMap<Box<str>, Reported>,
    /// What readers see who do not see values as they are reported, or not all of them: by reader and channel.
    pub(crate) own: BTreeMap<Box<str>, BTreeMap<Box<str>, Value>>,
    pub(crate) desired: BTreeMap<Box<str>, Desired>,
    pub(crate) versions: BTreeMap<Box<str>, u64>,
}

/// A channel's value as the device reported it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reported {
    pub(crate) value: Value,
    /// Who sees it as it is: a grant that came later sees only later values.
    pub(crate) readers: BTreeSet<Box<str>>,
    /// Whose delta takes it into account: those who could command the channel when it was reported.
    pub(crate) commanders: BTreeSet<Box<str>>,
}

/// A channel's desired value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Desired {
    pub(crate) value: Value,
    /// Everybody who has a part in it.
    pub(crate) writers: BTreeSet<Box<str>>,
}

/// Somebody who looks at a shadow.
pub trait Viewer {
    /// Whose version and whose own values it sees.
    fn id(&self) -> &str;
    /// Whether it may read what the device reports of a channel.
    fn reads(&self, channel: &str) -> bool;
    /// Whether it may command a channel: see and change what is desired.
    fn commands(&self, channel: &str) -> bool;
}

/// Who may learn of what a device reports of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// They see it as it is.
    pub raw: Vec<Box<str>>,
    /// They see it through a lens.
    pub viewed: Vec<Box<str>>,
    /// They see whether it is what they desire.
    pub commanders: Vec<Box<str>>,
}

impl Audience {
    fn is_empty(&self) -> bool {
        self.raw.is_empty() && self.viewed.is_empty() && self.commanders.is_empty()
    }
}

/// What a reader with a lens sees of a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// Nothing new.
    Nothing,
    /// The report as it is.
    Whole,
    /// This instead.
    Instead(Value),
}

impl Shadow {
    /// Whether there is nothing in it that anybody could miss.
    pub fn is_empty(&self) -> bool {
        self.reported.is_empty() && self.own.is_empty() && self.desired.is_empty() && self.versions.is_empty()
    }

    /// How often what the viewer sees of the desired state has changed.
    pub fn version(&self, viewer: &str) -> u64 {
        self.versions.get(viewer).copied().unwrap_or(0)
    }

    /// The device reports: `members` is a patch by channel. What nobody may see is dropped. `look` is a viewed reader's
    /// lens: reader, channel, what is reported of it. Answers whether anything that is kept has changed.
    ///
    /// # Errors
    /// [`Refused::TooLarge`]: then nothing is applied and no lens has looked.
    pub fn report(
        &mut self,
        members: &Map<String, Value>,
        audience: impl Fn(&str) -> Audience,
        mut look: impl FnMut(&str, &str, &Value) -> Sight,
    ) -> Result<bool, Refused> {
        let mut changes = Vec::new();
        for (channel, patch) in members {
            let audience = audience(channel);
            let is_kept = !(audience.raw.is_empty() && audience.commanders.is_empty());
            let value = (is_kept && !patch.is_null()).then(|| {
                let known = self.reported.get(channel.as_str());
                let mut value = known.map_or(Value::Null, |known| known.value.clone());
                merge(&mut value, patch);
                value
            });
            changes.push((channel.as_str(), patch, audience, value));
        }
        let untouched = self.reported.iter().filter(|(channel, _)| !members.contains_key(&***channel));
        let untouched = untouched.map(|(channel, known)| (&**channel, &known.value));
        let touched = changes.iter().filter_map(|(channel, _, _, value)| Some((*channel, value.as_ref()?)));
        if size(untouched.chain(touched)) > MAX_BYTES {
            return Err(Refused::TooLarge);
        }
        let mut changed = false;
        for (channel, patch, audience, value) in changes {
            if patch.is_null() || audience.is_empty() {
                changed |= self.forget(channel);
                continue;
            }
            let late = self.set_reported(channel, patch, &audience, value, &mut changed);
            for reader in &late {
                changed |= self.show(reader, channel, patch, Sight::Whole);
            }
            for reader in &audience.viewed {
                let mut fresh = Value::Null;
                merge(&mut fresh, patch);
                let sight = look(reader, channel, &fresh);
                changed |= self.show(reader, channel, patch, sight);
            }
        }
        Ok(changed)
    }

    /// Sets what is kept of a channel as it was reported; answers which raw readers may not share it.
    fn set_reported(
        &mut self,
        channel: &str,
        patch: &Value,
        audience: &Audience,
        value: Option<Value>,
        changed: &mut bool,
    ) -> Vec<Box<str>> {
        let before = self.reported.remove(channel);
        let Some(value) = value else {
            *changed |= before.is_some();
            return Vec::new();
        };
        // An object that is merged into an older one has parts that a later grant must not see.
        let older = before.as_ref().filter(|before| before.value.is_object() && patch.is_object());
        let (readers, late): (Vec<_>, Vec<_>) = audience
            .raw
            .iter()
            .cloned()
            .partition(|reader| older.is_none_or(|older| older.readers.contains(reader)));
        for reader in &readers {
            self.take_own(reader, channel);
        }
        let readers = readers.into_iter().collect();
        let commanders = audience.commanders.iter().cloned().collect();
        let reported = Reported { value, readers, commanders };
        *changed |= before.as_ref() != Some(&reported);
        self.reported.insert(channel.into(), reported);
        late
    }

    /// Brings a reader's own version of a channel up to date.
    fn show(&mut self, reader: &str, channel: &str, patch: &Value, sight: Sight) -> bool {
        let before = self.own.get(reader).and_then(|own| own.get(channel));
        let mut value = before.cloned().unwrap_or(Value::Null);
        match &sight {
            Sight::Nothing => return false,
            Sight::Whole => merge(&mut value, patch),
            Sight::Instead(seen) => {
                prune(&mut value, patch);
                merge(&mut value, seen);
            }
        }
        let changed = before != Some(&value);
        self.set_own(reader, channel, value);
        changed
    }

    /// A lens has something to show without a report: the summary of a window that has ended. It replaces what the
    /// reader saw of that channel. Answers whether there was room.
    pub fn set_own(&mut self, reader: &str, channel: &str, value: Value) -> bool {
        let own = self.own.entry(reader.into()).or_default();
        own.insert(channel.into(), value);
        let fits = size(own.iter().map(|(channel, value)| (&**channel, value))) <= MAX_BYTES;
        if !fits {
            self.take_own(reader, channel);
        }
        fits
    }

    fn take_own(&mut self, reader: &str, channel: &str) -> bool {
        let Some(own) = self.own.get_mut(reader) else { return false };
        let was_there = own.remove(channel).is_some();
        if own.is_empty() {
            self.own.remove(reader);
        }
        was_there
    }

    /// Forgets what was reported of a channel, for everybody.
    fn forget(&mut self, channel: &str) -> bool {
        let mut changed = self.reported.remove(channel).is_some();
        self.own.retain(|_, own| {
            changed |= own.remove(channel).is_some();
            !own.is_empty()
        });
        changed
    }

    /// An app desires. `viewers` is everybody whose version it may move: those who may command channels, the device
    /// among them. Answers whether anything has changed.
    ///
    /// # Errors
    /// [`Refused::NotAllowed`], [`Refused::Conflict`], [`Refused::TooLarge`]: then nothing is applied.
    pub fn desire<V: Viewer>(
        &mut self,
        desire: &Desire,
        writer: &impl Viewer,
        viewers: &[V],
    ) -> Result<bool, Refused> {
        if desire.members.keys().any(|channel| !writer.commands(channel)) {
            return Err(Refused::NotAllowed);
        }
        if desire.expected.is_some_and(|expected| expected != self.version(writer.id())) {
            return Err(Refused::Conflict);
        }
        let changes: Vec<(&str, &Value, Option<Value>)> = desire
            .members
            .iter()
            .map(|(channel, patch)| {
                let value = (!patch.is_null()).then(|| {
                    let known = self.desired.get(channel.as_str());
                    let mut value = known.map_or(Value::Null, |known| known.value.clone());
                    merge(&mut value, patch);
                    value
                });
                (channel.as_str(), patch, value)
            })
            .collect();
        let untouched = self.desired.iter().filter(|(channel, _)| !desire.members.contains_key(&***channel));
        let untouched = untouched.map(|(channel, known)| (&**channel, &known.value));
        let touched = changes.iter().filter_map(|(channel, _, value)| Some((*channel, value.as_ref()?)));
        if size(untouched.chain(touched)) > MAX_BYTES {
            return Err(Refused::TooLarge);
        }
        let mut changed = false;
        let mut moved = Vec::new();
        for (channel, patch, value) in changes {
            let before = self.desired.remove(channel);
            if before.as_ref().map(|before| &before.value) != value.as_ref() {
                moved.push(channel);
            }
            let after = value.map(|value| {
                let shared = before.as_ref().filter(|before| before.value.is_object() && patch.is_object());
                let mut writers = shared.map(|shared| shared.writers.clone()).unwrap_or_default();
                writers.insert(writer.id().into());
                Desired { value, writers }
            });
            changed |= before != after;
            if let Some(after) = after {
                self.desired.insert(channel.into(), after);
            }
        }
        for viewer in viewers {
            self.move_on(viewer.id(), moved.iter().filter(|channel| viewer.commands(channel)).count());
        }
        Ok(changed)
    }

    fn move_on(&mut self, viewer: &str, changes: usize) {
        if changes > 0 {
            *self.versions.entry(viewer.into()).or_default() += changes as u64;
        }
    }

    /// Grants have changed: what lost its grant goes. `viewers` is everybody who may see anything now; `before` and
    /// `after` are whether somebody could or can command a channel, and `reads` whether somebody can read it as he could
    /// before, through the same view. A version moves if what its viewer sees of the desired state is not the same.
    pub fn refilter(
        &mut self,
        viewers: &[&str],
        before: impl Fn(&str, &str) -> bool,
        after: impl Fn(&str, &str) -> bool,
        reads: impl Fn(&str, &str) -> bool,
    ) {
        let gone: BTreeSet<Box<str>> = self
            .desired
            .iter()
            .filter(|(channel, known)| known.writers.iter().any(|writer| !after(writer, channel)))
            .map(|(channel, _)| channel.clone())
            .collect();
        for viewer in viewers {
            let differs = |channel: &str| {
                let saw = before(viewer, channel);
                saw != (after(viewer, channel) && !gone.contains(channel))
            };
            let changes = self.desired.keys().filter(|channel| differs(channel)).count();
            self.move_on(viewer, changes);
        }
        self.desired.retain(|channel, _| !gone.contains(channel));
        self.versions.retain(|viewer, _| viewers.contains(&&**viewer));
        self.reported.retain(|channel, known| {
            known.readers.retain(|reader| reads(reader, channel));
            known.commanders.retain(|commander| after(commander, channel));
            !(known.readers.is_empty() && known.commanders.is_empty())
        });
        self.own.retain(|reader, own| {
            own.retain(|channel, _| reads(reader, channel));
            !own.is_empty()
        });
    }

    /// What an app sees: `{"version", "reported", "desired", "delta"}`.
    pub fn document(&self, viewer: &impl Viewer) -> Vec<u8> {
        let mut reported = BTreeMap::new();
        for (channel, known) in &self.reported {
            if known.readers.contains(viewer.id()) && viewer.reads(channel) {
                reported.insert(&**channel, &known.value);
            }
        }
        for (channel, value) in self.own.get(viewer.id()).into_iter().flatten() {
            if viewer.reads(channel) {
                reported.insert(channel, value);
            }
        }
        let desired = self.desired.iter().filter(|(channel, _)| viewer.commands(channel));
        let delta = desired.clone().filter_map(|(channel, wanted)| {
            let known = self.reported.get(channel).filter(|known| known.commanders.contains(viewer.id()));
            let left = difference(&wanted.value, known.map(|known| &known.value))?;
            Some((&**channel, left))
        });
        let delta: Vec<(&str, Value)> = delta.collect();
        let mut out = format!("{{\"version\":{},\"reported\":", self.version(viewer.id())).into_bytes();
        write_object(&mut out, reported.into_iter());
        out.extend_from_slice(b",\"desired\":");
        write_object(&mut out, desired.map(|(channel, wanted)| (&**channel, &wanted.value)));
        out.extend_from_slice(b",\"delta\":");
        write_object(&mut out, delta.iter().map(|(channel, left)| (*channel, left)));
        out.push(b'}');
        out
    }

    /// What the device has still to do: the patch of what it reported that makes it what is desired.
    pub fn delta(&self) -> Vec<u8> {
        let left = self.desired.iter().filter_map(|(channel, wanted)| {
            let known = self.reported.get(channel).map(|known| &known.value);
            Some((&**channel, difference(&wanted.value, known)?))
        });
        let left: Vec<(&str, Value)> = left.collect();
        let mut out = Vec::new();
        write_object(&mut out, left.iter().map(|(channel, left)| (*channel, left)));
        out
    }
}

fn write_object<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = (&'a str, &'a Value)>) {
    out.push(b'{');
    for (at, (name, value)) in members.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        // Writing to memory cannot fail, and all names are strings.
        let _written = serde_json::to_writer(&mut *out, name);
        out.push(b':');
        let _written = serde_json::to_writer(&mut *out, value);
    }
    out.push(b'}');
}
