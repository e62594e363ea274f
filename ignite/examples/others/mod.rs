//! What the measurements have in common: a DIdP that knows everybody, processes that end, a configuration.

#![allow(dead_code, reason = "each measurement uses its own part")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use axum::extract::Form;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use mqtt_wire::{Connect, Packet, Properties, Version};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const ISSUER: &str = "http://didp.test";
const RESOURCE: &str = "http://ignite.test";

/// Ends with this process, however that ends.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The files that [`toml`] names.
pub(crate) fn write_secrets(dir: &Path) {
    std::fs::write(dir.join("master.key"), [42; 32]).unwrap();
    std::fs::write(dir.join("secret"), "secret").unwrap();
}

/// The configuration of a gateway on `listen`, and of its launcher, for many connections of one address; `more` is put in front of
/// the sections.
pub(crate) fn toml(listen: SocketAddr, didp: &str, pcm: &Path, more: &str) -> String {
    format!(
        r#"
resource = "{RESOURCE}"
master_key_file = "master.key"
{more}
[listen]
mqtt = "{listen}"
[limits]
connections = 100000
connections_per_address = 100000
[[didp]]
tag = "demo"
issuer = "{ISSUER}"
introspection_url = "http://{didp}"
client_id = "gateway"
client_secret_file = "secret"
[launcher]
runtime = "process"
socket = "launcher.sock"
dir = "run"
pcm_command = ["{pcm}"]
"#,
        pcm = pcm.display(),
    )
}

/// The CONNECT of connection `number`.
pub(crate) fn bearer(version: Version, number: usize, keep_alive: u16) -> Vec<u8> {
    let (token, id) = (format!("demo.{number}"), format!("client-{number}"));
    let connect = Packet::Connect(Connect {
        version,
        clean_start: true,
        keep_alive,
        properties: Properties::EMPTY,
        client_id: &id,
        will: None,
        username: Some("Bearer"),
        password: Some(token.as_bytes()),
    });
    connect.to_vec(version)
}

/// The DIdP: token `demo.n` is of owner n / 2, a device if n is even, an app that may do everything with it if odd.
pub(crate) async fn serve(listener: TcpListener) {
    let events = || async {
        let head = futures_util::stream::iter(["data: {\"seq\":1,\"kind\":\"head\"}\n\n"]);
        let comments = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Some((":\n\n", ()))
        });
        axum::body::Body::from_stream(head.chain(comments).map(Ok::<_, std::io::Error>))
    };
    let router = Router::new()
        .route("/introspect", post(introspect))
        .route("/introspect/grants", post(grants))
        .route("/introspect/events", get(events));
    axum::serve(listener, router).await.unwrap();
}

fn details(owner: usize, is_device: bool) -> Value {
    let actions = if is_device { ["publish", "subscribe"] } else { ["read", "command"] };
    json!([{"type": "mqtt", "identifier": format!("label-of-{owner}"), "title": "Thermostat T1", "actions": actions,
        "channels": [
            {"name": "temperature", "direction": "data", "title": "Temperature", "unit": "°C", "type": "number"},
            {"name": "heater", "direction": "command", "title": "Heater", "type": "boolean"}],
        "ref": format!("reference-{owner}")}])
}

/// Connection number n is of owner n / 2: a device if even, an app if odd.
async fn introspect(Form(form): Form<HashMap<String, String>>) -> Json<Value> {
    let number: usize = form["token"].strip_prefix("demo.").unwrap().parse().unwrap();
    let (owner, is_device) = (number / 2, number.is_multiple_of(2));
    let scope = if is_device { "data:publish command:subscribe" } else { "data:subscribe command:publish" };
    let mut answer = json!({"active": true, "iss": ISSUER, "sub": format!("pseudonym-of-owner-{owner}"), "aud": RESOURCE,
        "exp": 4_000_000_000_i64, "scope": scope, "authorization_details": details(owner, is_device),
        "sid": format!("grant-number-{number}"), "rev": 1, "state_share": "c2hhcmUtb2YtYS1rZXk"});
    if is_device {
        answer["label"] = json!(format!("label-of-{owner}"));
    }
    Json(answer)
}

async fn grants(Form(form): Form<HashMap<String, String>>) -> Json<Value> {
    let owner: usize = form["sub"].strip_prefix("pseudonym-of-owner-").unwrap().parse().unwrap();
    let grant = |number: usize| {
        json!({"sid": format!("grant-number-{number}"), "rev": 1,
            "authorization_details": details(owner, number.is_multiple_of(2))})
    };
    Json(json!({"sub": form["sub"], "rev": 1, "grants": [grant(2 * owner), grant(2 * owner + 1)]}))
}
