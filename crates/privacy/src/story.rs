//! The scenario: two owners, three devices, two apps with different views, a manufacturer, and somebody who does everything wrong.
//!
//! Devices 1 and 2 are owner 1's, made by the factory, and speak TLS. Device 3 is owner 2's, played here over plain lines so that
//! all that it says can be read. App 1 has all of device 1, with its name; app 2 a summary of device 1 and one channel of device 3.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, bail, ensure};
use mqtt_wire::{QoS, Version};
use oauth_wire::TokenResponse;
use serde_json::{Value, json};
use service::secret::random_token;
use testkit::device::{Device, Waiting};
use testkit::mqtt::{Client, Options};
use testkit::owner::Consent;

use crate::cast::{DIDP, GATEWAY, Network, Player, Thing};
use crate::deployment::{Deployment, PROJECT};
use crate::learn;
use crate::ledger::Ledger;
use crate::listen::Ears;
use crate::look;
use crate::matrix::{Kind, Mark, Party};
use crate::people::Person;
use crate::wrong;

/// Origins of the two apps.
const APPS: [&str; 2] = ["http://tpa.localhost:8090", "http://tpa-2.localhost:8090"];

/// Names of the channels of device 3: read by app 2, read by nobody, commanded by app 2.
#[must_use]
pub fn channels() -> [String; 3] {
    ["read", "unread", "told"].map(|what| format!("{what}{}", word()))
}

/// A word of letters and digits that nobody else has.
fn word() -> String {
    random_token::<9>().replace(['-', '_'], "x").to_lowercase()
}

/// A temperature that nobody else measures.
fn reading() -> String {
    format!("{}.{:09}", 20 + rand::random::<u8>() % 9, 100_000_000 + rand::random::<u32>() % 900_000_000)
}

/// The scenario while it is played.
pub struct Story<'a> {
    deployment: &'a Deployment,
    network: Network,
    channels: [String; 3],
    /// All marks so far.
    pub marks: Vec<Mark>,
    /// Whose an address of the scenario's own is.
    pub addresses: Vec<(IpAddr, Party)>,
    /// What was found so far.
    pub ledger: Ledger,
    players: [Player; 2],
    things: [Thing; 2],
    app_addresses: [IpAddr; 2],
    device_address: IpAddr,
    stranger: IpAddr,
    third: Device,
    names: [String; 3],
    /// Which owner an app's access token is about.
    tokens: Vec<(String, u8)>,
}

