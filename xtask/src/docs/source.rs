//! What the checks need of Rust sources: names of tests, and the events of the log with their levels. Read as text: the sources are
//! formatted by rustfmt, so that an attribute stands on a line of its own and a macro's name beside its bracket.

use std::collections::BTreeSet;

/// An event as the source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) line: usize,
    pub(crate) name: String,
    /// `error`, `warn`, `info`, `debug` or `trace`; empty if no such macro stands before it.
    pub(crate) level: String,
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

/// Every `event = "…"` and the level of the macro that it stands in.
pub(crate) fn events(text: &str) -> Vec<Event> {
    const MARK: &str = "event = \"";
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find(MARK).map(|at| from + at) {
        let begin = at + MARK.len();
        let end = text[begin..].find('"').map_or(text.len(), |end| begin + end);
        let before = &text[..at];
        let level = LEVELS
            .into_iter()
            .filter_map(|level| before.rfind(&format!("{level}!(")).map(|at| (at, level)))
            .max()
            .map_or("", |(_, level)| level);
        found.push(Event {
            line: before.matches('\n').count() + 1,
            name: text[begin..end].to_owned(),
            level: level.to_owned(),
        });
        from = end;
    }
    found
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
        let text = "tracing::info!(event = \"a\");\nwarn!(\n  event = \"b c\",\n  x,\n);\n";
        let expected = [(1, "a", "info"), (3, "b c", "warn")];
        let found: Vec<_> = events(text);
        for (event, (line, name, level)) in found.iter().zip(expected) {
            assert_eq!((event.line, event.name.as_str(), event.level.as_str()), (line, name, level));
        }
        assert_eq!(found.len(), expected.len());
    }
}
