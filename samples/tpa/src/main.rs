//! A sample third-party app: OAuth2 code flow with PKCE, then MQTT over WebSocket in the browser.

fn main() -> std::process::ExitCode {
    tpa::main_with_args(std::env::args_os())
}