impl<'a> Story<'a> {
    /// Everybody takes their places: the factory has made its devices, nobody owns anything yet.
    ///
    /// # Errors
    /// Somebody does not.
    pub async fn begin(
        deployment: &'a Deployment,
        people: &[Person; 2],
        channels: [String; 3],
    ) -> anyhow::Result<Self> {
        let network = Network::new(deployment.names()?);
        let own = |number| deployment.address(number);
        let [first, second, app_1, app_2, device_address, line, stranger] =
            [own(11)?, own(12)?, own(13)?, own(14)?, own(15)?, own(16)?, own(17)?];
        let players = [Player::new(&network, &people[0], first)?, Player::new(&network, &people[1], second)?];
        let mut marks = Vec::new();
        for person in people {
            let mark = |kind, what: &str, value: &str| {
                Mark::new(kind, format!("{what} of owner {}", person.owner), value, []).of(person.owner)
            };
            marks.push(mark(Kind::Subject, "subject", &person.subject));
            marks.push(mark(Kind::Profile, "name", &person.name()));
            marks.push(mark(Kind::Profile, "first name", &person.names[0]));
            marks.push(mark(Kind::Profile, "last name", &person.names[1]));
            marks.push(mark(Kind::Profile, "e-mail", &person.email));
            marks.push(mark(Kind::Profile, "login", &person.key));
        }
        marks.push(Mark::new(Kind::BrowserAddress, "browser of owner 1", first.to_string(), []).of(1));
        marks.push(Mark::new(Kind::BrowserAddress, "browser of owner 2", second.to_string(), []).of(2));
        let addresses = vec![(app_1, Party::Tpa(1)), (app_2, Party::Tpa(2))];
        let connections = [
            (app_1, Party::Tpa(1), 1),
            (app_2, Party::Tpa(2), 1),
            (device_address, Party::Device(3), 2),
            (deployment.at("device-1")?, Party::Device(1), 1),
            (deployment.at("device-2")?, Party::Device(2), 1),
        ];
        for (address, party, owner) in connections {
            let what = format!("address of {party}");
            marks.push(Mark::new(Kind::ConnectionAddress, what, address.to_string(), [party]).of(owner));
        }
        for (name, which) in channels.iter().zip(["read by app 2", "read by nobody", "commanded by app 2"]) {
            let mut own = vec![Party::Device(3)];
            if which != "read by nobody" {
                own.push(Party::Tpa(2));
            }
            marks.push(Mark::new(Kind::Channel, format!("channel {which}"), name.as_str(), own).of(2));
        }
        let secrets = deployment.volume("secrets-factory")?;
        let initial = std::fs::read_to_string(secrets.join("initial-access-token"))?.trim().to_owned();
        let third = register(&network, line, &initial, &channels).await?;
        marks.push(Mark::new(Kind::InitialToken, "initial access token", initial, []));
        let prefix = format!("{PROJECT}-device-");
        let things =
            [Thing::take(&format!("{prefix}1-1")).await?, Thing::take(&format!("{prefix}2-1")).await?];
        let names = [1, 2, 3].map(|n| format!("Room {n} {}", word()));
        let mut story = Self {
            deployment,
            network,
            channels,
            marks,
            addresses,
            ledger: Ledger::default(),
            players,
            things,
            app_addresses: [app_1, app_2],
            device_address,
            stranger,
            third,
            names,
            tokens: Vec::new(),
        };
        story.learn_what_was_made()?;
        Ok(story)
    }

    fn learn_what_was_made(&mut self) -> anyhow::Result<()> {
        for (n, name) in [1u8, 2, 3].into_iter().zip(&self.names) {
            let owner = if n == 3 { 2 } else { 1 };
            // The owner ticks it for app 1 and device 1 alone.
            let own = if n == 1 { vec![Party::Tpa(1)] } else { Vec::new() };
            let what = format!("name of device {n}");
            self.marks.push(Mark::new(Kind::DisplayName, what, name.as_str(), own).of(owner));
        }
        for n in [1u8, 2] {
            let party = Party::Device(n);
            let volume = self.deployment.volume(&format!("state-device-{n}"))?;
            let hardware = std::fs::read_to_string(volume.join("thermostat/hardware-id"))?;
            let what = format!("hardware id of {party}");
            self.marks.push(Mark::new(Kind::HardwareId, what, hardware.trim(), [party]).of(1));
            self.marks.extend(learn::of_record(&learn::record(&volume)?, Kind::FactorySecret, 1, party));
        }
        let device = [Party::Device(3)];
        let third = &self.third;
        self.marks
            .push(Mark::new(Kind::ClientId, "client_id of device 3", third.client_id.as_str(), device).of(2));
        let secret = third.client_secret.as_str();
        self.marks.push(Mark::new(Kind::FactorySecret, "client_secret of device 3", secret, device).of(2));
        for (n, uru) in self.printed()?.iter().enumerate() {
            let code = uru.rsplit('/').next().unwrap_or_default();
            let owner = if n == 2 { 2 } else { 1 };
            self.marks
                .push(Mark::new(Kind::Uru, format!("printed code of device {}", n + 1), code, []).of(owner));
        }
        Ok(())
    }

