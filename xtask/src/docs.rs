//! `cargo xtask docs`: what the pages say that can be checked without running anything.
//!
//! Relative links and anchors lead somewhere; files that pages name exist; tests that pages name exist and are tests; copies of
//! files are copies; every event of the log is described with its level; alarms and dashboard name metrics, events and pages of the runbook
//! that there are; the book's summary has every page. `alarms`, `markdown` and `source` read the text, this decides.

mod alarms;
mod markdown;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;

use self::markdown::At;
use self::source::Event;

/// Pages in which every name of four words or more in backticks is the name of a test.
const PROOFS: [&str; 5] =
    ["docs/threat-model.md", "docs/paper.md", "docs/gateway.md", "docs/runbook.md", "SECURITY.md"];

/// The page that describes the log.
const LOGGING: &str = "docs/logging.md";

/// The alarms, what else asks for metrics, and the page that says what to do. Its headings of alarms begin with the name of all.
const ALARMS: &str = "ops/prometheus/alerts.yml";
const ASKING: [&str; 3] = [ALARMS, "ops/prometheus/alerts.test.yml", "ops/grafana/oauthing.json"];
const RUNBOOK: &str = "docs/runbook.md";
const ALARM: &str = "oauthing";

/// Where the book's pages are, and its table of contents.
const BOOK: &str = "docs";
const SUMMARY: &str = "docs/SUMMARY.md";

/// Sources whose events are described. The load drivers and the harnesses log for their developers only.
const LOGGED: [&str; 6] = ["didp/src", "ignite/src", "pcm/src", "crates/service/src", "samples", "demo/src"];

/// Folders that hold nothing of the repository's own.
const FOREIGN: [&str; 3] = ["target", "node_modules", "artefacts"];

/// Something that is not so: where, and what.
struct Fault {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// A file's path below the root, with slashes, and its text.
type Texts = BTreeMap<String, String>;

/// Everything that the checks look at.
#[derive(Default)]
struct Tree {
    /// Every path below the root, folders too.
    paths: BTreeSet<String>,
    /// Pages.
    pages: Texts,
    /// Rust sources.
    sources: Texts,
    /// What asks for metrics.
    asking: Texts,
}

/// Checks everything and prints what is wrong.
///
/// # Errors
/// If anything is, or a file cannot be read.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let tree = Tree::read(root)?;
    let mut faults = Vec::new();
    links(&tree, &mut faults);
    named_files(&tree, &mut faults);
    named_tests(&tree, &mut faults);
    copies(&tree, root, &mut faults)?;
    events(&tree, &mut faults);
    alarms(&tree, &mut faults);
    summary(&tree, &mut faults);
    for fault in &faults {
        eprintln!("{fault}");
    }
    anyhow::ensure!(faults.is_empty(), "{} faults in the documents", faults.len());
    println!("{} pages: links, files, tests, copies, events and alarms are as they say", tree.pages.len());
    Ok(())
}

impl Tree {
    fn read(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self::default();
        tree.walk(root, "")?;
        Ok(tree)
    }

    fn walk(&mut self, dir: &Path, below: &str) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            self.paths.insert(path.clone());
            if entry.file_type()?.is_dir() {
                if name != ".git" && !FOREIGN.contains(&name.as_str()) {
                    self.walk(&entry.path(), &path)?;
                }
                continue;
            }
            let Some(texts) = self.place(&path) else { continue };
            let text = std::fs::read_to_string(entry.path()).with_context(|| path.clone())?;
            texts.insert(path, text);
        }
        Ok(())
    }

    /// Where a file's text belongs, if it is looked at.
    fn place(&mut self, path: &str) -> Option<&mut Texts> {
        match path.rsplit_once('.') {
            Some((_, "md")) => Some(&mut self.pages),
            Some((_, "rs")) => Some(&mut self.sources),
            _ if ASKING.contains(&path) => Some(&mut self.asking),
            _ => None,
        }
    }

    fn has(&self, path: &str) -> bool {
        path.is_empty() || self.paths.contains(path)
    }

    /// Whether a source that runs names this, in quotes.
    fn is_counted(&self, name: &str) -> bool {
        let quoted = format!("\"{name}\"");
        let runs = |file: &str| LOGGED.iter().any(|dir| Path::new(file).starts_with(dir));
        self.sources.iter().any(|(file, text)| runs(file) && text.contains(&quoted))
    }
}

