//! Owners with a device and an app each, through the real flows: registration, login at the provider, claim over MQTT, consent,
//! tokens. Many at once, because each of them waits more than it works.

use anyhow::{Context as _, anyhow, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use device_client::record::{Grant, MAX_RECORD, Ownership};
use device_client::text::Text;
use device_client::{Record, Server};
use futures_util::{StreamExt as _, TryStreamExt as _};
use oauth_wire::{GatewayAddress, TokenResponse};
use serde::Deserialize;
use testkit::app::App;
use testkit::config::UPSTREAM;
use testkit::device::{self, Device};
use testkit::owner::{Consent, Owner};

use super::{Stack, person};

/// Owners that are provisioned at the same time.
const AT_ONCE: usize = 16;

/// The channel that devices measure.
pub const READING: &str = "temperature";

/// The channel that apps command.
pub const COMMAND: &str = "heater";

/// An owner with a device and an app, ready to connect.
#[derive(Clone)]
pub struct Household {
    /// The device, with the secret that the claim gave it.
    pub device: Device,
    /// Its tokens.
    pub device_tokens: TokenResponse,
    /// The app's `client_id`; all owners have the same app.
    pub app_id: String,
    /// Its secret.
    pub app_secret: String,
    /// The app's tokens.
    pub app_tokens: TokenResponse,
    /// What the app calls the device.
    pub handle: String,
}

impl Household {
    /// The device's record as `device-client` keeps it.
    ///
    /// # Errors
    /// A value that no device could keep.
    pub fn record(&self) -> anyhow::Result<Vec<u8>> {
        let long = || anyhow!("a value is too long for a device");
        let mqtt = &self.device.mqtt;
        let didp = server(&mqtt.host, mqtt.port, &mqtt.spki_sha256)?;
        let tokens = &self.device_tokens;
        let mut record =
            Record::new(&self.device.client_id, &self.device.client_secret, didp).ok_or_else(long)?;
        record.ownership = Ownership::Owned(Grant {
            access_token: Text::new(&tokens.access_token).ok_or_else(long)?,
            refresh_token: Text::new(&tokens.refresh_token).ok_or_else(long)?,
            expires_in: u32::try_from(tokens.expires_in).unwrap_or(u32::MAX),
            gateway: gateway(&tokens.gateway)?,
            done_pending: false,
        });
        let mut bytes = vec![0; MAX_RECORD];
        let length = record.encode(&mut bytes).ok_or_else(long)?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

fn gateway(address: &GatewayAddress) -> anyhow::Result<Server> {
    server(&address.host, address.port, &address.spki_sha256)
}

fn server(host: &str, port: u16, pins: &[String]) -> anyhow::Result<Server> {
    let mut server = Server::new(host, port).context("a host name that is too long")?;
    for pin in pins {
        let pin: [u8; 32] =
            STANDARD.decode(pin)?.try_into().map_err(|_| anyhow!("a pin that is not 32 bytes"))?;
        ensure!(server.pin(pin), "too many pins");
    }
    Ok(server)
}

/// What the gateway's list of devices says, as far as it is needed here.
#[derive(Deserialize)]
struct Listed {
    handle: String,
}

/// Provisions the owners with these numbers; `done` is told how many are ready.
///
/// # Errors
/// Any step of any of them fails.
pub async fn owners(
    stack: &Stack,
    numbers: std::ops::Range<usize>,
    mut done: impl FnMut(usize),
) -> anyhow::Result<Vec<Household>> {
    let deployment = &stack.deployment;
    let issuer = deployment.issuer();
    let developer = deployment.secrets.read("tpa/initial-access-token")?;
    let manufacturer = deployment.secrets.read("factory/initial-access-token")?;
    let app = App::register(&issuer, "Load test", Some(&developer)).await?;
    let http = testkit::browser::http();
    let one = |number: usize| {
        let (issuer, manufacturer, app, http) = (&issuer, &manufacturer, &app, &http);
        async move {
            let household = household(issuer, manufacturer, app, http, deployment, number).await;
            household.with_context(|| format!("provision owner {number}"))
        }
    };
    let mut households = Vec::with_capacity(numbers.len());
    let mut all = futures_util::stream::iter(numbers).map(one).buffered(AT_ONCE);
    while let Some(household) = all.try_next().await? {
        households.push(household);
        done(households.len());
    }
    Ok(households)
}

async fn household(
    issuer: &str,
    manufacturer: &str,
    app: &App,
    http: &reqwest::Client,
    deployment: &testkit::config::Deployment,
    number: usize,
) -> anyhow::Result<Household> {
    let owner = Owner::new(issuer, UPSTREAM, &person(number))?;
    let mut device = device::register(issuer, manufacturer, &device::thermostat()).await?;
    let device_tokens = testkit::stack::claim(&owner, &device, "Thermostat").await?;
    if let Some(renewed) = &device_tokens.client_secret {
        device.client_secret.clone_from(renewed);
    }
    let asked = app.ask();
    let back = owner.consent(&asked.url, &Consent::default()).await?;
    let app_tokens = app.redeem(&asked, &back).await?;
    let answer = http
        .get(format!("{}/v1/devices", deployment.resource()))
        .bearer_auth(&app_tokens.access_token)
        .send()
        .await
        .context("the app's list of devices")?
        .error_for_status()?;
    let mut listed: Vec<Listed> = answer.json().await.context("the app's list of devices")?;
    ensure!(listed.len() == 1, "the app sees {} devices", listed.len());
    Ok(Household {
        device,
        device_tokens,
        app_id: app.client_id.clone(),
        app_secret: app.client_secret.clone().context("an app without a secret")?,
        app_tokens,
        handle: listed.remove(0).handle,
    })
}
