//! A device step by step, so that a test can stop between any two of them.
//!
//! The real firmware's steps are `device-client`'s business; the sample device runs them in order. This one does by hand what
//! `docs/protocol.md` §2 and §5 say, and can also do it wrongly.

use anyhow::{Context as _, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mqtt_wire::{Property, QoS, Version};
use oauth_wire::{GatewayAddress, TokenResponse};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::browser::http;
use crate::mqtt::{Client, Door, Options};

/// What the kit's devices are called at registration.
pub const MODEL: &str = "Thermostat T1";

/// What registration answers (the part that is flashed and printed).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Device {
    /// The secure device id.
    pub client_id: String,
    /// The secret, until the first claim.
    pub client_secret: String,
    /// What the QR label holds.
    pub user_registration_uri: String,
    /// The manufacturer's key to the registration, until the first claim.
    pub registration_access_token: String,
    /// Where the device reaches the DIdP.
    pub mqtt: MqttAddress,
}

/// An address of MQTT over TLS.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MqttAddress {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Pins (RFC 7469 §2.4).
    pub spki_sha256: Vec<String>,
}

/// Registration metadata of a thermostat: `temperature`, `heater/state` (readings) and `heater` (command).
#[must_use]
pub fn thermostat() -> Value {
    json!({
        "client_name": MODEL,
        "device": { "confirm": "code", "channels": [
            { "name": "temperature", "direction": "data", "title": "Temperature", "unit": "°C", "type": "number" },
            { "name": "heater/state", "direction": "data", "title": "Heater is on", "type": "boolean" },
            { "name": "heater", "direction": "command", "title": "Heater", "type": "boolean" },
        ]},
    })
}

/// Does the factory's part: registers a device.
///
/// # Errors
/// No answer, or a refusal.
pub async fn register(issuer: &str, initial_access_token: &str, metadata: &Value) -> anyhow::Result<Device> {
    let request = http().post(format!("{issuer}/register")).bearer_auth(initial_access_token);
    let answer = request.json(metadata).send().await.context("register a device")?;
    let status = answer.status();
    let body = answer.text().await.context("register a device")?;
    ensure!(status == StatusCode::CREATED, "registration of a device: {status} {body}");
    serde_json::from_str(&body).context("registration answer")
}

impl Device {
    /// How it connects to the DIdP.
    ///
    /// # Errors
    /// Pins that are none.
    pub fn didp(&self) -> anyhow::Result<Options> {
        let door = Door::new(&self.mqtt.host, self.mqtt.port)
            .tls(service::tls::pinned_client_config(&self.mqtt.spki_sha256)?);
        Ok(Options::new(&door).login(&self.client_id, &self.client_secret).client_id(&self.client_id))
    }

    /// Connects to the DIdP and waits there for somebody to press the button.
    ///
    /// # Errors
    /// No connection.
    pub async fn wait(&self) -> anyhow::Result<Waiting> {
        self.wait_with(Version::V5).await
    }

    /// The same in another version of MQTT.
    ///
    /// # Errors
    /// No connection.
    pub async fn wait_with(&self, version: Version) -> anyhow::Result<Waiting> {
        Self::wait_on(self.didp()?.version(version)).await
    }

    /// The same with connection settings of one's own.
    ///
    /// # Errors
    /// No connection.
    pub async fn wait_on(options: Options) -> anyhow::Result<Waiting> {
        let client = options.connect().await?;
        Ok(Waiting { client, verifier: service::secret::random_token::<32>() })
    }
}

/// A device that is connected to the DIdP.
#[derive(Debug)]
pub struct Waiting {
    client: Client,
    verifier: String,
}

