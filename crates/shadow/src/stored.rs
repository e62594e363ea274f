//! A whole shadow as bytes, for whoever keeps it on disk.

use crate::shadow::{Desired, Reported, Shadow};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

impl Shadow {
    /// Appends the whole shadow to `out`: JSON, of no use to anybody but [`Shadow::read`].
    pub fn write(&self, out: &mut Vec<u8>) {
        let reported = self.reported.iter().map(|(channel, known)| {
            let parts = [known.value.clone(), ids(&known.readers), ids(&known.commanders)];
            (channel.to_string(), Value::Array(parts.into()))
        });
        let own = self.own.iter().map(|(reader, own)| {
            let own = own.iter().map(|(channel, value)| (channel.to_string(), value.clone()));
            (reader.to_string(), Value::Object(own.collect()))
        });
        let desired = self.desired.iter().map(|(channel, wanted)| {
            let parts = [wanted.value.clone(), ids(&wanted.writers)];
            (channel.to_string(), Value::Array(parts.into()))
        });
        let versions = self.versions.iter().map(|(viewer, version)| (viewer.to_string(), (*version).into()));
        let parts: [Map<String, Value>; 4] =
            [reported.collect(), own.collect(), desired.collect(), versions.collect()];
        let whole = Value::Array(parts.into_iter().map(Value::Object).collect());
        // Writing to memory cannot fail, and all names are strings.
        let _written = serde_json::to_writer(out, &whole);
    }

    /// The shadow that [`Shadow::write`] wrote; `None` if it did not write this.
    pub fn read(bytes: &[u8]) -> Option<Shadow> {
        let [reported, own, desired, versions]: [Map<String, Value>; 4] =
            serde_json::from_slice(bytes).ok()?;
        let reported = reported.into_iter().map(|(channel, parts)| {
            let [value, readers, commanders] = array(parts)?;
            let (readers, commanders) = (set(readers)?, set(commanders)?);
            Some((channel.into(), Reported { value, readers, commanders }))
        });
        let own = own.into_iter().map(|(reader, own)| {
            let Value::Object(own) = own else { return None };
            let own = own.into_iter().map(|(channel, value)| (channel.into(), value));
            Some((reader.into(), own.collect()))
        });
        let desired = desired.into_iter().map(|(channel, parts)| {
            let [value, writers] = array(parts)?;
            Some((channel.into(), Desired { value, writers: set(writers)? }))
        });
        let versions = versions.into_iter().map(|(viewer, version)| Some((viewer.into(), version.as_u64()?)));
        Some(Shadow {
            reported: reported.collect::<Option<_>>()?,
            own: own.collect::<Option<_>>()?,
            desired: desired.collect::<Option<_>>()?,
            versions: versions.collect::<Option<BTreeMap<_, _>>>()?,
        })
    }
}

fn ids(ids: &BTreeSet<Box<str>>) -> Value {
    Value::Array(ids.iter().map(|id| Value::String(id.to_string())).collect())
}

fn array<const N: usize>(value: Value) -> Option<[Value; N]> {
    match value {
        Value::Array(parts) => parts.try_into().ok(),
        _ => None,
    }
}

fn set(value: Value) -> Option<BTreeSet<Box<str>>> {
    let Value::Array(ids) = value else { return None };
    let id = |id| match id {
        Value::String(id) => Some(id.into_boxed_str()),
        _ => None,
    };
    ids.into_iter().map(id).collect()
}
