//! Clients that owe something: the rest of a packet that they began, or room for what is to be written to them.
//!
//! Each connection is on the list once at most, with a time before which nothing of it can be due; only then is it asked
//! what it owes. So messages cost nothing here, and the list is never longer than that of the connections.

use super::peer::{Peer, Stage};
use super::{Door, Server};
use crate::limits::Limits;
use mqtt_wire::ReasonCode;

/// What a client owes, each since when.
#[derive(Debug, Default)]
pub(super) struct Debts {
    /// The rest of a packet of which bytes have come.
    packet: Option<u64>,
    /// Reading: the last byte that it took, or from when on there was one to take.
    room: Option<u64>,
    /// The time with which it is on the list.
    listed: Option<u64>,
}

impl Peer {
    /// After input was dealt with: `whole` tells whether a packet ended in it.
    pub(super) const fn owes_packet(&mut self, whole: bool, now: u64) {
        if self.input.is_empty() {
            self.debts.packet = None;
        } else if whole || self.debts.packet.is_none() {
            self.debts.packet = Some(now);
        }
    }

    /// While it was not read from, its packet could not get on.
    pub(super) const fn excuse(&mut self, now: u64) {
        if self.debts.packet.is_some() {
            self.debts.packet = Some(now);
        }
    }

    /// After writing: `moved` tells whether a byte was taken, `rest` whether there are more.
    pub(super) const fn owes_room(&mut self, moved: bool, rest: bool, now: u64) {
        if !rest {
            self.debts.room = None;
        } else if moved || self.debts.room.is_none() {
            self.debts.room = Some(now);
        }
    }

    fn due(&self, limits: &Limits) -> Option<u64> {
        let packet =
            self.debts.packet.filter(|_| !self.paused).map(|since| since.saturating_add(limits.packet_ms));
        let room = self.debts.room.map(|since| since.saturating_add(limits.stall_ms));
        [packet, room].into_iter().flatten().min().filter(|_| self.stage == Stage::Client)
    }
}

impl<D: Door> Server<D> {
    /// Puts a connection on the list if it owes something, unless it is there with an earlier time.
    pub(super) fn remember(&mut self, slot: usize) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let Some(due) = peer.due(self.broker.limits()) else { return };
        match peer.debts.listed {
            Some(listed) if listed <= due => return,
            Some(listed) => self.deadlines.remove(&(listed, slot)),
            None => false,
        };
        peer.debts.listed = Some(due);
        self.deadlines.insert((due, slot));
    }

    /// Takes a connection that is no more off the list.
    pub(super) fn forgive(&mut self, slot: usize, peer: &Peer) {
        if let Some(listed) = peer.debts.listed {
            self.deadlines.remove(&(listed, slot));
        }
    }

    /// Ends the connections that owe what is due. Who does not read is not told.
    pub(super) fn collect(&mut self, now: u64) {
        while let Some((_, slot)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.pop_first();
            let limits = *self.broker.limits();
            let Some(peer) = self.peers.get_mut(slot) else { continue };
            peer.debts.listed = None;
            if peer.due(&limits).is_none_or(|due| due > now) {
                self.remember(slot);
            } else if peer.debts.room.is_some_and(|since| since.saturating_add(limits.stall_ms) <= now) {
                self.broker.count_refusal(ReasonCode::KEEP_ALIVE_TIMEOUT);
                self.drop_peer(slot, now);
            } else {
                self.broker.fail(slot, ReasonCode::KEEP_ALIVE_TIMEOUT, now);
            }
        }
    }
}
