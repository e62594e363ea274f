//! SenML packs (RFC 8428, JSON): base fields resolved into each record (§4.6), or not a pack at all.
//!
//! Strict where it decides what a number means: a label of the standard with a value of another type, a label that ends in `_`
//! (which must be understood, §4.4), two values in one record or a value without a name, and the array is not taken for a
//! pack.

use serde_json::{Map, Number, Value};

/// A resolved record: `n`, and as there are `u`, `t`, one value, `s`, and labels that the standard does not know.
pub(crate) type Record = Map<String, Value>;

/// Labels that hold for the records after them.
pub(crate) const BASE: [&str; 6] = ["bn", "bt", "bu", "bv", "bs", "bver"];
/// Labels whose numbers are not readings.
pub(crate) const TIMES: [&str; 3] = ["t", "ut", "bver"];
const VALUES: [&str; 4] = ["v", "vs", "vb", "vd"];

#[derive(Default)]
struct Base {
    name: String,
    unit: Option<Value>,
    time: Option<f64>,
    value: Option<f64>,
    sum: Option<f64>,
    version: Option<Value>,
}

/// The records of a pack that have a value or a sum, resolved; `None` if the array is no pack.
pub(crate) fn resolve(pack: Vec<Value>) -> Option<Vec<Record>> {
    let mut base = Base::default();
    let mut resolved = Vec::with_capacity(pack.len());
    for record in pack {
        let Value::Object(mut record) = record else { return None };
        if !record.iter().all(|(label, value)| is_well_typed(label, value)) {
            return None;
        }
        base.take(&mut record);
        let values = VALUES.iter().filter(|label| record.contains_key(**label)).count();
        if values > 1 {
            return None;
        }
        if values == 0 && !record.contains_key("s") {
            continue;
        }
        base.give(&mut record)?;
        resolved.push(record);
    }
    (!resolved.is_empty()).then_some(resolved)
}

/// The number that a resolved record is.
pub(crate) fn number(record: &Record, name: &str) -> Option<f64> {
    record.get("n").filter(|own| own.as_str() == Some(name))?;
    record.get("v")?.as_f64()
}

fn is_well_typed(label: &str, value: &Value) -> bool {
    match label {
        "bn" | "bu" | "n" | "u" | "vs" | "vd" => value.is_string(),
        "bt" | "bv" | "bs" | "v" | "s" | "t" | "ut" | "bver" => value.is_number(),
        "vb" => value.is_boolean(),
        _ => !label.ends_with('_'),
    }
}

impl Base {
    /// Takes the base fields out of a record.
    fn take(&mut self, record: &mut Record) {
        if let Some(Value::String(name)) = record.remove("bn") {
            self.name = name;
        }
        let mut number = |label: &str, known: &mut Option<f64>| {
            if let Some(value) = record.remove(label) {
                *known = value.as_f64();
            }
        };
        number("bt", &mut self.time);
        number("bv", &mut self.value);
        number("bs", &mut self.sum);
        if let Some(unit) = record.remove("bu") {
            self.unit = Some(unit);
        }
        if let Some(version) = record.remove("bver") {
            self.version = Some(version);
        }
    }

    /// Gives a record what holds for it. `None` if it has no name, or a sum beyond a double's range.
    fn give(&self, record: &mut Record) -> Option<()> {
        let name = match record.get("n").and_then(Value::as_str) {
            Some(own) => format!("{}{own}", self.name),
            None => self.name.clone(),
        };
        if name.is_empty() {
            return None;
        }
        record.insert("n".into(), Value::String(name));
        if let Some(unit) = &self.unit
            && !record.contains_key("u")
        {
            record.insert("u".into(), unit.clone());
        }
        if let Some(version) = &self.version {
            record.insert("bver".into(), version.clone());
        }
        if self.time.is_some() && !record.contains_key("t") {
            record.insert("t".into(), Value::from(0));
        }
        for (label, base) in [("t", self.time), ("v", self.value), ("s", self.sum)] {
            if let (Some(base), Some(own)) = (base, record.get_mut(label)) {
                *own = Value::Number(Number::from_f64(base + own.as_f64()?)?);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::{number, resolve};
    use serde_json::{Value, json};

    fn resolved(pack: Value) -> Option<Value> {
        let Value::Array(pack) = pack else { panic!("an array") };
        resolve(pack).map(|records| records.into_iter().map(Value::Object).collect())
    }

    #[test]
    fn base_fields_hold_until_they_change() {
        let pack = json!([
            {"bn": "urn:dev:1:", "bt": 100.5, "bu": "Cel", "bv": 20, "n": "in", "v": 1.5},
            {"n": "out", "v": -3, "t": 2},
            {"n": "door", "vb": true, "u": "/"},
            {"bn": "x", "bv": 0, "v": 7},
        ]);
        let expected = json!([
            {"n": "urn:dev:1:in", "u": "Cel", "t": 100.5, "v": 21.5},
            {"n": "urn:dev:1:out", "u": "Cel", "t": 102.5, "v": 17.0},
            {"n": "urn:dev:1:door", "u": "/", "t": 100.5, "vb": true},
            {"n": "x", "u": "Cel", "t": 100.5, "v": 7.0},
        ]);
        assert_eq!(resolved(pack), Some(expected));
    }

    #[test]
    fn what_is_no_pack_is_not_taken_for_one() {
        for array in [
            json!([]),
            json!([1, 2]),
            json!([{"n": "a", "v": "21"}]),
            json!([{"n": 1, "v": 21}]),
            json!([{"v": 21}]),
            json!([{"n": "a", "v": 21, "vs": "21"}]),
            json!([{"n": "a", "v": 21, "must_": 1}]),
            json!([{"bn": "a"}]),
            json!([{"n": "a", "v": 21}, 3]),
            json!([{"n": "a", "bv": 1.7e308, "v": 1.7e308}]),
        ] {
            assert_eq!(resolved(array.clone()), None, "{array}");
        }
    }

    #[test]
    fn a_record_is_a_number_under_its_whole_name() {
        let pack = vec![json!({"bn": "a/", "n": "t", "v": 1}), json!({"n": "s", "vs": "1"})];
        let records = resolve(pack).unwrap();
        assert_eq!(number(&records[0], "a/t"), Some(1.0));
        assert_eq!(number(&records[0], "t"), None);
        assert_eq!(number(&records[1], "a/s"), None);
    }
}
