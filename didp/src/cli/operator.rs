//! `didp manufacturer|developer|gateway|client|stats`: an operator's wishes, done in the database that the configuration names. A
//! DIdP that runs sees them within two seconds.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use oauth_wire::GatewayAddress;
use service::{Clock, Shutdown};

use super::told;
use super::when::{self, Moment};
use crate::flows::manufacturer::{Cell, ModelCounts, Withdrawn};
use crate::flows::operator::devices::{self, BatchName};
use crate::flows::operator::{
    self, Filter, GatewayView, Kind, NewGateway, NewRegistrar, RegistrarView, Rotation, Source,
};
use crate::pins;
use crate::state::App;

/// What every command of an operator takes.
#[derive(Args)]
pub(super) struct Common {
    /// The configuration file.
    #[arg(long, env = "DIDP_CONFIG", default_value = "didp.toml", global = true)]
    pub(super) config: PathBuf,
    /// Tell it as JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Subcommand)]
pub(super) enum RegistrarCommand {
    /// Add one, and tell its initial access token.
    Add {
        /// Stable short name; stored with each client that it registers.
        id: String,
        /// What a person calls it; stands on consent pages.
        #[arg(long)]
        name: String,
        /// Clients that it may have at most.
        #[arg(long, default_value_t = 100_000)]
        quota: i64,
        /// When its token ends: 90d, 2027-01-31 or Unix seconds.
        #[arg(long, value_parser = when::moment)]
        expires: Option<Moment>,
        /// Write the token to this new file instead of telling it.
        #[arg(long)]
        token_file: Option<PathBuf>,
    },
    /// List them, also those of the configuration file.
    List,
    /// Refuse its tokens from now on; what it registered is not touched.
    Disable {
        /// Its id.
        id: String,
    },
    /// Accept its tokens again.
    Enable {
        /// Its id.
        id: String,
    },
    /// Count a manufacturer's devices by model and batch, as its own page does.
    Batches {
        /// Its id.
        id: String,
    },
    /// Withdraw the printed codes of a manufacturer's batch: no device of it can be claimed any more; owned ones go on.
    Withdraw(BatchOf),
    /// Bring the printed codes of a batch back.
    Restore(BatchOf),
    /// Give it another token.
    Rotate {
        /// Its id.
        id: String,
        /// How long the tokens before stay valid: 24h, 7d.
        #[arg(long, default_value = "0", value_parser = when::length)]
        keep: i64,
        /// When the new token ends.
        #[arg(long, value_parser = when::moment)]
        expires: Option<Moment>,
        /// Write the token to this new file instead of telling it.
        #[arg(long)]
        token_file: Option<PathBuf>,
    },
}

/// Which batch is meant.
#[derive(Args)]
pub(super) struct BatchOf {
    /// The manufacturer's id.
    id: String,
    /// What people call the model: the `client_name` that its devices were registered with.
    #[arg(long)]
    model: String,
    /// The production batch; those of which none was named if it is left out.
    #[arg(long, default_value = "")]
    batch: String,
}

#[derive(Subcommand)]
pub(super) enum GatewayCommand {
    /// Add one, and tell its secret.
    Add {
        /// Name it authenticates with.
        client_id: String,
        /// Its URI as an audience.
        #[arg(long)]
        resource: String,
        /// Host of MQTT over TLS.
        #[arg(long)]
        host: String,
        /// Port of MQTT over TLS.
        #[arg(long)]
        port: u16,
        /// A pin: base64 SHA-256 of a SubjectPublicKeyInfo; may be given several times.
        #[arg(long = "spki-sha256")]
        spki_sha256: Vec<String>,
        /// File with more pins, one a line.
        #[arg(long)]
        spki_file: Option<PathBuf>,
        /// PEM file whose certificates' keys are pinned too.
        #[arg(long)]
        ca_file: Option<PathBuf>,
        /// Base URL of its HTTP API, for apps.
        #[arg(long)]
        http: Option<String>,
        /// URL of MQTT over WebSocket, for apps.
        #[arg(long)]
        websocket: Option<String>,
        /// Write the secret to this new file instead of telling it.
        #[arg(long)]
        secret_file: Option<PathBuf>,
    },
    /// List them, also those of the configuration file.
    List,
    /// Refuse it, and send it no new owners.
    Disable {
        /// Its client_id.
        client_id: String,
    },
    /// Accept it again.
    Enable {
        /// Its client_id.
        client_id: String,
    },
    /// Give it another secret.
    Rotate {
        /// Its client_id.
        client_id: String,
        /// How long the secret before stays valid: 24h, 7d.
        #[arg(long, default_value = "0", value_parser = when::length)]
        keep: i64,
        /// Write the secret to this new file instead of telling it.
        #[arg(long)]
        secret_file: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(super) enum ClientCommand {
    /// List clients, by client_id.
    List {
        /// `device` or `app`.
        #[arg(long)]
        kind: Option<String>,
        /// Only those of this registrar.
        #[arg(long)]
        registrar: Option<String>,
        /// Only those after this client_id.
        #[arg(long)]
        after: Option<String>,
        /// So many at most.
        #[arg(long)]
        limit: Option<i64>,
    },
    /// Show one client.
    Show {
        /// Its client_id.
        client_id: String,
    },
    /// Let it neither log in nor be claimed; what it was allowed ends.
    Disable {
        /// Its client_id.
        client_id: String,
    },
    /// Let it log in again.
    Enable {
        /// Its client_id.
        client_id: String,
    },
    /// Withdraw a device's printed code: it cannot be claimed any more; an owned one goes on.
    Withdraw {
        /// Its client_id.
        client_id: String,
    },
    /// Bring a device's printed code back.
    Restore {
        /// Its client_id.
        client_id: String,
    },
    /// Register a unit in place of a broken one, which is withdrawn; tells what the new unit is flashed with, as registration does.
    Replace {
        /// The broken unit's client_id.
        client_id: String,
        /// Write the answer to this new file instead of telling it.
        #[arg(long)]
        answer_file: Option<PathBuf>,
    },
}

/// Opens what the configuration names, and does one thing there.
pub(super) fn with_app<T>(
    config: &Path,
    work: impl AsyncFnOnce(&App) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    service::tls::install_provider();
    let config = super::load(config)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let app = App::open(config, Clock::system(), Shutdown::new()).await?;
        let done = work(&app).await;
        app.store.close().await;
        done
    })
}

pub(super) fn registrar(common: &Common, kind: Kind, command: RegistrarCommand) -> anyhow::Result<()> {
    with_app(&common.config, async |app| {
        let now = app.clock.now();
        match command {
            RegistrarCommand::Add { id, name, quota, expires, token_file } => {
                let file = token_file.as_deref().map(told::secret_file).transpose()?;
                let new = NewRegistrar { id, name, quota, expires: expires.map(|end| end.at(now)) };
                let token =
                    forget_on_failure(token_file.as_deref(), operator::add_registrar(app, kind, &new).await)?;
                told::secret(file, common.json, "initial_access_token", &new.id, &token)
            }
            RegistrarCommand::Rotate { id, keep, expires, token_file } => {
                let file = token_file.as_deref().map(told::secret_file).transpose()?;
                let rotation = Rotation { keep, expires: expires.map(|end| end.at(now)) };
                let token = forget_on_failure(
                    token_file.as_deref(),
                    operator::rotate_registrar(app, kind, &id, &rotation).await,
                )?;
                told::secret(file, common.json, "initial_access_token", &id, &token)
            }
            RegistrarCommand::Disable { id } => Ok(operator::disable_registrar(app, kind, &id, true).await?),
            RegistrarCommand::Enable { id } => Ok(operator::disable_registrar(app, kind, &id, false).await?),
            RegistrarCommand::Batches { id } => {
                only_makers(kind)?;
                let all = devices::batches(app, &id).await?;
                if common.json {
                    return told::json(&all);
                }
                let heading = ["MODEL", "BATCH", "REGISTERED", "OWNED", "WITHDRAWN"];
                told::table(&heading, &all.into_iter().flat_map(batch_rows).collect::<Vec<_>>());
                Ok(())
            }
            RegistrarCommand::Withdraw(of) => withdraw_batch(app, common, kind, of, true).await,
            RegistrarCommand::Restore(of) => withdraw_batch(app, common, kind, of, false).await,
            RegistrarCommand::List => {
                let all = operator::registrars(app, kind).await?;
                if common.json {
                    return told::json(&all);
                }
                let heading = ["ID", "NAME", "REGISTERED", "QUOTA", "TOKENS END", "STATE", "SOURCE"];
                told::table(&heading, &all.into_iter().map(registrar_row).collect::<Vec<_>>());
                Ok(())
            }
        }
    })
}

fn only_makers(kind: Kind) -> anyhow::Result<()> {
    anyhow::ensure!(kind == Kind::Manufacturer, "an app developer has no devices");
    Ok(())
}

async fn withdraw_batch(
    app: &App,
    common: &Common,
    kind: Kind,
    of: BatchOf,
    withdrawn: bool,
) -> anyhow::Result<()> {
    only_makers(kind)?;
    let BatchOf { id, model, batch } = of;
    let devices = devices::withdraw_batch(app, &id, &BatchName { model, batch }, withdrawn).await?;
    if common.json {
        return told::json(&serde_json::json!({ "devices": devices }));
    }
    told::say(&format!("{devices} devices {}", if withdrawn { "withdrawn" } else { "brought back" }));
    Ok(())
}

fn batch_rows(counts: ModelCounts) -> Vec<Vec<String>> {
    let told = |number: Option<i64>, least: &str| number.map_or("-".to_owned(), |n| format!("{least}{n}"));
    let row = |cell: Cell| {
        let withdrawn = match cell.withdrawn {
            Withdrawn::Nothing => "no",
            Withdrawn::Some => "some",
            Withdrawn::All => "all",
        };
        vec![
            counts.model.clone(),
            cell.batch.unwrap_or_else(|| "small ones together".to_owned()),
            told(cell.registered, ""),
            told(cell.owned_at_least, "at least "),
            withdrawn.to_owned(),
        ]
    };
    counts.cells.into_iter().map(row).collect()
}

fn registrar_row(one: RegistrarView) -> Vec<String> {
    let ends = one.tokens_expire.iter().map(|end| end.map_or_else(|| "never".to_owned(), when::shown));
    vec![
        one.id,
        one.name,
        one.registered.to_string(),
        one.quota.to_string(),
        ends.collect::<Vec<_>>().join(", "),
        state(one.disabled, one.shadowed),
        source(one.source),
    ]
}

pub(super) fn gateway(common: &Common, command: GatewayCommand) -> anyhow::Result<()> {
    with_app(&common.config, async |app| match command {
        GatewayCommand::Add {
            client_id,
            resource,
            host,
            port,
            spki_sha256,
            spki_file,
            ca_file,
            http,
            websocket,
            secret_file,
        } => {
            let file = secret_file.as_deref().map(told::secret_file).transpose()?;
            let spki_sha256 = pins::collect(&spki_sha256, &spki_file, &ca_file)?;
            let address = GatewayAddress { host, port, spki_sha256, http, websocket };
            let new = NewGateway { client_id, resource, address };
            let secret = forget_on_failure(secret_file.as_deref(), operator::add_gateway(app, &new).await)?;
            told::secret(file, common.json, "client_secret", &new.client_id, &secret)
        }
        GatewayCommand::Rotate { client_id, keep, secret_file } => {
            let file = secret_file.as_deref().map(told::secret_file).transpose()?;
            let rotation = Rotation { keep, expires: None };
            let secret = forget_on_failure(
                secret_file.as_deref(),
                operator::rotate_gateway(app, &client_id, &rotation).await,
            )?;
            told::secret(file, common.json, "client_secret", &client_id, &secret)
        }
        GatewayCommand::Disable { client_id } => Ok(operator::disable_gateway(app, &client_id, true).await?),
        GatewayCommand::Enable { client_id } => Ok(operator::disable_gateway(app, &client_id, false).await?),
        GatewayCommand::List => {
            let all = operator::gateways(app).await?;
            if common.json {
                return told::json(&all);
            }
            let heading = ["CLIENT_ID", "RESOURCE", "ADDRESS", "HOME", "STATE", "SOURCE"];
            told::table(&heading, &all.into_iter().map(gateway_row).collect::<Vec<_>>());
            Ok(())
        }
    })
}

fn gateway_row(one: GatewayView) -> Vec<String> {
    vec![
        one.client_id,
        one.resource,
        format!("{}:{}", one.address.host, one.address.port),
        if one.home { "yes" } else { "" }.to_owned(),
        state(one.disabled, one.shadowed),
        source(one.source),
    ]
}

pub(super) fn client(common: &Common, command: ClientCommand) -> anyhow::Result<()> {
    with_app(&common.config, async |app| match command {
        ClientCommand::List { kind, registrar, after, limit } => {
            let all = operator::clients(app, &Filter { kind, registrar, after, limit }).await?;
            if common.json {
                return told::json(&all);
            }
            let rows = all.into_iter().map(|one| {
                let registrar = one.registrar.unwrap_or_else(|| "-".to_owned());
                let created = when::shown(one.created_at);
                vec![one.client_id, one.kind, one.name, registrar, created, state(one.disabled, false)]
            });
            let heading = ["CLIENT_ID", "KIND", "NAME", "REGISTRAR", "CREATED", "STATE"];
            told::table(&heading, &rows.collect::<Vec<_>>());
            Ok(())
        }
        ClientCommand::Show { client_id } => told::json(&operator::client(app, &client_id).await?),
        ClientCommand::Disable { client_id } => Ok(operator::disable_client(app, &client_id, true).await?),
        ClientCommand::Enable { client_id } => Ok(operator::disable_client(app, &client_id, false).await?),
        ClientCommand::Withdraw { client_id } => Ok(devices::withdraw(app, &client_id, true).await?),
        ClientCommand::Restore { client_id } => Ok(devices::withdraw(app, &client_id, false).await?),
        ClientCommand::Replace { client_id, answer_file } => {
            let file = answer_file.as_deref().map(told::secret_file).transpose()?;
            let new = forget_on_failure(answer_file.as_deref(), devices::replace(app, &client_id).await)?;
            told::answer(file, &new)
        }
    })
}

pub(super) fn stats(common: &Common) -> anyhow::Result<()> {
    with_app(&common.config, async |app| {
        let stats = operator::stats(app).await?;
        if common.json {
            return told::json(&stats);
        }
        let members = stats.as_object().into_iter().flatten();
        let rows = members.map(|(name, value)| {
            vec![name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)]
        });
        told::table(&["WHAT", "HOW MANY"], &rows.collect::<Vec<_>>());
        Ok(())
    })
}

/// The file for a secret that was not made is not left behind.
fn forget_on_failure<T, E>(file: Option<&Path>, done: Result<T, E>) -> Result<T, E> {
    if done.is_err()
        && let Some(file) = file
    {
        // It was made just now, and is empty; if it stays, the next try says so.
        let _ = std::fs::remove_file(file);
    }
    done
}

fn state(disabled: bool, shadowed: bool) -> String {
    match (disabled, shadowed) {
        (_, true) => "shadowed by the file",
        (true, false) => "disabled",
        (false, false) => "active",
    }
    .to_owned()
}

fn source(source: Source) -> String {
    match source {
        Source::File => "file",
        Source::Database => "database",
    }
    .to_owned()
}
