//! What a manufacturer may know and do of what it made: counts by model and batch, withdrawing printed codes, replacing a broken
//! unit. It never learns who owns a device, which ones have an owner, or when one was seen.
//!
//! **Counts of owned devices** are told in steps of [`LEAST`], and only as "at least": never a number below it, never one that
//! leaves fewer than it without an owner (then nearly every device of the batch would be known to have one), and never one that
//! overlaps another, so that nothing comes of subtracting them: batches that are too small stand together as one.
//!
//! **Withdrawing** concerns the printed code and the factory's secret. A device that has an owner goes on with neither, so a whole
//! batch can be withdrawn, and shown as withdrawn, without telling which of it has an owner. Its owner can still hand it over.

use std::sync::Arc;

use serde::Serialize;

use crate::flows::Refusal;
use crate::flows::registration::{self, Registered};
use crate::state::{App, RegistrarToken};
use crate::store::batches::{self, BatchRow, MadeRow};

/// No smaller number is told.
pub const LEAST: i64 = 20;

/// Devices on one page.
pub const PAGE: usize = 100;

/// What is told of one batch, or of several that are too small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// The batch; empty if none was named. None: several small ones together.
    pub batch: Option<String>,
    /// Devices; none if there are too few to tell.
    pub registered: Option<i64>,
    /// So many devices have an owner at least; none if there are too few to tell.
    pub owned_at_least: Option<i64>,
    /// Whether printed codes were withdrawn.
    pub withdrawn: Withdrawn,
}

/// How much of a batch was withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Withdrawn {
    /// No device.
    Nothing,
    /// Some devices.
    Some,
    /// Every device.
    All,
}

/// What is told of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelCounts {
    /// What people call it.
    pub model: String,
    /// Its batches, those together that are too small.
    #[serde(rename = "batches")]
    pub cells: Vec<Cell>,
}

/// The manufacturer whose credential this is, if it is one.
pub fn prove(app: &App, id: &str, token: &str) -> Option<Arc<RegistrarToken>> {
    let now = app.clock.now();
    // Every token is compared, so that the time does not tell which id is known.
    app.registry.now().registrars.iter().fold(None, |found, known| {
        let proven = known.accepts(token, now) && known.devices && known.id == id;
        if proven { Some(known.clone()) } else { found }
    })
}

/// Counts of what a manufacturer made.
///
/// # Errors
/// The store cannot answer.
pub async fn counts(app: &App, maker: &RegistrarToken) -> Result<Vec<ModelCounts>, Refusal> {
    Ok(told(&batches::counts(&mut *app.store.read().await?, &maker.id).await?))
}

/// What is told of such counts.
fn told(rows: &[BatchRow]) -> Vec<ModelCounts> {
    let mut models: Vec<ModelCounts> = Vec::new();
    let mut names: Vec<&str> = rows.iter().map(|row| row.model.as_str()).collect();
    names.dedup();
    for model in names {
        let (large, small): (Vec<&BatchRow>, Vec<&BatchRow>) =
            rows.iter().filter(|row| row.model == model).partition(|row| row.registered >= LEAST);
        let mut cells: Vec<Cell> = large
            .iter()
            .map(|row| Cell {
                batch: Some(row.batch.clone()),
                registered: Some(row.registered),
                owned_at_least: owned_at_least(row.registered, row.owned),
                withdrawn: withdrawn(row.registered, row.withdrawn),
            })
            .collect();
        if !small.is_empty() {
            let sum = |of: fn(&BatchRow) -> i64| small.iter().map(|row| of(row)).sum::<i64>();
            let (registered, owned) = (sum(|row| row.registered), sum(|row| row.owned));
            cells.push(Cell {
                batch: None,
                registered: (registered >= LEAST).then_some(registered),
                owned_at_least: owned_at_least(registered, owned),
                withdrawn: withdrawn(registered, sum(|row| row.withdrawn)),
            });
        }
        models.push(ModelCounts { model: model.to_owned(), cells });
    }
    models
}

/// The largest multiple of [`LEAST`] that is neither more than `owned`, nor leaves fewer than [`LEAST`] without an owner.
fn owned_at_least(registered: i64, owned: i64) -> Option<i64> {
    let told = owned.min(registered - LEAST) / LEAST * LEAST;
    (told >= LEAST).then_some(told)
}

fn withdrawn(registered: i64, withdrawn: i64) -> Withdrawn {
    match withdrawn {
        0 => Withdrawn::Nothing,
        all if all == registered => Withdrawn::All,
        _ => Withdrawn::Some,
    }
}

/// A page of single devices: which there are, and whether they were withdrawn.
#[derive(Debug)]
pub struct Made {
    /// At most [`PAGE`].
    pub devices: Vec<MadeRow>,
    /// After which client_id the next page begins, if there is one.
    pub more_after: Option<String>,
}

/// Devices of one model and batch.
///
/// # Errors
/// The store cannot answer.
pub async fn made(
    app: &App,
    maker: &RegistrarToken,
    model: &str,
    batch: &str,
    after: &str,
) -> Result<Made, Refusal> {
    let limit = i64::try_from(PAGE).unwrap_or(i64::MAX) + 1;
    let mut conn = app.store.read().await?;
    let mut devices = batches::made(&mut conn, &maker.id, model, batch, after, limit).await?;
    let more = devices.len() > PAGE;
    devices.truncate(PAGE);
    let more_after = if more { devices.last().map(|device| device.client_id.clone()) } else { None };
    Ok(Made { devices, more_after })
}

