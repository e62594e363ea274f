//! `cargo xtask docs`: what the pages say that can be checked without running anything.
//!
//! Relative links and anchors lead somewhere; files that pages name exist; tests that pages name exist and are tests; copies of
//! files are copies; every event of the log is described with its level; the book's summary has every page. `markdown` and `source` read the
//! text, this decides.

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
struct Tree {
    /// Every path below the root, folders too.
    paths: BTreeSet<String>,
    /// Pages.
    pages: Texts,
    /// Rust sources.
    sources: Texts,
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
    summary(&tree, &mut faults);
    for fault in &faults {
        eprintln!("{fault}");
    }
    anyhow::ensure!(faults.is_empty(), "{} faults in the documents", faults.len());
    println!("{} pages: links, files, tests, copies and events are as they say", tree.pages.len());
    Ok(())
}

impl Tree {
    fn read(root: &Path) -> anyhow::Result<Self> {
        let mut tree = Self { paths: BTreeSet::new(), pages: Texts::new(), sources: Texts::new() };
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
            let texts = match name.rsplit_once('.') {
                Some((_, "md")) => &mut self.pages,
                Some((_, "rs")) => &mut self.sources,
                _ => continue,
            };
            let text = std::fs::read_to_string(entry.path()).with_context(|| path.clone())?;
            texts.insert(path, text);
        }
        Ok(())
    }

    fn has(&self, path: &str) -> bool {
        path.is_empty() || self.paths.contains(path)
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
        let mut tree = Tree { paths: BTreeSet::new(), pages: Texts::new(), sources: Texts::new() };
        for (path, text) in files {
            let ancestors =
                Path::new(path).ancestors().filter_map(Path::to_str).filter(|path| !path.is_empty());
            tree.paths.extend(ancestors.map(str::to_owned));
            let texts = if path.ends_with(".md") { &mut tree.pages } else { &mut tree.sources };
            texts.insert((*path).to_owned(), (*text).to_owned());
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
