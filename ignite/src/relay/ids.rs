//! A set of packet identifiers that takes no memory while it is empty, and 8 kB however many somebody puts into it.

/// 65,536 bits.
type Bits = [u64; 1024];

/// The set.
#[derive(Default)]
pub(super) struct PacketIds {
    bits: Option<Box<Bits>>,
    count: usize,
}

impl PacketIds {
    pub(super) fn insert(&mut self, id: u16) {
        let bits = self.bits.get_or_insert_with(|| Box::new([0; 1024]));
        let (word, bit) = place(id);
        self.count += usize::from(bits[word] & bit == 0);
        bits[word] |= bit;
    }

    /// True if it was in.
    pub(super) fn remove(&mut self, id: u16) -> bool {
        let Some(bits) = &mut self.bits else { return false };
        let (word, bit) = place(id);
        let was_in = bits[word] & bit != 0;
        bits[word] &= !bit;
        self.count -= usize::from(was_in);
        if self.count == 0 {
            self.bits = None;
        }
        was_in
    }
}

fn place(id: u16) -> (usize, u64) {
    (usize::from(id / 64), 1 << (id % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), prop_oneof![0_u16..4, 60_u16..70, 65_533..=u16::MAX]), 0..60)) {
            let (mut ids, mut model) = (PacketIds::default(), HashSet::new());
            for (insert, id) in steps {
                if insert {
                    ids.insert(id);
                    model.insert(id);
                } else {
                    prop_assert_eq!(ids.remove(id), model.remove(&id));
                }
                prop_assert_eq!(ids.bits.is_none(), model.is_empty());
            }
        }
    }
}
