//! The matrix as found beside the matrix as promised, what pairs can join, and what is wrong.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::ledger::Ledger;
use crate::matrix::{COLUMNS, Cell, Kind, Mark, Party, Place, ROWS};
use crate::pairs::{self, Pair};

/// The result of a run.
pub struct Report {
    /// For people.
    pub text: String,
    /// What is wrong; nothing if all is as promised.
    pub faults: Vec<String>,
}

/// Cells in which nothing can be seen though they are not empty: addresses are in the heads of packets, which are not searched, and
/// the factory of the scenario makes devices 1 and 2, not the one whose channels are marked. What a device said over TLS it has forgotten.
fn cannot_be_seen(kind: Kind, column: usize) -> bool {
    matches!(kind, Kind::BrowserAddress | Kind::ConnectionAddress | Kind::WrongCredential)
        || column == 2 && kind == Kind::Channel
        || column == 3 && matches!(kind, Kind::Channel | Kind::Uncovered | Kind::Data | Kind::Command)
}

/// Adds up a run.
#[must_use]
pub fn report(marks: &[Mark], ledger: &Ledger) -> Report {
    let mut faults = Vec::new();
    let mut text = String::from(
        "Promised / found. Promised: keeps, passing (memory and wire only), own, or nothing. Found: s storage, m memory, w wire, \
         L log, M metrics, T traces; ! is more than was promised.\n\n",
    );
    let _ = write!(text, "{:<28}", "");
    for column in COLUMNS {
        let _ = write!(text, "{column:<16}");
    }
    text.push('\n');
    for (kind, name, cells) in ROWS {
        let of_kind: Vec<usize> = (0..marks.len()).filter(|index| marks[*index].kind == kind).collect();
        if of_kind.is_empty() {
            faults.push(format!("no mark of the kind `{name}`: the scenario did not play it"));
        }
        let _ = write!(text, "{name:<28}");
        for (column, party_name) in COLUMNS.iter().enumerate() {
            let promised = match cells.get(column).unwrap_or(&Cell::Never) {
                Cell::Keeps => "keeps",
                Cell::Passing => "passing",
                Cell::Own => "own",
                Cell::Never => "-",
            };
            let found: Vec<_> = ledger
                .found
                .keys()
                .filter(|(party, _, mark)| party.column() == column && of_kind.contains(mark))
                .collect();
            let places: BTreeSet<Place> = found.iter().map(|(_, place, _)| *place).collect();
            let letters: String = places.iter().map(|place| place.letter()).collect();
            let excess = found.iter().any(|(party, place, mark)| marks[*mark].is_excess(*party, *place));
            let shown = format!("{promised}/{}{}", if excess { "!" } else { "" }, or_dash(&letters));
            let _ = write!(text, "{shown:<16}");
            if promised != "-" && letters.is_empty() && !of_kind.is_empty() && !cannot_be_seen(kind, column) {
                faults.push(format!(
                    "`{name}` was not found at {party_name} though it must be there: the search is blind"
                ));
            }
        }
        text.push('\n');
    }
    for (party, place, mark, found) in ledger.excesses(marks) {
        for (form, context) in &found.forms {
            faults.push(format!(
                "{party} has `{}` in {place:?}, {form}, where the table says {:?}: {context}",
                mark.what,
                mark.promised(party)
            ));
        }
    }
    joins(marks, ledger, &mut text, &mut faults);
    let bytes: u64 = ledger.bytes.values().sum();
    let places: BTreeSet<_> = ledger.bytes.keys().collect();
    let _ = writeln!(
        text,
        "\n{} marks, {} searches over {} MB in {} places of {} parties",
        marks.len(),
        ledger.searches,
        bytes / 1_000_000,
        places.len(),
        places.iter().map(|(party, _)| party).collect::<BTreeSet<_>>().len()
    );
    Report { text, faults }
}

fn or_dash(letters: &str) -> &str {
    if letters.is_empty() { "-" } else { letters }
}

fn joins(marks: &[Mark], ledger: &Ledger, text: &mut String, faults: &mut Vec<String>) {
    // What a party is promised it is taken to have, found or not.
    let mut held = ledger.holdings();
    for (party, indices) in &mut held {
        indices.extend((0..marks.len()).filter(|index| marks[*index].promised(*party) != Cell::Never));
    }
    text.push_str(
        "\nWhat two parties can tie to the person, the PCMs counted with the gateway's operator:\n\n",
    );
    for Pair { parties: (first, second), tie, shared } in pairs::pairs(marks, &held) {
        let who = if first == second { format!("{first} alone") } else { format!("{first} + {second}") };
        let stated = pairs::stated(first, second);
        let mark = if tie > stated { "!" } else { "" };
        let shared: Vec<String> = shared.iter().map(|kind| format!("{kind:?}")).collect();
        let _ = writeln!(text, "{who:<28} {mark}{} ({})", tie.words(), or_dash(&shared.join(", ")));
        if tie > stated {
            faults.push(format!("{who} can tie {}, stated is {}", tie.words(), stated.words()));
        }
    }
    if !held.contains_key(&Party::Pcm) {
        faults.push("no PCM was looked at".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::Searcher;

    #[test]
    fn an_excess_is_a_fault_and_shown_in_its_cell() {
        let marks = vec![Mark::new(Kind::Profile, "e-mail of owner 1", "mail-of-one@x.example", []).of(1)];
        let searcher = Searcher::new(&marks).unwrap();
        let mut ledger = Ledger::default();
        let leak = b"... mail-of-one@x.example ...";
        ledger.search(&searcher, Party::Uidp, Place::Memory, "heap", leak);
        let clean = report(&marks, &ledger);
        assert!(!clean.faults.iter().any(|fault| fault.contains("e-mail of owner 1")), "{:?}", clean.faults);
        ledger.search(&searcher, Party::Pcm, Place::Memory, "heap", leak);
        let leaky = report(&marks, &ledger);
        assert!(
            leaky
                .faults
                .iter()
                .any(|fault| fault.starts_with("PCM has `e-mail of owner 1` in Memory, Plain"))
        );
        let row = leaky.text.lines().find(|line| line.starts_with("owner's profile")).unwrap();
        assert!(row.contains("keeps/m") && row.contains("-/!m"), "{row}");
    }

    #[test]
    fn a_search_that_sees_nothing_is_no_success() {
        let marks = vec![Mark::new(Kind::Label, "label", "label-of-a-device", []).of(1)];
        let faults = report(&marks, &Ledger::default()).faults;
        assert!(faults.iter().any(|fault| fault.contains("the search is blind")));
        assert!(faults.iter().any(|fault| fault.contains("the scenario did not play it")));
        assert!(faults.iter().any(|fault| fault.contains("no PCM was looked at")));
    }
}
