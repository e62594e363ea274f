//! Fills a DIdP's database with devices, owners, apps and grants, as registration, claims and consents leave them, to measure
//! with:
//!
//! ```text
//! cargo run --release -p didp --example seed -- --config didp.toml --devices 1000000 --tell 20000 > credentials.jsonl
//! ```
//!
//! Every owner has four devices and allows one app to see two of them. Owners are spread evenly over the gateways of the
//! configuration. Of `--tell` devices and as many grants to apps, spread evenly over all, one line of JSON each is written:
//! `{"kind": "device" | "app", "client_id", "client_secret"?, "access_token", "refresh_token", "gateway", "registration_code"?}`. Their
//! secrets are hashed as registration does it; nobody knows those of the others, so random bytes stand for their hashes. The
//! tokens are current ones, and long-lived. It may run again on the same database: it adds.

use std::io::Write as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use clap::Parser;
use didp::Config;
use didp::flows::registration::Metadata;
use didp::keys::Purpose;
use didp::state::App;
use didp::store::clients::{self, NewClient};
use didp::store::grants::{self, Chosen, Grant};
use didp::store::ownerships::{self, Ownership};
use didp::store::sql::{Dialect, query};
use didp::store::tokens::{self, NewNode};
use didp::store::{Conn, users};
use serde_json::{Value, json};
use service::{Clock, Shutdown, secret};

const DEVICES_PER_OWNER: u64 = 4;
const OWNERS_PER_TRANSACTION: u64 = 500;
const YEAR: i64 = 365 * 86_400;

#[derive(Parser)]
struct Arguments {
    /// The configuration of the DIdP, which should not run meanwhile.
    #[arg(long)]
    config: PathBuf,
    /// Devices to add, four to an owner.
    #[arg(long)]
    devices: u64,
    /// Of how many devices to write the credentials.
    #[arg(long, default_value_t = 10_000)]
    tell: u64,
    /// Apps that owners choose from.
    #[arg(long, default_value_t = 20)]
    apps: u64,
}

struct Seeder {
    app: App,
    now: i64,
    registrar: Option<String>,
    device_metadata: Metadata,
    apps: Vec<(String, String)>,
    /// One device in so many is told.
    step: u64,
    devices: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    service::tls::install_provider();
    let (mut config, source) = service::config::load::<Config>(&arguments.config)?;
    config.resolve(source.folder());
    config.check()?;
    let app = App::open(config, Clock::system(), Shutdown::new()).await?;
    let mut seeder = Seeder {
        now: app.clock.now(),
        registrar: app
            .registry
            .now()
            .registrars
            .iter()
            .find(|registrar| registrar.devices)
            .map(|found| found.id.clone()),
        device_metadata: serde_json::from_value(thermostat())?,
        apps: Vec::new(),
        step: (arguments.devices / arguments.tell.max(1)).max(1),
        devices: 0,
        app,
    };
    seeder.make_room().await?;
    seeder.register_apps(arguments.apps.max(1)).await?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let owners = arguments.devices.div_ceil(DEVICES_PER_OWNER);
    let mut done = 0;
    while done < owners {
        let mut tx = seeder.app.store.write().await?;
        let batch = OWNERS_PER_TRANSACTION.min(owners - done);
        let before = seeder.devices;
        for owner in done..done + batch {
            let left = arguments.devices - seeder.devices;
            for line in seeder.owner(&mut tx, owner, left.min(DEVICES_PER_OWNER)).await? {
                writeln!(out, "{line}")?;
            }
        }
        let added = i64::try_from(seeder.devices - before)?;
        clients::count(&mut tx, seeder.registrar.as_deref(), added).await?;
        tx.commit().await?;
        done += batch;
        if done % 25_000 < batch {
            eprintln!("{} devices", seeder.devices);
        }
    }
    out.flush()?;
    seeder.app.store.close().await;
    Ok(())
}

