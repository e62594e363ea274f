//! What is wrong is named with its line; paths start at the file.

use super::*;

const TEXT: &str = r#"issuer = "http://didp.test"
tag = "demo"
keys_dir = "keys"
database = "didp.sqlite"
mqtt = { host = "didp.test", port = 8884 }

[[gateway]]
client_id = "ignite"
secret_file = "gateway"
resource = "http://ignite.test"
host = "ignite.test"
port = 8883

[[gateway]]
secret_file = "gateway"
resource = "http://other.test"
client_id = "other"
host = "ignite.test"
port = 8883
"#;

/// A plain OAuth2 provider whose issuer is the origin of its endpoints.
fn upstream(id: &str, path: &str) -> String {
    let endpoint = |name: &str| format!("{name}_endpoint = \"https://login.example{path}/{name}\"\n");
    let endpoints = ["authorization", "token", "user"].map(endpoint).concat();
    format!("[[upstream]]\nid = \"{id}\"\nname = \"X\"\nkind = \"oauth2\"\nclient_id = \"didp\"\n{endpoints}")
}

fn parse(text: &str) -> Result<Config, String> {
    let parsed = service::config::parse::<Config>(Path::new("didp.toml"), text, |_| None);
    parsed.map(|(config, _)| config).map_err(|error| error.to_string())
}

#[test]
fn a_mistake_across_values_has_a_line() {
    assert_eq!(parse(TEXT).unwrap().check(), Ok(()));
    let cases = [
        (TEXT.replace("\"other\"", "\"ignite\""), 17, "client_id"),
        (TEXT.replace("http://other.test", "http://ignite.test"), 16, "resource"),
        (format!("{TEXT}[listen]\nhttp = \"127.0.0.1:1\"\nmqtts = \"127.0.0.1:2\"\n"), 22, "mqtts"),
        (format!("{TEXT}[listen]\nhttps = \"127.0.0.1:2\"\n"), 21, "https"),
        (format!("{TEXT}[listen]\nmqtt = \"0.0.0.0:1\"\n"), 21, "mqtt"),
        (format!("{TEXT}[tls]\ncert = \"c\"\nkey = \"k\"\nclient_ca = \"a\"\n"), 23, "client_ca"),
        (format!("{TEXT}{}{}", upstream("a", "/one"), upstream("b", "/two")), 28, "issuer"),
        (format!("{TEXT}[lifetimes]\nauthorization_code = 61\n"), 21, "authorization_code"),
        (format!("{TEXT}[admin]\ntoken_file = \"a\"\nlisten = \"0.0.0.0:1\"\n"), 22, "listen"),
        (format!("{TEXT}[admin]\ntoken_file = \"a\"\nlisten = \"[::1]:1\"\nsocket = \"s\"\n"), 23, "socket"),
        (format!("{TEXT}[lifetimes]\npress_settle_seconds = 61\n"), 21, "press_settle_seconds"),
    ];
    for (text, line, key) in cases {
        let mistake = parse(&text).unwrap().check().unwrap_err();
        assert_eq!((mistake.key, mistake.line(&text)), (key, Some(line)));
    }
}

#[test]
fn a_single_value_is_judged_where_it_stands() {
    for (from, to, line) in [
        ("http://didp.test", "didp.test", 1),
        ("http://didp.test", "http://didp.test/path", 1),
        ("\"demo\"", "\"de.mo\"", 2),
        ("port = 8884", "port = 88840", 5),
        ("tag = ", "tagg = ", 2),
    ] {
        let error = parse(&TEXT.replacen(from, to, 1)).unwrap_err();
        assert!(error.starts_with(&format!("didp.toml:{line}: ")), "{error}");
    }
}

#[test]
fn relative_paths_start_at_the_file() {
    let mut config = parse(TEXT).unwrap();
    config.resolve(Path::new("/etc/oauthing"));
    assert_eq!(config.keys_dir, Path::new("/etc/oauthing/keys"));
    assert_eq!(config.gateway[1].secret_file.as_deref(), Some(Path::new("/etc/oauthing/gateway")));
}
