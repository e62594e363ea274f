//! One thermostat: measures every second, heats when told, and says what it does.
//!
//! Channels: `temperature` and `humidity` and the heater's state as data, `heater` as a command (`true`, `false` or
//! `{"on": …}`). Every command is confirmed by publishing the heater's state. Its shadow says the same, and `heater` can be
//! wanted there, also while the thermostat is away.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use device_client::{Options, Slots, Status};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use url::Url;

use crate::credentials::{self, FlashRequest};
use crate::driver::{Driver, Happening};
use crate::flash::{FileFlash, replace};
use crate::state::{Lamp, Message, Phase, State, words};

/// How often the factory is asked while it does not answer.
const FACTORY_RETRY: Duration = Duration::from_secs(2);

/// What a blank thermostat says.
const NO_CREDENTIALS: &str = "It has no credentials yet. Waiting for the factory.";

/// How many messages a slow listener may be behind before it misses some.
const MESSAGES: usize = 256;

/// How many touches wait at most; more are not felt.
const TOUCHES: usize = 16;

/// What one thermostat is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its "flash": two slot files, and the hardware id.
    pub dir: PathBuf,
    /// The factory's floor listener, for a folder that has no credentials yet.
    pub factory: Option<Url>,
    /// The model.
    pub model: String,
    /// Between two readings.
    pub interval: Duration,
    /// Time limits and back-off.
    pub options: Options,
    /// Connect to this address whatever a server's name says; the certificate is still checked.
    pub resolve: Option<IpAddr>,
}

impl Settings {
    /// A thermostat in `dir`, with everything else as usual.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            factory: None,
            model: "T1".to_owned(),
            interval: Duration::from_secs(1),
            options: Options { backoff_max: 30_000, ..Options::default() },
            resolve: None,
        }
    }
}

/// What a person or a test does to a thermostat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Touch {
    /// A short press on the button.
    Press,
    /// A long press: give up ownership.
    LongPress,
    /// Publish something beside the readings.
    Publish {
        /// Without `d/`.
        channel: String,
        /// What to send.
        payload: String,
    },
}

/// A running thermostat. Dropping it is like pulling the plug.
pub struct Thermostat {
    touches: mpsc::Sender<Touch>,
    state: watch::Receiver<State>,
    messages: broadcast::Sender<Message>,
    task: Option<JoinHandle<()>>,
}

impl Thermostat {
    /// Switches it on. Trouble shows in the state.
    pub fn start(settings: Settings) -> Self {
        let (touches, touched) = mpsc::channel(TOUCHES);
        let (messages, _) = broadcast::channel(MESSAGES);
        let hardware_id = hardware_id(&settings.dir).unwrap_or_default();
        let room = Room::of(&hardware_id);
        let (tell, state) = watch::channel(State {
            phase: Phase::Blank,
            lamp: Lamp::Off,
            code: None,
            notice: None,
            temperature: room.shown(),
            humidity: room.humidity(),
            heater: false,
            hardware_id,
            model: settings.model.clone(),
        });
        let life = Life { settings, touched, tell, messages: messages.clone(), room };
        Self { touches, state, messages, task: Some(tokio::spawn(life.run())) }
    }

    /// A short press on the button.
    pub fn press(&self) {
        self.touch(Touch::Press);
    }

    /// A long press: gives up ownership.
    pub fn long_press(&self) {
        self.touch(Touch::LongPress);
    }

    /// Publishes something beside the readings; lost if there is no session with the gateway.
    pub fn publish(&self, channel: &str, payload: &str) {
        self.touch(Touch::Publish { channel: channel.to_owned(), payload: payload.to_owned() });
    }

    /// Does what `touch` says.
    pub fn touch(&self, touch: Touch) {
        // Whoever hammers on a button is not counted beyond the bound.
        let _ = self.touches.try_send(touch);
    }

    /// Its state, now and as it changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// What it publishes and receives from now on.
    pub fn messages(&self) -> broadcast::Receiver<Message> {
        self.messages.subscribe()
    }

    /// Pulls the plug and waits until it is dead.
    pub async fn stop(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Cancelled, as asked.
            let _ = task.await;
        }
    }
}