impl Seeder {
    /// What is written lies all over the indexes: with the DIdP's own few pages each would be written many times.
    async fn make_room(&self) -> anyhow::Result<()> {
        let mut tx = self.app.store.write().await?;
        if tx.dialect() == Dialect::Sqlite {
            // A GiB of pages, and the log folded back that seldom.
            for pragma in ["PRAGMA cache_size = -1048576", "PRAGMA wal_autocheckpoint = 100000"] {
                query(pragma).execute(&mut tx).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    async fn register_apps(&mut self, count: u64) -> anyhow::Result<()> {
        let mut tx = self.app.store.write().await?;
        for number in 0..count {
            let metadata = json!({
                "client_name": format!("App {number}"), "redirect_uris": ["https://app.example/callback"],
                "token_endpoint_auth_method": "client_secret_basic",
                "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            });
            let (client_id, client_secret) = (secret::random_token::<16>(), secret::random_token::<32>());
            let phc = self.app.hasher.hash(&client_secret).await?;
            let token = self.mac(&secret::random_token::<32>());
            clients::insert(
                &mut tx,
                &NewClient {
                    client_id: &client_id,
                    kind: "app",
                    auth_method: "client_secret_basic",
                    secret: Some(&phc),
                    name: &format!("App {number}"),
                    metadata: &metadata.to_string(),
                    registrar: None,
                    registration_token: &token,
                    idempotency: None,
                    created_at: self.now,
                },
            )
            .await?;
            self.apps.push((client_id, client_secret));
        }
        clients::count(&mut tx, None, i64::try_from(count)?).await?;
        Ok(tx.commit().await?)
    }

    async fn owner(&mut self, tx: &mut Conn, number: u64, devices: u64) -> anyhow::Result<Vec<Value>> {
        let mut told = Vec::new();
        let key = self.app.keys.mac(Purpose::User, &[secret::random_token::<16>().as_bytes()]);
        let user = users::insert(tx, key.as_bytes(), self.now).await?;
        let live = self.app.registry.now();
        let gateways = &live.gateways;
        let gateway = gateways[usize::try_from(number)? % gateways.len()].client_id.clone();
        let (sub, share) = (secret::random_token::<16>(), secret::random_bytes::<32>());
        users::ensure_pseudonym(tx, user, &gateway, &sub, &share).await?;
        let mut owned = Vec::new();
        let mut tell_app = false;
        for _ in 0..devices {
            let tell = self.devices.is_multiple_of(self.step);
            tell_app |= tell;
            self.devices += 1;
            let (client_id, line) = self.device(tx, user, &gateway, tell).await?;
            told.extend(line);
            owned.push(client_id);
        }
        let (client_id, client_secret) = &self.apps[usize::try_from(number)? % self.apps.len()];
        let grant = self.grant(user, client_id, &gateway, "app", "data:subscribe command:publish");
        let grant = grants::insert(tx, &grant).await?;
        for device in owned.iter().take(2) {
            let chosen = Chosen {
                channels: Some(r#"["humidity","temperature"]"#.into()),
                commands: Some(r#"["setpoint"]"#.into()),
                views: None,
            };
            grants::add_device(tx, grant, device, &secret::random_token::<16>(), &chosen).await?;
        }
        let (access_token, refresh_token) = self.pair(tx, grant).await?;
        if tell_app {
            told.push(json!({
                "kind": "app", "client_id": client_id, "client_secret": client_secret, "gateway": gateway,
                "access_token": access_token, "refresh_token": refresh_token,
            }));
        }
        Ok(told)
    }

    async fn device(
        &self,
        tx: &mut Conn,
        user: i64,
        gateway: &str,
        tell: bool,
    ) -> anyhow::Result<(String, Option<Value>)> {
        let (client_id, client_secret) = (secret::random_token::<16>(), secret::random_token::<32>());
        let code = secret::random_token::<16>();
        let phc = if tell { self.app.hasher.hash(&client_secret).await? } else { self.unknown_secret() };
        let token = self.mac(&secret::random_token::<32>());
        clients::insert(
            tx,
            &NewClient {
                client_id: &client_id,
                kind: "device",
                auth_method: "client_secret_basic",
                secret: Some(&phc),
                name: &self.device_metadata.client_name,
                metadata: &json!(self.device_metadata).to_string(),
                registrar: self.registrar.as_deref(),
                registration_token: &token,
                idempotency: None,
                created_at: self.now,
            },
        )
        .await?;
        let mac = self.app.keys.mac(Purpose::RegistrationCode, &[code.as_bytes()]);
        let channels = json!(self.device_metadata.device.as_ref().map(|device| &device.channels)).to_string();
        clients::insert_device(tx, &client_id, mac.as_bytes(), "code", &channels, None).await?;
        clients::end_registration(tx, &client_id).await?;
        let owned = Ownership {
            device: client_id.clone(),
            id: secret::random_token::<8>(),
            user_id: user,
            label: secret::random_token::<8>(),
            name: None,
            state: "active".into(),
            since: self.now,
        };
        ownerships::insert(tx, &owned).await?;
        let grant = self.grant(user, &client_id, gateway, "device", "data:publish command:subscribe");
        let grant = grants::insert(tx, &grant).await?;
        grants::add_device(tx, grant, &client_id, &secret::random_token::<16>(), &Chosen::default()).await?;
        let (access_token, refresh_token) = self.pair(tx, grant).await?;
        let line = tell.then(|| {
            json!({
                "kind": "device", "client_id": client_id, "client_secret": client_secret, "gateway": gateway,
                "access_token": access_token, "refresh_token": refresh_token, "registration_code": code,
            })
        });
        Ok((client_id, line))
    }

    fn grant(&self, user_id: i64, client_id: &str, gateway: &str, kind: &str, scope: &str) -> Grant {
        Grant {
            id: 0,
            public_id: secret::random_token::<8>(),
            sid: secret::random_token::<16>(),
            user_id,
            client_id: client_id.to_owned(),
            gateway: gateway.to_owned(),
            kind: kind.to_owned(),
            state: "active".into(),
            scope: scope.to_owned(),
            future: false,
            share_names: false,
            channels: None,
            created_at: self.now,
            expires_at: None,
            future_view: None,
            asked: None,
        }
    }

    async fn pair(&self, tx: &mut Conn, grant_id: i64) -> anyhow::Result<(String, String)> {
        let access_token = format!("{}.{}", self.app.config.tag, secret::random_token::<32>());
        let refresh_token = secret::random_token::<32>();
        let (access, handle) = (self.mac(&access_token), self.mac(&refresh_token));
        let node = NewNode {
            grant_id,
            parent: None,
            state: "current",
            handle: &handle,
            access: Some((&access, self.now + YEAR)),
            challenge: None,
            redirect_uri: None,
            expires_at: self.now + YEAR,
        };
        tokens::insert(tx, &node).await?;
        Ok((access_token, refresh_token))
    }

    fn mac(&self, token: &str) -> Vec<u8> {
        self.app.keys.mac(Purpose::Token, &[token.as_bytes()]).as_bytes().to_vec()
    }

    /// What the hash of a secret that nobody knows looks like.
    fn unknown_secret(&self) -> String {
        let encode = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
        let (salt, hash) = (secret::random_bytes::<16>(), secret::random_bytes::<32>());
        let iterations = self.app.config.limits.hash_iterations;
        format!("$pbkdf2-sha256$i={iterations},l=32${}${}", encode(&salt), encode(&hash))
    }
}

fn thermostat() -> Value {
    json!({
        "client_name": "Thermostat T1", "token_endpoint_auth_method": "client_secret_basic",
        "device": {
            "confirm": "code",
            "channels": [
                {"name": "temperature", "direction": "data", "title": "Temperature", "unit": "°C", "type": "number"},
                {"name": "humidity", "direction": "data", "title": "Humidity", "unit": "%", "type": "number"},
                {"name": "setpoint", "direction": "command", "title": "Set point", "unit": "°C", "type": "number"},
            ],
        },
    })
}
