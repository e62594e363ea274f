//! `demo --auto`: the whole story headless over the real wire, and a check after every step.
//!
//! The thermostats are the sample ones, run by their panel; people press, type and click through the kit's scripted browser. What
//! is measured is measured with publisher and subscriber in this process, on one clock.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use device::Phase;
use hdrhistogram::Histogram;
use mqtt_wire::{QoS, ReasonCode};
use oauth_wire::TokenResponse;
use testkit::app::App;
use testkit::config::UPSTREAM;
use testkit::device::{self as bench, Device};
use testkit::mqtt::{Client, Door, Options};
use testkit::owner::{Consent, Owner};

use crate::panel::{Panel, Thermostat};
use crate::report::{Latency, Report, milliseconds};
use crate::tree::Tree;

/// Messages whose latency is measured, each way.
const MESSAGES: u64 = 1_000;

/// How soon a session has to end after its grant was withdrawn.
const REVOCATION: Duration = Duration::from_secs(1);

/// Connections of which the median counts.
const CONNECTS: usize = 5;

/// The people and things of the story.
struct Story<'a> {
    tree: &'a mut Tree,
    panel: Panel,
    ann: Owner,
    bob: Owner,
    cleo: Owner,
    diary: App,
}

/// An app's session with an owner's broker.
struct Session {
    tokens: TokenResponse,
    client: Client,
}

/// Plays the story; everything that should hold is checked.
pub(crate) async fn play(tree: &mut Tree, report: &mut Report) -> anyhow::Result<()> {
    report.chapter("The parts");
    report.step("all parts run", tree.ready()).await?;
    let issuer = tree.deployment.issuer();
    let owner = |person| Owner::new(&issuer, UPSTREAM, person);
    let panel = Panel::new(&tree.factory(), &tree.panel());
    let made = report.step("the factory registers two thermostats and flashes them", panel.made(2)).await?;
    let [kitchen, hall] = made.as_slice() else { anyhow::bail!("{} thermostats instead of two", made.len()) };
    let token = tree.deployment.secrets.read("tpa/initial-access-token")?;
    let diary = App::register(&issuer, "Heating Diary", Some(&token));
    let diary = report.step("a web app registers", diary).await?;
    let mut story =
        Story { panel, ann: owner("ann")?, bob: owner("bob")?, cleo: owner("cleo")?, diary, tree };

    let mut anns = first_owner(&mut story, report, kitchen).await?;
    let mut bobs = second_owner(&mut story, report, hall, &mut anns).await?;
    measurements(&mut story, report).await?;
    endings(&mut story, report, kitchen, anns, &mut bobs).await?;
    story.tree.check()
}

async fn first_owner(
    story: &mut Story<'_>,
    report: &mut Report,
    kitchen: &Thermostat,
) -> anyhow::Result<Session> {
    report.chapter("Ann and her kitchen");
    report.step("a code that no display shows leads nowhere", story.unpressed(kitchen)).await?;
    report
        .step("Ann logs in, presses the button, types the code, claims", story.claim(kitchen, "Kitchen"))
        .await?;
    let running = story.panel.until(kitchen.n, "runs", |state| state.phase == Phase::Running);
    report.step("the thermostat reaches Ann's own broker", running).await?;
    report.step("Ann declines the app: it gets nothing", story.declined()).await?;
    let asked = story.diary.ask();
    let started = Instant::now();
    let consented = async {
        let back =
            story.ann.consent(&asked.url, &Consent { share_names: true, ..Consent::default() }).await?;
        let mut session = story.open(story.diary.redeem(&asked, &back).await?).await?;
        session.expect_reading().await?;
        anyhow::Ok(session)
    };
    let mut session =
        report.step("Ann allows the app; it connects and the first reading comes", consented).await?;
    report.measured.consent_to_first_thermostat_reading_ms = Some(milliseconds(started.elapsed()));
    report
        .step("the app switches the heater on; the thermostat confirms", story.command(kitchen, &mut session))
        .await?;
    report.step("the app renews its token; its session goes on", story.renew(&mut session)).await?;
    Ok(session)
}

