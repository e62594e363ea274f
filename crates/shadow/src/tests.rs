//! The RFC's own table, the laws of patches, and who sees what.

use crate::patch::{depth, size};
use crate::{
    Audience, Desire, MAX_BYTES, MAX_DEPTH, Refused, Shadow, Sight, Viewer, difference, merge, parse_report,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A viewer of some channels.
struct Eyes {
    id: &'static str,
    reads: &'static [&'static str],
    commands: &'static [&'static str],
}

impl Viewer for Eyes {
    fn id(&self) -> &str {
        self.id
    }

    fn reads(&self, channel: &str) -> bool {
        self.reads.contains(&channel)
    }

    fn commands(&self, channel: &str) -> bool {
        self.commands.contains(&channel)
    }
}

const DEVICE: Eyes = Eyes { id: "device", reads: &[], commands: &["h", "fan", "w"] };
const APP: Eyes = Eyes { id: "app", reads: &["t", "h"], commands: &["h", "fan"] };
const OTHER: Eyes = Eyes { id: "other", reads: &["u", "t"], commands: &["w", "h"] };
const EYES: [Eyes; 3] = [DEVICE, APP, OTHER];

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("not an object: {other}"),
    }
}

/// APP and OTHER by their grants, both raw.
fn audience(channel: &str) -> Audience {
    let ids = |may: fn(&Eyes, &str) -> bool| {
        [APP, OTHER].iter().filter(|eyes| may(eyes, channel)).map(|eyes| eyes.id.into()).collect()
    };
    Audience {
        raw: ids(|eyes, channel| eyes.reads(channel)),
        viewed: Vec::new(),
        commanders: ids(|eyes, channel| eyes.commands(channel)),
    }
}

fn blind(_: &str, _: &str, _: &Value) -> Sight {
    Sight::Nothing
}

fn report(shadow: &mut Shadow, patch: Value) {
    shadow.report(&object(patch), audience, blind).expect("it fits");
}

fn desire(shadow: &mut Shadow, writer: &Eyes, patch: Value) -> Result<bool, Refused> {
    let desire = Desire::parse(patch.to_string().as_bytes())?;
    shadow.desire(&desire, writer, &EYES)
}

fn document(shadow: &Shadow, viewer: &Eyes) -> Value {
    serde_json::from_slice(&shadow.document(viewer)).expect("JSON")
}

fn delta(shadow: &Shadow) -> Value {
    serde_json::from_slice(&shadow.delta()).expect("JSON")
}

