//! An app: shows each reading that its owners allow, and turns the heater on where it is colder than 20 degrees.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};

/// Runs until the connection ends. `ca` is the authority that the gateway's operator names, as PEM; `show` gets each line.
pub async fn run(
    (host, port): (&str, u16),
    token: &str,
    ca: Vec<u8>,
    mut show: impl FnMut(String),
) -> anyhow::Result<()> {
    let mut options = MqttOptions::new("heating", host, port);
    options.set_credentials("Bearer", token);
    options.set_transport(Transport::tls_with_config(TlsConfiguration::Simple {
        ca,
        alpn: None,
        client_auth: None,
    }));
    let (client, mut events) = AsyncClient::new(options, 16);
    // Everything that this token may see.
    client.subscribe("d/#", QoS::AtLeastOnce).await?;
    loop {
        match events.poll().await? {
            Event::Incoming(Packet::SubAck(_)) => show("listening".to_owned()),
            Event::Incoming(Packet::Publish(publish)) => {
                let topic = std::str::from_utf8(&publish.topic)?;
                let payload = std::str::from_utf8(&publish.payload)?;
                show(format!("{topic} {payload}"));
                let mut levels = topic.splitn(3, '/').skip(1);
                if let (Some(handle), Some("temperature")) = (levels.next(), levels.next())
                    && payload.parse::<f64>().is_ok_and(|degrees| degrees < 20.0)
                {
                    client.publish(format!("c/{handle}/heater"), QoS::AtLeastOnce, false, "true").await?;
                }
            }
            _ => {}
        }
    }
}