impl Waiting {
    /// Somebody presses the button: what the display shows then.
    ///
    /// # Errors
    /// The DIdP opens no window.
    pub async fn press(&mut self) -> anyhow::Result<String> {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.as_bytes()));
        let request = json!({ "code_challenge": challenge, "code_challenge_method": "S256" });
        let answer = self.ask("$oauth/claim", &request).await?;
        ensure!(answer["status"] == "window_open", "a press is answered with {answer}");
        Ok(answer["user_code"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the owner has decided: the authorization code, or the `error`.
    ///
    /// # Errors
    /// Nothing comes in ten seconds.
    pub async fn decision(&mut self) -> anyhow::Result<Result<String, String>> {
        let answer = loop {
            let message = self.client.message().await.context("the owner's decision")?;
            let answer: Value = serde_json::from_slice(&message.payload)?;
            // Once the owner has typed the code, the window stays open for the decision: it says so again.
            if answer["status"] != "window_open" {
                break answer;
            }
        };
        if let Some(error) = answer["error"].as_str() {
            return Ok(Err(error.to_owned()));
        }
        ensure!(answer["status"] == "granted", "the owner's decision arrives as {answer}");
        Ok(Ok(answer["code"].as_str().context("granted without a code")?.to_owned()))
    }

    /// Redeems the authorization code.
    ///
    /// # Errors
    /// The DIdP refuses.
    pub async fn redeem(&mut self, code: &str) -> anyhow::Result<TokenResponse> {
        let request =
            json!({ "grant_type": "authorization_code", "code": code, "code_verifier": self.verifier });
        let answer = self.ask("$oauth/token", &request).await?;
        ensure!(answer["error"].is_null(), "the device's code is refused: {answer}");
        Ok(serde_json::from_value(answer)?)
    }

    /// Refreshes: tokens, or the `error`.
    ///
    /// # Errors
    /// No answer.
    pub async fn refresh(&mut self, refresh_token: &str) -> anyhow::Result<Result<TokenResponse, String>> {
        let request = json!({ "grant_type": "refresh_token", "refresh_token": refresh_token });
        let answer = self.ask("$oauth/token", &request).await?;
        match answer["error"].as_str() {
            Some(error) => Ok(Err(error.to_owned())),
            None => Ok(Ok(serde_json::from_value(answer)?)),
        }
    }

    /// Says that the record is stored.
    ///
    /// # Errors
    /// The DIdP refuses.
    pub async fn done(&mut self) -> anyhow::Result<()> {
        let answer = self.ask("$oauth/claim/done", &json!({})).await?;
        ensure!(answer == json!({}), "the end of the claim is answered with {answer}");
        Ok(())
    }

    /// Everything from the owner's decision on.
    ///
    /// # Errors
    /// The owner declines, or the DIdP refuses.
    pub async fn finish(&mut self) -> anyhow::Result<TokenResponse> {
        let code = self.decision().await?.map_err(|error| anyhow!("not granted: {error}"))?;
        let tokens = self.redeem(&code).await?;
        self.done().await?;
        Ok(tokens)
    }

    /// Gives up its owner.
    ///
    /// # Errors
    /// The DIdP refuses.
    pub async fn reset(&mut self) -> anyhow::Result<()> {
        let answer = self.ask("$oauth/reset", &json!({})).await?;
        ensure!(answer == json!({}), "a reset is answered with {answer}");
        Ok(())
    }

    /// Publishes a request and takes its answer, the first message that comes on the response topic.
    ///
    /// # Errors
    /// No answer.
    pub async fn ask(&mut self, topic: &str, request: &Value) -> anyhow::Result<Value> {
        let reason = self.client.publish(topic, request.to_string(), QoS::AtLeastOnce).await?;
        ensure!(reason.is_success(), "{topic} is refused with {reason:?}");
        let message = self.client.message().await.with_context(|| format!("answer to {topic}"))?;
        if message.topic != format!("{topic}/response") {
            bail!("answer to {topic} comes on {}", message.topic);
        }
        Ok(serde_json::from_slice(&message.payload)?)
    }

    /// Publishes a request with a Response Topic and Correlation Data (MQTT 5): the answer with its correlation data.
    ///
    /// # Errors
    /// No answer.
    pub async fn ask_at(
        &mut self,
        topic: &str,
        at: &str,
        id: &[u8],
        request: &Value,
    ) -> anyhow::Result<Value> {
        let properties = [Property::ResponseTopic(at), Property::CorrelationData(id)];
        self.client
            .publish_with(topic, request.to_string().as_bytes(), QoS::AtLeastOnce, false, &properties)
            .await?;
        let message = self.client.message().await.with_context(|| format!("answer to {topic}"))?;
        ensure!(message.topic == at, "answer to {topic} comes on {}", message.topic);
        ensure!(message.correlation.as_deref() == Some(id), "answer to {topic} without its correlation data");
        Ok(serde_json::from_slice(&message.payload)?)
    }

    /// The connection itself.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// The way to the owner's home gateway, over TLS with its pins.
///
/// # Errors
/// Pins that are none.
pub fn door(gateway: &GatewayAddress) -> anyhow::Result<Door> {
    let tls = service::tls::pinned_client_config(&gateway.spki_sha256)?;
    Ok(Door::new(&gateway.host, gateway.port).tls(tls))
}