async fn second_owner(
    story: &mut Story<'_>,
    report: &mut Report,
    hall: &Thermostat,
    anns: &mut Session,
) -> anyhow::Result<Session> {
    report.chapter("Bob and his hall");
    let claimed = async {
        let digits = story.panel.press(hall.n).await?;
        story.bob.claim(&hall.uru, &digits, "Hall").await?;
        story.panel.until(hall.n, "runs", |state| state.phase == Phase::Running).await
    };
    report.step("Bob claims the other thermostat", claimed).await?;
    let allowed = async {
        let asked = story.diary.ask();
        let back = story.bob.consent(&asked.url, &Consent { future: true, ..Consent::default() }).await?;
        story.open(story.diary.redeem(&asked, &back).await?).await
    };
    let mut bobs = report.step("Bob allows the same app, future devices included", allowed).await?;
    report
        .step("each sees the own thermostat and nothing of the other's", apart(story, anns, &mut bobs))
        .await?;
    Ok(bobs)
}

async fn measurements(story: &mut Story<'_>, report: &mut Report) -> anyhow::Result<()> {
    report.chapter("Cleo and a device of this process, to measure with");
    let made = async {
        let token = story.tree.deployment.secrets.read("factory/initial-access-token")?;
        let device = bench::register(&story.tree.deployment.issuer(), &token, &bench::thermostat()).await?;
        let tokens = testkit::stack::claim(&story.cleo, &device, "Bench").await?;
        anyhow::Ok((device, tokens))
    };
    let (_, tokens): (Device, _) = report.step("Cleo claims it", made).await?;
    let options =
        Options::new(&bench::door(&tokens.gateway)?).bearer(&tokens.access_token).client_id("bench");
    let started = Instant::now();
    let mut device = report.step("it connects; Cleo's broker is launched", options.connect()).await?;
    report.measured.connect_cold_ms = Some(milliseconds(started.elapsed()));
    let mut running = Vec::new();
    let again = async {
        for _ in 0..CONNECTS {
            device.disconnect().await?;
            let started = Instant::now();
            device = options.connect().await?;
            running.push(started.elapsed());
        }
        anyhow::Ok(device)
    };
    let mut device = report.step("it connects again, five times", again).await?;
    running.sort();
    report.measured.connect_running_ms = running.get(CONNECTS / 2).copied().map(milliseconds);

    let unkept = unkept(story, &mut device);
    let (mut session, time) = report.step("what it said before any consent was kept nowhere", unkept).await?;
    report.measured.consent_to_first_reading_ms = Some(milliseconds(time));
    let measured = latency_up(&mut device, &mut session.client);
    let up = report.step("1,000 readings, one after the other", measured).await?;
    report.measured.latency_device_to_app = Some(Latency::of(&up));
    let handle = session.handle().await?;
    let measured = latency_down(&mut session.client, &mut device, &handle);
    let down = report.step("1,000 commands, one after the other", measured).await?;
    report.measured.latency_app_to_device = Some(Latency::of(&down));
    Ok(())
}

async fn endings(
    story: &mut Story<'_>,
    report: &mut Report,
    kitchen: &Thermostat,
    mut anns: Session,
    bobs: &mut Session,
) -> anyhow::Result<()> {
    report.chapter("Endings");
    let withdrawn = async {
        let started = Instant::now();
        let (page, ended) =
            tokio::join!(story.ann.withdraw("Heating Diary"), anns.client.ended_within(REVOCATION * 2));
        let time = started.elapsed();
        page?;
        let reason = ended.context("the app's session after the withdrawal")?;
        ensure!(reason == Some(ReasonCode::NOT_AUTHORIZED), "the session ends with {reason:?}");
        ensure!(time < REVOCATION, "the session goes on for {} ms", milliseconds(time));
        let refusal = Options::new(&story.websocket()).bearer(&anns.tokens.access_token).refusal().await?;
        ensure!(refusal == ReasonCode::NOT_AUTHORIZED, "the token is refused with {refusal:?}");
        ensure!(
            story.diary.refresh(&anns.tokens.refresh_token).await?.is_err(),
            "the refresh token still works"
        );
        anyhow::Ok(time)
    };
    let time = report.step("Ann withdraws: the app's session ends within a second", withdrawn).await?;
    report.measured.revocation_ms = Some(milliseconds(time));
    let released = async {
        story.ann.release("Kitchen").await?;
        story.panel.until(kitchen.n, "is free again", |state| state.phase == Phase::Ready).await
    };
    report.step("Ann gives the thermostat up", released).await?;
    let old = bobs.devices().await?;
    let claimed = async {
        let digits = story.panel.press(kitchen.n).await?;
        story.bob.claim(&kitchen.uru, &digits, "From Ann").await?;
        story.panel.until(kitchen.n, "runs", |state| state.phase == Phase::Running).await
    };
    report.step("Bob claims it by the same printed code", claimed).await?;
    let arrives = async {
        let deadline = Instant::now() + testkit::mqtt::PATIENCE;
        loop {
            let message = bobs.client.message().await?;
            ensure!(Instant::now() < deadline, "Bob's app never hears of it");
            if old.iter().any(|handle| message.topic.starts_with(&format!("d/{handle}/"))) {
                continue;
            }
            return Ok(());
        }
    };
    report.step("Bob's app, which may see future devices, sees it too", arrives).await?;
    ensure!(!story.ann.owns("Kitchen").await?, "Ann's account still shows the thermostat");
    Ok(())
}