/// `target` as seen from the page `from`, as a path below the root; `None` if it leaves the repository.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for component in Path::new(target).components() {
        match component {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

fn is_elsewhere(target: &str) -> bool {
    let scheme = target.split_once(':').map_or("", |(scheme, _)| scheme);
    !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Relative links lead to a file, anchors to a heading.
fn links(tree: &Tree, faults: &mut Vec<Fault>) {
    for (file, text) in &tree.pages {
        for At { line, what: target } in markdown::links(text) {
            if is_elsewhere(&target) {
                continue;
            }
            let mut say = |what: String| faults.push(Fault { file: file.clone(), line, what });
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let path = if path.is_empty() { Some(file.clone()) } else { resolve(file, path) };
            let Some(path) = path.filter(|path| tree.has(path)) else {
                say(format!("`{target}` is not there"));
                continue;
            };
            if let Some(page) = tree.pages.get(&path).filter(|_| !anchor.is_empty())
                && !markdown::anchors(page).iter().any(|known| known == anchor)
            {
                say(format!("`{path}` has no heading `#{anchor}`"));
            }
        }
    }
}

/// Files and folders of this repository that pages name in backticks exist.
fn named_files(tree: &Tree, faults: &mut Vec<Fault>) {
    for (file, text) in &tree.pages {
        // What a changelog names was there then.
        if file == "CHANGELOG.md" {
            continue;
        }
        for At { line, what } in markdown::code(text) {
            if looks_like_a_path(tree, what) && !tree.has(what.trim_end_matches('/')) {
                let what = format!("`{what}` is not there");
                faults.push(Fault { file: file.clone(), line, what });
            }
        }
    }
}

/// A path that begins with a folder of the root and has nothing in it but names.
fn looks_like_a_path(tree: &Tree, code: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let Some((first, _)) = code.split_once('/') else { return false };
    code.chars().all(plain)
        && !code.split('/').any(|part| FOREIGN.contains(&part))
        && tree.paths.contains(first)
        && PathBuf::from(code).components().all(|part| matches!(part, Component::Normal(_)))
}

/// A name of four words or more, as tests have.
fn looks_like_a_test(code: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    code.bytes().all(word) && code.split('_').filter(|word| !word.is_empty()).count() >= 4
}

/// Tests that the proofs name exist.
fn named_tests(tree: &Tree, faults: &mut Vec<Fault>) {
    let known: BTreeSet<String> = tree.sources.values().flat_map(|text| source::test_names(text)).collect();
    for file in PROOFS {
        let Some(text) = tree.pages.get(file) else {
            faults.push(Fault { file: file.to_owned(), line: 0, what: "is not there".to_owned() });
            continue;
        };
        for At { line, what } in markdown::code(text) {
            if looks_like_a_test(what) && !known.contains(what) {
                let what = format!("no test is called `{what}`");
                faults.push(Fault { file: file.to_owned(), line, what });
            }
        }
    }
}

/// Blocks that say that they are a file are that file.
fn copies(tree: &Tree, root: &Path, faults: &mut Vec<Fault>) -> anyhow::Result<()> {
    for (file, text) in &tree.pages {
        for At { line, what: block } in markdown::quoted(text) {
            let mut say = |what: String| faults.push(Fault { file: file.clone(), line, what });
            if !tree.has(&block.path) {
                say(format!("`{}` is not there", block.path));
                continue;
            }
            let original =
                std::fs::read_to_string(root.join(&block.path)).with_context(|| block.path.clone())?;
            match block.text {
                None => say("no fenced block follows".to_owned()),
                Some(text) if text.trim_end() != original.trim_end() => {
                    say(format!("the block is not `{}` any more", block.path));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Every event of the log has a row with its level, every row an event, and names are stable: words joined by `_`.
fn events(tree: &Tree, faults: &mut Vec<Fault>) {
    let Some(page) = tree.pages.get(LOGGING) else {
        faults.push(Fault { file: LOGGING.to_owned(), line: 0, what: "is not there".to_owned() });
        return;
    };
    let described: BTreeMap<String, (usize, String)> = markdown::rows(page)
        .into_iter()
        .filter_map(|At { line, what: cells }| {
            let name = cells.first()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
            Some((name, (line, cells.get(1)?.clone())))
        })
        .collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (file, text) in &tree.sources {
        if !LOGGED.iter().any(|dir| Path::new(file).starts_with(dir)) || file.contains("/tests/") {
            continue;
        }
        for Event { line, name, level } in source::events(text) {
            let mut say = |what: String| faults.push(Fault { file: file.clone(), line, what });
            if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
                say(format!("the event `{name}` is not words joined by `_`"));
            }
            match described.get(&name) {
                None => say(format!("the event `{name}` does not stand in {LOGGING}")),
                Some((_, levels)) if !levels.split([',', ' ']).any(|known| known == level) => {
                    say(format!("{LOGGING} says that `{name}` is {levels}, not {level}"));
                }
                Some(_) => {}
            }
            seen.insert(name);
        }
    }
    for (name, (line, _)) in described.iter().filter(|(name, _)| !seen.contains(*name)) {
        let what = format!("no source logs the event `{name}`");
        faults.push(Fault { file: LOGGING.to_owned(), line: *line, what });
    }
}

/// Every alarm has its heading in the runbook and every such heading its alarm; what is asked for is counted by some source.
fn alarms(tree: &Tree, faults: &mut Vec<Fault>) {
    let anchors = tree.pages.get(RUNBOOK).map(|page| markdown::anchors(page)).unwrap_or_default();
    let (mut named, mut told) = (BTreeSet::new(), BTreeSet::new());
    for file in ASKING {
        // In JSON the marks around a value are escaped.
        let Some(text) = tree.asking.get(file).map(|text| text.replace("\\\"", "\"")) else {
            faults.push(Fault { file: file.to_owned(), line: 0, what: "is not there".to_owned() });
            continue;
        };
        let mut say = |line, what| faults.push(Fault { file: file.to_owned(), line, what });
        if file == ALARMS {
            named.extend(alarms::values(&text, "alert").into_iter().map(|at| at.what.to_lowercase()));
            for At { line, what } in alarms::values(&text, "runbook") {
                match what.split_once('#') {
                    Some((RUNBOOK, anchor)) if anchors.iter().any(|known| known == anchor) => {
                        told.insert(anchor.to_owned());
                    }
                    _ => say(line, format!("`{what}` is not there")),
                }
            }
        }
        for At { line, what } in [alarms::metrics(&text), alarms::events(&text)].concat() {
            if !tree.is_counted(what) {
                say(line, format!("no source counts `{what}`"));
            }
        }
    }
    let mut say = |file: &str, what| faults.push(Fault { file: file.to_owned(), line: 0, what });
    for name in named.difference(&told) {
        say(ALARMS, format!("the alarm `{name}` does not lead to its heading"));
    }
    for anchor in anchors.iter().filter(|anchor| anchor.starts_with(ALARM) && !named.contains(*anchor)) {
        say(RUNBOOK, format!("there is no alarm `{anchor}`"));
    }
}

/// The book's table of contents has every page of the book.
fn summary(tree: &Tree, faults: &mut Vec<Fault>) {
    let Some(text) = tree.pages.get(SUMMARY) else {
        faults.push(Fault { file: SUMMARY.to_owned(), line: 0, what: "is not there".to_owned() });
        return;
    };
    let named: BTreeSet<String> =
        markdown::links(text).iter().filter_map(|at| resolve(SUMMARY, &at.what)).collect();
    for page in tree.pages.keys() {
        if Path::new(page).starts_with(BOOK) && page != SUMMARY && !named.contains(page) {
            let what = format!("`{page}` is missing");
            faults.push(Fault { file: SUMMARY.to_owned(), line: 0, what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            let ancestors =
                Path::new(path).ancestors().filter_map(Path::to_str).filter(|path| !path.is_empty());
            tree.paths.extend(ancestors.map(str::to_owned));
            if let Some(texts) = tree.place(path) {
                texts.insert((*path).to_owned(), (*text).to_owned());
            }
        }
        tree
    }

    /// What one check finds in these files.
    fn found(check: fn(&Tree, &mut Vec<Fault>), files: &[(&str, &str)]) -> Vec<String> {
        let mut faults = Vec::new();
        check(&tree(files), &mut faults);
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn broken_links_and_anchors_are_found() {
        let good =
            "# B c\n[self](#b-c) [up](../a.md) [web](https://x.example/#y) [mail](mailto:a@b.example)\n";
        assert!(found(links, &[("x/b.md", good), ("a.md", "[b](x/b.md#b-c) [x](x)")]).is_empty());
        let bad = found(links, &[("a.md", "[1](no.md)\n[2](b.md#no)\n[3](../up.md)"), ("b.md", "# Yes")]);
        assert_eq!(bad.len(), 3);
        assert!(bad[0].starts_with("a.md:1: ") && bad[1].starts_with("a.md:2: "), "{bad:?}");
    }

    #[test]
    fn named_files_exist() {
        let page = "`x/a.rs` `x/` `x/<name>` `y/no` `x/no.rs` `text/html`";
        assert_eq!(found(named_files, &[("a.md", page), ("x/a.rs", "")]).len(), 1);
    }

    #[test]
    fn named_tests_exist_and_are_tests() {
        let source = "#[test]\nfn it_is_a_test() {}\nfn it_is_no_test() {}\n";
        let page = "`it_is_a_test` `two_words` `it_is_no_test` `nobody_wrote_this_one`";
        let files = PROOFS.map(|file| (file, page));
        let bad = found(named_tests, &[&files[..], &[("x/a.rs", source)]].concat());
        assert_eq!(bad.len(), 2 * PROOFS.len(), "{bad:?}");
    }

    #[test]
    fn events_and_their_page_agree() {
        let page = "| `one_event` | info, warn | x |\n| `gone` | info | x |\n| event | level | x |\n";
        let source =
            "info!(event = \"one_event\");\nerror!(event = \"one_event\");\ninfo!(event = \"not told\");\n";
        let bad = found(events, &[(LOGGING, page), ("pcm/src/a.rs", source), ("loadtest/src/a.rs", source)]);
        assert_eq!(bad.len(), 4, "{bad:?}");
    }

    #[test]
    fn alarms_lead_to_their_pages_and_ask_for_what_is_counted() {
        let yml = "- alert: OAuthingA\n  expr: ignite_a > 0\n  runbook: docs/runbook.md#oauthinga\n- alert: OAuthingB\n  expr: ignite_b{event=\"c\"}\n  runbook: docs/runbook.md#no\n";
        let source = "level(\"ignite_a\"); level(\"ignite_d\"); info!(event = \"e\");";
        let files = [
            (ALARMS, yml),
            (ASKING[1], ""),
            (ASKING[2], r#"{"expr": "ignite_d{event=\"e\"}"}"#),
            (RUNBOOK, "### OAuthingA\n### OAuthingGone\n### Other\n"),
            ("ignite/src/a.rs", source),
            ("loadtest/src/a.rs", "level(\"ignite_b\")"),
        ];
        let expected = [
            "ops/prometheus/alerts.yml:6: `docs/runbook.md#no` is not there",
            "ops/prometheus/alerts.yml:5: no source counts `ignite_b`",
            "ops/prometheus/alerts.yml:5: no source counts `c`",
            "ops/prometheus/alerts.yml:0: the alarm `oauthingb` does not lead to its heading",
            "docs/runbook.md:0: there is no alarm `oauthinggone`",
        ];
        assert_eq!(found(alarms, &files), expected);
    }

    #[test]
    fn the_summary_has_every_page() {
        let files = [(SUMMARY, "[a](a.md)"), ("docs/a.md", ""), ("docs/x/b.md", ""), ("c.md", "")];
        assert_eq!(found(summary, &files), ["docs/SUMMARY.md:0: `docs/x/b.md` is missing"]);
    }

    #[test]
    fn a_copy_that_differs_is_found() {
        let root = std::env::temp_dir().join(format!("xtask-docs-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("a.py"), "x\n").unwrap();
        let page = "<!-- file: a.py -->\n```python\nx\n```\n<!-- file: a.py -->\n```python\ny\n```\n<!-- file: b.py -->\n";
        let mut tree = tree(&[("page.md", page)]);
        tree.paths.insert("a.py".to_owned());
        let mut faults = Vec::new();
        copies(&tree, &root, &mut faults).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [5, 9]);
    }
}
