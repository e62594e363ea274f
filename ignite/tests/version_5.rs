//! What only MQTT 5 has, through the gateway and a real PCM.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "what these expect is what they test")]

mod common;

use std::time::Duration;

use common::client::{Client, bearer, lasting, publish, will};
use common::{Stack, app_detail, timed};
use mqtt_wire::{
    Ack, Connect, Filters, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe, Subscription,
    Version,
};
use serde_json::json;

struct Parties {
    stack: Stack,
    app: String,
    device: String,
}

async fn parties() -> Parties {
    let stack = Stack::start().await;
    let app = stack.didp.add_app("owner", "s-app", json!([app_detail("label1", &["read", "command"])]));
    let device = stack.didp.add_device("owner", "s-device", "label1");
    Parties { stack, app, device }
}

impl Parties {
    /// A client whose CONNECT has these properties; it is in.
    async fn with(&self, id: &str, token: &str, properties: &[Property<'_>]) -> Client {
        let mut client = self.stack.connect().await;
        let connect = Connect { properties: Properties::list(properties), ..bearer(Version::V5, id, token) };
        assert_eq!(client.connect(connect).await, 0);
        client
    }

    async fn subscribed_app(&self, properties: &[Property<'_>]) -> Client {
        let mut app = self.with("app", &self.app, properties).await;
        assert_eq!(app.subscribe(1, &["d/#"]).await, [2]);
        app
    }
}

/// A subscription identifier is the subscriber's own, everything else is the publisher's.
#[tokio::test]
async fn every_property_of_a_message_arrives() {
    let parties = parties().await;
    let mut app = parties.with("app", &parties.app, &[]).await;
    let identifier = [Property::SubscriptionIdentifier(4_711)];
    let wish = [Subscription::new("d/#", QoS::AtLeastOnce)];
    let (properties, filters) = (Properties::list(&identifier), Filters::list(&wish));
    app.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties, filters })).await;
    app.expect(|packet| assert!(matches!(packet, Packet::SubAck(_)))).await;
    let mut device = parties.with("device", &parties.device, &[]).await;
    let said = [
        Property::PayloadFormatIndicator(true),
        Property::MessageExpiryInterval(1_000),
        Property::ContentType("application/json"),
        Property::CorrelationData(b"\0\xFF"),
        Property::UserProperty("b", "1"),
        Property::UserProperty("a", "2"),
        Property::UserProperty("b", "1"),
    ];
    device.send(&publish(QoS::AtLeastOnce, 1, "d/temperature", b"21", Properties::list(&said))).await;
    assert_eq!(device.puback(1).await, 0);
    app.expect(|packet| {
        let Packet::Publish(Publish { properties, .. }) = packet else { panic!("{packet:?}") };
        let sorted = |properties: &mut dyn Iterator<Item = Property<'_>>| {
            let mut all: Vec<String> = properties.map(|property| format!("{property:?}")).collect();
            all.sort();
            all
        };
        let expected = sorted(&mut said.into_iter().chain(identifier));
        assert_eq!(sorted(&mut properties.iter()), expected);
        let own = |property: &Property<'_>| matches!(property, Property::UserProperty(..));
        assert!(properties.iter().filter(own).eq(said.into_iter().filter(own)), "their order counts");
    })
    .await;
}

#[tokio::test]
async fn message_expiry_is_counted_down() {
    let parties = parties().await;
    let mut app = parties.subscribed_app(&[]).await;
    let mut device = parties.with("device", &parties.device, &[]).await;
    let expiry = [Property::MessageExpiryInterval(100)];
    let retained = Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "d/temperature",
        packet_id: Some(1),
        properties: Properties::list(&expiry),
        payload: b"21",
    });
    device.send(&retained).await;
    assert_eq!(device.puback(1).await, 0);
    let left = async |app: &mut Client| {
        app.expect(|packet| match packet {
            Packet::Publish(publish) => publish.properties.message_expiry_interval().unwrap(),
            other => panic!("{other:?}"),
        })
        .await
    };
    assert_eq!(left(&mut app).await, 100);
    let (seen, took) = timed(async {
        loop {
            // A new subscriber gets the retained message with what is left of its time.
            let mut newcomer = parties.with("newcomer", &parties.app, &[]).await;
            let wish = [Subscription::new("d/#", QoS::AtMostOnce)];
            let (properties, filters) = (Properties::EMPTY, Filters::list(&wish));
            newcomer.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties, filters })).await;
            newcomer.expect(|packet| assert!(matches!(packet, Packet::SubAck(_)))).await;
            let left = left(&mut newcomer).await;
            if left < 100 {
                return left;
            }
        }
    })
    .await;
    let most = 100 - u32::try_from(took.as_secs()).unwrap().saturating_sub(1);
    assert!((1..=most).contains(&seen), "{seen} after {took:?}");
}

