//! The gateway that checks tokens and relays to each owner's private broker; and its launcher.

fn main() -> std::process::ExitCode {
    ignite::main_with_args(std::env::args_os())
}
