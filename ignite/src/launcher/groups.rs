//! Which containers share a shim.
//!
//! containerd's shim is what a container costs most; with the annotation [`ANNOTATION`] many share one. A shim that dies takes
//! its whole group along, so groups are bounded, and who gets into which is left to chance: nobody's neighbours are those
//! who came at the same time. Pure: chance is a parameter.

use std::collections::{BTreeMap, BTreeSet};

/// The runtime's annotation: containers with one value share a shim.
pub(super) const ANNOTATION: &str = "io.containerd.runc.v2.group";

/// How many containers each group has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    members: BTreeMap<String, usize>,
    /// Nobody joins these any more.
    closed: BTreeSet<String>,
}

impl Groups {
    /// From the group of every container that has one.
    pub(super) fn of<'a>(groups: impl Iterator<Item = &'a str>) -> Self {
        let mut all = Self::default();
        groups.for_each(|group| all.join(group));
        all
    }

    /// The group of the next container, who is counted at once. None is larger than `most`; a new one is opened when the
    /// others are three quarters full on average, so that there is always a choice.
    pub(super) fn pick(&mut self, most: usize, chance: u64) -> String {
        let usable = || self.members.iter().filter(|(group, _)| !self.closed.contains(*group));
        let open: Vec<&String> =
            usable().filter(|(_, count)| **count < most).map(|(group, _)| group).collect();
        let members: usize = usable().map(|(_, count)| count).sum();
        let is_roomy = members < usable().count() * most * 3 / 4;
        let picked = match usize::try_from(chance % (open.len().max(1) as u64)) {
            Ok(index) if is_roomy && !open.is_empty() => open[index].clone(),
            _ => format!("{chance:016x}"),
        };
        self.join(&picked);
        picked
    }

    /// One more has this group.
    pub(super) fn join(&mut self, group: &str) {
        *self.members.entry(group.to_owned()).or_default() += 1;
    }

    /// A container of this group is gone.
    pub(super) fn leave(&mut self, group: &str) {
        if let Some(count) = self.members.get_mut(group) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.members.remove(group);
                self.closed.remove(group);
            }
        }
    }

    /// Nobody else joins a group in which something could not be started.
    pub(super) fn close(&mut self, group: &str) {
        self.closed.insert(group.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_bounded_and_filled_by_chance() {
        let mut groups = Groups::default();
        let mut chance = 0x9E37_79B9_7F4A_7C15_u64;
        let mut in_order = Vec::new();
        for _ in 0..1_000 {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            in_order.push(groups.pick(50, chance));
        }
        let sizes: Vec<usize> = groups.members.values().copied().collect();
        assert!(sizes.iter().all(|size| *size <= 50), "{sizes:?}");
        let shims = sizes.len();
        assert!((20..=28).contains(&shims), "{shims}");
        // Who comes together does not stay together.
        let mut last: Vec<&String> = in_order.iter().rev().take(20).collect();
        last.sort_unstable();
        last.dedup();
        assert!(last.len() > 1);
    }

    #[test]
    fn a_group_is_counted_from_what_there_is_and_forgotten_when_it_is_empty() {
        let mut groups = Groups::of(["a", "a", "b"].into_iter());
        groups.leave("b");
        assert_eq!(groups, Groups::of(["a", "a"].into_iter()));
        assert_eq!(groups.pick(10, 7), "a");
        groups.close("a");
        assert_ne!(groups.pick(10, 7), "a");
    }
}
