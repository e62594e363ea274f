//! What goes on: clients come and go, publish and subscribe, and the owner changes his mind.

use crate::chance::Chance;
use crate::client::Client;
use crate::owner::Owner;
use mqtt_wire::{
    Connect, Disconnect, Filters, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe,
    Subscription, TopicFilters, Unsubscribe, Version, Will,
};
use pcm_wire::{Grant, Preamble, Rule, View};
use std::collections::BTreeMap;

const DEVICES: usize = 4;
const APPS: usize = 6;
/// Client identifiers of one grant.
const NAMES: usize = 12;
const MOST_OPEN: usize = 48;
const CHANNELS: [&str; 8] = ["t", "h", "log", "a", "b", "c", "x/y", "x/z"];
const FILTERS: [&str; 8] =
    ["d/#", "d/+/t", "d/L0/h", "d/L1/x/+", "$share/g/d/#", "s/#", "s/L2", "$share/g/d/+/log"];
const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const VERSIONS: [Version; 3] = [Version::V311, Version::V5, Version::V5];
const VIEWS: [&str; 7] = [
    r#"{"kind":"raw"}"#,
    r#"{"kind":"raw"}"#,
    r#"{"kind":"filter","above":500,"dead_band":5}"#,
    r#"{"kind":"filter","interval_s":1}"#,
    r#"{"kind":"summary","window_s":10,"min_samples":2,"histogram":[100,500,900]}"#,
    r#"{"kind":"summary","window_s":10,"field":"v"}"#,
    r#"{"kind":"coarsening","round":10,"drop":["secret"],"hash":["who"]}"#,
];

/// Grants of those that owe: they never change.
pub(crate) const DRIPPING: &str = "dripping";
pub(crate) const STALLED: &str = "stalled";

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) connects: u64,
    pub(crate) publishes: u64,
    pub(crate) received: u64,
    pub(crate) grants: u64,
}

pub(crate) struct Churn {
    chance: Chance,
    clients: Vec<Client>,
    pub(crate) counts: Counts,
}

pub(crate) fn connect<'a>(client_id: &'a str, version: Version, properties: Properties<'a>) -> Connect<'a> {
    Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        properties,
        client_id,
        will: None,
        username: None,
        password: None,
    }
}

fn rule(label: &str, views: BTreeMap<String, View>) -> Rule {
    let read = CHANNELS.iter().map(|&channel| channel.into()).collect();
    Rule { label: label.into(), read, command: vec!["heater".into()], view: View::Raw, views }
}

impl Churn {
    pub(crate) fn new(seed: u64) -> Churn {
        Churn { chance: Chance(seed), clients: Vec::new(), counts: Counts::default() }
    }

    /// New grants: of the apps one in eight has none, the others other devices and views than before.
    pub(crate) fn grant(&mut self, owner: &mut Owner) {
        let chance = &mut self.chance;
        let mut grants: Vec<Grant> = (0..DEVICES)
            .filter(|_| !chance.one_in(50))
            .map(|at| Grant::Device { sid: format!("dev{at}"), label: format!("L{at}") })
            .collect();
        grants.push(Grant::Device { sid: DRIPPING.into(), label: "drip".into() });
        for app in 0..APPS {
            let mut rules = Vec::new();
            for device in 0..DEVICES {
                let view = |chance: &mut Chance| serde_json::from_str(chance.of(&VIEWS)).expect("a view");
                let changed = CHANNELS.iter().filter(|_| chance.one_in(2)).map(|&channel| channel.to_owned());
                let changed: Vec<String> = changed.collect();
                let views = changed.into_iter().map(|channel| (channel, view(chance))).collect();
                if !chance.one_in(6) {
                    rules.push(rule(&format!("L{device}"), views));
                }
            }
            if !chance.one_in(8) {
                grants.push(Grant::App { sid: format!("app{app}"), rules, key: Some("B".repeat(43)) });
            }
        }
        let everything = vec![rule("L0", BTreeMap::new())];
        grants.push(Grant::App { sid: STALLED.into(), rules: everything, key: None });
        owner.grant(grants);
        self.counts.grants += 1;
    }

    /// One thing that somebody does.
    pub(crate) fn act(&mut self, owner: &Owner) {
        match self.chance.below(100) {
            0..12 if self.clients.len() < MOST_OPEN => self.come(owner),
            0..22 => self.go(),
            22..32 => self.subscribe(),
            32..40 => self.report(),
            _ => self.publish(),
        }
    }

    /// Everybody reads and answers; who is gone is gone.
    pub(crate) fn read(&mut self) {
        let Churn { chance, clients, counts } = self;
        for client in &mut *clients {
            client.read(|| chance.one_in(50));
            counts.received += std::mem::take(&mut client.messages);
        }
        clients.retain(|client| !client.over);
    }

