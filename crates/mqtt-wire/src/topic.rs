//! Topic names and filters (§4.7), shared subscriptions (§4.8.2).
//!
//! Leaves to others who may use which topic.

/// Longest topic name or filter in bytes (§4.7.3).
pub const MAX_LEN: usize = 65_535;

/// Whether `topic` can be published to: 1 to 65,535 bytes, no wildcard, no U+0000.
pub fn is_valid_name(topic: &str) -> bool {
    !topic.is_empty() && topic.len() <= MAX_LEN && !topic.bytes().any(|byte| matches!(byte, b'+' | b'#' | 0))
}

/// Whether `filter` can be subscribed to: 1 to 65,535 bytes, wildcards alone in their level and `#` only in the last
/// one, no U+0000. What begins with `$share/` must be a well-formed shared subscription.
pub fn is_valid_filter(filter: &str) -> bool {
    if filter.len() > MAX_LEN {
        return false;
    }
    match share_prefix(filter) {
        None => is_valid_plain(filter),
        Some(_) => split_shared(filter).is_some_and(|(_, inner)| is_valid_plain(inner)),
    }
}

fn is_valid_plain(filter: &str) -> bool {
    if filter.is_empty() || filter.as_bytes().contains(&0) {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let last = levels.peek().is_none();
        let wildcard = level.bytes().any(|byte| matches!(byte, b'+' | b'#'));
        let allowed = !wildcard || level == "+" || (level == "#" && last);
        if !allowed {
            return false;
        }
    }
    true
}

/// What follows `$share/`, or nothing for the bare `$share`; `None` if the filter is an ordinary one.
pub(crate) fn share_prefix(filter: &str) -> Option<&str> {
    match filter.strip_prefix("$share")? {
        "" => Some(""),
        rest => rest.strip_prefix('/'),
    }
}

/// Group and inner filter of `$share/<group>/<filter>`; `None` for an ordinary filter, or if the group is empty or has
/// wildcards, or the filter is empty. The inner filter's wildcards are not checked.
pub fn split_shared(filter: &str) -> Option<(&str, &str)> {
    let (group, inner) = share_prefix(filter)?.split_once('/')?;
    let group_valid = !group.is_empty() && !group.bytes().any(|byte| matches!(byte, b'+' | b'#'));
    (group_valid && !inner.is_empty()).then_some((group, inner))
}

/// Whether a topic name is covered by a filter (not a shared one; see [`split_shared`]).
///
/// A filter that begins with a wildcard does not match topics that begin with `$` (§4.7.2).
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = topic.split('/');
    let mut levels = filter.split('/');
    loop {
        match (levels.next(), names.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(name)) if level == name => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{is_valid_filter, is_valid_name, matches, split_shared};

    #[test]
    fn names_have_no_wildcards() {
        for good in ["a", "/", "a/b", "/a", "a/", "$SYS/x", "a b", "ä/ö"] {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", "+", "#", "a/+", "a#", "a\0b"] {
            assert!(!is_valid_name(bad), "{bad}");
        }
        assert!(is_valid_name(&"x".repeat(65_535)));
        assert!(!is_valid_name(&"x".repeat(65_536)));
    }

    #[test]
    fn filters_keep_wildcards_alone_in_their_level() {
        for good in [
            "#",
            "+",
            "a/#",
            "a/+/b",
            "+/+",
            "/",
            "//",
            "/#",
            "$share/g/a",
            "$share/g//",
            "$share/g/#",
            "$shared/x",
        ] {
            assert!(is_valid_filter(good), "{good}");
        }
        for bad in [
            "",
            "a#",
            "#/a",
            "a+",
            "a/+b",
            "a/#/b",
            "$share",
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/+/a",
            "$share/g/a#",
        ] {
            assert!(!is_valid_filter(bad), "{bad}");
        }
    }

    #[test]
    fn shared_filters_split() {
        assert_eq!(split_shared("$share/g/a/b"), Some(("g", "a/b")));
        assert_eq!(split_shared("$share/g//"), Some(("g", "/")));
        assert_eq!(split_shared("a/b"), None);
        assert_eq!(split_shared("$share/g"), None);
    }

    #[test]
    fn matching_follows_section_4_7() {
        let cases = [
            ("sport/#", "sport", true),
            ("sport/#", "sport/a/b", true),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("sport/+", "sport/a/b", false),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/a", false),
            ("+/a", "$SYS/a", false),
            ("$SYS/#", "$SYS/a", true),
            ("a", "a/b", false),
            ("a/b", "a", false),
            ("A", "a", false),
        ];
        for (filter, topic, expected) in cases {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }
}
