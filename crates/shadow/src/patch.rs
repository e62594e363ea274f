//! JSON merge patches (RFC 7396): reading, bounding, applying, and the patch that turns one value into another.

use serde_json::{Map, Value};
use std::fmt;
use std::io;

/// Most bytes of a device's reported state, of its desired state, of one reader's own version of what was reported, and
/// of a patch: as JSON without white space.
pub const MAX_BYTES: usize = 8 << 10;

/// Most levels of objects and arrays in a patch; the patch itself is the first.
pub const MAX_DEPTH: usize = 16;

/// Longest payload that is read at all, white space included.
const MAX_PAYLOAD: usize = 2 * MAX_BYTES;

/// Member of a patch of desired state: the version that it is meant for.
const VERSION: &str = "$version";

/// A patch that is not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not JSON, not an object, or a `$version` that is no unsigned integer.
    Malformed,
    /// It is, or would make the state, longer than [`MAX_BYTES`].
    TooLarge,
    /// It has more levels than [`MAX_DEPTH`].
    TooDeep,
    /// It is meant for another version than the writer's current one.
    Conflict,
    /// It has a member that the writer may not command.
    NotAllowed,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a JSON object",
            Self::TooLarge => "shadow too large",
            Self::TooDeep => "shadow too deep",
            Self::Conflict => "not the current version",
            Self::NotAllowed => "not a channel that may be commanded",
        })
    }
}

impl std::error::Error for Refused {}

/// A patch of desired state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desire {
    /// By command channel; `null` takes the wish back.
    pub members: Map<String, Value>,
    /// Compare-and-set: applied only if this is the writer's current version.
    pub expected: Option<u64>,
}

impl Desire {
    /// Reads a patch: an object by channel, perhaps with `$version`. If its only other member is an object `desired`,
    /// that one is the patch.
    ///
    /// # Errors
    /// [`Refused::Malformed`], [`Refused::TooLarge`], [`Refused::TooDeep`].
    pub fn parse(payload: &[u8]) -> Result<Desire, Refused> {
        let mut members = parse(payload)?;
        let expected = match members.remove(VERSION) {
            None => None,
            Some(version) => Some(version.as_u64().ok_or(Refused::Malformed)?),
        };
        if members.len() == 1
            && let Some(Value::Object(inner)) = members.get_mut("desired")
        {
            members = std::mem::take(inner);
        }
        bounded(&members)?;
        Ok(Desire { members, expected })
    }
}

/// Reads a patch of reported state: an object by channel.
///
/// # Errors
/// [`Refused::Malformed`], [`Refused::TooLarge`], [`Refused::TooDeep`].
pub fn parse_report(payload: &[u8]) -> Result<Map<String, Value>, Refused> {
    let members = parse(payload)?;
    bounded(&members)?;
    Ok(members)
}

fn parse(payload: &[u8]) -> Result<Map<String, Value>, Refused> {
    if payload.len() > MAX_PAYLOAD {
        return Err(Refused::TooLarge);
    }
    // One more level for `{"desired": …}`. Looked at before parsing, which would call deep JSON malformed.
    if levels(payload) > MAX_DEPTH + 1 {
        return Err(Refused::TooDeep);
    }
    serde_json::from_slice(payload).map_err(|_| Refused::Malformed)
}

fn bounded(members: &Map<String, Value>) -> Result<(), Refused> {
    if 1 + members.values().map(depth).max().unwrap_or(0) > MAX_DEPTH {
        return Err(Refused::TooDeep);
    }
    if size(members.iter().map(|(name, value)| (name.as_str(), value))) > MAX_BYTES {
        return Err(Refused::TooLarge);
    }
    Ok(())
}

/// Most brackets that are open at once, outside of strings.
fn levels(json: &[u8]) -> usize {
    let (mut open, mut most) = (0usize, 0usize);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                open += 1;
                most = most.max(open);
            }
            b'}' | b']' => open = open.saturating_sub(1),
            b'"' => {
                while let Some(inside) = bytes.next() {
                    match inside {
                        b'\\' => {
                            bytes.next();
                        }
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    most
}

/// Levels of objects and arrays. Only called for what [`levels`] has bounded.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Bytes of an object with these members, as JSON without white space.
pub(crate) fn size<'a>(members: impl Iterator<Item = (&'a str, &'a Value)>) -> usize {
    let mut bytes = Counter(0);
    let mut count = 0usize;
    for (name, value) in members {
        count += 1;
        // Counting cannot fail, and all names are strings.
        let _counted = serde_json::to_writer(&mut bytes, name);
        let _counted = serde_json::to_writer(&mut bytes, value);
    }
    // Two braces, a colon each, a comma between any two.
    2 + bytes.0 + count + count.saturating_sub(1)
}

struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Applies a patch (RFC 7396 §2): objects are merged, members that are `null` go, anything else replaces.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, change) in patch {
        if change.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.as_str()).or_insert(Value::Null), change);
        }
    }
}

/// Takes away what a patch takes away, and adds nothing.
pub(crate) fn prune(target: &mut Value, patch: &Value) {
    let (Value::Object(members), Value::Object(patch)) = (target, patch) else { return };
    for (name, change) in patch {
        if change.is_null() {
            members.remove(name);
        } else if let Some(member) = members.get_mut(name) {
            prune(member, change);
        }
    }
}

/// What of `wanted` is not so in `actual`, as a patch that makes it so; `None` if everything is. Numbers that are equal
/// are the same, however they are written. What `actual` has beyond `wanted` does not count.
pub fn difference(wanted: &Value, actual: Option<&Value>) -> Option<Value> {
    match (wanted, actual) {
        (Value::Object(wanted), Some(Value::Object(actual))) => {
            let members = wanted.iter().filter_map(|(name, value)| {
                difference(value, actual.get(name)).map(|different| (name.clone(), different))
            });
            let members: Map<String, Value> = members.collect();
            (!members.is_empty()).then_some(Value::Object(members))
        }
        (wanted, Some(actual)) if is_same(wanted, actual) => None,
        (wanted, _) => Some(wanted.clone()),
    }
}

fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other || (one.is_f64() != other.is_f64() && one.as_f64() == other.as_f64())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| is_same(value, other)))
        }
        (one, other) => one == other,
    }
}
