//! Shadows of the owner's devices: `s/<label>` and what is below it, under grants only.
//!
//! What a shadow is, who sees which part of it and when its version moves is the `shadow` crate's. Here are the topics, and
//! when documents go out: newest only, at once to whoever is connected, on subscribing and when a session goes on. They
//! are never queued: what finds no room is remembered as overdue by its topic, and sent as it is then.

mod tell;

use crate::broker::Broker;
use crate::grants::{Access, Grants, Part, Policy, Sight, shadow_topic, value_topic};
use crate::lens::{Door, Sample};
use crate::message::Routed;
use ::shadow::{Audience, Desire, Refused, Shadow, Sight as Looked, Viewer, parse_report};
use mqtt_wire::{QoS, ReasonCode};
use serde_json::Value;
use std::collections::BTreeMap;
use std::rc::Rc;
use tell::State;
use views::Seen;

/// All shadows, by the device's label.
#[derive(Default)]
pub(crate) struct Shadows {
    by_label: BTreeMap<Box<str>, Kept>,
}

/// A device's shadow, and what was last made known of it.
#[derive(Default)]
struct Kept {
    shadow: Shadow,
    /// By grant, what its sessions know, hashed: they are told only if it is something else.
    known: BTreeMap<Rc<str>, u64>,
}

impl Shadows {
    /// Labels of the devices that have one.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        self.by_label.keys().map(|label| &**label)
    }

    /// Appends a whole shadow to `out`; nothing if there is none.
    pub(crate) fn write(&self, label: &str, out: &mut Vec<u8>) {
        if let Some(kept) = self.by_label.get(label) {
            kept.shadow.write(out);
        }
    }

    /// Puts in place what [`Self::write`] wrote. Answers whether it could be read.
    pub(crate) fn read(&mut self, label: &str, bytes: &[u8]) -> bool {
        if bytes.is_empty() {
            self.by_label.remove(label);
            return true;
        }
        let shadow = Shadow::read(bytes);
        let is_read = shadow.is_some();
        if let Some(shadow) = shadow {
            self.by_label.insert(label.into(), Kept { shadow, known: BTreeMap::new() });
        }
        is_read
    }

    /// Changes a device's shadow, which may begin with it.
    fn change<T>(&mut self, label: &str, change: impl FnOnce(&mut Kept) -> T) -> T {
        if let Some(kept) = self.by_label.get_mut(label) {
            return change(kept);
        }
        let mut kept = Kept::default();
        let result = change(&mut kept);
        if !kept.shadow.is_empty() {
            self.by_label.insert(label.into(), kept);
        }
        result
    }

    fn set_known(&mut self, label: &str, sid: &Rc<str>, state: &State) {
        if let Some(kept) = self.by_label.get_mut(label) {
            kept.known.insert(Rc::clone(sid), state.hash());
        }
    }
}

/// A grant as it looks at one device's shadow.
#[derive(Clone, Copy)]
struct Eyes<'a> {
    sid: &'a Rc<str>,
    access: &'a Access,
    label: &'a str,
}

impl Viewer for Eyes<'_> {
    fn id(&self) -> &str {
        self.sid
    }

    fn reads(&self, channel: &str) -> bool {
        self.sight(channel) != Sight::Blind
    }

    fn commands(&self, channel: &str) -> bool {
        match self.access {
            Access::Device { label } => **label == *self.label,
            Access::App { devices, .. } => {
                devices.get(self.label).is_some_and(|channels| channels.may_command(channel))
            }
        }
    }
}

impl<'a> Eyes<'a> {
    fn sight(&self, channel: &str) -> Sight<'a> {
        match self.access {
            Access::Device { .. } => Sight::Blind,
            Access::App { devices, .. } => {
                devices.get(self.label).map_or(Sight::Blind, |channels| channels.sight(channel))
            }
        }
    }

    /// Whether it sees anything of this device.
    fn is_concerned(&self) -> bool {
        match self.access {
            Access::Device { label } => **label == *self.label,
            Access::App { devices, .. } => devices.contains_key(self.label),
        }
    }

    fn is_device(&self) -> bool {
        matches!(self.access, Access::Device { .. })
    }
}

