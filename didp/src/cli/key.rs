//! `didp key`: the keys of this DIdP. The newest key of a purpose writes, all of them read; a running DIdP takes up a new one when
//! it is started again, and nobody is logged out by that.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;

use super::operator::{Common, with_app};
use super::told;
use crate::keys::{self, Purpose};
use crate::store::keys as stored;

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Make the keys that a directory has not; what exists is kept.
    Init {
        /// The directory.
        #[arg(long)]
        dir: PathBuf,
    },
    /// List the keys, and how many rows still stand under each.
    List,
    /// Add a key that writes from the next start on; all others still read.
    Rotate {
        /// For what: user, registration-code, token, session, client-secret, pages; all if missing.
        #[arg(long, value_parser = purpose)]
        purpose: Option<Purpose>,
        /// Let it only read for now: for several DIdPs, which must all have it before one writes with it.
        #[arg(long)]
        standby: bool,
    },
    /// Let the keys on standby write from the next start on.
    Promote {
        /// For what; all if missing.
        #[arg(long, value_parser = purpose)]
        purpose: Option<Purpose>,
    },
    /// Remove an old key under which nothing stands any more.
    Remove {
        /// For what.
        #[arg(long, value_parser = purpose)]
        purpose: Purpose,
        /// Its number.
        #[arg(long)]
        id: u8,
    },
}

fn purpose(name: &str) -> Result<Purpose, String> {
    Purpose::ALL.into_iter().find(|purpose| purpose.name() == name).ok_or_else(|| {
        let names: Vec<_> = Purpose::ALL.iter().map(|purpose| purpose.name()).collect();
        format!("a purpose is one of {}", names.join(", "))
    })
}

pub(super) fn run(common: &Common, command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Init { dir } => init(&dir),
        KeyCommand::List => list(common),
        KeyCommand::Rotate { purpose, standby } => {
            let dir = super::load(&common.config)?.keys_dir;
            let named = || dir.display().to_string();
            let mut made = Vec::new();
            for purpose in chosen(purpose) {
                made.push(keys::add_standby(&dir, purpose).with_context(named)?);
                if !standby {
                    made.pop();
                    made.extend(keys::promote(&dir, purpose).with_context(named)?);
                }
            }
            tell_paths(common, &made)
        }
        KeyCommand::Promote { purpose } => {
            let dir = super::load(&common.config)?.keys_dir;
            let mut promoted = Vec::new();
            for purpose in chosen(purpose) {
                promoted.extend(keys::promote(&dir, purpose).with_context(|| dir.display().to_string())?);
            }
            tell_paths(common, &promoted)
        }
        KeyCommand::Remove { purpose, id } => remove(common, purpose, id),
    }
}

fn chosen(purpose: Option<Purpose>) -> Vec<Purpose> {
    purpose.map_or_else(|| Purpose::ALL.to_vec(), |purpose| vec![purpose])
}

fn init(dir: &Path) -> anyhow::Result<()> {
    for path in keys::init(dir).with_context(|| dir.display().to_string())? {
        println!("{}", path.display());
    }
    Ok(())
}

fn tell_paths(common: &Common, paths: &[PathBuf]) -> anyhow::Result<()> {
    if common.json {
        return told::json(&paths);
    }
    for path in paths {
        println!("{}", path.display());
    }
    Ok(())
}

fn list(common: &Common) -> anyhow::Result<()> {
    with_app(&common.config, async |app| {
        let mut conn = app.store.read().await?;
        let mut rows = Vec::new();
        for (purpose, id, may_write) in keys::list(&app.config.keys_dir)? {
            let standing = stored::standing_under(&mut conn, purpose, id).await?;
            let role = match (may_write, app.keys.writes_with(purpose) == id) {
                (false, _) => "standby",
                (true, true) => "writes",
                (true, false) => "reads",
            };
            rows.push((purpose, id, role, standing));
        }
        if common.json {
            let all: Vec<_> = rows
                .iter()
                .map(|(purpose, id, role, rows)| {
                    serde_json::json!({ "purpose": purpose.name(), "id": id, "role": role, "rows": rows })
                })
                .collect();
            return told::json(&all);
        }
        let shown: Vec<_> = rows
            .into_iter()
            .map(|(purpose, id, role, rows)| {
                vec![purpose.name().to_owned(), id.to_string(), role.to_owned(), rows.to_string()]
            })
            .collect();
        told::table(&["PURPOSE", "ID", "ROLE", "ROWS"], &shown);
        Ok(())
    })
}

fn remove(common: &Common, purpose: Purpose, id: u8) -> anyhow::Result<()> {
    with_app(&common.config, async |app| {
        anyhow::ensure!(app.keys.writes_with(purpose) != id, "this key writes; rotate first");
        let standing = stored::standing_under(&mut *app.store.read().await?, purpose, id).await?;
        anyhow::ensure!(standing == 0, "{standing} rows still stand under this key");
        let path = keys::path(&app.config.keys_dir, purpose, id);
        std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        tell_paths(common, &[path])
    })
}
