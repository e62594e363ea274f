//! What the checks need of Rust sources: names of tests, and the events of the log with their levels. Read as text: the sources are
//! formatted by rustfmt, so that an attribute stands on a line of its own and a macro's name beside its bracket.

use std::collections::BTreeSet;

/// An event as the source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) line: usize,
    pub(crate) name: String,
    /// `error`, `warn`, `info`, `debug` or `trace`; `cause` if what happened decides; empty if no such macro stands before it.
    pub(crate) level: &'static str,
}

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// Names of functions that an attribute makes a test of.
pub(crate) fn test_names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.contains("::test]") || line.contains("::test(");
            continue;
        }
        // Comments may stand between the attribute and its function.
        if line.starts_with("//") {
            continue;
        }
        let function = line.trim_start_matches("pub ").trim_start_matches("async ").strip_prefix("fn ");
        if let Some(rest) = function.filter(|_| is_test) {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            names.insert(rest[..end].to_owned());
        }
        is_test = false;
    }
    names
}

/// Every `event = "…"` with the level of the macro that it stands in, and every `.log("…")`, whose level is its cause's. Unit tests,
/// which stand at the end of a file, are left out; a module of tests that is another file leaves the rest of this one.
pub(crate) fn events(text: &str) -> Vec<Event> {
    const TESTS: &str = "\n#[cfg(test)]\nmod ";
    let stands_here =
        |at: &usize| text[at + TESTS.len()..].lines().next().is_some_and(|line| line.contains('{'));
    let end = text.match_indices(TESTS).map(|(at, _)| at).find(stands_here);
    let text = &text[..end.unwrap_or(text.len())];
    let level = |at: usize| {
        let last = |level: &'static str| text[..at].rfind(&format!("{level}!(")).map(|at| (at, level));
        LEVELS.into_iter().filter_map(last).max().map_or("", |(_, level)| level)
    };
    let named = text.match_indices("event = \"").map(|(at, mark)| (at + mark.len(), level(at)));
    let caused = text.match_indices(".log(\"").map(|(at, mark)| (at + mark.len(), "cause"));
    let found = named.chain(caused).map(|(at, level)| Event {
        line: text[..at].matches('\n').count() + 1,
        name: text[at..].split('"').next().unwrap_or_default().to_owned(),
        level,
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_attribute_makes_a_test_is_one() {
        let text = "#[test]\nfn one() {}\nfn no() {}\n#[tokio::test(flavor = \"x\")]\n#[ignore]\n// why\nasync fn two() {}\n";
        assert_eq!(test_names(text), ["one", "two"].map(str::to_owned).into());
    }

    #[test]
    fn an_event_has_the_level_of_its_own_macro() {
        let text = "\n#[cfg(test)]\nmod elsewhere;\ntracing::info!(event = \"a\");\nwarn!(\n  event = \"b c\",\n  x,\n);\nerror.log(\"d\");\n\n#[cfg(test)]\nmod tests { info!(event = \"no\"); }";
        let expected = [(4, "a", "info"), (6, "b c", "warn"), (9, "d", "cause")];
        let found: Vec<_> = events(text);
        for (event, (line, name, level)) in found.iter().zip(expected) {
            assert_eq!((event.line, event.name.as_str(), event.level), (line, name, level));
        }
        assert_eq!(found.len(), expected.len());
    }
}
