//! JSON made less exact: numbers rounded, members left out or hashed, at any depth.
//!
//! A payload that is not JSON, is longer than [`crate::MAX_JSON`] or nests deeper than [`MAX_DEPTH`] is not shown. A SenML pack
//! ([`crate::senml`]) is resolved first, so that rounding meets values and not their parts; its times are not rounded. A base
//! field that is to be left out or hashed goes before that.
//!
//! A text that is a JSON number as a whole is rounded as one and stays a text. Other texts, and names of members, go as they
//! are: whoever wants them hidden has to leave them out. What is shown is written anew, so nothing that the parser passed over
//! (white space, members given twice) is in it.

use crate::hash::HashKey;
use crate::number::{self, MAX_JSON};
use crate::senml;
use crate::view::Coarsening;
use serde_json::{Map, Number, Value};

/// Deepest nesting of arrays and objects that is looked into.
pub const MAX_DEPTH: usize = 32;

/// Numbers of the form `n · step`, for a whole `n`.
#[derive(Clone, Copy)]
struct Grid {
    step: f64,
    /// Decimal places that every such number can be written with.
    places: usize,
}

impl Grid {
    fn new(step: f64) -> Grid {
        // A number's shortest form has no exponent here, so its length after the point is its decimal places.
        let places = format!("{step}").split_once('.').map_or(0, |(_, fraction)| fraction.len());
        Grid { step, places }
    }

    /// The nearest one, written with no more digits than it needs.
    fn nearest(self, value: f64) -> Value {
        /// From here on doubles are whole numbers of steps, as near as they can say it.
        const WHOLE: f64 = 9_007_199_254_740_992.0;
        let steps = (value / self.step).round();
        if steps.abs() >= WHOLE {
            return Number::from_f64(value).map_or(Value::Null, Value::Number);
        }
        let near = format!("{:.places$}", steps * self.step, places = self.places);
        match near.parse::<f64>() {
            Ok(clean) if clean.fract() == 0.0 && clean.abs() < WHOLE => Value::from(clean as i64),
            Ok(clean) => Number::from_f64(clean).map_or(Value::Null, Value::Number),
            Err(_) => Value::Null,
        }
    }
}

struct Pass<'a> {
    view: &'a Coarsening,
    key: Option<&'a HashKey>,
    grid: Option<Grid>,
    /// Whether this is a resolved SenML pack.
    is_pack: bool,
}

impl Coarsening {
    /// The payload as the view shows it; `None` if it shows nothing. Without a key, members to be hashed are left out.
    pub fn apply(&self, payload: &[u8], key: Option<&HashKey>) -> Option<Vec<u8>> {
        if payload.len() > MAX_JSON {
            return None;
        }
        let grid = self.round.map(Grid::new);
        if let (Some(grid), Some(value)) = (grid, number::plain(payload)) {
            return Some(grid.nearest(value).to_string().into_bytes());
        }
        let value: Value = serde_json::from_slice(payload).ok()?;
        let (value, is_pack) = self.resolve(value);
        let shown = Pass { view: self, key, grid, is_pack }.value(value, 0)?;
        serde_json::to_vec(&shown).ok()
    }

    fn names(&self, name: &str) -> bool {
        self.drop.iter().chain(&self.hash).any(|known| known == name)
    }

    /// Resolves a SenML pack; answers whether it was one.
    fn resolve(&self, value: Value) -> (Value, bool) {
        let Value::Array(mut records) = value else { return (value, false) };
        for record in records.iter_mut().filter_map(Value::as_object_mut) {
            for field in senml::BASE.iter().filter(|field| self.names(field)) {
                record.remove(*field);
            }
        }
        match senml::resolve(records.clone()) {
            Some(pack) => (pack.into_iter().map(Value::Object).collect(), true),
            None => (Value::Array(records), false),
        }
    }
}

