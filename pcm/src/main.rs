//! The personal cloud middleware: one owner's private MQTT broker.

use std::process::ExitCode;

fn main() -> ExitCode {
    pcm::main_with_args(std::env::args_os())
}
