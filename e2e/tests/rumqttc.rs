//! rumqttc, both of its modules: 3.1.1 and 5, with and without TLS.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use e2e::{Scene, Way};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

fn tls(scene: &Scene) -> anyhow::Result<rumqttc::Transport> {
    let config: Arc<rustls::ClientConfig> = service::tls::client_config(&scene.stack.ca_file())?;
    Ok(rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(config)))
}

/// MQTT 3.1.1.
mod v4 {
    use super::*;
    use rumqttc::{
        AsyncClient, ConnectReturnCode, Event, EventLoop, Incoming, MqttOptions, QoS, SubscribeReasonCode,
    };

    pub(super) struct Connected {
        pub(super) client: AsyncClient,
        events: EventLoop,
    }

    impl Connected {
        pub(super) fn new(scene: &Scene, id: &str, token: &str, way: Way) -> anyhow::Result<Self> {
            let mut options = MqttOptions::new(id, "localhost", way.port(&scene.stack));
            options.set_credentials("Bearer", token);
            if way.tls {
                options.set_transport(tls(scene)?);
            }
            let (client, events) = AsyncClient::new(options, 16);
            Ok(Self { client, events })
        }

        async fn incoming(&mut self) -> anyhow::Result<Incoming> {
            loop {
                if let Event::Incoming(packet) =
                    timeout(PATIENCE, self.events.poll()).await.context("nothing comes")??
                {
                    return Ok(packet);
                }
            }
        }

        pub(super) async fn connected(&mut self) -> anyhow::Result<()> {
            match self.incoming().await? {
                Incoming::ConnAck(ack) if ack.code == ConnectReturnCode::Success => Ok(()),
                other => bail!("{other:?} instead of CONNACK"),
            }
        }

        pub(super) async fn subscribed(&mut self, filter: &str) -> anyhow::Result<bool> {
            self.client.subscribe(filter, QoS::AtLeastOnce).await?;
            loop {
                if let Incoming::SubAck(ack) = self.incoming().await? {
                    return Ok(ack.return_codes != [SubscribeReasonCode::Failure]);
                }
            }
        }

        pub(super) async fn publish(&mut self, topic: &str, payload: &str) -> anyhow::Result<()> {
            self.client.publish(topic, QoS::AtLeastOnce, false, payload).await?;
            loop {
                if let Incoming::PubAck(_) = self.incoming().await? {
                    return Ok(());
                }
            }
        }

        pub(super) async fn message(&mut self) -> anyhow::Result<(String, String)> {
            loop {
                if let Incoming::Publish(publish) = self.incoming().await? {
                    return Ok((publish.topic, String::from_utf8(publish.payload.to_vec())?));
                }
            }
        }

        pub(super) async fn refused(&mut self) -> anyhow::Result<()> {
            match timeout(PATIENCE, self.events.poll()).await.context("nothing comes")? {
                Err(rumqttc::ConnectionError::ConnectionRefused(_)) => Ok(()),
                other => bail!("{other:?} instead of a refusal"),
            }
        }
    }
}