    fn come(&mut self, owner: &Owner) {
        let chance = &mut self.chance;
        let sid = match chance.below(DEVICES + APPS) {
            at if at < DEVICES => format!("dev{at}"),
            at => format!("app{}", at - DEVICES),
        };
        let name = format!("{sid}-{}", chance.below(NAMES));
        let version = chance.of(&VERSIONS);
        let mut client = Client::open(&owner.socket, &sid, version);
        client.raw(&Preamble::Session { sid: sid.clone(), client: name.clone() }.to_bytes());
        let list = [
            Property::SessionExpiryInterval(chance.of(&[0, 1, 5, 15])),
            Property::ReceiveMaximum(chance.of(&[1, 5, 1_000])),
            Property::TopicAliasMaximum(chance.of(&[0, 10])),
        ];
        let properties = if version == Version::V5 { Properties::list(&list) } else { Properties::EMPTY };
        let topic = topic_of(&sid, chance);
        let will = Will {
            qos: chance.of(&QOS),
            retain: chance.one_in(4),
            properties: Properties::EMPTY,
            topic: &topic,
            payload: b"1",
        };
        let connect = Connect {
            // A session of MQTT 3.1.1 that is to stay would stay for a week.
            clean_start: version != Version::V5 || chance.one_in(3),
            keep_alive: chance.of(&[0, 5, 60]),
            will: chance.one_in(3).then_some(will),
            ..connect(&name, version, properties)
        };
        client.send(&Packet::Connect(connect));
        self.clients.push(client);
        self.counts.connects += 1;
    }

    fn go(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let at = self.chance.below(self.clients.len());
        let mut client = self.clients.swap_remove(at);
        if self.chance.one_in(2) {
            client.send(&Packet::Disconnect(Disconnect::new(ReasonCode::NORMAL_DISCONNECTION)));
        }
    }

    /// Anybody whose grant's name begins so.
    fn somebody(&mut self, role: &str) -> Option<usize> {
        let some: Vec<usize> =
            (0..self.clients.len()).filter(|&at| self.clients[at].sid.starts_with(role)).collect();
        (!some.is_empty()).then(|| self.chance.of(&some))
    }

    fn subscribe(&mut self) {
        let Some(at) = self.somebody("") else { return };
        let chance = &mut self.chance;
        let client = &mut self.clients[at];
        let packet_id = client.next_id();
        let filter = match client.sid.strip_prefix("dev") {
            Some(number) => {
                chance.of(&["c/L#/heater", "c/L#/#", "s/L#/delta"]).replace("L#", &format!("L{number}"))
            }
            None => chance.of(&FILTERS).to_owned(),
        };
        if chance.one_in(3) {
            let list = [filter.as_str()];
            let filters = TopicFilters::list(&list);
            return client.send(&Packet::Unsubscribe(Unsubscribe {
                packet_id,
                properties: Properties::EMPTY,
                filters,
            }));
        }
        let list = [Subscription::new(&filter, chance.of(&QOS))];
        let identifier = [Property::SubscriptionIdentifier(chance.below(100) as u32 + 1)];
        let with_identifier = client.version == Version::V5 && chance.one_in(2);
        let properties = if with_identifier { Properties::list(&identifier) } else { Properties::EMPTY };
        client.send(&Packet::Subscribe(Subscribe { packet_id, properties, filters: Filters::list(&list) }));
    }

    fn publish(&mut self) {
        let role = if self.chance.one_in(6) { "app" } else { "dev" };
        let Some(at) = self.somebody(role) else { return };
        let chance = &mut self.chance;
        let client = &mut self.clients[at];
        let topic = topic_of(&client.sid, chance);
        let number = chance.below(1_000);
        let payload = match chance.below(6) {
            0 => format!(r#"{{"v":{number},"secret":"s","who":"{number}"}}"#),
            1 => "x".repeat(chance.below(2_000)),
            2 => format!(r#"[{{"bn":"v","v":{number}}},{{"v":{}}}]"#, number + 1),
            3 => String::new(),
            _ => number.to_string(),
        };
        let expiry = [Property::MessageExpiryInterval(chance.below(20) as u32 + 1)];
        let expires = client.version == Version::V5 && chance.one_in(3);
        let qos = chance.of(&QOS);
        let publish = Publish {
            dup: false,
            qos,
            retain: chance.one_in(4),
            topic: &topic,
            packet_id: (qos != QoS::AtMostOnce).then(|| client.next_id()),
            properties: if expires { Properties::list(&expiry) } else { Properties::EMPTY },
            payload: payload.as_bytes(),
        };
        client.send(&Packet::Publish(publish));
        self.counts.publishes += 1;
    }

    /// A device reports, or an app desires.
    fn report(&mut self) {
        let role = self.chance.of(&["dev", "app"]);
        let Some(at) = self.somebody(role) else { return };
        let chance = &mut self.chance;
        let client = &mut self.clients[at];
        let number = chance.below(1_000);
        let (topic, payload) = match client.sid.strip_prefix("dev") {
            Some(label) => {
                let member = chance.of(&["t", "h", "log", "heater"]);
                let value = if chance.one_in(5) { "null".to_owned() } else { number.to_string() };
                (format!("s/L{label}/reported"), format!(r#"{{"{member}":{value}}}"#))
            }
            None => {
                let value = chance.of(&["null", "1", "\"on\"", "{\"mode\":2}"]);
                (format!("s/L{}/desired", chance.below(DEVICES)), format!(r#"{{"heater":{value}}}"#))
            }
        };
        let packet_id = Some(client.next_id());
        client.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: &topic,
            packet_id,
            properties: Properties::EMPTY,
            payload: payload.as_bytes(),
        }));
    }
}

/// Somewhere that a client of this grant may publish to.
fn topic_of(sid: &str, chance: &mut Chance) -> String {
    match sid.strip_prefix("dev") {
        Some(number) => format!("d/L{number}/{}", chance.of(&CHANNELS)),
        None => format!("c/L{}/heater", chance.below(DEVICES)),
    }
}
