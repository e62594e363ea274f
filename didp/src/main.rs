//! `didp`: configuration, telemetry, bind, serve, drain. The life itself is [`didp::main_with_args`], which the demo runs too.

use std::process::ExitCode;

fn main() -> ExitCode {
    didp::main_with_args(std::env::args_os())
}
