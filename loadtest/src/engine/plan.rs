//! What an engine is to do: which clients, what they subscribe, what they publish and how fast.

use std::time::Duration;

use mqtt_wire::{QoS, Version};
use serde::{Deserialize, Serialize};

use super::stamp;

/// Everything one engine drives. It travels to drivers as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The version all clients speak.
    #[serde(with = "version_name")]
    pub version: Version,
    /// Connections being opened at the same time.
    pub connecting: usize,
    /// Keep alive in seconds; 0 for none.
    pub keep_alive: u16,
    /// Longest time from opening to the last SUBACK, for one client.
    pub patience: Duration,
    /// The clients, numbered from 0.
    pub clients: Vec<ClientPlan>,
    /// What they publish, numbered from 0.
    pub streams: Vec<StreamPlan>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            version: Version::V311,
            connecting: 64,
            keep_alive: 300,
            patience: Duration::from_secs(20),
            clients: Vec::new(),
            streams: Vec::new(),
        }
    }
}

impl Plan {
    /// Whether it is within bounds: a hundred thousand clients, a thousand messages a second of an open loop.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.clients.len() <= 100_000, "more than 100,000 clients");
        let fast = |pace| matches!(pace, Pace::Open { interval, .. } if interval < Duration::from_millis(1));
        anyhow::ensure!(
            !self.streams.iter().any(|one| fast(one.pace)),
            "more than a thousand messages a second"
        );
        Ok(())
    }

    /// Shares for so many drivers, those without a client left out: everything of one owner stays together.
    #[must_use]
    pub fn split(&self, drivers: usize) -> Vec<Plan> {
        let mut places = Vec::with_capacity(self.clients.len());
        let mut shares: Vec<Plan> = (0..drivers.max(1)).map(|_| self.settings_alone()).collect();
        for client in &self.clients {
            let driver = client.owner % shares.len();
            let number = shares.get_mut(driver).map_or(0, |share| share.client(client.clone()));
            places.push((driver, number));
        }
        for stream in &self.streams {
            let Some((driver, publisher)) = places.get(stream.publisher).copied() else { continue };
            if let Some(share) = shares.get_mut(driver) {
                share.stream(StreamPlan { publisher, ..stream.clone() });
            }
        }
        shares.retain(|share| !share.clients.is_empty());
        shares
    }

    fn settings_alone(&self) -> Plan {
        Plan {
            version: self.version,
            connecting: self.connecting,
            keep_alive: self.keep_alive,
            patience: self.patience,
            clients: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// Adds a client and answers its number.
    pub fn client(&mut self, client: ClientPlan) -> usize {
        self.clients.push(client);
        self.clients.len() - 1
    }

    /// Adds a stream and answers its number.
    pub fn stream(&mut self, stream: StreamPlan) -> usize {
        self.streams.push(stream);
        self.streams.len() - 1
    }
}

/// One client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientPlan {
    /// Its client id.
    pub id: String,
    /// User name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<(String, String)>,
    /// What it subscribes before it counts as ready.
    #[serde(default, with = "filters")]
    pub filters: Vec<(String, QoS)>,
    /// Whether it asks for a session without a past; a session that is not clean outlives its connection.
    pub clean: bool,
    /// Whose it is: clients that exchange messages have the same owner.
    #[serde(default)]
    pub owner: usize,
    /// A device: the `device-client` crate speaks for it, from this record (`Record::encode`), and nothing else of this plan counts.
    #[serde(default, with = "record", skip_serializing_if = "Option::is_none")]
    pub device: Option<Vec<u8>>,
}

impl ClientPlan {
    /// A client that subscribes nothing.
    #[must_use]
    pub fn new(id: impl Into<String>) -> ClientPlan {
        ClientPlan { id: id.into(), login: None, filters: Vec::new(), clean: true, owner: 0, device: None }
    }

    /// A device with the record that [`device_client::Record::encode`] wrote.
    #[must_use]
    pub fn device(id: impl Into<String>, record: Vec<u8>) -> ClientPlan {
        ClientPlan { device: Some(record), ..ClientPlan::new(id) }
    }

    /// The same with one more filter.
    #[must_use]
    pub fn subscribing(mut self, filter: impl Into<String>, qos: QoS) -> ClientPlan {
        self.filters.push((filter.into(), qos));
        self
    }

    /// The same with user name and password.
    #[must_use]
    pub fn login(mut self, name: impl Into<String>, password: impl Into<String>) -> ClientPlan {
        self.login = Some((name.into(), password.into()));
        self
    }
}

/// One client's messages on one topic.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamPlan {
    /// The client that publishes.
    pub publisher: usize,
    /// Where to.
    pub topic: String,
    /// How.
    #[serde(with = "quality")]
    pub qos: QoS,
    /// Whether the broker is to keep them.
    pub retain: bool,
    /// Bytes of a payload; at least [`stamp::LENGTH`] are sent.
    pub payload: usize,
    /// How many clients of the same engine receive each message.
    pub receivers: u64,
    /// When the next one is sent.
    pub pace: Pace,
    /// Which of the outcome's histograms gets its latencies, from 0; at most [`GROUPS`].
    pub group: usize,
}

