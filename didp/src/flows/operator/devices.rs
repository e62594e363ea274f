//! What an operator does of a manufacturer's devices when the manufacturer asks for it, or cannot do it itself: counts by model and
//! batch, withdrawing printed codes, replacing a broken unit. The same as on the manufacturer's page
//! ([`crate::flows::manufacturer`]), with the same bounds on what is told.

use std::sync::Arc;

use serde::Deserialize;

use super::OperatorError;
use crate::flows::manufacturer::{self, ModelCounts};
use crate::flows::registration::Registered;
use crate::state::{App, RegistrarToken};
use crate::store::clients;

/// The devices of one model that were made together.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchName {
    /// What people call the model.
    pub model: String,
    /// The production batch; empty: those of which none was named.
    #[serde(default)]
    pub batch: String,
}

/// Counts of what a manufacturer made.
///
/// # Errors
/// See [`OperatorError`].
pub async fn batches(app: &App, manufacturer: &str) -> Result<Vec<ModelCounts>, OperatorError> {
    let maker = maker(app, manufacturer).ok_or(OperatorError::Unknown("manufacturer"))?;
    Ok(manufacturer::counts(app, &maker).await?)
}

/// Withdraws the printed codes of a whole batch, or brings them back; how many devices it has.
///
/// # Errors
/// See [`OperatorError`].
pub async fn withdraw_batch(
    app: &App,
    manufacturer: &str,
    of: &BatchName,
    withdrawn: bool,
) -> Result<u64, OperatorError> {
    let maker = maker(app, manufacturer).ok_or(OperatorError::Unknown("manufacturer"))?;
    match manufacturer::withdraw_batch(app, &maker, &of.model, &of.batch, withdrawn).await? {
        0 => Err(OperatorError::Unknown("batch")),
        devices => Ok(devices),
    }
}

/// Withdraws the printed code of one device, or brings it back.
///
/// # Errors
/// See [`OperatorError`].
pub async fn withdraw(app: &App, client_id: &str, withdrawn: bool) -> Result<(), OperatorError> {
    let maker = maker_of(app, client_id).await?;
    match manufacturer::withdraw(app, &maker, client_id, withdrawn).await? {
        true => Ok(()),
        false => Err(OperatorError::Unknown("device")),
    }
}

/// Registers a unit that takes the place of a broken one, which is withdrawn by the same commit. The answer is what the new unit is
/// flashed with; its secrets are told this once.
///
/// # Errors
/// See [`OperatorError`].
pub async fn replace(app: &App, client_id: &str) -> Result<Registered, OperatorError> {
    let maker = maker_of(app, client_id).await?;
    manufacturer::replace(app, &maker, client_id).await?.ok_or(OperatorError::Unknown("device"))
}

fn maker(app: &App, id: &str) -> Option<Arc<RegistrarToken>> {
    app.registry.now().registrars.iter().find(|known| known.devices && known.id == id).cloned()
}

async fn maker_of(app: &App, client_id: &str) -> Result<Arc<RegistrarToken>, OperatorError> {
    let device = clients::get(&mut *app.store.read().await?, client_id).await?;
    let registrar = device.filter(|client| client.is_device()).and_then(|client| client.registrar);
    registrar.and_then(|id| maker(app, &id)).ok_or(OperatorError::Unknown("device"))
}
