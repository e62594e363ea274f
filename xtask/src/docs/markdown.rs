//! What the checks need of Markdown: links, headings as anchors, words in backticks, quoted files. Pure text in, text out; no
//! HTML, no reference links: the pages of this repository use neither.

/// A piece of a page, and the line that it begins on, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) line: usize,
    pub(crate) what: T,
}

/// A fenced block that is announced as a copy of a file: `<!-- file: PATH -->` on the line before its fence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Quoted {
    pub(crate) path: String,
    /// What stands between the fences; `None` if no fence follows.
    pub(crate) text: Option<String>,
}

/// Lines outside fenced blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = At<&str>> {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        match (fence, opening(line)) {
            (None, Some(mark)) => fence = Some(mark),
            (None, None) => return Some(At { line: index + 1, what: line }),
            (Some(open), Some(mark)) if mark == open && line.trim() == mark => fence = None,
            (Some(_), _) => {}
        }
        None
    })
}

/// The mark of a fence that `line` is.
fn opening(line: &str) -> Option<&'static str> {
    ["```", "~~~"].into_iter().find(|mark| line.trim_start().starts_with(mark))
}

/// What stands in backticks in a line, without them, and the line with these parts blanked out.
fn code_and_rest(line: &str) -> (Vec<&str>, String) {
    let mut code = Vec::new();
    let mut rest = String::with_capacity(line.len());
    let mut left = line;
    while let Some(start) = left.find('`') {
        let ticks = left[start..].bytes().take_while(|byte| *byte == b'`').count();
        let (before, opened) = (&left[..start], &left[start + ticks..]);
        let Some(end) = opened.find(&left[start..start + ticks]) else { break };
        rest.push_str(before);
        // Something must stay, or `[`name`](page)` would lose its text and `a`b` its border.
        rest.push('\u{1}');
        code.push(opened[..end].trim());
        left = &opened[end + ticks..];
    }
    rest.push_str(left);
    (code, rest)
}

/// Everything in backticks, fenced blocks left out.
pub(crate) fn code(text: &str) -> Vec<At<&str>> {
    let spans = prose(text)
        .flat_map(|At { line, what }| code_and_rest(what).0.into_iter().map(move |what| At { line, what }));
    spans.collect()
}

/// Targets of inline links and images, code left out.
pub(crate) fn links(text: &str) -> Vec<At<String>> {
    let mut found = Vec::new();
    for At { line, what } in prose(text) {
        let (_, rest) = code_and_rest(what);
        let mut left = rest.as_str();
        while let Some(start) = left.find("](") {
            left = &left[start + 2..];
            let Some(end) = left.find(')') else { break };
            // A title may follow the target.
            let target = left[..end].split_whitespace().next().unwrap_or_default();
            found.push(At { line, what: target.trim_matches(['<', '>']).to_owned() });
            left = &left[end + 1..];
        }
    }
    found
}

/// The anchors of a page's headings, as GitHub and mdBook make them: repeated ones get `-1`, `-2`.
pub(crate) fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for At { what, .. } in prose(text) {
        let level = what.bytes().take_while(|byte| *byte == b'#').count();
        let Some(title) = what[level..].strip_prefix(' ').filter(|_| (1..=6).contains(&level)) else {
            continue;
        };
        let slug = slug(title);
        let before = anchors
            .iter()
            .filter(|other| other.strip_prefix(&slug).is_some_and(|rest| rest.is_empty() || is_repeat(rest)))
            .count();
        anchors.push(if before == 0 { slug } else { format!("{slug}-{before}") });
    }
    anchors
}

fn is_repeat(rest: &str) -> bool {
    rest.strip_prefix('-').is_some_and(|number| number.parse::<u32>().is_ok())
}

fn slug(title: &str) -> String {
    // Of a link in a heading its text counts.
    let mut plain = String::new();
    let mut left = title;
    while let Some(start) = left.find("](") {
        plain.push_str(&left[..start]);
        left = left[start..].split_once(')').map_or("", |(_, rest)| rest);
    }
    plain.push_str(left);
    let kept = plain.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).flat_map(char::to_lowercase).collect()
}

/// Blocks that say which file they are a copy of.
pub(crate) fn quoted(text: &str) -> Vec<At<Quoted>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(path) = line.trim().strip_prefix("<!-- file: ").and_then(|rest| rest.strip_suffix(" -->"))
        else {
            continue;
        };
        let body = lines.get(index + 1).and_then(|next| opening(next)).and_then(|mark| {
            let inside = &lines[index + 2..];
            let end = inside.iter().position(|line| line.trim() == mark)?;
            Some(inside[..end].join("\n"))
        });
        found.push(At { line: index + 1, what: Quoted { path: path.to_owned(), text: body } });
    }
    found
}

/// Rows of tables: cells without the white space around them. A bar in backticks does not part cells.
pub(crate) fn rows(text: &str) -> Vec<At<Vec<String>>> {
    let mut rows = Vec::new();
    for At { line, what } in prose(text) {
        let Some(inside) = what.trim().strip_prefix('|').and_then(|rest| rest.strip_suffix('|')) else {
            continue;
        };
        let mut cells = vec![String::new()];
        let mut in_code = false;
        for c in inside.chars() {
            in_code ^= c == '`';
            if c == '|' && !in_code {
                cells.push(String::new());
            } else if let Some(cell) = cells.last_mut() {
                cell.push(c);
            }
        }
        let what = cells.into_iter().map(|cell| cell.trim().to_owned()).collect();
        rows.push(At { line, what });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_but_not_in_code() {
        let text = "[a](b.md) ![c](d.png \"title\")\n`[no](no.md)`\n```\n[no](no.md)\n```\n[`e`](f.md#g) [h](<i.md>)\n";
        let found: Vec<_> = links(text).into_iter().map(|at| (at.line, at.what)).collect();
        let expected = [(1, "b.md"), (1, "d.png"), (6, "f.md#g"), (6, "i.md")];
        assert_eq!(found, expected.map(|(line, target)| (line, target.to_owned())));
    }

    #[test]
    fn anchors_are_those_of_github() {
        let text = "# A `b_c` and (d)!\n## Who may know what\n```\n# not this\n```\n## 7.1 Limits\n## Twice\n## Twice\n## [x](y) z\n#hash\n";
        let expected = ["a-b_c-and-d", "who-may-know-what", "71-limits", "twice", "twice-1", "x-z"];
        assert_eq!(anchors(text), expected);
    }

    #[test]
    fn code_is_found_with_its_line() {
        let found: Vec<_> = code("`a` b `` c`d ``\n\n`e").into_iter().map(|at| (at.line, at.what)).collect();
        assert_eq!(found, [(1, "a"), (1, "c`d")]);
    }

    #[test]
    fn a_fence_ends_with_its_own_mark_only() {
        assert_eq!(code("~~~\n```\n`no`\n~~~\n`yes`\n").len(), 1);
    }

    #[test]
    fn quoted_files_come_with_their_text() {
        let text = "<!-- file: a/b.py -->\n```python\nx\n\ny\n```\n<!-- file: c -->\nno fence\n";
        let found = quoted(text);
        assert_eq!(found[0].what, Quoted { path: "a/b.py".to_owned(), text: Some("x\n\ny".to_owned()) });
        assert_eq!(found[1].what, Quoted { path: "c".to_owned(), text: None });
    }

    #[test]
    fn cells_are_parted_by_bars_outside_code() {
        assert_eq!(rows("| a | `b|c` | |\ntext\n")[0].what, ["a", "`b|c`", ""]);
    }
}
