//! Waits until everything that the story needs answers, and says then which page to open.

use std::time::Duration;

use service::Shutdown;

use crate::Config;

/// Between two rounds of questions.
const ROUND: Duration = Duration::from_secs(1);

/// Logs the page once, when all is up.
pub(crate) async fn announce(config: Config, shutdown: Shutdown) {
    let Ok(client) = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build() else {
        return;
    };
    let mut missing = config.health.clone();
    let mut rounds = 0u32;
    while !missing.is_empty() {
        let mut still = Vec::new();
        for url in missing {
            let well = client.get(url.clone()).send().await.is_ok_and(|answer| answer.status().is_success());
            if !well {
                still.push(url);
            }
        }
        missing = still;
        rounds += 1;
        if rounds.is_multiple_of(30) {
            let names: Vec<_> = missing.iter().filter_map(|url| url.host_str()).collect();
            tracing::info!(event = "waiting", "still waiting for {}", names.join(", "));
        }
        tokio::select! {
            () = shutdown.begun() => return,
            () = tokio::time::sleep(ROUND), if !missing.is_empty() => {}
            () = std::future::ready(()), if missing.is_empty() => {}
        }
    }
    tracing::info!(event = "open", url = %config.public_url, "all is up: open {}", config.public_url);
}
