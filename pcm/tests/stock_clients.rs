//! Mosquitto's own clients against `pcm --listen`.

mod common;

use common::Pcm;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

fn command(program: &str, address: SocketAddr, version: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string(), "-V", version]);
    command
}

#[test]
fn mosquitto_clients() {
    if !is_installed("mosquitto_pub") || !is_installed("mosquitto_sub") {
        println!(
            "SKIPPED mosquitto_clients: needs mosquitto_pub and mosquitto_sub (Debian: mosquitto-clients)"
        );
        return;
    }
    let (_pcm, address) = Pcm::plain(&["--sandbox"]);
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let topic = format!("stock/{version}/{qos}");
            // A retained message shows that the subscription stands: only then the others are sent.
            let mut ready = command("mosquitto_pub", address, version);
            ready.args(["-t", &topic, "-r", "-m", "ready", "-q", qos]);
            assert!(ready.status().unwrap().success());
            let mut subscriber = command("mosquitto_sub", address, version);
            subscriber.args(["-t", "stock/+/+", "-t", &topic, "-v", "-q", qos, "-C", "4", "-W", "10"]);
            subscriber.args(["-F", "%t %q %p"]);
            let mut subscriber = subscriber.stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(subscriber.stdout.take().unwrap());
            let mut line = String::new();
            while !line.ends_with("ready\n") || !line.contains(&topic) {
                line.clear();
                assert!(lines.read_line(&mut line).unwrap() > 0, "the subscriber gave up");
            }
            for payload in ["one", "two", "three", "four"] {
                let mut publisher = command("mosquitto_pub", address, version);
                publisher.args(["-t", &topic, "-m", payload, "-q", qos]);
                assert!(publisher.status().unwrap().success());
            }
            let mut rest = String::new();
            lines.read_to_string(&mut rest).unwrap();
            assert!(rest.contains(&format!("{topic} {qos} one\n")), "{rest}");
            subscriber.wait().unwrap();
            let mut clear = command("mosquitto_pub", address, version);
            assert!(clear.args(["-t", &topic, "-r", "-n"]).status().unwrap().success());
        }
    }
}
