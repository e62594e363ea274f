//! The launcher role, and the gateway's way to it.

pub mod client;
pub mod wire;

use service::Shutdown;

use crate::config::LauncherConfig;

/// Runs the launcher until `shutdown` begins.
///
/// # Errors
/// The socket cannot be bound or the runtime is not there.
pub async fn run(config: LauncherConfig, shutdown: Shutdown) -> anyhow::Result<()> {
    let _ = (config, shutdown);
    anyhow::bail!("this build has no launcher")
}
