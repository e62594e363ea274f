//! The one client of the DIdP's registration (RFC 7591) that holds an initial access token.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::Url;

use crate::Config;
use crate::ledger::Registered;

/// Time for one registration.
const TIME: Duration = Duration::from_secs(20);

/// Why a device was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// No answer, or one that asks for patience: try again.
    #[error("the DIdP is not there yet: {0}")]
    NotYet(String),
    /// The DIdP does not want it.
    #[error("the DIdP refused the registration: {0}")]
    Refused(String),
}

/// Registers devices, one at a time.
pub struct Registrar {
    client: reqwest::Client,
    register: Url,
    token_file: std::path::PathBuf,
    /// A factory with one line: a device that asks twice at once is registered once.
    line: Mutex<()>,
}

/// What this factory makes.
pub const MODELS: [&str; 1] = ["T1"];

/// Metadata of a model (RFC 7591 §2, with `device`).
fn metadata(model: &str) -> Value {
    json!({
        "client_name": format!("Thermostat {model}"),
        "device": {
            "confirm": "code",
            "channels": [
                {"name": "temperature", "direction": "data", "title": "Temperature", "unit": "°C", "type": "number"},
                {"name": "humidity", "direction": "data", "title": "Humidity", "unit": "%", "type": "number"},
                {"name": "heater", "direction": "data", "title": "Heater is on", "type": "boolean"},
                {"name": "heater", "direction": "command", "title": "Heater", "type": "boolean"},
            ],
        },
    })
}

impl Registrar {
    /// A registrar for this configuration.
    ///
    /// # Errors
    /// The address is not one below which there can be `register`.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            client: reqwest::Client::builder().no_proxy().timeout(TIME).build()?,
            register: config.didp.join("/register")?,
            token_file: config.initial_access_token_file.get_ref().clone(),
            line: Mutex::new(()),
        })
    }

    /// Waits for its turn on the line; hold what it returns for as long as one device is being made.
    pub async fn turn(&self) -> impl Drop + '_ {
        self.line.lock().await
    }

    /// Registers one device. The same key gives the same client again.
    ///
    /// # Errors
    /// Why not; the text holds no secret.
    pub async fn register(
        &self,
        model: &str,
        idempotency_key: &str,
    ) -> Result<(Registered, Value), RegisterError> {
        let token = service::secret::read_secret(&self.token_file)
            .map_err(|error| RegisterError::Refused(format!("no initial access token: {error}")))?;
        let answer = self
            .client
            .post(self.register.clone())
            .bearer_auth(token.as_str())
            .header("Idempotency-Key", idempotency_key)
            .json(&metadata(model))
            .send()
            .await
            .map_err(|error| RegisterError::NotYet(error.without_url().to_string()))?;
        let status = answer.status();
        let body: Value = answer.json().await.unwrap_or_default();
        match status {
            StatusCode::CREATED | StatusCode::OK => {}
            StatusCode::TOO_MANY_REQUESTS => return Err(RegisterError::NotYet(status.to_string())),
            status if status.is_server_error() => return Err(RegisterError::NotYet(status.to_string())),
            status => {
                let code = body["error"].as_str().unwrap_or_default();
                let description = body["error_description"].as_str().unwrap_or_default();
                return Err(RegisterError::Refused(format!("{status} {code} {description}")));
            }
        }
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        match (text("client_id"), text("client_secret"), text("user_registration_uri")) {
            (Some(client_id), Some(_), Some(uru)) => Ok((Registered { client_id, uru }, body)),
            _ => Err(RegisterError::Refused("the answer lacks what a device needs".to_owned())),
        }
    }
}