#[test]
fn the_rfcs_own_examples() {
    let table = [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
        (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
        (r#"{"a":"foo"}"#, "null", "null"),
        (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
        ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
    ];
    for (original, patch, result) in table {
        let parse = |text| serde_json::from_str::<Value>(text).expect("JSON");
        let mut target = parse(original);
        merge(&mut target, &parse(patch));
        assert_eq!(target, parse(result), "{original} with {patch}");
    }
    // The example of §3.
    let mut target = json!({"title": "Goodbye!", "author": {"givenName": "John", "familyName": "Doe"},
        "tags": ["example", "sample"], "content": "This will be unchanged"});
    let patch = json!({"title": "Hello!", "phoneNumber": "+01-123-456-7890", "author": {"familyName": null},
        "tags": ["example"]});
    merge(&mut target, &patch);
    let expected = json!({"title": "Hello!", "author": {"givenName": "John"}, "tags": ["example"],
        "content": "This will be unchanged", "phoneNumber": "+01-123-456-7890"});
    assert_eq!(target, expected);
}

#[test]
fn patches_of_desired_state_are_read_in_both_forms() {
    let plain = Desire::parse(br#" {"h": "on", "$version": 4} "#).expect("a patch");
    assert_eq!((plain.members, plain.expected), (object(json!({"h": "on"})), Some(4)));
    let wrapped = Desire::parse(br#"{"desired":{"h":null}}"#).expect("a patch");
    assert_eq!((wrapped.members, wrapped.expected), (object(json!({"h": null})), None));
    let channel = Desire::parse(br#"{"desired":{"h":1},"x":2}"#).expect("a patch");
    assert_eq!(channel.members.len(), 2, "with another member beside it, it is a channel");
    for bad in ["", "[]", "1", "{", r#"{"$version":-1}"#, r#"{"$version":"1"}"#, "{\"a\":1}x", "\u{7f}"] {
        assert_eq!(Desire::parse(bad.as_bytes()), Err(Refused::Malformed), "{bad}");
    }
    assert_eq!(parse_report(b"null"), Err(Refused::Malformed));
}

#[test]
fn depth_and_size_have_limits() {
    let nested = |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
    assert!(parse_report(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert_eq!(parse_report(nested(MAX_DEPTH + 1).as_bytes()), Err(Refused::TooDeep));
    assert_eq!(parse_report(nested(1_000).as_bytes()), Err(Refused::TooDeep));
    let wrapped = format!(r#"{{"desired":{}}}"#, nested(MAX_DEPTH));
    assert!(Desire::parse(wrapped.as_bytes()).is_ok(), "the wrapping does not count");
    assert!(parse_report(br#"{"a":"[[[[[[[[[[[[[[[[[[[[[[\"[["}"#).is_ok(), "strings have no depth");
    let long = |length: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(length - 8));
    assert!(parse_report(long(MAX_BYTES).as_bytes()).is_ok());
    assert_eq!(parse_report(long(MAX_BYTES + 1).as_bytes()), Err(Refused::TooLarge));
    assert_eq!(parse_report(&[b' '; 3 * MAX_BYTES]), Err(Refused::TooLarge));

    let mut shadow = Shadow::default();
    let half = "x".repeat(MAX_BYTES / 2);
    assert_eq!(desire(&mut shadow, &APP, json!({"h": half})), Ok(true));
    let before = shadow.clone();
    assert_eq!(desire(&mut shadow, &APP, json!({"fan": half, "h": {"more": 1}})), Ok(true));
    assert_eq!(desire(&mut shadow, &APP, json!({"h": half})), Err(Refused::TooLarge), "all or nothing");
    assert_ne!(shadow, before);
    report(&mut shadow, json!({"t": half}));
    let before = shadow.clone();
    let more = object(json!({"u": half, "t": 1, "h": half}));
    assert_eq!(shadow.report(&more, audience, blind), Err(Refused::TooLarge));
    assert_eq!(shadow, before);
    let nobodys = object(json!({"x": "x".repeat(6_000), "t": half}));
    assert_eq!(shadow.report(&nobodys, audience, blind), Ok(false), "what is not kept does not count");
}

#[test]
fn a_difference_is_what_is_left_to_do() {
    for (wanted, actual, left) in [
        (json!("on"), None, Some(json!("on"))),
        (json!(20), Some(json!(20.0)), None),
        (json!([1, {"a": 2}]), Some(json!([1.0, {"a": 2.0}])), None),
        (json!([1, 2]), Some(json!([1])), Some(json!([1, 2]))),
        (
            json!({"a": 1, "b": {"c": 2, "d": 3}}),
            Some(json!({"a": 1, "b": {"c": 2}, "z": 0})),
            Some(json!({"b": {"d": 3}})),
        ),
        (json!({}), Some(json!(1)), Some(json!({}))),
        (json!({}), Some(json!({"z": 1})), None),
        (
            json!(9_007_199_254_740_993_u64),
            Some(json!(9_007_199_254_740_992_u64)),
            Some(json!(9_007_199_254_740_993_u64)),
        ),
    ] {
        assert_eq!(difference(&wanted, actual.as_ref()), left, "{wanted} {actual:?}");
    }
}

#[test]
fn each_sees_its_own_and_counts_its_own() {
    let mut shadow = Shadow::default();
    report(&mut shadow, json!({"t": 21.5, "u": 3, "h": "off", "secret": 1}));
    assert_eq!(desire(&mut shadow, &APP, json!({"h": "on", "fan": 2})), Ok(true));
    assert_eq!(desire(&mut shadow, &OTHER, json!({"w": true})), Ok(true));
    assert_eq!(
        document(&shadow, &APP),
        json!({"version": 2, "reported": {"t": 21.5, "h": "off"}, "desired": {"h": "on", "fan": 2},
            "delta": {"h": "on", "fan": 2}})
    );
    assert_eq!(
        document(&shadow, &OTHER),
        json!({"version": 2, "reported": {"t": 21.5, "u": 3}, "desired": {"h": "on", "w": true},
            "delta": {"h": "on", "w": true}})
    );
    assert_eq!((delta(&shadow), shadow.version("device")), (json!({"h": "on", "fan": 2, "w": true}), 3));
    report(&mut shadow, json!({"h": "on", "fan": 2.0, "t": null}));
    assert_eq!(delta(&shadow), json!({"w": true}));
    assert_eq!(document(&shadow, &APP)["delta"], json!({}));
    assert_eq!(document(&shadow, &APP)["reported"], json!({"h": "on"}), "fan is kept for the delta only");
    assert_eq!(shadow.version("app"), 2, "reports do not count");
    assert_eq!(desire(&mut shadow, &APP, json!({"h": "on"})), Ok(false), "nothing has changed");
    assert_eq!(desire(&mut shadow, &OTHER, json!({"h": "on"})), Ok(true), "but who desires it has");
    assert_eq!(shadow.version("app"), 2);
}

#[test]
fn compare_and_set() {
    let mut shadow = Shadow::default();
    assert_eq!(desire(&mut shadow, &APP, json!({"$version": 0, "h": 1})), Ok(true));
    assert_eq!(desire(&mut shadow, &OTHER, json!({"$version": 0, "h": 2})), Err(Refused::Conflict));
    assert_eq!(desire(&mut shadow, &OTHER, json!({"w": 2})), Ok(true));
    assert_eq!(desire(&mut shadow, &APP, json!({"$version": 1, "h": 3})), Ok(true), "w is not for it to see");
    assert_eq!(desire(&mut shadow, &APP, json!({"h": 3, "w": 3})), Err(Refused::NotAllowed));
    assert_eq!(desire(&mut shadow, &OTHER, json!({"$version": 3, "h": null})), Ok(true));
    assert_eq!(delta(&shadow), json!({"w": 2}));
}

#[test]
fn a_later_reader_sees_only_later_reports() {
    let mut shadow = Shadow::default();
    let only = |ids: &'static [&'static str]| {
        move |_: &str| Audience { raw: ids.iter().map(|id| (*id).into()).collect(), ..Audience::default() }
    };
    let first = object(json!({"t": {"a": 1}, "u": 1}));
    assert_eq!(shadow.report(&first, only(&["app"]), blind), Ok(true));
    let second = object(json!({"t": {"b": 2}}));
    assert_eq!(shadow.report(&second, only(&["app", "other"]), blind), Ok(true));
    assert_eq!(document(&shadow, &APP)["reported"], json!({"t": {"a": 1, "b": 2}}));
    assert_eq!(document(&shadow, &OTHER)["reported"], json!({"t": {"b": 2}}));
    let third = object(json!({"t": 3}));
    assert_eq!(shadow.report(&third, only(&["app", "other"]), blind), Ok(true));
    assert_eq!(document(&shadow, &OTHER)["reported"], json!({"t": 3}));
    assert!(shadow.own.is_empty(), "what is the same is kept once");
    assert_eq!(shadow.report(&object(json!({"t": 4, "u": 4})), only(&[]), blind), Ok(true));
    assert!(shadow.is_empty(), "an old value is not left for a new one that nobody may see");
}

#[test]
fn a_lens_has_its_own_version() {
    let mut shadow = Shadow::default();
    let viewed = |_: &str| Audience { viewed: vec!["app".into()], ..Audience::default() };
    let rounded = |_: &str, _: &str, value: &Value| match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, _)| *name != "secret");
            Sight::Instead(Value::Object(kept.map(|(name, _)| (name.clone(), json!(0))).collect()))
        }
        Value::Number(number) if number.as_i64() > Some(9) => Sight::Whole,
        _ => Sight::Nothing,
    };
    let patch = object(json!({"t": {"a": 1, "secret": 2}, "h": 5}));
    assert_eq!(shadow.report(&patch, viewed, rounded), Ok(true));
    assert!(shadow.reported.is_empty(), "nobody may see it raw");
    assert_eq!(document(&shadow, &APP)["reported"], json!({"t": {"a": 0}}));
    let patch = object(json!({"t": {"b": 1, "a": null, "secret": {"x": null}}, "h": 10}));
    assert_eq!(shadow.report(&patch, viewed, rounded), Ok(true));
    assert_eq!(document(&shadow, &APP)["reported"], json!({"t": {"b": 0}, "h": 10}));
    assert!(shadow.set_own("app", "t", json!({"mean": 1})));
    assert!(!shadow.set_own("app", "h", json!("x".repeat(MAX_BYTES))), "what is too long is not shown");
    assert_eq!(document(&shadow, &APP)["reported"], json!({"t": {"mean": 1}}));
    assert_eq!(shadow.report(&object(json!({"t": null})), viewed, rounded), Ok(true));
    assert!(shadow.is_empty());
}

#[test]
fn what_lost_its_grant_goes() {
    let mut shadow = Shadow::default();
    report(&mut shadow, json!({"t": 1, "u": 2, "h": "on", "w": 1}));
    desire(&mut shadow, &APP, json!({"h": {"a": 1}, "fan": 1})).expect("allowed");
    desire(&mut shadow, &OTHER, json!({"h": {"b": 1}, "w": 1})).expect("allowed");
    let commands = |id: &str, channel: &str| EYES.iter().any(|eyes| eyes.id == id && eyes.commands(channel));
    let reads = |id: &str, channel: &str| EYES.iter().any(|eyes| eyes.id == id && eyes.reads(channel));
    let before = shadow.clone();
    shadow.refilter(&["device", "app", "other"], commands, commands, reads);
    assert_eq!(shadow, before, "nothing is lost if nothing changed");
    // The app's grant ends: its part in `h` cannot be told from the other's.
    let without = |id: &str, channel: &str| id != "app" && commands(id, channel);
    shadow.refilter(&["device", "other"], commands, without, |id, channel| id != "app" && reads(id, channel));
    assert_eq!(delta(&shadow), json!({}));
    assert_eq!(
        document(&shadow, &OTHER),
        json!({"version": 4, "reported": {"t": 1, "u": 2}, "desired": {"w": 1}, "delta": {}})
    );
    assert_eq!((shadow.version("device"), shadow.version("app")), (6, 0));
    let mut stored = Vec::new();
    shadow.write(&mut stored);
    assert!(!String::from_utf8_lossy(&stored).contains("app"), "nothing is left of it");
    // The other's reading ends, the commanding stays.
    shadow.refilter(&["device", "other"], without, without, |_, _| false);
    assert_eq!(document(&shadow, &OTHER)["reported"], json!({}));
    assert_eq!(shadow.reported.keys().map(|channel| &**channel).collect::<Vec<_>>(), ["h", "w"]);
    shadow.refilter(&["device"], without, |id, _| id == "device", |_, _| false);
    assert!(shadow.reported.is_empty() && shadow.desired.is_empty());
}

/// JSON of the sizes that patches have, with nulls.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..3i64).prop_map(Value::from),
        "[ab\"\\\\é]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[abc]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn channel_patch() -> impl Strategy<Value = Value> {
    let channel = prop::sample::select(&["t", "u", "h", "fan", "w", "secret"][..]).prop_map(String::from);
    prop::collection::btree_map(channel, json_value(), 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn without_nulls(value: Value) -> Value {
    let mut clean = Value::Null;
    merge(&mut clean, &value);
    clean
}

proptest! {
    #[test]
    fn a_patch_once_applied_changes_nothing_more(mut target in json_value(), patch in json_value()) {
        merge(&mut target, &patch);
        let once = target.clone();
        merge(&mut target, &patch);
        prop_assert_eq!(target, once);
    }

    #[test]
    fn what_a_patch_says_is_so_afterwards(target in json_value(), one in json_value(), two in json_value()) {
        let (mut after, mut untouched) = (target.clone(), target);
        merge(&mut after, &one);
        merge(&mut after, &two);
        prop_assert_eq!(difference(&without_nulls(two.clone()), Some(&after)), None);
        // What replaces everything leaves nothing of what was before.
        if !two.is_object() {
            merge(&mut untouched, &two);
            prop_assert_eq!(after, untouched);
        }
    }

    #[test]
    fn a_difference_makes_good(wanted in json_value(), actual in json_value()) {
        let (wanted, actual) = (without_nulls(wanted), without_nulls(actual));
        let mut made = actual.clone();
        if let Some(left) = difference(&wanted, Some(&actual)) {
            merge(&mut made, &left);
        }
        prop_assert_eq!(difference(&wanted, Some(&made)), None);
        prop_assert_eq!(difference(&wanted, Some(&wanted)), None);
    }

    #[test]
    fn the_size_is_the_size(members in channel_patch()) {
        let members = object(members);
        let length = serde_json::to_string(&members).expect("JSON").len();
        prop_assert_eq!(size(members.iter().map(|(name, value)| (name.as_str(), value))), length);
        prop_assert_eq!(depth(&Value::Object(members.clone())) <= MAX_DEPTH,
            parse_report(Value::Object(members).to_string().as_bytes()).is_ok());
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), json in "[\\[\\]{}\",:0-9a$nul\\\\ ]{0,60}") {
        for payload in [&bytes[..], json.as_bytes()] {
            let _any = (Desire::parse(payload), parse_report(payload), Shadow::read(payload));
        }
    }

    #[test]
    fn a_version_changes_if_and_only_if_something_visible_did(
        steps in prop::collection::vec((0..4usize, channel_patch()), 1..20),
    ) {
        let mut shadow = Shadow::default();
        for (step, patch) in steps {
            let before = shadow.clone();
            match step {
                0 => {
                    let changed = shadow.report(&object(patch), audience, blind);
                    prop_assert_eq!(changed, Ok(shadow != before));
                }
                1 | 2 => {
                    let writer = [&APP, &OTHER][step - 1];
                    let members = object(patch);
                    let allowed = members.keys().all(|channel| writer.commands(channel));
                    let result = desire(&mut shadow, writer, Value::Object(members));
                    prop_assert_eq!(result.is_ok(), allowed);
                    prop_assert_eq!(result.unwrap_or(false), shadow != before);
                }
                _ => {
                    let commands = |id: &str, channel: &str| {
                        EYES.iter().any(|eyes| eyes.id == id && eyes.commands(channel))
                    };
                    let narrowed = |id: &str, channel: &str| channel != "h" && commands(id, channel);
                    shadow.refilter(&["device", "app", "other"], commands, narrowed, |_, _| true);
                    for viewer in &EYES {
                        let old: Vec<_> = before.desired.iter()
                            .filter(|(channel, _)| viewer.commands(channel))
                            .map(|(channel, wanted)| (channel, &wanted.value)).collect();
                        let new: Vec<_> = shadow.desired.iter()
                            .filter(|(channel, _)| viewer.commands(channel))
                            .map(|(channel, wanted)| (channel, &wanted.value)).collect();
                        prop_assert_eq!(old != new, shadow.version(viewer.id) != before.version(viewer.id));
                    }
                    continue;
                }
            }
            for viewer in &EYES {
                let (old, new) = (document(&before, viewer), document(&shadow, viewer));
                prop_assert_eq!(old["desired"] != new["desired"], old["version"] != new["version"]);
                prop_assert!(new["version"].as_u64() >= old["version"].as_u64());
                for channel in new["reported"].as_object().into_iter().flat_map(Map::keys) {
                    prop_assert!(viewer.reads(channel));
                }
                for part in ["desired", "delta"] {
                    for channel in new[part].as_object().into_iter().flat_map(Map::keys) {
                        prop_assert!(viewer.commands(channel));
                    }
                }
            }
            let mut made = Value::Object(
                shadow.reported.iter().map(|(channel, known)| (channel.to_string(), known.value.clone())).collect(),
            );
            merge(&mut made, &delta(&shadow));
            let wanted = shadow.desired.iter().map(|(channel, known)| (channel.to_string(), known.value.clone()));
            prop_assert_eq!(difference(&Value::Object(wanted.collect()), Some(&made)), None);
            let mut stored = Vec::new();
            shadow.write(&mut stored);
            prop_assert_eq!(Shadow::read(&stored), Some(shadow.clone()));
            prop_assert_eq!(Shadow::read(&stored[..stored.len() - 1]), None);
        }
    }

    #[test]
    fn limits_hold(patches in prop::collection::vec(("[tuhw]", 0..3_000usize, "[ab]", any::<bool>()), 1..40)) {
        let mut shadow = Shadow::default();
        for (channel, length, name, wish) in patches {
            let patch = json!({channel: {name: "x".repeat(length)}});
            if wish {
                let _refused = desire(&mut shadow, &OTHER, patch);
            } else {
                let lens = |_: &str, _: &str, value: &Value| Sight::Instead(json!([value, value]));
                let viewed = |channel: &str| Audience { viewed: vec!["lens".into()], ..audience(channel) };
                let _refused = shadow.report(&object(patch), viewed, lens);
            }
            let reported = shadow.reported.iter().map(|(channel, known)| (&**channel, &known.value));
            let desired = shadow.desired.iter().map(|(channel, known)| (&**channel, &known.value));
            prop_assert!(size(reported) <= MAX_BYTES && size(desired) <= MAX_BYTES);
            for own in shadow.own.values() {
                prop_assert!(size(own.iter().map(|(channel, value)| (&**channel, value))) <= MAX_BYTES);
            }
        }
    }
}