/// Everybody who sees something of a device's shadow, the device itself too.
fn viewers<'a>(grants: &'a Grants, label: &'a str) -> Vec<Eyes<'a>> {
    let eyes = grants.iter().map(|(sid, access)| Eyes { sid, access, label });
    eyes.filter(Eyes::is_concerned).collect()
}

fn has_device(grants: &Grants, label: &str) -> bool {
    grants.iter().any(|(_, access)| matches!(access, Access::Device { label: own } if **own == *label))
}

/// Who learns of a channel of the device that these eyes see.
fn audience(viewers: &[Eyes<'_>], channel: &str) -> Audience {
    let mut audience = Audience::default();
    for eyes in viewers.iter().filter(|eyes| !eyes.is_device()) {
        match eyes.sight(channel) {
            Sight::Blind => {}
            Sight::Raw => audience.raw.push((&**eyes.sid).into()),
            Sight::Through(_) => audience.viewed.push((&**eyes.sid).into()),
        }
        if eyes.commands(channel) {
            audience.commanders.push((&**eyes.sid).into());
        }
    }
    audience
}

/// How a patch that was not applied is answered.
const fn reason_for(refused: Refused) -> ReasonCode {
    match refused {
        Refused::Malformed => ReasonCode::PAYLOAD_FORMAT_INVALID,
        Refused::TooLarge | Refused::TooDeep => ReasonCode::QUOTA_EXCEEDED,
        Refused::Conflict => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        Refused::NotAllowed => ReasonCode::NOT_AUTHORIZED,
    }
}

/// What is said beside the reason code of a refused publication.
pub(crate) fn explanation(topic: &str, reason: ReasonCode) -> Option<&'static str> {
    shadow_topic(topic)?;
    match reason {
        ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR => Some("not the current version"),
        ReasonCode::QUOTA_EXCEEDED => Some("too large or too deep"),
        ReasonCode::PAYLOAD_FORMAT_INVALID => Some("not a JSON object"),
        _ => None,
    }
}

impl Broker {
    /// Takes a message that belongs to a shadow; the policy has allowed its topic. `None` if it belongs to none.
    pub(crate) fn publish_to_shadow(
        &mut self,
        routed: &Routed<'_>,
        from: Option<usize>,
        now: u64,
    ) -> Option<ReasonCode> {
        let (label, part) = shadow_topic(routed.content.topic).filter(|_| self.policy.is_granted())?;
        let is_kept = matches!(part, Part::Reported | Part::Desired);
        if is_kept && self.log.refuses() {
            return Some(ReasonCode::QUOTA_EXCEEDED);
        }
        let taken = match part {
            Part::Reported => self.report(label, routed, now),
            Part::Desired => self.desire(routed.sid, label, routed.content.payload),
            Part::Document | Part::Delta => Err(Refused::NotAllowed),
        };
        Some(match taken {
            Ok(changed) => {
                if changed {
                    self.log.shadow(label);
                    self.tell_all(label, now);
                }
                ReasonCode::SUCCESS
            }
            Err(refused) => {
                if refused == Refused::Conflict {
                    self.tell_loser(from, label, now);
                }
                reason_for(refused)
            }
        })
    }

