//! Tests of the whole stack with clients that are not ours.
//!
//! This library holds what the tests in `tests/` share: a [`Scene`] in which an owner, a device and an app have met already, a
//! [`Peer`] that drives a client of another language, the firmware's board in an [`emulator`] with its [`wire`], and how a test says that it [`skip`]s. The browser part is in `compose/`.

use std::path::PathBuf;

use anyhow::Context as _;
use oauth_wire::TokenResponse;
use testkit::app::App;
use testkit::device::Device;
use testkit::owner::{Consent, Owner};
use testkit::stack::Stack;

pub mod emulator;
mod peer;
pub mod wire;

pub use peer::{Peer, Way};

/// Ann owns a thermostat and allows an app everything.
pub struct Scene {
    /// Everything that runs.
    pub stack: Stack,
    /// The owner.
    pub ann: Owner,
    /// Her thermostat, as the factory made it.
    pub device: Device,
    /// What the device got when it was claimed.
    pub owned: TokenResponse,
    /// The app.
    pub app: App,
    /// What the app got when it was allowed.
    pub allowed: TokenResponse,
    /// The device's name for the app.
    pub handle: String,
}

impl Scene {
    /// Starts a stack and plays the story up to here.
    ///
    /// # Errors
    /// Any step fails.
    pub async fn new() -> anyhow::Result<Self> {
        let stack = Stack::start().await?;
        let ann = stack.owner("ann")?;
        let (device, owned) = stack.claimed(&ann, "Kitchen").await?;
        let app = stack.app("Heating Diary").await?;
        let allowed = stack.allowed(&ann, &app, &Consent::default()).await?;
        let handle = handle(&stack, &allowed).await?;
        Ok(Self { stack, ann, device, owned, app, allowed, handle })
    }
}

/// The handle of the one device that a token may see, as the gateway's HTTP API tells it.
///
/// # Errors
/// No answer, or another number of devices.
pub async fn handle(stack: &Stack, tokens: &TokenResponse) -> anyhow::Result<String> {
    let mut handles = handles(stack, &tokens.access_token).await?;
    anyhow::ensure!(handles.len() == 1, "{} devices instead of one", handles.len());
    handles.pop().context("a handle")
}

/// The handles of all devices that a token may see.
///
/// # Errors
/// No answer.
pub async fn handles(stack: &Stack, token: &str) -> anyhow::Result<Vec<String>> {
    let request = testkit::browser::http().get(format!("{}/v1/devices", stack.gateway())).bearer_auth(token);
    let devices: serde_json::Value = request.send().await?.error_for_status()?.json().await?;
    let devices = devices.as_array().context("a list of devices")?;
    devices.iter().map(|device| device["handle"].as_str().map(str::to_owned).context("a handle")).collect()
}

/// Says that a test cannot run here and what to install; fails instead if everything has to run (`OAUTHING_ALL=1`).
///
/// # Panics
/// If `OAUTHING_ALL` is `1`.
pub fn skip(reason: &str, install: &str) {
    eprintln!("SKIPPED: {reason}, install {install}");
    assert!(
        std::env::var_os("OAUTHING_ALL").is_none_or(|all| all != "1"),
        "nothing may be skipped: {reason}"
    );
}

/// A program of the search path.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

/// The root of the source tree.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
