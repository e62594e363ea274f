//! A home with a shadow: a device `L` and two apps, and what they say and see of it.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use crate::hub::{Hub, OK, Seen, app, device, publish};
use mqtt_broker::{Access, Limits, Policy};
use mqtt_wire::{QoS, ReasonCode, Subscription};

pub const DENIED: ReasonCode = ReasonCode::NOT_AUTHORIZED;
pub const CONFLICT: ReasonCode = ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR;
pub const QUOTA: ReasonCode = ReasonCode::QUOTA_EXCEEDED;
pub const MALFORMED: ReasonCode = ReasonCode::PAYLOAD_FORMAT_INVALID;

pub const DEVICE: usize = 1;
pub const APP: usize = 2;
pub const OTHER: usize = 3;

pub fn subscription(filter: &str, qos: u8) -> Subscription<'_> {
    Subscription::new(filter, QoS::from_bits(qos).expect("a QoS"))
}

/// A device `L` and two apps, all connected and nothing subscribed.
pub fn home(grants: &[(&str, Access)]) -> Hub {
    let mut hub = Hub::with(Limits::PERSONAL, Policy::Granted(None));
    hub.grant(grants);
    for (id, sid) in [(DEVICE, "dev"), (APP, "app"), (OTHER, "other")] {
        if grants.iter().any(|(granted, _)| *granted == sid) {
            hub.lasting(id, sid, false);
        }
    }
    hub
}

pub fn usual() -> [(&'static str, Access); 3] {
    [
        ("dev", device("L")),
        ("app", app("L", &["t", "heater"], &["heater", "fan"])),
        ("other", app("L", &["u"], &["heater"])),
    ]
}

pub fn report(hub: &mut Hub, patch: &str) {
    hub.publish(DEVICE, publish("s/L/reported", patch, 1, 7));
    assert_eq!(hub.take_one(DEVICE), Seen::PubAck(7, OK));
}

/// Publishes and answers with the code; what came before the acknowledgement is left out.
pub fn desire(hub: &mut Hub, id: usize, patch: &str) -> ReasonCode {
    hub.publish(id, publish("s/L/desired", patch, 1, 7));
    match hub.take(id).pop() {
        Some(Seen::PubAck(7, reason)) => reason,
        other => panic!("no PUBACK but {other:?}"),
    }
}

pub fn retained(topic: &str, payload: &str) -> Seen {
    flagged(Seen::message(topic, payload), true)
}

pub fn flagged(seen: Seen, flag: bool) -> Seen {
    match seen {
        Seen::Message { topic, payload, qos, id, dup, ids, .. } => {
            Seen::Message { topic, payload, qos, id, dup, retain: flag, ids }
        }
        other => other,
    }
}

pub fn document(payload: &str) -> Seen {
    Seen::message("s/L", payload)
}

pub fn delta(payload: &str) -> Seen {
    Seen::message("s/L/delta", payload)
}

pub const EMPTY: &str = r#"{"version":0,"reported":{},"desired":{},"delta":{}}"#;

pub fn all() -> [Subscription<'static>; 1] {
    [subscription("s/#", 0)]
}