    /// The printed addresses of devices 1 to 3.
    fn printed(&self) -> anyhow::Result<[String; 3]> {
        let file = self.deployment.volume("state-factory")?.join("devices.json");
        let made: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        let mut urus = Vec::new();
        for n in [1, 2] {
            let volume = self.deployment.volume(&format!("state-device-{n}"))?;
            let id = std::fs::read_to_string(volume.join("thermostat/hardware-id"))?;
            let entry =
                made.as_array().and_then(|all| all.iter().find(|one| one["hardware_id"] == id.trim()));
            let uru = entry.and_then(|entry| entry["registered"]["uru"].as_str());
            urus.push(uru.context("a device that the factory does not know")?.to_owned());
        }
        urus.push(self.third.user_registration_uri.clone());
        urus.try_into().map_err(|_| anyhow::anyhow!("three devices"))
    }

    /// Owners claim, allow, measure and command; then everything is looked at.
    ///
    /// # Errors
    /// Something does not work, or cannot be looked at.
    pub async fn play(&mut self, ears: &Ears) -> anyhow::Result<()> {
        wrong::before_claims(&self.network, self.stranger, &self.third, &mut self.marks).await?;
        let third = self.claims().await?;
        self.allow().await?;
        let mut apps = [self.app(0).await?, self.app(1).await?];
        let mut device = self.connect_third(&third).await?;
        self.learn(&third)?;
        self.measure(&mut apps, &mut device).await?;
        self.command(&mut apps).await?;
        wrong::with_rights(&self.network, self.stranger, &mut apps[0].client, &mut device, &mut self.marks)
            .await?;
        self.learn(&third)?;
        self.marks.extend(learn::of_streams(&ears.so_far()?));
        learn::once(&mut self.marks);
        self.look().await?;
        println!("privacy: everything was looked at once");
        self.end(&mut apps).await?;
        self.look().await
    }

    async fn claims(&mut self) -> anyhow::Result<TokenResponse> {
        let printed = self.printed()?;
        let refused = self.players[1].owner.open(&format!("{DIDP}/r/{}", random_token::<16>())).await?;
        drop(refused);
        for n in [0, 1] {
            let digits = self.things[n].press().await?;
            let bad = if digits == "0000" { "0001" } else { "0000" };
            self.players[0].owner.type_code(&printed[n], bad).await?;
            self.players[0].owner.claim(&printed[n], &digits, &self.names[n]).await?;
            self.things[n].runs().await?;
        }
        let door = self.network.door("didp.localhost", 1884, self.device_address)?;
        let options = Options::new(&door).login(&self.third.client_id, &self.third.client_secret);
        let mut waiting: Waiting = Device::wait_on(options).await?;
        let digits = waiting.press().await?;
        let owner = &self.players[1].owner;
        owner.decline_claim(&printed[2], &digits).await?;
        ensure!(waiting.decision().await?.is_err(), "a declined claim is granted");
        let digits = waiting.press().await?;
        let (claimed, tokens) =
            tokio::join!(owner.claim(&printed[2], &digits, &self.names[2]), waiting.finish());
        claimed?;
        let first = tokens?;
        // A refresh, so that there is a second line of tokens.
        let renewed = waiting.refresh(&first.refresh_token).await?;
        let mut second = renewed.map_err(|error| anyhow::anyhow!("refresh: {error}"))?;
        self.third_has(&first)?;
        self.third_has(&second)?;
        second.client_secret = first.client_secret;
        Ok(second)
    }

    fn third_has(&mut self, tokens: &TokenResponse) -> anyhow::Result<()> {
        let mut mark = |kind, what: &str, value: &str| {
            let what = format!("{what} of device 3");
            self.marks.push(Mark::new(kind, what, value, [Party::Device(3)]).of(2));
        };
        mark(Kind::AccessToken, "access token", &tokens.access_token);
        mark(Kind::RefreshToken, "refresh token", &tokens.refresh_token);
        if let Some(secret) = &tokens.client_secret {
            mark(Kind::RenewedSecret, "renewed secret", secret);
        }
        Ok(())
    }

