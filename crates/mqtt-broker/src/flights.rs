//! Messages sent to one client and not yet acknowledged, in their order (§4.6), and the packet identifiers they take.

use crate::session::Waiting;
use std::collections::VecDeque;

/// A message that was sent with QoS 1 or 2 and is not acknowledged.
pub(crate) struct Flying {
    pub(crate) packet_id: u16,
    pub(crate) stage: Stage,
    /// Gone once it need not be sent again: after PUBREC, or when a grant ended.
    pub(crate) message: Option<Waiting>,
}

/// What the client has to send next: PUBACK, PUBREC or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Ack,
    Rec,
    Comp,
}

/// All that fly to one client. Identifiers are given in turn, so that one is found by how far it is from the first.
#[derive(Default)]
pub(crate) struct Flights {
    in_order: VecDeque<Flying>,
    last_id: u16,
    /// One stayed in the air until the numbers had gone round: the distances do not grow along the list any more.
    tangled: bool,
}

impl Flights {
    pub(crate) fn len(&self) -> usize {
        self.in_order.len()
    }

    /// The identifier that was given last.
    pub(crate) const fn last_id(&self) -> u16 {
        self.last_id
    }

    /// The identifiers go on after this one.
    pub(crate) const fn go_on_after(&mut self, packet_id: u16) {
        self.last_id = packet_id;
    }

    /// In the order in which they were sent.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Flying> {
        self.in_order.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Flying> {
        self.in_order.iter_mut()
    }

    fn place(&self, packet_id: u16) -> Option<usize> {
        let first = self.in_order.front()?.packet_id;
        if self.tangled {
            return self.in_order.iter().position(|flying| flying.packet_id == packet_id);
        }
        let distance = |id: u16| id.wrapping_sub(first);
        self.in_order
            .binary_search_by_key(&distance(packet_id), |flying| distance(flying.packet_id))
            .ok()
            .filter(|_| packet_id != 0)
    }

    pub(crate) fn get(&self, packet_id: u16) -> Option<&Flying> {
        self.in_order.get(self.place(packet_id)?)
    }

    pub(crate) fn get_mut(&mut self, packet_id: u16) -> Option<&mut Flying> {
        let place = self.place(packet_id)?;
        self.in_order.get_mut(place)
    }

    /// A packet identifier that is not in use. There always is one: the window is smaller than their number.
    pub(crate) fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.place(self.last_id).is_none() {
                return self.last_id;
            }
        }
    }

    /// One more, the last in order; its identifier is from [`Self::next_id`], now or in an earlier life.
    pub(crate) fn push(&mut self, flying: Flying) {
        if let (Some(first), Some(last)) = (self.in_order.front(), self.in_order.back()) {
            let distance = |id: u16| id.wrapping_sub(first.packet_id);
            self.tangled |= distance(flying.packet_id) <= distance(last.packet_id);
        }
        self.last_id = flying.packet_id;
        self.in_order.push_back(flying);
    }

    pub(crate) fn remove(&mut self, packet_id: u16) -> Option<Flying> {
        let place = self.place(packet_id)?;
        let flying = self.in_order.remove(place);
        self.tidy();
        flying
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&Flying) -> bool) {
        self.in_order.retain(keep);
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.in_order.is_empty() {
            self.tangled = false;
            self.in_order.shrink_to(KEPT);
        }
    }
}

/// An empty list keeps at most so many places.
const KEPT: usize = 4;

#[cfg(test)]
mod tests {
    use super::{Flights, Flying, Stage};
    use proptest::prelude::*;

    fn flying(packet_id: u16) -> Flying {
        Flying { packet_id, stage: Stage::Ack, message: None }
    }

    proptest! {
        /// Some land at once, some late, one perhaps never: all are found, and none is numbered as another.
        #[test]
        fn agrees_with_a_list(start in any::<u16>(), landings in prop::collection::vec(0usize..40, 1..400), stuck in any::<bool>()) {
            let mut flights = Flights { last_id: start, ..Flights::default() };
            let mut list: Vec<u16> = Vec::new();
            for (step, landing) in landings.iter().enumerate() {
                if list.len() < 30 {
                    // Every now and then the numbers go nearly round.
                    if step % 50 == 49 {
                        flights.last_id = flights.last_id.wrapping_sub(20);
                    }
                    let id = flights.next_id();
                    prop_assert!(id != 0 && !list.contains(&id));
                    flights.push(flying(id));
                    list.push(id);
                }
                if *landing < list.len() && !(stuck && *landing == 0) {
                    let id = list.remove(*landing);
                    prop_assert_eq!(flights.remove(id).map(|flying| flying.packet_id), Some(id));
                    prop_assert!(flights.get(id).is_none());
                }
                prop_assert!(flights.get(0).is_none());
                let order: Vec<u16> = flights.iter().map(|flying| flying.packet_id).collect();
                prop_assert_eq!(&order, &list);
                for id in &list {
                    prop_assert_eq!(flights.get(*id).map(|flying| flying.packet_id), Some(*id));
                }
            }
        }
    }
}