impl Story<'_> {
    /// Nobody pressed: neither this label nor an invented one shows more than "no".
    async fn unpressed(&self, thermostat: &Thermostat) -> anyhow::Result<()> {
        let known = self.ann.type_code(&thermostat.uru, "1234").await?;
        let (base, code) = thermostat.uru.rsplit_once('/').context("a printed address without a code")?;
        let invented: String = code.chars().rev().collect();
        let unknown = self.ann.type_code(&format!("{base}/{invented}"), "1234").await?;
        ensure!(!known.has("decision") && !unknown.has("decision"), "a wrong code leads on: {known:?}");
        ensure!(known.text() == unknown.text(), "a known label looks different: {known:?} {unknown:?}");
        Ok(())
    }

    async fn claim(&self, thermostat: &Thermostat, name: &str) -> anyhow::Result<()> {
        let digits = self.panel.press(thermostat.n).await?;
        self.ann.claim(&thermostat.uru, &digits, name).await
    }

    async fn declined(&self) -> anyhow::Result<()> {
        let back = self.ann.decline(&self.diary.ask().url).await?;
        ensure!(back.parameter("error").as_deref() == Some("access_denied"), "declining leads to {back:?}");
        let account = self.ann.account().await?;
        ensure!(
            !account.text().contains("Heating Diary"),
            "a declined app is on the account page: {account:?}"
        );
        Ok(())
    }

    /// Connects with a token over WebSocket and subscribes to whatever may be seen.
    async fn open(&self, tokens: TokenResponse) -> anyhow::Result<Session> {
        let options = Options::new(&self.websocket()).bearer(&tokens.access_token).reauthentication();
        let mut client = options.connect().await?;
        let granted = client.subscribe("d/#", QoS::AtLeastOnce).await?;
        ensure!(granted.is_success(), "the app may not subscribe: {granted:?}");
        Ok(Session { tokens, client })
    }

    fn websocket(&self) -> Door {
        Door::new(&self.tree.deployment.host, self.tree.deployment.ports.ignite_http).websocket()
    }

    async fn command(&self, thermostat: &Thermostat, session: &mut Session) -> anyhow::Result<()> {
        let handle = session.handle().await?;
        let sent = session.client.publish(&format!("c/{handle}/heater"), "true", QoS::AtLeastOnce).await?;
        ensure!(sent.is_success(), "the command is refused: {sent:?}");
        self.panel.until(thermostat.n, "heats", |state| state.heater).await?;
        let deadline = Instant::now() + testkit::mqtt::PATIENCE;
        loop {
            let message = session.client.message().await?;
            if message.topic == format!("d/{handle}/heater") && message.text() == "true" {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "no confirmation comes");
        }
    }

    async fn renew(&self, session: &mut Session) -> anyhow::Result<()> {
        let renewed = self.diary.refresh(&session.tokens.refresh_token).await?;
        session.tokens = renewed.map_err(|refusal| anyhow::anyhow!("refresh refused: {refusal:?}"))?;
        let answer = session.client.reauthenticate(&session.tokens.access_token).await?;
        ensure!(answer == ReasonCode::SUCCESS, "the new token is refused: {answer:?}");
        session.expect_reading().await
    }
}

