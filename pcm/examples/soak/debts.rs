//! Two kinds of clients that owe: one that takes nothing, one that never gets to the end of a packet. Each is to be cut in
//! its time, neither earlier nor much later.

use crate::churn::{DRIPPING, STALLED, connect};
use crate::client::Client;
use crate::owner::Owner;
use mqtt_wire::{Filters, Packet, Properties, Publish, QoS, ReasonCode, Subscribe, Subscription, Version};
use pcm_wire::Preamble;
use std::ops::RangeInclusive;

/// Limits of a personal broker, in seconds, and some more for a busy machine.
const PACKET: RangeInclusive<f64> = 29.0..=40.0;
/// Until there is something to take that finds no room in the socket, some time may pass.
const STALL: RangeInclusive<f64> = 59.0..=90.0;

struct Debtor {
    client: Client,
    since: f64,
    /// The packet whose bytes go one by one.
    packet: Option<std::vec::IntoIter<u8>>,
}

#[derive(Default)]
pub(crate) struct Debts {
    open: Vec<Debtor>,
    named: usize,
    /// When those were cut that took nothing, and those that dripped, in seconds after they began.
    pub(crate) stalled: Vec<f64>,
    pub(crate) dripped: Vec<f64>,
}

impl Debts {
    /// One more of each.
    pub(crate) fn open(&mut self, owner: &Owner, now: f64) {
        self.named += 1;
        for sid in [DRIPPING, STALLED] {
            let name = format!("{sid}-{}", self.named);
            let mut client = Client::open(&owner.socket, sid, Version::V5);
            client.raw(&Preamble::Session { sid: sid.into(), client: name.clone() }.to_bytes());
            client.send(&Packet::Connect(connect(&name, Version::V5, Properties::EMPTY)));
            let packet = if sid == DRIPPING {
                let publish = Publish {
                    dup: false,
                    qos: QoS::AtMostOnce,
                    retain: false,
                    topic: "d/drip/t",
                    packet_id: None,
                    properties: Properties::EMPTY,
                    payload: &[b'x'; 500],
                };
                Some(Packet::Publish(publish).to_vec(Version::V5).into_iter())
            } else {
                let list = [Subscription::new("d/#", QoS::AtMostOnce)];
                let (packet_id, properties) = (1, Properties::EMPTY);
                client.send(&Packet::Subscribe(Subscribe {
                    packet_id,
                    properties,
                    filters: Filters::list(&list),
                }));
                None
            };
            self.open.push(Debtor { client, since: now, packet });
        }
    }

    /// Once a second. Fails if one is cut too early, too late, or without the word that it is owed.
    pub(crate) fn look(&mut self, now: f64) {
        for debtor in &mut self.open {
            match &mut debtor.packet {
                Some(bytes) => {
                    debtor.client.raw(&[bytes.next().expect("cut before its end")]);
                    debtor.client.read(|| false);
                }
                // It takes nothing, so that it learns of its end when writing.
                None => debtor.client.send(&Packet::PingReq),
            }
            let (after, dripping) = (now - debtor.since, debtor.packet.is_some());
            let (bound, cut) = match dripping {
                true => (PACKET, &mut self.dripped),
                false => (STALL, &mut self.stalled),
            };
            if debtor.client.over {
                assert!(bound.contains(&after), "{} was cut after {after:.1} s", debtor.client.sid);
                cut.push(after);
            }
            assert!(after <= *bound.end(), "{} is still there after {after:.1} s", debtor.client.sid);
            if dripping && debtor.client.over {
                assert_eq!(debtor.client.reason, Some(ReasonCode::KEEP_ALIVE_TIMEOUT));
            }
        }
        self.open.retain(|debtor| !debtor.client.over);
    }
}
