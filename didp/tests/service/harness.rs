//! A DIdP on free ports with a clock that the test moves, an MQTT client that speaks packets, and an app.

mod client;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use didp::flows::authorize::{self, Choice, ChosenDevice};
use didp::flows::claim::{self, Attempt, ClaimState};
use didp::flows::login::{self, Session};
use didp::state::App;
use didp::{Config, Listeners};
use mqtt_wire::Version;
use serde_json::{Value, json};
use service::net::Listener;
use service::{Clock, Shutdown, secret};

pub(crate) use client::{Came, Mqtt};

use crate::postgres;

/// Nothing here takes that long; a test that waits so long has failed.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const MANUFACTURER: &str = "initial access token of the manufacturer";
pub(crate) const BIG_MANUFACTURER: &str = "initial access token of a manufacturer with a large quota";
pub(crate) const DEVELOPER: &str = "initial access token of the developer";
pub(crate) const GATEWAY: (&str, &str) = ("ignite", "secret of the first gateway");
pub(crate) const OTHER_GATEWAY: (&str, &str) = ("other", "secret of the second gateway");
pub(crate) const CALLBACK: &str = "https://app.example/callback?x=1";

/// A running DIdP.
pub(crate) struct Didp {
    pub(crate) app: App,
    pub(crate) clock: Clock,
    pub(crate) http: reqwest::Client,
    base: String,
    mqtt: SocketAddr,
    shutdown: Shutdown,
    serving: Option<tokio::task::JoinHandle<()>>,
    dir: tempfile::TempDir,
    settings: String,
    database: String,
    /// Tables that go to the end of the configuration.
    tables: String,
    _stop: tokio_util::sync::DropGuard,
}

impl Didp {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// `settings` are lines that go to the front of the configuration.
    pub(crate) async fn start_with(settings: &str) -> Self {
        Self::start_with_files(&[], settings, "").await
    }

    /// `files` are written beside the configuration, `tables` go to its end.
    pub(crate) async fn start_with_files(files: &[(&str, &str)], settings: &str, tables: &str) -> Self {
        let database = postgres::wanted().unwrap_or("didp.sqlite".to_owned());
        let dir = prepared();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Self::open(dir, settings.to_owned(), tables.to_owned(), Clock::system(), database).await
    }

    /// A DIdP with a SQLite file, in a directory that `prepare` put something into.
    pub(crate) async fn start_prepared(prepare: impl AsyncFnOnce(&Path)) -> Self {
        let dir = prepared();
        prepare(dir.path()).await;
        Self::open(dir, String::new(), String::new(), Clock::system(), "didp.sqlite".to_owned()).await
    }

    /// A DIdP on a database that others may share; `keys` is the directory of another one whose keys it has.
    pub(crate) async fn start_on(database: &str, keys: Option<&Path>) -> Self {
        let dir = prepared();
        if let Some(keys) = keys {
            for entry in std::fs::read_dir(keys.join("keys")).unwrap() {
                let from = entry.unwrap().path();
                std::fs::copy(&from, dir.path().join("keys").join(from.file_name().unwrap())).unwrap();
            }
        }
        Self::open(dir, String::new(), String::new(), Clock::system(), database.to_owned()).await
    }

    async fn open(
        dir: tempfile::TempDir,
        settings: String,
        tables: String,
        clock: Clock,
        database: String,
    ) -> Self {
        let text = format!("{}\n{tables}", configuration(&settings, &database));
        let file = dir.path().join("didp.toml");
        let (mut config, _) = service::config::parse::<Config>(&file, &text, |_| None).unwrap();
        config.resolve(dir.path());
        let shutdown = Shutdown::new();
        let app = App::open(config, clock.clone(), shutdown.clone()).await.unwrap();
        let http = Listener::bind("127.0.0.1:0").await.unwrap();
        let mqtt = Listener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", http.local_addr().unwrap());
        let mqtt_address = mqtt.local_addr().unwrap();
        let listeners = Listeners { http: Some(http), mqtt: Some(mqtt), ..Listeners::default() };
        let serving = tokio::spawn(didp::serve(app.clone(), listeners));
        Self {
            app,
            clock,
            http: reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap(),
            base,
            mqtt: mqtt_address,
            _stop: shutdown.token().clone().drop_guard(),
            shutdown,
            serving: Some(serving),
            dir,
            settings,
            database,
            tables,
        }
    }

