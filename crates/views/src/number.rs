//! Which payloads are numbers.
//!
//! A payload is numeric if it is a JSON number (surrounding white space allowed). With a `field` it is numeric if it is a JSON
//! object whose member of that name is a number, or a SenML pack (RFC 8428) with records of that name, one number each.
//! Nothing else is: no text that looks like a number, no boolean, no `NaN`, no number beyond the range of a double.

use crate::senml::{self, Record};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// Longest payload that is looked into, in bytes: a longer one is not numeric, and nothing to be made coarser.
pub const MAX_JSON: usize = 16 << 10;

/// What a payload holds.
pub(crate) enum Reading {
    /// One number.
    One(f64),
    /// A SenML pack, resolved: numbers are the values of records whose name is the field.
    Pack(Vec<Record>),
    /// Nothing that a number could be taken from.
    Nothing,
}

/// Reads a payload by the rule of this module.
pub(crate) fn read(payload: &[u8], field: Option<&str>) -> Reading {
    if payload.len() > MAX_JSON {
        return Reading::Nothing;
    }
    let found = match (field, payload.iter().find(|byte| !is_space(**byte))) {
        (None, _) => plain(payload),
        (Some(field), Some(b'{')) => member(payload, field),
        (Some(_), Some(b'[')) => {
            let pack = serde_json::from_slice::<Vec<Value>>(payload).ok().and_then(senml::resolve);
            return pack.map_or(Reading::Nothing, Reading::Pack);
        }
        (Some(_), _) => None,
    };
    found.map_or(Reading::Nothing, Reading::One)
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// A JSON number and nothing else.
pub(crate) fn plain(payload: &[u8]) -> Option<f64> {
    let mut text = payload;
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    // What Rust reads and JSON does not: a plus sign, leading zeros, a point at either end, `inf` and `nan`.
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let is_json = matches!(unsigned, [b'0'] | [b'0', b'.' | b'e' | b'E', ..] | [b'1'..=b'9', ..]);
    let point = unsigned.iter().position(|byte| *byte == b'.');
    let has_fraction = point.is_none_or(|at| unsigned.get(at + 1).is_some_and(u8::is_ascii_digit));
    if !is_json || !has_fraction {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

/// The number that a member of a JSON object is; the last one of that name counts.
fn member(payload: &[u8], name: &str) -> Option<f64> {
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    let found = deserializer.deserialize_map(Member(name)).ok()?;
    deserializer.end().ok()?;
    found
}

struct Member<'n>(&'n str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<f64>, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Named(self.0))? {
            if is_it {
                found = map.next_value::<Value>()?.as_f64();
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a key is this one.
struct Named<'n>(&'n str);

impl<'de> serde::de::DeserializeSeed<'de> for Named<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Named<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Reading, plain, read};
    use proptest::prelude::*;
    use serde_json::Value;

    fn one(payload: &str, field: Option<&str>) -> Option<f64> {
        match read(payload.as_bytes(), field) {
            Reading::One(number) => Some(number),
            Reading::Pack(_) | Reading::Nothing => None,
        }
    }

    #[test]
    fn only_a_json_number_is_a_number() {
        for (text, number) in [("21.5", 21.5), (" -3\n", -3.0), ("1e3", 1_000.0), ("0.0", 0.0), ("-0", 0.0)] {
            assert_eq!(one(text, None), Some(number), "{text}");
        }
        for text in [
            "",
            " ",
            "+1",
            "01",
            ".5",
            "1.",
            "1.e3",
            "-",
            "--1",
            "NaN",
            "inf",
            "-inf",
            "infinity",
            "1e999",
            "0x10",
            "1 2",
            "1,5",
            "\"1\"",
            "true",
            "null",
            "[1]",
            "{\"t\":1}",
            "1\0",
            "1_000",
            "e5",
            "1e",
            "٣",
        ] {
            assert_eq!(one(text, None), None, "{text}");
        }
    }

    #[test]
    fn a_member_counts_if_it_is_a_number() {
        for (text, number) in [
            (r#"{"t":21.5}"#, Some(21.5)),
            (r#" {"a":[1,{"t":2}],"t":-3,"z":null} "#, Some(-3.0)),
            (r#"{"\u0074":4}"#, Some(4.0)),
            (r#"{"t":1,"t":2}"#, Some(2.0)),
            (r#"{"t":1,"t":"x"}"#, None),
            (r#"{"t":"21.5"}"#, None),
            (r#"{"T":1}"#, None),
            (r#"{"t":1}x"#, None),
            (r#"{"t":1"#, None),
            ("21.5", None),
        ] {
            assert_eq!(one(text, Some("t")), number, "{text}");
        }
        let deep = format!(r#"{{"a":{}1{},"t":1}}"#, "[".repeat(5_000), "]".repeat(5_000));
        assert!(one(&deep, Some("t")).is_none_or(|number| number == 1.0), "no stack is worn out");
        let long = format!(r#"{{"a":"{}","t":1}}"#, "x".repeat(super::MAX_JSON));
        assert_eq!(one(&long, Some("t")), None);
    }

    proptest! {
        #[test]
        fn plain_agrees_with_a_json_parser(text in "[ \n]?[-+]?[0-9]{0,3}[.]?[0-9]{0,2}([eE][-+]?[0-9]{0,3})?[ x]?") {
            let json = serde_json::from_str::<Value>(&text).ok().and_then(|value| value.as_f64());
            let own = plain(text.as_bytes());
            // That parser may be off by the last bit.
            let near = own.zip(json).is_none_or(|(own, json)| (own - json).abs() <= json.abs() * 1e-15);
            prop_assert!(own.is_some() == json.is_some() && near, "{}: {:?}, {:?}", text, own, json);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (read(&bytes, None), read(&bytes, Some("t")));
        }
    }
}
