//! A small configuration with the files that it names, for tests of this crate: a gateway `ignite`, a manufacturer `maker`.

use std::path::Path;

use serde_json::{Value, json};

use crate::Config;

/// Writes keys and secrets into `dir`, and reads the configuration, with the members of `more` added to it.
pub(crate) fn config(dir: &Path, issuer: &str, more: Value) -> Config {
    let file = |name: &str| dir.join(name);
    crate::keys::init(&file("keys")).unwrap();
    for name in ["gateway", "maker", "developer"] {
        std::fs::write(file(name), format!("the-token-of-the-{name}")).unwrap();
    }
    let mut config = json!({
        "issuer": issuer,
        "tag": "test",
        "keys_dir": file("keys"),
        "database": file("didp.sqlite"),
        "mqtt": { "host": "didp.localhost", "port": 8884 },
        "gateway": [{
            "client_id": "ignite", "secret_file": file("gateway"), "resource": "http://ignite.localhost:8083",
            "host": "ignite.localhost", "port": 8883,
        }],
        "manufacturer": [{ "id": "maker", "name": "Maker", "initial_access_token_file": file("maker") }],
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    serde_json::from_value(config).unwrap()
}
