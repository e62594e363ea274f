//! The whole life of a thermostat (design §5) with the real DIdP, gateway and brokers, and a clock that the test moves.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use device::flash::FileFlash;
use device::{Message, Phase, Settings, State, Thermostat, credentials};
use device_client::{Options, Slots};
use mqtt_wire::QoS;
use serde_json::json;
use testkit::device::Device;
use testkit::mqtt;
use testkit::owner::{Consent, Owner};
use testkit::stack::Stack;

const DEADLINE: Duration = Duration::from_secs(20);
const DAY: i64 = 24 * 60 * 60;

/// A stack, a made device, and the thermostat that it is.
struct World {
    stack: Stack,
    device: Device,
    settings: Settings,
    thermostat: Thermostat,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> anyhow::Result<Self> {
        let stack = Stack::start().await?;
        let device = stack.device().await?;
        let dir = tempfile::tempdir()?;
        let mqtt = &device.mqtt;
        let answer = json!({
            "client_id": device.client_id, "client_secret": device.client_secret,
            "mqtt": {"host": mqtt.host, "port": mqtt.port, "spki_sha256": mqtt.spki_sha256},
        });
        credentials::install(dir.path(), &answer)?;
        let options = Options { backoff: 50, backoff_max: 500, ..Options::default() };
        let settings = Settings { interval: Duration::from_millis(50), options, ..Settings::new(dir.path()) };
        let thermostat = Thermostat::start(settings.clone());
        Ok(Self { stack, device, settings, thermostat, _dir: dir })
    }

    async fn until(&self, phase: Phase) -> anyhow::Result<State> {
        let mut state = self.thermostat.state();
        let seen = tokio::time::timeout(DEADLINE, state.wait_for(|state| state.phase == phase)).await;
        let now = self.thermostat.state().borrow().clone();
        Ok(seen.with_context(|| format!("{now:?} instead of {phase:?}"))??.clone())
    }

    /// Somebody presses the button; the owner types what the display shows.
    async fn claimed_by(&self, owner: &Owner, name: &str) -> anyhow::Result<()> {
        self.until(Phase::Ready).await?;
        self.thermostat.press();
        let code = self.until(Phase::Claimable).await?.code.context("a code on the display")?;
        owner.claim(&self.device.user_registration_uri, &code, name).await?;
        self.until(Phase::Running).await.map(drop)
    }

    /// Waits until the next reading has been published.
    async fn reading(&self) -> anyhow::Result<()> {
        let mut messages = self.thermostat.messages();
        let published = async {
            loop {
                if let Message::Published { channel, .. } = messages.recv().await?
                    && channel == "temperature"
                {
                    return anyhow::Ok(());
                }
            }
        };
        tokio::time::timeout(DEADLINE, published).await.context("no reading")?
    }

    /// The access token in its memory.
    fn token(&self) -> anyhow::Result<String> {
        let record = Slots::new(FileFlash::open(&self.settings.dir)?).load()?.context("a record")?;
        Ok(record.grant().context("a grant")?.access_token.as_str().to_owned())
    }

    /// Waits until it publishes with another token than this one.
    async fn renewed(&self, former: &str) -> anyhow::Result<()> {
        while self.token()? == former {
            self.reading().await?;
        }
        self.until(Phase::Running).await?;
        self.reading().await
    }

    /// Pulls the plug and plugs it in again.
    async fn power_cut(self) -> Self {
        self.thermostat.stop().await;
        Self { thermostat: Thermostat::start(self.settings.clone()), ..self }
    }
}

