//! The `loadtest` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    loadtest::main_with_args(std::env::args_os())
}