    /// Owner 1 lets app 1 have device 1 as it is and app 2 a summary of it, owner 2 lets app 2 have one channel of device 3.
    async fn allow(&mut self) -> anyhow::Result<()> {
        let [one, two] = &self.players;
        let declined = one.owner.decline(&format!("{}/connect", APPS[0])).await?;
        drop(declined);
        let device_1 = Some(vec![self.names[0].clone()]);
        let all = Consent { devices: device_1.clone(), share_names: true, ..Consent::default() };
        one.owner.consent(&format!("{}/connect", APPS[0]), &all).await?.good()?;
        let summary = Consent { devices: device_1, command: false, ..Consent::default() };
        one.owner.consent(&format!("{}/connect", APPS[1]), &summary).await?.good()?;
        let exactly = vec![(self.channels[0].clone(), "every".to_owned())];
        let one_channel = Consent { exactly, ..Consent::default() };
        two.owner.consent(&format!("{}/connect", APPS[1]), &one_channel).await?.good()?;
        for (player, owner) in self.players.iter().zip([1, 2]) {
            for app in &APPS[usize::from(owner - 1)..] {
                self.tokens.push((player.token(app).await?, owner));
            }
        }
        Ok(())
    }

    /// App 1 or 2 connects with owner 1's token.
    async fn app(&mut self, n: usize) -> anyhow::Result<App> {
        App::connect(&self.network, self.app_addresses[n], &self.players[0].token(APPS[n]).await?).await
    }

    async fn connect_third(&self, tokens: &TokenResponse) -> anyhow::Result<Client> {
        let door = self.network.door("ignite.localhost", 1883, self.device_address)?;
        let options = Options::new(&door).bearer(&tokens.access_token).version(Version::V5);
        let mut client = options.session(60).connect().await?;
        client.subscribe("c/#", QoS::AtLeastOnce).await?;
        Ok(client)
    }

    /// What was drawn by now.
    fn learn(&mut self, third: &TokenResponse) -> anyhow::Result<()> {
        let thermostat = || ["temperature", "humidity", "heater"].map(str::to_owned).to_vec();
        let mut owners = BTreeMap::from([(self.third.client_id.clone(), (2, self.channels.to_vec()))]);
        for n in [1u8, 2] {
            let volume = self.deployment.volume(&format!("state-device-{n}"))?;
            let record = learn::record(&volume)?;
            owners.insert(record.client_id.as_str().to_owned(), (1, thermostat()));
            self.marks.extend(learn::of_record(&record, Kind::RenewedSecret, 1, Party::Device(n)));
        }
        self.third_has(third)?;
        for (n, folder) in [(1, "state-tpa"), (2, "state-tpa-2")] {
            self.marks.extend(learn::of_app(&self.deployment.volume(folder)?, Party::Tpa(n), &self.tokens)?);
        }
        self.marks.extend(learn::of_didp(&self.deployment.volume("state-didp")?, &owners)?);
        for (player, owner) in self.players.iter().zip([1, 2]) {
            for cookie in player.cookies()? {
                self.marks.push(
                    Mark::new(Kind::Session, format!("session of owner {owner}"), cookie, []).of(owner),
                );
            }
        }
        learn::once(&mut self.marks);
        Ok(())
    }