/// Waits until an app gets a value that the thermostat published just now, not one that was kept.
async fn fresh(stack: &Stack, token: &str) -> anyhow::Result<()> {
    let mut app = mqtt::Options::new(&stack.ws()).bearer(token).connect().await?;
    ensure!(app.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    while app.message().await?.retain {}
    app.disconnect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn claimed_it_reports_and_obeys() -> anyhow::Result<()> {
    let world = World::new().await?;
    let ann = world.stack.owner("ann")?;
    world.claimed_by(&ann, "Kitchen").await?;
    let app = world.stack.app("Heating Diary").await?;
    let allowed = world.stack.allowed(&ann, &app, &Consent::default()).await?;
    let mut app = mqtt::Options::new(&world.stack.ws()).bearer(&allowed.access_token).connect().await?;
    ensure!(app.subscribe("d/#", QoS::AtLeastOnce).await?.is_success());
    let reading = app.message().await?;
    let handle = reading.topic.split('/').nth(1).context("a handle")?.to_owned();
    app.publish(&format!("c/{handle}/heater"), "true", QoS::AtLeastOnce).await?;
    let mut state = world.thermostat.state();
    tokio::time::timeout(DEADLINE, state.wait_for(|state| state.heater))
        .await
        .context("it does not heat")??;
    world.thermostat.stop().await;
    world.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_end_are_renewed_running_and_after_a_power_cut() -> anyhow::Result<()> {
    let world = World::new().await?;
    let ann = world.stack.owner("ann")?;
    world.claimed_by(&ann, "Kitchen").await?;
    // Its own clock does not tell it: the gateway ends the session, and the DIdP gives a new token.
    let first = world.token()?;
    world.stack.clock.advance(DAY + 60);
    world.renewed(&first).await?;
    // A power cut changes nothing while the token is good, and a token that ended meanwhile is replaced.
    let second = world.token()?;
    let world = world.power_cut().await;
    world.until(Phase::Running).await?;
    ensure!(world.token()? == second);
    world.stack.clock.advance(DAY + 60);
    let world = world.power_cut().await;
    world.renewed(&second).await?;
    ensure!(ann.owns("Kitchen").await?);
    world.thermostat.stop().await;
    world.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_the_servers_are_outlived() -> anyhow::Result<()> {
    let mut world = World::new().await?;
    let ann = world.stack.owner("ann")?;
    world.until(Phase::Ready).await?;
    world.stack.restart_didp().await?;
    world.claimed_by(&ann, "Kitchen").await?;
    let app = world.stack.app("Heating Diary").await?;
    let token = world.stack.allowed(&ann, &app, &Consent::default()).await?.access_token;
    world.stack.restart_ignite().await?;
    fresh(&world.stack, &token).await?;
    world.stack.restart_launcher().await?;
    fresh(&world.stack, &token).await?;
    world.stack.restart_didp().await?;
    fresh(&world.stack, &token).await?;
    world.thermostat.stop().await;
    world.stack.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn released_by_its_owner_or_its_button_it_is_the_next_ones() -> anyhow::Result<()> {
    let world = World::new().await?;
    let (ann, bob) = (world.stack.owner("ann")?, world.stack.owner("bob")?);
    world.claimed_by(&ann, "Kitchen").await?;
    ann.release("Kitchen").await?;
    world.claimed_by(&bob, "Hall").await?;
    ensure!(bob.owns("Hall").await? && !ann.owns("Kitchen").await?);
    world.thermostat.long_press();
    world.until(Phase::Ready).await?;
    // It forgets at once, and tells then.
    let given_up = async {
        while bob.owns("Hall").await? {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(DEADLINE, given_up).await.context("given up by its button")??;
    world.claimed_by(&ann, "Kitchen again").await?;
    world.thermostat.stop().await;
    world.stack.stop().await
}

/// Checklist 33: after a claim the manufacturer's copy of the secret is dead.
#[tokio::test(flavor = "multi_thread")]
async fn the_factorys_secret_dies_with_the_claim() -> anyhow::Result<()> {
    let world = World::new().await?;
    let ann = world.stack.owner("ann")?;
    world.claimed_by(&ann, "Kitchen").await?;
    ensure!(world.device.didp()?.connect().await.is_err(), "the factory can still speak for the device");
    world.thermostat.stop().await;
    world.stack.stop().await
}