impl Drop for Thermostat {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What is engraved on the back of the thermostat in `dir`: made up when its folder is new.
///
/// # Errors
/// The folder cannot be read or written.
pub fn hardware_id(dir: &Path) -> anyhow::Result<String> {
    let file = dir.join("hardware-id");
    if let Ok(known) = fs::read_to_string(&file) {
        return Ok(known.trim().to_owned());
    }
    fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    // Locally administered, so that it collides with no maker's addresses.
    let bytes: [u8; 5] = rand::random();
    let id = bytes.iter().fold("02".to_owned(), |id, byte| format!("{id}-{byte:02x}"));
    replace(&file, id.as_bytes()).with_context(|| format!("write {}", file.display()))?;
    Ok(id)
}

struct Life {
    settings: Settings,
    touched: mpsc::Receiver<Touch>,
    tell: watch::Sender<State>,
    messages: broadcast::Sender<Message>,
    room: Room,
}

impl Life {
    async fn run(mut self) {
        let mut driver = loop {
            match self.switch_on().await {
                Ok(driver) => break driver,
                Err(error) => {
                    let error = format!("{error:#}");
                    if self
                        .tell
                        .send_if_modified(|state| state.notice.replace(NO_CREDENTIALS.to_owned()).is_none())
                    {
                        tracing::info!(event = "waits_for_credentials", error);
                    }
                    tokio::time::sleep(FACTORY_RETRY).await;
                }
            }
        };
        // Pressing a thermostat that knows nothing yet means nothing.
        while self.touched.try_recv().is_ok() {}
        let mut tick = tokio::time::interval(self.settings.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let acknowledging = tokio::spawn(acknowledge(self.settings.clone()));
        loop {
            tokio::select! {
                happening = driver.next() => match happening {
                    Happening::Status(status) => self.show(&driver, &status),
                    Happening::Command { channel, payload } => self.command(&mut driver, channel, &payload),
                    Happening::Delta { patch } => self.obey(&mut driver, &patch),
                },
                _ = tick.tick() => self.measure(&mut driver),
                touch = self.touched.recv() => match touch {
                    Some(touch) => self.touch(&mut driver, touch),
                    None => break,
                },
            }
        }
        acknowledging.abort();
    }

    async fn switch_on(&mut self) -> anyhow::Result<Driver> {
        let dir = &self.settings.dir;
        let mut slots = Slots::new(FileFlash::open(dir)?);
        let record = match (slots.load()?, &self.settings.factory) {
            (Some(record), _) => record,
            (None, Some(factory)) => {
                let request =
                    FlashRequest { hardware_id: hardware_id(dir)?, model: self.settings.model.clone() };
                credentials::fetch(dir, factory, &request).await?;
                slots.load()?.context("what was just stored is gone")?
            }
            (None, None) => anyhow::bail!("no credentials in {}", dir.display()),
        };
        Ok(Driver::new(slots, record, self.settings.options, self.settings.resolve))
    }

    fn show(&self, driver: &Driver, status: &Status) {
        self.tell.send_modify(|state| {
            state.phase = status.phase.into();
            state.lamp = status.phase.lamp().into();
            state.code = status.user_code.as_ref().map(|code| code.as_str().to_owned());
            state.notice = status.notice.map(|notice| words(notice).to_owned());
        });
        tracing::debug!(event = "phase", phase = ?status.phase, at = driver.now());
    }

    fn command(&mut self, driver: &mut Driver, channel: String, payload: &[u8]) {
        let heater = if channel == "heater" { switch(payload) } else { None };
        let _ = self
            .messages
            .send(Message::Received { channel, payload: String::from_utf8_lossy(payload).into_owned() });
        if let Some(on) = heater {
            self.switch(driver, on);
        }
    }

    /// What is wanted and not reported yet; of that it knows the heater.
    fn obey(&mut self, driver: &mut Driver, patch: &[u8]) {
        let Ok(Value::Object(wanted)) = serde_json::from_slice(patch) else { return };
        for (channel, value) in wanted {
            self.command(driver, channel, value.to_string().as_bytes());
        }
    }

    fn switch(&mut self, driver: &mut Driver, on: bool) {
        self.room.heater = on;
        self.tell.send_modify(|state| state.heater = on);
        self.confirm(driver);
        self.report(driver);
    }

    /// Says in its shadow what state it is in. Said again soon, so that one that is lost does no harm.
    fn report(&self, driver: &mut Driver) {
        let state = json!({
            "temperature": self.room.shown(),
            "humidity": self.room.humidity(),
            "heater": self.room.heater,
        });
        if let Err(error) = driver.device().report(state.to_string().as_bytes()) {
            tracing::debug!(event = "not_reported", ?error);
        }
    }

    /// Says what the heater does. Kept until the gateway has it: an app waits for this.
    fn confirm(&self, driver: &mut Driver) {
        let state = if self.room.heater { "true" } else { "false" };
        if driver.device().publish_at_least_once("heater", state.as_bytes(), true).is_ok()
            || driver.device().publish("heater", state.as_bytes(), true).is_ok()
        {
            self.published("heater", state);
        }
    }

    fn measure(&mut self, driver: &mut Driver) {
        let before = self.room.readings;
        self.room.pass(self.settings.interval);
        let (temperature, humidity) = (self.room.shown(), self.room.humidity());
        self.tell.send_if_modified(|state| {
            let changed = state.temperature != temperature || state.humidity != humidity;
            (state.temperature, state.humidity) = (temperature, humidity);
            changed
        });
        self.reading(driver, "temperature", &format!("{temperature:.1}"));
        // Humidity and the heater's state change slowly: an app that comes later still finds them soon.
        if before.is_multiple_of(10) {
            self.reading(driver, "humidity", &format!("{humidity:.0}"));
            self.reading(driver, "heater", if self.room.heater { "true" } else { "false" });
            self.report(driver);
        }
    }

    fn reading(&self, driver: &mut Driver, channel: &str, payload: &str) {
        if driver.device().publish(channel, payload.as_bytes(), true).is_ok() {
            self.published(channel, payload);
        }
    }

    fn published(&self, channel: &str, payload: &str) {
        // Nobody may be listening.
        let _ = self
            .messages
            .send(Message::Published { channel: channel.to_owned(), payload: payload.to_owned() });
    }

    fn touch(&mut self, driver: &mut Driver, touch: Touch) {
        let now = driver.now();
        match touch {
            Touch::Press => driver.device().press(now),
            Touch::LongPress => driver.device().long_press(now),
            Touch::Publish { channel, payload } => self.reading(driver, &channel, &payload),
        }
    }
}

/// Tells the factory that it may forget the credentials, until it knows.
async fn acknowledge(settings: Settings) {
    let (Some(factory), Ok(id)) = (&settings.factory, hardware_id(&settings.dir)) else { return };
    while let Err(error) = credentials::acknowledge(&settings.dir, factory, &id).await {
        tracing::debug!(event = "not_acknowledged", error = %format!("{error:#}"));
        tokio::time::sleep(FACTORY_RETRY).await;
    }
}

/// What a `heater` command says.
fn switch(payload: &[u8]) -> Option<bool> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Command {
        Plain(bool),
        Object { on: bool },
    }
    Some(match serde_json::from_slice(payload).ok()? {
        Command::Plain(on) | Command::Object { on } => on,
    })
}

/// The room that it hangs in: without heating it cools towards what the house has, with heating towards more.
struct Room {
    temperature: f64,
    house: f64,
    heater: bool,
    readings: u32,
}

impl Room {
    /// Two thermostats should not read alike.
    fn of(hardware_id: &str) -> Self {
        let spread =
            f64::from(hardware_id.bytes().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte)))
                / 255.0;
        Self { temperature: 18.5 + 2.0 * spread, house: 18.0 + 1.5 * spread, heater: false, readings: 0 }
    }

    fn pass(&mut self, time: Duration) {
        let aim = if self.heater { self.house + 7.0 } else { self.house };
        let seconds = time.as_secs_f64().min(60.0);
        let noise = rand::rng().random_range(-0.06..0.06);
        self.temperature += (aim - self.temperature) * (1.0 - (-seconds / 90.0).exp()) + noise;
        self.readings = self.readings.wrapping_add(1);
    }

    /// As the display shows it, to a tenth.
    fn shown(&self) -> f64 {
        (self.temperature * 10.0).round() / 10.0
    }

    /// Warm air is drier.
    fn humidity(&self) -> f64 {
        (62.0 - (self.temperature - 18.0) * 2.5).clamp(20.0, 90.0).round()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_both_forms() {
        assert_eq!(switch(b"true"), Some(true));
        assert_eq!(switch(b" false "), Some(false));
        assert_eq!(switch(br#"{"on":true,"by":"app"}"#), Some(true));
        for bad in [&b""[..], b"1", b"on", br#"{"on":"yes"}"#, b"\xff"] {
            assert_eq!(switch(bad), None);
        }
    }

    #[test]
    fn what_is_wanted_of_the_shadow_is_a_command_each() {
        let wanted: Value = serde_json::from_str(r#"{"heater":true,"window":null}"#).unwrap();
        let switched: Vec<_> =
            wanted.as_object().unwrap().values().map(|v| switch(v.to_string().as_bytes())).collect();
        assert_eq!(switched, [Some(true), None]);
    }

    #[test]
    fn heating_warms_and_the_house_cools() {
        let mut room = Room::of("02-00");
        room.heater = true;
        for _ in 0..300 {
            room.pass(Duration::from_secs(1));
        }
        assert!(room.shown() > room.house + 5.0);
        room.heater = false;
        for _ in 0..600 {
            room.pass(Duration::from_secs(1));
        }
        assert!((room.shown() - room.house).abs() < 1.5);
    }

    #[test]
    fn the_hardware_id_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("new");
        let first = hardware_id(&folder).unwrap();
        assert_eq!(first.len(), 17);
        assert_eq!(hardware_id(&folder).unwrap(), first);
    }

    #[tokio::test]
    async fn without_credentials_and_factory_it_stays_blank() {
        let dir = tempfile::tempdir().unwrap();
        let thermostat = Thermostat::start(Settings::new(dir.path()));
        assert_eq!(thermostat.state().borrow().phase, Phase::Blank);
        thermostat.press();
        thermostat.stop().await;
    }
}
