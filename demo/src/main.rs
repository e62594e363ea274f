//! The whole story in one process tree, without Docker; and the secrets of a fresh deployment.
//!
//! One binary is every part: `demo` starts itself again as `demo didp`, `demo ignite` and so on, so that there is nothing to
//! install and nothing to find. What each part does is its own crate's business.

use std::ffi::OsString;
use std::process::ExitCode;

mod setup;

/// What the program is started as if the first argument says so.
type Role = fn(args: Vec<OsString>) -> ExitCode;

const ROLES: [(&str, Role); 1] = [("setup", setup::main)];

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let role = args.get(1).and_then(|first| ROLES.iter().find(|(name, _)| first == name));
    match role {
        Some((_, role)) => {
            args.remove(0);
            role(args)
        }
        None => ExitCode::FAILURE,
    }
}
