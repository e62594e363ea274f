//! What alarms and dashboard name: pages of the runbook, metrics, events. Read as text; what a name has to lead to is decided
//! elsewhere.

use super::markdown::At;

/// How the names of metrics begin.
const METRICS: [&str; 4] = ["didp_", "ignite_", "oauthing_", "process_"];
/// What a histogram's parts are called behind its name.
const PARTS: [&str; 3] = ["_bucket", "_count", "_sum"];
/// How a selector of events goes on.
const SELECTORS: [&str; 4] = ["=\"", "!=\"", "=~\"", "!~\""];

/// What stands behind `key` on lines of their own: `- alert: NAME`, `runbook: PAGE#HEADING`.
pub(crate) fn values<'t>(text: &'t str, key: &str) -> Vec<At<&'t str>> {
    let value = |line: &'t str| {
        line.trim_start().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(": ").map(str::trim)
    };
    lines(text).filter_map(|At { line, what }| Some(At { line, what: value(what)? })).collect()
}

/// The metrics that are named, by the name that the source knows.
pub(crate) fn metrics(text: &str) -> Vec<At<&str>> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    lines(text)
        .flat_map(|At { line, what }| what.split(move |c: char| !word(c)).map(move |what| At { line, what }))
        .filter(|at| METRICS.iter().any(|begin| at.what.len() > begin.len() && at.what.starts_with(begin)))
        .map(|At { line, what }| At {
            line,
            what: PARTS.iter().find_map(|part| what.strip_suffix(part)).unwrap_or(what),
        })
        .collect()
}

/// The events that selectors name: `event="a"`, `event=~"a|b"`.
pub(crate) fn events(text: &str) -> Vec<At<&str>> {
    let selected = |rest: &'_ str| -> Option<usize> {
        SELECTORS.iter().find(|begin| rest.starts_with(**begin)).map(|begin| begin.len())
    };
    let mut found = Vec::new();
    for At { line, what } in lines(text) {
        for (at, key) in what.match_indices("event") {
            let rest = &what[at + key.len()..];
            let Some(begin) = selected(rest) else { continue };
            let names = rest[begin..].split('"').next().unwrap_or_default();
            found.extend(names.split('|').map(|what| At { line, what }));
        }
    }
    found
}

fn lines(text: &str) -> impl Iterator<Item = At<&str>> {
    text.lines().enumerate().map(|(index, what)| At { line: index + 1, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats<'t>(found: &[At<&'t str>]) -> Vec<&'t str> {
        found.iter().map(|at| at.what).collect()
    }

    #[test]
    fn names_are_found_where_they_stand() {
        let text = "\n  - alert: Down\n    expr: rate(ignite_x_seconds_bucket{event=~\"a|b\",y!=\"c\"}[5m]) > up\n    runbook: docs/r.md#down\n  # event!~\"d\" by (event)\n";
        assert_eq!(values(text, "alert"), [At { line: 2, what: "Down" }]);
        assert_eq!(values(text, "runbook"), [At { line: 4, what: "docs/r.md#down" }]);
        assert_eq!(metrics(text), [At { line: 3, what: "ignite_x_seconds" }]);
        assert_eq!(whats(&events(text)), ["a", "b", "d"]);
    }
}
