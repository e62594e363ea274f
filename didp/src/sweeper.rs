//! What happens by the passing of time alone: claims settle, or are undone if they were not completed, grants end, expired rows go,
//! and memory that a peak has used goes back.

use std::time::Duration;

use crate::audit::By;
use crate::flows::account;
use crate::flows::change::Change;
use crate::flows::{Refusal, claim, ownership};
use crate::state::App;
use crate::store::{clients, grants, sweep};

/// Rows in one transaction, so that no other writer waits long.
const BATCH: i64 = 200;
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// Looks between two times that memory is given back: thousands of devices may have gone in between.
const LOOKS: u32 = 60;

/// Sweeps until the process stops.
pub(crate) async fn run(app: App) {
    for look in 1_u32.. {
        if look.is_multiple_of(LOOKS) {
            // Nobody needs to know when it is done.
            drop(tokio::task::spawn_blocking(service::memory::give_back));
        }
        if let Err(error) = sweep(&app).await {
            error.log("sweep_failed");
        }
        tokio::select! {
            () = app.shutdown.begun() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Does now what is due by the clock.
///
/// # Errors
/// The store cannot answer.
pub async fn sweep(app: &App) -> Result<(), Refusal> {
    let batch = usize::try_from(BATCH).unwrap_or(usize::MAX);
    while claim::expire(app, BATCH).await? >= batch {}
    claim::settle(app, BATCH).await?;
    while end_grants(app).await? >= batch {}
    forget_unused_apps(app).await?;
    let now = app.clock.now();
    let lifetimes = &app.config.lifetimes;
    loop {
        let mut tx = app.store.write().await?;
        let more =
            sweep::delete_expired(&mut tx, BATCH, now, now - lifetimes.events, now - lifetimes.notices)
                .await?;
        tx.commit().await?;
        if !more {
            return Ok(());
        }
    }
}

/// Apps that anybody could register, and that nobody allowed anything for a day.
async fn forget_unused_apps(app: &App) -> Result<(), Refusal> {
    const DAY: i64 = 86_400;
    let until = app.clock.now() - DAY;
    // Seldom there is one, so the writer is not taken to look.
    if !clients::has_unused(&mut *app.store.read().await?, until).await? {
        return Ok(());
    }
    let mut tx = app.store.write().await?;
    clients::delete_unused(&mut tx, until, BATCH).await?;
    tx.commit().await?;
    Ok(())
}

async fn end_grants(app: &App) -> Result<usize, Refusal> {
    let now = app.clock.now();
    let mut change = Change::begin(app).await?;
    let ended = sweep::ended_grants(change.conn(), now, BATCH).await?;
    if ended.is_empty() {
        return Ok(0);
    }
    for grant in &ended {
        // It may have gone with another one of this batch.
        if grants::get(change.conn(), grant.id).await?.is_none() {
            continue;
        }
        if grant.is_device() {
            ownership::suspend(app, &mut change, grant, By::Time).await?;
        } else {
            account::apps::end_app(&mut change, grant, By::Time, now).await?;
        }
    }
    change.commit(app).await?;
    Ok(ended.len())
}