/// Towards the client: what it cannot take yet waits at the PCM.
#[tokio::test]
async fn the_clients_receive_maximum_holds() {
    let parties = parties().await;
    let mut app = parties.subscribed_app(&[Property::ReceiveMaximum(1)]).await;
    let mut device = parties.with("device", &parties.device, &[]).await;
    for (id, payload) in [(1, b"1"), (2, b"2"), (3, b"3")] {
        assert_eq!(device.publish_acked(id, "d/temperature", payload).await, 0);
    }
    for payload in [b"1", b"2", b"3"] {
        let id = app
            .expect(|packet| match packet {
                Packet::Publish(publish) => {
                    assert_eq!(publish.payload, payload);
                    publish.packet_id.unwrap()
                }
                other => panic!("{other:?}"),
            })
            .await;
        // The next one is not on its way: the answer to a later request comes first.
        assert_eq!(app.subscribe(9, &["d/other"]).await, [0x87]);
        app.ping().await;
        app.send(&Packet::PubAck(Ack::new(id, ReasonCode::SUCCESS))).await;
    }
}

/// Towards the PCM: it says how much it takes, and whoever does not keep to it is told so.
#[tokio::test]
async fn the_pcms_receive_maximum_holds() {
    let parties = parties().await;
    let mut device = parties.stack.connect().await;
    device.version = Version::V5;
    device.send(&Packet::Connect(bearer(Version::V5, "device", &parties.device))).await;
    let most = device
        .expect(|packet| match packet {
            Packet::ConnAck(connack) => connack.properties.receive_maximum().unwrap(),
            other => panic!("{other:?}"),
        })
        .await;
    for id in 1..=most {
        device.publish(QoS::ExactlyOnce, id, "d/temperature", b"1").await;
        device.expect(|packet| assert!(matches!(packet, Packet::PubRec(_)))).await;
    }
    device.publish(QoS::ExactlyOnce, most + 1, "d/temperature", b"1").await;
    device.expect_disconnect(0x93).await;
}

#[tokio::test]
async fn topics_get_aliases_towards_a_client_that_takes_them() {
    let parties = parties().await;
    let mut app = parties.subscribed_app(&[Property::TopicAliasMaximum(1)]).await;
    let mut device = parties.with("device", &parties.device, &[]).await;
    let mut seen = Vec::new();
    for (id, topic) in
        [(1, "d/temperature"), (2, "d/temperature"), (3, "d/heater-state"), (4, "d/temperature")]
    {
        assert_eq!(device.publish_acked(id, topic, b"1").await, 0);
        let arrived = app
            .expect(|packet| match packet {
                Packet::Publish(publish) => (publish.topic.to_owned(), publish.properties.topic_alias()),
                other => panic!("{other:?}"),
            })
            .await;
        seen.push(arrived);
    }
    assert!(seen[0].0.ends_with("/temperature") && seen[2].0.ends_with("/heater-state"), "{seen:?}");
    assert_eq!((seen[0].1, seen[2].1), (Some(1), None));
    assert_eq!(seen[1], (String::new(), Some(1)));
    assert_eq!(seen[3], seen[1]);
}

#[tokio::test]
async fn a_will_waits_for_its_delay_and_not_beyond_a_return() {
    let parties = parties().await;
    let mut app = parties.subscribed_app(&[]).await;
    let keep = [Property::SessionExpiryInterval(600)];
    let lost = async |delay: u32| {
        let delay = [Property::WillDelayInterval(delay)];
        let connect = Connect {
            clean_start: false,
            will: Some(will("d/temperature", &delay)),
            properties: Properties::list(&keep),
            ..bearer(Version::V5, "device", &parties.device)
        };
        let mut device = parties.stack.connect().await;
        assert_eq!(device.connect(connect).await, 0);
        // The connection is dropped without DISCONNECT.
    };
    lost(60).await;
    let mut device = parties.stack.connect().await;
    assert_eq!(device.connect(lasting("device", &parties.device)).await, 0);
    assert_eq!(device.publish_acked(1, "d/temperature", b"back").await, 0);
    assert_eq!(app.message().await.payload, b"back", "and not the will");
    device.disconnect().await;
    let (message, took) = timed(async {
        lost(1).await;
        app.message().await
    })
    .await;
    assert_eq!(message.payload, b"gone");
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn refusals_are_said_in_words_to_whoever_wants_them() {
    let parties = parties().await;
    for (wants, expected) in [(None, true), (Some(true), true), (Some(false), false)] {
        let wish = wants.map(Property::RequestProblemInformation);
        let mut device = parties.with("device", &parties.device, wish.as_slice()).await;
        device.publish(QoS::AtLeastOnce, 1, "c/heater", b"1").await;
        device
            .expect(|packet| match packet {
                Packet::PubAck(ack) => {
                    assert_eq!((ack.reason.0, ack.properties.reason_string().is_some()), (0x87, expected));
                }
                other => panic!("{other:?}"),
            })
            .await;
        device.disconnect().await;
    }
    let mut stranger = parties.stack.connect().await;
    stranger.version = Version::V5;
    stranger.send(&Packet::Connect(bearer(Version::V5, "c", "demo.unknown"))).await;
    stranger
        .expect(|packet| match packet {
            Packet::ConnAck(connack) => {
                assert_eq!(connack.properties.reason_string(), Some("token may not be used here"));
            }
            other => panic!("{other:?}"),
        })
        .await;
}