    fn report(&mut self, label: &str, routed: &Routed<'_>, now: u64) -> Result<bool, Refused> {
        self.send_summaries(now);
        let members = parse_report(routed.content.payload)?;
        let Broker { policy, shadows, lenses, limits, .. } = self;
        let Some(grants) = policy.grants() else { return Ok(false) };
        let viewers = viewers(grants, label);
        let audience = |channel: &str| audience(&viewers, channel);
        let sample =
            Sample { publisher: routed.sid.cloned(), qos: QoS::AtMostOnce, retain: false, lasts_ms: None };
        let mut refused = 0;
        let look = |reader: &str, channel: &str, value: &Value| {
            let Some(sid) = grants.sid(reader) else { return Looked::Nothing };
            let topic = format!("d/{label}/{channel}");
            let Sight::Through(view) = policy.sight(Some(&sid), &topic) else { return Looked::Nothing };
            let payload = value.to_string().into_bytes();
            let seen = if view.remembers() {
                let of = (&sid, Door::Shadow, view);
                lenses.see(of, &topic, &payload, &sample, limits, now)
            } else {
                Some(view.see(&payload, policy.hash_key(Some(&sid))))
            };
            match seen {
                Some(Seen::AsIs) => Looked::Whole,
                Some(Seen::Instead(payload)) => {
                    serde_json::from_slice(&payload).map_or(Looked::Nothing, Looked::Instead)
                }
                Some(Seen::Counted | Seen::Nothing) => Looked::Nothing,
                None => {
                    refused += 1;
                    Looked::Nothing
                }
            }
        };
        let changed = shadows.change(label, |kept| kept.shadow.report(&members, audience, look));
        self.dropped += refused;
        self.wake_for_summaries();
        changed
    }

    /// A window of reported values has ended: its summary is what the grant sees of the channel from now on.
    pub(crate) fn summary_for_shadow(&mut self, sid: &Rc<str>, topic: &str, summary: &[u8], now: u64) {
        let Some((label, channel)) = value_topic(topic) else { return };
        let sees = matches!(self.policy.sight(Some(sid), topic), Sight::Through(_));
        let Some(value) = serde_json::from_slice(summary).ok().filter(|_| sees) else { return };
        if self.log.refuses() || !self.shadows.change(label, |kept| kept.shadow.set_own(sid, channel, value))
        {
            self.dropped += 1;
        }
        self.log.shadow(label);
        self.tell_all(label, now);
    }

    fn desire(&mut self, sid: Option<&Rc<str>>, label: &str, payload: &[u8]) -> Result<bool, Refused> {
        let desire = Desire::parse(payload)?;
        let grants = self.policy.grants().filter(|grants| has_device(grants, label));
        let grants = grants.ok_or(Refused::NotAllowed)?;
        let (sid, access) = sid.zip(grants.access(sid)).ok_or(Refused::NotAllowed)?;
        let writer = Eyes { sid, access, label };
        let viewers = viewers(grants, label);
        self.shadows.change(label, |kept| kept.shadow.desire(&desire, &writer, &viewers))
    }

    /// Drops what the grants do not cover any more, and tells whoever sees a change.
    pub(crate) fn refilter_shadows(&mut self, earlier: &Policy, now: u64) {
        let Some(grants) = self.policy.grants() else { return };
        let commands = |policy: &Policy, sid: &str, label: &str, channel: &str| {
            policy.grants().is_some_and(|grants| {
                let Some(sid) = grants.sid(sid) else { return false };
                let access = grants.access(Some(&sid));
                access.is_some_and(|access| Eyes { sid: &sid, access, label }.commands(channel))
            })
        };
        self.shadows.by_label.retain(|label, kept| {
            if !has_device(grants, label) {
                return false;
            }
            let viewers = viewers(grants, label);
            let ids: Vec<&str> = viewers.iter().map(|eyes| &**eyes.sid).collect();
            kept.shadow.refilter(
                &ids,
                |sid, channel| commands(earlier, sid, label, channel),
                |sid, channel| commands(&self.policy, sid, label, channel),
                |sid, channel| {
                    self.policy.sees_as_in(earlier, grants.sid(sid).as_ref(), &format!("d/{label}/{channel}"))
                },
            );
            kept.known.retain(|sid, _| ids.contains(&&**sid));
            true
        });
        let labels: Vec<Box<str>> = self.shadows.by_label.keys().cloned().collect();
        for label in &labels {
            self.tell_all(label, now);
        }
        self.shadows.by_label.retain(|_, kept| !kept.shadow.is_empty());
    }
}