/// Withdraws the printed codes of a whole batch, or brings them back; how many devices the batch has.
///
/// # Errors
/// The store cannot answer.
pub async fn withdraw_batch(
    app: &App,
    maker: &RegistrarToken,
    model: &str,
    batch: &str,
    withdrawn: bool,
) -> Result<u64, Refusal> {
    let mut tx = app.store.write().await?;
    let devices = batches::withdraw_batch(&mut tx, &maker.id, model, batch, withdrawn).await?;
    tx.commit().await?;
    tracing::warn!(event = "batch_withdrawn", maker = maker.id, withdrawn, devices);
    Ok(devices)
}

/// Withdraws the printed code of one device, or brings it back; false if this manufacturer did not make it.
///
/// # Errors
/// The store cannot answer.
pub async fn withdraw(
    app: &App,
    maker: &RegistrarToken,
    client_id: &str,
    withdrawn: bool,
) -> Result<bool, Refusal> {
    let mut tx = app.store.write().await?;
    let done = batches::withdraw(&mut tx, &maker.id, client_id, withdrawn).await?;
    tx.commit().await?;
    if done {
        tracing::info!(event = "device_withdrawn", maker = maker.id, withdrawn);
    }
    Ok(done)
}

/// One device, if this manufacturer made it.
///
/// # Errors
/// The store cannot answer.
pub async fn one(app: &App, maker: &RegistrarToken, client_id: &str) -> Result<Option<MadeRow>, Refusal> {
    Ok(batches::one(&mut *app.store.read().await?, &maker.id, client_id).await?)
}

/// Registers a unit that takes the place of a broken one: same model, batch and channels, new identity. The broken one is withdrawn
/// by the same commit. None if this manufacturer did not make it.
///
/// # Errors
/// The store or the hashing cannot answer.
pub async fn replace(
    app: &App,
    maker: &RegistrarToken,
    client_id: &str,
) -> Result<Option<Registered>, Refusal> {
    let answer = registration::replace(app, maker, client_id).await?;
    if answer.is_some() {
        tracing::info!(event = "device_replaced", maker = maker.id);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(batch: &str, registered: i64, owned: i64) -> BatchRow {
        BatchRow { model: "T1".into(), batch: batch.into(), registered, withdrawn: 0, owned }
    }

    fn cells(rows: &[BatchRow]) -> Vec<(Option<&'static str>, Option<i64>, Option<i64>)> {
        let names = ["a", "b", "c"];
        told(rows)
            .remove(0)
            .cells
            .into_iter()
            .map(|cell| {
                let batch = cell.batch.and_then(|batch| names.into_iter().find(|name| *name == batch));
                (batch, cell.registered, cell.owned_at_least)
            })
            .collect()
    }

    #[test]
    fn counts_are_told_in_steps_and_small_batches_together() {
        assert_eq!(cells(&[row("a", 500, 137)]), [(Some("a"), Some(500), Some(120))]);
        assert_eq!(cells(&[row("a", 500, 19)]), [(Some("a"), Some(500), None)]);
        assert_eq!(
            cells(&[row("a", 500, 495)]),
            [(Some("a"), Some(500), Some(480))],
            "nearly all is not told"
        );
        assert_eq!(cells(&[row("a", 39, 39)]), [(Some("a"), Some(39), None)]);
        assert_eq!(
            cells(&[row("a", 15, 15), row("b", 15, 15), row("c", 100, 50)]),
            [(Some("c"), Some(100), Some(40)), (None, Some(30), None)]
        );
        assert_eq!(cells(&[row("a", 5, 5)]), [(None, None, None)]);
    }

    proptest! {
        /// Whatever there is: no number is below the least, none leaves less than the least, each stands for at least so many truths,
        /// and no device is counted in two of them, so that nothing comes of subtracting.
        #[test]
        fn nothing_smaller_than_the_least_can_be_computed(
            batches in proptest::collection::vec((0_i64..200, 0.0_f64..=1.0), 1..8)
        ) {
            let rows: Vec<BatchRow> = batches
                .iter()
                .enumerate()
                .map(|(at, (registered, share))| {
                    let owned = (*registered as f64 * share).round() as i64;
                    row(&format!("batch {at}"), *registered, owned)
                })
                .filter(|row| row.registered > 0)
                .collect();
            prop_assume!(!rows.is_empty());
            let cells = told(&rows).remove(0).cells;
            for cell in &cells {
                let of: Vec<&BatchRow> = rows
                    .iter()
                    .filter(|row| match &cell.batch {
                        Some(batch) => row.batch == *batch,
                        None => row.registered < LEAST,
                    })
                    .collect();
                let registered: i64 = of.iter().map(|row| row.registered).sum();
                let owned: i64 = of.iter().map(|row| row.owned).sum();
                prop_assert!(cell.registered.is_none_or(|told| told == registered && told >= LEAST));
                if let Some(told) = cell.owned_at_least {
                    prop_assert!(told >= LEAST && told % LEAST == 0);
                    prop_assert!(owned - told >= 0 && registered - told >= LEAST);
                }
                // What is told is the same for at least LEAST different truths.
                let same = (0..=registered).filter(|truth| {
                    owned_at_least(registered, *truth) == cell.owned_at_least
                });
                prop_assert!(same.count() as i64 >= LEAST.min(registered + 1));
            }
            let together = cells.iter().filter(|cell| cell.batch.is_none()).count();
            prop_assert!(together <= 1, "small ones stand together, once");
        }
    }
}
