//! The panel: a page with the button, the lamp and the display of every thermostat, and a process for each.
//!
//! Thermostats live in folders `thermostat-<n>` of one directory. The page is on one listener; another one, on the
//! factory's floor, takes the wish for one more. The panel stands for things that one can touch, so it knows no login; it
//! takes presses from its own pages only.

mod config;
mod http;
mod shelf;

pub use config::PanelConfig;
pub use shelf::{Shelf, Shown};

use std::time::Duration;

use service::Shutdown;
use service::net::{Admission, Listener};

/// What the panel listens on.
pub struct Listeners {
    /// For browsers.
    pub page: Listener,
    /// For the factory; without it nobody can ask for one more thermostat.
    pub floor: Option<Listener>,
}

/// Runs the panel until `shutdown` begins, and stops the thermostats then.
///
/// # Errors
/// The directory cannot be read or written.
pub async fn run(config: PanelConfig, listeners: Listeners, shutdown: Shutdown) -> anyhow::Result<()> {
    let shelf = Shelf::open(config, shutdown.clone())?;
    let floor =
        listeners.floor.as_ref().map(Listener::local_addr).transpose()?.map(|address| address.to_string());
    tracing::info!(event = "panel_ready", page = %listeners.page.local_addr()?, floor);
    let page = service::http::serve(
        listeners.page,
        http::page(shelf.clone()),
        Admission::new(256, 64),
        shutdown.clone(),
    );
    match listeners.floor {
        Some(floor) => {
            let floor =
                service::http::serve(floor, http::floor(shelf), Admission::new(16, 16), shutdown.clone());
            tokio::join!(page, floor);
        }
        None => page.await,
    }
    if !shutdown.drain(Duration::from_secs(8)).await {
        tracing::warn!(event = "stopped_late");
    }
    Ok(())
}
