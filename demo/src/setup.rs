//! `demo setup`: writes the secrets of a fresh deployment, one directory a participant (see [`testkit::setup`]).

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use testkit::setup::Setup;

/// Writes keys, certificates and credentials that are missing; what exists is kept.
#[derive(Parser)]
#[command(name = "demo setup")]
struct Arguments {
    /// Directory that gets one directory for each participant.
    #[arg(long)]
    out: PathBuf,
    /// Name or address under which the servers are reached, beside localhost.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// `PARTICIPANT=UID:GID`: to whom a participant's files belong; may be repeated.
    #[arg(long = "owner", value_parser = owner)]
    owners: Vec<(String, u32, u32)>,
}

fn owner(text: &str) -> Result<(String, u32, u32), String> {
    let parts = text.split_once('=').and_then(|(participant, ids)| {
        let (uid, gid) = ids.split_once(':')?;
        Some((participant.to_owned(), uid.parse().ok()?, gid.parse().ok()?))
    });
    parts.ok_or_else(|| "expected PARTICIPANT=UID:GID".to_owned())
}

/// Exit codes: 0 done, 1 failed, 2 wrong usage.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut setup = Setup::new(&arguments.out, arguments.host);
    for (participant, uid, gid) in arguments.owners {
        setup = setup.owner(participant, uid, gid);
    }
    match setup.write() {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo setup: {error:#}");
            ExitCode::FAILURE
        }
    }
}
