//! What two parties can join if they put together all that they have.
//!
//! The worst is assumed of each party: what it has of one owner it knows to belong together. Two parties can join what they have of an
//! owner if both hold the same value. Only if the union has the person and data is something tied.

use std::collections::{BTreeMap, BTreeSet};

use crate::matrix::{Kind, Mark, Party};

/// How much of an owner's data a pair can tie to the person, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tie {
    /// None.
    Nothing,
    /// What the owner gave to the app (or the device measured itself), and only by an address that both saw.
    ByAddress,
    /// What the owner gave to the app of the pair, or the device of the pair measured itself.
    OwnOnly,
    /// All of it.
    Everything,
}

impl Tie {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::ByAddress => "by an address: what the owner gave to that app",
            Self::OwnOnly => "what the owner gave to that app, or that device measured",
            Self::Everything => "all data with the person",
        }
    }
}

/// What one pair can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The two.
    pub parties: (Party, Party),
    /// What they can tie.
    pub tie: Tie,
    /// Kinds of values that both hold and that are of one owner, addresses and values left out.
    pub shared: BTreeSet<Kind>,
}

/// What is stated in the threat model: the most that a pair can tie.
#[must_use]
pub fn stated(first: Party, second: Party) -> Tie {
    let (first, second) = if first <= second { (first, second) } else { (second, first) };
    match (first, second) {
        (Party::Didp, Party::Ignite) => Tie::Everything,
        (Party::Didp, Party::Tpa(_) | Party::Device(_)) => Tie::OwnOnly,
        (Party::Uidp, Party::Tpa(_)) => Tie::ByAddress,
        _ => Tie::Nothing,
    }
}

/// The gateway's operator runs the PCMs too.
fn operator(party: Party) -> Party {
    if party == Party::Pcm { Party::Ignite } else { party }
}

fn is_person(kind: Kind) -> bool {
    matches!(kind, Kind::Profile | Kind::Subject)
}

fn is_data(kind: Kind) -> bool {
    matches!(kind, Kind::Data | Kind::Command | Kind::Uncovered)
}

fn is_address(kind: Kind) -> bool {
    matches!(kind, Kind::BrowserAddress | Kind::ConnectionAddress)
}

/// What all parties hold: marks by index.
pub type Holdings = BTreeMap<Party, BTreeSet<usize>>;

/// What each pair of different operators, and each alone (as a pair with itself), can tie.
#[must_use]
pub fn pairs(marks: &[Mark], found: &Holdings) -> Vec<Pair> {
    let mut held: Holdings = BTreeMap::new();
    for (party, indices) in found {
        held.entry(operator(*party)).or_default().extend(indices);
    }
    held.remove(&Party::Eavesdropper);
    let parties: Vec<Party> = held.keys().copied().collect();
    let mut all = Vec::new();
    for (at, first) in parties.iter().enumerate() {
        for second in &parties[at..] {
            all.push(pair(marks, (*first, *second), &held[first], &held[second]));
        }
    }
    all
}

