//! Who may register clients, and which gateways there are, as a running DIdP knows them: what the configuration file says, then
//! what an operator added to the database. Where both have the same id, or the same resource, the file wins.
//!
//! A running DIdP looks every [`LOOK`] whether the database says something new, so that a command of an operator, or another DIdP
//! on the same database, needs no restart of this one.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use oauth_wire::GatewayAddress;

use crate::keys::{Keyring, Purpose};
use crate::state::{App, Gateway, RegistrarToken};
use crate::store::{Conn, events, registry};

/// How often a running DIdP looks for what was changed by others.
const LOOK: Duration = Duration::from_secs(2);

/// One state of it.
#[derive(Default)]
pub struct Registry {
    /// Gateways, the file's first; the first that is not disabled is the home of new owners.
    pub gateways: Vec<Arc<Gateway>>,
    /// Registrars, the file's first.
    pub registrars: Vec<Arc<RegistrarToken>>,
    /// The database's number of this state.
    pub rev: i64,
}

/// The state that holds now; clones share it.
#[derive(Clone)]
pub struct Live {
    file: Arc<Registry>,
    now: Arc<RwLock<Arc<Registry>>>,
}

impl Live {
    /// Begins with what the file says.
    pub fn new(file: Registry) -> Self {
        let file = Arc::new(file);
        Self { now: Arc::new(RwLock::new(file.clone())), file }
    }

    /// What holds now.
    pub fn now(&self) -> Arc<Registry> {
        // Nothing panics while it is held.
        self.now.read().map_or_else(|poisoned| poisoned.into_inner().clone(), |now| now.clone())
    }

    /// Reads the database's part anew.
    ///
    /// # Errors
    /// The store cannot answer.
    pub async fn load(&self, conn: &mut Conn, keys: &Arc<Keyring>) -> sqlx::Result<()> {
        let next = Arc::new(merged(&self.file, conn, keys).await?);
        match self.now.write() {
            Ok(mut now) => *now = next,
            Err(poisoned) => *poisoned.into_inner() = next,
        }
        Ok(())
    }
}

async fn merged(file: &Registry, conn: &mut Conn, keys: &Arc<Keyring>) -> sqlx::Result<Registry> {
    let mut all = Registry {
        gateways: file.gateways.clone(),
        registrars: file.registrars.clone(),
        rev: registry::rev(conn).await?,
    };
    for row in registry::gateways(conn).await? {
        let taken = |known: &Arc<Gateway>| known.client_id == row.client_id || known.resource == row.resource;
        let address = serde_json::from_str::<GatewayAddress>(&row.address);
        match address {
            Ok(address) if !all.gateways.iter().any(taken) => {
                all.gateways.push(Arc::new(Gateway::stored(row, address, keys)));
            }
            Ok(_) => tracing::warn!(event = "gateway_shadowed", why = "the configuration file has it"),
            Err(error) => tracing::error!(event = "gateway_unreadable", %error),
        }
    }
    let tokens = registry::tokens(conn).await?;
    for row in registry::registrars(conn).await? {
        if all.registrars.iter().any(|known| known.id == row.id) {
            tracing::warn!(event = "registrar_shadowed", why = "the configuration file has it");
            continue;
        }
        let own = tokens.iter().filter(|token| token.registrar == row.id).cloned().collect();
        all.registrars.push(Arc::new(RegistrarToken::stored(row, own, keys)));
    }
    Ok(all)
}

/// Keyed hash of a gateway's secret, to be stored.
pub(crate) fn gateway_secret(keys: &Keyring, secret: &str) -> crate::keys::Mac {
    keys.mac(Purpose::Token, &[b"gateway ", secret.as_bytes()])
}

/// Keyed hash of an initial access token, to be stored.
pub(crate) fn initial_access_token(keys: &Keyring, token: &str) -> crate::keys::Mac {
    keys.mac(Purpose::Token, &[b"initial access ", token.as_bytes()])
}

/// Looks for what was changed by others until the process stops: the registry, and events for gateways.
pub(crate) async fn watch(app: App) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = app.shutdown.begun() => return,
        }
        if let Err(error) = look(&app).await {
            tracing::error!(event = "registry_unreadable", %error);
        }
    }
}

pub(crate) async fn look(app: &App) -> sqlx::Result<()> {
    let mut conn = app.store.read().await?;
    if registry::rev(&mut conn).await? != app.registry.now().rev {
        app.registry.load(&mut conn, &app.keys).await?;
        tracing::info!(event = "registry_changed");
    }
    let seq = events::head(&mut conn).await?;
    app.events.send_if_modified(|head| {
        let rises = seq > *head;
        *head = seq.max(*head);
        rises
    });
    Ok(())
}
