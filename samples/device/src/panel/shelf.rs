//! The thermostats: a folder and a process each. A process that ends is started again, as a device is after a power cut.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use service::Shutdown;
use tokio::sync::{mpsc, watch};

use super::config::{MOST, PanelConfig};
use crate::child::Child;
use crate::state::State;
use crate::thermostat::Touch;

/// Pause before a process that ended is started again.
const RESTART: Duration = Duration::from_secs(1);

/// One thermostat as the page gets it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// Its number, from 1.
    pub n: u32,
    /// Absent until its process has told it.
    pub state: Option<State>,
}

/// All thermostats of a panel. Clones are the same.
#[derive(Clone)]
pub struct Shelf(Arc<Inner>);

struct Inner {
    config: PanelConfig,
    shutdown: Shutdown,
    touches: Mutex<BTreeMap<u32, mpsc::Sender<Touch>>>,
    shown: watch::Sender<Vec<Shown>>,
}

impl Shelf {
    /// Starts a process for every folder there is, and makes as many as the configuration wants at first.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn open(config: PanelConfig, shutdown: Shutdown) -> anyhow::Result<Self> {
        let directory = config.directory.clone();
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        let mut numbers: Vec<u32> = fs::read_dir(&directory)
            .with_context(|| format!("read {}", directory.display()))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("thermostat-")?.parse().ok())
            .collect();
        numbers.extend(1..=*config.thermostats.get_ref());
        numbers.sort_unstable();
        numbers.dedup();
        let (shown, _) = watch::channel(Vec::new());
        let shelf = Self(Arc::new(Inner { config, shutdown, touches: Mutex::default(), shown }));
        for n in numbers {
            shelf.add(n)?;
        }
        Ok(shelf)
    }

    /// Makes one more thermostat and returns its number.
    ///
    /// # Errors
    /// There are too many, or its folder cannot be made.
    pub fn make(&self) -> anyhow::Result<u32> {
        let n = self.0.shown.borrow().last().map_or(1, |last| last.n + 1);
        ensure!(n <= MOST, "there is no room for more than {MOST} thermostats");
        self.add(n)?;
        Ok(n)
    }

    fn add(&self, n: u32) -> anyhow::Result<()> {
        let folder = self.0.config.directory.join(format!("thermostat-{n}"));
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let (touches, touched) = mpsc::channel(16);
        self.0.touches.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(n, touches);
        self.0.shown.send_modify(|shown| shown.push(Shown { n, state: None }));
        let mut command = vec![std::env::current_exe()?.into_os_string()];
        let config = &self.0.config;
        command.extend(config.child.iter().map(OsString::from));
        command.extend(["run", "--model", &config.model].map(OsString::from));
        command.extend([OsString::from("--dir"), folder.into_os_string()]);
        if let Some(factory) = &config.factory {
            command.extend(["--factory", factory.as_str()].map(OsString::from));
        }
        if let Some(address) = config.resolve {
            command.extend(["--resolve".to_owned(), address.to_string()].map(OsString::from));
        }
        let inner = Arc::clone(&self.0);
        self.0.shutdown.spawn(async move { inner.keep(n, &command, touched).await });
        Ok(())
    }

    /// All thermostats, now and as they change.
    pub fn shown(&self) -> watch::Receiver<Vec<Shown>> {
        self.0.shown.subscribe()
    }

    /// Touches a thermostat; false if there is none with this number.
    pub fn touch(&self, n: u32, touch: Touch) -> bool {
        let touches = self.0.touches.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // A full queue means that somebody hammers on the button; what is too much is not felt.
        touches.get(&n).map(|to| to.try_send(touch)).is_some()
    }

    pub(super) fn shutdown(&self) -> &Shutdown {
        &self.0.shutdown
    }
}

impl Inner {
    async fn keep(&self, n: u32, command: &[OsString], mut touched: mpsc::Receiver<Touch>) {
        while !self.shutdown.has_begun() {
            match Child::start(command) {
                Ok(child) => self.live(n, child, &mut touched).await,
                Err(error) => {
                    tracing::error!(event = "thermostat_not_started", n, error = %format!("{error:#}"));
                }
            }
            self.show(n, None);
            tokio::select! {
                () = self.shutdown.begun() => {}
                () = tokio::time::sleep(RESTART) => {}
            }
        }
    }

    async fn live(&self, n: u32, mut child: Child, touched: &mut mpsc::Receiver<Touch>) {
        let mut state = child.state();
        loop {
            tokio::select! {
                () = self.shutdown.begun() => return child.stop().await,
                () = child.ended() => {
                    tracing::warn!(event = "thermostat_ended", n);
                    return;
                }
                changed = state.changed() => {
                    if changed.is_ok() {
                        let state = state.borrow_and_update().clone();
                        self.show(n, state);
                    }
                }
                touch = touched.recv() => match touch {
                    Some(touch) => child.touch(touch),
                    None => return child.stop().await,
                },
            }
        }
    }

    fn show(&self, n: u32, state: Option<State>) {
        self.shown.send_if_modified(|shown| match shown.iter_mut().find(|shown| shown.n == n) {
            Some(place) if place.state != state => {
                place.state = state;
                true
            }
            Some(_) | None => false,
        });
    }
}
