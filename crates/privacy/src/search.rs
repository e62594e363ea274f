//! Many marks in many forms, looked for in one pass over bytes.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use anyhow::Context as _;

use crate::form::{self, Form};
use crate::matrix::Mark;

/// Bytes around a find that are shown.
const AROUND: usize = 48;

/// One mark in one form, once for each piece of material.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Find {
    /// Index of the mark.
    pub mark: usize,
    /// Form in which it was found.
    pub form: Form,
    /// Where it is and what is around it, made printable.
    pub context: String,
}

/// All patterns of all marks.
pub struct Searcher {
    automaton: AhoCorasick,
    patterns: Vec<(usize, Form)>,
    /// Marks that are numbers with dots: a longer number is another one.
    bounded: Vec<bool>,
    longest: usize,
}

impl Searcher {
    /// For these marks; finds name them by their index.
    ///
    /// # Errors
    /// More patterns than an automaton can hold.
    pub fn new(marks: &[Mark]) -> anyhow::Result<Self> {
        let mut patterns = Vec::new();
        let mut bytes = Vec::new();
        for (index, mark) in marks.iter().enumerate() {
            for (form, pattern) in form::patterns(&mark.value) {
                patterns.push((index, form));
                bytes.push(pattern);
            }
        }
        let automaton = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&bytes)
            .context("build the automaton")?;
        let longest = bytes.iter().map(Vec::len).max().unwrap_or(0);
        let bounded = marks.iter().map(|mark| mark.value.iter().all(|b| b.is_ascii_digit() || *b == b'.'));
        Ok(Self { automaton, patterns, bounded: bounded.collect(), longest })
    }

    /// How many patterns there are: each is a search of each piece of material.
    #[must_use]
    pub fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// Bytes that pieces of one material must overlap by.
    #[must_use]
    pub fn overlap(&self) -> usize {
        self.longest + 1
    }

    /// Looks for everything in `bytes`; the first find of each mark and form.
    #[must_use]
    pub fn search(&self, bytes: &[u8]) -> Vec<Find> {
        let mut found: BTreeMap<(usize, Form), String> = BTreeMap::new();
        for hit in self.automaton.find_overlapping_iter(bytes) {
            let (mark, form) = self.patterns[hit.pattern().as_usize()];
            if found.contains_key(&(mark, form)) || (self.bounded[mark] && is_within_a_number(bytes, &hit)) {
                continue;
            }
            found.insert((mark, form), shown(bytes, hit.start(), hit.end()));
        }
        found.into_iter().map(|((mark, form), context)| Find { mark, form, context }).collect()
    }
}

fn is_within_a_number(bytes: &[u8], hit: &aho_corasick::Match) -> bool {
    let is_digit = |at: Option<&u8>| at.is_some_and(u8::is_ascii_digit);
    let text = bytes[hit.range()].iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    text && (is_digit(hit.start().checked_sub(1).and_then(|at| bytes.get(at)))
        || is_digit(bytes.get(hit.end())))
}

fn shown(bytes: &[u8], start: usize, end: usize) -> String {
    let part = &bytes[start.saturating_sub(AROUND)..(end + AROUND).min(bytes.len())];
    let text: String =
        part.iter().map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '·' }).collect();
    format!("at {start}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::{Digest, Encoding, hashed};
    use crate::matrix::Kind;

    fn mark(value: &str) -> Mark {
        Mark::new(Kind::Profile, "a name", value, [])
    }

    #[test]
    fn marks_are_found_by_index_and_form_and_once() {
        let searcher = Searcher::new(&[mark("first-mark-1"), mark("second-mark-2")]).unwrap();
        let text = "x second-mark-2 second-mark-2 y 66697273742d6d61726b2d31";
        let found: Vec<_> = searcher
            .search(text.as_bytes())
            .into_iter()
            .map(|find| (find.mark, find.form.encoding))
            .collect();
        assert_eq!(found, [(0, Encoding::Hex), (1, Encoding::Plain)]);
        assert!(searcher.search(b"first-mark-2, nothing of ours").is_empty());
    }

    #[test]
    fn a_mark_within_another_is_found_too() {
        let searcher = Searcher::new(&[mark("marked-inner"), mark("x/marked-inner/y")]).unwrap();
        assert_eq!(searcher.search(b"d/x/marked-inner/y").len(), 2);
    }

    #[test]
    fn an_address_within_a_longer_one_is_another() {
        let searcher = Searcher::new(&[mark("172.18.0.11")]).unwrap();
        assert!(searcher.search(b"172.18.0.110 1172.18.0.11").is_empty());
        assert_eq!(searcher.search(b"from 172.18.0.11:443")[0].mark, 0);
    }

    #[test]
    fn a_find_shows_what_is_around_it() {
        let searcher = Searcher::new(&[mark("shown-mark")]).unwrap();
        assert_eq!(searcher.search(b"\x00name=shown-mark\n")[0].context, "at 6: ·name=shown-mark·");
        let hash = hashed(Digest::Sha256, b"shown-mark");
        assert_eq!(searcher.search(&hash)[0].form.digest, Digest::Sha256);
    }
}