/// MQTT 5.
mod v5 {
    use super::*;
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, Packet, PubAckReason, SubscribeReasonCode};
    use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions};

    pub(super) struct Connected {
        pub(super) client: AsyncClient,
        events: EventLoop,
    }

    impl Connected {
        pub(super) fn new(scene: &Scene, id: &str, token: &str, way: Way) -> anyhow::Result<Self> {
            let mut options = MqttOptions::new(id, "localhost", way.port(&scene.stack));
            options.set_credentials("Bearer", token);
            if way.tls {
                options.set_transport(tls(scene)?);
            }
            let (client, events) = AsyncClient::new(options, 16);
            Ok(Self { client, events })
        }

        async fn incoming(&mut self) -> anyhow::Result<Packet> {
            loop {
                if let Event::Incoming(packet) =
                    timeout(PATIENCE, self.events.poll()).await.context("nothing comes")??
                {
                    return Ok(packet);
                }
            }
        }

        pub(super) async fn connected(&mut self) -> anyhow::Result<()> {
            match self.incoming().await? {
                Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => Ok(()),
                other => bail!("{other:?} instead of CONNACK"),
            }
        }

        pub(super) async fn subscribed(&mut self, filter: &str) -> anyhow::Result<bool> {
            self.client.subscribe(filter, QoS::AtLeastOnce).await?;
            loop {
                if let Packet::SubAck(ack) = self.incoming().await? {
                    return Ok(matches!(ack.return_codes.as_slice(), [SubscribeReasonCode::Success(_)]));
                }
            }
        }

        /// Whether it is accepted.
        pub(super) async fn publish(&mut self, topic: &str, payload: &str) -> anyhow::Result<bool> {
            self.client.publish(topic, QoS::AtLeastOnce, false, payload.to_owned()).await?;
            loop {
                // A refusal is an event and, for this client, also an error of its state.
                match self.incoming().await {
                    Ok(Packet::PubAck(ack)) => {
                        return Ok(matches!(
                            ack.reason,
                            PubAckReason::Success | PubAckReason::NoMatchingSubscribers
                        ));
                    }
                    Ok(_) => {}
                    Err(error) if error.to_string().contains("NotAuthorized") => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
        }

        pub(super) async fn message(&mut self) -> anyhow::Result<(String, String)> {
            loop {
                if let Packet::Publish(publish) = self.incoming().await? {
                    let topic = String::from_utf8(publish.topic.to_vec())?;
                    return Ok((topic, String::from_utf8(publish.payload.to_vec())?));
                }
            }
        }

        pub(super) async fn refused(&mut self) -> anyhow::Result<()> {
            match timeout(PATIENCE, self.events.poll()).await.context("nothing comes")? {
                Err(ConnectionError::ConnectionRefused(_)) => Ok(()),
                other => bail!("{other:?} instead of a refusal"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn version_3_1_1() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let handle = &scene.handle;
    for way in Way::TCP.into_iter().filter(|way| way.version == 4) {
        v4::Connected::new(&scene, "stranger", "demo.not-a-token", way)?.refused().await?;
        let mut device = v4::Connected::new(&scene, "device", &scene.owned.access_token, way)?;
        let mut app = v4::Connected::new(&scene, "app", &scene.allowed.access_token, way)?;
        device.connected().await?;
        app.connected().await?;
        ensure!(device.subscribed("c/#").await? && app.subscribed("d/#").await?);
        ensure!(!device.subscribed("d/#").await?, "{way:?}: a device hears readings");
        ensure!(!app.subscribed("c/#").await?, "{way:?}: an app hears commands");
        device.publish("d/temperature", "21.5").await?;
        ensure!(app.message().await? == (format!("d/{handle}/temperature"), "21.5".to_owned()));
        app.publish(&format!("c/{handle}/heater"), "true").await?;
        ensure!(device.message().await? == ("c/heater".to_owned(), "true".to_owned()));
        app.publish(&format!("d/{handle}/temperature"), "99").await?;
        device.publish("d/temperature", "22.5").await?;
        ensure!(app.message().await?.1 == "22.5", "{way:?}: an app's own reading arrives");
    }
    scene.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn version_5() -> anyhow::Result<()> {
    let scene = Scene::new().await?;
    let handle = &scene.handle;
    for way in Way::TCP.into_iter().filter(|way| way.version == 5) {
        v5::Connected::new(&scene, "stranger", "demo.not-a-token", way)?.refused().await?;
        let mut device = v5::Connected::new(&scene, "device", &scene.owned.access_token, way)?;
        let mut app = v5::Connected::new(&scene, "app", &scene.allowed.access_token, way)?;
        device.connected().await?;
        app.connected().await?;
        ensure!(device.subscribed("c/#").await? && app.subscribed("d/#").await?);
        ensure!(!device.subscribed("d/#").await?, "{way:?}: a device hears readings");
        ensure!(!app.subscribed("c/#").await?, "{way:?}: an app hears commands");
        ensure!(device.publish("d/temperature", "21.5").await?);
        ensure!(app.message().await? == (format!("d/{handle}/temperature"), "21.5".to_owned()));
        ensure!(app.publish(&format!("c/{handle}/heater"), "true").await?);
        ensure!(device.message().await? == ("c/heater".to_owned(), "true".to_owned()));
        ensure!(
            !app.publish(&format!("d/{handle}/temperature"), "99").await?,
            "{way:?}: an app publishes readings"
        );
    }
    scene.stack.stop().await
}