impl Session {
    /// Waits for a temperature.
    async fn expect_reading(&mut self) -> anyhow::Result<()> {
        loop {
            let message = self.client.message().await.context("a reading")?;
            if message.topic.ends_with("/temperature") {
                message.text().parse::<f64>().with_context(|| format!("a reading: {}", message.text()))?;
                return Ok(());
            }
        }
    }

    /// Handles of the devices that the gateway lists.
    async fn devices(&self) -> anyhow::Result<Vec<String>> {
        let base = self.tokens.gateway.http.as_deref().context("the gateway's HTTP address")?;
        let request = testkit::browser::http().get(format!("{base}/v1/devices"));
        let answer = request.bearer_auth(&self.tokens.access_token).send().await?.error_for_status()?;
        let devices: serde_json::Value = answer.json().await?;
        let handles = devices.as_array().context("a list of devices")?.iter();
        handles.map(|device| device["handle"].as_str().map(str::to_owned).context("a handle")).collect()
    }

    /// The handle of the only device.
    async fn handle(&self) -> anyhow::Result<String> {
        let mut handles = self.devices().await?;
        ensure!(handles.len() == 1, "{} devices instead of one", handles.len());
        handles.pop().context("a device")
    }
}

/// Both apps hear their own thermostat twice more; everything else that they hear is their own as well.
async fn apart(story: &Story<'_>, anns: &mut Session, bobs: &mut Session) -> anyhow::Result<()> {
    let (hers, his) = (anns.handle().await?, bobs.handle().await?);
    ensure!(hers != his, "two owners' devices share a handle");
    for (session, handle) in [(anns, &hers), (bobs, &his)] {
        let mut readings = 0;
        while readings < 2 {
            let message = session.client.message().await?;
            ensure!(message.topic.starts_with(&format!("d/{handle}/")), "a stranger's {}", message.topic);
            readings += u32::from(message.topic.ends_with("/temperature"));
        }
        let other = if *handle == hers { &his } else { &hers };
        let refused = session.client.subscribe(&format!("d/{other}/#"), QoS::AtMostOnce).await?;
        ensure!(!refused.is_success(), "a stranger's device may be subscribed: {refused:?}");
        let refused = session.client.publish(&format!("c/{other}/heater"), "false", QoS::AtLeastOnce).await?;
        ensure!(!refused.is_success(), "a stranger's device may be commanded: {refused:?}");
    }
    ensure!(
        story.ann.owns("Kitchen").await? && !story.ann.owns("Hall").await?,
        "Ann's account shows Bob's device"
    );
    Ok(())
}

/// A value from before the consent, which the device even asked to be kept, never reaches an app that comes later.
async fn unkept(story: &Story<'_>, device: &mut Client) -> anyhow::Result<(Session, Duration)> {
    let sent = device.retain("d/temperature", "1", QoS::AtLeastOnce).await?;
    ensure!(sent.is_success(), "a device may not publish: {sent:?}");
    let asked = story.diary.ask();
    let started = Instant::now();
    let back = story.cleo.consent(&asked.url, &Consent::default()).await?;
    let mut session = story.open(story.diary.redeem(&asked, &back).await?).await?;
    device.publish("d/temperature", "2", QoS::AtLeastOnce).await?;
    let first = session.client.message().await?;
    let time = started.elapsed();
    ensure!(first.text() == "2", "the app hears {} from before the consent", first.text());
    Ok((session, time))
}

async fn latency_up(device: &mut Client, app: &mut Client) -> anyhow::Result<Histogram<u64>> {
    latency(device, "d/temperature", app).await
}

async fn latency_down(app: &mut Client, device: &mut Client, handle: &str) -> anyhow::Result<Histogram<u64>> {
    let granted = device.subscribe("c/heater", QoS::AtMostOnce).await?;
    ensure!(granted.is_success(), "the device may not subscribe: {granted:?}");
    latency(app, &format!("c/{handle}/heater"), device).await
}

/// One message after the other: from the start of publishing to its receipt.
async fn latency(from: &mut Client, topic: &str, to: &mut Client) -> anyhow::Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    for number in 0..MESSAGES {
        let payload = number.to_string();
        let started = Instant::now();
        from.publish(topic, &payload, QoS::AtMostOnce).await?;
        let message = to.message().await?;
        times.record(u64::try_from(started.elapsed().as_micros())?)?;
        ensure!(message.text() == payload, "{} came instead of {payload}", message.text());
    }
    Ok(times)
}
