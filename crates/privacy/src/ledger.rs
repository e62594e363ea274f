//! What was found, where: the sum of all searches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use std::io::Read as _;

use crate::form::Form;
use crate::matrix::{Mark, Party, Place};
use crate::pairs::Holdings;
use crate::search::Searcher;

/// Material is read in pieces of this size.
const PIECE: usize = 8 << 20;

/// One mark that a party has in a place.
#[derive(Clone, Debug)]
pub struct Found {
    /// Forms, with what is around the first of each.
    pub forms: BTreeMap<Form, String>,
}

/// All that was found.
#[derive(Default)]
pub struct Ledger {
    /// By party, place and mark.
    pub found: BTreeMap<(Party, Place, usize), Found>,
    /// Bytes that were searched, by party and place.
    pub bytes: BTreeMap<(Party, Place), u64>,
    /// Pieces of material times patterns.
    pub searches: u64,
}

impl Ledger {
    /// Searches one piece of material of a party; `what` says where it lay.
    pub fn search(&mut self, searcher: &Searcher, party: Party, place: Place, what: &str, bytes: &[u8]) {
        *self.bytes.entry((party, place)).or_default() += bytes.len() as u64;
        self.searches += searcher.patterns() as u64;
        for find in searcher.search(bytes) {
            let found = self
                .found
                .entry((party, place, find.mark))
                .or_insert_with(|| Found { forms: BTreeMap::new() });
            found.forms.entry(find.form).or_insert_with(|| format!("{what} {}", find.context));
        }
    }

    /// Searches what can be read, in pieces that overlap.
    ///
    /// # Errors
    /// Reading fails.
    pub fn search_all(
        &mut self,
        searcher: &Searcher,
        party: Party,
        place: Place,
        what: &str,
        mut from: impl std::io::Read,
    ) -> anyhow::Result<()> {
        let mut piece = Vec::with_capacity(PIECE);
        let mut kept = 0;
        loop {
            let read =
                from.by_ref().take(PIECE as u64).read_to_end(&mut piece).with_context(|| what.to_owned())?;
            if read == 0 && kept > 0 || piece.is_empty() {
                return Ok(());
            }
            self.search(searcher, party, place, what, &piece);
            kept = piece.len().min(searcher.overlap());
            piece.drain(..piece.len() - kept);
        }
    }

    /// Searches every file below a folder, and every name.
    ///
    /// # Errors
    /// Reading fails otherwise than because a file went in the meantime.
    pub fn search_folder(
        &mut self,
        searcher: &Searcher,
        party: Party,
        place: Place,
        folder: &Path,
    ) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let path = entry.path();
            let what = path.display().to_string();
            let name = entry.file_name();
            self.search(searcher, party, place, "a name", name.as_encoded_bytes());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.search_folder(searcher, party, place, &path)?;
            } else if kind.is_file() {
                match std::fs::File::open(&path) {
                    Ok(file) => self.search_all(searcher, party, place, &what, file)?,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error).context(what),
                }
            }
        }
        Ok(())
    }

    /// What each party holds, by mark.
    #[must_use]
    pub fn holdings(&self) -> Holdings {
        let mut held = Holdings::new();
        for (party, _) in self.bytes.keys() {
            held.entry(*party).or_default();
        }
        for (party, _, mark) in self.found.keys() {
            held.entry(*party).or_default().insert(*mark);
        }
        held
    }

    /// Every find that is more than was promised.
    pub fn excesses<'a>(
        &'a self,
        marks: &'a [Mark],
    ) -> impl Iterator<Item = (Party, Place, &'a Mark, &'a Found)> {
        self.found
            .iter()
            .map(|((party, place, mark), found)| (*party, *place, &marks[*mark], found))
            .filter(|(party, place, mark, _)| mark.is_excess(*party, *place))
    }

    /// Places in which a mark of this index was found at that party.
    #[must_use]
    pub fn places(&self, party: Party, mark: usize) -> BTreeSet<Place> {
        let keys = self.found.keys();
        keys.filter(|(p, _, m)| (*p, *m) == (party, mark)).map(|(_, place, _)| *place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::Kind;

    fn searcher() -> (Vec<Mark>, Searcher) {
        let marks = vec![Mark::new(Kind::Profile, "name", "marked-name", [])];
        let searcher = Searcher::new(&marks).unwrap();
        (marks, searcher)
    }

    #[test]
    fn a_mark_across_two_pieces_is_found() {
        let (marks, searcher) = searcher();
        let mut ledger = Ledger::default();
        let text = [vec![b'.'; PIECE - 4], b"marked-name".to_vec()].concat();
        ledger.search_all(&searcher, Party::Ignite, Place::Memory, "a dump", text.as_slice()).unwrap();
        let excesses: Vec<_> = ledger.excesses(&marks).collect();
        assert_eq!(excesses.len(), 1);
        assert!(ledger.bytes[&(Party::Ignite, Place::Memory)] >= text.len() as u64);
    }

    #[test]
    fn files_and_their_names_are_searched() {
        let (marks, searcher) = searcher();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("marked-name")).unwrap();
        std::fs::write(dir.path().join("marked-name/x"), "nothing").unwrap();
        let mut ledger = Ledger::default();
        ledger.search_folder(&searcher, Party::Didp, Place::Storage, dir.path()).unwrap();
        assert_eq!(ledger.excesses(&marks).count(), 1);
        std::fs::write(dir.path().join("x"), "6d61726b65642d6e616d65").unwrap();
        ledger.search_folder(&searcher, Party::Didp, Place::Storage, dir.path()).unwrap();
        assert_eq!(ledger.found[&(Party::Didp, Place::Storage, 0)].forms.len(), 2);
    }
}