fn pair(marks: &[Mark], parties: (Party, Party), first: &BTreeSet<usize>, second: &BTreeSet<usize>) -> Pair {
    let owners: BTreeSet<u8> = marks.iter().filter_map(|mark| mark.owner).collect();
    let (mut tie, mut shared) = (Tie::Nothing, BTreeSet::new());
    for owner in owners {
        let about = |held: &BTreeSet<usize>| -> BTreeSet<usize> {
            held.iter().copied().filter(|index| marks[*index].owner == Some(owner)).collect()
        };
        let (first, second) = (about(first), about(second));
        let common: BTreeSet<Kind> = first.intersection(&second).map(|index| marks[*index].kind).collect();
        // Equal values match, but say nothing of whose they are; a name is the owner's own words.
        let strong = |kind: &&Kind| !is_address(**kind) && !is_data(**kind) && **kind != Kind::DisplayName;
        shared.extend(common.iter().filter(strong).copied());
        let union: Vec<&Mark> = first.union(&second).map(|index| &marks[*index]).collect();
        if parties.0 != parties.1 && common.is_empty() || !union.iter().any(|mark| is_person(mark.kind)) {
            continue;
        }
        let member = |mark: &Mark| mark.own.contains(&parties.0) || mark.own.contains(&parties.1);
        let data: Vec<bool> =
            union.iter().filter(|mark| is_data(mark.kind)).map(|mark| member(mark)).collect();
        let by_identifier = parties.0 == parties.1 || common.iter().any(|kind| strong(&kind));
        let by_address = common.iter().any(|kind| is_address(*kind));
        tie = tie.max(match data.as_slice() {
            [] => Tie::Nothing,
            data if by_identifier && data.iter().all(|own| *own) => Tie::OwnOnly,
            _ if by_identifier => Tie::Everything,
            data if by_address && data.iter().all(|own| *own) => Tie::ByAddress,
            _ if by_address => Tie::Everything,
            _ => Tie::Nothing,
        });
    }
    Pair { parties, tie, shared }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Cell, ROWS};

    const PARTIES: [Party; 9] = [
        Party::Uidp,
        Party::Didp,
        Party::Manufacturer,
        Party::Device(1),
        Party::Device(2),
        Party::Ignite,
        Party::Pcm,
        Party::Tpa(1),
        Party::Tpa(2),
    ];

    /// A mark of each kind, owner 1's, of device 1 and TPA 1.
    fn marks() -> Vec<Mark> {
        let of = |kind| Mark::new(kind, "", "x", [Party::Device(1), Party::Tpa(1)]).of(1);
        ROWS.iter().map(|(kind, ..)| of(*kind)).collect()
    }

    fn as_promised(marks: &[Mark]) -> Holdings {
        let holds = |party: Party| {
            let indices = marks.iter().enumerate().filter(|(_, mark)| mark.promised(party) != Cell::Never);
            (party, indices.map(|(index, _)| index).collect())
        };
        PARTIES.into_iter().map(holds).collect()
    }

    #[test]
    fn the_promise_itself_is_as_stated() {
        let marks = marks();
        let all = pairs(&marks, &as_promised(&marks));
        assert_eq!(all.len(), 8 * 9 / 2);
        for pair in &all {
            let (first, second) = pair.parties;
            assert!(pair.tie <= stated(first, second), "{first} with {second}: {pair:?}");
        }
        let tie = |first, second| all.iter().find(|pair| pair.parties == (first, second)).unwrap().tie;
        assert_eq!(tie(Party::Didp, Party::Ignite), Tie::Everything);
        assert_eq!(tie(Party::Didp, Party::Tpa(1)), Tie::OwnOnly);
        assert_eq!(tie(Party::Uidp, Party::Tpa(1)), Tie::ByAddress);
        assert_eq!(tie(Party::Uidp, Party::Ignite), Tie::Nothing);
    }

    #[test]
    fn one_value_too_much_ties_a_pair() {
        let marks = marks();
        let index = |kind| marks.iter().position(|mark| mark.kind == kind).unwrap();
        let after = |party, kind, pair: (Party, Party)| {
            let mut held = as_promised(&marks);
            held.get_mut(&party).unwrap().insert(index(kind));
            pairs(&marks, &held).into_iter().find(|found| found.parties == pair).unwrap().tie
        };
        // The gateway is told the subject: it alone is enough then.
        assert_eq!(after(Party::Ignite, Kind::Subject, (Party::Ignite, Party::Ignite)), Tie::Everything);
        // A browser's address at the gateway, or the pseudonym at the provider.
        assert_eq!(after(Party::Ignite, Kind::BrowserAddress, (Party::Uidp, Party::Ignite)), Tie::Everything);
        assert_eq!(after(Party::Uidp, Kind::Pseudonym, (Party::Uidp, Party::Ignite)), Tie::Everything);
        // Somebody else's data at an app.
        assert_eq!(after(Party::Tpa(2), Kind::Sid, (Party::Didp, Party::Tpa(2))), Tie::Nothing);
        let mut held = as_promised(&marks);
        held.get_mut(&Party::Tpa(2)).unwrap().extend([index(Kind::Sid), index(Kind::Data)]);
        let all = pairs(&marks, &held);
        assert!(all.iter().any(|pair| pair.tie > stated(pair.parties.0, pair.parties.1)));
    }

    #[test]
    fn different_owners_are_not_joined() {
        let person = Mark::new(Kind::Subject, "", "x", []).of(1);
        let label = Mark::new(Kind::Label, "", "y", []).of(2);
        let data = Mark::new(Kind::Data, "", "z", []).of(2);
        let held =
            Holdings::from([(Party::Didp, BTreeSet::from([0, 1])), (Party::Ignite, BTreeSet::from([1, 2]))]);
        assert!(pairs(&[person, label, data], &held).iter().all(|pair| pair.tie == Tie::Nothing));
    }
}
