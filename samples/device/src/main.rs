//! `device run` is one thermostat, `device panel` all of them with a page; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    device::main_with_args(std::env::args_os())
}