    /// Stops gracefully and starts again on the same files; all connections are gone.
    pub(crate) async fn restart(mut self) -> Self {
        self.shutdown.begin();
        if let Some(serving) = self.serving.take() {
            tokio::time::timeout(DEADLINE, serving).await.unwrap().unwrap();
        }
        let Self { dir, settings, tables, clock, database, .. } = self;
        Self::open(dir, settings, tables, clock, database).await
    }

    /// Waits until the store shows what is due by the clock.
    pub(crate) async fn sweep(&self) {
        didp::sweeper::sweep(&self.app).await.unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn mqtt_address(&self) -> SocketAddr {
        self.mqtt
    }

    /// The directory with the keys, the secrets and the database.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// True if the database file or its log, or a dump of the database, holds this text anywhere.
    pub(crate) fn holds(&self, needle: &str) -> bool {
        let bytes = if self.database.starts_with("postgres:") {
            postgres::dump(&self.database)
        } else {
            let mut bytes = std::fs::read(self.dir.path().join("didp.sqlite")).unwrap();
            bytes.extend(std::fs::read(self.dir.path().join("didp.sqlite-wal")).unwrap_or_default());
            bytes
        };
        let hex: String = needle.bytes().map(|byte| format!("{byte:02x}")).collect();
        [needle, &hex].iter().any(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, so: impl AsyncFn() -> bool) {
        tokio::time::timeout(DEADLINE, async {
            while !so().await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("it did not become so in time");
    }

    /// A form POST; status and JSON (null if there is none).
    pub(crate) async fn form(
        &self,
        path: &str,
        basic: Option<(&str, &str)>,
        form: &[(&str, &str)],
    ) -> (u16, Value) {
        let mut request = self.http.post(self.url(path)).form(form);
        if let Some((user, password)) = basic {
            request = request.basic_auth(user, Some(password));
        }
        answer(request).await
    }

    /// A JSON POST with an optional bearer token.
    pub(crate) async fn json(&self, path: &str, bearer: Option<&str>, body: &Value) -> (u16, Value) {
        let mut request = self.http.post(self.url(path)).json(body);
        if let Some(token) = bearer {
            request = request.bearer_auth(token);
        }
        answer(request).await
    }

    pub(crate) async fn introspect(&self, token: &str) -> Value {
        let (status, answer) = self.form("/introspect", Some(GATEWAY), &[("token", token)]).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    pub(crate) async fn is_active(&self, token: &str) -> bool {
        self.introspect(token).await["active"] == true
    }

    /// A person who is logged in; the same name is the same person.
    pub(crate) async fn owner(&self, name: &str) -> Session {
        let token = login::sign_in(&self.app, "https://people.test", name).await.unwrap();
        login::session(&self.app, &token).await.unwrap().unwrap()
    }

    /// A device fresh from the factory.
    pub(crate) async fn device(&self, confirm: &str) -> Device {
        let (status, answer) =
            self.json("/register", Some(BIG_MANUFACTURER), &device_metadata(confirm)).await;
        assert_eq!(status, 201, "{answer}");
        let uru = answer["user_registration_uri"].as_str().unwrap();
        Device {
            client_id: text(&answer["client_id"]),
            secret: text(&answer["client_secret"]),
            code: uru.strip_prefix("http://didp.test/r/").unwrap().to_owned(),
            management: text(&answer["registration_access_token"]),
            verifier: secret::random_token::<32>(),
        }
    }

    pub(crate) async fn connect(&self, device: &Device) -> Mqtt {
        Mqtt::login(self.mqtt, Version::V5, &device.client_id, &device.secret).await.unwrap()
    }

    /// The whole claim, from the press to the device's report.
    pub(crate) async fn claimed(&self, owner: &Session) -> (Device, Mqtt, Value) {
        let mut device = self.device("code").await;
        let mut mqtt = self.connect(&device).await;
        let tokens = self.claim(owner, &mut device, &mut mqtt).await;
        (device, mqtt, tokens)
    }

    pub(crate) async fn claim(&self, owner: &Session, device: &mut Device, mqtt: &mut Mqtt) -> Value {
        let code = self.granted(owner, device, mqtt).await;
        let tokens = mqtt.ask("token", &redemption(&code, &device.verifier)).await;
        assert!(tokens["access_token"].is_string(), "{tokens}");
        assert_eq!(mqtt.ask("claim/done", &json!({})).await, json!({}));
        device.secret = text(&tokens["client_secret"]);
        tokens
    }

    /// From the press to the code that the device gets.
    pub(crate) async fn granted(&self, owner: &Session, device: &Device, mqtt: &mut Mqtt) -> String {
        let ticket = self.matched(owner, device, mqtt).await;
        let state = claim::accept(&self.app, owner, &ticket, Some("Kitchen")).await.unwrap();
        assert_eq!(state, ClaimState::Waiting);
        let granted = mqtt.message().await.1;
        assert_eq!(granted["status"], "granted");
        text(&granted["code"])
    }

    /// From the press to the owner's right answer.
    pub(crate) async fn matched(&self, owner: &Session, device: &Device, mqtt: &mut Mqtt) -> String {
        let window = mqtt.ask("claim", &press(&device.verifier)).await;
        assert_eq!(window["status"], "window_open", "{window}");
        let typed = window["user_code"].as_str().unwrap_or("");
        let attempt = claim::confirm(&self.app, owner, &device.code, typed).await.unwrap();
        let Attempt::Matched { ticket } = attempt else { panic!("{attempt:?}") };
        assert_eq!(mqtt.message().await.1, json!({"status": "window_open", "expires_in": 300}));
        ticket
    }

    pub(crate) async fn register_app(&self, method: &str) -> Client {
        let metadata =
            json!({"client_name": "App", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": method});
        let (status, answer) = self.json("/register", Some(DEVELOPER), &metadata).await;
        assert_eq!(status, 201, "{answer}");
        Client {
            client_id: text(&answer["client_id"]),
            secret: answer["client_secret"].as_str().map(str::to_owned),
            method: method.to_owned(),
        }
    }

    /// The code that the owner's consent gives the app: reading and commanding all devices.
    pub(crate) async fn app_code(&self, owner: &Session, client: &Client, verifier: &str) -> String {
        self.app_code_until(owner, client, verifier, None).await
    }

    pub(crate) async fn app_code_until(
        &self,
        owner: &Session,
        client: &Client,
        verifier: &str,
        until: Option<i64>,
    ) -> String {
        let request = authorize::check(&self.app, &client.request(verifier)).await.unwrap();
        let devices = authorize::devices(&self.app, owner).await.unwrap();
        let choice = Choice {
            devices: devices
                .into_iter()
                .map(|d| ChosenDevice { id: d.id, ..ChosenDevice::default() })
                .collect(),
            read: true,
            command: true,
            future: true,
            future_exactness: request.wanted_exactness.clone(),
            share_names: true,
            until,
        };
        let url = authorize::allow(&self.app, owner, &request, choice).await.unwrap();
        query(&url, "code").unwrap()
    }

    pub(crate) async fn redeem(&self, client: &Client, code: &str, verifier: &str) -> (u16, Value) {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", CALLBACK),
        ];
        self.token(client, &form).await
    }

    pub(crate) async fn refresh(&self, client: &Client, refresh_token: &str) -> (u16, Value) {
        self.token(client, &[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
    }

    pub(crate) async fn token(&self, client: &Client, form: &[(&str, &str)]) -> (u16, Value) {
        let mut form = form.to_vec();
        match (&client.secret, client.method.as_str()) {
            (Some(secret), "client_secret_basic") => {
                return self.form("/token", Some((&client.client_id, secret)), &form).await;
            }
            (Some(secret), _) => {
                form.extend([("client_id", client.client_id.as_str()), ("client_secret", secret)]);
            }
            (None, _) => form.push(("client_id", &client.client_id)),
        }
        self.form("/token", None, &form).await
    }

    /// An app with the owner's consent, and its first tokens.
    pub(crate) async fn allowed(&self, owner: &Session, method: &str) -> (Client, Value) {
        let client = self.register_app(method).await;
        let verifier = secret::random_token::<32>();
        let code = self.app_code(owner, &client, &verifier).await;
        let (status, tokens) = self.redeem(&client, &code, &verifier).await;
        assert_eq!(status, 200, "{tokens}");
        (client, tokens)
    }
}

/// A directory with keys and secrets.
fn prepared() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    didp::keys::init(&dir.path().join("keys")).unwrap();
    for (name, text) in [
        ("manufacturer", MANUFACTURER),
        ("big", BIG_MANUFACTURER),
        ("developer", DEVELOPER),
        ("ignite", GATEWAY.1),
        ("other", OTHER_GATEWAY.1),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// The configuration for such a directory.
pub(crate) fn configuration(settings: &str, database: &str) -> String {
    format!(
        r#"
        {settings}
        issuer = "http://didp.test"
        tag = "test"
        keys_dir = "keys"
        database = "{database}"
        mqtt = {{ host = "didp.test", port = 8884, spki_sha256 = ["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="] }}
        [[gateway]]
        client_id = "ignite"
        secret_file = "ignite"
        resource = "http://ignite.test"
        host = "ignite.test"
        port = 8883
        http = "http://ignite.test"
        websocket = "ws://ignite.test/mqtt"
        [[gateway]]
        client_id = "other"
        secret_file = "other"
        resource = "http://other.test"
        host = "other.test"
        port = 8883
        [[manufacturer]]
        id = "maker"
        name = "Maker"
        initial_access_token_file = "manufacturer"
        quota = 50
        [[manufacturer]]
        id = "big"
        name = "Big Maker"
        initial_access_token_file = "big"
        [[developer]]
        id = "developer"
        name = "Developer"
        initial_access_token_file = "developer"
        "#
    )
}

/// A device as its maker flashed it.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) client_id: String,
    pub(crate) secret: String,
    pub(crate) code: String,
    pub(crate) management: String,
    pub(crate) verifier: String,
}

/// An app.
pub(crate) struct Client {
    pub(crate) client_id: String,
    pub(crate) secret: Option<String>,
    pub(crate) method: String,
}

impl Client {
    /// The parameters of a good authorization request.
    pub(crate) fn request(&self, verifier: &str) -> Vec<(String, String)> {
        [
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", CALLBACK),
            ("scope", "data:subscribe command:publish"),
            ("state", "state of the app"),
            ("code_challenge", &challenge(verifier)),
            ("code_challenge_method", "S256"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

pub(crate) fn device_metadata(confirm: &str) -> Value {
    json!({"client_name": "Thermostat T1", "device": {"confirm": confirm, "channels": [
        {"name": "temperature", "direction": "data", "title": "Temperature", "unit": "°C", "type": "number"},
        {"name": "heater", "direction": "command", "title": "Heater", "type": "boolean"}]}})
}

pub(crate) fn challenge(verifier: &str) -> String {
    secret::encode(secret::sha256(verifier.as_bytes()))
}

pub(crate) fn press(verifier: &str) -> Value {
    json!({"code_challenge": challenge(verifier), "code_challenge_method": "S256"})
}

pub(crate) fn redemption(code: &str, verifier: &str) -> Value {
    json!({"grant_type": "authorization_code", "code": code, "code_verifier": verifier})
}

pub(crate) fn refreshing(tokens: &Value) -> Value {
    json!({"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]})
}

pub(crate) fn query(url: &url::Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}")).to_owned()
}

/// Server-sent events as they come.
pub(crate) struct Events {
    pub(crate) response: reqwest::Response,
    text: String,
}

impl Events {
    pub(crate) async fn open(didp: &Didp, last: Option<i64>) -> Self {
        Self::open_at(&didp.url(""), last).await
    }

    pub(crate) async fn open_at(base: &str, last: Option<i64>) -> Self {
        let mut request = reqwest::Client::new()
            .get(format!("{base}/introspect/events"))
            .basic_auth(GATEWAY.0, Some(GATEWAY.1));
        if let Some(seq) = last {
            request = request.header("Last-Event-ID", seq);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, text: String::new() }
    }

    pub(crate) async fn next(&mut self) -> Value {
        tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                if let Some(end) = self.text.find("\n\n") {
                    let message: String = self.text.drain(..end + 2).collect();
                    let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
                    let Some(data) = field("data: ") else { continue };
                    let event: Value = serde_json::from_str(data).unwrap();
                    assert_eq!(field("id: ").unwrap(), event["seq"].to_string());
                    return event;
                }
                let chunk = self.response.chunk().await.unwrap().expect("the stream ended");
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        })
        .await
        .expect("no event came in time")
    }
}
