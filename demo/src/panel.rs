//! The factory's and the panels' pages, as scripts see them: which device is which, what it shows, a press on its button.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use device::{Phase, State};
use reqwest::{Client, header};
use serde::Deserialize;

/// How long a thermostat may take to get where it should.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pages of one demo.
pub(crate) struct Panel {
    http: Client,
    factory: String,
    panel: String,
}

/// A thermostat as the factory and its panel know it.
#[derive(Debug, Clone)]
pub(crate) struct Thermostat {
    /// Its number on the panel.
    pub(crate) n: u32,
    /// What its label says.
    pub(crate) uru: String,
}

#[derive(Deserialize)]
struct Shown {
    n: u32,
    /// Not there until its process has said something.
    state: Option<State>,
}

#[derive(Deserialize)]
struct Made {
    hardware_id: String,
    uru: Option<String>,
    flashed: bool,
}

impl Panel {
    pub(crate) fn new(factory: &str, panel: &str) -> Self {
        Self { http: testkit::browser::http(), factory: factory.to_owned(), panel: panel.to_owned() }
    }

    /// Waits until that many thermostats are made, flashed and connected to the DIdP.
    pub(crate) async fn made(&self, wanted: usize) -> anyhow::Result<Vec<Thermostat>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let made: Vec<Made> =
                self.http.get(format!("{}/devices.json", self.factory)).send().await?.json().await?;
            let shown = self.shown().await?;
            let ready: Vec<Thermostat> = shown
                .iter()
                .filter_map(|thermostat| {
                    let state = thermostat.state.as_ref().filter(|state| state.phase == Phase::Ready)?;
                    let label =
                        made.iter().find(|made| made.flashed && made.hardware_id == state.hardware_id)?;
                    Some(Thermostat { n: thermostat.n, uru: label.uru.clone()? })
                })
                .collect();
            if ready.len() >= wanted {
                return Ok(ready);
            }
            ensure!(Instant::now() < deadline, "only {} of {wanted} thermostats get ready", ready.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Presses the button and reads the display.
    pub(crate) async fn press(&self, n: u32) -> anyhow::Result<String> {
        let request = self.http.post(format!("{}/thermostats/{n}/press", self.panel));
        let answer = request.header(header::ORIGIN, &self.panel).send().await?;
        ensure!(
            answer.status().is_success() || answer.status().is_redirection(),
            "a press: {}",
            answer.status()
        );
        let state = self.until(n, "shows a code", |state| state.code.is_some()).await?;
        state.code.context("a code")
    }

    /// Waits until the thermostat is as wanted.
    pub(crate) async fn until(
        &self,
        n: u32,
        what: &str,
        wanted: impl Fn(&State) -> bool,
    ) -> anyhow::Result<State> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let shown = self.shown().await?.into_iter().find(|thermostat| thermostat.n == n);
            let state = shown.with_context(|| format!("thermostat {n} is gone"))?.state;
            if let Some(state) = state.as_ref().filter(|state| wanted(state)) {
                return Ok(state.clone());
            }
            ensure!(Instant::now() < deadline, "thermostat {n} never {what}: {state:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn shown(&self) -> anyhow::Result<Vec<Shown>> {
        let url = format!("{}/thermostats.json", self.panel);
        self.http.get(url).send().await?.json().await.context("the panel's thermostats")
    }
}