    async fn measure(&mut self, apps: &mut [App; 2], third: &mut Client) -> anyhow::Result<()> {
        let device_1 = [Party::Device(1), Party::Tpa(1)];
        for app in apps.iter_mut() {
            app.client.subscribe("d/#", QoS::AtLeastOnce).await?;
        }
        // Until a whole window has enough of them; app 2 sees what it summed up, app 1 each.
        let seen = 'windows: {
            for _ in 0..6 {
                for _ in 0..8 {
                    let value = reading();
                    self.marks
                        .push(Mark::new(Kind::Data, "reading of device 1", value.as_str(), device_1).of(1));
                    self.things[0].publish("temperature", &value).await?;
                    apps[0].until(&value).await?;
                }
                if apps[1].sums_up().await? {
                    break 'windows true;
                }
            }
            false
        };
        ensure!(seen, "app 2 saw no summary");
        for (n, channel) in [(0usize, "humidity"), (1, "temperature")] {
            let value = reading();
            let device = Party::Device(n as u8 + 1);
            let what = format!("{channel} of {device}, without a consent");
            self.marks.push(Mark::new(Kind::Uncovered, what, value.as_str(), [device]).of(1));
            self.things[n].publish(channel, &value).await?;
        }
        let mut other =
            App::connect(&self.network, self.app_addresses[1], &self.players[1].token(APPS[1]).await?)
                .await?;
        other.client.subscribe("d/#", QoS::AtLeastOnce).await?;
        let (covered, uncovered) = (reading(), reading());
        let own = [Party::Device(3), Party::Tpa(2)];
        self.marks.push(Mark::new(Kind::Data, "reading of device 3", covered.as_str(), own).of(2));
        let own = [Party::Device(3)];
        self.marks.push(
            Mark::new(Kind::Uncovered, "value of device 3, without a consent", uncovered.as_str(), own).of(2),
        );
        third.publish(&format!("d/{}", self.channels[1]), &uncovered, QoS::ExactlyOnce).await?;
        third.retain(&format!("d/{}", self.channels[0]), &covered, QoS::AtLeastOnce).await?;
        other.until(&covered).await?;
        let told = word();
        let own = [Party::Device(3), Party::Tpa(2)];
        self.marks.push(Mark::new(Kind::Command, "command to device 3", told.as_str(), own).of(2));
        for handle in other.handles().await? {
            self.handle(&handle, Party::Tpa(2), 2, &self.channels.clone());
            other
                .client
                .publish(&format!("c/{handle}/{}", self.channels[2]), &told, QoS::AtLeastOnce)
                .await?;
        }
        let message = third.message().await?;
        ensure!(message.text().contains(&told), "device 3 is told {}", message.text());
        other.client.disconnect().await
    }

    fn handle(&mut self, handle: &str, app: Party, owner: u8, channels: &[String]) {
        self.marks.push(Mark::new(Kind::Handle, format!("handle at {app}"), handle, [app]).of(owner));
        for channel in channels {
            let topic = format!("{handle}/{channel}");
            self.marks.push(Mark::new(Kind::Topic, format!("topic at {app}"), topic, [app]).of(owner));
        }
    }

    async fn command(&mut self, apps: &mut [App; 2]) -> anyhow::Result<()> {
        let channels = ["temperature".to_owned(), "heater".to_owned()];
        for (n, app) in [1u8, 2].into_iter().zip(apps.iter()) {
            for handle in app.handles().await? {
                self.handle(&handle, Party::Tpa(n), 1, &channels);
            }
        }
        let handle = apps[0].handles().await?.pop().context("app 1 has no device")?;
        for way in ["mqtt", "http", "shadow"] {
            let told = word();
            let own = [Party::Device(1), Party::Tpa(1)];
            self.marks.push(Mark::new(Kind::Command, format!("command by {way}"), told.as_str(), own).of(1));
            let payload = json!({"on": true, "by": told});
            match way {
                "mqtt" => {
                    let topic = format!("c/{handle}/heater");
                    apps[0].client.publish(&topic, payload.to_string(), QoS::AtLeastOnce).await?;
                }
                "http" => apps[0].post(&format!("/v1/c/{handle}/heater"), &payload).await?,
                _ => apps[0].patch(&format!("/v1/s/{handle}"), &json!({"heater": payload})).await?,
            }
            self.things[0].command(&told).await?;
        }
        apps[0].get(&format!("/v1/d/{handle}/temperature")).await?;
        apps[0].get(&format!("/v1/s/{handle}")).await
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        look::now(self.deployment, &self.network, self.stranger, &self.marks, &mut self.ledger).await
    }

    /// A consent is narrowed, another withdrawn, devices are given up in both ways, an account is deleted.
    async fn end(&mut self, apps: &mut [App; 2]) -> anyhow::Result<()> {
        let owner = &self.players[0].owner;
        owner.withdraw("Heating Diary").await?;
        owner.release(&self.names[1]).await?;
        self.things[1].is_released().await?;
        self.things[0].hold().await?;
        for app in apps {
            // Whatever was withdrawn ends within a second, and a device that is gone is nobody's.
            while app
                .client
                .message_within(std::time::Duration::from_millis(300))
                .await
                .is_ok_and(|m| m.is_some())
            {}
        }
        let account = self.players[1].owner.account().await?;
        account.form_to("/account/export", "")?.submit().await?.good()?;
        let page = self.players[1].owner.open("/account/delete").await?.good()?;
        page.form("sure")?.tick("sure", Some("yes"), true)?.submit().await?.good()?;
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
        while self.deployment.owned_pcms()? > 1 {
            ensure!(tokio::time::Instant::now() < deadline, "the PCM of an owner who left is still there");
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
        Ok(())
    }
}

