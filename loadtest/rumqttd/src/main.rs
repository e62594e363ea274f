//! rumqttd on one address, with room for the load tests' connections; prints the address once it listens there.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let Some(address) = std::env::args().nth(1).and_then(|text| text.parse::<SocketAddr>().ok()) else {
        eprintln!("usage: rumqttd-baseline ADDRESS:PORT");
        return ExitCode::from(2);
    };
    let config = match toml::from_str::<rumqttd::Config>(&config(address)) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("rumqttd-baseline: {error}");
            return ExitCode::FAILURE;
        }
    };
    std::thread::spawn(move || {
        while TcpStream::connect(address).is_err() {
            std::thread::sleep(Duration::from_millis(2));
        }
        // Whoever started this waits for the line; if it is gone, there is nobody to tell.
        let _ = writeln!(std::io::stdout(), "{address}");
    });
    match rumqttd::Broker::new(config).start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rumqttd-baseline: {error}");
            ExitCode::FAILURE
        }
    }
}

fn config(address: SocketAddr) -> String {
    format!(
        "id = 0
[router]
id = 0
max_connections = 30000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = \"v4-1\"
listen = \"{address}\"
next_connection_delay_ms = 0
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 1000
dynamic_filters = true
[v4.1.connections.auth]
load = \"load\"
"
    )
}
