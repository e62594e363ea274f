//! `factory serve --config factory.toml`; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    factory::main_with_args(std::env::args_os())
}
