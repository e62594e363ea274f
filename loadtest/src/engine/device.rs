//! A device among the engine's clients: the `device-client` crate speaks, this hands it bytes, time and chance.
//!
//! What the crate keeps to itself but the engine has to know (SUBACK, PUBACK) is read from the frames as they pass.

use std::time::Duration;

use device_client::{Action, Device, Millis, Options, PublishError, Record};
use mqtt_wire::{QoS, frame_len};
use rand::RngCore as _;

use super::client::Event;
use super::plan::Plan;

/// Longest packet that is taken from a gateway.
const LONGEST: usize = 1 << 20;

const SUBACK: u8 = 0x90;
const PUBACK: u8 = 0x40;

/// A device with its unread bytes.
pub(super) struct Voice {
    device: Box<Device>,
    unread: Vec<u8>,
    running: bool,
    ready: bool,
    /// When the device wants to be asked again.
    pub(super) wake: Option<Millis>,
}

fn random(out: &mut [u8]) {
    rand::rng().fill_bytes(out);
}

/// The device's clock: milliseconds of the engine's.
fn millis(now: u64) -> Millis {
    now / 1_000_000
}

impl Voice {
    /// A device that is switched on with this record.
    pub(super) fn new(record: &[u8], plan: &Plan) -> Result<Voice, String> {
        let record = Record::decode(record).map_err(|_| "the device's record cannot be read".to_owned())?;
        let answer = u64::try_from(plan.patience.max(Duration::from_secs(1)).as_millis()).unwrap_or(u64::MAX);
        let options = Options { keep_alive: plan.keep_alive, answer, ..Options::default() };
        let device = Box::new(Device::new(record, options));
        Ok(Voice { device, unread: Vec::new(), running: false, ready: false, wake: None })
    }

    /// The connection is being opened: what goes out first. A TLS link keeps it back until the handshake is done.
    pub(super) fn greet(&mut self, now: u64, out: &mut Vec<u8>) -> Result<(), String> {
        match self.device.poll(millis(now), &mut random) {
            Action::Connect(_) => self.device.connected(),
            other => return Err(format!("the device does not want to connect: {other:?}")),
        }
        self.run(now, out, &mut |_| {})
    }

    /// Takes what was read.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        now: u64,
        out: &mut Vec<u8>,
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), String> {
        self.unread.extend_from_slice(bytes);
        let mut used = 0;
        loop {
            let rest = self.unread.get(used..).unwrap_or_default();
            let length = match frame_len(rest, LONGEST) {
                Ok(Some(length)) if length <= rest.len() => length,
                Ok(_) => break,
                Err(error) => return Err(format!("the gateway sent garbage: {error:?}")),
            };
            let first = rest.first().copied().unwrap_or(0);
            let end = used + length;
            while used < end {
                let taken = self.device.received(self.unread.get(used..end).unwrap_or_default());
                used += taken;
                self.run(now, out, tell)?;
                if taken == 0 {
                    return Err("the device takes no more".to_owned());
                }
            }
            if first == PUBACK {
                tell(Event::Acknowledged(true));
            }
            if first == SUBACK && !self.ready {
                self.ready = true;
                tell(Event::Ready);
            }
        }
        self.unread.drain(..used);
        Ok(())
    }

    /// Publishes to `d/<channel>`; false if an earlier message is still in the way.
    pub(super) fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
    ) -> Result<bool, String> {
        let channel = topic.strip_prefix("d/").unwrap_or(topic);
        let done = match qos {
            QoS::AtMostOnce => self.device.publish(channel, payload, retain),
            QoS::AtLeastOnce => self.device.publish_at_least_once(channel, payload, retain),
            QoS::ExactlyOnce => return Err("a device publishes with QoS 0 or 1".to_owned()),
        };
        match done {
            Ok(()) => Ok(true),
            Err(PublishError::Busy) => Ok(false),
            Err(error) => Err(format!("the device cannot publish to {topic}: {error:?}")),
        }
    }

    /// Does what the device wants until it waits.
    pub(super) fn run(
        &mut self,
        now: u64,
        out: &mut Vec<u8>,
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), String> {
        loop {
            let action = self.device.poll(millis(now), &mut random);
            let sent = match action {
                Action::Send(bytes) => {
                    out.extend_from_slice(bytes);
                    bytes.len()
                }
                Action::Command { payload, .. } => {
                    tell(Event::Message(payload));
                    0
                }
                // What is wanted of the state is no message of the load.
                Action::Delta { .. } => 0,
                Action::Store(_) => {
                    self.device.stored(true);
                    0
                }
                Action::Wait(until) => {
                    self.wake = until;
                    break;
                }
                Action::Close | Action::Connect(_) => {
                    return Err(format!("the device gives the connection up: {:?}", self.device.status()));
                }
            };
            self.device.sent(sent);
        }
        if !self.running && self.device.is_running() {
            self.running = true;
            tell(Event::Connected);
        }
        Ok(())
    }
}