/// Histograms beside the one of everything.
pub const GROUPS: usize = 2;

impl StreamPlan {
    /// Messages of 100 bytes for one receiver.
    #[must_use]
    pub fn new(publisher: usize, topic: impl Into<String>, qos: QoS, pace: Pace) -> StreamPlan {
        StreamPlan {
            publisher,
            topic: topic.into(),
            qos,
            retain: false,
            payload: 100,
            receivers: 1,
            pace,
            group: 0,
        }
    }

    /// The same in another group.
    #[must_use]
    pub const fn group(mut self, group: usize) -> StreamPlan {
        self.group = group;
        self
    }

    pub(super) fn length(&self) -> usize {
        self.payload.max(stamp::LENGTH)
    }
}

/// When the next message of a stream is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    /// Closed loop: as soon as fewer than so many are on their way.
    Closed {
        /// Messages not yet received by everybody (and, with QoS 1 and 2, not yet acknowledged).
        window: u64,
    },
    /// Open loop: at fixed times, whatever happened to the earlier ones. A message that had to wait for its turn counts from
    /// the time at which it was due, so a stalled broker cannot hide its stall by holding the load back (coordinated omission).
    Open {
        /// From one to the next.
        interval: Duration,
        /// From the start to the first.
        offset: Duration,
    },
    /// So many, as fast as acknowledgements (QoS 1 and 2) or the socket (QoS 0) allow.
    Once {
        /// How many.
        messages: u64,
    },
}

mod quality {
    use mqtt_wire::QoS;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    pub(super) fn serialize<S: Serializer>(qos: &QoS, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u8(qos.bits())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<QoS, D::Error> {
        let bits = u8::deserialize(from)?;
        QoS::from_bits(bits).ok_or_else(|| D::Error::custom("qos is 0, 1 or 2"))
    }
}

mod filters {
    use mqtt_wire::QoS;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct One(String, #[serde(with = "super::quality")] QoS);

    pub(super) fn serialize<S: Serializer>(list: &[(String, QoS)], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(|(filter, qos)| One(filter.clone(), *qos)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, QoS)>, D::Error> {
        let list = Vec::<One>::deserialize(from)?;
        Ok(list.into_iter().map(|One(filter, qos)| (filter, qos)).collect())
    }
}

mod version_name {
    use mqtt_wire::Version;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    pub(super) fn serialize<S: Serializer>(version: &Version, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(if *version == Version::V5 { "5" } else { "3.1.1" })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Version, D::Error> {
        match String::deserialize(from)?.as_str() {
            "5" => Ok(Version::V5),
            "3.1.1" => Ok(Version::V311),
            _ => Err(D::Error::custom("version is 3.1.1 or 5")),
        }
    }
}

mod record {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(record: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        record.as_ref().map(|bytes| STANDARD.encode(bytes)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| STANDARD.decode(text).map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::{ClientPlan, Pace, Plan, StreamPlan};
    use mqtt_wire::{QoS, Version};
    use std::time::Duration;

    #[test]
    fn owners_stay_together_when_a_plan_is_split_and_travels() {
        let mut plan = Plan { version: Version::V5, ..Plan::default() };
        for owner in 0..5 {
            let device = ClientPlan { owner, ..ClientPlan::device(format!("d{owner}"), vec![1, 2, 255]) };
            let device = plan.client(device);
            let app =
                ClientPlan::new(format!("a{owner}")).subscribing("d/#", QoS::AtLeastOnce).login("n", "p");
            plan.client(ClientPlan { owner, ..app });
            let pace = Pace::Open { interval: Duration::from_secs(1), offset: Duration::ZERO };
            plan.stream(StreamPlan::new(device, format!("d/{owner}"), QoS::ExactlyOnce, pace).group(1));
        }
        let shares = plan.split(2);
        assert_eq!(shares.iter().map(|share| share.clients.len()).collect::<Vec<_>>(), [6, 4]);
        for share in &shares {
            let text = serde_json::to_string(share).expect("JSON");
            let share: Plan = serde_json::from_str(&text).expect("JSON");
            assert_eq!(share.version, Version::V5);
            for stream in &share.streams {
                let publisher = &share.clients[stream.publisher];
                assert_eq!(stream.topic, format!("d/{}", publisher.owner));
                assert_eq!(publisher.device.as_deref(), Some(&[1, 2, 255][..]));
                assert_eq!((stream.qos, stream.group), (QoS::ExactlyOnce, 1));
            }
            assert_eq!(share.streams.len() * 2, share.clients.len());
        }
        assert_eq!(plan.split(9).len(), 5, "nobody gets an empty share");
    }
}