impl Pass<'_> {
    /// A value as it is shown; `None` if it nests too deep.
    fn value(&self, value: Value, depth: usize) -> Option<Value> {
        match (value, self.grid) {
            (Value::Number(number), Some(grid)) => {
                Some(number.as_f64().map_or(Value::Null, |number| grid.nearest(number)))
            }
            (Value::String(text), Some(grid)) => Some(match number::plain(text.as_bytes()) {
                Some(number) => Value::String(grid.nearest(number).to_string()),
                None => Value::String(text),
            }),
            (Value::Array(_) | Value::Object(_), _) if depth >= MAX_DEPTH => None,
            (Value::Array(items), _) => items
                .into_iter()
                .map(|item| self.value(item, depth + 1))
                .collect::<Option<_>>()
                .map(Value::Array),
            (Value::Object(members), _) => self.object(members, depth).map(Value::Object),
            (value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)), _) => Some(value),
        }
    }

    fn object(&self, members: Map<String, Value>, depth: usize) -> Option<Map<String, Value>> {
        let mut shown = Map::new();
        for (name, value) in members {
            if self.view.drop.contains(&name) {
                continue;
            }
            if self.view.hash.contains(&name) {
                if let Some(key) = self.key {
                    let hash = key.hash(&serde_json::to_vec(&value).ok()?);
                    shown.insert(name, Value::String(hash));
                }
                continue;
            }
            // In a pack, depth 1 is a record.
            let is_time = self.is_pack && depth == 1 && senml::TIMES.contains(&name.as_str());
            let value = if is_time { value } else { self.value(value, depth + 1)? };
            shown.insert(name, value);
        }
        Some(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::{Grid, MAX_DEPTH};
    use crate::HashKey;
    use crate::number::MAX_JSON;
    use crate::view::Coarsening;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn rounding(step: f64) -> Coarsening {
        Coarsening { round: Some(step), ..Coarsening::default() }
    }

    fn shown(view: &Coarsening, payload: &str) -> Option<String> {
        let key = HashKey::new([9; 32]);
        view.apply(payload.as_bytes(), Some(&key)).map(|out| String::from_utf8(out).unwrap())
    }

    #[test]
    fn numbers_are_rounded_to_clean_decimals() {
        for (step, value, near) in [
            (0.5, "21.47", "21.5"),
            (0.5, " 20.9 ", "21"),
            (0.1, "0.30000000000000004", "0.3"),
            (0.1, "21.449", "21.4"),
            (0.05, "1.13", "1.15"),
            (5.0, "-12.5", "-15"),
            (0.5, "-0.2", "0"),
            (1.0, "1.7e300", "1.7e+300"),
            (0.25, "1e2", "100"),
            (1e-7, "0.12345678", "0.1234568"),
            (1e-300, "21.5", "21.5"),
            (0.5, "1.7e308", "1.7e+308"),
        ] {
            assert_eq!(shown(&rounding(step), value).as_deref(), Some(near), "{value} at {step}");
        }
    }

    #[test]
    fn rounding_reaches_every_number_and_every_text_that_is_one() {
        let payload = r#"{"a":21.47,"b":[1.26,{"c":-0.74}],"d":"21.47","e":"21.47 °C","f":true,"g":null}"#;
        let expected = r#"{"a":21.5,"b":[1.5,{"c":-0.5}],"d":"21.5","e":"21.47 °C","f":true,"g":null}"#;
        assert_eq!(shown(&rounding(0.5), payload).as_deref(), Some(expected));
    }

    #[test]
    fn what_is_not_json_is_not_shown() {
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        let long = format!("\"{}\"", "x".repeat(MAX_JSON));
        for payload in ["", "21.47 C", "{", "NaN", "[1,]", "1e999", &deep(MAX_DEPTH + 1), &deep(9_000), &long]
        {
            assert_eq!(shown(&rounding(1.0), payload), None);
        }
        assert!(shown(&rounding(1.0), &deep(MAX_DEPTH)).is_some());
        let dropping = Coarsening { drop: vec!["x".into()], ..Coarsening::default() };
        assert_eq!(shown(&dropping, "21.47").as_deref(), Some("21.47"));
        assert_eq!(shown(&dropping, "\u{fffd}"), None);
    }

    #[test]
    fn members_are_left_out_or_hashed_at_any_depth() {
        let view =
            Coarsening { drop: vec!["serial".into()], hash: vec!["card".into()], ..Coarsening::default() };
        let payload = r#"{"serial":"A","x":[{"\u0073erial":1,"card":"B"}],"card":{"serial":2},"serial":"C"}"#;
        let out: Value = serde_json::from_str(&shown(&view, payload).unwrap()).unwrap();
        let key = HashKey::new([9; 32]);
        let expected = json!({"x": [{"card": key.hash(b"\"B\"")}], "card": key.hash(br#"{"serial":2}"#)});
        assert_eq!(out, expected);
        assert_eq!(view.apply(br#"{"card":"B","a":1}"#, None).unwrap(), br#"{"a":1}"#, "no key, no hash");
    }

    #[test]
    fn a_pack_is_resolved_before_it_is_rounded() {
        let pack = r#"[{"bn":"a","bt":1.25,"bv":20.3,"n":"t","v":1.4},{"n":"u","v":0.1,"x":7.77}]"#;
        let out: Value = serde_json::from_str(&shown(&rounding(0.5), pack).unwrap()).unwrap();
        let expected = json!([{"n": "at", "t": 1.25, "v": 21.5}, {"n": "au", "t": 1.25, "v": 20.5, "x": 8}]);
        assert_eq!(out, expected);
        let dropping =
            Coarsening { drop: vec!["bn".into(), "t".into()], round: Some(0.5), ..Coarsening::default() };
        let out: Value = serde_json::from_str(&shown(&dropping, pack).unwrap()).unwrap();
        assert_eq!(out, json!([{"n": "t", "v": 21.5}, {"n": "u", "v": 20.5, "x": 8}]));
        let no_pack = r#"[{"n":"a","t":1.26,"v":1},{"t":3.3}, 4.4]"#;
        assert_eq!(shown(&rounding(0.5), no_pack).unwrap(), r#"[{"n":"a","t":1.5,"v":1},{"t":3.5},4.5]"#);
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-1e6..1e6f64).prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z0-9. ]{0,6}".prop_map(Value::from),
        ];
        let name = prop::sample::select(&["n", "v", "t", "bn", "bv", "bt", "s", "keep", "drop", "hash"]);
        leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name.clone().prop_map(String::from), inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Puts a mark wherever a named member is.
    fn mark(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, value) in members.iter_mut() {
                    if ["drop", "hash", "bn", "n"].contains(&name.as_str()) {
                        *value = Value::from("MARK");
                    } else {
                        mark(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(mark),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    proptest! {
        #[test]
        fn nothing_dropped_or_hashed_is_in_what_is_shown(mut value in json_value(), round in prop::option::of(0.1..9.0f64)) {
            mark(&mut value);
            let view = Coarsening {
                round,
                drop: vec!["drop".into(), "n".into()],
                hash: vec!["hash".into(), "bn".into()],
            };
            if let Some(out) = shown(&view, &value.to_string()) {
                prop_assert!(!out.contains("MARK"), "{} from {}", out, value);
            }
        }

        #[test]
        fn every_number_that_is_shown_is_on_the_grid(value in json_value(), step in prop::sample::select(&[0.5, 0.1, 3.0, 25.0])) {
            fn check(value: &Value, step: f64) -> bool {
                match value {
                    Value::Number(number) => {
                        let steps = number.as_f64().unwrap() / step;
                        (steps - steps.round()).abs() < 1e-6 * steps.abs().max(1.0)
                    }
                    Value::Array(items) => items.iter().all(|item| check(item, step)),
                    Value::Object(members) => members.iter().all(|(name, value)| name == "t" || check(value, step)),
                    Value::Null | Value::Bool(_) | Value::String(_) => true,
                }
            }
            if let Some(out) = shown(&rounding(step), &value.to_string()) {
                let out: Value = serde_json::from_str(&out).unwrap();
                prop_assert!(check(&out, step), "{}", out);
                // Only a pack has times.
                if !out.is_array() {
                    let times = out.to_string().contains("\"t\":");
                    prop_assert!(!times || check(&serde_json::from_str(&out.to_string().replace("\"t\":", "\"w\":")).unwrap(), step));
                }
            }
        }

        #[test]
        fn rounding_is_near_and_stays_where_it_is(value in -1e9..1e9f64, step in prop::sample::select(&[0.001, 0.1, 0.25, 0.5, 3.0, 1e-6])) {
            let grid = Grid::new(step);
            let near = grid.nearest(value);
            let at = near.as_f64().unwrap();
            prop_assert!((at - value).abs() <= step * 0.5 + value.abs() * 1e-12);
            prop_assert_eq!(grid.nearest(at), near);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let view = Coarsening { round: Some(0.5), drop: vec!["a".into()], hash: vec!["b".into()] };
            let _ = view.apply(&bytes, None);
        }
    }
}
