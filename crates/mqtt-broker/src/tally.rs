//! Amounts counted in all and by grant, so that one grant's part of a limit can be bounded.

use crate::limits::Limits;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes or pieces, in all and of each grant that has any. What is of no grant (in an open broker everything) counts
/// in the total only.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    total: usize,
    by_sid: BTreeMap<Rc<str>, usize>,
}

impl Tally {
    pub(crate) const fn total(&self) -> usize {
        self.total
    }

    pub(crate) fn add(&mut self, sid: Option<&Rc<str>>, amount: usize) {
        self.total += amount;
        if let Some(sid) = sid.filter(|_| amount > 0) {
            match self.by_sid.get_mut(sid) {
                Some(known) => *known += amount,
                None => {
                    self.by_sid.insert(Rc::clone(sid), amount);
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, sid: Option<&Rc<str>>, amount: usize) {
        self.total = self.total.saturating_sub(amount);
        if let Some(sid) = sid
            && let Some(known) = self.by_sid.get_mut(sid)
        {
            *known = known.saturating_sub(amount);
            if *known == 0 {
                self.by_sid.remove(sid);
            }
        }
    }

    /// Whether so much more stays within the limit and, for a grant, within its part of it. `freed` is what goes
    /// for it: how much, and of which grant.
    pub(crate) fn has_room(
        &self,
        sid: Option<&Rc<str>>,
        more: usize,
        freed: (Option<&Rc<str>>, usize),
        limit: usize,
        limits: &Limits,
    ) -> bool {
        let (of, amount) = freed;
        let fits = |held: usize, freed: usize, limit: usize| held.saturating_sub(freed) + more <= limit;
        fits(self.total, amount, limit)
            && sid.is_none_or(|sid| {
                let own = self.by_sid.get(sid).copied().unwrap_or(0);
                let freed = if of == Some(sid) { amount } else { 0 };
                fits(own, freed, limits.grants_part(limit))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;
    use crate::limits::Limits;
    use std::rc::Rc;

    #[test]
    fn a_grant_has_its_part_and_no_grant_has_all() {
        let (one, other): (Rc<str>, Rc<str>) = ("one".into(), "other".into());
        let limits = Limits { grant_share: 4, ..Limits::PERSONAL };
        let mut tally = Tally::default();
        let room = |tally: &Tally, sid, more| tally.has_room(sid, more, (None, 0), 100, &limits);
        assert!(room(&tally, Some(&one), 25) && !room(&tally, Some(&one), 26));
        assert!(room(&tally, None, 100) && !room(&tally, None, 101));
        tally.add(Some(&one), 25);
        assert!(!room(&tally, Some(&one), 1) && room(&tally, Some(&other), 25));
        assert!(tally.has_room(Some(&one), 5, (Some(&one), 5), 100, &limits));
        assert!(
            !tally.has_room(Some(&one), 5, (Some(&other), 5), 100, &limits),
            "another's place is not its own"
        );
        tally.add(None, 70);
        assert!(room(&tally, Some(&other), 5) && !room(&tally, Some(&other), 6), "the whole limit holds too");
        tally.remove(Some(&one), 25);
        tally.remove(None, 70);
        assert_eq!(tally, Tally::default(), "a grant that holds nothing leaves no trace");
    }
}