/// A connection of an app.
pub struct App {
    /// MQTT over WebSocket.
    pub client: Client,
    http: reqwest::Client,
    token: String,
}

impl App {
    async fn connect(network: &Network, from: IpAddr, token: &str) -> anyhow::Result<Self> {
        let door = network.door("ignite.localhost", 8083, from)?.websocket();
        let client = Options::new(&door).bearer(token).connect().await?;
        Ok(Self { client, http: network.client(from).build()?, token: token.to_owned() })
    }

    async fn until(&mut self, part: &str) -> anyhow::Result<()> {
        loop {
            let message = self.client.message().await.with_context(|| format!("no message with {part}"))?;
            if message.text().contains(part) {
                return Ok(());
            }
        }
    }

    /// Whether a summary comes within its window; any single reading is a failure.
    async fn sums_up(&mut self) -> anyhow::Result<bool> {
        let window = std::time::Duration::from_secs(11);
        while let Some(message) = self.client.message_within(window).await? {
            match serde_json::from_slice::<Value>(&message.payload) {
                Ok(value) if value["count"].is_number() => return Ok(true),
                Ok(Value::Number(value)) => bail!("app 2 sees {value}"),
                _ => {}
            }
        }
        Ok(false)
    }

    async fn handles(&self) -> anyhow::Result<Vec<String>> {
        let answer = self.http.get(format!("{GATEWAY}/v1/devices")).bearer_auth(&self.token).send().await?;
        let devices: Value = answer.error_for_status()?.json().await?;
        let handles = devices.as_array().context("no list of devices")?.iter();
        Ok(handles.filter_map(|device| device["handle"].as_str().map(str::to_owned)).collect())
    }

    async fn get(&self, path: &str) -> anyhow::Result<()> {
        let answer = self.http.get(format!("{GATEWAY}{path}")).bearer_auth(&self.token).send().await?;
        answer.error_for_status()?.bytes().await?;
        Ok(())
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let request = self.http.post(format!("{GATEWAY}{path}")).bearer_auth(&self.token).json(body);
        request.send().await?.error_for_status()?;
        Ok(())
    }

    async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<()> {
        let request = self.http.patch(format!("{GATEWAY}{path}")).bearer_auth(&self.token).json(body);
        request.send().await?.error_for_status()?;
        Ok(())
    }
}

/// The factory's other line: a device with channels of its own.
async fn register(
    network: &Network,
    from: IpAddr,
    token: &str,
    [read, unread, told]: &[String; 3],
) -> anyhow::Result<Device> {
    let metadata = json!({
        "client_name": "Thermostat T1",
        "device": { "confirm": "code", "channels": [
            { "name": read, "direction": "data", "title": "One", "unit": "°C", "type": "number" },
            { "name": unread, "direction": "data", "title": "Two", "unit": "°C", "type": "number" },
            { "name": told, "direction": "command", "title": "Three", "type": "string" },
        ]},
    });
    let request = network.client(from).build()?.post(format!("{DIDP}/register")).bearer_auth(token);
    let answer = request.json(&metadata).send().await?.error_for_status()?;
    Ok(answer.json().await?)
}
